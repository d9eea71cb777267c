"""The data that lie on this machine, and its memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fedlab.data import DataError, load_mnist
from fedlab.installation.finding import RESTORE, Finding
from fedlab.lessons import PROJECT

LESSON, CLIENT = 1.2e9, 0.9e9
"""Bytes of memory that a notebook with its server and twelve clients takes, and one `fedlab client`
in a terminal with all images: the peaks of such processes on Linux, rounded up."""

LABELS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
"""How many zeros, ones, ... MNIST has: other data sets come in the same shapes."""


def mnist(path: str | Path | None = None) -> Finding:
    """Whether MNIST is here and whole. Nothing is downloaded."""
    said = partial(Finding, "mnist", "MNIST")
    places = [PROJECT / "data", PROJECT / "fedlab" / "mnist", Path("data").absolute()]
    places.append(Path.home() / ".keras" / "datasets")
    there = (folder / "mnist.npz" for folder in places if (folder / "mnist.npz").exists())
    if path is None and (path := next(there, None)) is None:
        found = f"There is no mnist.npz in {places[0]}: the first lesson would download it, 11 MB."
        return said("warning", found, RESTORE)
    try:
        data = load_mnist(path)
    except DataError as error:
        found, _, mend = str(error).partition("; expected ")
        return said("bad", f"{found}.", f"Expected {mend}.")
    for part, counts in LABELS.items():
        if tuple(getattr(data, part).label_counts()) != counts:
            found = f"{path} has MNIST's shapes, but its {part} labels are not MNIST's."
            return said("bad", found, RESTORE)
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
