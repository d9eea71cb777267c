"""The scenes that a candidate is led through, on a real server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

import numpy as np

from fedlab.conformance.evidence import Evidence, Verdict, verdicts
from fedlab.conformance.lossy import LOSSY
from fedlab.conformance.recorder import BUSY, PASS, TWICE, Heard, Recorder
from fedlab.conformance.rules import CALM
from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.federation.clock import RealTime
from fedlab.http.server import Server
from fedlab.messages import Update
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.strategies import State, Strategy

EXAMINER = "the examiner"
"""The other client of each round, which answers when the examination says so."""

QUIET = 2.0  # seconds without a task
LONGEST_POLL = 0.5  # seconds: every client is to see a 204
ENOUGH = 10  # requests of one that has not joined
AFTER = 1.5  # seconds in which nothing may come any more
PATIENCE = 50.0  # seconds of the rounds that are closed without the candidate: never waited for
FORGETS = 100.0  # the same where the server is to forget it


@dataclass(frozen=True)
class Report:
    """What became of an examination. At the end of a cell it is shown as a list.

    verdicts: on the rules that were reached, in order. complete: whether all of them were.
    heard: the candidate's requests, in the order of their answers.
    """

    verdicts: tuple[Verdict, ...]
    complete: bool
    heard: tuple[Heard, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        """Whether every rule was kept."""
        return self.complete and all(verdict.passed for verdict in self.verdicts)

    @property
    def first_failure(self) -> Verdict | None:
        """The first rule that was not kept: what comes after it may be only its consequence."""
        return next((verdict for verdict in self.verdicts if not verdict.passed), None)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        marks = [f"{'✓' if v.passed else '✗'} {v.kind}: {v.sentence}" for v in self.verdicts]
        return "\n".join([*marks, *([] if self.complete else ["… the rest was not reached"])])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<li style="border-left:5px solid {"#2a7f3f" if v.passed else "#b35900"};'
            f"background:{'#eaf5ec' if v.passed else '#fdf3e6'};color:#111;margin:3px 0;"
            f'padding:5px 10px;font-size:15px">{"✓" if v.passed else "✗"} '
            f"<b>{escape(v.kind)}</b> {escape(v.sentence)}</li>"
            for v in self.verdicts
        )
        rest = "" if self.complete else "<li>… the rest was not reached</li>"
        return f'<ul role="status" style="list-style:none;padding:0;margin:0">{rows}{rest}</ul>'


class _Ended(Exception):
    """The examination cannot go on; the text says why, where that is not a verdict already."""


class _Clock(RealTime):
    """A clock that can be put forward: a round's time is over when the examination says so."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class Examination:
    """A real server for one candidate, wherever it runs: give it `url`, then `run`.

    name:   by which the candidate takes part.
    data:   its examples, where they are known: then its training is checked number by number.
    model:  a built Keras classifier; the 2NN if None.
    lossy:  False: nothing gets lost; how it joins, waits, trains, answers and stops. True: a join,
            a task and an answer get lost, a server is busy, does not know its token any more, and
            forgets it.
    limit:  seconds for all of it.

    >>> import fedlab
    >>> from fedlab.conformance import Examination
    >>> with Examination("ada") as examination:
    ...     report = examination.run(alive=lambda: False)  # nobody takes part here
    >>> report.first_failure.kind, report.passed
    ('join', False)
    """

    def __init__(
        self,
        name: str = "ada",
        data: Dataset | None = None,
        model=None,
        *,
        lossy: bool = False,
        limit: float = 60.0,
    ):
        self.name, self.data, self.lossy, self.limit = name, data, lossy, limit
        self._classifier = Classifier(model)
        first = self._classifier.weights
        random = np.random.default_rng(0)

        def other(state: State, updates) -> State:
            # Far from what anybody has trained: who goes on from its own weights is seen.
            list(updates)
            return State([w + random.normal(0, 0.05, w.shape).astype(w.dtype) for w in first])

        strategy = Strategy("examination", "every round begins with another model", other)
        self._clock, self._token = _Clock(), secrets.token_urlsafe(24)
        self.federation = Federation(first, strategy, clock=self._clock)
        self.server = Server(federation=self.federation, token=self._token, linger=0.0)
        self.recorder = Recorder(self.server.app.wsgi_app)
        self.server.app.wsgi_app = self.recorder
        self.recorder.wait_most = LONGEST_POLL
        self._session = secrets.token_hex(4)
        self._scenes: list[str] = []
        # Now, not when it is led: whoever knows the address may be quick.
        self.federation.join(EXAMINER, 1, session=self._session)
        self._scene("join")
        if lossy:
            self.recorder.lose.add(("POST /clients", 201))
        self._alive: Callable[[], bool] = lambda: True
        self._end = 0.0

    @property
    def url(self) -> str:
        """To give to the candidate: it holds the class's token."""
        return self.server.url

    def __enter__(self) -> Examination:
        return self

    def __exit__(self, *_) -> None:
        self._end = 0.0
        self.server.close(linger=0.0)

    def run(
        self, alive: Callable[[], bool] = lambda: True, why: Callable[[], str] = lambda: ""
    ) -> Report:
        """Lead the candidate, which takes part meanwhile, through all scenes.

        alive: whether it is still there; why: how it has ended, when it has.
        """
        self._alive, self._end = alive, time.monotonic() + self.limit
        complete = False
        try:
            (self._lossy if self.lossy else self._calm)()
            self._over()
            complete = True
        except _Ended as stopped:
            gone = "" if alive() else why() or "It had ended by then, without an error"
            ended = " ".join(filter(None, (str(stopped), gone)))
        else:
            ended = "" if alive() else why()
        heard = list(self.recorder.heard)
        seen = Evidence(heard, self.name, self._token, self.data, self._classifier)
        found = verdicts(LOSSY if self.lossy else CALM, seen, self._scenes, ended)
        return Report(tuple(found), complete, tuple(heard))

    # ---- scenes ----------------------------------------------------------------------------------

    def _calm(self) -> None:
        self._joins()
        began = time.monotonic()
        self._scene("quiet")
        self._until(lambda: len(self._heard("GET /task")) > 1 and time.monotonic() > began + QUIET)
        if all(heard.status in (401, 403) for heard in self._heard("GET /task")):
            raise _Ended  # it will get no task: a verdict says why
        for scene, training in (
            ("first", {}),
            ("second", {"epochs": 2, "batch_size": None, "learning_rate": 0.05}),
        ):
            self._scene(scene)
            self._start(**training)
            self._until(lambda: self._heard("POST /updates"))
            if self._heard("POST /updates")[-1].status != 202:
                raise _Ended  # a verdict says why
            self._examiner_answers()
            self.federation.wait()
        self._scene("stale")
        self.recorder.script["POST /updates"] = [self._close_the_round]
        self._start(rounds=2, deadline=PATIENCE)
        self._until(lambda: self._after_the_refusal("conflict"))
        self._until(lambda: self._counted() or len(self._heard("POST /updates")) > 2)
        if not self._counted():
            raise _Ended
        self._examiner_answers()
        self.federation.wait()
        self._scene("twice")
        self.recorder.script["POST /updates"] = [TWICE]
        self._start()
        self._until(lambda: self._after_the_refusal("already_counted"))
        self._examiner_answers()
        self.federation.wait()

    def _lossy(self) -> None:
        self._joins()
        self._scene("busy")
        self.recorder.script["GET /task"] = [BUSY, BUSY]
        self._until(lambda: sum(heard.status != 503 for heard in self._heard("GET /task")) > 1)
        self._scene("first")
        self.recorder.lose |= {("GET /task", 200), ("POST /updates", 202)}
        self._start()
        self._until(lambda: self._heard("POST /updates") or not self.recorder.lose)
        self._scene("update")
        self._until(lambda: self._after_the_refusal("already_counted"))
        self._examiner_answers()
        self.federation.wait()
        self._scene("restarted")
        before = len(self.recorder.heard)
        self.server.app.extensions["fedlab"][2].forget()
        self._goes_on("token", before)
        self._scene("forgotten")
        before = len(self.recorder.heard)
        self.recorder.script["POST /updates"] = [self._close_the_round]
        self._start(deadline=FORGETS)
        self._goes_on("unknown_client", before)

    def _goes_on(self, refused: str, before: int) -> None:
        """Wait until it was refused so (after its first `before` requests), has joined again, and
        asks for a task. Raises _Ended where it does something else.
        """

        def since() -> list[Heard]:
            heard = list(self.recorder.heard)[before:]
            told = [number for number, h in enumerate(heard) if h.said.get("kind") == refused]
            return heard[told[0] + 1 :] if told else []

        self._until(since)
        again = since()[0]
        if again.route != "POST /clients" or again.status != 201:
            raise _Ended  # a verdict says why
        asked: list[Heard] = []
        self._until(lambda: asked.extend(h for h in since() if h.route == "GET /task") or asked)
        if asked[0].status == 401:
            raise _Ended  # it will get no task any more: a verdict says why

    def _joins(self) -> None:
        self._until(lambda: self._joined() or len(self._heard()) >= ENOUGH)
        if not self._joined():
            raise _Ended  # a verdict says why

    def _over(self) -> None:
        self._scene("over")
        self.federation.leave(EXAMINER)
        if self._alive():
            self.federation.close(grace=min(5.0, max(self._end - time.monotonic(), 0.1)))
        end = time.monotonic() + AFTER
        while self._alive() and time.monotonic() < end:
            time.sleep(0.02)

    # ---- what the scenes are made of -------------------------------------------------------------

    def _scene(self, name: str) -> None:
        self._scenes.append(name)
        self.recorder.scene = name

    def _start(self, rounds: int = 1, **settings) -> None:
        self.federation.start(Plan.of(rounds, min_clients=2, strict=False, **settings))

    def _heard(self, route: str = "") -> list[Heard]:
        """The requests of this scene."""
        scene = self._scenes[-1]
        return [h for h in self.recorder.heard if h.scene == scene and route in ("", h.route)]

    def _joined(self) -> bool:
        return any(heard.status == 201 for heard in self._heard("POST /clients"))

    def _counted(self) -> bool:
        return any(heard.status == 202 for heard in self._heard("POST /updates"))

    def _after_the_refusal(self, kind: str) -> bool:
        """Whether something came after an update was refused so."""
        heard = list(self.recorder.heard)
        told = [number for number, h in enumerate(heard) if h.said.get("kind") == kind]
        return bool(told) and len(heard) > told[0] + 1

    def _until(self, true: Callable[[], object]) -> None:
        """Wait until this is so. Raises _Ended when it cannot be any more."""
        while not true():
            alive = self._alive()
            with self.recorder.changed:
                self.recorder.changed.wait(0.05)
            if true():
                return
            if not alive:
                raise _Ended
            if time.monotonic() > self._end:
                raise _Ended(f"The examination ended after {self.limit:g} seconds")

    def _examiner_answers(self) -> None:
        task = self.federation.task(EXAMINER)
        if task is not None:
            about = {"version": task.version, "phase": task.phase, "run": task.run}
            self.federation.report(Update(EXAMINER, task.round, 1, task.weights, **about))

    def _close_the_round(self) -> str:
        """Held back until its round is closed: then an update is too late. In the thread that
        answers the candidate.
        """
        before = self.federation.status()
        self._examiner_answers()
        self._clock.ahead += FORGETS if self.lossy else PATIENCE
        # Whoever waits looks at the clock again
        self.federation.join(EXAMINER, 1, session=self._session)
        while time.monotonic() < self._end:
            now = self.federation.status()
            if not now.running or now.round > before.round:
                break
            time.sleep(0.01)
        return PASS
