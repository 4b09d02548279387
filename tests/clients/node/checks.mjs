// What every session in JavaScript has: where it goes, checks that run one after another, and what a gateway shows
// when a client has left. As tests/clients/checks.py.
import assert from "node:assert/strict";

export const { BASE_URL: url = "http://127.0.0.1:8000", MODEL: model = "general", API_KEY: apiKey = "none" } = process.env;
export const { COMPOSITION: composition = "coe", EMBEDDER: embedder = composition } = process.env;
/** Whether the engines compute nothing: they keep no schema, call no tool and refuse nothing. */
export const simulated = "SIMULATED" in process.env;
export const question = "Why is the sky blue? Answer in one sentence.";

async function total(name, label) {
  const lines = (await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } })).text()).split("\n");
  const found = lines.filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

export async function leaving(answer) {
  const before = await total("coe_requests_total", 'outcome="client_left"');
  await answer();
  const deadline = Date.now() + 60_000;
  const noticed = async () =>
    (await total("coe_requests_total", 'outcome="client_left"')) === before + 1 && !(await total("coe_leases", ""));
  while (!(await noticed())) {
    assert(Date.now() < deadline, "the gateway did not notice that its client left");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Prints one line a check, and ends the process. */
export async function run(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const began = performance.now();
    const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    try {
      await check();
      console.log(`ok   ${words} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${words}: ${error}`.replaceAll("\n", " ").slice(0, 600));
      console.error(error);
    }
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
