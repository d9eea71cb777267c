"""Right and wrong answers to the exercises of lesson 11."""

import numpy as np

import fedlab


def one_vote(updates):
    several = list(updates)
    columns = zip(*(update.weights for update in several), strict=True)
    mean = [np.mean(arrays, axis=0) for arrays in columns]
    return mean, sum(update.num_examples for update in several)


def running(updates):
    """Without keeping them all."""
    sums, count, examples = None, 0, 0
    for update in updates:
        if sums is None:
            sums = [np.zeros(w.shape) for w in update.weights]
        sums = [total + w for total, w in zip(sums, update.weights, strict=True)]
        count, examples = count + 1, examples + update.num_examples
    return [total / count for total in sums], examples


def twice(updates):
    lists = [update.weights for update in updates]
    mean = [np.mean(arrays, axis=0) for arrays in zip(*lists, strict=True)]
    return mean, sum(update.num_examples for update in updates)


def added(updates):
    several = list(updates)
    columns = zip(*(update.weights for update in several), strict=True)
    return [np.sum(arrays, axis=0) for arrays in columns], sum(u.num_examples for u in several)


def counts_updates(updates):
    several = list(updates)
    return one_vote(several)[0], len(several)


def first_only(updates):
    several = list(updates)
    return several[0].weights, one_vote(several)[1]


def in_place(updates):
    several = list(updates)
    for update in several[1:]:
        for array, other in zip(several[0].weights, update.weights, strict=True):
            array += other
    return [w / len(several) for w in several[0].weights], sum(u.num_examples for u in several)


def first_array(updates):
    several = list(updates)
    return [np.mean([u.weights[0] for u in several], axis=0)], one_vote(several)[1]


SHARES = 480 / 15_480, 20 / 23
FULL = 30 * 2 * 797_000 * 8 / 100e6

RIGHT = [
    ("check_means", (17 / 30, 49 / 60, "phones")),
    ("check_means", (0.57, 0.82, "Phones")),
    ("check_votes", (one_vote, *SHARES)),
    ("check_votes", (running, 0.031, 0.87)),
    ("check_wifi", (FULL, FULL / 2, 30 * 24 * 784 * 8 / 100e6)),
    ("check_wifi", (3.8, 1.9, 0.045)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_means", (..., 0.8, "pot"), "three dots"),
    ("check_means", (49 / 60, 17 / 30, "phones"), "changed places"),
    ("check_means", (49 / 60, 49 / 60, "phones"), "each phone by itself"),
    ("check_means", (17 / 30, 17 / 30, "phones"), "all three phones together"),
    ("check_means", (56.7, 81.7, "phones"), "from 0 to 1"),
    ("check_means", ("0.57", 0.82, "phones"), "expected a number"),
    ("check_means", (17 / 30, 49 / 60, "pot"), "how often is it Ann"),
    ("check_means", (17 / 30, 49 / 60, "both"), "'phones' or 'pot'"),
    ("check_votes", (..., ..., ...), "three dots"),
    ("check_votes", (lambda updates: ..., *SHARES), "returns nothing yet"),
    ("check_votes", (fedlab.weighted_mean, *SHARES), "weighed by images"),
    ("check_votes", (added, *SHARES), "that is the sum"),
    ("check_votes", (twice, *SHARES), "twice"),
    ("check_votes", (counts_updates, *SHARES), "num_examples of all"),
    ("check_votes", (first_only, *SHARES), "plain mean"),
    ("check_votes", (in_place, *SHARES), "make new arrays"),
    ("check_votes", (first_array, *SHARES), "as many and of the same shapes"),
    ("check_votes", (lambda updates: one_vote(updates)[0], *SHARES), "two things"),
    ("check_votes", (lambda updates: updates[0], *SHARES), "ended in TypeError"),
    ("check_votes", ([1, 2], *SHARES), "without brackets"),
    ("check_votes", (one_vote, 480 / 15_000, 20 / 23), "share of all images"),
    ("check_votes", (one_vote, 20 / 23, 20 / 23), "How many images"),
    ("check_votes", (one_vote, 480 / 15_480, 20 / 3), "How many votes"),
    ("check_wifi", (..., 1.9, 0.045), "three dots"),
    ("check_wifi", (FULL / 8, FULL / 16, 0.045), "in bits"),
    ("check_wifi", (FULL / 2, FULL / 4, 0.045), "one direction"),
    ("check_wifi", (FULL / 30, FULL / 60, 0.0015), "counts one phone"),
    ("check_wifi", (40.0, 20.0, 0.045), "how many bits go in a second"),
    ("check_wifi", (FULL, FULL, 0.045), "becomes of the bytes"),
    ("check_wifi", (FULL, FULL / 2, 0.0015), "thirty phones"),
    ("check_wifi", (FULL, FULL / 2, 0.0056), "an eighth"),
    ("check_wifi", (FULL, FULL / 2, 1.0), "784 pixels"),
    ("check_wifi", (None, FULL / 2, 1.0), "three dots"),
]
