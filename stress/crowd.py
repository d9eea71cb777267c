"""Many participants in a process of their own, which only fetch and send: `Crowd` starts it and
waits, `main` is the other side.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time

from fedlab.wire import decode_task
from stress.served import ROOT, Away, environment
from stress.wire import AWAY, MODELS, Peer


class Crowd:
    """`clients` participants in so many processes, until each has played `rounds` rounds or the
    time is over. Best used in a `with`: none stays.
    """

    def __init__(self, url: str, clients: int, rounds: int, *, processes=1, model="two_nn"):
        self.clients, each = clients, -(-clients // processes)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "stress.crowd", url, model]
                + [str(n) for n in (begin, min(each, clients - begin), rounds)],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            for begin in range(0, clients, each)
        ]

    def wait(self, seconds: float) -> tuple[int, list[str]]:
        """How many played to the end within the time, and what the others met with."""
        end, finished, faults = time.monotonic() + seconds, 0, []
        for process in self._processes:
            try:
                out, _ = process.communicate(timeout=max(0.1, end - time.monotonic()))
                said = json.loads(out) if out else {"finished": 0, "faults": ["ended"]}
                finished, faults = finished + said["finished"], faults + said["faults"]
            except subprocess.TimeoutExpired:
                faults.append("no end")
        return finished, faults

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def played(server: Away, clients: int, rounds: int, seconds: float, **about) -> dict:
    """A run of so many rounds with a crowd: what it took, and how it ended. The first round counts
    everyone's start, and is left out of the seconds. Who else has joined is not waited for.
    """
    before = server.facts()["rounds"]
    with Crowd(server.url, clients, rounds, **about) as crowd:
        settings = {"deadline": max(5.0, seconds / rounds), "strict": False, "enough": clients}
        server.do("start", rounds=rounds, min_clients=clients, **settings)
        finished, faults = crowd.wait(seconds)
    end = time.monotonic() + 5  # the last update is in; its round is still to be written down
    while finished == clients and server.facts()["running"] and time.monotonic() < end:
        time.sleep(0.05)
    facts = server.do("stop")
    times = facts["seconds"][before:]
    each = [after - first for first, after in zip(times, times[1:], strict=False)]
    middle = statistics.median(each) if each else float("inf")
    came = facts["came"][before:]
    whole = sum(count >= clients for count in came)
    about = {"finished": finished, "faults": faults, "memory": facts["memory"]}
    return {"seconds": middle, "rounds": len(times), "whole": whole, **about}


# ---- the other side ------------------------------------------------------------------------------


def play(url: str, client: str, model: str, rounds: int) -> str:
    """One participant, from joining to the end; what went wrong, or ""."""
    peer = Peer(url, client)
    last = 0
    try:
        patiently(peer.join)
        body = b""
        end = time.monotonic() + 900
        while rounds and time.monotonic() < end:
            answer = patiently(peer.fetch, 10.0)
            if answer.status == 410:
                return "told that it is over"
            if answer.status != 200:
                continue
            number = int(answer.body[answer.body.index(b'"round":"') + 9 :].split(b'"', 1)[0])
            if number == last:
                time.sleep(0.02)
                continue
            body = body or ready(peer, model, decode_task(answer.body).run)
            sent = patiently(peer.send, body.replace(b"777777", b"%06d" % number, 1))
            if sent.status not in (202, 409):
                return f"{sent.status} {sent.kind}"
            last, rounds = number, rounds - 1
        return "" if not rounds else "no end"
    except AWAY as error:
        return f"{type(error).__name__}: {error}"[:80]
    finally:
        peer.close()


def ready(peer: Peer, model: str, run: str) -> bytes:
    """An update's bytes, with a round of six digits that one can replace."""
    from fedlab.messages import Task, Training

    task = Task(777_777, 0, [], Training(), run=run)
    return peer.update(task, MODELS[model]())


def patiently(ask, *about, tries: int = 8):
    """Ask again while the server is away, as the protocol wants it."""
    for attempt in range(tries):
        try:
            answer = ask(*about)
            if answer.status < 500:
                return answer
        except AWAY:
            if attempt == tries - 1:
                raise
        time.sleep(0.1 * 2**attempt)
    return answer


def main(url: str, model: str, begin: int, count: int, rounds: int) -> None:
    """So many participants in threads, then one line of JSON."""
    ends: list[str] = []

    def one(number: int) -> None:
        ends.append(play(url, f"client-{number:03}", model, rounds))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(begin, begin + count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    faults = [end for end in ends if end]
    print(json.dumps({"finished": len(ends) - len(faults), "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
