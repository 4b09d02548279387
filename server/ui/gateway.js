// The gateway as this page knows it: its keys, calls with them, and the one stream of its state.

export const state = { at: 0, gateway: {}, tiers: {}, engines: {}, experts: {}, moves: {}, requests: {}, samples: [] };
export const connection = { kind: "wait", text: "Connecting", heard: 0 };

const listeners = new Set();
/** Calls ``listener`` with the names of the sections that changed. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const keys = {
  get operator() { return sessionStorage.getItem("coe.operator") ?? ""; },
  get client() { return sessionStorage.getItem("coe.client") ?? ""; },
  set(operator, client) {
    sessionStorage.setItem("coe.operator", operator);
    sessionStorage.setItem("coe.client", client);
    reconnect();
  },
};

const bearer = (key) => (key ? { authorization: `Bearer ${key}` } : {});

/** An error whose message the gateway said. */
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error.message; } catch { /* it said nothing that can be read */ }
  return new Refused(response.status, message);
}

/** Asks as an operator. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...bearer(keys.operator), ...options.headers } });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Orders as an operator. */
export const order = (path, body) => ask(path, {
  method: "POST",
  ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}),
});

/** Asks a model as a client, with a client's key, or an operator's where no other is given. */
export async function model(path, body, options = {}) {
  const response = await fetch(path, {
    ...(body ? { method: "POST", body: JSON.stringify(body) } : {}), ...options,
    headers: { ...bearer(keys.client || keys.operator), "content-type": "application/json", ...options.headers },
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Yields the events of a stream: their name and data. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      let name = "message", data = "";
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) yield { name, data };
    }
  }
}

let changed = new Set();
let due = false;
function tell(...sections) {
  for (const section of sections) changed.add(section);
  if (due) return;
  due = true;
  setTimeout(() => {
    const now = changed;
    changed = new Set();
    due = false;
    for (const listener of listeners) listener(now);
  }, 0);
}

function become(kind, message) {
  connection.kind = kind;
  connection.text = message;
  tell("connection");
}

const SECTIONS = ["gateway", "tiers", "engines", "experts", "moves", "requests"];

function take({ name, data }) {
  connection.heard = performance.now();
  const told = JSON.parse(data);
  if (name === "snapshot") {
    for (const section of SECTIONS) state[section] = told[section];
    state.at = told.at;
    tell(...SECTIONS);
  } else if (name === "delta") {
    state.at = told.at;
    for (const [section, rows] of Object.entries(told.set)) { Object.assign(state[section], rows); tell(section); }
    for (const [section, gone] of Object.entries(told.drop)) {
      for (const key of gone) delete state[section][key];
      tell(section);
    }
  } else if (name === "sample") {
    state.samples.push(told);
    if (state.samples.length > 720) state.samples.shift();
    tell("samples");
  }
}

let stop = new AbortController();
let again = 0;
let tries = 0;

export function reconnect() {
  clearTimeout(again);
  stop.abort();
  tries = 0;
  follow();
}

const SILENT_MS = 15000; // the gateway says something every five seconds

export async function follow() {
  const mine = (stop = new AbortController());
  const watchdog = setInterval(() => {
    if (connection.kind === "live" && performance.now() - connection.heard > SILENT_MS) mine.abort();
  }, 1000);
  try {
    const response = await fetch("/v1/coe/events", { headers: bearer(keys.operator), signal: mine.signal });
    if (!response.ok) throw await refusal(response);
    state.samples = (await ask("/v1/coe/history")).samples;
    tell("samples");
    become("live", "Live");
    tries = 0;
    for await (const event of events(response)) take(event);
    throw new Error("the gateway ended the stream");
  } catch (error) {
    if (mine !== stop) return; // another has taken over
    if (error.status === 401 || error.status === 403) return become("key", error.status === 401 ? (keys.operator ? "The gateway does not know this key." : "The gateway asks for the operator's key.") : error.message);
    const pause = Math.min(10, 2 ** tries++) * (0.75 + Math.random() / 2);
    become("lost", "Connection lost; trying again");
    again = setTimeout(follow, pause * 1000);
  } finally {
    clearInterval(watchdog);
  }
}

/** The wall clock of the gateway, as far as the stream tells it. */
export const now = () => state.at + (connection.heard ? (performance.now() - connection.heard) / 1000 : 0);
