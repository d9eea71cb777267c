"""A socket that listens, and its connections: how many there may be, and how long each may take.
The only file that imports uvicorn, whose HTTP/1.1 this is (by h11).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from fedlab.checks import Refused
from fedlab.serving.gateway import Gateway, failed

CONNECTIONS = 2_000
"""At most, and at most half of the files that this process may have open."""

FILES = 4_096
"""Files that a process is allowed where its user may have so many: as Jupyter does it."""

STRANGERS = 64
"""Connections of one address that have not asked for anything yet. (A class behind one router has
one address: whoever has said a whole request is no stranger.)"""

TO_ASK = 10.0
"""Seconds for a request's headers to be complete, counted from the first byte, or from the
beginning of a connection."""

IDLE = 75.0
"""Seconds that a connection is kept between two requests."""

TO_READ = 60.0
"""Seconds that the other side may take to read an answer."""

MOST_HEADERS = 65_536
"""Bytes of a request's headers."""

MOST_LINES = 100
"""Lines of a request's headers: thousands of tiny ones would take long to read."""

PIECE = 16_384
"""Bytes that are read of it at a time: only between two pieces is it seen how many there are."""

# "Invalid HTTP request received." would land under a cell of the notebook
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class State(ServerState):
    """What the connections of a Listener share. most: how many there may be. strangers: by address,
    in the order in which they came, those that have not asked for anything yet.
    """

    def __init__(self):
        super().__init__()
        self.most = min(CONNECTIONS, files_allowed() // 2)
        self.strangers: defaultdict[str, dict[Connection, None]] = defaultdict(dict)


class Connection(H11Protocol):
    """One connection. since: when what it is doing now began; asked: whether it has said a whole
    request before; spare: whether what it waits for is nobody's question any more.
    """

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        # asyncio leaves out sockets that were made without naming TCP; the second part of an answer
        # would wait 40 ms for the first to be acknowledged.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {"cut": self.cut, "spare": self.be_spare}
        self.asked, self.spare, self.lines = False, False, 0
        self._doing, self.since = None, time.monotonic()
        strangers = self.server_state.strangers[self.address]
        strangers[self] = None
        if len(strangers) > STRANGERS:
            next(iter(strangers)).cut()
        elif len(self.connections) > self.server_state.most:
            others = [c for c in self.connections if (c.idle or c.spare) and c is not self]
            min(others, key=lambda c: (c.asked, not c.spare, c.since), default=self).cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_stranger()
        super().connection_lost(exc)

    def _no_stranger(self) -> None:
        strangers = self.server_state.strangers
        strangers[self.address].pop(self, None)
        if not strangers[self.address]:
            del strangers[self.address]

    def be_spare(self) -> None:
        """Another connection has asked the same since: where there are too many, this one goes."""
        self.spare = True

    @property
    def address(self) -> str:
        """Whence it comes."""
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, or before its first."""
        return self.conn.their_state is h11.IDLE

    def look(self, now: float) -> None:
        """Cut it off if what it is doing takes too long."""
        writing = self.transport.get_write_buffer_size() > 0
        half = bool(self.conn.trailing_data[0])
        doing = writing, self.idle, half, self.conn.our_state
        if doing != self._doing:
            self._doing, self.since = doing, now
        if writing:
            most = TO_READ
        elif self.idle:
            most = TO_ASK if half or not self.asked else IDLE
        else:
            return  # the gateway's: it knows how long the body is, and who may wait
        if now - self.since > most:
            self.cut()

    def cut(self) -> None:
        """Close it at once, whatever is on its way."""
        self.connections.discard(self)
        self._no_stranger()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """In pieces where headers are to come; a body as it comes."""
        while data and not self.transport.is_closing():
            piece = data[:PIECE] if self.idle else data
            if self.idle:
                self.lines += piece.partition(b"\r\n\r\n")[0].count(b"\n")
                if self.lines > MOST_LINES:
                    return self.send_400_response("")
            super().data_received(piece)
            self.lines = self.lines if self.idle else 0
            data = data[len(piece) :]

    def handle_events(self) -> None:
        super().handle_events()
        if not self.asked and not self.idle:
            self.asked = True
            self._no_stranger()

    def on_response_complete(self) -> None:
        """What it does now begins now, though it looks as before: the next look may see the same
        state, and a busy connection is not an idle one.
        """
        self._doing, self.spare = None, False
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in this server's JSON."""
        _, headers, body = failed(400, "http", "the request cannot be read; expected HTTP/1.1")
        head = [(name.lower().encode(), value.encode()) for name, value in headers]
        try:
            events = h11.Response(status_code=400, headers=head), h11.Data(body), h11.EndOfMessage()
            self.transport.write(b"".join(self.conn.send(event) for event in events))
            self.transport.close()
        except h11.LocalProtocolError:  # an answer has begun already
            self.transport.abort()


class Listener:
    """A Gateway's socket, in a thread of its own, from now until `close`.

    context: for TLS; plain HTTP if None.
    """

    def __init__(
        self, gateway: Gateway, listening: socket.socket, context: ssl.SSLContext | None = None
    ):
        self._gateway, self._socket, self._context = gateway, listening, context
        self._loop = asyncio.new_event_loop()
        self._state = State()
        self._changed = False
        self._thread = threading.Thread(target=self._run, name="fedlab-server", daemon=True)
        self._thread.start()

    def look_again(self) -> None:
        """Something has changed, for those who wait; from any thread, as often as one likes."""
        if not self._changed:
            self._changed = True
            self._call(self._look_again)

    def close(self) -> None:
        """Stop listening, and close what is open. The gateway is closed too."""
        self._gateway.close()  # its threads first: what they have answered is on its way
        self._call(self._loop.stop, 0.05)
        self._thread.join(5)

    def _look_again(self) -> None:
        self._changed = False
        self._gateway.look_again()

    def _call(self, function: Callable[[], object], delay: float = 0.0) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._loop.call_later, delay, function)

    def _run(self) -> None:
        config = Config(
            self._gateway,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE,
            h11_max_incomplete_event_size=MOST_HEADERS,
        )
        config.load()
        loop, connections = self._loop, self._state.connections
        # Sockets that break in the middle of something: nobody is there to be told
        loop.set_exception_handler(lambda *_: None)
        serving = loop.run_until_complete(
            loop.create_server(
                lambda: Connection(config, self._state, {}, loop),
                sock=self._socket,
                ssl=self._context,
                ssl_handshake_timeout=TO_ASK if self._context else None,
                backlog=1_024,
            )
        )

        def look() -> None:
            loop.call_later(
                1.0, look
            )  # first: whatever happens to one of them, others are looked at
            now = time.monotonic()
            for connection in list(connections):
                connection.look(now)

        look()
        try:
            loop.run_forever()
        finally:
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.remove_reader(self._socket)
            loop.run_until_complete(_end(connections))
            serving.close()  # now: asyncio lets go of what it has just accepted unless it serves
            loop.close()


async def _end(connections: set) -> None:
    """Cut every connection, and let the loop close it: one that has just been accepted is in
    `connections` only a moment later, and a socket of TLS lies below another.
    """
    for _ in range(5):
        await asyncio.sleep(0)
        for connection in list(connections):
            connection.cut()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1)
    for _ in range(5):
        await asyncio.sleep(0)


def files_allowed() -> int:
    """How many files this process may have open; more than it was, where its user may."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are none
        return FILES
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now < FILES:
        now = FILES if most == resource.RLIM_INFINITY else min(most, FILES)
        with contextlib.suppress(ValueError, OSError):  # macOS says more than it allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    return max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 0) or FILES


def tls(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """What a server needs to speak TLS. Raises Refused for files that are none, or do not go
    together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise Refused(
            f"the certificate {certificate} and the key {key} cannot be used ({error});"
            " expected two PEM files that belong together"
        ) from None
    return context


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
