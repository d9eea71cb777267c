"""How a class did, round by round: its three curves, and the same as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedlab.classroom.roster import Roster
from fedlab.history import History


@dataclass(frozen=True)
class Curves:
    """How it went, round by round; rounds[0] is 0, the model that the class began with. ours: the
    mean of what the students' devices measured of the class's model, each on its own digits that
    were never trained on; alone: the same of models that learned from one student each; mnist: the
    class's model on MNIST's test images; nan where nothing is known. students: how many measured.
    """

    rounds: list[int]
    ours: list[float]
    alone: list[float]
    mnist: list[float]
    students: list[int]


def curves_of(rounds: Sequence[tuple[int, int]], history: History, roster: Roster) -> Curves:
    """The curves. rounds: each round, and the version of its model; the first is (0, that of the
    model before any).
    """
    tested = {record.round: record.accuracy for record in history}
    tested[0] = history.untrained
    ours = [roster.accuracy(version) for _, version in rounds]
    alone = [roster.alone(version) for _, version in rounds]
    return Curves(
        rounds=[round for round, _ in rounds],
        ours=[found[0] if found else math.nan for found in ours],
        alone=[found[0] if found else math.nan for found in alone],
        mnist=[tested.get(round, math.nan) for round, _ in rounds],
        students=[found[1] if found else 0 for found in ours],
    )


def to_csv(curves: Curves, history: History) -> str:
    """A round a line; accuracies from 0 to 1, empty where not known."""
    records = {record.round: record for record in history}
    lines = ["round,class,measured_by,alone,mnist,updates,bytes_down,bytes_up,seconds"]
    for i, round in enumerate(curves.rounds):
        record = records.get(round)
        of_round = ("", "", "", "")
        if record is not None:
            seconds = f"{record.seconds:.2f}"
            of_round = len(record.clients), record.bytes_down, record.bytes_up, seconds
        shares = [curves.ours[i], curves.alone[i], curves.mnist[i]]
        ours, alone, mnist = ("" if math.isnan(x) else f"{x:.4f}" for x in shares)
        cells = round, ours, curves.students[i], alone, mnist, *of_round
        lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"
