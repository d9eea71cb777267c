"""One person's answers as a file beside the notebook, which nobody else is sent: JSON, always
whole."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedlab.checks import Refused
from fedlab.questions.nine import NINE
from fedlab.questions.question import LETTERS, UNKNOWN
from fedlab.whole import write_whole

VERSION = 1
"""Of the file, and of the nine questions: with others, old answers mean something else."""

BEFORE, AFTER = PARTS = ("before", "after")
KEYS = tuple(question.key for question in NINE)
WHAT = "answers before and after the fedlab course"
LARGEST = 100_000
"""Bytes of a file of answers, which has about one thousand."""


class BadAnswers(Refused):
    """A file that holds no answers, or those of another version."""

    kind = "bad_answers"


class OtherVersion(BadAnswers):
    """A file of answers to other questions than these, or of another form. It is not damaged."""


@dataclass(frozen=True)
class Answers:
    """What one person has answered.

    person:   eight random letters by which two files of one person are known; not who it is.
    nickname: what they call themselves, or "".
    before, after: key of a question -> letter of the answer, "?" for "I do not know".
    finished: the right answers have been shown: nothing is changed any more.
    """

    person: str
    nickname: str = ""
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False

    def missing(self, part: str) -> list[int]:
        """The numbers (from 1) of the questions without an answer in this part."""
        there = getattr(self, part)
        return [number for number, key in enumerate(KEYS, 1) if key not in there]


def path_of(nickname: str = "", folder: str | Path = ".") -> Path:
    """Where a person's answers are: `answers_NICKNAME.json` in the folder, or `answers.json`.

    nickname: up to 20 letters, digits, - or _; large and small letters are the same. Raises Refused
    for another.
    """
    if not isinstance(nickname, str) or not re.fullmatch(r"[\w-]{0,20}", nickname):
        raise Refused(
            f"nickname is {nickname!r}; expected up to 20 letters, digits, - or _, or '' for none"
        )
    name = nickname.casefold()
    return Path(folder) / (f"answers_{name}.json" if name else "answers.json")


def read(path: str | Path) -> Answers:
    """The answers in a file. Raises BadAnswers, a sentence, for a file that holds none, and
    OtherVersion for one of another version; OSError if it cannot be read at all.
    """
    path = Path(path)
    with open(path, "rb") as file:
        body = file.read(LARGEST + 1)
    try:
        found = json.loads(body) if len(body) <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("what") != WHAT:
        raise BadAnswers(
            f"{path.name} is damaged, or holds no answers; expected a file that the questions"
            " before and after the course have written"
        )
    if found.get("version") != VERSION:
        raise OtherVersion(
            f"{path.name} has answers of version {found.get('version')!r}; expected version"
            f" {VERSION}, as this fedlab asks and reads them"
        )
    try:
        return _checked(found)
    except Refused as error:
        raise BadAnswers(f"{path.name}: {error}") from None


def _checked(found: dict) -> Answers:
    person, nickname, finished = (found.get(k) for k in ("person", "nickname", "finished"))
    if not isinstance(person, str) or not re.fullmatch("[0-9a-f]{8}", person):
        raise Refused(f"person is {person!r}; expected eight of 0-9 and a-f")
    path_of(nickname)
    if not isinstance(finished, bool):
        raise Refused(f"finished is {finished!r}; expected true or false")
    for part in PARTS:
        answers = found.get(part)
        if not isinstance(answers, dict):
            raise Refused(f"{part} is {answers!r}; expected an answer for each question")
        for key, letter in answers.items():
            _check_answer(key, letter)
    return Answers(person, nickname, dict(found[BEFORE]), dict(found[AFTER]), finished)


def _check_answer(key: str, letter: str) -> None:
    if key not in KEYS:
        raise Refused(f"there is no question {key!r}; expected one of {', '.join(KEYS)}")
    if letter not in (*LETTERS, UNKNOWN):
        raise Refused(
            f"the answer to {key!r} is {letter!r}; expected one of {', '.join(LETTERS)} or"
            f" {UNKNOWN!r} (I do not know)"
        )


def load(path: str | Path, nickname: str = "") -> tuple[Answers, str]:
    """One's own answers, and a sentence if something was wrong. Without a file they are empty; a
    damaged file is set aside under another name, never written over. Raises OtherVersion.
    """
    path = Path(path)
    try:
        return read(path), ""
    except FileNotFoundError:
        return Answers(secrets.token_hex(4), nickname), ""
    except OtherVersion:
        raise
    except BadAnswers as error:
        aside = _aside(path)
        os.replace(path, aside)
        said = f"{error}. It is kept as {aside.name}, and the answers begin anew."
        return Answers(secrets.token_hex(4), nickname), said


def _aside(path: Path) -> Path:
    """A name that is free. It does not end in .json: nobody takes it for answers."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def keep(path: str | Path, part: str, key: str, letter: str, nickname: str = "") -> Answers:
    """Write one answer down beside all that are in the file: what another cell has written
    meanwhile stays. Returns what is there now.

    Raises Refused for an unknown part, question or answer, for a part that is closed (`before` once
    `after` has begun, both once the right answers have been shown), and OSError, and then the file
    is as it was; BadAnswers as `load` says it where the file was damaged.
    """
    if part not in PARTS:
        raise Refused(f"part is {part!r}; expected 'before' or 'after'")
    _check_answer(key, letter)
    now = _there(path, nickname)
    if why := closed(now, part):
        raise Refused(why)
    now = replace(now, **{part: {**getattr(now, part), key: letter}})
    write(path, now)
    return now


def _there(path: str | Path, nickname: str = "") -> Answers:
    """What the file has by now. Raises BadAnswers where it has been damaged meanwhile: it is set
    aside then, and whoever answers must hear of it.
    """
    now, said = load(path, nickname)
    if said:
        raise BadAnswers(said)
    return now


def closed(now: Answers, part: str) -> str:
    """Why this part's answers cannot be changed any more; "" if they can."""
    if now.finished:
        return "the right answers have been shown, so nothing is changed any more"
    if part == BEFORE and now.after:
        return "the questions after the course have been begun, so those before it are closed"
    return ""


def finish(path: str | Path) -> Answers:
    """Close both parts: the right answers may be shown now. Raises Refused while a question after
    the course has no answer.
    """
    now = _there(path)
    if missing := now.missing(AFTER):
        numbers = ", ".join(map(str, missing))
        raise Refused(f"these questions have no answer after the course yet: {numbers}")
    now = replace(now, finished=True)
    write(path, now)
    return now


def write(path: str | Path, answers: Answers) -> None:
    """The file is always whole. Raises OSError, and then it is what it was."""
    body = json.dumps(
        {
            "what": WHAT,
            "version": VERSION,
            "person": answers.person,
            "nickname": answers.nickname,
            BEFORE: dict(answers.before),
            AFTER: dict(answers.after),
            "finished": answers.finished,
        },
        indent=1,
        ensure_ascii=False,
    )
    write_whole(Path(path), f"{body}\n".encode())
