"""What all panels do with their buttons: an error is shown where the button is."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets


class Buttons:
    """Makes a panel's buttons, and callbacks for others. The panel has `_show_error(error)`."""

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
