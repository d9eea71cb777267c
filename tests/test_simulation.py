"""A whole federation in one process."""

import _thread
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import fedlab
from fedlab.data import DataError
from fedlab.messages import BadUpdate, Diverged, NotFinite, Refused, Training, local_seed
from fedlab.model import Classifier


@pytest.fixture(scope="module")
def unequal(mnist):
    """Five clients with very different numbers of examples."""
    cuts = np.cumsum([0, 40, 300, 75, 520, 131])
    return [mnist.train.subset(np.arange(a, b)) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def run(clients, **settings):
    return fedlab.simulate(
        clients, progress=False, **{"rounds": 3, "batch_size": 10, "seed": 7, **settings}
    )


def test_a_round_is_the_papers_algorithm(unequal, test_images):
    """One round, written out by hand: every client trains, and the average is weighted by the
    number of examples.
    """
    classifier = Classifier(seed=7)
    total = sum(len(data) for data in unequal)
    average = [np.zeros(w.shape) for w in classifier.weights]
    for i, data in enumerate(unequal):
        weights, _ = classifier.train(
            classifier.weights, data, Training(1, 10, 0.1), local_seed(7, 1, f"client-{i:04d}")
        )
        average = [a + len(data) / total * w for a, w in zip(average, weights, strict=True)]
    loss, accuracy = classifier.evaluate([a.astype(np.float32) for a in average], test_images)
    record = run(unequal, test=test_images, rounds=1)[0]
    assert record.accuracy == pytest.approx(accuracy, abs=0.0021) and record.loss == pytest.approx(
        loss, rel=1e-4
    )
    assert record.num_examples == total and len(record.clients) == 5


def test_the_number_of_workers_changes_nothing(unequal, test_images):
    histories = [
        run(unequal, test=test_images, workers=workers, fraction=0.6, evaluate_clients=True)
        for workers in (1, 2, 5)
    ]
    for history in histories[1:]:
        for a, b in zip(histories[0], history, strict=True):
            assert (a.loss, a.accuracy, a.clients, a.bytes) == (
                b.loss,
                b.accuracy,
                b.clients,
                b.bytes,
            )
    assert run(unequal, test=test_images, seed=8)[-1].loss != histories[0][-1].loss


@pytest.mark.slow
def test_federated_is_near_a_centralised_run(mnist):
    """Ten IID clients come close to one model trained on all of their data, and far above one
    client alone.
    """
    data = mnist.train.subset(np.arange(10_000))
    federated = fedlab.simulate(
        fedlab.partition_iid(data, 10), test=mnist.test, rounds=8, batch_size=10, progress=False
    ).last.accuracy
    central = fedlab.simulate(
        [data], test=mnist.test, rounds=8, batch_size=10, progress=False
    ).last.accuracy
    alone = fedlab.simulate(
        [fedlab.partition_iid(data, 10)[0]],
        test=mnist.test,
        rounds=8,
        batch_size=10,
        progress=False,
    ).last.accuracy
    assert abs(central - federated) < 0.02 and federated > alone + 0.03


def test_a_target_stops_the_run(unequal, test_images):
    history = run(unequal, test=test_images, rounds=50, target=0.85)
    assert 1 < len(history) < 50 and history.last.accuracy >= 0.85 > max(history.accuracy[:-1])


def test_c_of_zero_is_one_client(unequal):
    assert [len(record.clients) for record in run(unequal, fraction=0.0)] == [1, 1, 1]


def test_evaluation_every_n_rounds(unequal, test_images):
    history = run(unequal, test=test_images, rounds=5, evaluate_every=2)
    assert [not np.isnan(a) for a in history.accuracy] == [False, True, False, True, True]


def test_transforms_touch_what_leaves(unequal, test_images):
    nothing_learned = Classifier(seed=7).weights
    history = run(
        unequal,
        test=test_images,
        transforms=[lambda update, task: replace(update, weights=nothing_learned)],
    )
    assert len(set(history.accuracy)) == 1 and history.last.accuracy < 0.3


def noisy(update, task):
    """As one writes it on the first day: NumPy's noise is float64."""
    rng = np.random.default_rng(0)
    return replace(update, weights=[w + rng.normal(0, 0.1, w.shape) for w in update.weights])


def test_a_bad_update_is_not_called_divergence(unequal):
    with pytest.raises(BadUpdate) as caught:
        run(unequal, transforms=[noisy])
    said = str(caught.value)
    assert "update of round 1, after its transforms: array 0 is float64; expected float32" in said
    assert "diverge" not in said and not isinstance(caught.value, NotFinite)


def test_a_transform_that_leaves_the_finite_numbers_is_named(unequal):
    def broken(update, task):
        return replace(update, weights=[w * np.float32(np.nan) for w in update.weights])

    with pytest.raises(NotFinite, match="after its transforms: array 0 holds NaN or infinity"):
        run(unequal, transforms=[broken])


def test_fewer_clients_than_a_strategy_needs(unequal):
    with pytest.raises(Refused, match=r"got 5 clients; expected at least 7 with the strateg"):
        run(unequal, strategy=fedlab.trimmed_mean(3))
    assert len(run(unequal, strategy=fedlab.trimmed_mean(2), fraction=0.1).last.clients) == 5


def test_an_interrupt_keeps_the_history_so_far(unequal, test_images):
    def interrupt(record):
        if record.round == 3:
            _thread.interrupt_main()

    history = run(unequal, test=test_images, rounds=10_000, on_round=interrupt)
    assert 3 <= len(history) < 1_000
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fedlab")]


def test_asked_to_stop_it_ends_at_once_and_keeps_the_history(unequal, test_images):
    asked = threading.Event()

    # As long as somebody draws: meanwhile other workers finish what nobody wants any more
    def show(record):
        if record.round == 3:
            asked.set()
            time.sleep(0.1)

    for _ in range(5):
        asked.clear()
        history = run(unequal, test=test_images, rounds=10_000, on_round=show, stop=asked.is_set)
        assert 3 <= len(history) < 1_000
    assert len(run(unequal, rounds=10_000, stop=lambda: True)) == 0
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fedlab")]


def test_a_question_whether_to_stop_that_fails_is_raised(unequal):
    with pytest.raises(ZeroDivisionError):
        run(unequal, rounds=10_000, stop=lambda: 1 / 0)


def test_divergence_names_the_round_and_keeps_the_history(mnist):
    clients = fedlab.partition_iid(mnist.train.subset(np.arange(2_000)), 4)
    with pytest.raises(Diverged, match=r"diverged in round \d+.*100") as caught:
        fedlab.simulate(
            clients, test=mnist.test, rounds=60, batch_size=10, learning_rate=100.0, progress=False
        )
    assert caught.value.history is not None and len(caught.value.history) < 60


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"fraction": 1.5}, r"fraction \(C\) is 1.5; expected a number from 0"),
        ({"fraction": float("nan")}, r"fraction \(C\) is nan"),
        ({"epochs": 0}, r"epochs \(E\) is 0; expected"),
        ({"batch_size": 0}, r"batch_size \(B\) is 0; expected"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected"),
        ({"rounds": 0}, "rounds is 0; expected"),
        ({"target": 1.0}, "target is 1.0; expected an accuracy between 0 and 1"),
        ({"workers": 0}, "workers is 0; expected"),
        (
            {"strategy": fedlab.async_average()},
            "got the strategy Asynchronous and no clock; expected also clock=",
        ),
    ],
)
def test_settings_that_cannot_be(unequal, settings, sentence):
    with pytest.raises(Refused, match=sentence):
        run(unequal, **settings)


def test_clients_that_cannot_be(unequal):
    with pytest.raises(DataError, match="got no clients"):
        run([])
    with pytest.raises(DataError, match="client-0001 has no examples"):
        run([unequal[0], unequal[0].subset(np.arange(0))])


def test_every_new_model_is_told(small):
    clients = fedlab.partition_iid(small, 3)
    models = {}
    history = fedlab.simulate(
        clients, test=small, rounds=3, progress=False, on_model=models.__setitem__
    )
    tested = [fedlab.Classifier().evaluate(models[number], small) for number in (1, 2, 3)]
    assert [(r.loss, r.accuracy) for r in history] == tested
