"""The Dashboard: layout, buttons, and the one thread that keeps the panel up to date.

A button's callback only leaves a note for that thread (callbacks must return at once, and may run
on any thread); the thread does what the note says through the Session, then sets the widgets'
traits to what it finds. What only widgets are about happens in the callback itself, whatever thread
that is on: adding and removing a card, a slider and its number boxes following each other, the
address with its token, the settings of a strategy, the sentence for a mistake. Widgets allow that;
so nothing here relies on being alone with them.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

import ipywidgets as widgets

from fedlab.checks import Refused
from fedlab.dashboard import views
from fedlab.dashboard.card import NAMES, ClientCard
from fedlab.dashboard.controls import Controls
from fedlab.dashboard.session import ALONE, POOLED, Session
from fedlab.data import NUM_SHARDS, DataError, Mnist, load_mnist
from fedlab.history import History
from fedlab.plots import picture, plot_history, plot_partition
from fedlab.settings import Settings

PLOT = (625, 430)  # pixels on the screen
DIGITS = (310, 215)
BLUE, GREEN, GREY, RED = "#3f6fb5", "#2a7f3f", "#5a6068", "#bd1f01"
THREE = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}

# The panel that is in use, weakly.
_current: Callable[[], Dashboard | None] = lambda: None  # noqa: E731


class Dashboard(widgets.VBox):
    """The panel. Make one as the last line of a cell; the cell returns at once, and TensorFlow
    loads while you read.

    mnist:    the data; `load_mnist()` if None.
    clients:  name -> (first, last) shards; three clients with four shards each if None.
    host, port: where its server listens, as in `Server`: host="0.0.0.0" lets a class join.
    settings: where the sliders stand at first: rounds, fraction, epochs, batch_size, learning_rate,
              optimizer, strategy, strategy_settings, seed.

    A new panel (or the same cell run again) closes the one before it. Every control is a plain call
    too: `start`, `one_round`, `stop`, `reset`, `wait`, and `history`. Raises Refused or DataError
         for settings that cannot be.
    """

    def __init__(
        self,
        mnist: Mnist | None = None,
        clients: Mapping[str, tuple[int, int]] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        **settings,
    ):
        global _current
        shards = dict(THREE if clients is None else clients)
        first = Settings(shards, **settings)
        first.check()
        self._mnist = mnist if mnist is not None else load_mnist()
        if (before := _current()) is not None:
            before.shutdown()
        self._session = Session(self._mnist, host, port)
        self._todo: deque[tuple[str, Callable[[], None]]] = deque()
        self._wake = threading.Event()
        self._before = before._thread if before is not None else None
        self._closing = self._ready = self._failed = False
        self._was_running = False
        self._error: Exception | None = None
        self._drawn: dict[str, object] = {}
        self._make_widgets(first)
        super().__init__(self._layout())
        self.add_class("fedlab")
        self.add_class("fedlab-panel")
        self._thread = threading.Thread(target=self._keep_up, name="fedlab-panel", daemon=True)
        self._thread.start()
        _current = weakref.ref(self)

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def start(self) -> None:
        """As Start training: a new run with the current settings, in the background."""
        self._do("start", lambda: self._session.begin(self.settings))

    def one_round(self) -> None:
        """As One round: one round more with the current settings."""
        self._do("one round", lambda: self._session.one_round(self.settings))

    def stop(self) -> None:
        """As Stop: end the run, or the comparison, now."""
        self._do("stop", self._session.stop)

    def reset(self) -> None:
        """As Reset: forget the model and all runs; the sliders stay."""
        self._do("reset", self._session.reset)

    def compare(self, kind: str) -> None:
        """As the two Compare buttons: kind is "each client alone" or "all data in one place".
        Raises Refused for another.
        """
        if kind not in (ALONE, POOLED):
            raise Refused(f"kind is {kind!r}; expected {ALONE!r} or {POOLED!r}")
        self._do("compare", lambda: self._session.compare(kind, self.settings))

    def wait(self, timeout: float = 600.0) -> History:
        """Wait until nothing runs any more, and return the history. Raises what went wrong, or
        TimeoutError after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while (
            self._thread.is_alive()
            and not self._failed
            and (not self._ready or self._todo or self._was_running or self._session.busy)
        ):
            if time.monotonic() > end:
                raise TimeoutError(f"the run did not end within {timeout:.0f} s")
            time.sleep(0.05)
        if self._error is not None:
            raise self._error
        return self.history

    @property
    def history(self) -> History:
        """The current run's rounds."""
        return self._session.history

    @property
    def settings(self) -> Settings:
        """What the sliders say now. Raises Refused when two clients have one name."""
        shards: dict[str, tuple[int, int]] = {}
        for card in self._cards:
            name = card.name.value.strip()
            if name in shards:
                raise Refused(
                    f"two clients are called {name!r}; expected a different name for each"
                )
            shards[name] = card.shards
        return self._controls.settings(shards)

    @property
    def server(self):
        """The panel's Server; None while TensorFlow is loading."""
        return self._session.server

    def shutdown(self) -> None:
        """Stop the run, the clients and the server. A closed panel stays closed: make a new one."""
        self._closing = True
        self._wake.set()

    # ---- widgets ---------------------------------------------------------------------------------

    def _make_widgets(self, settings: Settings) -> None:
        self._header, self._summary, self._guests = widgets.HTML(), widgets.HTML(), widgets.HTML()
        # Room for a sentence: nothing jumps when one comes
        self._message = widgets.HTML(layout=widgets.Layout(min_height="34px"))
        self._start = self._button(
            "Start training",
            self.start,
            "success",
            "Train a new model from the beginning with these settings",
        )
        self._one = self._button("One round", self.one_round, "", "Train one round more, then wait")
        self._stop = self._button(
            "Stop", self.stop, "danger", "End the run now; what was learned stays"
        )
        self._reset = self._button(
            "Reset", self.reset, "", "Forget the model and all runs; the sliders stay"
        )
        self._add = self._button(
            "Add client", self._add_client, "info", f"One more client, up to {NUM_SHARDS}"
        )
        self._alone = self._button(
            "each client alone",
            lambda: self.compare(ALONE),
            "",
            "Every client trains on its own images only",
        )
        self._pooled = self._button(
            "all data in one place",
            lambda: self.compare(POOLED),
            "",
            "One model trains on all the clients' images",
        )
        self._alone.layout.width, self._pooled.layout.width = "150px", "175px"
        self._whole = widgets.Checkbox(
            False, description="0-100 %", indent=False, layout=widgets.Layout(width="95px")
        )
        self._whole.tooltip = "Draw the whole accuracy axis"
        self._whole.observe(lambda _: self._wake.set(), "value")
        self._controls = Controls(settings, self._wake.set)
        self._cards = [
            self._card(i, name, *shards) for i, (name, shards) in enumerate(settings.shards.items())
        ]
        self._card_box = widgets.HBox(
            self._cards, layout=widgets.Layout(flex_flow="row wrap", grid_gap="8px")
        )
        self._plot = widgets.Image(format="png", width=PLOT[0], height=PLOT[1])
        self._digits = widgets.Image(format="png", width=DIGITS[0], height=DIGITS[1])
        self._table, self._wire, self._code, self._join = (widgets.HTML() for _ in range(4))
        self._show_url = self._button(
            "Show the address with its token", self._reveal, "", "Whoever has it may take part"
        )
        self._show_url.layout.width = "260px"

    def _layout(self) -> list[widgets.Widget]:
        folds = widgets.Accordion(
            [
                self._scrolled(self._table),
                self._code,
                self._scrolled(self._wire),
                widgets.VBox([self._join, self._show_url]),
            ],
            titles=(
                "Every round, as a table",
                "The same run as plain calls",
                "The wire: what was sent",
                "Join from another notebook or terminal",
            ),
        )
        return [
            widgets.HTML(views.STYLE),
            self._header,
            widgets.HBox([self._start, self._one, self._stop, self._reset, self._add]),
            self._message,
            self._card_box,
            self._guests,
            widgets.HBox(
                [
                    widgets.VBox(
                        [self._controls, self._digits], layout=widgets.Layout(width="325px")
                    ),
                    widgets.VBox(
                        [
                            self._plot,
                            widgets.HBox(
                                [
                                    widgets.Label("Compare with"),
                                    self._alone,
                                    self._pooled,
                                    self._whole,
                                ]
                            ),
                            self._summary,
                        ]
                    ),
                ]
            ),
            folds,
        ]

    @staticmethod
    def _scrolled(content: widgets.Widget) -> widgets.Box:
        return widgets.Box(
            [content], layout=widgets.Layout(max_height="260px", overflow="auto", display="block")
        )

    def _button(
        self, text: str, action: Callable[[], None], style: str, tooltip: str
    ) -> widgets.Button:
        button = widgets.Button(
            description=text,
            button_style=style,
            tooltip=tooltip,
            layout=widgets.Layout(width="140px"),
        )
        button.on_click(self._guard(action))
        return button

    def _card(self, number: int, name: str, first: int, last: int) -> ClientCard:
        return ClientCard(number, name, first, last, self._wake.set, self._remove_client)

    def _add_client(self) -> None:
        taken = {card.name.value for card in self._cards}
        name = next(
            name for name in [*NAMES, *(f"client {i}" for i in range(99))] if name not in taken
        )
        self._cards = [*self._cards, self._card(len(self._cards), name, 1, 1)]
        self._card_box.children = self._cards
        self._wake.set()

    def _remove_client(self, card: ClientCard) -> None:
        self._cards = [other for other in self._cards if other is not card]
        self._card_box.children = self._cards
        card.close()
        self._wake.set()

    def _reveal(self) -> None:
        if self.server is not None:
            self._join.value = views.join(self.server.address, self.server.url)

    def _guard(self, action: Callable[[], None]) -> Callable:
        """A callback that shows its error in the panel: otherwise it goes to a log that nobody
        reads.
        """

        def guarded(_) -> None:
            try:
                action()
            except Exception as error:
                self._show_error(error)

        return guarded

    # ---- the thread that keeps the panel up to date ----------------------------------------------

    def _do(self, what: str, action: Callable[[], None]) -> None:
        if self._closing:
            raise RuntimeError("this panel is closed; expected a new one: run its cell again")
        if what == "stop":
            self._todo.clear()  # whatever was asked for before it is not wanted any more
        self._todo.append((what, action))
        self._wake.set()

    def _keep_up(self) -> None:
        try:
            self._refresh()  # first of all: loading TensorFlow takes some seconds
            if self._before is not None:
                self._before.join(30)  # it may still hold the port that this panel is to have
            self._session.open(self._controls.settings({}))
            self._ready = True
        except Exception as error:  # shown in the panel, and raised by `wait`
            self._show_error(error)
            self._failed = True
        try:
            while not self._closing:
                self._refresh_or_say()
                self._wake.wait(0.2)
                self._wake.clear()
                self._work_off()
        finally:
            self._session.close()
            self._header.value = views.header(
                "closed", GREY, "run the cell again to open it anew", "this panel is closed", "–"
            )
            for button in (
                self._start,
                self._one,
                self._stop,
                self._reset,
                self._add,
                self._alone,
                self._pooled,
            ):
                button.disabled = True

    def _work_off(self) -> None:
        while self._ready and not self._closing:
            try:
                asked = self._todo[0]  # it stays there until it is done: `wait` looks
            except IndexError:
                return
            _, action = asked
            try:
                self._error, self._message.value = None, ""
                action()
                self._was_running = self._session.running or self._was_running
            except Exception as error:
                # A mistake in the settings, or a server that could not: a sentence, and it goes on.
                self._show_error(error)
            finally:
                # a `stop` has cleared it away meanwhile, and stands there itself
                with suppress(ValueError):
                    self._todo.remove(asked)

    def _show_error(self, error: Exception) -> None:
        self._error = error
        self._message.value = views.message(str(error) or type(error).__name__, error=True)

    def _refresh_or_say(self) -> None:
        """A picture that cannot be drawn, whatever the reason, must not end a run: the panel says
        so and goes on.
        """
        try:
            self._refresh()
        except Exception as error:
            self._show_error(error)

    def _refresh(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        session = self._session
        running, comparing = session.running, session.comparing
        if self._was_running and not running:
            self._run_ended()
        if session.baseline_error is not None:
            self._show_error(session.baseline_error)
            session.baseline_error = None
        history = session.history
        try:
            settings = self.settings
        except Refused as error:
            settings = None
            self._message.value = views.message(str(error), error=True)
        self._refresh_header(running, comparing, history)
        self._refresh_controls(running or comparing, comparing, history)
        for number, card in enumerate(self._cards):
            card.show(session.status(card.name.value.strip()), number)
        self._guests.value = views.guests(session.guests)
        self._summary.value = views.summary(
            history, self._rounds(history), [label for label, _ in self._earlier()]
        )
        self._table.value = views.rounds_table(history)
        if session.server is not None:
            self._wire.value = views.wire_table(session.server.wire, history)
            if "join" not in self._drawn:
                self._drawn["join"] = True
                self._join.value = views.join(session.server.address, None)
        if settings is not None and not any(card.mistake for card in self._cards):
            # A range that was mended in this very moment; the next pass draws it
            with suppress(DataError):
                self._code.value = views.code(settings.as_calls())
                self._draw_digits(settings)
        self._draw_plot(history)

    def _run_ended(self) -> None:
        self._session.settle()
        try:
            self._session.federation.wait()
        except Exception as error:  # what the run raised in the background
            self._show_error(error)
        self._was_running = False  # last: `wait` returns when nothing is left of the run

    def _rounds(self, history: History) -> int:
        status = self._session.federation.status() if self._session.server else None
        return status.rounds if status else 0

    def _refresh_header(self, running: bool, comparing: bool, history: History) -> None:
        server = self._session.server
        if server is None:
            self._header.value = views.header(
                "loading TensorFlow", GREY, "the server starts then", "about five seconds", "–"
            )
            return
        status, where = server.federation.status(), f"server {server.address}"
        accuracy = views.percent(history.last.accuracy) if history.last else "–"
        if running:
            done = history.last.round if history.last else 0
            where += (
                f" · waiting for {', '.join(status.waiting_for)}"
                if status.waiting_for
                else f" · {status.message}"
            )
            text, pill, colour = (
                f"round {min(done + 1, status.rounds) or 1} of {status.rounds}",
                "running",
                GREEN,
            )
        elif comparing:
            text, pill, colour = "computing a comparison", "comparing", BLUE
        else:
            text = f"{len(history)} rounds done" if len(history) else "press Start training"
            pill, colour = (
                ("failed", RED)
                if self._error
                else (status.message, GREY)
                if len(history)
                else ("ready", BLUE)
            )
        self._header.value = views.header(pill, colour, where, text, accuracy)

    def _refresh_controls(self, busy: bool, comparing: bool, history: History) -> None:
        idle = self._ready and not busy and not self._closing
        for button in (self._start, self._one):
            button.disabled = not idle or not self._cards
        self._alone.disabled = self._pooled.disabled = not idle or not self._cards
        self._stop.disabled = not busy
        self._reset.disabled = not idle or not (
            len(history) or self._session.earlier or self._session.baselines
        )
        self._add.disabled = busy or len(self._cards) >= NUM_SHARDS
        self._show_url.disabled = self._session.server is None
        self._controls.set_disabled(busy)
        for card in self._cards:
            card.set_disabled(busy, removable=len(self._cards) > 1)

    def _stale(self, name: str, key: object) -> bool:
        """Whether a picture must be drawn: its content is not what was drawn last."""
        if self._drawn.get(name) == key:
            return False
        self._drawn[name] = key
        return True

    def _draw_digits(self, settings: Settings) -> None:
        if self._stale("digits", tuple(settings.shards.items())):
            datasets = settings.datasets(self._mnist)
            self._digits.value = picture(lambda ax: plot_partition(datasets, ax), *DIGITS)

    def _earlier(self) -> list[tuple[str, History]]:
        """The runs before this one, named by what was different then."""
        current = self._session.settings
        return (
            [(f"earlier: {its.difference(current)}", run) for its, run in self._session.earlier]
            if current
            else []
        )

    def _draw_plot(self, history: History) -> None:
        session = self._session
        rounds = max(self._rounds(history), self._controls.rounds.value if not len(history) else 0)
        grown = tuple(
            (kind, tuple(len(run) for run in runs)) for kind, runs in session.baselines.items()
        )
        if not self._stale(
            "plot",
            (id(history), len(history), len(session.earlier), grown, self._whole.value, rounds),
        ):
            return
        earlier = self._earlier()
        baselines = {
            kind: runs for kind, runs in session.baselines.items() if any(len(run) for run in runs)
        }
        self._plot.value = picture(
            lambda ax: plot_history(
                history,
                ax,
                earlier=earlier,
                baselines=baselines,
                rounds=rounds,
                whole=self._whole.value,
            ),
            *PLOT,
        )
