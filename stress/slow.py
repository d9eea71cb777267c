"""Row "slow": connections that say nothing, a byte now and then, or all but the last byte.

30 honest clients must finish beside them, at most twice as slowly as without; and what the slow
ones have sent must not fill the server's memory.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from stress.crowd import played
from stress.result import Result, first, part, say, some
from stress.served import Away
from stress.wire import TENSORS, Peer, connected, two_nn

HONEST, MOST_SLOWER, PATIENCE = 30, 2.0, 60
MOST_GROWTH = 250.0
"""MB that 480 bodies of 0.8 MB may cost: fewer than they are."""

SIZE = sum(w.nbytes for w in two_nn())


class Slow:
    """So many connections: first(number) is what each sends at once, then(number) a byte each
    second after it. In a `with`.
    """

    def __init__(self, url: str, count: int, begins: Callable[[int], bytes], drips: bool):
        self.url, self.count, self.begins, self.drips = url, count, begins, drips
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip, name="stress-slow")
        self.sockets: list[socket.socket] = []

    def _drip(self) -> None:
        while not self._stop.wait(1.0):
            for sock in self.sockets if self.drips else ():
                with suppress(OSError):
                    sock.send(b"a")

    def __enter__(self) -> Slow:
        for number in range(self.count):
            # A server that is full may refuse some: so many fewer hold it up.
            with suppress(OSError):
                sock = connected(self.url, 2)
                self.sockets.append(sock)
                sock.sendall(self.begins(number))
                sock.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self.sockets:
            sock.close()


def silent(_: int) -> bytes:
    """Nothing at all."""
    return b""


def dripping(peer: Peer) -> Callable[[int], bytes]:
    """A third each: within the headers, within the body, after a 413."""

    def begins(number: int) -> bytes:
        if number % 3 == 0:
            return b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
        length = SIZE if number % 3 == 1 else 10**9
        about = {"Content-Type": TENSORS, "Content-Length": str(length)}
        return peer.raw("POST", "/updates", b"", about)

    return begins


def almost(peer: Peer) -> Callable[[int], bytes]:
    """A body without its last byte."""
    about = {"Content-Type": TENSORS, "Content-Length": str(SIZE)}
    whole = peer.raw("POST", "/updates", bytes(SIZE - 1), about)
    return lambda _: whole


def scenes(peer: Peer) -> dict[str, list[tuple[int, Callable[[int], bytes], bool]]]:
    """Name -> (how many, what they send at once, whether they drip)."""
    nobody = Peer(f"http://{peer.host}:{peer.port}/?token=wrong", "nobody")
    return {
        "200 silent and 50 dripping": [(200, silent, False), (50, dripping(peer), True)],
        "520 silent": [(520, silent, False)],
        "520 dripping": [(520, dripping(peer), True)],
        "480 almost whole bodies": [(480, almost(peer), False)],
        "480 of them without the token": [(480, almost(nobody), False)],
    }


SCENES = 5


def run(scale: float, seed: int) -> Result:
    """Each scene with a server of its own, at small scales two of them. Times are judged at the
    full size only: the short version is a test, which has others beside it.
    """
    rounds, figures, faults = part(scale, 20, 4), {}, []
    for place in some(range(SCENES), scale, seed, 2):
        with Away(model="two_nn") as server, ExitStack() as stack:
            peer = Peer(server.url, "slow")
            peer.join()
            peer.close()
            name, crowd = list(scenes(peer).items())[place]
            alone = played(server, HONEST, rounds, PATIENCE)
            for count, begins, drips in crowd:
                stack.enter_context(Slow(server.url, count, begins, drips))
            beside = played(server, HONEST, rounds, PATIENCE)
            slower, grown = beside["seconds"] / alone["seconds"], beside["memory"] - alone["memory"]
        said = f"{slower:.2f} x as long" if math.isfinite(slower) else "no second round in a minute"
        figures[name] = f"{said}, {beside['finished']} of {HONEST} finish, {grown:+.0f} MB"
        say(f"{name}: {figures[name]}")
        late = scale >= 1 and slower > MOST_SLOWER
        if beside["finished"] < HONEST or late or grown > MOST_GROWTH:
            faults.append(name)
    figures["too slow or too large"] = first(faults)
    tried = f"{HONEST} honest clients, {rounds} rounds with and without"
    return Result("slow", tried, figures, not faults)
