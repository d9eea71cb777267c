"""A notebook's cells, run one after the other in a kernel of its own, by a client that misses no
answer."""

from __future__ import annotations

import time
from queue import Empty

from nbclient import NotebookClient

LOOK = 1.0  # seconds


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
