// A chat that streams: the decision first, then the answer; two of them side by side.

import { fill, h, text } from "../dom.js";
import { number, percent, seconds, why } from "../format.js";
import { events, model as askModel } from "../gateway.js";

const kept = { first: "", second: "", prompt: "", tokens: "256" };

export function playground(root) {
  const choose = (label, name, empty) => {
    const select = h("select", { "aria-label": label, onchange: () => { kept[name] = select.value; } });
    return { label, name, select, empty };
  };
  const first = choose("Model", "first", null);
  const second = choose("Compare with", "second", "nobody");
  const budget = h("input", { type: "text", placeholder: "31B", size: "6", "aria-label": "Budget of active parameters, for a composition" });
  const tokens = h("input", { type: "number", min: "1", max: "100000", value: kept.tokens, "aria-label": "Most tokens of the answer", onchange: () => { kept.tokens = tokens.value; } });
  const prompt = h("textarea", { rows: "4", placeholder: "Ask something", "aria-label": "Prompt", oninput: () => { kept.prompt = prompt.value; } }, kept.prompt);
  const send = h("button", { type: "submit", class: "primary" }, "Ask");
  const stop = h("button", { type: "button", onclick: () => running?.abort() }, "Stop");
  const problem = h("p", { class: "note bad", hidden: true });
  const answers = h("div", { class: "answers" });
  let running = null;
  stop.disabled = true;
  root.append(problem, h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); run(); } },
    h("div", { class: "toolbar" }, [first, second].map((each) => h("label", null, each.label, " ", each.select)), h("label", null, "Budget ", budget), h("label", null, "Tokens ", tokens)),
    prompt, h("div", { class: "row" }, send, stop, h("span", { class: "muted small" }, "Ctrl + Enter asks"))), answers);
  prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });

  const fail = (message) => { problem.hidden = !message; text(problem, message); };

  async function list() {
    try {
      const { data } = await (await askModel("/v1/models")).json();
      const chats = data.filter((each) => each.coe.kind === "composition" || each.coe.task !== "embed");
      for (const { select, name, empty } of [first, second]) {
        fill(select, empty ? h("option", { value: "" }, empty) : null, chats.map((each) => h("option", { value: each.id }, each.coe.kind === "composition" ? `${each.id} (routed)` : each.id)));
        if (chats.some((each) => each.id === kept[name])) select.value = kept[name];
      }
      kept.compositions = chats.filter((each) => each.coe.kind === "composition").map((each) => each.id);
      fail("");
    } catch (error) { fail(`${error.message} An API key can be given under Keys.`); }
  }

  async function answer(name, signal) {
    const routed = kept.compositions?.includes(name);
    const asked = routed && budget.value.trim() ? `${name}:${budget.value.trim()}` : name;
    const decision = h("p", { class: "decision" }, "Deciding");
    const said = h("div", { class: "said", "aria-live": "off" });
    const figures = h("p", { class: "muted small" });
    answers.append(h("section", { class: "answer", "aria-label": `Answer of ${asked}` }, h("h2", null, asked), decision, said, figures));
    const messages = [{ role: "user", content: prompt.value }];
    const began = performance.now();
    try {
      const why_ = await (await askModel("/v1/coe/route", { model: asked, messages }, { signal })).json();
      text(decision, why_.decided ? `${why_.decided.category} ${percent(why_.decided.confidence)}${why_.decided.uncertain ? ", doubtful" : ""} → ${why_.expert} (${why[why_.routed_by]})` : `${why_.expert} (${why[why_.routed_by]})`);
      const response = await askModel("/v1/chat/completions", { model: asked, messages, stream: true, stream_options: { include_usage: true }, max_tokens: Number(tokens.value) || 256 }, { signal });
      let first_ = 0, usage = null;
      for await (const { data } of events(response)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        const delta = chunk.choices?.[0]?.delta ?? {};
        const piece = (delta.reasoning_content ?? delta.reasoning ?? "") + (delta.content ?? "");
        if (piece) { first_ ||= performance.now(); said.append(piece); }
        usage = chunk.usage ?? usage;
      }
      const took = (performance.now() - began) / 1000;
      const head = response.headers;
      const id = head.get("x-request-id");
      const per = usage && first_ ? usage.completion_tokens / Math.max(1e-3, (performance.now() - first_) / 1000) : null;
      fill(figures, `first token ${seconds(first_ ? (first_ - began) / 1000 : null)} · ${seconds(took)} in all`, usage ? ` · ${number(usage.completion_tokens)} tokens, ${number(per)}/s` : "",
        head.get("x-coe-tier") ? ` · expert was on ${head.get("x-coe-tier")}, waited ${seconds(Number(head.get("x-coe-queue-ms")) / 1000)}` : "", id ? [" · ", h("a", { href: `#/requests/${encodeURIComponent(id)}` }, "its story")] : "");
    } catch (error) {
      fill(figures, h("span", { class: error.name === "AbortError" ? "" : "bad-text" }, error.name === "AbortError" ? "Stopped" : error.message));
      if (decision.textContent === "Deciding") text(decision, "");
    }
  }

  async function run() {
    if (running || !prompt.value.trim() || !first.select.value) return;
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    fill(answers);
    kept.first = first.select.value;
    await Promise.all([first.select.value, second.select.value].filter(Boolean).map((name) => answer(name, running.signal)));
    running = null;
    send.disabled = false;
    stop.disabled = true;
  }
  list();
  return { leave: () => running?.abort() };
}
