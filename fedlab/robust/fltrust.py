"""FLTrust (Cao, Fang, Liu & Gong 2021, arXiv:2012.13995): the server has a few examples of its own,
and believes a client as far as its change points the same way as one trained on those."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.messages import Training, Update, Weights, local_seed
from fedlab.model import Classifier
from fedlab.strategies import Strategy
from fedlab.strategies.averaging import REPLACE, Averaging, Step, named

ROOT = "the server's root"
"""Whose batches these are, in the place of a client's id."""


@dataclass(frozen=True)
class FLTrust:
    """g = sum(t_k |g_0| / |g_k| g_k) / sum(t_k) with t_k = max(cos(g_k, g_0), 0), where g_k is what
    a client's model has changed, and g_0 what the server's own training has. Nobody's change counts
    longer than the server's, nobody's examples are asked. Where no t_k is above 0 the model stays.

    root:       the server's own examples, like everyone's. In the paper 100 are enough.
    training:   how the server trains on them in every round, from the round's model. None: as the
                clients do, with the plan's E, B, learning rate and optimizer.
    classifier: of the federation's model; the 2NN if None.
    seed:       of the server's batches.
    """

    root: Dataset = field(repr=False)
    training: Training | None = None
    classifier: Classifier = field(default_factory=Classifier, repr=False, compare=False)
    seed: int = 0

    min_updates = 1

    def __post_init__(self):
        if not len(self.root):
            raise Refused("root has no examples; expected some that are like everyone's")

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        raise Refused("FLTrust got no model; expected it: FLTrust(root).since(model)(updates)")

    def since(self, model: Weights) -> Callable[[Iterable[Update]], tuple[Weights, int]]:
        """This combination for updates that were trained from `model`."""
        return lambda updates: self._trusted(model, updates)

    def _trusted(self, model: Weights, updates: Iterable[Update]) -> tuple[Weights, int]:
        plan = updates.plan.training if hasattr(updates, "plan") else Training()
        own, sums, trust, examples = None, [np.zeros(w.shape) for w in model], 0.0, 0
        for update in updates:
            if own is None:  # here: which round it is stands in the updates
                own = self.trained(model, self.training or plan, update.round)
                far = math.sqrt(inner(own, own))
            change = difference(update.weights, model)
            long = math.sqrt(inner(change, change))
            if not long or not far or (cosine := inner(change, own) / (long * far)) <= 0:
                continue
            trust, examples = trust + cosine, examples + update.num_examples
            for running, part in zip(sums, change, strict=True):
                part *= cosine * far / long
                running += part
        trust = trust or 1.0
        pairs = zip(model, sums, strict=True)
        return [(w + part / trust).astype(np.float32) for w, part in pairs], examples

    def trained(self, model: Weights, training: Training, round: int) -> list[np.ndarray]:
        """g_0: the change that training on the root examples makes, float64."""
        seed = local_seed(self.seed, round, ROOT)
        return difference(self.classifier.train(model, self.root, training, seed)[0], model)


def difference(new: Weights, old: Weights) -> list[np.ndarray]:
    """new - old, float64."""
    return [w.astype(np.float64) - o for w, o in zip(new, old, strict=True)]


def inner(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The inner product, all arrays together. (Not np.dot: its threads would spin.)"""
    pairs = zip(one, other, strict=True)
    return float(sum(np.einsum("i,i", a.reshape(-1), b.reshape(-1)) for a, b in pairs))


def fl_trust(
    root: Dataset,
    training: Training | None = None,
    model=None,
    *,
    seed: int = 0,
    step: Step = REPLACE,
) -> Strategy:
    """FLTrust: see `FLTrust`. It does not weigh clients by their examples.

    root:     the server's own examples, like everyone's; training: None, as the clients train.
    model:    the federation's, a built Keras classifier; the 2NN if None.
    step:     another server step, in the paper Momentum(0, alpha).
    In the panel's menu it is not: a server there has no examples.
    Raises Refused without examples.
    """
    meaning = "a client's change counts as far as it points where the server's own training goes"
    combine = FLTrust(root, training, Classifier(model), seed)
    return Averaging(named("FLTrust", step=step), meaning, combine, step)
