"""Row "secrets": wherever a token may have got to. It may be in the address that a server prints
and in the headers of requests, and nowhere else.

Looked through: what IPython shows in its most talkative tracebacks (`%xmode Verbose`) of failures
that a student meets, outputs of cells, logs at level DEBUG, the repr of every object of fedlab's,
answers, checkpoints and histories, the lessons as they are committed, and the list of processes.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stress.result import Result, first, say
from stress.served import ROOT, environment
from stress.wire import Peer, parts_of, softmax, tiny

SETUP = """
import _thread, threading
import numpy as np
import fedlab
from fedlab.data import Dataset
rng = np.random.default_rng(0)
images = Dataset(rng.random((40, 784), dtype=np.float32), np.arange(40) % 10)
nobody = images.subset(np.arange(0))
"""

CELLS = {
    "the server, shown": "server",
    "a client, shown": "fedlab.Client(server.url, 'ada', images)",
    "its status": "server.federation.status()",
    "its requests": "list(server.wire)",
    "a client joins": "ada = fedlab.Client(server.url, 'ada', images).start()",
    "the name is taken": "fedlab.Client(server.url, 'ada', images).start()",
    "a name that cannot be": "fedlab.Client(server.url, 'a/b', images)",
    "no examples": "fedlab.Client(server.url, 'bob', nobody)",
    "another port": "fedlab.Client(server.url.replace(str(server.port), '1'), 'bob', images,"
    " patience=0).start()",
    "no http": "fedlab.Client(server.url.replace('http', 'htp'), 'bob', images)",
    "a port of letters": "fedlab.Client(server.url.replace(str(server.port), 'x'), 'bob', images)",
    "a token with a letter more": "fedlab.Client(server.url + 'x', 'bob', images).start()",
    "a token with an umlaut": "fedlab.Client(server.url + 'ü', 'bob', images)",
    "a patience below 0": "fedlab.Client(server.url, 'bob', images, patience=-1)",
    "a plan that cannot be": "server.run(rounds=1, fraction=2)",
    "a setting that is none": "server.run(rounds=1, epoch=2)",
    "the port is taken": "fedlab.Server(federation=server.federation, port=server.port)",
    "stopped by hand": "threading.Timer(0.5, _thread.interrupt_main).start();"
    " server.run(1, min_clients=9, progress=False)",
    "a transform that fails": """
def broken(update, task):
    raise ValueError('mine')
server.start(1, min_clients=2, strict=False)
fedlab.Client(server.url, 'eve', images, model=softmax(), transforms=[broken]).run()""",
    "the server is closed": "server.close(0); fedlab.Client(server.url, 'bob', images,"
    " patience=0).start()",
}
"""Cells of a notebook, most of which fail."""


def keras_softmax():
    """A softmax."""
    import keras

    layers = [keras.Input((784,)), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential(layers)


def told(server) -> set[str]:
    """The secrets that exist: the server's, and the tokens that joining answers, as they come."""
    looker = server.app.extensions["fedlab"][2].looker
    tokens = {parts_of(server.url)[2], str(server.teacher), looker}

    @server.app.after_request
    def note(answer):
        if answer.status_code == 201 and answer.is_json and answer.json.get("token"):
            tokens.add(answer.json["token"])
        return answer

    return tokens


def cells(found: dict[str, int]) -> None:
    """Run the cells, and count tokens in what each shows."""
    from IPython.core.interactiveshell import InteractiveShell

    from fedlab.federation import Federation
    from fedlab.http.server import Server
    from fedlab.strategies import fed_avg

    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.DEBUG)
    shell = InteractiveShell.instance(colors="nocolor")
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(out),
        Server(federation=Federation(softmax(), fed_avg()), linger=0) as server,
    ):
        tokens = told(server)
        shell.user_ns |= {"server": server, "softmax": keras_softmax}
        shell.run_line_magic("xmode", "Verbose")
        shell.run_cell(SETUP)
        for name, cell in CELLS.items():
            at = out.tell()
            shell.run_cell(cell)
            shown = out.getvalue()[at:]
            found[f"cell: {name}"] = sum(shown.count(token) for token in tokens)
            if name == "a transform that fails":
                reprs(tokens, found)
        if (ada := shell.user_ns.get("ada")) is not None:
            ada.stop()
    found["cells that failed in another way"] = out.getvalue().count("NameError")
    found["logs"] = sum(log.getvalue().count(token) for token in tokens)


def reprs(tokens: set[str], found: dict[str, int]) -> None:
    """Every object of fedlab's that there is."""
    for thing in gc.get_objects():
        if str(getattr(type(thing), "__module__", "")).startswith("fedlab"):
            shown = repr(thing)
            found["reprs"] = found.get("reprs", 0)
            if any(token in shown for token in tokens):
                found[f"repr of {type(thing).__name__}"] = 1


def files(found: dict[str, int]) -> None:
    """A round with a checkpoint, and every answer and file of it."""
    from fedlab.federation import Federation
    from fedlab.http.server import Server
    from fedlab.strategies import fed_avg

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.safetensors"
        federation = Federation(tiny(), fed_avg(), checkpoint=path)
        with Server(federation=federation, linger=0) as server:
            tokens, peer = told(server), Peer(server.url, "ada", session=secrets.token_hex(8))
            tokens.add(peer.session)
            peer.join()
            server.start(rounds=2)
            for _ in range(2):
                task = peer.task()
                peer.send(peer.update(task, task.weights))
            history = server.federation.wait()
            history.to_csv(Path(name) / "history.csv")
            history.to_json(Path(name) / "history.json")
            looks = "/", "/status", "/history", "/requests", "/model", "/nowhere", "/task?client=x"
            answers = [peer.ask("GET", path).body for path in looks]
            answers += [peer.ask("POST", path, b"x" * 99).body for path in ("/clients", "/updates")]
            peer.close()
        texts = [file.read_bytes() for file in Path(name).iterdir()]
        found["files"] = sum(text.count(t.encode()) for text in texts for t in tokens)
        found["answers"] = sum(text.count(t.encode()) for text in answers for t in tokens)


def lessons(found: dict[str, int]) -> None:
    """Tokens in the outputs of the lessons as they are in the tree."""
    books = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    texts = [json.dumps(json.loads(book.read_text("utf-8"))) for book in books]
    found["lessons"] = sum(len(re.findall(r"[?&]token=[\w-]{16,}", text)) for text in texts)


def processes(found: dict[str, int]) -> None:
    """What `ps` shows of a client in a terminal that has its token from elsewhere. (An address
    that somebody types with a token in it is there to be seen.)
    """
    from fedlab.federation import Federation
    from fedlab.http.server import Server
    from fedlab.options import TOKEN
    from fedlab.strategies import fed_avg

    with (
        tempfile.TemporaryDirectory() as folder,
        Server(federation=Federation(softmax(), fed_avg()), linger=0) as server,
    ):
        token, file = parts_of(server.url)[2], Path(folder) / "token"
        file.write_text(f"{token}\n", encoding="utf-8")
        ways = {TOKEN: ([], {TOKEN: token}), "--token-file": (["--token-file", str(file)], {})}
        for place, (way, (more, known)) in enumerate(ways.items(), 1):
            command = [sys.executable, "-m", "fedlab", "client", server.address, "--patience", "5"]
            client = subprocess.Popen(
                [*command, "--id", f"ada {place}", "--shards", "1", "1", *more],
                cwd=ROOT,
                env=environment() | known,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                if joined(server, client, place):
                    found[f"ps, of fedlab client with {way}"] = listed(client.pid).count(token)
                else:
                    found[f"ps: the client with {way} did not start"] = 1
            finally:
                client.kill()
                client.wait()


def joined(server, client: subprocess.Popen, place: int) -> bool:
    """Whether so many take part within a minute; False when this client ends before."""
    end = time.monotonic() + 60
    while client.poll() is None and time.monotonic() < end:
        if len(server.federation.status().members) >= place:
            return True
        time.sleep(0.05)
    return False


def listed(process: int) -> str:
    """What others see of a process."""
    import psutil

    return " ".join(psutil.Process(process).cmdline())


def run(scale: float, seed: int) -> Result:
    """All of it, whatever the scale."""
    say("cells in a process of their own")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "stress.secrets"],
            cwd=ROOT,
            env=environment() | {"IPYTHONDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    files(found)
    lessons(found)
    say("a client in a terminal")
    processes(found)
    leaks = [f"{place} ({count})" for place, count in found.items() if count]
    figures = {"places without": len(found) - len(leaks), "tokens in": first(leaks, 20)}
    tried = f"{len(CELLS)} cells, logs, reprs, answers, files, lessons, ps"
    return Result("secrets", tried, figures, not leaks)


if __name__ == "__main__":
    places: dict[str, int] = {}
    cells(places)
    print(json.dumps(places))
