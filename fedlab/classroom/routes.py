"""What a class is answered over HTTP, beside what every client is: the phone page, coming in, and
telling how it goes. docs/classroom.md describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flask import Flask, Response, abort, g, jsonify, redirect, request

from fedlab.checks import Refused
from fedlab.classroom.codes import TooManyTries, WrongCode
from fedlab.classroom.roster import BadName, Closed, NameTaken, Removed
from fedlab.http.access import CLASS, CLIENT, LOOKER, NOBODY, TEACHER, Denied
from fedlab.http.client import NotAdmitted
from fedlab.http.routes import PAGES as SHARED
from fedlab.http.routes import json_body

PAGES = Path(__file__).parent / "pages"
SHARED_FILES = "handwriting.js", "colours.css"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""As the federation's own page, and a Worker: it trains."""

TYPES = {".css": "text/css", ".js": "text/javascript"}

EVERYBODY = frozenset({TEACHER, CLASS, CLIENT, LOOKER, NOBODY})

STATUS = {
    BadName.kind: 400,
    NameTaken.kind: 409,
    Removed.kind: 403,
    Closed.kind: 403,
    WrongCode.kind: 403,
    TooManyTries.kind: 429,
    NotAdmitted.kind: 401,
}
"""HTTP's number for what only a class refuses, by its kind."""


class Lobby(Protocol):
    """What these routes need of a class: `live.LiveClass` has it."""

    def enrol(self, fields: Mapping, address: str) -> dict:
        """A device comes in: what it is answered. Raises Refused."""

    def tell(self, client: str, said: Mapping) -> dict:
        """A student's device says how it goes: what it is answered. Raises Refused."""

    def seen(self, address: str) -> None:
        """A browser has opened the phone page."""


class ClassRoutes:
    """A server's `Extension`: the routes of this class."""

    admitted = {
        "class_door": EVERYBODY,
        "class_page": EVERYBODY,
        "class_files": EVERYBODY,
        "enrol": EVERYBODY,
        "tell": frozenset({CLIENT}),
    }
    home = "J/"

    def __init__(self, lobby: Lobby):
        self._lobby = lobby

    def add(self, app: Flask) -> None:
        """Add the routes."""
        lobby = self._lobby
        names = {file.name for file in PAGES.iterdir() if file.suffix in TYPES}

        @app.get("/J", endpoint="class_door")
        @app.get("/j", endpoint="class_door")
        def without_slash():
            return redirect("J/", 303)

        @app.get("/J/", endpoint="class_page")
        @app.get("/j/", endpoint="class_page")
        @app.get("/J/<code>", endpoint="class_page")
        @app.get("/j/<code>", endpoint="class_page")
        def page(code: str = ""):
            # Whatever code it is: who guesses learns nothing of it here
            lobby.seen(request.remote_addr or "")
            text = (PAGES / "index.html").read_text(encoding="utf-8")
            headers = {"Content-Security-Policy": POLICY}
            return Response(text, content_type="text/html; charset=utf-8", headers=headers)

        @app.get("/phone/<name>", endpoint="class_files")
        def files(name: str):
            folder = PAGES if name in names else SHARED if name in SHARED_FILES else abort(404)
            kind = TYPES[Path(name).suffix]
            body = (folder / name).read_bytes()
            headers = {"Content-Security-Policy": POLICY}  # a Worker has that of its own file
            return Response(body, content_type=f"{kind}; charset=utf-8", headers=headers)

        @app.post("/students", endpoint="enrol")
        def enrol():
            return answer(lambda: lobby.enrol(json_body(), request.remote_addr or ""), 201)

        @app.post("/students/me", endpoint="tell")
        def tell():
            return answer(lambda: lobby.tell(g.who.name, json_body()), 200)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def answer(asked, status: int) -> tuple[Response, int]:
    """What `asked` returns, as JSON. Raises Denied for what only a class refuses."""
    try:
        return jsonify(asked()), status
    except Refused as error:
        if error.kind in STATUS:
            raise Denied(STATUS[error.kind], error.kind, str(error)) from None
        raise
