"""A multiple-choice question, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LETTERS = "abcd"
UNKNOWN = "?"
"""What is kept for DONT_KNOW, which every question offers below its four answers."""
DONT_KNOW = "I do not know"


@dataclass(frozen=True)
class Question:
    """One question with four answers, one of which is right.

    key:     what its answer is kept under; another wording of the same question keeps it.
    topic:   two to five words for a table or an axis, which do not tell the answer.
    text:    the question. answers: letter -> answer, for each of "abcd".
    right:   the letter of the right one. why: a sentence that explains it.
    lessons: where it is seen, "01" to "11".
    replies: wrong letter -> what to say to who chose it, for a question with feedback at once.
    """

    key: str
    topic: str
    text: str
    answers: Mapping[str, str]
    right: str
    why: str
    lessons: tuple[str, ...]
    replies: Mapping[str, str] = field(default_factory=dict)

    def said(self, letter: str) -> str:
        """An answer in words, behind its letter."""
        return DONT_KNOW if letter == UNKNOWN else f"{letter} · {self.answers[letter]}"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(words, letter) of all that can be chosen, in order."""
        return [(self.said(letter), letter) for letter in (*self.answers, UNKNOWN)]
