"""The figures of lesson 10: lowest, mean and highest of five seeds. About an hour on two processor
cores that have nothing else to do.

Ten clients with 600 images each, who all take part, E = 1, B = 10, learning rate 0.1: 20 rounds
where images are dealt alike, 30 where most clients have two digits. The seed decides whose images
they are, the model's first weights, the batches, and what codecs leave to chance.

A word picks parts: 10_measure.py signs, 10_measure.py dense bits
"""

from dataclasses import replace

import numpy as np
from five_seeds import measure, note

import fedlab
from fedlab import codec
from fedlab.codecs import Quantise

mnist = fedlab.load_mnist()
CLIENTS, IMAGES = 10, 6_000


def clients(seed: int, alike: bool) -> list[fedlab.Dataset]:
    """Ten, with 600 images each."""
    rows = np.random.default_rng(seed).choice(60_000, IMAGES, replace=False)
    some = mnist.train.subset(np.sort(rows))
    if alike:
        return fedlab.partition_iid(some, CLIENTS, seed)
    return fedlab.partition_by_label(some, CLIENTS, 2, seed)


def ran(seed: int, alike: bool, **more) -> fedlab.History:
    """A run, tested at its end; where it leaves the finite numbers, what came before."""
    rounds = 20 if alike else 30
    about = {"test": mnist.test, "rounds": rounds, "batch_size": 10, "seed": seed}
    try:
        return fedlab.simulate(
            clients(seed, alike), evaluate_every=rounds, progress=False, **about, **more
        )
    except fedlab.Diverged as error:
        return error.history


def look(seed: int, what: str, name: str = "dense", **more) -> None:
    """One way to write updates: bytes of a message up and down, and what comes of it."""
    for alike in (True, False):
        history = ran(seed, alike, codec=codec(name), **more)
        where = "IID" if alike else "two digits"
        reached = 100 * history.last.accuracy if history.last else 0
        if alike:
            messages = CLIENTS * len(history)
            note(f"{what}: bytes a message, up", sum(r.bytes_up for r in history) / messages)
            if "/" in name or "float16" in name:
                note(f"{what}: ... down", sum(r.bytes_down for r in history) / messages)
        note(f"{what}: {where}, accuracy in %", reached)


def dense(seed: int) -> None:
    """What all others are measured by."""
    look(seed, "every number", "dense")


def half(seed: int) -> None:
    """Half precision, both ways."""
    look(seed, "half precision", "float16")


def bits(seed: int) -> None:
    """Fewer bits a number."""
    for number in (8, 4, 2, 1):
        look(seed, f"{number} bit + zlib", f"quantise-{number}+zlib")


def ternary(seed: int) -> None:
    """Two bits a number, most of them the same."""
    look(seed, "TernGrad + zlib", "ternary+zlib")


def signs(seed: int) -> None:
    """One bit a number, not unbiased."""
    look(seed, "scaled sign", "sign")
    look(seed, "scaled sign, error feedback", "sign+feedback")


def tops(seed: int) -> None:
    """Fewer numbers: the largest."""
    for share in (0.1, 0.01, 0.001):
        look(seed, f"top {share:.1%}", f"top-{share}")
        look(seed, f"top {share:.1%}, error feedback", f"top-{share}+feedback")


def masks(seed: int) -> None:
    """Fewer numbers: any."""
    for share in (0.1, 0.01):
        look(seed, f"random mask {share:.0%}", f"mask-{share}")
        look(seed, f"random mask {share:.0%}, error feedback", f"mask-{share}+feedback")


def levels(seed: int) -> None:
    """Multiples of the length."""
    for number in (1, 4, 16):
        look(seed, f"QSGD, s = {number}, + zlib", f"qsgd-{number}+zlib")


def down(seed: int) -> None:
    """The model, too."""
    for name in ("dense/float16", "dense/quantise-8", "dense/quantise-4", "dense/quantise-1"):
        look(seed, f"model as {name.split('/')[1]}", name)
    look(seed, "2 bit + zlib, model 8 bit", "quantise-2+zlib/quantise-8")


def weights(seed: int) -> None:
    """Part "weights, not differences": quantised weights, as a transform makes them."""
    for number in (8, 2, 1):
        made = Quantise(number)

        def quantised(update: fedlab.Update, task: fedlab.Task, made=made) -> fedlab.Update:
            own = fedlab.local_seed(task.seed, task.round, update.client)
            body, shapes = made.write(update.weights, own), [w.shape for w in update.weights]
            return replace(update, weights=made.read(body, shapes))

        look(seed, f"weights themselves in {number} bit", "dense", transforms=[quantised])


if __name__ == "__main__":
    measure([dense, half, bits, ternary, signs, tops, masks, levels, down, weights])
