"""Row "replies": replies are lost after the server has counted, and the update is sent again.

The socket is reset once the first byte of the answer is there, so the server has counted; its
sender does not know. Changes and counts are chosen so that the right weights are exact numbers.
"""

from __future__ import annotations

import random
import socket
import tempfile
import time
from collections import Counter
from contextlib import suppress

import numpy as np

from fedlab.federation import Federation
from fedlab.http.server import Server
from fedlab.strategies import async_average, fed_avg
from stress.result import Result, first, part, say
from stress.served import Away, free_port
from stress.wire import AWAY, TENSORS, Peer, connected, reset, tiny

FULL, CLIENTS = 1_000, 4


def lose(url: str, peer: Peer, body: bytes) -> None:
    """Send an update whose answer is lost on the way."""
    about = {"Content-Type": TENSORS, "Content-Length": str(len(body))}
    sock = connected(url)
    sock.sendall(peer.raw("POST", "/updates", body, about))
    sock.recv(1, socket.MSG_PEEK)
    reset(sock)


def in_rounds(losses: int, faults: list[str]) -> Counter:
    """Rounds of four clients that add 0, 1, 2 and 3: each round adds 1.5."""
    answers: Counter = Counter()
    rounds = -(-losses // CLIENTS)
    with Server(federation=Federation(tiny(0), fed_avg()), linger=0) as server:
        peers = [Peer(server.url, f"client-{n}") for n in range(CLIENTS)]
        for peer in peers:
            peer.join()
        server.start(rounds=rounds, min_clients=CLIENTS)
        for number in range(rounds):
            for adds, peer in enumerate(peers):
                task = peer.task()
                body = peer.update(task, [w + np.float32(adds) for w in task.weights])
                lose(server.url, peer, body)
                answer = peer.send(body)
                # The last one's may have closed the round, and a new one has begun.
                answers[answer.kind or answer.status] += 1
            if number % 100 == 99:
                say(f"{number + 1} of {rounds} rounds with lost replies")
        history = server.federation.wait()
        expected = [w + np.float32(1.5 * rounds) for w in tiny(0)]
        right = all((a == b).all() for a, b in zip(server.weights, expected, strict=True))
        counted = sum(record.num_examples for record in history)
        if not right or counted != rounds * CLIENTS * 100:
            faults.append(f"rounds: {counted} examples counted of {rounds * CLIENTS * 100}")
        for peer in peers:
            peer.close()
    return answers


def asynchronous(losses: int, rng: random.Random, faults: list[str]) -> Counter:
    """Single updates, of 1 to 100 examples each: the server's count says how often each counted."""
    answers: Counter = Counter()
    with Server(federation=Federation(tiny(0), async_average()), linger=0) as server:
        peer = Peer(server.url, "ada", shards=losses + 1)
        peer.join()
        server.start(rounds=1)
        total, weights = 0, np.zeros((4, 3), np.float64)
        for number in range(losses):
            task, examples = peer.task(), rng.randint(1, 100)
            body = peer.update(task, tiny(float(number % 7)), examples)
            lose(server.url, peer, body)
            answers[peer.send(body).kind] += 1
            total += examples
            weights += (number % 7 - weights) * examples / total
        end = time.monotonic() + 10
        while len(server.history) < losses and time.monotonic() < end:
            time.sleep(0.01)
        counted = server.federation.state.num_examples
        close = np.allclose(server.weights[0], weights, atol=1e-4)
        if counted != total or len(server.history) != losses or not close:
            faults.append(f"asynchronous: {counted:,} examples counted of {total:,}")
        peer.close()
    return answers


def across_a_restart(strategy: str, faults: list[str]) -> str:
    """An update that is in the checkpoint, but whose sender was not answered: the server was
    killed. It joins the new one, and sends the update again. What it is told.
    """
    with tempfile.TemporaryDirectory() as folder:
        about = {"strategy": strategy, "checkpoint": f"{folder}/model.safetensors"}
        about |= {"port": free_port(), "token": "across-a-restart"}
        with Away(**about, die_after=1, committed=True) as server:
            peer = Peer(server.url, "ada", shards=3)
            peer.join()
            server.do("start", rounds=1)
            body = peer.update(peer.task(), tiny())
            with suppress(*AWAY):
                peer.send(body)
        with Away(**about) as server:
            server.do("start", rounds=1)
            peer.join()
            answer = peer.send(body)
            counted = server.facts()["examples"]
            peer.close()
    if strategy == "async_average" and counted != peer.examples:
        faults.append(f"{strategy} across a restart: {counted} examples of {peer.examples}")
    if strategy == "fed_avg" and answer.status != 409:
        faults.append(f"{strategy} across a restart: {answer.status}")
    return answer.kind or str(answer.status)


def run(scale: float, seed: int) -> Result:
    """Half of the losses in rounds, half without."""
    each, faults = part(scale, FULL // 2, 8), []
    answers = in_rounds(each, faults) + asynchronous(each, random.Random(seed), faults)
    restarted = [across_a_restart(name, faults) for name in ("fed_avg", "async_average")]
    odd = {kind: n for kind, n in answers.items() if kind not in ("already_counted", "conflict")}
    told = ", ".join(f"{n:,} x {kind}" for kind, n in answers.most_common())
    figures = {"sent again, answered": told, "counted wrongly": first(faults)}
    figures["across a restart, in rounds and without"] = " and ".join(restarted)
    tried = f"{2 * each:,} replies lost after the server had counted, in rounds and without"
    return Result("replies", tried, figures, not faults and not odd)
