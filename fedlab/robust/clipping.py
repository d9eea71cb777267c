"""Norm clipping (Sun et al. 2019, "Can you really backdoor federated learning?",
arXiv:1911.07963): nobody moves the mean by more than a length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused
from fedlab.messages import Update, Weights, length
from fedlab.strategies import Strategy, weighted_mean
from fedlab.strategies.averaging import REPLACE, Averaging, Step, named
from fedlab.strategies.base import check_settings, setting


@dataclass(frozen=True)
class ClippedMean:
    """The mean weighted by examples of models whose change is no longer than `clip`, all arrays of
    the model together: what is longer is cut to it. Where nobody's is, it is FedAvg, bit for bit.

    >>> combine = ClippedMean(1.0).since([np.zeros(2, np.float32)])
    >>> combine([Update("alice", 1, 600, [np.array([3, 4], np.float32)])])
    ([array([0.6, 0.8], dtype=float32)], 600)
    """

    clip: float = setting(
        2.0,
        "clip S",
        "S: the length to which a longer change is cut",
        (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
        positive=True,
    )

    __post_init__ = check_settings

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        raise Refused(f"{self!r} got no model; expected it: {self!r}.since(model)(updates)")

    def since(self, model: Weights) -> Callable[[Iterable[Update]], tuple[Weights, int]]:
        """This combination for updates that were trained from `model`."""

        def clipped(updates: Iterable[Update]) -> Iterator[Update]:
            for update in updates:
                far = length(update.weights, model)
                yield update if far <= self.clip else shortened(update, model, self.clip / far)

        return lambda updates: weighted_mean(clipped(updates))


def shortened(update: Update, model: Weights, share: float) -> Update:
    """The update with so much of its change."""
    pairs = zip(model, update.weights, strict=True)
    return replace(update, weights=[
        (w + share * (new.astype(np.float64) - w)).astype(np.float32) for w, new in pairs
    ])  # fmt: skip


def clipped_mean(clip: float = 2.0, *, step: Step = REPLACE) -> Strategy:
    """The mean of clipped changes: see `ClippedMean`.

    clip: S, in the length of a change of all weights together (here about 3 in the first round of
          600 images with B = 10, and 1.3 later).
    Raises Refused for a number that is not above 0.
    """
    meaning = "as FedAvg, but a change that is longer than the clip is cut to it"
    return Averaging(named("Clipped mean", step=step), meaning, ClippedMean(clip), step)
