// Where each expert comes from, and what is known of it.

import { facts, fill, h } from "../dom.js";
import { bytes, number, parameters } from "../format.js";
import { ask, state } from "../gateway.js";

const source = (given) => Object.entries(given).map(([name, value]) => `${name}: ${value}`).join(", ");

/** Whether an origin is nothing but hashes, which are for programs. */
const hashed = (origin) => /^[0-9a-f]{40,}(\+[0-9a-f]{40,})*$/.test(origin);

export function experts(root) {
  const search = h("input", { type: "search", placeholder: "Find an expert  ( / )", "aria-label": "Find an expert", oninput: () => draw() });
  const body = h("div", { class: "cards" });
  const problem = h("p", { class: "note bad", hidden: true });
  root.append(h("div", { class: "toolbar" }, search), problem, body);
  let all = [];
  function draw() {
    const wanted = search.value.toLowerCase();
    fill(body, all.filter((each) => `${each.expert} ${each.family} ${each.origin} ${each.description}`.toLowerCase().includes(wanted)).map((each) => h("article", { class: "card" },
      h("h2", null, each.expert), each.description ? h("p", null, each.description) : null,
      facts([["Where now", state.experts[each.expert]?.tier], ["From", source(each.source)], ["Found as", hashed(each.origin) || source(each.source).endsWith(`: ${each.origin}`) ? null : each.origin], ["Base", each.base ? source(each.base) : null], ["Family", each.family], ["Task", each.task === "embed" ? "embeddings" : "text"],
        ["Parameters", parameters(each.parameters)], ["Weights", bytes(each.weights_bytes)], ["Licence", each.license ?? "not said by its files"],
        ["Canary", each.canary ? `${each.canary} tokens, perplexity ${number(each.perplexity)}` : "none"], ["Takes beside text", each.capabilities?.join(", ") || null],
        ["Sampling", Object.entries(each.generation).map(([name, value]) => `${name} ${value}`).join(", ")]]),
      h("details", null, h("summary", null, "Hashes"), h("dl", { class: "hashes" }, hashed(each.origin) ? h("div", null, h("dt", null, "origin"), h("dd", null, h("code", null, each.origin))) : null, Object.entries(each.sha256).map(([file, hash]) => h("div", null, h("dt", null, file), h("dd", null, h("code", null, hash)))), h("div", null, h("dt", null, "fingerprint of the family"), h("dd", null, h("code", null, each.fingerprint))))))));
  }
  ask("/v1/coe/experts").then((told) => { all = told.experts; draw(); }).catch((error) => { problem.hidden = false; problem.textContent = error.message; });
}
