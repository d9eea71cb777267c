"""The Flask application over a federation: what every request is checked for, how its answers look,
and how errors are said.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from fedlab import wire
from fedlab.checks import Refused
from fedlab.federation import Federation
from fedlab.http import routes
from fedlab.http.access import CLIENT, LOOPBACK, NOBODY, ORIGINAL, Access, Denied, Identity
from fedlab.http.routes import Extension, GuestProtocol
from fedlab.messages import (
    AlreadyCounted,
    Banned,
    Conflict,
    Full,
    RunFailed,
    RunOver,
    UnknownClient,
)
from fedlab.serving.gateway import SENDER

STATUS = {
    AlreadyCounted.kind: 409,
    Conflict.kind: 409,
    UnknownClient.kind: 404,
    RunOver.kind: 410,
    RunFailed.kind: 410,
    Full.kind: 409,
    Banned.kind: 403,
}
"""HTTP's number for what is refused, by its kind; 400 for all others."""

KINDS = {404: "not_found", 405: "method", 411: "length", 413: "too_large", 415: "media_type"}
"""The kinds of HTTP's own errors."""

NOT_RECORDED = ("page", "pages", "status", "history", "requests", None)
"""What a page asks for again and again, to show what is going on."""

SMALL = 10_000
"""Bytes: the most that a body may have that holds no weights."""


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
    original_protocol: GuestProtocol | None = None,
    teacher: str | None = None,
    extension: Extension | None = None,
    numbers: bool = False,
) -> Flask:
    """The Flask application: every route, and what all of them check.

    token, teacher, hosts, numbers: as in `Access`; loopback's names if None.
    Every error is JSON: {"error": a sentence, "kind": one word for programs}.
    extensions["fedlab"] are the latest RequestRecords; who looks on (when a page asked for the
    status, its name, and the version of the status that it showed); and the Access.
    """
    app = Flask("fedlab", root_path=str(routes.PAGES), static_folder=None)
    most = {"updates": wire.size_limit(federation.weights)}
    if original_protocol:
        most[ORIGINAL] = original_protocol.size_limit(federation.weights)
    app.config["MAX_FORM_MEMORY_SIZE"] = max(most.values())
    more = extension.admitted if extension else {}
    access = Access(token, hosts or LOOPBACK, teacher, numbers, more)
    records, counter = deque(maxlen=200), itertools.count(1)
    app.extensions["fedlab"] = records, deque(maxlen=1_000), access

    @app.before_request
    def check_request():
        g.client = ""
        g.who = access.check(request)
        g.client = g.who.name
        if "Transfer-Encoding" in request.headers:
            raise Denied(411, KINDS[411], "the body has no Content-Length; expected one")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMediaType("the body is compressed; expected it as it is")
        request.max_content_length = most.get(request.endpoint, SMALL)
        if (request.content_length or 0) > request.max_content_length:
            raise RequestEntityTooLarge

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        nobody = g.get("who", Identity()).kind == NOBODY
        if response.status_code in (401, 403) or nobody:
            response.headers["Connection"] = "close"  # whoever it is, is not waited for
        # Who asked, what, and how large: no query (a token may be in it), and no empty polls.
        quiet = request.endpoint in NOT_RECORDED or request.endpoint in more
        if response.status_code != 204 and not quiet:
            asked = g.client, request.method, request.path, response.status_code
            sizes = request.content_length or 0, response.content_length or 0
            records.append(RequestRecord(next(counter), time.time(), *asked, *sizes))
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

    routes.add(app, federation, original_protocol, extension.home if extension else "")
    if extension:
        extension.add(app)
    return app


def at_the_door(app: Flask, environ: dict) -> Response | None:
    """What is answered to a request's headers alone; None where its body may come."""
    with app.request_context(environ):
        try:
            if request.routing_exception is not None:
                raise request.routing_exception
            app.preprocess_request()
            # Whose it is: the gateway counts what comes of one client at a time.
            environ[SENDER] = g.who.name if g.who.kind == CLIENT else ""
        except Exception as error:  # as Flask does: `refused`, `denied` and the others know it
            answer = app.process_response(app.make_response(app.handle_user_exception(error)))
            # What never comes in is told to whoever stands around the application, to write down
            # what is said to it.
            if told := getattr(app.wsgi_app, "refused", None):
                told(environ, answer.status_code, answer.get_data())
            return answer
    return None


def failure(status: int, kind: str, sentence: str) -> tuple[Response, int]:
    """An error as this server's JSON."""
    return jsonify(error=sentence, kind=kind), status
