"""The one way in which numbers are looked at (NumPy's integers are integers, True is none), and in
which sentences count."""

from __future__ import annotations

import math

import numpy as np


class Refused(ValueError):
    """Something the federation does not accept. The message names what was received and what was
    expected; nothing was changed. `kind` is for programs: HTTP sends it beside the sentence.
    """

    kind = "refused"


def is_whole(value) -> bool:
    """Whether `value` is an integer, Python's or NumPy's."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def is_number(value) -> bool:
    """Whether `value` is a real number, Python's or NumPy's; NaN and infinity are."""
    return is_whole(value) or isinstance(value, (float, np.floating))


def counted(number: int, thing: str) -> str:
    """A number of things in a sentence: "1 round", "5,000 rounds", "0 tries" (of "try")."""
    several = f"{thing[:-1]}ies" if thing.endswith(("ry", "ty")) else f"{thing}s"  # not "arraies"
    return f"{number:,} {thing if number == 1 else several}"


def whole(
    name: str,
    value,
    least: int = 1,
    most: int | None = None,
    *,
    more: str = "",
    error: type[Refused] = Refused,
) -> int:
    """`value` as a Python int, if it is a whole number from `least` to `most`.

    Raises `error`, a sentence; `more` is the end of it, such as ", or None for all".
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        reach = f" to {most:,}" if most is not None else ""
        raise error(f"{name} is {value!r}; expected a whole number from {least}{reach}{more}")
    return int(value)


def number(
    name: str,
    value,
    expected: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    error: type[Refused] = Refused,
) -> float:
    """`value` as a Python float, if it is finite and within these bounds.

    Raises `error`: "`name` is `value`; expected `expected`".
    """
    try:
        given = float(value) if is_number(value) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        given = math.inf
    if not math.isfinite(given) or not (above < given < below and least <= given <= most):
        raise error(f"{name} is {value!r}; expected {expected}")
    return given
