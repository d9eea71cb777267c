"""The rules of the asynchronous way."""

import math

import numpy as np
import pytest

from fedlab.federation import merging
from fedlab.federation.members import Joined
from fedlab.messages import Conflict, RunOver, Training, Update
from fedlab.plan import Plan
from fedlab.strategies import State

WEIGHTS = [np.zeros(2, np.float32)]


def member(done: int = 0, shards: int = 2, guest: bool = False) -> Joined:
    return Joined(10, shards, "", 0.0, done, guest=guest)


def update(round: int) -> Update:
    return Update("alice", round, 10, WEIGHTS)


def test_the_next_task_is_the_next_shard():
    plan = Plan(3, Training(2))
    task = merging.task_for("alice", member(done=4), plan, State(WEIGHTS, lineage="l"), 9, 17)
    assert (task.round, task.rounds, task.seed, task.version) == (5, 6, 9, 17)
    assert task.lineage == "l"
    assert task.shard_by_shard and task.training == Training(2)
    assert (
        merging.task_for("alice", member(done=6), plan, State(WEIGHTS, lineage="l"), 9, 17) is None
    )


def test_without_an_end_everyone_goes_once_through_the_shards():
    assert merging.task_for("alice", member(1), Plan(None), State(WEIGHTS), 0, 0).round == 2
    with pytest.raises(RunOver, match="'alice' has trained on its 2 shards"):
        merging.task_for("alice", member(2), Plan(None), State(WEIGHTS), 0, 0)


def test_what_was_merged_is_not_merged_again():
    with pytest.raises(Conflict, match="already have an update of 'alice' for round 2"):
        merging.check(update(2), member(done=2, shards=5), Plan(1))
    with pytest.raises(Conflict, match="got an update of 'alice' for round 3; expected none"):
        merging.check(update(3), member(done=1), Plan(1))
    merging.check(update(2), member(done=0), Plan(1))  # it was on its own for round 1
    merging.check(update(1), member(done=7, guest=True), Plan(1))


def test_when_all_are_done():
    done, busy, guest = member(4), member(3), member(guest=True)
    real, never = (60, 600), (math.inf, math.inf)
    assert merging.ends([done, done], Plan(2), real) == merging.ends([], Plan(2), real) == -math.inf
    assert merging.ends([done, busy], Plan(2), real) == 60
    assert merging.ends([done, busy], Plan(2), never) == math.inf
    assert merging.ends([done, guest], Plan(2), real) == 600
    assert merging.ends([done], Plan(None), real) == math.inf
    busy.task, busy.since = (4, "train"), 1000.0
    busy.seen = 5000.0  # it asks again and again
    assert merging.ends([busy], Plan(2), real) == 1600
    assert merging.ends([busy], Plan(2, deadline=90), real) == 1090
    assert merging.ends([busy], Plan(2, deadline=9), real) == 1060, "no less than who has no task"
    assert merging.ends([busy], Plan(2), never) == merging.ends([busy], Plan(2, deadline=9), never)
    assert merging.planned_models([done, busy], Plan(2), 1) == 8
    assert merging.planned_models([done, busy], Plan(2), 3) == 2, "two are left in the buffer"
    assert merging.planned_models([done, guest], Plan(2), 1) == 0
    assert merging.planned_models([done], Plan(None), 1) == 0


def test_how_many_updates_may_still_come():
    """Of those who are waited for."""
    real = 60, 600
    done, busy, guest = member(4), member(1), member(guest=True)
    assert merging.to_come([], Plan(2), real, 0) == merging.to_come([done], Plan(2), real, 0) == 0
    assert merging.to_come([done, busy, member(2)], Plan(2), real, 59) == 3 + 2
    assert merging.to_come([done, busy, member(2)], Plan(2), real, 60) == 0
    assert merging.to_come([busy, guest], Plan(2), real, 599) == math.inf
    assert merging.to_come([busy, guest], Plan(2), real, 600) == 0
    assert merging.to_come([done], Plan(None), real, 1e9) == math.inf
