// The Worker: trains and measures while the page stays awake to fingers. Weights come and go as
// transferred buffers, not as copies.

import { measure, train } from "./network.js";

const OFTEN = 40; // milliseconds between two words about progress

onmessage = ({ data: { id, what, weights, images, labels, training, seed } }) => {
  const buffers = weights.map(w => w.buffer);
  try {
    if (what === "measure") {
      const found = measure(weights, images, labels);
      postMessage({ id, done: { ...found, weights } }, buffers);
      return;
    }
    let told = 0;
    train(weights, images, labels, training, seed, (done, planned) => {
      const now = performance.now();
      if (now - told < OFTEN && done < planned) return;
      told = now;
      postMessage({ id, progress: done / planned });
    });
    postMessage({ id, done: { weights } }, buffers);
  } catch (error) {
    postMessage({ id, failed: String(error) });
  }
};
