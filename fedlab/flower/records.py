"""Messages as Flower's records: their arrays in one, their texts in another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedlab import wire
from fedlab.messages import Task, Update, Weights

if TYPE_CHECKING:
    from flwr.app import Context, Message

MEMORY = "memory"
"""The record in a node's state that holds what its participant remembers."""


def arrays_of(message: wire.Parts):
    """The arrays of a message, under the same names."""
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({name: Array(array) for name, array in message.arrays.items()})


def parts_of(arrays, texts: Mapping) -> wire.Parts:
    """The message in these records."""
    named = {name: array.numpy() for name, array in arrays.items()}
    return wire.Parts(named, {name: str(text) for name, text in texts.items()})


def task_records(task: Task):
    """A Task as records."""
    from flwr.app import ConfigRecord, RecordDict

    message = wire.task_parts(task)
    return RecordDict({"arrays": arrays_of(message), "config": ConfigRecord(message.texts)})


def task_from(message: Message) -> Task:
    """The Task in a `train` message, our own server's or one of Flower's strategies', which says
    which round it is.
    """
    texts = dict(message.content["config"])
    if "server-round" in texts:
        texts["round"] = texts.pop("server-round")
    return wire.task_from(parts_of(message.content["arrays"], texts))


def update_records(update: Update, train_loss: float):
    """An Update as records, with the numbers that Flower's own strategies weigh by and report."""
    from flwr.app import ConfigRecord, MetricRecord, RecordDict

    message = wire.update_parts(update)
    records = {"arrays": arrays_of(message), "config": ConfigRecord(message.texts)}
    metrics = {"num-examples": update.num_examples, "train-loss": train_loss}
    records["metrics"] = MetricRecord(metrics)
    return RecordDict(records)


def remembered(context: Context) -> dict[str, Weights]:
    """What this node's participant remembers."""
    if MEMORY not in context.state:
        return {}
    memory = wire.groups(parts_of(context.state[MEMORY], {}).arrays)
    return {name: arrays for name, arrays in memory.items() if name}


def size(arrays) -> int:
    """The bytes of a record's arrays."""
    items = ((math.prod(array.shape), np.dtype(array.dtype)) for array in arrays.values())
    return sum(count * dtype.itemsize for count, dtype in items)
