"""The figures of lesson 7: lowest, mean and highest of five seeds. About twenty minutes on two
processor cores.

The seed decides the model's first weights, whose images they are, who is drawn, and the noise. A
word picks parts: 07_measure.py outlier, 07_measure.py accuracy price
"""

import numpy as np
from five_seeds import measure, note, trained

import fedlab
from fedlab.compiled import keras
from fedlab.privacy.clipping import change, clipped, gaussian

mnist = fedlab.load_mnist()
classifier = fedlab.Classifier()
ZS = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
CLIP = 0.5
BUDGETS = (np.inf, 16, 8, 4, 2, 1, 0.5)


def read(before: fedlab.Weights, after: fedlab.Weights) -> np.ndarray:
    """What the division of lesson 6 gives, by the best mean over all neurons: (784,), 0 to 1 where
    it is an image.
    """
    kernel, bias = (old.astype(float) - new for old, new in zip(before[:2], after[:2], strict=True))
    return kernel @ bias / (bias @ bias)


def ten(weights: fedlab.Weights, seed: int, usual: bool = True) -> dict[str, fedlab.Dataset]:
    """Nine clients with an image each, and a tenth with one that the model does not know: of 400
    images the one that it reads worst. usual: the nine are those that it reads best; otherwise any.
    """
    rows = np.random.default_rng(seed).choice(30_000, 400, replace=False)
    some = mnist.train.subset(rows)
    order = np.argsort(classifier.predict(weights, some)[np.arange(400), some.y])
    nine = order[-9:] if usual else np.random.default_rng(seed).choice(order[1:], 9, replace=False)
    return {f"client-{i}": some.subset([place]) for i, place in enumerate([*nine, order[0]])}


def next_model(clients, weights, strategy, seed) -> fedlab.Weights:
    """The model after one round in which all of them take one step."""
    model = fedlab.two_nn()
    model.set_weights(weights)
    models = {}
    fedlab.simulate(
        clients, rounds=1, batch_size=None, learning_rate=0.1, strategy=strategy, model=model,
        seed=seed, progress=False, on_model=models.__setitem__,
    )  # fmt: skip
    return models[1]


def outlier(seed: int) -> None:
    """Part 4: an image that is read off the sum of ten clients, and the noise that hides it."""
    weights = trained(mnist, seed)
    clients = ten(weights, seed)
    image = clients["client-9"].x[0].ravel()
    ways = {"plain": fedlab.fed_avg(), "secure": fedlab.secured(fedlab.fed_avg())}
    for z in ZS:
        ways[f"secure, S = {CLIP}, z = {z}"] = fedlab.secured(
            fedlab.dp_fed_avg(CLIP, z, seeded=True)
        )
    for name, strategy in ways.items():
        told = read(weights, next_model(clients, weights, strategy, seed))
        note(f"outlier: {name}, worst pixel in grey values", np.abs(255 * told - image).max())
        note(f"outlier: {name}, alike (1: the same)", np.corrcoef(told, image)[0, 1])
    others = ten(weights, seed, usual=False)
    told = read(weights, next_model(others, weights, fedlab.fed_avg(), seed))
    note(
        "outlier: nine others at random, every pixel right",
        np.array_equal(np.rint(255 * told), image),
    )
    note("outlier: nine others at random, alike (1: the same)", np.corrcoef(told, image)[0, 1])


def carol(seed: int) -> None:
    """Part 5: lesson 6's attack on one client alone, under what hides it."""
    weights = fedlab.Classifier(seed=seed).weights
    data = mnist.train.subset(np.random.default_rng(seed).choice(60_000, 1))
    task = fedlab.Task(1, 1, weights, fedlab.Training(1, None, 0.1), seed=seed)
    update = fedlab.Participant("carol", data, classifier).answer(task)
    moved, image = change(update.weights, weights), data.x[0].ravel()
    note("carol: length of her change", np.linalg.norm(moved))
    kernel, rng = weights[0].size, np.random.default_rng(seed)
    for z in ZS:
        noised = clipped(moved, CLIP)[0] + gaussian(moved.size, z * CLIP, rng)
        bias = -noised[kernel : kernel + 200]
        told = -noised[:kernel].reshape(weights[0].shape) @ bias / (bias @ bias)
        note(f"carol: z = {z}, alike (1: the same)", np.corrcoef(told, image)[0, 1])


def softmax():
    """The smallest model: 7,850 numbers."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])


SETTINGS = {  # clients, C, rounds, clip, model
    "K = 1,000, C = 0.1, 30 rounds, S = 0.5": (1000, 0.1, 30, 0.5, None),
    "K = 100, C = 0.3, 20 rounds, S = 1": (100, 0.3, 20, 1.0, None),
    "the same, softmax regression": (100, 0.3, 20, 1.0, softmax),
}


def accuracy(seed: int) -> None:
    """Part 6: what is left of the accuracy, in %; 0 where training diverged."""
    for name, (number, fraction, rounds, clip, model) in SETTINGS.items():
        clients = fedlab.partition_iid(mnist.train, number, seed)
        for budget in BUDGETS:
            delta = fedlab.delta_for(number)
            z = fedlab.noise_for(budget, fraction, rounds, delta, members=number)
            try:
                history = fedlab.simulate(
                    clients, test=mnist.test, rounds=rounds, fraction=fraction, sampling="poisson",
                    batch_size=10, strategy=fedlab.dp_fed_avg(clip, z, seeded=True),
                    model=model and model(), seed=seed, evaluate_every=rounds, progress=False,
                )  # fmt: skip
                reached = 100 * history[-1].accuracy
            except fedlab.Diverged:
                reached = 0
            note(f"accuracy: {name}, ε = {budget:g} (z = {z:g})", reached)


def few(seed: int) -> None:
    """Part 6: three clients, all of whom take part in ten rounds; accuracy in %."""
    clients = fedlab.partition_iid(mnist.train, 3, seed)
    for budget in (np.inf, 8, 1):
        z = fedlab.noise_for(budget, 1.0, 10, fedlab.delta_for(3), members=3)
        strategy = fedlab.dp_fed_avg(1.0, z, seeded=True)
        options = {"rounds": 10, "sampling": "poisson", "evaluate_every": 10, "batch_size": 32}
        try:
            history = fedlab.simulate(
                clients, test=mnist.test, strategy=strategy, seed=seed, progress=False, **options
            )
            reached = 100 * history[-1].accuracy
        except fedlab.Diverged:
            reached = 0
        note(f"few: K = 3, ε = {budget:g} (z = {z:g}), accuracy in %", reached)


def repair(seed: int) -> None:
    """Part 7: masks, clip and noise together, until a budget is spent. Its noise is not seeded."""
    clients = fedlab.partition_iid(mnist.train, 100, seed)
    strategy = fedlab.secured(fedlab.dp_fed_avg(clip=1.0, noise=0.6, budget=3))
    options = {"rounds": 20, "fraction": 0.1, "sampling": "poisson", "batch_size": 10}
    history = fedlab.simulate(
        clients, test=mnist.test, strategy=strategy, seed=seed, progress=False, **options
    )
    note("repair: rounds", len(history))
    note("repair: accuracy in %", 100 * history[-1].accuracy)


def price(seed: int) -> None:
    """Part 6: the same noise, drawn otherwise (no seed in it)."""
    delta = fedlab.delta_for(1000)
    for sampling in ("poisson", "fixed"):
        release = fedlab.Release(1.0, 0.1, 30, 1000, sampling)
        note(f"price: K = 1,000, z = 1, {sampling}, ε", fedlab.epsilon(release, delta))
    replaced = [fedlab.Release(1.0, 0.1, 30, 1000), fedlab.Release(1.0, 0.1, 0, 1000, "fixed")]
    note("price: poisson, one client replaced, ε", fedlab.epsilon(replaced, delta))
    known = fedlab.epsilon_unsampled(1.0, 30, delta)
    note("price: the same, for who knows who was drawn, 30 of 30 rounds, ε", known)
    note("price: the same, 3 of 30 rounds, ε", fedlab.epsilon_unsampled(1.0, 3, delta))


if __name__ == "__main__":
    measure([outlier, carol, accuracy, few, repair, price])
