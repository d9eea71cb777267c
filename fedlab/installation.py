"""What this machine has of what the lessons need: a sentence for each thing, and how to mend it.

`fedlab.check()` in a notebook, `fedlab check` in a terminal. Every check is a function that returns
a Finding; nothing that one of them starts is left behind.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from fedlab.checks import counted
from fedlab.data import DataError, load_mnist
from fedlab.options import CLASS_PORT as PORT
from fedlab.options import PROJECT

DISTRIBUTION = "fedlab-notebooks"
PYTHONS = ((3, 11), (3, 13))
"""The first and the last Python for which there is a TensorFlow as it is needed."""

LESSON, CLIENT = 1.2e9, 0.9e9
"""Bytes of memory that a notebook with its server and twelve clients takes, and one `fedlab client`
in a terminal."""

LONGEST = 180.0  # seconds for TensorFlow to be loaded and to train one step

LABELS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
"""How many zeros, ones, ... MNIST has: other data sets come in the same shapes."""

INSTALL = f"In {PROJECT}: `{Path(sys.executable).name} -m pip install -r requirements.txt`"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    kind:  for programs, such as "python". title: the same for people.
    state: "good"; "warning", where only some things will not work; "bad", where a lesson will not.
    found: a sentence. mend: what to do, a sentence; "" where there is nothing to do. Commands stand
           between backticks in both.
    """

    kind: str
    title: str
    state: str
    found: str
    mend: str = ""


# ---- Python and what is installed ----------------------------------------------------------------


def python(version: tuple[int, ...] = sys.version_info) -> Finding:
    """Whether there is a TensorFlow for this Python."""
    said = partial(Finding, "python", "Python")
    found = f"Python {'.'.join(map(str, version[:3]))}, {sys.executable}."
    if PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1]:
        return said("good", found)
    mend = "Install Python 3.11, 3.12 or 3.13, then `make lab PYTHON=python3.12`."
    return said("bad", found, mend)


def packages() -> Finding:
    """Whether the packages are here in the versions that this distribution asks for."""
    said = partial(Finding, "packages", "Packages")
    from packaging.requirements import Requirement  # JupyterLab brings it

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        found = f"fedlab is read from {PROJECT}, but is not installed: nobody knows its versions."
        mend = f"In {PROJECT}: `python -m pip install --no-build-isolation --no-deps -e .`"
        return said("warning", found, mend)
    needed = [r for r in map(Requirement, lines) if not r.marker or r.marker.evaluate()]
    wrong, pinned, other = [], _pins(), []
    for wanted in needed:
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} is {version}; expected {wanted.specifier}")
        elif pinned.get(wanted.name, version) != version:
            other.append(f"{wanted.name} {version}")
    if wrong:
        return said("bad", f"{'. '.join(wrong)}.", f"{INSTALL}, then restart the kernel.")
    found = f"All {len(needed)} are here, in versions that fit."
    if pinned and not other:
        found = f"All {len(needed)} are here, in the versions that were tested."
    elif other:
        found += f" Not the tested ones: {', '.join(other)}."
    return said("good", found)


def _pins() -> dict[str, str]:
    """The versions that were tested, where this is a clone."""
    file = PROJECT / "requirements.txt"
    if not file.exists():
        return {}
    text = file.read_text("utf-8")
    lines = [line.split(";")[0].split("#")[0].strip() for line in text.splitlines()]
    return dict(line.split("==") for line in lines if line.count("==") == 1)


def jupyterlab() -> Finding:
    """Whether JupyterLab is here, with its part of the widgets."""
    said = partial(Finding, "jupyterlab", "JupyterLab")
    try:
        version = metadata.version("jupyterlab")
        from jupyter_core.paths import jupyter_path
    except ImportError:  # of which PackageNotFoundError is one
        return said("bad", "JupyterLab is missing.", f"{INSTALL}.")
    parts = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
    folders = [Path(folder) for folder in jupyter_path("labextensions")]
    lost = [part for part in parts if not any((folder / part).is_dir() for folder in folders)]
    if lost:
        found = f"JupyterLab {version}, without its part of the widgets: {', '.join(lost)}."
        mend = "`python -m pip install --force-reinstall jupyterlab_widgets anywidget`, then reload"
        return said("bad", found, f"{mend} the page.")
    return said("good", f"JupyterLab {version}, with its part of the widgets.")


def flower() -> Finding:
    """Whether Flower is here, the engine of lesson 09."""
    said = partial(Finding, "flower", "Flower")
    from fedlab.flower import FlowerError, check_flower

    try:
        check_flower()
    except FlowerError as error:
        found, _, mend = str(error).partition(": ")
        return said("warning", f"{found}. Only lesson 09 needs it.", f"{mend}.")
    return said("good", f"Flower {metadata.version('flwr')}, for lesson 09.")


TRAIN = """
import json, time
began = time.perf_counter()
import numpy as np
import fedlab, fedlab.compiled
loaded = time.perf_counter()
images = np.zeros((32, 28, 28), np.uint8)
model = fedlab.Classifier()
step = fedlab.Training(epochs=1, batch_size=32)
model.train(model.weights, fedlab.Dataset(images, np.arange(32) % 10), step, 0)
print(json.dumps([fedlab.compiled.tf.__version__, loaded - began, time.perf_counter() - loaded]))
"""


def tensorflow(seconds: float = LONGEST) -> Finding:
    """Whether TensorFlow can be loaded and trains one step: in a process of its own, so that where
    it crashes, this one does not.
    """
    said = partial(Finding, "tensorflow", "TensorFlow")
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRAIN],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        found = f"TensorFlow has not trained one step within {seconds:g} seconds."
        return said("bad", found, "Close what keeps this machine busy, and run this again.")
    if done.returncode == 0:
        version, load, step = json.loads(done.stdout.splitlines()[-1])
        found = f"TensorFlow {version}: loaded in {load:.1f} s, first training step {step:.1f} s."
        return said("good", found)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        mend = "Its builds need a processor with AVX, and memory: use another machine, or Binder."
        return said("bad", f"TensorFlow crashed ({name}).", mend)
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    return said("bad", f"TensorFlow does not work: {last}", f"{INSTALL}, then restart the kernel.")


# ---- data and memory -----------------------------------------------------------------------------


def mnist(path: str | Path | None = None) -> Finding:
    """Whether MNIST is here and whole. Nothing is downloaded."""
    said = partial(Finding, "mnist", "MNIST")
    places = [PROJECT / "data", Path("data").absolute(), Path.home() / ".keras" / "datasets"]
    there = (folder / "mnist.npz" for folder in places if (folder / "mnist.npz").exists())
    if path is None and (path := next(there, None)) is None:
        found = f"There is no mnist.npz in {places[0]}: the first lesson would download it, 11 MB."
        return said("warning", found, f"In {PROJECT}: `git checkout -- data/mnist.npz`")
    try:
        data = load_mnist(path)
    except DataError as error:
        found, _, mend = str(error).partition("; expected ")
        return said("bad", f"{found}.", f"Expected {mend}.")
    for part, counts in LABELS.items():
        if tuple(getattr(data, part).label_counts()) != counts:
            found = f"{path} has MNIST's shapes, but its {part} labels are not MNIST's."
            return said("bad", found, f"In {PROJECT}: `git checkout -- data/mnist.npz`")
    images = f"{len(data.train):,} training and {len(data.test):,} test images"
    return said("good", f"{images} in {path}.")


def memory(free: float | None = None) -> Finding:
    """Whether there is room for a lesson, and for clients in terminals."""
    said = partial(Finding, "memory", "Memory")
    free = free_memory() if free is None else free
    if free is None:
        return said("warning", "How much memory is free cannot be seen here.")
    found = (
        f"{free / 1e9:.1f} GB are free. A lesson takes up to {LESSON / 1e9:.1f} GB with all its"
        f" clients, a `fedlab client` in a terminal {CLIENT / 1e9:.1f} GB more."
    )
    mend = "Close other programs, and shut down notebooks that you do not use: menu Kernel."
    if free < LESSON:
        return said("bad", found, mend)
    return said("good", found) if free >= 2 * LESSON else said("warning", found, mend)


def free_memory(groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Bytes that a program can still have; None where nobody can tell. A container may have less
    than its machine: `groups` is where Linux says so.
    """
    try:
        import psutil  # Jupyter's kernel brings it

        free = psutil.virtual_memory().available
    except ImportError:
        return None
    for most, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = int((groups / most).read_text())  # or the word max
            taken = int((groups / used).read_text())
            stat = (groups / most).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):
            continue
        given_back = int(stat[stat.index(cached) + 1]) if cached in stat else 0
        free = min(free, limit - taken + given_back)
    return max(float(free), 0.0)


# ---- the network ---------------------------------------------------------------------------------


def port(number: int = PORT) -> Finding:
    """Whether a server can have a free port, and this one."""
    said = partial(Finding, "port", "Port")
    from fedlab.http.server import listen  # here: where Flask is missing, the other looks go on

    try:
        listen("127.0.0.1", 0).close()
    except OSError as error:
        mend = "A security program may forbid it: allow Python to accept connections."
        return said("bad", f"No program may listen on this machine: {error}.", mend)
    try:
        listen("0.0.0.0", number).close()
    except OSError:
        found = f"Port {number} is taken, perhaps by a fedlab server of yours. Others are free."
        mend = "Stop what listens there, or take any free one: `fedlab server --port 0`"
        return said("warning", found, mend)
    also = f", also on port {number}" if number else ""
    return said("good", f"A server can listen here{also}.")


def network(port: int = PORT, where: Callable[[], tuple[str, str]] | None = None) -> Finding:
    """Whether another machine can reach this one, as far as that can be seen from here: a server is
    started for a moment, and asked over HTTP at every address of this machine.
    """
    said = partial(Finding, "network", "Other machines")
    addresses = own_addresses()
    if not addresses:
        found = "This machine is in no network: all clients must run on it."
        return said("warning", found, "For a class on many machines, join a network first.")
    from fedlab.federation import Federation
    from fedlab.http.server import Server
    from fedlab.strategies import fed_avg

    token = secrets.token_urlsafe(24)
    federation = Federation([np.zeros(1, np.float32)], fed_avg())
    with Server(
        federation=federation, host="0.0.0.0", allowed_hosts=addresses, token=token, linger=0
    ) as server:
        silent = [own for own in addresses if not _answers(own, server.port, token)]
    if len(silent) == len(addresses):
        found = f"A server on this machine does not answer at its address {silent[0]}."
        mend = "A firewall on this machine may forbid it: allow Python to accept connections."
        return said("warning", found, mend)
    heard = [own for own in addresses if own not in silent]
    found = f"A server on this machine answers at {', '.join(heard)}."
    place, mend = (where or surroundings)()
    if place:
        return said("warning", f"{found} But {place}", mend)
    return said(
        "good",
        f"{found} Whether a firewall stands between two machines cannot be seen from here. To try:"
        f" `fedlab server --host 0.0.0.0 --port {port}`, and in a browser on the other machine"
        f" http://{heard[0]}:{port}/ - even an answer about a missing token is an answer.",
    )


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine by which others may call it; the likeliest first."""
    from fedlab.http.server import lan_address

    found = [lan_address()]
    try:
        import psutil

        cards = psutil.net_if_addrs()
        found += [a.address for name in cards for a in cards[name] if a.family.name == "AF_INET"]
    except (ImportError, OSError):
        pass  # then the likeliest alone
    return [a for a in dict.fromkeys(found) if not a.startswith(("127.", "169.254.", "0."))]


def _answers(address: str, port: int, token: str) -> bool:
    """Whether a fedlab server answers there, over HTTP and by no proxy."""
    asked = urllib.request.Request(f"http://{address}:{port}/status")
    asked.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(asked, timeout=3) as answer:
            return "members" in json.load(answer)
    except (OSError, ValueError):
        return False


def surroundings(root: Path = Path("/")) -> tuple[str, str]:
    """Where this machine hides from its network, and what to do: two sentences, "" where it does
    not.
    """
    has = os.environ.keys().__contains__
    inside = "Let all clients run in this notebook, or install fedlab on a machine of yours."
    if has("COLAB_RELEASE_TAG"):
        return "this is Google Colab: no other machine reaches it.", inside
    if has("BINDER_SERVICE_HOST") or has("BINDER_LAUNCH_HOST"):
        return "this is Binder: no other machine reaches it.", inside
    if has("JUPYTERHUB_USER"):
        return "this is a JupyterHub: others reach only its web pages.", inside
    if has("CODESPACES"):
        return "this is a Codespace: others reach it only by a forwarded port.", inside
    release = root / "proc" / "sys" / "kernel" / "osrelease"
    if release.exists() and "microsoft" in release.read_text("utf-8").lower():
        mend = (
            "Write `networkingMode=mirrored` below `[wsl2]` in the file .wslconfig of your Windows"
            " folder and type `wsl --shutdown`, or run fedlab in Windows itself."
        )
        return "this is Linux in Windows (WSL): others see only Windows.", mend
    marks = (".dockerenv", "run/.containerenv")
    if has("KUBERNETES_SERVICE_HOST") or any((root / mark).exists() for mark in marks):
        mend = (
            f"Publish the port, such as `docker run -p {PORT}:{PORT}`, and tell the server by which"
            f" address others call it: `fedlab server --host 0.0.0.0 --port {PORT} --allow-host"
            " ADDRESS`"
        )
        return "this is a container: others reach only the ports that it publishes.", mend
    return "", ""


# ---- all of them ---------------------------------------------------------------------------------


def findings(
    number: int = PORT,
    data: str | Path | None = None,
    on_begin: Callable[[str], None] = lambda what: None,
) -> Iterator[Finding]:
    """One Finding after the other, as each is there; `on_begin` hears what is looked at next.

    number: the port that a server is to have. data: as load_mnist's path.
    """
    looks = [  # the slow one last
        ("Python", python),
        ("the packages", packages),
        ("JupyterLab", jupyterlab),
        ("MNIST", partial(mnist, data)),
        ("the memory", memory),
        ("a port", partial(port, number)),
        ("the network", partial(network, number)),
        ("Flower", flower),
        ("TensorFlow, which takes 5 to 30 seconds", tensorflow),
    ]
    for what, look in looks:
        on_begin(what)
        try:
            yield look()
        except Exception as error:  # whatever it is, the other looks go on
            name = getattr(look, "func", look).__name__
            title = what.partition(",")[0].removeprefix("the ").removeprefix("a ")
            found = f"It could not be looked at: {type(error).__name__}: {error}"
            yield Finding(name, title, "bad", found, f"{INSTALL}.")


def line(finding: Finding) -> str:
    """A finding in a terminal."""
    mark = {"good": "ok  ", "warning": "note", "bad": "BAD "}[finding.state]
    mend = f"\n      To mend it: {finding.mend}" if finding.mend else ""
    return f"{mark}  {finding.title}: {finding.found}{mend}"


def summary(found: list[Finding]) -> str:
    """What the findings come to, in a sentence."""
    bad = [finding.title for finding in found if finding.state == "bad"]
    notes = sum(finding.state == "warning" for finding in found)
    rest = f" {counted(notes, 'note')} above, on what only some lessons need." if notes else ""
    if bad:
        return f"To be mended before a lesson: {', '.join(bad)}.{rest}"
    return f"Everything that the first lessons need is here.{rest}"


SILENT = Finding(
    "widgets",
    "Widgets",
    "warning",
    "Nobody has answered yet: no browser has drawn a widget of this notebook.",
    "Wait a moment. If this stays: save, reload the page and run the cell again; start JupyterLab"
    " with `fedlab lab`, so that it has the widgets too.",
)
ALIVE = Finding("widgets", "Widgets", "good", "Alive: your browser has drawn one, and answered.")


def check(port: int = PORT, data: str | Path | None = None) -> None:
    """Look at what the lessons need, and show a row for each thing as soon as it is known: what was
    found, and how to mend it. In a notebook also whether widgets are alive in this front end.

    port: the one that your server is to have. data: as load_mnist's path.
    """
    if hasattr(getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)(), "kernel"):
        try:
            from fedlab.dashboard.alive import Shown
        except ImportError as error:
            print(line(Finding("widgets", "Widgets", "bad", f"{error}.", f"{INSTALL}.")))
        else:
            shown = Shown(SILENT, ALIVE, summary)
            try:
                for finding in findings(port, data, shown.begin):
                    shown.add(finding)
            except KeyboardInterrupt:
                shown.end("Interrupted: not everything was looked at. Run the cell again.")
                raise
            shown.end()
            return
    found = []
    for finding in findings(port, data):
        print(line(finding), flush=True)
        found.append(finding)
    print(summary(found))
