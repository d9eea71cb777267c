"""What a robust combination of a round's updates costs, beside their plain mean.

    python -m benchmarks.robust

A hundred updates with as many numbers as the 2NN has (199,210, float32), in this process: each
combination in turn with the weighted mean. No training, no HTTP. FLTrust's own training is not in
it: that is one more client's.
How to read it: the seconds of each combination have a target; the ratio says what it costs beside
the mean. NumPy's products (Krum, Bulyan, the geometric median) take all cores, by spinning threads:
where somebody else is at work they take many times as long.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table

SECONDS = 0.3  # target, for a hundred clients
MEAN = "mean"
SHAPES = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]


def seconds(clients: int, attackers: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each combination, in turn in this process."""
    import numpy as np

    import fedlab
    from fedlab.strategies.combine import combined

    random = np.random.default_rng(0)
    model = [random.normal(0, 0.05, shape).astype(np.float32) for shape in SHAPES]
    updates = [
        fedlab.Update(f"client-{number:03}", 1, 600, [
            w + random.normal(0, 0.004, w.shape).astype(np.float32) for w in model
        ])
        for number in range(clients)
    ]  # fmt: skip

    class Trained(fedlab.FLTrust):
        def trained(self, model, training, round):
            return [w - o for w, o in zip(updates[0].weights, model, strict=True)]

    root = fedlab.Dataset(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8))
    combinations = {
        MEAN: fedlab.Mean(),
        "median": fedlab.Median(),
        "trimmed mean": fedlab.TrimmedMean(attackers),
        "Krum": fedlab.Krum(attackers),
        "Multi-Krum": fedlab.MultiKrum(attackers),
        "Bulyan": fedlab.Bulyan(attackers),
        "geometric median": fedlab.GeometricMedian(),
        "clipped mean": fedlab.ClippedMean(1.0),
        "FLTrust": Trained(root),
    }

    def clocked(combine) -> float:
        began = time.perf_counter()
        combined(combine, model, iter(updates))
        return time.perf_counter() - began

    sides = {name: lambda combine=combine: clocked(combine)
             for name, combine in combinations.items()}  # fmt: skip
    for side in sides.values():
        side()
    return in_turn(sides, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100, help="whose updates are combined")
    parser.add_argument("--attackers", type=int, default=20, help="f, that they are to stand")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each")
    given = parser.parse_args(arguments)

    machine()
    results = in_process("robust:seconds", **vars(given))
    middle = {name: statistics.median(values) for name, values in results.items()}
    rows = [
        [name, spread(values), f"{middle[name] / middle[MEAN]:.3g} x"]
        for name, values in results.items()
    ]
    title = f"{given.clients} updates of the 2NN, f = {given.attackers}"
    table(title, ["combination", "median", "to the mean"], rows)
    print()
    for name, value in middle.items():
        if name != MEAN:
            print(f"{name}  {judged(value, most=SECONDS, unit=' s')}")


if __name__ == "__main__":
    main()
