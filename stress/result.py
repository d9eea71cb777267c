"""What a row has found."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One row of the table. tried: what was done. figures: what was found, name to value. good:
    whether that is what should be.
    """

    name: str
    tried: str
    figures: Mapping[str, object]
    good: bool

    def __str__(self) -> str:
        found = "; ".join(f"{name}: {value}" for name, value in self.figures.items())
        return f"| {self.name} | {self.tried} | {found} | {'good' if self.good else 'NOT GOOD'} |"


def say(text: str) -> None:
    """Progress, on stderr: stdout is kept for results."""
    print(f"  {text}", file=sys.stderr, flush=True)


def part(scale: float, full: int, least: int = 1) -> int:
    """So many of `full` as the scale asks for."""
    return max(least, round(full * scale))


def some(several: Sequence, scale: float, seed: int, least: int = 1) -> list:
    """So many of them as the scale asks for (all, from 1.0), from the place that the seed says."""
    count = min(part(scale, len(several), least), len(several))
    return sorted((several[(seed + n) % len(several)] for n in range(count)), key=several.index)


def first(faults: list, most: int = 3) -> str:
    """A few of them, for people."""
    more = f" and {len(faults) - most:,} more" if len(faults) > most else ""
    return (", ".join(map(str, faults[:most])) + more) if faults else "none"
