"""What a class has answered, before and after: counts only, so that no single person is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedlab.checks import counted
from fedlab.questions.kept import AFTER, BEFORE, PARTS, Answers, BadAnswers, read
from fedlab.questions.nine import NINE
from fedlab.questions.question import UNKNOWN

LEAST = 5
"""Persons. Of fewer nothing is counted: from a few shares one could tell who has said what."""

CHANCE = 1 / 4
"""The share that is right if everybody picks one of the four answers blindly."""


@dataclass(frozen=True)
class ClassAnswers:
    """The answers of several persons, added up.

    persons: how many are counted. parts: ("before", "after"); ("before",) while hardly anybody has
             answered after the course; () where fewer than five have answered, and then nothing is
             counted.
    right, unknown: part -> key of a question -> how many chose the right answer, "I do not know".
    notes:   sentences: which files were left out, and why.
    """

    persons: int
    parts: tuple[str, ...]
    right: Mapping[str, Mapping[str, int]]
    unknown: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.parts)

    def share(self, part: str, key: str) -> float:
        """Of all persons, which part chose the right answer: 0 to 1."""
        return self.right[part][key] / self.persons

    def gain(self, key: str) -> float:
        """Hake's normalised gain: of what could still be learned before the course, which part was.
        1 is all of it, 0 nothing, below 0 fewer are right than before. NaN where all were right
        before, or nobody has answered after the course.
        """
        if AFTER not in self.parts:
            return math.nan
        before, after = (self.share(part, key) for part in PARTS)
        return (after - before) / (1 - before) if before < 1 else math.nan

    def table(self) -> str:
        """A row for each question: right and "I do not know" in %, before and after, and the
        gain.
        """
        wide = max(len(question.topic) for question in NINE)
        head = "".join(f"  {part:>6}  {'unsure':>6}" for part in self.parts)
        lines = [f"{'right, in %':{wide + 3}}{head}  {'gain':>5}".rstrip()]
        for number, question in enumerate(NINE, 1):
            row = "".join(
                f"  {100 * counts[part][question.key] / self.persons:6.0f}"
                for part in self.parts
                for counts in (self.right, self.unknown)
            )
            gain = self.gain(question.key)
            told = "" if math.isnan(gain) else f"  {gain:5.2f}"
            lines.append(f"{number}  {question.topic:{wide}}{row}{told}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """All notes, and the table if there is one."""
        return "\n".join([*self.notes, *(["", self.table()] if self.enough else [])])


def class_answers(folder: str | Path) -> ClassAnswers:
    """Add up all `answers*.json` of a folder.

    Who has answered all nine questions before and after counts; if fewer than five have, all count
    who have answered all nine before. A file that is damaged, of another version, not complete, or
    a second one of the same person is left out, and a note says so. Files are only read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return _nothing(0, [f"There is no folder {folder.name!r} here yet; expected one with files"
                            " answers_NICKNAME.json in it."])  # fmt: skip
    found, notes = _everybody(folder)
    both = [
        name for name in found if not (found[name].missing(BEFORE) or found[name].missing(AFTER))
    ]
    early = [name for name in found if not found[name].missing(BEFORE)]
    parts, counts = (PARTS, both) if len(both) >= LEAST else ((BEFORE,), early)
    for name, answers in found.items():
        lacks = [part for part in parts if answers.missing(part)]
        if lacks:
            said = " and ".join(
                f"{9 - len(answers.missing(part))} of 9 questions {part} the course"
                for part in lacks
            )
            notes.append(f"{name} has {said}; expected all nine. It is left out.")
    if len(counts) < LEAST:
        return _nothing(len(counts), notes)
    notes.append(_counted(len(counts), parts))
    people = [found[name] for name in counts]
    return ClassAnswers(
        len(people),
        parts,
        _counts(people, parts, {q.key: q.right for q in NINE}),
        _counts(people, parts, {q.key: UNKNOWN for q in NINE}),
        tuple(notes),
    )


def _counted(persons: int, parts: tuple[str, ...]) -> str:
    when = "before and after the course" if AFTER in parts else "before the course"
    return (
        f"{counted(persons, 'person')} answered all nine questions {when}: one of them is"
        f" {100 / persons:.0f} points."
    )


def _nothing(persons: int, notes: list[str]) -> ClassAnswers:
    there = "1 person has" if persons == 1 else f"{persons or 'no'} persons have"
    said = (
        f"So far {there} answered all nine questions; expected at least {LEAST}. Of fewer nothing"
        " is shown: one could tell who has said what."
    )
    return ClassAnswers(persons, (), {}, {}, (*notes, said))


def _everybody(folder: Path) -> tuple[dict[str, Answers], list[str]]:
    """Name of a file -> its answers, one file a person, and a sentence for each file left out."""
    found, notes, of = {}, [], {}
    for path in sorted(folder.glob("answers*.json")):
        try:
            answers = read(path)
        except (BadAnswers, OSError) as error:
            notes.append(f"{error}. It is left out.")
            continue
        other = of.get(answers.person)
        if other is None:
            of[answers.person], found[path.name] = path.name, answers
            continue
        # The same person twice: who hands in a file after each half of the course
        fuller = min(found[other], answers, key=_lacks)
        left = path.name if fuller is found[other] else other
        took = other if left == path.name else path.name
        found.pop(other)
        of[answers.person], found[took] = took, fuller
        notes.append(
            f"{left} and {took} are of the same person: {took} counts, {left} is left out."
        )
    notes += _namesakes(found)
    return found, notes


def _lacks(answers: Answers) -> int:
    return len(answers.missing(BEFORE)) + len(answers.missing(AFTER)) + (not answers.finished)


def _namesakes(found: Mapping[str, Answers]) -> list[str]:
    names = {}
    for name, answers in found.items():
        if answers.nickname:
            names.setdefault(answers.nickname.casefold(), []).append(name)
    return [
        f"{' and '.join(several)} have the nickname {nickname!r}, and count as"
        f" {len(several)} persons; if it is one person, take one file out."
        for nickname, several in names.items()
        if len(several) > 1
    ]


def _counts(people: list[Answers], parts: tuple[str, ...], letters: Mapping[str, str]) -> dict:
    """Part -> key -> how many have given this letter."""
    return {
        part: {
            key: sum(getattr(person, part)[key] == letter for person in people)
            for key, letter in letters.items()
        }
        for part in parts
    }
