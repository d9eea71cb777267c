"""What was rebuilt from an update, beside what the client has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.plots import FONT, INK, axes_of
from fedlab.privacy.leakage import SIDE, Rebuilt

FOUND, MADE_UP = "#009e73", "#d55e00"
ABSENT = 215
"""The grey of a place where nothing was found: neither ink nor paper."""
GAP = 4  # pixels between images
MOST = 400


def plot_rebuilt(
    data: Dataset, found: Sequence[Rebuilt], ax: Axes | None = None, *, names: Sequence[str] = ()
) -> Axes:
    """At the left a client's images, at the right, in the same places, those that were rebuilt from
    its update: in a green frame where they are the same in every pixel. One that the client does
    not have would stand behind them in a red frame.

    data:  what the client has trained on: uint8, at most 400 images.
    names: what stands above the two halves.

    Returns the Axes. Raises Refused for other images, or too many.
    """
    if not 1 <= len(data) <= MOST or data.images.dtype != np.uint8 or data.x[0].size != SIDE**2:
        raise Refused(
            f"got {len(data)} images of {data.x[0].size if len(data) else 0} {data.images.dtype}"
            f" pixels; expected 1 to {MOST} of {SIDE**2} uint8"
        )
    own = [image.reshape(SIDE, SIDE) for image in data.x]
    got = {rebuilt.image.tobytes(): rebuilt.image for rebuilt in found}
    strange = [image for key, image in got.items() if key not in {one.tobytes() for one in own}]
    least = max(4, int(np.ceil(np.sqrt(1.4 * len(own)))))
    columns = min(len(own), min(range(least, least + 3), key=lambda number: -len(own) % number))
    rows = -(-(len(own) + len(strange)) // columns)
    cell = SIDE + GAP
    width = columns * cell + 2 * cell
    sheet = np.full((rows * cell, width + columns * cell), 255, np.uint8)

    def place(number: int, right: bool) -> tuple[int, int]:
        return number // columns * cell, number % columns * cell + (width if right else 0)

    def put(number: int, right: bool, image) -> None:
        y, x = place(number, right)
        sheet[y : y + SIDE, x : x + SIDE] = image

    framed = []
    for number, image in enumerate(own):
        put(number, False, 255 - image)
        same = image.tobytes() in got
        put(number, True, 255 - image if same else ABSENT)
        framed += [(number, FOUND)] if same else []
    for number, image in enumerate(strange, len(own)):
        put(number, True, 255 - image)
        framed.append((number, MADE_UP))
    inches = min(10.0, 1.2 * (2 * columns + 2))
    ax = axes_of(ax, inches, inches * sheet.shape[0] / sheet.shape[1] + 0.5)
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for number, colour in framed:
        y, x = place(number, True)
        frame = Rectangle((x - 1.5, y - 1.5), SIDE + 2, SIDE + 2, fill=False, color=colour, lw=2)
        ax.add_patch(frame)
    right = sum(colour == FOUND for _, colour in framed)
    said = names or ("what the client has", f"rebuilt: {right} of {len(own)}")
    for text, x in zip(said, (0, width), strict=True):
        ax.text(x, -GAP, text, fontsize=FONT, color=INK, va="bottom")
    ax.set_xlim(-GAP, sheet.shape[1])
    ax.set_ylim(sheet.shape[0], -GAP)
    ax.set_axis_off()
    return ax
