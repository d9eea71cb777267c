"""The map of the loss: the same round as `simulate`, the plane where it should be, and a drawing
whose names can be read."""

import dataclasses
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import fedlab
from fedlab.checks import Refused
from fedlab.landscape.names import Room, along, beside

SETTINGS = {"epochs": 2, "batch_size": 20, "learning_rate": 0.1, "seed": 3}


def linear():
    """Softmax regression: a layer whose loss is convex in its weights."""
    import keras

    zeros = keras.layers.Dense(10, "softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((784,)), zeros])


@pytest.fixture(scope="module")
def unequal(mnist):
    """Three clients of 40, 90 and 130 images with digits of their own."""
    y = mnist.train.y
    own = {"alice": (0, 1, 2), "bob": (3, 4, 5), "carol": (6, 7, 8, 9)}
    rows = {name: np.flatnonzero(np.isin(y, digits)) for name, digits in own.items()}
    sizes = {"alice": 40, "bob": 90, "carol": 130}
    return {name: mnist.train.subset(rows[name][: sizes[name]]) for name in own}


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.test.subset(np.arange(200))


@pytest.fixture(scope="module")
def walks(unequal):
    return fedlab.walk_round(unequal, model=linear(), **SETTINGS)


@pytest.fixture(scope="module")
def drawn(walks, few):
    return fedlab.loss_map(walks, few, points=7)


def flat(weights):
    return np.concatenate([w.ravel() for w in weights]).astype(float)


# ---- the round -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy", [fedlab.fed_avg(), fedlab.scaffold(), fedlab.fed_prox(0.1), fedlab.fed_adam()]
)
def test_a_walked_round_is_the_simulations_bit_for_bit(unequal, strategy):
    models = {}
    options = {"strategy": strategy, **SETTINGS}
    fedlab.simulate(unequal, rounds=2, progress=False, on_model=models.__setitem__, **options)
    walks = fedlab.walk_round(unequal, round=2, **options)
    for ours, theirs in ((walks.start, models[1]), (walks.average, models[2])):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert (walks.round, walks.strategy) == (2, strategy.identity)


def test_a_walk_goes_from_the_start_to_what_was_sent(walks, unequal):
    assert list(walks.paths) == ["alice", "bob", "carol"]
    assert [len(path) for path in walks.paths.values()] == [5, 11, 12]  # 4, 10 and 14 steps
    for path in walks.paths.values():
        assert all(np.array_equal(a, b) for a, b in zip(path[0], walks.start, strict=True))
    sent = [
        fedlab.Update(name, 1, len(unequal[name]), walks.paths[name][-1]) for name in walks.paths
    ]
    average, _ = fedlab.weighted_mean(sent)
    assert all(np.array_equal(a, b) for a, b in zip(average, walks.average, strict=True))


def test_steps_are_kept_evenly_and_not_too_many(unequal, mnist):
    walks = fedlab.walk_round(unequal, model=linear(), kept=3, **SETTINGS)
    assert {len(path) for path in walks.paths.values()} == {3}
    many = [mnist.train.subset(np.arange(k * 20, k * 20 + 20)) for k in range(60)]
    walks = fedlab.walk_round(many, model=linear(), batch_size=2)
    assert {len(path) for path in walks.paths.values()} == {4}  # 240 models of 60 clients


# ---- the plane -----------------------------------------------------------------------------------


def test_everything_is_where_it_should_be(drawn, walks):
    """With three clients the plane holds all that they sent, and so their average."""
    middle = flat(walks.average)
    across, up = (flat(direction) for direction in drawn.directions)
    assert across @ across == pytest.approx(1, abs=1e-5)
    assert up @ up == pytest.approx(1, abs=1e-5) and across @ up == pytest.approx(0, abs=1e-5)
    assert (drawn.average.x, drawn.average.y) == (0, 0)
    for name, path in walks.paths.items():
        away = flat(path[-1]) - middle
        place = drawn.ends[name]
        assert [place.x, place.y] == pytest.approx([away @ across, away @ up], abs=1e-4)
        assert np.hypot(place.x, place.y) == pytest.approx(np.linalg.norm(away), rel=1e-3)
        assert drawn.paths[name][-1] == pytest.approx([place.x, place.y])
    alice, bob = drawn.ends["alice"], drawn.ends["bob"]
    assert alice.x > 0 and alice.y == pytest.approx(0, abs=1e-4) and bob.y > 0
    shares = {"alice": 40, "bob": 90, "carol": 130}
    balance = sum(shares[name] * np.array([p.x, p.y]) for name, p in drawn.ends.items()) / 260
    assert balance == pytest.approx([0, 0], abs=1e-4)


def test_losses_are_the_classifiers_own(drawn, walks, few):
    evaluate = walks.classifier.evaluate
    for i, j in ((0, 0), (2, 5), (6, 6), (3, 1)):
        weights = [
            w + np.float32(drawn.x[j]) * u + np.float32(drawn.y[i]) * v
            for w, u, v in zip(walks.average, *drawn.directions, strict=True)
        ]
        assert drawn.losses[i, j] == evaluate(weights, few)[0]
        at = drawn.weights(drawn.x[j], drawn.y[i])
        assert all(np.array_equal(a, b) for a, b in zip(at, weights, strict=True))
    assert (drawn.average.loss, drawn.average.accuracy) == evaluate(walks.average, few)
    assert (drawn.start.loss, drawn.start.accuracy) == evaluate(walks.start, few)
    for name, place in drawn.ends.items():
        assert (place.loss, place.accuracy) == evaluate(walks.paths[name][-1], few)
        # It lies in the plane: the map there says the same
        there = evaluate(drawn.weights(place.x, place.y), few)[0]
        assert there == pytest.approx(place.loss, abs=1e-3)


def test_a_convex_loss_is_convex_on_the_map(drawn):
    """Softmax regression: along each row, column and diagonal no second difference is negative."""
    losses = drawn.losses
    for line in [*losses, *losses.T, np.diag(losses), np.diag(losses[::-1])]:
        assert np.diff(line, 2).min() > -1e-5


def test_how_much_of_the_walks_is_in_the_plane(drawn, walks):
    middle = flat(walks.average)
    basis = np.stack([flat(direction) for direction in drawn.directions])
    away = np.stack([flat(model) - middle for path in walks.paths.values() for model in path])
    share = ((away @ basis.T) ** 2).sum() / (away**2).sum()
    assert drawn.in_plane == pytest.approx(share, rel=1e-3) and 0.3 < share < 1


def test_two_clients_have_their_start_in_the_plane(unequal, few):
    pair = {name: unequal[name] for name in ("alice", "carol")}
    walks = fedlab.walk_round(pair, model=linear(), **SETTINGS)
    drawn = fedlab.loss_map(walks, few, points=3)
    there = walks.classifier.evaluate(drawn.weights(drawn.start.x, drawn.start.y), few)[0]
    assert there == pytest.approx(drawn.start.loss, abs=1e-4)
    assert list(drawn.ends) == ["alice", "carol"]


def test_many_clients_are_seen_along_their_two_longest_directions(mnist, few):
    """The first principal directions: no other plane through the average holds more."""
    parts = fedlab.partition_by_digit(mnist.train.subset(np.arange(400)), 10)
    walks = fedlab.walk_round(parts, model=linear(), batch_size=10)
    drawn = fedlab.loss_map(walks, few, points=3)
    away = np.stack([flat(m) for path in walks.paths.values() for m in path[1:]])
    away -= flat(walks.average)
    values = np.linalg.svd(away, compute_uv=False) ** 2
    basis = np.stack([flat(direction) for direction in drawn.directions])
    assert ((away @ basis.T) ** 2).sum() == pytest.approx(values[:2].sum(), rel=1e-3)
    assert drawn.ends["client-0000"].x > 0 and drawn.ends["client-0001"].y > 0


def test_a_map_may_have_a_given_width(walks, few, drawn):
    wide = fedlab.loss_map(walks, few, points=3, width=8.0)
    assert wide.x[-1] - wide.x[0] == pytest.approx(8) == wide.y[-1] - wide.y[0]
    places = np.concatenate(list(drawn.paths.values()))
    for axis, of in ((drawn.x, places[:, 0]), (drawn.y, places[:, 1])):
        assert axis[0] < of.min() and of.max() < axis[-1]


# ---- what cannot be ------------------------------------------------------------------------------


def test_a_map_of_one_client(unequal, few):
    walks = fedlab.walk_round({"alice": unequal["alice"]}, model=linear(), **SETTINGS)
    with pytest.raises(Refused, match="the walk of 1 client; expected those of at least two"):
        fedlab.loss_map(walks, few)


def test_a_map_of_models_of_two_shapes(walks, few):
    other = [[np.zeros((784, 12), np.float32), np.zeros(12, np.float32)]]
    mixed = dataclasses.replace(walks, paths={**walks.paths, "dave": other})
    sentence = r"a model of dave .*: array 0 has the shape \(784, 12\); expected \(784, 10\)"
    with pytest.raises(Refused, match=sentence):
        fedlab.loss_map(mixed, few)
    empty = dataclasses.replace(walks, paths={**walks.paths, "dave": []})
    with pytest.raises(Refused, match="the walk of dave is empty; expected at least one model"):
        fedlab.loss_map(empty, few)


def test_a_map_without_test_images(walks, few):
    with pytest.raises(Refused, match="there are no test images; expected at least one"):
        fedlab.loss_map(walks, few.subset(np.arange(0)))


def test_walks_along_one_line(walks, few):
    end = walks.paths["alice"][-1]
    twice = dataclasses.replace(
        walks, paths={name: [walks.start, end] for name in ("a", "b")}, average=end
    )
    with pytest.raises(Refused, match="lie on one line; expected two directions"):
        fedlab.loss_map(twice, few)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"points": 1}, "points is 1; expected a whole number from 2"),
        ({"width": 0}, "width is 0; expected a number above 0"),
        ({"width": float("nan")}, "width is nan; expected a number above 0"),
    ],
)
def test_a_map_that_cannot_be(walks, few, settings, sentence):
    with pytest.raises(Refused, match=sentence):
        fedlab.loss_map(walks, few, **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"round": 0}, "round is 0; expected a whole number from 1"),
        ({"kept": 1}, "kept is 1; expected a whole number from 2"),
        ({"strategy": fedlab.async_average()}, "expected one with rounds"),
        ({"strategy": fedlab.median(), "batch_size": 0}, "batch_size"),
        ({"strategy": fedlab.krum(1)}, "got 3 clients; expected at least 5 with the strategy Krum"),
    ],
)
def test_a_round_that_cannot_be_walked(unequal, settings, sentence):
    with pytest.raises(Refused, match=sentence):
        fedlab.walk_round(unequal, model=linear(), **{**SETTINGS, **settings})


def test_a_round_that_diverges_says_so_and_leaves_nothing_running(unequal):
    with pytest.raises(fedlab.Diverged, match="round 1"):
        fedlab.walk_round(unequal, learning_rate=1e6, epochs=3)


# ---- the drawing ---------------------------------------------------------------------------------


def texts(ax):
    return {text.get_text(): text for text in ax.texts if text.get_text()}


def test_the_drawing_shows_walks_start_and_average(drawn):
    ax = Figure(figsize=(6, 6), layout="constrained").subplots()
    assert fedlab.plot_loss_map(drawn, ax) is ax
    lines = {line.get_label(): line for line in ax.lines if line.get_label()[0] != "_"}
    assert list(lines) == ["alice", "bob", "carol", "start", "average"]
    for name, path in drawn.paths.items():
        assert np.array_equal(np.stack(lines[name].get_data(), axis=1), path)
    assert {"alice", "bob", "carol", "start", "average"} <= set(texts(ax))
    colours = [lines[name].get_color() for name in drawn.paths]
    assert colours == fedlab.plots.CLIENTS[:3]
    assert "average" in ax.get_xlabel() and "% of the walks" in ax.get_xlabel()


def test_names_overlap_nothing_and_stay_inside(drawn, walks, few):
    """Names of the three walks, the start and the average; of ten clients too."""
    ten = dict(zip([f"somebody {k}" for k in range(10)], [], strict=False))
    for k in range(10):  # ends on a circle, of very different lengths
        turn = 2 * np.pi * k / 10
        ten[f"somebody {k}"] = np.array([[0, 0], [np.cos(turn), np.sin(turn)]]) * (0.4 + 0.1 * k)
    ends = {name: fedlab.Place(*path[-1], 1.0, 0.5) for name, path in ten.items()}
    x = np.linspace(-2, 2, drawn.x.size)
    many = dataclasses.replace(drawn, paths=ten, ends=ends, x=x, y=x)
    for one in (drawn, many):
        figure = Figure(figsize=(7, 6), layout="constrained")
        ax = figure.subplots()
        fedlab.plot_loss_map(one, ax)
        figure.draw_without_rendering()
        names = [*one.paths, "start", "average"]
        boxes = {name: texts(ax)[name].get_window_extent() for name in names}
        frame = ax.get_window_extent()
        for name, box in boxes.items():
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, name
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, name
            others = [other for key, other in boxes.items() if key != name]
            assert not any(box.overlaps(other) for other in others), name
            for path in one.paths.values():
                on_line = ax.transData.transform(along(path))
                assert not any(box.contains(*point) for point in on_line), name


def test_several_maps_have_one_scale(drawn, few, walks):
    other = dataclasses.replace(drawn, losses=drawn.losses * 3)
    axes = fedlab.plot_loss_map({"one": drawn, "other": other})
    assert [ax.get_title() for ax in axes] == ["one", "other"]
    figure = axes[0].figure
    assert len(figure.axes) == 3, "one colour bar"
    colours = [ax.collections[0].get_cmap()(ax.collections[0].norm(2.0)) for ax in axes]
    assert colours[0] == colours[1]
    file = io.BytesIO()
    figure.savefig(file)
    plt.close(figure)


def test_levels_are_round_rising_and_few(drawn):
    for low, high in ((0.31, 0.9), (0.05, 40.0), (2.0, 2.1), (1e-3, 5.0)):
        losses = np.linspace(low, high, 49).reshape(7, 7)
        levels = fedlab.loss_levels(dataclasses.replace(drawn, losses=losses))
        assert 2 <= len(levels) <= 9 and levels == sorted(set(levels))
        assert levels[0] <= low < levels[1] * 1.5
        assert all(float(f"{level:.3g}") == level for level in levels)


def test_a_map_with_a_hole_is_drawn(drawn):
    """Far away a loss may be infinite."""
    losses = drawn.losses.copy()
    losses[0, :3] = np.nan, np.inf, np.nan
    ax = Figure(layout="constrained").subplots()
    fedlab.plot_loss_map(dataclasses.replace(drawn, losses=losses), ax)
    with pytest.raises(Refused, match="no finite loss above 0"):
        fedlab.loss_levels(dataclasses.replace(drawn, losses=losses * np.nan))


def test_a_drawing_that_cannot_be(drawn):
    axes = Figure().subplots(1, 2)
    with pytest.raises(Refused, match="got 2 Axes for 1 map; expected one for each"):
        fedlab.plot_loss_map(drawn, axes)
    with pytest.raises(Refused, match="got no map; expected at least one"):
        fedlab.plot_loss_map({})
    with pytest.raises(
        Refused, match="levels is .*; expected at least two numbers above 0, rising"
    ):
        fedlab.plot_loss_map(drawn, axes[0], levels=[2, 1])


def test_a_client_has_its_colour_whoever_else_is_there(drawn):
    ax = Figure(layout="constrained").subplots()
    fedlab.plot_loss_map(drawn, ax, colours={"alice": 4, "bob": 1, "carol": 0})
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["alice"].get_color() == fedlab.plots.CLIENTS[4]
    assert texts(ax)["carol"].get_color() == fedlab.plots.CLIENTS[0]


# ---- where names go ------------------------------------------------------------------------------


def test_a_name_begins_beside_its_place():
    half = np.array([20.0, 5.0])
    assert beside(half, 0.0, 10.0) == pytest.approx([30, 0])  # right of it: 10 free points
    assert beside(half, np.pi / 2, 10.0) == pytest.approx([0, 15])


def test_a_name_avoids_a_line_and_the_frame():
    line = along(np.array([[50.0, 50.0], [100.0, 50.0]]), steps=100)
    room = Room(np.zeros(2), np.full(2, 100.0), line, np.array([[50.0, 50.0]]))
    half = np.array([15.0, 6.0])
    first = room.place(np.array([50.0, 50.0]), half, 0.0)  # wanted where the line is
    assert room.cost(first, np.zeros(2)) >= 0 and abs(first[1] - 50) > 6
    second = room.place(np.array([50.0, 50.0]), half, 0.0)
    assert np.any(np.abs(second - first) >= 2 * half), "not over the first"
    corner = room.place(np.array([98.0, 98.0]), half, np.pi / 4)
    assert np.all(corner + half <= 100)
