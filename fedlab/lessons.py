"""The lessons' files: where they lie, and how they come to a folder of the user's choice and are
renewed there.

What somebody has changed is theirs. LIST, a file in the folder, has the digest of everything that
was ever brought: whatever has another digest is never written over. Files are taken one by one,
each by a name of its own that is then changed: what was broken off goes on the next time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fedlab import __version__
from fedlab.checks import Refused, counted
from fedlab.whole import write_whole

START = "00_start_here.ipynb"
"""The lesson that is opened first."""

FOLDER = "fedlab-lessons"
"""Where the lessons come to, in the current folder, when no other one is named."""

LIST = ".fedlab-lessons.json"
"""The file in that folder by which fedlab knows what it has brought."""

PROJECT = Path(__file__).parents[1]
"""The clone, where there is one: the lessons are in it."""
PACKED = Path(__file__).parent / "course"
CLONE = (PROJECT / "notebooks" / START).exists()
"""Whether this fedlab is read from a clone, where git keeps the lessons; else they are PACKED."""

BRINGS = {
    "": ["*.ipynb", "exercises/*.py", "solutions/*.ipynb", "teacher/*.md", "teacher/*.py"],
    "docs": ["*.md"],  # what the lessons refer to
    "flower": ["*.md", "*.py", "*.toml", "digits/*.py"],  # lesson 09 deploys it
}
"""Folder of the course -> what of it is brought. pyproject.toml packs the same."""

MISSING, SAME, OLD = "missing", "unchanged", "a new version is there"
CHANGED, BOTH = "changed by you", "changed by you, and a new version is there"
OFFERED = "changed by you; the new version is beside it"
BLOCKED = "left alone: it is no file, or a link, or lies behind one"


@dataclass(frozen=True)
class Brought:
    """What `bring` has done: the names of files that were not there, of files that are new versions
    now, and of new versions beside files that were changed; and how many the course has.
    """

    missing: list[str]
    renewed: list[str]
    beside: list[str]
    files: int


def files() -> dict[str, Path]:
    """Name in the course -> where it lies on this machine, in order. Raises Refused when there is
    no course.
    """
    places = {part: PACKED / part for part in BRINGS}
    if CLONE:
        places = {part: PROJECT / (part or "notebooks") for part in BRINGS}
    found = {
        (Path(part) / path.relative_to(place)).as_posix(): path
        for part, place in places.items()
        for pattern in BRINGS[part]
        for path in sorted(place.glob(pattern))
    }
    if START not in found:
        raise Refused(
            f"there is no {START} in {places['']}; expected the lessons there, as they are"
            " installed with fedlab: install it again"
        )
    return found


def chosen(folder: str | None) -> Path:
    """The folder of this name; without one, the current folder if the lessons were brought to it,
    or else FOLDER in it. Raises Refused for what cannot be one.
    """
    here = Path.cwd()
    if folder is None:
        return here if (here / LIST).is_file() else here / FOLDER
    place = here / Path(folder).expanduser()
    if place.exists() and not place.is_dir():
        raise Refused(f"{place} is a file; expected a folder, or the name of a new one")
    if CLONE and place.resolve() in (PROJECT, PROJECT / "notebooks"):
        raise Refused(f"{place} is the clone's own, kept by git; expected another folder")
    return place


# ---- what is there -------------------------------------------------------------------------------


def states(folder: Path) -> dict[str, str]:
    """Name in the course -> how its file in the folder is, one of the sentences above."""
    known = _known(folder)
    return {
        name: _state(folder, name, known.get(name, []), _digest(path))
        for name, path in files().items()
    }


def _state(folder: Path, name: str, known: list[str], new: str) -> str:
    """known: digests of what was brought under this name; new: of what would be brought now."""
    path = folder / name
    if _blocked(folder, name):
        return BLOCKED
    if not path.exists():
        return MISSING
    have = _digest(path)
    if have == new:
        return SAME
    if have in known:
        return OLD
    if new not in known:
        return BOTH
    beside = _beside(folder, name, known)
    return OFFERED if beside.exists() and _digest(beside) == new else CHANGED


def _blocked(folder: Path, name: str) -> bool:
    """Whether writing there would leave the folder, or meet something that is no file."""
    path = folder / name
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), *name.split("/")):
        return True  # a link, here or on the way
    inside = [above for above in path.parents if above.is_relative_to(folder)]
    return any(above.exists() and not above.is_dir() for above in inside) or (
        path.exists() and not path.is_file()
    )


def _beside(folder: Path, name: str, known: list[str]) -> Path:
    """Where a new version goes when the file was changed: 03_x.new.ipynb. An earlier one there may
    give way; one that was changed too may not, then it is 03_x.new2.ipynb.
    """
    path, number = folder / name, 1
    while True:
        beside = path.with_name(f"{path.stem}.new{number if number > 1 else ''}{path.suffix}")
        if not os.path.lexists(beside):
            return beside
        if not beside.is_symlink() and beside.is_file() and _digest(beside) in known:
            return beside
        number += 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _known(folder: Path) -> dict[str, list[str]]:
    """Name -> digests of all that was brought under it. A list that cannot be read counts for
    nothing: then more files pass for changed, and none is lost.
    """
    path = folder / LIST
    try:
        brought = json.loads(path.read_text("utf-8"))["files"] if not path.is_symlink() else {}
        return {str(name): [str(digest) for digest in known] for name, known in brought.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# ---- bringing ------------------------------------------------------------------------------------


def bring(folder: Path, renew: bool = False) -> Brought:
    """Bring what is missing in the folder, which is made if need be. renew: also put new versions
    in the place of files that nobody has changed, and beside those that somebody has.

    Raises OSError, whose sentence says what to do, when the folder cannot be written to.
    """
    course = files()
    try:
        return _bring(folder, course, renew)
    except OSError as error:
        size = sum(path.stat().st_size for path in course.values())
        raise OSError(
            error.errno,
            f"{error.strerror}; expected a folder that you may write to, with"
            f" {size / 1e6:.1f} MB free. The same command goes on where this one has ended",
            str(folder),
        ) from error


def _bring(folder: Path, course: dict[str, Path], renew: bool) -> Brought:
    folder.mkdir(parents=True, exist_ok=True)
    before, done = states(folder), Brought([], [], [], len(course))
    known = _known(folder)

    def remember(name: str) -> None:
        digest = _digest(course[name])
        if digest not in known.setdefault(name, []):
            known[name].append(digest)

    # First the list, then the files: one that is broken off in between knows its own files again.
    for name, state in before.items():
        if state in (MISSING, SAME) or (renew and state == OLD):
            remember(name)
    _save(folder, known)
    for name, path in course.items():
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        state = _state(folder, name, known.get(name, []), digest)  # as it is at this moment
        if state == MISSING and before[name] == MISSING:
            _write(folder / name, content)
            done.missing.append(name)
        elif state == OLD and renew:
            _write(folder / name, content)
            done.renewed.append(name)
        elif state == BOTH and renew:
            beside = _beside(folder, name, [*known.get(name, []), digest])
            _write(beside, content)
            done.beside.append(beside.relative_to(folder).as_posix())
            remember(name)
    if done.beside:
        _save(folder, known)
    return done


def _save(folder: Path, known: dict[str, list[str]]) -> None:
    if known == _known(folder):
        return
    what = "What fedlab has brought here, by SHA-256: so it knows which files you have changed."
    text = json.dumps({"what": what, "files": known}, indent=1)
    _write(folder / LIST, text.encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


# ---- in words ------------------------------------------------------------------------------------


def said(folder: Path, done: Brought, name: str | None = None) -> str:
    """What `bring` has done, in a sentence or two. name: the folder's, if the user gave one."""
    brought = counted(len(done.missing), "file") + " brought" if done.missing else "all there"
    text = f"The lessons are in {folder}: {brought}."
    counts = Counter(states(folder).values())
    if newer := counts[OLD] + counts[BOTH]:
        text += f" Of {counted(newer, 'file')} there is a new version: {_command('lessons', name)}"
        text += " --update"
    return text


def listing(folder: Path, name: str | None = None) -> list[str]:
    """Lines: every lesson and how it is, and of the other files those with something to say. name:
    the folder's, if the user gave one.
    """
    now = states(folder)
    own = [name for name in now if "/" not in name]
    others = [name for name in now if "/" in name]
    shown = [*own, *(name for name in others if now[name] not in (SAME, MISSING))]
    lines = [f"{folder}, compared with the lessons of fedlab {__version__}:"]
    lines += [f"{name:40} {now[name]}" for name in shown]
    for state in (SAME, MISSING):
        number = sum(now[name] == state for name in others)
        if number:
            lines.append(f"{counted(number, 'other file')}: {state}")
    if MISSING in now.values():
        lines.append(f"{_command('lab', name)} brings what is missing, and opens the first lesson.")
    if OLD in now.values() or BOTH in now.values():
        lines.append(
            f"{_command('lessons', name)} --update brings new versions; what you have changed"
            " stays as it is."
        )
    return lines


def _command(command: str, folder: str | None) -> str:
    """What to type next, for the same folder."""
    return f"fedlab {command}" + (f' "{folder}"' if folder else "")


def renewed(folder: Path, done: Brought) -> list[str]:
    """Lines: what `bring(renew=True)` has done."""
    lines = [f"{name:40} brought" for name in done.missing]
    lines += [f"{name:40} is the new version now" for name in done.renewed]
    lines += [
        f"{name:40} is the new version; yours, which you have changed, stays"
        for name in done.beside
    ]
    blocked = [name for name, state in states(folder).items() if state == BLOCKED]
    lines += [f"{name:40} {BLOCKED}" for name in blocked]
    number = len(done.missing) + len(done.renewed) + len(done.beside)
    written = f"{counted(number, 'file')} written" if number else "nothing new"
    return [*lines, f"{folder}: {written}, of {counted(done.files, 'file')}."]
