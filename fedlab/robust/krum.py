"""Krum and Multi-Krum (Blanchard, El Mhamdi, Guerraoui & Stainer 2017, "Machine learning with
adversaries"): honest updates are near each other, so take one that has near neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedlab.messages import Update, Weights
from fedlab.robust.distances import at_least, mean_of, squared_distances
from fedlab.strategies import Strategy
from fedlab.strategies.averaging import REPLACE, Averaging, Step, named
from fedlab.strategies.base import check_settings, setting


def attackers_setting():
    """f, as Krum, Multi-Krum and Bulyan have it."""
    return setting(
        1,
        "f attackers",
        "f: how many clients may send anything",
        (0, 1, 2, 3, 4, 5),
        whole=True,
    )


def scores(distances: np.ndarray, attackers: int) -> np.ndarray:
    """The sum of each update's squared distances to its n - f - 2 nearest others (at least to one):
    the smaller, the more it is among others. distances: squared, (n, n).

    >>> line = np.array([0.0, 1.0, 3.0, 4.0, 10.0])
    >>> scores((line[:, None] - line) ** 2, attackers=1)  # to the two nearest
    array([10.,  5.,  5., 10., 85.])
    """
    others = np.sort(distances + np.diag(np.full(len(distances), np.inf)), axis=1)
    return others[:, : max(len(distances) - attackers - 2, 1)].sum(axis=1)


def ranking(distances: np.ndarray, attackers: int) -> np.ndarray:
    """Which update is best, which is next, and so on, (n,). Of equals the one nearer to all: where
    only one other counts, two who are each other's nearest have the same score.
    """
    return np.lexsort((distances.sum(axis=1), scores(distances, attackers)))


@dataclass(frozen=True)
class Krum:
    """The one update whose n - f - 2 nearest others are nearest, whoever sent it, as it is.

    What the others have learned is lost. Where honest clients have unlike data the one that is
    chosen is like nobody's but its neighbours'.
    """

    attackers: int = attackers_setting()

    __post_init__ = check_settings

    @property
    def min_updates(self) -> int:
        """2f + 2 < n: more honest neighbours than dishonest ones."""
        return 2 * self.attackers + 3

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        return mean_of(self.chosen(updates))

    def chosen(self, updates: Iterable[Update]) -> list[Update]:
        """The best, with the smallest score first."""
        rows = at_least(self.min_updates, f"against {self.attackers} that may be false", updates)
        order = ranking(squared_distances(rows), self.attackers)
        return [rows[k] for k in order[: self.most(len(rows))]]

    def most(self, several: int) -> int:
        """How many of so many are chosen."""
        return 1


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of the `keep` best updates by Krum's score, each client's alike: with keep 1 it is
    Krum, with as many as there are the plain mean of all.

    keep: m. 0: n - f - 2, the most for which AggregaThor (Damaskinos et al. 2019) has a proof.
    """

    keep: int = setting(
        0,
        "m kept",
        "m: of how many updates the mean is taken; 0: of all but f + 2",
        (0, 1, 2, 3, 5, 10),
        whole=True,
    )

    @property
    def min_updates(self) -> int:
        return max(2 * self.attackers + 3, self.keep)

    def most(self, several: int) -> int:
        return self.keep or several - self.attackers - 2


def krum(attackers: int = 1, *, step: Step = REPLACE) -> Strategy:
    """Krum: see `Krum`. It does not weigh clients by their examples.

    attackers: f, how many clients may send anything: a round needs 2f + 3 updates.
    Raises Refused for anything but a whole number from 0.
    """
    meaning = "the next model is the one update that has the nearest neighbours"
    return Averaging(named("Krum", step=step), meaning, Krum(attackers), step)


def multi_krum(attackers: int = 1, keep: int = 0, *, step: Step = REPLACE) -> Strategy:
    """Multi-Krum: see `MultiKrum`. It does not weigh clients by their examples.

    attackers: f, how many clients may send anything: a round needs 2f + 3 updates.
    keep:      m, of how many updates the mean is taken; 0: of all but f + 2.
    Raises Refused for anything but whole numbers from 0.
    """
    meaning = "the mean of the updates that have the nearest neighbours"
    return Averaging(named("Multi-Krum", step=step), meaning, MultiKrum(attackers, keep), step)
