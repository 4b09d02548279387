// The reference of HTTP, from the gateway's own OpenAPI document.

import { fill, h, table } from "../dom.js";

const resolve = (document_, schema) => (schema?.$ref ? schema.$ref.split("/").slice(1).reduce((tree, key) => tree?.[key], document_) : schema) ?? {};

const plain = (written) => written.replaceAll("``", "").replace(/\s+/g, " ");

function kind(document_, given, depth = 0) {
  const schema = resolve(document_, given);
  const many = schema.anyOf ?? schema.oneOf;
  if (many) return [...new Set(many.map((each) => kind(document_, each, depth + 1)))].join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return depth > 3 ? "list" : `list of ${kind(document_, schema.items ?? {}, depth + 1)}`;
  return schema.title && schema.type === "object" ? schema.title : schema.format ?? (Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type ?? "anything");
}

function fields(document_, schema) {
  const found = resolve(document_, schema);
  const names = Object.entries(found.properties ?? {});
  if (!names.length) return null;
  const rows = names.map(([name, each]) => [h("code", null, name), `${kind(document_, each)}${found.required?.includes(name) ? ", needed" : ""}`, plain(each.description ?? resolve(document_, each).description ?? "")]);
  const said = rows.some(([, , meaning]) => meaning);
  return table("Fields", ["Field", "Type", ...(said ? ["Meaning"] : [])], said ? rows : rows.map((row) => row.slice(0, 2)));
}

function operation(document_, path, method, told) {
  const parameters = told.parameters ?? [];
  const contents = Object.entries(told.requestBody?.content ?? {});
  const body = contents[0]?.[1].schema;
  const answers = Object.entries(told.responses ?? {}).map(([status, each]) => [status, each.description ?? "", Object.keys(each.content ?? {}).join(", ")]);
  const needed = resolve(document_, body).required ?? [];
  const example = Object.fromEntries(needed.map((name) => [name, name === "messages" ? [{ role: "user", content: "..." }] : "..."]));
  const curl = `curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${location.origin}${path}${body ? ` --json '${JSON.stringify(example)}'` : ""} -H 'authorization: Bearer KEY'`;
  return h("details", { class: "operation", id: `${method} ${path}` }, h("summary", null, h("span", { class: "method", data: { method } }, method.toUpperCase()), " ", h("code", null, path), h("span", { class: "muted" }, ` ${plain(told.description ?? told.summary ?? "").split(/(?<=\.)\s/)[0]}`)),
    plain(told.description ?? "").split(/(?<=\.)\s/).length > 1 ? h("p", null, plain(told.description)) : null,
    parameters.length ? table("Parameters", ["Parameter", "In", "Type"], parameters.map((each) => [h("code", null, each.name), each.in, kind(document_, each.schema)])) : null,
    body ? [h("h4", null, `Body (${contents.map(([type]) => type).join(", ")})`), fields(document_, body) ?? h("p", { class: "muted" }, kind(document_, body))] : null,
    h("h4", null, "Answers"), table("Answers", ["Status", "Meaning", "Type"], answers), h("pre", { tabindex: "0", "aria-label": "Example" }, curl));
}

function groupOf(path) {
  if (path.startsWith("/v1/coe")) return "Operators and routing";
  if (path.startsWith("/api/")) return "Ollama";
  if (/tokenize$/.test(path)) return "Tokens";
  const versioned = /^\/v\d+\/([a-z_]+)/.exec(path);
  return versioned ? versioned[1].replace(/^./, (letter) => letter.toUpperCase()) : "Service";
}

export function api(root) {
  const search = h("input", { type: "search", placeholder: "Find a path  ( / )", "aria-label": "Find a path", oninput: () => sift() });
  const body = h("div", null, h("p", { class: "muted" }, "Loading"));
  root.append(h("div", { class: "toolbar" }, search, h("a", { href: "/openapi.json" }, "openapi.json")), body);
  const sift = () => {
    const asked = search.value.toLowerCase();
    for (const each of body.querySelectorAll(".operation")) each.hidden = !each.querySelector("summary").textContent.toLowerCase().includes(asked);
    for (const group of body.querySelectorAll("section")) group.hidden = !group.querySelector(".operation:not([hidden])");
  };
  fetch("/openapi.json").then((response) => response.json()).then((told) => {
    const groups = new Map();
    for (const [path, methods] of Object.entries(told.paths)) {
      const group = groupOf(path);
      for (const [method, each] of Object.entries(methods)) groups.set(group, [...(groups.get(group) ?? []), operation(told, path, method, each)]);
    }
    fill(body, h("p", null, "A gateway speaks OpenAI's API, Anthropic's messages, and its own for operators. What it does not own passes to the engine untouched."), [...groups].map(([name, all]) => h("section", null, h("h2", null, name), all)));
  }).catch((error) => fill(body, h("p", { class: "note bad" }, error.message)));
}
