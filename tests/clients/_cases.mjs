// What the scripts of the Node clients share; `_cases.py` says the same for Python, and what a case is.

import assert from "node:assert/strict";

export const MODEL = "demo/echo-1";
export const EMBEDDER = "demo/embed-1";
export const PRIME = "acme/prime";
export const SONNET = "acme/sonnet";
export const BUSY = "acme/busy";
export const BUSY_SENTENCE =
  "Answered 503 with `Retry-After`, as the client's key is within its limits.";
export const TEXT_MODELS = [BUSY, "acme/endless", PRIME, SONNET, MODEL, "demo/flat-1", "demo/free-1", "demo/scholar-1"];
export const SENTENCE = "Holds keep the books honest.";
export const THOUGHT = "Let me think about it.";
export const FORECAST = { place: "Rome", celsius: 21 };
export const SCHEMA = {
  type: "object",
  properties: { place: { type: "string" }, celsius: { type: "integer" } },
  required: ["place", "celsius"],
  additionalProperties: false,
};
export const PLACE = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";
export const IMAGE = `data:image/png;base64,${PIXEL}`;
export const SEEN = "I see image/png of 68 bytes.";
export const PRIME_COST = 0.00118;
export const SONNET_COST = 0.001205;
export const TOO_LARGE = "x".repeat(20 * 1024 * 1024 + 1);
export const MADE_UP_KEY = "sk-bursar-v1-made-up";
export const { API_BASE, API_KEY, MANAGEMENT_KEY, BROKE_KEY, CROWDED_KEY, PERSONAL_MANAGEMENT_KEY, ORGANIZATION, USER_ID } = process.env;

export const same = (seen, wanted) => assert.deepEqual(seen, wanted);
export const near = (seen, wanted) => assert.ok(Math.abs(seen - wanted) < 1e-12, `${seen}, wanted ${wanted}`);

const cases = new Map();
let timer;

// Puts a function on the list. `differs` is the sentence of the matrix where it is not simply ✓.
export function put(operation, work, differs = null) {
  assert.ok(!cases.has(operation), operation);
  cases.set(operation, { work, differs });
}

// The only error that `work` ends with.
export async function thrown(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("it was not refused");
}

export async function all(stream) {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
}

// Runs every case and prints `{"version", "cases": {operation: {"differs", "failed"}}}`.
export async function run(version) {
  const found = {};
  for (const [operation, { work, differs }] of cases) {
    let failed = null;
    // Keeps Node from leaving where nothing can happen any more, and says so.
    const stuck = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error("it never ends")), 30_000); });
    try {
      await Promise.race([work(), stuck]);
    } catch (error) {
      failed = String(error?.stack ?? error).slice(0, 3000);
    } finally {
      clearTimeout(timer);
    }
    found[operation] = { differs, failed };
  }
  console.log(JSON.stringify({ version, cases: found }));
}
