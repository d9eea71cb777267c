"""Drives the rules of rounds: the body of a run's thread."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from fedlab.checks import Refused, counted
from fedlab.federation.rounds import Exchange, draw
from fedlab.federation.table import Table, record_of, waiting_for_clients
from fedlab.history import ClientRecord, Tested
from fedlab.messages import TRAIN, Diverged, Task, Update, length
from fedlab.plan import Plan
from fedlab.strategies import Finished, State, TooFewUpdates, Updates

MOST_KEPT = 64 * 2**20
"""Bytes of updates that are kept until a round is over: of the 2NN those of eighty clients."""

MOST_REJECTED = 3
"""Rounds in a row that may be spoiled where not all updates were kept: with the last of them a
strict run ends, for then it is what everybody does."""


def run_rounds(table: Table) -> str | None:
    """Round after round, until the plan is done, the target reached, or the strategy through with
    it: then why.
    """
    plan, began = table.plan, table.began()
    np.seterr(over="ignore", invalid="ignore")  # in this thread: what comes of it is looked at
    untold = 0  # rounds in a row of which it cannot be told who has spoiled them
    while plan.rounds is None or table.round < table.last_round:
        number, participants = table.round + 1, drawn(table, plan)
        playing = Round(table, plan, number, participants)
        due = number % plan.evaluate_every == 0 or number == table.last_round
        try:
            state, tested = table.tested(playing.play(), number, due)
            note, untold = playing.note(), 0
        except Finished as reason:
            return f"finished: {reason}"
        except TooFewUpdates as reason:
            with table.changed:
                table.give_up_on_failures(too_few=False)
            state, tested = stays(table, playing, due)
            note, untold = f"abandoned: {reason}", 0
        except Diverged as error:
            culprits = playing.culprits(due)
            untold = 0 if playing.all_kept else untold + 1
            if table.strict and not culprits and not 0 < untold < MOST_REJECTED:
                raise
            state, tested = stays(table, playing, due)
            note = f"rejected: {error}"
            note += f"; it would not without {', '.join(culprits)}" if culprits else ""
        if table.commit(number, state, tested, playing.came, note, began):
            break
    return None


def stays(table: Table, playing: Round, due: bool) -> tuple[State, Tested]:
    """The model as it was, after a round of which nothing comes."""
    playing.came = {}
    return table.tested(table.state, playing.number, due)


def drawn(table: Table, plan: Plan) -> list[str]:
    """Choose who takes part in the next round, as soon as there are enough."""
    with table.changed:
        # Only the first round waits for so many: a laptop that leaves later must not halt the
        # others. But with fewer than a round needs, none can succeed.
        first = len(table.history) == table.rounds_before
        least = max(table.needed(plan), plan.min_clients if first else 1)
        table.until(lambda: len(table.members) >= least, waiting_for_clients(least))
        joined = table.members.ids()
        seed = secrets.randbits(63) if table.strategy.secret_draw else table.seed
        return draw(plan, seed, table.round + 1, joined, table.needed(plan))


class Round:
    """One round under way: what `Strategy.run_round` asks becomes exchanges. Where nobody was
    drawn there are none.

    came: who has contributed an update that was trained.
    """

    def __init__(self, table: Table, plan: Plan, number: int, participants: list[str]):
        self.table, self.plan, self.number = table, plan, number
        self.participants = participants
        self.came: dict[str, ClientRecord] = {}
        self._kept: list[Update] = []  # of which it can be told who has spoiled a round
        self._sessions: dict[str, str] = {}  # of those who take part: who has another is another
        self._exchanges: list[Exchange] = []

    def play(self) -> State:
        """The state after the round. Raises TooFewUpdates.

        Whether the strategy takes every update or not, the round waits for all, and counts them.
        """
        table, plan = self.table, self.plan
        weights, lineage = table.state.weights, table.state.lineage
        run = table.state.progress.run
        about = {"version": table.model_version, "lineage": lineage, "run": run}
        task = Task(self.number, table.last_round, weights, plan.training, table.seed, **about)
        if not self.participants and table.strategy.min_updates:
            return table.state
        try:
            state = table.strategy.run_round(table.state, task, self.ask)
            if self._exchanges:
                self._finish(self._exchanges[-1])
        finally:
            with table.changed:
                if self._exchanges:
                    self._exchanges[-1].close()  # whatever comes now is stale
                table.notify()
        return state

    @property
    def all_kept(self) -> bool:
        """Whether every update of the round is still there."""
        return len(self._kept) == len(self.came)

    def culprits(self, due: bool) -> list[str]:
        """Without whose updates the round would have been fine: the fewest, fewer than a half, of
        those whose changes are the longest. None where the server cannot tell, because not all were
        kept, or may not.
        """
        table = self.table
        if not self.all_kept or not table.strategy.open_updates:
            return []
        longest = sorted(self._kept, key=lambda u: -length(u.weights, table.state.weights))
        for number in range(1, (len(longest) + 1) // 2):
            out = {update.client for update in longest[:number]}
            rest = [update for update in self._kept if update.client not in out]
            with contextlib.suppress(Diverged, Refused):
                updates = self._updates(rest, [update.client for update in rest])
                table.tested(table.strategy.aggregate(table.state, updates), self.number, due)
                return sorted(out)
        return []

    def note(self) -> str:
        """Who was drawn, and is not in what came of it."""
        if not self.participants:
            return "nobody was drawn"
        stayed = self.came or (self._exchanges[-1].answered() if self._exchanges else ())
        missing = sorted(set(self.participants) - set(stayed))
        if not missing:
            return ""
        came = f"{len(stayed)} of {counted(len(self.participants), 'update')}"
        return f"{came}: went on without {', '.join(missing)}{self._too_far()}"

    def _too_far(self) -> str:
        """Whose changes were too long, in words; or ""."""
        names = sorted(name for exchange in self._exchanges for name in exchange.too_far)
        return f" (longer than the bound: {', '.join(names)})" if names else ""

    def ask(self, tasks: Task | Mapping[str, Task]) -> Updates:
        """`Ask`: an exchange begins, with all who answered in the one before."""
        within = self._finish(self._exchanges[-1]) if self._exchanges else self.participants
        if not within:  # nobody was drawn
            return self._updates([], [])
        if isinstance(tasks, Task):  # one for all of them: the server makes its bytes once
            tasks = dict.fromkeys(within, tasks)
        self._check(tasks, within)
        packed = {id(task): self.plan.packed(task) for task in tasks.values()}
        table = self.table
        with table.changed:
            deadline = self.plan.deadline
            ends = None if deadline is None else table.clock.now() + deadline
            enough = self.plan.enough and max(self.plan.enough, table.needed(self.plan))
            asked = {name: packed[id(tasks[name])] for name in within}
            # Whoever restarts may answer what is asked first; later it would not know how.
            sessions = dict(self._sessions) if self._exchanges else {}
            given = {name: tasks[name].weights for name in within}
            table.exchange = exchange = Exchange(asked, ends, enough, sessions, given)
            self._exchanges.append(exchange)
            for name in within:
                member = table.members.find(name)
                session = member.session if member else None
                if session is None or self._sessions.setdefault(name, session) != session:
                    exchange.excuse(name)  # it has left since, or somebody else has its name
            updates = self._updates(self._arriving(exchange), within)
            table.round = self.number
            doing = "training" if exchange.phase == TRAIN else f"asked for {exchange.phase}"
            clients = f"{len(within)} of {counted(updates.members, 'client')}"
            table.message = f"round {self.number}: {clients} {doing}"
            table.notify()
        return updates

    def _updates(self, arriving: Iterable[Update], within: list[str]) -> Updates:
        """The answers of `within`, and what a strategy knows of everyone."""
        members = self.table.members
        with self.table.changed:
            everyone = {name: members.find(name) for name in {*members.ids(), *within}}
        examples = sum(member.num_examples for member in everyone.values() if member)
        return Updates(arriving, tuple(within), len(everyone), examples, self.plan)

    def _check(self, tasks: Mapping[str, Task], within: list[str]) -> None:
        """Raise Refused for tasks that could never be answered."""
        strategy = f"the strategy {self.table.strategy.name} asks"
        if lacking := [name for name in within if name not in tasks]:
            raise Refused(f"{strategy} {', '.join(lacking)} nothing; expected a task for everyone")
        asked = {(tasks[name].round, tasks[name].phase) for name in within}
        if len(asked) != 1 or next(iter(asked))[0] != self.number:
            rounds = ", ".join(f"round {r}, phase {p!r}" for r, p in sorted(asked))
            raise Refused(f"{strategy} for {rounds}; expected round {self.number} and one phase")
        if (phase := next(iter(asked))[1]) in {exchange.phase for exchange in self._exchanges}:
            raise Refused(f"{strategy} for phase {phase!r} twice in a round; expected it once")

    def _arriving(self, exchange: Exchange) -> Iterator[Update]:
        """This exchange's updates in client-id order, each as soon as it and those before it are
        there.

        In that order, whatever the order of arrival: floating-point sums depend on it, and a run
        must repeat bit for bit.
        """
        for client in exchange.tasks:
            if exchange is not self._exchanges[-1]:
                raise Refused(
                    f"the answers to phase {exchange.phase!r} were asked for after another phase"
                    " had begun; expected them to be taken before"
                )
            update = self._collect(exchange, client)
            if update is not None:
                yield update
        self._finish(exchange)

    def _collect(self, exchange: Exchange, client: str) -> Update | None:
        """What this client sends, as soon as it is there; None when it is too late, or was here
        before.
        """
        table = self.table
        with table.changed:
            table.until(lambda: exchange.settled(client, table.clock.now()), None, exchange.ends)
            update = exchange.collect(client)
        if update is not None and exchange.phase == TRAIN:
            hidden = {} if table.strategy.open_updates else {"accuracy": math.nan, "loss": math.nan}
            self.came[client] = record_of(replace(update, **hidden))
            if sum(w.nbytes for w in update.weights) * len(self._kept) < MOST_KEPT:
                self._kept.append(update)
        return update

    def _finish(self, exchange: Exchange) -> list[str]:
        """Wait for all of an exchange, and close it; who has answered. Raises TooFewUpdates."""
        table = self.table
        for client in exchange.tasks:
            self._collect(exchange, client)
        with table.changed:
            exchange.close()  # whatever comes now is stale
            table.members.drop_silent(exchange.late, table.clock.now())
            table.notify()
        answered, needed = exchange.answered(), table.needed(self.plan)
        if len(answered) < needed:
            came = f"{len(answered)} of {counted(len(exchange.tasks), 'update')} came"
            raise TooFewUpdates(f"{came}; expected at least {needed}{self._too_far()}")
        return answered
