// Requests under way and those that have ended of late.

import { h, keyed, text, toast } from "../dom.js";
import { clock, number, percent, seconds, why } from "../format.js";
import { ask, now, state } from "../gateway.js";
import { drawPhases, lasted, phaseBar, phaseLegend } from "./phases.js";

const STEP = 100;

export const cancel = (id) => ask(`/v1/coe/requests/${encodeURIComponent(id)}`, { method: "DELETE" })
  .then(() => toast(`${id} cancelled`)).catch((error) => toast(error.message, true));

const outcome = (row) => (row.state === "ended" ? row.outcome.replace("client_left", "client left") : row.state);
const kind = (row) => (row.state !== "ended" ? "live" : /^[23]/.test(row.outcome) ? "good" : "bad");

export function requests(root) {
  let shown = STEP;
  const search = h("input", { type: "search", placeholder: "Filter: id, key, expert, category  ( / )", "aria-label": "Filter requests", oninput: () => { shown = STEP; draw(); } });
  const which = h("select", { "aria-label": "Which requests", onchange: () => { shown = STEP; draw(); } },
    [["", "All"], ["live", "Under way"], ["good", "Answered"], ["bad", "Failed"]].map(([value, title]) => h("option", { value }, title)));
  const count = h("p", { class: "summary" });
  const body = h("tbody");
  const more = h("button", { type: "button", class: "quiet", onclick: () => { shown += STEP; draw(); } }, "Show more");
  const none = h("p", { class: "muted" }, "No request yet.");
  const heads = ["Came", "State", "Asked", "Expert", "Why", "Time", "Phases", "Tokens", "Key", ""];
  root.append(h("div", { class: "toolbar" }, search, which, count), phaseLegend(),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests" },
      h("table", { class: "requests" }, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head || h("span", { class: "hidden" }, "Orders"))))), body)),
    none, more);

  function make([, row]) {
    const cells = heads.map((head) => h("td", { data: { head } }));
    cells[0].append(h("a", { href: `#/requests/${encodeURIComponent(row.id)}` }, clock(row.began)));
    cells[1].append(h("span", { class: "tag" }));
    cells[6].append(phaseBar());
    return h("tr", null, cells);
  }

  function update(tr, [, row]) {
    const at = now();
    const live = row.state !== "ended";
    const cells = tr.children;
    tr.dataset.kind = kind(row);
    cells[0].firstChild.title = row.id;
    text(cells[1].firstChild, outcome(row));
    cells[1].title = row.error;
    text(cells[2], row.model);
    text(cells[3], row.expert);
    text(cells[4], row.category ? `${row.category} ${percent(row.confidence)}${row.uncertain ? ", doubtful" : ""}${row.by && row.by !== "map" ? ` · ${why[row.by]}` : ""}` : row.by ? why[row.by] : "");
    text(cells[5], seconds(lasted(row, at)));
    if (live || tr.dataset.drawn !== "done") {
      drawPhases(cells[6].firstChild, row, at);
      tr.dataset.drawn = live ? "live" : "done";
    }
    text(cells[7], row.tokens_out ? `${number(row.tokens_out)}${row.tokens_per_s ? ` · ${number(row.tokens_per_s)}/s` : ""}` : "");
    text(cells[8], row.key);
    if (live && !cells[9].firstChild) cells[9].append(h("button", { type: "button", class: "small", "aria-label": `Cancel ${row.id}`, onclick: () => cancel(row.id) }, "Cancel"));
    else if (!live) cells[9].replaceChildren();
  }

  function draw() {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = Object.entries(state.requests).sort(([one], [other]) => other - one);
    const found = all.filter(([, row]) => (!which.value || kind(row) === which.value)
      && asked.every((word) => `${row.id} ${row.key} ${row.expert} ${row.model} ${row.category} ${row.outcome} ${row.path}`.toLowerCase().includes(word)));
    text(count, `${number(found.length)} of ${number(all.length)} · ${number(all.filter(([, row]) => row.state !== "ended").length)} under way`);
    keyed(body, found.slice(0, shown), ([key]) => key, make, update);
    more.hidden = found.length <= shown;
    none.hidden = all.length > 0;
  }
  const timer = setInterval(draw, 1000);
  return { update: (sections) => { if (sections.has("requests") || sections.has("all")) draw(); }, leave: () => clearInterval(timer) };
}
