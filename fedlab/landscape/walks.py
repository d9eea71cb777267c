"""A round, step by step: every client's walk from the global model to the one that it sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused, whole
from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.messages import TRAIN, Task, Training, Weights
from fedlab.model import Classifier
from fedlab.participant import Participant
from fedlab.plan import Plan
from fedlab.simulation import check_clients, named_clients
from fedlab.strategies import Strategy, fed_avg

KEPT = 12
"""Models kept of one client's walk, its start among them ..."""
KEPT_IN_ALL = 240
"""... and at most so many of all walks together: 200 MB for the 2NN."""


@dataclass(frozen=True, eq=False)
class Walks:
    """One round, step by step.

    start:      the global model that the round began with.
    paths:      client id -> the models on its walk, from `start` to the one that it sent.
    average:    the global model after the round: with FedAvg, the clients' average.
    classifier: what tells the loss of such weights.
    round, strategy: which round of which run this was.
    """

    start: Weights = field(repr=False)
    paths: Mapping[str, Sequence[Weights]] = field(repr=False)
    average: Weights = field(repr=False)
    classifier: Classifier = field(repr=False)
    round: int = 1
    strategy: str = "FedAvg"


def walk_round(
    clients: Mapping[str, Dataset] | Sequence[Dataset],
    *,
    round: int = 1,
    strategy: Strategy | None = None,
    epochs: int = 1,
    batch_size: int | None = 32,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
    model=None,
    seed: int = 0,
    kept: int = KEPT,
) -> Walks:
    """Run `round` rounds in which everyone takes part, and keep the last one step by step.

    Settings are those of `simulate`, and so is the result: its model after that round, bit for bit.
    kept: how many models to keep of each walk, evenly spaced; fewer where there are many clients.
    Raises Refused or DataError for settings that cannot be, Diverged when training leaves the
    finite numbers.
    """
    whole("round", round)
    whole("kept", kept, 2)
    named, strategy = named_clients(clients), strategy or fed_avg()
    if strategy.asynchronous:
        raise Refused(f"the strategy is {strategy.name}; expected one with rounds")
    check_clients(strategy, len(named))
    training = Training(epochs, batch_size, learning_rate, optimizer)
    classifier = Classifier(model, seed)
    people = {name: Participant(name, data, classifier) for name, data in named.items()}
    federation = Federation(
        classifier.weights, strategy, seed=seed, on_model=lambda _, model: models.append(model)
    )
    models: list[Weights] = [classifier.weights]
    for name, data in named.items():
        federation.join(name, len(data))
    kept = max(2, min(kept, KEPT_IN_ALL // len(named)))
    paths: dict[str, list[Weights]] = {}

    def watched(client: str, task: Task) -> Callable[[Weights], None] | None:
        """What keeps the steps of this task; None where nobody looks."""
        if task.phase != TRAIN or task.round != round:
            return None
        steps = task.training.steps(len(named[client]))
        wanted = set(np.linspace(0, steps, kept).round().astype(int).tolist())
        path = paths[client] = [task.weights]
        taken = 0

        def on_step(weights: Weights) -> None:
            nonlocal taken
            taken += 1
            if taken in wanted:
                path.append(weights)

        return on_step

    federation.start(Plan(round, training))
    try:
        while federation.status().running:
            given = federation.take(wait=0.02)
            if given is None:
                continue
            client, task = given
            update = people[client].answer(task, on_step=watched(client, task))
            federation.report(update)
            people[client].settle(taken=True)
            del models[:-2]  # of all rounds only the last one's start and end are wanted
        federation.wait()
    finally:
        federation.stop()
    return Walks(models[-2], paths, models[-1], classifier, round, strategy.identity)
