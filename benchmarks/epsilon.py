"""How long one waits for an epsilon when a slider of lesson 07 is moved.

    python -m benchmarks.epsilon

The lesson's own function and its own sliders, taken from the notebook (part 5): each slider at all
its places (the rounds at three), the others where they are at first. Both of its numbers are
counted, and its two lines are written; there is no picture. Before each call what was counted
earlier is forgotten, as when a slider comes to a place for the first time: where it has been
before, the answer is there at once.
How to read it: the seconds of the slowest place have a target. (The sliders of part 6 train a
federation of a hundred clients each time, and are another matter.)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time

from benchmarks.measure import ROOT, in_process, in_turn, judged, machine, spread, table

SECONDS = 0.2  # target
LESSON, CELL = "07_what_does_it_cost_to_hide_it.ipynb", "explore-epsilon"


def lesson() -> tuple:
    """The function behind the lesson's sliders, and what can be chosen: name → (at first, all)."""
    import ipywidgets
    import numpy as np

    import fedlab

    notebook = json.loads((ROOT / "notebooks" / LESSON).read_text("utf-8"))
    (source,) = (cell["source"] for cell in notebook["cells"] if cell["id"] == CELL)
    found = []

    def sliders(function, **controls):
        found.append((function, {name: _places(control) for name, control in controls.items()}))

    names = {"fedlab": fedlab, "np": np, "ipywidgets": ipywidgets, "sliders": sliders}
    exec("".join(source), names)
    return found[0]


def _places(control) -> tuple[object, list]:
    """Where a slider is at first, and where it can be moved to; some of these, where it is many."""
    if isinstance(control, list):
        return control[0], control
    if hasattr(control, "options"):
        return control.value, list(control.options)
    return control.value, [control.min, control.value, control.max]


def seconds(repeats: int) -> dict[str, list[float]]:
    """Seconds of each slider's each place, in turn in this process."""
    from fedlab.privacy import accountant

    price, controls = lesson()
    first = {name: value for name, (value, _) in controls.items()}

    def moved(name: str, value) -> float:
        accountant._epsilon.cache_clear()
        accountant._one_round.cache_clear()
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            price(**first | {name: value})
        return time.perf_counter() - began

    sides = {
        f"{name} = {value}": lambda name=name, value=value: moved(name, value)
        for name, (_, values) in controls.items()
        for value in values
    }
    next(iter(sides.values()))()  # loads what it needs
    return in_turn(sides, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="calls at each place")
    given = parser.parse_args(arguments)

    machine("dp-accounting")
    results = in_process("epsilon:seconds", **vars(given))
    middle = {name: statistics.median(values) for name, values in results.items()}
    rows = [[name, spread(values)] for name, values in results.items()]
    table("an epsilon of lesson 07", ["slider moved to", "median"], rows)
    print(f"\nthe slowest place  {judged(max(middle.values()), most=SECONDS, unit=' s')}")


if __name__ == "__main__":
    main()
