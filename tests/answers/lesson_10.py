"""Right and wrong answers to the exercises of lesson 10."""

import numpy as np


def by_chance(x, rng):
    return np.where(rng.random(x.size) < x, 1, 0)


def by_floor(x, rng):
    """The same, the way the library does it."""
    return np.minimum(np.floor(x + rng.random(x.size)), 1)


def other_way(x, rng):
    return np.where(rng.random(x.size) < x, 0, 1)


def one_throw(x, rng):
    return np.where(rng.random() < x, 1, 0)


def coin(x, rng):
    return rng.integers(0, 2, x.size)


def its_own(x, rng):
    return by_chance(x, np.random.default_rng(0))


def squared(x, rng):
    return by_chance(x**2, rng)


def in_a_row(x, rng):
    """Right shares, but neighbours follow each other."""
    return np.diff(np.floor(np.cumsum(x) + rng.random()), prepend=0).clip(0, 1)


def compress(change, memory, k):
    there = change + memory
    sent = np.zeros_like(there)
    places = np.argsort(np.abs(there))[-k:]
    sent[places] = there[places]
    return sent, there - sent


def by_threshold(change, memory, k):
    there = change + memory
    least = np.sort(np.abs(there))[-k]
    sent = np.where(np.abs(there) >= least, there, 0)
    return sent, there - sent


def forgetful(change, memory, k):
    return compress(change, 0 * memory, k)


def keeps_all(change, memory, k):
    sent, _ = compress(change, memory, k)
    return sent, change + memory


def keeps_nothing(change, memory, k):
    sent, left = compress(change, memory, k)
    return sent, 0 * left


def signed(change, memory, k):
    there = change + memory
    sent = np.zeros_like(there)
    places = np.argsort(there)[-k:]
    sent[places] = there[places]
    return sent, there - sent


def chooses_early(change, memory, k):
    there = change + memory
    sent = np.zeros_like(there)
    places = np.argsort(np.abs(change))[-k:]
    sent[places] = there[places]
    return sent, there - sent


def sends_change(change, memory, k):
    there = change + memory
    sent = np.zeros_like(there)
    places = np.argsort(np.abs(there))[-k:]
    sent[places] = change[places]
    return sent, there - sent


def the_least(change, memory, k):
    there = change + memory
    sent = np.zeros_like(there)
    places = np.argsort(np.abs(there))[:k]
    sent[places] = there[places]
    return sent, there - sent


def signs(change):
    scale = np.abs(change).mean(dtype=np.float32)
    return scale.tobytes() + np.packbits(change < 0, bitorder="little").tobytes()


def packed(change, bits, scale=None):
    scale = np.float32(np.abs(change).mean()) if scale is None else scale
    return scale.tobytes() + bits.tobytes()


RIGHT = [
    ("check_rounding", (by_chance,)),
    ("check_rounding", (by_floor,)),
    ("check_rounding", (lambda x, rng: by_chance(x, rng).tolist(),)),
    ("check_memory", (compress,)),
    ("check_memory", (by_threshold,)),
    ("check_signs", (signs,)),
    ("check_signs", (lambda change: bytearray(signs(change)),)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_rounding", (...,), "three dots"),
    ("check_rounding", (by_chance(np.ones(3), np.random.default_rng(0)),), "without brackets"),
    ("check_rounding", (lambda x, rng: x,), "0 and 1 only"),
    ("check_rounding", (lambda x, rng: np.round(x),), "all 2,000 times"),
    ("check_rounding", (lambda x, rng: x > rng,), "ended in TypeError"),
    ("check_rounding", (lambda x, rng: 1,), "expected an array"),
    ("check_rounding", (one_throw,), "a new throw for each"),
    ("check_rounding", (other_way,), "of the zeros 100% go up"),
    ("check_rounding", (coin,), "the nearer, the likelier"),
    ("check_rounding", (squared,), "expected 50%"),
    ("check_rounding", (its_own,), "must come from rng"),
    ("check_rounding", (in_a_row,), "throw for each by itself"),
    ("check_memory", (...,), "three dots"),
    ("check_memory", (lambda change, memory, k: change,), "expected two arrays"),
    ("check_memory", (lambda change, memory, k: (change, memory),), "expected k = 7"),
    ("check_memory", (lambda change, memory, k: (change[:k], memory),), "of the shape (300,)"),
    ("check_memory", (forgetful,), "add it first"),
    ("check_memory", (keeps_all,), "sent twice"),
    ("check_memory", (keeps_nothing,), "Something is lost"),
    ("check_memory", (signed,), "without the sign"),
    ("check_memory", (chooses_early,), "add it first"),
    ("check_memory", (sends_change,), "what the memory has kept"),
    ("check_memory", (the_least,), "not the k largest"),
    ("check_signs", (...,), "three dots"),
    ("check_signs", (lambda change: np.sign(change),), "expected bytes"),
    ("check_signs", (lambda change: packed(change, change < 0),), "take a byte each"),
    ("check_signs", (lambda change: packed(change, np.packbits(change < 0)),), "wrong way round"),
    (
        "check_signs",
        (lambda change: packed(change, np.packbits(change >= 0, bitorder="little")),),
        "0 and 1 are exchanged",
    ),
    (
        "check_signs",
        (lambda change: packed(change, np.packbits(change <= 0, bitorder="little")),),
        "0 is not below 0",
    ),
    (
        "check_signs",
        (lambda c: packed(c, np.packbits(c < 0, bitorder="little"), np.abs(c).mean(dtype=float)),),
        "is your scale a float64",
    ),
    (
        "check_signs",
        (lambda c: packed(c, np.packbits(c < 0, bitorder="little"), c.mean()),),
        "np.abs first",
    ),
    ("check_signs", (lambda change: signs(change)[4:],), "four for the scale"),
    ("check_signs", (lambda change: signs(change[::-1]),), "the bits are not"),
]
