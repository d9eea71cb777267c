"""A question that is answered before a run: predict, then move a slider, then explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets

from fedlab.checks import Refused
from fedlab.dashboard import views

LOOK = """<style>
.fedlab-prediction { border: 1px solid #bbb; border-left: 5px solid #3f6fb5; margin: 4px 0; }
.fedlab-prediction .fl-question { font-size: 17px; font-weight: 600; }
.fedlab-prediction .fl-predicted { background: #e8eef8; padding: 4px 10px; }
</style>"""


class Prediction(widgets.VBox):
    """One question. What to do now appears when a prediction is kept or skipped, and the prediction
    stays in sight above it.

    question: plain text. options: the answers to choose from, at least two, all different.
    then:     HTML: what to do now.
    beside:   a widget to show below that, such as the panel in which to do it, so that the
              prediction stands beside the result.

    `prediction` is the option that was kept: None before that, and after a skip. The buttons are
    plain calls too: `keep(option)`, `skip()`.
    Raises Refused for fewer than two options, or two that are the same.
    """

    def __init__(
        self, question: str, options: Sequence[str], then: str, beside: widgets.Widget | None = None
    ):
        if isinstance(options, str) or len(set(options)) < max(len(options), 2):
            raise Refused(
                f"options is {options!r}; expected at least two different answers, such as"
                " ['higher', 'lower']"
            )
        self.prediction: str | None = None
        self.answered = False
        self._options, self._then, self._beside = list(options), then, beside
        self._choice = widgets.RadioButtons(
            options=self._options, value=None, layout={"width": "auto"}
        )
        self._keep = widgets.Button(
            description="Keep my prediction",
            button_style="success",
            disabled=True,
            layout={"width": "auto"},
        )
        self._skip = widgets.Button(
            description="Skip", tooltip="Go on without a prediction", layout={"width": "90px"}
        )
        self._trouble = widgets.HTML()
        self._choice.observe(
            self._guard(lambda: setattr(self._keep, "disabled", self._choice.value is None)),
            "value",
        )
        self._keep.on_click(self._guard(lambda: self.keep(self._choice.value)))
        self._skip.on_click(self._guard(self.skip))
        self._question = widgets.HTML(f'<div class="fl-question">{escape(question)}</div>')
        buttons = widgets.HBox([self._keep, self._skip])
        super().__init__(
            [widgets.HTML(views.STYLE + LOOK), self._question, self._choice, buttons, self._trouble]
        )
        self.add_class("fedlab")
        self.add_class("fedlab-prediction")

    def keep(self, option: str) -> None:
        """As Keep my prediction, with this option chosen. Raises Refused for another than those
        offered, or a second answer.
        """
        if option not in self._options:
            raise Refused(
                f"the prediction is {option!r}; expected one of"
                f" {', '.join(map(repr, self._options))}"
            )
        self._answer(f"You predicted: <b>{escape(option)}</b>")
        self.prediction = option

    def skip(self) -> None:
        """As Skip: go on without a prediction. Raises Refused when it was answered before."""
        self._answer("You skipped the prediction.")

    def _answer(self, said: str) -> None:
        if self.answered:
            raise Refused(
                "this question was answered before; expected one answer: run its cell again for"
                " another"
            )
        self.answered = True
        said = f'<div role="status" class="fl-predicted">{said}</div>'
        now = widgets.HTML(said + f'<div class="fl-then">{self._then}</div>')
        # Once more below what is beside it, which may be taller than the screen: prediction and
        # result are seen together.
        beside = (
            [self._beside, widgets.HTML(said.replace('role="status" ', ""))] if self._beside else []
        )
        self.children = [self.children[0], self._question, now, *beside]

    def _guard(self, action: Callable[[], None]) -> Callable:
        """A callback that shows its error here: otherwise it goes to a log that nobody reads."""

        def guarded(_) -> None:
            try:
                action()
            except Exception as error:
                said = views.message(str(error) or type(error).__name__, error=True)
                self._trouble.value = f'<div role="alert">{said}</div>'

        return guarded
