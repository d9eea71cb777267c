"""A notebook is run by a client that misses no answer."""

import asyncio
import sys
from pathlib import Path
from queue import Empty

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))

import running  # noqa: E402

sys.path.pop(0)


def test_an_answer_is_not_missed():
    """One that is there, and that nobody was woken for, is found at the next look; a timeout is one
    still.
    """
    asked = []

    async def get_msg(timeout):
        asked.append(timeout)
        if len(asked) % 2:  # it comes while one waits, and does not wake
            await asyncio.sleep(min(timeout, 0.01))
            raise Empty
        return "the answer"

    assert asyncio.run(running.often(get_msg)(timeout=480)) == "the answer"
    assert asyncio.run(running.often(get_msg)()) == "the answer"
    assert asked == [running.LOOK] * 4

    async def silent(timeout):
        await asyncio.sleep(timeout)
        raise Empty

    with pytest.raises(Empty):
        asyncio.run(running.often(silent)(timeout=0.05))
