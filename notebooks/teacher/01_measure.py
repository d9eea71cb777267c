"""The figures of lesson 1: test accuracy in %, lowest, mean and highest of five seeds. About five
minutes on two processor cores."""

import numpy as np

import fedlab

FOUR = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}
OWN = {"alice": (1, 1), "bob": (5, 5), "carol": (9, 9)}
TWELVE = {f"client {number}": (number, number) for number in range(1, 13)}

# name, shards, settings that differ from C = 1, E = 1, B = 32, learning rate 0.1, ten rounds
CASES = [
    ("Q1 four shards each", FOUR, {}),
    ("Q1 Carol has one shard", {**FOUR, "carol": (9, 9)}, {}),
    ("Q1 Carol alone with it", {"carol": (9, 9)}, {}),
    ("Q1 Alice alone with four", {"alice": (1, 4)}, {}),
    ("Q2 three different shards", OWN, {}),
    ("Q2 the same shard thrice", dict.fromkeys(OWN, (1, 1)), {}),
    ("Q2 one client alone with it", {"alice": (1, 1)}, {}),
    ("Q3 E = 10", OWN, {"epochs": 10}),
    ("Ex. 1 twelve clients", TWELVE, {"rounds": 5}),
    ("Ex. 1 twelve, E = 4", TWELVE, {"rounds": 5, "epochs": 4}),
]

mnist = fedlab.load_mnist()
for case, shards, settings in CASES:
    clients = {name: mnist.shards(first, last) for name, (first, last) in shards.items()}
    runs = [
        fedlab.simulate(clients, test=mnist.test, seed=seed, progress=False, **settings).accuracy
        for seed in range(5)
    ]
    accuracy = 100 * np.array(runs)
    for number in (1, 5, 10):
        if number <= accuracy.shape[1]:
            of_round = accuracy[:, number - 1]
            print(
                f"{case:28} round {number:2}: {of_round.min():.2f} {of_round.mean():.2f}"
                f" {of_round.max():.2f}",
                flush=True,
            )
