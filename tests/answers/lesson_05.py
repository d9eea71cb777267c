"""Right and wrong answers to the exercises of lesson 05."""

import numpy as np

import fedlab
from fedlab.history import ClientRecord, RoundRecord

SEVEN, OTHER = np.full((300,), 7), np.arange(300) % 7
IMAGES = np.zeros((300, 28, 28), np.uint8)
FAST = {f"phone-{i:02}": fedlab.Dataset(IMAGES, OTHER) for i in range(1, 46)}
SLOW = {f"slow-{i}": fedlab.Dataset(IMAGES, SEVEN) for i in range(1, 6)}


def phones(images, of=SLOW):
    """All fifty, of whom the slow ones have so many images."""
    return {**{name: data.subset(np.arange(images)) for name, data in of.items()}, **FAST}


def model(reads_sevens):
    """A model that says 7, or 1, whatever the image: zero weights, and a bias for one digit."""
    weights = [np.zeros_like(array) for array in fedlab.Classifier().weights]
    weights[-1][7 if reads_sevens else 1] = 1
    return weights


def week(reads_sevens, accuracy, heard=2, rounds=112):
    """A history in which a slow phone is heard in every so-manieth round, and its models."""
    records = []
    for number in range(1, rounds + 1):
        clients = {f"phone-{i:02}": ClientRecord(300) for i in range(1, 6)}
        if heard and number % heard == 0:
            clients["slow-1"] = ClientRecord(30)
        records.append(RoundRecord(number, accuracy, 0.4, 5_400.0 * number, clients=clients))
    one = model(reads_sevens)
    return fedlab.History(records), dict.fromkeys(range(1, rounds + 1), one)


BY_IMAGES, BY_VOTES = week(False, 0.87), week(True, 0.94)


def right(weights, update_weights, staleness, mixing=0.6, damping=0.5):
    a = mixing * (1 + staleness) ** -damping
    return [(1 - a) * w + a * new for w, new in zip(weights, update_weights, strict=True)]


def in_place(weights, update_weights, staleness, mixing=0.6, damping=0.5):
    a = mixing * (1 + staleness) ** -damping
    for w, new in zip(weights, update_weights, strict=True):
        w *= 1 - a
        w += a * new
    return weights


def exchanged(weights, update_weights, *settings):
    return right(update_weights, weights, *settings)


def never_stale(weights, update_weights, staleness, mixing, damping):
    return right(weights, update_weights, 0, mixing, damping)


def louder(weights, update_weights, staleness, mixing, damping):
    return right(weights, update_weights, staleness, mixing, -damping)


def by_zero(weights, update_weights, staleness, mixing, damping):
    return right(weights, update_weights, staleness, mixing * staleness**-damping, 0)


def without_one(weights, update_weights, staleness, mixing, damping):
    """staleness ** -damping, which is another thing (and 1 / 0 for a fresh update)."""
    a = mixing * max(staleness, 1) ** -damping
    return [(1 - a) * w + a * new for w, new in zip(weights, update_weights, strict=True)]


def first_only(weights, update_weights, *settings):
    return right(weights[:1], update_weights[:1], *settings)


RIGHT = [
    ("check_moments", (15, 2, 4, 3)),
    ("check_moments", (15.0, np.float64(2), np.int64(4), 3.0)),
    ("check_votes", (phones(30), BY_IMAGES, BY_VOTES)),
    ("check_votes", (phones(39), BY_IMAGES, BY_VOTES)),
    ("check_fed_async", (right,)),
    ("check_fed_async", (lambda *given: [w.astype(np.float64) for w in right(*given)],)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_moments", (..., ..., ..., ...), "three dots"),
    ("check_moments", (15, 2, 4, ...), "three dots"),
    ("check_moments", (1.5, 2, 4, 3), "the last of the four"),
    ("check_moments", (15, 1.5, 4, 3), "nobody else will come in time"),
    ("check_moments", (15, 4, 4, 3), "when the deadline is over"),
    ("check_moments", (15, 2, 1.5, 3), "two answers, not three"),
    ("check_moments", (15, 2, 15, 3), "the third to be ready"),
    ("check_moments", (15, 2, 4, 4), "fetched its next task at once"),
    ("check_moments", (15, 2, 4, 1.5), "The third fills the buffer"),
    ("check_moments", (54_000, 7_200, 14_400, 10_800), "not minutes or seconds"),
    ("check_moments", ("15", 2, 4, 3), "answer 1 is of the type str"),
    ("check_moments", (15, True, 4, 3), "answer 2 is of the type bool"),
    ("check_votes", (..., ..., ...), "three dots"),
    ("check_votes", (phones(30), BY_IMAGES, ...), "three dots"),
    ("check_votes", (phones(300), BY_IMAGES, BY_VOTES), "all their 300 images"),
    ("check_votes", (phones(40), BY_IMAGES, BY_VOTES), "2 hours exactly"),
    ("check_votes", (phones(60), BY_IMAGES, BY_VOTES), "60 take 3.0 hours"),
    ("check_votes", (list(phones(30).values()), BY_IMAGES, BY_VOTES), "a dict of all 50"),
    ("check_votes", (SLOW, BY_IMAGES, BY_VOTES), "a dict of all 50"),
    (
        "check_votes",
        (
            {name: data.subset(np.arange(30)) for name, data in phones(300).items()},
            *2 * [BY_IMAGES],
        ),
        "the fast phones must keep",
    ),
    (
        "check_votes",
        (phones(30, dict.fromkeys(SLOW, FAST["phone-01"])), BY_IMAGES, BY_VOTES),
        "begin with SEVENS",
    ),
    ("check_votes", (phones(30), BY_IMAGES[0], BY_VOTES), "a pair of a history and its models"),
    ("check_votes", (phones(30), BY_IMAGES[::-1], BY_VOTES), "a history and its models"),
    (
        "check_votes",
        (phones(30), week(False, 0.87, heard=0), BY_VOTES),
        "Was it a race of `lighter`",
    ),
    ("check_votes", (phones(30), week(False, 0.87, rounds=23), BY_VOTES), "deadline=2 * HOUR"),
    ("check_votes", (phones(30), BY_IMAGES, BY_IMAGES), "both races are the same"),
    ("check_votes", (phones(30), BY_IMAGES, week(False, 0.88)), "whatever its num_examples"),
    ("check_votes", (phones(30), week(True, 0.93), BY_VOTES), "without a strategy of your own"),
    ("check_fed_async", (...,), "three dots"),
    ("check_fed_async", (lambda *given: ...,), "returns nothing"),
    ("check_fed_async", (exchanged,), "changed places"),
    ("check_fed_async", (never_stale,), "the staleness makes no difference"),
    ("check_fed_async", (by_zero,), "the power is that of 1 + staleness"),
    ("check_fed_async", (louder,), "counts more than a fresh one"),
    ("check_fed_async", (without_one,), "a is 0.300"),
    ("check_fed_async", (in_place,), "changes the arrays"),
    ("check_fed_async", (first_only,), "as many and of the same shapes"),
    ("check_fed_async", (right([np.ones(2)], [np.ones(2)], 0),), "without brackets"),
    ("check_fed_async", (lambda weights, update_weights: weights,), "TypeError"),
]
