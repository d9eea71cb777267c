"""The figures of lesson 8: lowest, mean and highest of five seeds. About half an hour on two
processor cores that have nothing else to do.

The seed decides the first weights, whose images they are, who has which, and the batches. Twenty
clients with 600 images each, all of whom take part, ten rounds; the first four attack where nothing
else is said. A word picks parts: 08_measure.py iid, 08_measure.py reversed_sign one
"""

import numpy as np
from five_seeds import measure, note

import fedlab

mnist = fedlab.load_mnist()
root = mnist.train.subset(np.arange(59_900, 60_000))  # a few clients have some of them, too
F = 4

ATTACKS = {
    "nobody": None,
    "label flip": fedlab.LabelFlip(),
    "sign x 5": fedlab.SignFlip(5),
    "noise 0.1": fedlab.GaussianNoise(0.1),
    "backdoor": fedlab.Backdoor(),
    "backdoor x 5": [fedlab.Backdoor(), fedlab.ScaledUpdate(5)],
    "a little": None,  # made anew for every run: its attackers remember
}
DEFENCES = {
    "mean": fedlab.fed_avg(),
    "median": fedlab.median(),
    "trimmed": fedlab.trimmed_mean(F),
    "Krum": fedlab.krum(F),
    "Multi-Krum": fedlab.multi_krum(F),
    "Bulyan": fedlab.bulyan(F),
    "geometric": fedlab.geometric_median(),
    "clip 2": fedlab.clipped_mean(2.0),
    "FLTrust": fedlab.fl_trust(root),
}


def met(what: str, attack, defence, seed: int, **options) -> None:
    """One cell of the board."""
    found = fedlab.duel(attack, defence, mnist, seed=seed, **options)
    note(f"{what}: %", 100 * found.accuracy)
    note(f"{what}: % of triggers that work", 100 * found.trigger)
    note(f"{what}: ended in round", len(found.history) + 1 if found.ended else 0)


def board(deal: str, seed: int, attacks=ATTACKS) -> None:
    """Attacks against every defence."""
    for attack, made in ((name, ATTACKS[name]) for name in attacks):
        if attack == "a little":
            made = fedlab.LittleIsEnough(fedlab.LittleIsEnough.z_for(20, F))
        for defence, strategy in DEFENCES.items():
            met(f"{deal}, {attack}, {defence}", made, strategy, seed, deal=deal)


def iid(seed: int) -> None:
    """Everybody's images are alike."""
    board("iid", seed)


def two_digits(seed: int) -> None:
    """Everybody has two digits: what the defences cost, and whether they still defend."""
    board("two digits", seed, ("nobody", "sign x 5", "backdoor x 5"))


def one(seed: int) -> None:
    """One client of twenty has a backdoor, and scales its change so that it is the mean."""
    attack = [fedlab.Backdoor(), fedlab.ScaledUpdate(20)]
    for defence in ("mean", "median", "clip 2", "geometric", "Multi-Krum"):
        met(f"one backdoor x 20, {defence}", attack, DEFENCES[defence], seed, attackers=1)


def reversed_sign(seed: int) -> None:
    """How many turn the mean round: theory says more than 20 / (1 + scale)."""
    for scale in (1, 3, 5):
        for several in (1, 2, 3, 4, 5, 6, 8, 9):
            what = f"sign x {scale} by {several}, mean"
            met(what, fedlab.SignFlip(scale), DEFENCES["mean"], seed, attackers=several)


PARTS = [iid, two_digits, one, reversed_sign]

if __name__ == "__main__":
    measure(PARTS)
