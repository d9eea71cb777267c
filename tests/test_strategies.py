"""Strategies against numbers worked out by hand, with clients of unequal size."""

import dataclasses

import keras
import numpy as np
import pytest

import fedlab
from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.messages import BadUpdate, Task, Training, Update
from fedlab.model import Classifier
from fedlab.participant import Participant
from fedlab.plan import Plan
from fedlab.strategies import (
    STRATEGIES,
    Median,
    Momentum,
    State,
    TooFewUpdates,
    Updates,
    async_average,
    fed_adam,
    fed_avg,
    fed_avg_momentum,
    fed_prox,
    fed_yogi,
    median,
    scaffold,
    settings_of,
    trimmed_mean,
    weighted_mean,
)


def update(num_examples: int, *values: float, client: str = "a") -> Update:
    """One array of shape (2,) and one of shape (1, 1)."""
    first, second, third = values
    return Update(
        client,
        1,
        num_examples,
        [np.array([first, second], np.float32), np.array([[third]], np.float32)],
    )


THREE = [update(100, 1, 0, 8), update(300, 2, 4, 0), update(600, 5, -1, 2)]
# (100*1 + 300*2 + 600*5) / 1000, (0 + 1200 - 600) / 1000; (800 + 0 + 1200) / 1000
MEAN = [[3.7, 0.6], [[2.0]]]


def start() -> State:
    return State([np.array([9.0, 9.0], np.float32), np.array([[9.0]], np.float32)])


def values(weights) -> list:
    return [w.tolist() for w in weights]


def close(weights, expected) -> None:
    for got, want in zip(weights, expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_weighted_mean():
    mean, total = weighted_mean(iter(THREE))
    assert total == 1000
    close(mean, MEAN)


def test_fed_avg_replaces_the_model_by_the_weighted_mean_and_changes_no_input():
    state = start()
    before = values(state.weights), [values(u.weights) for u in THREE]
    after = fed_avg().aggregate(state, iter(THREE))
    close(after.weights, MEAN)
    assert after.num_examples == 1000 and fed_avg().aggregate(after, THREE).num_examples == 2000
    assert (
        values(state.weights),
        [values(u.weights) for u in THREE],
    ) == before and state.num_examples == 0


def test_the_mean_of_one_is_that_one_bit_for_bit():
    strange = update(7, 0.1, 1e-38, 3e38)
    mean, _ = weighted_mean([strange])
    assert [w.tobytes() for w in mean] == [w.tobytes() for w in strange.weights]


def test_a_large_and_many_small_clients_are_summed_in_double_precision():
    """In float32 a sum stops growing at 2**24: 1.0 more is nothing there."""
    many = [update(2**24, 1, 1, 1)] + [update(1, 0, 0, 0)] * 3000
    mean, total = weighted_mean(many)
    assert total == 2**24 + 3000
    np.testing.assert_allclose(mean[0], 2**24 / (2**24 + 3000), rtol=1e-7)


def test_updates_are_taken_one_at_a_time():
    """So a round of hundreds of clients does not need all their weights in memory at once."""
    taken = []

    def coming():
        for number in range(3):
            taken.append(number)
            yield THREE[number]

    fed_avg().aggregate(start(), coming())
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("strategy", [fed_avg(), fed_avg_momentum()])
def test_no_updates_is_an_error(strategy):
    with pytest.raises(BadUpdate, match="got no updates to average; expected at least one"):
        strategy.aggregate(start(), [])


def test_momentum_by_hand():
    """v1 = w0 - m1; w1 = w0 - v1/2; v2 = 0.9 v1 + (w1 - m2); w2 = w1 - v2/2, where m is the mean of
    the updates and w0 is 9.
    """
    strategy = fed_avg_momentum(momentum=0.9, server_learning_rate=0.5)
    first = strategy.aggregate(start(), [update(1, 2, 0, 0), update(3, 6, 4, 8)])  # means 5, 3, 6
    close(first.memory["velocity"], [[4, 6], [[3]]])
    close(first.weights, [[7, 6], [[7.5]]])
    second = strategy.aggregate(first, [update(1, 1, 0, 3), update(4, 6, 5, 3)])  # means 5, 4, 3
    close(
        second.memory["velocity"], [[0.9 * 4 + 2, 0.9 * 6 + 2], [[0.9 * 3 + 4.5]]]
    )  # 5.6, 7.4, 7.2
    close(second.weights, [[7 - 2.8, 6 - 3.7], [[7.5 - 3.6]]])
    assert second.num_examples == 9 and values(first.weights) == [[7, 6], [[7.5]]]


def test_momentum_without_momentum_is_fed_avg():
    plain = fed_avg().aggregate(start(), THREE)
    other = fed_avg_momentum(momentum=0.0, server_learning_rate=1.0).aggregate(start(), THREE)
    close(other.weights, [w.tolist() for w in plain.weights])


@pytest.mark.parametrize(
    ("momentum", "rate"),
    [(-0.1, 1), (1.0, 1), (float("nan"), 1), (0.9, 0), (0.9, -1), (0.9, float("nan"))],
)
def test_momentum_that_cannot_be(momentum, rate):
    with pytest.raises(ValueError, match="expected a number"):
        fed_avg_momentum(momentum, rate)


def test_the_asynchronous_average_is_the_weighted_mean_of_all_that_came_whatever_the_order():
    strategy = async_average()
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        state = start()  # 9s: untrained, and gone with the first update
        for number in order:
            state = strategy.aggregate(state, [THREE[number]])
        close(state.weights, MEAN)
        assert state.num_examples == 1000
    together = strategy.aggregate(start(), THREE)
    close(together.weights, MEAN)


def test_the_first_asynchronous_update_is_the_model_bit_for_bit():
    strange = update(7, 0.1, 1e-38, 3e38)
    state = async_average().aggregate(State([-w for w in strange.weights]), [strange])
    assert [w.tobytes() for w in state.weights] == [w.tobytes() for w in strange.weights]


def test_finite_updates_never_make_an_infinite_model():
    """3e38 is near the end of float32; ten times it, or twice it, is infinity. (And a
    RuntimeWarning, which is an error here.)
    """
    for strategy in (fed_avg(), async_average()):
        state = strategy.aggregate(start(), [update(10, 3e38, -3e38, 3e38)])
        state = strategy.aggregate(
            state, [update(1, -3e38, 3e38, 3e38), update(9, -3e38, 3e38, 3e38)]
        )
        assert all(np.isfinite(w).all() for w in state.weights)


def test_the_asynchronous_average_step_by_step():
    """N = 100, w = 1; then 300 of 2: (100 + 600)/400 = 1.75; then 600 of 5: (400*1.75 + 3000)/1000
    = 3.7.
    """
    strategy, state, seen = async_average(), start(), []
    for item in THREE:
        state = strategy.aggregate(state, [item])
        seen.append((state.num_examples, round(float(state.weights[0][0]), 6)))
    assert seen == [(100, 1.0), (400, 1.75), (1000, 3.7)]


# ---- momentum 0, mu 0: FedAvg --------------------------------------------------------------------


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def test_momentum_0_at_rate_1_is_fed_avg_bit_for_bit():
    """Also where w - (w - mean) would round the mean away, and for a zero below zero."""
    strange = [update(7, 1e-20, -0.0, 3.3), update(3, 1e-20, -0.0, 1e-7)]
    state = State([np.array([1.0, 0.5], np.float32), np.array([[1e8]], np.float32)])
    plain = fed_avg().aggregate(state, strange)
    other = fed_avg_momentum(momentum=0.0).aggregate(state, strange)
    assert bits(plain.weights) == bits(other.weights) and plain.num_examples == other.num_examples


def test_momentum_0_at_rate_a_half_goes_half_of_the_way():
    state = fed_avg_momentum(0.0, 0.5).aggregate(start(), THREE)
    close(state.weights, [[(9 + 3.7) / 2, (9 + 0.6) / 2], [[(9 + 2.0) / 2]]])


def test_mu_0_is_fed_avg_bit_for_bit(two_clients):
    losses = [run(two_clients, strategy) for strategy in (fed_avg(), fed_prox(0.0))]
    assert losses[0] == losses[1]
    assert run(two_clients, fed_prox(1.0)) != losses[0]


# ---- FedAdam, FedYogi ----------------------------------------------------------------------------


def test_adam_and_yogi_by_hand():
    """Two rounds of one number, worked out with Python's floats after Algorithm 2 of the paper."""
    for strategy, yogi in (
        (fed_adam(0.1, 0.5, 0.9, 0.2), False),
        (fed_yogi(0.1, 0.5, 0.9, 0.2), True),
    ):
        x, m, v = 9.0, 0.0, 0.2**2
        state = start()
        for came in ([update(1, 2, 0, 0), update(3, 6, 4, 8)], [update(2, 7, 7, 7)]):
            mean = sum(u.num_examples * float(u.weights[0][0]) for u in came)
            d = mean / sum(u.num_examples for u in came) - x
            m = 0.5 * m + 0.5 * d
            toward = d * d * (1 if v > d * d else -1) if yogi else v - d * d
            v -= 0.1 * toward
            x += 0.1 * m / (v**0.5 + 0.2)
            state = strategy.aggregate(state, came)
            assert float(state.weights[0][0]) == pytest.approx(x, rel=1e-6)
            assert float(state.memory["first"][0][0]) == pytest.approx(m, rel=1e-6)
            assert float(state.memory["second"][0][0]) == pytest.approx(v, rel=1e-6)


def test_yogi_is_adam_where_v_is_far_below_the_square_of_the_step():
    """Then v - (1 - b)(v - d^2) and v + (1 - b) d^2 are nearly the same; where d is 0, Yogi's v
    stays and Adam's shrinks.
    """
    adam, yogi = (make().aggregate(start(), THREE) for make in (fed_adam, fed_yogi))
    for a, b in zip(adam.memory["second"], yogi.memory["second"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-8)
    still = update(1, *(float(w) for w in (*adam.weights[0], adam.weights[1][0, 0])))
    assert (
        fed_adam().aggregate(adam, [still]).memory["second"][0] < adam.memory["second"][0]
    ).all()
    same = fed_yogi().aggregate(yogi, [Update("a", 1, 1, yogi.weights)])
    assert bits(same.memory["second"]) == bits(yogi.memory["second"])


# ---- combinations --------------------------------------------------------------------------------


def many(count: int, seed: int = 0) -> list[Update]:
    rng = np.random.default_rng(seed)
    shapes = ((50, 300), (300,), (3, 2))
    return [
        Update(f"c{i}", 1, 10 * i + 1, [rng.normal(size=s).astype(np.float32) for s in shapes])
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_the_median_is_numpys(count):
    updates = many(count)
    state = median().aggregate(State(updates[0].weights), updates)
    for i, got in enumerate(state.weights):
        want = np.median(np.stack([u.weights[i].astype(np.float64) for u in updates]), axis=0)
        np.testing.assert_array_equal(got, want.astype(np.float32))
    assert state.num_examples == sum(u.num_examples for u in updates)


@pytest.mark.parametrize(("count", "trim"), [(1, 0), (3, 1), (7, 2), (10, 1), (10, 4)])
def test_the_trimmed_mean_is_flowers(count, trim):
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    updates = many(count)
    state = trimmed_mean(trim).aggregate(State(updates[0].weights), updates)
    for i, got in enumerate(state.weights):
        rows = np.stack([u.weights[i].astype(np.float64) for u in updates])
        want = aggregate._trim_mean(rows, trim / count + 1e-9)  # which cuts int(share * count)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_the_trimmed_mean_by_hand():
    """Of 1, 2, 5 the mean of what is in between, number by number, whoever has how much."""
    state = trimmed_mean(1).aggregate(start(), THREE)
    close(state.weights, [[2, 0], [[2]]])


def test_a_trimmed_mean_of_too_few_is_none():
    assert trimmed_mean(2).min_updates == 5
    with pytest.raises(TooFewUpdates, match="3 updates came; expected at least 5, to leave out 2"):
        trimmed_mean(2).aggregate(start(), THREE)


def test_with_trim_0_and_equal_clients_it_is_the_mean():
    updates = [dataclasses.replace(u, num_examples=5) for u in many(6)]
    plain, other = (
        s.aggregate(State(updates[0].weights), updates) for s in (fed_avg(), trimmed_mean(0))
    )
    for a, b in zip(plain.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_one_that_sends_anything_moves_the_mean_and_not_the_median():
    honest = [update(10, 1, 1, 1), update(10, 2, 2, 2), update(10, 3, 3, 3), update(10, 2, 2, 2)]
    attacked = [*honest, update(10, 1e6, -1e6, 1e6)]
    assert abs(fed_avg().aggregate(start(), attacked).weights[0][0]) > 1e5
    close(median().aggregate(start(), attacked).weights, [[2, 2], [[2]]])
    for robust in (trimmed_mean(1), fed_avg_momentum(0.0, combine=Median())):
        weights = robust.aggregate(start(), attacked).weights
        assert all((np.abs(w) < 4).all() for w in weights)


def test_combination_and_server_step_are_two_choices():
    """The median, then half a step of momentum: by hand."""
    strategy = fed_avg_momentum(0.5, 0.5, combine=Median())
    state = strategy.aggregate(start(), THREE)  # medians 2, 0, 2
    close(state.memory["velocity"], [[7, 9], [[7]]])
    close(state.weights, [[9 - 3.5, 9 - 4.5], [[9 - 3.5]]])
    assert median(step=Momentum(0.5, 0.5)).aggregate(start(), THREE).weights[0].tolist() == (
        state.weights[0].tolist()
    )
    assert strategy.name == "FedAvg with momentum + Median"
    assert strategy.identity != fed_avg_momentum(0.5, 0.5).identity


# ---- SCAFFOLD ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_clients():
    """Three small clients of unequal size and with different labels; images of four pixels."""
    rng = np.random.default_rng(3)
    hands = {"a": (30, [0, 1]), "b": (12, [2]), "c": (55, [1, 2])}
    return {
        name: Dataset(
            rng.random((count, 4), dtype=np.float32), rng.choice(labels, count).astype(np.uint8)
        )
        for name, (count, labels) in hands.items()
    }


def regression() -> keras.Model:
    """Softmax regression on four pixels, three classes, from zero."""
    layer = keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((4,)), layer])


def run(clients, strategy, **settings) -> list[float]:
    """The losses of five rounds on everyone's data."""
    images = np.concatenate([data.x for data in clients.values()])
    labels = np.concatenate([data.y for data in clients.values()])
    test = Dataset(images, labels)
    given = {"rounds": 5, "epochs": 2, "batch_size": 8, "learning_rate": 0.5, "seed": 1} | settings
    history = fedlab.simulate(
        clients, test=test, strategy=strategy, model=regression(), progress=False, **given
    )
    return [record.loss for record in history]


def gradient(weights, data: Dataset) -> list[np.ndarray]:
    """Of softmax regression's mean cross-entropy, in NumPy."""
    x, y = data.x.astype(np.float64), data.y
    scores = np.exp(x @ weights[0] + weights[1])
    wrong = scores / scores.sum(1, keepdims=True) - np.eye(3)[y]
    return [x.T @ wrong / len(x), wrong.mean(0)]


def test_scaffold_is_the_papers_algorithm(two_clients):
    """Algorithm 1 with option II in NumPy, every c_i on the table, with all data in one batch: two
    epochs are two steps. Half of the rounds have two of the three clients.
    """
    eta, steps, sizes = 0.5, 2, {name: len(data) for name, data in two_clients.items()}
    classifier = Classifier(regression())
    people = {name: Participant(name, data, classifier) for name, data in two_clients.items()}
    strategy, training = scaffold(), Training(steps, None, eta)
    state = State(classifier.weights)
    x = [w.astype(np.float64) for w in classifier.weights]
    c = [np.zeros_like(w) for w in x]
    own = {name: [np.zeros_like(w) for w in x] for name in two_clients}
    for number, drawn in enumerate((["a", "b", "c"], ["a", "c"], ["b", "c"], ["a", "b", "c"]), 1):
        n, sent, changes = sum(sizes[k] for k in drawn), [], []
        for k in drawn:
            y = [w.copy() for w in x]
            for _ in range(steps):
                g = gradient(y, two_clients[k])
                y = [
                    w - eta * (g_ - ci + c_) for w, g_, ci, c_ in zip(y, g, own[k], c, strict=True)
                ]
            new = [
                ci - c_ + (w - y_) / (steps * eta)
                for ci, c_, w, y_ in zip(own[k], c, x, y, strict=True)
            ]
            changes.append([sizes[k] / n * (a - b) for a, b in zip(new, own[k], strict=True)])
            sent.append([sizes[k] / n * w for w in y])
            own[k] = new
        x = [sum(ws) for ws in zip(*sent, strict=True)]
        share = n / sum(sizes.values())
        c = [c_ + share * sum(ds) for c_, ds in zip(c, zip(*changes, strict=True), strict=True)]

        def ask(task: Task, drawn=tuple(drawn)) -> Updates:
            return Updates((people[k].answer(task) for k in drawn), drawn, 3, sum(sizes.values()))

        state = strategy.run_round(state, Task(number, 4, state.weights, training), ask)
        for got, want in zip(state.weights, x, strict=True):
            np.testing.assert_allclose(got, want, atol=2e-6)
        for got, want in zip(state.memory["control"], c, strict=True):
            np.testing.assert_allclose(got, want, atol=5e-6)
    for k, person in people.items():
        person.settle(taken=True)
        for got, want in zip(person.memory["control"], own[k], strict=True):
            np.testing.assert_allclose(got, want, atol=5e-6)


def test_scaffold_with_one_client_is_plain_sgd(two_clients):
    """Everyone's pull is its own: nothing is left to correct."""
    alone = {"a": two_clients["a"]}
    plain, corrected = (run(alone, strategy) for strategy in (fed_avg(), scaffold()))
    assert corrected == pytest.approx(plain, rel=1e-6) and corrected[0] == plain[0]


def test_scaffold_with_everybody_has_the_mean_of_all_corrections(two_clients):
    classifier = Classifier(regression())
    people = {name: Participant(name, data, classifier) for name, data in two_clients.items()}
    state, training = State(classifier.weights), Training(3, 8, 0.3)
    n = sum(len(data) for data in two_clients.values())
    for number in (1, 2, 3):

        def ask(task: Task) -> Updates:
            answers = (people[k].answer(task) for k in "abc")
            return Updates(answers, tuple("abc"), 3, n)

        state = scaffold().run_round(state, Task(number, 3, state.weights, training), ask)
    for person in people.values():
        person.settle(taken=True)
    for i, c in enumerate(state.memory["control"]):
        mean = sum(len(p.data) / n * p.memory["control"][i] for p in people.values())
        np.testing.assert_allclose(c, mean, atol=1e-6)


def test_scaffold_keeps_c_at_the_mean_of_all_c_i_when_only_some_are_drawn(two_clients):
    """With unequal clients, two of three in a round: c would walk away if each round's mean counted
    for |S| / N, whatever share of the examples S has.
    """
    classifier = Classifier(regression())
    people = {name: Participant(name, data, classifier) for name, data in two_clients.items()}
    state, training = State(classifier.weights), Training(2, 8, 0.3)
    n = sum(len(data) for data in two_clients.values())
    for number in range(1, 13):
        drawn = [name for i, name in enumerate("abc") if i != number % 3]

        def ask(task: Task, drawn=drawn) -> Updates:
            return Updates((people[k].answer(task) for k in drawn), tuple(drawn), 3, n)

        state = scaffold().run_round(state, Task(number, 12, state.weights, training), ask)
    for person in people.values():
        person.settle(taken=True)
    for i, c in enumerate(state.memory["control"]):
        mean = sum(len(p.data) / n * p.memory["control"][i] for p in people.values())
        np.testing.assert_allclose(c, mean, atol=2e-6)
        assert np.abs(c).max() > 1e-3


def test_scaffold_with_a_robust_combination_is_robust_in_c_too(two_clients):
    """One of five sends nonsense: neither the model nor c follow it."""
    honest = two_clients["c"]
    clients = {f"c{i}": honest.subset(np.arange(i, len(honest), 2)) for i in (0, 1)}
    clients |= {f"d{i}": honest.subset(np.arange(i, len(honest), 3)) for i in (0, 1, 2)}

    def nonsense(update, task):
        if update.client != "c0":
            return update
        return dataclasses.replace(update, weights=[w + 1e4 for w in update.weights])

    losses = run(clients, scaffold(combine=Median()), transforms=[nonsense])
    assert losses[-1] < losses[0] + 0.05 and max(losses) < 3


@pytest.mark.slow
def test_scaffold_reaches_the_common_minimum_and_fed_avg_does_not(two_clients):
    """Many local steps on different data: FedAvg ends beside the minimum of everyone's loss, and
    SCAFFOLD at it (all data in one batch, so that nothing else moves the models).
    """
    settings = {"batch_size": None, "epochs": 20, "rounds": 60, "learning_rate": 0.5}
    together = {"all": Dataset(
        np.concatenate([d.x for d in two_clients.values()]),
        np.concatenate([d.y for d in two_clients.values()]),
    )}  # fmt: skip
    best = run(together, fed_avg(), **settings)[-1]
    plain, corrected = (run(two_clients, s, **settings)[-1] for s in (fed_avg(), scaffold()))
    assert plain > best + 0.002 and corrected == pytest.approx(best, abs=2e-4)


def test_scaffold_needs_sgd():
    with pytest.raises(Refused, match="optimizer is 'adam' with SCAFFOLD; expected 'sgd'"):
        scaffold().check(Plan(training=Training(optimizer="adam")))


# ---- what a strategy says of itself --------------------------------------------------------------


def test_the_menu_of_strategies():
    asynchronous = {name: make().asynchronous for name, make in STRATEGIES.items()}
    assert asynchronous == {
        "fed_avg": False,
        "fed_prox": False,
        "fed_avg_momentum": False,
        "fed_adam": False,
        "fed_yogi": False,
        "scaffold": False,
        "median": False,
        "trimmed_mean": False,
        "async_average": True,
        "fed_async": True,
        "fed_buff": True,
    }
    made = [make() for make in STRATEGIES.values()]
    assert len({s.name for s in made}) == len({s.identity for s in made}) == len(made)
    assert all("\n" not in s.meaning and len(s.meaning) < 120 for s in made)


def test_fields_are_settings_and_settings_are_the_identity():
    assert {name: list(settings_of(make())) for name, make in STRATEGIES.items()} == {
        "fed_avg": [],
        "fed_prox": ["mu"],
        "fed_avg_momentum": ["momentum", "server_learning_rate"],
        "fed_adam": ["server_learning_rate", "beta1", "beta2", "tau"],
        "fed_yogi": ["server_learning_rate", "beta1", "beta2", "tau"],
        "scaffold": [],
        "median": [],
        "trimmed_mean": ["trim"],
        "async_average": [],
        "fed_async": ["mixing", "damping"],
        "fed_buff": ["buffer", "damping", "server_learning_rate"],
    }
    assert fed_avg().identity == "FedAvg"
    assert fed_avg_momentum(0.5).identity == (
        "FedAvg with momentum (momentum 0.5, server_learning_rate 1)"
    )
    assert fed_avg_momentum(0.5) == fed_avg_momentum(0.5) != fed_avg_momentum(0.9)
    for make in STRATEGIES.values():
        for name, (known, value) in settings_of(make()).items():
            assert value in known.stops and "\n" not in known.meaning
            for stop in known.stops:  # every place of a slider is a strategy
                assert settings_of(make(**{name: stop}))[name][1] == stop


@pytest.mark.parametrize(
    ("make", "setting", "value", "expected"),
    [
        (fed_prox, "mu", -0.1, "a number from 0"),
        (fed_prox, "mu", float("nan"), "a number from 0"),
        (fed_adam, "tau", 0, "a number above 0"),
        (fed_adam, "beta1", 1.0, "a number from 0 up to, not including, 1"),
        (fed_yogi, "server_learning_rate", float("inf"), "a number above 0"),
        (trimmed_mean, "trim", -1, "a whole number from 0"),
        (trimmed_mean, "trim", 1.5, "a whole number from 0"),
        (trimmed_mean, "trim", True, "a whole number from 0"),
        (fed_avg_momentum, "momentum", "0.5", "a number from 0 up to, not including, 1"),
    ],
)
def test_settings_that_cannot_be(make, setting, value, expected):
    with pytest.raises(Refused) as caught:
        make(**{setting: value})
    assert str(caught.value) == f"{setting} is {value!r}; expected {expected}"
