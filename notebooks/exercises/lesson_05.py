"""The checkers of lesson 05."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import fedlab
from exercises.verdict import checker, expect, kind_of
from fedlab.checks import counted

HOUR = 3_600


@checker
def check_moments(for_all, with_deadline, with_enough, with_buffer) -> str:
    """Exercise 1: when there is the first new model, of phones that need 1.5, 1.5, 4, 15 hours."""
    answers = {"1": for_all, "2": with_deadline, "3": with_enough, "4": with_buffer}
    for number, hours in answers.items():
        expect(
            not isinstance(hours, bool) and isinstance(hours, (int, float, np.number)),
            f"answer {number} is of the type {kind_of(hours)}; expected hours, such as 3.5.",
        )
        expect(
            hours < 100, f"answer {number} is {hours:g}; expected hours, not minutes or seconds."
        )
    expect(math.isclose(for_all, 15), "1: the round ends when the last of the four has answered.")
    expect(
        not math.isclose(with_deadline, 1.5),
        "2: after 1.5 hours two have answered. But does the server know then that nobody else will"
        " come in time?",
    )
    expect(math.isclose(with_deadline, 2), "2: two have not answered when the deadline is over.")
    expect(
        not math.isclose(with_enough, 1.5), "3: after 1.5 hours there are two answers, not three."
    )
    expect(math.isclose(with_enough, 4), "3: who is the third to be ready?")
    expect(
        not math.isclose(with_buffer, 4),
        "4: that is right where everybody has one task. But a phone that was ready after 1.5 hours"
        " has fetched its next task at once.",
    )
    expect(
        math.isclose(with_buffer, 3),
        "4: write down when each update comes: two after 1.5 hours, and then? The third fills the"
        " buffer.",
    )
    return (
        "15, 2, 4 and 3 hours. FedBuff's third update is the second one of a fast phone: who is"
        " fast speaks twice before the others speak at all."
    )


def slow_updates(history: fedlab.History) -> list[int]:
    """The numbers of images of all updates of slow phones that were taken."""
    clients = [record.clients for record in history]
    return [who[name].num_examples for who in clients for name in who if name.startswith("slow-")]


def read_of_the_sevens(models: dict[int, fedlab.Weights]) -> float:
    """The part of the test images of a 7 that the models of the last fifth read."""
    test = fedlab.load_mnist().test
    test = test.subset(np.arange(0, len(test), 4))  # as in the lesson
    sevens = test.subset(np.flatnonzero(test.y == 7))
    last = sorted(models)[-max(len(models) // 5, 1) :]
    chosen = {last[i] for i in np.linspace(0, len(last) - 1, 10).round().astype(int)}
    reader = fedlab.Classifier()
    return float(np.mean([reader.evaluate(models[number], sevens)[1] for number in chosen]))


@checker
def check_votes(lighter: dict[str, fedlab.Dataset], by_images, by_votes) -> str:
    """Exercise 2: less work for the slow phones, weighed by images and then one vote each."""
    expect(
        isinstance(lighter, dict) and len(lighter) == 50,
        "`lighter` must be a dict of all 50 phones: {**SEVENS, and the slow ones anew}.",
    )
    slow = {name: len(data) for name, data in lighter.items() if name.startswith("slow-")}
    most = max(slow.values())
    expect(most < 300, "the slow phones still have all their 300 images.")
    expect(
        most != 40,
        "with 40 images a slow phone is ready at 2 hours exactly: that is too late. Fewer.",
    )
    expect(
        most < 40,
        f"a slow phone needs 15 hours for 300 images: {most} take {15 * most / 300:.1f} hours, and"
        " the deadline is after 2.",
    )
    expect(
        all(len(data) == 300 for name, data in lighter.items() if name not in slow),
        "the fast phones must keep their 300 images.",
    )
    expect(
        all(set(data.y.tolist()) == {7} for name, data in lighter.items() if name in slow),
        "the slow phones must keep images of their own, which are 7s: begin with SEVENS.",
    )
    read = {}
    for name, answer in {"by_images": by_images, "by_votes": by_votes}.items():
        # `by_images, models = race(...)`: either both in one, or the history alone with its models
        expect(
            isinstance(answer, tuple) and len(answer) == 2,
            f"`{name}` is of the type {kind_of(answer)}; expected what race(...) returns, a pair of"
            " a history and its models.",
        )
        history, models = answer
        expect(
            isinstance(history, fedlab.History) and isinstance(models, dict),
            f"`{name}` must be what race(...) returns: a history and its models.",
        )
        heard = slow_updates(history)
        expect(
            len(history) >= 80,
            f"`{name}` has {counted(len(history), 'round')}; expected a week of rounds of at most 2"
            " hours. Was deadline=2 * HOUR given?",
        )
        expect(
            len(heard) >= len(history) / 4,
            f"in `{name}` {counted(len(heard), 'update')} of slow phones came in time. Was it a"
            " race of `lighter`?",
        )
        read[name] = read_of_the_sevens(models)
    expect(
        by_images[0].accuracy != by_votes[0].accuracy,
        "both races are the same. Give the second one strategy=fedlab.Strategy(...).",
    )
    expect(
        read["by_images"] < 0.4,
        f"`by_images` reads {read['by_images']:.0%} of the 7s: it must be weighed as FedAvg does,"
        " without a strategy of your own.",
    )
    expect(
        read["by_votes"] > 0.45,
        f"`by_votes` reads {read['by_votes']:.0%} of the 7s. Does every update have the same"
        " weight, whatever its num_examples?",
    )
    return (
        f"weighed by images {read['by_images']:.0%} of the 7s are read, with one vote each"
        f" {read['by_votes']:.0%}. To be heard is not yet to count."
    )


@checker
def check_fed_async(merge: Callable) -> str:
    """Exercise 3: one update of FedAsync, compared with the library's."""
    expect(callable(merge), f"got a {kind_of(merge)}; expected a function, without brackets.")
    rng = np.random.default_rng(5)
    old, new = (
        [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))] for _ in "ab"
    )
    kept = [array.copy() for array in old + new]
    for staleness, mixing, damping in ((0, 0.6, 0.5), (3, 0.6, 0.5), (24, 0.9, 1.0), (8, 0.6, 0.0)):
        try:
            mine = merge(old, new, staleness, mixing, damping)
        except ZeroDivisionError:
            expect(
                staleness > 0,
                "for a fresh update (staleness 0) it divides by 0: the power is that of"
                " 1 + staleness.",
            )
            raise
        expect(mine is not None and mine is not ..., "it returns nothing yet.")
        expect(
            all(np.array_equal(a, b) for a, b in zip(old + new, kept, strict=True)),
            "it changes the arrays that it got: other updates still need the old model.",
        )
        expect(
            isinstance(mine, list) and [np.shape(a) for a in mine] == [(3, 2), (2,)],
            "it must return a list of arrays, as many and of the same shapes as it got.",
        )
        strategy = fedlab.fed_async(mixing, damping)
        update = fedlab.Update("phone", 1, 300, new)
        right = strategy.merge(fedlab.State(old), update, old, staleness).weights
        if close(mine, right):
            continue
        share = mixing * (1 + staleness) ** -damping
        expect(
            not close(mine, between(new, old, share)),
            "the two models have changed places: with a small a the model stays near the old one.",
        )
        if damping:
            expect(
                not close(mine, between(old, new, mixing)),
                f"the staleness makes no difference. With staleness"
                f" {staleness} the part is smaller.",
            )
            expect(
                not close(mine, between(old, new, mixing * (1 + staleness) ** damping)),
                "a stale update counts more than a fresh one: the exponent is minus the damping.",
            )
        told = f"staleness {staleness}, mixing {mixing} and damping {damping}"
        expect(False, f"with {told}, a is {share:.3f}: w becomes (1 - a) w + a w_k.")
    return "the same as the library's, for four stalenesses. With damping 0 all count alike."


def between(some, others, share: float) -> list[np.ndarray]:
    """`share` of the way from `some` to `others`."""
    return [(1 - share) * w + share * new for w, new in zip(some, others, strict=True)]


def close(some, others) -> bool:
    """Whether two models are equal up to rounding."""
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(some, others, strict=True))
