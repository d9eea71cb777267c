"""Slow motion's gate, and what a strategy is that is watched."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import fedlab
from fedlab.dashboard.models import Models
from fedlab.dashboard.steps import (
    AVERAGE,
    BROADCAST,
    ONE_BY_ONE,
    SERVER,
    TRAIN,
    UPLOAD,
    Gate,
    Watched,
)
from fedlab.federation import Federation
from fedlab.plan import Plan
from fedlab.strategies import STRATEGIES


def passing(gate, who, step):
    """A thread that goes through the gate, and when it did."""
    went = []
    thread = threading.Thread(target=lambda: (gate.wait(who, step), went.append(time.monotonic())))
    thread.start()
    return thread, went


def until(true, seconds=5):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_gate_is_open_but_in_slow_motion_and_during_a_run():
    gate = Gate()
    gate.wait("alice", TRAIN)
    gate.begin()
    gate.wait("alice", TRAIN)
    gate.end()
    gate.set_slow(True)
    gate.wait("alice", TRAIN)
    assert gate.waiting(["alice"]) == 0


def test_all_wait_and_those_who_send_go_one_after_another():
    gate = Gate()
    gate.set_slow(True)
    gate.begin()
    several = [passing(gate, name, UPLOAD) for name in ("alice", "bob")]
    until(lambda: gate.waiting(["alice", "bob"]) == UPLOAD)
    assert gate.waiting(["alice", "bob", "carol"]) == 0, "carol still trains"
    gate.go_on()
    assert gate.waiting(["alice", "bob"]) == 0, "they are on their way"
    for thread, _ in several:
        thread.join(5)
    (first,), (second,) = [went for _, went in several]
    assert ONE_BY_ONE * 0.8 < second - first < ONE_BY_ONE + 1


@pytest.mark.parametrize("opened", ["switched off", "ended"])
def test_nobody_is_left_waiting(opened):
    gate = Gate()
    gate.set_slow(True)
    gate.begin()
    thread, went = passing(gate, SERVER, AVERAGE)
    until(lambda: gate.waiting([]) == AVERAGE)
    gate.set_slow(False) if opened == "switched off" else gate.end()
    thread.join(5)
    assert went and gate.waiting([]) == 0


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_watched_strategy_makes_the_same_models(name, mnist):
    data = {"alice": mnist.shards(1, 1), "bob": mnist.shards(2, 2), "carol": mnist.shards(3, 3)}
    settings = {"rounds": 2, "batch_size": 64, "progress": False}
    plain, models = STRATEGIES[name](), Models()
    expected, seen = [], {}
    watched = Watched(
        STRATEGIES[name](), Gate(), lambda n, w: (models.keep_global(n, w), seen.update({n: w}))
    )
    assert watched.identity == plain.identity and watched.asynchronous == plain.asynchronous
    assert watched.min_updates == plain.min_updates
    if plain.asynchronous:  # no rounds: every update by itself
        update = fedlab.Update("alice", 1, 600, [np.ones(3, np.float32)])
        state = fedlab.State([np.zeros(3, np.float32)], num_examples=600)
        made = []
        for strategy in (plain, watched):
            following = state
            for _ in range(plain.per_model):
                following = strategy.merge(following, update, state.weights, 0)
            made.append(following.weights[0])
        assert np.array_equal(*made) and np.array_equal(models.global_of(1)[0], made[0])
        assert list(seen) == [1], "an update that only went into the buffer is no model"
        return
    with_it = fedlab.simulate(data, test=mnist.test, strategy=watched, **settings)
    without = fedlab.simulate(data, test=mnist.test, strategy=plain, **settings)
    assert [r.loss for r in with_it] == [r.loss for r in without]
    classifier = fedlab.Classifier()
    expected = [classifier.evaluate(models.global_of(n), mnist.test)[0] for n in (1, 2)]
    assert expected == [r.loss for r in without], "and every round's model is kept"
    assert watched.participants == {1: ("alice", "bob", "carol"), 2: ("alice", "bob", "carol")}


def test_a_model_that_is_rejected_is_not_kept():
    models = Models()

    def aggregate(state, updates):
        (update,) = updates
        spoiled = np.float32(np.nan if update.round == 2 else 1)
        return replace(state, weights=[state.weights[0] + spoiled])

    watched = Watched(
        fedlab.Strategy("Odd", "spoils round 2", aggregate), Gate(), models.keep_global
    )
    federation = Federation([np.zeros(3, np.float32)], watched)
    federation.join("alice", 10)
    federation.start(Plan(3, strict=False))
    for _ in range(3):
        task = federation.task("alice", 5)
        federation.report(fedlab.Update("alice", task.round, 10, task.weights, run=task.run))
    assert "rejected" in federation.wait()[1].note
    assert [models.global_of(number)[0][0] for number in (1, 2, 3)] == [1, 1, 2]


def test_a_round_for_which_nobody_was_drawn_has_the_model_of_the_one_before():
    """Nobody plays it, and it is committed all the same."""
    models, weights = Models(), [np.zeros(3, np.float32)]
    federation = Federation(weights, Watched(fedlab.fed_avg(), Gate(), models.keep_global))
    federation.join("alice", 10)
    federation.start(Plan(4, fraction=0.5, sampling="poisson"))
    while federation.running:
        if task := federation.task("alice", 0.05):
            new = [w + np.float32(1) for w in task.weights]
            federation.report(fedlab.Update("alice", task.round, 10, new, run=task.run))
    history = federation.wait()
    came = np.cumsum([len(record.clients) for record in history])
    assert 0 < came[-1] < 4, "a seed of which both can be seen"
    assert [models.global_of(number)[0][0] for number in (1, 2, 3, 4)] == list(came)


def test_a_round_that_is_played_again_counts_once(monkeypatch):
    monkeypatch.setattr("fedlab.dashboard.models.MOST_BYTES", 2_000)
    models, weights = Models(), [np.zeros(100, np.float32)]  # 400 bytes
    for number in range(2):
        models.keep_own(number, "alice", weights)
    for _ in range(10):
        models.keep_global(1, weights)
        models.keep_own(1, "alice", weights)
    assert models._bytes == 1_200 and models.own_of(0) and models.own_of(1)


def test_models_forget_the_oldest_first(monkeypatch):
    monkeypatch.setattr("fedlab.dashboard.models.MOST_BYTES", 4_000)
    models, weights = Models(), [np.zeros(100, np.float32)]  # 400 bytes
    for number in range(6):
        models.keep_global(number, weights)
        models.keep_own(number, "alice", weights)
    assert [n for n in range(6) if models.global_of(n)] == [0, 1, 2, 3, 4, 5]
    assert [n for n in range(6) if models.own_of(n)] == [2, 3, 4, 5]
    for number in range(6, 12):
        models.keep_global(number, weights)
    assert models.global_of(0) and models.global_of(11), "the untrained one and the last stay"
    assert models._bytes <= 4_000
    models.clear()
    assert models.global_of(0) is None and not models.own_of(5)


def test_steps_are_counted_as_they_are_shown():
    assert (BROADCAST, TRAIN, UPLOAD, AVERAGE) == (1, 2, 3, 4)
