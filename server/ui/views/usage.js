// The keys and their limits, and what each used.

import { fill, h, table } from "../dom.js";
import { number } from "../format.js";
import { ask } from "../gateway.js";
import { bar } from "./decision.js";

const DAYS = [["1", "Today"], ["7", "7 days"], ["30", "30 days"], ["", "All days"]];
const day = (back) => new Date(Date.now() - back * 86400000).toISOString().slice(0, 10);

const LIMITS = [["Requests/min", "requests_per_minute"], ["Tokens/min", "tokens_per_minute"], ["At once", "concurrent_requests"], ["Tokens/day", "tokens_per_day"]];
const limit = (value) => (value === null ? "no limit" : number(value));

function opens(key) {
  if (key.in === "configuration") return "by the configuration";
  if (key.revoked) return h("span", { class: "bad-text" }, `no more, revoked ${key.revoked}`);
  const now = new Date().toISOString().slice(0, 19).replace("T", " ");
  const secrets = key.secrets.filter((each) => !each.expires || each.expires > now);
  return secrets.map((each) => h("div", null, h("code", null, `${each.begins}...`), each.expires ? ` until ${each.expires}` : ""));
}

const keysTable = (keys) => table("Keys", ["Key", "Opens", "Models", "Priority", ...LIMITS.map(([title]) => title)], keys.map((each) =>
  [each.name, opens(each), each.models?.join(", ") ?? "any", each.priority ?? "as asked", ...LIMITS.map(([, name]) => limit(each[name]))]));

export function usage(root) {
  const span = h("select", { "aria-label": "Days", onchange: load }, DAYS.map(([value, title]) => h("option", { value }, title)));
  const by = h("select", { "aria-label": "Count by", onchange: () => draw() }, [["key", "By key", "Key"], ["expert", "By expert", "Expert"], ["both", "By key and expert", "Key and expert"], ["day", "By day", "Day"]].map(([value, title, head]) => h("option", { value, data: { head } }, title)));
  const body = h("div", { "aria-live": "polite" });
  const keys = h("div", null, h("p", { class: "muted" }, "Loading"));
  root.append(h("h2", null, "Usage"), h("div", { class: "toolbar" }, span, by), body, h("h2", null, "Keys"), keys);
  let rows = [];
  async function load() {
    try {
      rows = (await ask(`/v1/coe/usage${span.value ? `?since=${day(Number(span.value) - 1)}` : ""}`)).rows;
      draw();
    } catch (error) { fill(body, h("p", { class: "note bad" }, error.message)); }
  }
  function draw() {
    const groups = new Map();
    for (const row of rows) {
      const name = by.value === "both" ? `${row.key} · ${row.expert}` : row[by.value];
      const group = groups.get(name) ?? { requests: 0, errors: 0, prompt_tokens: 0, completion_tokens: 0, cached_tokens: 0 };
      for (const each of Object.keys(group)) group[each] += row[each];
      groups.set(name, group);
    }
    const sorted = [...groups].sort(([, one], [, other]) => other.completion_tokens + other.prompt_tokens - one.completion_tokens - one.prompt_tokens);
    const most = Math.max(1, ...sorted.map(([, each]) => each.prompt_tokens + each.completion_tokens));
    fill(body, sorted.length ? table("Usage", [by.selectedOptions[0].dataset.head, "Requests", "Errors", "Prompt tokens", "Of them cached", "Answer tokens", "Share"], sorted.map(([name, each]) => [name, number(each.requests), number(each.errors), number(each.prompt_tokens), number(each.cached_tokens), number(each.completion_tokens), bar((each.prompt_tokens + each.completion_tokens) / most, "tokens")]))
      : h("p", { class: "muted" }, "Nothing was used in these days."),
      h("p", { class: "muted small" }, "Days are of UTC."));
  }
  load();
  ask("/v1/coe/keys").then((told) => fill(keys, told.keys.length ? keysTable(told.keys) : h("p", { class: "muted" }, "There are none: anybody who reaches the gateway may ask."),
    h("p", { class: "muted small" }, "Keys are made and revoked with coe keys, or in server.api_keys."))).catch((error) => fill(keys, h("p", { class: "note bad" }, error.message)));
}
