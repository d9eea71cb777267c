"""What was found of one thing, as a value and as words."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fedlab.checks import counted
from fedlab.lessons import CLONE, PROJECT

PIP = f"{Path(sys.executable).name} -m pip install"
INSTALL = f"`{PIP} --upgrade fedlab-notebooks`"
RESTORE = f"`{PIP} --force-reinstall --no-deps fedlab-notebooks`"
"""How all that fedlab needs is installed, and how MNIST is brought back."""
if CLONE:
    INSTALL = f"In {PROJECT}: `{PIP} -r requirements.txt`"
    RESTORE = f"In {PROJECT}: `git checkout -- data/mnist.npz`"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    kind:  for programs, such as "python". title: the same for people.
    state: "good"; "warning", where only some things will not work; "bad", where a lesson will not.
    found: a sentence. mend: what to do, a sentence; "" where there is nothing to do. Commands stand
           between backticks in both.
    """

    kind: str
    title: str
    state: str
    found: str
    mend: str = ""


def line(finding: Finding) -> str:
    """A finding in a terminal."""
    mark = {"good": "ok  ", "warning": "note", "bad": "BAD "}[finding.state]
    mend = f"\n      To mend it: {finding.mend}" if finding.mend else ""
    return f"{mark}  {finding.title}: {finding.found}{mend}"


def summary(found: list[Finding]) -> str:
    """What the findings come to, in a sentence."""
    bad = [finding.title for finding in found if finding.state == "bad"]
    notes = sum(finding.state == "warning" for finding in found)
    rest = f" {counted(notes, 'note')} above, on what only some lessons need." if notes else ""
    if bad:
        return f"To be mended before a lesson: {', '.join(bad)}.{rest}"
    return f"Everything that the first lessons need is here.{rest}"
