// Compositions: categories and their experts, the frontier of quality against cost, and a prompt explained.

import { add, fill, h, s, table } from "../dom.js";
import { number, percent, why } from "../format.js";
import { ask, model as askModel } from "../gateway.js";
import { bar, decided, ruledOut } from "./decision.js";

const W = 560, H = 260, PAD = 46;

function plot(maps, used) {
  const points = [...maps, ...(used ? [used] : [])];
  const span = (name) => {
    const values = points.map((each) => each[name]);
    const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.08;
    return [low - room, high + room];
  };
  const [left, right] = span("active_billion"), [bottom, top] = span("score");
  const x = (value) => PAD + ((value - left) / (right - left)) * (W - PAD - 14);
  const y = (value) => H - 34 - ((value - bottom) / (top - bottom)) * (H - 48);
  const label = `Frontier of ${maps.length} maps: score against billions of active parameters`;
  return h("figure", { class: "card figure plot" }, s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "chart" },
    s("line", { class: "grid", x1: PAD, x2: W - 14, y1: H - 34, y2: H - 34 }), s("line", { class: "grid", x1: PAD, x2: PAD, y1: 14, y2: H - 34 }),
    [bottom, (bottom + top) / 2, top].map((value) => s("text", { class: "axis", x: PAD - 6, y: y(value) + 4, "text-anchor": "end" }, (value * 100).toFixed(1))),
    [left, (left + right) / 2, right].map((value) => s("text", { class: "axis", x: x(value), y: H - 18, "text-anchor": "middle" }, number(value))),
    s("text", { class: "axis", x: W - 14, y: H - 4, "text-anchor": "end" }, "billions of active parameters"),
    s("path", { class: "line line-0", d: maps.map((each, at) => `${at ? "L" : "M"}${x(each.active_billion)} ${y(each.score)}`).join("") }),
    maps.map((each) => s("circle", { class: "dot", r: 4, cx: x(each.active_billion), cy: y(each.score) }, s("title", null, `${number(each.active_billion)} B: ${(each.score * 100).toFixed(2)} ± ${(each.standard_error * 100).toFixed(2)}`))),
    used ? s("circle", { class: "used", r: 7, cx: x(used.active_billion), cy: y(used.score) }, s("title", null, "in use")) : null),
    h("figcaption", { class: "muted small" }, `Each point is the best map for its cost. ${used ? "The ring is the one in use." : "The one in use has experts without scores."}`));
}

function section(told) {
  const requests = told.categories.reduce((sum, each) => sum + each.seen.requests, 0);
  const shares = told.categories.some((each) => each.share !== null);
  const frontier = h("div", null, h("p", { class: "muted" }, "Solving"));
  ask(`/v1/coe/compositions/${encodeURIComponent(told.name)}/frontier`).then(({ maps, why: reason }) => fill(frontier, maps ? plot(maps, told.in_use) : h("p", { class: "muted" }, `There is no frontier here: ${reason}`)))
    .catch((error) => fill(frontier, h("p", { class: "note bad" }, error.message)));
  const rows = told.categories.map((each) => [each.category, Object.keys(each.finer).length ? [each.expert, h("span", { class: "muted small" }, ` and by ${Object.keys(each.finer).length} finer categories`)] : each.expert,
    ...(shares ? [percent(each.share, 1)] : []), requests ? [bar(each.seen.requests / requests, `${each.seen.requests} of ${requests}`), ` ${number(each.seen.requests)}`] : number(each.seen.requests),
    percent(each.seen.confidence), each.seen.requests ? percent(each.seen.uncertain / each.seen.requests) : "–"]);
  const prompt = h("textarea", { rows: "3", placeholder: "A prompt", "aria-label": `Prompt to explain for ${told.name}` });
  const budget = h("input", { type: "text", size: "6", placeholder: "31B", "aria-label": `Budget for ${told.name}` });
  const answer = h("div", { "aria-live": "polite" });
  async function explain(event) {
    event.preventDefault();
    if (!prompt.value.trim()) return;
    try {
      const asked = budget.value.trim() ? `${told.name}:${budget.value.trim()}` : told.name;
      const explained = await (await askModel("/v1/coe/route", { model: asked, messages: [{ role: "user", content: prompt.value }] })).json();
      fill(answer, h("p", null, "It would go to ", h("b", null, explained.expert), `: ${why[explained.routed_by]}.`), explained.decided ? decided(explained.decided, explained.expert) : null, ruledOut(explained.ruled_out));
    } catch (error) { fill(answer, h("p", { class: "note bad" }, error.message)); }
  }
  return h("section", null, h("h2", null, told.name), h("p", { class: "muted" }, `Reads prompts with ${told.embedder}; chooses among ${told.experts.join(", ")}.`),
    table(`Categories of ${told.name}`, ["Category", "Expert", ...(shares ? ["Share in training"] : []), "Seen of late", "Confidence", "Doubtful"], rows),
    h("h3", null, "Quality against cost"), frontier,
    h("h3", null, "Explain a prompt"), h("form", { class: "ask", onsubmit: explain }, prompt, h("div", { class: "row" }, h("label", null, "Budget ", budget), h("button", { type: "submit", class: "primary" }, "Explain"), h("span", { class: "muted small" }, "Nothing is run.")), answer));
}

export function routers(root) {
  const body = h("div", null, h("p", { class: "muted" }, "Loading"));
  root.append(body);
  ask("/v1/coe/compositions").then(({ compositions }) => {
    fill(body);
    add(body, compositions.length ? compositions.map(section) : [h("p", { class: "muted" }, "No composition is configured.")]);
  }).catch((error) => fill(body, h("p", { class: "note bad" }, error.message)));
}
