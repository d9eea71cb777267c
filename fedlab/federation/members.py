"""Who has joined. No lock and no clock: whoever calls tells the time, in seconds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedlab.checks import counted, whole
from fedlab.messages import (
    Banned,
    Conflict,
    Full,
    RunOver,
    UnknownClient,
    Weights,
    check_client_id,
)

SILENT_AFTER = 60.0
"""Seconds without a word after which a client's id may be taken by a newcomer, and after which a
client that missed a round's deadline is not expected in the next: its program has probably died."""

Patience = tuple[float, float]
"""Seconds that the end of a run waits for a client that says nothing: for one without a task, and
for one that trains."""

MOST = 10**9
"""Examples, or shards, that a client may have anywhere."""

MOST_GONE = 10_000
"""Names of those who have left that are remembered."""


@dataclass(frozen=True)
class Limits:
    """What the owner of a server lets others claim: whoever says more examples has more weight in
    the average, and whoever joins is waited for.

    clients: how many may have joined at a time. examples, shards: that each of them may have; all
    of MNIST is 60,000 examples, or 12 shards. Raises Refused for anything but whole numbers from 1.
    """

    clients: int = 1_000
    examples: int = 60_000
    shards: int = 12

    def __post_init__(self):
        for name in ("clients", "examples", "shards"):
            whole(name, getattr(self, name), 1, MOST)


UNLIMITED = Limits(MOST, MOST, MOST)
"""Where all clients are one's own."""


def sealed(session: str) -> str:
    """As what a session is written down: with the session itself one could join in its place."""
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:32]


NOTHING = ("", 0)
"""No session, and no rounds done in it."""

Given = tuple[int, Weights]
"""A model, and its version before it."""


@dataclass
class Joined:
    """A client, as the rules see it."""

    num_examples: int
    shards: int
    session: str
    seen: float
    done: int = 0  # asynchronous: rounds of its own that this client has reported
    passed: int = 0  # the last of them that went too far, and counts for nothing
    task: tuple[int, str] | None = None  # round and phase of the task that it has
    since: float = 0.0  # when it was given that task
    noted: bool = False  # that it was at work on it is written down
    given: Given | None = None  # asynchronous: the model of that task
    guest: bool = False

    @property
    def training(self) -> bool:
        """Whether it has a task, and has not answered it."""
        return self.task is not None


class Members:
    """Those who have joined, by client id, and who was here and has left."""

    def __init__(self, limits: Limits = UNLIMITED):
        self._joined: dict[str, Joined] = {}
        # Who has left, in the order in which they went: session, rounds done in this run
        self._left: dict[str, tuple[str, int]] = {}
        self._banned: set[str] = set()
        self.limits = limits
        # Who was here before the server was restarted, and has not come back: session, rounds done
        self._away: dict[str, tuple[str, int]] = {}
        self._back_by = -math.inf

    def __len__(self) -> int:
        return len(self._joined)

    def __contains__(self, client: str) -> bool:
        return client in self._joined

    def ids(self) -> list[str]:
        """Everyone's id, sorted."""
        return sorted(self._joined)

    def all(self) -> Iterable[Joined]:
        """Everyone."""
        return self._joined.values()

    def find(self, client: str) -> Joined | None:
        """This client, without having heard of it; None when it has not joined."""
        return self._joined.get(client)

    def heard(self, client: str, now: float, session: str | None = None) -> Joined:
        """This client, which has just said something, in this session where one is known. Raises
        UnknownClient, or RunOver when it has left, or somebody else has its name.
        """
        member = self._joined.get(client)
        if member is not None and session not in (None, member.session):
            raise RunOver(f"client {client!r} has left: somebody else has its name now")
        if member is None:
            if client in self._left:
                raise RunOver(f"client {client!r} has left, or was removed")
            raise UnknownClient(
                f"no client called {client!r} has joined; expected it to join first"
            )
        member.seen = now
        return member

    def join(
        self, client: str, num_examples: int, shards: int, session: str, guest: bool, now: float
    ) -> None:
        """Take `client` in. Raises Conflict when the id is taken, Banned, Full, Refused for a bad
        id or count.
        """
        check_client_id(client)
        num_examples = whole("num_examples", num_examples, 1, self.limits.examples)
        shards = whole("shards", shards, 1, self.limits.shards)
        if client.casefold() in self._banned:
            raise Banned(f"client {client!r} may not take part; expected another one")
        member = self._joined.get(client)
        if member is None and len(self._joined) >= self.limits.clients:
            most = counted(self.limits.clients, "client")
            raise Full(f"{client!r} would be one too many; expected at most {most}")
        again = member is not None and member.session == session
        if not again and self.taken(client, now):
            raise Conflict(
                f"a client called {client!r} has already joined; expected an id of your own, or"
                " remove that one first"
            )
        if again:  # what it has to do, and since when, stays
            member.num_examples, member.shards = num_examples, shards
            return
        done = self._done_before(client, session)
        self._joined[client] = Joined(num_examples, shards, session, now, done, guest=guest)

    def ban(self, client: str) -> None:
        """Nobody of this name may join any more."""
        self._banned.add(client.casefold())

    def taken(self, client: str, now: float) -> bool:
        """Whether a newcomer of this name is refused: somebody has it, and trains or was heard of
        within `SILENT_AFTER` seconds.
        """
        member = self._joined.get(client)
        return member is not None and (member.training or now - member.seen < SILENT_AFTER)

    def leave(self, client: str, done: int = 0) -> None:
        """`client`, who has joined, goes, and is remembered as gone. done: how many rounds of this
        run it has, should it come back in the same session.
        """
        self._left[client] = sealed(self._joined.pop(client).session), done
        if len(self._left) > MOST_GONE:
            del self._left[next(iter(self._left))]

    def drop_silent(self, clients: Iterable[str], now: float) -> None:
        """Those of `clients` that were silent too long are members no more. One that lives joins
        again with its next word.
        """
        for client in clients:
            if client in self._joined and now - self._joined[client].seen > SILENT_AFTER:
                self.dismiss(client)

    def dismiss(self, client: str) -> None:
        """`client`, who has joined, is a member no more, and not remembered as gone."""
        del self._joined[client]

    def begin(self, done: Mapping[str, tuple[str, int]], now: float) -> None:
        """A run begins, or goes on, of which these clients (by sealed sessions) have done so much;
        all others nothing.
        """
        self._away, self._back_by = dict(done), now + SILENT_AFTER
        self._left = dict.fromkeys(self._left, NOTHING)
        for client, member in self._joined.items():
            member.done, member.passed = self._done_before(client, member.session), 0
            member.task = member.given = None

    def _done_before(self, client: str, session: str) -> int:
        known, done = self._away.pop(client, self._left.pop(client, NOTHING))
        return done if known == sealed(session) else 0

    def done(self) -> dict[str, tuple[str, int]]:
        """What `begin` would have to know now."""
        here = {n: (sealed(m.session), m.done) for n, m in self._joined.items() if not m.guest}
        return self._away | here

    @property
    def back_by(self) -> float:
        """Until when those are waited for who have not come back since a restart."""
        return self._back_by if self._away else -math.inf

    def rest(self) -> None:
        """A run has ended: nobody trains."""
        for member in self._joined.values():
            member.task = None
