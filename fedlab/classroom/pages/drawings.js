// The digits that a student has kept: plain values and rules, no page and no storage.
//
// A collection is {made, drawings}: how many were ever kept, and those that are still there, each
// {id, label, aside, strokes}. A stroke is a flat list of whole numbers x, y, x, y, ... in a square
// of SIDE by SIDE.

import { prepare } from "./handwriting.js";
import { PIXELS, generator, shuffle } from "./network.js";

export const SIDE = 256;
export const EVERY = 5; // every fifth drawing is never trained on
export const MOST = 200; // more would not fit into what a browser keeps
const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const INKED = 0.6; // of the box of 20 by 20 pixels: more is no digit
const SMALLEST = 0.06; // of the paper: less is a touch by accident
const NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

export const nothing = () => ({ made: 0, drawings: [] });

// One more. Every fifth is put aside: which of them does not change when others are deleted.
export function kept({ made, drawings }, strokes, label) {
  const drawing = { id: made, label, aside: made % EVERY === EVERY - 1, strokes };
  return { made: made + 1, drawings: [...drawings, drawing] };
}

export function relabelled({ made, drawings }, id, label) {
  return { made, drawings: drawings.map(one => (one.id === id ? { ...one, label } : one)) };
}

export function without({ made, drawings }, id) {
  return { made, drawings: drawings.filter(one => one.id !== id) };
}

// How many there are of each digit.
export function counts({ drawings }) {
  return DIGITS.map(digit => drawings.filter(({ label }) => label === digit).length);
}

// Which digit to ask for: one of which there are fewest, in an order that changes with their
// number, so that not every phone puts the same ones aside.
export function nextDigit(collection, seed) {
  const have = counts(collection), fewest = Math.min(...have);
  const order = shuffle([...DIGITS], generator(`${seed} ${fewest}`));
  return order.find(digit => have[digit] === fewest);
}

// {drawn, train, heldOut, labels}: what the class is told.
export function summary(collection) {
  const { drawings } = collection, heldOut = drawings.filter(one => one.aside).length;
  const labels = counts(collection).filter(Boolean).length;
  return { drawn: drawings.length, train: drawings.length - heldOut, heldOut, labels };
}

// What is missing before one may train; "" for nothing.
export function missing(collection, least) {
  const { drawn, labels } = summary(collection), more = least - drawn;
  if (drawn > 1 && labels === 1) {
    const name = NAMES[collection.drawings[0].label], all = name === "six" ? "sixes" : `${name}s`;
    return `Draw other digits too: a model that only sees ${all} says ${name}.`;
  }
  if (more > 0) return `${more === 1 ? "One more digit" : `${more} more digits`}, then you train.`;
  return "";
}

// Why a drawing cannot be kept; "" where it can.
export function refused(strokes, image = imageOf(strokes)) {
  if (!strokes.length) return "There is nothing on the paper yet.";
  const points = strokes.flatMap(pairs), extent = place => {
    const values = points.map(point => point[place]);
    return Math.max(...values) - Math.min(...values);
  };
  const extents = Math.max(extent(0), extent(1));
  if (extents < SMALLEST * SIDE) return "That is only a dot. Draw it larger.";
  const ink = image.reduce((sum, value) => sum + value, 0);
  return ink > INKED * 400 ? "That is all ink. Undo, and draw the digit with one line." : "";
}

// ---- strokes and images ------------------------------------------------------------------------

function pairs(stroke) {
  const points = [];
  for (let i = 0; i < stroke.length; i += 2) points.push([stroke[i], stroke[i + 1]]);
  return points;
}

export const imageOf = strokes => prepare(strokes.map(pairs));

const images = new WeakMap(); // of strokes: making one takes a moment

export function imageOfKept({ strokes }) {
  if (!images.has(strokes)) images.set(strokes, imageOf(strokes));
  return images.get(strokes);
}

// {images, labels} of those put aside, or of the others.
export function examples({ drawings }, aside) {
  const chosen = drawings.filter(one => one.aside === aside);
  const all = new Float32Array(chosen.length * PIXELS);
  chosen.forEach((one, place) => all.set(imageOfKept(one), place * PIXELS));
  return { images: all, labels: Uint8Array.from(chosen, one => one.label) };
}

// What somebody else has written, as a collection; null where it is none.
export function checked(value) {
  const whole = (number, most) => Number.isInteger(number) && number >= 0 && number <= most;
  const stroke = one => Array.isArray(one) && one.length >= 2 && one.length % 2 === 0
    && one.every(number => whole(number, SIDE));
  const good = value && whole(value.made, 1e9) && Array.isArray(value.drawings)
    && value.drawings.length <= MOST
    && value.drawings.every(({ id, label, aside, strokes } = {}) => whole(id, value.made - 1)
      && whole(label, 9) && typeof aside === "boolean" && Array.isArray(strokes)
      && strokes.length > 0 && strokes.every(stroke));
  return good ? { made: value.made, drawings: value.drawings } : null;
}
