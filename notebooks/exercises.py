"""Checkers for the exercises of the lessons: each looks at an answer and says that it is right, or
gives one hint.

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
from fedlab.checks import counted


@dataclass(frozen=True)
class Verdict:
    """What a checker says. It is true when the answer is right; shown at the end of a cell, it is a
    sentence.
    """

    right: bool
    sentence: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}: {self.sentence}"

    def _repr_html_(self) -> str:
        mark, line, fill = (
            ("✓", "#2a7f3f", "#eaf5ec") if self.right else ("→", "#b35900", "#fdf3e6")
        )
        look = (
            f"border-left:5px solid {line};background:{fill};color:#111;padding:8px"
            " 12px;font-size:15px"
        )
        return f'<div role="status" style="{look}">{mark} {escape(repr(self))}</div>'


class _Hint(Exception):
    """The answer is not right yet; the text says where to look."""


def _checker(check: Callable[..., str]) -> Callable[..., Verdict]:
    """`check` returns a sentence for a right answer and raises _Hint for a wrong one; this turns
    both, and any error, into a Verdict.
    """

    @functools.wraps(check)
    def checked(*answers) -> Verdict:
        if any(answer is None or answer is ... for answer in answers):
            return Verdict(
                False,
                "put your own answer in the place of the three dots, then run the cell again.",
            )
        try:
            return Verdict(True, check(*answers))
        except _Hint as hint:
            return Verdict(False, str(hint))
        except (
            Exception
        ) as error:  # the answer is of a kind that nobody thought of: still a sentence
            return Verdict(
                False,
                f"looking at your answer ended in {type(error).__name__}: {error}. Is it what the"
                " exercise asks for?",
            )

    return checked


def _expect(true: bool, hint: str) -> None:
    if not true:
        raise _Hint(hint)


# ---- lesson 01 -----------------------------------------------------------------------------------


@_checker
def check_twelve(shards: dict[str, tuple[int, int]], history: fedlab.History) -> str:
    """Exercise 1: twelve clients with a shard each, five rounds, every other setting as before."""
    _expect(
        isinstance(shards, dict),
        f"the first answer is of the type {_type(shards)}; expected a dict, as SHARDS is.",
    )
    _expect(len(shards) == 12, f"got {counted(len(shards), 'client')}; expected 12.")
    ranges = {tuple(held) for held in shards.values()}
    _expect(
        all(first == last for first, last in ranges),
        "somebody holds more than one shard: first and last must be the same number.",
    )
    _expect(
        len(ranges) == 12,
        f"got {counted(len(ranges), 'different shard')}; expected 12. Give every client a shard of"
        " its own.",
    )
    _expect(
        isinstance(history, fedlab.History),
        f"the second answer is of the type {_type(history)}; expected what server.run returns.",
    )
    _expect(
        len(history) == 5,
        f"the history has {counted(len(history), 'round')}; expected 5, from a new server.",
    )
    names = sorted(history.last.clients)
    _expect(
        names == sorted(shards),
        f"in this history {counted(len(names), 'client')} took part. Is it the history of the run"
        " with your twelve?",
    )
    accuracy = history.last.accuracy
    _expect(
        0.93 < accuracy < 0.965,
        f"after round 5 it has {accuracy:.1%}; expected about 95 %. Did another setting change as"
        " well?",
    )
    return (
        f"twelve clients have {accuracy:.1%} after five rounds, and three had more than 97 %, with"
        " the same images. Can you say why?"
    )


IMAGE_BYTES = 60_000 * 784  # one byte a pixel
MESSAGE_BYTES = 797_400  # a task or an update of the 2NN: 796,840 bytes of weights, and a header


@_checker
def check_bytes(rounds: float) -> str:
    """Exercise 2: the first round after which more bytes were exchanged than all images have. Three
    clients, both ways.
    """
    _expect(
        not isinstance(rounds, bool) and isinstance(rounds, (int, float, np.number)),
        "expected a number of rounds, such as 3.",
    )
    right, one_way, one_client = (
        math.ceil(IMAGE_BYTES / (messages * MESSAGE_BYTES)) for messages in (6, 3, 2)
    )
    _expect(
        rounds not in (one_way, one_way - 1),
        "that counts one direction only. In every round the model also goes the other way.",
    )
    _expect(
        rounds not in (one_client, one_client - 1),
        "that counts one client only. Three receive the model, and three send theirs.",
    )
    _expect(
        rounds == int(rounds),
        "only whole rounds can be run. After which one is the sum larger for the first time?",
    )
    _expect(
        rounds != right - 1,
        "close: after that round the sum is still a little smaller than the images.",
    )
    _expect(
        rounds == right,
        "divide the bytes of all training images by the bytes of one round, history[0].bytes.",
    )
    return f"from round {right} on, the models that were sent have more bytes than all the images."


@_checker
def check_average(average: Callable[[list[fedlab.Update]], list[np.ndarray]]) -> str:
    """Exercise 3: a function from updates to the weighted mean of their weights."""
    _expect(
        callable(average),
        f"the answer is of the type {_type(average)}; expected the function itself, without"
        " brackets.",
    )
    updates = _hand_sized()
    try:
        got = average(updates)
    except IndexError:  # range(6), as in the lesson by hand, where six arrays are right
        raise _Hint(
            "your function asks for an array or an update that is not there. Here it got three"
            " updates of two small arrays each, not of six as in part 5: let the updates say how"
            " many arrays they have."
        ) from None
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise _Hint(
            f"your function ended in {what}. It gets a list of updates, each with .weights and"
            " .num_examples."
        ) from None
    _expect(
        got is not None and got is not ...,
        "your function returns nothing yet. It must return the list of averaged arrays.",
    )
    changed = not all(
        _close(mine.weights, fresh.weights)
        for mine, fresh in zip(updates, _hand_sized(), strict=True)
    )
    _expect(
        not changed,
        "your function changes the arrays of the updates that it gets. Make new arrays instead.",
    )
    shapes = [np.shape(array) for array in got]
    _expect(
        shapes == [(2, 3), (3,)],
        f"you return arrays of the shapes {shapes}; expected [(2, 3), (3,)], as each update has.",
    )
    _expect(
        not _is_sum(got, 1 / 3, 1 / 3, 1 / 3),
        "this is the plain mean: here a client with 1 example counts as much as one with 6.",
    )
    _expect(
        not _is_sum(got, 1 / 3, 3 / 3, 6 / 3),
        "you divide by the number of clients. Divide by what, so that the shares make 1?",
    )
    _expect(
        not _is_sum(got, 1, 3, 6),
        "each model is multiplied by its number of examples; now divide, so that the shares"
        " make 1.",
    )
    _expect(
        _is_sum(got, 0.1, 0.3, 0.6),
        "with 1, 3 and 6 examples the shares must be 1/10, 3/10 and 6/10.",
    )
    kinds = {np.asarray(array).dtype for array in got}
    _expect(
        kinds == {np.dtype(np.float32)},
        f"the numbers are right, but of the type {', '.join(sorted(map(str, kinds)))}; the model's"
        ' are float32: add .astype("float32").',
    )
    return "your server update is the one of federated averaging (FedAvg)."


def _hand_sized() -> list[fedlab.Update]:
    """Three updates of two small arrays, with 1, 3 and 6 examples: unequal, so that a wrong
    weighing shows.
    """
    rng = np.random.default_rng(1)
    counts = {"a": 1, "b": 3, "c": 6}
    return [
        fedlab.Update(
            name, 1, n, [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3), (3,))]
        )
        for name, n in counts.items()
    ]


def _is_sum(got: Sequence[np.ndarray], *shares: float) -> bool:
    """Whether `got` is the sum of the hand-sized updates, each multiplied by its share."""
    terms = [
        [share * array for array in update.weights]
        for share, update in zip(shares, _hand_sized(), strict=True)
    ]
    return _close(got, [sum(arrays) for arrays in zip(*terms, strict=True)])


def _close(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(some, others, strict=True))


def _type(answer) -> str:
    # Every strategy is one to a student, whatever it is made of.
    return "Strategy" if isinstance(answer, fedlab.Strategy) else type(answer).__name__


# ---- lesson 03 -----------------------------------------------------------------------------------


@_checker
def check_infinity(steps_10: int, steps_infinity: int, history: fedlab.History) -> str:
    """Exercise 1: training steps of 600 images with B = 10 and with B = infinity, and 30 rounds
    with the latter.
    """
    for steps in (steps_10, steps_infinity):
        _expect(
            not isinstance(steps, bool) and isinstance(steps, (int, float, np.number)),
            "expected a number of steps, such as 3.",
        )
    _expect(
        steps_10 != 10,
        "10 is the number of images in one step. How many such steps go through 600 images?",
    )
    _expect(
        steps_10 == 60, "a client has 600 images and takes 10 in each step. How many steps is that?"
    )
    _expect(
        steps_infinity != 600,
        "600 steps would be one image in each step (B = 1). With B = infinity all images are in one"
        " step.",
    )
    _expect(
        steps_infinity == 1,
        "with B = infinity one step takes all of the client's images. How many steps is one epoch"
        " then?",
    )
    _expect(
        isinstance(history, fedlab.History),
        f"the third answer is of the type {_type(history)}; expected what run(...) returns.",
    )
    _expect(
        len(history) == 30,
        f"the history has {counted(len(history), 'round')}; expected 30 (rounds=30).",
    )
    accuracy = history.last.accuracy
    _expect(
        accuracy < 0.94,
        f"after round 30 it has {accuracy:.1%}: as much as with B = 10. Is B=None in this run?",
    )
    _expect(
        accuracy > 0.65,
        f"after round 30 it has {accuracy:.1%}; expected about 78 %. Did another setting change as"
        " well?",
    )
    return (
        f"one step a round in place of 60: {accuracy:.1%} after 30 rounds, in place of almost 97 %."
        " A round is worth as much as its steps."
    )


@_checker
def check_momentum(plain: fedlab.History, momentum: fedlab.History) -> str:
    """Exercise 2: non-IID, once without and once with momentum on the server, which reaches 90 % in
    at most 0.8 times the rounds.
    """
    for name, history in (("first", plain), ("second", momentum)):
        _expect(
            isinstance(history, fedlab.History),
            f"the {name} answer is of the type {_type(history)}; expected what run(...) returns.",
        )
        _expect(
            len(history) == 60,
            f"the {name} history has {counted(len(history), 'round')}; expected 60 (rounds=60).",
        )
        _expect(
            history[0].accuracy < 0.7,
            f"the {name} run has {history[0].accuracy:.0%} after one round: IID data? Expected"
            " non-IID.",
        )
    _expect(
        plain.accuracy != momentum.accuracy,
        "both runs are the same. Give the second one strategy=fedlab.fed_avg_momentum(...).",
    )
    before, after = (history.rounds_to(0.9) or math.inf for history in (plain, momentum))
    _expect(
        before < math.inf,
        "the run without momentum does not reach 90 %. Is its learning rate that of part 1?",
    )
    hint = (
        "With momentum b, one push goes on for 1/(1-b) rounds: 0.9 makes it ten times as long. Try"
        " a smaller b."
    )
    reached = f"90 % after {after:.0f} rounds" if after < math.inf else "90 % not within 60 rounds"
    _expect(after <= 0.8 * before, f"{reached}, and {before:.0f} without. {hint}")
    return (
        f"90 % after {after:.0f} rounds in place of {before:.0f}. The clients and the bytes of a"
        " round are the same: only the server does more."
    )


@_checker
def check_epochs(histories: dict[int, fedlab.History], hurts_from: int) -> str:
    """Exercise 3: non-IID, 20 rounds with E = 1, 5 and 10, and the first E that saves less than a
    third of the rounds to 80 %.
    """
    _expect(
        isinstance(histories, dict) and set(histories) == {1, 5, 10},
        "the first answer must be a dict with the keys 1, 5 and 10.",
    )
    for epochs, history in histories.items():
        _expect(
            isinstance(history, fedlab.History),
            f"for E = {epochs} there is a {_type(history)}; expected what run(...) returns.",
        )
        _expect(
            len(history) == 20,
            f"for E = {epochs} the history has {counted(len(history), 'round')}; expected 20"
            " (rounds=20).",
        )
        _expect(
            history[0].accuracy < 0.7,
            f"for E = {epochs} there are {history[0].accuracy:.0%} after one round: IID data?",
        )
    curves = {tuple(history.accuracy) for history in histories.values()}
    _expect(
        len(curves) == 3, "two of the runs are the same, number by number. Is E=... given to each?"
    )
    _expect(hurts_from != 1, "E = 1 is what the others are compared with.")
    needed = ", ".join(
        f"{history.rounds_to(0.8) or math.inf:.1f} (E = {epochs})"
        for epochs, history in sorted(histories.items())
    )
    _expect(hurts_from == 5, f"the rounds to 80 % are {needed}. Compare E = 5 with E = 1.")
    return (
        "already E = 5: five times the computing saves hardly a round, because each client goes"
        " further into its own two digits."
    )


# ---- lesson 9 ------------------------------------------------------------------------------------


@_checker
def check_break_even(seconds) -> str:
    """Exercise 1: 10 * s / 2 = s + 12."""
    seconds = float(seconds)
    _expect(seconds > 0, "training takes time: a number of seconds above 0.")
    _expect(
        not math.isclose(seconds, 12 / 9, rel_tol=0.02),
        "that is for a machine with one core. Two clients at a time train on two cores.",
    )
    _expect(
        not math.isclose(seconds, 12),
        "with s = 12 the one machine takes 60 seconds and the ten take 24: they are faster long"
        " before.",
    )
    _expect(
        math.isclose(seconds, 3, rel_tol=0.02),
        f"one machine: 10 × s / 2 = {5 * seconds:g} s; ten machines: s + 12 = {seconds + 12:g} s."
        " They should be equal.",
    )
    return "from 3 seconds on. Below that, one machine is faster."


@_checker
def check_flowers_fedavg(simulated, flowers) -> str:
    """Exercise 2: the same federation, averaged by fedlab and by Flower."""
    _expect(
        len(simulated) == len(flowers) == 3,
        f"the first run has {counted(len(simulated), 'round')} and the second {len(flowers)}; make"
        " both with rounds=3.",
    )
    gaps = [abs(a.loss - b.loss) for a, b in zip(simulated, flowers, strict=True)]
    _expect(math.isfinite(gaps[0]), "there are no losses: give both runs test=mnist.test.")
    _expect(
        gaps[0] < 1e-4,
        f"the first losses differ by {gaps[0]:.3f}: not the same settings, seed or clients? In"
        " both, all clients take part.",
    )
    _expect(
        max(gaps) > 0, "the losses are equal to the last bit: did Flower's own strategy average?"
    )
    return (
        f"after one round the losses differ by {gaps[0]:.0e}: rounding. Flower adds in another"
        " order, and in 32-bit numbers."
    )
