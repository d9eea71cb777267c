"""The weights of a server that cheats. They train no useful model: they sort a client's images by
brightness, one to a neuron, so that the update gives most of them away (Fowl et al. 2022; Boenisch
et al. 2023)."""

from __future__ import annotations

import numpy as np

from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.messages import Weights

SMALL = 1e-3
"""Of the first layer: small numbers are rounded little."""
LARGE = 0.5
"""Of the layers above: what comes back to the first is far above its rounding."""


def trap_weights(weights: Weights, images: Dataset, seed: int = 0) -> Weights:
    """Weights like these, made to give images away.

    Every neuron of the first layer measures the same, an image's brightness, and fires above a
    threshold of its own: as many thresholds as neurons, with as many of `images` between any two.
    Every neuron passes the same on. So where exactly one of a client's images lies between two
    thresholds, the two neurons' gradients differ by this image alone.

    weights: a model's, with a dense layer on 784 pixels and at least one more, all with biases.
    images:  public images of the same kind, 200 or more: their brightness decides the thresholds.
    seed:    decides the other layers.
    Raises Refused for other layers.
    """
    shapes = [w.shape for w in weights]
    kernels, biases = shapes[::2], shapes[1::2]
    dense = all(len(k) == 2 and b == k[1:] for k, b in zip(kernels, biases, strict=False))
    if len(shapes) % 2 or len(kernels) < 2 or not dense or kernels[0][0] != images.x[0].size:
        said = ", ".join(map(str, shapes))
        raise Refused(
            f"the model's arrays have the shapes {said}; expected dense layers with biases, the"
            f" first of them on {images.x[0].size} pixels, and at least two"
        )
    pixels, neurons = kernels[0]
    random = np.random.default_rng(seed)
    white = 255 if images.images.dtype == np.uint8 else 1
    brightness = images.x.reshape(len(images), -1).mean(axis=1) / white
    thresholds = np.quantile(brightness, (np.arange(neurons) + 0.5) / neurons)
    made = [np.full((pixels, neurons), SMALL / pixels), -SMALL * thresholds]
    made += [np.tile(random.normal(0, LARGE, kernels[1][1]), (neurons, 1)), np.zeros(biases[1])]
    for kernel, bias in zip(kernels[2:], biases[2:], strict=True):
        made += [random.normal(0, LARGE, kernel), np.zeros(bias)]
    return [array.astype(np.float32) for array in made]
