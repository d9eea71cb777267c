"""The student's panel without a browser: its plain calls, and what it says, in a real class."""

import time
from dataclasses import replace
from html import unescape

import ipywidgets as widgets
import numpy as np
import pytest
from test_dashboard import everything, pill, until

import fedlab
from fedlab.checks import Refused
from fedlab.classroom.live import LiveClass
from fedlab.classroom.writers import Writer, drawings
from fedlab.dashboard.learner import Drawings


@pytest.fixture
def live(mnist):
    few = replace(mnist, test=mnist.test.subset(np.arange(300)))
    settings = {"minimum": 1, "epochs": 1, "batch_size": 100}
    with LiveClass(few, code="K7QXM", host="127.0.0.1", port=0, **settings) as live:
        yield live


@pytest.fixture
def join(live):
    made = []

    def joined(*args, **options):
        url = f"{live.server.address}J/K7QXM"
        made.append(fedlab.join(*(args or (url,)), **options))
        return made[-1]

    yield joined
    for panel in made:
        panel.shutdown()
        panel._thread.join(30)
        assert not panel._thread.is_alive()


def words(panel):
    return unescape(" ".join(w.value for w in everything(panel) if isinstance(w, widgets.HTML)))


def drawn(panel, count=10):
    """So many more drawings of a simulated hand, each of the digit that is asked for."""
    writer, before = drawings(Writer(0, 0), 40), len(panel.drawings.kept)
    for number in range(before, before + count):
        asked = panel.drawings.asked
        image = writer.images[list(writer.y).index(asked)]
        panel._pad.pixels = image.tobytes()
        until(lambda: not panel._keep_it.disabled)
        panel._keep_it.click()
        until(lambda number=number: len(panel.drawings.kept) == number + 1)


def test_what_cannot_be_shown_is_said_and_the_panel_goes_on(join, live, monkeypatch):
    """Before, its thread ended, and with it the student's part in the class."""
    panel, calls = join(), []
    until(lambda: pill(panel) in live.results())

    def broken():
        calls.append(1)
        raise ValueError("no such picture")

    with monkeypatch.context() as patch:
        patch.setattr(panel, "_refresh", broken)
        until(lambda: "no such picture" in words(panel) and len(calls) > 2)
        many = len(calls)
        time.sleep(1)
        assert len(calls) - many < 10, "it is not tried all the time"
    panel._trouble = ""
    until(lambda: pill(panel) in live.results() and panel._thread.is_alive())


@pytest.mark.slow
def test_who_draws_takes_part(join, live):
    panel = join(name="Anna")
    until(lambda: pill(panel) in live.results() and "not approved “Anna” yet" in words(panel))
    client = panel.seen.client
    assert "Draw a <b>" in words(panel) and panel._go.disabled and panel._keep_it.disabled
    drawn(panel)
    assert sorted(panel.drawings.counts) == list(range(10)), "each once, in an order of its own"
    until(lambda: "8 to train on, 2 kept aside" in words(panel) and not panel._go.disabled)
    until(lambda: live.students()[-1].drawn == (8, 2, 8), 10)
    live.approve(client)
    until(lambda: pill(panel) == "Anna", 10)

    panel._go.click()
    until(lambda: [s.doing for s in live.students() if s.client == client] == ["ready"], 20)
    until(lambda: client in [m.client for m in live.federation.status().members], 20)
    live.start(1)
    live.wait(60)
    until(lambda: "after <b>" in words(panel) and "alone <b>" in words(panel), 20)
    assert "of 2 digits kept aside" in words(panel) and list(live.history.last.clients) == [client]

    # Gone, and back as who it was
    panel._leave.click()
    until(lambda: "You take no part now" in words(panel) and panel._try.layout.display is None, 20)
    panel._back.click()
    until(lambda: not panel._leave.disabled and panel.seen.client == client, 20)
    live.remove(client)
    until(lambda: panel._back.description == "Ask to join again", 20)
    assert "removed you" in words(panel)
    panel._back.click()
    until(lambda: panel.seen.client in [s.client for s in live.students()], 20)

    # The same cell again
    again = join()
    until(lambda: again.seen.client == client and pill(panel) == "closed", 20)
    assert len(again.drawings.kept) == 10
    again._undo.click()
    until(lambda: len(again.drawings.kept) == 9 and again._go.disabled)


def test_a_drawing_that_is_taken_back_is_trained_on_no_more(join, live):
    panel = join()
    until(lambda: not panel._leave.disabled, 20)
    drawn(panel)
    until(lambda: not panel._go.disabled)
    panel._go.click()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [8], 20)
    drawn(panel, 1)
    until(lambda: [m.num_examples for m in live.federation.status().members] == [9], 20)
    panel._undo.click()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [8], 20)
    panel._undo.click()  # nine in all are too few: it takes part no more, until it is told to
    until(lambda: live.federation.status().members == [] and live.students()[0].uses == "", 20)
    assert live.students()[0].drawn[:2] == (8, 1) and panel._go.disabled
    drawn(panel, 1)
    until(lambda: not panel._go.disabled)
    panel._go.click()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [8], 20)


@pytest.mark.slow
def test_who_takes_shards_takes_part(join, live):
    panel = join()
    until(lambda: not panel._take.disabled)
    panel.take_shards()
    until(lambda: "dealt you no shards yet. You take what comes." in words(panel))
    mine = live.deal()[panel.seen.client]
    until(
        lambda: f"shards {mine[0]} to {mine[1]} of MNIST: you train with them" in words(panel), 20
    )
    until(lambda: panel.seen.client in [m.client for m in live.federation.status().members], 20)
    live.start(1)
    live.wait(90)
    until(lambda: "MNIST test images" in words(panel) and "after <b>" in words(panel), 20)


def test_a_wrong_code_is_told_and_may_be_mended(join, live):
    panel = join(live.server.address, code="22222")
    until(lambda: "is not this class's" in words(panel))
    assert panel._try.layout.display is None and panel._leave.disabled
    panel._typed.value = "k7qxm"
    panel._back.click()
    until(lambda: panel.seen.client and panel._try.layout.display == "none")
    assert 'class="fl-error"' not in words(panel)


def test_a_class_that_is_not_there_is_told(join):
    panel = join("http://127.0.0.1:9/J/K7QXM")
    until(lambda: "no class answers at http://127.0.0.1:9/" in words(panel), 30)
    panel.wish("Ben")
    until(lambda: "you are in no class yet" in words(panel))
    panel._where.value = "nonsense:x"
    panel._back.click()
    until(lambda: "expected what your teacher shows" in words(panel))


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("192.168.1.20:8642", {}, "expected what your teacher shows"),
        ("ftp://192.168.1.20/J/K7QXM", {}, "expected what your teacher shows"),
        ("http://192.168.1.20/J/K7QXM", {"name": "x" * 30}, "the name has 30 characters"),
        ("http://192.168.1.20/J/K7QXM", {"name": "Hitler"}, "cannot be shown to a class"),
    ],
)
def test_what_cannot_be_is_refused_at_once(url, options, said):
    with pytest.raises(Refused, match=said):
        fedlab.join(url, **options)


def test_what_is_no_digit_is_not_kept():
    kept = Drawings("a session")
    for pixels, said in ((b"", "nothing is drawn"), (bytes(784), "nothing is drawn")):
        with pytest.raises(Refused, match=said):
            kept.keep(pixels)
    with pytest.raises(Refused, match="ink is on 784 of 400 pixels"):
        kept.keep(b"\xff" * 784)
    assert kept.kept == [] and not kept.enough
    line = np.zeros((28, 28), np.uint8)
    line[5:24, 14] = 255
    for _ in range(10):
        kept.keep(line.tobytes())
    train, held = kept.datasets()
    assert (len(train), len(held)) == (8, 2) and kept.enough
    assert sorted(kept.counts.values()) == [1] * 10
