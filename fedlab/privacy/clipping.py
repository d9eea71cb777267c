"""What differential privacy does to a change before it is added up: it is cut to a length that
nobody's exceeds, and hidden in noise that is as long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedlab.checks import Refused, number
from fedlab.messages import Weights


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of any shapes as one vector, float64, (numbers,)."""
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])


def shaped(vector: np.ndarray, like: Weights) -> Weights:
    """The inverse: float32 arrays in the shapes of `like`."""
    cuts = np.cumsum([w.size for w in like])[:-1]
    parts = zip(np.split(vector, cuts), like, strict=True)
    return [part.reshape(w.shape).astype(np.float32) for part, w in parts]


def change(new: Weights, old: Weights) -> np.ndarray:
    """new - old as one vector, float64."""
    return flat(new) - flat(old)


def clipped(vector: np.ndarray, clip: float) -> tuple[np.ndarray, bool]:
    """`vector`, shortened to the length `clip` where it is longer; whether it was no longer
    (McMahan et al. 2018: all arrays of the model together, "flat clipping").

    Raises Refused for a clip that is not above 0.

    >>> clipped(np.array([3.0, 4.0]), 1.0)
    (array([0.6, 0.8]), False)
    """
    number("clip", clip, "a number above 0: no change is longer than that", above=0)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length):
        raise Refused("the change is not finite; expected finite numbers (did training diverge?)")
    return (vector, True) if length <= clip else (vector * (clip / length), False)


def gaussian(size: int, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Noise, float64, (size,). (A sampler of floating-point numbers: whoever sees all bits of one
    noised number could learn more than the theory says, Mironov 2012. Not guarded against here.)
    """
    return rng.normal(0.0, deviation, size) if deviation else np.zeros(size)
