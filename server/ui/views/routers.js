// Compositions: categories and their experts, the frontier of quality against cost, and a prompt explained.

import { add, fill, h, s, table } from "../dom.js";
import { number, percent, why } from "../format.js";
import { ask, model as askModel } from "../gateway.js";
import { bar, decided, ruledOut } from "./decision.js";

const LEFT = 52, RIGHT = 24, TOP = 14, BOTTOM = 40;

/** Least and most of what a plot shows. ``least``: how wide at least, so that points that are alike look alike. */
function span(values, least) {
  const low = Math.min(...values), high = Math.max(...values), middle = (low + high) / 2;
  const half = Math.max((high - low) * 1.16, least) / 2;
  return [middle - half, middle + half];
}

const score = (value) => (value * 100).toFixed(1);

function drawPlot(svg, maps, used) {
  const W = svg.clientWidth || 560, H = svg.clientHeight || 260;
  const points = [...maps, ...(used ? [used] : [])];
  const reach = maps.flatMap((each) => [each.score - each.standard_error, each.score + each.standard_error]);
  const [left, right] = span(points.map((each) => each.active_billion), Math.max(...points.map((each) => each.active_billion)) * 0.2);
  const [bottom, top] = span([...points.map((each) => each.score), ...reach], 0.01);
  const x = (value) => LEFT + ((value - left) / (right - left)) * (W - LEFT - RIGHT);
  const y = (value) => H - BOTTOM - ((value - bottom) / (top - bottom)) * (H - TOP - BOTTOM);
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  fill(svg, s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }), s("line", { class: "grid", x1: LEFT, x2: LEFT, y1: TOP, y2: H - BOTTOM }),
    [bottom, (bottom + top) / 2, top].map((value) => s("text", { class: "axis", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, score(value))),
    [[left, "start"], [(left + right) / 2, "middle"], [right, "end"]].map(([value, anchor]) => s("text", { class: "axis", x: x(value), y: H - BOTTOM + 16, "text-anchor": anchor }, number(value))),
    s("text", { class: "axis", x: W - RIGHT, y: H - 5, "text-anchor": "end" }, "billions of active parameters"),
    s("path", { class: "line line-0", d: maps.map((each, at) => `${at ? "L" : "M"}${x(each.active_billion)} ${y(each.score)}`).join("") }),
    maps.map((each) => [s("line", { class: "error", x1: x(each.active_billion), x2: x(each.active_billion), y1: y(each.score - each.standard_error), y2: y(each.score + each.standard_error) }),
      s("circle", { class: "dot", r: 4, cx: x(each.active_billion), cy: y(each.score) }, s("title", null, `${number(each.active_billion)} B: ${(each.score * 100).toFixed(2)} ± ${(each.standard_error * 100).toFixed(2)}`))]),
    used ? s("circle", { class: "used", r: 8, cx: x(used.active_billion), cy: y(used.score) }, s("title", null, "in use")) : null);
}

function plot(maps, used) {
  const several = maps.length > 1;
  const svg = s("svg", { role: "img", "aria-label": `Frontier of ${maps.length} ${several ? "maps" : "map"}: score against billions of active parameters`, class: "chart" });
  new ResizeObserver(() => drawPlot(svg, maps, used)).observe(svg);
  return h("figure", { class: "card figure plot" }, svg,
    h("figcaption", { class: "muted small" }, several ? "Each point is the best map for its cost" : "One map is the best at every cost", ", with the standard error of its score (100 is the best). ",
      used ? `The ring is the one in use: ${score(used.score)} at ${number(used.active_billion)} B.` : "The one in use has experts without scores."),
    h("details", null, h("summary", null, "As a table"), table("Frontier", ["Active, billions", "Kept, billions", "Score", "± error", "Experts"],
      maps.map((each) => [number(each.active_billion), number(each.total_billion), score(each.score), score(each.standard_error), [...new Set(Object.values(each.experts))].join(", ")]))));
}

function section(told) {
  const requests = told.categories.reduce((sum, each) => sum + each.seen.requests, 0);
  const shares = told.categories.some((each) => each.share !== null);
  const frontier = h("div", null, h("p", { class: "muted" }, "Solving"));
  ask(`/v1/coe/compositions/${encodeURIComponent(told.name)}/frontier`).then(({ maps, why: reason }) => fill(frontier, maps ? plot(maps, told.in_use) : h("p", { class: "muted" }, `There is no frontier here: ${reason}`)))
    .catch((error) => fill(frontier, h("p", { class: "note bad" }, error.message)));
  const rows = told.categories.map((each) => [each.category, Object.keys(each.finer).length ? [each.expert, h("span", { class: "muted small" }, ` and by ${Object.keys(each.finer).length} finer categories`)] : each.expert,
    ...(shares ? [percent(each.share, 1)] : []), requests ? h("span", { class: "unbroken" }, bar(each.seen.requests / requests, `${each.seen.requests} of ${requests}`), ` ${number(each.seen.requests)}`) : number(each.seen.requests),
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
  return h("section", null, h("h2", null, told.name), h("p", { class: "muted" }, `Reads prompts with ${told.embedder}; chooses among ${told.experts.join(", ")}${told.steps === "one" ? ", for each prompt by itself; categories show where most prompts go" : ""}.`),
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
