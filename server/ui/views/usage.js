// What each key used.

import { fill, h, table } from "../dom.js";
import { number } from "../format.js";
import { ask } from "../gateway.js";
import { bar } from "./decision.js";

const DAYS = [["1", "Today"], ["7", "7 days"], ["30", "30 days"], ["", "All days"]];
const day = (back) => new Date(Date.now() - back * 86400000).toISOString().slice(0, 10);

export function usage(root) {
  const span = h("select", { "aria-label": "Days", onchange: load }, DAYS.map(([value, title]) => h("option", { value }, title)));
  const by = h("select", { "aria-label": "Count by", onchange: () => draw() }, [["key", "By key"], ["expert", "By expert"], ["both", "By key and expert"], ["day", "By day"]].map(([value, title]) => h("option", { value }, title)));
  const body = h("div", { "aria-live": "polite" });
  root.append(h("div", { class: "toolbar" }, span, by), body);
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
    fill(body, sorted.length ? table("Usage", [by.options[by.selectedIndex].textContent.slice(3), "Requests", "Errors", "Prompt tokens", "Of them cached", "Answer tokens", "Share"], sorted.map(([name, each]) => [name, number(each.requests), number(each.errors), number(each.prompt_tokens), number(each.cached_tokens), number(each.completion_tokens), bar((each.prompt_tokens + each.completion_tokens) / most, "tokens")]))
      : h("p", { class: "muted" }, "Nothing was used in these days."),
      h("p", { class: "muted small" }, "Days are of UTC. Keys are made and revoked with coe keys, or in server.api_keys."));
  }
  load();
}
