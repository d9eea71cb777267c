"""What the models read: ten test digits, a drawn one, and what is confused with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ipywidgets as widgets
import numpy as np

from fedlab.dashboard import views
from fedlab.dashboard.pad import DrawingPad
from fedlab.dashboard.session import Session

DIGITS = 10


class Reading:
    """Three widgets, `digits`, `draw` and `mistakes`, each brought up to date by its `show_`
    function when it is in sight.

    on_change: called with no argument when something was drawn.
    """

    def __init__(self, session: Session, on_change: Callable[[], None]):
        self._session = session
        self._test = session.mnist.test
        self._shown: dict[str, object] = {}
        self.digits, self.mistakes = widgets.HTML(), widgets.HTML()
        self.pad = DrawingPad()
        self._answers = widgets.HTML()
        self.draw = widgets.HBox([self.pad, self._answers])
        self.draw.add_class("fl-side")
        self.pad.observe(lambda _: on_change(), "pixels")

    def show_digits(self, round: int, when: str) -> None:
        """The first test digits, and what the global model of this round reads."""
        weights = self._session.models.global_of(round)
        if self._same("digits", round, weights is None, when):
            return
        if weights is None and round:
            self.digits.value = _missing(round)
            return
        ten = self._test.subset(np.arange(DIGITS))
        read = None if weights is None else self._session.read(weights, ten)
        self.digits.value = views.digits(ten.x, ten.y, read, when)

    def show_mistakes(self, round: int) -> None:
        """What the global model of this round confuses."""
        weights = self._session.models.global_of(round)
        if self._same("mistakes", round, weights is None):
            return
        if weights is None:
            self.mistakes.value = _missing(round)
            return
        read = self._session.read(weights, self._test)
        self.mistakes.value = views.mistakes(self._test.x, self._test.y, read)

    def show_answers(self, round: int, colours: Mapping[str, int]) -> None:
        """What the models of this round read in what was drawn."""
        weights, pixels = self._session.models.global_of(round), self.pad.pixels
        own = self._session.own_models(round)
        if self._same(
            "answers", round, weights is None, pixels, tuple(own), tuple(colours.items())
        ):
            return
        if weights is None:
            self._answers.value = _missing(round)
        elif not pixels:
            self._answers.value = (
                "<p>Draw a digit, large, in the middle. Every model says what it reads: the global"
                " one, and each client's own before it was averaged.</p>"
            )
        else:
            self._answers.value = views.answers(self._session.answers(pixels, round), colours)

    def _same(self, what: str, *key) -> bool:
        """Whether this is in sight already."""
        key = (self._session.models.run, *key)
        if self._shown.get(what) == key:
            return True
        self._shown[what] = key
        return False


def _missing(round: int) -> str:
    """Why there is no model to ask."""
    if round == 0:
        return "<p>No model yet: press Start training.</p>"
    return "<p>The model of this round is not kept any more.</p>"
