"""A message's bytes as a picture: which of them hold which array."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from fedlab.checks import whole
from fedlab.plots import CLIENTS, FONT, INK, SOFT

TYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
TYPES |= {"U8": np.dtype("u1"), "U32": np.dtype("<u4")}  # compressed, and masked weights


@dataclass(frozen=True)
class Stretch:
    """Some bytes of a message, from `begin` to before `end`. name: "length", "header", or that of
    an array, with its shape and dtype.
    """

    name: str
    begin: int
    end: int
    shape: tuple[int, ...] = ()
    dtype: str = ""


@dataclass(frozen=True)
class Place:
    """Where a byte of a message belongs: to a stretch; of an array, to the number at `index`."""

    stretch: Stretch
    index: tuple[int, ...] = ()
    value: float = np.nan


def stretches(body: bytes) -> list[Stretch]:
    """What the bytes of a safetensors message hold, in the order in which they stand there."""
    start = 8 + int.from_bytes(body[:8], "little")
    header = json.loads(body[8:start])
    header.pop("__metadata__", None)
    found = [Stretch("length", 0, 8), Stretch("header", 8, start)]
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = about["data_offsets"]
        found.append(
            Stretch(name, start + begin, start + end, tuple(about["shape"]), about["dtype"])
        )
    return found


def byte_at(body: bytes, byte: int) -> Place:
    """Where this byte of a message belongs. Raises Refused for a byte that it does not have."""
    byte = whole("byte", byte, 0, len(body) - 1)
    stretch = next(part for part in stretches(body) if part.begin <= byte < part.end)
    if not stretch.dtype:
        return Place(stretch)
    kind = TYPES[stretch.dtype]
    number = (byte - stretch.begin) // kind.itemsize
    index = tuple(int(i) for i in np.unravel_index(number, stretch.shape))
    value = np.frombuffer(body, kind, 1, stretch.begin + number * kind.itemsize)[0]
    return Place(stretch, index, float(value))


def plot_message(body: bytes, ax, byte: int | None = None):
    """Draw which bytes of a message hold which array, to scale; below, what stands in its last
    2 % enlarged. A mark shows one byte. ax: matplotlib Axes. Returns it.
    """
    parts = stretches(body)
    zoom = next((part.begin for part in parts if part.begin > 0.98 * len(body)), parts[-1].begin)
    scale = len(body) / (len(body) - zoom)
    for number, part in enumerate(parts):
        colour = SOFT if part.name in ("length", "header") else CLIENTS[(number - 2) % len(CLIENTS)]
        bar = {"color": colour, "height": 0.5, "edgecolor": "white", "linewidth": 0.8}
        ax.barh(1, part.end - part.begin, left=part.begin, **bar)
        label = f"{part.name}\n{' × '.join(map(str, part.shape))}".strip()
        middle, size = (part.begin + part.end) / 2, part.end - part.begin
        look = {"ha": "center", "va": "center", "fontsize": FONT - 2}
        if part.begin >= zoom:
            ax.barh(0, size * scale, left=(part.begin - zoom) * scale, **bar)
            inside = size * scale > 0.05 * len(body)
            at = ((middle - zoom) * scale, 0 if inside else -0.45)
            ax.text(*at, label if inside else part.name, color="white" if inside else INK, **look)
        elif size > 0.05 * len(body):
            ax.text(middle, 1, label, color="white", weight="bold", **look)
        elif part.name != "length":
            name = "header" if part.name == "header" else part.name
            ax.text(max(middle, 0.02 * len(body)), 1.42, name, color=INK, **look)
    for left, x in ((0, zoom), (len(body), len(body))):
        ax.plot([left, x], [0.25, 0.75], color=SOFT, linewidth=1, linestyle=":")
    if byte is not None:
        spots = [(byte, 1)] + ([((byte - zoom) * scale, 0)] if byte >= zoom else [])
        for x, y in spots:
            ax.plot([x, x], [y - 0.33, y + 0.33], color=INK, linewidth=3)
            ax.plot(x, y - 0.36, "^", color=INK, markersize=10, clip_on=False)
    ax.set_xlim(0, len(body))
    ax.set_ylim(-0.65, 1.65)
    ax.set_yticks([1, 0], ["all bytes", f"the last\n{len(body) - zoom:,}"])
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("byte of the message (upper bar)", fontsize=FONT - 1, color=INK)
    ax.tick_params(labelsize=FONT - 2, colors=INK)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax
