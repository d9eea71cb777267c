"""The geometric median of the updates, by Weiszfeld's algorithm (Weiszfeld 1937; for federations
"RFA", Pillutla, Kakade & Harchaoui 2022, arXiv:1912.13445)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedlab.messages import Update, Weights
from fedlab.robust.distances import at_least, mixed, products
from fedlab.strategies import Strategy
from fedlab.strategies.averaging import REPLACE, Averaging, Step, named

NEAR = 1e-6
"""Distances count as at least so long (RFA's nu): an update at the very place has no infinite pull.
Beside the scale of the updates, which is their typical distance from each other."""

STEPS, STILL = 1_000, 1e-9
"""Weiszfeld's steps, at most; fewer where no share moves by more than this."""


@dataclass(frozen=True)
class GeometricMedian:
    """The model z with the smallest sum of distances |w_k - z|, all numbers together. As long as
    more than half are honest it stays among them. It weighs every client alike.
    """

    min_updates = 1

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        rows = at_least(1, "to take the geometric median of", updates)
        return mixed(rows, shares(products(rows)))


def shares(inner: np.ndarray) -> np.ndarray:
    """What each update has in the geometric median, (n,), of sum 1. inner: `products`.

    z is always a mean of the updates, so a step needs nothing but these inner products:
    |w_i - z|^2 = <w_i, w_i> - 2 <w_i, z> + <z, z>.

    >>> line = np.array([0.0, 1.0, 100.0])  # of three the one in the middle
    >>> float(round(shares(np.outer(line, line)) @ line, 3))
    1.0
    """
    lengths = inner.diagonal()
    between = np.sqrt(np.maximum(lengths[:, None] + lengths - 2 * inner, 0))
    usual = np.median(between, axis=1)  # no sums: one huge number would be all of them
    scale = float(np.median(usual))
    if not scale:  # more than half are one and the same
        return (usual == 0) / np.count_nonzero(usual == 0)
    # Not from the mean: who sends huge numbers would have to be walked back from
    found = 1 / np.maximum(usual, NEAR * scale)
    found /= found.sum()
    for _ in range(STEPS):
        to = inner @ found
        away = np.sqrt(np.maximum(lengths - 2 * to + found @ to, 0))
        following = 1 / np.maximum(away, NEAR * scale)
        following /= following.sum()
        moved, found = np.abs(following - found).max(), following
        if moved < STILL:
            break
    return found


def geometric_median(*, step: Step = REPLACE) -> Strategy:
    """The geometric median of the updates: see `GeometricMedian`. It does not weigh clients by
    their examples.
    """
    meaning = "the next model is the one with the smallest sum of distances to what clients sent"
    return Averaging(named("Geometric median", step=step), meaning, GeometricMedian(), step)
