"""The server, the clients and the runs behind a panel. No widgets here: everything a panel does can
be done, and tested, without one.

A Session belongs to one thread, which calls `begin`, `stop` and the rest; only baselines run beside
it.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from fedlab.data import Mnist
from fedlab.federation import Federation
from fedlab.history import History
from fedlab.messages import Conflict
from fedlab.plan import Member
from fedlab.settings import Settings

ALONE = "each client alone"
POOLED = "all data in one place"
MOST_EARLIER = 6  # earlier runs that stay in the picture
# seconds that a round waits for clients from elsewhere: a laptop that was closed must not halt the
# class
GUEST_DEADLINE = 120.0


class Session:
    """Runs with one server and clients in this process.

    earlier:   (settings, history) of the runs before the current one, oldest first.
    baselines: ALONE or POOLED -> histories, growing while they are computed; they belong to
               `baseline_settings`.
    """

    def __init__(self, mnist: Mnist, host: str = "127.0.0.1", port: int = 0):
        self.mnist = mnist
        self._host, self._port = host, port
        self.server = None
        self.clients: dict = {}
        self.settings: Settings | None = None  # of the current run
        self.earlier: list[tuple[Settings, History]] = []
        self.baselines: dict[str, list[History]] = {}
        self.baseline_settings: Settings | None = None
        self.baseline_error: Exception | None = None
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
        Classifier(seed=settings.seed).prepare(self.mnist.shards(1, 1), settings.training())

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

    def status(self, name: str):
        """What the client of this name is doing (a ClientStatus), or None before its first run."""
        client = self.clients.get(name)
        if client is None:
            return None
        # It left because the run ended: say how
        if client.status.phase == "stopped" and not self.running:
            return replace(client.status, message=self.federation.status().message)
        return client.status

    # ---- runs ------------------------------------------------------------------------------------

    def begin(self, settings: Settings) -> None:
        """A new run from an untrained model; the one before becomes an earlier run. Raises Refused
        for settings that cannot run.
        """
        self._prepare(settings)
        from fedlab.model import Classifier

        self._archive()
        self._memories = {}
        self.federation.reset(
            Classifier(seed=settings.seed).weights, settings.make_strategy(), settings.seed
        )
        self._run(settings, settings.plan())

    def one_round(self, settings: Settings) -> None:
        """One round more of the current run; of a new one if the settings (but for the number of
        rounds) are not its own.
        """
        self._prepare(settings)
        if self.settings is None or replace(self.settings, rounds=settings.rounds) != settings:
            return self.begin(replace(settings, rounds=1))
        self._run(settings, replace(settings.plan(), rounds=1))

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
        try:
            for name, data in settings.datasets(self.mnist).items():
                memory = self._memories.setdefault(name, {})
                client = Client(self.server.url, name, data, test=self.mnist.test, memory=memory)
                self.clients[name] = client.start()
            self.federation.start(replace(plan, deadline=GUEST_DEADLINE) if self.guests else plan)
        except Exception:
            self.stop()
            raise

    def stop(self) -> None:
        """End the run now, and let this panel's own clients leave. What was committed stays."""
        self._enough.set()
        if self.server is not None:
            self.federation.stop()
        self.settle()
        if self._baseline is not None:
            self._baseline.join(10)

    def settle(self) -> None:
        """After a run: its clients leave (all are asked before any is waited for)."""
        running = [client for client in self.clients.values() if client.running]
        for client in running:
            client.stop(timeout=0)
        for client in running:
            client.stop()

    def reset(self) -> None:
        """Forget the model and every run."""
        self._must_be_idle()
        self.federation.reset()
        self.clients, self.settings, self.earlier, self.baselines, self.baseline_settings = (
            {},
            None,
            [],
            {},
            None,
        )

    def _archive(self) -> None:
        if self.settings is not None and len(self.history):
            self.earlier = [
                *self.earlier,
                (replace(self.settings, rounds=len(self.history)), self.history),
            ][-MOST_EARLIER:]

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
        if (
            self.baseline_settings is None
            or replace(
                self.baseline_settings,
                strategy=settings.strategy,
                strategy_settings=settings.strategy_settings,
                fraction=settings.fraction,
            )
            != settings
        ):
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

    def _compute(self, parts: dict, histories: list[History], settings: Settings) -> None:
        from fedlab.simulation import simulate

        try:
            for (name, data), history in zip(parts.items(), histories, strict=True):
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
        if self.server is not None:
            self.server.close()
