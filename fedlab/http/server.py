"""A federation that listens: its address, start and close."""

from __future__ import annotations

import functools
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from fedlab.checkpoint import load_checkpoint, prepare
from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.federation import Federation, Limits
from fedlab.history import History, RoundRecord
from fedlab.http.access import LOOPBACK
from fedlab.http.app import RequestRecord, at_the_door, create_app
from fedlab.http.routes import Extension, GuestProtocol
from fedlab.messages import Secret, Weights, check_token
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.progress import rounds_bar
from fedlab.serving.gateway import Gateway
from fedlab.serving.listening import Listener, lan_address, listen, tls
from fedlab.strategies import Strategy, fed_avg

LONGEST_LOOK = 2.0  # seconds that `close` waits for pages in browsers to show the end
WORKER_THREADS = 16  # who waits holds none


class Server:
    """A federation's server, listening from the moment it is made until `close`, best used as `with
    Server(...) as server:`.

    test:      the test set of the global model; without one the history has no accuracy.
    strategy:  how updates are aggregated; FedAvg if None.
    model:     a built Keras classifier; the 2NN with weights from `seed` if None.
    seed:      decides first weights, sampling and batches.
    host, port: where to listen; loopback and a free port by default. "0.0.0.0" listens on every
               network of this machine: without a certificate whoever is on that network can read
               what is sent, tokens too.
    checkpoint: a file to write after every round, and to go on from if it exists.
    original_protocol: also answer the original demonstration's own client: `fedlab.Original()`.
                       Its requests carry no token: loopback only.
    allowed_hosts: further names by which browsers and clients may call this server (the HTTP Host
                   header).
    linger:    seconds that `close` waits for clients to hear that the run is over.
    token:     the class's token, in the URL: with it one may look, and join under a name of one's
               own; a new random one if None. A server that takes another's place keeps its clients
               with the same one.
    teacher:   the teacher's secret, with which anybody can be removed; a new random one if None.
    federation: one that is there already, in place of test, strategy, model, seed, checkpoint and
               limits.
    limits:    what clients may claim; all of MNIST, and a thousand clients, if None.
    certificate, key: PEM files for TLS (HTTPS); plain HTTP without.
    extension: further routes, of a leaf; none if None.

    Raises OSError when the port is taken, BadCheckpoint for a checkpoint that cannot be used,
    Refused for settings that do not go together.
    """

    def __init__(
        self,
        test: Dataset | None = None,
        strategy: Strategy | None = None,
        model=None,
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        checkpoint: str | Path | None = None,
        original_protocol: GuestProtocol | None = None,
        allowed_hosts: Sequence[str] = (),
        linger: float = 5.0,
        token: str | None = None,
        teacher: str | None = None,
        federation: Federation | None = None,
        limits: Limits | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        extension: Extension | None = None,
    ):
        # First: a traceback with all values shows these from here on
        token, teacher = (Secret(s or secrets.token_urlsafe(24)) for s in (token, teacher))
        if (certificate is None) != (key is None):
            lacking = "key" if key is None else "certificate"
            raise Refused(f"got one of certificate and key; expected both: {lacking} is missing")
        context = tls(certificate, key) if certificate is not None else None
        if federation is None:
            limits = limits or Limits()
            federation = new_federation(
                test, strategy or fed_avg(), model, seed, checkpoint, original_protocol, limits
            )
        else:
            given = {"test": test, "strategy": strategy, "model": model, "checkpoint": checkpoint}
            given |= {"limits": limits, "seed": seed or None}
            if names := [name for name, value in given.items() if value is not None]:
                raise Refused(
                    f"got a federation and {', '.join(names)}; expected the federation alone: it"
                    " has its own"
                )
        strategy = federation.strategy
        if original_protocol and host not in ("127.0.0.1", "localhost"):
            raise Refused(
                f"original_protocol with host {host!r}: the original's clients have no token;"
                " expected 127.0.0.1"
            )
        if original_protocol and not strategy.asynchronous:
            raise Refused(
                f"original_protocol with the strategy {strategy.name}; expected async_average(), as"
                " the original merges"
            )
        self.federation = federation
        if token == teacher:
            raise Refused("token and teacher are the same; expected two secrets")
        self._token, self._teacher = check_token(token), check_token(teacher)
        self._linger, self._scheme = linger, "https" if context else "http"
        host = host or "0.0.0.0"  # which an empty one means
        self._public_host = (
            lan_address() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        )
        # Browsers send it so
        hosts = {name.lower() for name in (*LOOPBACK, self._public_host, *allowed_hosts)}
        wide = host in ("0.0.0.0", "::")  # which of its addresses others know is theirs to say
        of = self._token, hosts, original_protocol, self._teacher, extension, wide
        self.app = create_app(federation, *of)
        self.wire: deque[RequestRecord] = self.app.extensions["fedlab"][0]
        self._listening = listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        gateway = Gateway(self.app, at_the_door, WORKER_THREADS)
        self._listener: Listener | None = Listener(gateway, self._listening, context)
        federation.on_change(self._listener.look_again)

    @property
    def address(self) -> str:
        """The URL without the token."""
        return f"{self._scheme}://{self._public_host}:{self.port}/"

    @property
    def url(self) -> str:
        """The URL to give to clients and to open in a browser. It holds the class's token: whoever
        has it may look, and take part. (`print` shows it; a notebook that shows values does not.)
        """
        return Secret(f"{self.address}?token={quote(self._token)}")

    @property
    def teacher(self) -> str:
        """The teacher's secret."""
        return self._teacher

    def remove(self, client: str, ban: bool = False) -> None:
        """Have a client go; with a ban nobody of its name may join again. Raises UnknownClient, or
        RunOver when it has left already.
        """
        self.federation.remove(client, ban)

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {self.federation.status().message}>"

    def start(self, rounds: int | None = 1, **settings) -> None:
        """Begin a run in the background; the settings are those of `run`."""
        self.federation.start(Plan.of(rounds, **settings))

    def run(
        self,
        rounds: int | None = 1,
        *,
        progress: bool = True,
        on_round: Callable[[RoundRecord], None] | None = None,
        **settings,
    ) -> History:
        """Train for so many rounds with the clients who have joined, and wait for the end.

        settings: epochs (E), batch_size (B), learning_rate, optimizer of `Training`; fraction (C),
                  deadline, min_updates, min_clients, evaluate_every, target, strict, bound... of
                  `Plan`.
        Returns the history. Raises what went wrong, a client's failure too; an interrupt stops the
        run.
        """
        # There, a round is one update, and clients may come and go
        total = None if self.federation.strategy.asynchronous else rounds
        with rounds_bar(total, on_round, shown=progress) as show:
            return self.federation.run(Plan.of(rounds, **settings), show)

    def stop(self) -> None:
        """End the run; the server stays, and clients wait for the next one."""
        self.federation.stop()

    @property
    def history(self) -> History:
        """The rounds so far."""
        return self.federation.history

    @property
    def weights(self) -> Weights:
        """The current global model."""
        return self.federation.weights

    def close(self, linger: float | None = None) -> None:
        """Stop the run, tell every client that it is over, and stop listening. Does nothing the
        second time. Whoever looks on in a browser is shown the end, which takes a moment.

        linger: seconds to wait for clients to hear it, instead of the server's own.
        """
        if self._listener is None:
            return
        # Pages before clients: while those are told, the status does not say any more how it ended.
        if self.federation.running:  # otherwise there is nothing new for pages
            self.federation.stop()
        self._show_the_end()
        self.federation.close(self._linger if linger is None else linger)
        self._listener.close()
        self._listener = None

    def _show_the_end(self) -> None:
        """Wait until every page that has asked within the last 3 seconds shows what is so now."""
        began, version = time.monotonic(), self.federation.status().version
        while time.monotonic() < began + LONGEST_LOOK:
            looks = list(self.app.extensions["fedlab"][1])  # the later of a page's own counts
            pages = {name: shown for when, name, shown in looks if when > began - 3}
            if all(shown >= version for shown in pages.values()):
                return
            time.sleep(0.02)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def new_federation(
    test: Dataset | None,
    strategy: Strategy,
    model,
    seed: int,
    checkpoint: str | Path | None,
    original_protocol: GuestProtocol | None,
    limits: Limits,
) -> Federation:
    """A Server's federation: with a model, a test, and what an earlier one has left."""
    classifier = Classifier(model, seed)
    evaluate = None
    if test is not None and original_protocol:
        evaluate = original_protocol.evaluate_on(classifier, test)
    elif test is not None:
        classifier.prepare_evaluation(test)
        evaluate = functools.partial(classifier.evaluate, data=test)
    state, history = None, None
    if checkpoint is not None:
        prepare(checkpoint)
    if checkpoint is not None and Path(checkpoint).exists():
        state, history = load_checkpoint(checkpoint, classifier.weights, strategy.identity)
    return Federation(
        classifier.weights,
        strategy,
        evaluate=evaluate,
        seed=seed,
        checkpoint=checkpoint,
        state=state,
        history=history,
        limits=limits,
    )
