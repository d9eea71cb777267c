"""What the lessons' measure scripts share: five seeds, their lowest, mean and highest value, and a
model that has learned.
"""

import sys
from collections.abc import Callable

import numpy as np

import fedlab

SEEDS = range(5)
values: dict[str, list[float]] = {}


def note(what: str, value: float) -> None:
    """Keep one seed's value; with the last seed's, print all."""
    values.setdefault(what, []).append(value)
    if len(values[what]) == len(SEEDS):
        several = values[what]
        low, mean, high = min(several), np.mean(several), max(several)
        print(f"{what:64} {low:8.2f} {mean:8.2f} {high:8.2f}", flush=True)


def measure(parts: list[Callable[[int], None]]) -> None:
    """Each part with every seed; only those that the command line names, if it names any."""
    for part in parts:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            for seed in SEEDS:
                part(seed)


def trained(mnist, seed: int) -> fedlab.Weights:
    """A model after ten rounds with ten clients, strangers all: the second half of the images."""
    models = {}
    parts = fedlab.partition_iid(mnist.train.subset(np.arange(30_000, 60_000)), 10, seed)
    options = {"rounds": 10, "batch_size": 10, "learning_rate": 0.1, "seed": seed}
    fedlab.simulate(parts, on_model=models.__setitem__, progress=False, **options)
    return models[10]
