"""The checkers of lesson 11."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import fedlab
from exercises.verdict import checker, expect, kind_of

TOLD = ((45, 50), (3, 5), (1, 5))  # what three phones have measured: right, of

PHONES, LAPTOPS = 20, 3
PER_PHONE, PER_LAPTOP = 24, 5_000

CLASS, MESSAGE, SPEED = 30, 797_000, 100e6  # phones; bytes of a message; bits a second
PIXELS = 784


def _number(name: str, answer) -> float:
    expect(
        not isinstance(answer, bool) and isinstance(answer, (int, float, np.number)),
        f"`{name}` is of the type {kind_of(answer)}; expected a number.",
    )
    expect(math.isfinite(answer), f"`{name}` is {answer}; expected a number.")
    return float(answer)


def _near(value: float, right: float, share: float = 0.02) -> bool:
    return math.isclose(value, right, rel_tol=share)


@checker
def check_means(phones, pot, new_digit) -> str:
    """Exercise 1: the mean of what devices measure, all digits in one pot, and which of the two is
    about a person.
    """
    shares = [right / of for right, of in TOLD]
    mean, pooled = sum(shares) / len(shares), sum(r for r, _ in TOLD) / sum(n for _, n in TOLD)
    phones, pot = _number("phones_mean", phones), _number("pot", pot)
    for name, value in (("phones_mean", phones), ("pot", pot)):
        expect(
            value <= 1 or value > 100,
            f"`{name}` is {value:g}; expected a number from 0 to 1, such as 0.5 in place of 50 %.",
        )
    expect(
        not (_near(phones, pooled) and _near(pot, mean)),
        "the two have changed places: in the mean of the phones each phone counts alike.",
    )
    expect(
        _near(phones, mean),
        f"`phones_mean` is {phones:.3g}. First work out the part that is right for each phone by"
        " itself; then the mean of these three.",
    )
    expect(
        _near(pot, pooled),
        f"`pot` is {pot:.3g}. How many digits are right on all three phones together, and of how"
        " many?",
    )
    expect(
        isinstance(new_digit, str) and new_digit.strip().lower() in ("phones", "pot"),
        f"`new_digit` is {str(new_digit)[:40]!r}; expected 'phones' or 'pot'.",
    )
    expect(
        new_digit.strip().lower() == "phones",
        "in the pot ten of twelve digits are Ann's. But how often is it Ann who is picked?",
    )
    return (
        f"{mean:.2f} and {pooled:.2f} of the same answers. The pot is about a digit picked at"
        " random, the mean of the phones about a person picked at random. Say which one you mean."
    )


class _Once:
    """Updates as a strategy gets them: they can be gone through once."""

    def __init__(self, updates: list[fedlab.Update]):
        self._updates = iter(updates)
        self.begun = 0

    def __iter__(self):
        self.begun += 1
        return self._updates


@checker
def check_votes(one_vote: Callable, by_images, by_votes) -> str:
    """Exercise 2: the plain mean of the updates' weights and the sum of their examples; and the
    share of the average that the phones have.
    """
    expect(
        callable(one_vote),
        f"`one_vote` is of the type {kind_of(one_vote)}; expected the function itself, without"
        " brackets.",
    )
    rng = np.random.default_rng(11)
    for counts in ((24, 24, 5_000), (1, 2, 3, 4)):
        lists = [
            [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))] for _ in counts
        ]
        kept = [[array.copy() for array in arrays] for arrays in lists]
        several = [
            fedlab.Update(f"client {place}", 1, count, arrays)
            for place, (count, arrays) in enumerate(zip(counts, lists, strict=True))
        ]
        once = _Once(several)
        try:
            got = one_vote(once)
        except Exception as error:
            again = " Have you gone through the updates twice?" if once.begun > 1 else ""
            said = f"your function ended in {type(error).__name__}: {error}.{again}"
            expect(False, said.replace("..", "."))
        expect(got is not None and got is not ..., "your function returns nothing yet.")
        expect(
            isinstance(got, tuple) and len(got) == 2,
            f"your function returns a {kind_of(got)}; expected two things: a list of arrays, and a"
            " number of examples.",
        )
        expect(
            all(
                np.array_equal(a, b)
                for now, before in zip(lists, kept, strict=True)
                for a, b in zip(now, before, strict=True)
            ),
            "it changes the weights of an update: make new arrays.",
        )
        weights, examples = got
        expect(
            isinstance(weights, list) and [np.shape(array) for array in weights] == [(3, 2), (2,)],
            f"the first is a {kind_of(weights)} of the shapes"
            f" {[np.shape(array) for array in weights] if isinstance(weights, list) else '?'};"
            " expected a list of arrays, as many and of the same shapes as an update has.",
        )
        columns = list(zip(*kept, strict=True))
        mean = [np.mean(arrays, axis=0) for arrays in columns]
        heavy = [np.average(arrays, axis=0, weights=counts) for arrays in columns]
        expect(
            not _close(weights, heavy),
            "that is the mean weighed by images: who has 5,000 counts 208 times as much as who has"
            " 24.",
        )
        expect(
            not _close(weights, [np.sum(arrays, axis=0) for arrays in columns]),
            "that is the sum. Divided by what is it the mean?",
        )
        expect(
            _close(weights, mean),
            f"of {len(counts)} updates you get other arrays than their plain mean, array by array."
            + (" Have you gone through the updates twice?" if once.begun > 1 else ""),
        )
        expect(
            isinstance(examples, (int, np.integer)) and int(examples) == sum(counts),
            f"the second is {str(examples)[:40]}; expected {sum(counts):,}, the num_examples of all"
            " updates together"
            + (": have you gone through the updates twice?" if once.begun > 1 else "."),
        )
    by_images, by_votes = _number("by_images", by_images), _number("by_votes", by_votes)
    phones, laptops = PHONES * PER_PHONE, LAPTOPS * PER_LAPTOP
    expect(
        not _near(by_images, phones / laptops, 0.005),
        "`by_images` is the phones' images beside the laptops'; expected their share of all"
        " images.",
    )
    expect(
        _near(by_images, phones / (phones + laptops), 0.05),
        f"`by_images` is {by_images:.3g}. How many images have twenty phones, of how many in all?"
        " (From 0 to 1.)",
    )
    expect(
        _near(by_votes, PHONES / (PHONES + LAPTOPS), 0.02),
        f"`by_votes` is {by_votes:.3g}. How many votes have twenty phones, of how many in all?"
        " (From 0 to 1.)",
    )
    return (
        f"by images the phones have {phones / (phones + laptops):.0%} of the average, by votes"
        f" {PHONES / (PHONES + LAPTOPS):.0%}."
    )


def _close(some, others) -> bool:
    """Whether two models are equal up to rounding."""
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(some, others, strict=True))


@checker
def check_wifi(full, half, images) -> str:
    """Exercise 3: seconds for a round's messages over one Wi-Fi, in full and half precision, and
    for the drawings themselves.
    """
    right = CLASS * 2 * MESSAGE * 8 / SPEED
    drawings = CLASS * PER_PHONE * PIXELS * 8 / SPEED
    full, half, images = (
        _number(name, answer)
        for name, answer in (("full", full), ("half", half), ("images", images))
    )
    expect(
        not _near(full, right / 8),
        "`full` is an eighth of it: the messages are in bytes, the Wi-Fi's speed in bits.",
    )
    expect(
        not _near(full, right / 2),
        "`full` counts one direction. Each phone gets the model, and sends one.",
    )
    expect(
        not _near(full, right / CLASS),
        "`full` counts one phone. All thirty share one Wi-Fi, and only one can speak at a time.",
    )
    expect(
        _near(full, right),
        f"`full` is {full:.3g} s. How many bits are 30 phones × 2 messages × 797,000 bytes, and how"
        " many bits go in a second?",
    )
    expect(
        _near(half, right / 2),
        f"`half` is {half:.3g} s. Two bytes a number in place of four: what becomes of the bytes of"
        " a message?",
    )
    expect(
        not _near(images, drawings / CLASS),
        "`images` counts one phone's digits. There are thirty phones.",
    )
    expect(
        not _near(images, drawings / 8),
        "`images` is an eighth of it: pixels are bytes, the Wi-Fi's speed is in bits.",
    )
    expect(
        _near(images, drawings, 0.05),
        f"`images` is {images:.3g} s. How many bytes are 30 phones × 24 digits × 784 pixels?",
    )
    return (
        f"{right:.1f} s, {right / 2:.1f} s and {drawings:.3f} s. Sending all the drawings once"
        f" would be {right / drawings:.0f} times as quick as one round: it is not for the Wi-Fi's"
        " sake that they stay."
    )
