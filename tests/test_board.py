"""The board of attacks and defences: predictions, results, Stop, and no thread left."""

import re
import threading
import time
from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import pytest

import fedlab
from fedlab.checks import Refused
from fedlab.contest import Duel
from fedlab.dashboard import board as module
from fedlab.dashboard.board import DIVERGES, Stopped, answer
from fedlab.dashboard.scripts import STATIC
from fedlab.data import Mnist
from fedlab.history import History, RoundRecord

ATTACKS = {
    "nobody": None,
    "door": [fedlab.Backdoor(), fedlab.ScaledUpdate(5)],
    "<b>": lambda u, t: u,
}
DEFENCES = {"mean": fedlab.fed_avg(), "median": fedlab.median()}
FEW = {"clients": 5, "images": 60, "attackers": 1, "rounds": 2}


class Duels:
    """In place of real ones: each round waits for `go`, and results are given."""

    def __init__(self):
        self.go, self.asked, self.given = threading.Event(), [], {}
        self.go.set()

    def __call__(self, attack, defence, mnist, *, on_round, rounds=3, **options):
        self.asked.append((attack, defence, options))
        for number in range(1, rounds + 1):
            assert self.go.wait(20)
            on_round(RoundRecord(number, 0.9, 0.1, 1, 0.0, 0, 0, {}))
        accuracy, trigger, ended = self.given.get(len(self.asked), (0.937, 0.99, ""))
        if isinstance(accuracy, Exception):
            raise accuracy
        return Duel("a", "d", 4, 20, "iid", accuracy, trigger, History(), ended)


@pytest.fixture
def duels(monkeypatch):
    duels = Duels()
    monkeypatch.setattr(module, "duel", duels)
    yield duels
    duels.go.set()
    if (board := module._current()) is not None:
        board.stop()
        board.wait(20)


@pytest.fixture
def board(duels):
    return fedlab.Board(ATTACKS, DEFENCES, object(), rounds=3)


def everything(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def button(board, text):
    return next(
        w for w in everything(board) if isinstance(w, widgets.Button) and w.description == text
    )


def cell(board, attack, defence):
    return board._cells[attack, defence]


def shown(board) -> str:
    return " ".join(w.value for w in everything(board) if isinstance(w, widgets.HTML))


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_cell_asks_then_runs_then_shows_both(board, duels):
    first = cell(board, "door", "mean")
    assert first.description == "?\n\n\ndoor against mean"
    assert button(board, "over 92 %").disabled and button(board, "Skip").disabled
    first.click()
    assert "fb-picked" in first._dom_classes and not duels.asked
    assert "<b>door</b> against <b>mean</b>" in shown(board)
    button(board, "over 92 %").click()
    board.wait()
    assert board.predictions == {("door", "mean"): "over 92 %"}
    assert board.results["door", "mean"].accuracy == 0.937
    assert first.description == "93.7\ntrigger 99\n✓ over 92\ndoor against mean"
    assert {"fb-3", "fb-band", "fb-picked"} < set(first._dom_classes)
    assert "the trigger works on 99.0 % of the images. You predicted over 92 %: right." in shown(
        board
    )
    assert 'aria-live="polite"' in shown(board)


def test_a_wrong_prediction_a_skip_and_no_backdoor(board):
    board.predict("nobody", "mean", "under 50 %")
    board.run("nobody", "mean")
    assert cell(board, "nobody", "mean").description.startswith("93.7\n✗ under 50\n\n")
    cell(board, "nobody", "median").click()
    button(board, "Skip").click()
    board.wait()
    assert cell(board, "nobody", "median").description == "93.7\n\n\nnobody against median"


def test_while_one_runs_nothing_else_can_be_asked_for_and_a_second_press_is_harmless(board, duels):
    duels.go.clear()
    cell(board, "nobody", "mean").click()
    skip = button(board, "Skip")
    skip.click()
    skip.click()  # before it was pale
    until(lambda: board._now is not None)
    empty = [b for c, b in board._cells.items() if c != ("nobody", "mean")]
    until(lambda: all(b.disabled for b in empty))
    assert skip.disabled and button(board, "Run all the rest").disabled
    assert not button(board, "Stop").disabled
    assert cell(board, "nobody", "mean").description.startswith("0/3")
    duels.go.set()
    board.wait()
    assert len(duels.asked) == 1
    until(lambda: not any(b.disabled for b in board._cells.values()))
    assert button(board, "Stop").disabled
    skip.click()
    assert board._thread is None and len(duels.asked) == 1


def test_stop_ends_a_run_and_leaves_no_thread(board, duels):
    duels.go.clear()
    button(board, "Run all the rest").click()
    until(lambda: duels.asked)
    button(board, "Stop").click()
    button(board, "Stop").click()
    duels.go.set()
    board.wait()
    assert board.results == {} and len(duels.asked) == 1
    assert cell(board, "nobody", "mean").description.startswith("?")
    assert "was stopped" in shown(board)
    assert not [t for t in threading.enumerate() if t.name == "fedlab-board" and t.is_alive()]
    board.run_rest()
    assert len(board.wait()) == 6, "it can go on afterwards"
    assert button(board, "Run all the rest").disabled


def test_a_plain_call_goes_first_and_is_made_once(board, duels):
    duels.go.clear()
    board.run_rest()
    until(lambda: duels.asked)
    found = []
    caller = threading.Thread(target=lambda: found.append(board.run("<b>", "median")))
    caller.start()
    until(lambda: board._queue[0] == ("<b>", "median"))
    duels.go.set()
    caller.join(20)
    assert found and duels.asked[1][0] is ATTACKS["<b>"]
    board.wait()
    assert board.run("<b>", "median") is found[0] and len(duels.asked) == 6


def test_a_plain_call_that_is_stopped_says_so(board, duels):
    duels.go.clear()
    said = []

    def call():
        with pytest.raises(RuntimeError, match="nobody against mean was stopped"):
            board.run("nobody", "mean")
        said.append(True)

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: duels.asked)
    board.stop()
    duels.go.set()
    caller.join(20)
    assert said


def test_divergence_is_a_result(board, duels):
    duels.given[1] = (0.91, 0.2, "training left the finite numbers in round 1")
    board.predict("door", "mean", DIVERGES)
    board.run("door", "mean")
    assert cell(board, "door", "mean").description.startswith("diverged\ntrigger 20\n✓ diverges")
    assert "fb-4" in cell(board, "door", "mean")._dom_classes
    assert "diverged in round 1; before that accuracy 91.0 %" in shown(board)
    assert "diverged/20" in board.table()


def test_an_error_is_shown_and_raised_and_the_board_goes_on(board, duels):
    duels.given[1] = (ValueError("no <luck>"), 0, "")
    with pytest.raises(ValueError, match="luck"):
        board.run("nobody", "mean")
    assert "no &lt;luck&gt;" in shown(board) and 'role="alert"' in shown(board)
    assert cell(board, "nobody", "mean").description.startswith("error")
    board.run("nobody", "mean")
    assert cell(board, "nobody", "mean").description.startswith("93.7")


def test_the_table_and_the_curve_of_a_cell(board):
    board.run("door", "mean")
    assert re.search(r"^door +93\.7/99 +\.$", board.table(), re.MULTILINE)
    assert re.search(r"^nobody +\. +\.$", board.table(), re.MULTILINE)
    cell(board, "door", "mean").click()
    assert "the trigger works" in shown(board)
    assert "&lt;b&gt;" in shown(board) and "<div><b></div>" not in shown(board)


def test_a_new_board_stops_the_one_before(board, duels):
    duels.go.clear()
    board.run_rest()
    until(lambda: duels.asked)
    other = fedlab.Board(ATTACKS, DEFENCES, object())
    duels.go.set()
    board.wait()
    assert board.results == {} and other.results == {}


@pytest.mark.parametrize(
    ("accuracy", "ended", "right"),
    [(0.4999, "", 0), (0.5, "", 1), (0.85, "", 2), (0.92, "", 3), (1.0, "", 3), (0.5, "x", 4)],
)
def test_what_would_have_been_right(accuracy, ended, right):
    found = Duel("a", "d", 4, 20, "iid", accuracy, 0.0, History(), ended)
    assert answer(found) == [*module.CHOICES, DIVERGES][right]


@pytest.mark.parametrize(
    ("attacks", "defences", "options", "sentence"),
    [
        ({}, DEFENCES, {}, "attacks is {}; expected a dictionary"),
        (ATTACKS, [1], {}, r"defences is \[1\]; expected a dictionary"),
        ({1: None}, DEFENCES, {}, "expected a dictionary: a name for each"),
        ({"x": 5}, DEFENCES, {}, "an attack is 5; expected"),
        (ATTACKS, {"x": 5}, {}, "the defence is 5; expected"),
        (ATTACKS, DEFENCES, {"round": 5}, "the option 'round'; expected some of .*rounds"),
        (ATTACKS, DEFENCES, {"rounds": 0}, "rounds is 0; expected a whole number from 1"),
    ],
)
def test_boards_that_cannot_be(attacks, defences, options, sentence):
    with pytest.raises(Refused, match=sentence):
        fedlab.Board(attacks, defences, object(), **options)


def test_calls_that_cannot_be(board):
    with pytest.raises(Refused, match="no attack 'x'; expected one of 'nobody', 'door'"):
        board.run("x", "mean")
    with pytest.raises(Refused, match="no defence 'x'; expected one of 'mean', 'median'"):
        board.predict("door", "x", "over 92 %")
    with pytest.raises(Refused, match="the prediction is 'good'; expected one of 'under 50 %'"):
        board.predict("door", "mean", "good")
    board.run("door", "mean")
    with pytest.raises(Refused, match="door against mean has been run"):
        board.predict("door", "mean", "over 92 %")


def test_texts_can_be_read_on_their_colours():
    """A contrast of 4.5 at least."""

    def light(colour: str) -> float:
        long = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(long[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    style = (STATIC / "board.css").read_text("utf-8")
    pairs = re.findall(r"background: (#\w+); color: (#\w+)", style)
    assert len(pairs) >= 6
    for pair in pairs:
        dark, bright = sorted(map(light, pair))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, pair


def test_real_duels_in_a_cell(mnist):
    few = Mnist(mnist.train, mnist.test.subset(np.arange(1_000)))
    board = fedlab.Board({"sign": fedlab.SignFlip(5), "mine": _mine}, DEFENCES, few, seed=3, **FEW)
    found = board.run("sign", "median")
    assert (
        found.accuracy
        == fedlab.duel(fedlab.SignFlip(5), fedlab.median(), few, seed=3, **FEW).accuracy
    )
    board.run_rest()
    assert set(board.wait(120)) == set(board._cells)


def _mine(update, task):
    return replace(update, weights=[-w for w in update.weights])


def test_stopped_is_told_between_rounds(mnist):
    """The hook is enough: a duel passes the exception on, and its threads end."""

    def stop(record):
        raise Stopped

    with pytest.raises(Stopped):
        fedlab.duel(None, fedlab.fed_avg(), mnist, on_round=stop, **FEW)
