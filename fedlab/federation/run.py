"""A federation at work: the rules of its neighbours, driven by a lock, a thread and this machine's
clock.

It knows no HTTP, no TensorFlow and no widgets. Everything that happens in fedlab, over HTTP or in
one process, goes through `task` and `report`. All methods may be called from any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fedlab.checkpoint import save_checkpoint
from fedlab.federation import merging
from fedlab.federation.members import Joined, Members
from fedlab.federation.rounds import Exchange, draw, size
from fedlab.history import ClientRecord, History, RoundRecord, Tested
from fedlab.messages import (
    TRAIN,
    ClientFailed,
    Conflict,
    Diverged,
    Refused,
    RunOver,
    Task,
    Update,
    Weights,
    check_update,
)
from fedlab.plan import Member, Plan, Status
from fedlab.strategies import State, Strategy, TooFewUpdates, Updates

Evaluate = Callable[[Weights], "tuple[float, float] | Tested"]
"""weights -> (loss, accuracy) of the global model on the test set."""


class _Stopped(Exception):
    """The run was asked to stop."""


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
        # Asynchronous: one merge at a time, without keeping fetching clients out.
        self._merging = threading.Lock()
        self._members = Members()
        self._failures: list[str] = []
        self._plan: Plan | None = None
        self._last_round = 0  # of the plan; 0 without one
        self._rounds_before, self._strict = len(self._history), True  # when the run began
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stopping = self._closed = False
        self._opened = False  # asynchronous: enough clients have joined, tasks are handed out
        self._round = self._history.last.round if self._history.last else 0
        self._model_version = self._round  # of the global model
        self._exchange: Exchange | None = None  # the one under way
        self._merged: deque[tuple[Update, State]] = deque()  # asynchronous: not yet evaluated
        self._down = self._up = 0
        self._message = "ready"
        self._version = 0  # of everything: it grows with every change

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
        with self._changed:
            if self._closed:
                raise RunOver("the server is closing")
            self._members.join(client, num_examples, shards, session, guest, time.monotonic())
            self._notify()

    def taken(self, client: str) -> bool:
        """Whether a newcomer of this name is refused: see `Members.taken`."""
        with self._changed:
            return self._members.taken(client, time.monotonic())

    def leave(self, client: str, reason: str = "") -> None:
        """Let `client` go: no round waits for it any longer. `reason` is why it failed, if it did.
        Raises UnknownClient.
        """
        with self._changed:
            self._members.heard(client, time.monotonic())
            self._members.leave(client)
            if self._exchange:
                self._exchange.excuse(client)
            if reason:
                self._failures.append(f"client {client!r} failed in round {self._round}: {reason}")
            self._notify()

    # ---- tasks and updates -----------------------------------------------------------------------

    def task(self, client: str, wait: float = 0.0) -> Task | None:
        """The task that waits for `client`; None when there was none within `wait` seconds. Asked
        again, it answers the same.

        Raises UnknownClient, or RunOver when there will be none.
        """
        end = time.monotonic() + wait
        with self._changed:
            while True:
                member = self._members.heard(client, time.monotonic())
                if self._closed:
                    self._forget(client)
                    raise RunOver("the run is over")
                task = self._task_for(client, member)
                # Who asks and gets none was too late for its round.
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

    def _task_for(self, client: str, member: Joined) -> Task | None:
        if self._plan is None:
            return None
        if not self._strategy.asynchronous:
            return self._exchange.task(client) if self._exchange else None
        if not self._opened:
            return None
        weights, version = self._state.weights, self._model_version
        try:
            return merging.task_for(client, member, self._plan, weights, self.seed, version)
        except RunOver:
            self._forget(client)
            raise

    def take(self, wait: float = 0.0) -> tuple[str, Task] | None:
        """The next participant's task that nobody has taken, in client-id order: for a simulation,
        which plays all clients. None as in `task`.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._exchange is not None and self._exchange.untaken, timeout=wait
            )
            taken = self._exchange.take() if self._exchange and self._plan else None
            if taken is not None and (member := self._members.find(taken[0])):
                member.stale = False
            return taken

    def _forget(self, client: str) -> None:
        self._members.leave(client)
        self._notify()

    def report(self, update: Update) -> None:
        """Take an update in. In the asynchronous way it is merged at once.

        Raises BadUpdate, Conflict (stale, or counted already: then do not send it again),
        UnknownClient or RunOver; then nothing has changed.
        """
        with self._changed:
            member = self._members.heard(update.client, time.monotonic())
            self._check_current(update, member)
            expected, most = self._state.weights, member.num_examples
        check_update(update, expected, most)
        if self._strategy.asynchronous:
            return self._merge(update)
        with self._changed:
            member = self._members.heard(update.client, time.monotonic())
            # Again: the round may have closed while the update was checked.
            self._check_current(update, member)
            self._exchange.accept(update)
            member.training = False
            self._notify()

    def _check_current(self, update: Update, member: Joined) -> None:
        if self._closed:
            self._forget(update.client)
            raise RunOver("the run is over")
        what = f"an update of {update.client!r} for round {update.round}"
        if self._plan is None or self._stopping:
            raise Conflict(f"got {what}; expected none: no run is going on")
        if member.stale:
            raise Conflict(
                f"got {what} of an earlier run; expected its client to fetch a task of this run"
                " first"
            )
        if self._strategy.asynchronous:
            merging.check(update, member, self._plan)
        elif self._exchange is None:
            raise Conflict(f"got {what}; expected none: the next round has not begun")
        else:
            self._exchange.check(update)

    def _merge(self, update: Update) -> None:
        with self._merging:
            with self._changed:
                member = self._members.heard(update.client, time.monotonic())
                self._check_current(update, member)
                plan, state = self._plan, self._state
            merged = self._strategy.aggregate(state, [update])
            with self._changed:
                gone = self._members.find(update.client) is not member
                if self._plan is not plan or self._stopping or gone:
                    raise Conflict(
                        f"the run ended, or {update.client!r} left, while its update was merged;"
                        " expected nothing more"
                    )
                self._state = merged
                self._model_version += 1
                member.done = member.done + 1 if member.guest else update.round
                member.training = False
                self._merged.append((update, merged))
                self._notify()

    # ---- runs ------------------------------------------------------------------------------------

    def start(self, plan: Plan) -> None:
        """Begin a run in the background, going on from the current global model. Raises Conflict if
        one is going on, Refused for local training that the strategy cannot go with.
        """
        self._strategy.check(plan.training)
        with self._changed:
            if self._closed:
                raise Conflict("the federation is closed; expected a new one")
            if self._thread is not None:
                raise Conflict(
                    "a run is going on; expected to stop it, or to wait for its end, first"
                )
            self._plan, self._stopping, self._error, self._failures = plan, False, None, []
            endless = plan.rounds is None or self._strategy.asynchronous
            self._last_round = 0 if endless else self._round + plan.rounds
            self._rounds_before, self._strict = len(self._history), plan.strict
            self._opened = False
            self._members.begin()
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
            self._model_version = 0
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
                lambda: all(member.guest for member in self._members.all()), timeout=grace
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
        # Kept, and raised by `wait` in the thread of whoever asked for the run.
        except BaseException as error:
            self._error = self._error or error
        with self._changed:
            self._message = f"ended by an error: {self._error}" if self._error else message
            self._plan, self._thread, self._exchange = None, None, None
            # A round that was not committed does not count.
            self._round = self._history.last.round if self._history.last else 0
            self._merged.clear()
            self._members.rest()
            self._notify()

    # ---- rounds (synchronous) --------------------------------------------------------------------

    def _run_rounds(self) -> None:
        plan, began = self._plan, self._began()
        while plan.rounds is None or self._round < self._last_round:
            number, participants = self._round + 1, self._draw(plan)
            try:
                state, came = self._play(number, plan, participants)
                missing = sorted(set(participants) - set(came))
                note = f"{len(came)} of {len(participants)} updates: went on without"
                note = f"{note} {', '.join(missing)}" if missing else ""
            except TooFewUpdates as reason:
                with self._changed:
                    self._give_up_on_failures(too_few=False)
                state, came, note = self._state, {}, f"abandoned: {reason}"
            due = number % plan.evaluate_every == 0 or number == self._last_round
            if self._commit(number, state, came, note, began, due):
                return

    def _draw(self, plan: Plan) -> list[str]:
        """Choose who takes part in the next round, as soon as there are enough."""
        with self._changed:
            # Only the first round waits for so many: a laptop that leaves later must not halt the
            # others. But with fewer than a round needs, none can succeed.
            first = len(self._history) == self._rounds_before
            least = max(self._needed(plan), plan.min_clients if first else 1)
            self._until(lambda: len(self._members) >= least, waiting_for_clients(least))
            joined = self._members.ids()
            count = size(plan, len(joined), self._needed(plan))
            return draw(self.seed, self._round + 1, joined, count)

    def _needed(self, plan: Plan) -> int:
        """The updates without which a round is abandoned."""
        return max(plan.min_updates, self._strategy.min_updates)

    def _play(
        self, number: int, plan: Plan, participants: list[str]
    ) -> tuple[State, dict[str, ClientRecord]]:
        """One round: the state after it, and who contributed. Raises TooFewUpdates.

        Whether the strategy takes every update or not, the round waits for all, and counts them.
        """
        came: dict[str, ClientRecord] = {}
        exchange: Exchange | None = None

        def ask(tasks: Task | Mapping[str, Task]) -> Updates:
            nonlocal exchange
            within = participants if exchange is None else self._finish(exchange, plan, came)
            if isinstance(tasks, Task):  # one for all of them: the server makes its bytes once
                tasks = dict.fromkeys(within, tasks)
            exchange, members = self._open({client: tasks[client] for client in within}, plan)
            arriving = self._arriving(exchange, plan, came)
            return Updates(arriving, tuple(exchange.tasks), members)

        weights, training, version = self._state.weights, plan.training, self._model_version
        task = Task(number, self._last_round, weights, training, self.seed, version=version)
        try:
            state = self._strategy.run_round(self._state, task, ask)
            if exchange is not None:
                self._finish(exchange, plan, came)
        finally:
            with self._changed:
                if exchange is not None:
                    exchange.close()  # whatever comes now is stale
                self._notify()
        return state, came

    def _open(self, tasks: Mapping[str, Task], plan: Plan) -> tuple[Exchange, int]:
        """Send out these tasks: an exchange begins. With it, how many clients have joined."""
        with self._changed:
            deadline = plan.deadline
            ends = None if deadline is None else time.monotonic() + deadline
            self._exchange = exchange = Exchange(tasks, ends)
            self._round, members = exchange.round, max(len(self._members), len(tasks))
            does = "train" if exchange.phase == TRAIN else f"are asked for {exchange.phase}"
            self._message = f"round {self._round}: {len(tasks)} of {members} clients {does}"
            for client in tasks:
                if client not in self._members:  # it has left since it was drawn
                    exchange.excuse(client)
            self._notify()
            return exchange, members

    def _arriving(
        self, exchange: Exchange, plan: Plan, came: dict[str, ClientRecord]
    ) -> Iterator[Update]:
        """This exchange's updates in client-id order, each as soon as it and those before it are
        there.

        In that order, whatever the order of arrival: floating-point sums depend on it, and a run
        must repeat bit for bit.
        """
        for client in exchange.tasks:
            update = self._collect(exchange, client, came)
            if update is not None:
                yield update
        self._finish(exchange, plan, came)

    def _collect(
        self, exchange: Exchange, client: str, came: dict[str, ClientRecord]
    ) -> Update | None:
        """What this client sends, as soon as it is there; None when it is too late, or was here
        before.
        """
        with self._changed:
            self._until(lambda: exchange.settled(client, time.monotonic()), None, exchange.ends)
            update = exchange.collect(client)
        if update is not None and exchange.phase == TRAIN:
            came[client] = ClientRecord(update.num_examples, update.accuracy, update.loss)
        return update

    def _finish(self, exchange: Exchange, plan: Plan, came: dict[str, ClientRecord]) -> list[str]:
        """Wait for all of an exchange, and close it; who has answered. Raises TooFewUpdates."""
        for client in exchange.tasks:
            self._collect(exchange, client, came)
        with self._changed:
            exchange.close()  # whatever comes now is stale
            self._members.drop_silent(exchange.late, time.monotonic())
            self._notify()
        answered, needed = exchange.answered(), self._needed(plan)
        if len(answered) < needed:
            raise TooFewUpdates(
                f"{len(answered)} of {len(exchange.tasks)} updates came, {needed} were needed"
            )
        return answered

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
        """Raise ClientFailed when clients have failed and nobody, or too few, are left who could
        go on.
        """
        if self._strict and self._failures and (too_few or not len(self._members)):
            raise ClientFailed("; ".join(self._failures))

    def _began(self) -> float:
        """When this history's runs would have begun, had there been no time between them."""
        return time.monotonic() - (self._history.last.seconds if self._history.last else 0.0)

    def _commit(
        self, round: int, state: State, clients: dict, note: str, began: float, evaluate: bool
    ) -> bool:
        """Test a new global model, write it down, and make it the current one. True when the target
        is reached.
        """
        tested = Tested()
        if evaluate and self._evaluate:
            tested = Tested(*self._evaluate(state.weights))
            if not math.isfinite(tested.loss):
                raise Diverged(
                    f"training diverged in round {round}: the loss on the test set is"
                    f" {tested.loss}; expected a finite number. Try a lower learning rate"
                )
        note = "; ".join(filter(None, (note, tested.note)))
        with self._changed:
            if self._stopping and not self._strategy.asynchronous:
                raise _Stopped
            down, up, self._down, self._up = self._down, self._up, 0, 0
            seconds = time.monotonic() - began
            record = RoundRecord(
                round,
                tested.accuracy,
                tested.loss,
                seconds,
                down,
                up,
                clients,
                note,
                tested.pixels,
            )
            history = History([*self._history, record]) if self._checkpoint else None
            self._round = round
        if self._checkpoint:
            save_checkpoint(self._checkpoint, state, history, self._strategy.identity)
        with self._changed:
            if not self._strategy.asynchronous:
                self._state = state
                self._model_version += 1
            self._history.append(record)
            self._notify()
        return bool(self._plan.target and tested.accuracy >= self._plan.target)

    # ---- no rounds (asynchronous) ----------------------------------------------------------------

    def _run_asynchronously(self) -> None:
        """`report` merges; this thread only tests and writes down each new global model, so that no
        client waits for that.
        """
        plan, began = self._plan, self._began()
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
                            self._until(lambda: self._merged or self._all_done(plan), None)
                        except _Stopped:
                            if not self._merged:
                                raise
                    if not self._merged:
                        return
                update, state = self._merged.popleft()
                self._round += 1
                last = not self._merged and (self._stopping or self._all_done(plan))
                due = last or (self._round % plan.evaluate_every == 0 and not self._stopping)
            record = {
                update.client: ClientRecord(update.num_examples, update.accuracy, update.loss)
            }
            if self._commit(self._round, state, record, "", began, due):
                reached = self._stopping = True

    def _all_done(self, plan: Plan) -> bool:
        return merging.everyone_is_done(self._members.all(), plan)

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
            members = [(client, self._members.find(client)) for client in self._members.ids()]
            return Status(
                running=self._thread is not None,
                asynchronous=self._strategy.asynchronous,
                strategy=self._strategy.name,
                round=self._round,
                rounds=self._planned_rounds(),
                accuracy=self._history.last.accuracy if self._history.last else math.nan,
                waiting_for=sorted(self._exchange.awaited) if self._exchange else [],
                members=[
                    Member(client, m.num_examples, "training" if m.training else "waiting")
                    for client, m in members
                ],
                message=self._message,
                version=self._version,
            )

    def _planned_rounds(self) -> int:
        if self._strategy.asynchronous and self._plan:
            planned = merging.planned_updates(self._members.all(), self._plan)
            return self._rounds_before + planned if planned else 0
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
    """What a run says while it does so."""
    return f"waiting for {count} client{'s' if count > 1 else ''} to join"
