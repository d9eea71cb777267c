"""Who was at work when, as a picture: a row a client, a bar a task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from fedlab.checks import Refused
from fedlab.history import History, TaskRecord
from fedlab.plots import FONT, INK, LINE, PAPER, SOFT, axes_of

STALENESS = LinearSegmentedColormap.from_list(
    "staleness", ["#8fd744", "#35b779", "#21918c", "#31688e", "#443983", "#3b0a4f"]
)
"""Fresh is light, stale is dark, each step darker than the one before: viridis, the other way
round, without its palest end."""
LATE, STROKE = "#e9ebee", "#8a9099"

UNITS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
STEPS = {  # between two numbers of an axis, in its unit: what a clock or a calendar has
    "seconds": (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600),
    "minutes": (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1_440),
    "hours": (0.5, 1, 2, 3, 6, 12, 24, 48, 72, 168),
    "days": (0.25, 0.5, 1, 2, 7, 14, 28),
}
MOST_ROWS = 20

NEW_MODEL = {"marker": "|", "markersize": 9, "markeredgewidth": 1.3, "linestyle": "", "color": INK}
NO_MODEL = {**NEW_MODEL, "marker": "x", "markersize": 6, "markeredgewidth": 1.8}


def plot_timeline(
    history: History,
    ax: Axes | None = None,
    *,
    clients: Sequence[str] | None = None,
    unit: str = "seconds",
    until: float | None = None,
    most_stale: int | None = None,
) -> Axes:
    """A row a client, a bar a task, from the moment it was fetched to the moment its update came.

    A bar's colour is its update's staleness; hatched grey is a task whose update was not taken,
    because it was too late or its client left. A tick at the top is a new model; a cross a round
    without updates.

    history:    a run with `history.tasks`.
    clients:    whose rows, from the top; those that take longest first if None, and of more than
                20 the ten slowest and ten of the others.
    unit:       what the time axis counts: "seconds", "minutes", "hours" or "days". Its data stay
                seconds, so `plot_history(against="seconds")` can share it.
    until:      draw the first so many seconds only.
    most_stale: where the scale of colours ends; the largest staleness of this run if None.

    Returns the Axes. Raises Refused for a history without tasks, a client that has none, or a unit
    that is none.
    """
    if not history.tasks:
        raise Refused(
            "this history says of nobody when it was at work; expected the history of a run of this"
            " session, with at least one task: a file keeps none"
        )
    of_client: dict[str, list[TaskRecord]] = {}
    for task in history.tasks:
        of_client.setdefault(task.client, []).append(task)
    rows = _chosen(of_client) if clients is None else list(clients)
    if strange := [name for name in rows if name not in of_client]:
        raise Refused(
            f"{', '.join(map(repr, strange[:3]))} had no task in this run; expected names out of"
            f" {', '.join(sorted(of_client)[:5])}{', ...' if len(of_client) > 5 else ''}"
        )
    if not rows:
        raise Refused("clients is empty; expected at least one name, or None")
    _check(unit)
    ax = axes_of(ax, 10, 1.6 + 0.34 * len(rows))
    stalest = max(task.staleness for task in history.tasks)
    norm = _scale(max(stalest if most_stale is None else most_stale, 1))
    for row, name in enumerate(rows):
        _draw_row(ax, row, of_client[name], norm)
    last = max(task.ended for task in history.tasks)
    last = max([last, *(record.seconds for record in history)])
    ax.set_xlim(0, until or last)
    _finish(ax, rows, len(of_client))
    _mark_models(ax, history, until or last)
    _explain(ax, history, norm if stalest else None)
    return time_axis(ax, unit)


def time_axis(ax: Axes, unit: str = "hours") -> Axes:
    """Write the numbers of an x axis that counts seconds in another unit: "seconds", "minutes",
    "hours" or "days". Returns the Axes. Raises Refused for another unit.
    """
    _check(unit)
    ax.xaxis.set_major_locator(_Times(unit))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / UNITS[unit]:,.6g}"))
    ax.set_xlabel(unit, fontsize=FONT, color=INK)
    return ax


class _Times(MaxNLocator):
    """As many numbers as have room, in steps that people count time in."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        """The places of the numbers, in seconds."""
        second = UNITS[self._unit]
        inches = self.axis.axes.get_window_extent().width / self.axis.axes.figure.dpi
        most = max(1.5 * inches, 2)
        wide = (vmax - vmin) / second
        step = next((step for step in STEPS[self._unit] if wide / step <= most), None)
        if step is None:  # longer than any of those steps
            return super().tick_values(vmin, vmax)
        first, last = np.ceil(vmin / second / step), np.floor(vmax / second / step + 1e-9)
        return np.arange(first, last + 1) * step * second


def _check(unit: str) -> None:
    if unit not in UNITS:
        raise Refused(f"unit is {unit!r}; expected one of {', '.join(map(repr, UNITS))}")


def _chosen(of_client: dict[str, list[TaskRecord]]) -> list[str]:
    """All, slowest first; of very many the slowest, and as many of those that are left."""
    takes = {  # who left early was not fast
        name: max(task.ended - task.began for task in tasks) for name, tasks in of_client.items()
    }
    slowest = sorted(of_client, key=lambda name: (-round(takes[name], 6), name))
    if len(slowest) <= MOST_ROWS:
        return slowest
    first, rest = slowest[: MOST_ROWS // 2], slowest[MOST_ROWS // 2 :]
    places = np.linspace(0, len(rest) - 1, MOST_ROWS // 2).round().astype(int)
    return first + [rest[place] for place in places]


def _scale(most: int) -> FuncNorm:
    """Staleness to colours: from 1 to 2 is as far as from 3 to 5."""
    return FuncNorm((np.log1p, np.expm1), vmin=0, vmax=most)


def _draw_row(ax: Axes, row: int, tasks: Sequence[TaskRecord], norm: FuncNorm) -> None:
    where = (row - 0.39, 0.78)
    taken = [task for task in tasks if task.taken]
    if taken:
        bars = [(task.began, task.ended - task.began) for task in taken]
        colours = [STALENESS(norm(task.staleness)) for task in taken]
        ax.broken_barh(bars, where, facecolors=colours, edgecolors=PAPER, linewidth=0.8, zorder=3)
    if late := [(task.began, task.ended - task.began) for task in tasks if not task.taken]:
        look = {"facecolors": LATE, "edgecolors": STROKE, "hatch": "////", "linewidth": 0.8}
        ax.broken_barh(late, where, zorder=2, **look)


def _finish(ax: Axes, rows: Sequence[str], everyone: int) -> None:
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), [str(name) for name in rows])
    ax.hlines(range(len(rows)), *ax.get_xlim(), color=LINE, linewidth=0.8, zorder=1)
    ax.tick_params(labelsize=FONT - 2, colors=INK)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines[:].set_color(INK)
    if len(rows) < everyone:
        ax.set_ylabel(f"{len(rows)} of {everyone} clients", fontsize=FONT - 1, color=SOFT)


def _above(ax: Axes, across: Transform, points: float) -> Transform:
    """`across`, so many points higher: whatever size the layout gives the Axes."""
    return across + ScaledTranslation(0, points / 72, ax.figure.dpi_scale_trans)


def _mark_models(ax: Axes, history: History, until: float) -> None:
    """Ticks in a line of their own, just above the rows."""
    where = {"transform": _above(ax, ax.get_xaxis_transform(), 6), "clip_on": False}
    records = [record for record in history if record.seconds <= until]
    new = [record.seconds for record in records if record.clients]
    none = [record.seconds for record in records if not record.clients]
    for times, look in ((new, NEW_MODEL), (none, NO_MODEL)):
        if times:
            ax.plot(times, [1] * len(times), label="_models", zorder=4, **look, **where)


def _explain(ax: Axes, history: History, norm: FuncNorm | None) -> None:
    """What colours and marks mean, above everything, beside the small scale of staleness."""
    marks = []
    if any(record.clients for record in history):
        marks.append(Line2D([], [], label="new model", **NEW_MODEL))
    if any(not record.clients for record in history):
        marks.append(Line2D([], [], label="round without updates", **NO_MODEL))
    if norm is None and any(task.taken for task in history.tasks):
        marks.append(Patch(facecolor=STALENESS(0.0), edgecolor=PAPER, label="taken"))
    if any(not task.taken for task in history.tasks):
        late = {"facecolor": LATE, "edgecolor": STROKE, "hatch": "////"}
        marks.append(Patch(**late, label="too late, or left"))
    place = {"bbox_transform": _above(ax, ax.transAxes, 16), "frameon": False}
    corner = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4, "borderaxespad": 0}
    tight = {"handletextpad": 0.4, "columnspacing": 1.2, "handlelength": 1.2}
    ax.legend(handles=marks, fontsize=FONT - 2, labelcolor=INK, **place, **corner, **tight)
    if norm is not None:
        # Beside one mark there is room for it; more marks, or narrow Axes: above them
        beside = len(marks) < 2 and ax.get_window_extent().width > 4.5 * ax.figure.dpi
        place["bbox_transform"] = _above(ax, ax.transAxes, 16 if beside else 38)
        corner = {"loc": "lower right", "bbox_to_anchor": (1, 1), "pad": 0, "borderpad": 0}
        ax.add_artist(AnchoredOffsetbox(child=_colour_scale(norm), **place, **corner))


def _colour_scale(norm: FuncNorm, width: int = 150, height: int = 10) -> HPacker:
    """The colours of staleness with some of its numbers; sizes in points."""
    scale = DrawingArea(width, height + 13)
    for part in range(width):
        colour = STALENESS((part + 0.5) / width)
        scale.add_artist(Rectangle((part, 0), 1.3, height, facecolor=colour, linewidth=0))
    stops = [stop for stop in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if stop <= norm.vmax]
    for stop in stops:
        where = {"ha": "center", "va": "bottom", "fontsize": FONT - 3, "color": INK}
        scale.add_artist(Text(width * float(norm(stop)), height + 1, str(stop), **where))
    words = TextArea("staleness", textprops={"fontsize": FONT - 2, "color": INK})
    return HPacker(children=[words, scale], align="bottom", pad=0, sep=8)
