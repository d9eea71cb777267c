"""The commands `fedlab lab` and `fedlab lessons`: JupyterLab on the course's files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fedlab import lessons
from fedlab.checks import Refused
from fedlab.interrupts import came
from fedlab.lessons import PROJECT

NO_NEWS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def lab(args) -> int:
    """JupyterLab on lesson 00, in a process of its own."""
    clone = None if args.folder else _clone()
    folder = clone / "notebooks" if clone else lessons.chosen(args.folder)
    allowed = args.allow_root or "allow_root" in " ".join(args.rest)
    if not allowed and hasattr(os, "geteuid") and os.geteuid() == 0:
        raise Refused(
            "this is the user root, as whom JupyterLab runs only when told to; expected another"
            " user, or: fedlab lab --allow-root (with make: make lab ARGS=--allow-root)"
        )
    if not clone:
        print(lessons.said(folder, lessons.bring(folder), args.folder), flush=True)
    lesson, began, address = (folder / lessons.START).resolve(), time.time(), None
    command = [sys.executable, "-m", "jupyterlab", str(lesson), *_lab_options(lesson, args)]
    with _without_news() as environment:
        process = subprocess.Popen([*command, *args.rest], env=environment)
        while True:
            try:
                if address is None and (address := _lesson_address(lesson, process.pid, began)):
                    time.sleep(0.3)  # what JupyterLab says of itself comes first
                    print(f"\nStart here: {address}\n", flush=True)
                return process.wait(None if address else 0.5)
            except subprocess.TimeoutExpired:
                pass  # it has not said yet where it listens
            except KeyboardInterrupt:
                # In a terminal Ctrl-C reached JupyterLab too, which asks its own question;
                # otherwise it has to be told.
                if came[-1] == signal.SIGTERM or not sys.stdin.isatty():
                    process.terminate()


def course(args) -> int:
    """How the lessons' files are, or new versions of them."""
    folder = lessons.chosen(args.folder)
    if not args.folder and (clone := _clone()) and not (folder / lessons.LIST).exists():
        print(
            f"The lessons are in {clone / 'notebooks'}, a clone: git status says what you have"
            " changed, git pull brings new versions."
        )
        return 0
    if args.update:
        lines = lessons.renewed(folder, lessons.bring(folder, renew=True))
    else:
        lines = lessons.listing(folder, args.folder)
    print("\n".join(lines))
    return 0


def _clone() -> Path | None:
    """The clone whose lessons these are, kept by git: fedlab's own, or the current folder."""
    places = (PROJECT, Path.cwd())
    return next((p for p in places if (p / "notebooks" / lessons.START).exists()), None)


@contextlib.contextmanager
def _without_news() -> Iterator[dict[str, str]]:
    """An environment in which JupyterLab does not ask whether it may fetch news from the internet
    (that question would be the first that a class sees), nor looks there for a newer JupyterLab. It
    is another default, in a folder of its own, and only while this lasts: what users have set
    themselves stays, and counts.
    """
    with tempfile.TemporaryDirectory(prefix="fedlab-") as folder:
        defaults = Path(folder, "labconfig", "default_setting_overrides.json")
        defaults.parent.mkdir()
        defaults.write_text(json.dumps(NO_NEWS), encoding="utf-8")
        others = os.environ.get("JUPYTER_CONFIG_PATH")
        path = os.pathsep.join([folder, others] if others else [folder])
        yield os.environ | {"JUPYTER_CONFIG_PATH": path}


def _lab_options(lesson: Path, args) -> list[str]:
    """How JupyterLab is started; what was said on the command line is not said again."""
    said = " ".join(args.rest)
    options = ["--no-browser"] * args.no_browser + ["--allow-root"] * args.allow_root
    if "root_dir" not in said and "notebook" not in said:
        # Also the addresses that JupyterLab prints open the lesson, and not only its launcher.
        options.append(f"--ServerApp.root_dir={lesson.parent}")
        if "default_url" not in said:
            options.append(f"--LabApp.default_url=/lab/tree/{quote(lesson.name)}")
    return options


def _lesson_address(lesson: Path, pid: int, began: float) -> str | None:
    """The address that opens the lesson, token included; None until JupyterLab has written down
    where it listens.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    for file in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
        try:
            fresh = file.stat().st_mtime >= began - 2  # some disks count time in such steps
            server = json.loads(file.read_text("utf-8")) if fresh else {}
            # On Windows what we started is only a launcher, whose child this is.
            if server and (server["pid"] == pid or os.name == "nt"):
                path = lesson.relative_to(Path(server["root_dir"]).resolve()).as_posix()
                token = f"?token={server['token']}" if server["token"] else ""  # or a password
                return f"{server['url']}lab/tree/{quote(path)}{token}"
        except (OSError, ValueError, KeyError):
            continue  # half written, gone again, or the lesson is not under its folder
    return None
