"""The models of a run, round by round, so that a panel can ask any of them what it reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import numpy as np

from fedlab.data import Dataset
from fedlab.messages import Weights

MOST_BYTES = 300_000_000
"""Kept in all. Beyond that the clients' models of the oldest rounds go first, then global ones."""


class Models:
    """What a run's global models and its clients' own were after every round. Any thread may call
    anything here.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.run = 0  # which run's they are: it grows with each
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self.run += 1
            self._global: dict[int, Weights] = {}
            self._own: dict[int, dict[str, Weights]] = {}
            self._bytes = 0

    def keep_global(self, round: int, weights: Weights) -> None:
        """The global model after this round; 0 is the untrained one."""
        with self._lock:
            self._bytes -= _size(self._global.get(round, ()))  # a round that is played again
            self._global[round] = weights
            self._count(weights)

    def keep_own(self, round: int, client: str, weights: Weights) -> None:
        """A client's own model, before it is averaged."""
        with self._lock:
            own = self._own.setdefault(round, {})
            self._bytes -= _size(own.get(client, ()))
            own[client] = weights
            self._count(weights)

    def _count(self, weights: Weights) -> None:
        self._bytes += _size(weights)
        while self._bytes > MOST_BYTES and len(self._own) > 1:
            gone = self._own.pop(min(self._own))
            self._bytes -= sum(map(_size, gone.values()))
        while self._bytes > MOST_BYTES and len(self._global) > 2:
            self._bytes -= _size(self._global.pop(sorted(self._global)[1]))

    def global_of(self, round: int) -> Weights | None:
        """The global model after this round, if it is kept."""
        with self._lock:
            return self._global.get(round)

    def own_of(self, round: int) -> Mapping[str, Weights]:
        """The clients' own models in this round: of those who took part, if they are kept."""
        with self._lock:
            return dict(self._own.get(round, {}))


def _size(weights: Iterable[np.ndarray]) -> int:
    return sum(array.nbytes for array in weights)


def one_image(pixels: bytes) -> Dataset:
    """A drawn image, 784 grey values, as a data set of one; its label says nothing."""
    image = np.frombuffer(pixels, np.uint8).reshape(1, 28, 28)
    return Dataset(image, np.zeros(1, np.int64))
