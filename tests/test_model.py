"""Local training against Keras' own, and the promises of a pure function."""

import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

from fedlab.compiled import architecture
from fedlab.data import Dataset
from fedlab.messages import BadUpdate, Training
from fedlab.model import Classifier, TrainingStopped, batch_shape, two_nn


def keras_training(model, weights, data, training, seed):
    """The same batches through Keras' own train_on_batch: an independent reference."""
    model = keras.models.clone_model(model)
    logits = model.layers[-1].activation is not keras.activations.softmax
    optimizer = (
        keras.optimizers.Adam(training.learning_rate)
        if training.optimizer == "adam"
        else keras.optimizers.SGD(training.learning_rate)
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=logits))
    model.set_weights(weights)
    rng = np.random.default_rng(seed)
    for _ in range(training.epochs):
        order = rng.permutation(len(data))
        size = training.batch_size or len(data)
        for start in range(0, len(data), size):
            x, y = data.take(order[start : start + size])
            model.train_on_batch((x / np.float32(255)).reshape(-1, *model.input_shape[1:]), y)
    return model.get_weights()


def far(a, b):
    return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "training, examples",
    [
        (Training(2, 10, 0.1), 600),
        (Training(1, 32, 0.1), 333),  # the last batch has 13 examples
        (Training(3, None, 0.3), 600),  # B = infinity: 600 examples in a program for 608
        (Training(1, 1000, 0.3), 77),  # a batch larger than the client's data
        (Training(2, 32, 0.001, "adam"), 450),
    ],
)
def test_training_is_keras_training(small, training, examples):
    data, classifier = small.subset(np.arange(examples)), Classifier(seed=1)
    ours, loss = classifier.train(classifier.weights, data, training, seed=5)
    theirs = keras_training(two_nn(1), classifier.weights, data, training, seed=5)
    moved = far(classifier.weights, theirs)
    assert moved > 1e-3 and far(ours, theirs) < 0.002 * moved + 2e-6
    assert 0 < loss < 2.4
    assert [w.dtype for w in ours] == [np.float32] * 6 and sum(w.size for w in ours) == 199_210


def test_evaluation_is_keras_evaluation(test_images):
    data, classifier = test_images.subset(np.arange(999)), Classifier(seed=2)
    model = two_nn(2)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(data.x.reshape(-1, 784) / np.float32(255), data.y, verbose=0)
    assert np.allclose(classifier.evaluate(classifier.weights, data), expected, atol=1e-5)
    assert np.allclose(
        classifier.predict(classifier.weights, data),
        model.predict(data.x.reshape(-1, 784) / np.float32(255), verbose=0),
        atol=1e-5,
    )


def small_convolutional_network(activation):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(4, 5, strides=3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10, activation=activation),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", None])
def test_any_keras_classifier_can_take_the_2nns_place(mnist, test_images, activation):
    """Batch normalisation has weights that are not trained, dropout a random state, the last layer
    probabilities or logits.
    """
    keras.utils.set_random_seed(0)
    classifier = Classifier(small_convolutional_network(activation))
    before = classifier.evaluate(classifier.weights, test_images)[1]
    weights, _ = classifier.train(
        classifier.weights, mnist.train.subset(np.arange(3_000)), Training(3, 32, 0.05), seed=0
    )
    loss, after = classifier.evaluate(weights, test_images)
    assert before < 0.3 and after > 0.75 and loss < 1
    assert [w.shape for w in weights] == [w.shape for w in classifier.weights]
    assert all(
        np.abs(new - old).max() > 0 for new, old in zip(weights, classifier.weights, strict=True)
    ), "the moving means travel too"
    assert np.allclose(classifier.predict(weights, test_images).sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_a_model_may_be_built_before_fedlab_loads_tensorflow():
    """As students do who come with a model of their own: TensorFlow is in use, and some of its
    settings are closed.
    """
    code = """
import keras
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])
import fedlab
print([w.shape for w in fedlab.Classifier(model).weights])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[(784, 10), (10,)]", result.stderr


def test_the_same_seed_gives_the_same_bits_alone_and_in_a_crowd(mnist):
    """Four threads share one classifier; each result is that of a call on its own."""
    classifier = Classifier()
    parts = [mnist.train.subset(np.arange(700) + 700 * i) for i in range(4)]
    training = Training(2, 10, 0.1)
    alone = [
        classifier.train(classifier.weights, part, training, seed=i)[0]
        for i, part in enumerate(parts)
    ]
    crowd: dict = {}

    def work(i):
        crowd[i] = classifier.train(classifier.weights, parts[i], training, seed=i)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(alone[i], crowd[i], strict=True))
    assert far(alone[0], alone[1]) > 0
    assert far(alone[0], classifier.train(classifier.weights, parts[0], training, seed=9)[0]) > 0, (
        "another seed, other batches"
    )


def test_epochs_are_announced_and_training_can_be_stopped(mnist):
    classifier, epochs = Classifier(), []
    with pytest.raises(TrainingStopped):
        classifier.train(
            classifier.weights,
            mnist.shards(1, 1),
            Training(50, 32),
            0,
            on_epoch=epochs.append,
            stop=lambda: len(epochs) == 3,
        )
    assert epochs == [1, 2, 3]


def test_what_training_refuses(small):
    classifier = Classifier()
    with pytest.raises(BadUpdate, match=r"array 0 has the shape \(10,\)"):
        classifier.train(classifier.weights[::-1], small, Training(), 0)
    with pytest.raises(ValueError, match="there are no examples to train on"):
        classifier.train(classifier.weights, small.subset(np.arange(0)), Training(), 0)
    with pytest.raises(ValueError, match="expected a built classifier's .None, classes."):
        Classifier(keras.Sequential([keras.layers.Dense(10)]))


def test_a_rate_of_100_leaves_the_finite_numbers(mnist):
    """A divergence must be seen, not hidden by a clipped loss."""
    classifier = Classifier()
    weights, loss = classifier.train(
        classifier.weights, mnist.shards(1, 1), Training(3, 10, 100.0), 0
    )
    assert not np.isfinite(loss) or not all(np.isfinite(w).all() for w in weights) or loss > 100


def test_models_of_one_architecture_share_what_is_compiled():
    assert Classifier(seed=3)._programs is Classifier(seed=4)._programs
    assert (
        Classifier(small_convolutional_network("softmax"))._programs
        is Classifier(small_convolutional_network("softmax"))._programs
    )
    assert (
        Classifier(small_convolutional_network("softmax"))._programs
        is not Classifier(small_convolutional_network("relu"))._programs
    )
    assert far(Classifier(seed=3).weights, Classifier(seed=4).weights) > 0


def test_batch_shapes_are_few_and_close():
    for examples in range(1, 5_000, 7):
        assert examples <= batch_shape(None, examples) <= max(17 / 16 * examples, examples + 1)
    assert len({batch_shape(None, n) for n in range(1, 5_001)}) < 160
    assert (
        batch_shape(32, 600) == 32
        and batch_shape(None, 600) == 608
        and batch_shape(1000, 600) == 608
    )


def test_images_may_be_scaled_already(small):
    scaled = Dataset((small.x / np.float32(255)).astype(np.float32), small.y)
    classifier = Classifier()
    a, _ = classifier.train(classifier.weights, small, Training(1, 32), 0)
    b, _ = classifier.train(classifier.weights, scaled, Training(1, 32), 0)
    assert far(a, b) < 1e-6


# ---- what a step follows -------------------------------------------------------------------------


def regression() -> keras.Model:
    """Softmax regression on four pixels, from zero."""
    layer = keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((4,)), layer])


@pytest.mark.parametrize(("mu", "corrected"), [(0.7, False), (0.0, True), (0.7, True)])
def test_a_step_follows_g_and_mu_times_the_way_and_the_correction(mu, corrected):
    """Three steps on all examples, in NumPy."""
    rng = np.random.default_rng(1)
    data = Dataset(rng.random((30, 4), dtype=np.float32), rng.integers(0, 3, 30).astype(np.uint8))
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,))]
    extra = [rng.normal(size=w.shape).astype(np.float32) for w in start] if corrected else None
    w = [a.astype(np.float64) for a in start]
    for _ in range(3):
        scores = np.exp(data.x @ w[0] + w[1])
        wrong = scores / scores.sum(1, keepdims=True) - np.eye(3)[data.y]
        g = [data.x.T @ wrong / 30, wrong.mean(0)]
        for i in range(2):
            w[i] = w[i] - 0.4 * (g[i] + mu * (w[i] - start[i]) + (extra[i] if corrected else 0))
    got, _ = Classifier(regression()).train(
        start, data, Training(3, None, 0.4, proximal=mu), 0, extra
    )
    for a, b in zip(got, w, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_correction_of_another_shape_is_refused(small):
    classifier = Classifier()
    with pytest.raises(BadUpdate, match="got 5 arrays; expected 6"):
        classifier.train(classifier.weights, small, Training(), 0, classifier.weights[1:])


def named(function: str, name: str) -> keras.Model:
    """Two layers, of which the second is called like a function."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(10, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Activation(function, name=name),
        ]
    )


@pytest.mark.parametrize("name", ["relu", "tanh", "softmax", "float32", "dense", "Activation"])
def test_a_layer_called_like_a_value_changes_nothing(name, test_images):
    """Names that are also values used to be replaced where they are values: the model with
    Activation("tanh", name="tanh") silently computed the one with "relu".
    """
    for function in ("relu", "tanh"):
        model = named(function, name)
        probabilities = Classifier(model).predict(model.get_weights(), test_images)
        images = test_images.x.reshape(-1, 784).astype(np.float32) / 255
        outputs = model(images, training=False).numpy()
        odds = np.exp(outputs - outputs.max(1, keepdims=True))
        np.testing.assert_allclose(probabilities, odds / odds.sum(1, keepdims=True), atol=1e-5)


def test_names_are_no_part_of_an_architecture_and_values_are():
    same = {architecture(named("relu", name)) for name in ("relu", "tanh", "other")}
    assert len(same) == 1 and architecture(named("tanh", "relu")) not in same

    def branches(left: str, right: str, swapped: bool) -> keras.Model:
        inputs = keras.Input((4,), name="pixels")
        a = keras.layers.Dense(3, activation="relu", name=left)(inputs)
        b = keras.layers.Dense(3, activation="tanh", name=right)(inputs)
        joined = keras.layers.Subtract()([b, a] if swapped else [a, b])
        return keras.Model(inputs, keras.layers.Softmax()(joined))

    one = architecture(branches("a", "b", False))
    assert one == architecture(branches("b", "a", False)) == architecture(branches("x", "y", False))
    assert one != architecture(branches("a", "b", True))


@pytest.mark.slow
def test_a_classifier_without_a_model_loads_tensorflow_when_it_is_first_needed():
    """And then it is the 2NN of its seed, as where TensorFlow has been loaded before."""
    code = (
        "import sys, fedlab; c = fedlab.Classifier(seed=3); print('tensorflow' in sys.modules);"
        " print(c.classes, [float(w.sum()) for w in c.weights], hasattr(c, 'nonsense'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [float(w.sum()) for w in Classifier(seed=3).weights]
    assert done.stdout.splitlines() == ["False", f"10 {here} False"]


def test_the_weights_after_every_step_are_those_of_the_same_training(small):
    """3 epochs of 600 images in batches of 250: 9 steps, and the last of an epoch has 100."""
    classifier = Classifier(seed=1)
    training = Training(3, 250, 0.1)
    correction = [np.full_like(w, 0.001) for w in classifier.weights]
    steps = []
    watched, loss = classifier.train(
        classifier.weights, small, training, 7, correction, on_step=steps.append
    )
    plain, same_loss = classifier.train(classifier.weights, small, training, 7, correction)
    assert len(steps) == 9 and loss == pytest.approx(same_loss)
    for last, one, other in zip(steps[-1], watched, plain, strict=True):
        assert np.array_equal(last, one) and np.array_equal(one, other)
    first_two, _ = classifier.train(classifier.weights, small, Training(1, 250, 0.1), 7, correction)
    assert all(np.array_equal(a, b) for a, b in zip(steps[2], first_two, strict=True))
