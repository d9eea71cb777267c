"""Histories, partitions and digits as pictures.

Every function draws on the matplotlib Axes it is given, or on a new figure, and returns the Axes.
Colours can be told apart by the colour-blind; lines differ by marker or dashes too.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.image
import matplotlib.style
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlab.data import Dataset
from fedlab.history import History

COLOURS = matplotlib.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
CLIENTS = [
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#8b2fe0",
    "#5e1408",
    "#738299",
    "#12127a",
    "#d63fc0",
    "#5c6b00",
    "#992636",
    "#2a5f58",
    "#a06ae0",
]
"""One colour a client; what a browser shows has the same from http/pages/colours.css."""
INK, SOFT, LINE, PAPER = "#1a1a1a", "#595959", "#d4d7dc", "#ffffff"
MARKERS = "osD^vPX*<>hp"
DASHES = [(0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1))]
CHANCE = 0.10
# What the x axis may be, and its name
AGAINST = {"round": "round", "bytes": "megabytes sent, both ways", "seconds": "seconds"}
MOST_SINGLE_LINES = (
    6  # with more clients than this, their mean and the worst one are drawn instead of each
)

FONT = 13  # points: to be read from the back row
LABEL = 26  # letters of a label at a line's end, in one row


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """This one, or that of a new figure of so many inches."""
    if ax is not None:
        return ax
    # only to show a figure of our own in whatever the user has chosen to show figures in
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    figure.set_facecolor(PAPER)  # not the page's own: names are dark in a dark theme too
    return ax


def plot_history(
    history: History,
    ax: Axes | None = None,
    *,
    label: str = "global model",
    earlier: Mapping[str, History] | Sequence[tuple[str, History]] = (),
    baselines: Mapping[str, Sequence[History]] | None = None,
    clients: bool = True,
    colours: Mapping[str, int] | None = None,
    target: float | None = None,
    rounds: int = 0,
    whole: bool = False,
    against: str = "round",
) -> Axes:
    """Test accuracy against rounds, or against what they cost. Every line has its name and its last
    value in % at its end; it begins at round 0 where `history.untrained` is known.

    history:   the run, drawn thick.
    earlier:   (label, history) of other runs: dashed, grey beside clients' lines, otherwise in
               colours.
    baselines: label -> histories of runs without federation; their mean is drawn, and the range
               between them shaded.
    clients:   also each client's own model, thin; with more than six clients their mean and the
               worst of them.
    colours:   client id -> its number in CLIENTS; by the order of their names if None.
    target:    an accuracy to mark, a fraction.
    rounds:    how far the axis goes at least.
    whole:     draw the accuracy axis from 0 to 100 %; otherwise it begins below the lowest point,
               and says so.
    against:   the x axis: "round", "bytes" or "seconds" (ValueError for others); clients and
               baselines are drawn for "round" only.
    """
    if against not in AGAINST:
        raise ValueError(f"against is {against!r}; expected one of {', '.join(map(repr, AGAINST))}")
    ax = axes_of(ax, 8, 5)
    single = clients and against == "round"
    runs = list(earlier.items() if isinstance(earlier, Mapping) else earlier)
    for number, (name, run) in enumerate(runs):
        colour = SOFT if single else CLIENTS[number % len(CLIENTS)]
        style = {"linestyle": DASHES[number % len(DASHES)], "linewidth": 1.8}
        _draw(ax, name, _points(run, against), color=colour, **style)
    if against == "round":
        for number, (name, several) in enumerate((baselines or {}).items()):
            _draw_baseline(ax, number, name, several)
    if single:
        _draw_clients(ax, history, colours)
    points = _points(history, against)
    style = {"linewidth": 3.5, "marker": "o" if len(points[0]) < 40 else "", "markersize": 7}
    _draw(ax, label, points, color=INK, zorder=5, **style)
    named = [line for line in ax.lines if len(line.get_xdata()) and line.get_label()[0] != "_"]
    lowest = min((float(np.min(line.get_ydata())) for line in named), default=0.0)
    if target is not None:
        ax.axhline(100 * target, color=SOFT, linewidth=1)
        where = {"transform": ax.get_yaxis_transform(), "va": "bottom", "color": SOFT}
        ax.text(0.01, 100 * target, f" {target:.0%}", fontsize=FONT - 2, **where)
    farthest = [math.ceil(np.max(line.get_xdata())) for line in named]
    longest = max([rounds * (against == "round"), 1, *farthest])
    floor = 0 if whole else _floor(lowest)
    _finish_accuracy(ax, longest, floor, math.isnan(history.untrained))
    _label_ends(ax, named)
    ax.set_xlabel(AGAINST[against], fontsize=FONT, color=INK)
    return ax


def _draw(ax: Axes, label: str, points: tuple[list[float], list[float]], **style) -> None:
    if points[0]:
        ax.plot(*points, label=label, **style)


def _points(history: History, against: str = "round") -> tuple[list[float], list[float]]:
    records = list(history)  # once: a run that goes on appends meanwhile
    costs = [
        record.bytes / 1e6 if against == "bytes" else getattr(record, against) for record in records
    ]
    spent = np.cumsum(costs) if against == "bytes" else costs
    tested = [
        (x, 100 * record.accuracy)
        for x, record in zip(spent, records, strict=True)
        if not math.isnan(record.accuracy)
    ]
    first = [] if math.isnan(history.untrained) else [(0, 100 * history.untrained)]
    return [x for x, _ in [*first, *tested]], [y for _, y in [*first, *tested]]


def _draw_clients(ax: Axes, history: History, colours: Mapping[str, int] | None) -> None:
    """Each client's own model: before the first round it is the global one."""
    records = list(history)
    names = sorted({name for record in records for name in record.clients})
    if colours is None:
        colours = {name: number for number, name in enumerate(names)}
    own = {
        name: {
            r.round: 100 * r.clients[name].accuracy
            for r in records
            if name in r.clients and not math.isnan(r.clients[name].accuracy)
        }
        for name in names
    }
    start = [] if math.isnan(history.untrained) else [(0, 100 * history.untrained)]

    def draw(label: str, values: Mapping[int, float], **style) -> None:
        if values:
            _draw(ax, label, tuple(zip(*[*start, *values.items()], strict=True)), **style)

    if len(names) <= MOST_SINGLE_LINES:
        style = {"markersize": 5, "linewidth": 1.5}
        for name, values in own.items():
            number = colours.get(name, 0)
            colour, marker = CLIENTS[number % len(CLIENTS)], MARKERS[number % len(MARKERS)]
            label = f"{name}'s own" if _wide(ax) else name
            label = f" {label}" if label.startswith("_") else label  # Matplotlib passes those over
            draw(label, values, color=colour, marker=marker, **style)
        return
    rounds = sorted({number for values in own.values() for number in values})
    there = {n: [values[n] for values in own.values() if n in values] for n in rounds}
    mean = {n: float(np.mean(values)) for n, values in there.items()}
    worst = {n: min(values) for n, values in there.items()}
    kinds = ("mean of the clients' own", "worst client's own")
    average, lowest = kinds if _wide(ax) else ("clients' mean", "clients' worst")
    draw(average, mean, color=SOFT, linewidth=1.6, linestyle="--")
    draw(lowest, worst, color=SOFT, linewidth=1.6, linestyle=":")


def _wide(ax: Axes) -> bool:
    """Whether there is room for more than a word at the end of a line."""
    return ax.get_window_extent().width > 400


def _draw_baseline(ax: Axes, number: int, name: str, runs: Sequence[History]) -> None:
    colour, dashes = ["#8a6d00", "#a3178a"][number % 2], ["-.", (0, (1, 1))][number % 2]
    curves = [dict(zip(*_points(run), strict=True)) for run in runs if len(run)]
    x = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not x:
        return
    values = np.array([[curve[number] for number in x] for curve in curves])
    ax.plot(x, values.mean(0), color=colour, linewidth=2.4, linestyle=dashes, label=name)
    if len(curves) > 1:
        ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def _floor(lowest: float) -> int:
    """Where the accuracy axis starts, in %: a multiple of 10 (of 2 near the top) below the lowest
    point; 0 if that is in the lower third.
    """
    step = 2 if lowest > 95 else 10
    floor = step * math.floor((lowest - 0.5) / step)
    return floor if floor > 30 else 0


def _finish_accuracy(ax: Axes, rounds: int, floor: int, from_one: bool) -> None:
    if floor == 0:
        ax.axhline(100 * CHANCE, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
    where = 100 * CHANCE + 1 if floor == 0 else floor + 0.02 * (100 - floor)
    text = (
        "guessing: 10 %"
        if floor == 0
        else f"this axis starts at {floor} %; guessing would be at 10 %"
        if _wide(ax)
        else f"from {floor} % on"
    )
    style = {"transform": ax.get_yaxis_transform(), "ha": "right", "fontsize": FONT - 2}
    ax.text(0.99, where, text, color=SOFT, **style)
    ax.set_xlim(0.5 if from_one and rounds == 1 else 0, rounds)
    ax.set_ylim(floor, 100)
    ax.set_ylabel("test accuracy in %", fontsize=FONT, color=INK)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.tick_params(labelsize=FONT - 1, colors=INK)
    ax.grid(color=LINE, linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(INK)


def _label_ends(ax: Axes, lines: Sequence) -> None:
    """Each line's name and last value right of the axes, as high as its end where there is room:
    nothing to look up, and nothing that is cut off.
    """
    if not lines:
        return
    least, most = ax.get_ylim()
    box = ax.get_window_extent()
    row = 1.5 * (FONT - 2) * ax.figure.dpi / 72 * (most - least) / max(box.height, 1)
    bend, middle_of, end, beside = (1 + pixels / max(box.width, 1) for pixels in (12, 22, 34, 42))
    ends = []
    for line in lines:
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        letters = LABEL if _wide(ax) else LABEL - 10
        text = textwrap.fill(f"{line.get_label()} {y:.1f}", letters)
        ends.append([float(y), x, text, line])
    ends.sort(key=lambda end: (-end[0], -end[3].get_linewidth()))
    heights = [row * (1 + text.count("\n")) for _, _, text, _ in ends]
    middles = _spread([end[0] for end in ends], heights, least, most)
    outside = ax.get_yaxis_transform()
    for (y, x, text, line), middle in zip(ends, middles, strict=True):
        style = {"color": line.get_color(), "linewidth": 1, "alpha": 0.6, "linestyle": ":"}
        ax.plot([x, ax.get_xlim()[1]], [y, y], label="_to the end", **style)
        look = {"color": line.get_color(), "clip_on": False, "transform": outside}
        dash = {"linestyle": line.get_linestyle(), "linewidth": min(line.get_linewidth(), 2.5)}
        ax.plot([1.0, bend, end], [y, middle, middle], label="_label", **dash, **look)
        marker = {"marker": line.get_marker(), "markersize": 6}
        ax.plot([middle_of], [middle], label="_label", **marker, **look)
        weight = "bold" if line.get_linewidth() > 3 else "normal"
        place = {"va": "center", "transform": outside, "linespacing": 1.1}
        ax.text(beside, middle, text, color=INK, fontsize=FONT - 2, fontweight=weight, **place)


def _spread(
    wanted: Sequence[float], heights: Sequence[float], least: float, most: float
) -> list[float]:
    """Middles as near to the `wanted` ones (highest first) as boxes of these heights allow that do
    not overlap; between `least` and `most` if there is room.
    """
    middles = []
    top = most + heights[0] / 2
    for want, height in zip(wanted, heights, strict=True):
        middles.append(min(want, top - height / 2))
        top = middles[-1] - height / 2
    bottom = least - heights[-1] / 2
    for i in reversed(range(len(middles))):
        middles[i] = max(middles[i], bottom + heights[i] / 2)
        bottom = middles[i] + heights[i] / 2
    return middles


def plot_partition(
    clients: Mapping[str, Dataset],
    ax: Axes | None = None,
    classes: int = 10,
    *,
    colours: Mapping[str, int] | None = None,
) -> Axes:
    """Which labels each client holds: a row of bars a client, a bar a label, all to one scale; at
    the row's end how many examples it has.

    colours: client id -> its number in CLIENTS; by their order here if None.
    """
    ax = axes_of(ax, 8, 0.55 * len(clients) + 1)
    names = list(clients)
    if colours is None:
        colours = {name: number for number, name in enumerate(names)}
    counts = {name: data.label_counts(classes) for name, data in clients.items()}
    tallest = max([1, *(int(several.max()) for several in counts.values())])
    for row, (name, several) in enumerate(counts.items()):
        bottom = len(names) - 1 - row
        colour = CLIENTS[colours.get(name, 0) % len(CLIENTS)]
        height = 0.84 * several / tallest
        ax.bar(range(classes), height, bottom=bottom, width=0.8, color=colour, label=name)
        ax.axhline(bottom, color=LINE, linewidth=0.8)
        place = {"va": "center", "fontsize": FONT - 2, "color": INK}
        ax.text(classes - 0.3, bottom + 0.4, f"{several.sum():,}", **place)
    ax.set_yticks([len(names) - 1 - row + 0.4 for row in range(len(names))], names)
    ax.set_xticks(range(classes))
    ax.set_xlim(-0.6, classes - 0.4)
    ax.set_ylim(0, max(len(names), 1))
    ax.set_xlabel(f"digit (the tallest bar: {tallest:,} images)", fontsize=FONT - 1, color=INK)
    ax.tick_params(labelsize=FONT - 2, colors=INK, length=0)
    ax.spines[:].set_visible(False)
    return ax


def plot_digits(data: Dataset, count: int = 10, ax: Axes | None = None) -> Axes:
    """The first `count` images of a data set in a row, with their labels."""
    ax = axes_of(ax, 0.9 * count, 1.3)
    x, y = data.take(np.arange(min(count, len(data))))
    ax.imshow(np.concatenate(list(x.reshape(len(x), 28, -1)), axis=1), cmap="gray_r")
    ax.set_xticks(14 + 28 * np.arange(len(x)), [str(label) for label in y], fontsize=FONT)
    ax.set_yticks([])
    return ax


def image_png(image: np.ndarray) -> bytes:
    """A PNG of grey values, (height, width) uint8, 255 as white."""
    file = io.BytesIO()
    matplotlib.image.imsave(file, image, cmap="gray", vmin=0, vmax=255, format="png")
    return file.getvalue()


def picture(draw, width: int, height: int) -> bytes:
    """A PNG of `width` x `height` pixels of what `draw(ax)` draws. Its own Figure, no pyplot: any
    thread may call this at any time.
    """
    # Twice the pixels, shown at half their size: sharp on a projector and on a laptop
    return saved(draw, width, height, format="png", dpi=200)


def saved(draw, width: int, height: int, **options) -> bytes:
    """As `picture`, with Matplotlib's options: format="svg"."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
