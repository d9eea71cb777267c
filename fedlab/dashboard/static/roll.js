// The roll of a live class: a chip for each student, and what a teacher does about the chosen one.
// Names are set as text, never as markup. A name that somebody wishes for is shown only where the
// teacher has asked for it: the panel may be on the projector.
import { MANY, initials, say } from "./round.js";

function part(parent, name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function aloud(student) {
  const { before, after, alone } = student, told = [student.shown, student.words];
  if (student.drawn) told.push(`${student.drawn} digits`);
  if (before !== null) told.push(`before ${before} %`);
  if (after !== null) told.push(`after ${after} %`);
  if (alone !== null) told.push(`alone ${alone} %`);
  if (student.wish) told.push("wishes for a name");
  return told.join(", ");
}

function render({ model, el }) {
  const chips = part(el, "div", "fr-chips"), bar = part(el, "div", "fr-bar");
  const summary = part(bar, "span", "fr-summary"), acts = part(bar, "div", "fr-acts");
  const gone = part(el, "p", "fr-gone"), made = new Map();
  summary.setAttribute("role", "status");
  chips.setAttribute("role", "group");
  chips.setAttribute("aria-label", "Students: arrow keys go from one to the next");
  let chosen = "", mode = "", built = "";  // a client; "", "rename" or "names"

  const panel = () => el.closest(".fedlab-panel");  // which has the keys, where nothing else has
  const students = () => model.get("students");
  const send = (act, client = "", name = "") => model.send({ do: act, client, name });

  // ---- chips --------------------------------------------------------------------------------

  function chip(client) {
    const button = document.createElement("button"), face = part(button, "span", "fr-face");
    face.setAttribute("aria-hidden", "true");
    const name = part(button, "b", "fr-name"), words = part(button, "span", "fr-words");
    const good = part(button, "span", "fr-good");
    const before = part(good, "span"), after = part(good, "span");
    button.addEventListener("click", () => choose(chosen === client ? "" : client));
    return { button, face, letters: part(face, "i"), name, words, before, after };
  }

  function showChips() {
    const all = students(), here = new Set(all.map(({ client }) => client));
    for (const [client, { button }] of made) {
      if (here.has(client)) continue;
      if (button === document.activeElement) panel()?.focus({ preventScroll: true });
      button.remove();
      made.delete(client);
    }
    for (const student of all) {
      if (!made.has(student.client)) {
        made.set(student.client, chip(student.client));
        chips.append(made.get(student.client).button);
      }
      const { button, face, letters, name, words, before, after } = made.get(student.client);
      button.className = `fr-chip fr-${student.kind}${student.wish ? " fr-wishes" : ""}`;
      face.style.setProperty("--fl-own", `var(--fl-client-${student.colour})`);
      face.style.setProperty("--fr-part", `${Math.round(360 * student.part)}deg`);
      say(letters, initials(student.shown));
      say(name, student.shown);
      say(words, student.words);
      const [first, last] = [student.before, student.after ?? student.before];
      say(before, student.after === null ? "" : `${first}→`);
      say(after, last === null ? "" : `${last} %`);
      const pressed = String(student.client === chosen), told = aloud(student);
      if (button.getAttribute("aria-pressed") !== pressed) {
        button.setAttribute("aria-pressed", pressed);
      }
      if (button.getAttribute("aria-label") !== told) {
        button.setAttribute("aria-label", told);
        button.title = told;
      }
    }
    chips.classList.toggle("fr-many", all.length > MANY);  // small, on the projector
    if (!here.has(chosen)) chosen = "";
    rove();
  }

  // Tab comes to one chip, arrow keys go to the others.
  function rove(to = null) {
    const all = [...chips.children];
    const one = to ?? all.find(button => button.tabIndex === 0 && button.isConnected) ?? all[0];
    for (const button of all) button.tabIndex = button === one ? 0 : -1;
    to?.focus();
  }

  chips.addEventListener("keydown", event => {
    const all = [...chips.children], here = all.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = step ? here + step : { Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || here < 0 || !all[next]) return;
    event.preventDefault();
    rove(all[next]);
  });
  el.addEventListener("keydown", event => {
    if (event.key !== "Escape" || !(chosen || mode)) return;
    event.stopPropagation();
    const back = made.get(chosen)?.button;
    choose("");
    back?.focus();
  });

  function choose(client) {
    [chosen, mode] = [client, ""];
    show();
  }

  // ---- what is done about them --------------------------------------------------------------

  function button(text, title, action) {
    const made = part(acts, "button", "jupyter-button fr-act", text);
    made.title = title;
    made.addEventListener("click", action);
    return made;
  }

  function showActs() {
    const all = students(), student = all.find(({ client }) => client === chosen);
    const wishes = all.filter(({ wish }) => wish);
    const wished = wishes.map(({ client, wish }) => [client, wish]);
    const shown = JSON.stringify([chosen, mode, student?.shown, student?.wish, wished]);
    if (shown === built) return;
    built = shown;
    const had = acts.contains(document.activeElement) ? document.activeElement : null;
    const typed = acts.querySelector("input")?.value, word = had?.textContent;
    acts.replaceChildren();
    if (mode === "names" && wishes.length) showNames(wishes);
    else if (student && mode === "rename") showRename(student, typed);
    else showUsual(student, wishes);
    if (!had) return;
    const same = [...acts.querySelectorAll("input, button")];
    const again = same.find(one => one.tagName === had.tagName && one.textContent === word);
    (again ?? same[0] ?? panel())?.focus();
  }

  function showUsual(student, wishes) {
    mode = "";
    const act = what => () => send(what, student.client);
    if (student) {
      part(acts, "b", "fr-chosen", student.shown);
      if (student.wish) {
        button(`Show “${student.wish}”`, "The class sees this name from now on", act("approve"));
      }
      button("Rename", "Give another name", () => {
        mode = "rename";
        show();
        acts.querySelector("input")?.focus();
      });
      button("Remove", "Has to go; may ask on the device to come in again", act("remove"));
      button("Ban", "Has to go, and this device does not come in again", act("ban"));
    } else if (wishes.length) {
      const look = `Look at names (${wishes.length})`;
      button(look, "Names that students wish for: they are in sight then", () => {
        mode = "names";
        show();
        acts.querySelector("button")?.focus();
      });
    } else if (students().length) {
      part(acts, "span", "fr-hint", "Choose a student to rename or remove");
    }
  }

  function showNames(wishes) {
    button("Approve all", "The class sees all these names from now on", () => send("approve"));
    for (const { client, wish } of wishes) {
      button(wish, `Show this name in place of ${client}`, () => send("approve", client));
    }
    button("Later", "Show no names now", () => choose(""));
  }

  function showRename(student, typed) {
    const label = part(acts, "label", "fr-rename", `${student.client}: `);
    const input = part(label, "input");
    input.maxLength = 20;
    input.value = typed ?? student.wish ?? "";
    input.placeholder = "a name; none: as given";
    const save = () => {
      send("rename", student.client, input.value);
      choose(student.client);
      made.get(student.client)?.button.focus();
    };
    input.addEventListener("keydown", event => {
      if (event.key !== "Enter") return;
      event.preventDefault();  // or it would press the chip that has the focus then
      save();
    });
    button("Save", "Call this student so", save);
    button("Cancel", "Leave the name as it is", () => choose(student.client));
  }

  function show() {
    showChips();
    say(summary, model.get("summary"));
    say(gone, model.get("removed"));
    showActs();
  }
  model.on("change", show);
  show();
  return () => model.off("change", show);
}

export default { render };
