"""A secret in shares: any `threshold` of them tell it, fewer tell nothing at all (Shamir 1979).

Python's own whole numbers in a prime field, where a secret of 32 bytes is one number: for a hundred
shares a hundred times faster than byte by byte in a field of 256 elements.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping

from fedlab.checks import Refused, whole

PRIME = 2**521 - 1
"""A Mersenne prime with room for two secrets of 32 bytes."""


def split(
    secret: int,
    shares: int,
    threshold: int,
    prime: int = PRIME,
    random: Callable[[int], int] = secrets.randbelow,
) -> dict[int, int]:
    """The values at 1, 2, ..., `shares` of a polynomial whose value at 0 is the secret, and whose
    other `threshold` - 1 coefficients are random.

    random: a whole number below another one; the operating system's generator if not given.
    Raises Refused for a secret outside 0..prime - 1, or numbers that do not go together.

    >>> combine({number: share for number, share in split(42, 5, 3).items() if number != 2})
    42
    """
    whole("shares", shares, 1, prime - 1)
    whole("threshold", threshold, 1, shares)
    if not 0 <= secret < prime:
        raise Refused(
            f"the secret has {secret.bit_length()} bits; expected a number from 0 below"
            f" the prime, of {prime.bit_length()} bits"
        )
    coefficients = [secret, *(random(prime) for _ in range(threshold - 1))][::-1]
    found = {}
    for x in range(1, shares + 1):
        value = 0
        for coefficient in coefficients:  # Horner
            value = (value * x + coefficient) % prime
        found[x] = value
    return found


def factors(places: Iterable[int], prime: int = PRIME) -> dict[int, int]:
    """By what the share of each place is multiplied, so that the sum is the value at 0 (Lagrange).
    Secrets that were split among the same places have them in common.

    Raises Refused for no place, one that is there twice, or 0.
    """
    places = list(places)
    if not places or len(set(places)) < len(places) or not all(0 < x < prime for x in places):
        raise Refused(f"the shares' places are {places[:10]}; expected different numbers from 1")
    found = {}
    for x in places:
        above = below = 1
        for other in places:
            if other != x:
                above = above * other % prime
                below = below * (other - x) % prime
        found[x] = above * pow(below, -1, prime) % prime
    return found


def combine(
    shares: Mapping[int, int], known: Mapping[int, int] | None = None, prime: int = PRIME
) -> int:
    """The secret. Of fewer shares than its threshold it is some number or other: nobody can tell.

    known: `factors` of these places, where they have been worked out already.
    """
    known = factors(shares, prime) if known is None else known
    return sum(share * known[x] for x, share in shares.items()) % prime
