"""What the commands print: results and lines of progress on stdout, remarks on stderr."""

from __future__ import annotations

import math
import shutil
import sys

from fedlab.checks import counted
from fedlab.history import History, RoundRecord


def note(text: str) -> None:
    """A line on stderr: stdout is kept for results."""
    print(plain(text), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Without control characters, but for ends of lines: what others say (why a client left, what
    a server refuses) must not move a terminal's cursor, or set its title.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Screen:
    """Lines on stdout; in a terminal, below them, one line that says what is going on now and is
    written over.

    pipe: whether what is going on is also printed, as lines, where stdout is no terminal.
    """

    def __init__(self, pipe: bool = True):
        self._terminal, self._pipe, self._shown = sys.stdout.isatty(), pipe, ""

    def line(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(plain(text), flush=True)

    def now(self, text: str) -> None:
        """What is going on, until the next call says otherwise."""
        text = plain(text)
        if text == self._shown:
            return
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            text = text[:width]
            print("\r" + text.ljust(min(len(self._shown), width)), end="", flush=True)
        elif self._pipe:
            print(text, flush=True)
        self._shown = text

    def keep(self) -> None:
        """What is going on stays, as the last line."""
        if self._terminal and self._shown:
            print(flush=True)
            self._shown = ""

    def clear(self) -> None:
        """What is going on goes."""
        if self._terminal and self._shown:
            self.now("")
            print("\r", end="", flush=True)


def round_line(record: RoundRecord, rounds: int, word: str = "round") -> str:
    """A line such as: round 3 of 10: accuracy 93.21%, loss 0.2312, 3 clients, 60,000 examples, 4.1
    s. rounds 0: no end is planned.
    """
    number = f"{record.round} of {rounds}" if rounds else f"{record.round}"
    tested = (
        "not tested"
        if math.isnan(record.accuracy)
        else f"accuracy {record.accuracy:.2%}, loss {record.loss:.4f}"
    )
    several = len(record.clients) != 1
    who = counted(len(record.clients), "client") if several else next(iter(record.clients))
    line = (
        f"{word} {number}: {tested}, {who}, {counted(record.num_examples, 'example')},"
        f" {record.seconds:.1f} s"
    )
    return f"{line} ({record.note})" if record.note else line


def summary(history: History, word: str = "round", target: float | None = None) -> str:
    """What a run came to, in one line: rounds, seconds, the last accuracy and the best; rounds to
    the `target` accuracy if one is given.
    """
    text = counted(len(history), word)
    last = next(
        (record for record in reversed(list(history)) if not math.isnan(record.accuracy)), None
    )
    if last is None:
        return text
    text += (
        f", {last.seconds:.1f} s: accuracy {last.accuracy:.2%}, loss {last.loss:.4f} on the 10,000"
        " test images"
    )
    if history.best.accuracy > last.accuracy:
        text += f"; best {history.best.accuracy:.2%} ({word} {history.best.round})"
    if target is not None:
        needed = history.rounds_to(target)
        text += (
            f"; {target:.2%} was not reached"
            if needed is None
            else f"; {target:.2%} reached after {needed:.1f} {word}s"
        )
    return text


def client_line(name: str, status) -> str:
    """A ClientStatus in one line, such as: alice: round 3 of 10, training, epoch 2 of 5, own
    accuracy 93.1%.
    """
    parts = [status.message.removeprefix(f"round {status.round}: ")]
    if status.round:
        parts.insert(
            0,
            (
                f"round {status.round} of {status.rounds}"
                if status.rounds
                else f"round {status.round}"
            ),
        )
    if not math.isnan(status.accuracy):
        parts.append(f"own accuracy {status.accuracy:.1%}")
    return f"{name}: {', '.join(parts)}"
