"""What happened, round by round."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from fedlab.checks import counted


@dataclass(frozen=True)
class ClientRecord:
    """One client's part in a round: examples trained on, and its own model's accuracy and loss
    before it was sent.
    """

    num_examples: int
    accuracy: float = math.nan
    loss: float = math.nan


class Tested(NamedTuple):
    """What a test of the global model gave: the mean cross-entropy in nats, the fraction that was
    right, and what `RoundRecord` says of pixels and note.
    """

    loss: float = math.nan
    accuracy: float = math.nan
    pixels: int = 1
    note: str = ""


@dataclass(frozen=True)
class RoundRecord:
    """One round of the global model; in the asynchronous way, one merged update.

    accuracy, loss: of the global model on the test set (fraction correct; cross-entropy in nats);
                    NaN when not evaluated.
    seconds:        of all runs of this history until then, without the time between them.
    bytes_down, bytes_up: message bodies from and to the server in this round.
    clients:        who contributed, by client id.
    note:           what was out of the ordinary, in words.
    pixels:         the grey value of white in the test: 1 as everything here, or 255 as the
                    original demonstration's clients have it (`fedlab server --original`).
    measures:       further numbers of the strategy's, by name: "epsilon" is what was spent of
                    privacy until then, where somebody counts it.
    """

    round: int
    accuracy: float = math.nan
    loss: float = math.nan
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    clients: dict[str, ClientRecord] = field(default_factory=dict)
    note: str = ""
    pixels: int = 1
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        """Examples trained on in this round, over all clients."""
        return sum(client.num_examples for client in self.clients.values())

    @property
    def bytes(self) -> int:
        """Bytes of message bodies in this round, both ways."""
        return self.bytes_down + self.bytes_up


class TaskRecord(NamedTuple):
    """One client at work on one task: a bar of a timeline.

    began, ended: in seconds of `RoundRecord.seconds`. staleness: how many new models there were
    meanwhile; 0 where there are rounds. taken: whether its update was; not if it came too late.
    """

    client: str
    began: float
    ended: float
    staleness: int = 0
    taken: bool = True


class History:
    """The rounds so far, in order: append-only. Iterate over it, index it, take its `len`.

    untrained: the accuracy before the first round, where somebody has tested it; NaN otherwise.
    tasks:     who was at work when, for `plot_timeline`; of this process only, in no file.
    """

    def __init__(self, records: list[RoundRecord] | None = None, untrained: float = math.nan):
        self._records, self.untrained = list(records or []), untrained
        self.tasks: list[TaskRecord] = []

    def append(self, record: RoundRecord) -> None:
        """Add the next round. Raises ValueError unless its number is above the last one's."""
        if self._records and record.round <= self._records[-1].round:
            raise ValueError(
                f"got round {record.round} after round {self._records[-1].round}; expected a"
                " later one"
            )
        self._records.append(record)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RoundRecord]:
        return iter(self._records[:])

    def __getitem__(self, index):
        return self._records[index]

    @property
    def last(self) -> RoundRecord | None:
        """The latest round, or None."""
        return self._records[-1] if self._records else None

    @property
    def best(self) -> RoundRecord | None:
        """The round with the highest accuracy (the first of equals), or None."""
        evaluated = [record for record in self if not math.isnan(record.accuracy)]
        return max(evaluated, key=lambda record: record.accuracy, default=None)

    @property
    def accuracy(self) -> list[float]:
        """Accuracy of every round."""
        return [record.accuracy for record in self]

    def rounds_to(self, target: float) -> float | None:
        """Rounds until the accuracy `target` (a fraction), or None if it was never reached.

        As in McMahan et al. 2017, section 3: the curve is made monotone (best value so far), and
        the crossing is interpolated linearly.
        """
        before = None  # (round, best accuracy)
        for record in self:
            if math.isnan(record.accuracy):
                continue
            if record.accuracy >= target:
                if before is None or record.accuracy == before[1]:
                    return float(record.round)
                return before[0] + (record.round - before[0]) * (target - before[1]) / (
                    record.accuracy - before[1]
                )
            before = (record.round, max(record.accuracy, before[1] if before else 0.0))
        return None

    def to_csv(self, path: str | Path | None = None) -> str:
        """A row a round: round, seconds, accuracy, loss, bytes_down, bytes_up, bytes, num_examples,
        clients, note, and the names that are in `measures`. Returned, and written to `path` if
        given.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = "round seconds accuracy loss bytes_down bytes_up bytes num_examples clients note"
        measured = sorted({name for record in self for name in record.measures})
        writer.writerow([*names.split(), *measured])
        for r in self:
            row = [
                r.round,
                f"{r.seconds:.4f}",
                _short(r.accuracy),
                _short(r.loss),
                r.bytes_down,
                r.bytes_up,
                r.bytes,
                r.num_examples,
            ]
            row += [len(r.clients), r.note]
            writer.writerow([*row, *(_short(r.measures.get(name, math.nan)) for name in measured)])
        return _written(text.getvalue(), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything, as JSON: a list of rounds; not-a-number becomes null. Returned, and written
        to `path` if given.
        """
        return _written(json.dumps([plain(asdict(record)) for record in self]), path)

    @classmethod
    def from_json(cls, text: str) -> History:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            rounds = []
            for fields in json.loads(text):
                clients = {
                    name: ClientRecord(**_numbers(client))
                    for name, client in fields.pop("clients").items()
                }
                fields["measures"] = _numbers(fields.get("measures", {}))
                rounds.append(RoundRecord(**_numbers(fields), clients=clients))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"this is not a history ({type(error).__name__}: {error}); expected what"
                " History.to_json wrote"
            ) from None
        return cls(rounds)

    def __repr__(self) -> str:
        if not self._records:
            return "<History: no rounds yet>"
        if self.best is None:
            return f"<History: {counted(len(self), 'round')}, not tested>"
        untested = math.isnan(self.last.accuracy)
        last = "the last not tested" if untested else f"accuracy {self.last.accuracy:.2%}"
        rounds = counted(len(self), "round")
        return f"<History: {rounds}, {last}, best {self.best.accuracy:.2%}>"


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def plain(value):
    """NaN and infinity as null: JSON has neither."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(fields: dict) -> dict:
    return {key: math.nan if value is None else value for key, value in fields.items()}


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
