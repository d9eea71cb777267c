"""Where names go in a picture: beside their places, on nothing else, and inside the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

TURNS = [sign * step * np.pi / 12 for step in range(13) for sign in (1, -1)]
"""Directions that are tried, as angles from the wanted one."""

FAR = (6.0, 14.0, 24.0, 38.0, 56.0)
"""Gaps between a marker and its name that are tried, in points."""

MARKER = 8.0
"""Points from a marker's middle to its edge."""

NEAR = 40.0
"""With a larger gap a name needs a line to its place."""


@dataclass
class Room:
    """What there is in a picture, in points: (n, 2) each.

    low, high: two corners of the frame. lines, spots: what must not be covered: points along lines,
    and middles of markers. taken: middle and half size of the names that have been placed.
    """

    low: np.ndarray
    high: np.ndarray
    lines: np.ndarray
    spots: np.ndarray
    taken: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def place(self, at: np.ndarray, half: np.ndarray, wanted: float) -> np.ndarray:
        """Where the middle of a name of half this width and height goes, and takes room; the least
        bad place where there is no free one.

        at: what it names. wanted: an angle, the direction in which it would best be.
        """
        tried = [at + beside(half, wanted + turn, MARKER + far) for far in FAR for turn in TURNS]
        best = min(tried, key=lambda middle: self.cost(middle, half))
        self.taken.append((best, half))
        return best

    def cost(self, middle: np.ndarray, half: np.ndarray) -> float:
        """0 where a box is free; the more, the worse."""
        beyond = np.maximum(self.low - (middle - half), (middle + half) - self.high).max() + 4
        others = sum(bool(np.all(np.abs(middle - m) < half + h + 2)) for m, h in self.taken)
        on_lines = covered(middle, half + 3, self.lines)
        on_spots = covered(middle, half + MARKER + 1, self.spots)
        return 1000.0 * max(beyond, 0.0) + 100.0 * others + 3.0 * on_lines + 8.0 * on_spots


def beside(half: np.ndarray, angle: float, gap: float) -> np.ndarray:
    """How far the middle of a box is from a point when it lies in this direction, and `gap` points
    are between the point and the box's edge.
    """
    along = np.array([np.cos(angle), np.sin(angle)])
    inside = min(half / np.maximum(np.abs(along), 1e-9))
    return along * (inside + gap)


def covered(middle: np.ndarray, half: np.ndarray, places: np.ndarray) -> int:
    """How many of these places a box covers."""
    return int(np.all(np.abs(places - middle) < half, axis=1).sum())


def along(path: np.ndarray, steps: int = 30) -> np.ndarray:
    """(n, 2) points along a line of straight pieces, `steps` for each piece."""
    path = np.asarray(path, float)
    corners = np.arange(len(path))
    where = np.linspace(0, len(path) - 1, steps * (len(path) - 1) + 1)
    return np.stack([np.interp(where, corners, path[:, k]) for k in (0, 1)], axis=1)


def apart(candidates: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """How far each of these points is from the nearest of the others."""
    there = np.concatenate([np.reshape(other, (-1, 2)) for other in others])
    return np.linalg.norm(candidates[:, None] - there[None], axis=2).min(1)
