"""The model: local training and evaluation as pure functions of weights.

A `Classifier` holds no state: weights go in, weights come out. So any number of threads may share
one, and the same seed gives the same bits wherever and whenever it runs on one kind of machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fedlab.data import Dataset
from fedlab.messages import Training, Weights, check_weights

CHUNKS = (64, 160)
CHUNK_IMAGES = 5_120
"""A compiled call takes up to so many batches (the smaller number where that is enough) and images,
and one batch at least: one epoch of a shard of 5,000 is one call.
Training can be stopped between two calls, and two shapes serve any number of examples."""

EVALUATION_CHUNK = 2_500
"""Images in one compiled call of the evaluation: its intermediate results stay in the processor's
cache."""


class TrainingStopped(Exception):
    """Local training ended early because it was asked to."""


def two_nn(seed: int = 0):
    """The paper's "2NN" in Keras: 784-200-200-10, ReLU, softmax; 199,210 parameters (McMahan et al.
    2017, section 3).

    Glorot-uniform weights from `seed`, zero biases.
    """
    # Here and below, not above: it loads TensorFlow, for seconds, and there may be things to say
    # before that.
    from fedlab.compiled import keras

    init = [keras.initializers.GlorotUniform(seed=seed * 3 + layer) for layer in range(3)]
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(200, activation="relu", kernel_initializer=init[0]),
            keras.layers.Dense(200, activation="relu", kernel_initializer=init[1]),
            keras.layers.Dense(10, activation="softmax", kernel_initializer=init[2]),
        ]
    )


class Classifier:
    """A built Keras model, images to class probabilities or logits, as pure functions of its
    weights.

    weights: the model's own, as built: the list of float32 arrays of `get_weights()`.
    Without a model it is the 2NN with weights from `seed`, built at once where TensorFlow has been
    loaded, else when it is first needed.
    Raises ValueError for a model that is not built or does not give one row of class scores for
    every image.
    """

    def __init__(self, model=None, seed: int = 0):
        self._seed = seed
        if model is not None or "tensorflow" in sys.modules:
            self._take(model if model is not None else two_nn(seed))

    def __getattr__(self, name: str):
        if name not in ("weights", "classes", "_programs"):
            raise AttributeError(f"a Classifier has no {name!r}")
        self._take(two_nn(self._seed))
        return getattr(self, name)

    def _take(self, model) -> None:
        from fedlab.compiled import programs_of

        if not model.built or len(model.output_shape) != 2:
            shape = model.output_shape if model.built else "of a model that is not built"
            raise ValueError(
                f"the model's output is {shape}; expected a built classifier's (None, classes)"
            )
        self.weights: Weights = model.get_weights()
        self.classes: int = model.output_shape[-1]
        # Models of one architecture share the compiled functions, so that a new seed costs no
        # compilation.
        self._programs = programs_of(model)

    def train(
        self,
        weights: Weights,
        data: Dataset,
        training: Training,
        seed: int,
        correction: Weights | None = None,
        *,
        on_epoch: Callable[[int], None] | None = None,
        on_step: Callable[[Weights], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[Weights, float]:
        """E epochs of SGD or Adam on `data`, starting at `weights`, with fresh moments
        (ClientUpdate of McMahan et al. 2017).

        Every step follows g + mu (w - w0) + correction, where g is the batch's gradient and w0 are
        `weights`; mu is `training.proximal`.

        seed:     decides the order of the examples; each epoch shuffles anew, the last batch of an
                  epoch may be smaller.
        correction: arrays of the shapes of `weights`, added to every step's gradient (SCAFFOLD's
                  c - c_i); nothing if None.
        on_epoch: called with 1, 2, ... before each epoch.
        on_step:  called with the weights after every step: much slower, and the same steps.
        stop:     asked between compiled calls (5,120 images, or one batch that is larger); True
                  ends training with TrainingStopped.
        Returns the new weights and the mean loss of the last epoch (nats). Raises BadUpdate for
        weights of another model, ValueError for a data set with no examples.
        """
        check_weights(weights, self.weights)
        if correction is not None:
            check_weights(correction, self.weights)
        if not len(data):
            raise ValueError("there are no examples to train on; expected at least one")
        shape = chunk_shape(training.batch_size, len(data))
        batch = min(training.batch_size or len(data), len(data))
        rng = np.random.default_rng(seed)
        carried = self._programs.start(weights, training.optimizer == "adam")
        held = self._programs.held(weights, training.proximal, correction)
        loss = 0.0
        for epoch in range(1, training.epochs + 1):
            if on_epoch:
                on_epoch(epoch)
            order = rng.permutation(len(data))
            losses = []
            taken = batch * (1 if on_step else shape[0])  # images of one call
            for start in range(0, len(data), taken):
                if stop and stop():
                    raise TrainingStopped
                x, y = data.take(order[start : start + taken])
                carried, chunk_loss = self._programs.train(
                    carried, x, y, batch, training.learning_rate, held, shape
                )
                losses.append(chunk_loss)
                if on_step:
                    on_step(self._programs.finish(carried))
            loss = sum(float(value) for value in losses) / len(data)
        return self._programs.finish(carried), loss

    def evaluate(self, weights: Weights, data: Dataset) -> tuple[float, float]:
        """(loss, accuracy) of a model with these weights on `data`: mean cross-entropy in nats, and
        the fraction that is right.
        """
        right, loss = 0, 0.0
        for y, scores, losses in self._scored(weights, data):
            right += int((scores.argmax(1) == y).sum())
            loss += float(losses.sum(dtype=np.float64))
        return loss / len(data), right / len(data)

    def predict(self, weights: Weights, data: Dataset) -> np.ndarray:
        """Class probabilities, (n, classes) float32."""
        return np.concatenate([scores for _, scores, _ in self._scored(weights, data)])

    def _scored(
        self, weights: Weights, data: Dataset
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(labels, class probabilities, cross-entropies) of `data`, chunk by chunk."""
        check_weights(weights, self.weights)
        if not len(data):
            raise ValueError("there are no examples to test on; expected at least one")
        from fedlab.compiled import filled, tf

        tensors = [tf.constant(w) for w in weights]
        rows = evaluation_rows(len(data))
        starts = range(0, len(data), rows)

        def score(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            x, y = data.take(np.arange(start, min(start + rows, len(data))))
            scores, losses = self._programs.score(
                tensors, filled(x, rows), filled(y.astype(np.int32), rows)
            )
            return y, scores.numpy()[: len(y)], losses.numpy()[: len(y)]

        if len(starts) == 1:
            return [score(0)]
        # A chunk a core: one call shares out its matrix products among the cores, but nothing else.
        with ThreadPoolExecutor(
            min(len(starts), os.cpu_count() or 1), thread_name_prefix="fedlab-test"
        ) as pool:
            return list(pool.map(score, starts))

    def prepare(self, data: Dataset, training: Training, correction: Weights | None = None) -> None:
        """Compile what `train` on data like this needs, now rather than in the first round: half a
        second, once.
        """
        shape = chunk_shape(training.batch_size, len(data))
        carried = self._programs.start(self.weights, training.optimizer == "adam")
        held = self._programs.held(self.weights, training.proximal, correction)
        one = data.take(np.arange(1))
        self._programs.train(carried, *one, 1, 0.0, held, shape, compile_only=True)

    def prepare_evaluation(self, data: Dataset) -> None:
        """Compile what `evaluate` on data like this needs."""
        self.evaluate(self.weights, data.subset(np.arange(min(len(data), EVALUATION_CHUNK))))


def batch_shape(batch_size: int | None, examples: int) -> int:
    """The rows of a compiled batch. Where a batch is all of a client's examples, that is the next
    of 16, 17, ..., 31, 32, 34, 36, ..., 64, 68, ...:

    at most a sixteenth more rows than needed (they are masked out), and clients of many different
    sizes share few compilations.
    """
    if batch_size is not None and batch_size <= examples:
        return batch_size
    step = 2 ** max(examples.bit_length() - 5, 0)
    return -(-examples // step) * step


def evaluation_rows(examples: int) -> int:
    """The images of one compiled call of the evaluation: a small test set does not pay for a large
    one's.
    """
    return min(EVALUATION_CHUNK, batch_shape(None, examples))


def chunk_shape(batch_size: int | None, examples: int) -> tuple[int, int]:
    """(batches, rows of a batch) of one compiled call."""
    rows = batch_shape(batch_size, examples)
    batches = CHUNKS[0] if examples <= CHUNKS[0] * rows else CHUNKS[1]
    return max(1, min(batches, CHUNK_IMAGES // rows)), rows
