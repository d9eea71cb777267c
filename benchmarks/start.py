"""How long one waits: for `import fedlab`, for the panel, for its server, and for the first point
of the curve.

    python -m benchmarks.start

Each time from the first import of a fresh Python process, but for the last line, which is from
pressing Start to the first accuracy (all three clients have then trained a round), with the server
ready. `import tensorflow`, which most of the wait for the server is, stands beside them.
How to read it: medians of fresh processes, and how often `import tensorflow` would fit into each.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table

IMPORT = 0.3  # target, seconds


def panel() -> dict[str, float]:
    """The waits of somebody who opens a notebook, in this process."""
    waits, began = {}, time.perf_counter()
    import fedlab

    waits["import fedlab"] = time.perf_counter() - began
    panel = fedlab.Dashboard(fedlab.load_mnist())
    waits["the panel's cell returns"] = time.perf_counter() - began
    _until(lambda: panel.server is not None)
    waits["the server answers"] = time.perf_counter() - began
    panel.start()
    pressed = time.perf_counter()
    _until(lambda: len(panel.history))
    waits["first accuracy after Start"] = time.perf_counter() - pressed
    panel.stop()
    panel.wait()
    panel.shutdown()
    # A process that ends while they still draw or train does not end well
    for thread in threading.enumerate():
        if thread.name.startswith("fedlab"):
            thread.join(30)
    return waits


def _until(true, most: float = 300.0) -> None:
    end = time.perf_counter() + most
    while not true():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing happened for {most:.0f} s")
        time.sleep(0.002)


def tensorflow() -> float:
    """Seconds of `import tensorflow`."""
    began = time.perf_counter()
    import tensorflow  # noqa: F401

    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes of each kind")
    given = parser.parse_args(arguments)

    machine("ipywidgets", "matplotlib")
    sides = {
        "tensorflow": lambda: in_process("start:tensorflow"),
        "panel": lambda: in_process("start:panel"),
    }
    results = in_turn(sides, given.repeats)
    reference = statistics.median(results["tensorflow"])
    waits = {
        "import tensorflow": results["tensorflow"],
        **{name: [run[name] for run in results["panel"]] for name in results["panel"][0]},
    }
    rows = [
        [name, spread(values), f"{statistics.median(values) / reference:.3g} x"]
        for name, values in waits.items()
    ]
    table("waiting", ["for", "seconds: median", "to import tensorflow"], rows)
    print(
        "\nimport fedlab "
        f" {judged(statistics.median(waits['import fedlab']), most=IMPORT, unit=' s')}"
    )


if __name__ == "__main__":
    main()
