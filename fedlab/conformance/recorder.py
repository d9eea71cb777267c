"""Between the socket and the federation: every request of a client is written down, and a script
says which answers come late, twice or not at all."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode

from fedlab.serving.gateway import LATER, Hangup

PASS, BUSY, TWICE = "pass", "busy", "twice"
"""What may happen to a request: it is answered as always; it is answered 503, as by a proxy whose
server is away; it comes to the server twice, as over a line that repeats, and the second answer is
given."""

Act = Callable[[], str]
"""Decides what happens to a request, in the thread that answers it: it may take its time."""


@dataclass(frozen=True)
class Heard:
    """One request, and what it was answered.

    when, until: seconds; scene: what was being examined. route: "POST /clients", "DELETE /clients",
    "GET /task" or "POST /updates". query: what stood behind the "?". authorization, kind: two of
    its headers. status: 0 when the answer was lost. answer: the body of what was answered.
    """

    when: float
    scene: str
    route: str
    path: str
    query: dict[str, str]
    authorization: str
    kind: str
    body: bytes = field(repr=False)
    until: float = 0.0
    status: int = 0
    answer: bytes = field(default=b"", repr=False)

    @property
    def said(self) -> dict:
        """The answer's JSON object; an empty one where it is none."""
        return _object(self.answer)

    @property
    def asked(self) -> dict:
        """The request's JSON object, in the same way."""
        return _object(self.body)


def _object(text: bytes) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Recorder:
    """A WSGI application around a server's: `server.app.wsgi_app = Recorder(server.app.wsgi_app)`.

    heard:   the requests so far that a client may make, in the order of their answers.
    changed: notified when there is one more.
    scene:   is written beside each. wait_most: the seconds that a long poll may take at most.
    script:  for each route what happens to its next requests, first to last: PASS, BUSY, TWICE, or
             a function that says which.
    lose:    answers that get lost, once each: (route, status).

    What a server refuses by its headers alone is heard too, without its body: `refused`.
    """

    ROUTES = ("POST /clients", "DELETE /clients", "GET /task", "POST /updates")

    def __init__(self, app):
        self._app = app
        self.changed = threading.Condition()
        self.heard: list[Heard] = []
        self.scene, self.wait_most = "", 30.0
        self.script: dict[str, list[str | Act]] = {}
        self.lose: set[tuple[str, int]] = set()

    def __call__(self, environ, start_response):
        heard = self._request(environ)
        if heard is None:
            return self._app(environ, start_response)
        route, query, body = heard.route, heard.query, heard.body
        planned = self.script.get(route)
        act = planned.pop(0) if planned else PASS
        act = act() if callable(act) else act
        if act == BUSY:
            status, headers = "503 Service Unavailable", [("Content-Type", "text/html")]
            answer = b"<h1>503 Service Unavailable</h1>"
            headers.append(("Content-Length", str(len(answer))))
        else:
            if act == TWICE:
                self._answered(environ, query, body)
            status, headers, answer = self._answered(environ, query, body)
        number = int(status.split()[0])
        lost = (route, number) in self.lose
        if lost:
            self.lose.discard((route, number))
            number = 0
        self._write(heard, number, answer)
        if lost:
            raise Hangup
        start_response(status, headers)
        return [answer]

    def refused(self, environ, status: int, answer: bytes) -> None:
        """A request was refused at the door: its body is not read."""
        heard = self._request({**environ, "wsgi.input": io.BytesIO()})
        if heard is not None:
            self._write(heard, status, answer)

    def _request(self, environ) -> Heard | None:
        """What is asked here; None where it is not one of `ROUTES`."""
        path = environ.get("PATH_INFO", "")
        route = f"{environ['REQUEST_METHOD']} /{path.strip('/').split('/')[0]}"
        if route not in self.ROUTES:
            return None
        return Heard(
            time.monotonic(),
            self.scene,
            route,
            path,
            dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
            environ.get("HTTP_AUTHORIZATION", ""),
            environ.get("CONTENT_TYPE", ""),
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)),
        )

    def _write(self, heard: Heard, status: int, answer: bytes) -> None:
        with self.changed:
            until = time.monotonic()
            self.heard.append(replace(heard, until=until, status=status, answer=answer))
            self.changed.notify_all()

    def _answered(self, environ, query: dict[str, str], body: bytes):
        """(status, headers, body) of what the federation's own application answers."""
        wait = query.get("wait", "0")
        if wait.replace(".", "", 1).isdecimal():
            query = {**query, "wait": f"{min(float(wait), self.wait_most):g}"}
        environ = {**environ, "QUERY_STRING": urlencode(query), "wsgi.input": io.BytesIO(body)}
        environ.pop(LATER, None)  # here the answer is waited for
        said: list = []

        def start_response(status, headers, exc_info=None):
            said[:] = [status, headers]

        answers = self._app(environ, start_response)
        try:
            answer = b"".join(answers)
        finally:
            if hasattr(answers, "close"):
                answers.close()
        return *said, answer
