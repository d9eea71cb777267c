"""What runs on every node: fedlab's own training, on this node's own examples."""

import functools
from pathlib import Path

import numpy as np

from fedlab import Dataset, load_mnist
from fedlab.flower import FlowerError, client_app

CLIENTS = [
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "kim",
    "lea",
]


def own_examples(context) -> tuple[str, Dataset]:
    """This node's id, and its examples: from its own file on a real node, dealt from MNIST in a
    simulation.
    """
    node = context.node_config
    if "client" in node:
        return str(node["client"]), from_file(str(node.get("examples", "")))
    if "partition-id" not in node:
        raise FlowerError(
            f"this node's --node-config has {sorted(node) or 'nothing'}; expected 'client=\"alice\""
            ' examples="/path/alice.npz"\''
        )
    number, of = int(node["partition-id"]), int(node["num-partitions"])
    if of > 12:
        raise FlowerError(
            f"num-supernodes is {of}; expected at most 12: there are 12 shards of images"
        )
    return CLIENTS[number], dealt(number, of)


def dealt(number: int, of: int) -> Dataset:
    """MNIST's 12 shards in `of` parts, as equal as can be: part `number`, from 0."""
    return load_mnist().shards(number * 12 // of + 1, (number + 1) * 12 // of)


@functools.lru_cache
def from_file(path: str) -> Dataset:
    """`images` and `labels` of an .npz file, as deploy.py writes them."""
    if not path or not Path(path).is_file():
        raise FlowerError(
            f"this node's examples are to be in {path or '(no file named)'}, which is not there;"
            " expected an .npz with images and labels"
        )
    with np.load(path, allow_pickle=False) as file:
        if not {"images", "labels"} <= set(file):
            raise FlowerError(f"{path} has {sorted(file)}; expected images and labels")
        return Dataset(file["images"], file["labels"])


app = client_app(own_examples)
