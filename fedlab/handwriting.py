"""A digit drawn on a screen, prepared as MNIST prepared its own.

MNIST's digits were scanned, cut out, scaled to 20 pixels and placed by their centre of mass. A
model that has learned from them reads a drawing well only if the drawing has gone the same way: one
pixel off costs several points of accuracy, filling all 28 pixels about half of it.

http/pages/handwriting.js does the same in a browser, number for number: each step below is made of
whole numbers, or of plain arithmetic in one order, so that both come to the same grey values. What
is changed here is changed there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedlab.checks import Refused

SIDE = 28
"""Pixels of an image, in each direction."""

BOX = 20
"""Pixels that the longer side of a digit takes, its ink included."""

PEN = 2.0
"""Width of the round pen, in pixels of the box: so the ink is as thick for a small drawing as for a
large one, and about as thick as MNIST's."""

FINE = 8
"""Ink is decided on FINE x FINE points in each pixel; how many of them are inked is its grey."""


def prepare(strokes: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """The image that a model trained on MNIST expects of this drawing.

    strokes: a list of strokes, each a list of points (x, y) in any unit, y downwards. Neighbouring
             points are joined by a straight line; one point alone is a dot.
    Returns (28, 28) float32 from 0 (paper) to 1 (ink), multiples of 1/255: the longer side of the
    ink takes 20 pixels, and its centre of mass is in the middle. Neither where somebody draws nor
    how large makes a difference; only a single point is not enlarged, but a dot 2 pixels wide. All
    zeros where there are no points.

    Raises Refused for anything but finite numbers in pairs.
    """
    points = [stroke for stroke in _checked(strokes) if len(stroke)]
    image = np.zeros((SIDE, SIDE), np.float32)
    if points:
        grey = _grey(_ink(_fitted(points)))
        top, left = _offset(grey), _offset(grey.T)
        image[top : top + BOX, left : left + BOX] = grey.astype(np.float32) / np.float32(255)
    return image


def _checked(strokes) -> list[np.ndarray]:
    """The strokes as float64 arrays of shape (points, 2); Refused says which one is not."""
    expected = "expected a list of strokes, each a list of points (x, y)"
    try:
        strokes = list(strokes)
    except TypeError:
        raise Refused(f"the drawing is {strokes!r}; {expected}") from None
    checked = []
    for number, stroke in enumerate(strokes, 1):
        try:
            points = np.asarray(stroke)
        except ValueError:
            raise Refused(f"stroke {number} has points of different lengths; {expected}") from None
        if points.shape != (0,) and (points.ndim != 2 or points.shape[1] != 2):
            raise Refused(f"stroke {number} has shape {points.shape}; {expected}")
        if points.dtype.kind not in "iuf":
            raise Refused(f"stroke {number} holds {points.dtype}; {expected}, in numbers")
        points = points.astype(np.float64).reshape(-1, 2)
        wrong = points[~np.isfinite(points).all(axis=1)]
        if len(wrong):
            x, y = wrong[0].tolist()
            raise Refused(f"stroke {number} has a point ({x}, {y}); expected finite numbers")
        checked.append(points)
    return checked


def _fitted(strokes: list[np.ndarray]) -> list[np.ndarray]:
    """The strokes in pixels of the box: in its middle, the longer side as long as leaves room for
    half a pen at each end.
    """
    every = np.concatenate(strokes)
    low = every.min(axis=0)
    # Python's floats: they overflow without NumPy's warning
    width, height = (b - a for a, b in zip(low.tolist(), every.max(axis=0).tolist(), strict=True))
    longest = max(width, height)
    if longest == np.inf:
        raise Refused("the drawing is wider than a number can be; expected points within 1e308")
    half = np.array([width / 2, height / 2])
    # A dot has no extent. Divided before it is multiplied: no drawing is too small or too large.
    return [BOX / 2 + (stroke - low - half) / (longest or 1.0) * (BOX - PEN) for stroke in strokes]


def _ink(strokes: list[np.ndarray]) -> np.ndarray:
    """Which points of the fine grid the pen has touched, (160, 160) bool: those no farther than
    half its width from one of the lines.
    """
    reach = PEN / 2
    centres = (np.arange(BOX * FINE) + 0.5) / FINE
    ink = np.zeros((BOX * FINE, BOX * FINE), bool)
    for stroke in strokes:
        ends = stroke[1:] if len(stroke) > 1 else stroke
        for (ax, ay), (bx, by) in zip(stroke.tolist(), ends.tolist(), strict=False):
            # Only the neighbourhood of the line is looked at.
            rows, columns = _between(ay, by, reach), _between(ax, bx, reach)
            x, y = centres[np.newaxis, columns], centres[rows, np.newaxis]
            dx, dy = bx - ax, by - ay
            length = dx * dx + dy * dy
            # How far along the line its nearest point is: 0 at a, 1 at b
            along = ((x - ax) * dx + (y - ay) * dy) / (length or 1.0)
            along = np.minimum(np.maximum(along, 0.0), 1.0)
            gap_x, gap_y = x - (ax + along * dx), y - (ay + along * dy)
            ink[rows, columns] |= gap_x * gap_x + gap_y * gap_y <= reach * reach
    return ink


def _between(a: float, b: float, reach: float) -> slice:
    """The fine grid's rows (or columns) within `reach` of the stretch from a to b, and the next."""
    return slice(max(int((min(a, b) - reach) * FINE), 0), int((max(a, b) + reach) * FINE) + 1)


def _grey(ink: np.ndarray) -> np.ndarray:
    """Grey values 0-255 of the box, (20, 20) int64: inked points counted, the most of them 255."""
    counts = ink.reshape(BOX, FINE, BOX, FINE).sum(axis=(1, 3))
    most = counts.max()
    return (2 * 255 * counts + most) // (2 * most)  # rounded, in whole numbers


def _offset(grey: np.ndarray) -> int:
    """The row of the image at which the box begins, as MNIST has it: so that the centre of mass is
    at most half a pixel from the middle. The box does not leave the image.
    """
    rows = grey.sum(axis=1)
    barycentre = int((rows * np.arange(BOX)).sum()) / int(rows.sum()) + 0.5
    return min(max(int(15 - barycentre), 0), SIDE - BOX)
