"""Row "disk": while a checkpoint is written, file operation N fails, N = 1, 2, ... until none does.

Afterwards the file is the old one or the new one, whole; the error names it; nothing else is left.
Once only that operation fails; once (a disk that has gone) everything that writes, from there on.
"""

from __future__ import annotations

import builtins
import errno
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from fedlab import checkpoint, whole
from fedlab.checkpoint import before, load_checkpoint, save_checkpoint
from fedlab.history import History, RoundRecord
from fedlab.strategies import State
from stress.result import Result, first
from stress.wire import tiny

ERRORS = (errno.ENOSPC, errno.EIO, errno.EPERM)
MOST = 60  # operations: a save has about fifteen

WRITING = {"open", "write", "flush", "close"}
"""Steps of a file that is written: where one is not seen, what opens it is not what is patched."""


class Disk:
    """Counts what is asked of the disk, and lets operation `at` fail; everything from it on where
    `gone`, but taking away: that needs no room. half: a write that fails has written half.
    """

    def __init__(self, at: int, number: int, gone: bool):
        self.at, self.number, self.gone, self.count = at, number, gone, 0
        self.failed: list[str] = []
        self.seen: set[str] = set()

    def step(self, name: str) -> None:
        """One operation. Raises OSError where it is its turn."""
        self.count += 1
        self.seen.add(name)
        due = self.count >= self.at if self.gone else self.count == self.at
        if due and not (self.gone and name == "unlink"):
            self.failed.append(name)
            raise OSError(self.number, os.strerror(self.number))

    def around(self, name: str, function):
        """`function`, counted."""

        def counted(*given, **named):
            self.step(name)
            return function(*given, **named)

        return counted

    def open(self, *given, **named):
        """A file of which every operation is counted."""
        self.step("open")
        return _File(self, builtins.open(*given, **named))


class _File:
    def __init__(self, disk: Disk, file):
        self._disk, self._file = disk, file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._disk.step("close")

    def write(self, body: bytes) -> int:
        self._file.write(body[: len(body) // 2])
        self._file.flush()
        self._disk.step("write")
        return self._file.write(body[len(body) // 2 :])

    def flush(self) -> None:
        self._disk.step("flush")
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()


def patched(disk: Disk, links: bool) -> ExitStack:
    """The disk under fedlab.checkpoint, and under fedlab.whole, which writes for it; one without
    second names where not `links`.
    """
    stack = ExitStack()
    for room in (checkpoint, whole):
        stack.enter_context(mock.patch.object(room, "open", disk.open, create=True))
    for name in ("fsync", "replace", "link"):
        stack.enter_context(mock.patch.object(os, name, disk.around(name, getattr(os, name))))
    if not links:
        stack.enter_context(mock.patch.object(os, "link", _no_links))
    copy = disk.around("copy", shutil.copyfile)
    stack.enter_context(mock.patch.object(shutil, "copyfile", copy))
    unlink = disk.around("unlink", Path.unlink)
    stack.enter_context(mock.patch.object(Path, "unlink", unlink))
    stack.enter_context(mock.patch.object(os, "open", disk.around("open folder", os.open)))
    return stack


def _no_links(*_):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def state(value: float) -> State:
    """A state whose numbers tell it from others."""
    return State(tiny(value), 100, {"momentum": tiny(-value)}, "a lineage")


def history(rounds: int) -> History:
    """So many rounds."""
    return History([RoundRecord(n, 0.5, 1.0, float(n)) for n in range(1, rounds + 1)])


def attempt(folder: Path, disk: Disk, links: bool) -> tuple[str, str]:
    """Save round 3 over round 2 on this disk: (what is wrong, what of it came)."""
    path = folder / "model.safetensors"
    save_checkpoint(path, state(1), history(1))
    save_checkpoint(path, state(2), history(2))
    said = None
    with patched(disk, links):
        try:
            save_checkpoint(path, state(3), history(3))
        except OSError as error:
            said = error
    found, rounds = load_checkpoint(path)
    kept = load_checkpoint(before(path))[1]
    left = [file.name for file in folder.glob(".*.part")]
    came = "new" if len(rounds) == 3 else "old"
    wrong = ""
    if (len(rounds), float(found.weights[0][0, 0])) not in ((2, 2.0), (3, 3.0)):
        wrong = "neither the old nor the new"
    elif len(rounds) == 2 and said is None:
        wrong = "the old one, and no error"
    elif said is not None and (said.filename != str(path) or said.errno != disk.number):
        wrong = f"the error names {said.filename}"
    elif left and "unlink" not in disk.failed:
        wrong = f"left {left}"
    elif len(kept) not in (1, 2):
        wrong = f"the one before is of round {len(kept)}"
    return wrong, came + (", no error" if said is None and disk.failed else "")


def run(scale: float, seed: int) -> Result:
    """Every operation, every error, with and without second names for files."""
    faults, tried, ends, seen = [], 0, {}, set()
    for number in ERRORS:
        for gone in (False, True):
            for links in (True, False):
                for at in range(1, MOST):
                    disk = Disk(at, number, gone)
                    with tempfile.TemporaryDirectory() as folder:
                        try:
                            wrong, came = attempt(Path(folder), disk, links)
                        except Exception as error:  # a row of the table, whatever it is
                            wrong, came = f"{type(error).__name__}: {error}", "broken"
                    seen |= disk.seen
                    if not disk.failed:
                        break
                    tried += 1
                    ends[came] = ends.get(came, 0) + 1
                    if wrong:
                        where = f"{disk.failed[0]} (operation {at}, {errno.errorcode[number]})"
                        faults.append(f"{where}: {wrong}")
    faults += [f"no step {name!r} was seen" for name in sorted(WRITING - seen)]
    figures = {"afterwards": ", ".join(f"{name} {n}" for name, n in sorted(ends.items()))}
    figures |= {"wrong": first(faults)}
    tried_words = f"{tried} failing operations of a save (ENOSPC, EIO, EPERM; one, or all from it)"
    return Result("disk", tried_words, figures, not faults and tried > 60)
