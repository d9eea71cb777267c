"""What the exchanges of a secure round carry, as a message's further arrays and texts: bytes by
client, and what everybody is told."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from fedlab.messages import BadUpdate, Task, Update, Weights

KEYS, SHARES, UNMASK = "keys", "shares", "unmask"
"""The phases of a round beside training: Bonawitz et al. 2017 call them advertise keys, share keys
and unmasking; between the last two, clients train and send masked numbers."""

ABOUT, MASKED = "secure", "masked"


@dataclass(frozen=True)
class About:
    """What everybody is told of a round with its model.

    threshold: so many must stay to the end. summands: how many take part at most.
    scale:     the most examples that one has: updates are weighed by their share of it. 0: they are
               clipped, and count alike.
    clip, noise, inside: where they are clipped, as in `privacy.dp_fed_avg.Noise`, the noise being
               each client's own share. adapt: whether who was not cut is counted.
    seeded:    whether noise follows from the run's seed.
    fraction:  bits behind the point of the numbers.
    """

    threshold: int
    summands: int
    scale: int = 0
    clip: float = 0.0
    noise: float = 0.0
    inside: float = 0.0
    adapt: bool = False
    seeded: bool = False
    fraction: int = 20

    def note(self) -> dict[str, str]:
        """As a text of a task."""
        return {ABOUT: json.dumps(asdict(self))}


def about_of(task: Task) -> About | None:
    """What this task says; None where its round is not a secure one. Raises BadUpdate."""
    if ABOUT not in task.note:
        return None
    try:
        told = json.loads(task.note[ABOUT])
        given = {item.name: told[item.name] for item in fields(About)}
        if any(isinstance(value, (list, dict, str, type(None))) for value in given.values()):
            raise ValueError
        return About(**given)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadUpdate(
            f"the task's note {ABOUT!r} is {task.note[ABOUT][:60]!r}; expected what a strategy made"
            " by fedlab.secured says"
        ) from None


def put(what: str, of: Mapping[str, bytes]) -> dict:
    """Bytes by client, all of one length, as `more` and `note` of a message."""
    names = sorted(of)
    table = np.frombuffer(b"".join(of[name] for name in names), np.uint8)
    more = {what: [table.reshape(len(names), -1)]} if names else {}
    return {"more": more, "note": listed(what, names)}


def listed(what: str, clients: Collection[str]) -> dict[str, str]:
    """Clients' names as a text of a message."""
    return {what: json.dumps(sorted(clients))}


def get(what: str, message: Task | Update, length: int) -> dict[str, bytes]:
    """The inverse. Raises BadUpdate for anything else than `length` bytes for each client."""
    names = names_of(what, message.note)
    table = message.more.get(what, [np.empty((0, length), np.uint8)])
    if len(table) != 1 or table[0].shape != (len(names), length) or table[0].dtype != np.uint8:
        shapes = ", ".join(f"{a.dtype} {a.shape}" for a in table[:3])
        raise BadUpdate(
            f"{what!r} has arrays {shapes or 'none'}; expected one of uint8, {len(names)} rows of"
            f" {length} bytes, one for each name in the note"
        )
    return {name: row.tobytes() for name, row in zip(names, table[0], strict=True)}


def names_of(what: str, note: Mapping[str, str]) -> list[str]:
    """The clients that a message's note lists. Raises BadUpdate."""
    try:
        names = json.loads(note.get(what, ""))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError
        if names != sorted(set(names)):
            raise ValueError
    except (ValueError, RecursionError):
        raise BadUpdate(
            f"the note {what!r} is {note.get(what, '')[:60]!r}; expected clients' names, in order"
        ) from None
    return names


def masked_of(update: Update, size: int) -> Weights:
    """What a client sent under its mask: one array of `size` numbers. Raises BadUpdate."""
    arrays = update.more.get(MASKED, [])
    got = [(str(a.dtype), a.shape) for a in arrays]
    if got != [("uint32", (size,))] or update.weights:
        shapes = ", ".join(f"{kind} {shape}" for kind, shape in got[:3]) or "none"
        kept = ", and unmasked weights" if update.weights else ""
        raise BadUpdate(
            f"{update.client!r} sent {MASKED!r} arrays {shapes}{kept}; expected one of uint32,"
            f" {(size,)}, and nothing else"
        )
    return arrays


def check_names(what: str, got: Collection[str], expected: Collection[str]) -> None:
    """Raise BadUpdate unless these are the clients of whom something was asked."""
    if set(got) != set(expected):
        missing = sorted(set(expected) - set(got)) or sorted(set(got) - set(expected))
        raise BadUpdate(
            f"{what!r} is of {len(set(got))} clients, and not right for {missing[0][:40]!r};"
            f" expected exactly {len(set(expected))}"
        )
