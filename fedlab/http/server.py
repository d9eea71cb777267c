"""A federation that listens: sockets, token, start and close. The only file that imports
waitress."""

from __future__ import annotations

import functools
import json
import logging
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import waitress.channel

# waitress reads a whole request before a worker thread sees it: slow clients hold no threads, as
# werkzeug's would
import waitress.server
from waitress import wasyncore

from fedlab.checkpoint import load_checkpoint, prepare
from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.http import original
from fedlab.http.access import LOOPBACK
from fedlab.http.app import RequestRecord, create_app
from fedlab.messages import Weights, check_token
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.progress import rounds_bar
from fedlab.strategies import Strategy, fed_avg

LONGEST_LOOK = 2.0  # seconds that `close` waits for pages in browsers to show the end
WORKER_THREADS = 64  # a long poll holds one: more clients than this wait for each other

# "task queue depth" would land under a cell of the notebook
logging.getLogger("waitress").setLevel(logging.ERROR)


class Server:
    """A federation's server, listening from the moment it is made until `close`, best used as `with
    Server(...) as server:`.

    test:      the test set of the global model; without one the history has no accuracy.
    strategy:  how updates are aggregated; FedAvg if None.
    model:     a built Keras classifier; the 2NN with weights from `seed` if None.
    seed:      decides first weights, sampling and batches.
    host, port: where to listen; loopback and a free port by default. "0.0.0.0" listens on every
                network of this machine: plain HTTP, so
               whoever is on that network can read what is sent, the token too.
    checkpoint: a file to write after every round, and to go on from if it exists.
    original_protocol: also answer the original demonstration's own client (see
                       `fedlab.http.original`). Its requests carry no token: loopback only.
    allowed_hosts: further names by which browsers and clients may call this server (the HTTP Host
                   header).
    linger:    seconds that `close` waits for clients to hear that the run is over.
    pixels:    with original_protocol, the grey value of white in its clients' images, 255 or 1;
               both are tried, and the better one counts, if None.
    token:     the secret in the URL; a new random one if None. A server that takes another's place
               keeps its clients with the same one.

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
        original_protocol: bool = False,
        allowed_hosts: Sequence[str] = (),
        linger: float = 5.0,
        token: str | None = None,
        federation: Federation | None = None,
        pixels: int | None = None,
    ):
        if federation is None:
            federation = new_federation(
                test, strategy or fed_avg(), model, seed, checkpoint, original_protocol, pixels
            )
        else:
            given = {"test": test, "strategy": strategy, "model": model, "checkpoint": checkpoint}
            given |= {"pixels": pixels, "seed": seed or None}
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
        self._token, self._linger = check_token(token or secrets.token_urlsafe(24)), linger
        self._public_host = (
            lan_address() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        )
        # Browsers send it so
        hosts = {name.lower() for name in (*LOOPBACK, self._public_host, *allowed_hosts)}
        self.app = create_app(federation, self._token, hosts, original_protocol)
        self.wire: deque[RequestRecord] = self.app.extensions["fedlab"][0]
        listening = listen(host, port)
        self._http = waitress.server.create_server(
            self.app,
            map={},  # its own table of sockets: several servers in one process do not share it
            sockets=[listening],
            threads=WORKER_THREADS,
            # With what a notebook has open, below the 1,024 files that a process usually may.
            connection_limit=500,
            # select() fails for good at file 1,024; Windows has no poll.
            asyncore_use_poll=hasattr(select, "poll"),
            channel_timeout=60,
            # waitress refuses a body as large as its limit.
            max_request_body_size=self.app.config["MAX_CONTENT_LENGTH"] + 1,
            # An update in a few reads, not in a hundred: a fifth of what it costs the server.
            recv_bytes=2**18,
            inbuf_overflow=2**26,  # keep updates in memory, not in temporary files
            outbuf_overflow=2**26,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._http.channel_class = _Channel
        self.port: int = listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="fedlab-server", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._http.run()

    @property
    def address(self) -> str:
        """The URL without the token."""
        return f"http://{self._public_host}:{self.port}/"

    @property
    def url(self) -> str:
        """The URL to give to clients and to open in a browser. It holds the token: whoever has it
        may take part.
        """
        return f"{self.address}?token={quote(self._token)}"

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
                  deadline, min_updates, min_clients,
        evaluate_every, target, strict of `Plan`.
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
        if self._thread is None:
            return
        # Pages before clients: while those are told, the status does not say any more how it ended.
        if self.federation.running:  # otherwise there is nothing new for pages
            self.federation.stop()
        self._show_the_end()
        self.federation.close(self._linger if linger is None else linger)
        self._http.task_dispatcher.shutdown()  # the worker threads first: they write to the sockets
        time.sleep(0.05)  # the last answers are on their way
        # In the server's own thread: its table of sockets is not for others to touch. With the
        # table empty, run() returns.
        self._http.trigger.pull_trigger(lambda: wasyncore.close_all(self._http._map))
        self._thread.join(5)
        self._thread = None

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
    original_protocol: bool,
    pixels: int | None,
) -> Federation:
    """A Server's federation: with a model, a test, and what an earlier one has left."""
    classifier = Classifier(model, seed)
    evaluate = None
    if test is not None and original_protocol:
        evaluate = original.evaluate_on(classifier, test, pixels)
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
    )


def lan_address() -> str:
    """This machine's address on its network; the loopback address where there is none. Nothing is
    sent.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737): this only asks which way out it would be
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError with a sentence."""
    if not 0 <= port <= 65_535:
        raise OSError(
            f"cannot listen on {host}:{port}; expected a port from 1 to 65535, or 0 to have one"
            " chosen"
        )
    try:
        # "::" is every network, IPv4 too: what is printed for it is an IPv4 address.
        both = host == "::" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1_024, dualstack_ipv6=both)
    except OSError as error:
        reason = str(error.strerror or error).split(" (while")[0]
        raise OSError(
            f"cannot listen on {host}:{port} ({reason}); expected this machine's address and a free"
            " port, or 0 to have one chosen"
        ) from None


class _JsonErrorTask(waitress.task.ErrorTask):
    """What waitress refuses before Flask sees it (a body or headers too large, a request that is no
    HTTP), as this server's JSON.
    """

    def execute(self) -> None:
        error, most = self.request.error, self.channel.adj.max_request_body_size - 1
        sentence = f"the request cannot be read ({error.reason}: {error.body}); expected HTTP/1.1"
        if error.code == 413:
            length = self.request.content_length
            size = f"{length:,}" if length else f"more than {most:,}"
            sentence = f"the body is {size} bytes; expected at most {most:,} for this model"
        kind = "too_large" if error.code == 413 else "http"
        body = json.dumps({"error": sentence, "kind": kind}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(waitress.channel.HTTPChannel):
    error_task_class = _JsonErrorTask
