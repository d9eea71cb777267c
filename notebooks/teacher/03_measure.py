"""The figures of lesson 3: lowest, mean and highest of five seeds. Eight to ten minutes on two
processor cores.

The seed decides the first weights, how images are dealt, who is drawn, and the batches. A name
picks cases: 03_measure.py momentum, or 03_measure.py 'non-iid E ='
"""

import sys

import numpy as np

import fedlab

# name, partition, settings that differ from C = 0.1, E = 1, B = 10, rate 0.2; most rounds;
# accuracies to count rounds for
CASES = [
    ("C = 0", "iid", {"fraction": 0, "learning_rate": 0.05}, 400, [0.97]),
    ("C = 0.1", "iid", {}, 400, [0.97]),
    ("C = 0.2", "iid", {"fraction": 0.2}, 400, [0.97]),
    ("C = 0.1", "non-iid", {}, 400, [0.97]),
    ("E = 5", "iid", {"epochs": 5}, 60, [0.97]),
    ("B = inf", "iid", {"batch_size": None}, 30, []),
    ("B = 10", "iid", {}, 30, []),
    ("momentum 0.5", "non-iid", {"strategy": fedlab.fed_avg_momentum(0.5)}, 80, [0.9, 0.95]),
    ("no momentum", "non-iid", {}, 80, [0.9, 0.95]),
    ("E = 1, rate 0.1", "non-iid", {"learning_rate": 0.1}, 20, [0.8]),
    ("E = 5, rate 0.1", "non-iid", {"learning_rate": 0.1, "epochs": 5}, 20, [0.8]),
    ("E = 10, rate 0.1", "non-iid", {"learning_rate": 0.1, "epochs": 10}, 20, [0.8]),
]

mnist = fedlab.load_mnist()
DEAL = {"iid": fedlab.partition_iid, "non-iid": fedlab.partition_by_label}
for name, kind, settings, rounds, targets in CASES:
    if not all(word in f"{kind} {name}" for word in sys.argv[1:]):
        continue
    values: dict[str, list[float]] = {}
    for seed in range(5):
        options = {
            "fraction": 0.1,
            "batch_size": 10,
            "learning_rate": 0.2,
            "rounds": rounds,
            "target": max(targets, default=None),
            **settings,
        }
        history = fedlab.simulate(
            DEAL[kind](mnist.train, 100, seed=seed),
            test=mnist.test,
            seed=seed,
            progress=False,
            **options,
        )
        for target in targets:
            rounds_to = history.rounds_to(target) or np.inf
            # 97 % ends a run of the lesson, which shows whole rounds: so they are counted whole.
            rounds_to = np.ceil(rounds_to) if target == 0.97 else rounds_to
            values.setdefault(f"rounds to {target:.0%}", []).append(rounds_to)
        if not targets:
            values.setdefault(f"% after round {rounds}", []).append(100 * history.last.accuracy)
    for what, of_seeds in values.items():
        print(
            f"{kind:8} {name:16} {what:18} {min(of_seeds):6.1f} {np.mean(of_seeds):6.1f}"
            f" {max(of_seeds):6.1f}",
            flush=True,
        )
