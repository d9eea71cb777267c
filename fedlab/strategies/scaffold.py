"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, option II), both its sides.

Clients whose data differ drift apart while they train. Here each step of client i follows
g - c_i + c: c_i is where this client's data pull, c where everyone's do, and what is left of the
drift is taken out. Both start at zero, and both follow from what is sent anyway:

    client:  c_i+ = c_i - c + (x - y_i) / (K eta)     x: the model sent out, y_i: trained, K: steps
    server:  c   += |S| / N * mean over S of (c_i+ - c_i) = |S| / N * mean(-c + (x - y_i) / (K eta))

So an update is one model, as in FedAvg, and a task is two. The paper's clients have equally many
examples. Here both means, the model's and c's, weigh by examples; so the corrections c - c_i cancel
in the average, as they do there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused
from fedlab.messages import Task, Training, Update, Weights
from fedlab.strategies.averaging import MEAN, REPLACE, Averaging, Step, named
from fedlab.strategies.base import Ask, State, Strategy, like
from fedlab.strategies.combine import Combine

CONTROL = "control"
"""The name of c in a task and in the server's memory, and of c_i in a client's."""


@dataclass(frozen=True, repr=False)
class Scaffold(Averaging):
    """FedAvg whose clients correct their steps by control variates."""

    def check(self, training: Training) -> None:
        if training.optimizer != "sgd":
            raise Refused(
                f"optimizer is {training.optimizer!r} with {self.name}; expected 'sgd': what a"
                " client learns of its drift is its change divided by steps and learning rate"
            )

    def prepare(self, task: Task, state: State) -> Task:
        control = state.memory.get(CONTROL) or like(state.weights)
        return replace(task, more={**task.more, CONTROL: control})

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        task = self.prepare(task, state)
        answers, pulls = ask(task), _Mean(state.weights)

        def watched(updates: Iterable[Update]) -> Iterator[Update]:
            for update in updates:
                pace = task.training.steps(update.num_examples) * task.training.learning_rate
                pairs = zip(state.weights, update.weights, strict=True)
                pulls.add(update.num_examples, [(x - y) / np.float32(pace) for x, y in pairs])
                yield update

        following = self.aggregate(state, watched(answers))
        if not pulls.count:
            return following
        share = pulls.count / answers.members
        changed = [
            (c + share * (pull - c)).astype(np.float32)
            for c, pull in zip(task.more[CONTROL], pulls.mean(), strict=True)
        ]
        return replace(following, memory={**following.memory, CONTROL: changed})


class _Mean:
    """A running mean of arrays, weighted by examples, in float64."""

    def __init__(self, weights: Weights):
        self.count, self._total = 0, 0
        self._sums = [np.zeros(w.shape, np.float64) for w in weights]

    def add(self, num_examples: int, arrays: Weights) -> None:
        for running, array in zip(self._sums, arrays, strict=True):
            running += num_examples * array.astype(np.float64)
        self.count, self._total = self.count + 1, self._total + num_examples

    def mean(self) -> list[np.ndarray]:
        return [running / self._total for running in self._sums]


def scaffold(*, combine: Combine = MEAN, step: Step = REPLACE) -> Strategy:
    """SCAFFOLD, option II (Karimireddy et al. 2020): FedAvg whose clients correct their drift.

    Clients remember c_i from round to round; a task has the model and c, an update only the model.
    A client whose update came too late has moved its c_i all the same, as if it had been counted.
    """
    meaning = "as FedAvg, but clients take out of each step what pulls only them aside"
    return Scaffold(named("SCAFFOLD", combine, step), meaning, combine, step)


# ---- the client's side ---------------------------------------------------------------------------


def correction(task: Task, memory: dict[str, Weights]) -> Weights | None:
    """c - c_i, what is added to every step's gradient; None where the server runs no SCAFFOLD."""
    control = task.more.get(CONTROL)
    if control is None:
        return None
    own = memory.get(CONTROL)
    return control if own is None else [c - ci for c, ci in zip(control, own, strict=True)]


def remember(task: Task, memory: dict[str, Weights], trained: Weights, steps: int) -> None:
    """Put c_i+ = c_i - c + (x - y_i) / (K eta) into `memory`, for the next round."""
    pace = np.float32(steps * task.training.learning_rate)
    extra = correction(task, memory)
    memory[CONTROL] = [
        (x - y) / pace - d for x, y, d in zip(task.weights, trained, extra, strict=True)
    ]
