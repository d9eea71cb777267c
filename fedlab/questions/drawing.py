"""A class's answers as bars."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from fedlab.checks import Refused, counted
from fedlab.plots import CLIENTS, FONT, INK, LINE, PAPER, SOFT, axes_of
from fedlab.questions.kept import AFTER, PARTS
from fedlab.questions.nine import NINE
from fedlab.questions.results import CHANCE, LEAST, ClassAnswers

LOOK = {  # before and after: told apart by their pattern, too
    "before": {"color": PAPER, "edgecolor": SOFT, "hatch": "////", "linewidth": 1},
    "after": {"color": CLIENTS[0], "edgecolor": CLIENTS[0], "linewidth": 1},
}


def plot_answers(found: ClassAnswers, ax: Axes | None = None) -> Axes:
    """For each of the nine questions, which part of the class chose the right answer, before and
    after; a line at the chance level, and the normalised gain at the end of each row.

    Raises Refused for fewer than five persons.
    """
    if not isinstance(found, ClassAnswers):
        raise Refused(f"found is {type(found).__name__}; expected what class_answers returns")
    if not found.enough:
        raise Refused(
            f"there are all answers of {counted(found.persons, 'person')}; expected at least"
            f" {LEAST} persons, or the picture would tell who has said what"
        )
    ax = axes_of(ax, 9, 6)
    height = 0.8 / len(found.parts)
    # Paper behind the numbers: the line at the chance level does not cross them
    paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
    number = {"fontsize": FONT - 3, "color": INK, "bbox": paper}
    for place, part in enumerate(found.parts):
        shares = [100 * found.share(part, question.key) for question in NINE]
        middles = [row - 0.4 + height * (place + 0.5) for row in range(len(NINE))]
        ax.barh(middles, shares, height=height, label=f"{part} the course", **LOOK[part])
        for share, middle in zip(shares, middles, strict=True):
            ax.text(share + 1, middle, f"{share:.0f}", va="center", **number)
    ax.axvline(100 * CHANCE, color=SOFT, linewidth=1.2, linestyle=(0, (2, 3)))
    outside = {"transform": ax.get_yaxis_transform(), "fontsize": FONT - 2, "color": INK}
    if AFTER in found.parts:
        ax.text(1.02, -0.75, "gain", fontweight="bold", **outside)
        for row, question in enumerate(NINE):
            gain = found.gain(question.key)
            told = "–" if math.isnan(gain) else f"{gain:+.2f}".replace("-", "−")
            ax.text(1.02, row, told, va="center", **outside)
    ax.set_yticks(range(len(NINE)), [f"{n}  {q.topic}" for n, q in enumerate(NINE, 1)])
    ax.set_ylim(len(NINE) - 0.4, -0.6)
    ax.set_xlim(0, 106)
    ax.set_xticks([0, 25, 50, 75, 100], ["0", "guessing: 25", "50", "75", "100"])
    people = counted(found.persons, "person")
    ax.set_xlabel(f"right answers, in % of {people}", fontsize=FONT, color=INK)
    ax.tick_params(labelsize=FONT - 1, colors=INK)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LINE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(PARTS), frameon=False, fontsize=FONT - 1
    )
    return ax
