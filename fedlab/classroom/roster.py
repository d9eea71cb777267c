"""Who is in the class, and what each of them does: rules. No lock and no clock: whoever calls tells
the time, in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fedlab.checks import Refused, counted, is_whole
from fedlab.classroom.names import folded, given, wished
from fedlab.messages import Banned, Full

PHONE, NOTEBOOK, TERMINAL = "phone", "notebook", "terminal"
KINDS = PHONE, NOTEBOOK, TERMINAL

GONE = "asleep", "away"
DOING = "drawing", "ready", "training", *GONE
"""What a student's device says of itself; in the last two it says no more until it is back."""

DRAWINGS, SHARDS = "drawings", "shards"
USES = DRAWINGS, SHARDS, ""
"""What a device trains with; "": it has not been decided."""

QUIET_AFTER = 15.0
"""Seconds without a word after which a device is called quiet: it speaks every few seconds."""

GONE_AFTER = 120.0
"""Seconds without a word after which a device that has drawn nothing may lose its place."""

MOST_DRAWN = 1_000
"""Digits of one student."""

MOST_MEASURED = 200
"""Models of which one student's results are kept."""


class NameTaken(Refused):
    """A wish for a name that somebody else in the class has."""

    kind = "name_taken"


class BadName(Refused):
    """A wish for a name that cannot be."""

    kind = "name"


class Removed(Refused):
    """A device that the teacher has removed, and that has not asked to be let in again."""

    kind = "removed"


class Closed(Refused):
    """A newcomer, after the teacher has closed the door."""

    kind = "closed"


@dataclass(frozen=True)
class Measured:
    """How many of `total` digits that were never trained on a model reads right, as a student's own
    device says: the global model of a version, and one that learned from this student alone (None
    where there is none). drawn: whether this student has drawn them; they are MNIST's if not.
    """

    version: int
    correct: int
    total: int
    alone: int | None = None
    drawn: bool = True


@dataclass
class Student:
    """One of the class. client: its id in the federation, one of the names that are given. wish: a
    name of its own, shown where the teacher has approved it. drawn: digits for training, those kept
    aside, and different labels. uses: what it trains with. shards: of MNIST, that the teacher has
    dealt to it.
    """

    client: str
    session: str = field(repr=False)
    kind: str
    seen: float
    wish: str = ""
    approved: bool = False
    doing: str = "drawing"
    drawn: tuple[int, int, int] = (0, 0, 0)
    uses: str = ""
    shards: tuple[int, int] | None = None
    measured: dict[int, Measured] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The name that the class sees."""
        return self.wish if self.wish and self.approved else self.client

    def quiet(self, now: float) -> bool:
        """Whether nothing was heard of it for long."""
        return now - self.seen > QUIET_AFTER

    @property
    def takes_shards(self) -> bool:
        """Whether it may be dealt shards: a laptop that does not train with drawings."""
        return self.kind != PHONE and self.uses != DRAWINGS

    @property
    def first(self) -> Measured | None:
        """Of the first model that it measured on digits of the same kind as the latest."""
        alike = [v for v, found in self.measured.items() if found.drawn == self.last.drawn]
        return self.measured[min(alike)] if alike else None

    @property
    def last(self) -> Measured | None:
        """Of the latest."""
        return self.measured[max(self.measured)] if self.measured else None


class Roster:
    """The class. most: how many may be in it."""

    def __init__(self, most: int = 60):
        self.most = most
        self.open = True  # whether newcomers are let in
        self._students: dict[str, Student] = {}
        self._by_session: dict[str, str] = {}
        self._removed: set[str] = set()  # sessions
        self._banned: set[str] = set()

    def __len__(self) -> int:
        return len(self._students)

    def all(self) -> list[Student]:
        """Everyone, in the order in which they came."""
        return list(self._students.values())

    def knows(self, session: str) -> bool:
        """Whether this device is in the class."""
        return isinstance(session, str) and session in self._by_session

    def find(self, client: str) -> Student | None:
        """This student, or None."""
        return self._students.get(client)

    def student(self, client: str) -> Student:
        """This student. Raises Refused when there is none."""
        if (student := self._students.get(client)) is None:
            known = ", ".join(self._students) or "nobody yet"
            raise Refused(f"there is no student {client[:40]!r}; expected one of {known}")
        return student

    def enrol(
        self,
        session: str,
        kind: str,
        now: float,
        again: bool = False,
        taken: Collection[str] = (),
        wish: str = "",
    ) -> Student:
        """Let a device in; the same one comes back as who it was. again: it was removed, and asks.
        taken: further names that are not given. wish: as in `wish`; "": as before. Raises Refused
        for what cannot be, Removed, Banned, Full, Closed, BadName, NameTaken; then nothing has
        changed.
        """
        if not isinstance(session, str) or not 8 <= len(session) <= 100:
            raise Refused("the session is no text of 8 to 100 characters; expected a random one")
        if kind not in KINDS:
            raise Refused(f"kind is {str(kind)[:40]!r}; expected one of {', '.join(KINDS)}")
        if session in self._banned:
            raise Banned("your teacher has banned this device")
        if session in self._removed and not again:
            raise Removed("your teacher has removed you; expected you to ask to join again")
        if (client := self._by_session.get(session)) is not None:
            student = self._students[client]
            if wish:
                self.wish(client, wish)
            student.seen = now
            return student
        if not self.open:
            raise Closed("the door is closed: your teacher lets nobody new in")
        plain = self._wished(wish, None)
        self._make_room(now)
        if len(self) >= self.most:
            raise Full(f"the class is full; expected at most {counted(self.most, 'student')}")
        names = {name for s in self._students.values() for name in (s.client, s.wish)}
        name = given(session, {*names, *taken, plain})
        self._removed.discard(session)
        self._by_session[session] = name
        uses = DRAWINGS if kind == PHONE else ""
        student = self._students[name] = Student(name, session, kind, now, plain, uses=uses)
        return student

    def _make_room(self, now: float) -> None:
        """Where the class is full, whoever has drawn nothing and is long gone has no place in it
        any more: one that lives comes back with its next word.
        """
        if len(self) >= self.most:
            for student in self.all():
                if not any(student.drawn) and now - student.seen > GONE_AFTER:
                    del self._students[student.client], self._by_session[student.session]

    def wish(self, client: str, name: str) -> None:
        """This student wishes to be called so; the teacher has to approve it anew. Raises BadName,
        NameTaken.
        """
        student = self.student(client)
        plain = self._wished(name, student)
        if plain != student.wish:
            student.wish, student.approved = plain, False

    def rename(self, client: str, name: str) -> None:
        """The teacher calls this student so: approved. Raises as `wish` does."""
        self.wish(client, name)
        student = self.student(client)
        student.approved = bool(student.wish)

    def _wished(self, name: str, student: Student | None) -> str:
        """The name as it is kept, if this student (None: a newcomer) may wish for it."""
        try:
            plain = wished(name)
        except Refused as error:
            raise BadName(str(error)) from None
        for other in self._students.values():
            names = {folded(other.client), folded(other.wish)} if other is not student else set()
            if plain and folded(plain) in names:
                raise NameTaken(f"the name {plain!r} is taken; expected another one")
        return plain

    def tell(self, client: str, said: Mapping, version: int, now: float) -> None:
        """Take in what a student's device says of itself (docs/classroom.md). version: of the
        current model: of a later one nothing can be measured. Raises Refused; then nothing has
        changed.
        """
        student = self.student(client)
        doing = said.get("doing", student.doing)
        if doing not in DOING:
            raise Refused(f"doing is {str(doing)[:40]!r}; expected one of {', '.join(DOING)}")
        uses = said.get("uses", student.uses)
        if uses not in USES:
            raise Refused(f"uses is {str(uses)[:40]!r}; expected {', '.join(map(repr, USES))}")
        drawn = _drawn(said["drawn"]) if "drawn" in said else student.drawn
        found = [_measured(item, version) for item in _list(said.get("measured", []))]
        if "name" in said:
            self.wish(client, said["name"])
        student.doing, student.uses, student.drawn, student.seen = doing, uses, drawn, now
        student.measured |= {measured.version: measured for measured in found}
        while len(student.measured) > MOST_MEASURED:  # but for the first, which is "before"
            del student.measured[sorted(student.measured)[1]]

    def remove(self, client: str, ban: bool = False) -> None:
        """This student goes; its device may come back when it asks, unless there is a ban."""
        student = self.student(client)
        del self._students[client], self._by_session[student.session]
        (self._banned if ban else self._removed).add(student.session)

    def keep_out(self, before: Roster) -> None:
        """Whoever had to go from an earlier class with the same code stays out of this one, too."""
        self._removed |= before._removed
        self._banned |= before._banned

    def forget_measured(self) -> None:
        """The model begins anew: what was measured was of another."""
        for student in self._students.values():
            student.measured.clear()

    def accuracy(self, version: int) -> tuple[float, int] | None:
        """The mean of what the students' devices measured of this model, each on digits that this
        student has drawn, and of how many; None where nobody did. A laptop with MNIST's shards has
        no handwriting of the class.
        """
        return _mean(m.correct / m.total for m in self._on_drawings(version))

    def alone(self, version: int) -> tuple[float, int] | None:
        """The same of the models that learned from one student each."""
        found = (m for m in self._on_drawings(version) if m.alone is not None)
        return _mean(m.alone / m.total for m in found)

    def versions(self) -> list[int]:
        """The models of which somebody measured something, on drawings."""
        found = (s.measured.values() for s in self._students.values())
        return sorted({m.version for own in found for m in own if m.drawn})

    def _on_drawings(self, version: int) -> Iterator[Measured]:
        found = (s.measured.get(version) for s in self._students.values())
        return (measured for measured in found if measured is not None and measured.drawn)


def deal(clients: list[str], shards: int) -> dict[str, tuple[int, int]]:
    """Shards for these, each its own, none twice and none left over. Raises Refused where there are
    fewer shards than students.

    >>> deal(["ada", "ben"], 12)
    {'ada': (1, 6), 'ben': (7, 12)}
    """
    if len(clients) > shards:
        said = f"there are {counted(len(clients), 'laptop')} and {counted(shards, 'shard')}"
        raise Refused(f"{said}; expected at least one shard for each")
    ends = [round(shards * i / len(clients)) for i in range(len(clients) + 1)] if clients else [0]
    firsts = [end + 1 for end in ends[:-1]]
    return dict(zip(clients, zip(firsts, ends[1:], strict=True), strict=True))


def _mean(shares: Iterable[float]) -> tuple[float, int] | None:
    shares = list(shares)
    return (sum(shares) / len(shares), len(shares)) if shares else None


def _drawn(said) -> tuple[int, int, int]:
    bounds = {"train": MOST_DRAWN, "held_out": MOST_DRAWN, "labels": 10}
    numbers = [said.get(name) if isinstance(said, Mapping) else None for name in bounds]
    for (name, most), number in zip(bounds.items(), numbers, strict=True):
        if not is_whole(number) or not 0 <= number <= most:
            expected = f"expected a whole number from 0 to {most:,}"
            raise Refused(f"drawn has {name} {str(number)[:40]!r}; {expected}")
    return tuple(numbers)


def _list(said) -> list:
    if not isinstance(said, list) or len(said) > 20:
        raise Refused("measured is no list of at most 20 results; expected one")
    return said


def _measured(said, version: int) -> Measured:
    names = "version", "correct", "total"
    numbers = [said.get(name) if isinstance(said, Mapping) else None for name in names]
    alone = said.get("alone") if isinstance(said, Mapping) else None
    drawn = said.get("drawn", True) if isinstance(said, Mapping) else True
    whole = all(map(is_whole, numbers)) and (alone is None or is_whole(alone))
    good = (
        whole
        and isinstance(drawn, bool)
        and 0 <= numbers[0] <= version
        and 1 <= numbers[2] <= MOST_DRAWN
    )
    if not good or not all(0 <= part <= numbers[2] for part in (numbers[1], alone or 0)):
        raise Refused(
            f"a result is {str(said)[:100]}; expected a version from 0 to {version}, total from 1"
            f" to {MOST_DRAWN:,}, and correct (and alone, where it is known) from 0 to total;"
            " drawn, where it is said, true or false"
        )
    return Measured(*numbers, alone, drawn)
