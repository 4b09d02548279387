// Ollama's client for JavaScript and Vercel's AI SDK, in a session against BASE_URL.
import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, streamText } from "ai";
import { Ollama } from "ollama";

const url = process.env.BASE_URL;
const messages = [{ role: "user", content: "Say hello." }];
const options = { num_predict: 8 };

const ollama = new Ollama({ host: url });
assert((await ollama.chat({ model: "coe", messages, options })).message.content);
let said = "";
for await (const piece of await ollama.chat({ model: "coe:latest", messages, options, stream: true })) {
  said += piece.message.content;
}
assert(said);
assert((await ollama.list()).models.some((model) => model.model === "coe:latest"));
assert.equal((await ollama.embed({ model: "coe", input: ["a", "b"] })).embeddings.length, 2);
await assert.rejects(ollama.pull({ model: "llama3" }), /not pulled/);

const coe = createOpenAICompatible({ name: "coe", baseURL: `${url}/v1`, apiKey: "none", includeUsage: true });
const whole = await generateText({ model: coe("coe"), prompt: "Say hello.", maxOutputTokens: 8 });
assert(whole.text);
assert(whole.usage.outputTokens);
const stream = streamText({ model: coe("coe"), prompt: "Say hello.", maxOutputTokens: 8 });
let streamed = "";
for await (const text of stream.textStream) streamed += text;
assert(streamed);
assert((await embed({ model: coe.textEmbeddingModel("coe"), value: "a text" })).embedding.length);
