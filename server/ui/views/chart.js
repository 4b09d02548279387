// Line charts as SVG, drawn to the size that they have, so that their letters are as large as all others.

import { fill, h, s, text } from "../dom.js";

const LEFT = 82, RIGHT = 10, TOP = 10, BOTTOM = 22;

const nice = (most) => {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most);
};

/** A path of values over time, and its points that have no neighbours: a line would not show those. */
function traced(points) {
  let path = "", run = 0;
  const alone = [];
  points.forEach((point, at) => {
    if (!point) { run = 0; return; }
    path += `${run ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
    run += 1;
    if (run === 1 && !points[at + 1]) alone.push(point);
  });
  return { path: path || "M0 0", alone };
}

/** A chart of series over time: draw(samples) with ``series``: [{name, value: (sample) => number or null}]. */
export function chart(title, series, format, { share = false } = {}) {
  const svg = s("svg", { role: "img", "aria-label": title, class: "chart" });
  const tip = h("p", { class: "tip muted small" }, "\u00a0");
  const legend = h("ul", { class: "legend" }, series.map((each, at) => h("li", null, h("i", { class: `swatch line-${at}` }), each.name)));
  const element = h("figure", { class: "card figure" }, h("figcaption", null, h("b", null, title)), svg, tip, series.length > 1 ? legend : null);
  let samples = [];
  const line = s("line", { class: "cursor" });
  const said = (sample) => `${new Date(sample.at * 1000).toLocaleTimeString("en-GB")}  ${series.map((each) => `${each.name} ${format(each.value(sample))}`).join(" · ")}`;

  svg.addEventListener("pointermove", (event) => {
    if (!samples.length) return;
    const x = event.clientX - svg.getBoundingClientRect().left;
    const near = samples.reduce((best, sample) => (Math.abs(place(sample.at) - x) < Math.abs(place(best.at) - x) ? sample : best));
    line.setAttribute("x1", place(near.at));
    line.setAttribute("x2", place(near.at));
    text(tip, said(near));
  });
  svg.addEventListener("pointerleave", () => { line.setAttribute("x1", -9); line.setAttribute("x2", -9); latest(); });

  let place = () => 0;
  const latest = () => text(tip, samples.length ? said(samples.at(-1)) : "No figures yet: the first come after five seconds.");

  function draw(given) {
    samples = given;
    const W = svg.clientWidth || 560, H = svg.clientHeight || 170;
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    const end = samples.at(-1)?.at ?? 1, begin = Math.min(samples[0]?.at ?? 0, end - 60);
    place = (at) => LEFT + ((at - begin) / (end - begin)) * (W - LEFT - RIGHT);
    const values = samples.flatMap((sample) => series.map((each) => each.value(sample))).filter((value) => value !== null && value !== undefined);
    const most = share ? 1 : nice(Math.max(0, ...values));
    const height = (value) => H - BOTTOM - (value / most) * (H - TOP - BOTTOM);
    const grid = [0, 0.5, 1].map((part) => [s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: height(most * part), y2: height(most * part) }),
      s("text", { class: "axis", x: LEFT - 6, y: height(most * part) + 4, "text-anchor": "end" }, format(most * part))]);
    const minutes = Math.round((end - begin) / 60);
    const lines = series.map((each, at) => {
      const { path, alone } = traced(samples.map((sample) => {
        const value = each.value(sample);
        return value === null || value === undefined ? null : { x: place(sample.at), y: height(value) };
      }));
      return [s("path", { class: `line line-${at}`, d: path }), alone.map(({ x, y }) => s("circle", { class: `point line-${at}`, r: 3, cx: x.toFixed(1), cy: y.toFixed(1) }))];
    });
    for (const [name, value] of Object.entries({ x1: -9, x2: -9, y1: TOP, y2: H - BOTTOM })) line.setAttribute(name, value);
    fill(svg, grid, s("text", { class: "axis", x: LEFT, y: H - 6 }, `${minutes} min ago`), s("text", { class: "axis", x: W - RIGHT, y: H - 6, "text-anchor": "end" }, "now"), lines, line);
    latest();
  }
  return { element, draw };
}
