"""What stands behind a panel, without widgets, and without a server where none is needed."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import fedlab
from fedlab.dashboard.session import ALONE, Session
from fedlab.dashboard.steps import Gate, Watched
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.menu import STRATEGIES
from fedlab.messages import Update
from fedlab.plan import Plan
from fedlab.settings import Settings

ONE_EACH = {"alice": (1, 1), "bob": (2, 2), "carol": (3, 3)}


def weights(value):
    return [np.full(3, value, np.float32)]


def watched(strategy):
    return Watched(strategy, Gate(), lambda round, weights: None)


class Stub:
    """A client that only knows whether it runs."""

    def __init__(self, *_, **__):
        self.running = False

    def start(self):
        self.running = True
        return self

    def stop(self, timeout=None):
        self.running = False


class Untrained:
    """A classifier whose model is never used."""

    def __init__(self, seed):
        self.weights = weights(seed)

    def evaluate(self, *_):
        return 2.3, 0.1


@pytest.fixture
def session(quick_mnist, monkeypatch):
    """One whose clients do nothing, with a federation that starts nothing: `plans` are those that
    it was to start.
    """
    monkeypatch.setattr("fedlab.http.client.Client", Stub)
    federation, plans = Federation(weights(0), fedlab.fed_avg()), []
    monkeypatch.setattr(federation, "start", plans.append)
    session = Session(quick_mnist)
    session.server = SimpleNamespace(federation=federation, url="", close=lambda: None)
    session._watched, session.plans = watched(fedlab.fed_avg()), plans
    return session


@pytest.mark.parametrize(
    ("strategy", "weighs"),
    [
        (fedlab.fed_avg(), True),
        (fedlab.secured(fedlab.fed_avg()), True),
        (fedlab.median(), False),
        (fedlab.async_average(), False),
        (fedlab.dp_fed_avg(), False),
        (fedlab.secured(fedlab.dp_fed_avg()), False),
    ],
)
def test_an_update_weighs_by_its_images_where_it_does(session, strategy, weighs):
    session._watched = watched(strategy)
    assert session.weighs == weighs


def test_a_round_of_noise_alone_is_one_of_dp_fed_avg(session):
    noisy = {}
    for name, make in STRATEGIES.items():
        session._watched = watched(make())
        noisy[name] = session.noisy
    assert [name for name, is_it in noisy.items() if is_it] == ["dp_fed_avg"]


def test_without_rounds_each_clients_last_model_is_asked(session):
    """Also after One round: then everybody counts from 1 again."""
    session._watched = watched(fedlab.async_average())
    for value, (client, round) in enumerate([("alice", 1), ("bob", 1), ("alice", 40), ("bob", 40)]):
        session._keep_own(Update(client, round, 10, weights(value)), None)
    session._keep_own(Update("alice", 1, 10, weights(7)), None)
    own = session.own_models(5)
    assert {name: w[0][0] for name, w in own.items()} == {"alice": 7, "bob": 3}


@pytest.mark.parametrize(
    ("strategy", "label"), [("fed_avg", "rounds 12"), ("async_average", "same settings")]
)
def test_an_earlier_run_is_called_by_what_was_different(session, strategy, label):
    """Updates that were merged are no rounds."""
    settings = Settings(ONE_EACH, rounds=1, strategy=strategy)
    session.settings, session._watched = settings, watched(settings.make_strategy())
    records = History([RoundRecord(number) for number in range(1, 13)])
    session.server.federation = SimpleNamespace(history=records)
    session._archive()
    ((earlier, _),) = session.earlier
    assert earlier.difference(settings) == label


def test_a_round_more_is_counted(session):
    session.settings = Settings(ONE_EACH, rounds=1)
    session._watched.round = 7  # of which nothing came
    for rounds in (2, 3):
        session.one_round(Settings(ONE_EACH, rounds=50))
        assert session.settings.rounds == rounds and session.plans[-1].rounds == 1
        assert session._watched.round == 1, "the history is still empty"


def test_a_comparison_of_other_settings_is_not_drawn_beside_a_new_run(session, monkeypatch):
    monkeypatch.setattr("fedlab.model.Classifier", Untrained)
    monkeypatch.setattr(session, "_run", lambda *_: None)
    same = Settings(ONE_EACH, rounds=5)
    for begun, kept in (
        (same, True),
        (replace(same, rounds=1), True),
        (replace(same, strategy="median", fraction=0.5, deadline=2.0), True),
        (replace(same, epochs=5), False),
        (replace(same, shards={**ONE_EACH, "carol": (3, 6)}), False),
    ):
        session.baselines, session.baseline_settings = {ALONE: [History()]}, same
        session.begin(begun)
        assert (ALONE in session.baselines) == kept, begun


def test_comparisons_of_other_settings_say_what_is_special_about_them(session):
    same = Settings(ONE_EACH, rounds=5)
    session.baselines, session.baseline_settings = {ALONE: [History()]}, same
    for run, said in (
        (None, ""),  # nothing to compare with
        (same, ""),
        (replace(same, rounds=1, strategy="median", fraction=0.5), ""),  # no matter there
        (replace(same, epochs=5, strategy="median", fraction=0.5), "E 1"),
        (replace(same, batch_size=8, shards={**ONE_EACH, "carol": (3, 6)}), "carol only 3, B 32"),
    ):
        session.settings = run
        assert session.compared_with() == said


@pytest.mark.parametrize(("slow", "deadline"), [(False, 2.0), (True, None)])
def test_a_deadline_is_one_where_slow_motion_is_not(session, slow, deadline):
    session.gate.set_slow(slow)
    session.settings = Settings(ONE_EACH, deadline=2.0)
    session.one_round(session.settings)
    assert session.plans[0].deadline == deadline
    assert session.deadline == deadline, "of which the panel tells in slow motion"


def test_a_laptop_that_comes_during_a_run_and_is_closed_does_not_halt_it(session, monkeypatch):
    federation = Federation(weights(0), fedlab.fed_avg())
    session.server.federation, session.clients = federation, {"alice": Stub()}
    monkeypatch.setattr("fedlab.dashboard.session.GUEST_DEADLINE", 0.05)
    federation.join("alice", 10)
    federation.start(Plan(2))

    def trains():
        session.let_go()  # as the panel does, all the time
        task = federation.task("alice", 5)
        time.sleep(0.1)
        session.let_go()
        assert "alice" in federation.status().waiting_for, "a client of one's own is waited for"
        if task.round == 1:
            federation.join("dave", 10)
        federation.report(Update("alice", task.round, 10, task.weights, run=task.run))
        return task.round

    assert (trains(), trains()) == (1, 2)
    session.let_go()
    assert federation.status().waiting_for == ["dave"]
    time.sleep(0.1)
    session.let_go()
    assert [sorted(record.clients) for record in federation.wait()] == [["alice"], ["alice"]]
    assert federation.history.last.note.endswith("went on without dave")


def test_a_longer_deadline_is_the_guests_too(session, monkeypatch):
    federation = Federation(weights(0), fedlab.fed_avg())
    session.server.federation, session.clients = federation, {}
    monkeypatch.setattr("fedlab.dashboard.session.GUEST_DEADLINE", 0.05)
    federation.join("dave", 10)
    federation.start(Plan(1))
    assert federation.task("dave", 5)
    session.deadline = 30.0
    session.let_go()
    time.sleep(0.1)
    session.let_go()
    assert federation.status().waiting_for == ["dave"]
    session.deadline = None
    session.let_go()
    assert federation.status().waiting_for == []
    federation.stop()


def test_nobody_is_left_running_by_a_reset(session):
    """Right after the end of a run, before its clients were asked to leave."""
    session.clients = {"alice": Stub().start()}
    (alice,) = session.clients.values()
    session.reset()
    assert not alice.running and not session.clients


def test_a_closed_session_keeps_no_clients(session):
    session.clients, session._memories = {"alice": Stub().start()}, {"alice": {"c": weights(1)}}
    session.close()
    assert not session.clients and not session._memories and len(session.history) == 0
