"""The exercises' checkers: they accept the solution, and answer the blank and the usual mistakes
with a hint."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

import fedlab
from fedlab.history import ClientRecord, RoundRecord

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def exercises(monkeypatch):
    """notebooks/exercises.py, imported as a lesson does: from the folder of the lessons."""
    monkeypatch.syspath_prepend(NOTEBOOKS)
    return importlib.import_module("exercises")


def history(names, rounds=5, accuracy=0.948):
    clients = {name: ClientRecord(5_000, 0.9, 0.3) for name in names}
    return fedlab.History(
        [RoundRecord(number, accuracy, 0.2, clients=clients) for number in range(1, rounds + 1)]
    )


def rising(first, *later, rounds):
    """A history whose accuracy goes through these values, and stays at the last one."""
    values = [first, *later, *[[first, *later][-1]] * (rounds - 1 - len(later))]
    return fedlab.History(
        [RoundRecord(number, accuracy, 0.2) for number, accuracy in enumerate(values, 1)]
    )


ALL_IMAGES = rising(0.6, 0.8, 0.84, rounds=30)  # B = infinity
PLAIN = rising(0.3, *np.linspace(0.5, 0.93, 40), rounds=60)  # non-IID
HEAVY = rising(0.3, *np.linspace(0.5, 0.95, 20), rounds=60)  # with momentum
EPOCHS = {e: rising(0.3, *np.linspace(0.5, 0.8 + e / 1000, 15), rounds=20) for e in (1, 5, 10)}
IID = rising(0.83, 0.96, rounds=60)

TWELVE = {f"client {number}": (number, number) for number in range(1, 13)}
THREE = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}
ALL_ON_ONE = dict.fromkeys(TWELVE, (1, 1))


def plain_mean(updates):
    return [
        sum(arrays) / len(updates)
        for arrays in zip(*(update.weights for update in updates), strict=True)
    ]


def only_multiplied(updates):
    return [sum(update.num_examples * update.weights[i] for update in updates) for i in range(2)]


def six_arrays(updates):
    """As the lesson does it by hand, where an update has six."""
    total = sum(update.num_examples for update in updates)
    return [
        sum(update.num_examples / total * update.weights[i] for update in updates) for i in range(6)
    ]


def divided_by_clients(updates):
    return [array / len(updates) for array in only_multiplied(updates)]


def in_64_bits(updates):
    counts = [update.num_examples for update in updates]
    return [
        np.average([update.weights[i] for update in updates], axis=0, weights=counts)
        for i in range(2)
    ]


def in_place(updates):
    total = sum(update.num_examples for update in updates)
    result = updates[0].weights
    for array in result:
        array *= updates[0].num_examples / total
    for update in updates[1:]:
        for array, other in zip(result, update.weights, strict=True):
            array += update.num_examples / total * other
    return result


def first_array_only(updates):
    return fedlab.weighted_mean(updates)[0][:1]


def solution(updates):
    total = sum(update.num_examples for update in updates)
    return [
        sum(update.num_examples / total * update.weights[i] for update in updates)
        for i in range(len(updates[0].weights))
    ]


def losses(*values):
    """A history with these losses."""
    return fedlab.History(
        [RoundRecord(number, loss=value) for number, value in enumerate(values, 1)]
    )


RIGHT = [
    ("check_twelve", (TWELVE, history(TWELVE))),
    (
        "check_twelve",
        (
            {f"p{number}": [13 - number, 13 - number] for number in range(1, 13)},
            history([f"p{n}" for n in range(1, 13)]),
        ),
    ),
    ("check_bytes", (10,)),
    ("check_bytes", (np.int64(10),)),
    ("check_bytes", (10.0,)),
    ("check_average", (solution,)),
    ("check_average", (lambda updates: fedlab.weighted_mean(updates)[0],)),
    ("check_infinity", (60, 1, ALL_IMAGES)),
    ("check_infinity", (np.int64(60), 1.0, ALL_IMAGES)),
    ("check_momentum", (PLAIN, HEAVY)),
    ("check_epochs", (EPOCHS, 5)),
    ("check_break_even", (3,)),
    ("check_break_even", (np.float64(3.0),)),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), losses(0.5 + 1e-8, 0.4 + 1e-6, 0.3 + 1e-3))),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_twelve", (..., ...), "three dots"),
    ("check_twelve", (None, None), "three dots"),
    ("check_twelve", (TWELVE, ...), "three dots"),
    ("check_twelve", (THREE, history(THREE)), "got 3 clients; expected 12"),
    ("check_twelve", ({"alice": (1, 1)}, history(["alice"])), "got 1 client; expected 12"),
    ("check_twelve", (ALL_ON_ONE, history(TWELVE)), "got 1 different shard; expected 12"),
    ("check_twelve", (TWELVE, history(["alice"])), "in this history 1 client took part"),
    ("check_twelve", (TWELVE, history(TWELVE, rounds=1)), "the history has 1 round; expected 5"),
    ("check_twelve", (dict.fromkeys(TWELVE, (1, 12)), history(TWELVE)), "more than one shard"),
    ("check_twelve", (TWELVE, history(THREE, accuracy=0.973)), "3 clients took part"),
    ("check_twelve", (TWELVE, history(TWELVE, rounds=10)), "10 rounds"),
    ("check_twelve", (TWELVE, history(TWELVE, accuracy=0.973)), "another setting"),
    ("check_twelve", (TWELVE, history(TWELVE).accuracy), "list"),
    ("check_twelve", (12, history(TWELVE)), "int"),
    ("check_twelve", (dict.fromkeys(TWELVE, 1), history(TWELVE)), "TypeError"),
    ("check_bytes", (...,), "three dots"),
    ("check_bytes", (None,), "three dots"),
    ("check_bytes", (20,), "one direction"),
    ("check_bytes", (30,), "one client"),
    ("check_bytes", (9,), "close"),
    ("check_bytes", (9.83,), "whole rounds"),
    ("check_bytes", (5,), "divide"),
    ("check_bytes", ("10",), "expected a number"),
    ("check_bytes", (True,), "expected a number"),
    ("check_bytes", (float("nan"),), "ValueError"),
    ("check_average", (...,), "three dots"),
    ("check_average", (None,), "three dots"),
    ("check_average", (lambda updates: ...,), "returns nothing"),
    ("check_average", (lambda updates: None,), "returns nothing"),
    ("check_average", (plain_mean,), "plain mean"),
    ("check_average", (six_arrays,), "it got three updates of two small arrays each, not of six"),
    ("check_average", (lambda updates: updates[3].weights,), "an array or an update that is not"),
    ("check_average", (only_multiplied,), "now divide"),
    ("check_average", (divided_by_clients,), "number of clients"),
    ("check_average", (in_64_bits,), "float64"),
    ("check_average", (in_place,), "changes the arrays"),
    ("check_average", (first_array_only,), "shapes"),
    ("check_average", (lambda updates: updates[0].weights,), "1/10"),
    ("check_average", (lambda updates: updates.weights,), "AttributeError"),
    ("check_average", (lambda updates: 3,), "TypeError"),
    ("check_average", (solution([fedlab.Update("a", 1, 1, [np.ones(2)])]),), "without brackets"),
    ("check_infinity", (..., ..., ...), "three dots"),
    ("check_infinity", (10, 1, ALL_IMAGES), "images in one step"),
    ("check_infinity", (6, 1, ALL_IMAGES), "takes 10 in each step"),
    ("check_infinity", (60, 600, ALL_IMAGES), "B = 1"),
    ("check_infinity", (60, 0, ALL_IMAGES), "How many steps is one epoch"),
    ("check_infinity", ("60", 1, ALL_IMAGES), "expected a number"),
    ("check_infinity", (60, True, ALL_IMAGES), "expected a number"),
    ("check_infinity", (60, 1, 0.84), "float"),
    ("check_infinity", (60, 1, PLAIN), "60 rounds"),
    ("check_infinity", (60, 1, rising(0.83, rounds=1)), "has 1 round; expected 30"),
    ("check_infinity", (60, 1, rising(0.83, 0.96, rounds=30)), "B=None"),
    ("check_infinity", (60, 1, rising(0.1, 0.3, rounds=30)), "another setting"),
    ("check_momentum", (..., ...), "three dots"),
    ("check_momentum", (PLAIN, ...), "three dots"),
    ("check_momentum", (PLAIN, PLAIN), "the same"),
    ("check_momentum", (HEAVY, PLAIN), "smaller b"),  # slower with it than without, as 0.9 is
    ("check_momentum", (PLAIN, rising(0.1, 0.2, rounds=60)), "not within 60 rounds"),
    ("check_momentum", (PLAIN, IID), "IID data?"),
    ("check_momentum", (IID, HEAVY), "IID data?"),
    ("check_momentum", (PLAIN, EPOCHS[1]), "20 rounds"),
    ("check_momentum", (PLAIN, rising(0.3, rounds=1)), "the second history has 1 round; expected"),
    ("check_momentum", (PLAIN, fedlab.fed_avg_momentum(0.5)), "Strategy"),
    ("check_momentum", (rising(0.3, 0.5, rounds=60), HEAVY), "without momentum does not reach"),
    ("check_break_even", (...,), "three dots"),
    ("check_break_even", (12 / 9,), "one core"),
    ("check_break_even", (1.33,), "one core"),
    ("check_break_even", (12,), "long before"),
    ("check_break_even", (0,), "above 0"),
    ("check_break_even", (5,), "should be equal"),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), ...), "three dots"),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), losses(0.5, 0.4, 0.3)), "own strategy"),
    (
        "check_flowers_fedavg",
        (losses(0.5, 0.4, 0.3), losses(0.6, 0.4, 0.3)),
        "not the same settings",
    ),
    ("check_flowers_fedavg", (losses(0.5, 0.4), losses(0.5, 0.4)), "rounds=3"),
    (
        "check_flowers_fedavg",
        (losses(0.5), losses(0.5)),
        "the first run has 1 round and the second",
    ),
    ("check_flowers_fedavg", (losses(math.nan, 1, 1), losses(math.nan, 1, 1)), "test=mnist.test"),
    ("check_epochs", (..., ...), "three dots"),
    ("check_epochs", (EPOCHS, ...), "three dots"),
    ("check_epochs", (EPOCHS, 1), "compared with"),
    ("check_epochs", (EPOCHS, 10), "Compare E = 5 with E = 1"),
    ("check_epochs", (dict.fromkeys((1, 5, 10), EPOCHS[1]), 5), "the same"),
    ("check_epochs", ({1: EPOCHS[1], 5: EPOCHS[5]}, 5), "keys 1, 5 and 10"),
    ("check_epochs", (list(EPOCHS.values()), 5), "dict"),
    ("check_epochs", ({**EPOCHS, 10: PLAIN}, 5), "60 rounds"),
    ("check_epochs", ({**EPOCHS, 10: rising(0.3, rounds=1)}, 5), "has 1 round; expected 20"),
    ("check_epochs", ({**EPOCHS, 5: 0.8}, 5), "float"),
    ("check_epochs", ({**EPOCHS, 5: rising(0.83, 0.95, rounds=20)}, 5), "IID data?"),
]


@pytest.mark.parametrize(("checker", "answer"), RIGHT)
def test_a_right_answer(exercises, checker, answer):
    verdict = getattr(exercises, checker)(*answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Right: ")


@pytest.mark.parametrize(("checker", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_one_hint(exercises, checker, answer, hint):
    verdict = getattr(exercises, checker)(*answer)
    assert not verdict
    assert hint in verdict.sentence
    assert repr(verdict).startswith("Not yet: ") and "\n" not in repr(verdict)


def test_every_checker_is_tested_and_says_what_it_checks(exercises):
    checkers = {name for name in vars(exercises) if name.startswith("check_")}
    assert checkers == {name for name, _ in RIGHT} == {name for name, *_ in WRONG}
    assert all(getattr(exercises, name).__doc__ for name in checkers)


def test_what_students_wrote_is_shown_as_text(exercises):
    shown = exercises.Verdict(False, "got <b>bold</b>")._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>" not in shown


def test_the_bill_is_that_of_the_real_wire(exercises, mnist):
    from fedlab.wire import encode_task, encode_update

    weights = fedlab.Classifier().weights
    task = encode_task(fedlab.Task(1, 5, weights, fedlab.Training()))
    update = encode_update(fedlab.Update("alice", 1, 20_000, weights, 0.93, 0.2))
    assert [len(task), len(update)] == pytest.approx([exercises.MESSAGE_BYTES] * 2, rel=0.001)
    assert mnist.train.x.nbytes == exercises.IMAGE_BYTES
