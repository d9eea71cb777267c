"""Everything that a federation is at one moment, with the lock that guards it; and what both ways
of running it need: to wait, to give up, to commit a model.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedlab.checkpoint import save_checkpoint
from fedlab.checks import Refused, counted
from fedlab.federation import merging
from fedlab.federation.clock import Clock, RealTime
from fedlab.federation.members import UNLIMITED, Joined, Limits, Members
from fedlab.federation.rounds import Exchange
from fedlab.history import ClientRecord, History, RoundRecord, TaskRecord, Tested
from fedlab.messages import (
    BadUpdate,
    ClientFailed,
    Conflict,
    Diverged,
    NotFinite,
    RunFailed,
    RunOver,
    Update,
    Weights,
    check_weights,
)
from fedlab.plan import Plan, Progress
from fedlab.strategies import State, Strategy

Evaluate = Callable[[Weights], "tuple[float, float] | Tested"]
"""weights -> (loss, accuracy) of the global model on the test set."""

OnModel = Callable[[int, Weights], object]
"""Is told the number of a round and its global model."""


class Stopped(Exception):
    """The run was asked to stop."""


class Table:
    """The state of a `Federation`, for the files beside this one. Whoever changes it holds
    `changed`, and whoever reads what others change. `merging` lets one merge at a time happen
    without keeping clients who fetch out.
    """

    def __init__(
        self,
        weights: Weights,
        strategy: Strategy,
        evaluate: Evaluate | None,
        seed: int,
        checkpoint: str | Path | None,
        state: State | None,
        history: History,
        on_model: OnModel | None = None,
        limits: Limits = UNLIMITED,
    ):
        self.strategy, self.seed = strategy, seed
        self.evaluate, self.checkpoint, self.on_model = evaluate, checkpoint, on_model
        self.initial = list(weights)
        self.state = state or State(list(weights))
        if not self.state.lineage:
            self.state = replace(self.state, lineage=new_lineage())
        self.history = history
        self.changed = threading.Condition()
        self.clock: Clock = RealTime()
        self.merging = threading.Lock()
        self.members = Members(limits)
        self.failures: list[str] = []
        # The run under way.
        self.plan: Plan | None = None
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.stopping = self.closed = False
        self.last_round = 0  # of the plan; 0 without one
        self.rounds_before, self.strict = len(history), True  # when the run began
        self.round = history.last.round if history.last else 0
        self.model_version = max(self.round, self.state.progress.version)  # of the global model
        self.first = self.state  # with which the run began, or went on
        self.spoiled: list[range] = []  # asynchronous: versions of models that were taken back
        self.written = self.state.progress  # in the checkpoint
        self.exchange: Exchange | None = None  # the one under way, or the last
        self.opened = False  # asynchronous: enough clients have joined, tasks are handed out
        # Asynchronous: not yet written down. None: no new model of it.
        self.merged: deque[tuple[Update, State | None]] = deque()
        self.down = self.up = 0
        self.zero = 0.0  # when this history's first run began
        self.message = "ready"
        self.version = 0  # of everything: it grows with every change
        self.listeners: list[Callable[[], object]] = []

    def notify(self) -> None:
        """Something has changed: whoever waits for that looks again."""
        self.version += 1
        self.changed.notify_all()
        for told in self.listeners:
            told()

    def forget(self, client: str) -> None:
        """`client` has been told that there is no more for it, and is gone: if it joins again, it
        begins at the beginning.
        """
        self.members.leave(client)
        self.notify()

    def over(self) -> RunOver:
        """What clients are told when the server closes."""
        if self.error is not None:
            return RunFailed(f"the run ended by an error: {self.error}")
        return RunOver("the run is over")

    def check_current(self, update: Update, member: Joined) -> None:
        """Raise Conflict unless this update is awaited now, RunOver when there will be no more."""
        if self.closed:
            self.forget(update.client)
            raise self.over()
        what = f"an update of {update.client!r} for round {update.round}"
        if self.plan is None or self.stopping:
            raise Conflict(f"got {what}; expected none: no run is going on")
        if not (member.guest or update.run):
            raise BadUpdate(f"got {what} that names no run; expected that of its task, as `run`")
        if not member.guest and update.run != self.state.progress.run:
            raise Conflict(
                f"got {what} of an earlier run; expected its client to fetch a task of this run"
                " first"
            )
        if self.strategy.asynchronous:
            merging.check(update, member, self.plan)
        elif self.exchange is None:
            raise Conflict(f"got {what}; expected none: the next round has not begun")
        else:
            self.exchange.check(update)

    def at_work(self, client: str, staleness: int = 0, taken: bool = True) -> None:
        """Write down that `client` has been at work until now, if it had a task; of one task once,
        whatever is sent again.
        """
        with self.changed:
            member = self.members.find(client)
            if member is not None and member.training and not member.noted:
                member.noted = True
                times = member.since - self.zero, self.clock.now() - self.zero
                self.history.tasks.append(TaskRecord(client, *times, staleness, taken))

    def until(
        self, true: Callable[[], bool], message: str | None, end: float | None = None
    ) -> None:
        """Wait (holding the lock) until `true()` or the time `end`. Raises Stopped."""
        while not self.stopping and not true():
            if end is not None and self.clock.now() >= end:
                return
            if message and self.message != message:
                self.message = message
                self.notify()
            self.give_up_on_failures(too_few=bool(message))
            self.clock.wait(self.changed, None if end == math.inf else end)
        if self.stopping:
            raise Stopped

    def give_up_on_failures(self, too_few: bool) -> None:
        """Raise ClientFailed when clients have failed and nobody, or too few, are left who could
        go on.
        """
        if self.strict and self.failures and (too_few or not len(self.members)):
            raise ClientFailed("; ".join(self.failures))

    def needed(self, plan: Plan) -> int:
        """The updates without which a round is abandoned."""
        if not self.strategy.min_updates:  # a round of nobody is one, too
            return 0
        return max(plan.min_updates, self.strategy.min_updates)

    def began(self) -> float:
        """When this history's runs would have begun, had there been no time between them."""
        return self.clock.now() - (self.history.last.seconds if self.history.last else 0.0)

    def checked(self, state: State, round: int) -> State:
        """What a strategy made, if it can be the next model; nothing else is tested or written.
        Raises Diverged, or Refused.
        """
        made = f"the strategy {self.strategy.name} made"
        if not isinstance(state, State):
            raise Refused(f"{made} a {type(state).__name__} of round {round}; expected a State")
        try:
            check_weights(state.weights, self.initial)
        except NotFinite as error:
            raise Diverged(
                f"training diverged in round {round}: {made} a model whose {error}"
            ) from (None)
        except BadUpdate as error:
            raise Refused(f"{made} a model of round {round} whose {error}") from None
        if self.strategy.asynchronous:  # `merge` has seen to that
            return state
        return replace(state, lineage=self.state.lineage, progress=self.state.progress)

    def tested(self, state: State, round: int, evaluate: bool) -> tuple[State, Tested]:
        """A new global model, looked at and, if it is to be, tested; nothing is changed by that.
        Raises Diverged, or Refused.
        """
        state = self.checked(state, round)
        if not evaluate or not self.evaluate:
            return state, Tested()
        tested = Tested(*self.evaluate(state.weights))
        if not math.isfinite(tested.loss):
            raise Diverged(
                f"training diverged in round {round}: the loss on the test set is {tested.loss};"
                " expected a finite number. Try a lower learning rate"
            )
        return state, tested

    def commit(
        self, round: int, state: State, tested: Tested, clients: dict, note: str, began: float
    ) -> bool:
        """Write a new global model down, and make it the current one. True when the target is
        reached.
        """
        if self.on_model:
            self.on_model(round, state.weights)
        measures = self.strategy.measures(state)
        note = "; ".join(filter(None, (note, tested.note)))
        with self.changed:
            if self.stopping and not self.strategy.asynchronous:
                raise Stopped
            down, up, self.down, self.up = self.down, self.up, 0, 0
            seconds = self.clock.now() - began
            record = RoundRecord(
                round,
                float(tested.accuracy),
                float(tested.loss),
                seconds,
                down,
                up,
                clients,
                note,
                tested.pixels,
                measures,
            )
            history = History([*self.history, record]) if self.checkpoint else None
            self.round = round
        reached = bool(self.plan.target and tested.accuracy >= self.plan.target)
        if self.checkpoint:
            over = reached or round == self.last_round
            self.save(replace(state, progress=Progress()) if over else state, history)
        with self.changed:
            if not self.strategy.asynchronous:
                # An abandoned round has no new model.
                self.model_version += state.weights is not self.state.weights
                self.state = state
            self.history.append(record)
            self.notify()
        return reached

    def save(self, state: State, history: History) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, state, history, self.strategy.identity)
        self.written = state.progress

    def end(self) -> None:
        """The run is over. Where the checkpoint would still go on with it, it is written again."""
        with self.changed:
            self.stopping = True  # nothing more is taken
            self.state = replace(self.state, progress=Progress())
        if self.checkpoint and self.written.run and self.error is None:
            self.save(self.state, self.history)


def record_of(update: Update, earlier: ClientRecord | None = None) -> ClientRecord:
    """What the history keeps of an update, in Python's own numbers: it becomes JSON. earlier: of
    this client, in the same model.
    """
    examples = int(update.num_examples) + (earlier.num_examples if earlier else 0)
    return ClientRecord(examples, float(update.accuracy), float(update.loss))


def new_lineage() -> str:
    """A name for an untrained model, and for all that come of it."""
    return secrets.token_hex(8)


def waiting_for_clients(count: int) -> str:
    """What a run says while it does so."""
    return f"waiting for {counted(count, 'client')} to join"
