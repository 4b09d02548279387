// Ollama's own client for JavaScript.
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { apiKey, composition, embedder, leaving, model, question, run, simulated, url } from "./checks.mjs";

const headers = { authorization: `Bearer ${apiKey}` };
const ollama = new Ollama({ host: url, headers });
const messages = [{ role: "user", content: question }];
const options = { temperature: 0, num_predict: 16 };
const schema = { type: "object", properties: { blue: { type: "boolean" } }, required: ["blue"] };

await run({
  async chat() {
    const whole = await ollama.chat({ model: composition, messages, options });
    assert(whole.message.content);
    assert.deepEqual([whole.model, whole.done], [composition, true]);
  },

  async stream() {
    const whole = await ollama.chat({ model, messages, options });
    const pieces = [];
    for await (const piece of await ollama.chat({ model: `${model}:latest`, messages, options, stream: true })) pieces.push(piece);
    assert.equal(pieces.map((piece) => piece.message.content).join(""), whole.message.content);
    assert.deepEqual(pieces.map((piece) => piece.done), [...pieces.slice(1).map(() => false), true]);
    assert.equal(pieces.at(-1).eval_count, whole.eval_count);
  },

  async aPrompt() {
    assert((await ollama.generate({ model, prompt: question, options })).response);
  },

  async aSchemaIsKept() {
    if (simulated) return;
    const answer = await ollama.chat({ model, messages, format: schema, options: { ...options, num_predict: 60 } });
    assert.equal(typeof JSON.parse(answer.message.content).blue, "boolean");
  },

  async embeddings() {
    const { embeddings } = await ollama.embed({ model: embedder, input: ["a text", "another"] });
    assert.equal(embeddings.length, 2);
  },

  async modelsAreListedAndShown() {
    const listed = (await ollama.list()).models.map((each) => each.model);
    assert(listed.includes(`${composition}:latest`) && listed.includes(`${model}:latest`));
    assert((await ollama.show({ model })).capabilities.includes("completion"));
    assert((await ollama.ps()).models);
  },

  async anAnswerThatIsLeftIsCancelled() {
    await leaving(async () => {
      const one = new Ollama({ host: url, headers });
      const answer = await one.chat({ model, messages, stream: true, options: { num_predict: 1500, ignore_eos: true } });
      await assert.rejects(async () => {
        for await (const piece of answer) if (piece) answer.abort();
      });
    });
  },

  async errors() {
    await assert.rejects(ollama.chat({ model: "gpt-9", messages }), { status_code: 404 });
    await assert.rejects(ollama.pull({ model: "llama3" }), /not pulled/);
    if (!simulated) await assert.rejects(ollama.chat({ model, messages, options: { temperature: -1 } }), { status_code: 400 });
  },
});
