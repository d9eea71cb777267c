"""Ctrl-C and SIGTERM end a command in one way, whenever they come. Imports nothing that takes
time: whoever presses Ctrl-C in the first second must find this at work.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT = 130
"""The exit code of a command that was interrupted."""

came: list[int] = []
"""SIGINT and SIGTERM since the command began."""


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt itself that passes through `exec` of a string, as there are in TensorFlow
    while it is loaded, has Python end by SIGINT, whatever `main` returns. One that is derived does
    not.
    """


def heed() -> None:
    """Raise the interrupt that somebody else's code has swallowed: one that comes in a callback of
    the garbage collector's, say, Python only prints.
    """
    if came:
        raise Interrupted


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, also where a shell started this process in the
    background, with SIGINT ignored. Within another one nothing changes.
    """
    first = signal.getsignal(signal.SIGTERM) is not _interrupt
    if threading.current_thread() is not threading.main_thread() or not first:
        yield  # signals are the main thread's
        return
    came.clear()
    before = {
        number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number, frame):
    came.append(number)
    raise Interrupted
