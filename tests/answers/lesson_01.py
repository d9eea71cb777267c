"""Right and wrong answers to the exercises of lesson 01."""

import numpy as np

import fedlab
from fedlab.history import ClientRecord, RoundRecord


def history(names, rounds=5, accuracy=0.948):
    clients = {name: ClientRecord(5_000, 0.9, 0.3) for name in names}
    return fedlab.History(
        [RoundRecord(number, accuracy, 0.2, clients=clients) for number in range(1, rounds + 1)]
    )


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
]
