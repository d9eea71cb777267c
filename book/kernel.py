"""What a lesson's kernel does besides while the book is made: it gives every figure words, for
readers who do not see it, and presses "Run Interact" once.
"""

from __future__ import annotations

import re

LONGEST = 400  # characters


def words(figure) -> str:
    """A sentence or two about a matplotlib figure."""
    parts = [figure.get_suptitle()] if figure.get_suptitle() else []
    for axes in figure.axes:
        title, x, y = (
            _plain(said()) for said in (axes.get_title, axes.get_xlabel, axes.get_ylabel)
        )
        about = f"{y} against {x}" if x and y else x or y
        labels = [_plain(label) for label in axes.get_legend_handles_labels()[1]]
        labels = labels or [name for name in map(_plain, _names(axes)) if name]
        listed = f"({', '.join(labels)})" if labels else ""
        said = " ".join(filter(None, [f"{title}:" if title and about else title, about, listed]))
        if said and said not in parts:
            parts.append(said)
    text = "Figure: " + ("; ".join(parts) or "drawn by the code above")
    return text if len(text) <= LONGEST else text[: LONGEST - 2].rsplit(" ", 1)[0] + " …"


def _names(axes) -> list[str]:
    """What has a name beside an axis, such as the client of each bar: no numbers."""
    ticks = [*axes.get_yticklabels(), *axes.get_xticklabels()]
    return [tick.get_text() for tick in ticks if re.search(r"[A-Za-z]{2}", tick.get_text())]


def _plain(text: str) -> str:
    return " ".join(text.replace("$", "").split()).rstrip(",;")


def give_figures_words() -> None:
    """From now on every figure that is shown as PNG carries its words with it, as `alt` in the
    output's metadata.
    """
    from IPython.core import pylabtools

    draw = pylabtools.print_figure

    def print_figure(figure, fmt="png", bbox_inches="tight", base64=False, **options):
        drawn = draw(figure, fmt, bbox_inches, base64, **options)
        return (drawn, {"alt": words(figure)}) if base64 and fmt == "png" and drawn else drawn

    # `%matplotlib inline` looks it up here each time
    pylabtools.print_figure = print_figure


def press_run_interact() -> None:
    """From now on what waits for its button "Run Interact" runs once, with the sliders as they are:
    a page has no buttons.
    """
    from ipywidgets import interactive

    make = interactive.__init__

    def __init__(self, *arguments, **options):
        make(self, *arguments, **options)
        if self.manual:
            self.update()

    interactive.__init__ = __init__
