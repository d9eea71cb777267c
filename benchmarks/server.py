"""Updates a second that one server takes in over loopback, and its memory while it does.

    python -m benchmarks.server

20 concurrent clients, each a process of its own that only fetches the task and sends a ready-made
update of the 2NN (797 kB each way), again and again, 2,000 updates in all: against a synchronous
federation (20 updates a round, averaged in client-id order), an asynchronous one (every update
merged as it comes) and, for comparison, the bare road: Flask behind `fedlab.serving`, with nothing
checked at its door, and routes that answer ready-made bytes and read the body, and do nothing with
either.
How to read it: "CPU" is what an update costs the server process, however much of the cores the
clients take; the ratio is to the bare road, so it says what parsing, checking, averaging and
encoding add to plain HTTP. Memory is the server process's resident memory after the first 100
updates, after 500 and at the end: it should be flat.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import statistics
import threading
import time
from urllib.parse import parse_qs, urlsplit

from benchmarks.measure import in_process, in_turn, machine, table

ROUND, RUN = b"ROUND!", b"THE-NAME-OF-RUN!"
"""In a message that is made beforehand, as long as what takes their place."""

SAMPLED = (100, 500)  # updates after which memory is looked at, and once more at the end


# ---- the load ------------------------------------------------------------------------------------


def load(url: str, client: str, updates: int, ready) -> None:
    """A client process: join, then fetch and send `updates` times. It spends as little of the
    machine as it can.
    """
    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {parse_qs(parts.query)['token'][0]}"}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def exchange(method: str, path: str, headers: dict, body=None) -> tuple[int, bytes]:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    fields = json.dumps({"client": client, "num_examples": 600, "shards": updates})
    status, answer = exchange(
        "POST", "/clients", {**headers, "Content-Type": "application/json"}, fields
    )
    assert status == 201, answer
    headers = {"Authorization": f"Bearer {json.loads(answer)['token']}"}
    binary = {**headers, "Content-Type": "application/vnd.safetensors"}
    head, weights = ready_made(client)
    ready.wait()
    for _ in range(updates):
        status = 204
        while status == 204:
            status, task = exchange("GET", f"/task?client={client}&wait=10", headers)
        assert status == 200, task
        round, run = (
            task[task.index(b'"%b":"' % name) + len(name) + 4 :].split(b'"', 1)[0]
            for name in (b"round", b"run")
        )
        body = head.replace(ROUND, round.zfill(6)).replace(RUN, run) + weights
        status, answer = exchange("POST", "/updates", binary, body)
        assert status == 202, answer
    connection.close()


def ready_made(client: str) -> tuple[bytes, bytes]:
    """The bytes of an update of the 2NN: what says its round and its run, and the rest."""
    import numpy as np

    from fedlab.wire import pack, parts

    rng = np.random.default_rng(0)
    shapes = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]
    weights = [rng.standard_normal(shape, dtype=np.float32) / 100 for shape in shapes]
    texts = {"client": client, "num_examples": 600, "round": ROUND.decode(), "run": RUN.decode()}
    body = pack(parts(weights, kind="update", accuracy="nan", loss="nan", **texts))
    header = 8 + int.from_bytes(body[:8], "little")
    return body[:header], body[header:]


class Load:
    """So many client processes against a server in this process, and what they cost it."""

    def __init__(self, url: str, clients: int, updates: int):
        context = multiprocessing.get_context("spawn")
        self.ready = context.Barrier(clients + 1)
        self.each, self.total = updates // clients, updates // clients * clients
        self.processes = []
        for number in range(clients):
            arguments = (url, f"client-{number:03d}", self.each, self.ready)
            self.processes.append(context.Process(target=load, args=arguments, daemon=True))
            self.processes[-1].start()

    def measure(self, count) -> dict:
        """Let them go, and wait. `count()`: updates taken in so far."""
        import psutil

        own = psutil.Process()
        self.ready.wait(300)
        marks = [mark for mark in SAMPLED if mark < self.total]
        memory, began, cpu = {}, time.perf_counter(), time.process_time()
        while any(process.is_alive() for process in self.processes):
            if marks and count() >= marks[0]:
                memory[marks.pop(0)] = own.memory_info().rss
            time.sleep(0.02)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        for process in self.processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a client process ended with exit code {process.exitcode}")
        memory[self.total] = own.memory_info().rss
        return {
            "rate": self.total / seconds,
            "cpu": cpu / self.total,
            "memory": list(memory.items()),
        }


# ---- the servers ---------------------------------------------------------------------------------


def federation(clients: int, updates: int, asynchronous: bool) -> dict:
    """A fedlab server under load."""
    import fedlab

    strategy = fedlab.async_average() if asynchronous else fedlab.fed_avg()
    with fedlab.Server(strategy=strategy, limits=fedlab.Limits(shards=updates)) as server:
        crowd = Load(server.url, clients, updates)
        server.start(rounds=1 if asynchronous else crowd.each, min_clients=clients)
        per_record = 1 if asynchronous else clients
        return crowd.measure(lambda: len(server.history) * per_record)


def bare(clients: int, updates: int) -> dict:
    """The same road with nobody at its end."""
    from flask import Flask, Response, request

    from fedlab.http.server import WORKER_THREADS
    from fedlab.serving.gateway import Gateway
    from fedlab.serving.listening import Listener, listen

    app, taken, lock = Flask("bare"), [0], threading.Lock()
    before, after = ready_made("client")
    body = before + b"000001" + after

    @app.post("/clients")
    def join():
        return {"token": "none"}, 201

    @app.get("/task")
    def task():
        return Response(body, content_type="application/vnd.safetensors")

    @app.post("/updates")
    def update():
        request.stream.read(request.content_length)
        with lock:
            taken[0] += 1
        return {}, 202

    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/?token=none"
    listener = Listener(Gateway(app, lambda app, environ: None, WORKER_THREADS), listening)
    try:
        return Load(url, clients, updates).measure(lambda: taken[0])
    finally:
        listener.close()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--updates", type=int, default=2_000, help="in all")
    parser.add_argument("--repeats", type=int, default=1, help="how often each server runs")
    given = parser.parse_args(arguments)

    machine("flask", "uvicorn", "safetensors")
    work = {"clients": given.clients, "updates": given.updates}
    sides = {
        "bare road": lambda: in_process("server:bare", **work),
        "rounds": lambda: in_process("server:federation", asynchronous=False, **work),
        "asynchronous": lambda: in_process("server:federation", asynchronous=True, **work),
    }
    results = in_turn(sides, given.repeats)
    road = statistics.median(run["cpu"] for run in results["bare road"])
    rows = []
    for name, runs in results.items():
        cpu = statistics.median(run["cpu"] for run in runs)
        memory = [f"{size / 1e6:.0f}" for _, size in runs[-1]["memory"]]
        rate = statistics.median(run["rate"] for run in runs)
        rows.append(
            [name, f"{rate:.0f}", f"{cpu * 1e3:.2f} ms", f"{cpu / road:.2f} x", " → ".join(memory)]
        )
    marks = ", ".join(str(count) for count, _ in results["rounds"][-1]["memory"])
    title = f"{given.clients} clients that only fetch and send, {given.updates:,} updates of 797 kB"
    table(
        title,
        [
            "server",
            "updates a second",
            "its CPU an update",
            "to the bare road",
            f"memory (MB) after {marks}",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
