"""Row "soak": a long run with clients who come and go, and servers that start and stop.

Memory, open files and threads of the server's process must be flat: the same at the end as after
the first fifth, but for a little (its history grows, a kilobyte a round).
"""

from __future__ import annotations

import random
import threading
import time

from stress.result import Result, first, part, say
from stress.served import Away
from stress.wire import AWAY, Peer, two_nn

ROUNDS, CLIENTS, CHURN, CYCLES = 1_000, 20, 0.1, 50
MOST_GROWTH = 32.0  # MB
MOST_MORE = 3  # files or threads: a connection that is about to close


class Seat:
    """A client at work, now and then another one, until `stop` is set."""

    def __init__(self, url: str, place: int, seed: int, stop: threading.Event):
        self.url, self.name, self.stop = url, f"client-{place:02}", stop
        self.rng, self.number, self.faults = random.Random(f"{seed}/{place}"), 0, []
        self.thread = threading.Thread(target=self._run, name=f"stress-{self.name}")

    def newcomer(self) -> Peer:
        """Somebody who has not been here."""
        self.number += 1
        peer = Peer(self.url, f"{self.name}-{self.number}")
        peer.join()
        return peer

    def _run(self) -> None:
        peer, weights = self.newcomer(), two_nn()
        while not self.stop.is_set():
            try:
                task = peer.task(2)
                answer = peer.send(peer.update(task, weights))
                if answer.status != 202:
                    self.faults.append(f"round {task.round}: {answer.status} {answer.kind}")
                if self.rng.random() < CHURN:
                    peer.leave()
                    peer.close()
                    peer = self.newcomer()
            except TimeoutError:
                continue
            except (*AWAY, PermissionError) as error:
                self.faults.append(f"{type(error).__name__}: {error}")
        peer.close()


def flat(name: str, early: dict, late: dict, faults: list[str]) -> str:
    """Memory, files and threads, early and late, in words."""
    if late["memory"] - early["memory"] > MOST_GROWTH:
        faults.append(f"{name}: memory")
    faults += [f"{name}: {w}" for w in ("files", "threads") if late[w] > early[w] + MOST_MORE]
    shown = (f"{early[what]:g} → {late[what]:g} {what}" for what in ("memory", "files", "threads"))
    return ", ".join(shown)


def run(scale: float, seed: int) -> Result:
    """The long run, then the servers."""
    rounds, faults, figures = part(scale, ROUNDS, 20), [], {}
    early, stop = {}, threading.Event()
    with Away(model="two_nn") as server:
        seats = [Seat(server.url, place, seed, stop) for place in range(CLIENTS)]
        for seat in seats:
            seat.thread.start()
        try:
            server.do("start", rounds=rounds, min_clients=CLIENTS, strict=False)
            late, said = server.facts(), 0
            while late["rounds"] < rounds and not sum((seat.faults for seat in seats), []):
                if late["rounds"] >= rounds // 5 and not early:
                    early = late
                if late["rounds"] >= said + 100:
                    said = late["rounds"]
                    say(f"{said:,} of {rounds:,} rounds")
                time.sleep(0.2)
                late = server.facts()
        finally:
            stop.set()
            for seat in seats:
                seat.thread.join()
    faults += sum((seat.faults for seat in seats), [])
    newcomers = sum(seat.number for seat in seats)
    figures["clients"] = f"{newcomers:,}, {late['rounds']:,} rounds"
    figures[f"{rounds:,} rounds"] = flat("rounds", early or late, late, faults)
    cycles = part(scale, CYCLES, 5)
    with Away() as server:
        early = server.do("cycle", times=max(2, cycles // 5))
        late = server.do("cycle", times=cycles)
    figures[f"{cycles} starts and stops"] = flat("starts", early, late, faults)
    figures["wrong"] = first(faults)
    tried = f"{CLIENTS} clients, {CHURN:.0%} of them new each round; servers started and stopped"
    return Result("soak", tried, figures, not faults)
