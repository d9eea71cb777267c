// The paper: drawn on with a finger, a pen, a mouse or the keyboard (arrows move the pen, Space
// puts it down and lifts it). Strokes are those of drawings.js.

import { SIDE } from "./drawings.js";

const INK = 17; // width of a line, for the eye: the model's pen has its own width
const NEAR = 2; // points nearer to each other than this are one
const MOVE = 10; // how far an arrow key moves the pen; a quarter of it with Shift
const within = value => Math.min(Math.max(Math.round(value), 0), SIDE);

// changed: called when strokes have. said: what somebody hears who does not see the paper.
export function drawingPad(paper, { changed, said }) {
  let strokes = [];
  let drawing = null; // who draws the last of them: a pointer's id, "keys", or null for nobody
  const pen = { x: SIDE / 2, y: SIDE / 2, shown: false }; // the one that the keys move

  function paint() {
    const wide = Math.max(paper.clientWidth, 1), sharp = Math.min(devicePixelRatio || 1, 3);
    paper.width = paper.height = Math.round(wide * sharp); // which empties it, too
    const context = paper.getContext("2d");
    context.scale(paper.width / SIDE, paper.width / SIDE);
    context.strokeStyle = getComputedStyle(paper).color;
    Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: INK });
    context.beginPath();
    for (const stroke of strokes) {
      context.moveTo(stroke[0] - 0.01, stroke[1]); // a line of no length would not be drawn
      for (let i = 0; i < stroke.length; i += 2) context.lineTo(stroke[i], stroke[i + 1]);
    }
    context.stroke();
    if (!pen.shown) return;
    context.beginPath();
    context.arc(pen.x, pen.y, INK / 2, 0, 2 * Math.PI);
    // A ring, and a disc when it is down, of a colour that is seen on paper and on ink
    Object.assign(context, { lineWidth: 4, strokeStyle: "#e8590c", fillStyle: "#e8590c" });
    context.stroke();
    if (drawing === "keys") context.fill();
  }

  function begin(who, x, y) {
    drawing = who;
    strokes.push([within(x), within(y)]);
    paint();
  }
  function extend(x, y) {
    const stroke = strokes.at(-1), far = Math.hypot(x - stroke.at(-2), y - stroke.at(-1));
    if (far >= NEAR) stroke.push(within(x), within(y));
    paint();
  }
  function leave(left, words = "") {
    [strokes, drawing] = [left, null];
    if (words) said(words);
    paint();
    changed();
  }
  const end = words => leave(strokes, words);
  const undo = () => strokes.length && leave(strokes.slice(0, -1), "Last stroke taken back.");

  function place(event) {
    const { left, top, width } = paper.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top].map(value => (value * SIDE) / width);
  }
  paper.addEventListener("pointerdown", event => {
    if (event.button || !event.isPrimary) return; // another button of the mouse, a second finger
    paper.setPointerCapture(event.pointerId);
    pen.shown = false;
    begin(event.pointerId, ...place(event));
  });
  paper.addEventListener("pointermove", event => {
    if (event.pointerId === drawing) extend(...place(event));
  });
  for (const over of ["lostpointercapture", "pointercancel"]) {
    paper.addEventListener(over, event => event.pointerId === drawing && end());
  }
  // Safari scrolls and magnifies in spite of touch-action.
  paper.addEventListener("touchstart", event => event.preventDefault(), { passive: false });
  paper.addEventListener("contextmenu", event => event.preventDefault());

  function move(across, down) {
    Object.assign(pen, { x: within(pen.x + across), y: within(pen.y + down) });
    if (drawing === "keys") extend(pen.x, pen.y);
  }
  const keys = {
    ArrowLeft: step => move(-step, 0), ArrowRight: step => move(step, 0),
    ArrowUp: step => move(0, -step), ArrowDown: step => move(0, step),
    " ": () => {
      if (drawing === "keys") return end("Pen lifted.");
      begin("keys", pen.x, pen.y);
      said("Pen down.");
    },
    Backspace: undo, Delete: () => leave([], "The paper is empty."),
  };
  paper.addEventListener("keydown", event => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); // or the page would scroll
    if (event.repeat && event.key === " ") return; // held down it is one press
    pen.shown = true;
    act(event.shiftKey ? MOVE / 4 : MOVE);
    paint();
  });
  paper.addEventListener("focus", () => {
    pen.shown = paper.matches(":focus-visible");
    paint();
  });
  paper.addEventListener("blur", () => {
    pen.shown = false;
    drawing === "keys" ? end("Pen lifted.") : paint();
  });
  new ResizeObserver(paint).observe(paper);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

  return {
    strokes: () => strokes,
    busy: () => drawing !== null,
    undo,
    clear: () => leave([]),
  };
}
