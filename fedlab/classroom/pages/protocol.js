// The wire: what a student's phone says to the server, and what is said again when an answer got
// lost. Nothing of a page is in here; docs/protocol.md has the rules.

import { read, write } from "./safetensors.js";

const FIRST_WAIT = 300, LONGEST_WAIT = 5_000; // milliseconds between two tries
const PATIENCE = 20; // seconds for an answer that is due at once
const POLL = 10; // seconds of a long poll
const TYPE = "application/vnd.safetensors";

// The server does not want this. A program decides by `kind`, and shows `message`.
export class Refusal extends Error {
  constructor(status, kind, message) {
    super(message);
    Object.assign(this, { status, kind });
  }
}

// It was told to stop.
export class Stopped extends Error {}

// A function that asks the server at `base`, as often as it takes. signal: an AbortSignal; then it
// throws Stopped. away: called with true when the server does not answer, with false when it does.
export function speaker(base, { signal, away = () => {} } = {}) {
  // One request until it was answered: {status, body: ArrayBuffer}. Throws Refusal for a refusal.
  // json: an object, or a function that says what is so at each try.
  return async function say(method, path, { token, json, body, headers = {}, patience } = {}) {
    for (let limit = FIRST_WAIT; ; limit = Math.min(2 * limit, LONGEST_WAIT)) {
      const content = json ? JSON.stringify(typeof json === "function" ? json() : json) : body;
      const said = {
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(json && { "Content-Type": "application/json" }), ...headers,
      };
      const request = { method, headers: said, body: content, cache: "no-store" };
      const answer = await once(new URL(path, base), request, patience ?? PATIENCE, signal);
      if (answer && answer.status !== 408 && answer.status < 500) {
        away(false);
        if (answer.status < 400) return answer;
        throw refusal(answer);
      }
      away(true);
      // By chance, so that a class does not come back all in one moment
      await pause(limit * (0.5 + Math.random() / 2), signal);
    }
  };
}

// {status, body}, or null where no answer came.
async function once(url, request, seconds, signal) {
  if (signal?.aborted) throw new Stopped();
  const control = new AbortController(), stop = () => control.abort();
  const timer = setTimeout(stop, 1000 * seconds);
  signal?.addEventListener("abort", stop);
  try {
    const answer = await fetch(url, { ...request, signal: control.signal });
    return { status: answer.status, body: await answer.arrayBuffer() };
  } catch {
    if (signal?.aborted) throw new Stopped();
    return null;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

// So many milliseconds; throws Stopped when it is told to stop meanwhile.
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new Stopped());
    const stop = () => (clearTimeout(timer), reject(new Stopped()));
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

const parsed = body => JSON.parse(new TextDecoder().decode(body));

function refusal({ status, body }) {
  try {
    const { kind, error } = parsed(body);
    return new Refusal(status, String(kind), String(error));
  } catch {
    return new Refusal(status, "http", `The server answered ${status}.`);
  }
}

// ---- the class ----------------------------------------------------------------------------------

// {client, token, seed, class}. about: {code, session, again}
export async function enrol(say, about) {
  const { body } = await say("POST", "students", { json: { kind: "phone", ...about } });
  return parsed(body);
}

// What is so in the class. telling: what this phone tells, or a function that says it.
export async function tell(say, token, telling) {
  const { body } = await say("POST", "students/me", { token, json: telling });
  return parsed(body);
}

// ---- the federation -----------------------------------------------------------------------------

// This client's own token.
export async function join(say, token, client, examples, session) {
  const json = { client, num_examples: examples, session };
  const { body } = await say("POST", "clients", { token, json });
  return parsed(body).token ?? token;
}

// The next task, or null where there is none yet.
export async function nextTask(say, token, client) {
  const path = `task?client=${encodeURIComponent(client)}&wait=${POLL}`;
  const { status, body } = await say("GET", path, { token, patience: POLL + 20 });
  return status === 204 ? null : taskOf(read(body));
}

// True where it was counted (now or before), false where it came too late.
export async function sendUpdate(say, token, body) {
  try {
    await say("POST", "updates", { token, body, headers: { "Content-Type": TYPE }, patience: 60 });
    return true;
  } catch (error) {
    if (error.status !== 409) throw error;
    return error.kind === "already_counted";
  }
}

// {version, weights} of the global model.
export async function latest(say, token) {
  const { arrays, texts } = read((await say("GET", "model", { token, patience: 60 })).body);
  return { version: Number(texts.version), ...weightsOf(arrays) };
}

// Leave, without waiting for an answer: the page may be going. reason: where it has failed.
export function leave(base, token, client, reason = "") {
  const headers = { Authorization: `Bearer ${token}` };
  if (reason) headers["X-Reason"] = reason.replace(/[^ -~]/g, " ").slice(0, 300);
  const url = new URL(`clients/${encodeURIComponent(client)}`, base);
  return fetch(url, { method: "DELETE", headers, keepalive: true }).catch(() => {});
}

// The same for a word to the class.
export function tellLast(base, token, telling) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(telling), keepalive: true };
  return fetch(new URL("students/me", base), request).catch(() => {});
}

// ---- messages -----------------------------------------------------------------------------------

// The weights in their order, and the names of arrays that are none.
function weightsOf(arrays) {
  const names = Object.keys(arrays).sort(), own = names.filter(name => /^\d{4}$/.test(name));
  return {
    weights: own.map(name => arrays[name].data),
    shapes: own.map(name => arrays[name].shape),
    more: names.filter(name => !own.includes(name)),
  };
}

function taskOf({ arrays, texts }) {
  return {
    ...weightsOf(arrays),
    texts, // as they came: an update says some of them again
    round: Number(texts.round), rounds: Number(texts.rounds), version: Number(texts.version),
    training: {
      epochs: Number(texts.epochs),
      batchSize: texts.batch_size === "all" ? null : Number(texts.batch_size),
      learningRate: Number(texts.learning_rate),
      proximal: Number(texts.proximal ?? 0),
    },
  };
}

// The bytes of an update that answers this task.
export function updateOf(task, client, examples, weights, { accuracy = NaN, loss = NaN } = {}) {
  const { round, phase, version, run, codec } = task.texts;
  const number = value => (Number.isFinite(value) ? String(value) : "nan");
  const arrays = Object.fromEntries(weights.map((data, place) => [
    String(place).padStart(4, "0"), { shape: task.shapes[place], data },
  ]));
  const texts = {
    kind: "update", client, round, phase, version, run, num_examples: String(examples),
    accuracy: number(accuracy), loss: number(loss), ...(codec === "float16" && { codec }),
  };
  return write(arrays, texts, codec === "float16");
}
