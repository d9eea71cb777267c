"""The checkers of lesson 03."""

from __future__ import annotations

import math

import numpy as np

import fedlab
from exercises.verdict import checker, expect, kind_of
from fedlab.checks import counted


@checker
def check_infinity(steps_10: int, steps_infinity: int, history: fedlab.History) -> str:
    """Exercise 1: training steps of 600 images with B = 10 and with B = infinity, and 30 rounds
    with the latter.
    """
    for steps in (steps_10, steps_infinity):
        expect(
            not isinstance(steps, bool) and isinstance(steps, (int, float, np.number)),
            "expected a number of steps, such as 3.",
        )
    expect(
        steps_10 != 10,
        "10 is the number of images in one step. How many such steps go through 600 images?",
    )
    expect(
        steps_10 == 60, "a client has 600 images and takes 10 in each step. How many steps is that?"
    )
    expect(
        steps_infinity != 600,
        "600 steps would be one image in each step (B = 1). With B = infinity all images are in one"
        " step.",
    )
    expect(
        steps_infinity == 1,
        "with B = infinity one step takes all of the client's images. How many steps is one epoch"
        " then?",
    )
    expect(
        isinstance(history, fedlab.History),
        f"the third answer is of the type {kind_of(history)}; expected what run(...) returns.",
    )
    expect(
        len(history) == 30,
        f"the history has {counted(len(history), 'round')}; expected 30 (rounds=30).",
    )
    accuracy = history.last.accuracy
    expect(
        accuracy < 0.94,
        f"after round 30 it has {accuracy:.1%}: as much as with B = 10. Is B=None in this run?",
    )
    expect(
        accuracy > 0.65,
        f"after round 30 it has {accuracy:.1%}; expected about 78 %. Did another setting change as"
        " well?",
    )
    return (
        f"one step a round in place of 60: {accuracy:.1%} after 30 rounds, in place of almost 97 %."
        " A round is worth as much as its steps."
    )


@checker
def check_momentum(plain: fedlab.History, momentum: fedlab.History) -> str:
    """Exercise 2: non-IID, once without and once with momentum on the server, which reaches 90 % in
    at most 0.8 times the rounds.
    """
    for name, history in (("first", plain), ("second", momentum)):
        expect(
            isinstance(history, fedlab.History),
            f"the {name} answer is of the type {kind_of(history)}; expected what run(...) returns.",
        )
        expect(
            len(history) == 60,
            f"the {name} history has {counted(len(history), 'round')}; expected 60 (rounds=60).",
        )
        expect(
            history[0].accuracy < 0.7,
            f"the {name} run has {history[0].accuracy:.0%} after one round: IID data? Expected"
            " non-IID.",
        )
    expect(
        plain.accuracy != momentum.accuracy,
        "both runs are the same. Give the second one strategy=fedlab.fed_avg_momentum(...).",
    )
    before, after = (history.rounds_to(0.9) or math.inf for history in (plain, momentum))
    expect(
        before < math.inf,
        "the run without momentum does not reach 90 %. Is its learning rate that of part 1?",
    )
    hint = (
        "With momentum b, one push goes on for 1/(1-b) rounds: 0.9 makes it ten times as long. Try"
        " a smaller b."
    )
    reached = f"90 % after {after:.0f} rounds" if after < math.inf else "90 % not within 60 rounds"
    expect(after <= 0.8 * before, f"{reached}, and {before:.0f} without. {hint}")
    return (
        f"90 % after {after:.0f} rounds in place of {before:.0f}. The clients and the bytes of a"
        " round are the same: only the server does more."
    )


@checker
def check_epochs(histories: dict[int, fedlab.History], hurts_from: int) -> str:
    """Exercise 3: non-IID, 20 rounds with E = 1, 5 and 10, and the first E that saves less than a
    third of the rounds to 80 %.
    """
    expect(
        isinstance(histories, dict) and set(histories) == {1, 5, 10},
        "the first answer must be a dict with the keys 1, 5 and 10.",
    )
    for epochs, history in histories.items():
        expect(
            isinstance(history, fedlab.History),
            f"for E = {epochs} there is a {kind_of(history)}; expected what run(...) returns.",
        )
        expect(
            len(history) == 20,
            f"for E = {epochs} the history has {counted(len(history), 'round')}; expected 20"
            " (rounds=20).",
        )
        expect(
            history[0].accuracy < 0.7,
            f"for E = {epochs} there are {history[0].accuracy:.0%} after one round: IID data?",
        )
    curves = {tuple(history.accuracy) for history in histories.values()}
    expect(
        len(curves) == 3, "two of the runs are the same, number by number. Is E=... given to each?"
    )
    expect(hurts_from != 1, "E = 1 is what the others are compared with.")
    needed = ", ".join(
        f"{history.rounds_to(0.8) or math.inf:.1f} (E = {epochs})"
        for epochs, history in sorted(histories.items())
    )
    expect(hurts_from == 5, f"the rounds to 80 % are {needed}. Compare E = 5 with E = 1.")
    return (
        "already E = 5: five times the computing saves hardly a round, because each client goes"
        " further into its own two digits."
    )
