// The last hour in figures.

import { h, table } from "../dom.js";
import { bytes, clock, fine, number, percent, rate, seconds } from "../format.js";
import { state } from "../gateway.js";
import { chart } from "./chart.js";

const per = (name) => (sample) => sample[name] / sample.seconds;
const three = (name) => ["p50", "p95", "p99"].map((each) => ({ name: each, value: (sample) => sample[name][each] }));
const hits = (tier) => (sample) => {
  const all = Object.values(sample.hits).reduce((sum, each) => sum + each, 0);
  return all ? (sample.hits[tier] ?? 0) / all : null;
};
const path = (name) => (sample) => (sample.moved[name] ?? 0) / sample.seconds;

/** Joins samples so that a chart has no more than some 180 points: sums add up, of percentiles the worst counts. */
function joined(samples) {
  const step = Math.ceil(samples.length / 180);
  if (step < 2) return samples;
  const groups = [];
  for (let at = samples.length; at > 0; at -= step) groups.unshift(samples.slice(Math.max(0, at - step), at));
  const sum = (group, name) => group.reduce((total, each) => total + each[name], 0);
  const sums = (group, name) => group.reduce((all, each) => { for (const [key, value] of Object.entries(each[name])) all[key] = (all[key] ?? 0) + value; return all; }, {});
  const worst = (group, name) => Object.fromEntries(["p50", "p95", "p99"].map((each) => [each, group.reduce((most, one) => (one[name][each] === null ? most : Math.max(most ?? 0, one[name][each])), null)]));
  return groups.map((group) => ({
    ...group.at(-1),
    ...Object.fromEntries(["seconds", "requests", "failed", "tokens_in", "tokens_out", "switches", "switch_seconds", "busy_seconds"].map((name) => [name, sum(group, name)])),
    ...Object.fromEntries(["first", "gap", "wait"].map((name) => [name, worst(group, name)])), hits: sums(group, "hits"), moved: sums(group, "moved"),
  }));
}

export function metrics(root) {
  const charts = [
    chart("Requests a second", [{ name: "ended", value: per("requests") }, { name: "failed", value: per("failed") }], number),
    chart("Tokens a second", [{ name: "answers", value: per("tokens_out") }, { name: "prompts", value: per("tokens_in") }], number),
    chart("Time to the first token", three("first"), seconds),
    chart("Gap between tokens", three("gap"), seconds),
    chart("Wait for a place on the device", three("wait"), seconds),
    chart("Where experts were when asked for", ["device", "host", "disk"].map((tier) => ({ name: tier, value: hits(tier) })), (value) => percent(value), { share: true }),
    chart("Bytes moved a second", [["disk → host", "disk>host"], ["host → device", "host>device"], ["disk → device", "disk>device"]].map(([name, key]) => ({ name, value: path(key) })), rate),
    chart("Switches a second", [{ name: "switches", value: per("switches") }], number),
    chart("Share of computing spent on switches", [{ name: "share", value: (sample) => (sample.busy_seconds ? sample.switch_seconds / sample.busy_seconds : null) }], fine),
    chart("In use and waiting", [{ name: "leases", value: (sample) => sample.leases }, { name: "waiting", value: (sample) => sample.waiting }], number),
    chart("Bytes on a tier", [{ name: "device", value: (sample) => sample.used.device }, { name: "host", value: (sample) => sample.used.host }], bytes),
  ];
  const numbers = h("details", null, h("summary", null, "The latest figures as a table"), h("div"));
  root.append(h("p", { class: "muted" }, "The last hour, a sample every five seconds, kept in memory. Prometheus has more at /metrics."), h("div", { class: "figures" }, charts.map((each) => each.element)), numbers);
  numbers.addEventListener("toggle", draw);
  function draw() {
    const samples = joined(state.samples);
    for (const each of charts) each.draw(samples);
    if (numbers.open) numbers.lastChild.replaceChildren(table("Latest figures", ["At", "Requests/s", "Tokens/s", "First p95", "Gap p95", "Switches", "Moved"], state.samples.slice(-12).reverse().map((sample) => [
      clock(sample.at), number(per("requests")(sample)), number(per("tokens_out")(sample)), seconds(sample.first.p95), seconds(sample.gap.p95), number(sample.switches), bytes(Object.values(sample.moved).reduce((sum, each) => sum + each, 0))])));
  }
  const resized = new ResizeObserver(draw);
  resized.observe(root);
  return { leave: () => resized.disconnect(), update: (sections) => { if (sections.has("samples") || sections.has("all")) draw(); } };
}
