"""The teacher's panel of a live class: how to come in, who is here, the rounds, the curve.

As in the Dashboard a button's callback leaves a note for one thread, which does what the note says
through `LiveClass` and then sets the widgets' traits to what is so. What takes no time (a name, the
door) is done where it is asked for: a plain call raises then and there.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import ipywidgets as widgets

from fedlab.checks import Refused, counted, whole
from fedlab.classroom.codes import check_code, new_code
from fedlab.classroom.curves import Curves
from fedlab.classroom.live import PAUSED, LiveClass
from fedlab.classroom.reach import addresses, typed
from fedlab.classroom.rehearsal import rehearse
from fedlab.classroom.settings import BLANK, MNIST, STARTS, ClassSettings
from fedlab.dashboard import lesson, roll, views
from fedlab.dashboard.buttons import Buttons, images
from fedlab.dashboard.cards import first_free
from fedlab.dashboard.classcurve import ClassCurve
from fedlab.dashboard.joincard import JoinCard
from fedlab.dashboard.lesson import Lesson
from fedlab.dashboard.scene import scene
from fedlab.dashboard.scripts import STATIC
from fedlab.dashboard.stage import RoundPicture, Stage
from fedlab.data import Mnist
from fedlab.history import History

RECENT = 3.0  # seconds for which a request is told to the picture
LATE_AFTER = 3.0  # seconds that a few updates are awaited before their devices are called late
LOOK_AROUND = 5.0  # seconds between two looks at this machine's addresses

BEGINS = ("start", "one round")
"""What is asked for once: a second press does nothing."""

STYLE = views.STYLE + f"<style>{(STATIC / 'classroom.css').read_text('utf-8')}</style>"
KEYS = "<b>S</b> start, pause · <b>N</b> one round · <b>J</b> how to join · <b>P</b> leave"

# The panel that is in use, weakly.
_current: Callable[[], Classroom | None] = lambda: None  # noqa: E731


class _Enough(Exception):
    """A rehearsal is broken off: the panel is closed."""


class Classroom(Buttons, widgets.VBox):
    """The teacher's panel of a live class. Make one as the last line of a cell; the cell returns at
    once, and the class opens when TensorFlow is loaded.

    mnist:      the data; `load_mnist()` if None.
    code:       five characters by which students come in; if None, those of the panel before, or
                random ones.
    rehearsal:  so many simulated phones come in by themselves.
    settings:   those of `fedlab.classroom.settings.ClassSettings`: begin, weigh, epochs, deadline,
                minimum, half, host, port and others.

    A new panel (or the same cell run again) closes the one before it, and keeps its code: phones
    find their way back. Every control is a plain call too: `start`, `one_round`, `pause`, `stop`,
    `begin_anew`, `approve`, `rename`, `remove`, `deal`, `open_door`, `rehearse`, `wait`, `history`,
    `curves`. Raises Refused or DataError for what cannot be.
    """

    def __init__(
        self,
        mnist: Mnist | None = None,
        *,
        code: str | None = None,
        rehearsal: int = 0,
        **settings,
    ):
        global _current
        self._settings = ClassSettings(**settings)
        whole("rehearsal", rehearsal, 0, 200)
        before = _current()
        kept = before.code if before is not None else new_code()
        self.code = kept if code is None else check_code(code)
        self._mnist = images(mnist)
        if before is not None:
            before.shutdown()
        self._before, self._earlier = before, None  # the panel before, and its class
        self.live: LiveClass | None = None
        """The class; None while TensorFlow is loading."""
        self._todo: deque[tuple[str, Callable[[], None]]] = deque()
        self._wake = threading.Event()
        self._closing = self._failed = False
        self._busy = ""  # what takes a while just now
        self._error: Exception | None = None  # which `wait` raises
        self._trouble = ""  # the same as a sentence
        self._phones: list = []
        self._rehearsals, self._rehearsing = 0, None
        self._removed: dict[str, tuple[str, bool]] = {}
        self._colours: dict[str, int] = {}
        self._there, self._since, self._looked = (0, 0), 0.0, 0.0
        self._make_widgets(self._settings.begin)
        super().__init__(self._layout())
        for name in ("fedlab", "fedlab-panel", "fl-class"):
            self.add_class(name)
        self.show_join(True)
        if rehearsal:
            self.rehearse(rehearsal)
        self._thread = threading.Thread(target=self._keep_up, name="fedlab-teacher", daemon=True)
        self._thread.start()
        _current = weakref.ref(self)

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def start(self, rounds: int | None = None) -> None:
        """As Start: play so many rounds (as many as the slider says if None), in the background;
        after a pause, the rest. Does nothing while rounds are played. Raises Refused.
        """
        rounds = self._rounds.value if rounds is None else whole("rounds", rounds, 1, 10_000)
        self._do("start", lambda: self._opened.start(rounds))
        self.show_join(False)

    def one_round(self) -> None:
        """As One round: one more, then wait. Does nothing while rounds are played."""
        self._do("one round", lambda: self._opened.one_round())
        self.show_join(False)

    def pause(self) -> None:
        """As Pause: the round under way is ended, then it waits for `start`."""
        self._do("pause", lambda: self._opened.pause())

    def stop(self) -> None:
        """As Stop: end it now; the round under way is dropped, what was learned stays."""
        self._do("stop", lambda: self._opened.stop())

    def begin_anew(self, begin: str | None = None) -> None:
        """As Begin anew: forget what was learned; everybody stays. begin: "blank" or "mnist"; as
        before if None. Raises Refused for another.
        """
        if begin not in (None, *STARTS):
            raise Refused(f"begin is {begin!r}; expected {' or '.join(map(repr, STARTS))}")
        doing = "This computer learns to read MNIST first." if begin == MNIST else ""
        self._do("begin anew", lambda: self._opened.begin_anew(begin), doing)

    def approve(self, client: str | None = None) -> None:
        """Show the name that this student, or everybody, wishes for. client: its id, or the name
        that the class sees. Raises Refused for nobody.
        """
        self._opened.approve(None if client is None else self._id(client))
        self._wake.set()

    def rename(self, client: str, name: str) -> None:
        """Call this student so; "": as it was given. Raises Refused."""
        self._opened.rename(self._id(client), name)
        self._wake.set()

    def remove(self, client: str, ban: bool = False) -> None:
        """Have this student go. It may ask to come in again, unless there is a ban. Raises Refused
        for nobody.
        """
        client = self._id(client)
        shown = self._opened.shown(client)
        self._opened.remove(client, ban)
        self._removed[client] = shown, ban
        self._wake.set()

    def deal(self) -> dict[str, tuple[int, int]]:
        """As Deal shards: MNIST's shards to the laptops, none to two of them. Raises Refused for
        more laptops than shards.
        """
        dealt = self._opened.deal()
        if not dealt:
            raise Refused(
                "no laptop is here that would take shards; expected one that has joined with"
                " fedlab.join and does not train with drawings"
            )
        self._wake.set()
        return dealt

    def set_waiting(self, minimum: int | None = None, deadline: float | None = None) -> None:
        """As At least, and Deadline: how many must be ready before a round begins, and how many
        seconds it waits for their updates; as before where None. Raises Refused.
        """
        self._opened.set_waiting(minimum, deadline)
        self._wake.set()

    def open_door(self, open: bool) -> None:
        """Whether newcomers are let in; who is in comes back all the same."""
        self._set_open(open)
        self._door.value = bool(open)

    def _set_open(self, open: bool) -> None:
        self._opened.open = open
        self._wake.set()

    def rehearse(self, phones: int = 3) -> None:
        """So many simulated phones come in, in the background, and stay. Does nothing while others
        are coming in. Raises Refused.
        """
        phones = whole("phones", phones, 1, 200)
        self._do("rehearse", lambda: self._rehearse(phones))

    def show_join(self, show: bool) -> None:
        """As Show how to join: the card with the code, in place of the picture and the curve."""
        self._joining = bool(show)
        (self.add_class if show else self.remove_class)("fl-joining")
        self._fold.description = "Show the lesson" if show else "Show how to join"
        self._wake.set()

    def wait(self, timeout: float = 600.0) -> History:
        """Wait until nothing is played any more and nobody is coming in, and return the history.
        Raises what went wrong, or TimeoutError after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while self._thread.is_alive() and not self._failed and self._at_work:
            if time.monotonic() > end:
                raise TimeoutError(f"the rounds did not end within {timeout:g} s")
            time.sleep(0.05)
        if self._error is not None:
            raise self._error
        if self.live is not None and self.live.trouble:
            raise Refused(self.live.trouble)
        return self.history

    @property
    def history(self) -> History:
        """The rounds so far: accuracies are of MNIST's test images."""
        return self.live.history if self.live else History()

    def curves(self) -> Curves:
        """How it went, round by round: the class's own handwriting, each alone, MNIST. Raises
        Refused before the class is open.
        """
        return self._opened.curves()

    def shutdown(self) -> None:
        """The class is over: everybody is told. A closed panel stays closed: make a new one."""
        self._closing = True
        self._wake.set()

    @property
    def _opened(self) -> LiveClass:
        if self.live is None:
            raise Refused("the class is not open yet; expected to wait until TensorFlow is loaded")
        return self.live

    def _id(self, client: str) -> str:
        """A student's id, of that or of the name that the class sees."""
        known = {student.shown: student.client for student in self._opened.students()}
        return known.get(client, client)

    @property
    def _at_work(self) -> bool:
        coming = self._rehearsing is not None and self._rehearsing.is_alive()
        live = self.live
        return live is None or bool(self._todo) or coming or live.phase == "running"

    # ---- widgets ---------------------------------------------------------------------------------

    def _make_widgets(self, begin: str) -> None:
        self._start = self._button("Start", self._start_or_resume, "Play rounds", "success", "play")
        self._start.add_class("fl-start")
        self._one = self._button("One round", self.one_round, "One round more, then wait (key N)")
        self._pause = self._button("Pause", self.pause, "Wait when this round has ended (key S)")
        self._stop = self._button(
            "Stop", self.stop, "End it now; what was learned stays", "danger", "stop"
        )
        self._rounds = widgets.IntSlider(
            10, 1, 50, description="Rounds", style={"description_width": "auto"}
        )
        self._rounds.add_class("fl-rounds")
        self._rounds.observe(lambda _: self._wake.set(), "value")
        self._more = self._button("More", self._unfold, "Begin anew, deal shards, the door")
        self._more.add_class("fl-fold")
        self._stage = Stage(
            self.one_round,
            {
                "s": self._start_or_pause,
                "j": lambda: self.show_join(not self._joining),
                "p": lambda: None,
            },
        )
        self._keys = widgets.HTML(KEYS)
        self._keys.add_class("fl-keys")
        self._header, self._come, self._honest = (widgets.HTML() for _ in range(3))
        self._header.add_class("fl-header")
        self._come.add_class("fl-come-in")
        self._honest.add_class("fl-honest")
        self._honest.value = f"<p>{lesson.HONEST}</p>"
        self._begin = widgets.Dropdown(
            options=[("a blank model", BLANK), ("one that reads MNIST", MNIST)],
            value=begin,
            description="Begin with",
            style={"description_width": "auto"},
        )
        self._anew = self._button(
            "Begin anew",
            lambda: self.begin_anew(self._begin.value),
            "Forget what was learned; everybody stays",
        )
        wide = {"style": {"description_width": "auto"}}
        self._minimum = widgets.BoundedIntText(
            value=self._settings.minimum, min=1, max=1_000, description="Ready, at least", **wide
        )
        self._minimum.tooltip = "So many must be ready before a round begins"
        self._deadline = widgets.BoundedFloatText(
            value=self._settings.deadline, min=0.1, max=1e6, description="Deadline (s)", **wide
        )
        self._deadline.tooltip = "A round goes on without those who need longer"
        for control, name in ((self._minimum, "minimum"), (self._deadline, "deadline")):
            control.add_class("fl-number")
            control.observe(self._waiting_chosen(name), "value")
        self._deal = self._button("Deal shards", self._noted(self.deal), "MNIST, to the laptops")
        self._door = widgets.ToggleButton(
            True, description="Door open", tooltip="Whether newcomers are let in"
        )
        self._door.add_class("fl-switch")
        self._door.observe(
            # Not `open_door`, which sets the button: two quick presses would chase each other
            lambda change: self._do("door", lambda: self._set_open(change["new"])),
            "value",
        )
        self._three = self._button(
            "+ 3 simulated phones", self.rehearse, "To try a lesson out, or where no phone comes in"
        )
        self._fold = self._button("", lambda: self.show_join(not self._joining), "(key J)")
        self._place = widgets.VBox()
        self._place.add_class("fl-join-place")
        self._card: JoinCard | None = None
        self._picture, self._curve = RoundPicture(), ClassCurve()
        for button, action in {
            self._curve.png: self._save_png,
            self._curve.csv: self._save_csv,
            self._curve.model: self._save_model,
        }.items():
            button.on_click(self._guard(action))
        self._roll = roll.Roll(self._act)

    def _layout(self) -> list[widgets.Widget]:
        style = widgets.HTML(STYLE)
        style.add_class("fl-style")
        row = [self._start, self._one, self._pause, self._stop, self._rounds, self._more]
        bar = widgets.HBox([*row, self._keys, self._stage])
        bar.add_class("fl-bar")
        save = [widgets.HTML("save:"), self._curve.png, self._curve.csv, self._curve.model]
        save = widgets.HBox(save)
        save.add_class("fl-save")
        self._folded = widgets.HBox(
            [
                self._begin,
                self._anew,
                self._minimum,
                self._deadline,
                self._deal,
                self._door,
                self._three,
                save,
            ]
        )
        self._folded.add_class("fl-bar")
        self._folded.add_class("fl-more")
        self._folded.layout.display = "none"
        come = widgets.HBox([self._come, self._fold])
        come.add_class("fl-come-line")
        main = widgets.Box([self._picture, self._curve])
        main.add_class("fl-main")
        above = [style, bar, self._folded, self._header, come]
        return [*above, self._place, main, self._honest, self._roll]

    def _waiting_chosen(self, name: str) -> Callable[[dict], None]:
        """What is done when another number is chosen."""
        return lambda change: self._do(name, lambda: self.set_waiting(**{name: change["new"]}))

    def _noted(self, action: Callable[[], object]) -> Callable[[], None]:
        """The same as a note for the panel's thread."""
        return lambda: self._do(action.__name__, action)

    def _act(self, act: str, client: str, name: str) -> None:
        """What a button of the roll asks for."""
        actions = {
            roll.APPROVE: lambda: self.approve(client or None),
            roll.RENAME: lambda: self.rename(client, name),
            roll.REMOVE: lambda: self.remove(client),
            roll.BAN: lambda: self.remove(client, ban=True),
        }
        with suppress(RuntimeError):  # the panel is closed
            self._do(act, actions[act])

    def _start_or_resume(self) -> None:
        self.start()

    def _start_or_pause(self) -> None:
        live = self.live
        with suppress(RuntimeError):  # the panel is closed
            going = live is not None and live.phase == "running" and not live.pausing
            self.pause() if going else self.start()

    def _unfold(self) -> None:
        unfold = self._folded.layout.display == "none"
        self._folded.layout.display = None if unfold else "none"
        (self._more.add_class if unfold else self._more.remove_class)("fl-on")

    def _save_png(self) -> None:
        self._stage.save("fedlab-class.png", "image/png", self._curve.as_png())

    def _save_csv(self) -> None:
        self._stage.save("fedlab-class.csv", "text/csv", self._opened.to_csv().encode())

    def _save_model(self) -> None:
        content = self._opened.model_bytes()
        self._stage.save("fedlab-class.safetensors", "application/octet-stream", content)

    # ---- the thread that keeps the panel up to date ----------------------------------------------

    def _do(self, what: str, action: Callable[[], object], doing: str = "") -> None:
        """Leave a note. doing: what is said while it takes its time."""
        if self._closing:
            raise RuntimeError("this panel is closed; expected a new one: run its cell again")
        if what == "stop":
            self._todo.clear()  # whatever was asked for before it is not wanted any more
        asked = {waiting for waiting, _ in list(self._todo)}
        if what in BEGINS and asked & set(BEGINS):
            return

        def act() -> None:
            self._busy = doing
            if doing:
                self._refresh()
            try:
                action()
            finally:
                self._busy = ""

        self._todo.append((what, act))
        self._wake.set()

    def _keep_up(self) -> None:
        try:
            self._refresh()  # first of all: loading TensorFlow takes some seconds
            if self._before is not None:  # it may still hold the port that this panel is to have
                self._before._thread.join(30)
                # One that could not be opened has kept the class before it
                self._earlier, self._before = self._before.live or self._before._earlier, None
            self._open(self._earlier)
            self._earlier = None
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
            self._close()

    def _open(self, before: LiveClass | None) -> None:
        """Open the class; on the port of the one before, if nobody has asked for one and it is
        free.
        """
        settings, live = vars(self._settings) | {"code": self.code, "before": before}, None
        if before is not None and self._settings.port is None:
            with suppress(OSError):
                live = LiveClass(self._mnist, **settings | {"port": before.server.port})
        live = live or LiveClass(self._mnist, **settings)
        scheme, found = urlsplit(live.server.address).scheme, addresses(self._settings.host)
        self._card = JoinCard(found, live.server.port, self.code, scheme, self._wake.set)
        self._place.children = [self._card]
        self.live = live

    def _close(self) -> None:
        if self._rehearsing is not None:
            self._rehearsing.join(60)
        if phones := self._phones:
            with ThreadPoolExecutor(8) as several:
                list(several.map(lambda phone: phone.stop(), phones))
        if self.live is not None:
            self.live.close()
        said = "This panel is closed. Run the cell again to open the class anew."
        self._header.value = views.header("closed", False, said, "–", "")
        of_curve = [self._curve.png, self._curve.csv, self._curve.model]
        row = [self._start, self._one, self._pause, self._stop, self._rounds, self._begin]
        row += [self._minimum, self._deadline, self._anew, self._deal, self._door, self._three]
        for control in (*row, *of_curve):
            control.disabled = True

    def _work_off(self) -> None:
        while self.live is not None and not self._closing:
            try:
                asked = self._todo[0]  # it stays there until it is done: `wait` looks
            except IndexError:
                return
            try:
                self._error, self._trouble = None, ""
                asked[1]()
            except Exception as error:
                # What the class refuses, or a server that could not: a sentence, and it goes on.
                self._show_error(error)
            finally:
                # a `stop` has cleared it away meanwhile, and stands there itself
                with suppress(ValueError):
                    self._todo.remove(asked)

    def _show_error(self, error: Exception) -> None:
        self._error = error
        self._trouble = str(error) or type(error).__name__
        self._wake.set()

    def _rehearse(self, phones: int) -> None:
        if self._rehearsing is not None and self._rehearsing.is_alive():
            return
        url = f"{self._opened.server.address}J/{self.code}"
        self._rehearsals += 1

        def came(phone) -> None:
            if self._closing:
                raise _Enough
            self._wake.set()

        def come(seed: int = self._rehearsals) -> None:
            try:
                own = self._settings.certificate
                self._phones += rehearse(url, phones, seed=seed, on_phone=came, certificate=own)
            except _Enough:
                pass
            except Exception as error:
                self._show_error(error)

        self._rehearsing = threading.Thread(target=come, name="fedlab-rehearsal", daemon=True)
        self._rehearsing.start()

    # ---- what is so ------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        live, now = self.live, Lesson()
        if live is not None:
            here = {student.client for student in live.students()}
            self._removed = {c: gone for c, gone in self._removed.items() if c not in here}
            moment = time.monotonic()
            now = lesson.look(live, self._late(moment), dict(self._removed.values()), moment)
        trouble = self._trouble or (live.trouble if live else "")
        self._header.value = lesson.header(now, trouble, self._busy)
        self._refresh_controls(now)
        if live is None:
            return
        self._refresh_card(now)
        for student in now.students:
            if student.client not in self._colours:
                present = {self._colours.get(other.client) for other in now.students}
                self._colours[student.client] = first_free(present - {None})
        self._roll.students = lesson.rows(now, self._colours)
        self._roll.summary = lesson.summary(now)
        self._roll.removed = lesson.removed_words(now.removed)
        self._refresh_picture(now)
        curves = lesson.settled(now.curves, now.running)
        planned = max(now.rounds, now.done) if now.done or now.running else self._rounds.value
        self._curve.show(curves, planned, len(now.students))

    def _refresh_controls(self, now: Lesson) -> None:
        open_, running = self.live is not None and not self._closing, now.running
        rest = now.phase == PAUSED or now.pausing
        rounds = counted(self._rounds.value, "round")
        self._start.description = "Resume" if rest else f"Start {rounds}"
        self._start.disabled = not open_ or (running and not now.pausing)
        self._one.disabled = not open_ or running
        self._pause.disabled = not running or now.pausing
        self._stop.disabled = not running and now.phase != PAUSED
        self._rounds.disabled = not open_ or running or now.phase == PAUSED
        self._anew.disabled = self._begin.disabled = not open_ or running
        laptops = any(student.takes_shards for student in now.students)
        self._deal.disabled = not open_ or not laptops
        self._door.disabled = self._minimum.disabled = self._deadline.disabled = not open_
        if open_ and not self._todo:  # what somebody has typed stays until it is done
            self._minimum.value, self._deadline.value = now.minimum, now.deadline
        self._door.description = "Door open" if now.door else "Door closed"
        coming = self._rehearsing is not None and self._rehearsing.is_alive()
        self._three.disabled = not open_ or coming
        self._curve.model.disabled = not open_

    def _refresh_card(self, now: Lesson) -> None:
        card, live = self._card, self.live
        if self._joining and now.now > self._looked + LOOK_AROUND:
            self._looked = now.now
            card.addresses = addresses(self._settings.host)
        card.show(*live.visits())
        scheme = urlsplit(live.server.address).scheme
        where = typed(card.ip, live.server.port, scheme)
        door = "" if now.door else " · <b>the door is closed</b>"
        self._come.value = f"Join: <b>{where}</b> · code <b>{' '.join(self.code)}</b>{door}"

    def _refresh_picture(self, now: Lesson) -> None:
        recent = time.time() - RECENT
        known = {student.client: student.shown for student in now.students}
        requests = [
            replace(request, client=known.get(request.client, request.client))
            for request in list(self.live.server.wire)[-120:]
            if request.time > recent
        ]
        shown = scene(lesson.facts(now, self._colours), requests, lesson.read_aloud(now))
        if not now.running:
            shown["server"]["text"] = lesson.model_words(now)
        self._picture.scene = shown

    def _late(self, moment: float) -> frozenset[str]:
        """Whose updates have been awaited for a while, since the last of the others' came."""
        status = self.live.federation.status()
        there = status.round, len(status.participants) - len(status.waiting_for)
        if there != self._there:
            self._there, self._since = there, moment
        late = status.running and there[1] > 0 and moment - self._since > LATE_AFTER
        return frozenset(status.waiting_for) if late else frozenset()
