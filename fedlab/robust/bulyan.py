"""Bulyan (El Mhamdi, Guerraoui & Rouault 2018, "The hidden vulnerability of distributed learning in
Byzantium"): whoever is near in the sum over all numbers may still be far away in one of them. So
many are chosen by Krum, one after the other, and of those every number by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fedlab.messages import Update, Weights
from fedlab.robust.distances import at_least, squared_distances
from fedlab.robust.krum import attackers_setting, ranking
from fedlab.strategies import Strategy
from fedlab.strategies.averaging import REPLACE, Averaging, Step, named
from fedlab.strategies.base import check_settings
from fedlab.strategies.combine import by_coordinate


@dataclass(frozen=True)
class Bulyan:
    """theta = n - 2f updates are chosen by Krum: the best of all, the best of the rest, and so on.
    Then of every number the mean of the theta - 2f values that are nearest to the median of these.
    With f = 0 that is the plain mean of all.
    """

    attackers: int = attackers_setting()
    by_number = True

    __post_init__ = check_settings

    @property
    def min_updates(self) -> int:
        return 4 * self.attackers + 3

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        rows = self.chosen(updates)
        kept = len(rows) - 2 * self.attackers
        return by_coordinate(rows, lambda ranked: near_the_median(ranked, kept))

    def chosen(self, updates: Iterable[Update]) -> list[Update]:
        """n - 2f updates, in the order in which Krum takes them."""
        rows = at_least(self.min_updates, f"against {self.attackers} that may be false", updates)
        distances, left, taken = squared_distances(rows), list(range(len(rows))), []
        for _ in range(len(rows) - 2 * self.attackers):
            of_those = distances[np.ix_(left, left)]
            taken.append(left.pop(int(ranking(of_those, self.attackers)[0])))
        return [rows[k] for k in taken]


def near_the_median(ranked: np.ndarray, kept: int) -> np.ndarray:
    """Of each row, whose values are sorted, the mean of the `kept` values that are nearest to its
    median, (numbers,) float64; of two equally near the smaller.

    >>> near_the_median(np.array([[0.0, 4.0, 5.0, 6.0, 100.0]]), 3)
    array([5.])
    """
    low, high = (ranked.shape[1] - 1) // 2, ranked.shape[1] // 2
    twice = np.add(ranked[:, low], ranked[:, high], dtype=np.float64)[:, None]
    # They are neighbours: one place further on is better where its last is nearer than this first
    further = np.add(ranked[:, kept:], ranked[:, :-kept], dtype=np.float64) < twice
    neighbours = sliding_window_view(ranked, kept, axis=1)  # views; only those chosen are copied
    return neighbours[np.arange(len(ranked)), further.sum(axis=1)].mean(1, np.float64)


def bulyan(attackers: int = 1, *, step: Step = REPLACE) -> Strategy:
    """Bulyan: see `Bulyan`. It does not weigh clients by their examples.

    attackers: f, how many clients may send anything: a round needs 4f + 3 updates.
    Raises Refused for anything but a whole number from 0.
    """
    meaning = "Krum chooses many updates, one by one; of those the middle values, number by number"
    return Averaging(named("Bulyan", step=step), meaning, Bulyan(attackers), step)
