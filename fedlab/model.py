"""The model, and local training and evaluation as pure compiled functions. The only file that
imports TensorFlow.

A `Classifier` holds no state: weights go in, weights come out. So any number of threads may share
one, and the same seed gives the same bits wherever and whenever it runs on one kind of machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fedlab.data import Dataset
from fedlab.messages import Training, Weights, check_weights


@contextlib.contextmanager
def _quiet():
    """TensorFlow's C++ start-up prints to the process's stderr, which a notebook shows under
    whatever cell ran last. Keep that away.
    """
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

    # Both can be set only before TensorFlow's first use: who has built a model already has decided.
    with contextlib.suppress(RuntimeError):
        # The models here are small: a CPU is faster than the way to a GPU, and several clients on
        # one machine do not fight for its memory.
        tf.config.set_visible_devices([], "GPU")
    with contextlib.suppress(RuntimeError):
        # At least two, whatever the machine: with one, all calls of all threads wait for each
        # other, and the sums come out with other bits.
        tf.config.threading.set_intra_op_parallelism_threads(max(2, os.cpu_count() or 2))

ADAM = (0.9, 0.999, 1e-7)
"""beta1, beta2, epsilon: Keras' defaults, which the original uses."""

CHUNKS = (64, 160)
CHUNK_IMAGES = 5_120
"""A compiled call takes up to so many batches (the smaller number where that is enough) and images,
and one batch at least: one epoch of a shard of 5,000 is one call.
Training can be stopped between two calls, and two shapes serve any number of examples."""

MOST_ARCHITECTURES = 16
"""Compiled programs are kept for so many different models."""

EVALUATION_CHUNK = 2_500
"""Images in one compiled call of the evaluation: its intermediate results stay in the processor's
cache."""


class TrainingStopped(Exception):
    """Local training ended early because it was asked to."""


def two_nn(seed: int = 0) -> keras.Model:
    """The paper's "2NN": 784-200-200-10, ReLU, softmax; 199,210 parameters (McMahan et al. 2017,
    section 3).

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
    """A built Keras model, images to class probabilities or logits, as pure functions of its
    weights.

    weights: the model's own, as built: the list of float32 arrays of `get_weights()`.
    Raises ValueError for a model that is not built or does not give one row of class scores for
    every image.
    """

    def __init__(self, model: keras.Model | None = None, seed: int = 0):
        model = model if model is not None else two_nn(seed)
        if not model.built or len(model.output_shape) != 2:
            shape = model.output_shape if model.built else "of a model that is not built"
            raise ValueError(
                f"the model's output is {shape}; expected a built classifier with output (None,"
                " classes)"
            )
        self.weights: Weights = model.get_weights()
        self.classes: int = model.output_shape[-1]
        # Models of one architecture share the compiled functions, so that a new seed costs no
        # compilation.
        self._programs = _programs(model)

    def train(
        self,
        weights: Weights,
        data: Dataset,
        training: Training,
        seed: int,
        on_epoch: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[Weights, float]:
        """E epochs of SGD or Adam on `data`, starting at `weights`, with fresh moments
        (ClientUpdate of McMahan et al. 2017).

        seed:     decides the order of the examples; each epoch shuffles anew, the last batch of an
                  epoch may be smaller.
        on_epoch: called with 1, 2, ... before each epoch.
        stop:     asked between compiled calls (5,120 images, or one batch that is larger); True
                  ends training with TrainingStopped.
        Returns the new weights and the mean loss of the last epoch (nats). Raises BadUpdate for
        weights of another model, ValueError for a data set with no examples.
        """
        check_weights(weights, self.weights)
        if not len(data):
            raise ValueError("there are no examples to train on; expected at least one")
        shape, batch = (
            chunk_shape(training.batch_size, len(data)),
            min(training.batch_size or len(data), len(data)),
        )
        rng = np.random.default_rng(seed)
        carried = self._programs.start(weights, training.optimizer == "adam")
        loss = 0.0
        for epoch in range(1, training.epochs + 1):
            if on_epoch:
                on_epoch(epoch)
            order = rng.permutation(len(data))
            losses = []
            for start in range(0, len(data), batch * shape[0]):
                if stop and stop():
                    raise TrainingStopped
                x, y = data.take(order[start : start + batch * shape[0]])
                carried, chunk_loss = self._programs.train(
                    carried, x, y, batch, training.learning_rate, shape
                )
                losses.append(chunk_loss)
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
        tensors = [tf.constant(w) for w in weights]
        rows = evaluation_rows(len(data))
        starts = range(0, len(data), rows)

        def score(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            x, y = data.take(np.arange(start, min(start + rows, len(data))))
            scores, losses = self._programs.score(
                tensors, _filled(x, rows), _filled(y.astype(np.int32), rows)
            )
            return y, scores.numpy()[: len(y)], losses.numpy()[: len(y)]

        if len(starts) == 1:
            return [score(0)]
        # A chunk a core: one call shares out its matrix products among the cores, but nothing else.
        with ThreadPoolExecutor(
            min(len(starts), os.cpu_count() or 1), thread_name_prefix="fedlab-test"
        ) as pool:
            return list(pool.map(score, starts))

    def prepare(self, data: Dataset, training: Training) -> None:
        """Compile what `train` on data like this needs, now rather than in the first round: half a
        second, once.
        """
        shape = chunk_shape(training.batch_size, len(data))
        carried = self._programs.start(self.weights, training.optimizer == "adam")
        self._programs.train(carried, *data.take(np.arange(1)), 1, 0.0, shape, compile_only=True)

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


def _filled(array: np.ndarray, rows: int) -> np.ndarray:
    """`array` and, up to `rows` rows, its own rows again: what the compiled shape needs more is
    real data too, and is masked out afterwards.

    Not zeros: layers that look at a whole batch, such as batch normalisation, see these rows before
               the mask does.
    """
    return array if len(array) == rows else np.resize(array, (rows, *array.shape[1:]))


def architecture(model: keras.Model) -> str:
    """What decides a model's function of its weights, as a text: its JSON without the layers' names
    and how they are initialized.
    """

    names: list[str] = []

    def bare(value):
        if isinstance(value, list):
            return [bare(item) for item in value]
        if not isinstance(value, dict):
            return value
        # Whose name is the type
        if isinstance(value.get("config"), dict) and value.get("class_name") != "DTypePolicy":
            names.append(value["config"].get("name"))
        return {key: bare(item) for key, item in value.items() if not key.endswith("_initializer")}

    text = json.dumps(bare(json.loads(model.to_json())))
    for number, name in enumerate(dict.fromkeys(names)):
        text = text.replace(json.dumps(name), f'"layer {number}"') if name else text
    return text


_made: dict[str, _Programs] = {}
_making = threading.Lock()


def _programs(model: keras.Model) -> _Programs:
    """The compiled functions for models of this architecture, made once."""
    key = architecture(model)
    with _making:
        if key not in _made:
            if len(_made) >= MOST_ARCHITECTURES:
                _made.pop(next(iter(_made)))
            # A copy: the caller may go on to change the model
            _made[key] = _Programs(keras.models.clone_model(model))
        return _made[key]


class _Programs:
    """The compiled functions of one architecture, made when first needed."""

    def __init__(self, model: keras.Model):
        self.model = model
        self._lock = threading.Lock()
        self._made: dict = {}
        positions = {id(v): i for i, v in enumerate(model.weights)}
        self.trainable = [positions[id(v)] for v in model.trainable_variables]
        # What is not trained but may change, such as batch normalisation's means, travels too; a
        # dropout's random state does not.
        self.others = [(positions.get(id(v)), v.numpy()) for v in model.non_trainable_variables]
        self.probabilities = self._gives_probabilities()

    def _gives_probabilities(self) -> bool:
        shape = [4, *(size or 1 for size in self.model.input_shape[1:])]
        out = self.model(
            np.random.default_rng(0).random(shape, dtype=np.float32), training=False
        ).numpy()
        return bool((out >= 0).all() and np.allclose(out.sum(1), 1, atol=1e-3))

    def _once(self, key, make):
        """`make()`, called by one thread while the others wait: tracing is not thread-safe, and a
        compilation takes half a second.
        """
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make()
        return self._made[key]

    def compiled(self, function, arguments):
        """The XLA program of `function` for arguments of these shapes. Its concrete form: 0.2 ms
        less Python in every call.
        """

        def make():
            concrete = tf.function(
                function, jit_compile=True, autograph=False
            ).get_concrete_function(*arguments)
            concrete(*arguments)  # the first call compiles
            return concrete

        shapes = tuple((tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(arguments))
        return self._once((function.__qualname__, *shapes), make)

    def score(self, weights, x: np.ndarray, y: np.ndarray):
        """Class probabilities and cross-entropies of a chunk of images."""
        arguments = (weights, tf.constant(x), tf.constant(y))
        return self.compiled(self._score, arguments)(*arguments)

    def images(self, x: tf.Tensor) -> tf.Tensor:
        """Grey values 0-255 to [0, 1], inside the compiled call: a quarter of the bytes on the way
        there.
        """
        x = tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x
        return tf.reshape(x, [x.shape[0], *self.model.input_shape[1:]])

    def losses(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of each example, (n,). From a softmax's logits, so that no small
        probability is cut off: diverging training must show.
        """
        if self.probabilities and outputs.op.type == "Softmax":
            outputs, logits = outputs.op.inputs[0], True
        else:
            logits = not self.probabilities
        return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=logits)

    def _score(self, weights, x, y):
        trainable = [weights[i] for i in self.trainable]
        others = [weights[i] if i is not None else tf.constant(value) for i, value in self.others]
        outputs, _ = self.model.stateless_call(trainable, others, self.images(x), training=False)
        return (outputs if self.probabilities else tf.nn.softmax(outputs)), self.losses(outputs, y)

    def start(self, weights: Weights, adam: bool):
        """What local training carries from step to step: weights, other variables, Adam's two
        moments (none for SGD), steps taken.
        """
        trainable = [tf.constant(weights[i]) for i in self.trainable]
        others = [tf.constant(weights[i] if i is not None else value) for i, value in self.others]
        moments = [tf.zeros_like(w) for w in trainable] if adam else []
        return trainable, others, moments, list(moments), tf.constant(0)

    def finish(self, carried) -> Weights:
        """The weights in Keras' order again."""
        tensors = dict(zip(self.trainable, carried[0], strict=True))
        tensors |= {
            i: tensor
            for (i, _), tensor in zip(self.others, carried[1], strict=True)
            if i is not None
        }
        return [tensors[i].numpy() for i in range(len(tensors))]

    def train(
        self,
        carried,
        x: np.ndarray,
        y: np.ndarray,
        batch: int,
        learning_rate: float,
        shape: tuple[int, int],
        compile_only: bool = False,
    ):
        """One compiled call: batches of `batch` examples, in a program for `shape` = (batches, rows
        of a batch).

        Returns what is carried on, and the sum of the examples' losses.
        """
        # The rows come one batch after the other, so that only the last one can be short. A label
        # of -1 marks a row that does not count.
        labels = np.full(shape[0] * shape[1], -1, np.int32)
        labels[: len(y)] = y
        images = _filled(x.reshape(len(x), -1), len(labels)).reshape(*shape, -1)
        count = 0 if compile_only else -(-len(y) // batch)
        arguments = (
            carried,
            tf.constant(images),
            tf.constant(labels.reshape(shape)),
            tf.constant(learning_rate, tf.float32),
            tf.constant(count),
        )
        return self.compiled(self._steps, arguments)(*arguments)

    def _steps(self, carried, x, y, learning_rate, count):
        def step(i, carried, total):
            trainable, others, first, second, t = carried
            mask = tf.cast(y[i] >= 0, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(trainable)
                outputs, others, penalties = self.model.stateless_call(
                    trainable, others, self.images(x[i]), training=True, return_losses=True
                )
                loss = tf.reduce_sum(self.losses(outputs, tf.maximum(y[i], 0)) * mask)
                objective = tf.add_n([loss / tf.maximum(tf.reduce_sum(mask), 1.0), *penalties])
            gradients = tape.gradient(objective, trainable)
            t = t + 1
            if first:  # Adam's moments
                trainable, first, second = adam_step(
                    trainable, gradients, first, second, t, learning_rate
                )
            else:
                trainable = [
                    w - learning_rate * g for w, g in zip(trainable, gradients, strict=True)
                ]
            return i + 1, (trainable, others, first, second, t), total + loss

        _, carried, total = tf.while_loop(lambda i, *_: i < count, step, (0, carried, 0.0))
        return carried, total


def adam_step(weights, gradients, first, second, t, learning_rate):
    """One step of Adam (Kingma & Ba 2015, Algorithm 1, in the form of their section 2 that Keras
    uses).
    """
    beta1, beta2, epsilon = ADAM
    t = tf.cast(t, tf.float32)
    rate = learning_rate * tf.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    first = [beta1 * m + (1.0 - beta1) * g for m, g in zip(first, gradients, strict=True)]
    second = [beta2 * v + (1.0 - beta2) * g * g for v, g in zip(second, gradients, strict=True)]
    weights = [
        w - rate * m / (tf.sqrt(v) + epsilon)
        for w, m, v in zip(weights, first, second, strict=True)
    ]
    return weights, first, second
