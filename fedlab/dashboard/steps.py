"""A round step by step: what a panel sees of it while it happens, and slow motion.

Nothing here is a film: in slow motion the run itself waits, its server before it asks and before it
averages, its clients before they train and before they send. What moves when somebody goes on are
the requests and the training of this round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from fedlab.messages import TRAIN as TRAINING
from fedlab.messages import Task, Update, Weights
from fedlab.plan import Plan
from fedlab.strategies import State, Strategy, Updates
from fedlab.strategies.base import Ask

BROADCAST, TRAIN, UPLOAD, AVERAGE = 1, 2, 3, 4
"""The steps, as they are counted in the picture. A gate stands before each."""

SERVER = ""
"""Who waits at a gate, when it is no client: an id is never empty."""

ONE_BY_ONE = 0.8
"""Seconds between two uploads in slow motion, so that one sees each."""


class Gate:
    """Where a run waits in slow motion. Any thread may call anything here."""

    def __init__(self):
        self._changed = threading.Condition()
        self._slow, self._open = False, True
        self._waiting: dict[str, int] = {}  # who waits before which step
        self._due: dict[str, float] = {}  # who may go on, and from when

    @property
    def slow(self) -> bool:
        """Whether runs wait."""
        return self._slow

    def set_slow(self, slow: bool) -> None:
        """Slow motion on or off; whoever waits goes on when it is switched off."""
        with self._changed:
            self._slow = slow
            self._changed.notify_all()

    def begin(self) -> None:
        """A run begins: from now on it may have to wait."""
        with self._changed:
            self._open = False
            self._waiting.clear()
            self._due.clear()

    def end(self) -> None:
        """Nobody waits any more, and nobody will until the next run."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def wait(self, who: str, step: int) -> None:
        """Before `step`: returns when `who` may go on."""
        with self._changed:
            if self._slow and not self._open:
                self._waiting[who] = step
                while self._slow and not self._open:
                    due = self._due.get(who)
                    left = None if due is None else due - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    self._changed.wait(left)
                self._waiting.pop(who, None)
                self._due.pop(who, None)

    def waiting(self, taking_part: Iterable[str]) -> int:
        """The step before which everybody waits who can, of these clients; 0 while something still
        moves.
        """
        with self._changed:
            if self._due or not self._waiting:
                return 0
            if SERVER in self._waiting:
                return self._waiting[SERVER]
            return min(self._waiting.values()) if set(taking_part) <= set(self._waiting) else 0

    def go_on(self) -> None:
        """Whoever waits now goes on, those who send one after another."""
        with self._changed:
            now = time.monotonic()
            for place, who in enumerate(sorted(set(self._waiting) - set(self._due))):
                pause = ONE_BY_ONE * place if self._waiting[who] == UPLOAD else 0.0
                self._due[who] = now + pause
            self._changed.notify_all()


class Watched(Strategy):
    """A strategy as it is, seen while it works: it waits at the gate before each of its steps, and
    what it makes of a round is kept.

    on_model: called with (round, weights) of the global model after every round, once the
              federation has accepted it; where there are no rounds, new ones are counted from 1.
    round:    the one that is under way, or comes next.
    """

    def __init__(
        self,
        strategy: Strategy,
        gate: Gate,
        on_model: Callable[[int, Weights], None],
    ):
        self.strategy, self._gate, self._on_model = strategy, gate, on_model
        self.name, self.meaning = strategy.name, strategy.meaning
        self.asynchronous, self.min_updates = strategy.asynchronous, strategy.min_updates
        self.per_model, self.by_version = strategy.per_model, strategy.by_version
        self.secret_draw, self.open_updates = strategy.secret_draw, strategy.open_updates
        self.participants: dict[int, tuple[str, ...]] = {}
        self._merged = 0
        self.round = 1

    @property
    def identity(self) -> str:
        """That of the strategy."""
        return self.strategy.identity

    def check(self, plan: Plan) -> None:
        """As the strategy does."""
        self.strategy.check(plan)

    def check_answer(self, update: Update, weights: Weights, task: Task | None) -> None:
        """As the strategy does."""
        self.strategy.check_answer(update, weights, task)

    def client_side(self):
        """That of the strategy."""
        return self.strategy.client_side()

    def measures(self, state: State) -> dict[str, float]:
        """As the strategy does. It is asked for every round's model that is accepted: of a round
        that was abandoned, or whose model was rejected, that is the one before; and so it is of one
        for which nobody was drawn, which `run_round` may not even hear of.
        """
        if not self.asynchronous:
            self._on_model(self.round, state.weights)
            self.round += 1
        return self.strategy.measures(state)

    def prepare(self, task: Task, state: State) -> Task:
        """As the strategy does."""
        return self.strategy.prepare(task, state)

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        """As the strategy does."""
        return self.strategy.aggregate(state, updates)

    def merge(self, state: State, update: Update, began: Weights, staleness: int) -> State:
        """As the strategy does; a new model that comes of it is kept."""
        new = self.strategy.merge(state, update, began, staleness)
        if new.weights is not state.weights:
            self._merged += 1
            self._on_model(self._merged, new.weights)
        return new

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        """As the strategy does, with a gate before clients train and before their answers are
        looked at.
        """

        def asked(tasks) -> Updates:
            first = tasks if isinstance(tasks, Task) else next(iter(tasks.values()))
            if first.phase != TRAINING:  # keys are exchanged: nobody steps through that
                return ask(tasks)
            self._gate.wait(SERVER, BROADCAST)
            updates = ask(tasks)
            self.participants[task.round] = updates.participants
            return replace(updates, arriving=self._held(updates.arriving))

        self.round = task.round
        return self.strategy.run_round(state, task, asked)

    def _held(self, arriving: Iterable[Update]) -> Iterator[Update]:
        if self._gate.slow:
            arriving = list(arriving)
            self._gate.wait(SERVER, AVERAGE)
            yield from arriving
        else:
            yield from arriving
            self._gate.wait(SERVER, AVERAGE)  # switched on meanwhile
