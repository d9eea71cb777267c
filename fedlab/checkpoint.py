"""The server's state on disk: one safetensors file, always whole."""

from __future__ import annotations

import os
from pathlib import Path

from fedlab.history import History
from fedlab.messages import BadUpdate, Refused, Weights, check_weights
from fedlab.strategies import State
from fedlab.wire import groups, pack, parts, unpack

MAX_HEADER = 100_000_000
"""Bytes. The history is in the header, and this file is our own: thousands of rounds fit."""


class BadCheckpoint(Refused):
    """A checkpoint that is missing, cut short or of another model."""

    kind = "bad_checkpoint"


def save_checkpoint(path: str | Path, state: State, history: History, strategy: str = "") -> None:
    """Write the state after the last round of `history`, and the strategy's identity.

    The file is written beside its place, flushed to the disk and renamed: whoever reads `path`, at
    any moment and after any crash, finds the old file or the new one, never half of one. Raises
    OSError (disk full, no permission), and then `path` is what it was.
    """
    path = Path(path)
    message = parts(
        state.weights,
        state.memory,
        kind="checkpoint",
        num_examples=state.num_examples,
        strategy=strategy,
        lineage=state.lineage,
        history=history.to_json(),
    )
    body = pack(message)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(
    path: str | Path, like: Weights | None = None, strategy: str | None = None
) -> tuple[State, History]:
    """The state and history that `save_checkpoint` wrote.

    like:     a model's weights; a checkpoint of another model is refused.
    strategy: the identity of the strategy that goes on from it, refused if another one wrote it, or
              the same with other settings (what it keeps in `memory` would mislead).
    Raises BadCheckpoint with a sentence; nothing is written.
    """
    path = Path(path)
    try:
        message = unpack(path.read_bytes(), MAX_HEADER)
        texts, arrays = message.texts, groups(message.arrays)
        if texts.get("kind") != "checkpoint":
            raise BadUpdate(
                f"it says it is {texts.get('kind', 'of no kind')!r}; expected 'checkpoint'"
            )
        lineage = texts.get("lineage", "")
        state = State(arrays.pop(""), int(texts["num_examples"]), arrays, lineage)
        history = History.from_json(texts["history"])
        if like is not None:
            check_weights(state.weights, like)
    except (OSError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"{path} is not a checkpoint of this model: {error}") from None
    if strategy is not None and texts.get("strategy", strategy) != strategy:
        raise BadCheckpoint(
            f"{path} was written by the strategy {texts['strategy']}; expected {strategy}"
        )
    return state, history
