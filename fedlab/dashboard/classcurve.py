"""The curve of a live class: its own handwriting, each alone, MNIST."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import ipywidgets as widgets

from fedlab.classroom.curves import Curves
from fedlab.dashboard import lesson
from fedlab.dashboard.curve import SAVED, SIZE, lay_out
from fedlab.dashboard.drawing import drawing
from fedlab.history import History, RoundRecord
from fedlab.plots import CLIENTS, SOFT, picture, plot_history

BASELINE = "-."
"""How plots draws a baseline; here it is dashed."""


class ClassCurve(widgets.VBox):
    """png, csv, model: buttons, for the panel to place and to act on."""

    def __init__(self):
        self._plot, self._told = widgets.HTML(), widgets.HTML()
        self._plot.add_class("fl-plot")
        self._told.add_class("fl-told")
        self.png = widgets.Button(description="PNG", tooltip="Save the curve as a picture")
        self.csv = widgets.Button(description="CSV", tooltip="Save every round as a table")
        self.model = widgets.Button(
            description="Model", tooltip="Save the class's model, as a .safetensors file"
        )
        super().__init__([self._plot, self._told])
        self.add_class("fl-curve")
        self._drawn: object = None
        self._draw: Callable | None = None

    def show(self, curves: Curves, rounds: int, students: int) -> None:
        """Draw, where something is not as it was drawn last. rounds: how far the axis goes;
        students: how many are in the class.
        """
        key = repr((curves, rounds))
        if key != self._drawn:
            self._drawn = key
            self._draw = lambda ax: plot_class(curves, ax, rounds)
            words = lesson.curve_words(curves, rounds)
            self._plot.value = drawing(lambda ax: _here(curves, ax, rounds), *SIZE, label=words)
        self._told.value = told(curves, students)
        for button in (self.png, self.csv):
            button.disabled = len(curves.rounds) < 2

    def as_png(self) -> bytes:
        """What is drawn, as a picture on white."""
        return picture(self._draw, *SAVED)


def told(curves: Curves, students: int) -> str:
    """What the thick line is, below it."""
    measured = next((n for n in reversed(curves.students) if n), 0)
    by = f"; {measured} of {students} did" if measured else ""
    each = "each device measures its own, on digits that it never trains on"
    return f'<div class="fl-soft"><b>{lesson.OURS.capitalize()}</b>: {each}{by}.</div>'


def plot_class(curves: Curves, ax, rounds: int = 0) -> None:
    """Draw the class's model on the class's own handwriting (thick), models that learned from one
    student each (dashed), and the class's model on MNIST's test images (thin).
    """
    ours, alone, mnist = (_history(curves.rounds, line) for line in _lines(curves))
    names = lesson.OURS, lesson.ALONE, lesson.MNIST_TEST
    baselines = {names[1]: [alone]} if len(alone) else {}
    earlier = [(names[2], mnist)] if len(mnist) or not math.isnan(mnist.untrained) else []
    plot_history(
        ours, ax, label=names[0], earlier=earlier, baselines=baselines, rounds=rounds, whole=True
    )
    for line in ax.lines:  # not as runs and baselines of a panel are drawn
        if line.get_linestyle() == BASELINE:
            line.set(linestyle=(0, (4, 2)), color=CLIENTS[1])
        elif line.get_label() in (names[2], "_label") and line.get_color() == SOFT:
            line.set(linestyle="-", linewidth=1.3)
    ax.set_ylabel("read right, in %")


def _here(curves: Curves, ax, rounds: int) -> None:
    plot_class(curves, ax, rounds)
    lay_out(ax)


def _lines(curves: Curves) -> Sequence[list[float]]:
    return curves.ours, curves.alone, curves.mnist


def _history(rounds: Sequence[int], values: Sequence[float]) -> History:
    """A line as plots draw it: what nobody has measured is no point."""
    points = [(n, v) for n, v in zip(rounds, values, strict=True) if not math.isnan(v)]
    first = next((value for number, value in points if number == 0), math.nan)
    return History([RoundRecord(n, v) for n, v in points if n], first)
