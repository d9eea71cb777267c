"""Python, and what is installed for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

from fedlab.installation.finding import INSTALL, Finding
from fedlab.lessons import CLONE, PROJECT

DISTRIBUTION = "fedlab-notebooks"
PYTHONS = ((3, 11), (3, 13))
"""The first and the last Python for which there is a TensorFlow as it is needed."""

LONGEST = 180.0  # seconds for TensorFlow to be loaded and to train one step


def python(version: tuple[int, ...] = sys.version_info) -> Finding:
    """Whether there is a TensorFlow for this Python."""
    said = partial(Finding, "python", "Python")
    found = f"Python {'.'.join(map(str, version[:3]))}, {sys.executable}."
    if PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1]:
        return said("good", found)
    then = "make lab PYTHON=python3.12" if CLONE else "python3.12 -m pip install fedlab-notebooks"
    mend = f"Install Python 3.11, 3.12 or 3.13, then `{then}`."
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
