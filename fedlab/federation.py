"""Who takes part, which round it is, what has been reported, and when a round closes.

A Federation knows no HTTP, no TensorFlow and no widgets. Everything that happens in fedlab, over
HTTP or in one process, goes through `task` and `report`. All of its methods may be called from any
thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlab.checkpoint import save_checkpoint
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.messages import (
    ClientFailed,
    Conflict,
    Diverged,
    Refused,
    RunOver,
    Task,
    UnknownClient,
    Update,
    Weights,
    check_client_id,
    check_update,
)
from fedlab.plan import Member, Plan, Status
from fedlab.strategy import State, Strategy

SILENT_AFTER = 60.0
"""Seconds without a word after which a client's id may be taken by a newcomer, and after which a
client that missed a round's deadline is
not expected in the next: its program has probably died."""

Evaluate = Callable[[Weights], tuple[float, float]]
"""weights -> (loss, accuracy) of the global model on the test set."""


@dataclass
class _Joined:
    num_examples: int
    shards: int
    session: str
    seen: float
    done: int = 0  # asynchronous: rounds of its own that this client has reported
    training: bool = False
    guest: bool = False
    # has fetched no task since the run began: what it may still send belongs to an earlier one
    stale: bool = False


class _Stopped(Exception):
    """The run was asked to stop."""


class _TooFew(Exception):
    """A round ended with fewer updates than it needs."""


class Federation:
    """A global model, and the clients who train it.

    weights:    the first global model, float32 arrays in Keras order.
    evaluate:   tests a global model; without it the history has no accuracy.
    seed:       decides who is sampled and, through `local_seed`, every client's batches.
    checkpoint: where to write the state after every round.
    state, history: where an earlier federation stood, to go on from there.
    Raises Refused when there is no folder for the checkpoint.
    """

    def __init__(
        self,
        weights: Weights,
        strategy: Strategy,
        *,
        evaluate: Evaluate | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        state: State | None = None,
        history: History | None = None,
    ):
        if checkpoint is not None and not Path(checkpoint).absolute().parent.is_dir():
            raise Refused(
                f"there is no folder for the checkpoint {checkpoint}; expected a path in a folder"
                " that exists"
            )
        self.seed = seed
        self._evaluate, self._checkpoint = evaluate, checkpoint
        self._strategy = strategy
        self._initial = list(weights)
        self._state = state or State(list(weights))
        self._history = history or History()
        self._changed = threading.Condition()  # guards everything below and the four above
        # Asynchronous: one merge at a time, without keeping fetching clients out
        self._merging = threading.Lock()
        self._members: dict[str, _Joined] = {}
        self._left: set[str] = set()
        self._failures: list[str] = []
        self._plan: Plan | None = None
        self._last_round = 0  # of the plan; 0 without one
        self._rounds_before, self._strict = len(self._history), True  # when the run began
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stopping = self._closed = False
        self._opened = False  # asynchronous: enough clients have joined, tasks are handed out
        self._round = self._history.last.round if self._history.last else 0
        self._awaited: set[str] = set()  # this round's participants who have not reported
        self._task: Task | None = None  # this round's
        # Those of them whose task was not yet handed out by `take`
        self._untaken: deque[str] = deque()
        self._updates: dict[str, Update] = {}
        # Asynchronous: merged, not yet evaluated
        self._merged: deque[tuple[Update, State]] = deque()
        self._down = self._up = 0
        self._message = "ready"
        self._version = 0

    # ---- who takes part --------------------------------------------------------------------------

    def join(
        self,
        client: str,
        num_examples: int,
        shards: int = 1,
        session: str = "",
        guest: bool = False,
    ) -> None:
        """Take `client` in, with this many examples in this many shards.

        session: any text of the client's own. Joining again with the same one is no mistake: a
                 client repeats itself when an answer was lost.
        guest:   sends updates without asking for tasks, and goes without a word: nobody knows how
                 many it plans, or waits for it.
        Raises Conflict when the id is taken, Refused for a bad id or count, RunOver when the server
        is closing.
        """
        check_client_id(client)
        for name, value in (("num_examples", num_examples), ("shards", shards)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9:
                raise Refused(
                    f"{name} is {value!r}; expected a whole number from 1 to 1,000,000,000"
                )
        with self._changed:
            if self._closed:
                raise RunOver("the server is closing")
            member = self._members.get(client)
            if member and member.session != session and self.taken(client):
                raise Conflict(
                    f"a client called {client!r} has already joined; expected an id of your own, or"
                    " remove that one first"
                )
            again = member is not None and member.session == session
            done, stale = (member.done, member.stale) if again else (0, False)
            self._members[client] = _Joined(
                num_examples, shards, session, time.monotonic(), done, guest=guest, stale=stale
            )
            self._left.discard(client)
            self._notify()

    def taken(self, client: str) -> bool:
        """Whether a newcomer of this name is refused: somebody has it, and trains or was heard of
        within `SILENT_AFTER` seconds.
        """
        with self._changed:
            member = self._members.get(client)
            return member is not None and (
                member.training or time.monotonic() - member.seen < SILENT_AFTER
            )

    def leave(self, client: str, reason: str = "") -> None:
        """Let `client` go: no round waits for it any longer. `reason` is why it failed, if it did.
        Raises UnknownClient.
        """
        with self._changed:
            self._member(client)
            del self._members[client]
            self._left.add(client)
            self._awaited.discard(client)
            if reason:
                self._failures.append(f"client {client!r} failed in round {self._round}: {reason}")
            self._notify()

    def _member(self, client: str) -> _Joined:
        member = self._members.get(client)
        if member is None:
            if client in self._left:
                raise RunOver(f"client {client!r} has left, or was removed")
            raise UnknownClient(
                f"no client called {client!r} has joined; expected POST /clients first"
            )
        member.seen = time.monotonic()
        return member

    # ---- tasks and updates -----------------------------------------------------------------------

    def task(self, client: str, wait: float = 0.0) -> Task | None:
        """The task that waits for `client`; None when there was none within `wait` seconds. Asked
        again, it answers the same.

        Raises UnknownClient, or RunOver when there will be none.
        """
        end = time.monotonic() + wait
        with self._changed:
            while True:
                member = self._member(client)
                if self._closed:
                    self._forget(client)
                    raise RunOver("the run is over")
                task = (
                    self._asynchronous_task(client, member)
                    if self._strategy.asynchronous
                    else self._round_task(client)
                )
                # Who asks and gets none was too late for its round
                if member.training != (task is not None):
                    member.training = task is not None
                    self._notify()
                if task is not None:
                    member.stale = False
                    return task
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def take(self, wait: float = 0.0) -> tuple[str, Task] | None:
        """The next participant's task that nobody has taken, in client-id order: for a simulation,
        which plays all clients. None as in `task`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._untaken, timeout=wait)
            if not self._untaken:
                return None
            client = self._untaken.popleft()
            task = self._round_task(client)
            if task is None:
                return None
            self._members[client].stale = False
            return client, task

    def _round_task(self, client: str) -> Task | None:
        if self._plan is None or client not in self._awaited:
            return None
        return self._task

    def _asynchronous_task(self, client: str, member: _Joined) -> Task | None:
        if self._plan is None or not self._opened:
            return None
        last = member.shards * (self._plan.rounds or 1)
        if member.done < last:
            return Task(
                member.done + 1,
                last,
                self._state.weights,
                self._plan.training,
                self.seed,
                shard_by_shard=True,
            )
        if self._plan.rounds is None:
            self._forget(client)
            raise RunOver(f"client {client!r} has trained on each of its {member.shards} shards")
        return None

    def _forget(self, client: str) -> None:
        del self._members[client]
        self._left.add(client)
        self._notify()

    def report(self, update: Update) -> None:
        """Take an update in. In the asynchronous way it is merged at once.

        Raises BadUpdate, Conflict (stale, or counted already: then do not send it again),
        UnknownClient or RunOver; then nothing has changed.
        """
        with self._changed:
            member = self._member(update.client)
            self._check_current(update, member)
            expected, most = self._state.weights, member.num_examples
        check_update(update, expected, most)
        if self._strategy.asynchronous:
            return self._merge(update)
        with self._changed:
            member = self._member(update.client)
            # Again: the round may have closed while the update was checked
            self._check_current(update, member)
            self._updates[update.client] = update
            self._awaited.discard(update.client)
            member.training = False
            self._notify()

    def _check_current(self, update: Update, member: _Joined) -> None:
        if self._closed:
            self._forget(update.client)
            raise RunOver("the run is over")
        where = f"an update of {update.client!r} for round {update.round}"
        if self._plan is None or self._stopping:
            raise Conflict(f"got {where}; expected none: no run is going on")
        if member.stale:
            raise Conflict(
                f"got {where} of an earlier run; expected its client to fetch a task of this run"
                " first"
            )
        if self._strategy.asynchronous:
            if member.guest:
                return  # it does not count its rounds: whatever it sends is its next update
            if 1 <= update.round <= member.done:
                raise Conflict(f"already have {where}")
            if update.round > member.shards * (self._plan.rounds or 1):
                raise Conflict(
                    f"got {where}; expected none: this client's last round is {member.done}"
                )
        elif update.round == self._round and update.client in self._updates:
            raise Conflict(f"already have {where}")
        elif update.round != self._round or update.client not in self._awaited:
            open_round = (
                f"one for round {self._round}"
                if update.round != self._round
                else "none: this client does not take part, or is too late"
            )
            raise Conflict(f"got {where}; expected {open_round}")

    def _merge(self, update: Update) -> None:
        with self._merging:
            with self._changed:
                member = self._member(update.client)
                self._check_current(update, member)
                plan, state = self._plan, self._state
            merged = self._strategy.aggregate(state, [update])
            with self._changed:
                if (
                    self._plan is not plan
                    or self._stopping
                    or self._members.get(update.client) is not member
                ):
                    raise Conflict(
                        f"the run ended, or {update.client!r} left, while its update was merged;"
                        " expected nothing more"
                    )
                self._state = merged
                member.done, member.training = (
                    (member.done + 1 if member.guest else update.round),
                    False,
                )
                self._merged.append((update, merged))
                self._notify()

    # ---- runs ------------------------------------------------------------------------------------

    def start(self, plan: Plan) -> None:
        """Begin a run in the background, going on from the current global model. Raises Conflict if
        one is going on.
        """
        with self._changed:
            if self._closed:
                raise Conflict("the federation is closed; expected a new one")
            if self._thread is not None:
                raise Conflict(
                    "a run is going on; expected to stop it, or to wait for its end, first"
                )
            self._plan, self._stopping, self._error, self._failures = plan, False, None, []
            self._last_round = (
                0
                if plan.rounds is None or self._strategy.asynchronous
                else self._round + plan.rounds
            )
            self._rounds_before, self._strict = len(self._history), plan.strict
            self._opened = False
            for member in self._members.values():
                member.done, member.training, member.stale = 0, False, not member.guest
            self._down = self._up = 0
            work = self._run_asynchronously if self._strategy.asynchronous else self._run_rounds
            self._thread = threading.Thread(
                target=self._guarded, args=(work,), name="fedlab-rounds", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End the run now: the round under way is dropped, what was committed stays. Does nothing
        when none is going on.
        """
        with self._changed:
            self._stopping = True
            thread = self._thread
            self._notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, which whoever waits for it will get."""
        with self._changed:
            self._error = self._error or error
            self._stopping = True
            self._notify()

    def wait(self, on_round: Callable[[RoundRecord], None] | None = None) -> History:
        """Wait for the end of the run; `on_round` is called with each new record, in this thread.

        Raises what went wrong in the background, and ClientFailed when a client failed and the plan
        is strict.
        """
        seen = self._rounds_before
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._thread is None or len(self._history) > seen, timeout=0.5
                )
                finished = self._thread is None
                fresh = self._history[seen:]
            for record in fresh:
                if on_round:
                    on_round(record)
            seen += len(fresh)
            if finished and not fresh:
                break
        if self._error is not None:
            if isinstance(self._error, Diverged):
                self._error.history = self._history
            raise self._error
        if self._strict and self._failures:
            raise ClientFailed("; ".join(self._failures))
        return self._history

    def run(self, plan: Plan, on_round: Callable[[RoundRecord], None] | None = None) -> History:
        """`start` and `wait`; an interrupt (Ctrl-C, the kernel's stop button) ends the run and is
        raised on.
        """
        self.start(plan)
        try:
            return self.wait(on_round)
        except BaseException:
            self.stop()
            raise

    def reset(
        self,
        weights: Weights | None = None,
        strategy: Strategy | None = None,
        seed: int | None = None,
    ) -> None:
        """Back to the first global model (or to `weights`), with an empty history; another strategy
        or seed if given. Raises Conflict during a run.
        """
        with self._changed:
            if self._thread is not None:
                raise Conflict("a run is going on; expected to stop it first")
            self._strategy = strategy or self._strategy
            self.seed = self.seed if seed is None else seed
            self._initial = list(weights) if weights is not None else self._initial
            self._state, self._history = State(list(self._initial)), History()
            self._round, self._last_round, self._message = 0, 0, "ready"
            self._notify()

    def close(self, grace: float = 2.0) -> None:
        """End everything: stop the run, and wait up to `grace` seconds until every client has heard
        that it is over.
        """
        with self._changed:
            self._closed = True  # first, so that nobody starts another run meanwhile
        self.stop()
        with self._changed:
            self._message = "closed"
            self._notify()
            self._changed.wait_for(
                lambda: all(member.guest for member in self._members.values()), timeout=grace
            )

    def _guarded(self, work: Callable[[], None]) -> None:
        """The background thread: whatever happens, the run ends, and whoever waits for it learns
        why.
        """
        message = "finished"
        try:
            work()
        except _Stopped:
            message = "stopped"
        except (
            BaseException
        ) as error:  # kept, and raised by `wait` in the thread of whoever asked for the run
            self._error = self._error or error
        with self._changed:
            self._message = f"ended by an error: {self._error}" if self._error else message
            self._plan, self._thread = None, None
            # A round that was not committed does not count
            self._round = self._history.last.round if self._history.last else 0
            self._awaited, self._updates = set(), {}
            self._untaken.clear()
            self._merged.clear()
            for member in self._members.values():
                member.training = False
            self._notify()

    # ---- rounds (synchronous) --------------------------------------------------------------------

    def _run_rounds(self) -> None:
        plan, began = (
            self._plan,
            time.monotonic() - (self._history.last.seconds if self._history.last else 0.0),
        )
        while plan.rounds is None or self._round < self._last_round:
            participants = self._open_round(plan)
            clients: dict[str, ClientRecord] = {}
            note, state = "", self._state
            try:
                state = self._strategy.aggregate(state, self._arriving(participants, plan, clients))
                if len(clients) < len(participants):
                    note = (
                        f"{len(clients)} of {len(participants)} updates: went on without"
                        f" {', '.join(sorted(set(participants) - set(clients)))}"
                    )
            except _TooFew as reason:
                state, clients, note = self._state, {}, f"abandoned: {reason}"
            due = self._round % plan.evaluate_every == 0 or self._round == self._last_round
            if self._commit(self._round, state, clients, note, began, due):
                return

    def _open_round(self, plan: Plan) -> list[str]:
        """Choose m = max(C * K, 1) of the K clients at random: a function of the seed, the round
        and who has joined.
        """
        with self._changed:
            # Only the first round waits for so many: a laptop that leaves later must not halt the
            # others.
            least = plan.min_clients if len(self._history) == self._rounds_before else 1
            self._until(lambda: len(self._members) >= least, waiting_for_clients(least))
            joined = sorted(self._members)
            size = max(round(plan.fraction * len(joined)), 1)
            self._round += 1
            chosen = np.random.default_rng([self.seed % 2**63, self._round]).choice(
                len(joined), size, replace=False
            )
            participants = [joined[i] for i in sorted(chosen)]
            self._awaited, self._updates, self._untaken = set(participants), {}, deque(participants)
            # One for all of them: the server turns it into bytes once.
            self._task = Task(
                self._round, self._last_round, self._state.weights, plan.training, self.seed
            )
            self._message = f"round {self._round}: {size} of {len(joined)} clients train"
            self._notify()
        return participants

    def _arriving(
        self, participants: list[str], plan: Plan, clients: dict[str, ClientRecord]
    ) -> Iterator[Update]:
        """This round's updates in client-id order, each as soon as it and those before it are
        there.

        In that order, whatever the order of arrival: floating-point sums depend on it, and a run
        must repeat bit for bit.
        """
        end, late = None if plan.deadline is None else time.monotonic() + plan.deadline, []
        for client in participants:
            with self._changed:
                self._until(lambda: client not in self._awaited, None, end)
                update = self._updates.get(client)
                if client in self._awaited:
                    late.append(client)
                    self._awaited.discard(client)  # from here on it is too late
                if update is not None:
                    self._updates[client] = (
                        _RECEIVED  # the aggregate has it: keep that it came, not its weights
                    )
            if update is not None:
                clients[client] = ClientRecord(update.num_examples, update.accuracy, update.loss)
                yield update
        with self._changed:
            self._awaited.clear()  # the round is closed: later updates are stale
            self._untaken.clear()
            for client in late:
                if (
                    client in self._members
                    and time.monotonic() - self._members[client].seen > SILENT_AFTER
                ):
                    # No further round waits for it; one that lives joins again with its next word.
                    del self._members[client]
            self._notify()
        if len(clients) < plan.min_updates:
            with self._changed:
                self._give_up_on_failures(too_few=False)
            raise _TooFew(
                f"{len(clients)} of {len(participants)} updates came, {plan.min_updates} were"
                " needed"
            )

    def _until(
        self, true: Callable[[], bool], message: str | None, end: float | None = None
    ) -> None:
        """Wait (holding the lock) until `true()` or the time `end`. Raises _Stopped."""
        while not self._stopping and not true():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            if message and self._message != message:
                self._message = message
                self._notify()
            self._give_up_on_failures(too_few=bool(message))
            self._changed.wait(left)
        if self._stopping:
            raise _Stopped

    def _give_up_on_failures(self, too_few: bool) -> None:
        """Raise ClientFailed when clients have failed and nobody, or too few, are left who could go
        on.
        """
        if self._strict and self._failures and (too_few or not self._members):
            raise ClientFailed("; ".join(self._failures))

    def _commit(
        self, round: int, state: State, clients: dict, note: str, began: float, evaluate: bool
    ) -> bool:
        """Test a new global model, write it down, and make it the current one. True when the target
        is reached.
        """
        loss, accuracy = (
            self._evaluate(state.weights) if evaluate and self._evaluate else (math.nan, math.nan)
        )
        if evaluate and self._evaluate and not math.isfinite(loss):
            raise Diverged(
                f"training diverged in round {round}: the loss on the test set is {loss}; expected"
                " a finite number. Try a lower learning rate"
            )
        with self._changed:
            if self._stopping and not self._strategy.asynchronous:
                raise _Stopped
            down, up, self._down, self._up = self._down, self._up, 0, 0
            record = RoundRecord(
                round, accuracy, loss, time.monotonic() - began, down, up, clients, note
            )
            history = History([*self._history, record]) if self._checkpoint else None
        if self._checkpoint:
            save_checkpoint(self._checkpoint, state, history, self._strategy.name)
        with self._changed:
            if not self._strategy.asynchronous:
                self._state = state
            self._history.append(record)
            self._notify()
        return bool(self._plan.target and accuracy >= self._plan.target)

    # ---- no rounds (asynchronous) ----------------------------------------------------------------

    def _run_asynchronously(self) -> None:
        """`report` merges; this thread only tests and writes down each new global model, so that no
        client waits for that.
        """
        plan, began = (
            self._plan,
            time.monotonic() - (self._history.last.seconds if self._history.last else 0.0),
        )
        with self._changed:
            self._until(
                lambda: len(self._members) >= plan.min_clients or self._merged,
                waiting_for_clients(plan.min_clients),
            )
            self._opened = True
            self._message = "every update is merged as it arrives"
            self._notify()
        reached = False
        while True:
            with self._changed:
                # When the run is stopped or the target reached, no more updates are taken; those
                # that were merged are still written down.
                if not self._merged:
                    if not reached:
                        try:
                            self._until(lambda: self._merged or self._everyone_is_done(plan), None)
                        except _Stopped:
                            if not self._merged:
                                raise
                    if not self._merged:
                        return
                update, state = self._merged.popleft()
                self._round += 1
                last = not self._merged and (self._stopping or self._everyone_is_done(plan))
                due = last or (self._round % plan.evaluate_every == 0 and not self._stopping)
            record = {
                update.client: ClientRecord(update.num_examples, update.accuracy, update.loss)
            }
            if self._commit(self._round, state, record, "", began, due):
                reached = self._stopping = True

    def _everyone_is_done(self, plan: Plan) -> bool:
        if plan.rounds is None:
            return False
        return all(
            not member.guest and member.done >= member.shards * plan.rounds
            for member in self._members.values()
        )

    # ---- looking in ------------------------------------------------------------------------------

    @property
    def weights(self) -> Weights:
        """The current global model."""
        return self._state.weights

    @property
    def state(self) -> State:
        """The strategy's current state."""
        return self._state

    @property
    def history(self) -> History:
        """The rounds since the last reset."""
        return self._history

    @property
    def strategy(self) -> Strategy:
        """How updates are aggregated."""
        return self._strategy

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._thread is not None

    def count_bytes(self, down: int = 0, up: int = 0) -> None:
        """Whoever carries the messages says here how large their bodies were; the next record has
        the sums.
        """
        with self._changed:
            self._down += down
            self._up += up

    def status(self) -> Status:
        """A consistent picture of this moment."""
        with self._changed:
            return Status(
                running=self._thread is not None,
                asynchronous=self._strategy.asynchronous,
                strategy=self._strategy.name,
                round=self._round,
                rounds=self._planned_rounds(),
                accuracy=self._history.last.accuracy if self._history.last else math.nan,
                waiting_for=sorted(self._awaited),
                members=[
                    Member(c, m.num_examples, "training" if m.training else "waiting")
                    for c, m in sorted(self._members.items())
                ],
                message=self._message,
                version=self._version,
            )

    def _planned_rounds(self) -> int:
        if self._strategy.asynchronous and self._plan and self._plan.rounds:
            if any(member.guest for member in self._members.values()):
                return 0  # no end is planned
            return (
                self._rounds_before
                + sum(member.shards for member in self._members.values()) * self._plan.rounds
            )
        return self._last_round

    def wait_for_change(self, version: int, timeout: float) -> int:
        """Wait until something changed since `version` (of a Status), at most `timeout` seconds;
        the version then.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout=timeout)
            return self._version

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()


def waiting_for_clients(count: int) -> str:
    return f"waiting for {count} client{'s' if count > 1 else ''} to join"


_RECEIVED = Update("", 0, 0, [])
"""Stands for an update that the aggregate has taken in."""
