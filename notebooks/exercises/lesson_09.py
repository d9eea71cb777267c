"""The checkers of lesson 09."""

from __future__ import annotations

import math

from exercises.verdict import checker, expect
from fedlab.checks import counted


@checker
def check_break_even(seconds) -> str:
    """Exercise 1: 10 * s / 2 = s + 12."""
    seconds = float(seconds)
    expect(seconds > 0, "training takes time: a number of seconds above 0.")
    expect(
        not math.isclose(seconds, 12 / 9, rel_tol=0.02),
        "that is for a machine with one core. Two clients at a time train on two cores.",
    )
    expect(
        not math.isclose(seconds, 12),
        "with s = 12 the one machine takes 60 seconds and the ten take 24: they are faster long"
        " before.",
    )
    expect(
        math.isclose(seconds, 3, rel_tol=0.02),
        f"one machine: 10 × s / 2 = {5 * seconds:g} s; ten machines: s + 12 = {seconds + 12:g} s."
        " They should be equal.",
    )
    return "from 3 seconds on. Below that, one machine is faster."


@checker
def check_flowers_fedavg(simulated, flowers) -> str:
    """Exercise 2: the same federation, averaged by fedlab and by Flower."""
    expect(
        len(simulated) == len(flowers) == 3,
        f"the first run has {counted(len(simulated), 'round')} and the second {len(flowers)}; make"
        " both with rounds=3.",
    )
    gaps = [abs(a.loss - b.loss) for a, b in zip(simulated, flowers, strict=True)]
    expect(math.isfinite(gaps[0]), "there are no losses: give both runs test=mnist.test.")
    expect(
        gaps[0] < 1e-4,
        f"the first losses differ by {gaps[0]:.3f}: not the same settings, seed or clients? In"
        " both, all clients take part.",
    )
    expect(
        max(gaps) > 0, "the losses are equal to the last bit: did Flower's own strategy average?"
    )
    return (
        f"after one round the losses differ by {gaps[0]:.0e}: rounding. Flower adds in another"
        " order, and in 32-bit numbers."
    )
