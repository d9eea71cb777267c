"""A server in a process of its own: so its memory is its own, and it can be killed.

`Away` is the side that starts it; `main` the other one, which takes orders from stdin, a line of
JSON each, and answers with a line. When stdin ends, so does the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """For processes that are to find this tree and no other."""
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def free_port() -> int:
    """A port that nobody listens on now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Away:
    """A server elsewhere. settings: those of `main`. Best used in a `with`."""

    def __init__(self, **settings):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stress.served", json.dumps(settings)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url: str = self._answer()["url"]

    def do(self, order: str, **about) -> dict:
        """Give an order; its answer. Raises ConnectionError when the process has gone."""
        try:
            self.process.stdin.write(json.dumps({"do": order} | about) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise ConnectionError(f"the server's process has ended: {error}") from None
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise ConnectionError(f"the server's process ended: {self.process.wait(10)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def facts(self) -> dict:
        """Its memory (MB), files, threads, and the run so far."""
        return self.do("facts")

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """End it; nothing stays."""
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Away:
        return self

    def __exit__(self, *_) -> None:
        self.close()


# ---- the other side ------------------------------------------------------------------------------


def bits(weights) -> str:
    """Two models with the same are the same to the bit."""
    return hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()


def federation(settings: dict):
    """A federation of the settings' model and strategy, gone on with from its checkpoint."""
    import fedlab.strategies
    from fedlab.checkpoint import load_checkpoint, prepare
    from fedlab.federation import Federation
    from stress.wire import MODELS

    weights = MODELS[settings.get("model", "tiny")]()
    strategy = getattr(fedlab.strategies, settings.get("strategy", "fed_avg"))()
    path, state, history = settings.get("checkpoint"), None, None
    if path:
        prepare(path)
        if Path(path).exists():
            state, history = load_checkpoint(path, weights, strategy.identity)
    about = {"checkpoint": path, "state": state, "history": history, "seed": 7}
    return Federation(weights, strategy, **about)


def facts(server) -> dict:
    """What there is to know of this process and its run."""
    import psutil

    own, history = psutil.Process(), list(server.history)
    return {
        "memory": round(own.memory_info().rss / 1e6, 1),
        "files": own.num_fds() if hasattr(own, "num_fds") else 0,
        "threads": own.num_threads(),
        "running": server.federation.running,
        "rounds": len(history),
        "seconds": [record.seconds for record in history],
        "came": [len(record.clients) for record in history],
        "examples": server.federation.state.num_examples,
        "bits": bits(server.weights),
        "message": server.federation.status().message,
    }


def die_after(federation, reports: int, committed: bool) -> None:
    """Kill this process when so many updates are counted, before the answer to the last leaves.
    committed: not before the checkpoint has it, too.
    """
    report, left = federation.report, [reports]

    def counted(update, *session):
        report(update, *session)
        left[0] -= 1
        if not left[0]:
            while committed and not len(federation.history):
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGKILL)

    federation.report = counted


def still(strategy, update, weights, task) -> None:
    """A strategy's `check_answer` that takes nothing but the model itself. Raises BadUpdate."""
    import numpy as np

    from fedlab.messages import BadUpdate, check_weights

    check_weights(update.weights, weights)
    if not all(np.array_equal(w, s) for w, s in zip(update.weights, weights, strict=True)):
        raise BadUpdate("got another model; expected the one that is there")


def cycle(times: int) -> None:
    """Servers that start, are asked, and close, one after the other."""
    from fedlab.http.server import Server
    from stress.wire import Peer

    for _ in range(times):
        with Server(federation=federation({}), linger=0) as server:
            peer = Peer(server.url, "ada")
            peer.join()
            server.start(rounds=1)
            peer.task()
            peer.close()


def main(settings: dict) -> None:
    """Serve until stdin ends. settings: model, strategy, checkpoint, original, port, token,
    die_after, committed, still.
    """
    from fedlab.codecs import codec
    from fedlab.http.server import Server
    from fedlab.original import Original

    own = federation(settings)
    if settings.get("still"):
        type(own.strategy).check_answer = still
    if settings.get("die_after"):
        die_after(own, settings["die_after"], settings.get("committed", False))
    about = {"port": settings.get("port", 0), "token": settings.get("token")}
    about["original_protocol"] = Original() if settings.get("original") else None
    with Server(federation=own, linger=0.2, **about) as server:
        print(json.dumps({"url": server.url}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            what = order.pop("do")
            try:
                if what == "start":
                    if order.get("codec"):
                        order["codec"] = codec(order["codec"])
                    server.start(**order)
                elif what == "stop":
                    server.stop()
                elif what == "cycle":
                    cycle(**order)
                answer = facts(server)
            except Exception as error:  # said, not hidden: the other side raises it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
