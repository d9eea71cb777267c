"""Strategies without rounds: every update is merged the moment it arrives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedlab.messages import Update
from fedlab.strategies.base import State, Strategy


@dataclass(frozen=True, repr=False)
class RunningAverage(Strategy):
    """The sample-weighted average of everything that has come so far."""

    name: str = "Asynchronous"
    meaning: str = (
        "no rounds: each update is merged at once into a running average, as the original does"
    )
    asynchronous: bool = True

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        for update in updates:
            total = state.num_examples + update.num_examples
            share = np.float32(update.num_examples / total)
            # An average of the two lies between them: finite weights stay finite.
            pairs = zip(state.weights, update.weights, strict=True)
            weights = [(1 - share) * w + share * new for w, new in pairs]
            state = replace(state, weights=weights, num_examples=total)
        return state


def async_average() -> Strategy:
    """The original demonstration's way: every update is merged the moment it arrives, as a
    sample-weighted running average.

    With N examples counted so far and an update of n: w <- (N * w + n * w_k) / (N + n), N <- N + n.
    The first update (N = 0) replaces the untrained model. N counts only what clients trained on, so
    that no update is counted twice.
    """
    return RunningAverage()
