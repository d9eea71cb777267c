"""What a live class costs its server: thirty scripted phones that only fetch and send.

    python -m benchmarks.classroom

Each phone is a thread of another process, has a loopback address of its own (127.0.1.1, 127.0.1.2,
... where the system has them), comes in by the code, says every two seconds how it goes, tells what
it has measured of every model, fetches the task and sends a ready-made update of the 2NN (797 kB
each way). Beside it thirty plain clients with a plain server, which do nothing but the rounds.
How to read it: seconds are those of a round; the ratio is what coming in by a code, telling and
measuring add. The bytes of a round are what a Wi-Fi has to carry; below them how long one of 100
Mbit/s takes for that alone. No phone trains here, and no radio is in it.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import threading
import time

from benchmarks.measure import ROOT, in_process, in_turn, judged, machine, spread, table

MOST = 1.2  # target: the class, to the plain server
WIFI = 100e6 / 8  # bytes a second


def source(number: int) -> str:
    """A loopback address of this phone's own, where the system has it."""
    address = f"127.0.1.{number + 1}"
    with socket.socket() as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return "127.0.0.1"
    return address


class Phone:
    """One that fetches and sends, in two threads: its rounds, and what it tells."""

    def __init__(self, base: str, number: int, code: str, token: str):
        import requests
        from requests.adapters import HTTPAdapter

        class From(HTTPAdapter):
            def init_poolmanager(self, *given, **more):
                super().init_poolmanager(*given, source_address=(source(number), 0), **more)

        self.base, self.code, self.name, self.token = base, code, f"phone-{number:02}", token
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount("http://", From())
        self.measured, self.over = [], threading.Event()

    def say(self, path: str, fields: dict) -> dict:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = self.http.post(f"{self.base}{path}", json=fields, headers=headers, timeout=60)
        if answer.status_code not in (200, 201):
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def come_in(self) -> None:
        session = f"session of {self.name}"
        if self.code:
            fields = {"code": self.code, "session": session, "kind": "phone"}
            told = self.say("students", fields)
            self.name, self.token = told["client"], told["token"]
            threading.Thread(target=self.talk, daemon=True).start()
        fields = {"client": self.name, "num_examples": 24, "session": session}
        self.token = self.say("clients", fields)["token"]

    def talk(self) -> None:
        drawn = {"train": 24, "held_out": 6, "labels": 10}
        while not self.over.wait(2):
            untold, self.measured = self.measured, []
            self.say("students/me", {"doing": "ready", "drawn": drawn, "measured": untold})

    def take_part(self) -> None:
        from fedlab import wire
        from fedlab.messages import Update

        headers = {"Authorization": f"Bearer {self.token}"}
        where = {"client": self.name, "wait": 10}
        binary = headers | {"Content-Type": wire.CONTENT_TYPE}
        while True:
            answer = self.http.get(f"{self.base}task", params=where, headers=headers, timeout=60)
            if answer.status_code == 410:
                return self.over.set()
            if answer.status_code == 204:
                continue
            task = wire.decode_task(answer.content)
            self.measured.append({"version": task.version, "correct": 3, "total": 6, "alone": 2})
            about = {"version": task.version, "run": task.run}
            body = wire.encode_update(Update(self.name, task.round, 24, task.weights, **about))
            self.http.post(f"{self.base}updates", data=body, headers=binary, timeout=60)


def crowd(base: str, phones: int, code: str, token: str) -> None:
    """All of them, until they hear that it is over: the other process."""
    all_of_them = [Phone(base, number, code, token) for number in range(phones)]
    for phone in all_of_them:
        phone.come_in()
    threads = [threading.Thread(target=phone.take_part) for phone in all_of_them]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def with_crowd(server, phones: int, code: str, play) -> dict:
    """What `play` returns, while so many take part in this server."""
    token = server.url.partition("=")[2]
    arguments = json.dumps([server.address, phones, code, token])
    command = [sys.executable, "-m", "benchmarks.classroom", "--crowd", arguments]
    others = subprocess.Popen(command, cwd=ROOT)
    try:
        while len(server.federation.status().members) < phones:
            if others.poll() is not None:
                raise RuntimeError("the phones' process has ended")
            time.sleep(0.05)
        return play()
    finally:
        server.close()
        others.wait(60)


def told(history) -> dict:
    """Seconds and bytes of each round but the first."""
    records = list(history)
    seconds = [b.seconds - a.seconds for a, b in zip(records, records[1:], strict=False)]
    return {"seconds": seconds, "bytes": [r.bytes_down + r.bytes_up for r in records[1:]]}


def live(phones: int, rounds: int) -> dict:
    """A class."""
    from fedlab.classroom.live import LiveClass

    with LiveClass(host="127.0.0.1", port=0, minimum=phones) as live:

        def play() -> dict:
            live.start(rounds)
            live.wait()
            return told(live.history)

        return with_crowd(live.server, phones, live.code, play)


def plain(phones: int, rounds: int) -> dict:
    """The same rounds of a plain server."""
    import fedlab

    with fedlab.Server(test=fedlab.load_mnist().test) as server:

        def play() -> dict:
            return told(server.run(rounds, min_clients=phones, progress=False, strict=False))

        return with_crowd(server, phones, "", play)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phones", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="how often each side runs")
    parser.add_argument("--crowd", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.crowd:
        return crowd(*json.loads(given.crowd))

    machine("flask", "uvicorn")
    work = {"phones": given.phones, "rounds": given.rounds}
    sides = {
        "plain server": lambda: in_process("classroom:plain", **work),
        "class": lambda: in_process("classroom:live", **work),
    }
    results = in_turn(sides, given.repeats)
    seconds = {name: sum((run["seconds"] for run in runs), []) for name, runs in results.items()}
    size = {name: statistics.median(runs[-1]["bytes"]) for name, runs in results.items()}
    base = statistics.median(seconds["plain server"])
    rows = [
        [name, spread(times), f"{statistics.median(times) / base:.2f} x", f"{size[name] / 1e6:.1f}"]
        for name, times in seconds.items()
    ]
    columns = ["side", "seconds a round: median", "to the plain server", "MB a round, both ways"]
    table(f"{given.phones} that only fetch and send, {given.rounds} rounds", columns, rows)
    print(f"\nA Wi-Fi of 100 Mbit/s carries these bytes in {size['class'] / WIFI:.1f} s.")
    print(f"class  {judged(statistics.median(seconds['class']) / base, most=MOST)}")


if __name__ == "__main__":
    main()
