"""The Prediction: nothing of what to do next before an answer, and the answer in sight
afterwards."""

import ipywidgets as widgets
import pytest

import fedlab

OPTIONS = ["higher", "lower <than>"]


@pytest.fixture
def ask():
    beside = widgets.HTML("the panel")
    return fedlab.Prediction("What if <b>?", OPTIONS, then="Press <b>Start</b>.", beside=beside)


def shown(widget) -> str:
    """All the HTML in a widget, in order."""
    own = widget.value if isinstance(widget, widgets.HTML) else ""
    return own + "".join(shown(child) for child in getattr(widget, "children", ()))


def buttons(widget) -> dict:
    found = {widget.description: widget} if isinstance(widget, widgets.Button) else {}
    for child in getattr(widget, "children", ()):
        found |= buttons(child)
    return found


def choice(widget) -> widgets.RadioButtons:
    return next(child for child in widget.children if isinstance(child, widgets.RadioButtons))


def test_nothing_is_chosen_and_nothing_told_at_first(ask):
    assert choice(ask).value is None and list(choice(ask).options) == OPTIONS
    assert ask.prediction is None and not ask.answered
    assert "What if &lt;b&gt;?" in shown(ask)
    assert "Start" not in shown(ask) and "the panel" not in shown(ask)
    assert buttons(ask)["Keep my prediction"].disabled and not buttons(ask)["Skip"].disabled


def test_a_kept_prediction_stands_above_and_below_what_is_beside_it(ask):
    choice(ask).value = "lower <than>"
    keep = buttons(ask)["Keep my prediction"]
    assert not keep.disabled
    keep.click()
    assert ask.prediction == "lower <than>" and ask.answered
    text, kept = shown(ask), "You predicted: <b>lower &lt;than&gt;</b>"
    assert text.index(kept) < text.index("the panel") < text.rindex(kept)
    assert "Press <b>Start</b>." in shown(ask)
    assert buttons(ask) == {}


def test_skipping_unlocks_too_and_says_so(ask):
    buttons(ask)["Skip"].click()
    assert ask.prediction is None and ask.answered
    assert "You skipped" in shown(ask) and "Press <b>Start</b>." in shown(ask)


def test_the_buttons_are_plain_calls(ask):
    with pytest.raises(ValueError, match="expected one of 'higher'"):
        ask.keep("sideways")
    assert not ask.answered
    ask.keep("higher")
    for again in (ask.skip, lambda: ask.keep("higher")):
        with pytest.raises(ValueError, match="answered before"):
            again()
    assert ask.prediction == "higher"


def test_an_error_in_a_callback_is_shown_in_place(ask, monkeypatch):
    def broken(option):
        raise RuntimeError("no <luck>")

    monkeypatch.setattr(ask, "keep", broken)
    choice(ask).value = "higher"
    buttons(ask)["Keep my prediction"].click()
    assert "no &lt;luck&gt;" in shown(ask) and 'role="alert"' in shown(ask)


@pytest.mark.parametrize("options", [[], ["one"], ["same", "same"], "text"])
def test_options_that_are_no_choice(options):
    with pytest.raises(ValueError, match="at least two different answers"):
        fedlab.Prediction("What?", options, then="")


def test_it_stands_alone_too():
    alone = fedlab.Prediction("What?", OPTIONS, then="Go on.")
    alone.keep("higher")
    assert shown(alone).count("You predicted") == 1
