"""Right and wrong answers to the exercises of lesson 04."""

import numpy as np

import fedlab
from fedlab.history import ClientRecord, RoundRecord


def history(first, last, rounds=40, images=600):
    """A run that rises evenly from the first accuracy to the last."""
    clients = {"client-1": ClientRecord(images)}
    return fedlab.History(
        [
            RoundRecord(number, float(accuracy), 0.2, clients=clients)
            for number, accuracy in enumerate(np.linspace(first, last, rounds), 1)
        ]
    )


def skew(counts, half=0.5, weigh=True, divide=True, uniform=False):
    """The skew, with the mistakes that one can make."""
    counts = np.asarray(counts, float)
    sizes = counts.sum(1)
    p = np.full(counts.shape[1], 1 / counts.shape[1]) if uniform else counts.sum(0) / counts.sum()
    away = half * np.abs(counts - np.outer(sizes, p)).sum(1)
    share = away.sum() / sizes.sum() if weigh else (away / sizes).mean()
    return share / (1 - (p**2).sum()) if divide else share


def table(own, everything, before=92.0, images=100):
    return {
        "alone": 90.0,
        "federation": before,
        "personalised": own,
        "personalised, all digits": everything,
        "images": images,
    }


def fails(counts):
    return counts["zero"]


PLAIN, HELD = history(0.3, 0.9), history(0.3, 0.93)

RIGHT = [
    ("check_skew", (skew,)),
    ("check_skew", (lambda counts: np.float32(skew(counts)),)),
    ("check_personal", (table(94.0, 93.0),)),
    ("check_held", (PLAIN, HELD)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_skew", (...,), "three dots"),
    ("check_skew", (lambda counts: ...,), "returns nothing yet"),
    ("check_skew", (0.5,), "without brackets"),
    ("check_skew", (lambda counts: skew(counts, divide=False),), "divide by the largest"),
    ("check_skew", (lambda counts: skew(counts, half=1),), "Where is the half"),
    ("check_skew", (lambda counts: skew(counts, uniform=True),), "not with equal shares"),
    ("check_skew", (lambda counts: skew(counts, weigh=False),), "one image must not count"),
    ("check_skew", (lambda counts: np.abs(counts),), "a sum missing"),
    ("check_skew", (fails,), "ended in IndexError"),
    ("check_skew", (lambda counts: 0.0,), "expected 0.5"),
    ("check_skew", (lambda counts: np.nan,), "divides by 0"),
    ("check_skew", (lambda counts: True,), "bool"),
    ("check_skew", (lambda counts: min(skew(counts), 0.9),), "expected 1"),
    ("check_personal", (...,), "three dots"),
    ("check_personal", (table(95.0, 88.0),), "forgets the other digits"),
    ("check_personal", (table(92.5, 93.5),), "hardly learned"),
    ("check_personal", (table(94.0, 93.0, images=60),), "60 images"),
    ("check_personal", (0.95,), "float"),
    ("check_personal", ({"alone": 95.0},), "newcomer(100, training)"),
    ("check_held", (..., ...), "three dots"),
    ("check_held", (PLAIN, ...), "three dots"),
    ("check_held", (PLAIN, PLAIN), "the same"),
    ("check_held", (HELD, PLAIN), "which strategy's line"),
    ("check_held", (PLAIN, history(0.3, 0.905)), "which strategy's line"),
    ("check_held", (history(0.3, 0.9, 10), HELD), "10 rounds"),
    ("check_held", (PLAIN, history(0.85, 0.95)), "IID data?"),
    ("check_held", (PLAIN, history(0.3, 0.93, images=900)), "other clients took part"),
    ("check_held", (PLAIN, fedlab.scaffold()), "Strategy"),
]
