"""The checkers of lesson 08."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

import fedlab
from exercises.verdict import asked, checker, expect, kind_of

SHAPES = ((5, 4), (4,), (4, 3), (3,))
SCALE = 5


def _weights(rng: np.random.Generator) -> fedlab.Weights:
    return [rng.normal(0, 1, shape).astype(np.float32) for shape in SHAPES]


@checker
def check_attack(attack: Callable[[fedlab.Update, fedlab.Task], fedlab.Update]) -> str:
    """Exercise 1: the change in the opposite direction, five times as long."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model, learned = _weights(rng), _weights(rng)
        task = fedlab.Task(1, 10, [w.copy() for w in model], fedlab.Training())
        update = fedlab.Update("mallory", 1, 600, [w.copy() for w in learned], 0.9, 0.3)
        got = asked(attack, update, task)
        expect(
            isinstance(got, fedlab.Update),
            f"your function returns a {kind_of(got)}; expected an Update: replace(update,"
            " weights=...) makes one.",
        )
        expect(
            got.num_examples == update.num_examples and got.client == update.client,
            "something else than the weights is another one. With replace(update, weights=...) it"
            " stays.",
        )
        expect(
            all(map(np.array_equal, task.weights, model)),
            "your function has changed task.weights, the model itself. Make new arrays.",
        )
        expect(
            isinstance(got.weights, (list, tuple)),
            f"the weights are a {kind_of(got.weights)}; expected a list of arrays.",
        )
        shapes = [np.shape(w) for w in got.weights]
        expect(
            shapes == list(SHAPES),
            f"the weights have the shapes {shapes}; expected {list(SHAPES)}, an array for each"
            " that came.",
        )

        def same(factor, of=None, got=got, model=model, learned=learned):
            """Whether the weights are these, or the model with so much of the change."""
            change = zip(model, learned, strict=True)
            expected = of or [w + factor * (new.astype(float) - w) for w, new in change]
            return all(
                np.allclose(a, b, rtol=1e-3, atol=1e-3)
                for a, b in zip(got.weights, expected, strict=True)
            )

        expect(not same(1), "the update is as it came: an honest client sends this.")
        expect(
            not same(SCALE),
            "the change is five times as long, but it points where the honest ones do.",
        )
        expect(not same(-1), "the change is reversed. How long was it to be?")
        change = [new - w for w, new in zip(model, learned, strict=True)]
        expect(
            not same(0, [-SCALE * c for c in change]),
            "that is the reversed change alone. A client sends a model: the task's weights, and"
            " the change on top.",
        )
        expect(
            not same(0, [-SCALE * new for new in learned]),
            "you have reversed the weights. Reverse the change: new weights minus task.weights.",
        )
        first = np.ravel(got.weights[0])[0] - np.ravel(model[0])[0]
        expect(
            same(-SCALE),
            f"the first number of the change was {np.ravel(change[0])[0]:.3f}, and yours is"
            f" {first:.3f}; expected {-SCALE * np.ravel(change[0])[0]:.3f}, and so on for all.",
        )
    return "reversed, five times as long. Four of twenty of these, and the mean goes backwards."


@checker
def check_trimmed(trimmed: Callable[[np.ndarray, int], np.ndarray]) -> str:
    """Exercise 2: of each number the mean without the f largest and the f smallest."""
    for seed, clients, f in ((0, 7, 1), (1, 20, 4), (2, 5, 2), (3, 6, 0)):
        rows = np.random.default_rng(seed).normal(0, 1, (clients, 8))
        rows[:f] *= 100
        with warnings.catch_warnings():  # the mean of no numbers is NaN, and the hint says why
            warnings.simplefilter("ignore", RuntimeWarning)
            got = asked(trimmed, rows, f)
        got = np.asarray(got, float) if isinstance(got, (list, tuple)) else got
        expect(
            isinstance(got, np.ndarray) and got.shape == (8,),
            f"for {clients} clients with 8 numbers your function returns a {kind_of(got)} of the"
            f" shape {np.shape(got)}; expected 8 numbers, one for each column.",
        )
        ranked = np.sort(rows, axis=0)
        right = ranked[f : clients - f].mean(axis=0)
        if np.allclose(got, right):
            continue
        about = f"for {clients} clients and f = {f}"
        expect(
            f > 0,
            f"{about} nobody is to be left out. (rows[0:-0] is empty: write len(rows) - f.)",
        )
        expect(
            not np.allclose(got, rows.mean(axis=0)),
            f"{about} you return the plain mean: nobody is left out.",
        )
        expect(
            not np.allclose(got, np.median(rows, axis=0)),
            f"{about} you return the median. Of what is left when f are left out at each end, take"
            " the mean.",
        )
        for kept in (ranked[f:], ranked[: clients - f]):
            expect(
                not np.allclose(got, kept.mean(axis=0)),
                f"{about} you leave out f values at one end only. Who lies may send too much or too"
                " little.",
            )
        by_client = [np.linalg.norm(rows, axis=1).argsort(), rows.mean(axis=1).argsort()]
        for order in (*by_client, np.arange(clients)):
            for kept in (order[f : clients - f], order[: clients - f], order[: clients - 2 * f]):
                expect(
                    not np.allclose(got, rows[kept].mean(axis=0)),
                    f"{about} you leave out whole clients. Look at every column by itself: sort it"
                    " (np.sort(rows, axis=0)).",
                )
        expect(
            False,
            f"{about} the first column {np.round(ranked[:, 0], 2).tolist()} becomes {got[0]:.3f};"
            f" expected {right[0]:.3f}.",
        )
    return "column by column, f at each end: what four of twenty send is no extreme any more."


def _near(ranked: np.ndarray, several: int, first: int = 1) -> int:
    """Who has the smallest sum over its nearest. ranked: of each row the sorted distances."""
    return int(ranked[:, first : first + several].sum(axis=1).argmin())


WRONG_KRUMS = {  # what a usual mistake takes, from the rows, their sorted distances, n - f - 2
    "you take the largest sum, which is that of the loneliest row. Krum takes the smallest.": (
        lambda rows, ranked, near: int(ranked[:, 1 : near + 1].sum(axis=1).argmax())
    ),
    "the distance of a row to itself is 0, and it is no neighbour: count n - f - 2 others.": (
        lambda rows, ranked, near: _near(ranked, near, 0)
    ),
    "you take the row nearest to the mean of all (who counts all others takes the same one). The"
    " liars are in that mean: count only the n - f - 2 nearest.": (
        lambda rows, ranked, near: _near(ranked, len(rows))
    ),
    "square the distances before you add them.": (
        lambda rows, ranked, near: _near(np.sqrt(ranked), near)
    ),
    "you take the row that has one near neighbour. n - f - 2 are to be near.": (
        lambda rows, ranked, near: _near(ranked, 1)
    ),
}


@checker
def check_krum(krum: Callable[[np.ndarray, int], int]) -> str:
    """Exercise 3: the number of the row that Krum takes."""
    tasks, answers = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clients, f = ((7, 1), (9, 3), (12, 4), (20, 4))[seed % 4]
        rows = rng.normal(0, 1, (clients, 3)) * rng.exponential(1, (clients, 1))
        rows[rng.permutation(clients)[:f]] += (0.0, 6.0, 0.0)
        got = asked(krum, rows, f)
        expect(
            isinstance(got, (int, np.integer)) and not isinstance(got, bool),
            f"your function returns a {kind_of(got)}; expected a whole number: which row it is.",
        )
        expect(
            0 <= got < clients,
            f"your function returns {got}, and the rows are 0 to {clients - 1}.",
        )
        ranked = np.sort(((rows[:, None] - rows) ** 2).sum(axis=2), axis=1)
        tasks.append((rows, ranked, clients - f - 2))
        answers.append(int(got))
    for hint, taken in WRONG_KRUMS.items():
        expect(answers != [taken(*one) for one in tasks], hint)
    for got, (rows, ranked, near) in zip(answers, tasks, strict=True):
        right = _near(ranked, near)
        sums = np.round(ranked[:, 1 : near + 1].sum(axis=1), 1).tolist()
        expect(
            got == right,
            f"of {len(rows)} rows you take row {got}. The sums of the squared distances to the"
            f" {near} nearest others are {sums}: row {right} has the smallest.",
        )
    return "forty times the row that the library's Krum takes."
