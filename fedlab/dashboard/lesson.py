"""What is so in a live class at one moment, looked up once for everything in the teacher's panel
that shows it, and said in words. No widgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedlab.checks import counted
from fedlab.classroom.curves import Curves
from fedlab.classroom.live import OVER, PAUSED, RUNNING, TARGET, LiveClass
from fedlab.classroom.roster import SHARDS, Measured, Student
from fedlab.classroom.settings import ALIKE, MNIST
from fedlab.dashboard import views
from fedlab.dashboard.scene import MOST_NAMED, Facts, names
from fedlab.history import RoundRecord
from fedlab.plan import Status

HONEST = (
    "Drawings stay on the devices. This computer gets the weights that were trained on them, and"
    " could learn something from these (lesson 6)."
)
"""Who sees what."""

OURS, ALONE, MNIST_TEST = "our handwriting", "each alone", "MNIST test images"
"""What the curve's lines are called."""

MOST_OF = 0.8
"""Of those who measured a model, so many have to have measured the next one before it is shown."""


@dataclass(frozen=True)
class Lesson:
    """students, as they came; status: the federation's, with the names that the class sees (None
    before there is one); record: the last round; late: who is awaited alone; removed: who had to
    go, and whether there is a ban; dealt, alike, begun_with, door: as the class is; now: the time.
    The rest is what `LiveClass` says.
    """

    students: Sequence[Student] = ()
    status: Status | None = None
    phase: str = "waiting"
    pausing: bool = False
    rounds: int = 0
    curves: Curves | None = None
    record: RoundRecord | None = None
    minimum: int = 2
    deadline: float = 30.0
    round_deadline: float = 30.0
    alike: bool = True
    begun_with: str = "blank"
    door: bool = True
    late: frozenset[str] = frozenset()
    removed: Mapping[str, bool] = field(default_factory=dict)
    now: float = 0.0

    @property
    def done(self) -> int:
        """The last round that has ended."""
        return self.record.round if self.record else 0

    @property
    def running(self) -> bool:
        """Whether rounds are being played."""
        return self.phase == RUNNING

    @property
    def opened(self) -> bool:
        """Whether a round is under way: its devices were asked, and it has not ended."""
        return self.running and self.status.running and self.status.round > self.done

    @property
    def lacking(self) -> bool:
        """Whether a round cannot begin, as too few are ready."""
        return self.running and not self.opened and len(self.status.members) < self.minimum

    @property
    def waiting_for(self) -> list[str]:
        """Whose updates the round under way still waits for."""
        return list(self.status.waiting_for) if self.opened else []

    @property
    def playing(self) -> set[str]:
        """Who takes part in the round under way: without those who have left, and not answered."""
        return {*self.status.answered, *self.status.waiting_for} if self.opened else set()

    @property
    def ready(self) -> list[Student]:
        """Who would take part in a round that began now."""
        inside = {member.client for member in self.status.members} if self.status else set()
        return [student for student in self.students if student.shown in inside]


def look(live: LiveClass, late: frozenset[str], removed: Mapping[str, bool], now: float) -> Lesson:
    """What is so now."""
    students, status, history = live.students(), live.federation.status(), live.history
    known = {student.client: student.shown for student in students}

    def named(clients):
        return [known.get(client, client) for client in clients]

    members = [replace(m, client=known.get(m.client, m.client)) for m in status.members]
    lists = {n: named(getattr(status, n)) for n in ("waiting_for", "participants", "answered")}
    status = replace(status, members=members, **lists)
    record = history.last
    if record is not None:
        record = replace(
            record, clients={known.get(name, name): part for name, part in record.clients.items()}
        )
    return Lesson(
        students=students,
        status=status,
        phase=live.phase,
        pausing=live.pausing,
        rounds=live.rounds,
        curves=live.curves(),
        record=record,
        minimum=live.minimum,
        deadline=live.deadline,
        round_deadline=live.round_deadline,
        alike=live.weigh == ALIKE,
        begun_with=live.begun_with,
        door=live.open,
        late=frozenset(named(late)),
        removed=dict(removed),
        now=now,
    )


# ---- each student --------------------------------------------------------------------------------


def does(student: Student, lesson: Lesson) -> tuple[str, str]:
    """What a student does: a word for the style, and words for people."""
    if student.quiet(lesson.now):
        return "quiet", f"quiet for {ago(lesson.now - student.seen)}"
    if student.doing in ("asleep", "away"):
        return student.doing, student.doing
    if student.shown in lesson.playing:
        if student.shown not in lesson.waiting_for:
            return "sent", "sent"
        trains = {m.client for m in lesson.status.members if m.state == "training"}
        return ("trains", "trains") if student.shown in trains else ("waits", "waits")
    if student.uses == SHARDS and student.shards is None:
        return "without", "no shards yet"
    count = student.drawn[0] + student.drawn[1]
    if student.doing == "drawing":
        return "draws", f"draws, {count} of {max(TARGET, count)}"
    if student.shards is not None and student.takes_shards:
        first, last = student.shards
        return "ready", f"shard {first}" if first == last else f"shards {first}–{last}"
    if student.last is not student.first:  # beside both results there is little room
        return "ready", "ready"
    return "ready", f"ready, {count}" if student.measured else f"ready, {counted(count, 'digit')}"


def ago(seconds: float) -> str:
    """How long, in steps that do not move all the time."""
    return f"{5 * int(seconds // 5)} s" if seconds < 60 else f"{int(seconds // 60)} min"


def rows(lesson: Lesson, colours: Mapping[str, int]) -> list[dict]:
    """The roll, as static/roll.js draws it: a row a student."""
    found = []
    for student in lesson.students:
        kind, words = does(student, lesson)
        count = student.drawn[0] + student.drawn[1]
        first, last = student.first, student.last
        dealt = student.shards is not None and student.takes_shards
        found.append(
            {
                "client": student.client,
                "shown": student.shown,
                "colour": colours.get(student.client, 0) % 12,
                "kind": kind,
                "words": words,
                "drawn": count,
                "part": 1.0 if dealt else round(min(count / TARGET, 1.0), 2),
                "before": _share(first),
                "after": _share(last) if last is not first else None,
                "alone": _share(last, alone=True),
                "wish": student.wish if student.wish and not student.approved else "",
                "device": student.kind,
            }
        )
    return found


def _share(measured: Measured | None, alone: bool = False) -> int | None:
    right = None if measured is None else measured.alone if alone else measured.correct
    return None if right is None else round(100 * right / measured.total)


def removed_words(removed: Mapping[str, bool]) -> str:
    """Who had to go, for the roll."""
    asks = [name for name, ban in removed.items() if not ban]
    banned = [name for name, ban in removed.items() if ban]
    told = []
    if asks:
        told.append(f"Removed: {', '.join(asks)}. Back only when asking on the device.")
    if banned:
        told.append(f"Banned: {', '.join(banned)}.")
    return " ".join(told)


def summary(lesson: Lesson) -> str:
    """The roll in a line."""
    if not lesson.students:
        return "Nobody is here yet"
    kinds = [does(student, lesson)[0] for student in lesson.students]
    told = [f"{len(kinds)} here"]
    for several, word in (
        (("ready", "sent", "waits"), "ready"),
        (("draws",), "drawing"),
        (("without",), "without shards"),
        (("trains",), "training"),
        (("asleep", "away"), "asleep"),
        (("quiet",), "gone quiet"),
    ):
        if count := sum(kind in several for kind in kinds):
            told.append(f"{count} {word}")
    return " · ".join(told)


# ---- the picture of the round --------------------------------------------------------------------


def facts(lesson: Lesson, colours: Mapping[str, int]) -> Facts:
    """What the picture shows: everybody, by the name that the class sees."""
    members = {member.client: member.num_examples for member in lesson.status.members}
    examples = {s.shown: members.get(s.shown, s.drawn[0]) for s in lesson.students}
    examples |= {name: count for name, count in members.items() if name not in examples}
    if lesson.alike:  # all weigh as much
        examples = dict.fromkeys(examples, 1)
    said = {student.shown: short(*does(student, lesson)) for student in lesson.students}
    asked = lesson.status.participants
    between = lesson.running and not lesson.opened and not lesson.lacking and bool(asked)
    # Between two rounds the picture stands still, rather than flicker
    asked = asked if lesson.opened or between else []
    status = replace(lesson.status, running=lesson.running, participants=asked)
    if between:
        status = replace(status, waiting_for=[])
    by_name = {student.shown: colours.get(student.client, 0) for student in lesson.students}
    return Facts(
        examples=examples,
        colours=by_name,
        status=status,
        participants=asked,
        late=lesson.late & set(lesson.waiting_for),
        record=lesson.record,
        guests=frozenset(examples),
        aside=frozenset(examples) - set(members),
        said=said,
        idle=idle(lesson),
    )


def short(kind: str, words: str) -> str:
    """What a student does, where there is little room."""
    return words.split(",")[0] if kind in ("quiet", "ready", "without") else kind


def idle(lesson: Lesson) -> str:
    """The sentence below the steps while no round is played."""
    if lesson.done:
        return "Only weights have travelled: the drawings are where they were."
    return "Each device has its own digits. Only weights will travel."


def model_words(lesson: Lesson) -> str:
    """The line of the server in the picture, while no round is played."""
    good, count = latest(lesson.curves)
    if count:
        return f"model: {views.percent(good)}"
    return "reads MNIST" if lesson.begun_with == MNIST else "untrained model"


# ---- in words ------------------------------------------------------------------------------------


def latest(curves: Curves | None) -> tuple[float, int]:
    """How good the class's model is on its own handwriting, as far as is known, and how many
    measured that; (nan, 0) where nobody has.
    """
    for good, count in reversed(list(zip(curves.ours, curves.students, strict=True))):
        if count:
            return good, count
    return math.nan, 0


def settled(curves: Curves, running: bool) -> Curves:
    """The curves without last points that some have not measured yet: they would jump. Of a round
    that two others have followed nobody is awaited any more.
    """
    counts, here = curves.students, len(curves.students)
    while running and here > max(len(counts) - 2, 1):
        if counts[here - 1] >= MOST_OF * max(counts[max(here - 4, 0) : here - 1]):
            break
        here -= 1
    if here == len(counts):
        return curves
    gone = len(counts) - here
    ours, alone = (values[:here] + [math.nan] * gone for values in (curves.ours, curves.alone))
    return replace(curves, ours=ours, alone=alone, students=counts[:here] + [0] * gone)


def header(lesson: Lesson, trouble: str, busy: str) -> str:
    """The line at the top, as HTML. trouble: what went wrong; busy: what takes a while just now."""
    pill, said = now_words(lesson)
    if busy:
        pill, said = "a moment", busy
    good, count = latest(settled(lesson.curves, lesson.running)) if lesson.curves else (math.nan, 0)
    devices = f"<br>{counted(count, 'device')} measured" if count else "<br>not measured yet"
    of = f"{OURS}{devices}"
    shown = views.message(trouble, error=True) if trouble else views.message(said)
    return views.header(pill, bool(trouble), shown, views.percent(good), of)


def now_words(lesson: Lesson) -> tuple[str, str]:
    """What is going on, in two words and in a sentence that says whom it waits for."""
    if lesson.status is None:
        return "loading TensorFlow", "The class opens then: usually in 4 to 9 seconds."
    if lesson.phase == OVER:
        return "over", "The class is over."
    here, ready = len(lesson.students), len(lesson.ready)
    if lesson.running:
        number = max(lesson.status.round if lesson.opened else lesson.done + 1, 1)
        pill = f"Round {min(number, lesson.rounds)} of {lesson.rounds}"
        if lesson.pausing:
            return pill, "Pauses when this round has ended."
        return pill, awaited(lesson)
    if lesson.phase == PAUSED:
        pill = f"paused, {lesson.done} of {lesson.rounds}"
        return pill, f"{counted(lesson.done, 'round')} done. Resume plays the rest."
    if lesson.done:
        return "ready", f"{counted(lesson.done, 'round')} done. {who(here, ready)}"
    if not here:
        return "open", "The class is open. Nobody has come in yet."
    return "open", who(here, ready)


def who(here: int, ready: int) -> str:
    """How many are here, and ready."""
    if not here:
        return "Nobody is here."
    verb = "student is" if here == 1 else "students are"
    several = "nobody is" if not ready else "1 is" if ready == 1 else f"{ready} are"
    return f"{here} {verb} here, {several} ready."


def awaited(lesson: Lesson) -> str:
    """Whom a round waits for."""
    if lesson.lacking:
        count, needed = len(lesson.status.members), lesson.minimum
        return f"Waits for students who are ready: {count} of at least {needed}."
    if not lesson.opened:
        return "The server tests the new model."
    missing, asked = lesson.waiting_for, len(lesson.playing)
    if not missing:
        return f"All {counted(asked, 'update')} are here. The server averages."
    whom = names(sorted(missing)) if len(missing) <= MOST_NAMED else f"{len(missing)} devices"
    there, most = asked - len(missing), f"{lesson.round_deadline:g} s at most"
    return f"{there} of {counted(asked, 'update')} are here. Waits for {whom}, {most}."


def read_aloud(lesson: Lesson) -> str:
    """For screen readers: each round's result, and what goes on."""
    pill, said = now_words(lesson)
    if not lesson.done or lesson.curves is None:
        return f"{pill}. {said}" if not lesson.running else "Training begins."
    return curve_words(settled(lesson.curves, lesson.running), lesson.rounds)


def curve_words(curves: Curves, rounds: int) -> str:
    """The curve in a sentence."""
    last = curves.rounds[-1]
    good, count = latest(curves)
    by = f", measured by {counted(count, 'device')}" if count else ""
    ours = f"{views.percent(good)}{by}"
    alone = [value for value in curves.alone if not math.isnan(value)]
    told = f"; each alone {views.percent(alone[-1])}" if alone else ""
    mnist = [value for value in curves.mnist if not math.isnan(value)]
    told += f"; MNIST test images {views.percent(mnist[-1])}" if mnist else ""
    return f"After round {last} of {max(rounds, last)}: {OURS} {ours}{told}."
