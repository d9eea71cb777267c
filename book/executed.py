"""Runs notebooks as students run them, and keeps each with its outputs: what has not changed does
not run again.

    python book/executed.py                 all lessons and their solutions, some 20 minutes
    python book/executed.py 00 solutions/01 those whose name begins so
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import nbformat
import running
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
NOTEBOOKS = ROOT / "notebooks"
KEPT = ROOT / "build" / "executed"

FIRST = """
import sys
sys.path.insert(0, {book!r})
import kernel
kernel.give_figures_words()
kernel.press_run_interact()
sys.path.pop(0)
"""
"""Run in the kernel first: what kernel.py says."""

FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)
"""What a notebook may fail by, and is then tried again."""


class TokenLeft(Exception):
    """A server's token is in a notebook's outputs."""


def lessons() -> list[Path]:
    """Every notebook of the book: the lessons, then their solutions."""
    return sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("solutions/*.ipynb"))


def name(path: Path) -> str:
    """As people type it: 'solutions/01_first_federation'."""
    return path.relative_to(NOTEBOOKS).with_suffix("").as_posix()


def digests(path: Path) -> dict[str, str]:
    """What the outputs depend on: the notebook, and the library with the exercises' checkers and
    the book's own part in the kernel.
    """
    folders = (ROOT / "fedlab", NOTEBOOKS / "exercises")
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    library = hashlib.sha256()
    for file in [*files, BOOK / "kernel.py"]:
        library.update(file.read_bytes())
    return {
        "notebook": hashlib.sha256(path.read_bytes()).hexdigest(),
        "library": library.hexdigest(),
    }


def kept(path: Path) -> Path:
    """Where the executed notebook is kept."""
    return KEPT / path.relative_to(NOTEBOOKS)


def is_current(path: Path, any_library: bool = False) -> bool:
    """Whether what is kept was made from this notebook, by this library (or by any)."""
    if not kept(path).exists():
        return False
    was = nbformat.read(kept(path), as_version=4).metadata.get("fedlab_book", {})
    now = digests(path)
    return all(
        was.get(what) == now[what] for what in now if not (any_library and what == "library")
    )


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with outputs and the state of its widgets.

    Raises nbclient's CellExecutionError for an error in a cell that may not raise, TokenLeft when a
    server's token is in an output.
    """
    made = digests(path)
    notebook = nbformat.read(path, as_version=4)
    tokens = running.run(notebook, path.parent, FIRST.format(book=str(BOOK)))
    said = nbformat.writes(notebook)
    if any(token in said for token in tokens):
        raise TokenLeft(f"a server's token is in an output of {path.name}: see how it got there")
    notebook.metadata["fedlab_book"] = made
    return notebook


def execute_changed(paths: list[Path], any_library: bool = False) -> None:
    """Execute those that are not current, one after the other, and say so. One that fails is tried
    again at the end: some lessons measure seconds, and fail on a machine that is busy.

    any_library: keep outputs that an earlier state of the library has made.
    Raises one of FAILURES for the first that has failed three times.
    """
    for tries in (2, 1, 0):
        failed = []
        for number, path in enumerate(paths, 1):
            print(f"{number:2} of {len(paths)}  {name(path):45}", end=" ", flush=True)
            if is_current(path, any_library):
                print("is kept", flush=True)
                continue
            began = time.monotonic()
            try:
                notebook = execute(path)
            except FAILURES as error:
                if not tries:
                    raise
                failed.append(path)
                what = getattr(error, "ename", type(error).__name__)
                print(f"failed: {what}. It is tried again at the end", flush=True)
                continue
            kept(path).parent.mkdir(parents=True, exist_ok=True)
            unfinished = kept(path).with_suffix(".part")
            nbformat.write(notebook, unfinished)
            unfinished.replace(kept(path))
            print(f"{time.monotonic() - began:5.0f} seconds", flush=True)
        if not failed:
            return
        paths = failed


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Run the lessons, and keep their outputs.")
    parser.add_argument(
        "names", nargs="*", help="such as 00, 01_first, solutions/01 (default: all)"
    )
    parser.add_argument(
        "--any-library", action="store_true", help="keep outputs of an earlier state of the library"
    )
    asked = parser.parse_args(arguments)
    paths = [p for p in lessons() if not asked.names or name(p).startswith(tuple(asked.names))]
    execute_changed(paths, asked.any_library)


if __name__ == "__main__":
    main(sys.argv[1:])
