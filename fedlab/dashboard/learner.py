"""A student's panel of a live class: draw digits, or take the shards that the teacher deals, and
train with the class. As in the other panels a button's callback leaves a note for one thread.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from html import escape
from pathlib import Path
from random import Random

import ipywidgets as widgets
import numpy as np

from fedlab.checks import Refused, counted
from fedlab.classroom.live import LEAST, OVER, PAUSED, RUNNING, TARGET
from fedlab.classroom.names import LONGEST, wished
from fedlab.classroom.roster import NOTEBOOK, Removed
from fedlab.classroom.student import Seen, Student, share, split_join_url
from fedlab.classroom.writers import HOLD_OUT
from fedlab.dashboard import views
from fedlab.dashboard.buttons import Buttons, images
from fedlab.dashboard.pad import DrawingPad
from fedlab.dashboard.scripts import STATIC
from fedlab.dashboard.stage import Stage
from fedlab.dashboard.tabs import Tabs
from fedlab.data import Dataset
from fedlab.handwriting import SIDE

HONEST = (
    "Your drawings stay on this computer. The teacher's gets the weights that were trained on them,"
    " and could learn something from these (lesson 6)."
)
"""Who sees what."""

SCRIBBLED = 240
"""Pixels with ink, of the 400 that a digit may fill: with more it is no digit."""

DRAWN, SHARDS = "Draw digits", "Take shards"

STYLE = views.STYLE + f"<style>{(STATIC / 'classroom.css').read_text('utf-8')}</style>"

# The panel that is in use, weakly.
_current: Callable[[], Learner | None] = lambda: None  # noqa: E731


def join(
    url: str, name: str = "", code: str | None = None, certificate: str | Path | None = None
) -> Learner:
    """Join a live class: a panel, as the last line of a cell.

    url:  what the teacher shows: "http://192.168.1.20:8642/J/K7QXM"; or the address alone, and the
          code: join("192.168.1.20:8642", code="K7QXM").
    name: a wish; the class sees a given name until the teacher has approved it.
    certificate: of a class that speaks TLS with one that no authority has signed, as in `Client`.

    A new panel (or the same cell run again) closes the one before. Raises Refused for an address or
    a name that cannot be; a class that is not there, or has another code, is told in the panel.
    """
    return Learner(url, name, code, certificate)


class Drawings:
    """What is drawn so far, in order; every fifth is kept aside. `asked` is the next digit."""

    def __init__(self, seed: str):
        self._order = Random(seed).sample(range(10), 10)
        self.kept: list[tuple[int, np.ndarray]] = []

    @property
    def counts(self) -> Counter:
        """How many there are of each digit."""
        return Counter(label for label, _ in self.kept)

    @property
    def asked(self) -> int:
        """The digit of which there are fewest so far."""
        counts = self.counts
        return min(self._order, key=lambda digit: (counts[digit], self._order.index(digit)))

    def keep(self, pixels: bytes) -> None:
        """These 784 grey values are the digit that was asked for. Raises Refused for none."""
        image = np.frombuffer(pixels, np.uint8)
        if not image.any():
            raise Refused(f"nothing is drawn; expected a {self.asked}")
        if (inked := int((image > 0).sum())) > SCRIBBLED:
            raise Refused(f"ink is on {inked} of 400 pixels; expected a {self.asked}, not a blot")
        self.kept.append((self.asked, image.reshape(SIDE, SIDE)))

    def parts(self) -> tuple[list, list]:
        """Those to train on, and those that are kept aside."""
        aside = [i % HOLD_OUT == HOLD_OUT - 1 for i in range(len(self.kept))]
        pairs = list(zip(self.kept, aside, strict=True))
        return [one for one, out in pairs if not out], [one for one, out in pairs if out]

    def datasets(self) -> tuple[Dataset, Dataset]:
        """The same as examples."""

        def of(part: list) -> Dataset:
            return Dataset(np.stack([i for _, i in part]), np.array([n for n, _ in part], np.uint8))

        train, held = self.parts()
        return of(train), of(held)

    @property
    def enough(self) -> bool:
        """Whether a device can take part with them."""
        return len(self.kept) >= LEAST and len(self.counts) >= 2


class Learner(Buttons, widgets.VBox):
    """A student's panel of a live class; `fedlab.join` makes one. Every control is a plain call
    too: `wish`, `keep`, `take_back`, `train`, `take_shards`, `leave`, `again`.
    """

    def __init__(
        self,
        url: str,
        name: str = "",
        code: str | None = None,
        certificate: str | Path | None = None,
    ):
        global _current
        base, code = split_join_url(url, code)
        name = wished(name)
        session, before = secrets.token_hex(16), _current()
        if before is not None:
            if (before._base, before._code) == (base, code):
                session = before._session  # comes back as who it was
            before.shutdown()
        self._before = before._thread if before is not None else None
        self._session, self._base, self._code = session, base, code
        self._certificate = certificate
        self.drawings = Drawings(session)
        if before is not None and before._session == session:
            self.drawings.kept = list(before.drawings.kept)
        self.student: Student | None = None
        self._todo: deque[Callable[[], object]] = deque()
        self._wake = threading.Event()
        self._closing = self._joining = self._shards = self._given = False
        self._trouble = ""
        self._make_widgets(name)
        super().__init__(self._layout())
        for css in ("fedlab", "fedlab-panel", "fl-learner"):
            self.add_class(css)
        self._do(lambda: self._come_in(name))
        self._thread = threading.Thread(target=self._keep_up, name="fedlab-learner", daemon=True)
        self._thread.start()
        _current = weakref.ref(self)

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def wish(self, name: str) -> None:
        """Wish for a name; "" takes it back. Raises Refused for one that cannot be."""
        name = wished(name)
        self._do(lambda: self._present.wish(name))

    def keep(self) -> None:
        """As Keep it: what is drawn on the pad is the digit that was asked for."""
        self._do(self._keep)

    def take_back(self) -> None:
        """As Take back: the drawing that was kept last goes."""
        self._do(self._take_back)

    def train(self) -> None:
        """As Train with the class: take part with the drawings, also with those to come."""
        self._do(self._train)

    def take_shards(self) -> None:
        """As Take the shards: take part with what the teacher deals."""
        self._do(self._take_shards)

    def leave(self) -> None:
        """As Leave: take part no more; drawings are kept."""
        self._do(lambda: self._present.stop())

    def again(self) -> None:
        """As Join again: after `leave`, after the teacher has removed this student, or where the
        class was not there; with the address and the code in the fields.
        """
        self._do(self._again)

    @property
    def seen(self) -> Seen:
        """How it goes."""
        return self.student.seen if self.student else Seen()

    def shutdown(self) -> None:
        """Leave the class. A closed panel stays closed: make a new one."""
        self._closing = True
        self._wake.set()

    # ---- widgets ---------------------------------------------------------------------------------

    def _make_widgets(self, name: str) -> None:
        wide = {"style": {"description_width": "auto"}}
        self._header, self._said, self._result, self._counts = (widgets.HTML() for _ in range(4))
        self._header.add_class("fl-header")
        self._result.add_class("fl-result")
        self._where = widgets.Text(self._base, description="Address", **wide)
        self._typed = widgets.Text(self._code, description="Code", **wide)
        self._back = self._button("Join again", self.again, "Try to come in", "success")
        self._leave = self._button("Leave", self.leave, "Take part no more; drawings are kept")
        self._name = widgets.Text(
            name, description="Name", placeholder=f"at most {LONGEST} characters", **wide
        )
        self._wish = self._button("Wish for it", self._wished, "Your teacher looks at it first")
        self._pad = DrawingPad()
        self._pad.observe(lambda _: self._wake.set(), "pixels")
        self._asked = widgets.HTML()
        self._asked.add_class("fl-asked")
        self._keep_it = self._button("Keep it", self.keep, "It is the digit asked for", "success")
        self._undo = self._button("Take back", self.take_back, "The drawing kept last goes")
        self._go = self._button("Train with the class", self.train, "With what is drawn", "success")
        self._take = self._button(
            "Take the shards", self.take_shards, "What the teacher deals to laptops", "success"
        )
        self._dealt = widgets.HTML()
        self._stage = Stage(lambda: None)

    def _layout(self) -> list[widgets.Widget]:
        style = widgets.HTML(STYLE)
        style.add_class("fl-style")
        self._try = widgets.HBox([self._where, self._typed, self._back])
        row = widgets.HBox([self._name, self._wish, self._leave, self._stage])
        beside = [self._asked, widgets.HBox([self._keep_it, self._undo]), self._counts, self._go]
        draw = widgets.HBox([self._pad, widgets.VBox(beside)])
        draw.add_class("fl-draw")
        deal = widgets.VBox([self._dealt, self._take])
        for box in (self._try, row, draw):
            box.add_class("fl-row")
        self._ways = Tabs({DRAWN: draw, SHARDS: deal}, self._wake.set)
        honest = widgets.HTML(f"<p>{HONEST}</p>")
        honest.add_class("fl-honest")
        return [style, row, self._header, honest, self._try, self._ways, self._result]

    def _wished(self) -> None:
        self.wish(self._name.value)

    # ---- the thread that keeps the panel up to date ----------------------------------------------

    def _do(self, action: Callable[[], object]) -> None:
        if self._closing:
            raise RuntimeError("this panel is closed; expected a new one: run its cell again")
        self._todo.append(action)
        self._wake.set()

    def _keep_up(self) -> None:
        if self._before is not None:
            self._before.join(30)
        try:
            while not self._closing:
                self._refresh_or_say()
                self._wake.wait(0.2)
                self._wake.clear()
                while self._todo and not self._closing:
                    try:
                        self._trouble = ""
                        self._todo.popleft()()
                    except Exception as error:  # what the class refuses: a sentence, and it goes on
                        self._show_error(error)
        finally:
            if self.student is not None:
                self.student.stop()
            said = "This panel is closed. Run the cell again to join anew."
            self._header.value = views.header("closed", False, said, "–", "")
            buttons = [self._back, self._leave, self._wish, self._keep_it, self._undo, self._go]
            for button in (*buttons, self._take):
                button.disabled = True

    def _show_error(self, error: Exception) -> None:
        self._trouble = str(error) or type(error).__name__
        self._wake.set()

    @property
    def _present(self) -> Student:
        if self.student is None:
            raise Refused("you are in no class yet; expected you to join first")
        return self.student

    def _come_in(self, name: str) -> None:
        student = Student(
            self._base,
            code=self._code,
            name=name,
            kind=NOTEBOOK,
            session=self._session,
            on_change=lambda seen: self._wake.set(),
            certificate=self._certificate,
        )
        student.start()
        self.student = student
        self._tell()

    def _again(self) -> None:
        where = self._where.value
        base, code = split_join_url(where, None if "/J/" in where.upper() else self._typed.value)
        if self.student is not None and (base, code) == (self._base, self._code):
            if not self.student.running:
                self.student.come_again()
            return
        self._base, self._code = base, code
        if self.student is not None:
            self.student.stop()
            self.student = None
        self._given = False
        self._come_in(wished(self._name.value))
        if self._shards:
            self._take_shards()

    def _keep(self) -> None:
        self.drawings.keep(self._pad.pixels)
        self._pad.clear()
        self._tell()

    def _take_back(self) -> None:
        if self.drawings.kept:
            self.drawings.kept.pop()
            self._tell()

    def _tell(self) -> None:
        """What is drawn now: given, where this student trains with it, or only told. Where so
        many were taken back that they are not enough, it trains no more.
        """
        if self.student is None:
            return
        if self._given and self.drawings.enough:
            self.student.give(*self.drawings.datasets())
            return
        if self._given:
            self._given = False
            self.student.take(None)
        if not self._shards:
            train, held = self.drawings.parts()
            self.student.drew(len(train), len(held), len({label for label, _ in train}))

    def _train(self) -> None:
        if not self.drawings.enough:
            raise Refused(f"got {counted(len(self.drawings.kept), 'drawing')}; {self._wanted}")
        self._shards, self._given = False, True
        self._present.take(None)
        self._tell()

    def _take_shards(self) -> None:
        self._present.take(images(None))
        self._shards, self._given = True, False

    @property
    def _wanted(self) -> str:
        return f"expected at least {LEAST}, of two different digits"

    # ---- what is so ------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Set every widget to what is so now. Setting a trait to its own value sends nothing."""
        seen, student = self.seen, self.student
        inside = student is not None and student.running
        pill, said = now_words(seen, inside)
        trouble = self._trouble or (str(student.error) if student and student.error else "")
        shown = views.message(trouble, error=True) if trouble else views.message(said)
        good = views.percent(share(seen.last))
        of = f"the class's model<br>on {self._own}" if seen.last else ""
        self._header.value = views.header(pill, bool(trouble), shown, good if of else "", of)
        self._try.layout.display = None if self._lost(inside) else "none"
        removed = student is not None and isinstance(student.error, Removed)
        self._back.description = "Ask to join again" if removed else "Join again"
        self._leave.disabled = self._wish.disabled = not inside
        drawings = self.drawings
        self._asked.value = f"<p>Draw a <b>{drawings.asked}</b></p>"
        self._keep_it.disabled = not any(self._pad.pixels)
        self._undo.disabled = not drawings.kept
        self._go.disabled = not drawings.enough or not inside or self._given
        self._counts.value = counts_words(drawings)
        self._take.disabled = not inside or self._shards
        self._dealt.value = f"<p>{dealt_words(seen, self._shards)}</p>"
        self._result.value = result_words(seen)

    @property
    def _own(self) -> str:
        return "MNIST test images" if self._shards else "your own digits"

    def _lost(self, inside: bool) -> bool:
        """Whether it is out, and there is something to try again."""
        waiting = bool(self._todo) and self.student is None
        return not inside and not waiting


def now_words(seen: Seen, inside: bool) -> tuple[str, str]:
    """What goes on: a name, and a sentence."""
    told = seen.told or {}
    called = seen.name if seen.name and seen.approved else seen.client
    called = (told.get("name") if told.get("approved") else "") or called or "joining"
    if not inside:
        return called, "You take no part now." if seen.client else "Coming in."
    if seen.doing == "away":
        return called, seen.message
    wish, phase = told.get("name"), told.get("phase", "")
    waits = f" Your teacher has not approved “{wish}” yet." if wish and not told["approved"] else ""
    if seen.doing == "drawing":
        return called, f"Draw digits, or take shards.{waits}"
    going = {
        RUNNING: f"Round {told.get('round')} of {told.get('rounds')}: {seen.message}.",
        PAUSED: "Your teacher has paused.",
        OVER: "The class is over.",
    }.get(phase, "Ready. Your teacher starts the rounds.")
    return called, going + waits


def counts_words(drawings: Drawings) -> str:
    """How many of each digit there are."""
    counts, (train, held) = drawings.counts, drawings.parts()
    cells = "".join(f"<span>{digit}<b>{counts[digit]}</b></span>" for digit in range(10))
    told = f"{len(train)} to train on, {len(held)} kept aside"
    more = "" if len(drawings.kept) >= TARGET else f"; {TARGET} are good, {LEAST} are enough"
    return f'<div class="fl-counts">{cells}</div><p class="fl-soft">{told}{more}</p>'


def dealt_words(seen: Seen, taken: bool) -> str:
    """Which shards the teacher has dealt."""
    dealt = (seen.told or {}).get("shards")
    if not dealt:
        waits = "You take what comes." if taken else "They are images of MNIST."
        return f"Your teacher has dealt you no shards yet. {waits}"
    first, last = dealt
    which = f"shard {first}" if first == last else f"shards {first} to {last}"
    return f"Your teacher has dealt you {which} of MNIST" + (
        ": you train with them." if taken else "."
    )


def result_words(seen: Seen) -> str:
    """Before and after, and alone."""
    first, last = seen.first, seen.last
    if last is None:
        return ""
    told = [f"before <b>{views.percent(share(first))}</b>"]
    if last is not first:
        told.append(f"after <b>{views.percent(share(last))}</b>")
    if last.alone is not None:
        told.append(f"alone <b>{views.percent(last.alone / last.total)}</b>")
    said = f"{escape(' ')}".join(f"<span>{one}</span>" for one in told)
    return (
        f'<p class="fl-before">{said} <span>of {counted(last.total, "digit")} kept aside</span></p>'
    )
