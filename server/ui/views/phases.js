// A request's time as a bar of its phases.

import { h, keyed } from "../dom.js";
import { seconds } from "../format.js";

export const PHASES = ["admit", "route", "wait", "load", "queue", "prefill", "decode"];

/** Phases with the length that the one under way has now. */
export function lengths(row, now) {
  return row.phases.map(([name, start, length]) => ({ name, start, length: length ?? Math.max(0, now - row.began - start) }));
}

export const lasted = (row, now) => lengths(row, now).reduce((end, phase) => Math.max(end, phase.start + phase.length), 0);

export const phaseBar = () => h("div", { class: "phases", role: "img" });

export function drawPhases(bar, row, now) {
  const all = lengths(row, now).filter((phase) => phase.length > 0);
  const total = Math.max(1e-6, all.reduce((sum, phase) => sum + phase.length, 0));
  keyed(bar, all, (phase) => phase.name, (phase) => h("i", { class: `phase phase-${phase.name}` }), (part, phase) => {
    part.style.setProperty("flex-grow", String(phase.length / total));
    part.title = `${phase.name} ${seconds(phase.length)}`;
  });
  bar.setAttribute("aria-label", all.map((phase) => `${phase.name} ${seconds(phase.length)}`).join(", ") || "not begun");
}

export const phaseLegend = () => h("ul", { class: "legend muted" }, PHASES.map((name) => h("li", null, h("i", { class: `swatch phase-${name}` }), name)));
