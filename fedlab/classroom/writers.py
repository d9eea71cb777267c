"""Simulated handwritings: so that a lesson about a class of phones can be rehearsed on one machine.

A writer has a style of its own, form by form and trait by trait, and each of its drawings differs
a little. All of it comes from the writer's two numbers, the same every time. What is drawn are
strokes, as a finger leaves them on a phone; `fedlab.handwriting` makes images of them.

How far people differ from each other, and from themselves, are assumptions (OWN, LOOSE, TRAITS).
They were chosen so that the digits look like people's, and that a model trained on MNIST reads
about seven of eight: notebooks/teacher/11_measure.py has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedlab.checks import whole
from fedlab.data import Dataset
from fedlab.handwriting import prepare

CANVAS = 200
"""Units of the canvas that is drawn on, in each direction: coordinates are from 0 to CANVAS."""

HOLD_OUT = 5
"""Every fifth drawing is held out, as on a phone: it is never trained on."""

# The forms of each digit, in a box of 100 x 140, y downwards, each with how many of ten people
# write it so. A stroke's points are joined by a curve; one with an exclamation mark is a corner.
FORMS: dict[int, list[tuple[float, str]]] = {
    0: [
        (6.0, "56,9 32,14 17,44 16,92 30,124 52,132 73,122 85,90 83,44 70,16 50,8"),
        (2.5, "44,12 22,34 16,76 28,118 52,132 76,114 85,70 74,24 52,9 38,14 36,26"),  # a curl
        # slashed
        (0.5, "56,9 32,14 17,44 16,92 30,124 52,132 73,122 85,90 83,44 70,16 50,8 | 84,14 16,126"),
    ],
    1: [
        (4.0, "50,6 50,134"),
        (4.0, "28,42 40,28 54,8! 53,70 52,134"),  # with a flag
        (1.5, "28,36 54,8! 53,70 52,132 | 22,132 82,132"),  # and a foot
    ],
    2: [
        (4.5, "18,38 30,14 54,8 76,24 72,56 46,92 16,130! 84,128"),
        (3.0, "20,36 36,10 66,12 76,38 62,78 34,118 16,124 16,108 32,104 56,124 86,124"),  # a loop
        (2.5, "18,30 42,8 72,20 72,52 46,94 18,128! 40,118 62,130 86,122"),  # a wave below
    ],
    3: [
        (6.0, "20,24 46,8 74,20 70,50 42,64! 74,76 82,104 56,132 18,120"),
        (1.8, "18,10 50,10 78,10! 44,56! 72,66 82,96 58,130 18,122"),  # flat on top
        (2.2, "18,22 50,8 74,28 58,58 38,68 36,58 54,60 78,86 68,124 38,132 16,118"),  # a loop
    ],
    4: [
        (4.0, "30,8 25,40 18,76! 50,76 86,74 | 66,34 64,84 62,134"),  # open
        (3.0, "68,8 40,50 12,90! 50,90 90,90 | 68,8 66,70 66,134"),  # closed
        (3.0, "22,10 18,46 32,70 56,68 76,52 | 80,8 76,60 68,134"),  # round
        (1.5, "48,6 32,44 12,86! 50,84 86,80 | 62,54 60,94 56,134"),  # lightning
    ],
    5: [
        (4.5, "30,12 28,36 24,62! 54,52 80,74 76,110 50,132 18,122 | 30,12 56,11 84,9"),
        (3.0, "80,10 56,11 32,12! 28,36 26,62! 58,54 80,80 72,114 46,132 16,120"),  # in one stroke
        (2.0, "80,10 46,12 30,34 44,58 70,76 74,106 50,130 18,124"),  # like an S
    ],
    6: [
        (5.0, "70,8 40,36 20,86 32,126 60,130 76,104 62,80 38,84 22,106"),
        (2.5, "58,6 40,42 22,90 28,124 52,132 74,114 70,88 46,80 24,100"),  # a straight back
        (2.0, "78,16 56,8 30,34 18,84 34,128 64,126 76,98 54,78 28,90 20,102"),  # a hook on top
    ],
    7: [
        (4.0, "16,14 50,14 82,12! 58,64 40,134"),
        (4.0, "16,14 50,14 82,12! 58,64 40,134 | 30,74 54,72 78,70"),  # with a bar
        (1.8, "16,36 18,14! 50,14 82,12! 62,56 46,134"),  # with a serif
        (1.0, "14,20 34,10 60,18 84,10! 54,70 44,134"),  # with a wave on top
    ],
    8: [
        (5.0, "74,26 50,8 26,24 38,54 68,82 76,112 50,132 24,114 34,80 62,56 74,28"),
        (2.0, "50,64 26,46 28,16 52,8 74,24 68,52 48,64 22,88 24,120 50,132 76,116 74,84 48,64"),
        (2.0, "80,18 54,8 28,22 36,52 68,80 74,114 48,132 24,112 40,74 66,46 72,20"),  # open on top
    ],
    9: [
        (4.5, "74,34 56,10 28,22 24,52 48,66 70,50 75,28! 72,80 68,134"),  # a straight leg
        (3.5, "74,34 54,10 28,22 24,52 48,66 70,50 76,28 78,80 62,124 34,132 20,120"),  # a tail
        (2.0, "72,24 46,8 24,30 32,56 56,54 74,26! 62,80 44,134"),  # leaning
    ],
}

TRAITS = {  # what it usually is, how much it differs between writers, and between drawings of one
    "slant": (0.10, 0.18, 0.12),  # to the right, in widths of a height
    "turn": (0.0, 0.05, 0.11),  # of the whole digit, in radians
    "width": (0.0, 0.17, 0.15),  # its logarithm
    "curve": (0.95, 0.25, 0.15),  # how far a line swings out between its points: 0 is straight
    "corner": (0.7, 0.40, 0.25),  # how sharp a corner is: 0 is round, 1 is sharp
    "waist": (0.0, 6.0, 6.0),  # how much larger the upper half is than the lower
    "belly": (0.0, 0.15, 0.13),  # how much wider the lower half is than the upper
    "tremor": (0.9, 0.6, 0.4),  # sideways, in units of the box
    "past": (0.0, 5.0, 7.0),  # how far a line goes on beyond its end, or stops before it
}

# How far the paper is warped under a form, in each direction, and how far each point lies beside
# it: once for a writer, which makes the form its own, and once more for each of its drawings.
OWN = (6.5, 2.7)
LOOSE = (9.5, 3.4)

SELDOM = 0.15
"""How often a writer does not write its own form of a digit, but whichever comes."""


@dataclass(frozen=True)
class Writer:
    """A simulated person: number 0, 1, ... of those whom `seed` makes. Two differ in everything
    that TRAITS and FORMS have; one is itself in every drawing.

    Raises Refused for anything but whole numbers from 0.
    """

    seed: int
    number: int

    def __post_init__(self):
        whole("seed", self.seed, 0)
        whole("the writer's number", self.number, 0)

    def random(self, *what: int) -> np.random.Generator:
        """A generator of this writer's own for one purpose."""
        return np.random.default_rng([self.seed, self.number, *what])


STYLE, DRAWING, ORDER = range(3)  # the purposes


@lru_cache(maxsize=1024)
def style(writer: Writer) -> tuple[dict[str, float], list[list[list[np.ndarray]]], list[int]]:
    """What a writer's drawings share: its traits by name, all forms of each digit as it writes
    them, and which form of each is its usual one.
    """
    rng = writer.random(STYLE)
    traits = {name: usual + apart * spread(rng) for name, (usual, apart, _) in TRAITS.items()}
    forms = [[moved(parsed(form), OWN, rng) for _, form in known] for known in FORMS.values()]
    return traits, forms, [any_form(digit, rng) for digit in FORMS]


def parsed(form: str) -> list[np.ndarray]:
    """A form's strokes: x and y of each point, and whether it is a corner, (n, 3)."""
    strokes = [[point.split(",") for point in stroke.split()] for stroke in form.split("|")]
    return [
        np.array([(float(x), float(y.rstrip("!")), y.endswith("!")) for x, y in stroke])
        for stroke in strokes
    ]


def any_form(digit: int, rng: np.random.Generator) -> int:
    """Which form of the digit somebody writes."""
    shares = np.array([share for share, _ in FORMS[digit]])
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def spread(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Normal numbers without the far ones: people write legibly."""
    return np.clip(rng.normal(size=shape), -2, 2)


def moved(strokes: list[np.ndarray], by: tuple[float, float], rng) -> list[np.ndarray]:
    """The strokes on warped paper, where what was close stays close (four waves, longer than a
    digit); and each point a little beside its place.
    """
    waves, phases = 0.02 * spread(rng, (2, 4)), rng.uniform(0, 2 * np.pi, 4)
    heights = by[0] / np.sqrt(2) * spread(rng, (4, 2))
    elsewhere = [stroke.copy() for stroke in strokes]
    for points in (stroke[:, :2] for stroke in elsewhere):
        points += np.sin(points @ waves + phases) @ heights
        points += by[1] * spread(rng, points.shape)
    return elsewhere


def draw(writer: Writer, digit: int, number: int) -> list[list[list[float]]]:
    """The writer's drawing of a digit: a list of strokes, each a list of points [x, y] from 0 to
    CANVAS, y downwards. Another number (from 0) is another drawing, the same one the same drawing.

    Raises Refused for a digit that is none, or a number below 0.
    """
    digit = whole("digit", digit, 0, 9)
    rng = writer.random(DRAWING, whole("the drawing's number", number, 0), digit)
    traits, forms, usual = style(writer)
    now = {name: traits[name] + apart * spread(rng) for name, (*_, apart) in TRAITS.items()}
    form = any_form(digit, rng) if rng.random() < SELDOM else usual[digit]
    strokes = moved(forms[digit][form], LOOSE, rng)
    lines = [shaken(curve(stroke, now), now["tremor"], rng) for stroke in strokes]
    return placed([bent(line, now) for line in lines], rng)


def curve(stroke: np.ndarray, now: dict[str, float]) -> np.ndarray:
    """A line through a stroke's points, (m, 2): Hermite's cubic pieces, whose directions at a point
    are Catmull and Rom's, or, at a corner, those of the straight lines on each side of it.
    """
    points, corners = stroke[:, :2], stroke[:, 2:]
    steps = np.diff(points, axis=0)
    before, after = np.vstack([steps[:1], steps]), np.vstack([steps, steps[-1:]])
    sharp = corners * np.clip(now["corner"], 0, 1)
    smooth = (before + after) / 2
    swing = np.clip(now["curve"], 0.3, 1.4)
    leaving = swing * (smooth + sharp * (after - smooth))
    coming = swing * (smooth + sharp * (before - smooth))
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    pieces = (
        (1 + 2 * t) * (1 - t) ** 2 * points[:-1]
        + t * (1 - t) ** 2 * leaving[:-1]
        + t**2 * (3 - 2 * t) * points[1:]
        + t**2 * (t - 1) * coming[1:]
    )
    line = np.vstack([pieces.swapaxes(0, 1).reshape(-1, 2), points[-1:]])
    end = line[-1] - line[-4]
    line[-4:] += np.linspace(0.25, 1, 4)[:, None] * now["past"] * end / (np.hypot(*end) or 1.0)
    return line


def shaken(line: np.ndarray, tremor: float, rng: np.random.Generator) -> np.ndarray:
    """The line with a few slow waves along it: a hand does not shake fast."""
    turns = np.arange(3, 9)
    heights = 2 * max(tremor, 0) * spread(rng, (6, 2)) / turns[:, None]
    along = np.outer(np.linspace(0, np.pi, len(line)), turns)
    return line + np.sin(along + rng.uniform(0, 2 * np.pi, 6)) @ heights


def bent(line: np.ndarray, now: dict[str, float]) -> np.ndarray:
    """The line with the writer's waist, belly, width, slant and turn."""
    x, y = line[:, 0] - 50, line[:, 1] - 70
    y = y + now["waist"] * np.cos(np.pi * np.clip(y / 140, -0.5, 0.5))
    x = x * (1 + now["belly"] * np.clip(y / 70, -1, 1)) * np.exp(now["width"]) - now["slant"] * y
    sine, cosine = np.sin(now["turn"]), np.cos(now["turn"])
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def placed(strokes: list[np.ndarray], rng: np.random.Generator) -> list[list[list[float]]]:
    """The strokes somewhere on the canvas, half to nine tenths as large as it."""
    every = np.concatenate(strokes)
    low, size = every.min(axis=0), np.ptp(every, axis=0)
    scale = CANVAS * rng.uniform(0.5, 0.9) / size.max()
    corner = rng.uniform(0, 1, 2) * (CANVAS - scale * size)
    return [np.round(corner + scale * (line - low), 1).tolist() for line in strokes]


def label(writer: Writer, number: int) -> int:
    """Which digit the writer's drawing of this number is: each of the ten once in ten drawings, in
    a shuffled order.
    """
    block, place = divmod(whole("the drawing's number", number, 0), 10)
    return int(writer.random(ORDER, block).permutation(10)[place])


def drawings(writer: Writer, count: int, first: int = 0) -> Dataset:
    """`count` drawings from number `first` on, as images: uint8, (count, 28, 28)."""
    numbers = range(whole("first", first, 0), first + whole("count", count))
    labels = np.array([label(writer, number) for number in numbers], np.uint8)
    strokes = [draw(writer, int(y), n) for y, n in zip(labels, numbers, strict=True)]
    return Dataset(np.stack([np.rint(255 * prepare(s)) for s in strokes]).astype(np.uint8), labels)


def digits(writer: Writer, count: int = 30) -> tuple[Dataset, Dataset]:
    """A phone's first `count` drawings: those it trains on, and every fifth, held out.

    >>> mine, held_out = digits(Writer(seed=0, number=3))
    >>> len(mine), len(held_out), mine.images.shape, mine.images.dtype
    (24, 6, (30, 28, 28), dtype('uint8'))
    """
    every = drawings(writer, whole("count", count, HOLD_OUT))
    held = np.arange(count) % HOLD_OUT == HOLD_OUT - 1
    return every.subset(np.flatnonzero(~held)), every.subset(np.flatnonzero(held))
