"""A rehearsal: simulated phones, so that a class can be tried and taught on one machine. They draw
with simulated handwritings (`writers`) and take part over real HTTP, as phones do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedlab.checks import whole
from fedlab.classroom.roster import PHONE, Removed
from fedlab.classroom.student import Student
from fedlab.classroom.writers import Writer, digits
from fedlab.messages import Banned


def rehearse(
    url: str,
    phones: int = 20,
    drawings: int = 30,
    *,
    seed: int = 0,
    on_phone: Callable[[Student], object] | None = None,
    certificate: str | Path | None = None,
) -> list[Student]:
    """So many simulated phones come in, each with drawings of a writer of its own, and stay until
    `stop` is called of each.

    url: what the join card shows. drawings: of each; every fifth is kept aside. on_phone: called
    with each that has come in. certificate: of a class that speaks TLS, as in `Client`.
    Raises Refused for numbers that cannot be, or what the class refuses; then none is left. Who was
    removed from the class, or banned, does not come.

    >>> from fedlab.classroom.live import LiveClass
    >>> with LiveClass(host="127.0.0.1", port=0, minimum=1) as live:
    ...     url = f"{live.server.address}J/{live.code}"
    ...     phones = rehearse(url, 2, drawings=10)
    ...     live.start(1)
    ...     history = live.wait()
    ...     for phone in phones:
    ...         phone.stop()
    >>> len(history)
    1
    """
    phones, drawings = whole("phones", phones, 1, 200), whole("drawings", drawings, 10, 500)
    came: list[Student] = []
    try:
        for number in range(phones):
            own = digits(Writer(seed, number), drawings)
            session = f"rehearsal {seed} phone {number}"
            phone = Student(url, digits=own, kind=PHONE, session=session, certificate=certificate)
            try:
                came.append(phone.start())
            except (Removed, Banned):  # by the teacher, before the class was opened anew
                phone.stop()
                continue
            if on_phone:
                on_phone(came[-1])
    except Exception:
        for phone in came:
            phone.stop()
        raise
    return came
