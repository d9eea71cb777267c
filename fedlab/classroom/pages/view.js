// What is seen: from what is so (`now`) to the page's elements. What comes from the server, or from
// a person, is set as text.

import { counts, imageOfKept, missing, summary } from "./drawings.js";

export const find = id => document.getElementById(id);

// Untouched where nothing has changed: so a screen reader is not disturbed.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A button that cannot apply. One that loses its place hands it on.
export function able(button, yes, next) {
  const focused = !yes && button === document.activeElement;
  button.disabled = !yes;
  if (focused) next?.focus({ preventScroll: true });
}

// An image of 784 numbers on a canvas of 28 by 28: in the colour of its text, or of this one.
export function paintImage(canvas, image, colour = getComputedStyle(canvas).color) {
  const context = canvas.getContext("2d"), picture = context.createImageData(28, 28);
  const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
  image.forEach((value, place) => picture.data.set([red, green, blue, 255 * value], 4 * place));
  context.putImageData(picture, 0, 0);
}

// The number and its word stay on one line.
const counted = (number, word) => `${number}\u00a0${word}${number === 1 ? "" : "s"}`;
const ofAll = (number, all) => (all ? `${number} of ${all}` : `${number}`);

// The name on this phone: the wished one only where everybody may see it.
export function shownName({ me, status }) {
  return (status?.approved && status.name) || status?.client || me?.client || "";
}

export function show(now) {
  document.body.dataset.screen = now.screen;
  showTop(now);
  if (now.screen === "join") showJoin(now);
  if (now.screen === "welcome") showWelcome(now);
  if (now.screen === "draw") showDrawing(now);
  if (now.screen === "together") showTogether(now);
}

function showTop(now) {
  const { status, code, away } = now, name = shownName(now);
  say(find("name"), name);
  const waits = status?.name && !status.approved ? `“${status.name}” awaits approval` : "";
  say(find("class"), waits || `class ${code}`);
  find("who").setAttribute("aria-label", `${name}, class ${code}. ${waits} Change your name`);
  find("lost").hidden = !away;
  find("state").hidden = away;
  say(find("state"), stateOf(status));
  document.title = name ? `${name} – class ${code}` : "Classroom";
}

function stateOf(status) {
  if (!status) return "…";
  if (status.phase === "running") return `round ${ofAll(status.round, status.rounds)}`;
  if (status.phase === "waiting" && status.round) return `after round ${status.round}`;
  return { waiting: "not started", paused: "paused", over: "finished" }[status.phase] ?? "…";
}

function showJoin({ collection, whose }) {
  const count = collection.drawings.length;
  find("along").hidden = !count;
  say(find("along-said"),
    `${whose ? `I am ${whose}: bring` : "Bring"} my ${counted(count, "drawing")} along`);
}

function showWelcome(now) {
  const { me, code, away } = now;
  say(find("welcome-before"), me ? "You are" : `Joining class ${code}`);
  say(find("welcome-title"), me ? shownName(now) : "…");
  const waits = now.status?.name && !now.status.approved
    ? ` – “${now.status.name}” when your teacher has approved it` : "";
  say(find("welcome-class"), me ? `in class ${code}${waits}` : away
    ? "The teacher’s computer does not answer yet. This page keeps trying." : "One moment.");
  able(find("begin"), me);
  able(find("own-name"), me);
}

// ---- drawing ------------------------------------------------------------------------------------

export function article(digit) {
  return digit === 8 ? "an 8" : `a ${digit}`;
}

function showDrawing(now) {
  const { collection, asked, told, away, wanted, pad } = now, have = counts(collection);
  const { drawn } = summary(collection), target = now.status?.target ?? 30;
  const least = now.status?.min_digits ?? 10, lacking = missing(collection, least);
  say(find("ask"), `Draw ${article(asked)}`);
  const some = pad.strokes().length > 0;
  able(find("undo"), some, find("paper"));
  able(find("keep"), some && !pad.busy(), find("paper"));
  able(find("mine"), drawn > 0, find("paper"));
  say(find("mine-count"), String(drawn));
  find("mine").setAttribute("aria-label", `Your ${counted(drawn, "drawing")}: look at them`);
  showBars(have, asked, Math.max(target / 10, 1));
  able(find("train"), wanted || !lacking, find("paper"));
  say(find("train"), wanted ? "See the training" : "Train with the class");
  const usual = away ? { wrong: true, text: AWAY } : { text: standing(drawn, target, lacking) };
  const words = told ?? usual;
  say(find("told"), words.text);
  find("told").classList.toggle("wrong", Boolean(words.wrong));
}

const AWAY = "The teacher’s computer does not answer. Draw on, all is kept.";

function standing(drawn, target, lacking) {
  if (lacking && drawn) return lacking;
  if (drawn >= target) return `All ${target} drawn. More of them teach the model more.`;
  return `${drawn} of ${target} drawn. Every fifth is kept aside, to test the model.`;
}

function showBars(have, asked, full) {
  const bars = find("bars");
  while (bars.children.length < 10) {
    const bar = document.createElement("li");
    bar.append(document.createElement("i"), String(bars.children.length));
    bars.append(bar);
  }
  for (const [digit, bar] of [...bars.children].entries()) {
    bar.classList.toggle("next", digit === asked);
    bar.setAttribute("aria-label", `${digit}: ${have[digit]} of ${Math.ceil(full)}`);
    bar.firstChild.style.setProperty("--full", Math.min(have[digit] / full, 1));
  }
}

// Every kept drawing as a button.
export function showList({ collection }, choose) {
  find("list").replaceChildren(...collection.drawings.map(drawing => {
    const item = document.createElement("li"), button = document.createElement("button");
    const canvas = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
    button.type = "button";
    button.classList.toggle("aside", drawing.aside);
    button.setAttribute("aria-label", `a ${drawing.label}${drawing.aside ? ", kept aside" : ""}`);
    button.append(canvas, String(drawing.label));
    button.addEventListener("click", () => choose(drawing.id));
    item.append(button);
    return item;
  }));
  for (const [place, drawing] of collection.drawings.entries()) {
    paintImage(find("list").children[place].querySelector("canvas"), imageOfKept(drawing));
  }
}

// ---- training -----------------------------------------------------------------------------------

// What happens, as [title, more, step].
function happening({ status, away, over, problem, display, sent, late, latest, collection }) {
  const { phase, students = 1, training = 0, round = 0, rounds = 0 } = status ?? {};
  const inClass = `${counted(students, "student")} in the class.`;
  if (problem) return ["Stopped", problem, ""];
  if (display) {
    const { train } = summary(collection), times = counted(display.epochs, "time");
    const digits = display.examples ?? train;
    const last = rounds >= display.round ? rounds : 0;
    return ["Training", `Round ${ofAll(display.round, last)}: ${times} over your`
      + ` ${counted(digits, "digit")}.`, "training"];
  }
  if (away && over) {
    return ["Finished", "The run is over, and the teacher’s computer has left.", ""];
  }
  if (away) return ["No connection", "Your drawings are kept, and this page keeps trying.", ""];
  if (phase === "paused") return ["Paused", `Your teacher has paused the run. ${inClass}`, ""];
  if (phase === "over") return ["Finished", `The run is over. ${inClass}`, ""];
  if (phase === "running") {
    if (latest && sent === latest.round && round <= sent) {
      const others = training ? `${training} of ${students} still train.` : "";
      if (late) return ["Too late", `The round was over before your weights came. ${others}`, ""];
      return ["Sent", `Your weights are with the teacher’s computer. ${others}`, "sent"];
    }
    return ["Waiting", `The next round is about to begin. ${inClass}`, "waiting"];
  }
  if (round) return ["Well done", `Round ${round} is over. Your teacher goes on. ${inClass}`, ""];
  return ["You are in", `Waiting for your teacher to start. ${inClass}`, "waiting"];
}

function showTogether(now) {
  const { results, collection, wanted, problem } = now, [title, more, step] = happening(now);
  say(find("doing"), title);
  say(find("doing-more"), more);
  find("doing-more").classList.toggle("wrong", Boolean(problem));
  say(find("digits"), `your ${counted(summary(collection).train, "digit")}`);
  for (const item of find("steps").children) {
    item.classList.toggle("now", item.dataset.step === step);
    if (item.dataset.step === step) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  find("together").classList.toggle("done", step === "sent");
  if (!now.display) {
    showPart(step === "sent" ? 1 : 0);
    showDigit(collection.drawings.find(one => !one.aside));
  }
  say(find("stop"), wanted ? "Stop" : "Go on");
  showCard("before", results?.before, results?.total);
  showCard("now", results?.correct, results?.total);
  showCard("alone", results?.alone, results?.total);
  showAnswers(collection, results);
}

// How much of the training is shown, from 0 to 1.
export function showPart(part) {
  find("ring").style.strokeDasharray = `${100 * part} 100`;
  find("ring").style.opacity = part > 0 ? 1 : 0; // a round line of no length would be a dot
  const whole = Math.round(100 * part);
  if (find("part").value !== whole) find("part").value = whole;
}

// A digit in the middle of the dial.
export function showDigit(drawing) {
  const canvas = find("turn");
  if (canvas.dataset.id === String(drawing?.id)) return;
  canvas.dataset.id = String(drawing?.id);
  paintImage(canvas, drawing ? imageOfKept(drawing) : new Float32Array(784));
}

function showCard(id, correct, total) {
  const known = total > 0 && Number.isFinite(correct);
  say(find(id), known ? `${correct} of ${total}` : "–");
}

// The digits kept aside, each with what the class's model says to it.
function showAnswers({ drawings }, results) {
  const aside = drawings.filter(one => one.aside), list = find("answers");
  const said = new Map((results?.ids ?? []).map((id, place) => [id, results.answers[place]]));
  while (list.children.length > aside.length) list.lastChild.remove();
  for (const [place, drawing] of aside.entries()) {
    const answer = said.get(drawing.id), known = answer !== undefined;
    const item = list.children[place] ?? list.appendChild(document.createElement("li"));
    const key = `${drawing.id} ${drawing.label} ${answer} ${matchMedia(DARK).matches}`;
    if (item.dataset.key === key) continue;
    item.dataset.key = key;
    const canvas = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
    const words = document.createElement("span"), right = answer === drawing.label;
    words.className = !known ? "soft" : right ? "right" : "wrong";
    words.setAttribute("aria-hidden", "true");
    words.textContent = !known ? "?" : `${answer} ${right ? "✓" : "✗"}`;
    const heard = document.createElement("span");
    heard.className = "hidden";
    heard.textContent = `Your ${drawing.label}: `
      + (known ? `the model says ${answer}, ${right ? "right" : "wrong"}` : "not asked yet");
    item.replaceChildren(canvas, words, heard);
    paintImage(canvas, imageOfKept(drawing), getComputedStyle(list).color);
  }
}

export const DARK = "(prefers-color-scheme: dark)";
