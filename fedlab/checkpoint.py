"""The server's state on disk: one safetensors file, always whole, and the one before it."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from fedlab.history import History
from fedlab.messages import BadUpdate, Refused, Weights, check_weights
from fedlab.plan import Progress
from fedlab.strategies import State
from fedlab.whole import part_of, write_out
from fedlab.wire import Parts, groups, pack, parts, unpack

MAX_HEADER = 100_000_000
"""Bytes. The history is in the header, and this file is our own: thousands of rounds fit."""


OTHERS = "model", "task", "update"
"""What else the library writes in this format."""


class BadCheckpoint(Refused):
    """A checkpoint that is missing, damaged or of another model."""

    kind = "bad_checkpoint"


class _Damaged(BadCheckpoint):
    """A file that is not whole: a reason to take the one before it."""


class DamagedCheckpoint(UserWarning):
    """A checkpoint that was damaged: the one before it was taken."""


def save_checkpoint(path: str | Path, state: State, history: History, strategy: str = "") -> None:
    """Write the state after the last round of `history`, and the strategy's identity.

    The file is written beside its place, flushed to the disk and renamed: whoever reads `path`, at
    any moment and after any crash, finds the old file or the new one, never half of one. The old
    one stays beside it, as `before(path)`. Raises OSError (disk full, no permission), and then
    `path` is what it was.
    """
    path = Path(path)
    message = parts(
        state.weights,
        state.memory,
        kind="checkpoint",
        num_examples=state.num_examples,
        strategy=strategy,
        lineage=state.lineage,
        progress=json.dumps(asdict(state.progress)),
        history=history.to_json(),
    )
    message.texts["digest"] = digest(message)
    body = pack(message)
    with named(path), part_of(path) as beside:
        write_out(beside, body)
        if path.exists():
            # Named after `path`, so that `unfinished` finds it, too
            with part_of(path.with_name(f"{path.name}.before")) as kept:
                try:
                    os.link(path, kept)
                except OSError:  # a disk that knows no second name for a file
                    shutil.copyfile(path, kept)
                os.replace(kept, before(path))
        else:  # one that lies there is of another file, which somebody has taken away
            before(path).unlink(missing_ok=True)
        os.replace(beside, path)
        with suppress(OSError, AttributeError):  # Windows opens no folder
            folder = os.open(path.parent, os.O_DIRECTORY)
            try:
                os.fsync(folder)  # or the new name may be lost with the power
            finally:
                os.close(folder)


def prepare(path: str | Path) -> None:
    """Try to write beside `path`, and clear away what processes have left there that were killed.
    Raises OSError, naming the file: in the first second, and not after the first round.
    """
    path = Path(path)
    with named(path), part_of(path) as beside:
        with open(beside, "xb"):
            pass
        for left in unfinished(path):
            if left != beside and _dead(left.name.split(".")[-2]):
                left.unlink(missing_ok=True)


def before(path: str | Path) -> Path:
    """Where the checkpoint before the last one is."""
    path = Path(path)
    return path.with_name(f".{path.name}.before")


def unfinished(path: str | Path) -> list[Path]:
    """What is being written for the checkpoint `path`, or was by processes that were killed."""
    path = Path(path)
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors say which file: "No space left on device" alone does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _dead(process: str) -> bool:
    """Whether no process has this number. Where one cannot ask, there may be one."""
    if os.name != "posix" or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def digest(message: Parts) -> str:
    """SHA-256 over everything that a checkpoint says."""
    sum = hashlib.sha256()
    for name, text in sorted(message.texts.items()):
        if name != "digest":
            sum.update(repr((name, text)).encode())
    for name, array in sorted(message.arrays.items()):
        sum.update(repr((name, array.dtype.str, array.shape)).encode())
        sum.update(array.tobytes())
    return sum.hexdigest()


def load_checkpoint(
    path: str | Path, like: Weights | None = None, strategy: str | None = None
) -> tuple[State, History]:
    """The state and history that `save_checkpoint` wrote; where it is damaged, those of the round
    before, with a `DamagedCheckpoint` warning.

    like:     a model's weights; a checkpoint of another model is refused.
    strategy: the identity of the strategy that goes on from it, refused if another one wrote it, or
              the same with other settings (what it keeps in `memory` would mislead).
    Raises BadCheckpoint with a sentence; nothing is written. Only damage is a reason to take the
    one before: what is whole and of something else is refused.
    """
    path = Path(path)
    try:
        found = _read(path)
    except _Damaged as damage:
        if not path.is_file() or not (earlier := before(path)).is_file():
            raise
        with suppress(BadCheckpoint):
            state, history = _fitting(_read(earlier), earlier, like, strategy)
            said = f"{damage}. Taken instead: {earlier}, of round {len(history)}"
            warnings.warn(DamagedCheckpoint(said), stacklevel=2)
            return state, history
        raise
    return _fitting(found, path, like, strategy)


Read = tuple[State, History, str | None]


def _read(path: Path) -> Read:
    """What a file says, and which strategy wrote it (None: it does not say). Raises BadCheckpoint
    for one that cannot be read, or is of another kind; _Damaged.
    """
    said = f"{path} is not a checkpoint of this model"
    try:
        message = unpack(path.read_bytes(), MAX_HEADER)
        texts, arrays = message.texts, groups(message.arrays)
        kind = texts.get("kind", "of no kind")
        if kind in OTHERS:  # whole: another file has been saved under this name
            raise BadCheckpoint(f"{said}: it says it is {kind!r}; expected 'checkpoint'")
        if kind != "checkpoint":
            raise BadUpdate(f"it says it is {kind!r}; expected 'checkpoint'")
        lineage = texts.get("lineage", "")
        progress = Progress(**json.loads(texts.get("progress", "{}")))  # older ones have none
        state = State(arrays.pop(""), int(texts["num_examples"]), arrays, lineage, progress)
        history = History.from_json(texts["history"])
        if texts.get("digest") != digest(message):
            raise BadUpdate("what it says and its digest do not go together: it is damaged")
    except BadCheckpoint:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BadCheckpoint(f"{said}: {error}") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _Damaged(f"{said}: {error}") from None
    return state, history, texts.get("strategy")


def _fitting(found: Read, path: Path, like, strategy) -> tuple[State, History]:
    """The state and history of a whole file. Raises BadCheckpoint where they are another model's,
    or another strategy's.
    """
    state, history, writer = found
    if like is not None:
        try:
            check_weights(state.weights, like)
        except BadUpdate as error:
            raise BadCheckpoint(f"{path} is not a checkpoint of this model: {error}") from None
    if None not in (strategy, writer) and writer != strategy:
        raise BadCheckpoint(f"{path} was written by the strategy {writer}; expected {strategy}")
    return state, history
