"""How far updates are from each other, and a model that is mixed of several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fedlab.checks import counted
from fedlab.messages import Update, Weights
from fedlab.strategies import TooFewUpdates

BLOCK, WIDE, DEEP = 4_096, 32, 256
"""Numbers of each update that are looked at together; updates, and numbers, of one product. These
are so small that OpenBLAS takes no threads of its own for them, which spin: where somebody else is
at work they need fifty times as long."""


def at_least(least: int, why: str, updates: Iterable[Update]) -> list[Update]:
    """The updates as a list. Raises TooFewUpdates where there are fewer."""
    rows = list(updates)
    if len(rows) < least:
        came = counted(len(rows), "update")
        raise TooFewUpdates(f"{came} came; expected at least {least}, {why}")
    return rows


def products(updates: Sequence[Update]) -> np.ndarray:
    """The inner products of all updates' weights, (updates, updates) float64.

    Each is of two updates alone: who sends huge numbers spoils the products with itself, and not
    what is known of the others.
    """
    flat = [[w.reshape(-1) for w in update.weights] for update in updates]
    several = len(flat)

    def work(place: tuple[int, int]) -> np.ndarray:
        array, start = place
        parts = [row[array][start : start + BLOCK] for row in flat]
        size = parts[0].size
        block = np.zeros((several, size + -size % DEEP))
        np.stack(parts, out=block[:, :size])
        deep = block.reshape(several, -1, DEEP).transpose(1, 0, 2)
        found = np.zeros((several, several))
        for i in range(0, several, WIDE):
            for j in range(i, several, WIDE):
                pair = deep[:, i : i + WIDE] @ deep[:, j : j + WIDE].transpose(0, 2, 1)
                found[i : i + WIDE, j : j + WIDE] = pair.sum(axis=0)
        return found

    places = [(k, at) for k, w in enumerate(flat[0]) for at in range(0, w.size, BLOCK)]
    with ThreadPoolExecutor(os.cpu_count(), "fedlab-products") as pool:
        upper = np.triu(sum(pool.map(work, places)))
    return upper + np.triu(upper, 1).T


def squared_distances(updates: Sequence[Update]) -> np.ndarray:
    """|w_i - w_j|^2 over all numbers of the model, (updates, updates) float64, 0 to oneself.

    >>> rows = [Update(name, 1, 1, [np.array(w, np.float32)])
    ...         for name, w in {"alice": [0, 0], "bob": [3, 4]}.items()]
    >>> squared_distances(rows)
    array([[ 0., 25.],
           [25.,  0.]])
    """
    inner = products(updates)
    lengths = inner.diagonal()
    found = np.maximum(lengths[:, None] + lengths - 2 * inner, 0)
    np.fill_diagonal(found, 0)
    return found


def mean_of(updates: Sequence[Update]) -> tuple[Weights, int]:
    """The mean of these models, each client's alike, and how many examples are behind them."""
    if len(updates) == 1:
        return updates[0].weights, updates[0].num_examples
    return mixed(updates, np.full(len(updates), 1 / len(updates)))


def mixed(updates: Sequence[Update], shares: np.ndarray) -> tuple[Weights, int]:
    """sum(shares_k * w_k), float32, and how many examples are behind them. shares: (updates,)."""
    sums = [np.zeros(w.shape, np.float64) for w in updates[0].weights]
    terms = [np.empty(w.shape, np.float64) for w in updates[0].weights]
    for update, share in zip(updates, shares, strict=True):
        for term, running, w in zip(terms, sums, update.weights, strict=True):
            np.multiply(w, share, out=term, dtype=np.float64)
            running += term
    return [w.astype(np.float32) for w in sums], sum(u.num_examples for u in updates)
