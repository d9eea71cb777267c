"""The panel without a browser: its plain calls, and what its widgets show. tests/test_browser.py
looks at it in JupyterLab."""

import functools
import gc
import re
import socket
import threading
import time
import weakref
from html import unescape
from types import SimpleNamespace

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from traitlets import TraitError

import fedlab
from fedlab.dashboard import buttons, views
from fedlab.dashboard.cards import Cards
from fedlab.dashboard.controls import Controls
from fedlab.dashboard.details import Details
from fedlab.dashboard.glance import Glance
from fedlab.dashboard.learner import Learner
from fedlab.dashboard.session import ALONE, POOLED
from fedlab.data import Mnist
from fedlab.history import History
from fedlab.http.server import WORKER_THREADS
from fedlab.messages import Conflict, Refused
from fedlab.settings import Settings

ONE_EACH = {"alice": (1, 1), "bob": (2, 2), "carol": (3, 3)}


@pytest.fixture
def panel(mnist):
    panel = fedlab.Dashboard(mnist, ONE_EACH, rounds=3, batch_size=64)
    yield panel
    panel.shutdown()
    panel._thread.join(20)


def button(panel, text):
    return next(
        w for w in everything(panel) if isinstance(w, widgets.Button) and w.description == text
    )


def everything(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def words(panel):
    """Everything that the panel says: its sentences, its tables, and what is read aloud."""
    html = [w.value for w in everything(panel) if isinstance(w, widgets.HTML)]
    scene = panel._picture.scene  # nothing yet, in a panel's first moment
    return unescape(" ".join([*html, *(scene.get(key, "") for key in ("says", "words", "live"))]))


def pill(panel):
    return panel._header.value.split("fl-pill")[1].split(">")[1].split("<")[0]


WHOLE = threading.RLock()
"""Held while a panel is brought up to date: its header is new a moment before its roll is, and what
`until` has found true is so of all that the panel shows.
"""


def wholly(refresh):
    @functools.wraps(refresh)
    def refreshed(panel):
        with WHOLE:
            refresh(panel)

    return refreshed


for kind in (fedlab.Dashboard, fedlab.Classroom, Learner):
    kind._refresh = wholly(kind._refresh)


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while True:
        held = WHOLE.acquire(timeout=1)  # not where a test holds a refresh up
        try:
            if true():
                return
        finally:
            if held:
                WHOLE.release()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def fedlab_threads():
    """Those that run: without the few that a server keeps for its answers."""
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("fedlab")]
    assert sum(name.startswith("fedlab-answers") for name in names) <= WORKER_THREADS
    return sorted(name for name in names if not name.startswith("fedlab-answers"))


@pytest.mark.slow
def test_start_shows_every_round_and_keeps_the_earlier_run(panel):
    button(panel, "Start training").click()
    first = panel.wait()
    until(lambda: "After round 3 of 3" in words(panel))
    assert len(first) == 3 and first.last.accuracy > 0.8
    panel._details.show("Table")
    until(lambda: panel._details.table.value.count("<tr>") > 3)
    panel._details.show("Wire")
    until(
        lambda: (
            "POST /updates" in panel._details.wire.value and "797 kB" in panel._details.wire.value
        )
    )
    curve = panel._curve._plot.value

    panel._controls.epochs.value = 2
    panel.start()
    second = panel.wait()
    until(lambda: "<b>before</b>: E 1" in words(panel))
    assert panel._curve._plot.value != curve and len(second) == 3 and second is not first
    assert len(panel._session.earlier) == 1 and panel._session.earlier[0][1] is first

    button(panel, "Reset").click()
    until(lambda: pill(panel) == "ready")
    assert len(panel.history) == 0 and panel._session.earlier == []


@pytest.mark.slow
def test_the_plain_calls_give_the_same_numbers(panel, monkeypatch):
    panel.start()
    history = panel.wait()
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict = {}
    exec(panel.settings.as_calls(), names)  # as a student pastes it into a cell
    plt.close("all")
    assert [(r.accuracy, r.loss, r.clients) for r in names["history"]] == [
        (r.accuracy, r.loss, r.clients) for r in history
    ]


@pytest.mark.slow
def test_one_round_goes_on_and_a_moved_slider_begins_anew(panel):
    panel.one_round()
    panel.wait()
    panel.one_round()
    assert [record.round for record in panel.wait()] == [1, 2]
    whole = [record.loss for record in panel.history]
    panel._controls.learning_rate.value = 0.03
    panel.one_round()
    assert [record.round for record in panel.wait()] == [1]
    panel._controls.learning_rate.value = 0.1
    panel.start()
    assert [record.loss for record in panel.wait()][:2] == whole, (
        "round by round or at once: the same numbers"
    )


def test_stop_ends_the_run_and_the_panel_can_start_again(panel):
    panel._controls.rounds.value = 50
    panel.start()
    until(lambda: len(panel.history) >= 1)
    assert (
        button(panel, "Stop").disabled is False and button(panel, "Start training").disabled is True
    )
    assert panel._cards.children[0].slider.disabled and panel._controls.epochs.disabled
    panel.stop()
    rounds = len(panel.wait())
    assert 1 <= rounds < 50
    until(lambda: not button(panel, "Start training").disabled)
    assert "stopped" in words(panel) and not panel._cards.children[0].slider.disabled
    assert fedlab_threads() == ["fedlab-panel", "fedlab-server"], "no client is left"
    panel._controls.rounds.value = 1
    panel.start()
    assert len(panel.wait()) == 1


def test_a_stop_that_comes_while_a_run_is_being_started_is_not_lost(panel, monkeypatch):
    panel.wait()
    begin, begun = panel._session.begin, threading.Event()

    def slow(settings):
        begun.set()
        time.sleep(0.3)
        begin(settings)

    monkeypatch.setattr(panel._session, "begin", slow)
    panel._controls.rounds.value = 50
    panel.start()
    assert begun.wait(5)
    panel.stop()
    assert len(panel.wait(20)) < 50 and not panel._session.running


@pytest.mark.slow
def test_a_run_may_begin_the_moment_another_has_ended(panel):
    """By itself, before the panel has looked: clients of the last run still have their names."""
    panel.wait()
    panel._controls.rounds.value = 1
    for _ in range(4):
        panel.start()
        until(lambda: panel._session.running)
        until(lambda: not panel._session.running)
    assert len(panel.wait()) == 1 and len(panel._session.earlier) == 3
    assert fedlab_threads() == ["fedlab-panel", "fedlab-server"]


def test_a_picture_that_cannot_be_drawn_is_said_and_the_panel_goes_on(panel, monkeypatch):
    panel.wait()
    draw = panel._refresh_curve
    monkeypatch.setattr(
        panel, "_refresh_curve", lambda now: (_ for _ in ()).throw(ValueError("no ink"))
    )
    until(lambda: "no ink" in words(panel))
    monkeypatch.setattr(panel, "_refresh_curve", draw)
    panel.start()
    assert len(panel.wait()) == 3


def test_mistakes_are_sentences_in_the_panel(panel):
    panel._cards.children[1].name.value = "alice"
    button(panel, "Start training").click()
    with pytest.raises(Refused, match="two clients are called 'alice'"):
        panel.wait()
    until(lambda: "two clients are called" in words(panel))
    panel._cards.children[1].name.value = "bob"
    until(lambda: 'class="fl-error"' not in words(panel))  # mended: it stays red nowhere

    panel._cards.children[0].first.value = 5
    until(lambda: "the shards are 5 to 1; expected" in words(panel))
    panel.start()
    with pytest.raises(ValueError, match="the shards are 5 to 1"):
        panel.wait()
    assert len(panel.history) == 0
    panel._cards.children[0].first.value = 1
    until(lambda: 'class="fl-error"' not in words(panel) and pill(panel) == "ready")

    panel.start()
    assert len(panel.wait()) == 3, "and the panel goes on"


def test_the_slider_and_its_number_boxes_follow_each_other(panel):
    card = panel._cards.children[0]
    card.slider.value = (2, 7)
    assert card.shards == (2, 7) and card.num_examples == 30_000
    assert "shards 2–7 · 30,000" in card.line.value
    card.last.value = 3
    assert card.slider.value == (2, 3)
    panel._details.show("Their images")
    until(lambda: "10,000" in panel._details.images.value)
    digits = panel._details.images.value
    card.slider.value = (1, 12)
    until(lambda: panel._details.images.value != digits)
    with pytest.raises(TraitError):
        card.slider.value = ("a", "b")


def test_clients_come_and_go(panel):
    for _ in range(9):
        button(panel, "+ client").click()
    assert (
        len(panel._cards.children) == 12
        and len({card.name.value for card in panel._cards.children}) == 12
    )
    assert len({card.colour for card in panel._cards.children}) == 12
    until(lambda: button(panel, "+ client").disabled)
    for card in panel._cards.children[2:]:
        card.remove.click()
    panel._cards.children[1].remove.click()
    until(lambda: panel._cards.children[0].remove.disabled)
    assert list(panel.settings.shards) == ["alice"], "the last one stays"


@pytest.mark.slow
def test_baselines(panel, mnist):
    panel.compare(ALONE)
    panel.wait()
    panel.compare(POOLED)
    panel.wait()
    alone, pooled = panel._session.baselines[ALONE], panel._session.baselines[POOLED]
    assert [len(history) for history in alone] == [3, 3, 3] and len(pooled[0]) == 3
    settings = {"test": mnist.test, "rounds": 3, "batch_size": 64, "progress": False}
    assert pooled[0].accuracy == fedlab.simulate({POOLED: mnist.shards(1, 3)}, **settings).accuracy
    assert pooled[0].last.accuracy > np.mean([history.last.accuracy for history in alone])
    with pytest.raises(Refused, match="kind is 'best'"):
        panel.compare("best")
    panel.start()
    panel.wait()
    assert f"<b>{POOLED}</b>" not in words(panel), "it belongs to this run"
    panel._controls.batch_size.value = 128
    panel.compare(POOLED)
    panel.wait()
    until(lambda: f"<b>{POOLED}</b>: B 128" in words(panel))
    assert ALONE not in panel._session.baselines


def test_stopping_a_comparison_is_prompt(panel):
    panel.wait()
    # One round of it takes half a minute, or more
    panel._controls.epochs.value, panel._controls.batch_size.value = (20, 8)
    panel.compare(POOLED)
    until(lambda: panel._session.comparing)
    time.sleep(0.5)
    began = time.monotonic()
    panel.stop()
    panel.wait(20)
    assert (
        time.monotonic() - began < 12
        and not panel._session.comparing
        and "fedlab-baseline" not in fedlab_threads()
    )


def test_a_comparison_that_fails_is_raised_where_one_waits(panel, monkeypatch):
    def diverge(*_, **__):
        raise fedlab.Diverged("training diverged in round 1")

    monkeypatch.setattr("fedlab.simulation.simulate", diverge)
    for _ in range(3):
        panel.compare(POOLED)
        with pytest.raises(fedlab.Diverged, match="in round 1"):
            panel.wait()
    assert "training diverged in round 1" in words(panel)


def test_a_round_of_the_first_two_says_who_was_too_late(panel):
    panel._controls.enough.value = 2
    panel._controls.rounds.value = 2
    panel.start()
    assert [len(record.clients) for record in panel.wait()] == [2, 2]
    until(lambda: panel._curve.replay.max == 2)
    panel._curve.replay.value = 1
    until(lambda: "too late" in {client["state"] for client in panel._picture.scene["clients"]})
    assert "enough=2" in panel.settings.as_calls()


def test_buffered_updates_are_counted_as_the_models_that_they_make(panel):
    panel._controls.strategy.value = "fed_buff"
    until(lambda: panel._controls.deadline.disabled and panel._controls.enough.disabled)
    panel._controls.of_strategy["fed_buff"]["buffer"].value = 3
    panel._controls.rounds.value = 2
    panel.start()
    history = panel.wait()
    assert len(history) == 2 and all(record.num_examples == 15_000 for record in history)
    until(lambda: "2 models done" in words(panel))
    assert {task.client for task in history.tasks} == set(ONE_EACH)


@pytest.mark.slow
def test_asynchronous_runs_too(panel):
    panel._controls.strategy.value = "async_average"
    until(lambda: panel._controls.fraction.disabled)
    panel._controls.rounds.value = 2
    panel.start()
    history = panel.wait()
    assert len(history) == 6 and panel.server.federation.state.num_examples == 30_000
    until(lambda: "6 updates done" in words(panel))
    assert "merged at once" in words(panel) and "rounds done" not in words(panel)
    panel._details.show("Draw a digit")
    panel._details.reading.pad.pixels = pixels_of(panel, 0)
    until(lambda: all(name in panel._details.reading._answers.value for name in ONE_EACH))


def test_diverging_training_is_said(panel):
    panel._controls.learning_rate.options = [("100", 100.0)]
    panel._controls.batch_size.value = 8
    panel.start()
    with pytest.raises(fedlab.ClientFailed, match="NaN or infinity"):
        panel.wait()
    until(lambda: "NaN or infinity" in words(panel))


@pytest.mark.slow
def test_a_second_panel_closes_the_first(panel, mnist):
    panel._controls.rounds.value = 50
    panel.start()
    until(lambda: len(panel.history) >= 1)
    first, address = panel._thread, panel.server.address
    second = fedlab.Dashboard(mnist, ONE_EACH, rounds=1)
    try:
        first.join(20)
        second.start()
        assert len(second.wait()) == 1
        assert (
            fedlab_threads() == ["fedlab-panel", "fedlab-server"]
            and second.server.address != address
        )
        assert "This panel is closed" in words(panel)
        with pytest.raises(RuntimeError, match="this panel is closed"):
            panel.start()
    finally:
        second.shutdown()
        second._thread.join(20)


@pytest.mark.slow
def test_the_same_cell_again_with_a_port_of_its_own(mnist):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = fedlab.Dashboard(mnist, ONE_EACH, rounds=50, port=port)
    first.start()
    until(lambda: len(first.history) >= 1)
    second = fedlab.Dashboard(mnist, ONE_EACH, rounds=1, port=port)
    try:
        second.start()
        assert (
            len(second.wait()) == 1 and second.server.port == port and not first._thread.is_alive()
        )
    finally:
        second.shutdown()
        second._thread.join(20)


def test_a_panel_that_cannot_listen_says_so_where_one_waits(mnist):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        panel = fedlab.Dashboard(mnist, ONE_EACH, port=taken.getsockname()[1])
        try:
            with pytest.raises(OSError, match="cannot listen on"):
                panel.wait(30)
            assert "cannot listen on" in words(panel) and button(panel, "Start training").disabled
        finally:
            panel.shutdown()
            panel._thread.join(20)


def test_a_name_that_somebody_elsewhere_has_is_refused_before_anything_is_lost(panel, mnist):
    panel.start()
    panel.wait()
    guest = fedlab.Client(
        panel.server.url, "dave", mnist.shards(4, 4), test=mnist.test.subset(np.arange(500))
    ).start()
    try:
        panel._cards.children[2].name.value = "dave"
        panel.start()
        with pytest.raises(
            Conflict, match="'dave' has joined from elsewhere; expected another name on its card"
        ):
            panel.wait()
        assert len(panel.history) == 3 and not panel._session.earlier, (
            "the trained model is still there"
        )
    finally:
        guest.stop()


@pytest.mark.slow
def test_a_client_from_elsewhere_takes_part_and_is_shown(panel, mnist):
    panel.wait()
    guest = fedlab.Client(
        panel.server.url, "dave", mnist.shards(4, 4), test=mnist.test.subset(np.arange(500))
    ).start()
    try:
        until(lambda: "Joined from elsewhere: <b>dave</b> (5,000 images, waiting)" in words(panel))
        panel.start()
        history = panel.wait()
        assert [sorted(record.clients) for record in history] == [
            ["alice", "bob", "carol", "dave"]
        ] * 3
        assert panel._session.guests[0].client == "dave", "it stays for the next run"
    finally:
        guest.stop()
    until(lambda: "Joined from elsewhere" not in words(panel))


@pytest.mark.slow
def test_the_token_is_shown_only_when_asked_for(panel):
    panel.wait()
    token = panel.server.url.split("token=")[1]
    for tab in panel._details._contents:
        panel._details.show(tab)
        time.sleep(0.3)
    until(lambda: "--id dave" in panel._details.join.value)
    assert token not in words(panel)
    button(panel, "Show the address with its token").click()
    assert token in panel._details.join.value


def test_twelve_names_are_not_all(quick_mnist):
    """A name is typed into a terminal; and one that was taken since is offered no more."""
    server = SimpleNamespace(address="http://127.0.0.1:1/", url="http://127.0.0.1:1/?token=abc")
    session = SimpleNamespace(mnist=quick_mnist, server=server)
    details, cards = Details(session, lambda: None), Cards(ONE_EACH, lambda: None, lambda _: None)
    details.show("Join")
    details.refresh(Glance(History()), None, {}, cards.free_name([]))
    assert "--id dave " in details.join.value and "abc" not in details.join.value
    details.reveal(cards.free_name([]))
    for _ in range(9):
        cards.add([], [])
    details.refresh(Glance(History()), None, {}, cards.free_name([]))
    assert "--id client-0 " in details.join.value and "abc" in details.join.value
    assert cards.free_name(["client-0"]) == "client-1"


def test_settings_that_cannot_be_are_refused_at_once(mnist):
    with pytest.raises(Refused, match="learning_rate is -1"):
        fedlab.Dashboard(mnist, ONE_EACH, learning_rate=-1)
    with pytest.raises(ValueError, match="the shards are 0 to 3"):
        fedlab.Dashboard(mnist, {"alice": (0, 3)})
    with pytest.raises(Refused, match="strategy is 'fedavg'; expected one of fed_avg"):
        fedlab.Dashboard(mnist, ONE_EACH, strategy="fedavg")


def test_a_panel_that_cannot_be_made_closes_no_other(mnist, monkeypatch):
    there = SimpleNamespace(_thread=None, shutdown=lambda: pytest.fail("it was closed"))
    monkeypatch.setattr("fedlab.dashboard.panel._current", lambda: there)
    with pytest.raises(Refused, match="rounds is None; expected a whole number from 1"):
        fedlab.Dashboard(mnist, ONE_EACH, rounds=None)
    monkeypatch.setattr("fedlab.dashboard.panel.Cards", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fedlab.Dashboard(mnist, ONE_EACH)


def test_limits_of_rounds_are_told_where_there_are_rounds():
    limits = {"enough": 2, "deadline": 5.0}
    told = views.words(Settings(ONE_EACH, **limits), "FedAvg")
    assert "deadline<b>5 s</b>" in told and "first updates<b>2</b>" in told
    told = views.words(Settings(ONE_EACH, strategy="async_average", **limits), "Asynchronous")
    assert "deadline" not in told and "first updates" not in told


def test_panels_that_were_given_no_images_share_them(monkeypatch, quick_mnist):
    """ipywidgets keeps every panel that was made, and each of them its images."""
    read = []
    monkeypatch.setattr(buttons, "_shared", lambda: None)
    monkeypatch.setattr(
        buttons, "load_mnist", lambda: read.append(Mnist(*vars(quick_mnist).values())) or read[-1]
    )
    mine = buttons.images(None)
    assert buttons.images(None) is mine and len(read) == 1
    assert buttons.images(quick_mnist) is quick_mnist
    gone = weakref.ref(mine)
    read.clear()
    del mine
    gc.collect()
    assert gone() is None and buttons.images(None) is read[0], "where no panel is, they are gone"


def test_the_sliders_reach_as_far_as_the_settings_that_a_panel_is_made_with():
    settings = Settings(
        ONE_EACH, rounds=100, epochs=30, seed=20_241_124, batch_size=50, learning_rate=0.02
    )
    assert Controls(settings, lambda: None).settings(ONE_EACH) == settings
    waits = Settings(ONE_EACH, batch_size=None, enough=20, deadline=0.7)
    assert Controls(waits, lambda: None).settings(ONE_EACH) == waits


@pytest.mark.slow
def test_a_strategy_brings_its_own_sliders_and_they_reach_the_run(mnist):
    panel = fedlab.Dashboard(mnist, ONE_EACH, rounds=1, batch_size=64)
    try:
        controls = panel._controls
        shown = {}
        for label, name in controls.strategy.options:
            controls.strategy.value = name
            shown[label] = [slider.description for slider in controls.chosen.children]
        assert shown == {
            "FedAvg": [],
            "FedProx": ["μ"],
            "FedAvg with momentum": ["momentum", "server rate"],
            "FedAdam": ["server rate", "β1", "β2", "τ"],
            "FedYogi": ["server rate", "β1", "β2", "τ"],
            "SCAFFOLD": [],
            "Median": [],
            "Trimmed mean": ["f trimmed"],
            "Asynchronous": [],
            "FedAsync": ["mixing", "damping"],
            "FedBuff": ["buffer", "damping", "server rate"],
            "Krum": ["f attackers"],
            "Multi-Krum": ["f attackers", "m kept"],
            "Bulyan": ["f attackers"],
            "Geometric median": [],
            "Clipped mean": ["clip S"],
            "DP-FedAvg": ["clip S", "noise z", "adapt clip"],
        }
        controls.strategy.value = "fed_prox"
        controls.chosen.children[0].value = 0.1
        controls.strategy.value = "fed_adam"
        controls.strategy.value = "fed_prox"  # which is as it was left
        panel.start()
        panel.wait()
        assert panel._session.federation.strategy.identity == fedlab.fed_prox(0.1).identity
        panel._details.show("Plain calls")
        until(lambda: "strategy=fedlab.fed_prox(mu=0.1)" in words(panel))
        assert len(panel.history) == 1 and panel.history.last.accuracy > 0.5
    finally:
        panel.shutdown()
        panel._thread.join(20)


def test_a_panel_begins_with_the_strategy_it_is_given(mnist):
    settings = {"strategy": "fed_avg_momentum", "strategy_settings": {"momentum": 0.42}}
    panel = fedlab.Dashboard(mnist, ONE_EACH, **settings)
    try:
        assert panel.settings.make_strategy() == fedlab.fed_avg_momentum(0.42)
        with pytest.raises(fedlab.Refused, match="momentum is 1.5; expected a number from 0 up to"):
            fedlab.Dashboard(
                mnist, ONE_EACH, strategy="fed_avg_momentum", strategy_settings={"momentum": 1.5}
            )
    finally:
        panel.shutdown()
        panel._thread.join(20)


def test_what_cannot_go_together_is_a_sentence_in_the_panel(panel):
    panel._controls.strategy.value, panel._controls.optimizer.value = "scaffold", "adam"
    panel.start()
    until(lambda: "optimizer is 'adam' with SCAFFOLD" in words(panel))
    assert len(panel.history) == 0 and not panel._session.running


def test_what_cannot_be_secured_is_a_sentence_and_no_trouble(panel):
    panel.wait()
    panel._controls.strategy.value, panel._controls.secure.value = "median", True
    until(lambda: "expected one that needs only the average" in words(panel))
    panel._controls.secure.value = False
    until(lambda: 'class="fl-error"' not in words(panel))
    panel.wait()  # which would raise what went wrong


@pytest.mark.slow
def test_one_round_more_goes_on_with_what_clients_have_learned(mnist):
    """SCAFFOLD's clients remember: two rounds, or one and one more, are the same."""
    losses = []
    for first in (2, 1):
        panel = fedlab.Dashboard(mnist, ONE_EACH, rounds=first, batch_size=64, strategy="scaffold")
        try:
            panel.start()
            panel.wait()
            if first == 1:
                panel.one_round()
                panel.wait()
            losses.append([record.loss for record in panel.history])
        finally:
            panel.shutdown()
            panel._thread.join(20)
    assert losses[0] == losses[1] and len(losses[0]) == 2


def pixels_of(panel, position):
    """A test image as the drawing pad would send it."""
    return panel._mnist.test.images[position].tobytes()


def test_a_second_press_does_no_harm(panel):
    panel._controls.rounds.value = 2
    for _ in range(3):
        button(panel, "Start training").click()
        panel.one_round()
    assert len(panel.wait()) == 2 and panel._session.earlier == []
    until(lambda: pill(panel) == "finished")
    panel.one_round()
    panel.one_round()
    assert len(panel.wait()) == 3


def test_adam_brings_its_own_learning_rate_and_sgd_has_its_own_back(panel):
    controls = panel._controls
    controls.learning_rate.value = 0.3
    controls.optimizer.value = "adam"
    assert controls.learning_rate.value == 0.001
    controls.learning_rate.value = 0.003
    controls.optimizer.value = "sgd"
    assert controls.learning_rate.value == 0.3
    controls.optimizer.value = "adam"
    assert controls.learning_rate.value == 0.003


def test_the_curve_begins_with_the_untrained_model(panel, mnist):
    panel.start()
    history = panel.wait()
    from fedlab.model import Classifier

    classifier = Classifier(seed=0)
    _, accuracy = classifier.evaluate(classifier.weights, mnist.test)
    assert history.untrained == accuracy and 0.02 < accuracy < 0.25
    until(lambda: "After round 3 of 3" in panel._curve._plot.value)
    assert "var(--fl-ink)" in panel._curve._plot.value, "drawn in the page's colours"
    assert panel._curve.as_png().startswith(b"\x89PNG")


def test_one_colour_a_client_whatever_happens(panel):
    """After a new name, with C < 1, after another has gone: card, picture and curve agree."""
    panel._controls.fraction.value = 0.4
    panel.start()
    panel.wait()
    panel._cards.children[1].name.value = "bella"
    panel._cards.children[0].remove.click()
    button(panel, "+ client").click()
    until(
        lambda: {c["name"] for c in panel._picture.scene["clients"]} == {"bella", "carol", "alice"}
    )
    seen = {c["name"]: c["colour"] for c in panel._picture.scene["clients"]}
    assert seen == {card.client: card.colour for card in panel._cards.children}
    assert seen["bella"] == 1 and seen["carol"] == 2
    assert all(panel._cards.colours[name] == seen[name] for name in seen)
    assert panel._cards.colours["bob"] == 1, "what bob did is still in bob's colour"
    for card in panel._cards.children:
        assert f"fl-colour-{card.colour}" in card._dom_classes


def test_a_new_client_knows_nothing_of_an_earlier_one_of_its_name(panel):
    panel._controls.rounds.value = 1
    panel.start()
    panel.wait()
    until(lambda: scene_of(panel, "bob")["accuracy"] is not None)
    panel._cards.children[1].remove.click()
    button(panel, "+ client").click()
    assert panel._cards.children[-1].client == "bob"
    until(lambda: scene_of(panel, "bob")["state"] == "5,000 images")
    until(lambda: scene_of(panel, "bob")["accuracy"] is None)
    assert panel._session.status("bob") is None


def scene_of(panel, name):
    """This client in the picture, as soon as it is there: it is drawn anew five times a second."""
    found = []

    def there():
        found[:] = [c for c in panel._picture.scene["clients"] if c["name"] == name]
        return found

    until(there)
    return found[0]


@pytest.mark.slow
def test_slow_motion_holds_real_requests_until_somebody_goes_on(panel):
    panel.wait()
    assert button(panel, "Next step").disabled
    panel.slow_motion(True)
    panel._controls.rounds.value = 2
    panel.start()
    steps, sent = [], []

    def updates():
        return sum(r.path == "/updates" for r in panel.server.wire)

    for _ in range(8):
        until(lambda: panel._session.waiting_before and not button(panel, "Next step").disabled)
        time.sleep(0.3)
        steps.append(panel._session.waiting_before)
        sent.append(updates())
        panel.next_step()
        until(lambda: panel._session.waiting_before != steps[-1] or not panel._session.running)
    assert steps == [1, 2, 3, 4] * 2 and sent == [0, 0, 0, 3, 3, 3, 3, 6]
    history = panel.wait()
    panel.slow_motion(False)
    panel.start()
    fast = panel.wait()
    assert [r.loss for r in fast] == [r.loss for r in history], "slow or fast: the same numbers"


@pytest.mark.slow
def test_a_secure_round_in_slow_motion_has_the_same_four_steps_and_more_requests(panel):
    """Keys are exchanged in between, which nobody has to press for; the numbers are those of the
    plain calls.
    """
    panel.wait()
    panel._controls.secure.value = True
    panel._controls.rounds.value = 1
    panel.slow_motion(True)
    panel.start()
    steps = []
    for _ in range(4):
        until(lambda: panel._session.waiting_before and not button(panel, "Next step").disabled)
        steps.append(panel._session.waiting_before)
        panel.next_step()
        until(lambda: panel._session.waiting_before != steps[-1] or not panel._session.running)
    history = panel.wait()
    panel.slow_motion(False)
    assert steps == [1, 2, 3, 4]
    assert sum(r.path == "/updates" for r in panel.server.wire) == 12
    assert panel._session.federation.strategy.identity == "FedAvg, secure"
    names: dict = {}
    exec(panel.settings.as_calls(), names)
    plt.close("all")
    assert [r.loss for r in names["history"]] == [r.loss for r in history]


@pytest.mark.slow
def test_what_noise_costs_is_read_before_and_after_a_run(panel):
    panel.wait()
    controls = panel._controls
    until(lambda: controls.cost.value == "")
    controls.strategy.value = "fed_avg"
    controls.sampling.value = "poisson"
    controls.strategy.value = "dp_fed_avg"
    epsilon, known, _ = panel.settings.epsilon()
    until(lambda: f"<b>ε = {epsilon:.3g}</b> after 3 rounds" in controls.cost.value)
    assert f"; {known:.3g} for whoever also knows" in controls.cost.value
    assert "hardly a crowd to hide in" in controls.cost.value
    controls.chosen.children[1].value = 0.0
    until(lambda: "without noise nothing is hidden" in controls.cost.value)
    controls.chosen.children[1].value = 1.0
    panel.start()
    history = panel.wait()
    assert history.last.measures["epsilon"] == pytest.approx(epsilon)
    panel._details.show("Table")
    until(lambda: f"<td>{epsilon:.3g}</td>" in words(panel) and ">ε</th>" in words(panel))


@pytest.mark.slow
def test_slow_motion_ends_when_it_is_switched_off_or_stopped(panel):
    panel.slow_motion(True)
    panel.start()
    until(lambda: panel._session.waiting_before == 1)
    panel.slow_motion(False)
    assert len(panel.wait()) == 3
    panel.slow_motion(True)
    panel.start()
    until(lambda: panel._session.waiting_before == 1)
    panel.next_step()
    until(lambda: panel._session.waiting_before == 2)
    began = time.monotonic()
    panel.stop()
    assert len(panel.wait()) == 0 and time.monotonic() - began < 10
    assert fedlab_threads() == ["fedlab-panel", "fedlab-server"]


@pytest.mark.slow
def test_slow_motion_where_there_are_no_rounds(panel):
    panel._controls.strategy.value = "async_average"
    panel._controls.rounds.value = 1
    panel.slow_motion(True)
    panel.start()
    for step in (2, 3):
        until(lambda: panel._session.waiting_before == step)
        panel.next_step()
    assert len(panel.wait()) == 3


@pytest.mark.slow
def test_slow_motion_again_after_a_stop_in_the_first_round(panel):
    """Nothing of the run before is taken for this one's."""
    panel.slow_motion(True)
    for _ in range(2):
        panel.start()
        until(lambda: panel._session.waiting_before == 1)
        panel.next_step()
        until(lambda: panel._session.waiting_before == 2)
        panel.stop()
        assert len(panel.wait()) == 0
    panel.start()
    until(lambda: panel._session.waiting_before == 1)
    time.sleep(0.5)
    assert panel._trouble == "" and "Round 1" in pill(panel)
    panel.slow_motion(False)
    assert len(panel.wait()) == 3


@pytest.mark.slow
def test_slow_motion_holds_whoever_has_something_left_to_do(mnist):
    """Unequal clients that are not waited for: who is done does not keep Next step grey. And where
    there are rounds, who has sent already when it is switched on.
    """
    shards = {"alice": (1, 3), "bob": (4, 4)}
    settings = {"rounds": 1, "batch_size": 64, "strategy": "async_average"}
    panel = fedlab.Dashboard(mnist, shards, **settings)
    try:
        panel.slow_motion(True)
        panel.start()
        until(lambda: panel._session.running)
        for _ in range(40):
            until(lambda: panel._session.waiting_before or not panel._session.running)
            if not panel._session.running:
                break
            panel.next_step()
            time.sleep(0.1)
        assert len(panel.wait(5)) == 4
        panel.slow_motion(False)
        panel._controls.strategy.value = "fed_avg"
        panel._controls.epochs.value = 10
        panel.start()
        until(lambda: panel.server.federation.status().waiting_for == ["alice"])
        panel.slow_motion(True)
        until(lambda: panel._session.waiting_before == 3)
        panel.next_step()
        until(lambda: panel._session.waiting_before == 4)
        panel.next_step()
        assert len(panel.wait(10)) == 1
        until(lambda: panel._picture.scene["step"] == 4)
        assert panel._picture.scene["server"]["slots"], "the last step stays, to be talked about"
    finally:
        panel.shutdown()
        panel._thread.join(20)


def test_a_stop_and_a_start_in_one_breath(panel):
    panel._controls.rounds.value = 50
    panel.start()
    until(lambda: len(panel.history) >= 1)
    panel._controls.rounds.value = 2
    panel.stop()
    panel.start()
    assert len(panel.wait()) == 2


@pytest.mark.slow
def test_looking_back_moves_everything(panel):
    panel._details.show("Draw a digit")
    panel._details.reading.pad.pixels = pixels_of(panel, 8)
    panel.start()
    history = panel.wait()
    until(
        lambda: panel._curve.replay.value == 3 and "alice" in panel._details.reading._answers.value
    )
    now, curve = panel._details.reading._answers.value, panel._curve._plot.value
    panel._curve.replay.value = 1
    until(lambda: "Round 1" in panel._picture.scene["says"])
    until(
        lambda: panel._details.reading._answers.value != now and panel._curve._plot.value != curve
    )
    good = round(100 * history[0].clients["alice"].accuracy, 1)
    assert scene_of(panel, "alice")["accuracy"] == good
    assert f"{100 * history[0].accuracy:.1f} %" in panel._header.value
    panel._details.show("What it reads")
    until(lambda: "after round 1" in panel._details.reading.digits.value)
    panel._curve.replay.value = 0
    until(lambda: "before any training" in panel._details.reading.digits.value)
    assert f"{100 * history.untrained:.1f} %" in panel._header.value
    panel.one_round()
    panel.wait()
    until(lambda: panel._curve.replay.max == 4)
    assert panel._curve.looking_back == 0, "who looks back goes on looking"
    panel._curve.replay.value = 4
    until(lambda: "after round 4" in panel._details.reading.digits.value)


def test_what_the_models_read(panel, mnist):
    """Beside the classifier's own predictions."""
    panel.start()
    history = panel.wait()
    weights = panel.server.weights
    from fedlab.model import Classifier

    right = Classifier().predict(weights, mnist.test).argmax(1)
    panel._details.show("Mistakes")
    wrong = (right != mnist.test.y).sum()
    assert wrong == round((1 - history.last.accuracy) * 10_000)
    until(
        lambda: f"{wrong:,} mistakes in 10,000 test images" in panel._details.reading.mistakes.value
    )
    body = panel._details.reading.mistakes.value.split("<tbody>")[1]
    table = re.findall(r"<td[^>]*>(\d*)</td>", body)
    counts = np.array([int(n or 0) for n in table]).reshape(10, 10)
    assert counts.sum() == 10_000 and np.trace(counts) == 10_000 - wrong
    assert counts[5].sum() == (mnist.test.y == 5).sum()

    panel._details.show("What it reads")
    until(lambda: "after round 3" in panel._details.reading.digits.value)
    shown = re.findall(r"<figcaption>(?:<span[^>]*>)?(\d)", panel._details.reading.digits.value)
    assert [int(digit) for digit in shown] == right[:10].tolist()

    panel._details.show("Draw a digit")
    panel._details.reading.pad.pixels = pixels_of(panel, 0)
    until(lambda: "global model" in panel._details.reading._answers.value)
    read = re.findall(r'<td class="fl-read">(\d)', panel._details.reading._answers.value)
    assert len(read) == 4 and int(read[0]) == right[0] == 7


def test_settings_are_told_in_words_and_a_wait_says_for_whom(mnist):
    panel = fedlab.Dashboard(mnist, {"alice": (1, 1)}, rounds=1)
    try:
        until(lambda: "<b>FedAvg</b>" in words(panel) and "<b>0.1</b>" in words(panel))
        panel.start()
        panel.wait()
        until(lambda: "1 round done" in words(panel))
        assert "1 client." in panel._picture.scene["words"]
    finally:
        panel.shutdown()
        panel._thread.join(20)
