"""Row "dropouts": clients who fetch a task and never answer, in every round others.

Every round must be over by its deadline and a second; one with enough updates moves the model by
exactly their mean, and one with a single update too few leaves it as it was.
"""

from __future__ import annotations

import random
from contextlib import ExitStack

import numpy as np

from fedlab.federation import Federation
from fedlab.http.server import Server
from fedlab.strategies import fed_avg
from stress.result import Result, first, part, say
from stress.wire import Peer, tiny

CLIENTS, QUORUM, ROUNDS = 10, 5, 100
DEADLINE, GRACE = 0.3, 1.0  # seconds
BUSY_DEADLINE, BUSY_GRACE = 1.0, 5.0
"""The same where other work goes on beside it, as in the tests: all ten ask within the deadline."""
STAY = {"0 %": 10, "10 %": 9, "30 %": 7, "50 %": 5, "one under the quorum": QUORUM - 1}
"""How many answer."""


def one_round(server: Server, peers: list[Peer], number: int, stay: set[int]) -> str:
    """A round in which only `stay` answer; what is wrong with it, or ""."""
    before, came = server.weights[0][0, 0], []
    for adds, peer in enumerate(peers):
        task = peer.task(5)
        if adds in stay:
            body = peer.update(task, [w + np.float32(adds) for w in task.weights])
            if peer.send(body).status == 202:
                came.append(adds)
    over(server, number)
    mean = sum(came) / len(came) if len(came) >= QUORUM else 0.0
    moved = float(server.weights[0][0, 0] - before)
    return "" if abs(moved - mean) < 1e-3 else f"moved by {moved:g}, not {mean:g}"


def over(server: Server, number: int) -> None:
    """Wait for the end of this round."""
    version = -1
    for _ in range(1_000):
        if len(server.history) >= number:
            return
        version = server.federation.wait_for_change(version, 0.1)
    raise TimeoutError(f"round {number} does not end")


def play(stay: int, rounds: int, deadline: float, rng: random.Random, faults: list[str]):
    """So many rounds in which `stay` of the clients answer; the seconds of each, (rounds,)."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(federation=Federation(tiny(0), fed_avg()), linger=0))
        peers = [Peer(server.url, f"client-{n}") for n in range(CLIENTS)]
        for peer in peers:
            stack.callback(peer.close)
            peer.join()
        settings = {"deadline": deadline, "min_updates": QUORUM, "min_clients": CLIENTS}
        server.start(rounds=rounds, strict=False, **settings)
        for number in range(1, rounds + 1):
            if wrong := one_round(server, peers, number, set(rng.sample(range(CLIENTS), stay))):
                faults.append(f"{stay} of {CLIENTS}, round {number}: {wrong}")
        history = server.federation.wait()
    abandoned = sum(record.note.startswith("abandoned") for record in history)
    if stay < QUORUM and abandoned < rounds:
        faults.append(f"{abandoned} of {rounds} rounds under the quorum were abandoned")
    return np.diff([0.0] + [record.seconds for record in history])


def run(scale: float, seed: int) -> Result:
    """Every share of drop-outs."""
    rng, rounds, faults, figures = random.Random(seed), part(scale, ROUNDS, 3), [], {}
    deadline, grace = (DEADLINE, GRACE) if scale >= 1 else (BUSY_DEADLINE, BUSY_GRACE)
    for name, stay in STAY.items():
        seconds = play(stay, rounds, deadline, rng, faults)
        figures[name] = f"{np.median(seconds):.2f} s a round, at most {seconds.max():.2f}"
        if seconds.max() > deadline + grace:
            faults.append(f"{name}: a round of {seconds.max():.2f} s")
        say(f"{name}: {rounds} rounds")
    figures["wrong"] = first(faults)
    tried = f"{rounds} rounds each of {CLIENTS} clients, deadline {deadline:g} s, quorum {QUORUM}"
    return Result("dropouts", tried, figures, not faults)
