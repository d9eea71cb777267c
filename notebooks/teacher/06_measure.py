"""The figures of lesson 6: lowest, mean and highest of five seeds. About three minutes on two
processor cores.

The seed decides the model's first weights, whose images they are, and the batches. A word picks
parts: 06_measure.py images, 06_measure.py trap labels
"""

import numpy as np
from five_seeds import measure, note, trained

import fedlab

mnist = fedlab.load_mnist()
classifier = fedlab.Classifier()
public = mnist.test.subset(np.arange(1000))


def some(number: int, seed: int) -> fedlab.Dataset:
    """A client's images."""
    rows = np.random.default_rng(seed).choice(len(mnist.train), number, replace=False)
    return mnist.train.subset(rows)


def sent(data, weights, seed, optimizer="sgd", learning_rate=0.1, epochs=1, batch_size=None):
    """A task, and the client's answer."""
    training = fedlab.Training(epochs, batch_size, learning_rate, optimizer)
    task = task_of(weights, seed, training)
    return task, fedlab.Participant("carol", data, classifier).answer(task)


def task_of(weights, seed, training=None) -> fedlab.Task:
    return fedlab.Task(1, 1, weights, training or fedlab.Training(1, None, 0.1), seed=seed)


def right(data: fedlab.Dataset, task, update) -> int:
    """How many images come back; and not one that the client does not have."""
    own = {image.tobytes() for image in data.x}
    found = fedlab.rebuild_images(task, update)
    if strange := [one for one in found if one.image.tobytes() not in own]:
        raise AssertionError(f"{len(strange)} images were made up")
    return len(found)


def known(seed: int) -> None:
    """Part 3: whose image comes back from a model that has learned? Sixty clients with one image
    each, in three parts: those that the model knows best, the others, those that it knows least.
    """
    weights, data = trained(mnist, seed), some(60, seed)
    said = classifier.predict(weights, data)[np.arange(60), data.y]
    order = np.argsort(-said)
    for name, part in zip(("best", "in between", "least"), np.split(order, 3), strict=True):
        single = [data.subset(np.array([place])) for place in part]
        back = [right(one, *sent(one, weights, seed)) for one in single]
        note(f"known: of 20 that come back, known {name}", sum(back))


WAYS = {
    "one step": {},
    "E = 1, B = 1": {"batch_size": 1},
    "E = 1, B = 10": {"batch_size": 10},
    "E = 5, B = 10": {"batch_size": 10, "epochs": 5},
}


def images(seed: int) -> None:
    """Part 3: how many images come back."""
    models = {"untrained": fedlab.Classifier(seed=seed).weights, "trained": trained(mnist, seed)}
    for number in (1, 2, 4, 8, 16, 32, 64, 100):
        data = some(number, seed)
        for name, settings in WAYS.items():
            for model, weights in models.items():
                task, update = sent(data, weights, seed, **settings)
                note(f"images: {model}, {name}, n = {number}", right(data, task, update))


def labels(seed: int) -> None:
    """Part 4: how many labels are wrong."""
    models = {"untrained": fedlab.Classifier(seed=seed).weights, "trained": trained(mnist, seed)}
    for number in (10, 100):
        data = some(number, seed)
        for name, settings in WAYS.items():
            for model, weights in models.items():
                task, update = sent(data, weights, seed, **settings)
                counts = fedlab.rebuild_labels(task, update, classifier, public)
                wrong = int(np.abs(counts - data.label_counts()).sum()) // 2
                note(f"labels: wrong, {model}, {name}, n = {number}", wrong)


def trap(seed: int) -> None:
    """Part 5: a server that cheats."""
    weights = fedlab.trap_weights(classifier.weights, mnist.test, seed)
    for number in (10, 50, 100, 200, 600):
        data = some(number, seed)
        for name, settings in WAYS.items():
            task, update = sent(data, weights, seed, **settings)
            note(f"trap: {name}, n = {number}", right(data, task, update))


def hidden(seed: int) -> None:
    """Part 6: what does not hide a single image."""
    weights, data = fedlab.Classifier(seed=seed).weights, some(1, seed)
    image = data.x[0].ravel() / 255
    task, update = sent(data, weights, seed)
    half = [w.astype(np.float16).astype(np.float32) for w in update.weights]
    short = fedlab.Update("carol", 1, 1, half)
    note("hidden: images from half precision", right(data, task, short))
    note("hidden: half precision, worst pixel in grey values", worst(image, task, half))
    task, update = sent(data, weights, seed, "adam", 0.001)
    moved = np.abs(task.weights[0] - update.weights[0]).max(axis=1) > 0.0005
    note(
        "hidden: Adam, % of the pixels told to be ink or paper", 100 * np.mean(moved == (image > 0))
    )

    four = some(4, seed)
    answers = [sent(four.subset(np.array([i])), weights, seed)[1].weights for i in range(4)]
    average = [np.mean(arrays, axis=0) for arrays in zip(*answers, strict=True)]
    seen = right(four, task_of(weights, seed), fedlab.Update("all", 1, 4, average))
    note("hidden: images of four clients in the next model", seen)


def worst(image, task, weights) -> float:
    """Of an image by least squares over all neurons: the worst pixel's error."""
    pixels, scale = (task.weights[i].astype(np.float64) - weights[i] for i in (0, 1))
    return float(255 * np.abs(pixels @ scale / (scale @ scale) - image).max())


def members(seed: int) -> None:
    """Part 6: can one tell from a model whether an image was trained on? By its loss: the area
    under the curve; 0.5 is a coin.
    """
    data = mnist.train.subset(np.random.default_rng(seed).permutation(60_000)[:6000])
    models = {}
    options = {"rounds": 20, "batch_size": 10, "learning_rate": 0.1, "seed": seed}
    parts = fedlab.partition_iid(data, 10, seed)
    fedlab.simulate(parts, on_model=models.__setitem__, progress=False, **options)
    losses = [
        -np.log(classifier.predict(models[20], part)[np.arange(len(part)), part.y] + 1e-12)
        for part in (data, mnist.test.subset(np.arange(6000)))
    ]
    order = np.concatenate(losses).argsort().argsort()
    n = len(data)
    note("members: area under the curve", 1 - (order[:n].sum() - n * (n - 1) / 2) / n**2)
    note("members: % right, trained on", 100 * classifier.evaluate(models[20], data)[1])
    note("members: % right, test images", 100 * classifier.evaluate(models[20], mnist.test)[1])


PARTS = [images, known, labels, trap, hidden, members]

if __name__ == "__main__":
    measure(PARTS)
