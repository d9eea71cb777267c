"""What the benchmarks share: fresh processes, both sides in turn, and one way to print.

A time by itself says how fast a machine is, and how busy. So every benchmark measures both sides of
a comparison in one run, in turn (A B A B), and prints the ratio of their medians.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORES = os.cpu_count() or 1
QUIET = 1.0  # a load average below this, just before: nobody else is at work


def in_process(function: str, env: Mapping[str, str | None] | None = None, **settings):
    """`function` ("round:limit": the module in benchmarks, and its function) called with `settings`
    in a fresh Python process.

    env: environment variables to set, or, where None, to take away. What the function returns comes
         back through JSON.
    Raises RuntimeError with the end of what the process printed when it fails. Processes that it
    started end with it.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(env or {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "-m", "benchmarks.measure", function, json.dumps(settings)]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = child.communicate()
    except BaseException:  # an interrupt
        _end(child.pid)
        raise
    lines = out.strip().splitlines()
    if child.returncode or not lines:
        raise RuntimeError(f"{function} ended with exit code {child.returncode}:\n{err[-3000:]}")
    return json.loads(lines[-1])


def _end(pid: int) -> None:
    """End a process that we started, and what it started."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        # It compares the start time too: a process that took over the number is left alone
        if member.is_running():
            member.kill()


def installed(*packages: str) -> str:
    """The first of these packages that is not installed, or "" when all are."""
    return next((name for name in packages if importlib.util.find_spec(name) is None), "")


def in_turn(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list]:
    """What each side returned, `repeats` times, in turn: what else the machine does meanwhile falls
    on all of them alike.
    """
    results: dict[str, list] = {name: [] for name in sides}
    for turn in range(1, repeats + 1):
        for name, side in sides.items():
            print(f"  {name}: {turn} of {repeats} ...", file=sys.stderr, flush=True)
            results[name].append(side())
    return results


def spread(values: Sequence[float]) -> str:
    """Median and minimum of some seconds, as milliseconds where they are small."""
    middle, least = statistics.median(values), min(values)
    return (
        f"{middle * 1e3:.1f} ms (min {least * 1e3:.1f})"
        if middle < 1
        else f"{middle:.2f} s (min {least:.2f})"
    )


def judged(
    value: float, most: float | None = None, least: float | None = None, unit: str = " x"
) -> str:
    """A figure beside its target: "1.12 x (at most 1.3: met)"."""
    target = f"at most {most:g}" if most is not None else f"at least {least:g}"
    met = value <= most if most is not None else value >= least
    return f"{value:.3g}{unit} ({target}: {'met' if met else 'MISSED'})"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a Markdown table that is also aligned for the eye."""
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        print(
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
        )
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    sys.stdout.flush()


def machine(*packages: str) -> None:
    """Print what this ran on, and whether somebody else was at work on it. Called first: it is the
    load before that tells.
    """
    versions = []
    for name in ("numpy", "tensorflow", *packages):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")  # Windows has none
    print(
        f"Machine: {_processor()}, {CORES} cores, {platform.system()}, Python"
        f" {platform.python_version()}, {', '.join(versions)}"
    )
    verdict = (
        "quiet" if load < QUIET else "NOT quiet: trust the ratios little and the times not at all"
    )
    print(f"Load when it began: {load:.2f} ({verdict})", flush=True)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":  # the other side of in_process
    module, name = sys.argv[1].split(":")
    answer = getattr(importlib.import_module(f"benchmarks.{module}"), name)(
        **json.loads(sys.argv[2])
    )
    print(json.dumps(answer), flush=True)
