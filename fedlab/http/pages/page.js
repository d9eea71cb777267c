// The server's page: asks what is new, again and again, and shows it. All addresses are relative: a
// proxy may have put a path before them. What comes from the server is set as text: a client's name
// is never markup.

import { curve } from "./curve.js";
import { roundPicture } from "./round.js";
import { capital, counted, packetsOf, percent, scene, whole } from "./scene.js";

const OFTEN = 300, SELDOM = 1000;  // milliseconds between two looks: during a run, and otherwise
const LATE_AFTER = 3000;  // milliseconds that an update is awaited alone until its client is late
const ROWS = 200;  // of the table; the curve shows every round
const EARLIER = "This page is of an earlier server. Open the address that the server printed.";
const GONE = "The server cannot be reached. Is it still running?"
  + " What you see is from before; this page keeps trying.";
const OVER = "The run is over, and the server has left. This is its result.";
const find = id => document.getElementById(id);
const picture = roundPicture(find("picture")), chart = curve(find("curve"));
const NOTHING = {
  step: 0, says: "", words: "nothing is known yet", held: true, server: {text: "", slots: false},
  clients: [], packets: [],
};
const me = crypto.getRandomValues(new Uint32Array(2)).join("-");  // this page's name

let status = null, rounds = [];  // what is shown
let shown = -1;  // the version of the status that all of this page shows; -1: what comes is new
let answered = null;  // the number of the last request that is known; null: what was is over
let ended = "ready";  // how the last run ended: a server that closes does not say it any more
let away = null;  // why nothing new comes: {says, calm}
let travelled = 0;  // packets that were shown
let awaited = {key: "", since: 0};
const images = new Map(), colours = new Map();  // of everyone who was ever seen
let timer = 0, looking = false;

// ---- what is new ------------------------------------------------------------------------------

async function ask(address) {
  const answer = await fetch(address, {cache: "no-store", signal: AbortSignal.timeout(5000)});
  if (answer.status === 401) throw new Problem(EARLIER);
  if (!answer.ok) throw new Problem(`The server answered ${answer.status}.`);
  return answer.json();
}

class Problem extends Error {}

// The rounds from the last known one on. Where that one is another than it was, somebody has begun
// anew, and all of them count.
async function askRounds(anew) {
  const last = anew ? null : rounds.at(-1);
  if (!last) return ask("history");
  const [same, ...later] = await ask(`history?after=${last.round - 1}`);
  return JSON.stringify(same) === JSON.stringify(last) ? [...rounds, ...later] : ask("history");
}

// Never two requests of a kind at a time: the next look begins when all of this one is over.
async function look() {
  looking = true;
  let pause = SELDOM, packets = [];
  try {
    packets = await learn();
    // After an end at once: the server waits to hear that it is shown.
    pause = status.running ? OFTEN : status.version === shown ? SELDOM : 0;
  } catch (error) {
    lose(error);
    pause = away.calm ? 3 * SELDOM : SELDOM;
  }
  try {
    show(packets);
    shown = away ? -1 : status.version;
  } finally {
    looking = false;
    timer = setTimeout(look, pause);
  }
}

// Take what is new; the packets that have travelled since the last look.
async function learn() {
  const asked = [ask(`status?looker=${me}&shown=${shown}`), ask(`requests?after=${answered ?? 0}`)];
  const [now, seen] = await Promise.allSettled(asked);
  if (now.status === "rejected") throw now.reason;
  const next = now.value, anew = shown < 0 || next.version < shown;
  if (next.version !== shown) rounds = await askRounds(anew);
  if (next.message === "closed" && ended) next.message = ended;
  ended = next.running ? "" : next.message;
  [status, away] = [next, null];
  if (seen.status === "rejected") return [];
  const first = answered === null;
  // Another server counts from one again.
  answered = anew && !first ? null : seen.value.at(-1)?.number ?? answered ?? 0;
  // What was before one looked is over, and nobody sees what a hidden page would show.
  return first || anew || document.hidden ? [] : packetsOf(seen.value);
}

function lose(error) {
  const over = status !== null && !status.running && (rounds.length > 0 || ended !== "ready");
  if (error instanceof Problem) away = {says: error.message, calm: false};
  else if (over && failed()) away = {says: `${failed()} The server has left.`, calm: false};
  else away = over ? {says: OVER, calm: true} : {says: GONE, calm: false};
  answered = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || looking) return;
  clearTimeout(timer);  // a hidden page is held up
  look();
});

// ---- showing it -------------------------------------------------------------------------------

// Untouched where nothing has changed: so a screen reader, or somebody who marks text, is not
// disturbed.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Everyone's images and colour, given in the order of their names when they are first seen, and
// kept; and who is to be seen now.
function everyone() {
  const now = new Set([...status.members.map(member => member.client), ...status.participants]);
  for (const {client, num_examples} of status.members) images.set(client, num_examples);
  for (const record of rounds) {
    for (const [name, part] of Object.entries(record.clients)) {
      if (!images.has(name)) images.set(name, part.num_examples);
    }
  }
  for (const name of [...images.keys()].sort()) {
    if (!colours.has(name)) colours.set(name, colours.size);
  }
  // After the end they leave: who made the last model is still to be seen.
  if (!status.running) for (const name of Object.keys(rounds.at(-1)?.clients ?? {})) now.add(name);
  const known = [...now].filter(name => images.has(name)).sort();
  return new Map(known.map(name => [name, images.get(name)]));
}

// Who is awaited alone, since the others' updates came.
function late() {
  const {running, round, participants, waiting_for: missing} = status, now = performance.now();
  const key = `${round} ${participants.length} ${missing.length}`;
  if (key !== awaited.key) awaited = {key, since: now};
  const alone = running && !away && missing.length < participants.length;
  return new Set(alone && now - awaited.since > LATE_AFTER ? missing : []);
}

// What went wrong with the run, in a sentence; "" if nothing did.
function failed() {
  if (!status || status.running || !status.message.startsWith("ended by an error")) return "";
  return `The run was ${status.message}${/[.!?]$/.test(status.message) ? "" : "."}`;
}

// How it stands, in a word.
function state() {
  if (status.running) return away ? "out of reach" : "running";
  return failed() ? "failed" : status.message;
}

function show(packets) {
  const notice = away?.says ?? failed();
  find("notice").hidden = !notice;
  find("notice").classList.toggle("calm", Boolean(away?.calm));
  say(find("notice"), notice);
  if (!status) {
    say(find("about"), "");
    picture.show({...NOTHING, live: notice});
    return;
  }
  const {unit} = status, word = state(), seen = everyone();
  const tested = rounds.findLast(record => record.accuracy !== null);
  const reached = tested ? percent(tested.accuracy) : "–";
  const planned = status.rounds ? ` of ${whole(status.rounds)}` : "";
  const numbered = number => `${unit} ${whole(number)}${planned}`;
  const where = status.round ? numbered(status.round) : `no ${unit} yet`;

  say(find("pill"), word);
  find("pill").hidden = false;
  find("pill").className = {failed: "failed", "out of reach": "lost"}[word] ?? "";
  say(find("round"), where);
  say(find("accuracy"), reached);
  find("result").hidden = !tested;
  say(find("about"), `${status.strategy} · ${counted(seen.size, "client")}`);
  say(find("unit"), capital(unit));
  say(find("rounds-title"), `${capital(unit)}s`);
  say(find("picture-title"), status.asynchronous ? "The updates" : "The round");
  document.title = `${reached}, ${where} – federation`;

  const result = tested ? ` After ${numbered(tested.round)} the global model has ${reached}.` : "";
  const live = (notice || `${capital(word)}.`) + result;
  const held = away !== null;
  const drawn = scene({status, rounds, images: seen, colours, late: late(), live, held});
  picture.show({...drawn, packets: packets.map(packet => ({...packet, id: ++travelled}))});
  showClients(drawn.clients, seen);
  if (shown !== status.version) showRounds(unit);
}

function showClients(clients, seen) {
  fill(find("clients"), clients.map(({name, accuracy, state}) => {
    const there = status.members.some(member => member.client === name) && !away;
    const doing = status.running ? state : there ? "has joined" : "has left";
    const own = percent(accuracy === null ? null : accuracy / 100);
    return [name, whole(seen.get(name)), own, `${state === "training" ? "●" : "○"} ${doing}`];
  }), ["name", "", "", "words"]);
  find("nobody").hidden = clients.length > 0;
}

function showRounds(unit) {
  const planned = status.rounds <= 10_000 ? status.rounds : 0;
  chart.show({rounds, planned, unit, colours});
  const some = rounds.length > ROWS ? `The latest ${ROWS} of ${whole(rounds.length)}, t` : "T";
  say(find("shown"), `${some}he latest first`);
  fill(find("rounds"), rounds.slice(-ROWS).reverse().map(record => {
    const parts = Object.values(record.clients);
    return [
      whole(record.round), percent(record.accuracy), record.loss?.toFixed(4) ?? "–",
      whole(parts.length), whole(parts.reduce((sum, part) => sum + part.num_examples, 0)),
      whole((record.bytes_down + record.bytes_up) / 1000), record.seconds.toFixed(1), record.note,
    ];
  }), ["", "", "", "", "", "", "", "words"]);
}

// These rows in a table; what was there and is the same stays. A "name" has its client's colour
// before it.
function fill(body, rows, kinds) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  for (const [i, cells] of rows.entries()) {
    const line = body.rows[i] ?? body.insertRow();
    for (const [j, text] of cells.entries()) {
      const cell = line.cells[j] ?? line.insertCell();
      if (kinds[j] !== "name") {
        cell.className = kinds[j];
        say(cell, text);
      } else if (cell.textContent !== text) {
        const dot = document.createElement("span");
        dot.className = "dot";
        dot.style.setProperty("--own", `var(--fl-client-${colours.get(text) % 12})`);
        cell.replaceChildren(dot, text);
      }
    }
  }
}

look();
