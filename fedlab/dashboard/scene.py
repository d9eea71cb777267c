"""The picture of a round as data: what http/pages/round.js is given to draw, and the sentences that
say the same. Pure functions of what is so: no widgets, no clock, no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fedlab.checks import counted
from fedlab.dashboard.steps import AVERAGE, BROADCAST, TRAIN, UPLOAD
from fedlab.dashboard.views import percent
from fedlab.history import RoundRecord
from fedlab.plan import Status
from fedlab.secure.told import KEYS, SHARES, UNMASK

MOST_NAMED = 4  # more clients than this are counted in a sentence, not named

HELD = {
    BROADCAST: "Next: the server sends its model to the clients.",
    TRAIN: "The clients have the model. Next: they train.",
    UPLOAD: "The clients have trained. Next: they send weights.",
    AVERAGE: "The server has every update. Next: a new model of them.",
}
"""What slow motion says while a run waits before a step."""

ASIDE = {
    KEYS: "The clients send public keys, which the server passes on: to hide what they will send.",
    SHARES: "The clients give each other shares of their secrets, sealed: in case somebody leaves.",
    UNMASK: "The server knows the sum under its masks. The clients tell what takes them off.",
}
"""What the exchanges of a secure round are for."""

DOING = {
    "fetching": "has a task",
    "answering": "exchanges keys",
    "testing": "testing",
    "sending": "sending",
    "retrying": "server away",
    "failed": "failed",
}
"""A word or two for a client's phase."""


@dataclass(frozen=True)
class Facts:
    """What the picture shows.

    examples:     client id -> its images, of everyone who is to be seen.
    colours:      client id -> its number in plots.CLIENTS.
    status:       of the federation; None before there is one.
    participants: who takes part in the round that is shown.
    own:          client id -> ClientStatus, of the clients of this panel.
    held:         the step before which slow motion waits; 0 where it does not.
    late:         who is awaited alone.
    record:       the last round, or the one that is replayed.
    replayed:     whether it is looked back at.
    guests:       who has joined from elsewhere.
    unit:         what is counted: "round", or "update" or "model" where there are no rounds.
    weighs:       whether an update's weight is its share of the images.
    noisy:        whether a round without updates has a new model too, of noise.
    aside:        who is to be seen, but takes no part now.
    said:         client id -> in a word or two what it does, where the round does not say it.
    idle:         the sentence below the steps while nothing runs; "" for a panel's own.
    """

    examples: Mapping[str, int]
    colours: Mapping[str, int]
    status: Status | None = None
    participants: Sequence[str] = ()
    own: Mapping[str, object] = field(default_factory=dict)
    held: int = 0
    late: frozenset[str] = frozenset()
    record: RoundRecord | None = None
    replayed: bool = False
    guests: frozenset[str] = frozenset()
    unit: str = "round"
    weighs: bool = True
    noisy: bool = False
    aside: frozenset[str] = frozenset()
    said: Mapping[str, str] = field(default_factory=dict)
    idle: str = ""

    @property
    def part(self) -> list[str]:
        """Who takes part in what is shown; who left, or came too late, does not."""
        if self.replayed:
            return list(self.record.clients) if self.record else []
        if not self.running or self.status.asynchronous or not self.participants:
            return [name for name in self.examples if name not in self.aside]
        here = {member.client for member in self.status.members}
        return [name for name in self.participants if name in here]

    @property
    def running(self) -> bool:
        """Whether what is shown is going on."""
        return self.status is not None and self.status.running and not self.replayed

    @property
    def rounds_go(self) -> bool:
        """Whether a round is under way, with somebody in it."""
        return self.running and not self.status.asynchronous and bool(self.participants)

    def arrived(self, client: str) -> bool:
        """Whether this client's update is with the server."""
        if self.rounds_go:
            return client in self.part and client not in self.status.waiting_for
        return self.replayed and self.record is not None and client in self.record.clients


def scene(facts: Facts, requests: Iterable, live: str) -> dict:
    """What round.js shows. requests: RequestRecords, of which those with weights become packets;
    live: what is read aloud.
    """
    step = step_of(facts)
    clients = [_client(facts, name) for name in facts.examples]
    share = "weight" if facts.weighs else "images"
    text = says(facts, step)
    return {
        "step": step,
        "says": text,
        "words": _words(text, clients, share),
        "live": live,
        "held": bool(facts.held) or not facts.running,
        "server": {
            "text": _server(facts),
            "slots": facts.rounds_go or facts.replayed,
            "share": share,
        },
        "clients": clients,
        # Those of a round that goes on do not fly across one that is looked back at
        "packets": [p for r in requests if (p := _packet(r)) and not facts.replayed],
    }


def step_of(facts: Facts) -> int:
    """The step of the round that is going on: 0 where there is none."""
    if facts.replayed:
        return AVERAGE if facts.record else 0
    if facts.held:  # the one that was done last
        return facts.held - 1 or (AVERAGE if facts.record else 0)
    if not facts.rounds_go or facts.status.phase in (KEYS, SHARES):
        return 0
    if not facts.status.waiting_for or facts.status.phase == UNMASK:
        return AVERAGE
    doing = {getattr(facts.own.get(name), "phase", "") for name in facts.participants}
    training = {m.client for m in facts.status.members if m.state == "training"}
    if doing & {"training", "testing"}:
        return TRAIN
    if "sending" in doing or any(map(facts.arrived, facts.participants)):
        return UPLOAD
    return TRAIN if training & set(facts.participants) else BROADCAST


def _client(facts: Facts, name: str) -> dict:
    part = facts.part
    whole = sum(facts.examples.get(other, 0) for other in part)
    state, progress, busy = _doing(facts, name)
    accuracy = _accuracy(facts, name)
    return {
        "name": name,
        "colour": facts.colours.get(name, 0),
        "part": name in part,
        "share": facts.examples[name] / whole if name in part and whole else 0.0,
        "state": state,
        "busy": busy,
        "late": name in facts.late,
        "progress": progress,
        "arrived": facts.arrived(name),
        "accuracy": None if math.isnan(accuracy) else round(100 * accuracy, 1),
    }


def _doing(facts: Facts, name: str) -> tuple[str, float, bool]:
    """In a word or two, how far its training is (0-1), and whether it computes."""
    status = facts.own.get(name)
    if facts.replayed:
        came = facts.record is not None and name in facts.record.clients
        drawn = name in facts.participants
        if facts.unit != "round":
            return ("merged" if came else ""), float(came), False
        return ("averaged" if came else "too late" if drawn else "not drawn"), float(came), False
    if name in facts.said and not (facts.rounds_go and name in facts.part):
        return facts.said[name], 0.0, False
    phase = getattr(status, "phase", "")
    if not facts.running:
        return DOING["failed"] if phase == "failed" else _images(facts, name), 0.0, False
    if name in facts.late:
        return "late", 0.0, False
    if phase == "training" and status.epochs:
        epochs = f" {status.epoch}/{status.epochs}" if status.epochs > 1 else ""
        return f"training{epochs}", max(status.epoch - 1, 0) / status.epochs, True
    if facts.rounds_go and name not in facts.participants:
        return "not drawn", 0.0, False
    if facts.arrived(name):
        return "sent", 1.0, False
    if phase == "sending" and facts.held == UPLOAD:
        return "has trained", 1.0, False
    if phase in DOING:
        return DOING[phase], float(phase in ("testing", "sending")), phase == "testing"
    guest = next((m for m in facts.status.members if m.client == name), None)
    trains = guest is not None and status is None and guest.state == "training"
    return ("training" if trains else "waiting"), 0.0, trains


def _accuracy(facts: Facts, name: str) -> float:
    if facts.replayed or name in facts.guests:
        there = facts.record.clients.get(name) if facts.record else None
        return there.accuracy if there else math.nan
    return getattr(facts.own.get(name), "accuracy", math.nan)


def _server(facts: Facts) -> str:
    if facts.replayed:
        return f"{facts.unit} {facts.record.round}" if facts.record else "untrained"
    if facts.rounds_go:
        there = sum(map(facts.arrived, facts.participants))
        return f"{there} of {counted(len(facts.part), 'update')}"
    if facts.running and facts.status.asynchronous:
        return "merges at once"
    if facts.record is not None and not math.isnan(facts.record.accuracy):
        return f"model: {percent(facts.record.accuracy)}"
    return "untrained model"


def says(facts: Facts, step: int) -> str:
    """The sentence below the steps."""
    if facts.replayed:
        if facts.record is None:
            return "Looking back: the untrained model guesses."
        which = f"{_capital(facts.unit)} {facts.record.round}"
        if not facts.record.clients:
            return f"{which}. {_of_nobody(facts)}"
        return f"{which}: the model was made of {counted(len(facts.record.clients), 'update')}."
    if facts.status is None:
        return "The server starts when TensorFlow is loaded."
    if facts.held == BROADCAST and facts.record:
        good = "" if math.isnan(facts.record.accuracy) else f": {percent(facts.record.accuracy)}"
        if not facts.record.clients:
            return f"{_of_nobody(facts)} Next: it is sent."
        return f"The server has a new model{good}. Next: it is sent."
    if facts.held:
        return HELD[facts.held]
    if not facts.running:
        if facts.idle:
            return facts.idle
        if facts.record:
            return "Look back at a round, or draw a digit for the models."
        return "Each client has its own images. Only weights will travel."
    if facts.status.asynchronous:
        return "Every update is merged as it arrives: nobody waits for anybody."
    part, waiting = facts.part, set(facts.status.waiting_for)
    if facts.status.phase in ASIDE:
        return ASIDE[facts.status.phase]
    if not facts.participants:
        return _capital(facts.status.message) + "."
    if facts.late:
        return f"The server waits for {names(sorted(facts.late))}. Stop ends the run."
    if step == BROADCAST:
        return f"The server sends its model to {names(part)}."
    phases = {name: getattr(facts.own.get(name), "phase", "") for name in part}
    there = list(filter(facts.arrived, part))
    arrived = f" Already there: {names(there)}." if there else ""
    if step == TRAIN:
        busy = [name for name in part if name in waiting and phases[name] != "sending"]
        return f"{_capital(names(busy))} {verb(busy, 'trains', 'train')} on their own images."
    if step == UPLOAD:
        sending = [name for name in part if name in waiting and phases[name] == "sending"]
        if sending:
            told = f"{_capital(names(sending))} {verb(sending, 'sends', 'send')} weights."
        else:
            told = f"The server waits for {names([name for name in part if name in waiting])}."
        return told + arrived
    return f"The server makes a new model of {counted(len(there), 'update')}, and tests it."


def _of_nobody(facts: Facts) -> str:
    """What became of the model in a round that took no update."""
    note = facts.record.note
    if note.startswith("rejected"):
        return "What came of the updates was rejected: the last good model stays."
    if facts.noisy:
        return "There was no update, only noise, which is in the model now."
    why = "Nobody was drawn" if note.startswith("nobody") else "Too few updates"
    return f"{why}: the model stays."


def names(clients: Sequence[str]) -> str:
    """ "alice, bob and carol", or "12 clients"."""
    if len(clients) > MOST_NAMED:
        return f"{len(clients)} clients"
    *first, last = clients or ["nobody"]
    return f"{', '.join(first)} and {last}" if first else last


def verb(clients: Sequence[str], one: str, several: str) -> str:
    """The form of a verb for so many."""
    return one if len(clients) == 1 else several


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _images(facts: Facts, name: str) -> str:
    count = facts.examples[name]
    return counted(count, "image") if len(facts.examples) <= MOST_NAMED + 1 else f"{count:,}"


def _words(text: str, clients: Sequence[dict], share: str) -> str:
    """The whole picture for those who cannot see it."""
    told = []
    for client in clients:
        own = "" if client["accuracy"] is None else f", own model {client['accuracy']} %"
        weight = f", {share} {100 * client['share']:.0f} %" if client["part"] else ""
        told.append(f"{client['name']}: {client['state']}{weight}{own}")
    return f"The server and {counted(len(clients), 'client')}. {text} {'; '.join(told)}."


def _packet(request) -> dict | None:
    """Weights that have travelled: down with a task, up with an update."""
    up = request.path == "/updates" and request.status == 202
    if not up and not (request.path == "/task" and request.status == 200):
        return None
    size = request.bytes_up if up else request.bytes_down
    return {"id": request.number, "client": request.client, "up": up, "bytes": size}
