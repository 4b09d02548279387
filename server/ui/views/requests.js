// Requests under way and those that have ended of late.

import { h, keyed, text, toast } from "../dom.js";
import { clock, number, percent, seconds, why } from "../format.js";
import { ask, now, state } from "../gateway.js";
import { drawPhases, lasted, phaseBar, phaseLegend } from "./phases.js";

const STEP = 100;
const kept = { search: "", which: "" };

/** Has the next list show only what has these words. */
export const sift = (words) => { kept.search = words; kept.which = ""; };

export const cancel = (id) => ask(`/v1/coe/requests/${encodeURIComponent(id)}`, { method: "DELETE" })
  .then(() => toast(`${id} cancelled`)).catch((error) => toast(error.message, true));

const outcome = (row) => (row.state === "ended" ? row.outcome.replace("client_left", "client left") : row.state);
const kind = (row) => (row.state !== "ended" ? "live" : /^[23]/.test(row.outcome) ? "good" : "bad");

const ORDERS = 2, PHASES = 7;

export function requests(root) {
  let shown = STEP;
  const search = h("input", { type: "search", placeholder: "Id, key, expert, ...  ( / )", "aria-label": "Filter requests", value: kept.search, oninput: () => { kept.search = search.value; shown = STEP; draw(); } });
  const which = h("select", { "aria-label": "Which requests", onchange: () => { kept.which = which.value; shown = STEP; draw(); } },
    [["", "All"], ["live", "Under way"], ["good", "Answered"], ["bad", "Failed"]].map(([value, title]) => h("option", { value, selected: value === kept.which }, title)));
  const count = h("p", { class: "summary" });
  const body = h("tbody");
  const more = h("button", { type: "button", class: "quiet", onclick: () => { shown += STEP; draw(); } }, "Show more");
  const none = h("p", { class: "muted" });
  const heads = ["Came", "State", "Asked", "Expert", "Why", "Time", "Phases", "Tokens", "Key"];
  root.append(h("div", { class: "toolbar" }, search, which, count), phaseLegend(),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests" },
      h("table", { class: "requests" }, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), body)),
    none, more);

  function make([, row]) {
    const cells = heads.map((head) => h("td", { data: { head } }));
    cells[0].append(h("a", { href: `#/requests/${encodeURIComponent(row.id)}`, title: row.id }, clock(row.began)));
    cells[1].append(h("span", { class: "tag" }));
    cells[6].append(phaseBar());
    return h("tr", null, cells);
  }

  /** Sets a text that its cell may cut off. */
  function say(cell, value) {
    if (cell.title !== (value ?? "")) cell.title = value ?? "";
    text(cell, value);
  }

  function update(tr, [, row]) {
    const at = now();
    const live = row.state !== "ended";
    const [, stands, asked, expert, reason, time, phases, tokens, key] = tr.children;
    tr.dataset.kind = kind(row);
    text(stands.firstChild, outcome(row));
    stands.title = row.error;
    say(asked, row.model);
    say(expert, row.expert);
    say(reason, row.category ? `${row.category} ${percent(row.confidence)}${row.uncertain ? ", doubtful" : ""}${row.by && row.by !== "map" ? ` · ${why[row.by]}` : ""}` : row.expert ? why[row.by] : row.error);
    text(time, seconds(lasted(row, at)));
    if (live || tr.dataset.drawn !== "done") {
      drawPhases(phases.firstChild, row, at);
      tr.dataset.drawn = live ? "live" : "done";
    }
    text(tokens, row.tokens_out ? `${number(row.tokens_out)}${row.tokens_per_s ? ` · ${number(row.tokens_per_s)}/s` : ""}` : "");
    say(key, row.key);
    const order = stands.querySelector("button");
    if (live && !order) stands.append(" ", h("button", { type: "button", class: "small", "aria-label": `Cancel ${row.id}`, onclick: () => cancel(row.id) }, "Cancel"));
    else if (!live) order?.remove();
  }

  function draw() {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = Object.entries(state.requests).sort(([one], [other]) => other - one);
    const found = all.filter(([, row]) => (!which.value || kind(row) === which.value)
      && asked.every((word) => `${row.id} ${row.key} ${row.expert} ${row.model} ${row.category} ${row.outcome} ${row.path}`.toLowerCase().includes(word)));
    text(count, `${number(found.length)} of ${number(all.length)} · ${number(all.filter(([, row]) => row.state !== "ended").length)} under way`);
    keyed(body, found.slice(0, shown), ([key]) => key, make, update);
    more.hidden = found.length <= shown;
    none.hidden = found.length > 0;
    text(none, all.length ? "No request is as asked for." : "No request yet.");
  }
  const timer = setInterval(draw, 1000);
  return { update: (sections) => { if (sections.has("requests") || sections.has("all")) draw(); }, leave: () => clearInterval(timer) };
}
