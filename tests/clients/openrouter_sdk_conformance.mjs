// The official `@openrouter/sdk` client, unmodified but for the server URL, validating every answer. Run by `test_conformance.py`.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { OpenRouter } from "@openrouter/sdk";
import * as errors from "@openrouter/sdk/models/errors";
import * as c from "./_cases.mjs";
import { all, near, put, same, thrown } from "./_cases.mjs";

// The default goes on for an hour.
const clientOf = (apiKey) => new OpenRouter({ apiKey, serverURL: c.API_BASE, retryConfig: { strategy: "none" } });
const keys = [c.API_KEY, c.MANAGEMENT_KEY, c.BROKE_KEY, c.CROWDED_KEY, c.MADE_UP_KEY, c.PERSONAL_MANAGEMENT_KEY];
const [client, management, broke, crowded, madeUp, personalManagement] = keys.map(clientOf);

const QUESTION = [{ role: "user", content: "Tell me about holds" }];
const ASKED = [{ role: "user", content: "What is the weather in Rome and Oslo?" }];
const TOOL = { type: "function", function: { name: "weather", description: "The weather", parameters: c.PLACE } };
const RESPONSE_TOOL = { type: "function", name: "weather", parameters: c.PLACE, strict: true };

const chat = (more = {}, by = client, outside = {}) =>
  by.chat.send({ ...outside, chatRequest: { model: c.MODEL, messages: QUESTION, ...more } });
const respond = (more = {}, by = client) =>
  by.responses.send({ responsesRequest: { model: c.MODEL, input: "Tell me about holds", ...more } });
const embed = (more = {}, by = client) => by.embeddings.generate({ requestBody: { model: c.EMBEDDER, input: "Hello there", ...more } });

const choices = (chunks) => chunks.flatMap((chunk) => chunk.choices);
const texts = (chunks) => choices(chunks).map((choice) => choice.delta.content ?? "").join("");
const called = (calls) => calls.map((call) => [call.id, call.type, call.function.name, JSON.parse(call.function.arguments)]);
const CALLED = [
  ["call_1", "function", "weather", { place: "Rome" }],
  ["call_2", "function", "weather", { place: "Oslo" }],
];

put("chat.whole", async () => {
  const answer = await chat();
  same([answer.id.slice(0, 4), answer.object, answer.model], ["gen-", "chat.completion", c.MODEL]);
  same([answer.choices[0].finishReason, answer.choices[0].message.content.length > 20], ["stop", true]);
  same([answer.usage.cost > 0, answer.usage.cost < 0.001], [true, true]);
  same(answer.usage.costDetails.upstreamInferencePromptCost, 0);
  same((await chat({ maxTokens: 3 })).choices[0].finishReason, "length");
});

put("chat.stream", async () => {
  const whole = await chat();
  const chunks = await all(await chat({ stream: true }));
  same(texts(chunks), whole.choices[0].message.content);
  same(chunks.filter((chunk) => chunk.usage), [chunks.at(-1)]);
  same(chunks.at(-1).usage.cost, whole.usage.cost);
});

put("chat.tools", async () => {
  const { choices: [choice] } = await chat({ model: c.PRIME, messages: ASKED, tools: [TOOL], toolChoice: "auto", parallelToolCalls: true });
  same([choice.finishReason, choice.message.content], ["tool_calls", "One moment."]);
  same(called(choice.message.toolCalls), CALLED);
  const results = choice.message.toolCalls.map((call) => ({ role: "tool", toolCallId: call.id, content: call.id }));
  const last = await chat({ model: c.PRIME, messages: [...ASKED, choice.message, ...results], tools: [TOOL] });
  same(last.choices[0].message.content, "The tool says: call_1, call_2");
});

put("chat.tools_stream", async () => {
  const chunks = await all(await chat({ model: c.PRIME, messages: ASKED, tools: [TOOL], stream: true }));
  const pieces = choices(chunks).flatMap((choice) => choice.delta.toolCalls ?? []);
  const calls = CALLED.map((_, at) => {
    const mine = pieces.filter((piece) => piece.index === at);
    return { ...mine[0], function: { name: mine[0].function.name, arguments: mine.map((piece) => piece.function.arguments ?? "").join("") } };
  });
  same(called(calls), CALLED);
  same(choices(chunks).at(-1).finishReason, "tool_calls");
});

put("chat.schema", async () => {
  const responseFormat = { type: "json_schema", jsonSchema: { name: "forecast", strict: true, schema: c.SCHEMA } };
  for (const model of [c.PRIME, c.SONNET])
    same(JSON.parse((await chat({ model, responseFormat })).choices[0].message.content), c.FORECAST);
});

put("chat.reasoning", async () => {
  for (const model of [c.PRIME, c.SONNET]) {
    const more = { model, maxTokens: 4000, reasoning: { effort: "high" } };
    const { message } = (await chat(more)).choices[0];
    same([message.reasoning, message.content], [c.THOUGHT, c.SENTENCE]);
    const chunks = await all(await chat({ ...more, stream: true }));
    same(choices(chunks).map((choice) => choice.delta.reasoning ?? "").join(""), c.THOUGHT);
    same(texts(chunks), c.SENTENCE);
  }
});

put("chat.images", async () => {
  const messages = [{ role: "user", content: [{ type: "image_url", imageUrl: { url: c.IMAGE } }] }];
  for (const model of [c.PRIME, c.SONNET]) same((await chat({ model, messages })).choices[0].message.content, c.SEEN);
});

put("chat.logprobs", async () => {
  const more = { model: c.PRIME, logprobs: true, topLogprobs: 2 };
  const { logprobs } = (await chat(more)).choices[0];
  same(logprobs.content.map((token) => token.token).join(""), c.SENTENCE);
  same(logprobs.content[0].topLogprobs.map((top) => [top.token, top.logprob]), [["Holds", -0.5], ["?", -2.5]]);
  const given = choices(await all(await chat({ ...more, stream: true })));
  same(given.flatMap((choice) => choice.logprobs?.content ?? []).map((token) => token.token).join(""), c.SENTENCE);
});

put("chat.usage", async () => {
  const chunks = await all(await chat({ model: c.PRIME, stream: true }));
  for (const { usage } of [await chat({ model: c.PRIME }), chunks.at(-1)]) {
    same([usage.promptTokens, usage.completionTokens, usage.totalTokens], [1000, 200, 1200]);
    same([usage.promptTokensDetails.cachedTokens, usage.completionTokensDetails.reasoningTokens], [300, 50]);
    near(usage.cost, c.PRIME_COST);
  }
});

put("chat.anthropic", async () => {
  const loud = [{ role: "system", content: "Be LOUD" }, ...QUESTION];
  same((await chat({ model: c.SONNET, messages: loud })).choices[0].message.content, c.SENTENCE.toUpperCase());
  const more = { model: c.SONNET, tools: [TOOL], maxTokens: 4000, reasoning: { effort: "high" } };
  const { choices: [choice], usage } = await chat({ ...more, messages: ASKED });
  same([choice.message.reasoning, choice.finishReason], [c.THOUGHT, "tool_calls"]);
  same(called(choice.message.toolCalls).map((call) => call[3]), [{ place: "Rome" }, { place: "Oslo" }]);
  same([usage.promptTokens, usage.promptTokensDetails.cachedTokens, usage.promptTokensDetails.cacheWriteTokens], [1000, 300, 100]);
  near(usage.cost, c.SONNET_COST);
  const results = choice.message.toolCalls.map((call) => ({ role: "tool", toolCallId: call.id, content: "Sunny" }));
  const last = await chat({ ...more, messages: [...ASKED, choice.message, ...results] });
  same(last.choices[0].message.content, "The tool says: Sunny, Sunny");
});

put("chat.routing", async () => {
  const wanted = { model: undefined, models: [c.BUSY, c.PRIME], provider: { dataCollection: "deny" } };
  const answer = await chat(wanted, client, { xOpenRouterMetadata: "enabled" });
  same([answer.model, answer.openrouterMetadata.attempts.map((attempt) => attempt.provider)], [c.PRIME, ["Acme"]]);
});

put("chat.broken", async () => {
  const chunks = await all(await chat({ messages: [{ role: "user", content: "[[fail:cut]]" }], stream: true }));
  const [last] = chunks.filter((chunk) => chunk.error);
  same([last.error.code, last.error.message, last.choices[0].finishReason], [502, "The provider's answer broke off.", "error"]);
});

put("responses.whole", async () => {
  const response = await respond({ instructions: "Be brief", metadata: { a: "b" } });
  same([response.id.slice(0, 4), response.object, response.status], ["gen-", "response", "completed"]);
  same([response.output.map((item) => item.type), response.metadata], [["message"], { a: "b" }]);
  same([response.output[0].content[0].text.length > 20, response.usage.cost > 0], [true, true]);
  same(response.usage.costDetails.upstreamInferenceInputCost, 0);
});

put("responses.stream", async () => {
  const whole = await respond();
  const told = await all(await respond({ stream: true }));
  const { text } = whole.output[0].content[0];
  same(told.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join(""), text);
  same(told.map((event) => event.sequenceNumber), told.map((_, number) => number));
  same([new Set(told.map((event) => event.type)).size, told.some((event) => event.isUnknown)], [9, false]);
  same([told.at(-1).type, told.at(-1).response.output[0].content[0].text], ["response.completed", text]);
  same(told.at(-1).response.usage.cost, whole.usage.cost);
});

put("responses.tools", async () => {
  const first = await respond({ model: c.PRIME, input: ASKED, tools: [RESPONSE_TOOL] });
  const calls = first.output.filter((item) => item.type === "function_call");
  same(calls.map((call) => [call.name, JSON.parse(call.arguments).place]), [["weather", "Rome"], ["weather", "Oslo"]]);
  const results = calls.map((call) => ({ type: "function_call_output", callId: call.callId, output: call.callId }));
  const told = await all(await respond({ model: c.PRIME, input: [...ASKED, ...first.output, ...results], tools: [RESPONSE_TOOL], stream: true }));
  same(told.at(-1).response.output[0].content[0].text, "The tool says: call_1, call_2");
});

put("responses.schema", async () => {
  const text = { format: { type: "json_schema", name: "forecast", strict: true, schema: c.SCHEMA } };
  for (const model of [c.PRIME, c.SONNET])
    same(JSON.parse((await respond({ model, text })).output[0].content[0].text), c.FORECAST);
});

put("responses.reasoning", async () => {
  for (const model of [c.PRIME, c.SONNET]) {
    const { output } = await respond({ model, maxOutputTokens: 4000, reasoning: { effort: "high" } });
    same(output.map((item) => item.type), ["reasoning", "message"]);
    same([output[0].content[0].text, output[1].content[0].text], [c.THOUGHT, c.SENTENCE]);
  }
});

put("responses.images", async () => {
  const input = [{ role: "user", content: [{ type: "input_image", imageUrl: c.IMAGE, detail: "auto" }] }];
  same((await respond({ model: c.PRIME, input })).output[0].content[0].text, c.SEEN);
});

put("responses.usage", async () => {
  const { usage } = await respond({ model: c.PRIME });
  same([usage.inputTokens, usage.outputTokens, usage.totalTokens], [1000, 200, 1200]);
  same([usage.inputTokensDetails.cachedTokens, usage.outputTokensDetails.reasoningTokens], [300, 50]);
  near(usage.cost, c.PRIME_COST);
});

put("responses.stored", async () => {
  same(await refused(() => respond({ previousResponseId: "resp_1" })), ["BadRequestResponseError", 400]);
});

put("responses.broken", async () => {
  const told = await all(await respond({ input: "[[fail:cut]]", stream: true }));
  same(told.slice(-2).map((event) => event.type), ["error", "response.failed"]);
  same(told.at(-1).response.error.message, "The provider's answer broke off.");
});

put("embeddings.floats", async () => {
  const given = await embed({ input: ["Hello there", "Goodbye"], dimensions: 8 });
  same([given.object, given.model, given.data.map((each) => each.embedding.length)], ["list", c.EMBEDDER, [8, 8]]);
  same(given.usage.promptTokens, 3);
  near(given.usage.cost, 3 * 0.00000002);
});

put("embeddings.base64", async () => {
  const floats = (await embed({ dimensions: 8 })).data[0].embedding;
  const packed = Buffer.from((await embed({ dimensions: 8, encodingFormat: "base64" })).data[0].embedding, "base64");
  same(floats.every((each, at) => Math.abs(each - packed.readFloatLE(at * 4)) < 1e-6), true);
});

const paged = async (pages) => (await all(await pages)).map((page) => page.result.data.map((model) => model.id)).filter((page) => page.length);

put("embeddings.models", async () => {
  same(await paged(client.embeddings.listModels()), [[c.EMBEDDER]]);
});

put("models.list", async () => {
  same(await paged(client.models.list({ limit: 3 })), [c.TEXT_MODELS.slice(0, 3), c.TEXT_MODELS.slice(3, 6), c.TEXT_MODELS.slice(6)]);
  same(await paged(client.models.list()), [c.TEXT_MODELS]);
  same(await paged(client.models.list({ q: "prime" })), [[c.PRIME]]);
});

put("models.count", async () => {
  same((await client.models.count()).data.count, c.TEXT_MODELS.length);
});

put("models.user", async () => {
  same(await paged(client.models.listForUser({ bearer: c.API_KEY })), [c.TEXT_MODELS]);
  same(await refused(() => client.models.listForUser({ bearer: c.MADE_UP_KEY })), ["UnauthorizedResponseError", 401]);
});

put("models.get", async () => {
  const model = (await client.models.get({ author: "acme", slug: "prime" })).data;
  same([model.id, model.name, model.contextLength], [c.PRIME, "Acme Prime", 32768]);
  same([Number(model.pricing.prompt), Number(model.pricing.inputCacheRead)], [0.000001, 0.0000001]);
  same(await refused(() => client.models.get({ author: "acme", slug: "nothing" })), ["NotFoundResponseError", 404]);
});

put("endpoints.list", async () => {
  const model = (await client.endpoints.list({ author: "acme", slug: "prime" })).data;
  same([model.id, model.endpoints.map((endpoint) => [endpoint.providerName, endpoint.tag])], [c.PRIME, [["Acme", "acme"]]]);
  same(await refused(() => client.endpoints.list({ author: "acme", slug: "nothing" })), ["NotFoundResponseError", 404]);
});

put("endpoints.zdr", async () => {
  const found = (await client.endpoints.listZdrEndpoints()).data.map((endpoint) => endpoint.modelId);
  same([c.PRIME, c.SONNET, c.BUSY].map((model) => found.includes(model)), [true, false, false]);
});

put("providers.list", async () => {
  const found = Object.fromEntries((await client.providers.list()).data.map((provider) => [provider.slug, provider.name]));
  same([found.acme, found.claudius, found.busy], ["Acme", "Claudius", "Busy"]);
});

put("generation", async () => {
  const answer = await chat({ model: undefined, models: [c.BUSY, c.SONNET], user: "u-1", sessionId: "s-1" }, client, { httpReferer: "https://app.example" });
  const found = (await client.generations.getGeneration({ id: answer.id })).data;
  same([found.id, found.model, found.providerName], [answer.id, c.SONNET, "Claudius"]);
  near(found.totalCost, c.SONNET_COST);
  same([found.nativeTokensPrompt, found.nativeTokensCompletion, found.nativeTokensCached, found.nativeTokensReasoning], [1000, 200, 300, 50]);
  same([found.externalUser, found.sessionId, found.httpReferer, found.upstreamId], ["u-1", "s-1", "https://app.example", "msg_1"]);
  same(found.providerResponses.map((each) => [each.status, each.providerName, each.id]), [[503, "Busy", undefined], [200, "Claudius", "msg_1"]]);
  const embedded = await embed();
  same((await client.generations.getGeneration({ id: embedded.id })).data.apiType, "embeddings");
  same(await refused(() => client.generations.getGeneration({ id: "gen-none" })), ["NotFoundResponseError", 404]);
});

put("key", async () => {
  const before = (await client.apiKeys.getCurrentKeyMetadata()).data;
  const { cost } = (await chat({ model: c.PRIME })).usage;
  const key = (await client.apiKeys.getCurrentKeyMetadata()).data;
  same(key.label, `${c.API_KEY.slice(0, 16)}...${c.API_KEY.slice(-4)}`);
  near(key.usageDaily, before.usageDaily + cost);
  same([key.limit, key.isManagementKey, key.organizationId, key.creatorUserId], [null, false, c.ORGANIZATION, c.USER_ID]);
  same((await management.apiKeys.getCurrentKeyMetadata()).data.isManagementKey, true);
});

put("keys", async () => {
  const made = await management.apiKeys.create({ requestBody: { name: "suite", limit: 1.5, limitReset: "weekly" } });
  same([made.data.name, made.data.limit, made.data.limitRemaining, made.data.limitReset], ["suite", 1.5, 1.5, "weekly"]);
  const { cost } = (await chat({ model: c.PRIME }, clientOf(made.key))).usage;
  const { hash } = made.data;
  near((await management.apiKeys.get({ hash })).data.limitRemaining, 1.5 - cost);
  same((await management.apiKeys.list()).data.some((key) => key.hash === hash), true);
  const changed = (await management.apiKeys.update({ hash, requestBody: { limit: 0, name: "spent" } })).data;
  same([changed.name, changed.limit, changed.limitRemaining], ["spent", 0, 0]);
  same(await refused(() => chat({ model: c.PRIME }, clientOf(made.key))), ["ForbiddenResponseError", 403]);
  const expiresAt = new Date(Math.floor(Date.now() / 1000) * 1000 + 30 * 86_400_000);
  const expiring = await management.apiKeys.create({ requestBody: { name: "for a month", expiresAt } });
  same(expiring.data.expiresAt?.getTime(), expiresAt.getTime());
  const itself = await clientOf(expiring.key).apiKeys.getCurrentKeyMetadata();
  same(itself.data.expiresAt?.getTime(), expiresAt.getTime());
  await management.apiKeys.delete({ hash: expiring.data.hash });
  same((await management.apiKeys.delete({ hash })).deleted, true);
  same(await refused(() => management.apiKeys.get({ hash })), ["NotFoundResponseError", 404]);
});

put("keys.rotation", async () => {
  const old = await management.apiKeys.create({ requestBody: { name: "production", limit: 2 } });
  await chat({}, clientOf(old.key));
  const next = await management.apiKeys.create({ requestBody: { name: "production", limit: 2 } });
  await chat({}, clientOf(next.key));
  await management.apiKeys.delete({ hash: old.data.hash });
  same(await refused(() => chat({}, clientOf(old.key))), ["UnauthorizedResponseError", 401]);
  await chat({}, clientOf(next.key));
  await management.apiKeys.delete({ hash: next.data.hash });
});

put("organization.members", async () => {
  const page = await management.organization.listMembers();
  const members = page.result.data;
  same([page.result.totalCount, members.length], [2, 2]);
  same([members[0].id, members[0].role, members[0].firstName], [c.USER_ID, "org:admin", "Ana"]);
  same(members[1].role, "org:member");
  same(await refused(() => personalManagement.organization.listMembers()), ["NotFoundResponseError", 404]);
});

put("credits", async () => {
  const before = (await management.credits.getCredits()).data;
  const { cost } = (await chat({ model: c.PRIME })).usage;
  const found = (await management.credits.getCredits()).data;
  same(found.totalCredits, 10);
  near(found.totalUsage, before.totalUsage + cost);
});

// Class and status of the exception, whose body is OpenRouter's.
async function refused(work) {
  const error = await thrown(work);
  same(error instanceof errors.OpenRouterError ? [] : [String(error)], []);
  const body = JSON.parse(error.body);
  same([body.error.code, body.error.message.length > 0], [error.statusCode, true]);
  same(error.error.code, error.statusCode);
  return [error.constructor.name, error.statusCode];
}

const says = (content) => ({ messages: [{ role: "user", content }] });
const failures = {
  "errors.400": ["BadRequestResponseError", 400, () => chat({ model: "demo/eco-1" }), () => embed({ model: c.MODEL })],
  "errors.401": ["UnauthorizedResponseError", 401, () => chat({}, madeUp), () => madeUp.apiKeys.getCurrentKeyMetadata()],
  "errors.402": ["PaymentRequiredResponseError", 402, () => chat({}, broke), () => chat({ stream: true }, broke), () => respond({}, broke)],
  "errors.403": ["ForbiddenResponseError", 403, () => chat({}, management), () => client.credits.getCredits()],
  "errors.404": ["NotFoundResponseError", 404, () => chat({ provider: { only: ["nobody"] } })],
  "errors.413": ["PayloadTooLargeResponseError", 413, () => chat(says(c.TOO_LARGE))],
  "errors.429": ["TooManyRequestsResponseError", 429, () => chat({}, crowded)],
  "errors.502": ["BadGatewayResponseError", 502, () => chat(says("[[fail:500]]"))],
  "errors.503": ["ServiceUnavailableResponseError", 503, () => chat(says("[[fail:503]]"))],
  "errors.busy": ["ServiceUnavailableResponseError", 503, () => chat({ model: c.BUSY })],
};
for (const [operation, [name, status, ...works]] of Object.entries(failures)) {
  const work = async () => {
    for (const each of works) same(await refused(each), [name, status]);
  };
  put(operation, work, operation === "errors.busy" ? c.BUSY_SENTENCE : null);
}

const { version } = JSON.parse(readFileSync(createRequire(import.meta.url).resolve("@openrouter/sdk/package.json")));
await c.run(version);
