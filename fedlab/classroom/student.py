"""One of a class, in Python: what the phone page is in a browser. A notebook's panel, a terminal
and a simulated phone are each a Student; its rounds are an ordinary `fedlab.Client`'s.
"""

from __future__ import annotations

import functools
import json
import math
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests

from fedlab import wire
from fedlab.checks import Refused
from fedlab.classroom.codes import TooManyTries, WrongCode, read
from fedlab.classroom.roster import (
    DRAWINGS,
    MOST_DRAWN,
    NOTEBOOK,
    SHARDS,
    BadName,
    Closed,
    Measured,
    NameTaken,
    Removed,
)
from fedlab.codecs import codec
from fedlab.data import Dataset, Mnist
from fedlab.http.client import Client, NotAdmitted, ServerAway
from fedlab.messages import Banned, Full, Task, Update, Weights, local_seed
from fedlab.model import Classifier

PAUSE = 2.0
"""Seconds between two words to the teacher's computer."""

KINDS = (BadName, Banned, Closed, Full, NameTaken, NotAdmitted, Removed, TooManyTries, WrongCode)
KINDS = {error.kind: error for error in KINDS}

ENDS = Removed, Banned, Closed, Full, WrongCode
"""After these a device does not try again by itself."""


@dataclass(frozen=True)
class Seen:
    """How it goes, for people. client: its id; name: a wish for another; approved: whether the
    class sees that. doing: "joining", "drawing", "ready", "training", "away" or "out". told: what
    the server has said last (docs/classroom.md). first, last: what was measured of the first model,
    and of the latest. message: the same in words.
    """

    client: str = ""
    name: str = ""
    approved: bool = False
    doing: str = "joining"
    told: dict | None = None
    first: Measured | None = None
    last: Measured | None = None
    message: str = "joining"


@dataclass(frozen=True)
class _Beginning:
    """What a measurement is of: the count of beginnings, the examples and those kept aside, whether
    they are drawn, and the model that learns alone (None: it has learned nothing).
    """

    era: int
    digits: tuple[Dataset, Dataset]
    drawn: bool
    alone: Weights | None


def split_join_url(url: str, code: str | None = None) -> tuple[str, str]:
    """http://host:port/ and the code, from what a teacher's screen shows. Raises Refused.

    >>> split_join_url("http://192.168.1.20:8642/J/K7QXM")
    ('http://192.168.1.20:8642/', 'K7QXM')
    >>> split_join_url("192.168.1.20:8642", "k7qxm")
    ('http://192.168.1.20:8642/', 'K7QXM')
    """
    text = str(url).strip()
    try:
        parts = urlsplit(text if "//" in text else f"http://{text}")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    path, found = parts.path.rstrip("/") if good else "", code
    head, _, last = path.rpartition("/")
    if head[-2:].upper() == "/J":
        path, found = head[:-2], last if code is None else code
    elif last.upper() == "J":
        path = head
    plain = read(found)
    if not good or not plain:
        what = f"the address is {text[:80]!r}" + (f", the code {code!r}" if code else "")
        raise Refused(f"{what}; expected what your teacher shows: http://192.168.1.20:8642/J/K7QXM")
    return f"{parts.scheme}://{parts.netloc}{path}/", plain


class Student:
    """A participant of a class. `start` comes in and takes part in the background, until `stop`.

    url:     what the teacher shows: "http://192.168.1.20:8642/J/K7QXM"; or the address alone, and
             code.
    digits:  its own examples, and those that are kept aside: (train, held out). None: what the
             teacher deals to it of `mnist`, tested on MNIST's test images.
    name:    a wish; the class sees a given name until the teacher has approved it.
    kind:    "notebook", "terminal" or "phone" (a simulated one).
    session: a random text by which it comes back as who it was.
    on_change: called with a Seen whenever something has changed, in one of its threads.
    alone:   whether it also trains a model on its own digits only, to compare.
    certificate: of a class that speaks TLS, as in `Client`.

    Raises Refused for what cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        code: str | None = None,
        digits: tuple[Dataset, Dataset] | None = None,
        mnist: Mnist | None = None,
        name: str = "",
        kind: str = NOTEBOOK,
        session: str | None = None,
        on_change: Callable[[Seen], None] | None = None,
        alone: bool = True,
        certificate: str | Path | None = None,
    ):
        self.base, self.code = split_join_url(url, code)
        self._mnist, self._kind, self._with_alone = mnist, kind, alone
        self._session_name = session or secrets.token_hex(16)
        self.on_change = on_change
        self._lock = threading.RLock()
        self._digits: tuple[Dataset, Dataset] | None = None
        self._wish = name
        self._shards: tuple[int, int] | None = None
        self._drawn: tuple[int, int, int] | None = None
        self._token = ""
        self._client: Client | None = None
        self._fresh = False  # whether the client has other digits than were told
        self._lineage = ""
        self._alone: Weights | None = None
        self._era = 0  # counts beginnings: what is under way at one of them belongs to none
        self._others = False  # whether its examples are of another kind than those measured
        self._measured: dict[int, Measured] = {}
        self._untold: list[Measured] = []
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.seen = Seen(name=name)
        self.error: Exception | None = None
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy stands between neighbours
        self._certificate = certificate
        if certificate is not None:
            self._http.verify = str(certificate)
        if digits is not None:
            self.give(*digits)

    # ---- what people do --------------------------------------------------------------------------

    def start(self) -> Student:
        """Come in now, and take part in the background. Raises Refused, ServerAway."""
        self._enrol()
        self._begin()
        return self

    def _begin(self) -> None:
        name = f"fedlab-student-{self.seen.client}"
        self._thread = threading.Thread(target=self._talk, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Leave. Does nothing the second time."""
        self._stop.set()
        self._wake.set()
        if self._client is not None:
            self._client.stop(timeout)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._http.close()

    def give(self, train: Dataset, held_out: Dataset) -> None:
        """Take part with these examples from now on; of those kept aside the first 1,000 are looked
        at. Raises Refused where either is empty.
        """
        if not len(train) or not len(held_out):
            sizes = f"{len(train)} digits to train on and {len(held_out)} kept aside"
            raise Refused(f"got {sizes}; expected at least one of each")
        held_out = held_out.subset(np.arange(min(len(held_out), MOST_DRAWN)))
        with self._lock:
            self._digits, self._fresh = (train, held_out), True
        self._wake.set()

    def take(self, mnist: Mnist | None) -> None:
        """Take the shards of these data that the teacher deals, in place of other examples; none
        any more if None. What was measured with the examples before is over.
        """
        with self._lock:
            self._mnist, self._shards, self._digits, self._others = mnist, None, None, True
        self._wake.set()

    def drew(self, train: int, held_out: int, labels: int) -> None:
        """Tell how many digits are drawn, while they are not given yet."""
        self._drawn = train, held_out, labels
        self._wake.set()

    def wish(self, name: str) -> None:
        """Wish for a name. Raises Refused, BadName, NameTaken, ServerAway."""
        self._ask("students/me", {"name": name})
        self._wish = name
        self._wake.set()

    def come_again(self) -> None:
        """After the teacher has removed this student: ask to come in again. Raises Refused."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._enrol(again=True)
        self.start_again()

    def start_again(self) -> None:
        """Its threads, once more."""
        self._stop.clear()
        self.error, self._client, self._fresh = None, None, self._digits is not None
        self._begin()

    @functools.cached_property
    def _classifier(self) -> Classifier:
        # Made once, and when it is first needed: it takes longer than to train on 24 digits
        return Classifier()

    @property
    def _uses(self) -> str:
        return SHARDS if self._mnist is not None else DRAWINGS if self._digits is not None else ""

    @property
    def running(self) -> bool:
        """Whether it is in the class."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Student:
        return self if self.running else self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    # ---- in its own thread -----------------------------------------------------------------------

    def _talk(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    try:
                        self._look()
                    except NotAdmitted:
                        self._back()  # the server was restarted, or the teacher has removed us
                except TooManyTries as wait:  # somebody else's, of the same address
                    self._say(doing="away", message=str(wait))
                except ServerAway as away:
                    finished = self._client and self._client.status.phase == "finished"
                    if finished or (self.seen.told or {}).get("phase") == "over":
                        return self._say(doing="out", message="the class is over")
                    self._say(doing="away", message=str(away))
                self._wake.wait(PAUSE)
                self._wake.clear()
        except ENDS as error:
            self.error = error
            self._say(doing="out", message=str(error))
        except Refused as error:
            self.error = error
            self._say(doing="out", message=f"out: {error}")
        finally:
            if self._client is not None:
                self._client.stop()
            self._tell_last()

    def _tell_last(self) -> None:
        """That it is away: nobody waits until it is quiet. Where that cannot be said, nothing."""
        if self._stop.is_set() and self.seen.doing not in ("away", "out"):
            with suppress(Refused, ServerAway):
                self._ask("students/me", {"doing": "away"}, timeout=1.0)

    def _back(self) -> None:
        try:
            self._enrol()
        except (BadName, NameTaken):  # somebody else has it by now
            self._wish = ""
            self._enrol()

    def _look(self) -> None:
        client = self._client
        training = client is not None and client.status.phase in ("training", "testing")
        doing = "training" if training else "drawing" if self._digits is None else "ready"
        with self._lock:
            telling = self._untold[:20]
            said = {"doing": doing, "measured": [vars(item) for item in telling]}
            said["uses"] = self._uses
            count = self._drawn
            if self._digits is not None:
                train, held = self._digits
                kinds = len(np.unique(train.y))
                count = min(len(train), MOST_DRAWN), len(held), kinds
            if count is not None:
                said["drawn"] = dict(zip(("train", "held_out", "labels"), count, strict=True))
        try:
            told = self._ask("students/me", said)
        except Refused as error:
            if error.kind != Refused.kind or not telling:
                raise
            # Of models that it does not have: it was restarted, or has begun anew
            told = self._ask("students/me", said | {"measured": []})
        with self._lock:
            self._untold = [item for item in self._untold if item not in telling]
        self._take_up(told)
        self._see_to_client(told)
        # Of a class that is over no model is fetched: its server is about to close
        idle = told["phase"] not in ("running", "over") and not training
        if idle and self._digits is not None and told["version"] not in self._measured:
            self._measure_the_latest()
        doing = "ready" if doing == "ready" and self._client is None else doing
        message = self._client.status.message if self._client else "waiting for examples"
        self._say(doing=doing, told=told, message=message, approved=told["approved"])

    def _take_up(self, told: dict) -> None:
        """The shards that the teacher has dealt."""
        if told["lineage"] != self._lineage or self._others:
            self._others = False
            self._begins(told["lineage"])
        shards = tuple(told["shards"]) if told.get("shards") else None
        if self._mnist is not None and shards != self._shards:
            self._shards = shards
            if shards is not None:
                self.give(self._mnist.shards(*shards), self._mnist.test.subset(np.arange(1_000)))
            else:  # dealt to others, while this one was away
                self._digits = None
        if self._digits is None and self._client is not None:
            self._client.stop()
            self._client = None

    def _see_to_client(self, told: dict) -> None:
        """One client for the examples that there are; another one where they are others, or where
        the one before has ended by itself.
        """
        client = self._client
        if self._digits is None or told["phase"] == "over":
            return
        if client is not None and client.running and not self._fresh:
            return
        if client is not None:
            if client.running and client.status.phase in ("training", "testing", "sending"):
                return  # what it trains is not thrown away
            client.stop()
        with self._lock:
            if self._digits is None:  # taken away just now
                return
            train, held = self._digits
            self._fresh = False
        url = f"{self.base}?token={self._token}"
        self._client = Client(
            url,
            self.seen.client,
            train,
            test=held,
            transforms=[self._measure],
            codecs=codec,
            patience=60.0,
            certificate=self._certificate,
        ).start()

    def _begins(self, lineage: str) -> None:
        """Another untrained model: what was measured of the one before is over."""
        with self._lock:
            self._lineage, self._alone = lineage, None
            self._era += 1
            self._measured.clear()
            self._untold.clear()
        self._say(first=None, last=None)

    def _measure(self, update: Update, task: Task) -> Update:
        """In the client's thread, before an update leaves: the class's model on what was kept
        aside, and one that learns alone.
        """
        if task.lineage != self._lineage:
            self._begins(task.lineage)
        if (beginning := self._beginning()) is None:  # others are taken in place of them
            return update
        alone = self._note(task.version, task.weights, beginning)
        if self._with_alone:
            seed = local_seed(task.seed, task.round, f"{update.client}, alone")
            train, _ = beginning.digits
            learned, _ = self._classifier.train(alone, train, task.training, seed)
            with self._lock:
                if beginning.era == self._era:
                    self._alone = learned
        return update

    def _beginning(self) -> _Beginning | None:
        with self._lock:
            if self._digits is None:
                return None
            return _Beginning(self._era, self._digits, self._uses == DRAWINGS, self._alone)

    def _measure_the_latest(self) -> None:
        if (beginning := self._beginning()) is None:
            return
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            answer = self._http.get(
                f"{self.base}model", headers=headers, timeout=30, allow_redirects=False
            )
        except requests.RequestException as error:
            raise ServerAway(f"no model came ({type(error).__name__})") from None
        if answer.status_code != 200:
            return
        message = wire.unpack(answer.content)
        weights = wire.groups(message.arrays)[""]
        self._note(int(message.texts["version"]), weights, beginning)
        self._wake.set()

    def _note(self, version: int, weights: Weights, beginning: _Beginning) -> Weights:
        """Measure these weights, and those of the model that learns alone: which are returned."""
        _, held = beginning.digits
        alone = beginning.alone if beginning.alone is not None else list(weights)

        def right(of: Weights) -> int:
            return round(self._classifier.evaluate(of, held)[1] * len(held))

        found = right(alone) if self._with_alone else None
        measured = Measured(version, right(weights), len(held), found, beginning.drawn)
        with self._lock:
            if beginning.era != self._era:
                return alone
            self._measured[version] = measured
            self._untold.append(measured)
            first, last = (self._measured[f(self._measured)] for f in (min, max))
        self._say(first=first, last=last)
        return alone

    # ---- HTTP ------------------------------------------------------------------------------------

    def _enrol(self, again: bool = False) -> None:
        said = {"code": self.code, "session": self._session_name, "kind": self._kind}
        if self._wish:
            said["name"] = self._wish
        if again:
            said["again"] = True
        told = self._ask("students", said)
        self._token = told["token"]
        self._say(client=told["client"], doing="drawing", message=f"in, as {told['client']}")

    def _ask(self, path: str, said: dict, timeout: float = 20.0) -> dict:
        """One POST. Raises Refused of the kind that the server says, ServerAway."""
        headers = {"Authorization": f"Bearer {self._token}"} if path != "students" else {}
        try:
            answer = self._http.post(
                self.base + path,
                json=said,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
            body = json.loads(answer.content)
            if answer.status_code in (200, 201):
                return body
            if answer.status_code >= 500 or answer.status_code == 408:
                raise ValueError(answer.status_code)  # trouble of its own: it passes
            sentence, kind = body["error"], body.get("kind")
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise ServerAway(
                f"no class answers at {self.base} ({type(error).__name__}); expected the teacher's"
                " computer there: is the address right, and are you in the same Wi-Fi?"
            ) from None
        raise KINDS.get(kind, Refused)(sentence)

    def _say(self, **changed) -> None:
        with self._lock:  # two threads say something
            self.seen = replace(self.seen, **changed)
        if self.on_change:
            self.on_change(self.seen)


def share(measured: Measured | None) -> float:
    """Of what was kept aside the part that is read right; nan where nothing was measured."""
    return measured.correct / measured.total if measured else math.nan
