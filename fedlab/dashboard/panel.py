"""The Dashboard: what stands where, what the buttons do, and the one thread that keeps the panel up
to date.

A button's callback only leaves a note for that thread (callbacks must return at once, and may run
on any thread); the thread does what the note says through the Session, then sets the widgets'
traits to what it finds. What only widgets are about happens in the callback itself, whatever thread
that is on: adding and removing a card, a slider and its number boxes following each other, the
address with its token, the settings of a strategy, slow motion's next step. Widgets allow that; so
nothing here relies on being alone with them.
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
from fedlab.dashboard.buttons import Buttons, images
from fedlab.dashboard.cards import Cards
from fedlab.dashboard.controls import Controls
from fedlab.dashboard.curve import Curve
from fedlab.dashboard.details import Details
from fedlab.dashboard.glance import Glance, facts, header, look, read_aloud
from fedlab.dashboard.scene import scene
from fedlab.dashboard.session import ALONE, POOLED, Session
from fedlab.dashboard.stage import RoundPicture, Stage
from fedlab.data import NUM_SHARDS, Mnist
from fedlab.history import History
from fedlab.settings import Settings

THREE = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}
RECENT = 3.0  # seconds for which a request is told to the picture

BEGINS = ("start", "one round", "compare")
"""What is asked for once: a second press does nothing."""

# The panel that is in use, weakly.
_current: Callable[[], Dashboard | None] = lambda: None  # noqa: E731


class Dashboard(Buttons, widgets.VBox):
    """The panel. Make one as the last line of a cell; the cell returns at once, and TensorFlow
    loads while you read.

    mnist:    the data; `load_mnist()` if None.
    clients:  name -> (first, last) shards; three clients with four shards each if None.
    host, port: where its server listens, as in `Server`: host="0.0.0.0" lets a class join.
    settings: where the sliders stand at first: rounds, fraction, epochs, batch_size, learning_rate,
              optimizer, strategy, strategy_settings, seed, enough, deadline, sampling, secure,
              codec.

    A new panel (or the same cell run again) closes the one before it. Every control is a plain call
    too: `start`, `one_round`, `stop`, `reset`, `slow_motion`, `next_step`, `compare`, `wait`, and
    `history`. Raises Refused or DataError for settings that cannot be.
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
        self._mnist, before = images(mnist), _current()
        self._session = Session(self._mnist, host, port)
        self._todo: deque[tuple[str, Callable[[], None]]] = deque()
        self._wake = threading.Event()
        self._before = before._thread if before is not None else None
        self._closing = self._ready = self._failed = False
        self._was_running = self._run_failed = False
        self._error: Exception | None = None  # which `wait` raises
        self._trouble = ""  # the same as a sentence, until something is changed
        self._make_widgets(first)
        super().__init__(self._layout())
        self.add_class("fedlab")
        self.add_class("fedlab-panel")
        if before is not None:  # not sooner: it stays where this one cannot be made
            before.shutdown()
        self._thread = threading.Thread(target=self._keep_up, name="fedlab-panel", daemon=True)
        self._thread.start()
        _current = weakref.ref(self)

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def start(self) -> None:
        """As Start training: a new run with the current settings, in the background. Does nothing
        while one is going on.
        """
        self._do("start", lambda: self._session.begin(self.settings))

    def one_round(self) -> None:
        """As One round: one round more with the current settings. Does nothing while a run is going
        on.
        """
        self._do("one round", lambda: self._session.one_round(self.settings))

    def stop(self) -> None:
        """As Stop: end the run, or the comparison, now."""
        self._do("stop", self._session.stop)

    def reset(self) -> None:
        """As Reset: forget the model and all runs; the sliders stay."""
        self._do("reset", self._session.reset)

    def slow_motion(self, slow: bool) -> None:
        """As Slow motion: a run waits before each step of a round for `next_step`."""
        self._slow.value = bool(slow)

    def next_step(self) -> None:
        """As Next step, and the key N: in slow motion, what waits goes on. Does nothing while
        something still moves.
        """
        if self._session.server is not None and self._session.waiting_before:
            self._session.gate.go_on()
            self._wake.set()

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
        return self._controls.settings(self._cards.shards)

    @property
    def server(self):
        """The panel's Server; None while TensorFlow is loading."""
        return self._session.server

    def shutdown(self) -> None:
        """Stop the run, the clients and the server. A closed panel stays closed: make a new one."""
        self._closing = True
        self._session.gate.end()
        self._wake.set()

    # ---- widgets ---------------------------------------------------------------------------------

    def _make_widgets(self, settings: Settings) -> None:
        self._start = self._button(
            "Start training", self.start, "Train a new model from the beginning", "success", "play"
        )
        self._one = self._button("One round", self.one_round, "Train one round more, then wait")
        self._stop = self._button(
            "Stop", self.stop, "End the run now; what was learned stays", "danger", "stop"
        )
        self._reset = self._button(
            "Reset", self.reset, "Forget the model and all runs; the sliders stay"
        )
        self._slow = widgets.ToggleButton(
            False, description="Slow motion", tooltip="A round step by step"
        )
        self._slow.add_class("fl-switch")
        self._slow.observe(self._slow_changed, "value")
        self._next = self._button("Next step", self.next_step, "What waits goes on (key N)")
        self._stage = Stage(self.next_step)
        self._header, self._guests, self._words = (widgets.HTML() for _ in range(3))
        self._header.add_class("fl-header")
        self._picture = RoundPicture()
        self._curve = Curve(self._wake.set)
        for button, action in {
            self._curve.alone: lambda: self.compare(ALONE),
            self._curve.pooled: lambda: self.compare(POOLED),
            self._curve.png: self._save_png,
            self._curve.csv: self._save_csv,
        }.items():
            button.on_click(self._guard(action))
        self._change = self._button("Change settings", self._fold_controls, "")
        self._change.add_class("fl-fold")
        self._add = self._button("+ client", self._add_client, f"One more, up to {NUM_SHARDS}")
        self._controls = Controls(settings, self._changed)
        self._cards = Cards(settings.shards, self._changed, self._session.forget)
        self._details = Details(self._session, self._wake.set)
        self._details.show_url.on_click(
            self._guard(
                lambda: self._details.reveal(self._cards.free_name(self._session.guest_names))
            )
        )

    def _layout(self) -> list[widgets.Widget]:
        style = widgets.HTML(views.STYLE)
        style.add_class("fl-style")
        buttons = [self._start, self._one, self._stop, self._reset, self._slow, self._next]
        bar = widgets.HBox([*buttons, self._stage])
        bar.add_class("fl-bar")
        main = widgets.Box([self._picture, self._curve])
        main.add_class("fl-main")
        line = widgets.HBox([self._words, self._change, self._add])
        line.add_class("fl-settings")
        self._controls.layout.display = "none"
        below = [self._cards, self._guests, line, self._controls, self._details]
        return [style, bar, self._header, main, *below]

    def _add_client(self) -> None:
        in_sight = {name for record in self.history for name in record.clients}
        self._cards.add(self._session.guest_names, in_sight | set(self._session.guest_names))

    def _fold_controls(self) -> None:
        unfold = self._controls.layout.display == "none"
        self._controls.layout.display = None if unfold else "none"
        (self._change.add_class if unfold else self._change.remove_class)("fl-on")
        self._change.description = "Fold settings" if unfold else "Change settings"

    def _slow_changed(self, change) -> None:
        self._session.gate.set_slow(change["new"])
        self._wake.set()

    def _save_png(self) -> None:
        self._stage.save("fedlab-curve.png", "image/png", self._curve.as_png())

    def _save_csv(self) -> None:
        self._stage.save("fedlab-rounds.csv", "text/csv", self.history.to_csv().encode())

    def _changed(self) -> None:
        """A slider was moved: what was wrong before may be right now."""
        self._trouble = ""
        self._wake.set()

    # ---- the thread that keeps the panel up to date ----------------------------------------------

    def _do(self, what: str, action: Callable[[], None]) -> None:
        if self._closing:
            raise RuntimeError("this panel is closed; expected a new one: run its cell again")
        if what == "stop":
            self._todo.clear()  # whatever was asked for before it is not wanted any more
            self._session.gate.end()
        asked = {waiting for waiting, _ in list(self._todo)}
        begun = self._session.running or self._session.comparing
        if what in BEGINS and (asked & set(BEGINS) or (begun and "stop" not in asked)):
            return
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
            said = "This panel is closed. Run the cell again to open it anew."
            self._header.value = views.header("closed", False, said, "–", "")
            for button in self._buttons():
                button.disabled = True

    def _buttons(self) -> list[widgets.Widget]:
        of_curve = [self._curve.alone, self._curve.pooled, self._curve.png, self._curve.csv]
        row = [self._start, self._one, self._stop, self._reset, self._slow, self._next, self._add]
        return [*row, *of_curve]

    def _work_off(self) -> None:
        while self._ready and not self._closing:
            try:
                asked = self._todo[0]  # it stays there until it is done: `wait` looks
            except IndexError:
                return
            _, action = asked
            try:
                self._error, self._trouble, self._run_failed = None, "", False
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
        self._trouble = str(error) or type(error).__name__

    def _look(self, mistake: str) -> Glance:
        back = self._curve.looking_back
        failed = self._failed or self._run_failed
        return look(self._session, back, self._ready, failed, self._trouble, mistake)

    def _refresh(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        session = self._session
        if self._was_running and not session.running:
            self._run_ended()
        if session.running:
            session.let_go()
        if session.baseline_error is not None:
            self._show_error(session.baseline_error)
            session.baseline_error = None
        self._curve.follow(len(session.history))
        settings, mistake = None, ""
        try:
            settings = self.settings
            settings.check()
        except Refused as error:
            mistake = str(error)
        self._cards.name_colours(self._session.guest_names)
        now = self._look(mistake)
        self._header.value = header(now, len(self._mnist.test))
        self._refresh_controls(now)
        for card in self._cards.children:
            status = session.status(card.client)
            card.show(status.message if status and status.phase == "failed" else "")
        self._guests.value = views.guests(session.guests)
        possible = None if mistake else settings
        if possible is not None:
            self._words.value = views.words(possible, possible.make_strategy().name)
        self._refresh_picture(now)
        self._refresh_curve(now)
        name = self._cards.free_name(self._session.guest_names)
        self._details.refresh(now, possible, self._cards.colours, name)

    def _run_ended(self) -> None:
        self._session.settle()
        try:
            self._session.federation.wait()
        except Exception as error:  # what the run raised in the background
            self._run_failed = True
            self._show_error(error)
        self._was_running = False  # last: `wait` returns when nothing is left of the run

    def _refresh_controls(self, now: Glance) -> None:
        idle = self._ready and not now.busy and not self._closing
        none = not self._cards.children
        for button in (self._start, self._one, self._curve.alone, self._curve.pooled):
            button.disabled = not idle or none
        self._stop.disabled = not now.busy
        runs = len(now.history) or self._session.earlier or self._session.baselines
        self._reset.disabled = not idle or not runs
        self._slow.disabled = not self._ready
        self._next.disabled = not now.held
        self._add.disabled = now.busy or len(self._cards.children) >= NUM_SHARDS
        self._curve.csv.disabled = not len(now.history)
        self._controls.set_disabled(now.busy)
        try:
            self._controls.cost.value = views.cost(self.settings)
        except Refused:  # two clients with one name, while it is being typed
            self._controls.cost.value = ""
        self._cards.set_disabled(now.busy)

    def _refresh_picture(self, now: Glance) -> None:
        session = self._session
        examples = {card.client: card.num_examples for card in self._cards.children}
        examples |= {guest.client: guest.num_examples for guest in session.guests}
        recent = time.time() - RECENT
        wire = list(session.server.wire)[-60:] if session.server else []
        self._picture.scene = scene(
            facts(now, session, examples, self._cards.colours),
            [request for request in wire if request.time > recent],
            read_aloud(now),
        )

    def _refresh_curve(self, now: Glance) -> None:
        current = self._session.settings
        runs = self._session.earlier if current else []
        self._curve.show(
            now.seen,
            whole=now.history,
            # The runs before this one, named by what was different then
            earlier=[(its.difference(current), run) for its, run in runs],
            baselines=self._session.baselines,
            special=self._session.compared_with() if len(now.history) else "",
            rounds=now.planned if len(now.history) else self._controls.rounds.value,
            colours=self._cards.colours,
        )
