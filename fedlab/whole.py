"""Files that are always whole: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Whoever reads `path`, at any moment and after any crash, finds the old file or the new one,
    never half of one. Raises OSError (disk full, no permission), and then `path` is what it was.
    """
    with part_of(path) as beside:
        write_out(beside, content)
        os.replace(beside, path)


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """A name beside `path` for what is being written, of this process; gone afterwards."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)  # in a shared folder it may be another's, that leads elsewhere
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def write_out(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, down to the disk."""
    with open(path, "xb") as file:  # never through a link, never over a file
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
