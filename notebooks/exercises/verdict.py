"""What every checker is made of: a verdict, and one hint for a wrong answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np

import fedlab


@dataclass(frozen=True)
class Verdict:
    """What a checker says. It is true when the answer is right; shown at the end of a cell, it is a
    sentence.
    """

    right: bool
    sentence: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}: {self.sentence}"

    def _repr_html_(self) -> str:
        mark, line, fill = (
            ("✓", "#2a7f3f", "#eaf5ec") if self.right else ("→", "#b35900", "#fdf3e6")
        )
        look = (
            f"border-left:5px solid {line};background:{fill};color:#111;padding:8px"
            " 12px;font-size:15px"
        )
        return f'<div role="status" style="{look}">{mark} {escape(repr(self))}</div>'


class Hint(Exception):
    """The answer is not right yet; the text says where to look."""


def checker(check: Callable[..., str]) -> Callable[..., Verdict]:
    """`check` returns a sentence for a right answer and raises Hint for a wrong one; this turns
    both, and any error, into a Verdict.
    """

    @functools.wraps(check)
    def checked(*answers) -> Verdict:
        if any(answer is None or answer is ... for answer in answers):
            return Verdict(
                False,
                "put your own answer in the place of the three dots, then run the cell again.",
            )
        try:
            return Verdict(True, check(*answers))
        except Hint as hint:
            return Verdict(False, str(hint))
        except (
            Exception
        ) as error:  # the answer is of a kind that nobody thought of: still a sentence
            return Verdict(
                False,
                f"looking at your answer ended in {type(error).__name__}: {error}. Is it what the"
                " exercise asks for?",
            )

    return checked


def expect(true: bool, hint: str) -> None:
    """Give this hint unless it is true."""
    if not true:
        raise Hint(hint)


def kind_of(answer) -> str:
    """The name of an answer's type, for a hint."""
    # Every strategy is one to a student, whatever it is made of.
    return "Strategy" if isinstance(answer, fedlab.Strategy) else type(answer).__name__


def asked(function: Callable, *arguments):
    """What a student's function says of copies of these. Gives a hint where it fails, or says
    nothing.
    """
    expect(
        callable(function),
        f"the answer is of the type {kind_of(function)}; expected the function itself, without"
        " brackets.",
    )
    try:
        value = function(*(np.copy(a) if isinstance(a, np.ndarray) else a for a in arguments))
    except Hint:
        raise
    except Exception as error:
        raise Hint(f"your function ended in {type(error).__name__}: {error}") from None
    expect(
        value is not None and value is not ...,
        "your function returns nothing yet.",
    )
    return value
