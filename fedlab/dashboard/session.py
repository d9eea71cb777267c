"""The server, the clients and the runs behind a panel. No widgets here: everything a panel does can
be done, and tested, without one.

A Session belongs to one thread, which calls `begin`, `stop` and the rest; only baselines run beside
it. `forget`, `waiting_before` and the gate may be used from any thread.
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import replace

import numpy as np

from fedlab.codecs import codec
from fedlab.dashboard.models import Models, one_image
from fedlab.dashboard.steps import TRAIN, UPLOAD, Gate, Watched
from fedlab.data import Dataset, Mnist
from fedlab.federation import Federation
from fedlab.history import History
from fedlab.messages import TRAIN as TRAINING
from fedlab.messages import Conflict, Task, Update, Weights
from fedlab.plan import Member, Status
from fedlab.settings import Settings
from fedlab.strategies import Mean

ALONE = "each client alone"
POOLED = "all data in one place"
MOST_EARLIER = 6  # earlier runs that stay in the picture
# seconds that a round waits for clients from elsewhere, and for nobody else: a laptop that was
# closed must not halt the class
GUEST_DEADLINE = 120.0
LATE_AFTER = 3.0  # seconds that an update is awaited alone before its client is called late

COMPARED = "shards", "epochs", "batch_size", "learning_rate", "optimizer", "seed"
"""What a comparison depends on, beside the number of rounds: nobody federates there."""


class Session:
    """Runs with one server and clients in this process.

    earlier:   (settings, history) of the runs before the current one, oldest first.
    baselines: ALONE or POOLED -> histories, growing while they are computed; they belong to
               `baseline_settings`.
    gate:      where the current run waits in slow motion. models: what it has made so far.
    """

    def __init__(self, mnist: Mnist, host: str = "127.0.0.1", port: int = 0):
        self.mnist = mnist
        self._host, self._port = host, port
        self.server = None
        self.clients: dict = {}
        self.settings: Settings | None = None  # of the current run
        self.deadline: float | None = None  # of its rounds, in seconds
        self.earlier: list[tuple[Settings, History]] = []
        self.baselines: dict[str, list[History]] = {}
        self.baseline_settings: Settings | None = None
        self.baseline_error: Exception | None = None
        self.gate, self.models = Gate(), Models()
        self._watched: Watched | None = None
        self._classifier = None
        self._there, self._since = (0, 0), 0.0  # a round, how many updates were there, since when
        self._memories: dict[str, dict] = {}  # what each client remembers, from run to run
        self._baseline: threading.Thread | None = None
        self._enough = threading.Event()

    def open(self, settings: Settings) -> None:
        """Start the server, and compile what these settings need. This is where TensorFlow is
        loaded: some seconds.
        """
        from fedlab.http.server import Server
        from fedlab.model import Classifier

        self.server = Server(
            test=self.mnist.test, seed=settings.seed, host=self._host, port=self._port, linger=1.0
        )
        self._classifier = Classifier(seed=settings.seed)
        self._classifier.prepare(self.mnist.shards(1, 1), settings.training())

    @property
    def federation(self) -> Federation:
        """The server's federation."""
        return self.server.federation

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self.server is not None and self.federation.running

    @property
    def history(self) -> History:
        """The current run's rounds."""
        return self.federation.history if self.server else History()

    @property
    def guests(self) -> list[Member]:
        """Who has joined this server from another notebook or terminal."""
        return (
            [
                member
                for member in self.federation.status().members
                if member.client not in self.clients
            ]
            if self.server
            else []
        )

    @property
    def guest_names(self) -> list[str]:
        """Their names."""
        return [member.client for member in self.guests]

    @property
    def weighs(self) -> bool:
        """Whether an update's weight in the new model is its share of the images: not where the
        median is taken or every client counts alike, and not where updates are merged as they
        arrive.
        """
        if self._watched is None:
            return True
        strategy = self._watched.strategy
        mean = isinstance(getattr(strategy, "combine", Mean()), Mean)
        return mean and not strategy.alike and not strategy.asynchronous

    @property
    def noisy(self) -> bool:
        """Whether a round without updates has a new model too, of noise."""
        return self._watched is not None and not self._watched.min_updates

    def status(self, name: str):
        """What the client of this name is doing (a ClientStatus), or None before its first run."""
        client = self.clients.get(name)
        if client is None:
            return None
        # It left because the run ended: say how
        if client.status.phase == "stopped" and not self.running:
            return replace(client.status, message=self.federation.status().message)
        return client.status

    def forget(self, name: str) -> None:
        """What a client of this name has done, when its card is gone and nothing runs."""
        if not self.running:
            self.clients.pop(name, None)

    @property
    def participants(self) -> tuple[str, ...]:
        """Who takes part in the round under way, or took part in the last one."""
        return tuple(self.federation.status().participants) if self.server else ()

    def participants_of(self, round: int) -> tuple[str, ...]:
        """Who was drawn for a round of the current run."""
        return self._watched.participants.get(round, ()) if self._watched else ()

    @property
    def waiting_before(self) -> int:
        """The step of the round before which a run in slow motion waits for somebody to go on; 0
        while it moves. Guests are not held.
        """
        if self.server is None:
            return 0
        status, clients = self.federation.status(), dict(self.clients)
        awaited = set(status.waiting_for)
        if status.asynchronous:  # who has nothing left to train waits for nobody
            awaited = {member.client for member in status.members if member.state == "training"}
        return self.gate.waiting(n for n in awaited & set(clients) if clients[n].running)

    def late(self) -> set[str]:
        """Whose update the server has been waiting for alone, since the others' came."""
        status, seconds = self._still()
        alone = len(status.participants) > len(status.waiting_for) and seconds > LATE_AFTER
        return set(status.waiting_for) - set(self.clients) if alone else set()

    def let_go(self) -> None:
        """Wait no more for clients from elsewhere, where a round has waited for nobody else for
        long. One that lives joins again with its next word.
        """
        status, seconds = self._still()
        patience = max(GUEST_DEADLINE, self.deadline or 0.0)
        if seconds > patience and not set(status.waiting_for) & set(self.clients):
            for name in status.waiting_for:
                self.federation.dismiss(name)

    def _still(self) -> tuple[Status, float]:
        """How it stands, and for how many seconds no update has come; none while slow motion holds
        the round.
        """
        status, now = self.federation.status(), time.monotonic()
        there = status.round, len(status.participants) - len(status.waiting_for)
        if there != self._there or self.waiting_before:
            self._there, self._since = there, now
        return status, now - self._since

    # ---- what models read ------------------------------------------------------------------------

    def read(self, weights: Weights, data: Dataset) -> np.ndarray:
        """Class probabilities, (n, 10) float32, of a model of this run."""
        return self._classifier.predict(weights, data)

    def answers(self, pixels: bytes, round: int) -> dict[str, np.ndarray]:
        """What the models of a round read in a drawn image (784 grey values): probabilities, (10,),
        of the global one under "", and of each client's own by name.
        """
        image, found = one_image(pixels), {}
        if (weights := self.models.global_of(round)) is not None:
            found[""] = self.read(weights, image)[0]
        for name, weights in sorted(self.own_models(round).items()):
            found[name] = self.read(weights, image)[0]
        return found

    def own_models(self, round: int) -> dict[str, Weights]:
        """The clients' own models of a round; in the asynchronous way the last of each."""
        return dict(self.models.own_of(self._place(round)))

    def _place(self, round: int) -> int:
        """Under which number the clients' own models of a round are kept. In the asynchronous way
        each client counts rounds of its own, in every run from 1: one place for all, and the last
        model of each is there.
        """
        return 0 if self._watched is not None and self._watched.asynchronous else round

    # ---- runs ------------------------------------------------------------------------------------

    def begin(self, settings: Settings) -> None:
        """A new run from an untrained model; the one before becomes an earlier run. Raises Refused
        for settings that cannot run.
        """
        self._prepare(settings)
        from fedlab.model import Classifier

        if not self._compared(settings):  # other rounds are no other curve: it is only longer
            self.baselines, self.baseline_settings = {}, None
        self._archive()
        self._memories = {}
        self._classifier = Classifier(seed=settings.seed)
        weights = self._classifier.weights
        self._watched = Watched(settings.make_strategy(), self.gate, self.models.keep_global)
        self.federation.reset(weights, self._watched, settings.seed)
        self.models.clear()
        self.models.keep_global(0, weights)
        self.history.untrained = self._classifier.evaluate(weights, self.mnist.test)[1]
        self._run(settings, settings.plan())

    def one_round(self, settings: Settings) -> None:
        """One round more of the current run; of a new one if the settings (but for the number of
        rounds) are not its own.
        """
        self._prepare(settings)
        if self.settings is None or replace(self.settings, rounds=settings.rounds) != settings:
            return self.begin(replace(settings, rounds=1))
        done = replace(settings, rounds=self.settings.rounds + 1)
        self._run(done, replace(settings.plan(), rounds=1))

    def _prepare(self, settings: Settings) -> None:
        """Raise, before anything is changed, when these settings cannot run."""
        settings.check()
        self._must_be_idle()
        self.settle()  # of a run that has just ended by itself: its clients still have their names
        for name in filter(self.federation.taken, settings.shards):
            raise Conflict(
                f"a client called {name!r} has joined from elsewhere; expected another name on its"
                " card, or that one to leave first"
            )

    def _run(self, settings: Settings, plan) -> None:
        from fedlab.http.client import Client

        self.settings = settings
        self.clients = {}
        self.gate.begin()
        side = self._watched.client_side()
        try:
            for name, data in settings.datasets(self.mnist).items():
                client = Client(
                    self.server.url,
                    name,
                    data,
                    test=self.mnist.test,
                    memory=self._memories.setdefault(name, {}),
                    transforms=[self._keep_own],
                    side=side,
                    codecs=codec,
                    on_status=functools.partial(self._wait_at_gates, name),
                )
                self.clients[name] = client.start()
            if self.gate.slow:  # a class talks for minutes
                plan = replace(plan, deadline=None)
            elif self._watched.asynchronous and self.guests:  # no round that `let_go` could look at
                plan = replace(plan, deadline=GUEST_DEADLINE)
            self.deadline, self._there = plan.deadline, (0, 0)
            self._watched.round = len(self.history) + 1  # the last one may have been dropped
            self.federation.start(plan)
        except Exception:
            self.stop()
            raise

    def _keep_own(self, update: Update, task: Task) -> Update:
        self.models.keep_own(self._place(update.round), update.client, update.weights)
        return update

    def _wait_at_gates(self, name: str, status) -> None:
        """In the client's own thread, whenever it says what it does."""
        if self.federation.status().phase != TRAINING:  # keys are exchanged: nobody steps there
            return
        if status.phase == "fetching":  # it has the model
            self.gate.wait(name, TRAIN)
        elif status.phase == "sending":  # it is about to
            self.gate.wait(name, UPLOAD)

    def stop(self) -> None:
        """End the run now, and let this panel's own clients leave. What was committed stays."""
        self._enough.set()
        self.gate.end()
        if self.server is not None:
            self.federation.stop()
        self.settle()
        if self._baseline is not None:
            self._baseline.join(10)

    def settle(self) -> None:
        """After a run: its clients leave (all are asked before any is waited for)."""
        self.gate.end()
        running = [client for client in self.clients.values() if client.running]
        for client in running:
            client.stop(timeout=0)
        for client in running:
            client.stop()

    def reset(self) -> None:
        """Forget the model and every run."""
        self._must_be_idle()
        self.settle()  # as in `_prepare`
        self.federation.reset()
        self.models.clear()
        self._watched = None
        self.clients, self.settings, self.earlier, self.baselines, self.baseline_settings = (
            {},
            None,
            [],
            {},
            None,
        )

    def _archive(self) -> None:
        if self.settings is not None and len(self.history):
            settings = self.settings
            if not self._watched.asynchronous:  # it may have been stopped, or gone on
                settings = replace(settings, rounds=len(self.history))
            self.earlier = [*self.earlier, (settings, self.history)][-MOST_EARLIER:]

    def _must_be_idle(self) -> None:
        if self.running:
            raise Conflict("a run is going on; expected to stop it first")
        if self.comparing:
            raise Conflict(
                "a comparison is being computed; expected to wait for it, or to stop it, first"
            )

    @property
    def busy(self) -> bool:
        """Whether something runs, or has failed and not yet been said."""
        return self.running or self.comparing or self.baseline_error is not None

    # ---- baselines -------------------------------------------------------------------------------

    @property
    def comparing(self) -> bool:
        """Whether a baseline is being computed."""
        return self._baseline is not None and self._baseline.is_alive()

    def compare(self, kind: str, settings: Settings) -> None:
        """Compute a baseline for these settings in the background: ALONE or POOLED, as many passes
        over the data as the run makes.
        """
        settings.check()
        self._must_be_idle()
        if not self._compared(settings) or self.baseline_settings.rounds != settings.rounds:
            self.baselines = {}
        self.baseline_settings, self.baseline_error = settings, None
        parts = (
            settings.datasets(self.mnist)
            if kind == ALONE
            else {POOLED: settings.pooled(self.mnist)}
        )
        histories = self.baselines[kind] = [History() for _ in parts]
        self._enough.clear()
        self._baseline = threading.Thread(
            target=self._compute,
            args=(parts, histories, settings),
            name="fedlab-baseline",
            daemon=True,
        )
        self._baseline.start()

    def compared_with(self) -> str:
        """What is special about the comparisons beside the current run, as "B 10"; "" where they
        belong to its settings.
        """
        its, current = self.baseline_settings, self.settings
        if its is None or current is None or self._compared(current):
            return ""
        return replace(current, **{n: getattr(its, n) for n in COMPARED}).difference(current)

    def _compared(self, settings: Settings) -> bool:
        """Whether the comparisons that there are belong to these settings, but for their rounds."""
        its = self.baseline_settings
        return its is not None and all(getattr(its, n) == getattr(settings, n) for n in COMPARED)

    def _compute(self, parts: dict, histories: list[History], settings: Settings) -> None:
        from fedlab.simulation import simulate

        try:
            _, untrained = self._classifier.evaluate(
                type(self._classifier)(seed=settings.seed).weights, self.mnist.test
            )
            for (name, data), history in zip(parts.items(), histories, strict=True):
                history.untrained = untrained
                if self._enough.is_set():
                    return
                # A federation of one client averages one update: that is plain training, E epochs
                # between two tests.
                simulate(
                    {name: data},
                    test=self.mnist.test,
                    rounds=settings.rounds,
                    seed=settings.seed,
                    epochs=settings.epochs,
                    batch_size=settings.batch_size,
                    learning_rate=settings.learning_rate,
                    optimizer=settings.optimizer,
                    progress=False,
                    on_round=history.append,
                    stop=self._enough.is_set,
                )
        except Exception as error:  # shown in the panel, by the thread that keeps it up to date
            self.baseline_error = error

    def close(self) -> None:
        """Stop everything and release the port. Does nothing the second time."""
        self.stop()
        # ipywidgets keeps a closed panel, and it would keep them
        self.models.clear()
        self.clients, self._memories = {}, {}
        if self.server is not None:
            self.server.close()
