"""What all panels do: an error is shown in the panel, and it goes on; and where they have MNIST
from.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import ipywidgets as widgets

from fedlab.dashboard import views
from fedlab.data import Mnist, load_mnist

# What panels have that were given no images, weakly.
_shared: Callable[[], Mnist | None] = lambda: None  # noqa: E731


def images(mnist: Mnist | None) -> Mnist:
    """`mnist`, or, if None, `load_mnist()`: once for all panels, as ipywidgets keeps every panel
    that was ever made, and each would keep a copy of its own.
    """
    global _shared
    if mnist is None and (mnist := _shared()) is None:
        mnist = load_mnist()
        _shared = weakref.ref(mnist)
    return mnist


class Buttons:
    """Makes a panel's buttons, and callbacks for others. The panel has `_show_error(error)`; one
    that is brought up to date from a thread also `_refresh()`, `_header`, `_trouble` and `_wake`.
    """

    def _button(
        self,
        text: str,
        action: Callable[[], object],
        tooltip: str,
        style: str = "",
        icon: str = "",
    ) -> widgets.Button:
        button = widgets.Button(description=text, button_style=style, tooltip=tooltip, icon=icon)
        button.on_click(self._guard(action))
        return button

    def _guard(self, action: Callable[[], object]) -> Callable:
        """A callback that shows its error in the panel: otherwise it goes to a log that nobody
        reads.
        """

        def guarded(_) -> None:
            try:
                action()
            except Exception as error:
                self._show_error(error)

        return guarded

    def _refresh_or_say(self) -> None:
        """A picture that cannot be drawn, whatever the reason, must not end a run or a lesson: the
        panel says so and goes on.
        """
        try:
            self._refresh()
        except Exception as error:
            self._show_error(error)
            self._wake.clear()  # it is tried again soon, and not at once
            self._header.value = views.header(
                "trouble", True, views.message(self._trouble, error=True), "–", ""
            )
