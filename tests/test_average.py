"""How a class combines updates, against the mean by hand."""

import numpy as np

from fedlab.classroom.average import ClassAverage, alike
from fedlab.messages import Task, Training, Update
from fedlab.strategies import State, Updates, weighted_mean


def updates(*counts: int) -> list[Update]:
    rng = np.random.default_rng(3)
    shapes = (4, 3), (3,)
    return [
        Update(f"client {number}", 1, count, [rng.normal(size=s).astype("f4") for s in shapes])
        for number, count in enumerate(counts)
    ]


def test_alike_is_the_mean_whatever_the_counts():
    every = updates(24, 5_000, 60_000)
    weights, examples = alike(every)
    assert examples == 24 + 5_000 + 60_000
    for place, found in enumerate(weights):
        each = np.stack([update.weights[place] for update in every]).astype(np.float64)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, (each.sum(0) / 3).astype(np.float32))
    assert [update.num_examples for update in every] == [24, 5_000, 60_000], "nothing is changed"


def test_alike_takes_them_one_by_one():
    """A running sum: a class of a thousand needs no more memory than one of two."""
    weights, examples = alike(iter(updates(1, 2, 3, 4)))
    assert examples == 10 and len(weights) == 2


def test_a_class_average_says_who_was_asked_and_who_has_answered():
    asked, answered = [], []
    about = {"asked": lambda clients: asked.extend(clients), "answered": answered.append}
    every = updates(1, 3)
    strategy = ClassAverage("FedAvg", "the average of the class", **about)

    def ask(task):
        return Updates(iter(every), tuple(u.client for u in every), 2, 4)

    weights = [np.zeros((4, 3), "f4"), np.zeros(3, "f4")]
    state = strategy.run_round(State(weights), Task(1, 1, weights, Training()), ask)
    assert asked == answered == ["client 0", "client 1"]
    for found, right in zip(state.weights, weighted_mean(every)[0], strict=True):
        np.testing.assert_array_equal(found, right)
    assert strategy.identity == "FedAvg", "a checkpoint is one of both ways to weigh"
