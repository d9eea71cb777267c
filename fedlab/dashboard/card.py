"""One client's card: its name, its shards, what it is doing now."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from fedlab.dashboard import views
from fedlab.data import NUM_SHARDS, SHARD_SIZE, DataError, shard_range

NAMES = [
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "karl",
    "lena",
]


class ClientCard(widgets.VBox):
    """A client's name, shards (a slider and a number box for each end), images, state and progress.

    on_change: called with no argument when the name or the range changes; on_remove: with this
               card, when its remove button is pressed.
    """

    def __init__(
        self,
        number: int,
        name: str,
        first: int,
        last: int,
        on_change: Callable[[], None],
        on_remove: Callable,
    ):
        self._on_change = on_change
        self.dot = widgets.HTML(views.dot(number))
        self.name = widgets.Text(
            name,
            description="Client",
            continuous_update=False,
            layout=_width(176),
            style={"description_width": "48px"},
        )
        self.remove = widgets.Button(
            description="Remove", tooltip=f"Remove {name}", layout=_width(86)
        )
        self.slider = widgets.IntRangeSlider(
            value=(first, last),
            min=1,
            max=NUM_SHARDS,
            description="Shards",
            readout=False,
            layout=_width(288),
            style={"description_width": "52px"},
        )
        box = {
            "layout": _width(84),
            "style": {"description_width": "34px"},
            "continuous_update": False,
        }
        self.first = widgets.IntText(first, description="first", **box)
        self.last = widgets.IntText(last, description="last", **box)
        self.images = widgets.HTML(layout=_width(108))
        self.images.add_class("fl-images")
        # Two lines, so that nothing below jumps
        self.state = widgets.HTML(layout=widgets.Layout(min_height="44px"))
        self.progress = widgets.IntProgress(
            0, 0, 100, layout=widgets.Layout(width="288px", height="14px")
        )
        super().__init__(
            [
                widgets.HBox([self.dot, self.name, self.remove]),
                self.slider,
                widgets.HBox([self.first, self.last, self.images]),
                self.state,
                self.progress,
            ],
            layout=_width(310),
        )
        self.add_class("fl-card")
        self._follows = False  # one end of slider and boxes is being set from the other
        self.slider.observe(self._slid, "value")
        self.first.observe(self._typed, "value")
        self.last.observe(self._typed, "value")
        self.name.observe(self._renamed, "value")
        self.remove.on_click(lambda _: on_remove(self))
        self.mistake = ""
        self._show_range()

    @property
    def shards(self) -> tuple[int, int]:
        """The range in the number boxes, right or wrong."""
        return self.first.value, self.last.value

    def _slid(self, change) -> None:
        if not self._follows:
            self._follows = True
            self.first.value, self.last.value = change["new"]
            self._follows = False
            self._show_range()

    def _typed(self, _) -> None:
        if self._follows:
            return
        try:
            shards = shard_range(*self.shards)
        except DataError:
            pass  # _show_range says so; the slider stays where it is
        else:
            self._follows = True
            self.slider.value = shards
            self._follows = False
        self._show_range()

    def _renamed(self, change) -> None:
        self.remove.tooltip = f"Remove {change['new']}"
        self._on_change()

    def _show_range(self) -> None:
        try:
            first, last = shard_range(*self.shards)
            self.mistake = ""
            self.images.value = f"{(last - first + 1) * SHARD_SIZE:,} images"
        except DataError as error:
            self.mistake = str(error)
            self.images.value = "–"
        self._on_change()

    def show(self, status, number: int) -> None:
        """What the client is doing (a ClientStatus, or None before its first run)."""
        self.dot.value = views.dot(number)
        if self.mistake:
            self.state.value = views.message(self.mistake, error=True)
        elif status is None:
            self.state.value = "ready"
        else:
            self.state.value = views.client_state(status)
        if status is not None and status.rounds:
            part = (
                (status.epoch - 1) / status.epochs
                if status.phase == "training" and status.epochs
                else 1.0
            )
            self.progress.value = int(100 * max(status.round - 1 + part, 0) / status.rounds)
        else:
            self.progress.value = 0

    def set_disabled(self, disabled: bool, removable: bool) -> None:
        """Grey during a run: what is set here applies to the next one."""
        for control in (self.name, self.slider, self.first, self.last):
            control.disabled = disabled
        self.remove.disabled = disabled or not removable


def _width(pixels: int) -> widgets.Layout:
    return widgets.Layout(width=f"{pixels}px")
