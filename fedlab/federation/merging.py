"""The rules of the asynchronous way: no rounds, every client goes through its own shards, every
update is merged as it comes. No lock and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fedlab.checks import counted
from fedlab.federation.members import Given, Joined, Patience
from fedlab.messages import (
    TRAIN,
    AlreadyCounted,
    BadUpdate,
    Conflict,
    RunOver,
    Task,
    Update,
    Weights,
)
from fedlab.plan import Plan
from fedlab.strategies import State


def last_round(member: Joined, plan: Plan) -> int:
    """The number of this client's last round: each of its shards, as often as the plan says."""
    return member.shards * (plan.rounds or 1)


def task_for(
    client: str, member: Joined, plan: Plan, state: State, seed: int, version: int
) -> Task | None:
    """This client's next task; None when it has to wait for the others. Raises RunOver where
    everyone goes once through the shards, and this client has.
    """
    last = last_round(member, plan)
    if member.done < last:
        return Task(
            member.done + 1,
            last,
            state.weights,
            plan.training,
            seed,
            shard_by_shard=True,
            version=version,
            lineage=state.lineage,
            run=state.progress.run,
        )
    if plan.rounds is None:
        raise RunOver(f"client {client!r} has trained on its {counted(member.shards, 'shard')}")
    return None


def check(update: Update, member: Joined, plan: Plan) -> None:
    """Raise Conflict unless this is an update that was not merged yet, BadUpdate for one of
    another phase.
    """
    if update.phase != TRAIN:
        raise BadUpdate(f"the update answers phase {update.phase[:40]!r}; expected {TRAIN!r}")
    if member.guest:
        return  # it does not count its rounds: whatever it sends is its next update
    what = f"an update of {update.client!r} for round {update.round}"
    if 1 <= update.round == member.passed:  # again, as the answer was lost
        raise Conflict(f"got {what} again; expected none: it went too far")
    if 1 <= update.round <= member.done:
        raise AlreadyCounted(f"already have {what}")
    if update.round > last_round(member, plan):
        raise Conflict(f"got {what}; expected none: this client's last round is {member.done}")


def began(
    update: Update, member: Joined, current: Given, first: Given, by_version: bool
) -> tuple[Weights, int]:
    """The model that this update was trained from, and how many there have been since. Raises
    Conflict `by_version` for a model that is not kept: each client's last one is, and the `first`
    of the run (after a restart: the checkpoint's), for those who trained while the server was away.
    """
    version, weights = current
    if member.guest:
        return weights, 0
    given, weights = member.given or first
    if by_version and update.version != given:
        raise Conflict(
            f"got an update of {update.client!r} trained from model {update.version}; expected"
            f" model {given}, which it was given last: only that one is kept"
        )
    return weights, version - given


def waited_until(member: Joined, plan: Plan, patience: Patience) -> float:
    """Until when the end of the run waits for this client, if it sends nothing more; `patience` is
    the clock's. Who trains has the plan's deadline where there is one (and never less than who does
    not); that it asks for its task again and again does not help.
    """
    idle, training = patience
    if not member.guest and member.done >= last_round(member, plan):
        return -math.inf
    if not (member.guest or member.training):
        return member.seen + idle
    began = member.seen if member.guest else member.since
    return began + (training if plan.deadline is None else max(idle, plan.deadline))


def ends(members: Iterable[Joined], plan: Plan, patience: Patience) -> float:
    """When nobody is waited for any more, who has something left to train; infinity: never."""
    if plan.rounds is None:
        return math.inf
    return max((waited_until(member, plan, patience) for member in members), default=-math.inf)


def to_come(members: Iterable[Joined], plan: Plan, patience: Patience, now: float) -> float:
    """How many updates those may still send who are waited for; infinity: nobody knows."""
    waited = [member for member in members if waited_until(member, plan, patience) > now]
    if plan.rounds is None or any(member.guest for member in waited):
        return math.inf
    return sum(last_round(member, plan) - member.done for member in waited)


def planned_models(members: Iterable[Joined], plan: Plan, per_model: int) -> int:
    """How many new models this run is to have; 0 where no end is planned."""
    members = list(members)
    if plan.rounds is None or any(member.guest for member in members):
        return 0
    return sum(last_round(member, plan) for member in members) // per_model
