"""The model, and local training and evaluation as pure compiled functions. The only file that imports TensorFlow.

A `Classifier` holds no state: weights go in, weights come out. So any number of threads may share one, and the same seed gives the same
bits wherever and whenever it runs on one kind of machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable

import numpy as np

from fedlab.data import Dataset
from fedlab.messages import Training, Weights, check_weights


@contextlib.contextmanager
def _quiet():
    """TensorFlow's C++ start-up prints to the process's stderr, which a notebook shows under whatever cell ran last. Keep that away."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with _quiet():
    import keras
    import tensorflow as tf

    # The models here are small: a CPU is faster than the way to a GPU, and several clients on one machine do not fight for its memory.
    tf.config.set_visible_devices([], "GPU")

ADAM = (0.9, 0.999, 1e-7)
"""beta1, beta2, epsilon: Keras' defaults, which the original uses."""

CHUNK_IMAGES = 2_048
MAX_CHUNK = 64
"""A compiled call takes at most so many images and batches: training can be stopped between two calls, and one shape serves any number of examples."""

EVALUATION_CHUNK = 2_000


class TrainingStopped(Exception):
    """Local training ended early because it was asked to."""


def two_nn(seed: int = 0) -> keras.Model:
    """The paper's "2NN": 784-200-200-10, ReLU, softmax; 199,210 parameters (McMahan et al. 2017, section 3).

    Glorot-uniform weights from `seed`, zero biases.
    """
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
    """A built Keras model, images to class probabilities or logits, as pure functions of its weights.

    weights: the model's own, as built: the list of float32 arrays of `get_weights()`.
    Raises ValueError for a model that is not built or does not give one row of class scores for every image.
    """

    def __init__(self, model: keras.Model | None = None, seed: int = 0):
        model = model if model is not None else two_nn(seed)
        if not model.built or len(model.output_shape) != 2:
            shape = model.output_shape if model.built else "of a model that is not built"
            raise ValueError(f"the model's output is {shape}; expected a built classifier with output (None, classes)")
        self.weights: Weights = model.get_weights()
        self.classes: int = model.output_shape[-1]
        # Models of one architecture share the compiled functions, so that a new seed costs no compilation.
        self._programs = _programs(model.to_json())

    def train(
        self,
        weights: Weights,
        data: Dataset,
        training: Training,
        seed: int,
        on_epoch: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[Weights, float]:
        """E epochs of SGD or Adam on `data`, starting at `weights`, with fresh moments (ClientUpdate of McMahan et al. 2017).

        seed:     decides the order of the examples; each epoch shuffles anew, the last batch of an epoch may be smaller.
        on_epoch: called with 1, 2, ... before each epoch.
        stop:     asked between compiled calls (some 2,000 images); True ends training with TrainingStopped.
        Returns the new weights and the mean loss of the last epoch (nats). Raises BadUpdate for weights of another model,
        ValueError for a data set with no examples.
        """
        check_weights(weights, self.weights)
        if not len(data):
            raise ValueError("there are no examples to train on; expected at least one")
        size = batch_shape(training.batch_size, len(data))
        batch = min(training.batch_size or len(data), len(data))
        program = self._programs.training(size, training.optimizer)
        rng = np.random.default_rng(seed)
        carried = program.start(weights)
        loss = 0.0
        for epoch in range(1, training.epochs + 1):
            if on_epoch:
                on_epoch(epoch)
            order = rng.permutation(len(data))
            losses = []
            for start in range(0, len(data), batch * program.chunk):
                if stop and stop():
                    raise TrainingStopped
                x, y = data.take(order[start : start + batch * program.chunk])
                carried, chunk_loss = program.run(carried, x, y, batch, training.learning_rate)
                losses.append(chunk_loss)
            loss = float(sum(float(value) for value in losses)) / len(data)
        return program.finish(carried), loss

    def evaluate(self, weights: Weights, data: Dataset) -> tuple[float, float]:
        """(loss, accuracy) of a model with these weights on `data`: mean cross-entropy in nats, and the fraction that is right."""
        right, loss = 0, 0.0
        for y, scores, losses in self._scored(weights, data):
            right += int((scores.argmax(1) == y).sum())
            loss += float(losses.sum(dtype=np.float64))
        return loss / len(data), right / len(data)

    def predict(self, weights: Weights, data: Dataset) -> np.ndarray:
        """Class probabilities, (n, classes) float32."""
        return np.concatenate([scores for _, scores, _ in self._scored(weights, data)])

    def _scored(self, weights: Weights, data: Dataset):
        check_weights(weights, self.weights)
        if not len(data):
            raise ValueError("there are no examples to test on; expected at least one")
        program = self._programs.evaluation()
        tensors = [tf.constant(w) for w in weights]
        for start in range(0, len(data), EVALUATION_CHUNK):
            x, y = data.take(np.arange(start, min(start + EVALUATION_CHUNK, len(data))))
            scores, losses = program(tensors, _padded(x, EVALUATION_CHUNK), _padded(y.astype(np.int32), EVALUATION_CHUNK))
            yield y, scores.numpy()[: len(y)], losses.numpy()[: len(y)]

    def prepare(self, batch_size: int | None, optimizer: str, examples: int) -> None:
        """Compile what `train` (for clients with so many examples) and `evaluate` need, now rather than in the first round."""
        self._programs.training(batch_shape(batch_size, examples), optimizer)
        self._programs.evaluation()


def batch_shape(batch_size: int | None, examples: int) -> int:
    """The rows of a compiled batch. Where a batch is all of a client's examples, that is the next of 4, 5, 6, 7, 8, 10, 12, 14, 16, ...:

    at most a quarter more rows than needed (they are masked out), and clients of many different sizes share few compilations.
    """
    if batch_size is not None and batch_size <= examples:
        return batch_size
    step = 2 ** max(examples.bit_length() - 3, 0)
    return -(-examples // step) * step


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    if len(array) == rows:
        return array
    out = np.zeros((rows, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


@functools.lru_cache(maxsize=16)
def _programs(architecture: str) -> _Programs:
    return _Programs(keras.models.model_from_json(architecture))


class _Programs:
    """The compiled functions of one architecture, made when first needed."""

    def __init__(self, model: keras.Model):
        self.model = model
        self._lock = threading.Lock()
        self._made: dict = {}
        positions = {id(v): i for i, v in enumerate(model.weights)}
        self.trainable = [positions[id(v)] for v in model.trainable_variables]
        # What is not trained but may change, such as batch normalisation's means, travels too; a dropout's random state does not.
        self.others = [(positions.get(id(v)), v.numpy()) for v in model.non_trainable_variables]
        self.probabilities = self._gives_probabilities()

    def _gives_probabilities(self) -> bool:
        shape = [4, *(size or 1 for size in self.model.input_shape[1:])]
        out = self.model(np.random.default_rng(0).random(shape, dtype=np.float32), training=False).numpy()
        return bool((out >= 0).all() and np.allclose(out.sum(1), 1, atol=1e-3))

    def training(self, batch: int, optimizer: str) -> _TrainingProgram:
        return self._once(("train", batch, optimizer), lambda: _TrainingProgram(self, batch, optimizer))

    def evaluation(self):
        return self._once("evaluate", self._make_evaluation)

    def _once(self, key, make):
        """One thread compiles, the others wait for it: a compilation takes half a second, and TensorFlow's tracing is not thread-safe."""
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make()
        return self._made[key]

    def images(self, x: tf.Tensor) -> tf.Tensor:
        """Grey values 0-255 to [0, 1], inside the compiled call: a quarter of the bytes on the way there."""
        x = tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x
        return tf.reshape(x, [x.shape[0], *self.model.input_shape[1:]])

    def log_scores(self, outputs: tf.Tensor) -> tf.Tensor:
        """log p(class). Keras clips probabilities at 1e-7, and so does this."""
        return tf.math.log(tf.clip_by_value(outputs, 1e-7, 1.0)) if self.probabilities else tf.nn.log_softmax(outputs)

    def losses(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of each example, (n,)."""
        return -tf.reduce_sum(tf.one_hot(y, outputs.shape[-1]) * self.log_scores(outputs), axis=1)

    def _make_evaluation(self):
        def scored(weights, x, y):
            trainable = [weights[i] for i in self.trainable]
            others = [weights[i] if i is not None else tf.constant(value) for i, value in self.others]
            outputs, _ = self.model.stateless_call(trainable, others, self.images(x), training=False)
            return (outputs if self.probabilities else tf.nn.softmax(outputs)), self.losses(outputs, y)

        compiled = tf.function(scored, jit_compile=True, autograph=False)
        return compiled


class _TrainingProgram:
    """Up to `chunk` batches of one size in a single XLA call: weights and moments in, weights and moments out."""

    def __init__(self, programs: _Programs, batch: int, optimizer: str):
        self.programs, self.batch, self.adam = programs, batch, optimizer == "adam"
        self.chunk = max(1, min(MAX_CHUNK, CHUNK_IMAGES // batch))
        self._compiled = tf.function(self._steps, jit_compile=True, autograph=False)
        self._lock = threading.Lock()
        self._ready: set = set()

    def start(self, weights: Weights):
        trainable = [tf.constant(weights[i]) for i in self.programs.trainable]
        others = [tf.constant(weights[i] if i is not None else value) for i, value in self.programs.others]
        moments = [tf.zeros_like(w) for w in trainable] if self.adam else []
        return trainable, others, moments, list(moments), tf.constant(0)

    def finish(self, carried) -> Weights:
        weights: list = [None] * (len(self.programs.trainable) + sum(i is not None for i, _ in self.programs.others))
        for i, tensor in zip(self.programs.trainable, carried[0], strict=True):
            weights[i] = tensor.numpy()
        for (i, _), tensor in zip(self.programs.others, carried[1], strict=True):
            if i is not None:
                weights[i] = tensor.numpy()
        return weights

    def run(self, carried, x: np.ndarray, y: np.ndarray, batch: int, learning_rate: float):
        """Train on (x, y) in batches of `batch` examples; the sum of their losses is returned beside what is carried on."""
        count = -(-len(y) // batch)
        if batch == self.batch:
            rows = self.chunk * self.batch
            xs, ys = _padded(x, rows), np.full(rows, -1, np.int32)
            ys[: len(y)] = y
        else:  # one batch of all examples, in a program made for some more rows
            xs, ys = _padded(x, self.chunk * self.batch), np.full(self.chunk * self.batch, -1, np.int32)
            ys[: len(y)] = y
        xs = xs.reshape(self.chunk, self.batch, -1)
        arguments = (tf.constant(xs), tf.constant(ys.reshape(self.chunk, self.batch)), tf.constant(learning_rate, tf.float32))
        if xs.dtype not in self._ready:
            with self._lock:  # the first call compiles; no batch is trained on in it
                self._compiled(carried, *arguments, tf.constant(0))
                self._ready.add(xs.dtype)
        return self._compiled(carried, *arguments, tf.constant(count))

    def _steps(self, carried, x, y, learning_rate, count):
        def step(i, carried, total):
            trainable, others, first, second, t = carried
            labels = y[i]
            mask = tf.cast(labels >= 0, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(trainable)
                outputs, new_others = self.programs.model.stateless_call(trainable, others, self.programs.images(x[i]), training=True)
                loss = tf.reduce_sum(self.programs.losses(outputs, labels) * mask)
                mean = loss / tf.maximum(tf.reduce_sum(mask), 1.0)
            gradients = tape.gradient(mean, trainable)
            t = t + 1
            if self.adam:
                trainable, first, second = adam_step(trainable, gradients, first, second, t, learning_rate)
            else:
                trainable = [w - learning_rate * g for w, g in zip(trainable, gradients, strict=True)]
            return i + 1, (trainable, new_others, first, second, t), total + loss

        _, carried, total = tf.while_loop(lambda i, *_: i < count, step, (0, carried, 0.0))
        return carried, total


def adam_step(weights, gradients, first, second, t, learning_rate):
    """One step of Adam (Kingma & Ba 2015, Algorithm 1, in the form of their section 2 that Keras uses)."""
    beta1, beta2, epsilon = ADAM
    t = tf.cast(t, tf.float32)
    rate = learning_rate * tf.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    first = [beta1 * m + (1.0 - beta1) * g for m, g in zip(first, gradients, strict=True)]
    second = [beta2 * v + (1.0 - beta2) * g * g for v, g in zip(second, gradients, strict=True)]
    weights = [w - rate * m / (tf.sqrt(v) + epsilon) for w, m, v in zip(weights, first, second, strict=True)]
    return weights, first, second
