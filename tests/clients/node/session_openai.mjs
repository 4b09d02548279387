// OpenAI's own SDK for JavaScript.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { apiKey, composition, embedder, leaving, model, question, run, url } from "./checks.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

await run({
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_completion_tokens: 20, temperature: 0 });
    assert(answer.choices[0].message.content);
    assert.deepEqual([answer.model, answer.usage.completion_tokens], [model, 20]);
    assert(answer._request_id);
  },

  async aCompositionChoosesAnExpert() {
    const asked = [{ role: "user", content: "What is the derivative of x^3 + 2x?" }];
    const { data, response } = await client.chat.completions
      .create({ model: composition, messages: asked, max_tokens: 5 })
      .withResponse();
    assert.deepEqual([response.headers.get("x-coe-expert"), data.model], ["math", "math"]);
  },

  async stream() {
    const given = { model, messages, max_tokens: 24, temperature: 0 };
    const plain = await client.chat.completions.create(given);
    let text = "";
    let usage = null;
    const events = await client.chat.completions.create({
      ...given,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of events) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, plain.choices[0].message.content);
    assert.equal(usage.completion_tokens, plain.usage.completion_tokens);
  },

  async theStreamingHelperAccumulates() {
    const runner = client.chat.completions.stream({ model, messages, stop: [" "], temperature: 0 });
    assert((await runner.finalChatCompletion()).choices[0].message.content);
  },

  async tools() {
    const asked = [{ role: "user", content: "How is the weather in Rome?" }];
    const choice = { type: "function", function: { name: "weather" } };
    for (const tool_choice of [choice, "required"]) {
      const given = { model, messages: asked, tools: [weather], tool_choice, max_tokens: 150, temperature: 0 };
      const answer = await client.chat.completions.create({ ...given, parallel_tool_calls: false });
      const call = answer.choices[0].message.tool_calls[0];
      assert.equal(call.function.name, "weather");
      assert(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city));
    }
  },

  async aJsonSchemaIsKept() {
    const schema = { type: "object", properties: { continent: { type: "boolean" } }, required: ["continent"] };
    const answer = await client.chat.completions.parse({
      model,
      messages: [{ role: "user", content: "Is Europe a continent?" }],
      response_format: {
        type: "json_schema",
        json_schema: { name: "place", strict: true, schema: { ...schema, additionalProperties: false } },
      },
      max_tokens: 100,
      temperature: 0,
    });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content).continent, "boolean");
  },

  async embeddings() {
    const input = ["The sky is blue.", "A dog barks."];
    const packed = await client.embeddings.create({ model: embedder, input }); // the SDK asks for base64
    const plain = await client.embeddings.create({ model: embedder, input, encoding_format: "float" });
    const differences = packed.data[0].embedding.map((value, at) => Math.abs(value - plain.data[0].embedding[at]));
    assert(Math.max(...differences) < 1e-6);
  },

  async responses() {
    const first = await client.responses.create({ model, input: messages[0].content, max_output_tokens: 24, temperature: 0 });
    assert(first.output_text);
    let last = null;
    const events = await client.responses.create({
      model,
      input: "And at night?",
      previous_response_id: first.id,
      max_output_tokens: 24,
      stream: true,
    });
    for await (const event of events) last = event;
    assert(["response.completed", "response.incomplete"].includes(last.type));
  },

  async anAbortedStreamIsCancelled() {
    await leaving(async () => {
      const events = await client.chat.completions.create({
        model,
        messages,
        max_tokens: 1500,
        ignore_eos: true,
        stream: true,
      });
      for await (const _ of events) break; // leaving the loop aborts
    });
  },

  async anAbortedRequestIsCancelled() {
    await leaving(async () => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 500);
      const given = { model, messages, max_tokens: 1500, ignore_eos: true };
      const answer = client.chat.completions.create(given, { signal: controller.signal });
      await assert.rejects(answer, OpenAI.APIUserAbortError);
    });
  },

  async errors() {
    const refused = async (kind, expected, fields) => {
      const answer = client.chat.completions.create({ model, messages, max_tokens: 5, ...fields });
      await assert.rejects(answer, (error) => {
        assert(error instanceof kind, `${error}`);
        assert.equal(error.type, "invalid_request_error");
        for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value);
        return true;
      });
    };
    await refused(OpenAI.NotFoundError, { code: "model_not_found", param: "model" }, { model: "gpt-9" });
    await refused(OpenAI.BadRequestError, { param: "temperature" }, { temperature: -1 });
    if (apiKey !== "none") {
      const stranger = client.withOptions({ apiKey: "wrong" });
      await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
    }
    const long = [{ role: "user", content: "word ".repeat(5000) }];
    await refused(OpenAI.BadRequestError, { code: "context_length_exceeded" }, { messages: long });
  },
});
