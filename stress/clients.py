"""Row "clients": as many as a class and more, each fetching and sending 797 kB a round (the 2NN),
without TensorFlow; and one participant who asks a thousand times at once.

Seconds a round are the median over the rounds after the first, on the server's own clock, while the
clients share its two cores: what they cost is in it.
"""

from __future__ import annotations

import math
import select
import threading
import time
from contextlib import suppress

from stress.crowd import played
from stress.result import Result, first, part, say
from stress.served import Away
from stress.wire import Peer, connected

MOST_SECONDS = 2.0
"""A round of 200 clients."""

MOST_SLOWER = 2.0
POLLS, OTHERS = 1_000, 30


class Poll:
    """One connection that asks for a task, and a second after the answer again."""

    def __init__(self, url: str, question: bytes):
        self.question, self.left, self.head = question, 0, b""
        self.sock = connected(url, 2)
        self.ask()

    def ask(self) -> None:
        """Send the question."""
        self.sock.setblocking(True)
        self.sock.sendall(self.question)
        self.sock.setblocking(False)
        self.due, self.left, self.head = math.inf, -1, b""

    def read(self) -> None:
        """What has come. Raises ConnectionError at the end of the connection."""
        with suppress(BlockingIOError):
            if not (body := self.sock.recv(2**20)):
                raise ConnectionError
            if self.left < 0:
                self.head += body
                head, end, rest = self.head.partition(b"\r\n\r\n")
                if not end:
                    return
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                self.left, body = int(length or 0), rest
            self.left -= len(body)
            if self.left <= 0:
                self.due = time.monotonic() + 1


class Greedy:
    """One participant with so many polls open at a time. In a `with`."""

    def __init__(self, url: str, client: str, polls: int):
        peer = Peer(url, client)
        peer.join()
        peer.close()
        self.question = peer.raw("GET", f"/task?client={client}&wait=20", b"", {})
        self.url, self.polls, self.asked, self.most = url, polls, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stress-greedy")

    def _run(self) -> None:
        held: dict[int, Poll] = {}
        waiting, next_open = select.poll(), 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if len(held) < self.polls and now > next_open:
                next_open = now + 0.05
                self._open(held, waiting)
            for number, _ in waiting.poll(50):
                self._step(held, waiting, number, held[number].read)
            for number in [number for number, one in held.items() if one.due < time.monotonic()]:
                self.asked += 1
                self._step(held, waiting, number, held[number].ask)
        for one in held.values():
            one.sock.close()

    def _open(self, held: dict[int, Poll], waiting) -> None:
        with suppress(OSError):
            for _ in range(min(100, self.polls - len(held))):
                one = Poll(self.url, self.question)
                held[one.sock.fileno()] = one
                waiting.register(one.sock, select.POLLIN)
                self.asked += 1
        self.most = max(self.most, len(held))

    def _step(self, held: dict[int, Poll], waiting, number: int, step) -> None:
        try:
            step()
        except (TimeoutError, OSError):
            waiting.unregister(number)
            held.pop(number).sock.close()

    def __enter__(self) -> Greedy:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()


def crowds(rounds: int, figures: dict, faults: list[str], timed: bool) -> None:
    """40 processes, and 200 threads."""
    with Away(model="two_nn") as server:
        for name, count, processes in (("40 processes", 40, 40), ("200 threads", 200, 2)):
            found = played(server, count, rounds, 60 + 10 * rounds, processes=processes)
            figures[name] = f"{found['seconds']:.2f} s a round, memory {found['memory']:.0f} MB"
            if found["finished"] < count or found["whole"] < rounds:
                faults.append(f"{name}: {found['finished']} finished, {first(found['faults'])}")
            if timed and count == 200 and found["seconds"] > MOST_SECONDS:
                faults.append(f"200 threads: more than {MOST_SECONDS:g} s a round")
            say(f"{name}: {figures[name]}")


def polls(rounds: int, figures: dict, faults: list[str], timed: bool) -> None:
    """The greedy one, who has joined, beside 30 others, whose updates are enough for a round."""
    with Away(model="two_nn") as server:
        alone = played(server, OTHERS, rounds, 60)
        with Greedy(server.url, f"client-{OTHERS:03}", POLLS) as greedy:
            time.sleep(1)
            beside = played(server, OTHERS, rounds, 60)
    slower = beside["seconds"] / alone["seconds"]
    said = f"{slower:.1f} x as long" if math.isfinite(slower) else "no second round in a minute"
    found = f"{said} ({greedy.asked:,} asked, {greedy.most:,} at a time)"
    figures[f"{OTHERS} beside {POLLS:,} polls of one"] = found
    if beside["finished"] < OTHERS:
        faults.append(f"beside the polls: {beside['finished']} of {OTHERS} finished")
    if timed and slower > MOST_SLOWER:
        faults.append(f"one with {POLLS:,} polls makes others slower")


def run(scale: float, seed: int) -> Result:
    """Crowds, then the greedy one. Times are judged at the full size only: the short version is a
    test, which has others beside it.
    """
    rounds, figures, faults, timed = part(scale, 20, 3), {}, [], scale >= 1
    crowds(rounds, figures, faults, timed)
    polls(rounds, figures, faults, timed)
    figures["wrong"] = first(faults)
    return Result("clients", f"{rounds} rounds each, 797 kB both ways", figures, not faults)
