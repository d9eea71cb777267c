"""The code by which a class is found: read aloud, typed on a phone; and how often one may guess. No
lock and no clock: whoever calls tells the time, in seconds.
"""

from __future__ import annotations

import secrets
from collections import deque

from fedlab.checks import Refused

LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""31 characters of which none is taken for another: no 0 and O, no 1, I and L."""

LENGTH = 5
"""28.6 million codes."""

A_MINUTE = 10
"""Wrong codes from one address; then none is looked at, right or wrong, until some are a minute
old."""

A_SECOND = 10
"""Wrong codes from everywhere. More are told to wait; a right one is let in all the same, where its
own address has not guessed too often: nobody elsewhere keeps a class out by guessing."""


MOST_KEPT = 10_000
"""Addresses whose wrong codes are remembered: of more, the earliest are forgotten."""


class TooManyTries(Refused):
    """Wrong codes came too fast, from here or from everywhere."""

    kind = "tries"


class WrongCode(Refused):
    """A code that is not this class's."""

    kind = "code"


def new_code() -> str:
    """A random code."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def read(code) -> str:
    """A code as it was typed, in any letters, with spaces or dashes; "" for what is none."""
    if not isinstance(code, str) or len(code) > 40:
        return ""
    plain = "".join(c for c in code.upper() if c not in " -")
    return plain if len(plain) == LENGTH and set(plain) <= set(LETTERS) else ""


def check_code(code) -> str:
    """`code` as it is kept. Raises Refused for what is none."""
    if not (plain := read(code)):
        expected = f"expected {LENGTH} of the characters {LETTERS}"
        raise Refused(f"the code is {str(code)[:20]!r}; {expected}")
    return plain


class Tries:
    """Wrong codes, by the address that they came from."""

    def __init__(self):
        self._by_address: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()

    def spent(self, address: str, now: float) -> bool:
        """Whether this address may not try any more now."""
        return address in self._by_address and len(self._recent(address, now)) >= A_MINUTE

    def busy(self, now: float) -> bool:
        """Whether more wrong codes come from everywhere than are looked at."""
        while self._all and self._all[0] <= now - 1:
            self._all.popleft()
        return len(self._all) >= A_SECOND

    def wrong(self, address: str, now: float) -> None:
        """One more."""
        self._recent(address, now).append(now)
        self._all.append(now)
        if len(self._by_address) > MOST_KEPT:
            del self._by_address[next(iter(self._by_address))]

    def _recent(self, address: str, now: float) -> deque[float]:
        times = self._by_address.setdefault(address, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        return times
