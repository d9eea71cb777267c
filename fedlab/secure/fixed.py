"""Numbers as whole ones modulo 2^32 or 2^64: their sum is exact, in whatever order, and a mask can
hide them completely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedlab.checks import Refused, whole

EXACT = 2**53
"""The largest whole number up to which a float64 has all: a sum must be read, too."""

KINDS = {32: np.dtype("<u4"), 64: np.dtype("<u8")}


@dataclass(frozen=True)
class FixedPoint:
    """x as the whole number nearest to x 2^fraction, modulo 2^bits.

    bits:     32 or 64. fraction: bits behind the point.
    summands: how many numbers are added at most: their sum must not wrap around.

    `most` is the largest x that may be written, and `error` by how much a sum of `summands` numbers
    may be wrong: half of the last bit each.
    Raises Refused for anything else.

    >>> point = FixedPoint(summands=100)
    >>> round(point.most, 2), point.error < 0.0001
    (20.48, True)
    """

    bits: int = 32
    fraction: int = 20
    summands: int = 1

    def __post_init__(self):
        if self.bits not in KINDS:
            raise Refused(f"bits is {self.bits!r}; expected 32 or 64")
        whole("fraction", self.fraction, 0, self.bits - 2)
        whole("summands", self.summands, 1, 2 ** (self.bits - 2 - self.fraction))

    @property
    def most(self) -> float:
        return min(2 ** (self.bits - 1) - 1, EXACT) // self.summands / 2**self.fraction

    @property
    def error(self) -> float:
        return self.summands * 0.5 / 2**self.fraction

    def write(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of any shape as unsigned ones. Raises Refused for one that is not finite, or
        above `most`: nothing is cut off in silence.
        """
        numbers = np.asarray(numbers, np.float64)
        largest = float(np.abs(numbers).max(initial=0.0))
        if not largest <= self.most:
            raise Refused(
                f"the largest number is {largest:g}; expected at most {self.most:g}, so that the"
                f" sum of {self.summands} has room in {self.bits} bits"
            )
        whole_numbers = np.rint(numbers * 2.0**self.fraction).astype(np.int64)
        return whole_numbers.astype(np.uint64).astype(KINDS[self.bits])

    def read(self, total: np.ndarray) -> np.ndarray:
        """The inverse, of a sum: float64."""
        signed = total.astype(KINDS[self.bits]).view(f"<i{self.bits // 8}")
        return signed.astype(np.float64) / 2.0**self.fraction
