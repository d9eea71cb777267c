// The page's side of the Worker: calls that answer promises. Weights that are handed over are the
// Worker's until it answers; use those of its answer.

export function trainer(address = new URL("./train.js", import.meta.url)) {
  const worker = new Worker(address, { type: "module" }), calls = new Map();
  let last = 0, before = Promise.resolve(), broken = null;
  worker.onmessage = ({ data: { id, progress, done, failed } }) => {
    const call = calls.get(id);
    if (progress !== undefined) return call.said(progress);
    calls.delete(id);
    if (done) call.resolve(done);
    else call.reject(new Error(failed));
  };
  worker.onerror = event => {
    broken = new Error(event.message || "no Worker");  // perhaps before the first call
    for (const call of calls.values()) call.reject(broken);
    calls.clear();
  };
  function ask(message, said = () => {}) {
    const id = ++last;
    if (broken) return Promise.reject(broken);
    return new Promise((resolve, reject) => {
      calls.set(id, { resolve, reject, said });
      worker.postMessage({ id, ...message }, message.weights.map(w => w.buffer));
    });
  }
  return {
    // data: {images: Float32Array, labels: Uint8Array}
    train: (weights, data, training, seed, said) =>
      ask({ what: "train", weights, ...data, training, seed }, said).then(done => done.weights),
    measure: (weights, data) => ask({ what: "measure", weights, ...data }),
    // One piece of work after the other: weights in the Worker's hands are nobody else's.
    inTurn: work => (before = before.then(work, work)),
    broken: () => broken !== null, // for good: another one may load
    end: () => worker.terminate(),
  };
}
