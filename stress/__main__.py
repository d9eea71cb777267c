"""The rows of the stress table, as a command.

    python -m stress [--rows bodies,hosts] [--scale 0.05] [--seed 1]

Each row attacks one promise and prints a line: what was tried, what was found, good or not. Scale
1.0 is the full size, 20 to 60 minutes in all. Exit code 1 says that a row is not good.
What else the machine does at the time touches only the rows about time (clients, slow, drop-outs).
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time

from stress.result import Result, say

ROWS = (
    "bodies",
    "hosts",
    "authentication",
    "crashes",
    "disk",
    "damage",
    "restart",
    "dropouts",
    "replies",
    "clients",
    "slow",
    "soak",
    "secrets",
    "bites",
)
"""Each a file here, with a function run(scale, seed)."""


def run(row: str, scale: float, seed: int) -> Result:
    """One row."""
    return importlib.import_module(f"stress.{row}").run(scale, seed)


def main(arguments: list[str] | None = None) -> int:
    """Run the rows that are asked for; 1 when one is not good, else 0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A shell lets what it starts with "&" ignore Ctrl-C, and some rows press it
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        prog="python -m stress",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="some of them, with commas between")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is the full size")
    parser.add_argument("--seed", type=int, default=0, help="decides everything that is random")
    given = parser.parse_args(arguments)
    rows = [row.strip() for row in given.rows.split(",")]
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; expected some of {', '.join(ROWS)}")
    if not given.scale > 0:
        parser.error(f"the scale is {given.scale:g}; expected a number above 0, for example 0.05")

    print("| row | what was tried | what was found | |\n|---|---|---|---|", flush=True)
    good = True
    for row in rows:
        began = time.monotonic()
        say(f"{row} ...")
        try:
            result = run(row, given.scale, given.seed)
        except Exception as error:  # the other rows are still wanted
            result = Result(row, "", {"it broke off": f"{type(error).__name__}: {error}"}, False)
        print(result, flush=True)
        say(f"{row}: {time.monotonic() - began:.0f} s")
        good = good and result.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
