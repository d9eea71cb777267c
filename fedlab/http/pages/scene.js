// What the picture of the round shows (see round.js), made of what the server says: as
// fedlab/dashboard/scene.py makes it for a panel, which knows its own clients better.

const BROADCAST = 1, TRAIN = 2, UPLOAD = 3, AVERAGE = 4;
const MOST_NAMED = 4;  // more clients than this are counted in a sentence, not named

export const percent = value => value === null ? "–" : `${(100 * value).toFixed(1)} %`;
export const whole = value => Math.round(value).toLocaleString("en");
export const counted = (number, thing) => `${whole(number)} ${thing}${number === 1 ? "" : "s"}`;
export const capital = text => text.slice(0, 1).toUpperCase() + text.slice(1);
const verb = (clients, one, several) => clients.length === 1 ? one : several;

// "alice, bob and carol", or "12 clients"
function names(clients) {
  if (clients.length > MOST_NAMED) return counted(clients.length, "client");
  const last = clients.at(-1) ?? "nobody", first = clients.slice(0, -1);
  return first.length ? `${first.join(", ")} and ${last}` : last;
}

// status: as GET /status says it. rounds: those of GET /history. images: a Map from everyone who is
// to be seen to its images. colours: a Map from everyone to its colour. late: the Set of those who
// are awaited alone. live: what is read aloud. held: whether what is shown is known to be old.
export function scene({status, rounds, images, colours, late, live, held}) {
  const members = new Map(status.members.map(member => [member.client, member]));
  const last = rounds.at(-1) ?? null;
  // Between two rounds the server still names those of the one before.
  const opened = status.participants.length > 0 && last?.round !== status.round;
  const goes = status.running && !status.asynchronous && opened;
  const part = goes ? status.participants : [...images.keys()];
  const awaited = new Set(status.waiting_for);
  const arrived = name => goes && part.includes(name) && members.has(name) && !awaited.has(name);
  const trains = name => members.get(name)?.state === "training";

  function stepOf() {
    if (!goes) return 0;
    if (!awaited.size) return AVERAGE;
    if (part.some(arrived)) return UPLOAD;
    return part.some(trains) ? TRAIN : BROADCAST;
  }

  function doing(name) {
    const several = images.size > MOST_NAMED + 1, count = images.get(name);
    if (!status.running) return several ? whole(count) : counted(count, "image");
    if (!members.has(name)) return "has left";
    if (goes && !part.includes(name)) return "not drawn";
    if (arrived(name)) return "sent";
    if (late.has(name)) return "late";
    return trains(name) ? "training" : "waiting";
  }

  function serverSays() {
    if (goes) return `${part.filter(arrived).length} of ${counted(part.length, "update")}`;
    if (status.running && status.asynchronous) return "merges at once";
    const tested = rounds.findLast(record => record.accuracy !== null);
    return tested ? `model: ${percent(tested.accuracy)}` : "untrained model";
  }

  function says() {
    if (!status.running) {
      if (last) return "Only weights have travelled, no images.";
      if (!images.size) return "Nobody has joined yet: how to do that is below.";
      return "Each client has its own images. Only weights will travel.";
    }
    if (status.asynchronous && members.size) {
      return "Every update is merged as it arrives: nobody waits for anybody.";
    }
    if (!goes) return `${capital(status.message)}.`;
    const there = part.filter(arrived);
    if (late.size) return `The server waits for ${names([...late])}.`;
    if (step === BROADCAST) return `The server sends its model to ${names(part)}.`;
    if (step === TRAIN) {
      return `${capital(names(part))} ${verb(part, "trains", "train")} on their own images.`;
    }
    if (step === UPLOAD) {  // whether the others still train or send already is not known here
      const missing = names(part.filter(name => awaited.has(name)));
      const sent = `${capital(names(there))} ${verb(there, "has", "have")} sent weights`;
      return `${sent}. Awaited: ${missing}.`;
    }
    const updates = counted(there.length, "update");
    return `The server makes a new model of ${updates}, and tests it.`;
  }

  const step = stepOf(), text = says();
  const sum = part.reduce((total, name) => total + (images.get(name) ?? 0), 0);
  const clients = [...images].map(([name, count]) => {
    const own = rounds.findLast(record => (record.clients[name]?.accuracy ?? null) !== null);
    const takesPart = part.includes(name), there = arrived(name), state = doing(name);
    return {
      name, colour: colours.get(name), state, late: late.has(name),
      part: takesPart, share: takesPart && sum ? count / sum : 0,
      busy: state === "training", progress: Number(there), arrived: there,
      accuracy: own ? 100 * own.clients[name].accuracy : null,
    };
  });
  const told = clients.map(({name, state, part, share, accuracy}) => {
    const weight = part ? `, weight ${Math.round(100 * share)} %` : "";
    const own = accuracy === null ? "" : `, own model ${accuracy.toFixed(1)} %`;
    return `${name}: ${state}${weight}${own}`;
  });
  return {
    step, says: text, live, held: held || !status.running, clients,
    words: `The server and ${counted(clients.length, "client")}. ${text} ${told.join("; ")}.`,
    server: {text: serverSays(), slots: goes},
  };
}

// The packets of these answers of GET /requests: what weights have travelled, down with a task, up
// with an update. The original demonstration's clients send and get them in one request.
export function packetsOf(requests) {
  return requests.flatMap(({client, method, path, status, bytes_up, bytes_down}) => {
    const up = {client, up: true, bytes: bytes_up}, down = {client, up: false, bytes: bytes_down};
    if (path === "/updates" && status === 202) return [up];
    if (path === "/task" && status === 200) return [down];
    return path === "/" && method === "POST" && status === 200 ? [up, down] : [];
  });
}
