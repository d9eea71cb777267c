"""Strategies against numbers worked out by hand, with clients of unequal size."""

import numpy as np
import pytest

from fedlab.messages import BadUpdate, Update
from fedlab.strategy import (
    STRATEGIES,
    State,
    async_average,
    fed_avg,
    fed_avg_momentum,
    weighted_mean,
)


def update(num_examples: int, *values: float, client: str = "a") -> Update:
    """One array of shape (2,) and one of shape (1, 1)."""
    first, second, third = values
    return Update(
        client,
        1,
        num_examples,
        [np.array([first, second], np.float32), np.array([[third]], np.float32)],
    )


THREE = [update(100, 1, 0, 8), update(300, 2, 4, 0), update(600, 5, -1, 2)]
# (100*1 + 300*2 + 600*5) / 1000, (0 + 1200 - 600) / 1000; (800 + 0 + 1200) / 1000
MEAN = [[3.7, 0.6], [[2.0]]]


def start() -> State:
    return State([np.array([9.0, 9.0], np.float32), np.array([[9.0]], np.float32)])


def values(weights) -> list:
    return [w.tolist() for w in weights]


def close(weights, expected) -> None:
    for got, want in zip(weights, expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_weighted_mean():
    mean, total = weighted_mean(iter(THREE))
    assert total == 1000
    close(mean, MEAN)


def test_fed_avg_replaces_the_model_by_the_weighted_mean_and_changes_no_input():
    state = start()
    before = values(state.weights), [values(u.weights) for u in THREE]
    after = fed_avg().aggregate(state, iter(THREE))
    close(after.weights, MEAN)
    assert after.num_examples == 1000 and fed_avg().aggregate(after, THREE).num_examples == 2000
    assert (
        values(state.weights),
        [values(u.weights) for u in THREE],
    ) == before and state.num_examples == 0


def test_the_mean_of_one_is_that_one_bit_for_bit():
    strange = update(7, 0.1, 1e-38, 3e38)
    mean, _ = weighted_mean([strange])
    assert [w.tobytes() for w in mean] == [w.tobytes() for w in strange.weights]


def test_a_large_and_many_small_clients_are_summed_in_double_precision():
    """In float32 a sum stops growing at 2**24: 1.0 more is nothing there."""
    many = [update(2**24, 1, 1, 1)] + [update(1, 0, 0, 0)] * 3000
    mean, total = weighted_mean(many)
    assert total == 2**24 + 3000
    np.testing.assert_allclose(mean[0], 2**24 / (2**24 + 3000), rtol=1e-7)


def test_updates_are_taken_one_at_a_time():
    """So a round of hundreds of clients does not need all their weights in memory at once."""
    taken = []

    def coming():
        for number in range(3):
            taken.append(number)
            yield THREE[number]

    fed_avg().aggregate(start(), coming())
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("strategy", [fed_avg(), fed_avg_momentum()])
def test_no_updates_is_an_error(strategy):
    with pytest.raises(BadUpdate, match="got no updates to average; expected at least one"):
        strategy.aggregate(start(), [])


def test_momentum_by_hand():
    """v1 = w0 - m1; w1 = w0 - v1/2; v2 = 0.9 v1 + (w1 - m2); w2 = w1 - v2/2, where m is the mean of
    the updates and w0 is 9.
    """
    strategy = fed_avg_momentum(momentum=0.9, server_learning_rate=0.5)
    first = strategy.aggregate(start(), [update(1, 2, 0, 0), update(3, 6, 4, 8)])  # means 5, 3, 6
    close(first.memory, [[4, 6], [[3]]])
    close(first.weights, [[7, 6], [[7.5]]])
    second = strategy.aggregate(first, [update(1, 1, 0, 3), update(4, 6, 5, 3)])  # means 5, 4, 3
    close(second.memory, [[0.9 * 4 + 2, 0.9 * 6 + 2], [[0.9 * 3 + 4.5]]])  # 5.6, 7.4, 7.2
    close(second.weights, [[7 - 2.8, 6 - 3.7], [[7.5 - 3.6]]])
    assert second.num_examples == 9 and values(first.weights) == [[7, 6], [[7.5]]]


def test_momentum_without_momentum_is_fed_avg():
    plain = fed_avg().aggregate(start(), THREE)
    other = fed_avg_momentum(momentum=0.0, server_learning_rate=1.0).aggregate(start(), THREE)
    close(other.weights, [w.tolist() for w in plain.weights])


@pytest.mark.parametrize(
    ("momentum", "rate"),
    [(-0.1, 1), (1.0, 1), (float("nan"), 1), (0.9, 0), (0.9, -1), (0.9, float("nan"))],
)
def test_momentum_that_cannot_be(momentum, rate):
    with pytest.raises(ValueError, match="expected a number"):
        fed_avg_momentum(momentum, rate)


def test_the_asynchronous_average_is_the_weighted_mean_of_all_that_came_whatever_the_order():
    strategy = async_average()
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        state = start()  # 9s: untrained, and gone with the first update
        for number in order:
            state = strategy.aggregate(state, [THREE[number]])
        close(state.weights, MEAN)
        assert state.num_examples == 1000
    together = strategy.aggregate(start(), THREE)
    close(together.weights, MEAN)


def test_the_first_asynchronous_update_is_the_model_bit_for_bit():
    strange = update(7, 0.1, 1e-38, 3e38)
    state = async_average().aggregate(State([-w for w in strange.weights]), [strange])
    assert [w.tobytes() for w in state.weights] == [w.tobytes() for w in strange.weights]


def test_finite_updates_never_make_an_infinite_model():
    """3e38 is near the end of float32; ten times it, or twice it, is infinity. (And a
    RuntimeWarning, which is an error here.)
    """
    for strategy in (fed_avg(), async_average()):
        state = strategy.aggregate(start(), [update(10, 3e38, -3e38, 3e38)])
        state = strategy.aggregate(
            state, [update(1, -3e38, 3e38, 3e38), update(9, -3e38, 3e38, 3e38)]
        )
        assert all(np.isfinite(w).all() for w in state.weights)


def test_the_asynchronous_average_step_by_step():
    """N = 100, w = 1; then 300 of 2: (100 + 600)/400 = 1.75; then 600 of 5: (400*1.75 + 3000)/1000
    = 3.7.
    """
    strategy, state, seen = async_average(), start(), []
    for item in THREE:
        state = strategy.aggregate(state, [item])
        seen.append((state.num_examples, round(float(state.weights[0][0]), 6)))
    assert seen == [(100, 1.0), (400, 1.75), (1000, 3.7)]


def test_the_menu_of_strategies():
    assert {name: make().asynchronous for name, make in STRATEGIES.items()} == {
        "fed_avg": False,
        "fed_avg_momentum": False,
        "async_average": True,
    }
    made = [make() for make in STRATEGIES.values()]
    assert len({s.name for s in made}) == 3 and all(
        "\n" not in s.meaning and len(s.meaning) < 120 for s in made
    )
