"""From an update back to images: exactly those that were trained on, and never another."""

import keras
import numpy as np
import pytest

import fedlab
from fedlab import wire
from fedlab.checks import Refused
from fedlab.conformance.recorder import Recorder


@pytest.fixture(scope="module")
def classifier():
    return fedlab.Classifier(seed=0)


def some(mnist, number, seed=0):
    return mnist.train.subset(np.random.default_rng(seed).choice(60_000, number, replace=False))


def conversation(data, classifier, weights=None, seed=0, **settings):
    """The bytes of a task and of the answer to it."""
    training = fedlab.Training(**{"batch_size": None, **settings})
    task = fedlab.Task(1, 1, weights or classifier.weights, training, seed=seed)
    update = fedlab.Participant("carol", data, classifier).answer(task)
    return wire.encode_task(task), wire.encode_update(update)


def keys(images):
    return {np.asarray(image).tobytes() for image in images}


def test_an_image_from_the_bytes_that_crossed_a_real_wire(mnist):
    carol = mnist.train.subset([7])
    with fedlab.Server(seed=3) as server:
        recorder = Recorder(server.app.wsgi_app)
        server.app.wsgi_app = recorder
        client = fedlab.Client(server.url, "carol", carol).start()
        server.run(1)
    client.join()
    [task] = [h.answer for h in recorder.heard if (h.route, h.status) == ("GET /task", 200)]
    [update] = [h.body for h in recorder.heard if h.route == "POST /updates"]
    [found] = fedlab.rebuild_images(task, update)
    assert np.array_equal(found.image, carol.x[0])
    assert found.neurons > 50 and found.off < 0.01


@pytest.mark.parametrize(
    ("images", "least", "settings"),
    [
        (1, 1, {}),
        (2, 2, {}),
        (4, 4, {}),
        (8, 5, {}),
        (16, 3, {}),
        (1, 1, {"epochs": 10}),
        (8, 4, {"epochs": 5, "batch_size": 4}),
        (8, 5, {"batch_size": 1, "proximal": 1.0}),
    ],
)
def test_of_few_images_most_come_back_in_every_pixel(mnist, classifier, images, least, settings):
    data = some(mnist, images)
    found = fedlab.rebuild_images(*conversation(data, classifier, **settings))
    assert least <= len(found) <= images
    assert keys(one.image for one in found) <= keys(data.x)


@pytest.mark.slow
def test_no_false_claim_in_a_hundred_seeds(mnist, classifier):
    told = 0
    for seed in range(100):
        number, epochs = (1, 2, 5, 12, 30)[seed % 5], (1, 3)[seed % 2]
        data, weights = some(mnist, number, seed), fedlab.Classifier(seed=seed).weights
        settings = {"epochs": epochs, "batch_size": (None, 4, 10)[seed % 3]}
        bodies = conversation(data, classifier, weights, seed, **settings)
        found = keys(one.image for one in fedlab.rebuild_images(*bodies))
        assert found <= keys(data.x), seed
        told += len(found)
    assert told > 250  # of the 1,000 that there were: it does not get there by saying nothing


def test_black_and_white_images_are_not_mixed_up(classifier):
    """Mixed in one proportion, such images have few values: one neuron alone proves nothing."""
    random = np.random.default_rng(0)
    for seed in range(20):
        images = (random.random((12, 28, 28)) < 0.2).astype(np.uint8) * 255
        data = fedlab.Dataset(images, np.arange(12) % 10)
        found = fedlab.rebuild_images(*conversation(data, classifier, seed=seed))
        assert keys(one.image for one in found) <= keys(images)
    [found] = fedlab.rebuild_images(*conversation(data.subset([0]), classifier))
    assert np.array_equal(found.image, images[0])


def test_two_clients_of_one_image_have_one_image(mnist, classifier):
    twice = mnist.train.subset([5, 5])
    [found] = fedlab.rebuild_images(*conversation(twice, classifier))
    assert np.array_equal(found.image, twice.x[0])


def test_nothing_was_learned_and_nothing_is_told(mnist, classifier):
    task = fedlab.Task(1, 1, classifier.weights, fedlab.Training())
    update = fedlab.Update("carol", 1, 1, classifier.weights)
    assert fedlab.rebuild_images(task, update) == []


def test_noise_ends_it(mnist, classifier):
    task, update = conversation(mnist.train.subset([7]), classifier)
    update = wire.decode_update(update)
    random = np.random.default_rng(0)
    noisy = [w + random.normal(0, 1e-3, w.shape).astype(np.float32) for w in update.weights]
    noisy = fedlab.Update("carol", 1, 1, noisy)
    assert fedlab.rebuild_images(task, noisy) == []


def test_a_model_without_hidden_layers_gives_a_single_image_away(mnist):
    layers = [keras.Input((784,)), keras.layers.Dense(10, "softmax")]
    softmax = fedlab.Classifier(keras.Sequential(layers))
    one = mnist.train.subset([3])
    [found] = fedlab.rebuild_images(*conversation(one, softmax))
    assert np.array_equal(found.image, one.x[0])


def test_labels(mnist, classifier):
    public = mnist.test.subset(np.arange(1000))
    for number in (1, 10, 100):
        data = some(mnist, number, number)
        counts = fedlab.rebuild_labels(*conversation(data, classifier), classifier, public)
        assert counts.tolist() == data.label_counts().tolist()
    with_batches = conversation(some(mnist, 100), classifier, batch_size=10)
    counts = fedlab.rebuild_labels(*with_batches, classifier, public)
    assert counts.sum() == 100 and counts.min() >= 0


def test_what_cannot_be(mnist, classifier):
    task = fedlab.Task(1, 1, classifier.weights, fedlab.Training())
    with pytest.raises(fedlab.BadUpdate, match="expected"):
        fedlab.rebuild_images(task, fedlab.Update("carol", 1, 1, classifier.weights[:4]))
    with pytest.raises(fedlab.BadUpdate, match="safetensors"):
        fedlab.rebuild_images(b"a task", b"an update")
    adam = fedlab.Task(1, 1, classifier.weights, fedlab.Training(optimizer="adam"))
    update = fedlab.Update("carol", 1, 1, classifier.weights)
    with pytest.raises(Refused, match="'adam'; expected 'sgd'"):
        fedlab.rebuild_images(adam, update)
    with pytest.raises(Refused, match="'adam'; expected 'sgd'"):
        fedlab.rebuild_labels(adam, update, classifier, mnist.test)
    small = [np.zeros((3, 3, 1, 8), np.float32), np.zeros(8, np.float32)]
    with pytest.raises(Refused, match=r"\(3, 3, 1, 8\), \(8,\); expected a dense layer on 784"):
        task = fedlab.Task(1, 1, small, fedlab.Training())
        fedlab.rebuild_images(task, fedlab.Update("carol", 1, 1, small))


# ---- a server that cheats ------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "least"), [(1, 1), (50, 25), (100, 50), (200, 50), (600, 15)])
def test_a_trap_gives_many_images_away(mnist, classifier, images, least):
    data = some(mnist, images)
    trap = fedlab.trap_weights(classifier.weights, mnist.test)
    found = fedlab.rebuild_images(*conversation(data, classifier, trap))
    assert len(found) >= least
    assert keys(one.image for one in found) <= keys(data.x)


def test_a_trap_has_the_shapes_of_the_model_and_sorts_by_brightness(mnist, classifier):
    trap = fedlab.trap_weights(classifier.weights, mnist.test)
    pairs = zip(trap, classifier.weights, strict=True)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    brightness = mnist.test.x.reshape(10_000, -1).mean(axis=1) / 255
    fires = (brightness[:, None] * trap[0][:, 0].sum() + trap[1] > 0).sum(axis=1)
    between = np.bincount(fires, minlength=201)[1:-1]
    assert np.abs(between - 50).max() <= 3  # the thresholds are rounded to 32 bits


def test_a_trap_needs_layers(mnist, classifier):
    for weights in (classifier.weights[:2], classifier.weights[:5], [np.zeros((3, 3, 1, 8))] * 4):
        with pytest.raises(Refused, match="expected dense layers with biases"):
            fedlab.trap_weights(weights, mnist.test)
