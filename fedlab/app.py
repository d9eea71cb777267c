"""The HTTP of a federation: every route, and what all of them check. The only file that imports
Flask."""

from __future__ import annotations

import hmac
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from flask import Flask, Response, g, jsonify, redirect, request
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from fedlab import original, wire
from fedlab.federation import Federation
from fedlab.messages import BadUpdate, Conflict, Refused, RunOver, UnknownClient

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LONGEST_WAIT = 30.0  # seconds of one long poll
STATUS = {BadUpdate: 400, Conflict: 409, UnknownClient: 404, RunOver: 410, Refused: 400}
ORIGINAL = "original"  # the endpoint that needs no token
# The endpoints that change nothing: there a browser's cookie will do
READ_ONLY = ("page", "status", "history", "model")


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and its answer, for whoever wants to look at the wire. bytes are those of
    the bodies; no token is in it.
    """

    time: float
    client: str
    method: str
    path: str
    status: int
    bytes_up: int
    bytes_down: int


def create_app(
    federation: Federation,
    token: str,
    hosts: set[str] | None = None,
    original_protocol: bool = False,
    on_exchange: Callable[[Exchange], None] = lambda exchange: None,
) -> Flask:
    """The Flask application over a federation: every route, and what all of them check.

    hosts: the Host names that are answered (without port, in lower case); a web page that rebinds
           its own name to this address is refused (DNS rebinding).
    """
    app = Flask("fedlab", root_path=str(Path(__file__).parent), static_folder=None)
    limit = wire.size_limit(federation.weights)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = max(
        limit, original.size_limit(federation.weights) if original_protocol else 0
    )
    hosts = hosts or set(LOOPBACK)

    @app.before_request
    def check_request():
        g.client = ""
        host = (
            request.host if request.host.endswith("]") else request.host.rsplit(":", 1)[0]
        ).lower()
        if host not in hosts:
            return failure(
                403,
                f"the Host header is {request.host[:100]!r}; expected one of"
                f" {', '.join(sorted(hosts))} (Server's allowed_hosts, --allow-host)",
            )
        tokenless = request.endpoint == ORIGINAL or (
            request.endpoint == "page" and "send" in request.args
        )
        # No token guards the original's wire, so any web page in this machine's browser could send
        # to it; browsers say when one does.
        if tokenless and (
            "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none"
        ):
            return failure(
                403,
                "the request comes from a web page; expected one of the original demonstration's"
                " clients",
            )
        if request.endpoint in ("page", ORIGINAL) or request.endpoint is None:
            # the page checks for itself, because browsers bring the token in the URL or a cookie
            return None
        if not authorized(
            reading=request.endpoint in READ_ONLY and request.method in ("GET", "HEAD")
        ):
            return failure(
                401,
                "the token is missing or wrong; expected the header 'Authorization: Bearer"
                " <token>', from the URL that the server printed",
            )
        if "Transfer-Encoding" in request.headers and request.content_length is None:
            return failure(411, "the body has no Content-Length; expected one")
        return None

    def same(received: str) -> bool:
        return hmac.compare_digest(received.encode("utf-8", "replace"), token.encode())

    def authorized(reading: bool) -> bool:
        """The header, always; a cookie only to read with, so that no other page can make its
        browser change anything.
        """
        header = request.headers.get("Authorization", "")
        if header:
            return header.startswith("Bearer ") and same(header.removeprefix("Bearer "))
        return reading and same(request.cookies.get(cookie_name(), ""))

    def cookie_name() -> str:
        return (  # cookies ignore the port: two servers must not share one
            f"fedlab-{request.host.rsplit(':', 1)[-1]}"
        )

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        # Who asked, what, and how large: no query (a token may be in it), and no empty polls.
        if response.status_code != 204 and request.endpoint not in (
            "page",
            "status",
            "history",
            None,
        ):
            on_exchange(
                Exchange(
                    time.time(),
                    g.client,
                    request.method,
                    request.path,
                    response.status_code,
                    request.content_length or 0,
                    response.content_length or 0,
                )
            )
        return response

    @app.errorhandler(Refused)
    def refused(error: Refused):
        return failure(
            next(code for kind, code in STATUS.items() if isinstance(error, kind)), str(error)
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException):
        sentences = {
            404: (
                f"there is no {request.path[:100]}; expected /, /clients, /task, /updates, /model,"
                " /status or /history"
            ),
            405: (
                f"{request.path[:100]} does not take {request.method}; expected"
                f" {', '.join(sorted(error.valid_methods or []))}"
                if error.code == 405
                else ""
            ),
            413: (
                f"the body is {request.content_length or 0:,} bytes; expected at most"
                f" {request.max_content_length:,} here"
            ),
        }
        return failure(
            error.code or 500, sentences.get(error.code) or error.description or error.name
        )

    @app.errorhandler(Exception)
    def unexpected(error: Exception):
        # For whoever runs the server; the other side gets no details
        app.logger.exception("an unexpected error")
        return failure(
            500,
            f"the server failed ({type(error).__name__}); expected nothing of the kind, please"
            " report it",
        )

    # -- routes for clients

    @app.post("/clients")
    def join():
        fields = json_body()
        g.client = str(fields.get("client", ""))[:40]
        session = fields.get("session", "")
        federation.join(
            fields.get("client"),
            fields.get("num_examples"),
            fields.get("shards", 1),
            session if isinstance(session, str) else "",
        )
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
            raise Refused(
                f"wait is {request.args['wait'][:40]!r}; expected seconds, at most"
                f" {LONGEST_WAIT:.0f}"
            )
        found = federation.task(g.client, wait)
        if found is None:
            return "", 204
        body = wire.encode_task(found)
        federation.count_bytes(down=len(body))
        return Response(body, content_type=wire.CONTENT_TYPE)

    @app.post("/updates")
    def updates():
        if request.mimetype != wire.CONTENT_TYPE:
            return failure(
                415,
                f"the Content-Type is {request.mimetype[:100]!r}; expected {wire.CONTENT_TYPE!r}",
            )
        # In one piece: waitress has the whole body, and `get_data` would put it together from
        # pieces of 64 kB.
        body = request.stream.read(request.content_length or 0)
        update = wire.decode_update(body)
        g.client = update.client[:40]
        # Before it may close a round: what it costs belongs to that one
        federation.count_bytes(up=len(body))
        federation.report(update)
        return jsonify(round=update.round), 202

    # -- routes for everyone

    def original_answer(fields):
        g.client = original.client_id(fields.get("id"))
        answer = jsonify(
            original.exchange(
                federation, fields, request.content_length or len(request.query_string)
            )
        )
        federation.count_bytes(down=answer.content_length)
        return answer

    @app.get("/model")
    def model():
        body = wire.pack(federation.weights, kind="model")
        return Response(
            body,
            content_type=wire.CONTENT_TYPE,
            headers={"Content-Disposition": "attachment; filename=model.safetensors"},
        )

    @app.get("/status")
    def status():
        return jsonify(without_nan(asdict(federation.status())))

    @app.get("/history")
    def history():
        return Response(federation.history.to_json(), content_type="application/json")

    @app.get("/")
    def page():
        if original_protocol and "send" in request.args:
            return original_answer(request.args)
        if "token" in request.args:
            if not same(request.args["token"]):
                return failure(
                    401,
                    "the token in this address is wrong; expected the address that the server"
                    " printed",
                )
            # The clean address at once: a token in the address bar ends up in histories,
            # screenshots and Referer headers.
            answer = redirect("/", 303)
            answer.set_cookie(cookie_name(), token, httponly=True, samesite="Strict")
            return answer
        if not authorized(reading=True):
            return failure(
                401,
                "the token is missing; expected the whole address that the server printed, with"
                " ?token= at its end",
            )
        page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
        headers = {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
                " connect-src 'self'"
            )
        }
        return Response(page, content_type="text/html; charset=utf-8", headers=headers)

    if original_protocol:

        @app.post("/", endpoint=ORIGINAL)
        def original_route():
            return original_answer(request.form)

    return app


def failure(status: int, sentence: str) -> tuple[Response, int]:
    """An error as this server's JSON."""
    return jsonify(error=sentence), status


def json_body() -> dict:
    """The request's JSON object. Raises BadUpdate (400), or an HTTP 415 or 413."""
    request.max_content_length = 10_000
    if not request.is_json:
        raise UnsupportedMediaType(
            f"the Content-Type is {request.mimetype[:100]!r}; expected 'application/json'"
        )
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise BadUpdate(
            'the body is not a JSON object; expected {"client": "alice", "num_examples": 5000} as'
            " application/json"
        )
    return fields


def without_nan(value):
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
