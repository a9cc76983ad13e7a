// The AI SDK with OpenRouter's own provider, unmodified but for the base URL. Run by `test_conformance.py`.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { APICallError, embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from "ai";
import * as c from "./_cases.mjs";
import { all, near, put, same, thrown } from "./_cases.mjs";

const providerOf = (apiKey) => createOpenRouter({ apiKey, baseURL: c.API_BASE, compatibility: "strict" });
const openrouter = providerOf(c.API_KEY);

const prompt = "Tell me about holds";
const ask = (more = {}, by = openrouter) => generateText({ model: by.chat(c.PRIME), prompt, maxRetries: 0, ...more });
const stream = (more = {}) => streamText({ model: openrouter.chat(c.PRIME), prompt, maxRetries: 0, onError: () => {}, ...more });
const weather = tool({ description: "The weather", inputSchema: jsonSchema(c.PLACE), execute: ({ place }) => `Sunny in ${place}` });
const withTools = { prompt: "What is the weather in Rome and Oslo?", tools: { weather }, stopWhen: stepCountIs(2) };
const WEATHER = "The tool says: Sunny in Rome, Sunny in Oslo";
const thinking = { model: openrouter.chat(c.SONNET, { reasoning: { effort: "high" } }), maxOutputTokens: 4000 };

function counted(usage, metadata) {
  same([usage.inputTokens, usage.outputTokens, usage.totalTokens], [1000, 200, 1200]);
  same([usage.cachedInputTokens, usage.reasoningTokens], [300, 50]);
  near(metadata.openrouter.usage.cost, c.PRIME_COST);
}

put("chat.whole", async () => {
  const answer = await ask();
  same([answer.text, answer.finishReason, answer.response.modelId], [c.SENTENCE, "stop", c.PRIME]);
  same([answer.response.id.slice(0, 4), answer.providerMetadata.openrouter.provider], ["gen-", "Acme"]);
});

put("chat.stream", async () => {
  const answer = stream();
  same((await all(answer.textStream)).join(""), c.SENTENCE);
  same([await answer.finishReason, (await answer.usage).totalTokens], ["stop", 1200]);
});

put("chat.tools", async () => {
  const answer = await ask(withTools);
  same(answer.steps[0].toolCalls.map((call) => [call.toolName, call.input]), [["weather", { place: "Rome" }], ["weather", { place: "Oslo" }]]);
  same(answer.text, WEATHER);
});

put("chat.tools_stream", async () => {
  const answer = stream(withTools);
  await all(answer.fullStream);
  same(await answer.text, WEATHER);
});

put("chat.schema", async () => {
  for (const name of [c.PRIME, c.SONNET]) {
    const wanted = { model: openrouter.chat(name), schema: jsonSchema(c.SCHEMA), prompt: "Rome?", maxRetries: 0 };
    same((await generateObject(wanted)).object, c.FORECAST);
    const streamed = streamObject(wanted);
    same((await all(streamed.partialObjectStream)).at(-1), c.FORECAST);
    same(await streamed.object, c.FORECAST);
  }
});

put("chat.reasoning", async () => {
  for (const more of [thinking, { model: openrouter.chat(c.PRIME, { reasoning: { effort: "high" } }) }]) {
    const answer = await ask(more);
    same([answer.reasoningText, answer.text], [c.THOUGHT, c.SENTENCE]);
    const streamed = stream(more);
    await all(streamed.fullStream);
    same([await streamed.reasoningText, await streamed.text], [c.THOUGHT, c.SENTENCE]);
  }
});

put("chat.images", async () => {
  const content = [{ type: "image", image: Buffer.from(c.PIXEL, "base64"), mediaType: "image/png" }];
  for (const name of [c.PRIME, c.SONNET])
    same((await ask({ model: openrouter.chat(name), prompt: undefined, messages: [{ role: "user", content }] })).text, c.SEEN);
});

put("chat.usage", async () => {
  const answer = await ask();
  counted(answer.usage, answer.providerMetadata);
  const streamed = stream();
  await all(streamed.fullStream);
  counted(await streamed.usage, await streamed.providerMetadata);
});

put("chat.anthropic", async () => {
  same((await ask({ model: openrouter.chat(c.SONNET), system: "Be LOUD" })).text, c.SENTENCE.toUpperCase());
  const answer = await ask({ ...thinking, ...withTools });
  same([answer.steps[0].reasoningText, answer.text], [c.THOUGHT, WEATHER]);
  near(answer.steps[0].providerMetadata.openrouter.usage.cost, c.SONNET_COST);
});

put("chat.routing", async () => {
  const model = openrouter.chat(c.BUSY, { models: [c.PRIME], provider: { data_collection: "deny" } });
  same((await ask({ model })).response.modelId, c.PRIME);
});

put("chat.broken", async () => {
  const broken = stream({ model: openrouter.chat(c.MODEL), prompt: "[[fail:cut]]" });
  const [error] = (await all(broken.fullStream)).filter((part) => part.type === "error");
  same([error.error.code, error.error.message], [502, "The provider's answer broke off."]);
});

put("completions.whole", async () => {
  same((await ask({ model: openrouter.completion(c.PRIME) })).text.trim(), c.SENTENCE);
});

put("completions.stream", async () => {
  same((await all(stream({ model: openrouter.completion(c.PRIME) }).textStream)).join("").trim(), c.SENTENCE);
});

put("embeddings.floats", async () => {
  const given = await embedMany({ model: openrouter.textEmbeddingModel(c.EMBEDDER), values: ["Hello there", "Goodbye"], maxRetries: 0 });
  same([given.embeddings.map((each) => each.length), given.usage.tokens], [[256, 256], 3]);
});

async function refused(work) {
  const error = await thrown(work);
  same(APICallError.isInstance(error) ? [] : [String(error)], []);
  same(error.data.error.code, error.statusCode);
  same(error.message.endsWith(error.data.error.message), true); // begins with the provider's name where one failed
  return error.statusCode;
}

const echo = (by = openrouter) => by.chat(c.MODEL);
const failures = {
  "errors.400": [400, () => ask({ model: openrouter.chat("demo/eco-1") })],
  "errors.401": [401, () => ask({ model: echo(providerOf(c.MADE_UP_KEY)) })],
  "errors.402": [402, () => ask({ model: echo(providerOf(c.BROKE_KEY)) })],
  "errors.403": [403, () => ask({ model: echo(providerOf(c.MANAGEMENT_KEY)) })],
  "errors.404": [404, () => ask({ model: openrouter.chat(c.MODEL, { provider: { only: ["nobody"] } }) })],
  "errors.413": [413, () => ask({ prompt: c.TOO_LARGE })],
  "errors.429": [429, () => ask({ model: echo(providerOf(c.CROWDED_KEY)) })],
  "errors.502": [502, () => ask({ model: echo(), prompt: "[[fail:500]]" })],
  "errors.503": [503, () => ask({ model: echo(), prompt: "[[fail:503]]" })],
  "errors.busy": [503, () => ask({ model: openrouter.chat(c.BUSY) })],
};
for (const [operation, [status, work]] of Object.entries(failures)) {
  put(operation, async () => same(await refused(work), status), operation === "errors.busy" ? c.BUSY_SENTENCE : null);
}

const { version } = JSON.parse(readFileSync(createRequire(import.meta.url).resolve("@openrouter/ai-sdk-provider/package.json")));
await c.run(version);
