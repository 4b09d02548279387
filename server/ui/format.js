// Numbers as people read them.

const dash = "–";

export function bytes(value) {
  if (value === null || value === undefined) return dash;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at ? value.toPrecision(3) : Math.round(value)} ${units[at]}`;
}

export const rate = (value) => (value === null || value === undefined ? dash : `${bytes(value)}/s`);

export function seconds(value) {
  if (value === null || value === undefined) return dash;
  if (value < 0.001) return value > 0 ? `${Math.max(1, Math.round(value * 1e6))} µs` : "0 ms";
  if (value < 1) return `${(value * 1000).toPrecision(value < 0.01 ? 2 : 3)} ms`;
  if (value < 120) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(value / 60);
  return value < 7200 ? `${minutes} min ${Math.floor(value - minutes * 60)} s` : `${(value / 3600).toFixed(1)} h`;
}

export const percent = (value, digits = 0) =>
  value === null || value === undefined ? dash : `${(value * 100).toFixed(digits)} %`;

/** A share that may be small: as many digits as it takes to tell it from none. */
export const fine = (value) =>
  value === null || value === undefined ? dash : value === 0 ? "0 %" : value < 0.001 ? `${Number((value * 100).toPrecision(2))} %` : percent(value, value < 0.1 ? 1 : 0);

/** A share as CSS takes a length. */
export const width = (share) => `${(Math.max(0, Math.min(1, share)) * 100).toFixed(2)}%`;

export function number(value, digits = 3) {
  if (value === null || value === undefined) return dash;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(digits)));
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

export const parameters = (value) =>
  !value ? dash : value >= 1e9 ? `${number(value / 1e9)} B` : `${number(value / 1e6)} M`;

/** Tiers, from the lowest. */
export const HEIGHT = { device: 2, host: 1, disk: 0 };

export const why = {
  map: "the map",
  "one-step": "the best score expected of this prompt, less a price for size",
  "category-header": "client named the category",
  budget: "map for the budget",
  language: "the conversation's language",
  canary: "a map on trial",
  sticky: "stayed with the conversation",
  residency: "nearly as good and on the device",
  eligibility: "the map's expert could not take it",
  fallback: "the chosen expert is broken",
  expert: "client named the expert",
};
