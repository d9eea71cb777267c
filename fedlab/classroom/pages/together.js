// Taking part: join, fetch, measure, train, send, and again until the run is over. It knows of no
// page: what happens is told to `said`.

import { Refusal, Stopped, join, leave, nextTask, pause, sendUpdate, speaker, updateOf }
  from "./protocol.js";
import { SHAPES } from "./network.js";

const NOTHING = { images: new Float32Array(0), labels: new Uint8Array(0) };
const SHORTEST_POLL = 500; // milliseconds: a server that does not hold a question is not flooded

// Takes part until the run is over. Throws Stopped when `signal` says so, Refusal when the server
// does not want this client, or its training cannot be done.
//
// token:    admits to joining; what joining answers is sent from then on.
// examples, heldOut: {images, labels}, or functions that say what is so now: each task is trained
//           on what is so when it comes; with another number of examples it joins again.
// trainer:  of trainer.js. models: {lineage, first, alone}, kept from one call to the next: the
//           first model that was sent, and one that is only ever trained on this phone's examples.
// said:     called with {doing: "waiting"}, {doing: "training", round, rounds, epochs, examples,
//           part}, {doing: "sending"}, {doing: "sent"} or "late", {measured: {...}} and
//           {models}.
// away:     as in `speaker`.
export async function takePart({
  base, token, client, session, examples, heldOut = NOTHING, trainer, models = {},
  said = () => {}, away, signal,
}) {
  const say = speaker(base, { signal, away });
  const now = data => (typeof data === "function" ? data() : data);
  let own = token, mine = NOTHING, again = false;

  async function joinNow() {
    mine = now(examples);
    own = await join(say, token, client, mine.labels.length, session);
  }

  // The examples as they are now: also with the same number, one may be another, or be called so.
  async function lookAgain() {
    const joined = mine.labels.length;
    mine = now(examples);
    if (mine.labels.length !== joined) await known(joinNow);
  }

  // What was asked; where the server has forgotten this client it joins again, once, and then the
  // answer is undefined.
  async function known(asked) {
    try {
      const answer = await asked();
      again = false;
      return answer;
    } catch (error) {
      const forgotten = error.kind === "unknown_client" || error.status === 401;
      if (!(error instanceof Refusal) || !forgotten || again) throw error;
      again = true;
      await joinNow();
    }
  }

  // A refusal of our own: the server is told why this client goes.
  function fail(kind, sentence) {
    leave(base, own, client, sentence);
    throw new Refusal(0, kind, sentence);
  }

  async function answer(task) {
    await lookAgain();
    const { round, rounds, version, training, texts } = task, count = mine.labels.length;
    const { epochs } = training, { lineage } = texts;
    const about = { round, rounds, lineage, epochs, examples: count };
    const seed = [texts.seed, round, client].join("\n"), aside = now(heldOut);
    said({ doing: "training", part: 0, ...about });
    const measured = await measure(trainer, aside, task.weights, models, texts.lineage);
    said({ measured: { version, lineage: texts.lineage, ...measured } });
    const progress = part => said({ doing: "training", part, ...about });
    const trained = await trainer.train(measured.weights, mine, training, seed, progress);
    if (!trained.every(finite)) {
      fail("diverged", `training diverged in round ${round} with learning_rate`
        + ` ${texts.learning_rate}: the weights are not finite any more`);
    }
    const { correct, total, loss, weights } = await trainer.measure(trained, aside);
    if (signal?.aborted) throw new Stopped();
    said({ doing: "sending", ...about });
    const accuracy = total ? correct / total : NaN;
    const body = updateOf(task, client, count, weights, { accuracy, loss });
    const taken = await known(() => sendUpdate(say, own, body));
    said({ doing: taken ? "sent" : "late", ...about });
    // Afterwards, so that nobody waits for it. Not on: such a model is not sent anywhere.
    models.alone = await trainer.train(models.alone, mine, training, `${seed}\nalone`);
    said({ models });
  }

  try {
    await joinNow();
    while (!signal?.aborted) {
      await lookAgain();
      said({ doing: "waiting" });
      const asked = performance.now(), task = await known(() => nextTask(say, own, client));
      if (task) {
        const sentence = unfit(task);
        if (sentence) fail("unfit", sentence);
        await trainer.inTurn(() => answer(task));
      } else if (performance.now() - asked < SHORTEST_POLL) await pause(SHORTEST_POLL, signal);
    }
  } catch (error) {
    if (error.status === 410 && error.kind !== "run_failed") return;
    throw error;
  }
  throw new Stopped();
}

const finite = array => array.every(Number.isFinite);

// How the global model, the first one and the one of this phone alone fare on the same digits that
// none of them was trained on here: {correct, before, alone, total, answers, ids, weights}. Handed
// over to the Worker, they come back. With another lineage than before (the server has begun again,
// with another untrained model) the comparison begins again, too.
export async function measure(trainer, aside, weights, models, lineage) {
  if (!models.first || models.lineage !== lineage) {
    const copied = () => weights.map(w => w.slice());
    Object.assign(models, { lineage, first: copied(), alone: copied() });
  }
  const global = await trainer.measure(weights, aside);
  const before = await trainer.measure(models.first, aside);
  const alone = await trainer.measure(models.alone, aside);
  [models.first, models.alone] = [before.weights, alone.weights];
  return {
    correct: global.correct, before: before.correct, alone: alone.correct, total: global.total,
    answers: global.answers, ids: aside.ids, weights: global.weights,
  };
}

// Why this page cannot do what a task asks for; "" where it can.
function unfit({ texts, shapes, more, training }) {
  const { phase, codec, optimizer, shard_by_shard: shards } = texts;
  if (phase !== "train") return `the phase is ${phase}; expected train`;
  if (!["dense", "float16"].includes(codec)) return `the codec is ${codec}; expected dense`;
  if (optimizer !== "sgd") return `the optimizer is ${optimizer}; expected sgd`;
  if (shards !== "0") return "training shard by shard; expected all examples at once";
  if (more.length) return `the task has ${more[0]}; expected nothing but weights`;
  if (JSON.stringify(shapes) !== JSON.stringify(SHAPES)) {
    return `the model has the shapes ${JSON.stringify(shapes)}; expected those of the 2NN`;
  }
  const { epochs, batchSize, learningRate, proximal } = training;
  const good = epochs >= 1 && (batchSize === null || batchSize >= 1) && learningRate > 0;
  return good && proximal >= 0 ? "" : "the training's numbers cannot be read; expected E, B, η, μ";
}
