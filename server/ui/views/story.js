// The story of one request: why this expert, and why this long.

import { facts, fill, h, table } from "../dom.js";
import { HEIGHT, bytes, clock, number, rate, seconds, why } from "../format.js";
import { ask, state } from "../gateway.js";
import { decided, ruledOut } from "./decision.js";
import { drawPhases, phaseBar, phaseLegend } from "./phases.js";
import { cancel } from "./requests.js";

function moved(event) {
  if (event.kind === "engine") return `Engine of ${event.family} is ${event.state}${event.seconds ? ` after ${seconds(event.seconds)}` : ""}`;
  const room = event.made_room_for ? `, to make room for ${event.made_room_for}` : "";
  if (event.kind === "displaced") return `${event.expert} left the device (${event.reason})${room}`;
  return `${event.expert}: ${event.source} → ${event.target} (${event.reason}${event.outcome === "done" ? "" : `, ${event.outcome}`})${room}`;
}

/** What leaves is let go of: nothing is copied, so it has no rate. */
const size = (event) => (HEIGHT[event.target] > HEIGHT[event.source]
  ? `${bytes(event.bytes)} in ${seconds(event.seconds)}${event.seconds ? `, ${rate(event.bytes / event.seconds)}` : ""}`
  : `${bytes(event.bytes)} freed after ${seconds(event.seconds)}`);

export function story(root, id) {
  const body = h("div", { class: "story" }, h("p", { class: "muted" }, "Loading"));
  root.append(h("p", null, h("a", { href: "#/requests" }, "← All requests")), body);
  let drawn = "";
  let gone = false;

  async function draw() {
    let told;
    try { told = await ask(`/v1/coe/requests/${encodeURIComponent(id)}`); }
    catch (error) { if (!gone) fill(body, h("p", { class: "note bad" }, error.message)); return; }
    if (gone) return;
    const bar = phaseBar();
    drawPhases(bar, told, told.began + told.seconds);
    const live = told.state !== "ended";
    fill(body,
      h("p", { class: "lead" }, h("span", { class: "tag", data: { kind: live ? "live" : /^2/.test(told.outcome) ? "good" : "bad" } }, live ? told.state : told.outcome.replace("_", " ")), " ",
        h("code", null, told.id), live ? h("button", { type: "button", onclick: () => cancel(told.id) }, "Cancel") : null),
      told.error ? h("p", { class: "note bad" }, told.error) : null,
      h("h2", null, "Why this long"), phaseLegend(), bar,
      table("Phases", ["Phase", "From", "Took"], told.phases.map(([name, start, length]) => [name, seconds(start), seconds(length)])),
      facts([["Came", `${clock(told.began)} to ${told.path}`], ["Took", seconds(told.seconds)], ["First token after", told.first_seconds === null ? null : seconds(told.first_seconds)],
        ["Prompt tokens", told.tokens_in ? `${number(told.tokens_in)}${told.cached_tokens ? `, ${number(told.cached_tokens)} cached` : ""}` : null],
        ["Answer tokens", told.tokens_out ? `${number(told.tokens_out)}${told.tokens_per_s ? `, ${number(told.tokens_per_s)} a second` : ""}` : null],
        ["Expert was on", told.tier], ["Leases tried", told.lease.tries > 1 ? told.lease.tries : null], ["Key", told.key], ["From", told.peer], ["Trace", told.trace_id]]),
      h("h2", null, "Why this expert"),
      told.expert ? h("p", null, h("b", null, told.expert), ` answers for ${told.model}: ${why[told.by] ?? "not routed yet"}${told.budget ? ` ${told.budget}` : ""}${told.in_place_of ? `, in place of ${told.in_place_of}` : ""}.`) : h("p", { class: "muted" }, `No expert was chosen for ${told.model || "it"}.`),
      told.decided ? decided(told.decided, told.expert) : null, ruledOut(told.ruled_out),
      told.expert ? h("h2", null, "What moved meanwhile for its expert") : null,
      !told.expert ? null : told.moves.length ? h("ol", { class: "timeline" }, told.moves.map((event) => h("li", null, h("span", { class: "muted" }, `+${seconds(Math.max(0, event.ended))} `), moved(event),
        event.bytes ? h("span", { class: "muted" }, ` ${size(event)}`) : null,
        event.detail ? h("div", { class: "small bad-text" }, event.detail) : null))) : h("p", { class: "muted" }, told.tier === "device" ? "Nothing: it was there." : "Nothing is known to have moved."),
      told.prompt ? [h("h2", null, "Prompt"), h("pre", { tabindex: "0" }, told.prompt)] : null,
      h("h2", null, "Its lines of the log"),
      told.log.length ? h("pre", { class: "log", tabindex: "0", "aria-label": "Lines of the log" }, told.log.map((line) => `${clock(line.at)} ${line.logger} ${line.text}\n`)) : h("p", { class: "muted" }, "None are kept."));
  }
  draw();
  return {
    update() {
      const row = Object.values(state.requests).findLast?.((each) => each.id === id);
      const said = row ? JSON.stringify(row) : "";
      if (said && said !== drawn) { drawn = said; draw(); }
    },
    leave() { gone = true; },
  };
}

