"""Tasks and updates as bytes, and back.

The format is safetensors (https://github.com/huggingface/safetensors): plain arrays behind a JSON
header, so that reading a message can never run code, as unpickling one can. A message of the 2NN is
796,840 bytes of weights and less than 1 % more.
"""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedlab.messages import BadUpdate, Refused, Task, Training, Update, Weights

CONTENT_TYPE = "application/vnd.safetensors"
MAX_HEADER = 1_000_000
"""Bytes. The header is JSON and is parsed before anything is known of the sender: it must not be
large."""


def size_limit(weights: Weights) -> int:
    """The most bytes that a message with these weights may have: the numbers, 1 %, and room for the
    header.
    """
    return int(sum(w.nbytes for w in weights) * 1.01) + 65_536


def pack(weights: Weights, **fields: str) -> bytes:
    """Arrays, and named texts beside them, as one safetensors file."""
    # Names with leading zeros: sorted by name is Keras' order. safetensors wants C order.
    return save(
        {f"{i:04d}": np.ascontiguousarray(w) for i, w in enumerate(weights)},
        {k: str(v) for k, v in fields.items()},
    )


def unpack(body: bytes, max_header: int = MAX_HEADER) -> tuple[Weights, dict[str, str]]:
    """The arrays and texts of `pack`. Raises BadUpdate for anything but a safetensors file."""
    if len(body) < 8:
        raise BadUpdate(f"the body has {len(body)} bytes; expected a safetensors file")
    header = int.from_bytes(body[:8], "little")
    if header > max_header or header > len(body) - 8:
        raise BadUpdate(
            f"the body ({len(body):,} bytes) says its header has {header:,} bytes; expected a whole"
            f" safetensors file, header at most {max_header:,}"
        )
    try:
        arrays = load(bytes(body))
        texts = json.loads(body[8 : 8 + header]).get("__metadata__") or {}
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise BadUpdate(
            f"the body ({len(body):,} bytes) is not a safetensors file: {error}"
        ) from None
    if sorted(arrays) != [f"{i:04d}" for i in range(len(arrays))]:
        raise BadUpdate(
            f"the arrays are named {', '.join(sorted(arrays))[:80]}; expected 0000, 0001, ... in"
            " Keras get_weights() order"
        )
    return [arrays[name] for name in sorted(arrays)], texts


@lru_cache(maxsize=1)
def encode_task(task: Task) -> bytes:
    """A Task as bytes. The last one is kept: a round gives all its participants the same Task."""
    training = task.training
    return pack(
        task.weights,
        kind="task",
        round=task.round,
        rounds=task.rounds,
        seed=task.seed,
        shard_by_shard=int(task.shard_by_shard),
        epochs=training.epochs,
        batch_size=training.batch_size or "all",
        learning_rate=repr(float(training.learning_rate)),
        optimizer=training.optimizer,
    )


def decode_task(body: bytes) -> Task:
    """A Task from bytes. Raises BadUpdate when it is not one."""
    weights, texts = unpack(body)
    try:
        training = Training(
            epochs=_field(texts, "epochs", int),
            batch_size=(
                None if texts.get("batch_size") == "all" else _field(texts, "batch_size", int)
            ),
            learning_rate=_field(texts, "learning_rate", float),
            optimizer=_field(texts, "optimizer", str),
        )
    except Refused as error:
        raise BadUpdate(str(error)) from None
    return Task(
        round=_field(texts, "round", int),
        rounds=_field(texts, "rounds", int),
        weights=weights,
        training=training,
        seed=_field(texts, "seed", int),
        shard_by_shard=bool(_field(texts, "shard_by_shard", int)),
    )


def encode_update(update: Update) -> bytes:
    """An Update as bytes."""
    return pack(
        update.weights,
        kind="update",
        client=update.client,
        round=update.round,
        num_examples=update.num_examples,
        accuracy=repr(float(update.accuracy)),
        loss=repr(float(update.loss)),
    )


def decode_update(body: bytes) -> Update:
    """An Update from bytes. Raises BadUpdate when it is not one."""
    weights, texts = unpack(body)
    return Update(
        client=_field(texts, "client", str),
        round=_field(texts, "round", int),
        num_examples=_field(texts, "num_examples", int),
        weights=weights,
        accuracy=_field(texts, "accuracy", float),
        loss=_field(texts, "loss", float),
    )


def _field(texts: dict, name: str, kind: type):
    """One text of the header as a number of at most 40 characters (so that no conversion is slow),
    or as it is.
    """
    text = texts.get(name)
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
