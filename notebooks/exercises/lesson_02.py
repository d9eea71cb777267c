"""The checkers of lesson 02."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import fedlab
from exercises.verdict import Hint, checker, expect, kind_of
from fedlab.conformance import Report, stretches

IMAGES = 300
LIMIT = 40.0  # seconds of one examination
GIGABYTES = 7.97  # 100 clients, 50 rounds, both ways, messages of 797 kB
BIASES = 800  # bytes: 200 numbers of four bytes


@checker
def check_bytes(message: bytes, first: int, last: int, gigabytes: float) -> str:
    """Exercise 1: the bytes of the second layer's biases, message[first:last], and the bytes of a
    larger federation.
    """
    expect(
        isinstance(message, bytes),
        f"the first answer is of the type {kind_of(message)}; expected the message, update.",
    )
    for place in (first, last):
        expect(
            not isinstance(place, bool) and isinstance(place, (int, np.integer)),
            f"a place in a message is a whole number, such as 1000; you gave {place!r}.",
        )
    expect(
        not isinstance(gigabytes, bool) and isinstance(gigabytes, (int, float, np.number)),
        f"the gigabytes are a number, such as 1.5; you gave {gigabytes!r}.",
    )
    first, last = (place % len(message) if place < 0 else place for place in (first, last))
    parts = {part.name: part for part in stretches(message)}
    right, other, start = parts["0003"], parts["0001"], parts["header"].end
    expect(
        (first, last) != (right.begin - start, right.end - start),
        "these are the offsets in the header. They count from where the header ends: what comes"
        " before that?",
    )
    expect(
        first != right.begin - 8,
        "8 bytes too early: the length of the header stands before the header.",
    )
    expect(
        (first, last) != (other.begin, other.end),
        "those are the biases of the first layer. Which name has the second layer's bias?",
    )
    expect(
        first == right.begin,
        "message[first:last] does not begin with the biases of the second layer. The header says"
        " where 0003 begins, counted from the end of the header.",
    )
    expect(
        last - first != 200,
        "200 biases, but each of them has four bytes.",
    )
    expect(
        last == right.end,
        f"message[first:last] has {last - first:,.0f} bytes; expected {BIASES}: 200 numbers.",
    )
    expect(
        not np.isclose(gigabytes, GIGABYTES / 2, rtol=0.01),
        "that counts one direction only. In every round each client also gets a task.",
    )
    expect(
        not any(np.isclose(gigabytes, GIGABYTES * 10**n, rtol=0.01) for n in (3, 6, 9))
        and not np.isclose(gigabytes, GIGABYTES * 1e9 / 2**30, rtol=0.01),
        "nearly: look at the unit. A gigabyte (GB) is 1,000,000,000 bytes.",
    )
    expect(
        np.isclose(gigabytes, GIGABYTES, rtol=0.01),
        "100 clients, 50 rounds, a task and an update in each: how many messages of about 797 kB"
        " are that?",
    )
    return (
        "the biases are 800 of some 797,000 bytes. And 8 GB for 100 clients is 170 times all"
        " training images (47 MB)."
    )


@checker
def check_client(client: Callable) -> str:
    """Exercise 2: a client that a server may rely on, where nothing gets lost."""
    report = _examined(client, lossy=False)
    return (
        f"your client keeps all {len(report.verdicts)} rules of the protocol, those of a closed"
        " round and of an update that came twice too."
    )


@checker
def check_lossy(client: Callable) -> str:
    """Exercise 3: a client that goes on when answers get lost, the server is busy, does not know
    its token any more, or has forgotten it.
    """
    report = _examined(client, lossy=True)
    return (
        f"your client keeps all {len(report.verdicts)} rules of a bad line. So does the library's,"
        " and it has no others."
    )


def _examined(client: Callable, lossy: bool) -> Report:
    """The report of a client that passes. Raises Hint with the first rule that it broke."""
    expect(
        callable(client),
        f"the answer is of the type {kind_of(client)}; expected the function itself, without"
        " brackets.",
    )
    images = fedlab.load_mnist().train.subset(np.arange(IMAGES))
    report = fedlab.examine(client, images, name="alice", lossy=lossy, limit=LIMIT)
    if report:
        return report
    kept = next((n for n, v in enumerate(report.verdicts) if not v.passed), len(report.verdicts))
    broken = report.first_failure
    if broken is None:
        raise Hint("the examination did not come to its end. Run the cell once more.")
    raise Hint(f"rule {kept + 1}, {broken.kind}: {broken.sentence}.")
