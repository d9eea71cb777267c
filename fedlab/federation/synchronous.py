"""Drives the rules of rounds: the body of a run's thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from fedlab.federation.rounds import Exchange, draw, size
from fedlab.federation.table import Table, waiting_for_clients
from fedlab.history import ClientRecord
from fedlab.messages import TRAIN, Task, Update
from fedlab.plan import Plan
from fedlab.strategies import State, TooFewUpdates, Updates


def run_rounds(table: Table) -> None:
    """Round after round, until the plan is done or the target reached."""
    plan, began = table.plan, table.began()
    while plan.rounds is None or table.round < table.last_round:
        number, participants = table.round + 1, drawn(table, plan)
        try:
            state, came = play(table, number, plan, participants)
            missing = sorted(set(participants) - set(came))
            note = f"{len(came)} of {len(participants)} updates: went on without"
            note = f"{note} {', '.join(missing)}" if missing else ""
        except TooFewUpdates as reason:
            with table.changed:
                table.give_up_on_failures(too_few=False)
            state, came, note = table.state, {}, f"abandoned: {reason}"
        due = number % plan.evaluate_every == 0 or number == table.last_round
        if table.commit(number, state, came, note, began, due):
            return


def drawn(table: Table, plan: Plan) -> list[str]:
    """Choose who takes part in the next round, as soon as there are enough."""
    with table.changed:
        # Only the first round waits for so many: a laptop that leaves later must not halt the
        # others. But with fewer than a round needs, none can succeed.
        first = len(table.history) == table.rounds_before
        least = max(table.needed(plan), plan.min_clients if first else 1)
        table.until(lambda: len(table.members) >= least, waiting_for_clients(least))
        joined = table.members.ids()
        count = size(plan, len(joined), table.needed(plan))
        return draw(table.seed, table.round + 1, joined, count)


def play(
    table: Table, number: int, plan: Plan, participants: list[str]
) -> tuple[State, dict[str, ClientRecord]]:
    """One round: the state after it, and who contributed. Raises TooFewUpdates.

    Whether the strategy takes every update or not, the round waits for all, and counts them.
    """
    came: dict[str, ClientRecord] = {}
    exchange: Exchange | None = None

    def ask(tasks: Task | Mapping[str, Task]) -> Updates:
        nonlocal exchange
        within = participants if exchange is None else finish(table, exchange, plan, came)
        if isinstance(tasks, Task):  # one for all of them: the server makes its bytes once
            tasks = dict.fromkeys(within, tasks)
        exchange, members = open_exchange(table, {client: tasks[client] for client in within}, plan)
        answers = arriving(table, exchange, plan, came)
        return Updates(answers, tuple(exchange.tasks), members)

    weights, training, version = table.state.weights, plan.training, table.model_version
    task = Task(number, table.last_round, weights, training, table.seed, version=version)
    try:
        state = table.strategy.run_round(table.state, task, ask)
        if exchange is not None:
            finish(table, exchange, plan, came)
    finally:
        with table.changed:
            if exchange is not None:
                exchange.close()  # whatever comes now is stale
            table.notify()
    return state, came


def open_exchange(table: Table, tasks: Mapping[str, Task], plan: Plan) -> tuple[Exchange, int]:
    """Send out these tasks: an exchange begins. With it, how many clients have joined."""
    with table.changed:
        deadline = plan.deadline
        ends = None if deadline is None else time.monotonic() + deadline
        table.exchange = exchange = Exchange(tasks, ends)
        table.round, members = exchange.round, max(len(table.members), len(tasks))
        does = "train" if exchange.phase == TRAIN else f"are asked for {exchange.phase}"
        table.message = f"round {table.round}: {len(tasks)} of {members} clients {does}"
        for client in tasks:
            if client not in table.members:  # it has left since it was drawn
                exchange.excuse(client)
        table.notify()
        return exchange, members


def arriving(
    table: Table, exchange: Exchange, plan: Plan, came: dict[str, ClientRecord]
) -> Iterator[Update]:
    """This exchange's updates in client-id order, each as soon as it and those before it are
    there.

    In that order, whatever the order of arrival: floating-point sums depend on it, and a run
    must repeat bit for bit.
    """
    for client in exchange.tasks:
        update = collect(table, exchange, client, came)
        if update is not None:
            yield update
    finish(table, exchange, plan, came)


def collect(
    table: Table, exchange: Exchange, client: str, came: dict[str, ClientRecord]
) -> Update | None:
    """What this client sends, as soon as it is there; None when it is too late, or was here
    before.
    """
    with table.changed:
        table.until(lambda: exchange.settled(client, time.monotonic()), None, exchange.ends)
        update = exchange.collect(client)
    if update is not None and exchange.phase == TRAIN:
        came[client] = ClientRecord(update.num_examples, update.accuracy, update.loss)
    return update


def finish(
    table: Table, exchange: Exchange, plan: Plan, came: dict[str, ClientRecord]
) -> list[str]:
    """Wait for all of an exchange, and close it; who has answered. Raises TooFewUpdates."""
    for client in exchange.tasks:
        collect(table, exchange, client, came)
    with table.changed:
        exchange.close()  # whatever comes now is stale
        table.members.drop_silent(exchange.late, time.monotonic())
        table.notify()
    answered, needed = exchange.answered(), table.needed(plan)
    if len(answered) < needed:
        raise TooFewUpdates(
            f"{len(answered)} of {len(exchange.tasks)} updates came, {needed} were needed"
        )
    return answered
