"""A federation at work: the rules of its neighbours, driven by a lock, a thread and this machine's
clock.

It knows no HTTP, no TensorFlow and no widgets. Everything that happens in fedlab, over HTTP or in
one process, goes through `task` and `report`. All methods may be called from any thread.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedlab.federation import merging
from fedlab.federation.asynchronous import merge, run_asynchronously
from fedlab.federation.clock import Clock, RealTime
from fedlab.federation.members import UNLIMITED, Joined, Limits
from fedlab.federation.synchronous import run_rounds
from fedlab.federation.table import Evaluate, OnModel, Stopped, Table, new_lineage
from fedlab.history import History, RoundRecord
from fedlab.messages import (
    TRAIN,
    AlreadyCounted,
    ClientFailed,
    Conflict,
    Diverged,
    Refused,
    RunOver,
    Task,
    TooFar,
    Update,
    Weights,
    check_change,
    check_update,
)
from fedlab.plan import Member, Plan, Progress, Status
from fedlab.strategies import State, Strategy

MOST_FAILURES = 100
"""Clients' reasons for failing that are kept."""


class Federation:
    """A global model, and the clients who train it.

    weights:    the first global model, float32 arrays in Keras order.
    evaluate:   tests a global model; without it the history has no accuracy.
    seed:       decides who is sampled and, through `local_seed`, every client's batches.
    checkpoint: where to write the state after every round.
    state, history: where an earlier federation stood, to go on from there.
    on_model:   called with the round and each new global model, in the background, once it is
                tested.
    clock:      the time it goes by; this machine's if None.
    limits:     what clients may claim; anything if None.
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
        on_model: OnModel | None = None,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ):
        if checkpoint is not None and not Path(checkpoint).absolute().parent.is_dir():
            raise Refused(
                f"there is no folder for the checkpoint {checkpoint}; expected a path in a folder"
                " that exists"
            )
        history, limits = history or History(), limits or UNLIMITED
        self._table = Table(
            weights, strategy, evaluate, seed, checkpoint, state, history, on_model, limits
        )
        self._table.clock = clock or RealTime()

    @property
    def seed(self) -> int:
        """Decides who is sampled and, through `local_seed`, every client's batches."""
        return self._table.seed

    @property
    def limits(self) -> Limits:
        """What clients may claim."""
        return self._table.members.limits

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
        Raises Conflict when the id is taken, Full, Banned, Refused for a bad id or count, RunOver
        when the server is closing.
        """
        table = self._table
        with table.changed:
            if table.closed:
                raise table.over() if table.error else RunOver("the server is closing")
            table.members.join(client, num_examples, shards, session, guest, table.clock.now())
            table.notify()

    def taken(self, client: str) -> bool:
        """Whether a newcomer of this name is refused: see `Members.taken`."""
        table = self._table
        with table.changed:
            return table.members.taken(client, table.clock.now())

    def leave(self, client: str, reason: str = "", session: str | None = None) -> None:
        """Let `client` go: no round waits for it any longer. Without rounds, it goes on where it
        was if it joins again in its session. `reason` is why it failed, if it did; session: as
        which it has joined, where that is known. Raises UnknownClient, or RunOver when it has left
        before.
        """
        table = self._table
        with table.changed:
            member = table.members.heard(client, table.clock.now(), session)
            table.at_work(client, taken=False)
            table.members.leave(client, member.done)
            if table.exchange:
                table.exchange.excuse(client)
            if reason and len(table.failures) < MOST_FAILURES:
                table.failures.append(f"client {client!r} failed in round {table.round}: {reason}")
            table.notify()

    def dismiss(self, client: str) -> None:
        """Wait no more for `client`, which has not answered for long. With its next word it hears
        that it is unknown, and joins again. Does nothing where it has not joined.
        """
        table = self._table
        with table.changed:
            if client in table.members:
                table.members.dismiss(client)
                if table.exchange:
                    table.exchange.excuse(client)
                table.notify()

    def remove(self, client: str, ban: bool = False) -> None:
        """Have `client` go, who then hears that it was removed; what it has sent in the round under
        way counts no more, unless it was summed already. It may join again, unless there is a ban:
        that holds for its name in whatever letters, joined or not. Raises as `leave` does.
        """
        table, going = self._table, [client]
        with table.changed:
            if ban:
                table.members.ban(client)
                names = table.members.ids()
                going = [name for name in names if name.casefold() == client.casefold()]
            for name in going:
                self.leave(name)
                if table.exchange:
                    table.exchange.drop(name)

    # ---- tasks and updates -----------------------------------------------------------------------

    def task(self, client: str, wait: float = 0.0, session: str | None = None) -> Task | None:
        """The task that waits for `client` (in this session, where it is known); None when there
        was none within `wait` seconds. Asked again, it answers the same.

        Raises UnknownClient, or RunOver when there will be none.
        """
        table = self._table
        end = time.monotonic() + wait
        with table.changed:
            while True:
                member = table.members.heard(client, table.clock.now(), session)
                if table.closed:
                    table.forget(client)
                    raise table.over()
                task = self._task_for(client, member)
                # Who asks and gets none was too late for its round.
                has = None if task is None else (task.round, task.phase)
                if member.task != has:
                    member.task, member.since, member.noted = has, table.clock.now(), False
                    table.notify()
                if task is not None:
                    return task
                left = end - time.monotonic()
                if left <= 0:
                    return None
                table.changed.wait(left)

    def waits(self, client: str, session: str | None = None) -> bool:
        """Whether `task` would have to wait for something to change; nothing is changed by this."""
        table = self._table
        with table.changed:
            member = table.members.find(client)
            if member is None or table.closed or session not in (None, member.session):
                return False
            if not table.strategy.asynchronous or table.plan is None:
                exchange = table.exchange if table.plan is not None else None
                if exchange is None or exchange.task(client) is None:
                    return True
                return exchange.sessions.get(client, member.session) != member.session
            done = member.done >= merging.last_round(member, table.plan)
            return not table.opened or (done and table.plan.rounds is not None)

    def on_change(self, told: Callable[[], object]) -> None:
        """Have `told` called, which must not take time, whenever something has changed."""
        self._table.listeners.append(told)

    def _task_for(self, client: str, member: Joined) -> Task | None:
        table = self._table
        if table.plan is None:
            return None
        if not table.strategy.asynchronous:
            exchange = table.exchange
            if exchange and exchange.sessions.get(client, member.session) != member.session:
                exchange.excuse(client)  # somebody else, under the name of one who takes part
                table.notify()
            return exchange.task(client) if exchange else None
        if not table.opened:
            return None
        state, version = table.state, table.model_version
        try:
            task = merging.task_for(client, member, table.plan, state, self.seed, version)
        except RunOver:
            table.forget(client)
            raise
        if task is None:
            return None
        member.given = version, state.weights
        return table.plan.packed(task)

    def take(self, wait: float = 0.0) -> tuple[str, Task] | None:
        """The next participant's task that nobody has taken, in client-id order: for a simulation,
        which plays all clients. None as in `task`.
        """
        table = self._table
        with table.changed:
            table.changed.wait_for(
                lambda: table.exchange is not None and table.exchange.untaken, timeout=wait
            )
            return table.exchange.take() if table.exchange and table.plan else None

    def wants(self, client: str, task: Task, at: float) -> bool:
        """Whether this client's answer to this task would still be taken at the time `at`."""
        table = self._table
        with table.changed:
            if table.strategy.asynchronous:
                return not table.stopping
            exchange = table.exchange
            there = exchange is not None and exchange.task(client) is task
            return there and not exchange.settled(client, at)

    def report(self, update: Update, session: str | None = None) -> None:
        """Take an update in, from this session where it is known. In the asynchronous way it is
        merged at once.

        Raises BadUpdate, Conflict (stale, or counted already: then do not send it again),
        UnknownClient or RunOver; then nothing has changed. But after TooFar this client's round is
        over: nobody waits for another update of it.
        """
        try:
            self._report(update, session)
        except Conflict as conflict:
            member = self._table.members.find(update.client)
            had = member is not None and member.task == (update.round, update.phase)
            if had and not isinstance(conflict, AlreadyCounted):
                self._table.at_work(update.client, taken=False)
            raise

    def _report(self, update: Update, session: str | None) -> None:
        table = self._table
        with table.changed:
            member = table.members.heard(update.client, table.clock.now(), session)
            table.check_current(update, member)
            expected, most = table.state.weights, member.num_examples
            task = table.exchange.tasks.get(update.client) if table.exchange else None
            plan, began = table.plan, expected
            if table.strategy.asynchronous and not member.guest:
                _, began = member.given or (0, table.first.weights)
            elif task is not None:
                began = table.exchange.given.get(update.client) or expected

        if not member.guest:
            update = plan.read(update, began)
        check = functools.partial(table.strategy.check_answer, task=task)
        check_update(update, expected, most, check)
        if plan.bound is not None:
            try:
                check_change(update, began, plan.bound)
            except TooFar:
                self._pass_over(update)
                raise
        if table.strategy.asynchronous:
            return merge(table, update)
        with table.changed:
            member = table.members.heard(update.client, table.clock.now())
            # Again: the round may have closed while the update was checked.
            table.check_current(update, member)
            table.exchange.accept(update)
            table.at_work(update.client)
            member.task = None
            table.notify()

    def _pass_over(self, update: Update) -> None:
        """Go on without what this client has sent, as if it had answered: from the same model it
        would only send the same again. Raises Conflict where it was not awaited any more.
        """
        table = self._table
        with table.changed:
            member = table.members.heard(update.client, table.clock.now())
            table.check_current(update, member)
            table.at_work(update.client, taken=False)
            if table.strategy.asynchronous:
                if not member.guest:
                    member.done = member.passed = update.round
            else:
                table.exchange.excuse(update.client)
                table.exchange.too_far.append(update.client)
            member.task = None
            table.notify()

    # ---- runs ------------------------------------------------------------------------------------

    def start(self, plan: Plan) -> None:
        """Begin a run in the background, going on from the current global model; where that is of
        a run of such a plan that was not ended (its server was killed), go on with it to its end.
        Raises Conflict if one is going on, Refused for a plan that the strategy cannot go with.
        """
        table = self._table
        table.strategy.check(plan)
        with table.changed:
            if table.closed:
                raise Conflict("the federation is closed; expected a new one")
            if table.thread is not None:
                raise Conflict(
                    "a run is going on; expected to stop it, or to wait for its end, first"
                )
            table.plan, table.stopping, table.zero = plan, False, table.began()
            table.error, table.failures = None, []
            endless = plan.rounds is None or table.strategy.asynchronous
            last = 0 if endless else table.round + plan.rounds
            progress = table.state.progress.of(plan, last, table.model_version)
            table.state = replace(table.state, progress=progress)
            table.last_round = progress.last_round
            table.first, table.spoiled = table.state, []
            table.rounds_before, table.strict = len(table.history), plan.strict
            table.opened = False
            table.members.begin(progress.done, table.clock.now())
            table.down = table.up = 0
            work = run_asynchronously if table.strategy.asynchronous else run_rounds
            table.thread = threading.Thread(
                target=self._guarded, args=(work,), name="fedlab-rounds", daemon=True
            )
            table.thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End the run now: the round under way is dropped, what was committed stays. Does nothing
        when none is going on.
        """
        table = self._table
        with table.changed:
            table.stopping = True
            thread = table.thread
            table.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, which whoever waits for it will get."""
        table = self._table
        with table.changed:
            table.error = table.error or error
            table.stopping = True
            table.notify()

    def wait(self, on_round: Callable[[RoundRecord], None] | None = None) -> History:
        """Wait for the end of the run; `on_round` is called with each new record, in this thread.

        Raises what went wrong in the background, and ClientFailed when a client failed and the plan
        is strict.
        """
        table = self._table
        seen = table.rounds_before
        while True:
            with table.changed:
                table.changed.wait_for(
                    lambda: table.thread is None or len(table.history) > seen, timeout=0.5
                )
                finished = table.thread is None
                fresh = table.history[seen:]
            for record in fresh:
                if on_round:
                    on_round(record)
            seen += len(fresh)
            if finished and not fresh:
                break
        if table.error is not None:
            if isinstance(table.error, Diverged):
                table.error.history = table.history
            raise table.error
        if table.strict and table.failures:
            raise ClientFailed("; ".join(table.failures))
        return table.history

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
        table = self._table
        with table.changed:
            if table.thread is not None:
                raise Conflict("a run is going on; expected to stop it first")
            table.strategy = strategy or table.strategy
            table.seed = table.seed if seed is None else seed
            table.initial = list(weights) if weights is not None else table.initial
            table.state = State(list(table.initial), lineage=new_lineage())
            table.history = History()
            table.round, table.last_round, table.message = 0, 0, "ready"
            table.model_version = 0
            table.notify()

    def close(self, grace: float = 2.0) -> None:
        """End everything: stop the run, and wait up to `grace` seconds until every client has heard
        that it is over.
        """
        table = self._table
        with table.changed:
            table.closed = True  # first, so that nobody starts another run meanwhile
        self.stop()
        with table.changed:
            table.message = "closed"
            table.notify()
            table.changed.wait_for(
                lambda: all(member.guest for member in table.members.all()), timeout=grace
            )

    def _guarded(self, work: Callable[[Table], str | None]) -> None:
        """The background thread: whatever happens, the run ends, and whoever waits for it learns
        why.
        """
        table = self._table
        message = "finished"
        try:
            try:
                message = work(table) or message
            except Stopped:
                message = "stopped"
            table.end()
        # Kept, and raised by `wait` in the thread of whoever asked for the run.
        except BaseException as error:
            table.error = table.error or error
        with table.changed:
            table.message = f"ended by an error: {table.error}" if table.error else message
            table.plan, table.thread, table.exchange = None, None, None
            # Whoever starts again after an error begins a run, too
            table.state = replace(table.state, progress=Progress())
            # A round that was not committed does not count.
            table.round = table.history.last.round if table.history.last else 0
            table.merged.clear()
            table.members.rest()
            table.notify()

    # ---- looking in ------------------------------------------------------------------------------

    @property
    def weights(self) -> Weights:
        """The current global model."""
        return self._table.state.weights

    @property
    def model(self) -> tuple[int, Weights]:
        """The current global model, and its version: the same as in tasks."""
        table = self._table
        with table.changed:
            return table.model_version, table.state.weights

    @property
    def state(self) -> State:
        """The strategy's current state."""
        return self._table.state

    @property
    def history(self) -> History:
        """The rounds since the last reset."""
        return self._table.history

    @property
    def strategy(self) -> Strategy:
        """How updates are aggregated."""
        return self._table.strategy

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._table.thread is not None

    def count_bytes(self, down: int = 0, up: int = 0) -> None:
        """Whoever carries the messages says here how large their bodies were; the next record has
        the sums.
        """
        table = self._table
        with table.changed:
            table.down += down
            table.up += up

    def status(self) -> Status:
        """A consistent picture of this moment."""
        table = self._table
        with table.changed:
            members = [(client, table.members.find(client)) for client in table.members.ids()]
            return Status(
                running=table.thread is not None,
                asynchronous=table.strategy.asynchronous,
                strategy=table.strategy.name,
                round=table.round,
                rounds=self._planned_rounds(),
                accuracy=table.history.last.accuracy if table.history.last else math.nan,
                waiting_for=sorted(table.exchange.awaited) if table.exchange else [],
                answered=table.exchange.answered() if table.exchange else [],
                members=[
                    Member(client, m.num_examples, "training" if m.training else "waiting")
                    for client, m in members
                ],
                participants=list(table.exchange.tasks) if table.exchange else [],
                message=table.message,
                version=table.version,
                unit=table.strategy.unit,
                phase=table.exchange.phase if table.exchange else TRAIN,
            )

    def _planned_rounds(self) -> int:
        table = self._table
        if table.strategy.asynchronous and table.plan:
            of = table.members.all()
            planned = merging.planned_models(of, table.plan, table.strategy.per_model)
            return table.rounds_before + planned if planned else 0
        return table.last_round

    def wait_for_change(self, version: int, timeout: float) -> int:
        """Wait until something changed since `version` (of a Status), at most `timeout` seconds;
        the version then.
        """
        table = self._table
        with table.changed:
            table.changed.wait_for(lambda: table.version != version, timeout=timeout)
            return table.version
