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
from itertools import islice

import ipywidgets as widgets

from fedlab.checks import Refused, counted
from fedlab.dashboard import views
from fedlab.dashboard.card import NAMES, ClientCard
from fedlab.dashboard.controls import Controls
from fedlab.dashboard.curve import Curve
from fedlab.dashboard.drawing import drawing
from fedlab.dashboard.reading import Reading
from fedlab.dashboard.scene import HELD, Facts, scene
from fedlab.dashboard.session import ALONE, POOLED, Session
from fedlab.dashboard.stage import RoundPicture, Stage
from fedlab.dashboard.tabs import Tabs
from fedlab.data import NUM_SHARDS, DataError, Mnist, load_mnist
from fedlab.history import History
from fedlab.plots import plot_partition
from fedlab.settings import Settings

PARTITION = (520, 40)  # pixels: its width, and the height of a client's row
THREE = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}
RECENT = 3.0  # seconds for which a request is told to the picture

BEGINS = ("start", "one round", "compare")
"""What is asked for once: a second press does nothing."""

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
        self._error: Exception | None = None  # which `wait` raises
        self._trouble = ""  # the same as a sentence, until something is changed
        self._colours: dict[str, int] = {}  # client id -> its number, those of the past too
        self._make_widgets(first)
        super().__init__(self._layout())
        self.add_class("fedlab")
        self.add_class("fedlab-panel")
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
        """As One round: one round more with the current settings."""
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
        shards: dict[str, tuple[int, int]] = {}
        for card in self._cards:
            if card.client in shards:
                raise Refused(
                    f"two clients are called {card.client!r}; expected a different name for each"
                )
            shards[card.client] = card.shards
        return self._controls.settings(shards)

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
        self._cards = [self._card(name, *shards) for name, shards in settings.shards.items()]
        self._card_box = widgets.Box(self._cards)
        self._reading = Reading(self._session, self._wake.set)
        self._digits, self._table, self._wire, self._code, self._join = (
            widgets.HTML() for _ in range(5)
        )
        self._show_url = self._button("Show the address with its token", self._reveal, "")
        self._tabs = Tabs(
            {
                "What it reads": self._reading.digits,
                "Draw a digit": self._reading.draw,
                "Mistakes": self._reading.mistakes,
                "Their images": self._digits,
                "Table": self._table,
                "Plain calls": self._code,
                "Wire": self._wire,
                "Join": widgets.VBox([self._join, self._show_url]),
            },
            self._wake.set,
        )

    def _layout(self) -> list[widgets.Widget]:
        style = widgets.HTML(views.STYLE)
        style.add_class("fl-style")
        buttons = [self._start, self._one, self._stop, self._reset, self._slow, self._next]
        bar = widgets.HBox([*buttons, self._stage])
        bar.add_class("fl-bar")
        main = widgets.Box([self._picture, self._curve])
        main.add_class("fl-main")
        self._card_box.add_class("fl-cards")
        line = widgets.HBox([self._words, self._change, self._add])
        line.add_class("fl-settings")
        self._controls.layout.display = "none"
        below = [self._card_box, self._guests, line, self._controls, self._tabs]
        return [style, bar, self._header, main, *below]

    def _button(
        self,
        text: str,
        action: Callable[[], None],
        tooltip: str,
        style: str = "",
        icon: str = "",
    ) -> widgets.Button:
        button = widgets.Button(description=text, button_style=style, tooltip=tooltip, icon=icon)
        button.on_click(self._guard(action))
        return button

    def _card(self, name: str, first: int, last: int) -> ClientCard:
        """A card in a colour that nobody has who is to be seen."""
        taken = {card.colour for card in getattr(self, "_cards", [])}
        in_sight = {n for record in self.history for n in record.clients}
        past = {self._colours[n] for n in in_sight if n in self._colours}
        colour = _first_free(taken | past) if len(taken | past) < NUM_SHARDS else _first_free(taken)
        if not hasattr(self, "_cards"):  # the first ones
            colour = _first_free(set(self._colours.values()))
        self._colours[name] = colour
        return ClientCard(colour, name, first, last, self._changed, self._remove_client)

    def _add_client(self) -> None:
        name = self._free_name()
        self._session.forget(name)
        self._cards = [*self._cards, self._card(name, 1, 1)]
        self._card_box.children = self._cards
        self._changed()

    def _free_name(self) -> str:
        taken = {card.client for card in self._cards}
        taken |= {member.client for member in self._session.guests}
        return next(n for n in [*NAMES, *(f"client {i}" for i in range(99))] if n not in taken)

    def _remove_client(self, card: ClientCard) -> None:
        self._cards = [other for other in self._cards if other is not card]
        self._card_box.children = self._cards
        self._session.forget(card.client)
        card.close()
        self._changed()

    def _fold_controls(self) -> None:
        unfold = self._controls.layout.display == "none"
        self._controls.layout.display = None if unfold else "none"
        (self._change.add_class if unfold else self._change.remove_class)("fl-on")
        self._change.description = "Fold settings" if unfold else "Change settings"

    def _slow_changed(self, change) -> None:
        self._session.gate.set_slow(change["new"])
        self._wake.set()

    def _reveal(self) -> None:
        if self.server is not None:
            self._join.value = views.join(self.server.address, self.server.url, self._free_name())

    def _save_png(self) -> None:
        self._stage.save("fedlab-curve.png", "image/png", self._curve.as_png())

    def _save_csv(self) -> None:
        self._stage.save("fedlab-rounds.csv", "text/csv", self.history.to_csv().encode())

    def _changed(self) -> None:
        """A slider was moved: what was wrong before may be right now."""
        self._trouble = ""
        self._wake.set()

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
            self._session.gate.end()
        asked = {waiting for waiting, _ in list(self._todo)}
        if what in BEGINS and (asked & set(BEGINS) or self._session.running):
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
                self._error, self._trouble = None, ""
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

    def _refresh_or_say(self) -> None:
        """A picture that cannot be drawn, whatever the reason, must not end a run: the panel says
        so and goes on.
        """
        try:
            self._refresh()
        except Exception as error:
            self._show_error(error)
            self._refresh_header(self._session.history, "")

    def _refresh(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        session = self._session
        if self._was_running and not session.running:
            self._run_ended()
        if session.baseline_error is not None:
            self._show_error(session.baseline_error)
            session.baseline_error = None
        history = session.history
        self._curve.follow(len(history))
        settings, mistake = None, ""
        try:
            settings = self.settings
            settings.check()
        except Refused as error:
            mistake = str(error)
        self._name_colours()
        self._refresh_header(history, mistake)
        self._refresh_controls(history)
        for card in self._cards:
            status = session.status(card.client)
            card.show(status.message if status and status.phase == "failed" else "")
        self._guests.value = views.guests(session.guests)
        if settings is not None:
            self._words.value = views.words(settings, settings.make_strategy().name)
        self._refresh_picture(history, mistake)
        self._refresh_curve(history)
        self._refresh_tab(history, settings if not mistake else None)

    def _run_ended(self) -> None:
        self._session.settle()
        try:
            self._session.federation.wait()
        except Exception as error:  # what the run raised in the background
            self._show_error(error)
        self._was_running = False  # last: `wait` returns when nothing is left of the run

    def _name_colours(self) -> None:
        """Each client's colour stays its own: through a new name, and in rounds without it."""
        for card in self._cards:
            self._colours[card.client] = card.colour
        for guest in self._session.guests:
            if guest.client not in self._colours:
                self._colours[guest.client] = _first_free(set(self._colours.values()))

    # ---- what is so ------------------------------------------------------------------------------

    @property
    def _unit(self) -> str:
        """What the history counts."""
        server = self._session.server
        return "update" if server and server.federation.strategy.asynchronous else "round"

    @property
    def _round(self) -> int:
        """The round that is looked at: the last one, unless one looks back."""
        back = self._curve.looking_back
        return len(self.history) if back is None else back

    def _looked_at(self, history: History) -> History:
        """The rounds until then."""
        if self._curve.looking_back is None:
            return history
        return History(list(islice(history, self._round)), history.untrained)

    def _planned(self) -> int:
        status = self._session.federation.status() if self._session.server else None
        return status.rounds if status else 0

    def _refresh_header(self, history: History, mistake: str) -> None:
        server = self._session.server
        seen = self._looked_at(history)
        last, of = seen.last, f"global model,<br>{len(self._mnist.test):,} test images"
        good = views.percent(last.accuracy if last else seen.untrained)
        if self._curve.looking_back is not None:
            of = f"global model<br>after {self._unit} {self._round}"
        trouble = self._trouble or mistake
        if server is None:
            pill, said = "loading TensorFlow", "The server starts then: usually in 4 to 9 seconds."
        else:
            pill, said = self._doing(history)
        if trouble and not self._session.running:
            pill = "failed" if self._trouble and len(history) else pill
        shown = views.message(trouble, error=True) if trouble else views.message(said)
        self._header.value = views.header(pill, bool(trouble), shown, good, of)

    def _doing(self, history: History) -> tuple[str, str]:
        """What is going on, and a sentence about it."""
        session, unit = self._session, self._unit
        status = session.federation.status()
        if session.comparing:
            return "comparing", "Computing a comparison: without federation, on the same images."
        if session.running:
            done = history.last.round if history.last else 0
            of = f" of {status.rounds}" if status.rounds else ""
            pill = f"{unit.capitalize()} {min(done + 1, status.rounds) or done + 1}{of}"
            if session.waiting_before:
                return pill, "Slow motion: press Next step, or the key N."
            return pill, f"Server {session.server.address}"
        if not len(history):
            return "ready", "Press Start training."
        return (
            status.message,
            f"{counted(len(history), unit)} done. Server {session.server.address}",
        )

    def _refresh_controls(self, history: History) -> None:
        session = self._session
        running, comparing = session.running, session.comparing
        busy = running or comparing
        idle = self._ready and not busy and not self._closing
        runs = session.earlier or session.baselines
        for button in (self._start, self._one, self._curve.alone, self._curve.pooled):
            button.disabled = not idle or not self._cards
        self._stop.disabled = not busy
        self._reset.disabled = not idle or not (len(history) or runs)
        self._slow.disabled = not self._ready
        self._next.disabled = not (running and session.waiting_before)
        self._add.disabled = busy or len(self._cards) >= NUM_SHARDS
        self._curve.csv.disabled = not len(history)
        self._show_url.disabled = session.server is None
        self._controls.set_disabled(busy)
        for card in self._cards:
            card.set_disabled(busy, removable=len(self._cards) > 1)

    def _refresh_picture(self, history: History, mistake: str) -> None:
        session = self._session
        back = self._curve.looking_back
        seen = self._looked_at(history)
        examples = {card.client: card.num_examples for card in self._cards}
        examples |= {guest.client: guest.num_examples for guest in session.guests}
        status = session.federation.status() if session.server else None
        record = seen.last
        if back is not None:
            part = session.participants_of(back) or tuple(record.clients if record else ())
            examples = {name: examples.get(name, 0) for name in [*examples, *part]}
            if record:
                examples |= {n: client.num_examples for n, client in record.clients.items()}
        else:
            part = session.participants if session.running else ()
        facts = Facts(
            examples=dict(sorted(examples.items())),
            colours=self._colours,
            status=status,
            participants=part,
            own={name: client.status for name, client in session.clients.items()},
            held=session.waiting_before if session.running else 0,
            late=frozenset(session.late()) if session.running else frozenset(),
            record=record,
            replayed=back is not None,
        )
        recent = time.time() - RECENT
        wire = [r for r in list(session.server.wire)[-60:] if r.time > recent] if status else []
        self._picture.scene = scene(facts, wire, self._read_aloud(history, facts, mistake))

    def _read_aloud(self, history: History, facts: Facts, mistake: str) -> str:
        """For screen readers: each round's result, each step of slow motion, what went wrong."""
        if self._trouble or mistake:
            return self._trouble or mistake
        if facts.held:
            return f"Round {facts.status.round}. {HELD[facts.held]} Press Next step."
        planned = max(self._planned(), len(history))
        if self._session.running:
            return views.summary(history, planned) if len(history) else "Training begins."
        if not len(history):
            return "Ready." if self._ready else "Loading TensorFlow."
        return f"{facts.status.message}. {views.summary(history, planned)}"

    def _earlier(self) -> list[tuple[str, History]]:
        """The runs before this one, named by what was different then."""
        current = self._session.settings
        runs = self._session.earlier if current else []
        return [(its.difference(current), run) for its, run in runs]

    def _refresh_curve(self, history: History) -> None:
        rounds = max(self._planned(), len(history))
        self._curve.show(
            self._looked_at(history),
            whole=history,
            earlier=self._earlier(),
            baselines=self._session.baselines,
            rounds=rounds if len(history) else max(rounds, self._controls.rounds.value),
            colours=self._colours,
        )

    def _refresh_tab(self, history: History, settings: Settings | None) -> None:
        """What is in sight, and nothing else."""
        shown, session = self._tabs.shown, self._session
        after = f"after {self._unit} {self._round}" if self._round else "before any training"
        if shown == "What it reads":
            self._reading.show_digits(self._round, after)
        elif shown == "Draw a digit":
            self._reading.show_answers(self._round, self._colours)
        elif shown == "Mistakes":
            self._reading.show_mistakes(self._round)
        elif shown == "Their images" and settings is not None:
            self._draw_partition(settings)
        elif shown == "Table":
            self._table.value = views.rounds_table(history)
        elif shown == "Plain calls" and settings is not None:
            self._code.value = views.code(settings.as_calls())
        elif shown == "Wire" and session.server is not None:
            self._wire.value = views.wire_table(session.server.wire, history)
        elif shown == "Join" and session.server is not None and not self._join.value:
            self._join.value = views.join(session.server.address, None, self._free_name())

    def _draw_partition(self, settings: Settings) -> None:
        key = tuple(settings.shards.items())
        if getattr(self, "_dealt", None) == key:
            return
        self._dealt = key
        # A range that was mended in this very moment; the next pass draws it
        with suppress(DataError):
            datasets = settings.datasets(self._mnist)
            size = PARTITION[0], PARTITION[1] * len(datasets) + 60
            told = "; ".join(f"{name}: {len(data):,} images" for name, data in datasets.items())
            svg = drawing(
                lambda ax: plot_partition(datasets, ax, colours=self._colours), *size, told
            )
            counts = {name: data.label_counts() for name, data in datasets.items()}
            self._digits.value = views.partition(svg, counts, PARTITION[0])


def _first_free(taken: set[int]) -> int:
    return next(number for number in range(len(taken) + 1) if number not in taken)
