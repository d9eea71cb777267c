"""The compiled programs behind a Classifier: XLA's, one for each architecture and shape, shared by
all models that compute the same function. Here TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading

import numpy as np

from fedlab.messages import Weights


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

MOST_ARCHITECTURES = 16
"""Compiled programs are kept for so many different models."""


def architecture(model: keras.Model) -> str:
    """What decides a model's function of its weights, as a text: its JSON without the layers' names
    and how they are initialized.

    Only names are taken out: "relu" may be a layer's name and, beside it, what the layer computes.
    """
    numbers: dict[str, str] = {}

    def unnamed(name):
        return numbers.setdefault(name, f"layer {len(numbers)}") if isinstance(name, str) else name

    def tensors(value):
        """Where tensors come from: [layer's name, number, number], or lists of such."""
        if isinstance(value, list) and value and isinstance(value[0], str):
            return [unnamed(value[0]), *value[1:]]
        return [tensors(item) for item in value] if isinstance(value, list) else bare(value)

    def bare(value, named: bool = False):
        """`value` without names; `named` says that it is the config of something with a name."""
        if isinstance(value, list):
            return [bare(item) for item in value]
        if not isinstance(value, dict):
            return value
        without = {}
        for key, item in value.items():
            if key.endswith("_initializer"):
                continue
            if key == "name" and (named or "class_name" in value):
                without[key] = unnamed(item)
            elif key in ("keras_history", "input_layers", "output_layers"):
                without[key] = tensors(item)
            else:  # the name of a type ("float32") is no name of a layer
                of_layer = key == "config" and value.get("class_name") != "DTypePolicy"
                without[key] = bare(item, named=of_layer)
        return without

    return json.dumps(bare(json.loads(model.to_json())))


_made: dict[str, Programs] = {}
_making = threading.Lock()


def programs_of(model: keras.Model) -> Programs:
    """The compiled functions for models of this architecture, made once."""
    key = architecture(model)
    with _making:
        if key not in _made:
            if len(_made) >= MOST_ARCHITECTURES:
                _made.pop(next(iter(_made)))
            # A copy: the caller may go on to change the model
            _made[key] = Programs(keras.models.clone_model(model))
        return _made[key]


class Programs:
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

    def _compiled_once(self, key, make):
        """`make()`, called by one thread while the others wait: tracing is not thread-safe, and a
        compilation takes half a second.
        """
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make()
        return self._made[key]

    def compiled(self, function, arguments, kind=()):
        """The XLA program of `function` for arguments of these shapes, and of this kind where
        shapes do not tell. Its concrete form: 0.2 ms less Python in every call.
        """

        def make():
            concrete = tf.function(
                function, jit_compile=True, autograph=False
            ).get_concrete_function(*arguments)
            concrete(*arguments)  # the first call compiles
            return concrete

        shapes = tuple((tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(arguments))
        return self._compiled_once((function.__qualname__, kind, *shapes), make)

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

    def held(self, weights: Weights, proximal: float, correction: Weights | None):
        """What every step adds to its gradient: nothing, or mu and w0 (FedProx), and a correction
        (SCAFFOLD). What is not there costs nothing: it is another program.
        """
        anchor = [tf.constant(weights[i]) for i in self.trainable] if proximal else []
        mu = [tf.constant(proximal, tf.float32)] if proximal else []
        added = [tf.constant(correction[i]) for i in self.trainable] if correction else []
        return mu, anchor, added

    def train(
        self,
        carried,
        x: np.ndarray,
        y: np.ndarray,
        batch: int,
        learning_rate: float,
        held,
        shape: tuple[int, int],
        compile_only: bool = False,
    ):
        """One compiled call: batches of `batch` examples, in a program for `shape` = (batches, rows
        of a batch). held: what `held` gave.

        Returns what is carried on, and the sum of the examples' losses.
        """
        # The rows come one batch after the other, so that only the last one can be short. A label
        # of -1 marks a row that does not count.
        labels = np.full(shape[0] * shape[1], -1, np.int32)
        labels[: len(y)] = y
        images = filled(x.reshape(len(x), -1), len(labels)).reshape(*shape, -1)
        count = 0 if compile_only else -(-len(y) // batch)
        arguments = (
            carried,
            tf.constant(images),
            tf.constant(labels.reshape(shape)),
            tf.constant(learning_rate, tf.float32),
            tf.constant(count),
            held,
        )
        kind = tuple(map(len, held))  # two of the three may have the same shapes
        return self.compiled(self._steps, arguments, kind)(*arguments)

    def _steps(self, carried, x, y, learning_rate, count, held):
        mu, anchor, added = held

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
            if anchor:  # the gradient of mu/2 |w - w0|^2
                trios = zip(gradients, trainable, anchor, strict=True)
                gradients = [g + mu[0] * (w - w0) for g, w, w0 in trios]
            if added:
                gradients = [g + c for g, c in zip(gradients, added, strict=True)]
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


def filled(array: np.ndarray, rows: int) -> np.ndarray:
    """`array` and, up to `rows` rows, its own rows again: what the compiled shape needs more is
    real data too, and is masked out afterwards.

    Not zeros: layers that look at a whole batch, such as batch normalisation, see these rows before
    the mask does.
    """
    return array if len(array) == rows else np.resize(array, (rows, *array.shape[1:]))
