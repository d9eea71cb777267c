"""The checkers of lesson 10."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exercises.verdict import asked, checker, expect, kind_of
from fedlab.codecs import ScaledSign

SIZE = 2_000


def _array(value, shape: tuple[int, ...], what: str) -> np.ndarray:
    """What a student returns, as an array of numbers of this shape."""
    value = np.asarray(value) if isinstance(value, (list, np.ndarray)) else value
    expect(
        isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in "biuf",
        f"{what} is a {kind_of(value)} of the shape {np.shape(value)}; expected an array of numbers"
        f" of the shape {shape}.",
    )
    return value.astype(float)


@checker
def check_rounding(by_chance: Callable) -> str:
    """Exercise 1: numbers from 0 to 1, up to 1 or down to 0 by chance, with the right mean."""
    shares = np.linspace(0, 1, 11)
    numbers = np.repeat(shares, SIZE)

    def got(seed):
        return _array(
            asked(by_chance, numbers, np.random.default_rng(seed)),
            numbers.shape,
            "what your function returns",
        )

    came = got(0)
    expect(
        np.isin(came, (0, 1)).all(),
        f"there is a {came[~np.isin(came, (0, 1))][:1].sum():.3g} in your answer; expected 0 and 1"
        " only: that is one bit.",
    )
    by_share = came.reshape(len(shares), SIZE)
    means = by_share.mean(1)
    expect(
        not np.array_equal(by_share[3], np.full(SIZE, by_share[3, 0])),
        f"0.3 becomes {by_share[3, 0]:.0f} all {SIZE:,} times, so the mean is {by_share[3, 0]:.0f}."
        " By chance means: a new throw for each number (rng.random(x.size)).",
    )
    expect(
        means[0] == 0 and means[-1] == 1,
        f"of the zeros {means[0]:.0%} go up, and of the ones {means[-1]:.0%}; expected 0% and 100%:"
        " the nearer, the likelier.",
    )
    worst = np.abs(means - shares).argmax()
    expect(
        np.abs(means - shares).max() < 0.05,
        f"{shares[worst]:.1f} goes up in {means[worst]:.0%} of all throws; expected"
        f" {shares[worst]:.0%}, so that the mean is {shares[worst]:.1f}.",
    )
    expect(
        np.array_equal(got(0), came) and not np.array_equal(got(1), came),
        "chance must come from rng: the same for a generator of the same seed, and another one for"
        " another.",
    )
    follows = [abs(np.corrcoef(row[:-1], row[1:])[0, 1]) for row in by_share[1:-1]]
    expect(
        max(follows) < 0.2,
        "the shares are right, but one number's throw says what the next one's is: throw for each"
        " by itself.",
    )
    return "one bit a number, each of them wrong, and their mean is right."


@checker
def check_memory(compress: Callable) -> str:
    """Exercise 2: the k largest of what there is, and the rest for the next time."""
    rng, size, k = np.random.default_rng(3), 300, 7
    changes = rng.normal(0, 1, (12, size)) + np.linspace(0.3, -0.8, size)
    memory, came = np.zeros(size), np.zeros(size)
    for turn, change in enumerate(changes, start=1):
        answer = asked(compress, change, memory, k)
        expect(
            isinstance(answer, tuple) and len(answer) == 2,
            f"your function returns a {kind_of(answer)}; expected two arrays: sent, memory.",
        )
        sent = _array(answer[0], (size,), "what you send")
        left = _array(answer[1], (size,), "your new memory")
        there = change + memory
        expect(
            np.count_nonzero(sent) == k,
            f"you send {np.count_nonzero(sent)} numbers that are not 0; expected k = {k}.",
        )
        places = np.flatnonzero(sent)
        largest = np.sort(np.argsort(np.abs(there))[-k:])
        expect(
            np.array_equal(places, largest)
            or not np.array_equal(places, np.sort(np.argsort(there)[-k:])),
            "you send the largest numbers, but none of those far below 0. Large is meant without"
            " the sign (np.abs).",
        )
        expect(
            turn == 1
            or np.array_equal(places, largest)
            or not np.array_equal(places, np.sort(np.argsort(np.abs(change))[-k:])),
            "you choose the largest of the change alone. What is in the memory must have its turn:"
            " add it first, then choose.",
        )
        expect(
            np.array_equal(places, largest),
            "these are not the k largest of change + memory, their signs left out.",
        )
        expect(
            turn == 1 or not np.allclose(sent[places], change[places]),
            "you send the change at these places, but not what the memory has kept for them.",
        )
        expect(
            np.allclose(sent[places], there[places]),
            "at the k places expected are the numbers of change + memory, as they are.",
        )
        expect(
            np.abs(left[places]).max() < 1e-6,
            "what you have sent is still in the memory: it would be sent twice.",
        )
        expect(
            np.allclose(sent + left, there),
            f"round {turn}: what is sent and what is kept together are not what there was (change +"
            " memory). Something is lost.",
        )
        memory, came = left, came + sent
    expect(
        np.allclose(came + memory, changes.sum(0)), "over twelve rounds something has been lost."
    )
    return (
        f"twelve rounds, {k} of {size} numbers in each, and nothing is lost: it only comes later."
    )


@checker
def check_signs(signs: Callable[[np.ndarray], bytes]) -> str:
    """Exercise 3: a scale and one bit a number, as the library's server reads them."""
    rng = np.random.default_rng(5)
    for size in (16, 21, SIZE):
        change = rng.normal(0.001, 0.01, size).astype(np.float32)
        change[3] = 0
        got = asked(signs, change)
        got = bytes(got) if isinstance(got, (bytearray, memoryview)) else got
        expect(
            isinstance(got, bytes),
            f"your function returns a {kind_of(got)}; expected bytes: an array's are"
            " array.tobytes().",
        )
        expected = 4 + -(-size // 8)
        expect(
            len(got) != 4 + size,
            f"{size:,} numbers take a byte each: pack eight bits into one (np.packbits).",
        )
        expect(
            len(got) != expected + 4,
            "there are four bytes too many: is your scale a float64? Expected np.float32.",
        )
        expect(
            len(got) == expected,
            f"for {size:,} numbers you write {len(got):,} bytes; expected {expected:,}: four for"
            " the scale, then a bit for each number.",
        )
        scale, mean = np.frombuffer(got[:4], "<f4")[0], np.abs(change).mean()
        expect(
            np.isclose(scale, mean, rtol=1e-4),
            f"the first four bytes are the scale {scale:.4g}; expected the mean size"
            f" {mean:.4g} (np.abs first, then the mean), as float32.",
        )
        below = change < 0
        bits = {  # how the bits may have been packed: what to say of it
            "": np.packbits(below, bitorder="little"),
            "the bits of each byte are the wrong way round: the first number is in the lowest bit"
            ' (bitorder="little").': np.packbits(below),
            "0 and 1 are exchanged: 1 is for numbers below 0.": np.packbits(
                ~below, bitorder="little"
            ),
            "0 is not below 0: its bit is 0.": np.packbits(change <= 0, bitorder="little"),
            "0 and 1 are exchanged, and the bits of each byte are the wrong way round.": (
                np.packbits(~below)
            ),
        }
        for hint, packed in bits.items():
            expect(not hint or got[4:] != packed.tobytes(), hint)
        expect(
            got[4:] == bits[""].tobytes(),
            "the scale is right, the bits are not: 1 where a number is below 0, in the order of the"
            " numbers.",
        )
        (read,) = ScaledSign().read(got, [(size,)])
        expect(
            np.allclose(read, np.where(below, -mean, mean), rtol=1e-4),
            "the library reads other numbers in your bytes.",
        )
    return f"the library's server reads your bytes: {SIZE:,} numbers in {expected} of them."
