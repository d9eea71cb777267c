import {prepare} from "./handwriting.js";

// The drawing pad: a canvas, what the model sees of it, Undo and Clear. Python gets `pixels`: 784
// grey values 0-255, or none when nothing is drawn.
const WIDE = 200; // of the canvas, in CSS pixels; strokes are kept in this unit
const INK = 14; // width of a line on the canvas, for the eye: the model's pen has its own width
const STEP = 8; // how far an arrow key moves the pen; a quarter of it with Shift
const PAUSE = 100; // milliseconds between two messages while somebody draws
const LAYOUT = `
  <div class="fedlab-pad" role="group" aria-label="Drawing pad">
    <canvas class="fp-paper" tabindex="0" role="application" data-lm-suppress-shortcuts="true"
      aria-label="Draw a digit: arrow keys move the pen, Space puts it down and lifts it"></canvas>
    <div class="fp-side">
      <canvas class="fp-seen" width="28" height="28" role="img" aria-label="28 by 28"></canvas>
      <span>as the model sees it</span>
      <button class="fp-undo">Undo</button> <button class="fp-clear">Clear</button>
    </div>
    <p>Mouse, finger or pen. Or keys: arrows move, Space begins and ends a stroke.</p>
    <p role="status"></p>
  </div>`;
const within = (value) => Math.min(Math.max(value, 0), WIDE);

function paint(paper, strokes, pen) {
  const sharp = Math.max(window.devicePixelRatio, 1);
  paper.width = paper.height = Math.round(WIDE * sharp); // which empties it, too
  const context = paper.getContext("2d");
  context.scale(sharp, sharp);
  context.lineCap = context.lineJoin = "round";
  Object.assign(context, { lineWidth: INK, strokeStyle: "#fff" });
  for (const stroke of strokes) {
    context.moveTo(stroke[0][0] - 0.01, stroke[0][1]); // a line of no length would not be drawn
    stroke.forEach((point) => context.lineTo(...point));
  }
  context.stroke();
  if (!pen.shown) return;
  context.beginPath();
  context.arc(pen.x, pen.y, INK / 2, 0, 2 * Math.PI);
  // A ring, and a disc when it is down, of a colour that is seen on paper and on ink
  Object.assign(context, { lineWidth: 3, strokeStyle: "#e8590c", fillStyle: "#e8590c" });
  context.stroke();
  if (pen.down) context.fill();
}

function render({ model, el }) {
  el.innerHTML = LAYOUT;
  const parts = [".fedlab-pad", ".fp-paper", ".fp-seen", ".fp-undo", ".fp-clear", "[role=status]"];
  const [root, paper, seen, undoing, clearing, status] = parts.map((s) => el.querySelector(s));

  let strokes = []; // each a list of points [x, y]
  let drawing = null; // who draws the last of them: a pointer's id, "keys", or null for nobody
  let timer = null; // of the next message
  let sending = false; // whether a change of `pixels` is this pad's own
  const pen = { x: WIDE / 2, y: WIDE / 2, shown: false }; // the one that the keys move

  function show(penShown = pen.shown) {
    pen.shown = penShown;
    paint(paper, strokes, { ...pen, down: drawing === "keys" });
    const pixels = model.get("pixels"); // a DataView
    const image = new ImageData(new Uint8ClampedArray(4 * 784).fill(255), 28); // white, on black
    for (let i = 0; i < 784; i++) image.data[4 * i + 3] = pixels.byteLength && pixels.getUint8(i);
    seen.getContext("2d").putImageData(image, 0, 0);
    undoing.disabled = !strokes.length;
    clearing.disabled = !strokes.length && !pixels.byteLength;
    // A disabled button would lose the keyboard's place on the page.
    if ([undoing, clearing].some((b) => b.disabled && b === document.activeElement)) paper.focus();
  }

  function send() {
    clearTimeout(timer);
    timer = null;
    const grey = Uint8ClampedArray.from(strokes.length ? prepare(strokes) : [], (v) => 255 * v);
    sending = true;
    model.set("pixels", new DataView(grey.buffer));
    sending = false;
    model.save_changes();
    show();
  }

  function begin(who, x, y) {
    drawing = who;
    status.textContent = who === "keys" ? "Pen down" : "";
    strokes.push([]);
    extend(x, y);
  }
  function extend(x, y) {
    strokes.at(-1).push([x, y]);
    timer ??= setTimeout(send, PAUSE);
    show();
  }
  function leave(left, said = "") {
    strokes = left;
    drawing = null;
    status.textContent = said;
    send();
  }
  const end = (said) => leave(strokes, said);
  const undo = () => strokes.length && leave(strokes.slice(0, -1), "Last stroke taken back");
  const clear = () => leave([], "Cleared");

  function place(event) {
    const { left, top, width } = paper.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top].map((v) => within((v * WIDE) / width));
  }
  paper.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return; // another button of the mouse, a second finger
    paper.setPointerCapture(event.pointerId);
    pen.shown = false;
    begin(event.pointerId, ...place(event));
  });
  paper.addEventListener("pointermove", (e) => e.pointerId === drawing && extend(...place(e)));
  paper.addEventListener("lostpointercapture", (e) => e.pointerId === drawing && end());
  // Safari scrolls and magnifies in spite of touch-action.
  paper.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });

  function move(across, down) {
    Object.assign(pen, { x: within(pen.x + across), y: within(pen.y + down) });
    if (drawing === "keys") extend(pen.x, pen.y);
  }
  const keys = {
    ArrowLeft: (step) => move(-step, 0), ArrowRight: (step) => move(step, 0),
    ArrowUp: (step) => move(0, -step), ArrowDown: (step) => move(0, step),
    " ": () => (drawing === "keys" ? end("Pen lifted") : begin("keys", pen.x, pen.y)),
    Backspace: undo, Delete: clear, Escape: clear,
  };
  paper.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); // or the page would scroll
    if (event.repeat && event.key === " ") return; // held down it is one press
    act(event.shiftKey ? STEP / 4 : STEP);
    show(true);
  });
  paper.addEventListener("focus", () => show(paper.matches(":focus-visible")));
  paper.addEventListener("blur", () => { if (drawing === "keys") end("Pen lifted"); show(false); });
  root.addEventListener("keydown", (event) => event.stopPropagation()); // JupyterLab's shortcuts
  undoing.addEventListener("click", undo);
  clearing.addEventListener("click", clear);
  model.on("change:pixels", () => {
    if (sending) return;
    clearTimeout(timer); // Python has set them, or another view of this pad: its drawing counts
    [strokes, drawing, timer] = [[], null, null];
    show();
  });
  model.on("msg:custom", clear); // there is no other message
  show();
}

export default { render };
