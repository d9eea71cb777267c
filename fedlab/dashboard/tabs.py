"""One thing at a time: a row of buttons, and below it what belongs to the one that was pressed.
ipywidgets' own folds cannot be reached by keyboard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ipywidgets as widgets


class Tabs(widgets.VBox):
    """Contents by title; the first one is shown. A second press of a title folds its content away.

    on_change: called with no argument when another is shown.
    """

    def __init__(self, contents: Mapping[str, widgets.Widget], on_change: Callable[[], None]):
        self._contents, self._on_change = dict(contents), on_change
        self._buttons = {title: widgets.Button(description=title) for title in contents}
        for title, button in self._buttons.items():
            button.add_class("fl-tab")
            button.on_click(lambda _, title=title: self._pressed(title))
        bar = widgets.HBox(list(self._buttons.values()))
        bar.add_class("fl-tabs")
        super().__init__([bar, *self._contents.values()])
        self.shown = ""
        self.show(next(iter(self._contents)))

    def _pressed(self, title: str) -> None:
        self.show("" if title == self.shown else title)

    def show(self, title: str) -> None:
        """Show this content; none for ""."""
        self.shown = title
        for name, content in self._contents.items():
            content.layout.display = None if name == title else "none"
            change = (
                self._buttons[name].add_class if name == title else self._buttons[name].remove_class
            )
            change("fl-on")
        self._on_change()
