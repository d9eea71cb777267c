"""A notebook, run as students run it: in a kernel and a folder of its own, as JupyterLab starts it,
by a client that misses no answer."""

from __future__ import annotations

import os
import time
from pathlib import Path
from queue import Empty

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 480  # seconds for one cell: a machine may be busy
LOOK = 1.0  # seconds

RECORD = """
import secrets
_tokens, _make = [], secrets.token_urlsafe
secrets.token_urlsafe = lambda *size: _tokens.append(_make(*size)) or _tokens[-1]
"""
"""Run in the kernel before a notebook: keeps every token that a server makes, so that they can be
looked for in the outputs."""


def run(notebook: nbformat.NotebookNode, folder: Path, first: str = "") -> list[str]:
    """Run all cells, which get their outputs; returns the tokens that servers have made.

    folder: where the kernel begins. first: code that it runs before the cells. Raises nbclient's
    CellExecutionError, with the traceback, for an error in a cell that may not raise; the kernel is
    stopped, whatever happens.
    """
    before, after = map(nbformat.v4.new_code_cell, (RECORD + first, "print(*_tokens)"))
    cells, notebook.cells = notebook.cells, [before, *notebook.cells, after]
    # Who calls this may have told matplotlib to show nothing: here plots go into the cells
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    paths = filter(None, [str(ROOT), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    Patient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=40"],  # errors of the kernel itself, not its advice
        resources={"metadata": {"path": str(folder)}},
    ).execute(env=environment)
    notebook.cells = cells
    return after.outputs[0].text.split()


class Patient(NotebookClient):
    """nbclient's, which looks once a second whether the kernel has answered.

    It tells the kernel what it has put into an Output widget (below each `interact`) by the very
    socket on which it waits for the end of the cell. A message that comes in that moment does not
    wake it (ZeroMQ tells once that there is something to read), and it waits until the cell's
    timeout, minutes, for what is already there.
    """

    async def async_start_new_kernel_client(self):
        client = await super().async_start_new_kernel_client()
        client.shell_channel.get_msg = often(client.shell_channel.get_msg)
        return client


def often(get_msg):
    """`get_msg(timeout)` as a row of short ones: each begins with a look at what is there."""

    async def looking(timeout: float | None = None):
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK if end is None else max(0.0, min(LOOK, end - time.monotonic()))
            try:
                return await get_msg(timeout=left)
            except Empty:
                if end is not None and time.monotonic() >= end:
                    raise

    return looking
