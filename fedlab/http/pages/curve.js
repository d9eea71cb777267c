// The accuracy of the global model, round by round, and of each client's own beside it. Every line
// has its name and its last value at its end: nothing to look up. The same picture as
// fedlab/plots.py draws, and the same rules.
//
//   const picture = curve(element);
//   picture.show({rounds, planned, unit, colours});
//
// rounds: as GET /history has them. planned: how far the axis goes, 0 if nobody knows. unit: what
// is counted, "round", "update" or "model". colours: a Map from each client's name to its colour.

import { counted, whole } from "./scene.js";

const SVG = "http://www.w3.org/2000/svg";
const MOST_SINGLE_LINES = 6;  // with more clients their mean and the worst one are drawn instead
const CHANCE = 10;
const NARROW = 480;  // pixels, up to which names are short

// Markers, as polygons of a radius of about 1: lines are told apart without colours too.
const corners = (count, turn, radii = [1]) => Array.from({length: count}, (_, i) => {
  const angle = Math.PI * (2 * i / count + turn / 180 - 0.5), radius = radii[i % radii.length];
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
});
const turned = ([x, y]) => [0.75 * (x - y), 0.75 * (x + y)];
const CROSS = [
  [-0.3, -1], [0.3, -1], [0.3, -0.3], [1, -0.3], [1, 0.3], [0.3, 0.3],
  [0.3, 1], [-0.3, 1], [-0.3, 0.3], [-1, 0.3], [-1, -0.3], [-0.3, -0.3],
];
const DISC = corners(24, 0);
const MARKERS = [
  DISC, corners(4, 45, [1.15]), corners(4, 0, [1.2]), corners(3, 0, [1.25]),
  corners(3, 180, [1.25]), CROSS, CROSS.map(turned), corners(10, 0, [1.4, 0.6]),
  corners(3, 270, [1.25]), corners(3, 90, [1.25]), corners(6, 0, [1.1]), corners(5, 0, [1.15]),
];

export function curve(element) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  element.append(svg);
  const pen = document.createElement("canvas").getContext("2d");  // measures text
  let shown = null, size = "";

  function shape(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
  }

  function line(x1, y1, x2, y2, stroke, more = {}) {
    shape("line", {x1, y1, x2, y2, stroke, ...more});
  }

  function write(text, x, y, anchor, kind = "") {
    shape("text", {x, y, "text-anchor": anchor, class: kind}, text);
  }

  const path = points => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

  function mark({marker, radius, colour}, x, y) {
    const points = path(marker.map(([dx, dy]) => [x + radius * dx, y + radius * dy]));
    const border = {stroke: "var(--fl-paper)", "stroke-width": 1, "paint-order": "stroke"};
    shape("polygon", {points, fill: colour, ...border});
  }

  function draw() {
    const width = element.clientWidth, height = element.clientHeight;
    if (!shown || !width || !height) return;
    const style = getComputedStyle(element), font = 0.94 * parseFloat(style.fontSize);
    const measured = (text, strong = false) => {
      pen.font = `${strong ? 700 : 400} ${font}px ${style.fontFamily}`;
      return pen.measureText(text).width;
    };
    const lines = linesOf(shown, width > NARROW);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("font-size", font);
    svg.setAttribute("aria-label", inWords(lines, shown));
    const at = layout(lines, width, height, font, measured);
    drawAxes(at, lines, font, measured);
    drawLines(at, lines);
    if (at.note) write(at.note, at.right - 6, at.noteY, "end", "soft halo");  // over what passes
    drawNames(at, lines, font);
  }

  // ---- where everything stands ----------------------------------------------------------------

  function layout(lines, width, height, font, measured) {
    const {rounds, planned, unit} = shown, wide = width > NARROW;
    // A line's end bends to its name: so far, then its marker, and so on, in pixels.
    const [bend, middle, end, text] = wide ? [10, 22, 34, 41] : [7, 15, 24, 29];
    for (const one of lines) {
      one.text = fitting(one, text => measured(text, one.strong), (wide ? 0.42 : 0.36) * width);
    }
    const room = Math.max(...lines.map(one => measured(one.text, one.strong)), 0);
    const right = width - (lines.length ? text + 3 + room : 16), left = measured("100 %") + 10;
    const top = 0.7 * font, bottom = height - 3.3 * font;
    const values = lines.flatMap(one => one.points.map(([, value]) => value));
    const floor = lines.length ? floorOf(Math.min(...values)) : 0;
    const first = rounds.length ? rounds[0].round : 1;
    const last = Math.max(rounds.at(-1)?.round ?? 0, planned, planned ? first + 1 : first + 4);
    const x = round => left + (round - first) / (last - first) * (right - left);
    const y = value => top + (100 - value) / (100 - floor) * (bottom - top);
    // What guessing would give, or that the axis does not start at 0: in the drawing, or below it.
    const short = floor ? `axis from ${floor} %` : "guessing: 10 %";
    const note = [`${short}; guessing: 10 %`, short].slice(floor ? 0 : 1)
      .find(text => measured(text) < right - left - 8);
    const noteY = (floor ? bottom : y(CHANCE)) - 0.45 * font;
    return {
      height, left, right, top, bottom, floor, first, last, x, y, note, noteY,
      below: note ? unit : `${unit} · ${short}`, names: {bend, middle, end, text},
    };
  }

  // ---- what stands there ----------------------------------------------------------------------

  function drawAxes(at, lines, font, measured) {
    const {left, right, bottom, floor, first, last, x, y} = at, middle = (left + right) / 2;
    const high = [20, 10, 5, 2, 1].find(step => (100 - floor) / step >= 4);
    for (let tick = 100; tick >= floor; tick -= high) {
      line(left, y(tick), right, y(tick), `var(--fl-${tick === floor ? "ink" : "line"})`);
      write(`${tick} %`, left - 8, y(tick) + 0.35 * font, "end");
    }
    const label = measured(whole(last)) + 1.6 * font;
    const wide = stepOf((last - first) * label / (right - left));
    const next = Math.ceil(first / wide) * wide, begin = next - first < wide / 2 ? next : first;
    for (let tick = begin; tick <= last; tick = (Math.floor(tick / wide) + 1) * wide) {
      line(x(tick), bottom, x(tick), bottom + 5, "var(--fl-ink)");
      write(whole(tick), x(tick), bottom + 5 + 1.1 * font, "middle");
    }
    write(at.below, Math.max(middle, measured(at.below) / 2), at.height - 0.35 * font, "middle");
    const dots = {"stroke-width": 1.5, "stroke-dasharray": "2 4"};
    if (!floor) line(left, y(CHANCE), right, y(CHANCE), "var(--fl-soft)", dots);
    const soon = `The curve begins with ${shown.unit} ${first}.`;
    if (!lines.length) write(soon, middle, y(55), "middle", "soft");
  }

  function drawLines({x, y}, lines) {
    for (const {points, colour, width, dashes, ...more} of lines) {
      const places = points.map(([round, value]) => [x(round), y(value)]);
      shape("polyline", {
        points: path(places), class: "line", fill: "none", stroke: colour, "stroke-width": width,
        "stroke-dasharray": dashes, "stroke-linejoin": "round", "stroke-linecap": "round",
      });
      if (!more.marker) continue;
      const each = Math.ceil(points.length / 30);
      for (const [i, place] of places.entries()) {
        if ((points.length - 1 - i) % each === 0) mark({colour, ...more}, ...place);
      }
    }
  }

  function drawNames({right, top, bottom, x, y, names}, lines, font) {
    const ends = lines.map(one => ({one, end: one.points.at(-1)}));
    ends.sort((one, other) => other.end[1] - one.end[1]);
    const rows = spread(ends.map(({end}) => y(end[1])), 1.35 * font, top, bottom);
    for (const [i, {one, end: [round, value]}] of ends.entries()) {
      const row = rows[i], {colour, dashes, width} = one;
      line(x(round), y(value), right, y(value), colour, {"stroke-dasharray": "1 4", opacity: 0.7});
      shape("polyline", {
        points: path([[right, y(value)], [right + names.bend, row], [right + names.end, row]]),
        fill: "none", stroke: colour, "stroke-width": Math.min(width, 3),
        "stroke-dasharray": dashes,
      });
      if (one.marker) mark(one, right + names.middle, row);
      const kind = one.strong ? "name strong" : "name";
      write(one.text, right + names.text, row + 0.35 * font, "start", kind);
    }
  }

  const watcher = new ResizeObserver(() => {
    const now = `${element.clientWidth} ${element.clientHeight}`;
    if (now !== size) draw();
    size = now;
  });
  watcher.observe(element);
  return {
    show(state) {
      shown = state;
      draw();
    },
  };
}

// ---- the lines ----------------------------------------------------------------------------------

// In the order in which they are drawn: the global model's over the others.
function linesOf({rounds, colours}, wide) {
  const own = new Map();
  for (const {round, clients} of rounds) {
    for (const [name, {accuracy}] of Object.entries(clients)) {
      if (accuracy === null) continue;
      if (!own.has(name)) own.set(name, []);
      own.get(name).push([round, 100 * accuracy]);
    }
  }
  const lines = own.size > MOST_SINGLE_LINES ? together(own, wide) : single(own, colours);
  const tested = rounds.filter(record => record.accuracy !== null);
  if (!tested.length) return lines;
  return [...lines, {
    name: wide ? "global model" : "global", strong: true, colour: "var(--fl-ink)", width: 4,
    points: tested.map(record => [record.round, 100 * record.accuracy]),
    marker: tested.length < 40 ? DISC : null, radius: 6, dashes: "none",
  }];
}

function single(own, colours) {
  return [...own].sort().map(([name, points]) => {
    const number = (colours.get(name) ?? 0) % 12, look = {width: 2, radius: 4.5, dashes: "none"};
    return {name, points, colour: `var(--fl-client-${number})`, marker: MARKERS[number], ...look};
  });
}

// Their mean, and the worst of them.
function together(own, wide) {
  const there = new Map();
  for (const [round, value] of [...own.values()].flat()) {
    if (!there.has(round)) there.set(round, []);
    there.get(round).push(value);
  }
  const several = [...there].sort(([one], [other]) => one - other);
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const look = {colour: "var(--fl-soft)", width: 2}, before = wide ? "clients' " : "";
  const line = (name, dashes, of) => {
    const points = several.map(([round, values]) => [round, of(values)]);
    return {name: before + name, points, dashes, ...look};
  };
  return [line("mean", "8 5", mean), line("worst", "2 5", values => Math.min(...values))];
}

// A line's name and last value, in so many pixels: of a name that is too long, its beginning.
function fitting({name, points}, measured, most) {
  const value = points.at(-1)[1].toFixed(1);
  let text = `${name} ${value}`;
  for (let letters = name.length - 1; letters > 0 && measured(text) > most; letters--) {
    text = `${name.slice(0, letters)}… ${value}`;
  }
  return text;
}

// Where the axis starts, in %: below the lowest point, or at 0 if that is in the lower third.
function floorOf(lowest) {
  const step = lowest > 95 ? 2 : 10, floor = step * Math.floor((lowest - 0.5) / step);
  return floor > 30 ? floor : 0;
}

// 1, 2, 5, 10, 20, ...: the first of them that is not below `least`.
function stepOf(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map(factor => factor * power).find(step => step >= least);
}

// Rows as near to the `wanted` heights (from above) as allows that they do not overlap.
function spread(wanted, height, top, bottom) {
  const rows = [];
  for (const want of wanted) rows.push(Math.max(want, (rows.at(-1) ?? top - height) + height));
  let below = bottom + height;
  for (let i = rows.length - 1; i >= 0; i--) below = rows[i] = Math.min(rows[i], below - height);
  return rows;
}

function inWords(lines, {rounds, unit}) {
  if (!lines.length) return `No ${unit} has been tested yet.`;
  const told = lines.map(({name, points}) =>
    `${name} from ${points[0][1].toFixed(1)} to ${points.at(-1)[1].toFixed(1)} %`);
  return `Accuracy after ${counted(rounds.length, unit)}: ${told.reverse().join("; ")}.`
    + " Guessing gives 10 %. The tables below have the numbers.";
}
