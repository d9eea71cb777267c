"""How a difference becomes few bytes: what is lost here does not come back by itself.

A difference is what training has changed in a model: an array for each of its arrays. `write` makes
bytes of it, `read` another difference, near the first one. All numbers are little-endian; bytes are
told one by one in docs/codecs.md.

v is the difference, Q(v) what comes of it. *Unbiased*: the mean of Q(v) over many seeds is v, so
what is lost cancels in the average of many clients. *Contractive*: |Q(v) - v| is on average shorter
than v, by a share that does not depend on v; then error feedback works (`ByteCodec`), and otherwise
it may carry along more and more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from fedlab.checks import Refused
from fedlab.codecs.bits import (
    LONGEST_GAP,
    check_length,
    gaps_of,
    packed,
    packed_size,
    places_of,
    unpacked,
)
from fedlab.messages import BadUpdate, Weights
from fedlab.strategies.base import check_settings, setting, settings_of

Shapes = Sequence[tuple[int, ...]]

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
NUMBER = np.dtype("<f4")

MOST_WITH_PLACES = 0.8
"""The largest share of numbers that is sent with its places: five bytes each, that is what all
numbers are without. More would be longer than a server takes (`wire.size_limit`).
"""


class Compressor:
    """A way to write a difference. Compressors are frozen dataclasses of at most one `setting`.

    word:        its name in a codec's: "top" in "top-0.01+zlib". meaning: a line for people.
    unbiased, contractive: see above; contractive with `for_feedback`.
    sparse:      most of what comes is 0: where single numbers are compared (a median), nothing is
                 learned of it.
    """

    word: ClassVar[str]
    meaning: ClassVar[str]
    unbiased: ClassVar[bool] = False
    contractive: ClassVar[bool] = False
    sparse: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The word and the setting."""
        # Whole: clients make the same codec from it
        values = [f"-{value}".removesuffix(".0") for _, value in settings_of(self).values()]
        return "".join([self.word, *values])

    def for_feedback(self) -> Compressor:
        """What to use with error feedback. Raises Refused where that diverges."""
        if not self.contractive:
            raise Refused(
                f"error feedback with {self.name!r}: what it loses may be more than what it was"
                " given, and then the next round's loss is larger, and so on without end; expected"
                " a compressor that always keeps some of it: sign, top, mask"
            )
        return self

    def write(self, difference: Weights, seed: int) -> bytes:
        """The bytes; what is drawn by chance follows from the seed."""
        raise NotImplementedError

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        """The difference in these bytes, float32. Raises BadUpdate for anything that cannot be."""
        raise NotImplementedError

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        """The fewest and the most bytes of such a difference."""
        raise NotImplementedError


# ---- fewer bits a number -------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantise(Compressor):
    """Each array's numbers on a scale of 2^bits steps from its least to its greatest, up or down by
    chance: the nearer, the likelier (stochastic rounding; Suresh et al. 2017, arXiv:1611.00429,
    section 3). Unbiased.

    Bytes: the least and the greatest of each array as two float32, then all codes, `bits` each.
    """

    word, meaning = "quantise", "each number on a scale of few steps, up or down by chance"
    unbiased = True
    bits: int = setting(
        8, "bits", "bits of each number that is sent", (1, 2, 4, 8), least=1, most=8, whole=True
    )

    __post_init__ = check_settings

    def write(self, difference: Weights, seed: int) -> bytes:
        rng = randomness(seed)
        return self._written(difference, [rng.random(array.size) for array in difference])

    def nearest(self, weights: Weights) -> bytes:
        """The same without chance: each number at its nearest step."""
        return self._written(weights, [0.5] * len(weights))

    def _written(self, arrays: Weights, chances: Sequence) -> bytes:
        ranges, codes = [], []
        for array, chance in zip(arrays, chances, strict=True):
            flat, (low, high) = array.ravel().astype(np.float64), bounds(array)
            ranges += [low, high]
            step = (high - low) / (2**self.bits - 1)
            above = (flat - low) / step if step else np.zeros(flat.size)
            codes.append(np.minimum(np.floor(above + chance), 2**self.bits - 1))
        return np.array(ranges, NUMBER).tobytes() + packed(np.concatenate(codes), self.bits)

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        ranges = numbers(body[: 8 * len(shapes)]).reshape(-1, 2).astype(np.float64)
        if (ranges[:, 0] > ranges[:, 1]).any():
            raise BadUpdate("a scale begins above its end; expected the least, then the greatest")
        codes = unpacked(body[8 * len(shapes) :], count_of(shapes), self.bits)
        arrays = []
        for part, (low, high) in zip(split(codes, shapes), ranges, strict=True):
            step = (high - low) / (2**self.bits - 1)
            arrays.append((low + part * step).astype(np.float32))
        return arrays

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        size = 8 * len(shapes) + packed_size(count_of(shapes), self.bits)
        return size, size


@dataclass(frozen=True)
class ScaledSign(Compressor):
    """One bit a number: its sign, times the mean |v| of its array (Bernstein et al. 2018,
    Karimireddy et al. 2019, arXiv:1901.09847). Not unbiased: with unequal data it needs error
    feedback.

    Bytes: the mean of each array as float32, then a bit for each number, 1 where it is below 0.
    """

    word, meaning = "sign", "of each number only its sign, times the mean size in its array"
    contractive = True

    def write(self, difference: Weights, seed: int) -> bytes:
        scales = [np.abs(array).mean(dtype=np.float64) if array.size else 0 for array in difference]
        below = np.concatenate([array.ravel() < 0 for array in difference])
        return np.array(scales, NUMBER).tobytes() + packed(below, 1)

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        scales = magnitudes(body[: 4 * len(shapes)])
        below = unpacked(body[4 * len(shapes) :], count_of(shapes), 1)
        pairs = zip(split(below, shapes), scales, strict=True)
        return [np.where(part, -scale, scale).astype(np.float32) for part, scale in pairs]

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        size = 4 * len(shapes) + packed_size(count_of(shapes), 1)
        return size, size


@dataclass(frozen=True)
class TernGrad(Compressor):
    """0, or plus or minus the largest |v| of its array, by chance: the larger, the likelier (Wen et
    al. 2017, arXiv:1705.07878). Unbiased; zlib makes a third of it.

    Bytes: the largest of each array as float32, then two bits a number: 0 for 0, 1 for plus, 2 for
    minus.
    """

    word, meaning = "ternary", "each number is 0, or as large as the largest of its array"
    unbiased, sparse = True, True

    def write(self, difference: Weights, seed: int) -> bytes:
        rng, scales, codes = randomness(seed), [], []
        for array in difference:
            flat = array.ravel().astype(np.float64)
            scales.append(scale := np.abs(flat).max(initial=0))
            chosen = rng.random(flat.size) * scale < np.abs(flat)
            codes.append(np.where(chosen, np.where(flat < 0, 2, 1), 0))
        return np.array(scales, NUMBER).tobytes() + packed(np.concatenate(codes), 2)

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        scales = magnitudes(body[: 4 * len(shapes)])
        codes = unpacked(body[4 * len(shapes) :], count_of(shapes), 2)
        values = signed(codes, 1)
        pairs = zip(split(values, shapes), scales, strict=True)
        return [(part * scale).astype(np.float32) for part, scale in pairs]

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        size = 4 * len(shapes) + packed_size(count_of(shapes), 2)
        return size, size


@dataclass(frozen=True)
class QSGD(Compressor):
    """Each number as a whole multiple of |v| / levels, |v| the length of all of it, up or down by
    chance (Alistarh et al. 2017, arXiv:1610.02132). Unbiased, and mostly 0 with few levels: zlib
    makes very little of it.

    Bytes: |v| as float32, then for each number as few bits as 2 levels + 1 codes need: 0 for 0, the
    odd ones plus 1, 2, ... levels, the even ones minus.
    """

    word, meaning = "qsgd", "each number as one of few multiples of the whole difference's length"
    unbiased, sparse = True, True
    levels: int = setting(
        1, "levels", "s: steps from 0 to the length", (1, 4, 16, 64), least=1, most=127, whole=True
    )

    __post_init__ = check_settings

    @property
    def bits(self) -> int:
        """Of one number."""
        return math.ceil(math.log2(2 * self.levels + 1))

    def write(self, difference: Weights, seed: int) -> bytes:
        flat = flattened(difference).astype(np.float64)
        with np.errstate(over="ignore"):
            length = np.array(np.sqrt(np.sum(flat**2)), NUMBER)
        share = np.abs(flat) * (self.levels / float(length)) if length else np.zeros(flat.size)
        level = np.floor(share + randomness(seed).random(flat.size))
        level = np.minimum(level, self.levels).astype(int)
        codes = np.where(level == 0, 0, np.where(flat < 0, 2 * level, 2 * level - 1))
        return length.tobytes() + packed(codes, self.bits)

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        (length,) = magnitudes(body[:4])
        level = signed(unpacked(body[4:], count_of(shapes), self.bits), self.levels)
        return split((level * (length / self.levels)).astype(np.float32), shapes)

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        size = 4 + packed_size(count_of(shapes), self.bits)
        return size, size


# ---- fewer numbers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class TopK(Compressor):
    """The numbers of the largest |v|, as they are, and nothing of the others (Aji & Heafield 2017,
    arXiv:1704.05021). Not unbiased: it needs error feedback.

    Bytes: k float32, k = share times the numbers of the model, rounded, at least 1; then where they
    stand among all: gaps of 1 to 5 bytes (`bits.gaps_of`).
    """

    word, meaning = "top", "only the largest changes, and where they stand"
    contractive, sparse = True, True
    share: float = setting(
        0.01,
        "share",
        "the share of all numbers that is sent",
        SHARES,
        positive=True,
        most=MOST_WITH_PLACES,
    )

    __post_init__ = check_settings

    def write(self, difference: Weights, seed: int) -> bytes:
        flat = flattened(difference)
        kept = some(self.share, flat.size)
        places = np.sort(np.argpartition(-np.abs(flat), kept - 1)[:kept])
        return flat[places].astype(NUMBER).tobytes() + gaps_of(places)

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        size = count_of(shapes)
        kept = some(self.share, size)
        return placed(body[: 4 * kept], places_of(body[4 * kept :], kept, size), shapes)

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        kept = some(self.share, count_of(shapes))
        return (4 + 1) * kept, (4 + LONGEST_GAP) * kept


@dataclass(frozen=True)
class RandomMask(Compressor):
    """Numbers that chance has chosen, and nothing of the others: where they stand need not be sent,
    only the seed (Konecny et al. 2016, arXiv:1610.05492, "random mask"). Divided by the share that
    is sent they are unbiased. With error feedback they are sent as they are.

    Bytes: the seed as uint64, then k float32, k as in `TopK`, in the order of their places: the k
    places i whose `mixed(seed, i)` is least.
    """

    word, meaning = "mask", "numbers that chance has chosen; the seed says which"
    unbiased, contractive, sparse = True, True, True
    share: float = setting(
        0.01, "share", "the share of all numbers that is sent", SHARES, positive=True, most=1.0
    )
    scaled: bool = field(default=True, repr=False)

    __post_init__ = check_settings

    def for_feedback(self) -> RandomMask:
        return replace(self, scaled=False)

    def write(self, difference: Weights, seed: int) -> bytes:
        flat, seed = flattened(difference), seed % 2**64
        kept = some(self.share, flat.size)
        values = flat[self.places(seed, flat.size)].astype(np.float64)
        with np.errstate(over="ignore"):  # what has no room is not finite, and refused
            values = (values * (flat.size / kept if self.scaled else 1)).astype(NUMBER)
        return seed.to_bytes(8, "little") + values.tobytes()

    def read(self, body: bytes, shapes: Shapes) -> Weights:
        check_length(body, *self.sizes(shapes), f"what {self.name!r} makes of this model")
        places = self.places(int.from_bytes(body[:8], "little"), count_of(shapes))
        return placed(body[8:], places, shapes)

    def places(self, seed: int, size: int) -> np.ndarray:
        """The places of this seed, in rising order."""
        kept = some(self.share, size)
        return np.sort(np.argpartition(mixed(seed, size), kept - 1)[:kept])

    def sizes(self, shapes: Shapes) -> tuple[int, int]:
        size = 8 + 4 * some(self.share, count_of(shapes))
        return size, size


COMPRESSORS: dict[str, type[Compressor]] = {
    kind.word: kind for kind in (Quantise, ScaledSign, TernGrad, TopK, RandomMask, QSGD)
}
"""By their word."""


# ---- what they share -----------------------------------------------------------------------------


def randomness(seed: int) -> np.random.Generator:
    """Another stream than the one that `seed` gives to the batches of a client."""
    return np.random.default_rng([seed % 2**64, 10])


def mixed(seed: int, count: int) -> np.ndarray:
    """(count,) uint64 that look like chance, no two alike: SplitMix64 (Steele et al. 2014), which
    is a few lines in any language.

    >>> [hex(number) for number in mixed(0, 2)]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def some(share: float, size: int) -> int:
    """How many numbers a share is.

    >>> some(0.01, 199_210), some(0.01, 3)
    (1992, 1)
    """
    return max(1, min(size, math.floor(share * size + 0.5)))


def count_of(shapes: Shapes) -> int:
    """How many numbers a model of these shapes has."""
    return sum(math.prod(shape) for shape in shapes)


def flattened(arrays: Weights) -> np.ndarray:
    """All numbers of a model in a row."""
    return np.concatenate([array.ravel() for array in arrays])


def split(flat: np.ndarray, shapes: Shapes) -> Weights:
    """The inverse."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(s) for part, s in zip(np.split(flat, ends), shapes, strict=True)]


def bounds(array: np.ndarray) -> tuple[float, float]:
    """The least and the greatest number."""
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def numbers(body: bytes) -> np.ndarray:
    """The float32 in these bytes. Raises BadUpdate unless all are finite."""
    found = np.frombuffer(body, NUMBER)
    if not np.isfinite(found).all():
        raise BadUpdate("a scale or a number is NaN or infinity; expected finite ones")
    return found


def magnitudes(body: bytes) -> np.ndarray:
    """As `numbers`, none below 0; float64."""
    found = numbers(body).astype(np.float64)
    if (found < 0).any():
        raise BadUpdate(f"a scale is {found.min():g}; expected none below 0")
    return found


def signed(codes: np.ndarray, most: int) -> np.ndarray:
    """0 for 0, and 1, -1, 2, -2, ... for 1, 2, 3, 4, ...; int. Raises BadUpdate beyond `most`."""
    if codes.max(initial=0) > 2 * most:
        raise BadUpdate(f"a number has the code {codes.max()}; expected at most {2 * most}")
    codes = codes.astype(int)
    return np.where(codes % 2, (codes + 1) // 2, -(codes // 2))


def placed(body: bytes, places: np.ndarray, shapes: Shapes) -> Weights:
    """Numbers at their places, and 0 everywhere else."""
    flat = np.zeros(count_of(shapes), np.float32)
    flat[places] = numbers(body)
    return split(flat, shapes)
