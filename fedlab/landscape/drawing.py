"""The map of the loss as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, LinearSegmentedColormap
from matplotlib.patheffects import withStroke

from fedlab.checks import Refused, counted
from fedlab.landscape.names import NEAR, Room, along, apart
from fedlab.landscape.plane import LossMap
from fedlab.plots import CLIENTS, FONT, INK, LINE, MARKERS, PAPER, SOFT

VALLEY = LinearSegmentedColormap.from_list(
    "valley", ["#fffdf4", "#ecf2e8", "#d0e0dd", "#b0c9d3", "#8fadc4", "#7391b0"]
)
"""Low losses light, high ones dark, each darker than the one before: in grey print too."""

STAR = "#ffc400"
STEPS = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Round numbers of one decade."""

MOST_NAMES = 12


def plot_loss_map(
    maps: LossMap | Mapping[str, LossMap],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    levels: Sequence[float] | None = None,
    colours: Mapping[str, int] | None = None,
) -> Axes | np.ndarray:
    """Test loss as contours, every client's walk from the round's start (white dot), and the
    average (star). Several maps stand side by side, by title, with one scale. Both axes are
    distances between models. Below: the accuracy of the models that clients sent and of their
    average, and how much of the walks the plane holds.

    ax:      where to draw: one Axes a map; a new figure if None.
    levels:  the losses at which contours are drawn, rising; chosen for all these maps if None.
             Those of `loss_levels(...)` for further maps give them all one scale.
    colours: client id -> its number in CLIENTS; by their order in the map if None.

    Returns the Axes, or an array of them for several maps. Raises Refused for no map, another
    number of Axes than maps, or levels that do not rise.
    """
    titled = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    if not titled:
        raise Refused("got no map; expected at least one")
    axes = _axes(ax, len(titled))
    levels = loss_levels(*titled.values()) if levels is None else list(levels)
    if len(levels) < 2 or levels[0] <= 0 or np.any(np.diff(levels) <= 0):
        raise Refused(f"levels is {levels!r}; expected at least two numbers above 0, rising")
    norm = _scale(levels)
    for (title, one), single in zip(titled.items(), axes, strict=True):
        _draw_ground(single, one, levels, norm)
        _draw_walks(single, one, colours)
        _finish(single, one, title)
    figure = axes[0].figure
    colour = ScalarMappable(norm, VALLEY)
    bar = figure.colorbar(colour, ax=axes, ticks=levels, extend="both", shrink=0.85, pad=0.02)
    bar.ax.set_yticklabels([f"{level:g}" for level in levels], fontsize=FONT - 2, color=INK)
    bar.ax.minorticks_off()
    bar.outline.set_edgecolor(LINE)
    bar.set_label("test loss in nats: lighter is better", fontsize=FONT - 1, color=INK)
    figure.draw_without_rendering()  # from here on every Axes has its final size
    for one, single in zip(titled.values(), axes, strict=True):
        numbers = _number_contours(single, one, levels)
        _name_places(single, one, colours, numbers)
    return np.array(axes) if isinstance(maps, Mapping) else axes[0]


def loss_levels(*maps: LossMap, most: int = 9) -> list[float]:
    """At most `most` round losses from the lowest of these maps up to their high walls, each about
    as many times the one before. Raises Refused for maps without a finite loss above 0.
    """
    losses = np.concatenate([one.losses.ravel() for one in maps])
    losses = losses[np.isfinite(losses)]
    if not len(losses) or losses.max() <= 0:
        raise Refused("these maps have no finite loss above 0; expected at least one")
    low = max(float(losses.min()), 1e-6)
    high = max(float(np.quantile(losses, 0.99)), 1.5 * low)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    rounded = [float(f"{step * 10.0**decade:.3g}") for decade in decades for step in STEPS]
    first = max(value for value in rounded if value <= low * (1 + 1e-9))
    within = [value for value in rounded if first <= value <= high]
    if len(within) < 2:
        return [first, next(value for value in rounded if value > first)]
    factor = (within[-1] / first) ** (1 / (most - 1))
    chosen = [first]
    for value in within:
        if value >= chosen[-1] * max(factor, 1.001) * 0.999:
            chosen.append(value)
    return chosen[:most]


# ---- ground, walks, frame ------------------------------------------------------------------------


def _axes(ax: Axes | Sequence[Axes] | None, count: int) -> list[Axes]:
    if ax is not None:
        axes = list(np.ravel(ax))
        if len(axes) != count:
            expected = counted(count, "map")
            raise Refused(f"got {len(axes)} Axes for {expected}; expected one for each")
        return axes
    # only to show a figure of our own in whatever the user has chosen to show figures in
    import matplotlib.pyplot as plt

    size = 1.2 + 4.8 * count, 5.4
    figure, axes = plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
    figure.get_layout_engine().set(h_pad=0.1)
    figure.set_facecolor(PAPER)  # not the page's own: names are dark in a dark theme too
    return list(axes[0])


def _scale(levels: Sequence[float]) -> FuncNorm:
    """Losses to colours: from each level to the next as far."""
    places, logs = np.arange(len(levels)), np.log(levels)
    return FuncNorm(
        (
            lambda loss: np.interp(np.log(np.maximum(loss, 1e-12)), logs, places),
            lambda place: np.exp(np.interp(place, places, logs)),
        ),
        vmin=levels[0],
        vmax=levels[-1],
    )


def _draw_ground(ax: Axes, one: LossMap, levels: Sequence[float], norm: FuncNorm) -> None:
    """Colours in thirds of the way from level to level."""
    where = np.arange(3 * (len(levels) - 1) + 1) / 3
    thirds = np.exp(np.interp(where, np.arange(len(levels)), np.log(levels)))
    losses = np.ma.masked_invalid(one.losses)
    ax.contourf(one.x, one.y, losses, thirds, cmap=VALLEY, norm=norm, extend="both")
    ax.contour(one.x, one.y, losses, thirds, colors=INK, linewidths=0.4, alpha=0.25)


def _look(one: LossMap, client: str, colours: Mapping[str, int] | None) -> tuple[str, str]:
    """A client's colour and marker."""
    place = list(one.paths).index(client) if colours is None else colours.get(client, 0)
    return CLIENTS[place % len(CLIENTS)], MARKERS[place % len(MARKERS)]


def _draw_walks(ax: Axes, one: LossMap, colours: Mapping[str, int] | None) -> None:
    halo = [withStroke(linewidth=5.0, foreground=PAPER)]
    edge = {"markeredgecolor": PAPER, "linestyle": ""}
    for client, path in one.paths.items():
        colour, marker = _look(one, client, colours)
        ax.plot(*path.T, color=colour, linewidth=2.6, path_effects=halo, zorder=4, label=client)
        look = {"color": colour, "marker": marker, "zorder": 5}
        ax.plot(*path[1:-1].T, markersize=6, markeredgewidth=0.6, **edge, **look)
        ax.plot(*path[-1:].T, markersize=12, markeredgewidth=1.4, **edge, **look)
    dot = {"color": PAPER, "markeredgecolor": INK, "markeredgewidth": 2, "zorder": 6}
    ax.plot(one.start.x, one.start.y, "o", markersize=12, label="start", **dot)
    star = {"color": STAR, "markeredgecolor": INK, "markeredgewidth": 1.5, "zorder": 7}
    ax.plot(one.average.x, one.average.y, "*", markersize=21, label="average", **star)


def _finish(ax: Axes, one: LossMap, title: str) -> None:
    ax.set_aspect("equal")
    ax.set_xlim(one.x[0], one.x[-1])
    ax.set_ylim(one.y[0], one.y[-1])
    ax.locator_params(nbins=5)
    ax.tick_params(labelsize=FONT - 3, colors=SOFT, length=3)
    ax.spines[:].set_color(LINE)
    if title:
        ax.set_title(title, fontsize=FONT + 2, color=INK, fontweight="bold")
    own = [100 * place.accuracy for place in one.ends.values()]
    clients, average = f"{min(own):.0f} to {max(own):.0f} %", f"{100 * one.average.accuracy:.0f} %"
    right = f"right: clients' own {clients}, average {average}"
    text = f"{right}\n{100 * one.in_plane:.0f} % of the walks in this plane"
    ax.set_xlabel(text, fontsize=FONT - 1, color=INK, linespacing=1.4)


# ---- numbers and names ---------------------------------------------------------------------------


def _number_contours(ax: Axes, one: LossMap, levels: Sequence[float]) -> list[np.ndarray]:
    """A line at each level, with its loss on it where nothing else is; where these stand."""
    losses = np.ma.masked_invalid(one.losses)
    lines = ax.contour(one.x, one.y, losses, levels, colors=INK, linewidths=1.0, alpha=0.6)
    width = one.x[-1] - one.x[0]
    low, high = np.array([one.x[0], one.y[0]]), np.array([one.x[-1], one.y[-1]])
    taken = [*map(along, one.paths.values()), np.array([one.average.x, one.average.y])]
    numbers: list[np.ndarray] = []
    for path in lines.get_paths():
        corners = path.vertices
        if len(corners) < 2:
            continue
        to_edge = np.minimum(corners - low, high - corners).min(1)
        room = np.minimum(apart(corners, [*taken, *numbers]), 0.25 * width)
        room[to_edge < 0.05 * width] = 0
        if room.max() > 0.06 * width:
            numbers.append(corners[room.argmax()])
    if numbers:
        for text in ax.clabel(lines, fmt="%g", fontsize=FONT - 2, colors=INK, manual=numbers):
            text.set_path_effects([withStroke(linewidth=2, foreground=PAPER, alpha=0.7)])
    return numbers


def _name_places(
    ax: Axes, one: LossMap, colours: Mapping[str, int] | None, numbers: Sequence[np.ndarray]
) -> None:
    """Names at the walks' ends, at the start and at the average."""
    points = 72 / ax.figure.dpi

    def drawn(places) -> np.ndarray:
        return ax.transData.transform(np.reshape(places, (-1, 2))) * points

    box = ax.get_window_extent()
    names = {client: path[-1] for client, path in one.paths.items()}
    marks = {"start": (one.start.x, one.start.y), "average": (one.average.x, one.average.y)}
    room = Room(
        np.array([box.x0, box.y0]) * points,
        np.array([box.x1, box.y1]) * points,
        drawn(np.concatenate([along(path) for path in one.paths.values()])),
        drawn([*names.values(), *marks.values(), *numbers]),
    )
    if len(names) > MOST_NAMES:
        names = {}
    wanted = [(name, at, _look(one, name, colours)[0]) for name, at in names.items()]
    wanted += [(name, at, INK) for name, at in marks.items()]  # they have most choice
    middle = drawn(marks["average"])[0]
    look = {"fontsize": FONT, "fontweight": "bold", "ha": "center", "va": "center", "zorder": 8}
    look["path_effects"] = [withStroke(linewidth=3.5, foreground=PAPER)]
    for name, place, colour in wanted:
        at = drawn(place)[0]
        text = ax.annotate(name, place, (0, 0), textcoords="offset points", color=colour, **look)
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) * points / 2
        outward = float(np.arctan2(*(at - middle)[::-1])) if name != "average" else np.pi / 3
        away = room.place(at, half, outward) - at
        text.set_position(tuple(away))
        if np.linalg.norm(away) > np.linalg.norm(half) + NEAR:
            arrow = {"arrowstyle": "-", "color": colour, "linewidth": 1}
            ax.annotate("", place, away, textcoords="offset points", zorder=3, arrowprops=arrow)
