"""The panel's own widgets: the picture of the round, and what a panel needs of the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anywidget
import traitlets

from fedlab.dashboard.scripts import PAGES, STATIC, module


class RoundPicture(anywidget.AnyWidget):
    """The server among its clients, and what travels between them. `scene`: as scene.scene makes
    it.
    """

    _esm = module(PAGES / "round.js", STATIC / "picture.js")
    _css = (PAGES / "round.css").read_text("utf-8")
    scene = traitlets.Dict().tag(sync=True)


class Stage(anywidget.AnyWidget):
    """The button for the whole screen; the key N, which calls `on_next`, and further keys (lower
    case letters; with any of them, P is the button for the whole screen); a name for every control;
    files to save.
    """

    _esm = module(STATIC / "stage.js")
    letters = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        on_next: Callable[[], None],
        keys: Mapping[str, Callable[[], None]] | None = None,
    ):
        self._called = {"next": on_next, **(keys or {})}
        super().__init__(letters=list(keys or {}))
        self.add_class("fl-stage")
        self.on_msg(lambda _, content, buffers: self._pressed(content))

    def _pressed(self, content) -> None:
        key = content.get("key") if isinstance(content, dict) else None
        if isinstance(key, str) and key in self._called:
            self._called[key]()

    def save(self, name: str, type: str, content: bytes) -> None:
        """Let the browser save a file: its name, its media type, its bytes."""
        self.send({"save": {"name": name, "type": type}}, [content])
