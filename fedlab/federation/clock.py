"""The time that a federation goes by: this machine's, unless whoever drives it brings another."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from fedlab.federation.members import SILENT_AFTER, Patience


class Clock(Protocol):
    """What a federation asks of time, in seconds from any moment on.

    patience: seconds that the end of a run waits for a client that says nothing, without a task and
              with one: then its program has probably died.
    """

    patience: Patience

    def now(self) -> float:
        """The time."""

    def wait(self, changed: threading.Condition, until: float | None) -> None:
        """Let time pass, until `changed` is notified or the time `until` has come; called with its
        lock held.
        """


class RealTime:
    """This machine's own clock."""

    patience = SILENT_AFTER, 600.0

    def now(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, until: float | None) -> None:
        """Wait for others to change something."""
        changed.wait(None if until is None else until - self.now())
