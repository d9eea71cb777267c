"""The checkers of lesson 06."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import fedlab
from exercises.verdict import asked, checker, expect, kind_of

IMAGES = 5
ETA = 0.1


def _trained(data: fedlab.Dataset, seed: int) -> tuple[fedlab.Weights, fedlab.Weights]:
    """Weights before and after one step on all of these images."""
    classifier = fedlab.Classifier(seed=seed)
    training = fedlab.Training(1, None, ETA)
    return classifier.weights, classifier.train(classifier.weights, data, training, seed)[0]


@checker
def check_image(image_of: Callable[[np.ndarray, float], np.ndarray]) -> str:
    """Exercise 1: from the change of one neuron's weights (784,) and of its bias to the image,
    (28, 28) uint8.
    """
    images = fedlab.load_mnist().test.subset(np.arange(IMAGES))
    for number in range(IMAGES):
        right = images.x[number] // (1 + number % 2)  # each second one in grey, without full ink
        data = fedlab.Dataset(right[None], images.y[number : number + 1])
        before, after = _trained(data, number)
        kernel, bias = (before[i].astype(np.float64) - after[i] for i in (0, 1))
        neuron = int(np.argmax(np.abs(bias)))
        got = asked(image_of, kernel[:, neuron], float(bias[neuron]))
        expect(
            isinstance(got, np.ndarray) and got.size == right.size,
            f"your function returns a {kind_of(got)} of the shape {np.shape(got)}; expected an"
            " array of the shape (28, 28).",
        )
        told = np.asarray(got, np.float64).reshape(right.shape)
        expect(
            not np.allclose(told, right / 255, atol=1e-3),
            "the image is right, from 0 (paper) to 1 (ink). Expected grey values from 0 to 255.",
        )
        expect(
            not np.allclose(told.T, right, atol=0.5),
            "its rows are its columns: the pixels come row by row.",
        )
        expect(
            not np.allclose(255 - told, right, atol=0.5),
            "black is white: expected 0 for paper, as in MNIST.",
        )
        expect(
            np.allclose(told, right, atol=1.01),
            f"for image {number} the largest difference is"
            f" {np.abs(told - right).max():.3g} grey values. By what must the change of the weights"
            " be divided, so that what is left are the pixels, from 0 to 1?",
        )
        expect(
            got.dtype == np.uint8 and got.shape == right.shape,
            f"the grey values are right. Expected an array of the shape (28, 28) and the type"
            f" uint8; got {got.shape}, {got.dtype}.",
        )
        expect(
            np.array_equal(got, right),
            "some pixels are one grey value off: astype cuts off what stands behind the point."
            " Round first (np.rint).",
        )
    return f"{IMAGES} images, every pixel of them, each from one neuron of 200."


@checker
def check_labels(labels_of: Callable) -> str:
    """Exercise 2: from the move of the last biases to ten counts."""
    mnist = fedlab.load_mnist()
    public = mnist.test.subset(np.arange(1000))
    for seed, number in ((0, 10), (1, 40), (2, 100)):
        rows = np.random.default_rng(seed).choice(60_000, number, replace=False)
        data = mnist.train.subset(rows)
        before, after = _trained(data, seed)
        moved = before[-1].astype(np.float64) - after[-1]
        said = fedlab.Classifier(seed=seed).predict(before, public).mean(axis=0)
        got = np.asarray(asked(labels_of, moved, ETA, said, number))
        right = data.label_counts()
        expect(
            got.shape == (10,) and np.issubdtype(got.dtype, np.number),
            f"your function returns something of the shape {got.shape}; expected ten numbers.",
        )
        expect(
            not np.allclose(got, right / number, atol=0.3 / number),
            "those are the shares, from 0 to 1. How many images are that, of n?",
        )
        mirrored = number * (said + moved / ETA)
        exactly = number * (said - moved / ETA)
        expect(
            not np.array_equal(got, np.trunc(exactly)) or np.array_equal(got, right),
            "some numbers are one too small: astype and int cut off. Round first (np.rint).",
        )
        expect(
            not np.allclose(got, mirrored, atol=0.51),
            "the sign is the other one: moved is before − after, eta times (said − share).",
        )
        expect(
            np.allclose(got, right, atol=0.51),
            f"for {number} images you get {got.round(1).tolist()}; expected {right.tolist()}.",
        )
        expect(
            np.array_equal(got, right),
            "nearly: expected whole numbers. Round them.",
        )
    return "of 10, 40 and 100 images you know how many of each digit there are."


@checker
def check_trap(is_trap: Callable[[fedlab.Weights], bool]) -> str:
    """Exercise 3: True for traps, shuffled and with noise too; False for honest models."""
    mnist = fedlab.load_mnist()
    random = np.random.default_rng(0)
    classifier = fedlab.Classifier(seed=6)
    few = mnist.train.subset(np.arange(5_000))
    trained, _ = classifier.train(classifier.weights, few, fedlab.Training(1, 10, ETA), 0)
    plain = fedlab.Classifier(seed=5).weights
    honest = {
        "an untrained model": plain,
        "a trained model": trained,
        "an honest model with small numbers": [array / 100 for array in plain],
        "an honest model with negative biases": [plain[0], plain[1] - 0.01, *plain[2:]],
    }
    kernel, bias, second, *rest = fedlab.trap_weights(classifier.weights, mnist.test)
    order = random.permutation(bias.size)
    noise = [1 + 0.3 * random.normal(size=array.shape) for array in (kernel, second)]
    larger = np.geomspace(100, 1000, bias.size)
    traps = {
        "a trap": [kernel, bias, second, *rest],
        "a trap with shuffled neurons": [kernel[:, order], bias[order], second[order], *rest],
        "a trap with noise": [kernel * noise[0], bias, second * noise[1], *rest],
        "a trap with scaled neurons": [
            kernel * larger,
            bias * larger,
            second / larger[:, None],
            *rest,
        ],
    }
    cases = [(name, w, False) for name, w in honest.items()]
    cases += [(name, w, True) for name, w in traps.items()]
    for name, weights, right in cases:
        got = asked(is_trap, [array.copy() for array in weights])
        expect(
            isinstance(got, (bool, np.bool_)),
            f"your function returns a {kind_of(got)}; expected True or False.",
        )
        expect(
            got == right,
            f"of {name} it says {bool(got)}. In a trap all neurons of the first layer measure the"
            " same: in which direction do its columns point, and do they all point there?",
        )
    return (
        "honest models pass, these traps do not. Whoever builds the next trap has read your"
        " function, too."
    )
