"""The Flask application over a federation: what every request is checked for, how its answers look,
and how errors are said.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from fedlab import wire
from fedlab.checks import Refused
from fedlab.federation import Federation
from fedlab.http import original, routes
from fedlab.http.access import LOOKING, LOOPBACK, PAGE, Access, Denied
from fedlab.messages import AlreadyCounted, Conflict, RunFailed, RunOver, UnknownClient

STATUS = {
    AlreadyCounted.kind: 409,
    Conflict.kind: 409,
    UnknownClient.kind: 404,
    RunOver.kind: 410,
    RunFailed.kind: 410,
}
"""HTTP's number for what is refused, by its kind; 400 for all others."""

KINDS = {404: "not_found", 405: "method", 411: "length", 413: "too_large", 415: "media_type"}
"""The kinds of HTTP's own errors."""


@dataclass(frozen=True)
class RequestRecord:
    """One HTTP request and its answer, for whoever wants to look at the wire. number: 1, 2, ... in
    the order of the answers. bytes are those of the bodies; no token is in it.
    """

    number: int
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
) -> Flask:
    """The Flask application: every route, and what all of them check.

    hosts: the Host names that are answered, as in `Access`; loopback's if None.
    Every error is JSON: {"error": a sentence, "kind": one word for programs}.
    extensions["fedlab"] are the latest RequestRecords, and who looks on: when a page asked for the
    status, its name, and the version of the status that it showed.
    """
    app = Flask("fedlab", root_path=str(routes.PAGES), static_folder=None)
    limit = wire.size_limit(federation.weights)
    if original_protocol:
        limit = max(limit, original.size_limit(federation.weights))
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = limit
    access, numbers = Access(token, frozenset(hosts or LOOPBACK)), itertools.count(1)
    records, _ = app.extensions["fedlab"] = deque(maxlen=200), deque(maxlen=1_000)

    @app.before_request
    def check_request():
        g.client = ""
        access.check(request)
        checked = request.endpoint not in (PAGE, routes.ORIGINAL, None)
        if checked and "Transfer-Encoding" in request.headers and request.content_length is None:
            raise Denied(411, KINDS[411], "the body has no Content-Length; expected one")

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        # Who asked, what, and how large: no query (a token may be in it), and no empty polls.
        if response.status_code != 204 and request.endpoint not in (*LOOKING, None):
            asked = g.client, request.method, request.path, response.status_code
            sizes = request.content_length or 0, response.content_length or 0
            records.append(RequestRecord(next(numbers), time.time(), *asked, *sizes))
        return response

    @app.errorhandler(Refused)
    def refused(error: Refused):
        return failure(STATUS.get(error.kind, 400), error.kind, str(error))

    @app.errorhandler(Denied)
    def denied(error: Denied):
        return failure(error.status, error.kind, str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException):
        code, path = error.code or 500, request.path[:100]
        sentence = error.description or error.name
        if code == 404:
            known = "/, /clients, /task, /updates, /model, /status, /history or /requests"
            sentence = f"there is no {path}; expected {known}"
        elif code == 405:
            methods = ", ".join(sorted(error.valid_methods or []))
            sentence = f"{path} does not take {request.method}; expected {methods}"
        elif code == 413:
            size, most = request.content_length or 0, request.max_content_length
            sentence = f"the body is {size:,} bytes; expected at most {most:,} here"
        return failure(code, KINDS.get(code, "http"), sentence)

    @app.errorhandler(Exception)
    def unexpected(error: Exception):
        # For whoever runs the server; the other side gets no details.
        app.logger.exception("an unexpected error")
        what = f"the server failed ({type(error).__name__})"
        return failure(500, "server", f"{what}; expected nothing of the kind, please report it")

    routes.add(app, federation, access, original_protocol)
    return app


def failure(status: int, kind: str, sentence: str) -> tuple[Response, int]:
    """An error as this server's JSON."""
    return jsonify(error=sentence, kind=kind), status
