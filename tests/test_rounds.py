"""The rules of rounds, with the time told: an exchange of a week is over in no time."""

import numpy as np
import pytest

from fedlab.federation.rounds import Exchange, draw, size
from fedlab.messages import Conflict, Task, Training, Update
from fedlab.plan import POISSON, Plan

WEEK = 7 * 86_400.0
NAMES = ["alice", "bob", "carol"]


def task(round: int = 4, phase: str = "train") -> Task:
    return Task(round, 9, [np.zeros(2, np.float32)], Training(), phase=phase)


def update(client: str, round: int = 4, phase: str = "train") -> Update:
    return Update(client, round, 10, [np.ones(2, np.float32)], phase=phase)


@pytest.mark.parametrize(
    ("fraction", "members", "least", "drawn"),
    [(0.0, 10, 1, 1), (0.1, 10, 1, 1), (0.1, 100, 1, 10), (1.0, 7, 1, 7), (0.1, 10, 5, 5),
     (0.9, 10, 5, 9), (0.5, 3, 9, 3)],
)  # fmt: skip
def test_as_many_as_the_fraction_says_and_a_round_needs(fraction, members, least, drawn):
    assert size(Plan(fraction=fraction), members, least) == drawn


def test_who_is_drawn_is_a_function_of_seed_and_round():
    names = [f"c{i}" for i in range(20)]
    plan = Plan(fraction=0.3)
    first = draw(plan, 5, 1, names, 6)
    assert first == draw(plan, 5, 1, names[::-1], 6) == sorted(first) and len(set(first)) == 6
    assert first != draw(plan, 5, 2, names, 6) and first != draw(plan, 6, 1, names, 6)
    assert draw(plan, 2**64 + 5, 1, names, 20) == sorted(names)


def test_tasks_are_taken_in_order_and_once():
    exchange = Exchange({name: task() for name in NAMES[::-1]}, None)
    assert (exchange.round, exchange.phase) == (4, "train") and exchange.untaken
    exchange.excuse("bob")
    assert [exchange.take()[0], exchange.take()[0], exchange.take()] == ["alice", "carol", None]
    assert exchange.task("alice") is not None and exchange.task("bob") is None
    assert exchange.task("nobody") is None


def test_an_exchange_waits_until_its_end_and_not_longer():
    exchange = Exchange({name: task() for name in NAMES}, WEEK)
    exchange.accept(update("bob"))
    assert [exchange.settled(name, WEEK - 1) for name in NAMES] == [False, True, False]
    assert [exchange.settled(name, WEEK) for name in NAMES] == [True] * 3
    assert exchange.collect("alice") is None and exchange.late == ["alice"]
    with pytest.raises(Conflict, match="does not take part, or is too late"):
        exchange.accept(update("alice"))
    assert exchange.collect("bob").client == "bob" and exchange.collect("bob") is None
    exchange.accept(update("carol"))  # late, but nobody has given up on it
    assert exchange.collect("carol").client == "carol"
    assert exchange.answered() == ["bob", "carol"] and exchange.late == ["alice"]
    exchange.close()
    assert not exchange.awaited and not exchange.untaken


def test_without_an_end_it_waits_for_ever():
    exchange = Exchange({name: task() for name in NAMES}, None)
    assert not exchange.settled("alice", 1e12)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (update("alice", 3), "got an update of 'alice' for round 3; expected one for round 4"),
        (update("alice", 5), "got an update of 'alice' for round 5; expected one for round 4"),
        (update("dave"), "got an update of 'dave' for round 4; expected none"),
        (
            update("alice", 4, "keys"),
            "got an update of 'alice' for round 4, phase 'keys'; expected one for round 4, phase"
            " 'train'",
        ),
    ],
)
def test_what_is_not_awaited(sent, sentence):
    exchange = Exchange({name: task() for name in NAMES}, None)
    with pytest.raises(Conflict) as caught:
        exchange.accept(sent)
    assert str(caught.value).startswith(sentence) and sorted(exchange.awaited) == NAMES


def test_an_update_is_told_by_client_round_and_phase():
    exchange = Exchange({name: task(phase="keys") for name in NAMES}, None)
    exchange.accept(update("alice", phase="keys"))
    with pytest.raises(Conflict, match="already have an update of 'alice' for round 4, phase 'ke"):
        exchange.accept(update("alice", phase="keys"))
    exchange.collect("alice")  # given on: it is still known that it came
    with pytest.raises(Conflict, match="already have"):
        exchange.accept(update("alice", phase="keys"))


def test_with_enough_answers_the_others_are_too_late():
    exchange = Exchange({name: task() for name in NAMES}, None, enough=2)
    exchange.accept(update("carol"))
    assert not exchange.settled("alice", 0.0)
    exchange.accept(update("alice"))
    assert all(exchange.settled(name, 0.0) for name in NAMES) and exchange.late == ["bob"]
    with pytest.raises(Conflict, match="does not take part, or is too late"):
        exchange.accept(update("bob"))
    assert exchange.answered() == ["alice", "carol"]


def test_by_poisson_sampling_each_takes_part_by_itself():
    """Numbers as of a binomial distribution: mean K q, variance K q (1 - q); nobody at q = 0,
    everybody at 1; and any two as often together as chance has it.
    """
    names = [f"c{i:02}" for i in range(40)]
    plan = Plan(fraction=0.3, sampling=POISSON)
    drawn = [draw(plan, 1, round, names, 5) for round in range(2_000)]
    sizes = [len(who) for who in drawn]
    assert abs(np.mean(sizes) - 12) < 0.25 and abs(np.var(sizes) / (40 * 0.3 * 0.7) - 1) < 0.1
    together = np.mean([{"c03", "c04"} <= set(who) for who in drawn])
    assert abs(together - 0.09) < 0.02
    assert drawn[0] == draw(plan, 1, 0, names[::-1], 0) == sorted(drawn[0])
    assert draw(Plan(fraction=0, sampling=POISSON), 1, 1, names, 1) == []
    assert draw(Plan(fraction=1, sampling=POISSON), 1, 1, names, 1) == names
