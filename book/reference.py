"""The pages of the reference: every public name of fedlab, by what it is for."""

from __future__ import annotations

import inspect
from pathlib import Path

import fedlab

GROUPS = {  # page -> (title, rooms)
    "data": ("Data, and how they are dealt", "data partitions"),
    "federation": (
        "A federation: server, clients, runs",
        "http federation plan participant messages checks original",
    ),
    "simulation": ("Simulations, and virtual time", "simulation virtual timeline"),
    "strategies": ("Strategies", "strategies"),
    "models": ("Models and checkpoints", "model checkpoint"),
    "histories": ("Histories and plots", "history plots landscape"),
    "privacy": ("What an update gives away, and what hides it", "privacy secure"),
    "robustness": ("Attacks and defences", "attacks robust contest"),
    "codecs": ("Few bytes", "codecs"),
    "panels": ("Panels, questions, a live class", "dashboard questions"),
    "checks": ("Examinations and checks", "conformance installation"),
    "flower": ("Flower", "flower"),
}


def names(page: str) -> list[str]:
    """The public names of a page: by room, in it by kind (functions last), then by name."""
    found = []
    for room in GROUPS[page][1].split():
        here = [n for n, home in fedlab._HOME.items() if home.partition(".")[0] == room]
        found += sorted(here, key=lambda n: (inspect.isfunction(getattr(fedlab, n)), n))
    return found


def write(folder: Path) -> None:
    """Write a page for each group, and one that lists them. Raises KeyError for a public name that
    is on no page.
    """
    if forgotten := set(fedlab.__all__) - {name for page in GROUPS for name in names(page)}:
        raise KeyError(f"{sorted(forgotten)} are on no page of the reference: see GROUPS")
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for page, (title, _) in GROUPS.items():
        lines = [_title(title), ".. py:currentmodule:: fedlab", ""]
        for name in names(page):
            lines += [*_directive(name), ""]
        (folder / f"{page}.rst").write_text("\n".join(lines), "utf-8")
        roles = ", ".join(f":py:obj:`~fedlab.{name}`" for name in names(page))
        listed += [f":doc:`{title} <{page}>`", f"   {roles}", ""]
    toctree = [".. toctree::", "   :hidden:", "", *(f"   {page}" for page in GROUPS)]
    words = (
        "Every public name, as ``fedlab.name``. ``help(fedlab.name)`` says the same in a notebook."
    )
    lines = [_title("The library, name by name"), words, "", *listed, *toctree, ""]
    (folder / "index.rst").write_text("\n".join(lines), "utf-8")


def _title(title: str) -> str:
    return f"{title}\n{'=' * len(title)}\n"


def _directive(name: str) -> list[str]:
    value = getattr(fedlab, name)
    if inspect.isclass(value) and issubclass(value, BaseException):
        return [f".. autoexception:: fedlab.{name}", "   :show-inheritance:"]
    if name not in ("Weights", "Transform") and inspect.isclass(value):
        return [f".. autoclass:: fedlab.{name}"]
    if inspect.isfunction(value):
        return [f".. autofunction:: fedlab.{name}"]
    # A name for a type: what it means stands below it in its own file
    return [f".. autodata:: fedlab.{fedlab._HOME[name]}.{name}", "   :no-value:"]
