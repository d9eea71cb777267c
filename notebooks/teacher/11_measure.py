"""The figures of a class of phones, with simulated handwritings: lowest, mean and highest of five
seeds. Most of the time goes into `shards`, whose laptops train on 15,000 images.

The seed decides who the writers are, the first weights, and the batches. 20 writers draw 30 digits
each: 24 are trained on. Accuracies are of 50 fresh drawings of each of the 20, not of the six that
a phone holds out, which are too few to tell anything by. A word picks parts:
11_measure.py blank, 11_measure.py learned shards
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
from five_seeds import measure, note

import fedlab
from fedlab.classroom.writers import Writer, digits, drawings

mnist = fedlab.load_mnist()
classifier = fedlab.Classifier()
PHONES, ROUNDS, EPOCHS = 20, 10, 5
FRESH, FIRST = 50, 1000  # drawings for measuring, and the number of the first: nobody's of the 30


def alike(updates: Iterable[fedlab.Update]) -> tuple[fedlab.Weights, int]:
    """Every client weighs the same, whatever its number of examples."""
    return fedlab.weighted_mean(replace(update, num_examples=1) for update in updates)


@cache
def class_of(seed: int) -> tuple[list[fedlab.Dataset], list[fedlab.Dataset]]:
    """What each of 20 phones trains on, and its fresh drawings."""
    writers = [Writer(seed, number) for number in range(PHONES)]
    fresh = [drawings(writer, FRESH, FIRST) for writer in writers]
    return [digits(writer)[0] for writer in writers], fresh


def joined(parts: list[fedlab.Dataset]) -> fedlab.Dataset:
    images, labels = np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts])
    return fedlab.Dataset(images, labels)


def percent(weights: fedlab.Weights, data: fedlab.Dataset) -> float:
    return 100 * classifier.evaluate(weights, data)[1]


def run(clients, seed, start=None, combine=alike, rate=0.1) -> fedlab.Weights:
    """The model after ten rounds, from the weights `start` or from new ones."""
    models, model = {}, fedlab.two_nn(seed)
    if start:
        model.set_weights(start)
    options = {"rounds": ROUNDS, "epochs": EPOCHS, "batch_size": 10, "learning_rate": rate}
    options |= {"strategy": fedlab.fed_avg(combine=combine), "seed": seed, "model": model}
    fedlab.simulate(clients, on_model=models.__setitem__, progress=False, **options)
    return models[ROUNDS]


@cache
def read_mnist(seed: int) -> fedlab.Weights:
    """A model that has learned from MNIST, three epochs."""
    first = fedlab.Classifier(seed=seed).weights
    return classifier.train(first, mnist.train, fedlab.Training(3, 10, 0.1), seed)[0]


def blank(seed: int) -> None:
    """A model that has learned nothing: each phone alone, and 5, 10, 20 of them together."""
    phones, fresh = class_of(seed)
    everyone, first = joined(fresh), fedlab.Classifier(seed=seed).weights
    training = fedlab.Training(ROUNDS * EPOCHS, 10, 0.1)
    alone = [classifier.train(first, data, training, seed)[0] for data in phones]
    own = [percent(weights, data) for weights, data in zip(alone, fresh, strict=True)]
    note("blank: alone, % of one's own digits, mean of 20", np.mean(own))
    note("blank: alone, % of one's own digits, the worst of 20", np.min(own))
    note("blank: alone, % of the class's", np.mean([percent(w, everyone) for w in alone]))
    for count in (5, 10, 20):
        weights = run(phones[:count], seed)
        own = [percent(weights, data) for data in fresh[:count]]
        note(f"blank: {count} phones, % of their own digits", np.mean(own))
        note(f"blank: {count} phones, % of the class's", percent(weights, everyone))


def rates(seed: int) -> None:
    """The same with other learning rates."""
    phones, fresh = class_of(seed)
    for rate in (0.05, 0.2):
        weights = run(phones, seed, rate=rate)
        note(f"rates: {rate}, 20 phones, % of the class's", percent(weights, joined(fresh)))


def learned(seed: int) -> None:
    """A model that has learned from MNIST meets the class."""
    phones, fresh = class_of(seed)
    everyone, start = joined(fresh), read_mnist(seed)
    note("learned: at the start, % of the class's", percent(start, everyone))
    note("learned: at the start, % of MNIST's", percent(start, mnist.test))
    for rate in (0.05, 0.1):
        weights = run(phones, seed, start, rate=rate)
        note(f"learned: after 10 rounds, rate {rate}, % of the class's", percent(weights, everyone))
        note(f"learned: after 10 rounds, rate {rate}, % of MNIST's", percent(weights, mnist.test))


def shards(seed: int) -> None:
    """Three laptops with 5,000 images of MNIST each take part, too, in what starts as `learned`."""
    phones, fresh = class_of(seed)
    everyone, start = joined(fresh), read_mnist(seed)
    laptops = [mnist.shards(shard, shard) for shard in (1, 2, 3)]
    note("shards: at the start, % of the class's", percent(start, everyone))
    for name, combine in {"weighted by n": fedlab.weighted_mean, "equal weights": alike}.items():
        weights = run([*phones, *laptops], seed, start, combine)
        note(f"shards: {name}, % of the class's", percent(weights, everyone))
    weights = run(laptops, seed, start)
    note("shards: the laptops without the phones, % of the class's", percent(weights, everyone))


PARTS = [blank, rates, learned, shards]

if __name__ == "__main__":
    measure(PARTS)
