"""A Federation over HTTP: Flask behind waitress, in a background thread. The only file that imports Flask."""

from __future__ import annotations

import hmac
import json
import logging
import math
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import waitress.channel
import waitress.server  # waitress reads a whole request before a worker thread sees it: slow clients hold no threads, as werkzeug's would
from flask import Flask, Response, g, jsonify, redirect, request
from waitress import wasyncore
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from fedlab import wire
from fedlab.checkpoint import load_checkpoint
from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.messages import BadUpdate, Conflict, Refused, RunOver, Training, UnknownClient, Update, Weights, check_client_id, check_update
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.progress import rounds_bar
from fedlab.strategy import Strategy, fed_avg

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LONGEST_WAIT = 30.0  # seconds of one long poll
WORKER_THREADS = 64  # a long poll holds one: more clients than this wait for each other
ORIGINAL_EXAMPLES = 60_000  # the original's clients do not say how many examples they have: no more than MNIST has

logging.getLogger("waitress").setLevel(logging.ERROR)  # "task queue depth" would land under a cell of the notebook


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and its answer, for whoever wants to look at the wire. bytes are those of the bodies; no token is in it."""

    time: float
    client: str
    method: str
    path: str
    status: int
    bytes_up: int
    bytes_down: int


class Server:
    """A federation's server, listening from the moment it is made until `close`, best used as `with Server(...) as server:`.

    test:      the test set of the global model; without one the history has no accuracy.
    strategy:  how updates are aggregated; FedAvg if None.
    model:     a built Keras classifier; the 2NN with weights from `seed` if None.
    seed:      decides first weights, sampling and batches.
    host, port: where to listen; loopback and a free port by default. "0.0.0.0" listens on every network of this machine: plain HTTP, so
               whoever is on that network can read what is sent, the token too.
    checkpoint: a file to write after every round, and to go on from if it exists.
    original_protocol: also answer the original demonstration's own client (see `original_exchange`). Its requests carry no token: loopback only.
    allowed_hosts: further names by which browsers and clients may call this server (the HTTP Host header).
    linger:    seconds that `close` waits for clients to hear that the run is over.
    token:     the secret in the URL; a new random one if None. A server that takes another's place keeps its clients with the same one.

    Raises OSError when the port is taken, BadCheckpoint for a checkpoint that cannot be used, Refused for settings that do not go together.
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
    ):
        strategy = strategy or fed_avg()
        if original_protocol and host not in ("127.0.0.1", "localhost"):
            raise Refused(f"original_protocol with host {host!r}: the original's clients have no token; expected 127.0.0.1")
        if original_protocol and not strategy.asynchronous:
            raise Refused(f"original_protocol with the strategy {strategy.name}; expected async_average(), as the original merges")
        if federation is None:
            classifier = Classifier(model, seed)
            evaluate = (lambda weights: classifier.evaluate(weights, test)) if test is not None else None
            state, history = None, None
            if checkpoint is not None and Path(checkpoint).exists():
                state, history = load_checkpoint(checkpoint, classifier.weights, strategy.name)
            federation = Federation(
                classifier.weights, strategy, evaluate=evaluate, seed=seed, checkpoint=checkpoint, state=state, history=history
            )
        self.federation = federation
        self.wire: deque[Exchange] = deque(maxlen=200)
        self._token, self._linger = token or secrets.token_urlsafe(24), linger
        self._public_host = lan_address() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        hosts = {*LOOPBACK, self._public_host, *allowed_hosts}
        self.app = create_app(federation, self._token, hosts, original_protocol, self.wire.append)
        listening = listen(host, port)
        self._http = waitress.server.create_server(
            self.app,
            map={},  # its own table of sockets: several servers in one process do not share it
            sockets=[listening],
            threads=WORKER_THREADS,
            connection_limit=500,  # with what a notebook has open, below the 1,024 files that a process usually may
            asyncore_use_poll=True,  # select() fails for good at file 1,024
            channel_timeout=60,
            max_request_body_size=self.app.config["MAX_CONTENT_LENGTH"] + 1,  # waitress refuses a body as large as its limit
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
        """The URL to give to clients and to open in a browser. It holds the token: whoever has it may take part."""
        return f"{self.address}?token={quote(self._token)}"

    def __repr__(self) -> str:
        return f"<Server at {self.address}, {self.federation.status().message}>"

    def start(self, rounds: int | None = 1, **settings) -> None:
        """Begin a run in the background; the settings are those of `run`."""
        self.federation.start(plan(rounds, **settings))

    def run(self, rounds: int | None = 1, *, progress: bool = True, on_round: Callable[[RoundRecord], None] | None = None, **settings) -> History:
        """Train for so many rounds with the clients who have joined, and wait for the end.

        settings: epochs (E), batch_size (B), learning_rate, optimizer of `Training`; fraction (C), deadline, min_updates, min_clients,
        evaluate_every, target, strict of `Plan`.
        Returns the history. Raises what went wrong, a client's failure too; an interrupt stops the run.
        """
        total = None if self.federation.strategy.asynchronous else rounds  # there, a round is one update, and clients may come and go
        with rounds_bar(total, on_round, shown=progress) as show:
            return self.federation.run(plan(rounds, **settings), show)

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
        """Stop the run, tell every client that it is over, and stop listening. Does nothing the second time.

        linger: seconds to wait for clients to hear it, instead of the server's own.
        """
        if self._thread is None:
            return
        self.federation.close(self._linger if linger is None else linger)
        self._http.task_dispatcher.shutdown()  # the worker threads first: they write to the sockets
        time.sleep(0.05)  # the last answers are on their way
        # In the server's own thread: its table of sockets is not for others to touch. With the table empty, run() returns.
        self._http.trigger.pull_trigger(lambda: wasyncore.close_all(self._http._map))
        self._thread.join(5)
        self._thread = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def plan(
    rounds: int | None,
    *,
    epochs: int = 1,
    batch_size: int | None = 32,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
    **settings,
) -> Plan:
    """A Plan from one flat list of settings. Raises Refused for values that cannot be, TypeError for an unknown name."""
    return Plan(rounds, Training(epochs, batch_size, learning_rate, optimizer), **settings)


def lan_address() -> str:
    """This machine's address on its network; the loopback address where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737): this only asks which way out it would be
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError with a sentence."""
    if not 0 <= port <= 65_535:
        raise OSError(f"cannot listen on {host}:{port}; expected a port from 1 to 65535, or 0 to have one chosen")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1_024)
    except OSError as error:
        reason = str(error.strerror or error).split(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port} ({reason}); expected this machine's address and a free port, or 0 to have one chosen") from None


class _JsonErrorTask(waitress.task.ErrorTask):
    """What waitress refuses before Flask sees it (a body or headers too large, a request that is no HTTP), as this server's JSON."""

    def execute(self) -> None:
        error, most = self.request.error, self.channel.adj.max_request_body_size - 1
        sentence = f"the request cannot be read ({error.reason}: {error.body}); expected HTTP/1.1"
        if error.code == 413:
            size = f"{self.request.content_length:,}" if self.request.content_length else f"more than {most:,}"
            sentence = f"the body is {size} bytes; expected at most {most:,} for this model"
        body = json.dumps({"error": sentence}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(waitress.channel.HTTPChannel):
    error_task_class = _JsonErrorTask


# ---- the HTTP ----------------------------------------------------------------------------------------------------------

STATUS = {BadUpdate: 400, Conflict: 409, UnknownClient: 404, RunOver: 410, Refused: 400}
ORIGINAL = "original"  # the endpoint that needs no token
READ_ONLY = ("page", "status", "history", "model")  # the endpoints that change nothing: there a browser's cookie will do


def create_app(
    federation: Federation,
    token: str,
    hosts: set[str] | None = None,
    original_protocol: bool = False,
    on_exchange: Callable[[Exchange], None] = lambda exchange: None,
) -> Flask:
    """The Flask application over a federation: every route, and what all of them check.

    hosts: the Host names that are answered (without port); a web page that rebinds its own name to this address is refused (DNS rebinding).
    """
    app = Flask("fedlab", root_path=str(Path(__file__).parent), static_folder=None)
    limit = wire.size_limit(federation.weights)
    numbers = sum(w.size for w in federation.weights)
    # The original writes each weight as up to about 25 characters, which a form may triple at worst where they are escaped.
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = max(limit, 40 * numbers) if original_protocol else limit
    hosts = hosts or set(LOOPBACK)

    @app.before_request
    def check_request():
        g.client = ""
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if host not in hosts:
            return failure(403, f"the Host header is {request.host[:100]!r}; expected one of {', '.join(sorted(hosts))} (Server's allowed_hosts, --allow-host)")
        tokenless = request.endpoint == ORIGINAL or (request.endpoint == "page" and "send" in request.args)
        # No token guards the original's wire, so any web page in this machine's browser could send to it; browsers say when one does.
        if tokenless and ("Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none"):
            return failure(403, "the request comes from a web page; expected one of the original demonstration's clients")
        if request.endpoint in ("page", ORIGINAL) or request.endpoint is None:
            return None  # the page checks for itself, because browsers bring the token in the URL or a cookie
        if not authorized(reading=request.endpoint in READ_ONLY and request.method in ("GET", "HEAD")):
            return failure(401, "the token is missing or wrong; expected the header 'Authorization: Bearer <token>', from the URL that the server printed")
        if "Transfer-Encoding" in request.headers and request.content_length is None:
            return failure(411, "the body has no Content-Length; expected one")
        return None

    def same(received: str) -> bool:
        return hmac.compare_digest(received.encode("utf-8", "replace"), token.encode())

    def authorized(reading: bool) -> bool:
        """The header, always; a cookie only to read with, so that no other page can make its browser change anything."""
        header = request.headers.get("Authorization", "")
        if header:
            return header.startswith("Bearer ") and same(header.removeprefix("Bearer "))
        return reading and same(request.cookies.get(cookie_name(), ""))

    def cookie_name() -> str:
        return f"fedlab-{request.host.rsplit(':', 1)[-1]}"  # cookies ignore the port: two servers must not share one

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        # Who asked, what, and how large: no query (a token may be in it), and no empty polls.
        if response.status_code != 204 and request.endpoint not in ("page", "status", "history", None):
            on_exchange(
                Exchange(time.time(), g.client, request.method, request.path, response.status_code, request.content_length or 0, response.content_length or 0)
            )
        return response

    @app.errorhandler(Refused)
    def refused(error: Refused):
        return failure(next(code for kind, code in STATUS.items() if isinstance(error, kind)), str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException):
        sentences = {
            404: f"there is no {request.path[:100]}; expected /, /clients, /task, /updates, /model, /status or /history",
            405: f"{request.path[:100]} does not take {request.method}; expected {', '.join(sorted(error.valid_methods or []))}" if error.code == 405 else "",
            413: f"the body is {request.content_length or 0:,} bytes; expected at most {request.max_content_length:,} here",
        }
        return failure(error.code or 500, sentences.get(error.code) or error.description or error.name)

    @app.errorhandler(Exception)
    def unexpected(error: Exception):
        app.logger.exception("an unexpected error")  # for whoever runs the server; the other side gets no details
        return failure(500, f"the server failed ({type(error).__name__}); expected nothing of the kind, please report it")

    # -- routes for clients

    @app.post("/clients")
    def join():
        fields = json_body()
        g.client = str(fields.get("client", ""))[:40]
        session = fields.get("session", "")
        federation.join(fields.get("client"), fields.get("num_examples"), fields.get("shards", 1), session if isinstance(session, str) else "")
        return jsonify(client=fields["client"]), 201

    @app.delete("/clients/<client>")
    def leave(client: str):
        g.client = client[:40]
        federation.leave(client, request.headers.get("X-Reason", "")[:300])
        return "", 204

    @app.get("/task")
    def task():
        g.client = request.args.get("client", "")[:40]
        try:
            wait = min(max(float(request.args.get("wait", 0)), 0.0), LONGEST_WAIT)
        except ValueError:
            wait = math.nan
        if math.isnan(wait):
            raise Refused(f"wait is {request.args['wait'][:40]!r}; expected seconds, at most {LONGEST_WAIT:.0f}")
        found = federation.task(g.client, wait)
        if found is None:
            return "", 204
        body = wire.encode_task(found)
        federation.count_bytes(down=len(body))
        return Response(body, content_type=wire.CONTENT_TYPE)

    @app.post("/updates")
    def updates():
        if request.mimetype != wire.CONTENT_TYPE:
            return failure(415, f"the Content-Type is {request.mimetype[:100]!r}; expected {wire.CONTENT_TYPE!r}")
        body = request.get_data(cache=False)
        update = wire.decode_update(body)
        g.client = update.client[:40]
        federation.count_bytes(up=len(body))  # before it may close a round: what it costs belongs to that one
        federation.report(update)
        return jsonify(round=update.round), 202

    # -- routes for everyone

    @app.get("/model")
    def model():
        body = wire.pack(federation.weights, kind="model")
        return Response(body, content_type=wire.CONTENT_TYPE, headers={"Content-Disposition": "attachment; filename=model.safetensors"})

    @app.get("/status")
    def status():
        return jsonify(without_nan(asdict(federation.status())))

    @app.get("/history")
    def history():
        return Response(federation.history.to_json(), content_type="application/json")

    @app.get("/")
    def page():
        if original_protocol and "send" in request.args:
            return original_exchange(federation, request.args)
        if "token" in request.args:
            if not same(request.args["token"]):
                return failure(401, "the token in this address is wrong; expected the address that the server printed")
            # The clean address at once: a token in the address bar ends up in histories, screenshots and Referer headers.
            answer = redirect("/", 303)
            answer.set_cookie(cookie_name(), token, httponly=True, samesite="Strict")
            return answer
        if not authorized(reading=True):
            return failure(401, "the token is missing; expected the whole address that the server printed, with ?token= at its end")
        page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"}
        return Response(page, content_type="text/html; charset=utf-8", headers=headers)

    if original_protocol:

        @app.post("/", endpoint=ORIGINAL)
        def original():
            return original_exchange(federation, request.form)

    return app


def failure(status: int, sentence: str) -> tuple[Response, int]:
    """An error as this server's JSON."""
    return jsonify(error=sentence), status


def json_body() -> dict:
    """The request's JSON object. Raises BadUpdate (400), or an HTTP 415 or 413."""
    request.max_content_length = 10_000
    if not request.is_json:
        raise UnsupportedMediaType(f"the Content-Type is {request.mimetype[:100]!r}; expected 'application/json'")
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise BadUpdate('the body is not a JSON object; expected {"client": "alice", "num_examples": 5000} as application/json')
    return fields


def without_nan(value):
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def original_exchange(federation: Federation, fields) -> Response:
    """The original demonstration's wire, for its own client, unmodified: `id`, `send`, and with `send=True` `datasets` (a count) and `weights` (JSON).

    That client adds the `datasets` that the server answered to the examples it trained on, and sends the sum: with the original server,
    the count of everyone's examples came back inside every update and doubled each time. Here the answer to it always says `datasets: 0`.
    So what comes back is what was trained on, and the server's own count (`State.num_examples`) adds up only that.
    The client has no task of its own: its updates are merged the moment they arrive, as one more round of that client.
    """
    if not fields.get("id"):
        raise BadUpdate("the field id is missing or empty; expected the client's id")
    client = g.client = check_client_id(f"original-{fields['id']}"[:40].rstrip())
    sends = fields.get("send") == "True"
    if sends:
        try:
            count = int(fields.get("datasets", ""))
        except ValueError:
            raise BadUpdate(f"datasets is {str(fields.get('datasets'))[:40]!r}; expected a whole number of examples") from None
        weights = wire.weights_from_original_json(fields.get("weights", ""), federation.weights)
        check_update(Update(client, 1, count, weights), federation.weights, ORIGINAL_EXAMPLES)  # before it joins: nothing has changed yet
    if client not in {member.client for member in federation.status().members}:
        federation.join(client, ORIGINAL_EXAMPLES, guest=True)  # it ends by itself, when it has done its range
    if sends:
        federation.count_bytes(up=request.content_length or len(request.query_string))
        federation.merge_next(client, count, weights)
        return jsonify(id=fields.get("id"), message="merged")
    body = json.dumps({"id": fields.get("id"), "datasets": 0, "weights": [w.tolist() for w in federation.weights]})
    federation.count_bytes(down=len(body))
    return Response(body, content_type="application/json")
