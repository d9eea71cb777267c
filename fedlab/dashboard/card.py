"""One client's card: a line with its name and its shards, a slider, and a fold for the rest."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

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
    """A client's name and shards: a slider, and a number box for each end.

    colour:    its number in plots.CLIENTS, for as long as the card is there.
    on_change: called with no argument when the name or the range changes; on_remove: with this
               card, when its remove button is pressed.
    """

    def __init__(
        self,
        colour: int,
        name: str,
        first: int,
        last: int,
        on_change: Callable[[], None],
        on_remove: Callable,
    ):
        self.colour, self._on_change = colour, on_change
        self.mistake = ""
        self._follows = False  # one end of slider and boxes is being set from the other
        self.line = widgets.HTML()
        self.edit = widgets.Button(description="Edit")
        self.edit.add_class("fl-fold")
        self.slider = widgets.IntRangeSlider(
            value=(first, last), min=1, max=NUM_SHARDS, readout=False
        )
        self.name = widgets.Text(name, description="name", continuous_update=False)
        self.first = widgets.IntText(first, description="first shard", continuous_update=False)
        self.last = widgets.IntText(last, description="last shard", continuous_update=False)
        self.remove = widgets.Button(description="Remove")
        self.trouble = widgets.HTML()
        self.fold = widgets.HBox([self.name, self.first, self.last, self.remove])
        self.fold.add_class("fl-card-fold")
        head = widgets.HBox([self.line, self.edit])
        head.add_class("fl-card-head")
        super().__init__([head, self.slider, self.fold, self.trouble])
        self.add_class("fl-card")
        self.add_class(f"fl-colour-{colour}")
        self.unfold(False)
        self.edit.on_click(lambda _: self.unfold(self.fold.layout.display == "none"))
        self.slider.observe(self._slid, "value")
        self.first.observe(self._typed, "value")
        self.last.observe(self._typed, "value")
        self.name.observe(lambda _: self._show_range(), "value")
        self.remove.on_click(lambda _: on_remove(self))
        self._show_range()

    @property
    def client(self) -> str:
        """The client's id."""
        return self.name.value.strip()

    @property
    def shards(self) -> tuple[int, int]:
        """The range in the number boxes, right or wrong."""
        return self.first.value, self.last.value

    @property
    def num_examples(self) -> int:
        """Its images; 0 for a range that cannot be."""
        return 0 if self.mistake else (self.last.value - self.first.value + 1) * SHARD_SIZE

    def unfold(self, unfold: bool) -> None:
        """Show the name, the number boxes and Remove, or hide them."""
        self.fold.layout.display = None if unfold else "none"
        (self.edit.add_class if unfold else self.edit.remove_class)("fl-on")

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

    def _show_range(self) -> None:
        try:
            first, last = shard_range(*self.shards)
            self.mistake = ""
            which = f"shard {first}" if first == last else f"shards {first}–{last}"
            said = f"{which} · {self.num_examples:,}"
        except DataError as error:
            self.mistake = str(error)
            said = "–"
            self.unfold(True)  # what is to be mended is there
        name = f'<span class="fl-card-name">{escape(self.client)}</span>'
        self.line.value = name + f' <span class="fl-soft">{said}</span>'
        self.trouble.value = views.message(self.mistake, error=True)
        self._on_change()

    def show(self, failure: str) -> None:
        """Why this client failed, if it did."""
        self.trouble.value = views.message(self.mistake or failure, error=True)

    def close(self) -> None:
        """Forget the card with all that is in it: ipywidgets would keep it."""
        for part in (*self.children[0].children, *self.fold.children, *self.children):
            part.close()
        super().close()

    def set_disabled(self, disabled: bool, removable: bool) -> None:
        """Grey during a run: what is set here applies to the next one."""
        for control in (self.name, self.slider, self.first, self.last):
            control.disabled = disabled
        self.remove.disabled = disabled or not removable
