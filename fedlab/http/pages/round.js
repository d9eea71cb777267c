// The picture of a round: the server among its clients, and the weights that travel between them.
//
//   const picture = roundPicture(element);
//   picture.show(state);
//
// state: {
//   step:     1 broadcast, 2 client update, 3 upload, 4 server update; 0 between rounds
//   says:     a sentence below the steps; words: the whole picture in words, for those who cannot
//             see it; live: what is read aloud when it changes
//   held:     whether everything stands still
//   server:   {text, slots, share}: its line, whether the updates that it expects are shown, and
//             what a client's share is called: "weight" if nothing is said
//   clients:  [{name, colour, part, share, state, busy, late, progress, arrived, accuracy}]
//             colour: 0-11; part: whether it takes part; share: n_k / n; state: a word or two;
//             progress: 0-1 of its training; arrived: its update is there; accuracy: in %, or null
//   packets:  [{id, client, up, bytes}]: HTTP requests, oldest first; each id travels once
// }
// Names and sentences are set as text, never as markup.

const STEPS = ["broadcast", "client update", "upload", "server update"];
const SVG = "http://www.w3.org/2000/svg";
const TRAVEL = 650;  // milliseconds of a packet's way
const WIDTH = 470, HEIGHT = 232, LARGEST = 1.7;  // pixels of the drawing; it grows with its room
const ROOM = 5;  // more clients than this stand in two rows, the server between them
// Pixels of a client's room: with less there is none but for a name's initials; of many, sooner
export const MANY = 12;
const CROWDED = 44, CROWDED_MANY = 62;
const LETTER = 0.66;  // of a letter's height is its width

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const colourOf = client => `var(--fl-client-${client.colour % 12})`;

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 999_500 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

// "GW" of "Golden Walrus", "C12" of "client-12", "AL" of "alice": where no name has room.
export function initials(name) {
  const [first = "", second = ""] = name.split(/[\s_.-]+/).filter(Boolean);
  const more = /^\d+$/.test(second) ? second.slice(-2) : [...second].slice(0, 1).join("");
  return ([...first].slice(0, second ? 1 : 2).join("") + more).toUpperCase();
}

// A name in at most two rows of so many letters.
function rowsOf(name, letters) {
  const most = Math.max(letters - 1, 0);
  const cut = text => (text.length > letters ? `${text.slice(0, most)}…` : text);
  if (name.length <= letters || !name.includes(" ")) return [cut(name)];
  const words = name.split(" ");
  let first = words.shift();
  while (words.length > 1 && `${first} ${words[0]}`.length <= letters) first += ` ${words.shift()}`;
  return [cut(first), cut(words.join(" "))];
}

function html(parent, name, attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function shape(parent, name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  parent.append(element);
  return set(element, attributes);
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (element.getAttribute(key) !== String(value)) element.setAttribute(key, value);
  }
  return element;
}

// Untouched where nothing has changed: a screen reader reads changes aloud.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function roundPicture(root) {
  root.classList.add("fl-round");
  const steps = html(root, "ol", {class: "fl-steps", "aria-label": "the four steps of a round"});
  const labels = STEPS.map((name, i) => {
    const item = html(steps, "li");
    say(item, `${i + 1} ${name}`);
    return item;
  });
  const says = html(root, "p", {class: "fl-says"});
  const live = html(root, "div", {class: "fl-live", role: "status", "aria-live": "polite"});
  const svg = shape(root, "svg", {role: "img"});
  const links = shape(svg, "g"), nodes = shape(svg, "g"), server = shape(svg, "g");
  const packets = shape(svg, "g");
  let state = null, parts = new Map(), built = "", seen = -1, moving = [], frame = 0;

  // ---- where everything stands ----------------------------------------------------------------

  function layout() {
    const space = [svg.clientWidth || WIDTH, svg.clientHeight || HEIGHT];
    const scale = Math.max(1, Math.min(LARGEST, space[0] / WIDTH, space[1] / HEIGHT));
    const [width, height] = space.map(pixels => pixels / scale);
    const count = state.clients.length, rows = count > ROOM ? 2 : 1;
    const high = rows === 2 ? 52 : 66, wide = Math.min(190, 0.42 * width);
    const above = rows === 2 ? Math.ceil(count / 2) : 0, below = count - above;
    const room = width / Math.max(above, below, 1);
    const crowded = room < (count > MANY ? CROWDED_MANY : CROWDED);
    // Below a circle there is as much as names need: a second row only where one is not enough
    const letters = crowded ? 0 : Math.floor(room / (LETTER * (rows === 2 ? 12 : 14)));
    const two = client => rowsOf(client.name, letters).length > 1;
    const second = !crowded && state.clients.some(two);
    const tall = second ? (rows === 2 ? 13 : 15) : 0, most = rows === 1 ? 27 : second ? 13 : 15;
    const radius = crowded ? Math.min(14, 0.46 * room) : Math.min(most, 0.3 * room);
    const under = crowded ? 12 : (rows === 2 ? 36 : 48) + tall;
    const y = rows === 2 ? height / 2 - 4 : high / 2 + 4;
    const box = {width: wide, height: high, x: width / 2, y};
    const places = state.clients.map((_, i) => {
      const top = i < above, column = top ? i : i - above, columns = top ? above : below;
      // Where it is narrow, every other one
      const inward = crowded && column % 2 ? 2 * radius + 2 : 0;
      return {
        x: width * (column + 0.5) / columns,
        y: top ? radius + 7 + inward : height - radius - under - inward,
        top,
      };
    });
    return {width, height, rows, radius, room, crowded, letters, tall, box, places};
  }

  // From the server to a client: out of its side and down where there is one row.
  function way(at, place) {
    const {box, radius, rows, crowded, tall} = at;
    const end = place.y + (place.top ? radius + (crowded ? 7 : 34 + tall) : -radius - 2);
    if (rows === 2) {
      const edge = box.y + (place.top ? -1 : 1) * box.height / 2;
      const near = Math.max(-0.42, Math.min(0.42, (place.x - box.x) / at.width)) * box.width;
      return `M ${box.x + near} ${edge} L ${place.x} ${end}`;
    }
    if (Math.abs(place.x - box.x) < box.width / 2) {
      return `M ${place.x} ${box.y + box.height / 2} L ${place.x} ${end}`;
    }
    const side = box.x + Math.sign(place.x - box.x) * box.width / 2;
    return `M ${side} ${box.y} Q ${place.x} ${box.y} ${place.x} ${end}`;
  }

  function build(at) {
    for (const group of [links, nodes, server]) group.replaceChildren();
    set(svg, {viewBox: `0 0 ${at.width} ${at.height}`});
    const small = at.rows === 2, font = small ? 12 : 14;
    parts = new Map(state.clients.map((client, i) => {
      const {x, y} = at.places[i], link = shape(links, "g"), node = shape(nodes, "g");
      const r = at.radius, colour = colourOf(client);
      const d = way(at, at.places[i]), around = {cx: x, cy: y, r: r + 5, stroke: colour};
      const part = {link, node, path: shape(link, "path", {class: "link", d, stroke: colour})};
      part.share = shape(link, "text", {class: "soft halo", "font-size": 12});
      part.face = shape(node, "circle", {class: "face", cx: x, cy: y, r, stroke: colour});
      part.ring = shape(node, "circle", {class: "ring", pathLength: 100, ...around});
      part.turning = shape(node, "circle", {
        class: "turning", pathLength: 100, "stroke-dasharray": "14 86", ...around,
      });
      const text = (below, font, look) =>
        shape(node, "text", {x, y: y + below, "font-size": font, ...look});
      part.accuracy = text(small ? 4 : 5, small ? 11 : 14);
      part.name = text(r + (small ? 18 : 24), font, {class: "strong halo"});
      part.state = text(r + (small ? 31 : 41) + at.tall, small ? 11 : 12.5, {class: "soft halo"});
      if (at.crowded) {
        set(part.accuracy, {y: y + 4.5, "font-size": Math.min(12.5, 0.87 * r), class: "strong"});
        say(part.accuracy, initials(client.name));
      } else {
        const dy = small ? 13 : 15;
        for (const [i, row] of rowsOf(client.name, at.letters).entries()) {
          say(shape(part.name, "tspan", {x, dy: dy * i}), row);
        }
      }
      // Beside its link, or below it where that is flat
      const [before, middle, after] = [0.53, 0.55, 0.57].map(
        share => part.path.getPointAtLength(share * part.path.getTotalLength()));
      const flat = Math.abs(after.x - before.x) > 2 * Math.abs(after.y - before.y);
      const side = x < at.box.x - 5 ? -1 : 1;
      part.share.style.textAnchor = flat ? "middle" : side < 0 ? "end" : "start";
      const [aside, below] = flat ? [0, 27] : [16 * side, 4];
      set(part.share, {x: middle.x + aside, y: middle.y + below});
      return [client.name, part];
    }));
    const {x, y, width, height} = at.box, top = y - height / 2, bottom = y + height / 2;
    parts.box = shape(server, "rect", {
      class: "box", x: x - width / 2, y: top, width, height, rx: 12,
    });
    parts.title = shape(server, "text", {
      x, y: top + (small ? 15 : 20), "font-size": 14, class: "strong",
    });
    say(parts.title, "server");
    parts.slots = shape(server, "g");
    parts.text = shape(server, "text", {
      x, y: bottom - (small ? 6 : 9), "font-size": 12.5, class: "soft",
    });
  }

  // ---- what is so now -------------------------------------------------------------------------

  function update(at) {
    const averaging = state.step === 4;
    for (const client of state.clients) {
      const part = parts.get(client.name);
      set(part.path, {"stroke-width": client.part ? 2 + 24 * client.share : 2});
      set(part.link, {class: client.part ? "" : "out"});
      const is = {out: state.step && !client.part, busy: client.busy, late: client.late};
      set(part.node, {class: Object.keys(is).filter(name => is[name]).join(" ")});
      const share = `${Math.round(100 * client.share)} %`;
      const called = at.room > 165 ? `${state.server.share || "weight"} ` : "";
      say(part.share, client.part && at.rows === 1 ? called + share : "");
      // In the small rings of two rows 100.0 would not have room
      const accuracy = client.accuracy?.toFixed(at.rows === 2 ? 0 : 1) ?? "";
      if (!at.crowded) say(part.accuracy, accuracy);
      const narrow = at.rows === 2 && client.part && client.state === "waiting";
      say(part.state, at.crowded ? "" : narrow ? share : client.state);
      const done = Math.round(100 * client.progress);
      const visibility = done ? "visible" : "hidden";
      set(part.ring, {"stroke-dasharray": `${done} ${100 - done}`, visibility});
    }
    set(server, {class: averaging ? "averaging" : ""});
    say(parts.text, state.server.text);
    drawSlots(at, averaging);
  }

  // One slot an update that is to come, filled when it is there; at the average each is as wide as
  // its weight.
  function drawSlots(at, averaging) {
    const taking = state.clients.filter(client => client.part && state.server.slots);
    const {x, y, width} = at.box, inner = width - 28, gap = averaging ? 0 : 4;
    const equal = Math.min(36, (inner + gap) / Math.max(taking.length, 1) - gap);
    let left = averaging ? x - inner / 2 : x - (taking.length * (equal + gap) - gap) / 2;
    for (const [i, client] of taking.entries()) {
      const wide = averaging ? inner * client.share : equal;
      const look = {class: "slot", height: 11, rx: 3, "stroke-width": 1.5};
      const slot = parts.slots.children[i] || shape(parts.slots, "rect", look);
      set(slot, {
        x: left, y: y - 8, width: Math.max(wide, 1), stroke: colourOf(client),
        fill: client.arrived ? colourOf(client) : "none",
        "stroke-dasharray": client.arrived ? "none" : "3 2",
      });
      left += wide + gap;
    }
    while (parts.slots.children.length > taking.length) parts.slots.lastChild.remove();
  }

  // ---- packets --------------------------------------------------------------------------------

  function send(packet) {
    const part = parts.get(packet.client);
    if (!part) return;
    // Many packets travel at once: then none has room to say how large it is
    const {crowded} = layout(), small = state.clients.length > ROOM;
    const wide = crowded ? 17 : small ? 52 : 68, high = crowded ? 12 : small ? 19 : 25;
    const group = shape(packets, "g", {class: packet.up ? "packet up" : "packet down"});
    const client = state.clients.find(one => one.name === packet.client);
    const box = shape(group, "rect", {
      x: -wide / 2, y: -high / 2, width: wide, height: high, rx: crowded ? 4 : 6,
    });
    if (packet.up) set(box, {stroke: colourOf(client)});
    if (!crowded) {
      const text = shape(group, "text", {y: 4.5, "font-size": small ? 11 : 13, class: "strong"});
      say(text, size(packet.bytes));
    }
    moving.push({group, path: part.path, up: packet.up, from: performance.now()});
    if (!frame) frame = requestAnimationFrame(move);
  }

  function move(now) {
    moving = moving.filter(packet => {
      const gone = Math.max(0, (now - packet.from) / TRAVEL);
      if (gone >= 1 || !packet.path.isConnected) {
        packet.group.remove();
        return false;
      }
      const eased = still() ? 0.5 : gone * gone * (3 - 2 * gone);
      const along = (packet.up ? 1 - eased : eased) * packet.path.getTotalLength();
      const {x, y} = packet.path.getPointAtLength(along);
      set(packet.group, {transform: `translate(${x} ${y})`});
      return true;
    });
    frame = moving.length ? requestAnimationFrame(move) : 0;
  }

  // ---- the one way in -------------------------------------------------------------------------

  function draw() {
    const at = layout();
    const looks = state.clients.map(one => [one.name, one.colour]);
    const shown = JSON.stringify([at.width, at.height, looks]);
    if (shown !== built) {
      built = shown;
      build(at);
    }
    update(at);
  }

  function show(next) {
    const first = state === null;
    state = next;
    root.classList.toggle("held", Boolean(state.held));
    labels.forEach((item, i) => {
      item.className = i + 1 === state.step ? "now" : i + 1 < state.step ? "past" : "";
      if (i + 1 === state.step) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    say(says, state.says);
    say(live, state.live);
    set(svg, {"aria-label": state.words});
    draw();
    for (const packet of state.packets) {
      if (packet.id > seen && !first) send(packet);  // what was before one looked is over
      seen = Math.max(seen, packet.id);
    }
  }

  const watcher = new ResizeObserver(() => state && draw());
  watcher.observe(svg);
  return {
    show,
    close: () => {
      watcher.disconnect();
      cancelAnimationFrame(frame);
    },
  };
}
