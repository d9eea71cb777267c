"""Right and wrong answers to the exercises of lesson 03."""

import numpy as np

import fedlab
from fedlab.history import RoundRecord


def rising(first, *later, rounds):
    """A history whose accuracy goes through these values, and stays at the last one."""
    values = [first, *later, *[[first, *later][-1]] * (rounds - 1 - len(later))]
    return fedlab.History(
        [RoundRecord(number, accuracy, 0.2) for number, accuracy in enumerate(values, 1)]
    )


ALL_IMAGES = rising(0.6, 0.8, 0.84, rounds=30)  # B = infinity
PLAIN = rising(0.3, *np.linspace(0.5, 0.93, 40), rounds=60)  # non-IID
HEAVY = rising(0.3, *np.linspace(0.5, 0.95, 20), rounds=60)  # with momentum
EPOCHS = {e: rising(0.3, *np.linspace(0.5, 0.8 + e / 1000, 15), rounds=20) for e in (1, 5, 10)}
IID = rising(0.83, 0.96, rounds=60)


RIGHT = [
    ("check_infinity", (60, 1, ALL_IMAGES)),
    ("check_infinity", (np.int64(60), 1.0, ALL_IMAGES)),
    ("check_momentum", (PLAIN, HEAVY)),
    ("check_epochs", (EPOCHS, 5)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_infinity", (..., ..., ...), "three dots"),
    ("check_infinity", (10, 1, ALL_IMAGES), "images in one step"),
    ("check_infinity", (6, 1, ALL_IMAGES), "takes 10 in each step"),
    ("check_infinity", (60, 600, ALL_IMAGES), "B = 1"),
    ("check_infinity", (60, 0, ALL_IMAGES), "How many steps is one epoch"),
    ("check_infinity", ("60", 1, ALL_IMAGES), "expected a number"),
    ("check_infinity", (60, True, ALL_IMAGES), "expected a number"),
    ("check_infinity", (60, 1, 0.84), "float"),
    ("check_infinity", (60, 1, PLAIN), "60 rounds"),
    ("check_infinity", (60, 1, rising(0.83, rounds=1)), "has 1 round; expected 30"),
    ("check_infinity", (60, 1, rising(0.83, 0.96, rounds=30)), "B=None"),
    ("check_infinity", (60, 1, rising(0.1, 0.3, rounds=30)), "another setting"),
    ("check_momentum", (..., ...), "three dots"),
    ("check_momentum", (PLAIN, ...), "three dots"),
    ("check_momentum", (PLAIN, PLAIN), "the same"),
    ("check_momentum", (HEAVY, PLAIN), "smaller b"),  # slower with it than without, as 0.9 is
    ("check_momentum", (PLAIN, rising(0.1, 0.2, rounds=60)), "not within 60 rounds"),
    ("check_momentum", (PLAIN, IID), "IID data?"),
    ("check_momentum", (IID, HEAVY), "IID data?"),
    ("check_momentum", (PLAIN, EPOCHS[1]), "20 rounds"),
    ("check_momentum", (PLAIN, rising(0.3, rounds=1)), "the second history has 1 round; expected"),
    ("check_momentum", (PLAIN, fedlab.fed_avg_momentum(0.5)), "Strategy"),
    ("check_momentum", (rising(0.3, 0.5, rounds=60), HEAVY), "without momentum does not reach"),
    ("check_epochs", (..., ...), "three dots"),
    ("check_epochs", (EPOCHS, ...), "three dots"),
    ("check_epochs", (EPOCHS, 1), "compared with"),
    ("check_epochs", (EPOCHS, 10), "Compare E = 5 with E = 1"),
    ("check_epochs", (dict.fromkeys((1, 5, 10), EPOCHS[1]), 5), "the same"),
    ("check_epochs", ({1: EPOCHS[1], 5: EPOCHS[5]}, 5), "keys 1, 5 and 10"),
    ("check_epochs", (list(EPOCHS.values()), 5), "dict"),
    ("check_epochs", ({**EPOCHS, 10: PLAIN}, 5), "60 rounds"),
    ("check_epochs", ({**EPOCHS, 10: rising(0.3, rounds=1)}, 5), "has 1 round; expected 20"),
    ("check_epochs", ({**EPOCHS, 5: 0.8}, 5), "float"),
    ("check_epochs", ({**EPOCHS, 5: rising(0.83, 0.95, rounds=20)}, 5), "IID data?"),
]
