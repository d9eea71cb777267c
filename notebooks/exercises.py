"""Checkers for the exercises of the lessons: each looks at an answer and says that it is right, or gives one hint.

A checker never raises, whatever it is given, and never shows the solution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

import fedlab


@dataclass(frozen=True)
class Verdict:
    """What a checker says. It is true when the answer is right; shown at the end of a cell, it is a sentence."""

    right: bool
    sentence: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}: {self.sentence}"

    def _repr_html_(self) -> str:
        mark, line, fill = ("✓", "#2a7f3f", "#eaf5ec") if self.right else ("→", "#b35900", "#fdf3e6")
        look = f"border-left:5px solid {line};background:{fill};color:#111;padding:8px 12px;font-size:15px"
        return f'<div role="status" style="{look}">{mark} {escape(repr(self))}</div>'


class _Hint(Exception):
    """The answer is not right yet; the text says where to look."""


def _checker(check: Callable[..., str]) -> Callable[..., Verdict]:
    """`check` returns a sentence for a right answer and raises _Hint for a wrong one; this turns both, and any error, into a Verdict."""

    @functools.wraps(check)
    def checked(*answers) -> Verdict:
        if any(answer is None or answer is ... for answer in answers):
            return Verdict(False, "put your own answer in the place of the three dots, then run the cell again.")
        try:
            return Verdict(True, check(*answers))
        except _Hint as hint:
            return Verdict(False, str(hint))
        except Exception as error:  # the answer is of a kind that nobody thought of: still a sentence
            return Verdict(False, f"looking at your answer ended in {type(error).__name__}: {error}. Is it what the exercise asks for?")

    return checked


def _expect(true: bool, hint: str) -> None:
    if not true:
        raise _Hint(hint)


# ---- lesson 01 ---------------------------------------------------------------------------------------------------------


@_checker
def check_twelve(shards: dict[str, tuple[int, int]], history: fedlab.History) -> str:
    """Exercise 1: twelve clients with a shard each, five rounds, every other setting as before."""
    _expect(isinstance(shards, dict), f"the first answer is of the type {_type(shards)}; expected a dict, as SHARDS is.")
    _expect(len(shards) == 12, f"there are {len(shards)} clients; expected 12.")
    ranges = {tuple(held) for held in shards.values()}
    _expect(all(first == last for first, last in ranges), "somebody holds more than one shard: first and last must be the same number.")
    _expect(len(ranges) == 12, f"{len(ranges)} different shards are held; expected 12. Give every client a shard of its own.")
    _expect(isinstance(history, fedlab.History), f"the second answer is of the type {_type(history)}; expected what server.run returns.")
    _expect(len(history) == 5, f"the history has {len(history)} rounds; expected 5, from a new server.")
    names = sorted(history.last.clients)
    _expect(names == sorted(shards), f"in this history {len(names)} clients took part. Is it the history of the run with your twelve?")
    accuracy = history.last.accuracy
    _expect(0.93 < accuracy < 0.965, f"after round 5 it has {accuracy:.1%}; expected about 95 %. Did another setting change as well?")
    return f"twelve clients have {accuracy:.1%} after five rounds, and three had more than 97 %, with the same images. Can you say why?"


IMAGE_BYTES = 60_000 * 784  # one byte a pixel
MESSAGE_BYTES = 797_400  # a task or an update of the 2NN: 796,840 bytes of weights, and a header


@_checker
def check_bytes(rounds: float) -> str:
    """Exercise 2: the first round after which more bytes were exchanged than all images have. Three clients, both ways."""
    _expect(not isinstance(rounds, bool) and isinstance(rounds, (int, float, np.number)), "expected a number of rounds, such as 3.")
    right, one_way, one_client = (math.ceil(IMAGE_BYTES / (messages * MESSAGE_BYTES)) for messages in (6, 3, 2))
    _expect(rounds not in (one_way, one_way - 1), "that counts one direction only. In every round the model also goes the other way.")
    _expect(rounds not in (one_client, one_client - 1), "that counts one client only. Three receive the model, and three send theirs.")
    _expect(rounds == int(rounds), "only whole rounds can be run. After which one is the sum larger for the first time?")
    _expect(rounds != right - 1, "close: after that round the sum is still a little smaller than the images.")
    _expect(rounds == right, "divide the bytes of all training images by the bytes of one round, history[0].bytes.")
    return f"from round {right} on, the models that were sent have more bytes than all the images."


@_checker
def check_average(average: Callable[[list[fedlab.Update]], list[np.ndarray]]) -> str:
    """Exercise 3: a function from updates to the weighted mean of their weights."""
    _expect(callable(average), f"the answer is of the type {_type(average)}; expected the function itself, without brackets.")
    updates = _hand_sized()
    try:
        got = average(updates)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise _Hint(f"your function ended in {what}. It gets a list of updates, each with .weights and .num_examples.") from None
    _expect(got is not None and got is not ..., "your function returns nothing yet. It must return the list of averaged arrays.")
    changed = not all(_close(mine.weights, fresh.weights) for mine, fresh in zip(updates, _hand_sized(), strict=True))
    _expect(not changed, "your function changes the arrays of the updates that it gets. Make new arrays instead.")
    shapes = [np.shape(array) for array in got]
    _expect(shapes == [(2, 3), (3,)], f"you return arrays of the shapes {shapes}; expected [(2, 3), (3,)], as each update has.")
    _expect(not _is_sum(got, 1 / 3, 1 / 3, 1 / 3), "this is the plain mean: here a client with 1 example counts as much as one with 6.")
    _expect(not _is_sum(got, 1 / 3, 3 / 3, 6 / 3), "you divide by the number of clients. Divide by what, so that the shares make 1?")
    _expect(not _is_sum(got, 1, 3, 6), "each model is multiplied by its number of examples; now divide, so that the shares make 1.")
    _expect(_is_sum(got, 0.1, 0.3, 0.6), "with 1, 3 and 6 examples the shares must be 1/10, 3/10 and 6/10.")
    return "your server update is the one of federated averaging (FedAvg)."


def _hand_sized() -> list[fedlab.Update]:
    """Three updates of two small arrays, with 1, 3 and 6 examples: unequal, so that a wrong weighing shows."""
    rng = np.random.default_rng(1)
    counts = {"a": 1, "b": 3, "c": 6}
    return [fedlab.Update(name, 1, n, [rng.normal(size=(2, 3)), rng.normal(size=3)]) for name, n in counts.items()]


def _is_sum(got: Sequence[np.ndarray], *shares: float) -> bool:
    """Whether `got` is the sum of the hand-sized updates, each multiplied by its share."""
    terms = [[share * array for array in update.weights] for share, update in zip(shares, _hand_sized(), strict=True)]
    return _close(got, [sum(arrays) for arrays in zip(*terms, strict=True)])


def _close(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(some, others, strict=True))


def _type(answer) -> str:
    return type(answer).__name__
