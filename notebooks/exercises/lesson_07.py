"""The checkers of lesson 07."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np

import fedlab
from exercises.verdict import asked, checker, expect, kind_of

SIZE = 1_000


def _secrets(names: list[str], seed: int) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(seed)
    pairs = itertools.combinations(sorted(names), 2)
    return {pair: rng.integers(0, 2**32, SIZE, np.uint32) for pair in pairs}


@checker
def check_mask(mask: Callable[[dict, Callable], Mapping[str, np.ndarray]]) -> str:
    """Exercise 1: from name -> numbers (uint32) and secret(a, b) to name -> masked numbers."""
    for names in (["ann", "ben"], ["zoe", "ann", "Ben", "cleo", "dave"]):
        known = _secrets(names, len(names))
        rng = np.random.default_rng(1)
        numbers = {name: rng.integers(0, 1_000, SIZE).astype(np.uint32) for name in names}
        called = []

        def secret(a, b, known=known, called=called, names=names):
            expect(a != b, f"your function asks for a secret of {a} with {b}: it takes two.")
            expect(
                {a, b} <= set(names),
                f"your function asks for a secret of {a!r} and {b!r}; expected two of the names.",
            )
            called.append(frozenset((a, b)))
            return known[min(a, b), max(a, b)].copy()

        got = asked(mask, {name: array.copy() for name, array in numbers.items()}, secret)
        expect(
            isinstance(got, Mapping) and set(got) == set(names),
            f"your function returns a {kind_of(got)}; expected a dictionary with the same"
            f" {len(names)} names.",
        )
        arrays = {name: np.asarray(array) for name, array in got.items()}
        for name, array in arrays.items():
            expect(
                array.shape == (SIZE,) and array.dtype == np.uint32,
                f"for {name} you return {array.dtype} of the shape {array.shape}; expected uint32,"
                f" ({SIZE},): such numbers count modulo 2**32 by themselves.",
            )
        expect(
            not any(np.array_equal(arrays[name], numbers[name]) for name in names),
            "somebody's numbers are there as they are: where are the secrets?",
        )
        expect(
            np.array_equal(
                sum(arrays.values(), np.zeros(SIZE, np.uint32)),
                sum(numbers.values(), np.zeros(SIZE, np.uint32)),
            ),
            "they do not add up to the right sum. Of each two, one must add their secret, and the"
            " other subtract it: how do both know who does what?",
        )
        pairs = set(map(frozenset, known))
        expect(
            pairs <= set(called),
            f"of {len(pairs)} secrets you use {len(pairs & set(called))}. Each two have one: whose"
            " numbers can somebody read who works together with one of the others?",
        )
        for name in names:
            mine = [known[pair] for pair in known if name in pair]
            mask_of = arrays[name] - numbers[name]
            signs = itertools.product((1, -1), repeat=len(mine))
            right = any(
                np.array_equal(mask_of, sum((np.uint32(sign % 2**32) * part
                                             for sign, part in zip(signed, mine, strict=True)),
                                            np.zeros(SIZE, np.uint32)))
                for signed in signs
            )  # fmt: skip
            expect(
                right,
                f"the sum is right, but under {name}'s numbers is something else than plus or minus"
                " each of the secrets that are hers, once.",
            )
    return "two clients and five: the sum is there, and the numbers are not."


@checker
def check_hide(hide: Callable) -> str:
    """Exercise 2: clip to S, and noise of z S."""
    rng = np.random.default_rng(0)
    long, short = rng.normal(0, 1, SIZE), rng.normal(0, 0.001, SIZE)

    def got(change, clip, z, seed=0):
        value = asked(hide, change, clip, z, np.random.default_rng(seed))
        value = np.asarray(value, float) if isinstance(value, list) else value
        expect(
            isinstance(value, np.ndarray) and value.shape == (SIZE,),
            f"your function returns a {kind_of(value)} of the shape {np.shape(value)}; expected an"
            f" array of the shape ({SIZE},).",
        )
        return value

    plain = got(long, 0.5, 0)
    expect(
        not np.allclose(plain, np.clip(long, -0.5, 0.5)),
        "you have cut each number by itself. S is the length of the whole arrow: the square root of"
        " the sum of all squares (np.linalg.norm).",
    )
    length = np.linalg.norm(plain)
    expect(
        np.isclose(length, 0.5),
        f"without noise a change of length {np.linalg.norm(long):.1f} becomes one of length"
        f" {length:.3g}; expected S = 0.5.",
    )
    expect(
        np.allclose(plain, long * (0.5 / np.linalg.norm(long))),
        "its length is right, its direction is not: all numbers are shortened alike.",
    )
    expect(
        np.allclose(got(short, 0.5, 0), short),
        f"a change of length {np.linalg.norm(short):.2f} is shorter than S = 0.5, and comes back"
        " changed. It should stay as it is.",
    )
    for clip, z, change in ((0.5, 2.0, long), (2.0, 2.0, long), (2.0, 0.5, short)):
        several = np.array([got(change, clip, z, seed) for seed in range(20)])
        noise = several - change * min(1, clip / np.linalg.norm(change))
        found = noise.std()
        expect(
            found > 0,
            f"with S = {clip:g} and z = {z:g} there is no noise in a change of length"
            f" {np.linalg.norm(change):.2g}.",
        )
        expect(
            np.array_equal(got(change, clip, z), several[0]),
            "twice with the same generator, and the noise is another one: take it from rng.",
        )
        expect(
            not np.allclose(np.linalg.norm(several, axis=1), clip),
            "what you return is S long, noise and all: clip first, then add the noise.",
        )
        expect(
            not np.allclose(several, several[0]),
            "the noise is the same whatever generator comes: take it from rng.",
        )
        expect(
            np.isclose(found, clip * z, rtol=0.03),
            f"with S = {clip:g} and z = {z:g} the noise has the standard deviation {found:.3g};"
            f" expected z S = {z * clip:g}, whatever the change.",
        )
        shape = np.mean((noise - noise.mean()) ** 4) / np.var(noise) ** 2  # 3 where it is normal
        expect(
            noise[0].std() < 1e-9 or 2.7 < shape < 3.3,
            "the noise has the right size, but is not normal: ε is counted for rng.normal.",
        )
        expect(
            abs(np.corrcoef(noise[0][:-1], noise[0][1:])[0, 1]) < 0.2 and abs(noise.mean()) < 0.1,
            "the noise is not a new number, around 0, for each of the numbers (give rng.normal a"
            " size).",
        )
    return "clipped as a whole, and hidden in noise that depends on S and z alone."


@checker
def check_rounds(rounds_for: Callable[[float, float, float, int], int]) -> str:
    """Exercise 3: the largest number of rounds with an epsilon of at most the budget."""
    cases = ((3.0, 1.0, 0.1, 1_000), (1.0, 2.0, 0.2, 500), (0.5, 1.0, 0.1, 1_000))
    for budget, z, fraction, members in cases:
        got = asked(rounds_for, budget, z, fraction, members)
        expect(
            isinstance(got, (int, np.integer)) and not isinstance(got, bool),
            f"your function returns a {kind_of(got)}; expected a whole number.",
        )

        def spent(rounds, z=z, fraction=fraction, members=members):
            release = fedlab.Release(z, fraction, int(rounds), members)
            return fedlab.epsilon(release, fedlab.delta_for(members))

        about = f"for a budget of ε = {budget:g}, z = {z:g}, C = {fraction:g}, K = {members:,}"
        expect(
            0 <= got <= 10_000,
            f"{about} you get {got:,}; expected a number of rounds from 0, and not that many.",
        )
        expect(
            spent(got) <= budget,
            f"{about} you get {got} rounds, which spend ε = {spent(got):.3g}: more than the"
            " budget.",
        )
        expect(
            math.isfinite(budget) and spent(got + 1) > budget,
            f"{about} you get {got} rounds, but {got + 1} spend only ε = {spent(got + 1):.3g}.",
        )
    return "you know how long a budget lasts: not one round more, and not one less."
