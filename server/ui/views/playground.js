// A chat that streams: the decision first, then the answer; two of them side by side.

import { fill, h, text } from "../dom.js";
import { number, percent, seconds, why } from "../format.js";
import { events, model as askModel } from "../gateway.js";

let made = null; // once: a chat goes on while another view is looked at

export function playground(root) {
  made ??= make();
  root.append(made.element);
  made.list();
  return {};
}

function decisionOf(told) {
  const reason = why[told.routed_by];
  if (!told.decided) return `${told.expert} (${reason})`;
  const { category, confidence, uncertain } = told.decided;
  return `${category} ${percent(confidence)}${uncertain ? ", doubtful" : ""} → ${told.expert} (${reason})`;
}

/** A chat with one model. ``messages``: its turns so far. */
function chat(name) {
  const turns = h("div");
  return { name, turns, messages: [], element: h("section", { class: "answer", "aria-label": `Chat with ${name}` }, h("h2", null, name), turns) };
}

/** Asks for the next turn of a chat, whose prompt is its last message, and shows it. */
async function turn({ name, turns, messages }, maxTokens, signal) {
  const decision = h("p", { class: "decision" }, "Deciding");
  const said = h("div", { class: "said", "aria-live": "off" });
  const figures = h("p", { class: "muted small" });
  turns.append(h("p", { class: "asked" }, messages.at(-1).content), decision, said, figures);
  turns.parentElement.scrollIntoView({ block: "nearest" });
  const began = performance.now();
  try {
    text(decision, decisionOf(await (await askModel("/v1/coe/route", { model: name, messages }, { signal })).json()));
    const response = await askModel("/v1/chat/completions", { model: name, messages, stream: true, stream_options: { include_usage: true }, max_tokens: maxTokens }, { signal });
    let first = 0, usage = null;
    for await (const { data } of events(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const delta = chunk.choices?.[0]?.delta ?? {};
      const piece = (delta.reasoning_content ?? delta.reasoning ?? "") + (delta.content ?? "");
      if (piece) { first ||= performance.now(); said.append(piece); }
      usage = chunk.usage ?? usage;
    }
    const took = (performance.now() - began) / 1000;
    const head = response.headers;
    const id = head.get("x-request-id");
    const per = usage && first ? usage.completion_tokens / Math.max(1e-3, (performance.now() - first) / 1000) : null;
    fill(figures, `first token ${seconds(first ? (first - began) / 1000 : null)} · ${seconds(took)} in all`, usage ? ` · ${number(usage.completion_tokens)} tokens, ${number(per)}/s` : "",
      head.get("x-coe-tier") ? ` · expert was on ${head.get("x-coe-tier")}, waited ${seconds(Number(head.get("x-coe-queue-ms")) / 1000)}` : "", id ? [" · ", h("a", { href: `#/requests/${encodeURIComponent(id)}` }, "its story")] : "");
  } catch (error) {
    const stopped = error.name === "AbortError";
    fill(figures, h("span", { class: stopped ? "" : "bad-text" }, stopped ? "Stopped" : error.message));
    if (decision.textContent === "Deciding") text(decision, "");
  }
  if (said.textContent) messages.push({ role: "assistant", content: said.textContent });
  else messages.pop(); // a prompt without an answer is no turn
}

function make() {
  const first = h("select", { "aria-label": "Model" });
  const second = h("select", { "aria-label": "Compare with" });
  const budget = h("input", { type: "text", placeholder: "as 31B", size: "6", "aria-label": "Budget of active parameters, for a composition" });
  const tokens = h("input", { type: "number", min: "1", max: "100000", value: "256", "aria-label": "Most tokens of the answer" });
  const prompt = h("textarea", { rows: "4", placeholder: "Ask something", "aria-label": "Prompt" });
  const send = h("button", { type: "submit", class: "primary" }, "Ask");
  const stop = h("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Stop");
  const anew = h("button", { type: "button", disabled: true, onclick: () => { begin([]); prompt.focus(); } }, "New chat");
  const problem = h("p", { class: "note bad", hidden: true });
  const answers = h("div", { class: "answers" });
  const element = h("div", null, problem, h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); run(); } },
    h("div", { class: "toolbar" }, h("label", null, "Model ", first), h("label", null, "Compare with ", second), h("label", null, "Budget ", budget), h("label", null, "Tokens ", tokens)),
    prompt, h("div", { class: "row" }, send, stop, anew, h("span", { class: "muted small" }, "Ctrl + Enter asks"))), answers);
  prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });
  let running = null, chats = [], compositions = [];

  function begin(names) {
    chats = names.map(chat);
    fill(answers, chats.map((each) => each.element));
  }

  async function list() {
    try {
      const { data } = await (await askModel("/v1/models")).json();
      const models = data.filter((each) => each.coe.kind === "composition" || each.coe.task !== "embed");
      for (const select of [first, second]) {
        const chosen = select.value;
        fill(select, select === second ? h("option", { value: "" }, "nobody") : null, models.map((each) => h("option", { value: each.id }, each.coe.kind === "composition" ? `${each.id} (routed)` : each.id)));
        if (models.some((each) => each.id === chosen)) select.value = chosen;
      }
      compositions = models.filter((each) => each.coe.kind === "composition").map((each) => each.id);
      problem.hidden = true;
    } catch (error) {
      problem.hidden = false;
      text(problem, `${error.message} An API key can be given under Keys.`);
    }
  }

  const asked = (name) => (compositions.includes(name) && budget.value.trim() ? `${name}:${budget.value.trim()}` : name);

  async function run() {
    const question = prompt.value.trim();
    if (running || !question || !first.value) return;
    const names = [first.value, second.value].filter(Boolean).map(asked);
    if (names.join() !== chats.map((each) => each.name).join()) begin(names); // side by side they were asked the same
    running = new AbortController();
    send.disabled = anew.disabled = true;
    stop.disabled = false;
    prompt.value = "";
    for (const each of chats) each.messages.push({ role: "user", content: question });
    await Promise.all(chats.map((each) => turn(each, Number(tokens.value) || 256, running.signal)));
    running = null;
    send.disabled = anew.disabled = false;
    stop.disabled = true;
  }
  return { element, list };
}
