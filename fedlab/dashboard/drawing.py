"""Plots as drawings in the colours of the page that they stand in, light or dark."""

from __future__ import annotations

import re
from html import escape

from fedlab.plots import CLIENTS, INK, LINE, PAPER, SOFT, saved

THEMED = {
    **{colour: f"--fl-client-{number}" for number, colour in enumerate(CLIENTS)},
    INK: "--fl-ink",
    SOFT: "--fl-soft",
    LINE: "--fl-line",
    PAPER: "--fl-paper",
}
"""What a plot is drawn in → the variables of http/pages/colours.css."""


def drawing(draw, width: int, height: int, label: str) -> str:
    """What `draw(ax)` draws as SVG, for `width` x `height` pixels: it is enlarged with its room.
    `label`: for those who cannot see it. Any thread may call this at any time.
    """
    svg = saved(draw, width, height, format="svg", transparent=True).decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, name in THEMED.items():
        svg = svg.replace(colour, f"var({name})")
    # Matplotlib counts in points, 72 to an inch of 100 pixels.
    size = f'viewBox="0 0 {0.72 * width:g} {0.72 * height:g}"'
    known = f'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(label)}"'
    head = f"<svg {known} {size}>"
    return re.sub(r"<svg .*?>", lambda _: head, svg, count=1, flags=re.DOTALL)
