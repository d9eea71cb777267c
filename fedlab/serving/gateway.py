"""Between connections and the Flask application: who may send a body is decided by the headers
alone, who waits holds no thread, and everything runs in a few of them.
"""

from __future__ import annotations

import asyncio
import functools
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from flask import Flask, Response

LATER = "fedlab.later"
"""Where, in a WSGI environ, a route finds the `Later` that it may ask to be called again by."""

SENDER = "fedlab.sender"
"""Where the door says whose body is to come: a client's name, or nothing."""

SLOWEST = 20_000
"""Bytes a second: a body that comes slower than this is not waited for."""

PATIENCE = 30.0
"""Seconds that are granted to a body besides."""

LEFT_OVER = 1_000_000
"""Bytes of a refused body that are still read, so that its sender, who is busy sending, gets to
read the answer; who sends more is cut off."""

A_SECOND = 1.0
"""Seconds: so often at most an earlier question is answered at once because of a later one. Whoever
asks a thousand times at the same time would otherwise keep everybody busy with that."""

AT_ONCE = 8
"""Bodies that one sender may have under way, and eight times as many an address whose senders have
no names; the next ones are told to come later."""


@dataclass
class Later:
    """A route has nothing to say yet: it is called once more as soon as `ready()` after a change,
    or after so many seconds. Who asks again under the same name ends the earlier question.
    """

    name: str = ""
    seconds: float = 0.0
    ready: Callable[[], bool] = field(default=lambda: True)
    over: bool = False  # the last call: no further waiting

    def ask(self, name: str, seconds: float, ready: Callable[[], bool]) -> None:
        """Ask to be called again; the seconds count from the first time."""
        self.seconds = self.seconds if self.name else seconds
        self.name, self.ready = name, ready


class Hangup(Exception):
    """Raised where a request is to get no answer at all: its connection is closed."""


class Gateway:
    """An ASGI application around a Flask one.

    door: what it says to a request's headers, as `app.at_the_door` does; None lets the body in.
    """

    def __init__(self, app: Flask, door: Callable[[Flask, dict], Response | None], workers: int):
        self._app, self._door = app, door
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="fedlab-answers")
        self._waiting: dict[str, tuple[Later, asyncio.Event, Callable[[], None]]] = {}
        self._ended: dict[str, float] = {}  # when a question was last answered for a later one
        self._bodies: dict[str, int] = {}
        self._closed = False

    def close(self) -> None:
        """End the threads. Whatever still waits is answered no more."""
        self._closed = True
        self._workers.shutdown(wait=True, cancel_futures=True)

    def look_again(self) -> None:
        """Something has changed: who waits for that is answered. Called in the loop's thread."""
        for later, event, _ in self._waiting.values():
            if later.ready():
                event.set()

    async def __call__(self, scope: dict, receive, send) -> None:
        try:
            await self._exchange(scope, receive, send)
        except (asyncio.CancelledError, RuntimeError):
            if not self._closed:
                raise
            # No thread is left that would answer: who comes now is told nothing, and a notebook
            # is not shown a traceback.
            scope["state"]["cut"]()
            await _disconnected(receive)

    async def _exchange(self, scope: dict, receive, send) -> None:
        environ = environ_of(scope)
        body = b""
        if environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ:
            refusal = self._door(self._app, environ)
            if refusal is not None:
                refusal.headers["Connection"] = "close"
                answer = refusal.get_wsgi_response(environ)
                return await _send(send, answer[1], list(answer[2]), b"".join(answer[0]), receive)
            body = await self._body(environ, receive)
            if isinstance(body, tuple):
                return await _send(send, *body, receive)
            if body is None:
                return  # who sent it has gone
        later = Later()
        environ[LATER] = later
        while True:
            try:
                status, headers, answer = await self._answered(environ, body)
            except Hangup:
                scope["state"]["cut"]()
                return await _disconnected(receive)
            if status[:3] != "204" or later.over or not later.seconds:
                return await _send(send, status, headers, answer)
            if not await self._wait(later, receive, scope["state"]["spare"]):
                return

    async def _body(self, environ: dict, receive) -> bytes | tuple | None:
        """The whole body; what is answered where it does not come; None where nobody is there."""
        length, name = int(environ["CONTENT_LENGTH"]), environ.get(SENDER, "")
        sender, bodies = (name, AT_ONCE) if name else ("@" + environ["REMOTE_ADDR"], 8 * AT_ONCE)
        under_way = self._bodies.get(sender, 0)
        if under_way >= bodies:
            sentence = f"got {under_way + 1} bodies at once; expected at most {bodies}"
            return failed(503, "busy", sentence)
        self._bodies[sender] = under_way + 1
        pieces, most = [], PATIENCE + length / SLOWEST
        try:
            async with asyncio.timeout(most):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    pieces.append(message["body"])
                    if not message.get("more_body"):
                        return b"".join(pieces)
        except TimeoutError:
            came = sum(map(len, pieces))
            sentence = f"{came:,} of {length:,} bytes came in {most:.0f} s; expected all of them"
            return failed(408, "slow", sentence)
        finally:
            self._bodies[sender] -= 1
            if not self._bodies[sender]:
                del self._bodies[sender]

    async def _answered(self, environ: dict, body: bytes) -> tuple[str, list, bytes]:
        if self._closed:
            raise Hangup
        call = functools.partial(called, self._app.wsgi_app, environ, body)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, call)
        except RuntimeError:  # it came while the threads were ended
            if self._closed:
                raise Hangup from None
            raise

    async def _wait(self, later: Later, receive, spare: Callable[[], None]) -> bool:
        """Until it is time to call again; False where nobody waits any more. An earlier question
        of the same name is over: answered now, or, where that was done just now, at its end.
        """
        event, now = asyncio.Event(), asyncio.get_running_loop().time()
        if later.name in self._waiting:
            earlier, asked, spared = self._waiting[later.name]
            earlier.over = True
            spared()
            if now - self._ended.get(later.name, -A_SECOND) >= A_SECOND:
                self._ended[later.name] = now
                asked.set()
        self._waiting[later.name] = later, event, spare
        if later.ready():  # it has changed between the call and here
            event.set()
        gone = asyncio.ensure_future(_disconnected(receive))
        changed = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(
                {gone, changed}, timeout=later.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            later.seconds -= asyncio.get_running_loop().time() - now
            later.over = later.over or later.seconds <= 0
            return not gone.done()
        finally:
            gone.cancel()
            changed.cancel()
            if self._waiting.get(later.name, (None,))[0] is later:
                del self._waiting[later.name]
                self._ended.pop(later.name, None)


async def _disconnected(receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send, status: str, headers: list, body: bytes, unread=None) -> None:
    """Answer. unread: where the rest of a body that was refused is received from."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": raw})
    if unread is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body, left = b"", LEFT_OVER
        try:
            async with asyncio.timeout(2):
                while left > 0:
                    message = await unread()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            pass
    await send({"type": "http.response.body", "body": body})


def failed(status: int, kind: str, sentence: str) -> tuple[str, list, bytes]:
    """An error as this server's JSON, where Flask has not been asked; the connection is closed."""
    body = json.dumps({"error": sentence, "kind": kind}).encode()
    about = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return f"{status}", [*about, ("Connection", "close")], body


def called(app, environ: dict, body: bytes) -> tuple[str, list, bytes]:
    """(status, headers, body) of what a WSGI application answers."""
    said: list = []

    def start_response(status, headers, exc_info=None):
        said[:] = [status, headers]

    pieces = app({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
    try:
        return *said, b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


def environ_of(scope: dict) -> dict:
    """A WSGI environ (PEP 3333) of an ASGI scope. Headers with "_" in their names are left out:
    they would pass for others.
    """
    host, port = scope["server"] or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope["client"] or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ
