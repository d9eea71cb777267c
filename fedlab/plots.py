"""Histories, partitions and digits as pictures.

Every function draws on the matplotlib Axes it is given, or on a new figure, and returns the Axes.
Colours are matplotlib's `petroff10`, which the colour-blind can tell apart; lines differ by marker
or dashes too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib.style
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlab.data import Dataset
from fedlab.history import History

COLOURS = matplotlib.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
MARKERS = "osD^vPX*<>hp"
DASHES = [(0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1))]
GREY = "0.45"
CHANCE = 0.10
# What the x axis may be, and its name
AGAINST = {"round": "round", "bytes": "megabytes sent, both ways", "seconds": "seconds"}
MOST_SINGLE_LINES = (
    6  # with more clients than this, their mean and the worst one are drawn instead of each
)

FONT = 13  # points: to be read from the back row


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    # only to show a figure of our own in whatever the user has chosen to show figures in
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def plot_history(
    history: History,
    ax: Axes | None = None,
    *,
    label: str = "global model",
    earlier: Mapping[str, History] | Sequence[tuple[str, History]] = (),
    baselines: Mapping[str, Sequence[History]] | None = None,
    clients: bool = True,
    target: float | None = None,
    rounds: int = 0,
    whole: bool = False,
    against: str = "round",
) -> Axes:
    """Test accuracy against rounds, or against what they cost.

    history:   the run, drawn thick.
    earlier:   (label, history) of other runs, drawn faint.
    baselines: label -> histories of runs without federation; their mean is drawn, and the range
               between them shaded.
    clients:   also each client's own model, thin; with more than six clients their mean and the
               worst of them.
    target:    an accuracy to mark, a fraction.
    rounds:    how far the axis goes at least.
    whole:     draw the accuracy axis from 0 to 100 %; otherwise it begins below the lowest point,
               and says so.
    against:   the x axis: "round", "bytes" or "seconds" (ValueError for others); clients and
               baselines are drawn for "round" only.
    """
    if against not in AGAINST:
        raise ValueError(f"against is {against!r}; expected one of {', '.join(map(repr, AGAINST))}")
    ax = _axes(ax, 8, 5)
    for number, (name, run) in enumerate(
        earlier.items() if isinstance(earlier, Mapping) else earlier
    ):
        points = _points(run, against)
        ax.plot(
            *points,
            color=str(0.35 + 0.12 * (number % 4)),
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.8,
            alpha=0.8,
            label=name,
        )
    if against == "round":
        for number, (name, runs) in enumerate((baselines or {}).items()):
            _draw_baseline(ax, number, name, runs)
        if clients and len(history):
            _draw_clients(ax, history)
    x, y = _points(history, against)
    if x:
        ax.plot(
            x,
            y,
            color="black",
            linewidth=3.5,
            marker="o" if len(x) < 40 else "",
            markersize=7,
            label=label,
            zorder=5,
        )
    lowest = min(
        (float(np.min(line.get_ydata())) for line in ax.lines if len(line.get_ydata())), default=0.0
    )
    if target is not None:
        ax.axhline(100 * target, color=GREY, linewidth=1)
        ax.text(
            0.01,
            100 * target,
            f" {target:.0%}",
            color=GREY,
            va="bottom",
            transform=ax.get_yaxis_transform(),
            fontsize=FONT - 2,
        )
    named = [
        line.get_xdata()
        for line in ax.lines
        if len(line.get_xdata()) and not line.get_label().startswith("_")
    ]
    longest = max([rounds * (against == "round"), 1, *(math.ceil(np.max(x)) for x in named)])
    _finish_accuracy(ax, longest, 0 if whole else _floor(lowest))
    ax.set_xlabel(AGAINST[against], fontsize=FONT)
    return ax


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
    return [x for x, _ in tested], [y for _, y in tested]


def _draw_clients(ax: Axes, history: History) -> None:
    names = sorted({name for record in history for name in record.clients})
    if len(names) <= MOST_SINGLE_LINES:
        for number, name in enumerate(names):
            own = [
                (r.round, 100 * r.clients[name].accuracy)
                for r in history
                if name in r.clients and not math.isnan(r.clients[name].accuracy)
            ]
            if own:
                style = {
                    "marker": MARKERS[number % len(MARKERS)],
                    "markersize": 5,
                    "linewidth": 1.3,
                    "alpha": 0.85,
                }
                ax.plot(
                    *zip(*own, strict=True),
                    color=COLOURS[number % len(COLOURS)],
                    label=f"{name}'s own",
                    **style,
                )
        return
    spread = [
        (r.round, [c.accuracy for c in r.clients.values() if not math.isnan(c.accuracy)])
        for r in history
    ]
    spread = [(number, values) for number, values in spread if values]
    if spread:
        x = [number for number, _ in spread]
        ax.plot(
            x,
            [100 * np.mean(values) for _, values in spread],
            color=COLOURS[0],
            linewidth=1.5,
            linestyle="--",
            label="mean of the clients' own",
        )
        ax.plot(
            x,
            [100 * min(values) for _, values in spread],
            color=COLOURS[2],
            linewidth=1.5,
            linestyle=":",
            label="worst client's own",
        )


def _draw_baseline(ax: Axes, number: int, name: str, runs: Sequence[History]) -> None:
    colour, dashes = COLOURS[4 + number % 4], ["-.", (0, (1, 1))][number % 2]
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


def _finish_accuracy(ax: Axes, rounds: int, floor: int) -> None:
    if floor == 0:
        ax.axhline(100 * CHANCE, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    where = 100 * CHANCE + 1 if floor == 0 else floor + 0.02 * (100 - floor)
    text = (
        "guessing: 10 %"
        if floor == 0
        else f"this axis starts at {floor} %; guessing would be at 10 %"
    )
    ax.text(
        0.99,
        where,
        text,
        color=GREY,
        ha="right",
        transform=ax.get_yaxis_transform(),
        fontsize=FONT - 2,
    )
    ax.set_xlim(0 if rounds > 1 else 0.5, rounds + 0.02 * rounds + 0.2)
    ax.set_ylim(floor, 100 + 0.01 * (100 - floor))
    ax.set_ylabel("test accuracy in %", fontsize=FONT)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.tick_params(labelsize=FONT - 1)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    labels = [line.get_label() for line in ax.lines if len(line.get_xdata())]
    labels = [label for label in labels if not label.startswith("_")]
    if labels:
        # Above the axes, where it hides no line; as wide as the axes, or they would be squeezed.
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=3 if sum(sorted(map(len, labels))[-3:]) < 60 else 2,
            fontsize=FONT - 3,
            frameon=False,
            columnspacing=1.2,
            handlelength=2.2,
        )


def plot_partition(
    clients: Mapping[str, Dataset], ax: Axes | None = None, classes: int = 10
) -> Axes:
    """Which labels each client holds: a stacked bar a client, thousands of images against names."""
    ax = _axes(ax, 8, 0.5 * len(clients) + 1.5)
    counts = np.array([data.label_counts(classes) for data in clients.values()]).reshape(
        len(clients), classes
    )
    left = np.zeros(len(clients))
    names = list(clients)
    for label in range(classes):
        ax.barh(
            names,
            counts[:, label],
            left=left,
            color=COLOURS[label % len(COLOURS)],
            edgecolor="white",
            linewidth=0.8,
            height=0.75,
        )
        for row, (start, count) in enumerate(zip(left, counts[:, label], strict=True)):
            if count > 0.035 * max(counts.sum(1).max(), 1):
                ax.text(
                    start + count / 2,
                    row,
                    str(label),
                    ha="center",
                    va="center",
                    fontsize=FONT - 3,
                    color="white" if label not in (1, 9) else "black",
                )
        left += counts[:, label]
    ax.invert_yaxis()
    ax.set_xlabel("images, by digit", fontsize=FONT)
    ax.tick_params(labelsize=FONT - 1)
    ax.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_digits(data: Dataset, count: int = 10, ax: Axes | None = None) -> Axes:
    """The first `count` images of a data set in a row, with their labels."""
    ax = _axes(ax, 0.9 * count, 1.3)
    x, y = data.take(np.arange(min(count, len(data))))
    ax.imshow(np.concatenate(list(x.reshape(len(x), 28, -1)), axis=1), cmap="gray_r")
    ax.set_xticks(14 + 28 * np.arange(len(x)), [str(label) for label in y], fontsize=FONT)
    ax.set_yticks([])
    return ax


def picture(draw, width: int, height: int) -> bytes:
    """A PNG of `width` x `height` pixels of what `draw(ax)` draws. Its own Figure, no pyplot: any
    thread may call this at any time.
    """
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    draw(figure.subplots())
    file = io.BytesIO()
    # Twice the pixels, shown at half their size: sharp on a projector and on a laptop
    figure.savefig(file, format="png", dpi=200)
    return file.getvalue()
