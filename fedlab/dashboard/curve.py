"""The curve of a panel, and what is about it: looking back, comparing, saving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as widgets

from fedlab.dashboard import views
from fedlab.dashboard.drawing import drawing
from fedlab.history import History
from fedlab.plots import picture, plot_history

SIZE = (430, 280)  # pixels of the drawing, which is enlarged with its room
SAVED = (1000, 600)  # pixels of the saved picture
LETTER = 8.8  # pixels of a letter in it
MOST_TOLD = 3  # earlier runs that are told in words below the curve


class Curve(widgets.VBox):
    """on_change: called with no argument when what is to be seen changes. alone, pooled, png, csv:
    buttons, for the panel to act on.
    """

    def __init__(self, on_change: Callable[[], None]):
        self._plot = widgets.HTML()
        self._plot.add_class("fl-plot")
        self._told = widgets.HTML()
        self.replay = widgets.IntSlider(
            0, 0, 1, description="Look back at round", style={"description_width": "auto"}
        )
        self.replay.add_class("fl-replay")
        self.alone = _button("alone", "Compare with: every client trains on its own images only")
        self.pooled = _button("together", "Compare with: one model trains on all the images")
        self.zoom = widgets.ToggleButton(False, description="zoom", tooltip="Only the upper part")
        self.zoom.add_class("fl-switch")
        self.png = _button("PNG", "Save the curve as a picture")
        self.csv = _button("CSV", "Save every round as a table")
        for control in (self.replay, self.zoom):
            control.observe(lambda _: on_change(), "value")
        compare = widgets.HTML("compare:")
        small = [compare, self.alone, self.pooled, self.zoom, self.png, self.csv]
        row = widgets.HBox(small)
        row.add_class("fl-small")
        super().__init__([self._plot, self._told, self.replay, row])
        self.add_class("fl-curve")
        self._drawn: object = None
        self._draw: Callable | None = None
        self._last = 0

    @property
    def looking_back(self) -> int | None:
        """The round that is looked back at; None for the present."""
        return None if self.replay.value >= self._last else self.replay.value

    def follow(self, rounds: int) -> None:
        """There are so many rounds now: who looked at the last one looks at the new last one."""
        at_the_end = self.looking_back is None or rounds < self._last
        self._last = rounds
        self.replay.disabled = not rounds
        self.replay.max = max(rounds, 1)
        if at_the_end:
            self.replay.value = rounds

    def show(
        self,
        history: History,
        *,
        whole: History,
        earlier: Sequence[tuple[str, History]],
        baselines: Mapping[str, Sequence[History]],
        special: str,
        rounds: int,
        colours: Mapping[str, int],
    ) -> None:
        """Draw, where something is not as it was drawn last. history: up to the round that is
        looked at, of the `whole` one. special: what the baselines have that this run has not.
        """
        grown = tuple((kind, *map(len, runs)) for kind, runs in baselines.items())
        seen = tuple(colours.items()), self.zoom.value, rounds, grown, special
        key = id(whole), len(history), tuple(label for label, _ in earlier), *seen
        if key == self._drawn:
            return
        self._drawn = key
        one = len(earlier) == 1
        short = [("before" if one else f"run {chr(65 + i)}", r) for i, (_, r) in enumerate(earlier)]
        if self.zoom.value:  # without the beginning, whose 10 % would leave the rest no room
            history = History(list(history))
            short = [(label, History(list(run))) for label, run in short]
        baselines = {kind: runs for kind, runs in baselines.items() if any(map(len, runs))}

        def draw(ax, others=short, without=baselines, **more) -> None:
            plot_history(
                history,
                ax,
                earlier=others,
                baselines=without,
                rounds=rounds,
                whole=not self.zoom.value,
                colours=dict(colours),
                **more,
            )

        def draw_here(ax) -> None:
            draw(ax, label="global")
            lay_out(ax)

        words = views.summary(history, rounds, [label for label, _ in earlier])
        named = {f"{kind}, {special}" if special else kind: b for kind, b in baselines.items()}
        self._draw = lambda ax: draw(ax, others=list(earlier), without=named)
        self._plot.value = drawing(draw_here, *SIZE, label=words)
        names = [
            f"<b>{name}</b>: {escape(label)}"
            for (name, _), (label, _) in zip(short, earlier, strict=True)
        ]
        more = f"; and {len(names) - MOST_TOLD} before" if len(names) > MOST_TOLD else ""
        compared = [f"<b>{kind}</b>: {escape(special)}" for kind in baselines if special]
        self._told.value = "; ".join([*compared, *names[-MOST_TOLD:]]) + more

    def as_png(self) -> bytes:
        """What is drawn, as a picture on white."""
        return picture(self._draw, *SAVED)


def lay_out(ax) -> None:
    """Room for the names right of the axes, reckoned: to have Matplotlib measure everything would
    take longer than the drawing, every round.
    """
    names = [text.get_text() for text in ax.texts if text.get_position()[0] > 1]
    letters = max((len(row) for name in names for row in name.split("\n")), default=0)
    right = 10 + (LETTER * letters + 44 if letters else 0)
    ax.figure.set_layout_engine(None)
    width, height = SIZE
    ax.figure.subplots_adjust(
        left=72 / width, bottom=54 / height, right=1 - right / width, top=1 - 12 / height
    )


def _button(text: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=text, tooltip=tooltip)
