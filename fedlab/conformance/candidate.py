"""A function as a candidate: in a thread of its own, and ended when it does not end."""

from __future__ import annotations

import ctypes
import threading
import traceback
from collections.abc import Callable

from fedlab.conformance.evidence import Verdict
from fedlab.conformance.examination import Examination, Report
from fedlab.data import Dataset

Client = Callable[[str, str, Dataset], object]
"""A client as a function: the server's URL (with its token), its name, its examples."""


def examine(
    client: Client,
    data: Dataset,
    *,
    name: str = "ada",
    model=None,
    lossy: bool | None = None,
    limit: float = 60.0,
) -> Report:
    """Lead `client`, a function of (url, name, data) that takes part until the run is over, through
    an examination, in a thread of its own.

    data:  its examples. model: a built Keras classifier; the 2NN if None.
    lossy: as in `Examination`. None: first without, then, if it has passed, with.
    limit: seconds for each. A client that does not end by itself is ended.
    """
    if lossy is None:
        calm = examine(client, data, name=name, model=model, lossy=False, limit=limit)
        if not calm:
            return calm
        lost = examine(client, data, name=name, model=model, lossy=True, limit=limit)
        both = calm.verdicts + lost.verdicts, lost.complete, calm.heard + lost.heard
        return Report(*both)
    candidate = _Candidate(client, name, data)
    with Examination(name, data, model, lossy=lossy, limit=limit) as examination:
        candidate.start(examination.url)
        report = examination.run(candidate.is_alive, candidate.why)
    if left := candidate.end():
        last = Verdict("over", False, left)
        report = Report((*report.verdicts, last), report.complete, report.heard)
    return report


class _Candidate:
    """A function in a thread, and how it has ended."""

    def __init__(self, client: Client, name: str, data: Dataset):
        self._client, self._name, self._data = client, name, data
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self, url: str) -> None:
        self._thread = threading.Thread(
            target=self._work, args=(url,), name="fedlab-candidate", daemon=True
        )
        self._thread.start()

    def _work(self, url: str) -> None:
        try:
            self._client(url, self._name, self._data)
        # Kept: its author reads it in a sentence.
        except BaseException as error:
            self._error = error

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def why(self) -> str:
        """How it has ended; empty for an end without an error."""
        if self._error is None:
            return ""
        own = getattr(code_of(self._client), "co_filename", None)
        frames = traceback.extract_tb(self._error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == own]
        where = f" in line {lines[-1]} of its cell or file" if lines else ""
        said = " ".join(str(self._error).split())[:200]
        return f"It ended in {type(self._error).__name__}{where}: {said}"

    def end(self) -> str:
        """End it, now that its server is closed; a sentence if it would not."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            return ""
        # The server is gone, and it goes on: an exception in its thread is the only way to end it.
        for _ in range(20):
            number = ctypes.c_ulong(self._thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))
            self._thread.join(0.25)
            if not self._thread.is_alive():
                return (
                    "it still went on when the server was closed, and was ended; expected it to"
                    " return after a 410"
                )
        return (
            "it still goes on, though the server is closed, and could not be ended: restart the"
            " kernel; expected it to return after a 410"
        )


def code_of(function):
    """The code of a function, or of an object that is called like one; None for others."""
    return getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
