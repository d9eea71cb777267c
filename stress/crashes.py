"""Row "crashes": a federation's process is killed, at every boundary of a round and of writing a
checkpoint, and at random moments.

What is there afterwards must be a round that was committed, to the bit; and whoever goes on from it
must end with the weights of a run that nobody disturbed. The work is done in a process of its own
(`python -m stress.crashes`), which has no threads and may fork: a process to kill costs little.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

from fedlab.checkpoint import load_checkpoint, prepare, unfinished
from fedlab.federation import Federation, rounds, synchronous, table
from fedlab.federation import run as driver
from fedlab.messages import Update
from fedlab.plan import Plan
from fedlab.strategies import fed_adam
from stress.disk import WRITING, Disk, patched
from stress.result import Result, first, part, say
from stress.served import ROOT, bits, environment
from stress.wire import Peer, tiny

ROUNDS, CLIENTS = 4, ("ada", "bob", "eve")
BOUNDARIES = (
    (driver.Federation, "join"),
    (driver.Federation, "task"),
    (driver.Federation, "report"),
    (rounds.Exchange, "accept"),
    (rounds.Exchange, "close"),
    (synchronous, "draw"),
    (table.Table, "tested"),
    (table.Table, "commit"),
    (table, "save_checkpoint"),
)
"""Functions before and after which the process is killed; file operations come to these."""


class Killer(Disk):
    """Kills this process at step `at`, having said where."""

    def __init__(self, at: int, where: int):
        super().__init__(at, 0, False)
        self.where = where

    def step(self, name: str) -> None:
        self.count += 1
        if self.at in (0, self.count):
            os.write(self.where, f"{name}\n".encode())
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def boundaries(self) -> ExitStack:
        """Every boundary is a step."""
        stack = patched(self, links=True)
        for owner, name in BOUNDARIES:
            stack.enter_context(mock.patch.object(owner, name, self.both(getattr(owner, name))))
        return stack

    def both(self, function):
        """`function`, with a step before and after."""

        def stepped(*given, **named):
            self.step(f"before {function.__name__}")
            found = function(*given, **named)
            self.step(f"after {function.__name__}")
            return found

        return stepped


# ---- what is killed ------------------------------------------------------------------------------


def change(weights, client: str, number: int):
    """What a client makes of these weights in a round: always the same."""
    rng = np.random.default_rng([number, CLIENTS.index(client)])
    return [w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in weights]


def gone_on(path: Path, on_model=None) -> Federation:
    """The federation, where its checkpoint left it."""
    prepare(path)
    state, history = (
        load_checkpoint(path, tiny(), fed_adam().identity)
        if path.exists()
        else (
            None,
            None,
        )
    )
    about = {"checkpoint": path, "state": state, "history": history, "on_model": on_model}
    return Federation(tiny(), fed_adam(), seed=3, **about)


def by_calls(path: Path, on_model=None) -> None:
    """All rounds that are left, the clients by plain calls, one after the other."""
    federation = gone_on(path, on_model)
    left = ROUNDS - len(federation.history)
    for client in CLIENTS:
        federation.join(client, 100)
    if left:
        federation.start(Plan(left, min_clients=3))
    for _ in range(left):
        for client in CLIENTS:
            task = federation.task(client, wait=20)
            federation.report(
                Update(
                    client,
                    task.round,
                    100,
                    change(task.weights, client, task.round),
                    run=task.run,
                )
            )
    federation.wait()


def by_http(path: Path) -> None:
    """The same over HTTP, each client a thread."""
    from fedlab.http.server import Server

    federation = gone_on(path)
    left = ROUNDS - len(federation.history)
    with Server(federation=federation, linger=0.1) as server:

        def play(client: str) -> None:
            peer = Peer(server.url, client)
            peer.join()
            for _ in range(left):
                task = peer.task()
                peer.send(peer.update(task, change(task.weights, client, task.round)))
            peer.close()

        threads = [threading.Thread(target=play, args=(client,)) for client in CLIENTS]
        for thread in threads:
            thread.start()
        if left:
            server.run(left, min_clients=3, progress=False)
        for thread in threads:
            thread.join()


# ---- who kills -----------------------------------------------------------------------------------


def killed(work, path: Path, at: int | None = None, after: float | None = None) -> list[str]:
    """Run `work` in a process that dies at step `at`, or after so many seconds; the steps that it
    named: all for `at` 0, which kills nobody, else the last. Raises RuntimeError where it fails.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            with Killer(at, writing).boundaries() if at is not None else ExitStack():
                work(path)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as steps:
        named = steps.read().split("\n")[:-1]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a process that was to be killed failed by itself ({code})")
    return named


def key(state) -> str:
    """The bits of a state."""
    return bits([*state.weights, *(a for name in sorted(state.memory) for a in state.memory[name])])


def undisturbed(folder: Path) -> dict[int, str]:
    """round -> the bits of its state."""
    path, known = folder / "undisturbed", {}

    def committed(*given, **named):
        table_save(*given, **named)
        known[len(named.get("history") or given[2])] = key(given[1])

    table_save = table.save_checkpoint
    with mock.patch.object(table, "save_checkpoint", committed):
        by_calls(path)
    return known


def looked_at(path: Path, known: dict[int, str], work) -> str:
    """What is wrong with what a killed process has left, and with the end of going on; or ""."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if path.exists():
            state, history = load_checkpoint(path)
            if known.get(len(history)) != key(state):
                return f"round {len(history)} is not the one that was committed"
        killed(work, path)
        state, history = load_checkpoint(path)
    left = [file.name for file in unfinished(path)]
    if len(history) != ROUNDS or key(state) != known[ROUNDS]:
        return f"ended after {len(history)} rounds with other weights"
    return f"left {left}" if left else ""


def chosen(steps: list[str], count: int, rng: random.Random) -> list[int]:
    """Steps to die at, from 1: every place once, and others until there are so many."""
    once = {name: rng.choice([i for i, s in enumerate(steps) if s == name]) for name in steps}
    others = [i for i in range(len(steps)) if i not in once.values()]
    more = rng.sample(others, max(0, count - len(once)))
    return sorted(i + 1 for i in [*once.values(), *more])


def work(scale: float, seed: int) -> dict:
    """All of it: what was tried and found."""
    rng, faults = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = undisturbed(folder)
        steps = killed(by_calls, folder / "steps", at=0)
        faults += [f"no step {name!r} was seen" for name in sorted(WRITING - set(steps))]
        points = chosen(steps, part(scale, len(steps)), rng)
        where = set()
        for number, at in enumerate(points):
            path = folder / f"at-{at}"
            where.update(killed(by_calls, path, at=at))
            if wrong := looked_at(path, known, by_calls):
                faults.append(f"{steps[at - 1]} (step {at}): {wrong}")
            if number % 50 == 49:
                say(f"{number + 1} of {len(points)} boundaries")
        began = time.monotonic()
        killed(by_http, folder / "long")
        lasts, kills = time.monotonic() - began, part(scale, 200, 5)
        for number in range(kills):
            path = folder / f"random-{number}"
            after = rng.uniform(0, lasts)
            killed(by_http, path, after=after)
            if wrong := looked_at(path, known, by_http):
                faults.append(f"after {after:.3f} s: {wrong}")
            if number % 50 == 49:
                say(f"{number + 1} of {kills} random kills")
    return {"points": len(points), "places": len(where), "kills": kills, "faults": faults}


def run(scale: float, seed: int) -> Result:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "stress.crashes", str(scale), str(seed)],
        cwd=ROOT,
        env=environment() | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    tried = (
        f"kill -9 at {found['points']} boundaries ({found['places']} places in the code) and"
        f" {found['kills']} times at random, {ROUNDS} rounds each"
    )
    faults = found["faults"]
    figures = {"not the undisturbed run's": first(faults)}
    return Result("crashes", tried, figures, not faults and found["places"] >= 20)


if __name__ == "__main__":
    print(json.dumps(work(float(sys.argv[1]), int(sys.argv[2]))))
