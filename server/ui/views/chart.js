// Line charts as SVG, with a table of the same for those who cannot see them.

import { fill, h, s, text } from "../dom.js";

const W = 560, H = 170, LEFT = 64, RIGHT = 10, TOP = 10, BOTTOM = 22;

const nice = (most) => {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most);
};

/** A chart of series over time: draw(samples) with ``series``: [{name, value: (sample) => number or null}]. */
export function chart(title, series, format, { share = false } = {}) {
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title, class: "chart" });
  const tip = h("p", { class: "tip muted small" }, "\u00a0");
  const legend = h("ul", { class: "legend" }, series.map((each, at) => h("li", null, h("i", { class: `swatch line-${at}` }), each.name)));
  const element = h("figure", { class: "card figure" }, h("figcaption", null, h("b", null, title)), svg, tip, series.length > 1 ? legend : null);
  let samples = [];
  const line = s("line", { class: "cursor", y1: TOP, y2: H - BOTTOM });
  const said = (sample) => `${new Date(sample.at * 1000).toLocaleTimeString("en-GB")}  ${series.map((each) => `${each.name} ${format(each.value(sample))}`).join(" · ")}`;

  svg.addEventListener("pointermove", (event) => {
    if (!samples.length) return;
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * W;
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
    const end = samples.at(-1)?.at ?? 1, begin = Math.min(samples[0]?.at ?? 0, end - 60);
    place = (at) => LEFT + ((at - begin) / (end - begin)) * (W - LEFT - RIGHT);
    const values = samples.flatMap((sample) => series.map((each) => each.value(sample))).filter((value) => value !== null && value !== undefined);
    const most = share ? 1 : nice(Math.max(0, ...values));
    const height = (value) => H - BOTTOM - (value / most) * (H - TOP - BOTTOM);
    const grid = [0, 0.5, 1].map((part) => [s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: height(most * part), y2: height(most * part) }),
      s("text", { class: "axis", x: LEFT - 6, y: height(most * part) + 4, "text-anchor": "end" }, format(most * part))]);
    const minutes = Math.round((end - begin) / 60);
    const lines = series.map((each, at) => {
      let path = "", drawing = false;
      for (const sample of samples) {
        const value = each.value(sample);
        if (value === null || value === undefined) { drawing = false; continue; }
        path += `${drawing ? "L" : "M"}${place(sample.at).toFixed(1)} ${height(value).toFixed(1)}`;
        if (!drawing) path += "h.1";
        drawing = true;
      }
      return s("path", { class: `line line-${at}`, d: path || "M0 0" });
    });
    line.setAttribute("x1", -9);
    line.setAttribute("x2", -9);
    fill(svg, grid, s("text", { class: "axis", x: LEFT, y: H - 6 }, `${minutes} min ago`), s("text", { class: "axis", x: W - RIGHT, y: H - 6, "text-anchor": "end" }, "now"), lines, line);
    latest();
  }
  return { element, draw };
}
