"""Row "restart": a server's process is killed and started again under live clients, in every phase
of a round: before the fetch, while training, before the send, and after the send with the reply
lost.

The clients are the library's own `Client`, training a softmax on a few images. Their work is a
function of seed, round and name, so the end must be the weights of a run that nobody disturbed.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from stress.result import Result, first, part, say, some
from stress.served import Away, free_port

PHASES = {
    "before the fetch": "waiting",
    "while training": "training",
    "before the send": "sending",
    "after the send, its reply lost": "",
}
"""What a client says of itself when the server is killed; "": the server does it to itself."""

CLIENTS, ROUNDS = ("ada", "bob", "eve"), 5


def data(number: int):
    """A few made-up images of a client's own."""
    from fedlab.data import Dataset

    rng = np.random.default_rng(number)
    x = rng.random((40, 784), dtype=np.float32)
    return Dataset(x, rng.integers(0, 10, 40).astype(np.uint8))


def model():
    """A softmax."""
    import keras

    layers = [keras.Input((784,)), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential(layers)


class Site:
    """A server that somebody starts again, at the same address, whenever it has ended."""

    def __init__(self, folder: Path):
        self.about = {"model": "softmax", "checkpoint": str(folder / "model.safetensors")}
        self.about |= {"port": free_port(), "token": secrets.token_urlsafe(12)}
        self.starts = 0
        self.server: Away | None = None

    def up(self, **more) -> None:
        """Start it; its run goes on to the last round."""
        self.server = Away(**self.about, **more)
        left = ROUNDS - self.server.facts()["rounds"]
        if left:
            self.server.do("start", rounds=left, min_clients=len(CLIENTS), strict=False)
        self.starts += 1

    def down(self) -> None:
        """Kill it."""
        self.server.kill()


def play(folder: Path, phase: str | None, kills: int) -> tuple[str, int]:
    """A run in which the server is killed so often in that phase (None: never): the bits of the
    final weights, and how often it was started.
    """
    from fedlab.http.client import Client

    site, due, seen = Site(folder), threading.Event(), [0]
    dies = {"die_after": 2} if phase == "" else {}
    site.up(**(dies if kills else {}))

    def on_status(status) -> None:
        if phase and status.phase == phase and status.round == seen[0] + 1 and not due.is_set():
            due.set()
            down.wait(5)

    down = threading.Event()
    clients = [
        Client(site.server.url, name, data(n), model=model(), patience=60)
        for n, name in enumerate(CLIENTS)
    ]
    clients[0]._on_status = on_status
    for client in clients:
        client.start()
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if due.is_set() and site.starts <= kills:
                site.down()
                down.set()
                site.up()
                seen[0] = site.server.facts()["rounds"]
                down.clear()
                due.clear()
            try:
                facts = site.server.facts()
            except ConnectionError:  # it has died by itself
                site.server.close()
                site.up(**(dies if site.starts < kills else {}))
                continue
            if facts["rounds"] >= ROUNDS:
                return facts["bits"], site.starts
            time.sleep(0.02)
        raise TimeoutError(f"no end after {facts['rounds']} rounds")
    finally:
        down.set()
        for client in clients:
            client.stop()
        site.server.close()


def run(scale: float, seed: int) -> Result:
    """Every phase; at small scales two of them."""
    kills, faults, figures = part(scale, 4), [], {}
    with tempfile.TemporaryDirectory() as folder:
        expected, _ = play(Path(folder), None, 0)
    for name, phase in some(list(PHASES.items()), scale, seed, 2):
        with tempfile.TemporaryDirectory() as folder:
            try:
                bits, starts = play(Path(folder), phase, kills)
            except TimeoutError as error:
                bits, starts = str(error), 0
        figures[name] = f"{starts - 1} restarts"
        say(f"{name}: {figures[name]}")
        if bits != expected:
            faults.append(f"{name}: other weights ({bits[:40]})")
        if starts - 1 < kills:
            faults.append(f"{name}: killed {starts - 1} times of {kills}")
    figures["not the undisturbed run's"] = first(faults)
    tried = f"kill -9 under {len(CLIENTS)} live Clients, {ROUNDS} rounds"
    return Result("restart", tried, figures, not faults)
