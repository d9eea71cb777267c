"""The command `fedlab join`: a laptop in a live class, from a terminal."""

from __future__ import annotations

import threading
import time

from fedlab.classroom.roster import TERMINAL
from fedlab.classroom.student import Seen, Student, share
from fedlab.data import SHARD_SIZE, load_mnist
from fedlab.http.client import ServerAway
from fedlab.interrupts import heed
from fedlab.messages import ClientFailed
from fedlab.terminal import Screen

PATIENCE = 300.0
"""Seconds for which a class that does not answer any more is asked again, as in `Client`."""


def join(args) -> int:
    """Take part in a class until it is over, or until Ctrl-C. Raises Refused where it is not let
    in, ClientFailed where it had to go later, ServerAway where there is no class (any more).
    """
    screen = Screen()
    over = threading.Event()

    def show(seen: Seen) -> None:
        if seen.doing == "out" or (seen.told or {}).get("phase") == "over":
            over.set()
        screen.now(line(seen))

    student = Student(
        args.url,
        code=args.code,
        mnist=load_mnist(args.data),
        name=args.name or "",
        kind=TERMINAL,
        certificate=args.certificate,
    )
    try:
        student.start()
        screen.line(f"In the class, as {student.seen.client}. Ctrl-C leaves it.")
        student.on_change = show  # from here on, or it would speak first
        show(student.seen)
        heard = time.monotonic()
        while not over.is_set() and student.running:
            heed()
            time.sleep(0.2)  # an interrupt comes between two of these on every system
            if student.seen.doing != "away":
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE:
                raise ServerAway(student.seen.message)
    finally:
        student.stop()
        screen.keep()
    if student.error is not None:  # it was in the class: the command line was not wrong
        raise ClientFailed(str(student.error)) from student.error
    return 0


def line(seen: Seen) -> str:
    """What goes on, in one line."""
    told = seen.told or {}
    if seen.doing in ("out", "away"):
        return f"{seen.client}: {seen.message}"
    shards = told.get("shards")
    if not shards:
        return f"{seen.client}: waiting until the teacher deals shards of {SHARD_SIZE:,} images"
    first, last = shards
    held = "" if seen.last is None else f"; the class's model: {100 * share(seen.last):.1f} %"
    which = f"shard {first}" if first == last else f"shards {first} to {last}"
    return f"{seen.client}, {which}: {seen.message}{held}"
