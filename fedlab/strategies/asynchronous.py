"""Strategies without rounds: every update is merged the moment it arrives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedlab.messages import Update, Weights
from fedlab.strategies.base import State, Strategy, check_settings, like, setting


def _damping():
    return setting(
        0.5,
        "damping",
        "how much less a stale update counts: 1 / (1 + staleness) to this power; 0, as much as any",
        (0.0, 0.25, 0.5, 1.0, 2.0),
    )


def _damped(staleness: int, damping: float) -> float:
    return (1 + staleness) ** -damping


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
            # An average of the two lies between them: finite weights stay finite.
            weights = _between(state.weights, update.weights, update.num_examples / total)
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


@dataclass(frozen=True, repr=False)
class FedAsync(Strategy):
    """Goes a fixed part of the way towards every update, less far towards a stale one."""

    mixing: float = setting(
        0.6,
        "mixing",
        "how far the model goes towards an update that is not stale",
        (0.1, 0.3, 0.6, 0.9, 1.0),
        most=1.0,
        positive=True,
    )
    damping: float = _damping()
    name: str = "FedAsync"
    meaning: str = "no rounds: the model goes part of the way towards every update that comes"
    asynchronous: bool = True
    by_version: bool = True

    __post_init__ = check_settings

    def merge(self, state: State, update: Update, began: Weights, staleness: int) -> State:
        share = self.mixing * _damped(staleness, self.damping)
        return replace(state, weights=_between(state.weights, update.weights, share))


def fed_async(mixing: float = 0.6, damping: float = 0.5) -> Strategy:
    """FedAsync with polynomial damping (Xie et al. 2019, arXiv:1903.03934).

    w <- (1 - a) w + a w_k with a = mixing * (1 + staleness) ** -damping; staleness is how many new
    models there were since the one that w_k was trained from.
    """
    return FedAsync(mixing, damping)


BUFFER, COUNT = "buffer", "buffered"


@dataclass(frozen=True, repr=False)
class FedBuff(Strategy):
    """Takes a step when so many changes have come together."""

    buffer: int = setting(
        10,
        "buffer",
        "how many updates come together before the model takes a step",
        (1, 2, 3, 5, 10, 20),
        least=1,
        whole=True,
    )
    damping: float = _damping()
    server_learning_rate: float = setting(
        1.0,
        "server rate",
        "how far the server goes along the mean change",
        (0.1, 0.3, 1.0, 2.0),
        positive=True,
    )
    name: str = "FedBuff"
    meaning: str = "no rounds: the model takes a step whenever so many updates have come together"
    asynchronous: bool = True
    by_version: bool = True

    __post_init__ = check_settings

    @property
    def per_model(self) -> int:
        return self.buffer

    def merge(self, state: State, update: Update, began: Weights, staleness: int) -> State:
        held = state.memory.get(BUFFER) or like(state.weights)
        count = 1 + int(state.memory[COUNT][0]) if COUNT in state.memory else 1
        share = np.float32(_damped(staleness, self.damping) / self.buffer)
        trios = zip(held, update.weights, began, strict=True)
        held = [h + share * (new - old) for h, new, old in trios]
        if count < self.buffer:
            return replace(state, memory={BUFFER: held, COUNT: [np.array(count, np.float32)]})
        rate = np.float32(self.server_learning_rate)
        weights = [w + rate * h for w, h in zip(state.weights, held, strict=True)]
        return replace(state, weights=weights, memory={})


def fed_buff(buffer: int = 10, damping: float = 0.5, server_learning_rate: float = 1.0) -> Strategy:
    """FedBuff (Nguyen et al. 2022, arXiv:2106.06639): asynchronous clients, buffered steps.

    Of every update the change d_k = w_k - (the model it was trained from) goes into a buffer, with
    (1 + staleness) ** -damping as its weight. With `buffer` of them: w <- w + server_learning_rate
    * (sum of weighted d_k) / buffer, and the buffer is empty again. All clients count alike,
    however many examples they have. An update that only goes into the buffer makes no new model.
    """
    return FedBuff(buffer, damping, server_learning_rate)


def _between(some: Weights, others: Weights, share: float) -> Weights:
    """`share` of the way from `some` to `others`."""
    part = np.float32(share)
    return [(1 - part) * w + part * new for w, new in zip(some, others, strict=True)]
