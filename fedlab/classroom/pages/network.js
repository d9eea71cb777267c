// The 2NN (784-200-200-10, ReLU, softmax) and its training, in plain arrays: no library, no
// graphics processor. Weights are six Float32Arrays in the order of the wire: kernel, bias, kernel,
// bias, kernel, bias; a kernel row by row.
//
// It is fast for two reasons: the inner loops run along rows, as the numbers lie in memory; and a
// pixel that is zero (four of five are) costs nothing, neither forwards nor backwards.

export const PIXELS = 784;
export const SHAPES = [[784, 200], [200], [200, 200], [200], [200, 10], [10]];
const [HIDDEN, CLASSES] = [200, 10];

// What the layers of each image of a batch hold, and what flows back through them.
function room(images) {
  return {
    one: new Float32Array(images * HIDDEN),
    two: new Float32Array(images * HIDDEN),
    out: new Float32Array(images * CLASSES),
    backTwo: new Float32Array(images * HIDDEN),
    backOne: new Float32Array(images * HIDDEN),
  };
}

// to[at..] = bias + from[start..] · kernel; negative numbers become zero where `relu`.
function layer(from, start, length, kernel, bias, to, at, relu) {
  const width = bias.length;
  for (let j = 0; j < width; j++) to[at + j] = bias[j];
  for (let i = 0; i < length; i++) {
    const value = from[start + i];
    if (value === 0) continue;
    const row = i * width;
    for (let j = 0; j < width; j++) to[at + j] += value * kernel[row + j];
  }
  if (relu) for (let j = 0; j < width; j++) if (to[at + j] < 0) to[at + j] = 0;
}

// The logits of one image, in place `n` of the room.
function forward(weights, images, image, { one, two, out }, n) {
  const [w1, b1, w2, b2, w3, b3] = weights;
  layer(images, image * PIXELS, PIXELS, w1, b1, one, n * HIDDEN, true);
  layer(one, n * HIDDEN, HIDDEN, w2, b2, two, n * HIDDEN, true);
  layer(two, n * HIDDEN, HIDDEN, w3, b3, out, n * CLASSES, false);
}

// From logits to probabilities, in place; the cross-entropy with this label, in nats. From logits,
// so that it stays finite as long as they are.
function softmax(out, at, label) {
  let most = -Infinity, sum = 0;
  for (let k = 0; k < CLASSES; k++) most = Math.max(most, out[at + k]);
  const loss = most - out[at + label];
  for (let k = 0; k < CLASSES; k++) sum += out[at + k] = Math.exp(out[at + k] - most);
  for (let k = 0; k < CLASSES; k++) out[at + k] /= sum;
  return loss + Math.log(sum);
}

// back[at..] = kernel · flow[start..], only where the layer was not held at zero.
function backward(flow, start, width, kernel, layerOut, back, at) {
  for (let i = 0; i < HIDDEN; i++) {
    let sum = 0;
    if (layerOut[at + i] > 0) {
      const row = i * width;
      for (let j = 0; j < width; j++) sum += kernel[row + j] * flow[start + j];
    }
    back[at + i] = sum;
  }
}

// kernel and bias go down their gradient for one image: the step is `rate` long.
function descend(kernel, bias, from, start, length, flow, at, rate) {
  const width = bias.length;
  for (let i = 0; i < length; i++) {
    const value = from[start + i];
    if (value === 0) continue;
    const row = i * width, scaled = rate * value;
    for (let j = 0; j < width; j++) kernel[row + j] -= scaled * flow[at + j];
  }
  for (let j = 0; j < width; j++) bias[j] -= rate * flow[at + j];
}

// One step of SGD on these images, in place: w <- w - rate (g + mu (w - w0)), where g is the
// gradient of the batch's mean cross-entropy at the weights before the step.
export function step(weights, first, images, labels, batch, rate, mu, space = room(batch.length)) {
  const { one, two, out, backTwo, backOne } = space;
  const [w1, b1, w2, b2, w3, b3] = weights;
  for (const [n, image] of batch.entries()) {
    forward(weights, images, image, space, n);
    softmax(out, n * CLASSES, labels[image]);
    out[n * CLASSES + labels[image]] -= 1;
    backward(out, n * CLASSES, CLASSES, w3, two, backTwo, n * HIDDEN);
    backward(backTwo, n * HIDDEN, HIDDEN, w2, one, backOne, n * HIDDEN);
  }
  // Everything that needs the weights from before the step is known now.
  if (mu > 0) {
    for (const [layerNumber, w] of weights.entries()) {
      const w0 = first[layerNumber];
      for (let i = 0; i < w.length; i++) w[i] -= rate * mu * (w[i] - w0[i]);
    }
  }
  const share = rate / batch.length;
  for (const [n, image] of batch.entries()) {
    descend(w1, b1, images, image * PIXELS, PIXELS, backOne, n * HIDDEN, share);
    descend(w2, b2, one, n * HIDDEN, HIDDEN, backTwo, n * HIDDEN, share);
    descend(w3, b3, two, n * HIDDEN, HIDDEN, out, n * CLASSES, share);
  }
}

// E epochs of SGD, in place, each in another order. training: {epochs, batchSize (null: all),
// learningRate, proximal}. said: called with (steps done, steps planned).
export function train(weights, images, labels, training, seed, said = () => {}) {
  const { epochs, learningRate, proximal } = training, examples = labels.length;
  const size = Math.min(training.batchSize ?? examples, examples);
  const first = proximal > 0 ? weights.map(w => w.slice()) : weights;
  const random = generator(seed), order = Uint32Array.from(labels, (_, i) => i);
  const space = room(size), planned = epochs * Math.ceil(examples / size);
  let done = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    shuffle(order, random);
    for (let start = 0; start < examples; start += size) {
      const batch = order.subarray(start, start + size);
      step(weights, first, images, labels, batch, learningRate, proximal, space);
      said(++done, planned);
    }
  }
}

// {correct, total, loss (mean, nats), answers: the class given to each}; loss is NaN for no images.
export function measure(weights, images, labels) {
  const space = room(1), answers = [];
  let correct = 0, loss = 0;
  for (let image = 0; image < labels.length; image++) {
    forward(weights, images, image, space, 0);
    const answer = space.out.indexOf(Math.max(...space.out));
    answers.push(answer);
    if (answer === labels[image]) correct++;
    loss += softmax(space.out, 0, labels[image]);
  }
  return { correct, total: labels.length, loss: loss / labels.length, answers };
}

// ---- chance ------------------------------------------------------------------------------------

// A small generator of random numbers from 0 to 1 that begins with a text: the same text, the same
// numbers. (FNV-1a makes a number of the text, mulberry32 more of that.)
export function generator(text) {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function shuffle(list, random) {
  for (let i = list.length - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [list[i], list[other]] = [list[other], list[i]];
  }
  return list;
}
