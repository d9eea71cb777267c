"""Right and wrong answers to the exercises of lesson 08."""

from dataclasses import replace

import numpy as np

import fedlab


def pairs(update, task):
    return zip(task.weights, update.weights, strict=True)


def attack(update, task):
    return replace(update, weights=[w - 5 * (new - w) for w, new in pairs(update, task)])


def the_librarys(update, task):
    return fedlab.SignFlip(5).update(update, task)


def times(factor):
    """The change so many times as long."""

    def sent(update, task):
        return replace(update, weights=[w + factor * (n - w) for w, n in pairs(update, task)])

    return sent


def change_alone(update, task):
    return replace(update, weights=[-5 * (new - w) for w, new in pairs(update, task)])


def weights_reversed(update, task):
    return replace(update, weights=[-5 * new for new in update.weights])


def in_place(update, task):
    sent = attack(update, task)
    for w in task.weights:
        w += 1
    return sent


def claims_more(update, task):
    return replace(attack(update, task), num_examples=60_000)


def first_only(update, task):
    return replace(update, weights=[attack(update, task).weights[0], *update.weights[1:]])


def trimmed(rows, f):
    return np.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)


def column_by_column(rows, f):
    return [float(np.mean(sorted(column)[f : len(column) - f])) for column in rows.T]


def whole_clients(rows, f):
    order = np.argsort(np.linalg.norm(rows, axis=1))
    return rows[order[: len(rows) - 2 * f]].mean(axis=0)


def distances(rows):
    return ((rows[:, None] - rows) ** 2).sum(axis=2)


def krum(rows, f):
    near = len(rows) - f - 2
    return np.sort(distances(rows), axis=1)[:, 1 : near + 1].sum(axis=1).argmin()


def by_loops(rows, f):
    scores = []
    for i, row in enumerate(rows):
        far = sorted(np.sum((row - other) ** 2) for j, other in enumerate(rows) if j != i)
        scores.append(sum(far[: len(rows) - f - 2]))
    return scores.index(min(scores))


def with_itself(rows, f):
    near = len(rows) - f - 2
    return np.sort(distances(rows), axis=1)[:, :near].sum(axis=1).argmin()


def loneliest(rows, f):
    near = len(rows) - f - 2
    return np.sort(distances(rows), axis=1)[:, 1 : near + 1].sum(axis=1).argmax()


def not_squared(rows, f):
    near = len(rows) - f - 2
    return np.sqrt(np.sort(distances(rows), axis=1))[:, 1 : near + 1].sum(axis=1).argmin()


def one_more(rows, f):
    near = len(rows) - f - 1
    return np.sort(distances(rows), axis=1)[:, 1 : near + 1].sum(axis=1).argmin()


RIGHT = [
    ("check_attack", (attack,)),
    ("check_attack", (the_librarys,)),
    ("check_attack", (times(-5),)),
    ("check_trimmed", (trimmed,)),
    ("check_trimmed", (column_by_column,)),
    ("check_krum", (krum,)),
    ("check_krum", (by_loops,)),
    ("check_krum", (lambda rows, f: int(krum(rows, f)),)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_attack", (...,), "three dots"),
    ("check_attack", ({},), "without brackets"),
    ("check_attack", (lambda update, task: ...,), "returns nothing yet"),
    ("check_attack", (lambda update, task: update,), "an honest client"),
    ("check_attack", (lambda update, task: update.weights,), "expected an Update"),
    ("check_attack", (lambda update, task: task.wieghts,), "AttributeError"),
    ("check_attack", (times(5),), "points where the honest ones do"),
    ("check_attack", (times(-1),), "How long"),
    ("check_attack", (times(-4),), "expected"),
    ("check_attack", (change_alone,), "on top"),
    ("check_attack", (weights_reversed,), "reversed the weights"),
    ("check_attack", (in_place,), "the model itself"),
    ("check_attack", (claims_more,), "something else than the weights"),
    ("check_attack", (first_only,), "expected"),
    ("check_attack", (lambda u, t: replace(u, weights=u.weights[:1]),), "an array for each"),
    ("check_attack", (lambda u, t: replace(u, weights=5),), "expected a list of arrays"),
    ("check_trimmed", (...,), "three dots"),
    ("check_trimmed", (lambda rows, f: rows.mean(axis=0),), "the plain mean"),
    ("check_trimmed", (lambda rows, f: rows.mean(),), "expected 8 numbers"),
    ("check_trimmed", (lambda rows, f: np.median(rows, axis=0),), "what is left"),
    ("check_trimmed", (lambda rows, f: np.sort(rows, 0)[f:-f].mean(0),), "rows[0:-0]"),
    ("check_trimmed", (lambda rows, f: np.sort(rows, 0)[f:].mean(0),), "at one end only"),
    ("check_trimmed", (whole_clients,), "whole clients"),
    ("check_trimmed", (lambda rows, f: rows[f : len(rows) - f].mean(0),), "whole clients"),
    ("check_trimmed", (lambda rows, f: trimmed(rows, f) + 1,), "the first column"),
    ("check_krum", (...,), "three dots"),
    ("check_krum", (lambda rows, f: rows[krum(rows, f)],), "a whole number"),
    ("check_krum", (lambda rows, f: 99,), "0 to 6"),
    ("check_krum", (lambda rows, f: 0,), "you take row 0"),
    ("check_krum", (with_itself,), "no neighbour"),
    ("check_krum", (loneliest,), "loneliest"),
    ("check_krum", (not_squared,), "square the distances"),
    ("check_krum", (lambda rows, f: distances(rows).sum(axis=1).argmin(),), "nearest to the mean"),
    ("check_krum", (one_more,), "has the smallest"),
    (
        "check_krum",
        (lambda rows, f: np.linalg.norm(rows - rows.mean(axis=0), axis=1).argmin(),),
        "nearest to the mean",
    ),
    (
        "check_krum",
        (lambda rows, f: np.sort(distances(rows), axis=1)[:, 1].argmin(),),
        "one near neighbour",
    ),
]
