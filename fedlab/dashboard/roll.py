"""The roll: who is in the class and what each does, and what a teacher does about it."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import traitlets

from fedlab.dashboard.scripts import PAGES, STATIC, module

APPROVE, RENAME, REMOVE, BAN = ACTS = "approve", "rename", "remove", "ban"
"""What the roll's buttons ask for."""


class Roll(anywidget.AnyWidget):
    """students: a dict for each, as `lesson.rows` makes them; summary: all of them in a line;
    removed: who had to go, in words.

    on_act: called with what a button asks for (one of ACTS), the client's id ("" for everybody) and
    a name (of `rename`).

    A name that somebody wishes for is in sight only where the teacher has asked for it.
    """

    _esm = module(PAGES / "round.js", STATIC / "roll.js")
    students = traitlets.List(traitlets.Dict()).tag(sync=True)
    summary = traitlets.Unicode().tag(sync=True)
    removed = traitlets.Unicode().tag(sync=True)

    def __init__(self, on_act: Callable[[str, str, str], None]):
        super().__init__()
        self.add_class("fl-roll")
        self._on_act = on_act
        self.on_msg(lambda _, content, buffers: self._act(content))

    def _act(self, content) -> None:
        if not isinstance(content, dict):
            return
        act, client, name = (content.get(key, "") for key in ("do", "client", "name"))
        if act in ACTS and isinstance(client, str) and isinstance(name, str):
            self._on_act(act, client, name)
