"""How updates become the next global weights: pure functions `(state, updates) -> state`.

A strategy is called once a round with that round's updates in client-id order, as they come in; an
asynchronous one is called with every single update the moment it arrives. To write your own, make a
`Strategy` of any such function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from fedlab.messages import BadUpdate, Update, Weights


@dataclass(frozen=True, eq=False)
class State:
    """What the server keeps between rounds.

    weights:      the global model.
    num_examples: examples counted so far (asynchronous averaging weighs a new update against them).
    memory:       whatever else a strategy carries on, for example momentum: a list of arrays.
    """

    weights: Weights = field(repr=False)
    num_examples: int = 0
    memory: Weights = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Strategy:
    """A named way to aggregate; `meaning` is one line for people, `asynchronous` says that there
    are no rounds to wait for.
    """

    name: str
    meaning: str
    aggregate: Callable[[State, Iterable[Update]], State] = field(repr=False)
    asynchronous: bool = False


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
            # Without dtype it would multiply in float32 first
            np.multiply(w, update.num_examples, out=term, dtype=np.float64)
            running += term
        total += update.num_examples
    if sums is None or total <= 0:
        raise BadUpdate(
            "got no updates to average; expected at least one with num_examples above 0"
        )
    return [(running / total).astype(np.float32) for running in sums], total


def fed_avg() -> Strategy:
    """Federated averaging: w <- sum(n_k / n * w_k) (McMahan et al. 2017, Algorithm 1)."""

    def aggregate(state: State, updates: Iterable[Update]) -> State:
        weights, total = weighted_mean(updates)
        return replace(state, weights=weights, num_examples=state.num_examples + total)

    return Strategy(
        "FedAvg",
        "every round: the average of the clients' weights, each weighted by its number of examples",
        aggregate,
    )


def fed_avg_momentum(momentum: float = 0.9, server_learning_rate: float = 1.0) -> Strategy:
    """FedAvg with momentum on the server (Hsu, Qi & Brown 2019, arXiv:1909.06335).

    v <- momentum * v + (w - mean(w_k)); w <- w - server_learning_rate * v. With momentum 0 and rate
    1 it is FedAvg.
    Raises ValueError for a momentum outside [0, 1) or a rate that is not above 0.
    """
    if not 0 <= momentum < 1:
        raise ValueError(
            f"momentum is {momentum}; expected a number from 0 up to, not including, 1"
        )
    if not server_learning_rate > 0:
        raise ValueError(
            f"server_learning_rate is {server_learning_rate}; expected a number above 0"
        )

    def aggregate(state: State, updates: Iterable[Update]) -> State:
        mean, total = weighted_mean(updates)
        velocity = state.memory or [np.zeros_like(w) for w in state.weights]
        velocity = [
            np.float32(momentum) * v + (w - m)
            for v, w, m in zip(velocity, state.weights, mean, strict=True)
        ]
        weights = [
            w - np.float32(server_learning_rate) * v
            for w, v in zip(state.weights, velocity, strict=True)
        ]
        return State(weights, state.num_examples + total, velocity)

    return Strategy(
        "FedAvg with momentum",
        "as FedAvg, but the global model keeps some of its last direction, like a heavy ball",
        aggregate,
    )


def async_average() -> Strategy:
    """The original demonstration's way: every update is merged the moment it arrives, as a
    sample-weighted running average.

    With N examples counted so far and an update of n: w <- (N * w + n * w_k) / (N + n), N <- N + n.
    The first update (N = 0) replaces the untrained model. N counts only what clients trained on, so
    that no update is counted twice.
    """

    def aggregate(state: State, updates: Iterable[Update]) -> State:
        for update in updates:
            total = state.num_examples + update.num_examples
            share = np.float32(update.num_examples / total)
            # An average of the two lies between them: finite weights stay finite.
            weights = [
                (1 - share) * w + share * new
                for w, new in zip(state.weights, update.weights, strict=True)
            ]
            state = replace(state, weights=weights, num_examples=total)
        return state

    return Strategy(
        "Asynchronous",
        "no rounds: each update is merged at once into a running average, as the original does",
        aggregate,
        True,
    )


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "fed_avg": fed_avg,
    "fed_avg_momentum": fed_avg_momentum,
    "async_average": async_average,
}
"""The strategies by the name of their function: what a menu offers and a checkpoint remembers."""
