"""Right and wrong answers to the exercises of lesson 02."""

import json
import time
from pathlib import Path

import numpy as np
import requests

import fedlab
from fedlab import wire
from fedlab.conformance import stretches

SOLUTION = Path(__file__).parents[2] / "notebooks" / "solutions" / "02_what_crosses_the_wire.ipynb"


CELLS = ("tools", "read", "write", "trained", "ask", "client", "lossy-client")


def solution() -> dict:
    """What the solution's cells define: its tools and its clients, run as students run them."""
    cells = json.loads(SOLUTION.read_text("utf-8"))["cells"]
    code = {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}
    names: dict = {}
    for cell in CELLS:
        source = code[cell].split("exercises.")[0]  # what it defines, without its check
        exec(compile(source, f"{SOLUTION.name}:{cell}", "exec"), names)  # noqa: S102
    return names


def as_in_the_lesson(url, name, images):
    """Part 5's own client: it does not know "all", and gives up at a 409."""
    texts = {"batch_size": "all"}
    return int(texts["batch_size"])


def gives_up(url, name, images):
    """Does everything, but is ended by a 409."""

    class Once(fedlab.Client):
        def _send(self, session, update):
            self._request(session, "POST", "updates", **body_of(update))

    Once(url, name, images).run()


def body_of(update):
    return {
        "data": wire.encode_update(update),
        "headers": {"Content-Type": wire.CONTENT_TYPE},
    }


def class_token(url, name, images):
    """Goes on with the token from the URL, as if joining had answered none."""
    address, token = url.split("?token=")
    headers = {"Authorization": f"Bearer {token}"}
    me = {"client": name, "num_examples": len(images), "session": "of alice"}
    requests.post(address + "clients", json=me, headers=headers, timeout=9).raise_for_status()
    asked = {"client": name, "wait": 10}
    requests.get(address + "task", params=asked, headers=headers, timeout=9).raise_for_status()


def asleep(url, name, images):
    time.sleep(0.1)


def says_it_once(url, name, images):
    fedlab.Client(url, name, images, patience=0).run()


MESSAGE = wire.encode_update(
    fedlab.Update("alice", 1, 5_000, [np.ones(s, np.float32) for s in ((784, 200), (200,))] * 3)
)
PARTS = {part.name: part for part in stretches(MESSAGE)}
FIRST, LAST = PARTS["0003"].begin, PARTS["0003"].end
START = PARTS["header"].end

RIGHT = [
    ("check_bytes", (MESSAGE, FIRST, LAST, 8)),
    ("check_bytes", (MESSAGE, np.int64(FIRST), LAST, 100 * 50 * 2 * 797_400 / 1e9)),
    ("check_bytes", (MESSAGE, FIRST - len(MESSAGE), LAST - len(MESSAGE), 8)),
    ("check_client", (lambda *about: solution()["my_client"](*about),)),
    ("check_lossy", (lambda *about: solution()["my_careful_client"](*about),)),
]
WRONG = [  # a checker, an answer, and a word of the hint that it must get
    ("check_bytes", (MESSAGE, ..., ..., ...), "three dots"),
    ("check_bytes", (MESSAGE, FIRST - START, LAST - START, 8), "offsets in the header"),
    ("check_bytes", (MESSAGE, FIRST - 8, LAST - 8, 8), "8 bytes too early"),
    ("check_bytes", (MESSAGE, PARTS["0001"].begin, PARTS["0001"].end, 8), "first layer"),
    ("check_bytes", (MESSAGE, 0, 800, 8), "does not begin"),
    ("check_bytes", (MESSAGE, FIRST, FIRST + 200, 8), "four bytes"),
    ("check_bytes", (MESSAGE, FIRST, LAST + 4, 8), "804 bytes"),
    ("check_bytes", (MESSAGE, FIRST, LAST, 4), "one direction"),
    ("check_bytes", (MESSAGE, FIRST, LAST, 7_970), "look at the unit"),
    ("check_bytes", (MESSAGE, FIRST, LAST, 7.42), "look at the unit"),
    ("check_bytes", (MESSAGE, float(FIRST), LAST, 8), "whole number"),
    ("check_bytes", (MESSAGE, FIRST, LAST, 3), "how many messages"),
    ("check_bytes", (MESSAGE, "0", LAST, 8), "whole number"),
    ("check_bytes", (MESSAGE, FIRST, LAST, "8"), "gigabytes are a number"),
    ("check_bytes", (FIRST, LAST, 8, 8), "int"),
    ("check_client", (...,), "three dots"),
    ("check_client", ("client",), "the function itself"),
    ("check_client", (asleep,), "rule 1, join: nothing came"),
    ("check_client", (class_token,), "own_token: GET /task came with the class's token"),
    ("check_client", (as_in_the_lesson,), "ValueError in line"),
    ("check_client", (gives_up,), "stale"),
    ("check_lossy", (...,), "three dots"),
    ("check_lossy", (asleep,), "nothing came"),
    ("check_lossy", (says_it_once,), "rule 1, lost_join"),
]
