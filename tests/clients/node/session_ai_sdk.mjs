// Vercel's AI SDK, over its provider of what speaks OpenAI's API.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateText, jsonSchema, Output, streamText, tool } from "ai";
import { apiKey, composition, embedder, leaving, model, question, run, simulated, url } from "./checks.mjs";

const coe = createOpenAICompatible({ name: "coe", baseURL: `${url}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const given = { prompt: question, temperature: 0, maxOutputTokens: 16, maxRetries: 0 };

await run({
  async text() {
    const { text, usage, response } = await generateText({ model: coe(composition), ...given });
    assert(text);
    assert.equal(usage.outputTokens, 16);
    assert(response.headers["x-coe-expert"]);
  },

  async stream() {
    const whole = await generateText({ model: coe(model), ...given });
    const answer = streamText({ model: coe(model), ...given });
    let said = "";
    for await (const piece of answer.textStream) said += piece;
    assert.equal(said, whole.text);
    assert.equal((await answer.usage).outputTokens, 16);
  },

  async aSchemaIsKept() {
    if (simulated) return;
    const schema = { type: "object", properties: { blue: { type: "boolean" } }, required: ["blue"], additionalProperties: false };
    const { output } = await generateText({
      model: coe(model), ...given, maxOutputTokens: 60, output: Output.object({ schema: jsonSchema(schema) }),
    });
    assert.equal(typeof output.blue, "boolean");
  },

  async aToolIsCalled() {
    if (simulated) return;
    const schema = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"], additionalProperties: false };
    const weather = tool({ description: "The weather of a city.", inputSchema: jsonSchema(schema) });
    const { toolCalls } = await generateText({
      model: coe(model), ...given, maxOutputTokens: 60, tools: { weather }, toolChoice: { type: "tool", toolName: "weather" },
    });
    assert(["Paris", "Rome"].includes(toolCalls[0].input.city));
  },

  async embeddings() {
    const { embeddings } = await embedMany({ model: coe.textEmbeddingModel(embedder), values: ["a text", "another"] });
    assert.equal(embeddings.length, 2);
  },

  async anAnswerThatIsLeftIsCancelled() {
    await leaving(async () => {
      const abort = new AbortController();
      const answer = streamText({
        model: coe(model), ...given, maxOutputTokens: 1500, abortSignal: abort.signal, onError: () => {},
        providerOptions: { coe: { ignore_eos: true } },
      });
      for await (const piece of answer.textStream) if (piece) abort.abort();
    });
  },

  async errors() {
    const refused = (status) => (error) => APICallError.isInstance(error) && error.statusCode === status;
    await assert.rejects(generateText({ ...given, model: coe("gpt-9") }), refused(404));
    if (!simulated) await assert.rejects(generateText({ ...given, model: coe(model), temperature: -1 }), refused(400));
  },
});
