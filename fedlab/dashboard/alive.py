"""A table that fills row by row below a cell, and a widget that tells whether this front end draws
widgets at all: the browser answers as soon as it has drawn one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from html import escape

import anywidget
import traitlets
from IPython.display import display

from fedlab.dashboard.scripts import STATIC

MARKS = {"good": ("✓", "good"), "warning": ("!", "to know"), "bad": ("✗", "to mend")}
"""A state as a sign and as a word: never by its colour alone."""


class Alive(anywidget.AnyWidget):
    """One line that says that it is a widget. `on_answer` is called when a browser has drawn it;
    `said` is what a screen reader reads aloud.
    """

    _esm = (STATIC / "alive.js").read_text("utf-8")
    _css = (STATIC / "alive.css").read_text("utf-8")
    said = traitlets.Unicode().tag(sync=True)

    def __init__(self, on_answer: Callable[[], None]):
        super().__init__()
        self.on_msg(lambda _, content, buffers: on_answer() if content == {"drawn": True} else None)

    def __repr__(self) -> str:
        """What a front end without widgets shows in its place."""
        return "(Here a widget would say that widgets are alive.)"


class Shown:
    """Findings, shown below the cell that makes this.

    silent, alive: the row about widgets, before and after the browser has answered. summary: what
    the findings come to. A finding has a title, a state ("good", "warning", "bad"), what was found
    and how to mend it, with commands between backticks.
    """

    def __init__(self, silent, alive, summary: Callable[[list], str]):
        self._rows, self._silent, self._alive, self._summary = [], silent, alive, summary
        self._answered, self._now = False, "all of it"
        self._lock = threading.Lock()  # the answer may come on another thread than the cell's
        self._widget = Alive(self._answer)
        self._place = display(self._bundle(), raw=True, display_id=True)
        display(self._widget)

    def begin(self, what: str) -> None:
        """What is looked at now."""
        self._set(what)

    def add(self, finding) -> None:
        """A row more."""
        self._rows.append(finding)

    def end(self, said: str = "") -> None:
        """Nothing more comes, but the browser's answer. `said`: the last line, in place of the
        summary.
        """
        if said:
            self._summary = lambda found: said
        self._set("")

    def _answer(self) -> None:
        self._answered = True
        self._set(self._now)

    def _set(self, now: str) -> None:
        with self._lock:
            self._now = now
            self._place.update(self._bundle(), raw=True)
            self._widget.said = f"Looking at {now}" if now else self._summary(self._findings())

    def _findings(self) -> list:
        if self._answered:
            return [*self._rows, self._alive]
        return self._rows if self._now else [*self._rows, self._silent]

    def _bundle(self) -> dict[str, str]:
        """The table as HTML, and as text for what shows none."""
        found = self._findings()
        end = f"Looking at {self._now} ..." if self._now else self._summary(found)
        rows = "".join(map(_row, found))
        style = (STATIC / "alive.css").read_text("utf-8")
        html = (
            f'<style>{style}</style><div class="fl-check"><table><tbody>{rows}</tbody></table>'
            f"<p>{escape(end)}</p></div>"
        )
        text = [f"{MARKS[f.state][0]} {f.title}: {f.found} {f.mend}".rstrip() for f in found]
        return {"text/html": html, "text/plain": "\n".join([*text, end])}


def _row(finding) -> str:
    sign, word = MARKS[finding.state]
    mend = f'<div class="fl-mend"><b>How to mend it:</b> {_text(finding.mend)}</div>'
    return (
        f'<tr class="fl-{finding.state}"><td><span aria-hidden="true">{sign}</span> {word}</td>'
        f'<th scope="row">{escape(finding.title)}</th>'
        f"<td>{_text(finding.found)}{mend if finding.mend else ''}</td></tr>"
    )


def _text(sentence: str) -> str:
    """A sentence as HTML, with its commands as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))
