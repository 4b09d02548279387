// Three levels to scale: each expert a block where it is, moves travelling between, engines below.

import { facts, fill, h, keyed, text, toast } from "../dom.js";
import { HEIGHT, bytes, fine, number, percent, rate, seconds, width } from "../format.js";
import { order, state } from "../gateway.js";
import { sift } from "./requests.js";

const TIERS = [["device", "Device"], ["host", "Host memory"], ["disk", "Disk"]];

const orders = (name, verb, body) =>
  order(`/v1/coe/experts/${encodeURIComponent(name)}/${verb}`, body)
    .then(() => toast(`${name}: ${verb}${body ? ` to ${body.tier}` : ""} ordered`))
    .catch((error) => toast(error.message, true));

/** Whether an expert has a copy in a tier, and whether it is its highest. */
function copyIn(expert, tier) {
  if (tier === "disk") return { bytes: expert.weights_bytes, top: expert.tier === "disk" };
  const held = expert[`${tier}_bytes`];
  return held ? { bytes: held, top: expert.tier === tier } : null;
}

const LETTER = 9.6, EDGES = 26; // pixels: of a letter, and of a block beside them

/** Names of many experts begin alike: of one that does not fit, and begins as another does, the end is shown. */
function shortened(name, pixels, names) {
  const letters = Math.max(2, Math.floor((pixels - EDGES) / LETTER));
  if (name.length <= letters) return name;
  const start = name.slice(0, letters - 1);
  return names.some((other) => other !== name && other.startsWith(start)) ? `…${name.slice(1 - letters)}` : name;
}

export function tiers(root) {
  let chosen = "";
  let wanted = "";
  const search = h("input", { type: "search", placeholder: "Find an expert  ( / )", "aria-label": "Find an expert",
    oninput: () => { wanted = search.value.toLowerCase(); draw(); } });
  const summary = h("p", { class: "summary" });
  const detail = h("aside", { class: "detail", tabindex: "-1", "aria-label": "Chosen expert", "aria-live": "polite" });
  const parts = TIERS.map(([tier, title]) => {
    const used = h("span", { class: "muted" });
    const bar = h("div", { class: "bar", role: "group", "aria-label": `${title}: experts`, data: { tier } });
    bar.addEventListener("dragover", (event) => { event.preventDefault(); bar.dataset.over = "yes"; });
    bar.addEventListener("dragleave", () => { delete bar.dataset.over; });
    bar.addEventListener("drop", (event) => {
      event.preventDefault();
      delete bar.dataset.over;
      const name = event.dataTransfer.getData("text/plain");
      if (state.experts[name]) orders(name, "move", { tier });
    });
    const fillMark = h("div", { class: "gauge", "aria-hidden": "true" }, h("i"));
    const section = h("section", { class: "tier" }, h("div", { class: "tier-head" }, h("h2", null, title), used), fillMark, bar);
    return { tier, section, bar, used, gauge: fillMark.firstChild };
  });
  const lanes = [h("div", { class: "lane" }), h("div", { class: "lane" })];
  const engines = h("div", { class: "cards" });
  root.append(h("div", { class: "toolbar" }, search, summary),
    h("div", { class: "split" },
      h("div", { class: "stack" }, parts[0].section, lanes[0], parts[1].section, lanes[1], parts[2].section,
        h("ul", { class: "legend muted" },
          h("li", null, h("i", { class: "swatch here" }), "fastest copy"), h("li", null, h("i", { class: "swatch copy" }), "copy of one higher up"),
          h("li", null, h("i", { class: "swatch active" }), "computing now"), h("li", null, h("i", { class: "swatch moving" }), "arriving or leaving"),
          h("li", null, "◆ pinned")),
        h("h2", null, "Engines"), engines),
      detail));

  function drawTier({ tier, bar, used, gauge }) {
    const told = state.tiers[tier];
    if (!told) return;
    const experts = Object.entries(state.experts).map(([name, expert]) => ({ name, expert, copy: copyIn(expert, tier) })).filter((each) => each.copy);
    const total = experts.reduce((sum, each) => sum + each.copy.bytes, 0);
    const capacity = Math.max(told.capacity_bytes ?? 0, total, 1);
    text(used, told.capacity_bytes ? `${bytes(told.used_bytes)} of ${bytes(told.capacity_bytes)}` : `${bytes(total)}, no limit`);
    gauge.style.setProperty("width", width((told.capacity_bytes ? told.used_bytes : total) / capacity));
    const room = bar.clientWidth || 800;
    const rows = Math.max(1, Math.min(16, Math.ceil((experts.length * 76 * capacity) / Math.max(total, 1) / room)));
    const names = experts.map((each) => each.name);
    keyed(bar, experts, (each) => each.name, makeBlock, (block, { name, expert, copy }) => {
      const presence = tier === "disk" ? "present" : expert[tier];
      const engine = state.engines[expert.family];
      const active = tier === "device" && engine?.active === name && engine.running > 0;
      block.style.setProperty("width", `calc(${((copy.bytes / capacity) * rows * 100).toFixed(3)}% - 3px)`);
      block.dataset.kind = active ? "active" : copy.top ? "here" : "copy";
      block.dataset.presence = presence;
      block.dataset.dim = wanted && !name.toLowerCase().includes(wanted) ? "yes" : "no";
      block.setAttribute("aria-pressed", String(chosen === name));
      const marks = [expert.pinned ? "◆" : "", expert.failure || expert.breaker_open ? "!" : ""].join("");
      text(block.firstChild, `${marks ? `${marks} ` : ""}${shortened(name, (copy.bytes / capacity) * rows * room, names)}`);
      text(block.lastChild, expert.leases + expert.waiting && copy.top ? `${expert.leases}${expert.waiting ? `+${expert.waiting}` : ""}` : "");
      const said = [name, bytes(copy.bytes), active ? "computing now" : "", expert.pinned ? "pinned" : "",
        expert.leases ? `${expert.leases} in use` : "", expert.waiting ? `${expert.waiting} waiting` : "", copy.top ? "" : "copy", presence === "present" ? "" : presence].filter(Boolean).join(", ");
      if (block.title !== said) { block.title = said; block.setAttribute("aria-label", said); }
    });
  }

  function makeBlock({ name }) {
    const block = h("button", { type: "button", class: "block", draggable: "true", onclick: (event) => choose(name, event.detail === 0) },
      h("span", { class: "name" }), h("span", { class: "count" }));
    block.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", name));
    return block;
  }

  /** Chooses an expert, or none. Who chose it by key goes on to its orders, and comes back with Escape. */
  function choose(name, byKey) {
    const block = document.activeElement;
    chosen = chosen === name ? "" : name;
    draw();
    if (!chosen || !byKey) return;
    detail.focus(); // and not its first order, which a second press would give
    detail.onkeydown = (event) => { if (event.key === "Escape") block.focus(); };
  }

  function drawLanes() {
    const moves = Object.entries(state.moves).map(([key, move]) => ({ key, ...move, up: HEIGHT[move.target] > HEIGHT[move.source] }));
    const of = [(move) => Math.max(HEIGHT[move.source], HEIGHT[move.target]) === 2, (move) => Math.max(HEIGHT[move.source], HEIGHT[move.target]) === 1];
    lanes.forEach((lane, at) => {
      const here = moves.filter(of[at]);
      lane.dataset.empty = here.length ? "no" : "yes";
      keyed(lane, here, (move) => move.key,
        () => h("div", { class: "move" }, h("span", { class: "move-fill" }), h("b"), h("span", { class: "muted" })),
        (element, move) => {
          const done = move.done ?? 0;
          element.dataset.direction = move.up ? "up" : "down";
          element.style.setProperty("--travelled", String(move.up ? 1 - done : done));
          element.children[0].style.setProperty("width", width(done));
          text(element.children[1], `${move.up ? "↑" : "↓"} ${move.expert}`);
          const seen = move.target === "host"; // an engine does not tell how far it is: then earlier moves say it
          text(element.children[2], [move.done === null ? "" : `${seen ? "" : "about "}${percent(done)}`, move.moved === null ? bytes(move.bytes) : `${bytes(move.moved)} of ${bytes(move.bytes)}`,
            move.bytes_per_s ? rate(move.bytes_per_s) : "", move.remaining_s === null ? "" : move.remaining_s > 0 || seen ? `${seconds(move.remaining_s)} left` : "longer than before", move.reason].filter(Boolean).join(" · "));
        });
    });
  }

  function drawEngines() {
    keyed(engines, Object.entries(state.engines), ([family]) => family,
      ([family]) => h("article", { class: "card" }, h("h3", null, family), h("p", { class: "state" }), h("div"), h("p", { class: "muted small" })),
      (card, [, engine]) => {
        const rests = engine.rests && engine.state !== "asleep";
        card.dataset.state = rests ? "rests" : engine.state;
        text(card.children[1], rests ? `${engine.state}, rests` : engine.state);
        const share = fine(engine.busy_seconds ? engine.switch_seconds / engine.busy_seconds : null);
        const said = JSON.stringify([engine.active, engine.running, engine.switches, share]);
        if (card.dataset.said !== said) {
          card.dataset.said = said;
          fill(card.children[2], facts([engine.running ? ["Computes", engine.active ?? "all in each step"] : ["Computed last", engine.active], ["Requests", engine.running],
            ["Switches", engine.switches === null ? null : number(engine.switches)], ["Time in switches", engine.switches === null ? null : share]]));
        }
        text(card.children[3], engine.detail.split("\n")[0]); // its log has the rest
      });
  }

  let described = "";
  function drawDetail() {
    const expert = state.experts[chosen];
    const said = JSON.stringify([chosen, expert, state.moves[`${chosen}>device`]?.reason]);
    if (said === described) return;
    described = said;
    const focused = detail.contains(document.activeElement) ? document.activeElement.textContent : null;
    describe(expert);
    if (focused === null) return;
    ([...detail.querySelectorAll("button, a")].find((each) => each.textContent === focused) ?? detail).focus();
  }

  function describe(expert) {
    detail.dataset.empty = expert ? "no" : "yes";
    if (!expert) {
      fill(detail, h("p", { class: "muted" }, "Choose an expert to see it and to give orders; or drag a block to another level."));
      return;
    }
    const button = (title, verb, body, can = true) => can ? h("button", { type: "button", onclick: () => orders(chosen, verb, body) }, title) : null;
    fill(detail, h("h2", null, chosen), expert.description ? h("p", null, expert.description) : null,
      facts([["Where", expert.tier], ["Family", expert.family], ["Weights", bytes(expert.weights_bytes)], ["On the device", expert.device_bytes ? bytes(expert.device_bytes) : null],
        ["On the host", expert.host_bytes ? `${bytes(expert.host_bytes)}${expert.image ? ", engine's format" : ""}` : null], ["Leases", expert.leases], ["Waiting", expert.waiting],
        ["Pinned", expert.pinned ? "yes" : null], ["Leaves when unused for", expert.ttl_s === null ? null : seconds(expert.ttl_s)], ["Ordered to", expert.ordered], ["Breaker", expert.breaker_open ? "open" : null]]),
      expert.failure ? h("p", { class: "note bad" }, expert.failure) : null,
      h("div", { class: "row" },
        button("Load", "load", null, expert.tier !== "device" && expert.device !== "arriving" && expert.ordered !== "device"), button("To host", "move", { tier: "host" }, expert.tier !== "host"),
        button("To disk", "move", { tier: "disk" }, expert.tier !== "disk"), button(expert.pinned ? "Unpin" : "Pin", expert.pinned ? "unpin" : "pin"),
        button("Cancel load", "cancel", null, expert.device === "arriving" || expert.host === "arriving" || expert.waiting > 0)),
      h("p", null, h("a", { href: "#/requests", onclick: () => sift(chosen) }, "Its requests"), " · ", h("a", { href: "#/experts" }, "Where it comes from")));
  }

  function draw() {
    const gateway = state.gateway.gateway ?? {};
    text(summary, `${Object.keys(state.experts).length} experts · ${gateway.leases ?? 0} in use · ${gateway.waiting ?? 0} waiting · ${Object.keys(state.moves).length} moving`);
    parts.forEach(drawTier);
    drawLanes();
    drawEngines();
    drawDetail();
  }
  const resized = new ResizeObserver(draw);
  resized.observe(root);
  return { update: (sections) => { if (!sections.has("requests") || sections.size > 1) draw(); }, leave: () => resized.disconnect() };
}
