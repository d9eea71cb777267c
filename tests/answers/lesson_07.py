"""Right and wrong answers to the exercises of lesson 07."""

import itertools

import numpy as np

import fedlab


def mask(numbers, secret):
    masked = {name: array.copy() for name, array in numbers.items()}
    for a, b in itertools.combinations(numbers, 2):
        masked[a] += secret(a, b)
        masked[b] -= secret(a, b)
    return masked


def by_name(numbers, secret):
    """The same, the way the library does it."""
    masked = {}
    for me, array in numbers.items():
        others = [other for other in numbers if other != me]
        signed = [secret(me, other) if me < other else -secret(me, other) for other in others]
        masked[me] = array + sum(signed, np.zeros(array.size, np.uint32))
    return masked


def ring(numbers, secret):
    """Adds up, with one secret for each neighbour only."""
    names = list(numbers)
    masked = {name: array.copy() for name, array in numbers.items()}
    for a, b in zip(names, names[1:], strict=False):
        masked[a] += secret(a, b)
        masked[b] -= secret(a, b)
    return masked


def twice(numbers, secret):
    masked = mask(numbers, secret)
    first, second, *_ = numbers
    masked[first] += secret(first, second)
    masked[second] -= secret(first, second)
    return masked


def added(numbers, secret):
    masked = {name: array.copy() for name, array in numbers.items()}
    for a, b in itertools.combinations(numbers, 2):
        masked[a] += secret(a, b)
        masked[b] += secret(a, b)
    return masked


def as_floats(numbers, secret):
    return {name: array.astype(float) for name, array in mask(numbers, secret).items()}


def hide(change, S, z, rng):
    change = change * min(1, S / np.linalg.norm(change))
    return change + rng.normal(0, z * S, change.size)


def hide_long(change, S, z, rng):
    change = change * (S / np.linalg.norm(change))
    return change + rng.normal(0, z * S, change.size)


def one_number(change, S, z, rng):
    return change * min(1, S / np.linalg.norm(change)) + rng.normal(0, z * S)


def noise_of_its_own(change, S, z, rng):
    return change * min(1, S / np.linalg.norm(change)) + np.random.default_rng(0).normal(
        0, z * S, change.size
    )


def noise_first(change, S, z, rng):
    noised = change + rng.normal(0, z * S, change.size)
    return noised * min(1, S / np.linalg.norm(noised))


def uniform(change, S, z, rng):
    width = z * S * 3**0.5
    return hide(change, S, 0, rng) + rng.uniform(-width, width, change.size)


def its_own_generator(change, S, z, rng):
    return hide(change, S, z, np.random.default_rng())


def only_where_cut(change, S, z, rng):
    return hide(change, S, z, rng) if np.linalg.norm(change) > S else change


def with_herself(numbers, secret):
    return {
        me: array + sum((secret(me, other) for other in numbers), np.zeros_like(array))
        for me, array in numbers.items()
    }


def rounds_for(budget, z, C, K):
    def spent(rounds):
        return fedlab.epsilon(fedlab.Release(z, C, rounds, K), fedlab.delta_for(K))

    rounds = 0
    while spent(rounds + 1) <= budget:
        rounds += 1
    return rounds


RIGHT = [
    ("check_mask", (mask,)),
    ("check_mask", (by_name,)),
    ("check_hide", (hide,)),
    ("check_hide", (lambda *a: hide(*a).tolist(),)),
    ("check_rounds", (rounds_for,)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_mask", (...,), "three dots"),
    ("check_mask", ({},), "without brackets"),
    ("check_mask", (lambda numbers, secret: ...,), "returns nothing yet"),
    ("check_mask", (lambda numbers, secret: numbers,), "where are the secrets"),
    ("check_mask", (lambda numbers, secret: list(numbers.values()),), "the same 2 names"),
    ("check_mask", (lambda numbers, secret: numbers["x"],), "ended in KeyError"),
    ("check_mask", (as_floats,), "float64"),
    ("check_mask", (added,), "do not add up"),
    ("check_mask", (ring,), "of 10 secrets you use 4"),
    ("check_mask", (twice,), "something else than plus or minus"),
    ("check_hide", (...,), "three dots"),
    ("check_hide", (lambda change, S, z, rng: change,), "becomes one of length 30.9"),
    ("check_hide", (lambda change, S, z, rng: np.clip(change, -S, S),), "by itself"),
    ("check_hide", (lambda change, S, z, rng: change.sum(),), "an array of the shape"),
    ("check_hide", (hide_long,), "stay as it is"),
    ("check_hide", (lambda change, S, z, rng: hide(change, S, z / S, rng),), "expected z S = 1"),
    ("check_hide", (lambda change, S, z, rng: hide(change, S, 0, rng),), "there is no noise"),
    ("check_hide", (noise_first,), "clip first"),
    ("check_hide", (uniform,), "not normal"),
    ("check_hide", (its_own_generator,), "take it from rng"),
    ("check_hide", (only_where_cut,), "there is no noise in a change of length 0.03"),
    ("check_mask", (with_herself,), "it takes two"),
    ("check_hide", (noise_of_its_own,), "take it from rng"),
    ("check_hide", (one_number,), "not a new number"),
    ("check_rounds", (...,), "three dots"),
    ("check_rounds", (lambda budget, z, C, K: 10.0,), "a whole number"),
    ("check_rounds", (lambda *a: rounds_for(*a) + 1,), "more than the budget"),
    ("check_rounds", (lambda *a: max(rounds_for(*a) - 1, 0),), "spend only"),
    ("check_rounds", (lambda budget, z, C, K: -1,), "a number of rounds from 0"),
    ("check_rounds", (lambda budget, z, C, K: 10**9,), "not that many"),
    ("check_rounds", (lambda budget, z, C, K: int(budget / 0.1),), "budget"),
]
