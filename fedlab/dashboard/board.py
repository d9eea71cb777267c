"""The Board: attacks in rows, defences in columns; predict a cell, then run it, live."""

from __future__ import annotations

import inspect
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from html import escape

import ipywidgets as widgets

from fedlab.attacks import parts_of
from fedlab.checks import Refused, whole
from fedlab.contest import Duel, duel, strategy_of
from fedlab.dashboard import views
from fedlab.dashboard.buttons import Buttons, images
from fedlab.dashboard.scripts import STATIC
from fedlab.data import Mnist
from fedlab.history import RoundRecord

DIVERGES = "it diverges"
CHOICES = {"under 50 %": 0.5, "50 to 85 %": 0.85, "85 to 92 %": 0.92, "over 92 %": 2.0}
"""What can be predicted, and the accuracy below which it is right (unless the choice before is). A
run that diverges is none of these: its answer is DIVERGES."""

BAND = 0.5
"""A trigger that works on so large a share of the images is marked by a red band."""

OPTIONS = frozenset(inspect.signature(duel).parameters) - {"attack", "defence", "mnist", "on_round"}

Cell = tuple[str, str]

LEGEND = (
    "".join(
        f'<span class="fb-chip fb-{number}">{choice}</span>'
        for number, choice in enumerate([*CHOICES, "diverged"])
    )
    + "<span>accuracy</span>"
    '<span class="fb-chip fb-band-chip">the trigger works in half of the images or more</span>'
)

# The board that was made last, weakly.
_current: Callable[[], Board | None] = lambda: None  # noqa: E731


class Stopped(Exception):
    """Somebody has pressed Stop: raised between two rounds of a duel."""


class Board(Buttons, widgets.VBox):
    """A grid of attacks and defences. Make one as the last line of a cell. A press on a cell asks
    for a prediction, then `fedlab.duel` runs in the background; a second press shows the curve.

    attacks:  name -> attack, as `duel` takes them; defences: name -> defence.
    mnist:    the data; `load_mnist()` if None.
    options:  of every duel: attackers, clients, images, deal, rounds, batch_size, learning_rate,
              seed.

    `results` has a Duel for each cell that was run, (attack, defence) -> Duel, `predictions` what
    was predicted. The buttons are plain calls too: `predict`, `run` (which waits for the result),
    `run_rest`, `stop`, `wait`; `table` is the whole board as text. A new board stops what the one
    before it still runs. Raises Refused for what is no attack, no defence or no option.
    """

    def __init__(
        self,
        attacks: Mapping[str, object],
        defences: Mapping[str, object],
        mnist: Mnist | None = None,
        **options,
    ):
        global _current
        for what, given in (("attacks", attacks), ("defences", defences)):
            if not isinstance(given, Mapping) or not given or not all(map(_is_name, given)):
                raise Refused(f"{what} is {given!r}; expected a dictionary: a name for each")
        if unknown := sorted(set(options) - OPTIONS):
            raise Refused(
                f"the board got the option {unknown[0]!r}; expected some of"
                f" {', '.join(sorted(OPTIONS))}"
            )
        for attack in attacks.values():
            if attack is not None:
                parts_of(attack)
        for defence in defences.values():
            strategy_of(defence)
        whole("rounds", options.get("rounds", 10))
        self.results: dict[Cell, Duel] = {}
        self.predictions: dict[Cell, str] = {}
        self._attacks, self._defences = dict(attacks), dict(defences)
        self._mnist, self._options = mnist, options
        self._rounds = options.get("rounds", 10)
        self._errors: dict[Cell, Exception] = {}
        self._queue: deque[Cell] = deque()
        self._now: Cell | None = None  # which is being run
        self._done = 0  # rounds of it
        self._picked: Cell | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # guards what is asked for, and tells when it is done
        self._drawing = threading.Lock()
        if (before := _current()) is not None:
            before.stop()
        self._make_widgets()
        super().__init__(self._layout())
        self.add_class("fedlab")
        self.add_class("fedlab-board")
        self._draw()
        _current = weakref.ref(self)

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def predict(self, attack: str, defence: str, choice: str) -> None:
        """Keep a prediction for a cell: one of "under 50 %", "50 to 85 %", "85 to 92 %", "over 92
        %" and "it diverges". Raises Refused for another, or for a cell that has been run.
        """
        cell = self._cell(attack, defence)
        if choice not in (*CHOICES, DIVERGES):
            expected = ", ".join(map(repr, (*CHOICES, DIVERGES)))
            raise Refused(f"the prediction is {choice!r}; expected one of {expected}")
        if cell in self.results:
            raise Refused(
                f"{_of(cell)} has been run; expected a prediction before that: take another cell"
            )
        self.predictions[cell] = choice
        self._draw()

    def run(self, attack: str, defence: str) -> Duel:
        """Run a cell now and wait for its result; one that has been run is only returned. What was
        asked for before goes on afterwards. Raises Refused for names that are not on the board, and
        whatever the attack or the defence raises; RuntimeError when it was stopped.
        """
        cell = self._cell(attack, defence)
        with self._changed:
            if cell in self.results:
                return self.results[cell]
            if cell != self._now:
                if cell in self._queue:
                    self._queue.remove(cell)
                self._queue.appendleft(cell)
        self._begin()
        try:
            with self._changed:
                self._changed.wait_for(lambda: cell != self._now and cell not in self._queue)
        except KeyboardInterrupt:  # the cell that waits was interrupted: so is what it waits for
            self.stop()
            raise
        if cell in self._errors:
            raise self._errors[cell]
        if cell not in self.results:
            raise RuntimeError(f"{_of(cell)} was stopped; run it again for a result")
        return self.results[cell]

    def run_rest(self) -> None:
        """As Run all the rest: every cell that has no result, one after the other, in the
        background.
        """
        with self._changed:
            taken = {self._now, *self._queue, *self.results}
            cells = [(a, d) for a in self._attacks for d in self._defences]
            self._queue.extend(cell for cell in cells if cell not in taken)
        self._begin()

    def stop(self) -> None:
        """As Stop: end what runs after its round, and forget what waits. Results stay."""
        with self._changed:
            self._queue.clear()
            self._stopping = self._now is not None
            self._changed.notify_all()
        self._draw()

    def wait(self, timeout: float = 600.0) -> dict[Cell, Duel]:
        """Wait until nothing runs any more, and return the results. Raises TimeoutError after
        `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while (thread := self._thread) is not None:
            thread.join(max(end - time.monotonic(), 0.0))
            if thread.is_alive():
                raise TimeoutError(f"the board did not end within {timeout:.0f} s")
        return self.results

    def table(self) -> str:
        """The board as text: accuracy in %, and where there is a backdoor, after a stroke how often
        the trigger works. A cell that was not run is a dot.
        """
        wide = max(14, *map(len, self._attacks))
        rows = [["", *self._defences]]
        rows += [[a, *(self._short((a, d)) for d in self._defences)] for a in self._attacks]
        apart = [max(map(len, column)) for column in zip(*rows, strict=True)][1:]
        return "\n".join(
            f"{name:{wide}}" + "".join(f"  {row[k]:>{apart[k]}}" for k in range(len(apart)))
            for name, *row in rows
        )

    # ---- what is so ------------------------------------------------------------------------------

    def _cell(self, attack: str, defence: str) -> Cell:
        for what, name, known in (
            ("attack", attack, self._attacks),
            ("defence", defence, self._defences),
        ):
            if name not in known:
                expected = ", ".join(map(repr, known))
                raise Refused(f"the board has no {what} {name!r}; expected one of {expected}")
        return attack, defence

    def _has_trigger(self, attack: str) -> bool:
        given = self._attacks[attack]
        several = given if isinstance(given, (list, tuple)) else [given]
        return any(hasattr(one, "success_rate") for one in several)

    def _short(self, cell: Cell) -> str:
        found = self.results.get(cell)
        if found is None:
            return "."
        first = "diverged" if found.ended else f"{100 * found.accuracy:.1f}"
        return f"{first}/{100 * found.trigger:.0f}" if self._has_trigger(cell[0]) else first

    def _sentence(self, cell: Cell) -> str:
        """A result in words."""
        found = self.results[cell]
        end = f", diverged in round {len(found.history) + 1}; before that" if found.ended else ":"
        said = f"{_of(cell)}{end} accuracy {views.percent(found.accuracy)}"
        if self._has_trigger(cell[0]):
            said += f", the trigger works on {views.percent(found.trigger)} of the images"
        if guess := self.predictions.get(cell):
            right = "right" if guess == answer(found) else "not so"
            said += f". You predicted {guess}: {right}"
        return f"{said}."

    # ---- the thread, which is there as long as something runs ------------------------------------

    def _begin(self) -> None:
        """Start the thread if there is something to do and none is at it."""
        with self._changed:
            if self._queue and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fedlab-board", daemon=True)
                self._thread.start()
        self._draw()

    def _work(self) -> None:
        while (cell := self._next()) is not None:
            try:
                self._say(f"{_of(cell)} begins.")
                self._draw()
                found = self._play(cell)
            except Stopped:
                self._say(f"{_of(cell)} was stopped.")
            except Exception as error:  # of an attack or a defence that somebody has written
                self._errors[cell] = error
                self._show_error(error)
            else:
                if found is not None:
                    self.results[cell], self._picked = found, cell
                    self._errors.pop(cell, None)
                    self._say(self._sentence(cell))
            with self._changed:
                self._now = None
                self._changed.notify_all()
            self._draw()
        self._draw()

    def _next(self) -> Cell | None:
        with self._changed:
            self._done, self._stopping = 0, False
            if not self._queue:
                self._thread = None  # whoever asks now starts another
                return None
            self._now = self._queue.popleft()
            self._errors.pop(self._now, None)
            return self._now

    def _play(self, cell: Cell) -> Duel:
        def on_round(record: RoundRecord) -> None:
            self._done = record.round
            if self._stopping:
                raise Stopped
            self._draw()

        self._mnist = images(self._mnist)
        attack, defence = cell
        return duel(
            self._attacks[attack],
            self._defences[defence],
            self._mnist,
            on_round=on_round,
            **self._options,
        )

    # ---- widgets ---------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self._rest = self._button(
            "Run all the rest", self.run_rest, "Every cell that has no result, one by one"
        )
        self._stop = self._button(
            "Stop", self.stop, "End what runs; results stay", "danger", "stop"
        )
        self._bar = widgets.IntProgress(0, 0, self._rounds)
        self._words, self._live, self._shown = (widgets.HTML() for _ in range(3))
        self._words.add_class("fb-words")
        self._live.add_class("fb-live")
        self._question = widgets.HTML()
        self._choices = [
            self._button(choice, self._chooser(choice), f"Predict: {choice}; then it runs")
            for choice in (*CHOICES, DIVERGES)
        ]
        self._skip = self._button("Skip", self._chooser(None), "Run it without a prediction")
        self._cells = {}
        for attack in self._attacks:
            for defence in self._defences:
                button = widgets.Button()
                button.add_class("fb-cell")
                button.on_click(self._guard(self._picker((attack, defence))))
                self._cells[attack, defence] = button

    def _layout(self) -> list[widgets.Widget]:
        style = widgets.HTML(views.STYLE + f"<style>{(STATIC / 'board.css').read_text()}</style>")
        style.add_class("fl-style")
        bar = widgets.HBox([self._rest, self._stop, self._bar, self._words])
        bar.add_class("fb-bar")
        self._ask = widgets.HBox([self._question, *self._choices, self._skip])
        self._ask.add_class("fb-ask")
        heads = [_head("fb-column", name) for name in self._defences]
        inside = [_head("fb-corner", ""), *heads]
        for attack in self._attacks:
            inside.append(_head("fb-row", attack))
            inside += [self._cells[attack, defence] for defence in self._defences]
        columns = f"minmax(84px, 1.38fr) repeat({len(self._defences)}, minmax(0, 1fr))"
        grid = widgets.GridBox(inside, layout={"grid_template_columns": columns})
        grid.add_class("fb-grid")
        legend = widgets.HTML(f'<div class="fb-legend">{LEGEND}</div>')
        return [style, bar, self._ask, grid, legend, self._shown, self._live]

    def _picker(self, cell: Cell) -> Callable[[], None]:
        def pick() -> None:
            self._picked = cell
            if cell not in self.results:
                self._say(f"{_of(cell)}: choose a prediction.")
            self._draw()
            if cell not in self.results and self._thread is None:
                self._choices[0].focus()  # for who has come by keyboard

        return pick

    def _chooser(self, choice: str | None) -> Callable[[], None]:
        def choose() -> None:
            cell = self._picked
            with self._changed:
                # A second press comes when it runs already, or has run
                if cell is None or self._thread is not None or cell in self.results:
                    return
                if choice is not None:
                    self.predictions[cell] = choice
                self._queue.append(cell)
            self._begin()
            self._cells[cell].focus()  # what was pressed is pale now, and has lost it

        return choose

    def _say(self, text: str) -> None:
        """What a screen reader reads aloud, and the line above the board."""
        self._words.value = f"<div>{escape(text)}</div>"
        self._live.value = f'<div role="status" aria-live="polite">{escape(text)}</div>'

    def _show_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self._words.value = f'<div role="alert">{views.message(text, error=True)}</div>'

    def _draw(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        with self._drawing:
            busy = self._thread is not None
            now, picked = self._now, self._picked
            self._rest.disabled = busy or len(self.results) == len(self._cells)
            self._stop.disabled = not busy or self._stopping
            self._bar.value = self._done if now else 0
            self._bar.layout.visibility = "visible" if now else "hidden"
            if now and self._done:
                told = f"{_of(now)}: round {self._done} of {self._rounds}"
                self._words.value = f"<div>{escape(told)}</div>"
            asking = picked is not None and picked not in self.results and not busy
            for button in (*self._choices, self._skip):
                button.disabled = not asking
            self._question.value = _asked(picked if asking else None)
            for cell, button in self._cells.items():
                self._draw_cell(cell, button, busy)
            found = self.results.get(picked)
            self._shown.value = found._repr_html_() if found and not now else ""

    def _draw_cell(self, cell: Cell, button: widgets.Button, busy: bool) -> None:
        found, guess = self.results.get(cell), self.predictions.get(cell)
        lines, look = ["?"], ["fb-empty"]
        if cell == self._now:
            lines, look = [f"{self._done}/{self._rounds}"], ["fb-now"]
        elif found is not None:
            lines, look = self._filled(cell, found)
        elif cell in self._errors:
            lines, look = ["error"], ["fb-error"]
        elif cell in self._queue:
            lines, look = ["waits"], ["fb-waits"]
        if guess:
            sign = "" if found is None else "✓ " if guess == answer(found) else "✗ "
            lines.append(sign + guess.removesuffix(" %").removeprefix("it "))
        if cell == self._picked:
            look.append("fb-picked")
        # The last line is below the cell's edge: for screen readers, which read only the text
        button.description = "\n".join([*lines, *[""] * (3 - len(lines)), _of(cell)])
        button.tooltip = self._sentence(cell) if found is not None else f"Predict {_of(cell)}"
        button.disabled = busy and found is None and cell != self._now
        classes = [name for name in button._dom_classes if not name.startswith("fb-")]
        button._dom_classes = (*classes, "fb-cell", *look)

    def _filled(self, cell: Cell, found: Duel) -> tuple[list[str], list[str]]:
        lines, look = [f"{100 * found.accuracy:.1f}"], [f"fb-{bin_of(found)}"]
        if found.ended:
            lines = ["diverged"]
        if self._has_trigger(cell[0]):
            lines.append(f"trigger {100 * found.trigger:.0f}")
            if found.trigger >= BAND:
                look.append("fb-band")
        return lines, look


def bin_of(found: Duel) -> int:
    """Which of the choices is the answer, by number: the colour of the cell."""
    if found.ended:
        return len(CHOICES)
    return next(k for k, below in enumerate(CHOICES.values()) if found.accuracy < below)


def answer(found: Duel) -> str:
    """What would have been the right prediction."""
    return (*CHOICES, DIVERGES)[bin_of(found)]


def _is_name(name) -> bool:
    return isinstance(name, str) and bool(name.strip())


def _of(cell: Cell) -> str:
    return f"{cell[0]} against {cell[1]}"


def _asked(cell: Cell | None) -> str:
    if cell is None:
        return '<div class="fl-soft">Press a cell with a question mark.</div>'
    attack, defence = map(escape, cell)
    return f"<div><b>{attack}</b> against <b>{defence}</b>?</div>"


def _head(look: str, text: str) -> widgets.HTML:
    head = widgets.HTML(f"<div>{escape(text)}</div>")
    head.add_class(look)
    return head
