"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, option II), both its sides.

Clients whose data differ drift apart while they train. Here each step of client i follows
g - c_i + c: c_i is where this client's data pull, c where everyone's do, and what is left of the
drift is taken out. Both start at zero, and both follow from what is sent anyway:

    client:  c_i+ = c_i - c + (x - y_i) / (K eta)     x: the model sent out, y_i: trained, K: steps
    server:  c   += |S| / N * mean over S of (c_i+ - c_i) = |S| / N * mean(-c + (x - y_i) / (K eta))

So an update is one model, as in FedAvg, and a task is two. The paper's clients have equally many
examples. Here everything weighs by examples: the mean, and |S| / N is the share of all examples
that those of S have. So c is always the mean of all c_i, and the corrections c - c_i cancel in the
average, as they do there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused
from fedlab.messages import DENSE, Task, Update, Weights
from fedlab.plan import Plan
from fedlab.strategies.averaging import MEAN, REPLACE, Averaging, Step, named
from fedlab.strategies.base import Ask, State, Strategy, like
from fedlab.strategies.combine import Combine

CONTROL = "control"
"""The name of c in a task and in the server's memory, and of c_i in a client's."""


@dataclass(frozen=True, repr=False)
class Scaffold(Averaging):
    """FedAvg whose clients correct their steps by control variates."""

    def __post_init__(self):
        if hasattr(self.combine, "since"):
            raise Refused(
                f"combine is {self.combine!r} with {self.name}; expected one that looks at models,"
                " not at changes: what pulls the clients aside is combined too, and is neither"
            )

    def check(self, plan: Plan) -> None:
        super().check(plan)
        if plan.training.optimizer != "sgd":
            raise Refused(
                f"optimizer is {plan.training.optimizer!r} with {self.name}; expected 'sgd': what a"
                " client learns of its drift is its change divided by steps and learning rate"
            )
        if plan.codec_name != DENSE:
            raise Refused(
                f"codec is {plan.codec_name!r} with {self.name}; expected {DENSE!r}: both sides"
                " divide the change by steps and learning rate, and would add what a codec has lost"
                " to every step of the next round"
            )

    def prepare(self, task: Task, state: State) -> Task:
        control = state.memory.get(CONTROL) or like(state.weights)
        return replace(task, more={**task.more, CONTROL: control})

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        task = self.prepare(task, state)
        answers = ask(task)
        pulls: list[Update] = []

        def watched(updates: Iterable[Update]) -> Iterator[Update]:
            for update in updates:
                pace = np.float32(task.training.pace(update.num_examples))
                pairs = zip(state.weights, update.weights, strict=True)
                pulls.append(replace(update, weights=[(x - y) / pace for x, y in pairs]))
                yield update

        following = self.aggregate(state, watched(answers))
        if not pulls:
            return following
        pull, examples = self.combine(iter(pulls))
        share = examples / answers.num_examples
        control = [
            (c + share * (p.astype(np.float64) - c)).astype(np.float32)
            for c, p in zip(task.more[CONTROL], pull, strict=True)
        ]
        return replace(following, memory={**following.memory, CONTROL: control})


def scaffold(*, combine: Combine = MEAN, step: Step = REPLACE) -> Strategy:
    """SCAFFOLD, option II (Karimireddy et al. 2020): FedAvg whose clients correct their drift.

    Clients remember c_i from round to round: one model for each client that has ever trained, in a
    simulation all of them in this process. A task has the model and c, an update only the model. A
    client whose update was refused (too late, say) does not move its c_i. One whose round was
    abandoned, or stopped, after its update was taken, has: then c is no longer quite their mean.
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


def learned(task: Task, memory: dict[str, Weights], sent: Weights, num_examples: int) -> Weights:
    """c_i+ = c_i - c + (x - y_i) / (K eta), for the next round. sent: y_i as the server gets it."""
    pace = np.float32(task.training.pace(num_examples))
    trios = zip(task.weights, sent, correction(task, memory), strict=True)
    return [(x - y) / pace - d for x, y, d in trios]
