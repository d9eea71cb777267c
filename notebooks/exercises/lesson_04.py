"""The checkers of lesson 04."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import fedlab
from exercises.verdict import Hint, checker, expect, kind_of
from fedlab.checks import counted

# Counts by client and digit, and their skew by hand: alike; a half; four fifths; unequal clients;
# one digit each
ALIKE = ((6, 2), (3, 1))
BY_HAND = {
    ((3, 1), (1, 3)): 0.5,
    ((2, 2, 0), (0, 0, 4)): 0.8,
    ((1, 0), (9, 10)): 0.1,
    ((3, 0), (0, 5)): 1.0,
}


@checker
def check_skew(skew: Callable[[np.ndarray], float]) -> str:
    """Exercise 1: a function from counts, (clients, digits), to the skew."""
    expect(
        callable(skew),
        f"the answer is of the type {kind_of(skew)}; expected the function itself, without"
        " brackets.",
    )
    got = {counts: _asked(skew, counts) for counts in (ALIKE, *BY_HAND)}
    half = ((3, 1), (1, 3))
    hints = {
        0.25: "you have the share that would have to be exchanged. Now divide by the largest that"
        " it can be: 1 minus the sum of the p_j squared.",
        1.0: "twice as much as it should be: a difference counts at two digits, at the one that"
        " there is too much of and at the one that is missing. Where is the half?",
    }
    for wrong, hint in hints.items():
        expect(not np.isclose(got[half], wrong), f"for the counts {half} you get {wrong:g}: {hint}")
    expect(
        np.isclose(got[ALIKE], 0),
        f"for the counts {ALIKE} you get {got[ALIKE]:.3g}; expected 0: both have three times as"
        " many of the first digit. Compare with everybody's shares p_j, not with equal shares.",
    )
    unequal = ((1, 0), (9, 10))
    expect(
        not np.isclose(got[unequal], (1 / 2 + 1 / 38) / 2 / 0.5, atol=1e-3),
        f"for the counts {unequal} you get {got[unequal]:.3g}; expected 0.1: a client with one"
        " image must not count as much as one with nineteen. Sum over all, then divide by n.",
    )
    for counts, right in BY_HAND.items():
        expect(
            np.isclose(got[counts], right, atol=1e-6),
            f"for the counts {counts} you get {got[counts]:.3g}; expected {right:g}.",
        )
    return "0 for clients that are alike, 1 for one digit each, and the same as fedlab.skew."


def _asked(skew: Callable, counts: tuple) -> float:
    """What the function says of these counts, as a number."""
    try:
        value = skew(np.array(counts))
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise Hint(
            f"your function ended in {what}. It gets an array of counts with a row a client and a"
            " column a digit; in these tests there are 2 clients and 2 or 3 digits."
        ) from None
    expect(
        value is not None and value is not ...,
        "your function returns nothing yet. It must return one number.",
    )
    expect(
        np.ndim(value) == 0 and np.isreal(value) and not isinstance(value, bool | np.bool_),
        f"your function returns a {kind_of(value)} of the shape {np.shape(value)}; expected one"
        " number. Is there a sum missing, over clients or over digits?",
    )
    expect(
        np.isfinite(value),
        f"for the counts {counts} you get {value}: somewhere it divides by 0, perhaps by the number"
        " of images of a digit that a client does not have.",
    )
    return float(value)


@checker
def check_personal(accuracies: Mapping[str, float]) -> str:
    """Exercise 2: what newcomer(100, training) says of a training that gains at least one point of
    the client's own digits and keeps 92 % of all.
    """
    names = {"federation", "personalised", "personalised, all digits"}
    expect(
        isinstance(accuracies, Mapping) and names <= set(accuracies),
        f"the answer is of the type {kind_of(accuracies)}; expected what newcomer(100, training)"
        " returns.",
    )
    expect(
        accuracies.get("images") == 100,
        f"these are the accuracies with {accuracies.get('images')} images; expected"
        " newcomer(100, training).",
    )
    before, own, everything = (
        float(accuracies[name])
        for name in ("federation", "personalised", "personalised, all digits")
    )
    reached = f"{own:.1f} % of the 4s and 9s (before: {before:.1f} %), {everything:.1f} % of all"
    expect(
        everything >= 92,
        f"{reached}: it forgets the other digits. Take smaller steps (a smaller learning_rate), or"
        " fewer epochs.",
    )
    expect(
        own >= before + 1,
        f"{reached}: it has hardly learned Alice's digits. Take somewhat larger steps, or more"
        " epochs.",
    )
    return f"{reached}. What she gains and what she forgets is decided by how far she walks."


@checker
def check_held(plain: fedlab.History, held: fedlab.History) -> str:
    """Exercise 3: two runs of 40 rounds, two shards for each client; the second is at least a point
    better in the last five.
    """
    for name, history in (("first", plain), ("second", held)):
        expect(
            isinstance(history, fedlab.History),
            f"the {name} answer is of the type {kind_of(history)}; expected what run(...) returns.",
        )
        expect(
            len(history) == 40,
            f"the {name} history has {counted(len(history), 'round')}; expected 40 (rounds=40).",
        )
        expect(
            history[0].accuracy < 0.7,
            f"the {name} run has {history[0].accuracy:.0%} after one round: IID data? Expected"
            " partition_by_label.",
        )
    expect(
        all(_took_part(a) == _took_part(b) for a, b in zip(plain, held, strict=True)),
        "other clients took part in the second run than in the first. Expected the same parts, the"
        " same fraction and the same seed: only the strategy differs.",
    )
    expect(
        plain.accuracy != held.accuracy,
        "both runs are the same, number by number. Give the second one strategy=...",
    )
    before, after = (100 * float(np.mean(history.accuracy[-5:])) for history in (plain, held))
    reached = f"{before:.1f} % without, {after:.1f} % with it (mean of rounds 36 to 40)"
    expect(
        after >= before + 1,
        f"{reached}. Look at the picture of part 4 with eight lines: which strategy's line is apart"
        " from FedAvg's?",
    )
    return f"{reached}. The same clients, the same images: only how they are held together."


def _took_part(record: fedlab.RoundRecord) -> dict[str, int]:
    """Who trained in this round, on how many images."""
    return {name: client.num_examples for name, client in record.clients.items()}
