"""The rules of rounds: who is drawn, what an exchange still waits for, what is too late. No lock
and no clock: whoever calls tells the time, in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from fedlab.messages import TRAIN, AlreadyCounted, Conflict, Task, Update, Weights
from fedlab.plan import POISSON, Plan


def size(plan: Plan, members: int, least: int) -> int:
    """m = max(C * K, 1) of K members, and as many as a round needs to succeed."""
    return min(max(round(plan.fraction * members), 1, least), members)


def draw(plan: Plan, seed: int, round: int, members: Sequence[str], least: int) -> list[str]:
    """Who takes part in a round, at random, in order of their ids: a function of the seed, the
    round and who has joined. As many as `size` says; by Poisson sampling as many as it happens.
    """
    joined = sorted(members)
    rng = np.random.default_rng([seed % 2**63, round])
    if plan.sampling == POISSON:
        drawn = rng.random(len(joined)) < plan.fraction
        return [name for name, taken in zip(joined, drawn, strict=True) if taken]
    count = size(plan, len(joined), least)
    return [joined[i] for i in sorted(rng.choice(len(joined), count, replace=False))]


class Exchange:
    """Everyone who takes part is sent a task, and is waited for until all have answered, left, or
    the time is over. A round is one exchange, or several.

    tasks: participant -> its task. ends: when the time is over; None: never. enough: so many
    answers, and the others are too late; None: all are wanted. sessions: who they are, where only
    the very same may answer; others under their names have not heard what was said before. given:
    the weights that each was given, as the server has them.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        ends: float | None,
        enough: int | None = None,
        sessions: Mapping[str, str] | None = None,
        given: Mapping[str, Weights] | None = None,
    ):
        self.sessions, self.given = sessions or {}, given or {}
        self.tasks, self.ends, self.enough = dict(sorted(tasks.items())), ends, enough
        self.awaited = set(self.tasks)  # who has not answered
        self.late: list[str] = []
        self.too_far: list[str] = []  # who is not waited for, because of its update
        self._untaken = deque(self.tasks)
        self._answers: dict[str, Update | None] = {}  # None: it has been given on

    @property
    def round(self) -> int:
        """The round that this is an exchange of."""
        return next(iter(self.tasks.values())).round

    @property
    def phase(self) -> str:
        """What is asked for."""
        return next(iter(self.tasks.values())).phase

    def task(self, client: str) -> Task | None:
        """What `client` is to do; None when nothing is expected of it."""
        return self.tasks[client] if client in self.awaited else None

    def take(self) -> tuple[str, Task] | None:
        """The next participant's task that nobody has taken, in client-id order."""
        while self._untaken:
            client = self._untaken.popleft()
            if client in self.awaited:
                return client, self.tasks[client]
        return None

    @property
    def untaken(self) -> bool:
        """Whether somebody's task was not taken; where all of them were excused meanwhile, `take`
        finds none.
        """
        return bool(self._untaken)

    def check(self, update: Update) -> None:
        """Raise Conflict unless this update is awaited here."""
        what = f"an update of {update.client!r} for round {update.round}"
        unusual = update.phase != TRAIN or self.phase != TRAIN
        if unusual:
            what += f", phase {update.phase[:40]!r}"
        if (update.round, update.phase) != (self.round, self.phase):
            phase = f", phase {self.phase!r}" if unusual else ""
            raise Conflict(f"got {what}; expected one for round {self.round}{phase}")
        if update.client in self._answers:
            raise AlreadyCounted(f"already have {what}")
        if update.client not in self.awaited:
            raise Conflict(
                f"got {what}; expected none: this client does not take part, or is too late"
            )

    def accept(self, update: Update) -> None:
        """Take an update in. Raises Conflict as `check` does."""
        self.check(update)
        self._answers[update.client] = update
        self.awaited.discard(update.client)
        if len(self._answers) == self.enough:
            self.late += sorted(self.awaited)
            self.awaited.clear()

    def excuse(self, client: str) -> None:
        """Wait no longer for `client`."""
        self.awaited.discard(client)

    def drop(self, client: str) -> None:
        """Forget what `client` has sent, unless it has been given on."""
        if self._answers.get(client) is not None:
            del self._answers[client]

    def settled(self, client: str, now: float) -> bool:
        """Whether there is nothing more to wait for from `client`."""
        return client not in self.awaited or (self.ends is not None and now >= self.ends)

    def collect(self, client: str) -> Update | None:
        """What `client` has sent, once; None if it did not. From here on it is too late."""
        if client in self.awaited:
            self.late.append(client)
            self.awaited.discard(client)
        update = self._answers.get(client)
        if update is not None:
            self._answers[client] = None  # who asked has it: keep that it came, not its weights
        return update

    def answered(self) -> list[str]:
        """Who has answered, in order."""
        return [client for client in self.tasks if client in self._answers]

    def close(self) -> None:
        """Nothing is awaited any more."""
        self.awaited.clear()
        self._untaken.clear()
