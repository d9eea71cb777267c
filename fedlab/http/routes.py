"""What a federation answers over HTTP, route by route."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from flask import Flask, Response, abort, g, jsonify, redirect, request
from werkzeug.exceptions import UnsupportedMediaType

from fedlab import wire
from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.federation import Evaluate, Federation
from fedlab.history import History, plain
from fedlab.http.access import CLIENT, NOBODY, ORIGINAL, PAGE, TEACHER, Denied, cookie
from fedlab.messages import BadUpdate, Weights
from fedlab.serving.gateway import LATER

PAGES = Path(__file__).parent / "pages"
SHOWN = "page.js", "scene.js", "curve.js", "round.js", "page.css", "round.css", "colours.css"
"""What the page is made of. Nothing in these is secret, yet they want the token as everything else
here: a browser that was given the page sends its cookie along, and nobody else needs them.
"""
LONGEST_WAIT = 30.0  # seconds of one long poll
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'"
)


class Extension(Protocol):
    """Further routes, of a leaf: `fedlab.classroom` has one."""

    admitted: Mapping[str, frozenset[str]]
    """Endpoints, and whom they admit (`Identity.kind`). They are not among the recorded requests:
    what is asked again and again would hide the rest."""

    home: str
    """Where a browser goes that has no token, relative to the server's root."""

    def add(self, app: Flask) -> None:
        """Add its routes to `app`, whose extensions["fedlab"] is as `create_app` says."""


class GuestProtocol(Protocol):
    """Another way to take part, for clients that know no other: `fedlab.Original` is one."""

    def evaluate_on(self, classifier, test: Dataset) -> Evaluate:
        """A test of the global model, as its clients see the images."""

    def size_limit(self, weights: Weights) -> int:
        """The most bytes that a body may have."""

    def client_id(self, received: str | None) -> str:
        """The name under which one takes part."""

    def exchange(self, federation: Federation, fields: Mapping[str, str], size: int) -> dict:
        """One request (its form or query, `size` bytes), and what to answer as JSON."""


def add(
    app: Flask, federation: Federation, original_protocol: GuestProtocol | None, home: str = ""
) -> None:
    """Add every route to `app`. home: as in `Extension`."""
    records, looks, access = app.extensions["fedlab"]
    # The last one is kept: a round gives all its participants the same Task.
    encode_task = lru_cache(maxsize=1)(wire.encode_task)

    # -- for clients

    @app.post("/clients")
    def join():
        fields = json_body()
        g.client = str(fields.get("client", ""))[:40]
        g.who.check(str(fields.get("client", "")))
        own, session = g.who.kind == CLIENT, fields.get("session")
        # One that is nobody's: such a join cannot be repeated.
        session = session if session and isinstance(session, str) else secrets.token_hex(8)
        session = g.who.session if own else session  # a token of one's own is one session's
        numbers = fields.get("num_examples"), fields.get("shards", 1)
        federation.join(fields.get("client"), *numbers, session)
        # Who has a token keeps it; where it was revoked meanwhile, joining does not bring it back
        if own and not access.enrolled(g.who):
            federation.dismiss(g.client)
            raise Denied(401, "token", "this token was revoked; expected another one")
        token = access.token if own else access.enrol
        return jsonify(client=g.client, token=token(g.client, session)), 201

    @app.delete("/clients/<client>")
    def leave(client: str):
        g.who.check(client)
        g.client = client[:40]
        if g.who.kind == TEACHER:
            federation.remove(client, ban=request.args.get("ban") == "1")
        else:
            # It may end up in somebody's terminal
            reason = "".join(
                c if c.isprintable() else " " for c in request.headers.get("X-Reason", "")
            )
            federation.leave(client, reason[:300], session=g.who.session)
        return "", 204

    @app.get("/task")
    def task():
        g.who.check(request.args.get("client", ""))
        wait, later = waiting_time(), request.environ.get(LATER)
        # This thread waits only where nobody else does (another WSGI server than ours)
        session = g.who.session
        found = federation.task(g.client, 0 if later else wait, session)
        if found is None:
            if later and not later.over:
                later.ask(g.client, wait, lambda: not federation.waits(later.name, session))
            return "", 204
        body = encode_task(found)
        federation.count_bytes(down=len(body))
        return Response(body, content_type=wire.CONTENT_TYPE)

    @app.post("/updates")
    def updates():
        if request.mimetype != wire.CONTENT_TYPE:
            raise UnsupportedMediaType(
                f"the Content-Type is {request.mimetype[:100]!r}; expected {wire.CONTENT_TYPE!r}"
            )
        # In one piece: the whole body is there, and `get_data` would put it together from pieces
        # of 64 kB.
        body = request.stream.read(request.content_length or 0)
        update = wire.decode_update(body)
        g.who.check(update.client)
        # Before it may close a round: what it costs belongs to that one.
        federation.count_bytes(up=len(body))
        federation.report(update, g.who.session)
        return jsonify(round=update.round), 202

    # -- for everyone

    @app.get("/model")
    def model():
        version, weights = federation.model
        body = wire.pack(wire.parts(weights, kind="model", version=version))
        headers = {"Content-Disposition": "attachment; filename=model.safetensors"}
        return Response(body, content_type=wire.CONTENT_TYPE, headers=headers)

    @app.get("/status")
    def status():
        if "looker" in request.args:
            looker, version = request.args["looker"][:40], request.args.get("shown", -1, int)
            looks.append((time.monotonic(), looker, version))
        return jsonify(plain(asdict(federation.status())))

    @app.get("/history")
    def history():
        last = after()
        later = History([record for record in federation.history if record.round > last])
        return Response(later.to_json(), content_type="application/json")

    @app.get("/requests", endpoint="requests")
    def requests_answered():
        last = after()
        return jsonify([asdict(record) for record in list(records) if record.number > last])

    @app.get("/pages/<name>", endpoint="pages")
    def pages(name: str):
        if name not in SHOWN:
            abort(404)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response((PAGES / name).read_bytes(), content_type=f"{kind}; charset=utf-8")

    @app.get("/", endpoint=PAGE)
    def page():
        if original_protocol and "send" in request.args:
            return original_answer(request.args)
        if "token" in request.args:
            if not access.shown(request.args["token"]):
                expected = "expected the address that the server printed"
                raise Denied(401, "token", f"the token in this address is wrong; {expected}")
            # The clean address at once: a token in the address bar ends up in histories,
            # screenshots and Referer headers. Relative: a proxy may have put a path before it.
            answer = redirect("./", 303)
            how = {"httponly": True, "samesite": "Strict", "secure": request.is_secure}
            answer.set_cookie(cookie(request), access.looker, **how)
            return answer
        if g.who.kind == NOBODY and home:
            return redirect(home, 303)
        if g.who.kind == NOBODY:
            expected = "expected the whole address that the server printed, with ?token= at its end"
            raise Denied(401, "token", f"the token is missing; {expected}")
        text = (PAGES / "index.html").read_text(encoding="utf-8")
        headers = {"Content-Security-Policy": POLICY}
        return Response(text, content_type="text/html; charset=utf-8", headers=headers)

    # -- for the original demonstration's clients

    def original_answer(fields):
        g.client = original_protocol.client_id(fields.get("id"))
        size = request.content_length or len(request.query_string)
        answer = jsonify(original_protocol.exchange(federation, fields, size))
        federation.count_bytes(down=answer.content_length)
        return answer

    if original_protocol:

        @app.post("/", endpoint=ORIGINAL)
        def original_route():
            return original_answer(request.form)


def waiting_time() -> float:
    """The seconds that a long poll asks for. Raises Refused."""
    received = request.args.get("wait", "0")
    try:
        wait = float(received)
    except ValueError:
        wait = math.nan
    if math.isnan(wait):
        raise Refused(f"wait is {received[:40]!r}; expected seconds, at most {LONGEST_WAIT:.0f}")
    return min(max(wait, 0.0), LONGEST_WAIT)


def after() -> int:
    """Only what has a higher number than this is asked for: 0 is all. Raises Refused."""
    received = request.args.get("after", "0")
    if not (received.isdecimal() and len(received) < 16):
        raise Refused(f"after is {received[:40]!r}; expected the number of a round or a request")
    return int(received)


def json_body() -> dict:
    """The request's JSON object. Raises BadUpdate (400), or an HTTP 415 or 413."""
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
