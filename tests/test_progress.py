"""The bar over rounds, as a notebook and as a terminal show it."""

import pytest

from fedlab.history import RoundRecord
from fedlab.progress import rounds_bar


@pytest.fixture
def in_a_notebook(monkeypatch):
    """Bars are widgets, as in a kernel; the widgets that were shown."""
    import tqdm.auto
    import tqdm.notebook

    shown = []
    monkeypatch.setattr(tqdm.auto, "tqdm", tqdm.notebook.tqdm)
    monkeypatch.setattr(tqdm.notebook, "display", shown.append)
    return shown


def run(rounds, done, **more):
    with rounds_bar(rounds, **more) as show:
        for number in range(1, done + 1):
            show(RoundRecord(number, 0.9 + number / 1000))


@pytest.mark.parametrize("rounds", [400, 35, None])
def test_a_run_that_ends_at_its_target_fills_its_bar(in_a_notebook, rounds):
    """It said 100 %, beside a bar that 35 of 400 rounds had filled by a twelfth."""
    run(rounds, 35)
    (box,) = in_a_notebook
    percent, bar, rest = box.children
    assert bar.value == bar.max == 35 and bar.bar_style == "success"
    assert percent.value.replace("\u2007", " ").strip().startswith("100%")
    assert "35/35" in rest.value and "accuracy" in rest.value and "93.50%" in rest.value


def test_a_run_that_is_broken_off_stands_where_it_came_to(in_a_notebook):
    with pytest.raises(KeyboardInterrupt), rounds_bar(400) as show:
        show(RoundRecord(1, 0.9))
        raise KeyboardInterrupt
    (box,) = in_a_notebook
    assert (box.children[1].value, box.children[1].max) == (1, 400)
    assert box.children[1].bar_style == "danger"


def test_nothing_is_shown_where_it_is_not_asked_for(in_a_notebook):
    seen = []
    run(3, 2, shown=False, then=seen.append)
    assert in_a_notebook == [] and [record.round for record in seen] == [1, 2]


def test_in_a_terminal_it_is_text(capsys):
    run(400, 35)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last and "35/35" in last and "accuracy 93.50%" in last
