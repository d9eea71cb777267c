"""Numbers of few bits, gaps between places, and zlib, as bytes and back. What is read here comes
from anybody: nothing may be longer, or shorter, than it is said to be."""

from __future__ import annotations

import zlib

import numpy as np

from fedlab.checks import counted
from fedlab.messages import BadUpdate

LONGEST_GAP = 5
"""Bytes: 35 bits."""


def check_length(body: bytes, least: int, most: int, what: str) -> None:
    """Raise BadUpdate unless `body` has from `least` to `most` bytes."""
    if not least <= len(body) <= most:
        expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        raise BadUpdate(f"{what} has {counted(len(body), 'byte')}; expected {expected}")


def packed(codes: np.ndarray, bits: int) -> bytes:
    """Whole numbers below 2^bits, `bits` bits each (1 to 8): the first in the lowest bits of the
    first byte, without gaps; what is left of the last byte is 0.

    >>> packed(np.array([1, 2, 3, 0, 1]), 2)  # 00 11 10 01 and 01
    b'9\\x01'
    """
    codes = codes.astype(np.uint8)
    if bits == 8:
        return codes.tobytes()
    single = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(single.ravel(), bitorder="little").tobytes()


def packed_size(count: int, bits: int) -> int:
    """The bytes of so many."""
    return -(-count * bits // 8)


def unpacked(body: bytes, count: int, bits: int) -> np.ndarray:
    """The inverse: (count,) uint8. Raises BadUpdate for another length, or bits behind the end.

    >>> unpacked(b"9\\x01", 5, 2).tolist()
    [1, 2, 3, 0, 1]
    """
    size = packed_size(count, bits)
    check_length(body, size, size, f"what holds {count:,} numbers of {counted(bits, 'bit')}")
    single = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
    if single[count * bits :].any():
        raise BadUpdate("there are bits behind the last number; expected zeros")
    single = single[: count * bits].reshape(count, bits)
    return np.packbits(single, axis=1, bitorder="little").ravel()


def gaps_of(places: np.ndarray) -> bytes:
    """Places in rising order, as how many are left out before each: seven bits a byte, the lowest
    first, and the eighth is set where another byte follows (LEB128).

    >>> gaps_of(np.array([0, 3, 204]))  # gaps of 0, 2 and 200
    b'\\x00\\x02\\xc8\\x01'
    """
    gaps = np.diff(places.astype(np.int64), prepend=-1) - 1
    digits = (gaps[:, None] >> (7 * np.arange(LONGEST_GAP))) & 127
    lengths = 1 + sum((gaps >= 1 << 7 * more).astype(int) for more in range(1, LONGEST_GAP))
    place = np.arange(LONGEST_GAP)
    digits |= (place < lengths[:, None] - 1) * 128
    return digits[place < lengths[:, None]].astype(np.uint8).tobytes()


def places_of(body: bytes, count: int, size: int) -> np.ndarray:
    """The inverse: `count` rising places below `size`. Raises BadUpdate.

    >>> places_of(b"\\x00\\x02\\xc8\\x01", 3, 205).tolist()
    [0, 3, 204]
    """
    each = np.frombuffer(body, np.uint8).astype(np.int64)
    ends = np.flatnonzero(each < 128)
    if len(ends) != count or (len(each) and ends[-1:].tolist() != [len(each) - 1]):
        raise BadUpdate(f"there are {len(ends):,} whole places; expected {count:,}, and no more")
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    if lengths.max(initial=0) > LONGEST_GAP:
        raise BadUpdate(
            f"a gap has {lengths.max()} bytes; expected at most {LONGEST_GAP}: places are below"
            f" {size:,}"
        )
    shift = 7 * (np.arange(len(each)) - np.repeat(begins, lengths))
    gaps = np.add.reduceat((each & 127) << shift, begins)
    places = np.cumsum(gaps + 1) - 1
    if places[-1] >= size:
        raise BadUpdate(f"a number stands at place {places[-1]:,}; expected places below {size:,}")
    return places


def deflated(body: bytes) -> bytes:
    """By zlib (RFC 1950), at its usual level: the best takes 50 times as long for a tenth less."""
    return zlib.compress(body)


def inflated(body: bytes, most: int) -> bytes:
    """The inverse, for what has at most `most` bytes; no more is made of it. Raises BadUpdate.

    >>> inflated(deflated(bytes(1000)), 1000) == bytes(1000)
    True
    """
    engine = zlib.decompressobj()
    try:
        found = engine.decompress(body, most + 1)
    except zlib.error as error:
        raise BadUpdate(f"what should be zlib's is not: {error}") from None
    if len(found) > most:
        raise BadUpdate(f"there are more than {most:,} bytes in what zlib made; expected no more")
    if not engine.eof or engine.unused_data:
        wrong = "is not whole" if not engine.eof else "has something behind it"
        raise BadUpdate(f"what zlib made {wrong}; expected all of it, and nothing more")
    return found
