"""Right and wrong answers to the exercises of lesson 09."""

import math

import numpy as np

import fedlab
from fedlab.history import RoundRecord


def losses(*values):
    """A history with these losses."""
    return fedlab.History(
        [RoundRecord(number, loss=value) for number, value in enumerate(values, 1)]
    )


RIGHT = [
    ("check_break_even", (3,)),
    ("check_break_even", (np.float64(3.0),)),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), losses(0.5 + 1e-8, 0.4 + 1e-6, 0.3 + 1e-3))),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_break_even", (...,), "three dots"),
    ("check_break_even", (12 / 9,), "one core"),
    ("check_break_even", (1.33,), "one core"),
    ("check_break_even", (12,), "long before"),
    ("check_break_even", (0,), "above 0"),
    ("check_break_even", (5,), "should be equal"),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), ...), "three dots"),
    ("check_flowers_fedavg", (losses(0.5, 0.4, 0.3), losses(0.5, 0.4, 0.3)), "own strategy"),
    (
        "check_flowers_fedavg",
        (losses(0.5, 0.4, 0.3), losses(0.6, 0.4, 0.3)),
        "not the same settings",
    ),
    ("check_flowers_fedavg", (losses(0.5, 0.4), losses(0.5, 0.4)), "rounds=3"),
    (
        "check_flowers_fedavg",
        (losses(0.5), losses(0.5)),
        "the first run has 1 round and the second",
    ),
    ("check_flowers_fedavg", (losses(math.nan, 1, 1), losses(math.nan, 1, 1)), "test=mnist.test"),
]
