"""A live class: a server, who is in the class, and the run that the teacher leads. No widgets: a
panel is one way to look at it, and every button of that panel is a call here.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from fedlab import wire
from fedlab.checkpoint import save_checkpoint
from fedlab.checks import Refused, whole
from fedlab.classroom.average import ClassAverage, alike
from fedlab.classroom.codes import (
    TooManyTries,
    Tries,
    WrongCode,
    check_code,
    new_code,
    read,
)
from fedlab.classroom.curves import Curves, curves_of, to_csv
from fedlab.classroom.roster import GONE, PHONE, Measured, Roster, Student, deal
from fedlab.classroom.routes import ClassRoutes
from fedlab.classroom.settings import ALIKE, MNIST, STARTS, ClassSettings
from fedlab.codecs import codec
from fedlab.data import NUM_SHARDS, Mnist, load_mnist
from fedlab.federation import Limits
from fedlab.history import History
from fedlab.http.client import NotAdmitted
from fedlab.http.server import Server, new_federation
from fedlab.messages import HALF, RunOver, Training, UnknownClient, Weights
from fedlab.model import Classifier
from fedlab.plan import Plan

WAITING, RUNNING, PAUSED, OVER = "waiting", "running", "paused", "over"

PORT = 8642
"""Where a class listens, if that is free: an address that stays the same is typed once."""

LAST_WORDS = 4.0
"""Seconds for which a class that is over still answers: a phone asks every three seconds."""

LEAST, TARGET = 10, 30
"""Digits that a phone wants before it takes part, and that it asks for."""

PRETRAINING = Training(epochs=2, batch_size=32, learning_rate=0.1)
"""Of the model that reads MNIST: some seconds, some 97 % of the test images."""


class LiveClass:
    """A class that is open from the moment it is made until `close`.

    mnist:    for the test set, for what laptops are dealt, and to begin with; `load_mnist()` if
              None.
    code:     five characters by which students come in; random if None. A server that takes
              another's place keeps its students with the same one.
    before:   a class whose place this one takes: with the same code, whoever had to go from it
              stays out.
    settings: those of `ClassSettings`.

    Raises Refused for values that cannot be, and what `Server` raises.
    """

    def __init__(
        self,
        mnist: Mnist | None = None,
        *,
        code: str | None = None,
        before: LiveClass | None = None,
        **settings,
    ):
        chosen = ClassSettings(**settings)
        self.code = new_code() if code is None else check_code(code)
        self.training, self.deadline = chosen.training(), chosen.deadline
        self.minimum, self.half, self.seed = chosen.minimum, chosen.half, chosen.seed
        self.round_deadline = chosen.deadline  # of the round under way, or the last one
        self.weigh, self.begun_with = chosen.weigh, chosen.begin
        self.mnist = mnist if mnist is not None else load_mnist()
        self._checkpoint = chosen.checkpoint
        self._lock = threading.RLock()
        self._roster, self._tries = Roster(chosen.students), Tries()
        if before is not None and before.code == self.code:
            with before._lock:
                self._roster.keep_out(before._roster)
        self._silent: set[str] = set()  # who was asked in this round, and has not answered
        self._rounds: list[tuple[int, int]] = [(0, 0)]  # a round, and the version of its model
        self._visits: dict[str, float] = {}  # address → when it last opened the page
        self._left = 0  # rounds that are still to be played
        self._planned = 0  # the last of them
        self._pausing = self._once = self._closed = False
        self._told_over: set[str] = set()  # who has heard that the class is over
        self._last_words = LAST_WORDS
        self._driver: threading.Thread | None = None
        self.trouble = ""
        combine = {"combine": alike} if chosen.weigh == ALIKE else {}
        about = {"asked": self._ask, "answered": self._hear}
        strategy = ClassAverage("FedAvg", "the average of the class", **about, **combine)
        limits = Limits(clients=max(chosen.students * 2, 100))
        kept = chosen.seed, chosen.checkpoint
        federation = new_federation(self.mnist.test, strategy, None, *kept, None, limits)
        self._classifier = Classifier(seed=chosen.seed)
        if not len(federation.history):  # not after a checkpoint
            federation.reset(self._first(chosen.begin))
            federation.history.untrained = self._tested(federation.weights)
        listening = {"host": chosen.host, "certificate": chosen.certificate, "key": chosen.key}
        listening |= {"federation": federation, "extension": ClassRoutes(self), "linger": 1.0}
        with self._lock:  # who comes in at once, as after a restart, is answered when all is there
            try:
                self.server = Server(port=PORT if chosen.port is None else chosen.port, **listening)
            except OSError:
                if chosen.port is not None:
                    raise
                self.server = Server(port=0, **listening)
            self._access = self.server.app.extensions["fedlab"][2]
            # After a checkpoint nobody knows any more which models those of earlier rounds were
            self._rounds += [(record.round, -1) for record in list(self.history)[:-1]]
            self._noted()

    # ---- what phones and laptops ask (ClassRoutes) -----------------------------------------------

    def enrol(self, fields: Mapping, address: str) -> dict:
        """A device comes in, or comes back. Raises Refused."""
        now = time.monotonic()
        session = fields.get("session")
        with self._lock:
            # Who is in has known the code: behind one router nobody keeps it from coming back
            if self._tries.spent(address, now) and not self._roster.knows(session):
                raise TooManyTries("too many wrong codes from here; expected you to wait a minute")
            said = fields.get("code")
            if not hmac.compare_digest(read(said), self.code):
                busy = self._tries.busy(now)
                self._tries.wrong(address, now)  # then, too: it is no time to guess for nothing
                if busy:
                    raise TooManyTries("many wrong codes come in just now; expected another try")
                expected = "expected the five characters on your teacher's screen"
                raise WrongCode(f"the code {str(said)[:20]!r} is not this class's; {expected}")
            kind = fields.get("kind", PHONE)
            taken = [member.client for member in self.federation.status().members]
            again, wish = fields.get("again") is True, fields.get("name") or ""
            student = self._roster.enrol(session, kind, now, again, taken, wish)
            token = self._access.enrol(student.client, session)
        seed = secrets.randbits(32)
        return {"client": student.client, "token": token, "seed": seed, "class": self.code}

    def tell(self, client: str, said: Mapping) -> dict:
        """A student's device says how it goes, and hears how the class does. Raises Refused."""
        with self._lock:
            if self._roster.find(client) is None:  # removed just now, or no student
                raise NotAdmitted("you are not in the class; expected you to come in")
            version, now = self.federation.model[0], time.monotonic()
            self._roster.tell(client, said, version, now)
            if self._closed:
                self._told_over.add(client)
            student, known = self._roster.student(client), self._roster.versions()
            measured = self._roster.accuracy(known[-1]) if known else None
            return {
                "client": client,
                "name": student.wish,
                "approved": student.approved,
                "class": self.code,
                "phase": self.phase,
                "round": self.round,
                "rounds": self.rounds,
                "version": version,
                "lineage": self.federation.state.lineage,
                "students": len(self._roster),
                "training": sum(
                    s.doing == "training" and not s.quiet(now) for s in self._roster.all()
                ),
                "min_digits": LEAST,
                "target": TARGET,
                "shards": student.shards,
                "class_accuracy": measured[0] if measured else None,
                "half": self.half,
            }

    def seen(self, address: str) -> None:
        """A browser has opened the phone page."""
        with self._lock:
            self._visits[address] = time.monotonic()
            while len(self._visits) > 1_000:
                del self._visits[next(iter(self._visits))]

    def visits(self) -> tuple[int, float | None]:
        """From how many addresses the phone page was opened, and how many seconds ago the last."""
        with self._lock:
            return len(self._visits), (
                time.monotonic() - max(self._visits.values()) if self._visits else None
            )

    # ---- the class -------------------------------------------------------------------------------

    @property
    def federation(self):
        """The server's federation."""
        return self.server.federation

    def students(self) -> list[Student]:
        """Everyone, as they are now, in the order in which they came."""
        with self._lock:
            return [replace(s, measured=dict(s.measured)) for s in self._roster.all()]

    def _here(self) -> list[Student]:
        """Who has neither left nor gone quiet."""
        now = time.monotonic()
        return [s for s in self._roster.all() if s.doing not in GONE and not s.quiet(now)]

    def shown(self, client: str) -> str:
        """The name by which the class sees a client."""
        with self._lock:
            student = self._roster.find(client)
            return student.shown if student else client

    @property
    def open(self) -> bool:
        """Whether newcomers are let in; who is in comes back all the same."""
        return self._roster.open

    @open.setter
    def open(self, open: bool) -> None:
        self._roster.open = bool(open)

    def approve(self, client: str | None = None) -> None:
        """Show the name that this student, or everybody, wishes for. Raises Refused for nobody."""
        with self._lock:
            every = self._roster.all() if client is None else [self._roster.student(client)]
            for student in every:
                student.approved = bool(student.wish)

    def rename(self, client: str, name: str) -> None:
        """Call this student so; "": as it was given. Raises Refused."""
        with self._lock:
            self._roster.rename(client, name)

    def remove(self, client: str, ban: bool = False) -> None:
        """Have this student go. It may ask to come in again, unless there is a ban: that holds for
        its device, as far as that says who it is. Raises Refused for nobody.
        """
        with self._lock:
            self._roster.remove(client, ban)
            self._access.revoke(client)
        with suppress(UnknownClient, RunOver):
            self.federation.remove(client)

    def deal(self) -> dict[str, tuple[int, int]]:
        """Deal MNIST's shards to the laptops (notebooks and terminals) that are here and do not
        train with drawings, none to two of them. A terminal takes them up by itself, a notebook
        when its student says so. Raises Refused for more laptops than shards.
        """
        with self._lock:
            laptops = [student.client for student in self._here() if student.takes_shards]
            dealt = deal(laptops, NUM_SHARDS)
            for student in self._roster.all():
                student.shards = dealt.get(student.client)
            return dealt

    # ---- the run ---------------------------------------------------------------------------------

    def set_waiting(self, minimum: int | None = None, deadline: float | None = None) -> None:
        """How many must be ready before a round begins, and how many seconds it then waits for
        their updates; as before where None. It holds from the next round on, and for one that still
        waits for students. Raises Refused.
        """
        chosen = ClassSettings(
            minimum=self.minimum if minimum is None else minimum,
            deadline=self.deadline if deadline is None else deadline,
        )
        with self._lock:
            if (chosen.minimum, chosen.deadline) == (self.minimum, self.deadline):
                return
            self.minimum, self.deadline = chosen.minimum, chosen.deadline
            waits = self._driver is not None and self._waits
        if waits:
            self.federation.stop()  # it is begun anew

    @property
    def _waits(self) -> bool:
        """Whether the round that is to be played has not begun, as too few are ready."""
        return self.federation.status().round == self._last()

    @property
    def phase(self) -> str:
        """ "waiting" for the teacher, "running", "paused" or "over"."""
        if self._closed:
            return OVER
        if self._driver is None:
            return PAUSED if self._left else WAITING
        return RUNNING

    @property
    def pausing(self) -> bool:
        """Whether it pauses when the round under way has ended."""
        return self._pausing and self.phase == RUNNING

    @property
    def round(self) -> int:
        """The round under way, or the last one."""
        return self.federation.status().round

    @property
    def rounds(self) -> int:
        """The last round that is planned."""
        return self._planned

    @property
    def history(self) -> History:
        """The rounds so far, as the server knows them: accuracies are of MNIST's test images."""
        return self.federation.history

    def start(self, rounds: int = 10) -> None:
        """Play so many rounds, in the background; after `pause`, the rest of them. Does nothing
        while rounds are played, but take a pause back that has not begun. Raises Refused.
        """
        rounds = whole("rounds", rounds, 1, 10_000)
        with self._lock:
            if self._closed:
                raise Refused("the class is over; expected a new one")
            self._pausing = self._once = False
            if self._driver is not None:
                return
            if not self._left:
                self._left, self._planned = rounds, self._last() + rounds
            self.trouble = ""
            self._driver = threading.Thread(
                target=self._drive, name="fedlab-classroom", daemon=True
            )
            self._driver.start()

    def one_round(self) -> None:
        """Play one round, after a pause one of the rest; does nothing while rounds are played."""
        with self._lock:
            if self._driver is None:
                paused = self._left > 0
                self.start(1)
                self._once = paused

    def pause(self) -> None:
        """Play no further round until `start`; the one under way is ended, and one that still waits
        for students is not begun.
        """
        with self._lock:
            self._pausing = self._driver is not None
            waits = self._pausing and self._waits
        if waits:
            self.federation.stop()

    def stop(self) -> None:
        """End it now: the round under way is dropped, what was learned stays."""
        with self._lock:
            self._left, driver = 0, self._driver
        self.federation.stop()
        if driver is not None and driver is not threading.current_thread():
            driver.join(15)

    def wait(self, timeout: float = 600.0) -> History:
        """Wait until no round is played any more; the history. Raises TimeoutError, or Refused for
        what went wrong.
        """
        driver = self._driver
        if driver is not None:
            driver.join(timeout)
            if driver.is_alive():
                raise TimeoutError(f"the rounds did not end within {timeout:g} s")
        if self.trouble:
            raise Refused(self.trouble)
        return self.history

    def begin_anew(self, begin: str | None = None) -> None:
        """Forget what was learned; everybody stays. begin: "blank" or "mnist"; as before if None.
        Raises Refused while rounds are played.
        """
        begin = self.begun_with if begin is None else begin
        if begin not in STARTS:
            raise Refused(f"begin is {begin!r}; expected {' or '.join(map(repr, STARTS))}")
        if self._driver is not None:
            raise Refused("rounds are being played; expected to stop them first")
        weights = self._first(begin)
        untrained = self._tested(weights)
        with self._lock:
            if self._driver is not None:
                raise Refused("rounds are being played; expected to stop them first")
            self.federation.reset(weights)
            self.history.untrained = untrained
            if self._checkpoint is not None:  # a restart must not bring back what was forgotten
                about = self.federation.state, self.history, self.federation.strategy.identity
                save_checkpoint(self._checkpoint, *about)
            self.begun_with, self._left, self._planned = begin, 0, 0
            self._rounds = [(0, 0)]
            self._roster.forget_measured()
            self._noted()

    def curves(self) -> Curves:
        """How it went so far."""
        with self._lock:
            return curves_of(list(self._rounds), self.history, self._roster)

    def results(self) -> dict[str, tuple[Measured | None, Measured | None]]:
        """What each student's device measured: of the first model, and of the latest; by the name
        that the class sees.
        """
        return {student.shown: (student.first, student.last) for student in self.students()}

    def to_csv(self) -> str:
        """The curves as a table, a round a line; accuracies from 0 to 1, empty where not known."""
        return to_csv(self.curves(), self.history)

    def model_bytes(self) -> bytes:
        """The class's model as a safetensors file."""
        version, weights = self.federation.model
        return wire.pack(wire.parts(weights, kind="model", version=version))

    def close(self) -> None:
        """The class is over: everybody is told who is still there. Does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.stop()
        end = time.monotonic() + self._last_words
        while self._untold() and time.monotonic() < end:
            time.sleep(0.05)
        self.server.close()

    def _untold(self) -> bool:
        """Whether somebody whose device speaks every few seconds has not heard yet that the class
        is over.
        """
        with self._lock:
            return bool({student.client for student in self._here()} - self._told_over)

    def __enter__(self) -> LiveClass:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LiveClass {self.code} at {self.server.address}, {self.phase}>"

    # ---- in its own thread -----------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            while (before := self._begin()) is not None:
                played = self._play(before)
                with self._lock:
                    self._left = max(self._left - played, 0)
                    if played:  # a round that is begun anew is still the one that was asked for
                        self._pausing, self._once = self._pausing or self._once, False
        except Exception as error:  # told by the panel, and raised by `wait`
            with self._lock:
                self.trouble = str(error) or type(error).__name__
                self._left, self._driver = 0, None

    def _begin(self) -> int | None:
        """Begin a round, if there is to be one: how many there were before. Otherwise this thread
        is the driver no more. In one piece: who presses a button does so before, or after.
        """
        with self._lock:
            if self._left <= 0 or self._pausing:
                self._driver = None
                return None
            plan = Plan(
                1,
                self.training,
                deadline=self.deadline,
                min_updates=1,
                min_clients=self.minimum,
                strict=False,
                codec=codec(HALF) if self.half else None,
            )
            self._silent, before, self.round_deadline = set(), len(self.history), self.deadline
            self.federation.start(plan)
            return before

    def _play(self, before: int) -> int:
        """The round that has begun, to its end: how many were played, 0 where it was stopped."""
        self.federation.wait()
        if len(self.history) == before:
            return 0
        # Asleep, or gone without a word: no further round waits for them until they are back
        for client in self._silent:
            self.federation.dismiss(client)
        self._noted()
        return 1

    def _ask(self, clients: Iterable[str]) -> None:
        self._silent = set(clients)

    def _hear(self, client: str) -> None:
        self._silent.discard(client)

    def _last(self) -> int:
        return self.history.last.round if self.history.last else 0

    def _noted(self) -> None:
        """Which model the last round has made."""
        with self._lock:
            version = self.federation.model[0]
            if self._last() > self._rounds[-1][0]:
                self._rounds.append((self._last(), version))
            elif not self._last():
                self._rounds = [(0, version)]

    def _first(self, begin: str) -> Weights:
        weights = self._classifier.weights
        if begin == MNIST:
            train = self._classifier.train
            weights, _ = train(weights, self.mnist.train, PRETRAINING, self.seed)
        return weights

    def _tested(self, weights: Weights) -> float:
        return self._classifier.evaluate(weights, self.mnist.test)[1]
