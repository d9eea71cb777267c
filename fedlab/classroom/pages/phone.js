// The phone page: what is so in it, and what a student, the server and other tabs do to that.

import { base, codeOf, isHere, newAddress, takeCarried, tidy } from "./address.js";
import { MOST, checked, examples, imageOf, imageOfKept, kept, nextDigit, nothing, refused,
  relabelled, summary, without } from "./drawings.js";
import { drawingPad } from "./pad.js";
import { Refusal, Stopped, enrol, latest, leave, pause, speaker, tell, tellLast }
  from "./protocol.js";
import { models, secret, storage } from "./storage.js";
import { measure, takePart } from "./together.js";
import { trainer } from "./trainer.js";
import { DARK, article, find, paintImage, say, show, showDigit, showList, showPart, shownName }
  from "./view.js";

const OFTEN = 3_000; // milliseconds between two words to the class
const SHOWN = 2_000; // milliseconds that a training is shown, at least
const SAID = 4_000; // milliseconds that an answer to somebody's touch stays
const LOST = 1_500; // milliseconds without an answer until that is said
const TURN = 160; // milliseconds that each digit is seen in the dial

const now = {
  screen: "blank", code: "", me: null, // {session, client, token, seed, welcomed, wanted}
  status: null, away: false, over: false, // of the class
  collection: nothing(), whose: "", asked: 0, told: null, pad: null, // whose: its drawings
  wanted: false, problem: "", // whether it takes part; why it cannot
  doing: "drawing", latest: null, sent: 0, late: false, display: null, // of the training
  results: null, // of the last measurement
};
let store = null, worker = null, compared = {}; // compared: `models` of together.js
let live = null, part = null, parting = null; // what can be told to stop; the end of taking part
const tab = secret();
const measured = []; // that the class has not been told yet

const update = () => show(now);

function go(screen) {
  const changed = now.screen !== screen;
  now.screen = screen;
  document.body.classList.toggle("removed", screen === "gone" && now.removed);
  update();
  if (!changed) return;
  scrollTo(0, 0);
  const first = screen === "join" ? "#code" : `#${screen} h1`;
  document.querySelector(first)?.focus({ preventScroll: true });
}

// ---- the class ----------------------------------------------------------------------------------

let losing = 0;
function away(lost) {
  if (!lost) {
    clearTimeout(losing);
    losing = 0;
    if (now.away) now.away = false, update();
  } else if (!losing) {
    losing = setTimeout(() => {
      now.away = true;
      update();
    }, LOST);
  }
}

const speak = signal => speaker(base, { signal, away });

function keepMe(changes) {
  now.me = { ...now.me, ...changes };
  store.set("me", now.me);
}

// What comes along from another class in this same page: its computer was started again, with
// another code. Of what this browser has stored of other classes nothing does, and of this page's
// only what somebody says is theirs: on a school's tablet it may be somebody else's handwriting.
function along(code) {
  if (!now.code || now.code === code || !now.collection.drawings.length) return null;
  if (!find("bring").checked) return null;
  return { drawings: now.collection, session: (now.me ?? store.get("me")).session };
}

// Carried here from another class: whether they come along is asked as in the same page.
function askWhose({ code, session, client, drawings }, next) {
  const me = { session }, collection = checked(drawings) ?? nothing();
  Object.assign(now, { code, me, collection, whose: client ?? "" });
  find("code").value = next;
  go("join");
}

// With a code: as who was here before, or as somebody new.
async function enter(code) {
  const fromThere = takeCarried();
  if (fromThere?.code && fromThere.code !== code) return askWhose(fromThere, code);
  const carried = fromThere ?? along(code);
  if (fromThere?.client) now.whose = fromThere.client;
  find("bring").checked = true; // for the next time
  Object.assign(now, {
    code, me: null, status: null, wanted: false, problem: "", over: false, latest: null, sent: 0,
    late: false,
  });
  measured.length = 0; // of another class's models
  store = storage(code);
  const own = checked(store.get("drawings")) ?? nothing();
  const brought = checked(carried?.drawings);
  now.collection = brought && brought.drawings.length > own.drawings.length ? brought : own;
  store.set("drawings", now.collection);
  now.results = store.get("results");
  now.me = store.get("me") ?? { session: carried?.session ?? secret() };
  store.set("me", now.me);
  store.heard("tab", owner => owner !== tab && now.code === code && handOver());
  store.set("tab", tab);
  compared = await models.read(code);
  askNext();
  if (now.me.token) return begin();
  now.me = null;
  go("welcome");
  live = new AbortController();
  const known = await enrolNow(live.signal);
  live = null;
  if (known) wake();
}

// Enrol, and show what became of it. The same session: the same student, where the server knows it.
// again: by hand, after it was removed.
async function enrolNow(signal, again = false) {
  const before = store.get("me"), { session } = before;
  try {
    const about = { code: now.code, session, ...(again && { again }) };
    const { client, token, seed } = await enrol(speak(signal), about);
    const renamed = before.client && before.client !== client;
    now.me = before;
    keepMe({ client, token, seed: before.seed ?? seed });
    now.status = null;
    askNext();
    if (!before.welcomed || renamed || now.screen === "gone") go("welcome");
    if (before.wish) await tell(speak(signal), token, { name: before.wish }).catch(() => {});
    update();
    return true;
  } catch (error) {
    if (error instanceof Stopped) throw error;
    if (!(error instanceof Refusal)) return fail(error);
    refuse(error);
    return false;
  }
}

const SENTENCES = {
  code: "This is not the code of the class. Look at the board once more.",
  tries: "Too many wrong codes. Wait a minute, and try again.",
  full: "This class is full. Ask your teacher.",
  closed: "The door is closed: your teacher lets nobody new in.",
};

function refuse(error) {
  rest();
  now.whose = shownName(now) || now.whose;
  if (error.kind in SENTENCES) {
    find("code").value = now.code;
    tellWrong("code-told", SENTENCES[error.kind]);
    return go("join");
  }
  const removed = error.kind === "removed", banned = error.kind === "banned";
  now.removed = removed || banned;
  say(find("gone-before"), removed ? "Your teacher has removed you" : banned
    ? "You cannot take part in this class any more" : "The class does not let you in");
  say(find("gone-name"), now.me ? shownName(now) : store.get("me")?.client ?? "");
  say(find("gone-told"), removed ? "Your drawings are still in this phone." : banned
    ? "Talk to your teacher." : error.message);
  find("again").hidden = banned;
  now.wanted = false;
  if (now.me) keepMe({ wanted: false, token: removed || banned ? undefined : now.me.token });
  go("gone");
}

function tellWrong(id, text) {
  say(find(id), text);
  find(id).classList.toggle("wrong", Boolean(text));
}

// Tell and hear, once.
async function hear(signal) {
  const { token } = now.me;
  let told = 0;
  const telling = () => {
    const { train, heldOut, labels } = summary(now.collection);
    const some = measured.slice(0, 20);
    told = some.length;
    const doing = now.wanted ? now.doing : "drawing";
    const drawn = { train, held_out: heldOut, labels };
    return { doing, drawn, ...(told && { measured: some }) };
  };
  const status = await tell(speak(signal), token, telling);
  measured.splice(0, told);
  if (now.latest && now.latest.lineage !== status.lineage) { // what was sent was for another run
    Object.assign(now, { latest: null, sent: 0, late: false, display: null });
  }
  now.status = status;
  now.over = status.phase === "over";
  if (status.client !== now.me.client) keepMe({ client: status.client });
  update();
  lookAtLatest(signal);
}

let poke = () => {};

async function keepHearing(signal) {
  try {
    while (!signal.aborted) {
      const poked = new Promise(resolve => (poke = resolve));
      await hear(signal).catch(error => trouble(error, signal));
      await Promise.race([pause(OFTEN * (0.8 + 0.4 * Math.random()), signal), poked]);
    }
  } catch (error) {
    if (!(error instanceof Stopped)) fail(error);
  }
}

// The server does not want what was said. Not known any more: enrol again; all else is shown.
async function trouble(error, signal) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) return renew(signal);
  if (["removed", "banned"].includes(error.kind)) return refuse(error);
  measured.length = 0; // of a model that the server does not know any more
  tellNow(error.message, true);
}

// Whether this phone was removed, or only forgotten, is known to the class alone: it is asked
// first, and only then is there a new token. Both loops may need one: once is enough.
let renewing = null;
function renew(signal) {
  renewing ??= hear(signal)
    .catch(error => {
      if (error.status === 401) return enrolNow(signal);
      return trouble(error, signal);
    })
    .finally(() => (renewing = null));
  return renewing;
}

// ---- taking part --------------------------------------------------------------------------------

const aside = () => {
  const ids = now.collection.drawings.filter(one => one.aside).map(one => one.id);
  return { ...examples(now.collection, true), ids };
};

async function keepTakingPart(signal) {
  worker ??= trainer();
  while (now.wanted && !signal.aborted) {
    const { client, token, session } = now.me;
    try {
      await takePart({
        base, token, client, session, trainer: worker, models: compared, heldOut: aside,
        examples: () => examples(now.collection, false), away, signal,
        said: about => { // the Worker's last words about a training that was stopped show nothing
          if (!about.doing || !signal.aborted) happened(about);
        },
      });
      Object.assign(now, { over: true, doing: "ready" });
      update();
      do await pause(OFTEN, signal); while (now.status?.phase === "over");
    } catch (error) {
      if (error instanceof Stopped || signal.aborted) return;
      if (!(error instanceof Refusal)) return fail(error);
      // Not known (any more), or another is called so: the class knows why, and gives a new name.
      if (error.status === 401 || error.status === 403) await renew(signal);
      else if (error.kind === "conflict") await enrolNow(signal);
      else return stopWith(error.message);
      await pause(1_000, signal).catch(() => {});
    }
  }
}

function happened({ doing, measured: found, models: learned, ...about }) {
  if (found) return keepResults(found);
  if (learned) {
    const copies = list => list.map(array => array.slice());
    const { lineage, first, alone } = learned;
    models.write(now.code, { lineage, first: copies(first), alone: copies(alone) });
    return;
  }
  const before = now.doing;
  if (doing === "training") {
    now.latest = { ...about };
    if (!now.display) beginDisplay();
    else if (now.display.round === about.round) now.display.part = about.part;
  }
  if (doing === "sent" || doing === "late") {
    Object.assign(now, { sent: about.round, late: doing === "late" });
  }
  if (doing !== "sending") now.doing = doing === "training" ? "training" : "ready";
  if (now.doing !== before) poke();
  update();
}

function keepResults({ version, lineage, correct, before, alone, total, answers, ids }) {
  now.results = { version, lineage, correct, before, alone, total, answers, ids };
  store.set("results", now.results);
  if (total) {
    measured.push({ version, correct, total, alone });
    measured.splice(0, measured.length - 20);
  }
  update();
}

// The model of a run's end is in no task: fetched once, and measured.
let looking = false;
async function lookAtLatest(signal) {
  const { phase, version, lineage = "" } = now.status;
  const same = now.results?.version === version && now.results.lineage === lineage;
  const known = same || phase === "running" || !aside().ids.length;
  if (!now.wanted || known || looking) return;
  looking = true;
  try {
    worker ??= trainer();
    const { version: its, weights } = await latest(speak(signal), now.me.token);
    const found = await worker.inTurn(() => measure(worker, aside(), weights, compared, lineage));
    keepResults({ version: its, lineage, ...found });
    poke();
  } catch (error) {
    if (!(error instanceof Stopped || error instanceof Refusal)) fail(error);
  } finally {
    looking = false;
  }
}

// What cannot go on: said, and it is up to the student. Until then no round waits for this phone.
function stopWith(sentence) {
  part?.abort();
  if (now.me.token) leave(base, now.me.token, now.me.client);
  Object.assign(now, { problem: sentence, wanted: false, doing: "drawing", display: null });
  keepMe({ wanted: false });
  update();
}

function fail(error) {
  if (worker?.broken()) {
    worker.end();
    worker = null; // the next one may load
  }
  if (store && now.me) stopWith(`This page has failed: ${error.message}`);
  throw error; // for the browser's console
}

// A training is over in a moment; so that it is seen, it is shown for two seconds. Rounds that come
// faster than that are not all shown: the next one to be is the latest.
function beginDisplay() {
  now.display = { ...now.latest, began: performance.now() };
  requestAnimationFrame(display);
}

function display(time) {
  const seen = now.display;
  if (!seen) return;
  const over = now.sent >= seen.round || now.latest.round !== seen.round;
  const shown = Math.min((time - seen.began) / SHOWN, over ? 1 : seen.part);
  showPart(Math.max(shown, 0));
  const own = now.collection.drawings.filter(one => !one.aside);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  showDigit(own[still ? 0 : Math.floor((time - seen.began) / TURN) % own.length]);
  if (shown >= 1 && over) {
    now.display = null;
    if (now.latest.round !== seen.round && now.doing === "training") beginDisplay();
    update();
  }
  if (now.display === seen) requestAnimationFrame(display);
}

async function start() {
  Object.assign(now, { wanted: true, problem: "" });
  keepMe({ wanted: true });
  if (live) {
    const mine = (part = new AbortController()), before = parting;
    const all = live.signal, stop = () => mine.abort();
    all.addEventListener("abort", stop);
    parting = (async () => {
      await before?.catch(() => {});
      await keepTakingPart(mine.signal);
    })().finally(() => all.removeEventListener("abort", stop));
  }
  poke();
}

function stop() {
  part?.abort();
  leave(base, now.me.token, now.me.client);
  Object.assign(now, { wanted: false, doing: "drawing", display: null });
  keepMe({ wanted: false });
  poke();
}

// ---- awake and asleep ---------------------------------------------------------------------------

function wake() {
  if (live || !now.me?.token || ["gone", "elsewhere", "join"].includes(now.screen)) return;
  live = new AbortController();
  keepHearing(live.signal);
  if (now.wanted) start();
}

// Nothing more is said from here.
function rest() {
  live?.abort();
  live = null;
  clearTimeout(losing);
  Object.assign(now, { away: false, display: null, doing: "ready" });
  losing = 0;
}

function sleep() {
  if (!live || !now.me?.token) return;
  rest();
  if (now.wanted) leave(base, now.me.token, now.me.client);
  tellLast(base, now.me.token, { doing: "asleep" });
}

function handOver() {
  rest();
  go("elsewhere");
}

// Go on where one was.
function begin() {
  now.wanted = Boolean(now.me.wanted);
  if (now.screen !== "welcome") {
    go(!now.me.welcomed ? "welcome" : now.wanted ? "together" : "draw");
  }
  wake();
}

document.addEventListener("visibilitychange", () => (document.hidden ? sleep() : wake()));
addEventListener("pagehide", sleep);
addEventListener("pageshow", event => event.persisted && wake());

// ---- drawing ------------------------------------------------------------------------------------

function askNext() {
  now.asked = nextDigit(now.collection, now.me?.seed ?? 0);
}

let telling = 0;
function tellNow(text, wrong = false) {
  clearTimeout(telling);
  now.told = { text, wrong };
  telling = setTimeout(() => {
    now.told = null;
    update();
  }, SAID);
  update();
}

function change(collection) {
  now.collection = collection;
  if (!store.set("drawings", collection)) {
    tellNow("This browser keeps nothing: your drawings are gone with this page.", true);
  }
  askNext();
  poke();
  update();
}

function seen() {
  paintImage(find("seen"), imageOf(now.pad.strokes()), "rgb(255, 255, 255)");
}

function keep() {
  const strokes = now.pad.strokes(), label = now.asked;
  const sentence = refused(strokes);
  if (sentence) return tellNow(sentence, true);
  if (now.collection.drawings.length >= MOST) return tellNow(`${MOST} drawings are enough.`, true);
  change(kept(now.collection, strokes, label));
  now.pad.clear();
  const one = now.collection.drawings.at(-1), all = now.collection.drawings.length;
  tellNow(one.aside
    ? `Kept aside: this ${label} is for testing, the model is not trained on it.`
    : `Kept, drawing ${all}. Now draw ${article(now.asked)}.`);
}

function openOne(id) {
  const one = now.collection.drawings.find(drawing => drawing.id === id);
  const words = () => say(find("one-title"), `This is ${article(one.label)}`);
  words();
  const choices = Array.from({ length: 10 }, (_, digit) => {
    const choice = document.createElement("label"), face = document.createElement("span");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "label", value: digit, checked: digit === one.label,
    });
    face.textContent = digit;
    input.addEventListener("change", () => {
      change(relabelled(now.collection, id, digit));
      one.label = digit;
      words();
    });
    choice.append(input, face);
    return choice;
  });
  find("labels").replaceChildren(find("labels").firstElementChild, ...choices);
  find("delete").onclick = () => {
    change(without(now.collection, id));
    find("one-dialog").close();
  };
  find("one-dialog").showModal();
  paintImage(find("one"), imageOfKept(one));
}

// ---- what a student touches ---------------------------------------------------------------------

const touch = (id, act) => find(id).addEventListener("click", act);
const send = (id, act) => find(id).addEventListener("submit", event => {
  event.preventDefault();
  act();
});

now.pad = drawingPad(find("paper"), {
  changed: () => {
    seen();
    update();
  },
  said: tellNow,
});
find("paper").addEventListener("pointerdown", () => {
  now.told = null;
  update();
});
find("paper").addEventListener("keydown", event => {
  if (event.key === "Enter" && !find("keep").disabled) keep();
});
touch("undo", () => now.pad.undo());
touch("keep", keep);
touch("train", () => {
  if (!now.wanted) start();
  go("together");
});
touch("more", () => go("draw"));
touch("stop", () => {
  if (now.wanted) stop(), go("draw");
  else start(), update();
});
touch("begin", () => {
  keepMe({ welcomed: true });
  go("blank");
  begin();
});
touch("again", async () => {
  able(false);
  live = new AbortController();
  const known = await enrolNow(live.signal, true);
  live = null;
  if (known) wake();
  able(true);
  function able(yes) {
    find("again").disabled = !yes;
  }
});
touch("here", () => {
  store.set("tab", tab);
  now.me = store.get("me");
  now.collection = checked(store.get("drawings")) ?? nothing();
  now.results = store.get("results");
  askNext();
  go("blank");
  begin();
});
touch("mine", () => {
  find("mine-dialog").showModal();
  showList(now, openOne);
});
find("one-dialog").addEventListener("close", () => {
  if (!now.collection.drawings.length) find("mine-dialog").close();
  showList(now, openOne);
  find("list").querySelector("button")?.focus();
});
touch("lost", () => {
  tellWrong("address-told", "");
  find("lost-dialog").showModal();
});
for (const id of ["who", "own-name"]) {
  touch(id, () => {
    find("wish").value = now.status?.name || now.me.wish || "";
    say(find("given"), now.me.client);
    tellWrong("wish-told", "");
    find("name-dialog").showModal();
  });
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

send("code-form", () => {
  const code = tidy(find("code").value);
  tellWrong("code-told", code ? "" : "Type the code that is on the board.");
  if (!code) return;
  history.replaceState(null, "", new URL(`J/${encodeURIComponent(code)}`, base));
  enter(code);
});
send("name-form", async () => {
  const name = find("wish").value.trim();
  say(find("wish-told"), "Asking …");
  try {
    now.status = await tell(speak(live?.signal), now.me.token, { name });
    keepMe({ wish: name });
    find("name-dialog").close();
  } catch (error) {
    if (!(error instanceof Refusal)) return;
    tellWrong("wish-told", error.kind === "name_taken"
      ? "Somebody is called so already. Choose another name."
      : "This name cannot be used here. Choose another one, of letters and digits.");
  }
  update();
});
send("address-form", () => {
  try {
    const { session } = now.me ?? store.get("me");
    const client = shownName(now) || now.whose;
    const carried = { drawings: now.collection, session, code: now.code, client };
    const address = newAddress(find("address").value, now.code, carried);
    tellWrong("address-told", "");
    if (!isHere(address)) location.href = address;
    else say(find("address-told"), "This is the address already; this phone keeps trying.");
  } catch (error) {
    tellWrong("address-told", error.message);
  }
});

matchMedia(DARK).addEventListener("change", () => {
  find("turn").dataset.id = "";
  update();
});
find("wifi").hidden = location.protocol === "https:";
const code = codeOf();
if (code) enter(code);
else go("join");
