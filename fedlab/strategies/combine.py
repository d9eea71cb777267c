"""Ways to combine a round's updates into one model: half of a strategy, the other being the server
step (averaging.py). Each is called with the updates, in order, and returns the combined weights
(float32) and the number of examples behind them. `by_number` is True of those that choose among the
values of every number by itself, which all must have sent. Further ones are in `fedlab.robust`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fedlab.checks import counted
from fedlab.messages import BadUpdate, Update, Weights
from fedlab.strategies.base import TooFewUpdates, check_settings, setting

Combine = Callable[[Iterable[Update]], tuple[Weights, int]]

BLOCK = 2_048
"""Coordinates that are sorted at a time: so many of a hundred clients fit into a core's cache."""


def combined(combine: Combine, model: Weights, updates: Iterable[Update]) -> tuple[Weights, int]:
    """What `combine` makes of updates that were trained from `model`. One that looks at changes has
    a method `since(model)`, and is what that returns.
    """
    since = getattr(combine, "since", None)
    return (since(model) if since else combine)(updates)


def weighted_mean(updates: Iterable[Update]) -> tuple[Weights, int]:
    """sum(n_k * w_k) / sum(n_k) over the updates, and sum(n_k).

    A running sum in float64, so that memory does not grow with the number of updates; returned as
    float32.
    Raises BadUpdate when there are none.
    """
    total, sums = 0, None
    for update in updates:
        if sums is None:
            sums = [np.zeros(w.shape, np.float64) for w in update.weights]
            terms = [np.empty(w.shape, np.float64) for w in update.weights]
        for term, running, w in zip(terms, sums, update.weights, strict=True):
            # Without dtype it would multiply in float32 first.
            np.multiply(w, update.num_examples, out=term, dtype=np.float64)
            running += term
        total += update.num_examples
    if sums is None or total <= 0:
        raise BadUpdate(
            "got no updates to average; expected at least one with num_examples above 0"
        )
    return [(running / total).astype(np.float32) for running in sums], total


@dataclass(frozen=True)
class Mean:
    """The mean weighted by examples, FedAvg's (McMahan et al. 2017, Algorithm 1)."""

    min_updates = 1

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        return weighted_mean(updates)


@dataclass(frozen=True)
class Median:
    """The median of every number by itself (Yin et al. 2018): half of the clients less one may send
    anything, and none of it is the result. It weighs every client alike, whatever its examples.
    """

    min_updates, by_number = 1, True

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        rows = list(updates)
        if not rows:
            raise BadUpdate("got no updates to take the median of; expected at least one")
        low, high = (len(rows) - 1) // 2, len(rows) // 2  # one number in the middle, or two
        return by_coordinate(rows, lambda x: (x[:, low].astype(np.float64) + x[:, high]) / 2)


@dataclass(frozen=True)
class TrimmedMean:
    """Of every number the mean without the `trim` largest and `trim` smallest (Yin et al. 2018). It
    weighs every client alike, whatever its examples.
    """

    trim: int = setting(
        1,
        "f trimmed",
        "f: how many clients are left out at each end, number by number",
        (0, 1, 2, 3, 4, 5),
        whole=True,
    )
    by_number = True

    __post_init__ = check_settings

    @property
    def min_updates(self) -> int:
        """One update must be left."""
        return 2 * self.trim + 1

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        rows = list(updates)
        if len(rows) < self.min_updates:
            raise TooFewUpdates(
                f"{counted(len(rows), 'update')} came; expected at least {self.min_updates},"
                f" to leave out {self.trim} at each end"
            )
        kept = slice(self.trim, len(rows) - self.trim)
        return by_coordinate(rows, lambda ranked: ranked[:, kept].mean(1, np.float64))


def by_coordinate(
    updates: list[Update], reduce: Callable[[np.ndarray], np.ndarray]
) -> tuple[Weights, int]:
    """`reduce` over the sorted values of every number by itself: (numbers, clients) -> (numbers,).

    All updates of the round are held in memory for that.
    """
    out = [np.empty(w.size, np.float32) for w in updates[0].weights]
    flat = [[w.reshape(-1) for w in update.weights] for update in updates]

    def work(place: tuple[int, int]) -> None:
        array, start = place
        numbers = slice(start, start + BLOCK)
        ranked = np.ascontiguousarray(np.stack([row[array][numbers] for row in flat]).T)
        ranked.sort(axis=1)
        out[array][numbers] = reduce(ranked)

    places = [(k, start) for k, w in enumerate(out) for start in range(0, w.size, BLOCK)]
    with ThreadPoolExecutor(thread_name_prefix="fedlab-combine") as pool:
        list(pool.map(work, places))
    shapes = [w.shape for w in updates[0].weights]
    parts = zip(out, shapes, strict=True)
    return [part.reshape(shape) for part, shape in parts], sum(u.num_examples for u in updates)
