"""Right and wrong answers to the exercises of lesson 06."""

import numpy as np


def image_of(kernel, bias):
    return np.rint(255 * kernel / bias).astype(np.uint8).reshape(28, 28)


def labels_of(moved, eta, said, n):
    return np.rint(n * (said - moved / eta)).astype(int)


def is_trap(weights):
    columns = weights[0] / np.linalg.norm(weights[0], axis=0)
    return bool(np.linalg.norm(columns.mean(axis=1)) > 0.5)


def spread(weights):
    """Sees how large the numbers are, not where they point."""
    return bool(weights[0].std(axis=1).mean() < 0.5 * np.abs(weights[0]).mean())


def cut_off(kernel, bias):
    return (255 * kernel / bias - 1e-3).astype(np.uint8).reshape(28, 28)


def brightest(kernel, bias):
    """As if every image had full ink somewhere."""
    return np.rint(255 * np.abs(kernel) / np.abs(kernel).max()).astype(np.uint8).reshape(28, 28)


def floor_of_labels(moved, eta, said, n):
    return (n * (said - moved / eta)).astype(int)


def exactly_equal(weights):
    return bool((weights[0] == weights[0][:, :1]).all())


def sorted_thresholds(weights):
    return bool((np.diff(weights[1]) < 0).all())


RIGHT = [
    ("check_image", (image_of,)),
    ("check_labels", (labels_of,)),
    ("check_labels", (lambda *a: labels_of(*a).tolist(),)),
    ("check_trap", (is_trap,)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_image", (...,), "three dots"),
    ("check_image", (lambda kernel, bias: ...,), "returns nothing yet"),
    ("check_image", (np.zeros((28, 28)),), "without brackets"),
    ("check_image", (lambda kernel, bias: (kernel / bias).reshape(28, 28),), "from 0 to 255"),
    ("check_image", (lambda kernel, bias: image_of(kernel, bias).T,), "row by row"),
    ("check_image", (lambda kernel, bias: 255 - image_of(kernel, bias),), "black is white"),
    ("check_image", (lambda kernel, bias: 255 * kernel.reshape(28, 28),), "be divided"),
    ("check_image", (lambda kernel, bias: np.rint(255 * kernel / bias),), "uint8"),
    ("check_image", (cut_off,), "Round first"),
    ("check_image", (brightest,), "be divided"),
    ("check_image", (lambda kernel, bias: kernel[:3],), "(3,)"),
    ("check_image", (lambda kernel, bias: kernel["x"],), "ended in IndexError"),
    ("check_labels", (...,), "three dots"),
    ("check_labels", (lambda moved, eta, said, n: said - moved / eta,), "shares"),
    ("check_labels", (lambda moved, eta, said, n: n * (said + moved / eta),), "sign"),
    ("check_labels", (lambda moved, eta, said, n: n * (said - moved / eta),), "whole numbers"),
    ("check_labels", (lambda moved, eta, said, n: n * said,), "you get"),
    ("check_labels", (floor_of_labels,), "cut off"),
    ("check_labels", (lambda moved, eta, said, n: 3,), "ten numbers"),
    ("check_trap", (...,), "three dots"),
    ("check_trap", (lambda weights: False,), "of a trap it says False"),
    ("check_trap", (lambda weights: True,), "of an untrained model it says True"),
    ("check_trap", (exactly_equal,), "of a trap with noise"),
    ("check_trap", (sorted_thresholds,), "of a trap with shuffled neurons"),
    ("check_trap", (spread,), "of a trap with scaled neurons"),
    ("check_trap", (lambda weights: bool(weights[1].max() < 0),), "with negative biases"),
    ("check_trap", (lambda weights: bool(weights[0].std() < 0.01),), "with small numbers"),
    ("check_trap", (lambda weights: bool((weights[0] > 0).all()),), "of a trap with noise"),
    ("check_trap", (lambda weights: 1,), "True or False"),
]
