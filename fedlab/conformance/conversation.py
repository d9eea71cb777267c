"""Requests as a picture: who said what to the server, when, and how large it was."""

from __future__ import annotations

from collections.abc import Sequence

from fedlab.plots import CLIENTS, FONT, INK, LINE, SOFT

NAMES = {
    ("POST", "clients"): "join",
    ("DELETE", "clients"): "leave",
    ("GET", "task"): "task",
    ("POST", "updates"): "update",
}


def plot_conversation(records: Sequence, ax):
    """Draw requests (`list(server.wire)`: RequestRecords) as a sequence diagram, the earliest on
    top: one line for the server, one for each client, an arrow a message with its bytes.

    The direction of an arrow is that of the weights, where there are any. Requests of nobody (a
    look at the status) are left out. ax: matplotlib Axes, 0.3 inches high for each request.
    Returns it.
    """
    asked = [(r, NAMES.get((r.method, r.path.strip("/").split("/")[0]))) for r in records]
    asked = [(record, name) for record, name in asked if name and record.client]
    clients = list(dict.fromkeys(record.client for record, _ in asked))
    place = {client: number + 1 for number, client in enumerate(clients)}
    for row, (record, name) in enumerate(asked):
        x, bad = place[record.client], record.status >= 400
        colour = CLIENTS[(x - 1) % len(CLIENTS)]
        down = name == "task" and not bad
        start, end = ((0, x), (x, 0))[not down]
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "mutation_scale": 16}
        style |= {"linestyle": "--"} if bad else {}
        ax.annotate("", (end, row), (start, row), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
        size = max(record.bytes_up, record.bytes_down)
        kilobytes = f", {size / 1e3:,.0f} kB" if size >= 1_000 else ""
        text = f"{record.status} {name}" if bad else f"{name}{kilobytes}"
        look = {"fontsize": FONT - 2, "va": "bottom", "ha": "center", "color": INK}
        ax.text(x - 0.5, row - 0.08, text, **look)
    rows = max(len(asked), 1)
    for name, x in [("server", 0), *place.items()]:
        colour = INK if x == 0 else CLIENTS[(x - 1) % len(CLIENTS)]
        ax.plot([x, x], [-0.7, rows - 0.3], color=colour, linewidth=3 if x == 0 else 2, zorder=0)
        ax.text(x, -0.9, name, ha="center", va="bottom", fontsize=FONT, color=colour, weight="bold")
    began = asked[0][0].time if asked else 0.0
    ax.set_yticks(range(len(asked)), [f"{record.time - began:.1f} s" for record, _ in asked])
    ax.set_xlim(-0.15, len(clients) + 0.35)
    ax.set_ylim(rows - 0.2, -2)
    ax.set_xticks([])
    ax.tick_params(labelsize=FONT - 2, colors=SOFT, length=0)
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.spines[:].set_visible(False)
    return ax
