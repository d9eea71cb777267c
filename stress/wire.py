"""Everything here that knows how one speaks with a server: the one file to open when that changes.

A `Peer` is a participant without TensorFlow: it fetches, and sends what it is told to. `Raw` are
bytes on a socket.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np

from fedlab import wire
from fedlab.messages import Task, Update, Weights

JSON = "application/json"
TENSORS = wire.CONTENT_TYPE
FORM = "application/x-www-form-urlencoded"
AWAY = (OSError, http.client.HTTPException)
"""What a server that is not there looks like."""

TWO_NN = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]


def tiny(value: float = 0.5) -> Weights:
    """A small model's weights."""
    return [np.full((4, 3), value, np.float32), np.full(3, value, np.float32)]


def two_nn(value: float = 0.01) -> Weights:
    """As many numbers as the 2NN has: 797 kB."""
    return [np.full(shape, value, np.float32) for shape in TWO_NN]


def softmax() -> Weights:
    """The smallest model of images."""
    return [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]


MODELS: dict[str, Callable[[], Weights]] = {"tiny": tiny, "two_nn": two_nn, "softmax": softmax}


def parts_of(url: str) -> tuple[str, int, str]:
    """Host, port and token of the address that a server printed."""
    parts = urlsplit(url)
    return parts.hostname, parts.port, parse_qs(parts.query)["token"][0]


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes

    @property
    def said(self) -> dict:
        """The JSON object, {} where there is none."""
        with suppress(ValueError):
            if isinstance(found := json.loads(self.body), dict):
                return found
        return {}

    @property
    def kind(self) -> str:
        """An error's one word, "" where there is none."""
        return str(self.said.get("kind", ""))


class Peer:
    """One participant. `ask` and all that use it raise one of AWAY when the server is not there."""

    def __init__(self, url: str, client: str, examples: int = 100, shards: int = 1, session=""):
        self.host, self.port, self._shared = parts_of(url)
        self._own = ""
        self.client, self.examples, self.shards = client, examples, shards
        self.session = session or f"session of {client}"
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=60)

    @property
    def token(self) -> str:
        """The client's own, where joining has answered one; else the class's."""
        return self._own or self._shared

    def key(self, path: str) -> str:
        """The token for this path: one joins with the class's."""
        return self._shared if path == "/clients" else self.token

    def ask(self, method: str, path: str, body=None, kind: str = "", **headers) -> Answer:
        """One request on this peer's connection, which is opened where it is closed."""
        named = {"Authorization": f"Bearer {headers.pop('token', self.key(path))}"}
        named |= {"Content-Type": kind} if kind else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, named)
            answer = self._connection.getresponse()
            found = Answer(answer.status, answer.read())
        except BaseException:
            self._connection.close()
            raise
        if answer.getheader("Connection", "").lower() == "close":
            self._connection.close()
        return found

    def join_body(self) -> bytes:
        """What `join` sends."""
        fields = {"client": self.client, "num_examples": self.examples, "shards": self.shards}
        return json.dumps(fields | {"session": self.session}).encode()

    def join(self) -> Answer:
        """Take part, from now on with the token that is answered."""
        answer = self.ask("POST", "/clients", self.join_body(), JSON)
        self._own = answer.said.get("token", "") if answer.status == 201 else self._own
        return answer

    def fetch(self, wait: float = 0.0) -> Answer:
        """Ask for a task."""
        return self.ask("GET", f"/task?client={quote(self.client)}&wait={wait:g}")

    def task(self, seconds: float = 30.0) -> Task:
        """The next task; raises TimeoutError, or PermissionError for a refusal."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.fetch(min(5.0, seconds))
            if answer.status == 200:
                return wire.decode_task(answer.body)
            if answer.status != 204:
                raise PermissionError(f"{self.client}: {answer.status} {answer.kind}")
        raise TimeoutError(f"{self.client} got no task within {seconds:g} s")

    def update(self, task: Task, weights: Weights, examples: int = 0, **changes) -> bytes:
        """An update's bytes, an answer to `task`."""
        fields = {"round": task.round, "version": task.version, "run": task.run}
        fields |= {"accuracy": 0.5, "loss": 1.0}
        count = examples or self.examples
        about = {"client": self.client, "num_examples": count, "weights": weights}
        return wire.encode_update(Update(**about | fields | changes))

    def send(self, body: bytes) -> Answer:
        """Send an update's bytes."""
        return self.ask("POST", "/updates", body, TENSORS)

    def leave(self) -> Answer:
        """Go."""
        return self.ask("DELETE", f"/clients/{quote(self.client)}")

    def close(self) -> None:
        """Close the connection, without a word."""
        self._connection.close()

    def raw(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """A request as bytes, with exactly these headers beside Host and the token."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"Authorization: Bearer {self.key(path)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def connected(url: str, timeout: float = 10.0) -> socket.socket:
    """A socket to that server."""
    return socket.create_connection(parts_of(url)[:2], timeout)


def reset(sock: socket.socket) -> None:
    """Close it so that whatever is still under way is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def status_of(url: str, request: bytes, timeout: float = 3.0) -> int:
    """The status of the answer to these bytes: 0 where the server closed without one, or does not
    see a whole request in them (then its patience is not waited for).
    """
    with connected(url, timeout) as sock:
        try:
            sock.sendall(request)
            line = sock.recv(65_536).split(b"\r\n", 1)[0]
        except OSError:
            return 0
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def asked(url: str, method: str, path: str, headers=(), body: bytes = b"") -> Answer:
    """One request on a connection of its own, with these (name, value) and no others beside Host
    and Content-Length: a name may be there twice, a value hold any letter. Raises one of AWAY.
    """
    connection = http.client.HTTPConnection(*parts_of(url)[:2], timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode("latin-1"))
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()
