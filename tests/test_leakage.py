"""From an update back to images: exactly those that were trained on, and never another."""

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import fedlab
from fedlab import wire
from fedlab.checks import Refused
from fedlab.conformance.recorder import Recorder
from fedlab.privacy.drawing import FOUND, MADE_UP
from fedlab.privacy.leakage import Rebuilt


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


def binary(mnist, random, number):
    return (mnist.train.x[random.choice(60_000, number)] > 127).astype(np.uint8) * 255


def other_pixels(mnist, random, number):
    """An image, and the same with so many pixels that are others."""
    images = np.repeat(mnist.train.x[7:8], 2, axis=0)
    images[1].flat[random.choice(784, number, replace=False)] = random.integers(0, 256, number)
    return images


MIXTURES = {  # what looks like an image when it is mixed, most easily
    "two in black and white": lambda mnist, random: binary(mnist, random, 2),
    "ten in black and white": lambda mnist, random: binary(mnist, random, 10),
    "nearly the same": lambda mnist, random: other_pixels(mnist, random, 6),
    "one grey each": lambda mnist, random: np.stack(
        [np.full((28, 28), grey, np.uint8) for grey in random.integers(1, 256, 2)]
    ),
    "black, and black and white": lambda mnist, random: np.concatenate(
        [np.zeros((1, 28, 28), np.uint8), binary(mnist, random, 1)]
    ),
}


@pytest.mark.parametrize("trapped", [False, True])
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_are_not_taken_for_images(mnist, classifier, name, trapped):
    random = np.random.default_rng(0)
    weights = fedlab.trap_weights(classifier.weights, mnist.test) if trapped else None
    for seed in range(8):
        images = MIXTURES[name](mnist, random)
        data = fedlab.Dataset(images, np.arange(len(images)) % 10)
        for settings in ({}, {"epochs": 3, "batch_size": 1}):
            bodies = conversation(data, classifier, weights, seed, **settings)
            assert keys(one.image for one in fedlab.rebuild_images(*bodies)) <= keys(images)


def test_a_single_image_cannot_be_mixed_with_anything(mnist, classifier):
    one = fedlab.Dataset(binary(mnist, np.random.default_rng(0), 1), np.array([3]))
    [found] = fedlab.rebuild_images(*conversation(one, classifier))
    assert np.array_equal(found.image, one.x[0])


def test_greys_that_are_no_whole_ones_are_not_rounded(mnist, classifier):
    between = (mnist.train.x[7:8].astype(np.float32) + 0.2).clip(0, 255) / 255
    data = fedlab.Dataset(between, np.array([3]))
    assert fedlab.rebuild_images(*conversation(data, classifier)) == []


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
    with pytest.raises(Refused, match="holds control beside the model"):
        scaffold = fedlab.Task(1, 1, classifier.weights, fedlab.Training(), more={"control": []})
        fedlab.rebuild_images(scaffold, update)
    for number in (0, -1, 1.5):
        with pytest.raises(Refused, match="num_examples"):
            fedlab.rebuild_images(task, fedlab.Update("carol", 1, number, classifier.weights))
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


# ---- drawn ---------------------------------------------------------------------------------------


def test_what_was_found_stands_where_the_client_has_it(mnist, classifier):
    data = some(mnist, 12)
    found = fedlab.rebuild_images(*conversation(data, classifier))
    made_up = Rebuilt(255 - data.x[0], 1, 0.0)
    ax = fedlab.plot_rebuilt(data, [*found, made_up], Figure().subplots())
    frames = [patch.get_edgecolor() for patch in ax.patches]
    assert frames.count(to_rgba(FOUND)) == len(found) and frames.count(to_rgba(MADE_UP)) == 1
    sheet = ax.images[0].get_array()
    for patch in ax.patches[:-1]:
        x, y = (int(place + 1.5) for place in patch.get_xy())
        left = x - (sheet.shape[1] + 2 * 32) // 2  # the same place, before the gap
        assert np.array_equal(sheet[y : y + 28, x : x + 28], sheet[y : y + 28, left : left + 28])
    assert f"rebuilt: {len(found)} of 12" in [text.get_text() for text in ax.texts]


def test_what_cannot_be_drawn(mnist):
    grey = fedlab.Dataset(np.zeros((2, 28, 28), np.float32), np.zeros(2, int))
    for data in (grey, mnist.test.subset(np.arange(401)), mnist.test.subset(np.arange(0))):
        with pytest.raises(Refused, match="expected 1 to 400 of 784 uint8"):
            fedlab.plot_rebuilt(data, [], Figure().subplots())
