"""Drives the rules of the asynchronous way: what `report` does with an update, and the body of a
run's thread.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from fedlab.federation import merging
from fedlab.federation.table import Stopped, Table, record_of, waiting_for_clients
from fedlab.history import Tested
from fedlab.messages import DENSE, Conflict, Diverged, Update, check_finite
from fedlab.plan import Plan
from fedlab.strategies import State


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
    good, since = table.first, set()  # the last model that was tested, and who has come since
    while True:
        with table.changed:
            # When the run is stopped or the target reached, no more updates are taken; those
            # that were merged are still written down.
            if not table.merged:
                if not reached:
                    try:
                        end = ends(table, plan)
                        table.until(lambda: table.merged or all_done(table, plan), None, end)
                    except Stopped:
                        if not table.merged:
                            raise
                if not table.merged:
                    if reached or all_done(table, plan):
                        return
                    continue  # somebody has said something: the end is later
            update, state = table.merged.popleft()
            record[update.client] = record_of(update, record.get(update.client))
            since.add(update.client)
            if state is None:
                continue
            table.round += 1
            more = any(following for _, following in table.merged)
            # Too few updates for another model may still come: they stay in the buffer.
            missing = max(1, table.strategy.per_model - len(table.merged))
            last = not more and (table.stopping or all_done(table, plan, missing))
            due = last or (table.round % plan.evaluate_every == 0 and not table.stopping)
        note = ""
        try:
            state, tested = table.tested(state, table.round, due)
            if due:
                good, since = state, set()
        except Diverged as error:
            # Fewer than a half can be to blame; otherwise it is what everybody does.
            if table.strict and 2 * len(since) >= len(table.members):
                raise
            state, tested = go_back(table, good)
            came = ", ".join(sorted(since))
            record, note = {}, f"rejected: {error}; since the last good model {came} came"
        if table.commit(table.round, state, tested, record, note, began):
            reached = table.stopping = True
        record = {}


def go_back(table: Table, good: State) -> tuple[State, Tested]:
    """The last good model is the current one again. What was merged since has been in vain, also
    what is not tested yet: it was merged into a spoiled model.
    """
    with table.merging, table.changed:
        table.merged.clear()
        table.model_version += 1
        table.spoiled.append(range(good.progress.version + 1, table.model_version))
        state = become(table, good)
    return table.tested(state, table.round, True)


def become(table: Table, state: State) -> State:
    """This is the current model now, and with it whose updates nobody wants again."""
    done, version = table.members.done(), table.model_version
    progress = replace(table.state.progress, done=done, version=version)
    table.state = replace(state, lineage=table.state.lineage, progress=progress)
    return table.state


def ends(table: Table, plan: Plan) -> float:
    """When the run ends, if nobody says anything more; infinity: never."""
    last = merging.ends(table.members.all(), plan, table.clock.patience)
    return max(last, table.members.back_by)


def all_done(table: Table, plan: Plan, missing: int = 1) -> bool:
    """Whether those who are still waited for have fewer than `missing` updates left to send."""
    left = merging.to_come(table.members.all(), plan, table.clock.patience, table.clock.now())
    return table.members.back_by <= table.clock.now() and left < missing


def merge(table: Table, update: Update) -> None:
    """Merge an update into the global model. Raises Conflict when it is wanted no more, NotFinite
    when nothing good comes of it.
    """
    with table.merging:
        with table.changed:
            member = table.members.heard(update.client, table.clock.now())
            table.check_current(update, member)
            state = table.state
            # A difference is one to the model that was given
            strict = table.strategy.by_version or update.codec != DENSE
            if any(update.version in versions for versions in table.spoiled):
                raise Conflict(
                    f"got an update of {update.client!r} trained from model {update.version}, which"
                    " was taken back; expected its client to fetch a task"
                )
            current, first = (table.model_version, state.weights), table.first
            first = first.progress.version, first.weights
            model, staleness = merging.began(update, member, current, first, strict)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
            merged = table.strategy.merge(state, update, model, staleness)
        for array in itertools.chain(merged.weights, *merged.memory.values()):
            check_finite(f"the model, with this update of {update.client!r} merged,", array)
        fresh = merged.weights is not state.weights
        with table.changed:
            gone = table.members.find(update.client) is not member
            if table.state is not state or table.stopping or gone:
                raise Conflict(
                    f"the run ended, or {update.client!r} left, while its update was merged;"
                    " expected nothing more"
                )
            table.model_version += fresh
            member.done = member.done + 1 if member.guest else update.round
            merged = become(table, merged)
            table.at_work(update.client, staleness)
            member.task = None
            table.merged.append((update, merged if fresh else None))
            table.notify()
