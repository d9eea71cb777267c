"""Drives the rules of the asynchronous way: what `report` does with an update, and the body of a
run's thread.
"""

from __future__ import annotations

from dataclasses import replace

from fedlab.federation import merging
from fedlab.federation.table import Stopped, Table, record_of, waiting_for_clients
from fedlab.messages import Conflict, Update
from fedlab.plan import Plan


def run_asynchronously(table: Table) -> None:
    """`report` merges; this thread only tests and writes down each new global model, so that no
    client waits for that.
    """
    plan, began = table.plan, table.began()
    with table.changed:
        table.until(
            lambda: len(table.members) >= plan.min_clients or table.merged,
            waiting_for_clients(plan.min_clients),
        )
        table.opened = True
        table.message = "every update is merged as it arrives"
        table.notify()
    reached, record = False, {}
    while True:
        with table.changed:
            # When the run is stopped or the target reached, no more updates are taken; those
            # that were merged are still written down.
            if not table.merged:
                if not reached:
                    try:
                        table.until(lambda: table.merged or all_done(table, plan), None)
                    except Stopped:
                        if not table.merged:
                            raise
                if not table.merged:
                    return
            update, state = table.merged.popleft()
            record[update.client] = record_of(update, record.get(update.client))
            if state is None:
                continue
            table.round += 1
            more = any(following for _, following in table.merged)
            last = not more and (table.stopping or all_done(table, plan))
            due = last or (table.round % plan.evaluate_every == 0 and not table.stopping)
        state, tested = table.tested(state, table.round, due)
        if table.commit(table.round, state, tested, record, "", began):
            reached = table.stopping = True
        record = {}


def all_done(table: Table, plan: Plan) -> bool:
    """Whether nobody has anything left to train."""
    return merging.everyone_is_done(table.members.all(), plan)


def merge(table: Table, update: Update) -> None:
    """Merge an update into the global model. Raises Conflict when it is wanted no more."""
    with table.merging:
        with table.changed:
            member = table.members.heard(update.client, table.clock.now())
            table.check_current(update, member)
            plan, state = table.plan, table.state
            version, strict = table.model_version, table.strategy.by_version
            model, staleness = merging.began(update, member, state, version, strict)
        merged = table.strategy.merge(state, update, model, staleness)
        fresh = merged.weights is not state.weights
        with table.changed:
            gone = table.members.find(update.client) is not member
            if table.plan is not plan or table.stopping or gone:
                raise Conflict(
                    f"the run ended, or {update.client!r} left, while its update was merged;"
                    " expected nothing more"
                )
            table.state = merged = replace(merged, lineage=state.lineage)
            table.model_version += fresh
            member.done = member.done + 1 if member.guest else update.round
            table.at_work(update.client, staleness)
            member.task = None
            table.merged.append((update, merged if fresh else None))
            table.notify()
