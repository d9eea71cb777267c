"""Tasks and updates as parts (named arrays, named texts), and parts as bytes. HTTP sends the bytes;
Flower has its own records for the parts.

The format of the bytes is safetensors (https://github.com/huggingface/safetensors): plain arrays
behind a JSON header, so that reading a message can never run code, as unpickling one can. A message
of the 2NN is 796,840 bytes of weights and less than 1 % more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedlab.checks import counted
from fedlab.messages import (
    DENSE,
    TRAIN,
    BadUpdate,
    Refused,
    Task,
    Training,
    Update,
    Weights,
)

CONTENT_TYPE = "application/vnd.safetensors"
MAX_HEADER = 1_000_000
"""Bytes. The header is JSON and is parsed before anything is known of the sender: it must not be
large."""

NOTE = "note."
"""Before the name of a text of a strategy's own, so that it is none of the message's."""

NAME = "[a-z][a-z0-9_]{0,39}"
"""What a list of arrays may be called."""


@dataclass(frozen=True)
class Parts:
    """A message in two parts: arrays and texts, by name.

    arrays: the weights are "0000", "0001", ... in Keras get_weights() order, or what a codec has
            made of them; further arrays of a strategy's are "control/0000", ...
    """

    arrays: dict[str, np.ndarray]
    texts: dict[str, str]


def parts(weights: Weights, more: Mapping[str, Weights] | None = None, **texts) -> Parts:
    """Weights, further lists of arrays by name, and texts. Leading zeros: sorted is in order. A
    list without arrays is not sent. Raises BadUpdate for a name that cannot be.
    """
    arrays = {f"{i:04d}": w for i, w in enumerate(weights)}
    for name, group in (more or {}).items():
        if not re.fullmatch(NAME, name):
            raise BadUpdate(
                f"a list of arrays is called {name[:60]!r}; expected at most 40 small letters,"
                " digits and _, a letter first"
            )
        arrays |= {f"{name}/{i:04d}": array for i, array in enumerate(group)}
    return Parts(arrays, {name: str(text) for name, text in texts.items()})


def groups(arrays: Mapping[str, np.ndarray]) -> dict[str, Weights]:
    """The inverse: the weights under "", further lists under their names. Raises BadUpdate."""
    found: dict[str, dict[str, np.ndarray]] = {"": {}}
    for key in sorted(arrays):
        if not re.fullmatch(f"({NAME}/)?[0-9]{{4}}", key):
            raise _misnamed(arrays)
        name, _, number = key.rpartition("/")
        found.setdefault(name, {})[number] = arrays[key]
    for group in found.values():
        if list(group) != [f"{i:04d}" for i in range(len(group))]:
            raise _misnamed(arrays)
    return {name: list(group.values()) for name, group in found.items()}


def _misnamed(arrays: Mapping[str, np.ndarray]) -> BadUpdate:
    return BadUpdate(
        f"the arrays are named {', '.join(sorted(arrays))[:80]}; expected 0000, 0001, ... in Keras"
        " get_weights() order, further lists as name/0000, ..."
    )


# ---- bytes ---------------------------------------------------------------------------------------


def size_limit(weights: Weights) -> int:
    """The most bytes that a message with these weights may have: the numbers, 1 %, and room for the
    header.
    """
    return int(sum(w.nbytes for w in weights) * 1.01) + 65_536


def pack(message: Parts) -> bytes:
    """Parts as one safetensors file."""
    # safetensors wants C order. (ascontiguousarray would make a list of a single number.)
    arrays = {name: np.require(a, requirements="C") for name, a in message.arrays.items()}
    return save(arrays, message.texts)


def unpack(body: bytes, max_header: int = MAX_HEADER) -> Parts:
    """The parts that `pack` was given. Raises BadUpdate for anything but a safetensors file."""
    if len(body) < 8:
        raise BadUpdate(f"the body has {counted(len(body), 'byte')}; expected a safetensors file")
    header = int.from_bytes(body[:8], "little")
    if header > max_header or header > len(body) - 8:
        raise BadUpdate(
            f"the body ({len(body):,} bytes) says its header has {counted(header, 'byte')};"
            f" expected a whole safetensors file, header at most {max_header:,}"
        )
    try:
        arrays = load(bytes(body))
        about = json.loads(body[8 : 8 + header], object_pairs_hook=_once)
        texts = about.get("__metadata__") or {}
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadUpdate(
            f"the body ({len(body):,} bytes) is not a safetensors file: {error}"
        ) from None
    return Parts(arrays, texts)


def _once(pairs: list[tuple]) -> dict:
    """A JSON object, in which no name may be twice: two readers could take two different ones."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return found


# ---- tasks and updates ---------------------------------------------------------------------------


def task_parts(task: Task) -> Parts:
    """A Task as parts."""
    training = task.training
    return parts(
        task.weights,
        task.more,
        kind="task",
        round=task.round,
        rounds=task.rounds,
        seed=task.seed,
        shard_by_shard=int(task.shard_by_shard),
        epochs=training.epochs,
        batch_size=training.batch_size or "all",
        learning_rate=repr(float(training.learning_rate)),
        optimizer=training.optimizer,
        proximal=repr(float(training.proximal)),
        version=task.version,
        lineage=task.lineage,
        run=task.run,
        phase=task.phase,
        codec=task.codec,
        **{NOTE + name: text for name, text in task.note.items()},
    )


def task_from(message: Parts) -> Task:
    """The Task in these parts. Raises BadUpdate when there is none."""
    arrays, texts = groups(message.arrays), message.texts
    whole = texts.get("batch_size") == "all"
    try:
        training = Training(
            epochs=_field(texts, "epochs", int),
            batch_size=None if whole else _field(texts, "batch_size", int),
            learning_rate=_field(texts, "learning_rate", float),
            optimizer=_field(texts, "optimizer", str),
            proximal=_field(texts, "proximal", float, "0"),
        )
    except Refused as error:
        raise BadUpdate(str(error)) from None
    return Task(
        round=_field(texts, "round", int),
        rounds=_field(texts, "rounds", int),
        weights=arrays.pop(""),
        training=training,
        seed=_field(texts, "seed", int),
        shard_by_shard=bool(_field(texts, "shard_by_shard", int)),
        version=_field(texts, "version", int, "0"),
        lineage=_field(texts, "lineage", str, ""),
        run=_field(texts, "run", str, ""),
        phase=_field(texts, "phase", str, TRAIN),
        codec=_field(texts, "codec", str, DENSE),
        more=arrays,
        note=_notes(texts),
    )


def update_parts(update: Update) -> Parts:
    """An Update as parts."""
    return parts(
        update.weights,
        update.more,
        kind="update",
        client=update.client,
        round=update.round,
        num_examples=update.num_examples,
        accuracy=repr(float(update.accuracy)),
        loss=repr(float(update.loss)),
        version=update.version,
        phase=update.phase,
        run=update.run,
        **({} if update.codec == DENSE else {"codec": update.codec}),
        **{NOTE + name: text for name, text in update.note.items()},
    )


def update_from(message: Parts) -> Update:
    """The Update in these parts. Raises BadUpdate when there is none."""
    arrays, texts = groups(message.arrays), message.texts
    return Update(
        client=_field(texts, "client", str),
        round=_field(texts, "round", int),
        num_examples=_field(texts, "num_examples", int),
        weights=arrays.pop(""),
        accuracy=_field(texts, "accuracy", float),
        loss=_field(texts, "loss", float),
        version=_field(texts, "version", int, "0"),
        phase=_field(texts, "phase", str, TRAIN),
        run=_field(texts, "run", str, ""),
        codec=_field(texts, "codec", str, DENSE),
        more=arrays,
        note=_notes(texts),
    )


def encode_task(task: Task) -> bytes:
    """A Task as bytes."""
    return pack(task_parts(task))


def decode_task(body: bytes) -> Task:
    """A Task from bytes. Raises BadUpdate when it is not one."""
    return task_from(unpack(body))


def encode_update(update: Update) -> bytes:
    """An Update as bytes."""
    return pack(update_parts(update))


def decode_update(body: bytes) -> Update:
    """An Update from bytes. Raises BadUpdate when it is not one."""
    return update_from(unpack(body))


def _notes(texts: Mapping[str, str]) -> dict[str, str]:
    own = {name: text for name, text in texts.items() if name.startswith(NOTE)}
    return {name.removeprefix(NOTE): text for name, text in own.items()}


def _field(texts: Mapping[str, str], name: str, kind: type, default: str | None = None):
    """One text of the header as a number of at most 40 characters (so that no conversion is slow),
    or as it is.
    """
    text = texts.get(name, default)
    try:
        if not isinstance(text, str) or (kind is not str and len(text) > 40):
            raise ValueError
        return kind(text)
    except ValueError:
        received = "nothing" if text is None else repr(text)[:60]
        wanted = {int: "a whole number", float: "a number", str: "a text"}[kind]
        raise BadUpdate(
            f"{name} is {received}; expected {wanted} in the message's metadata"
        ) from None
