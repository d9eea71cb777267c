"""What a map of the loss costs, beside the training of the round that it shows.

    python -m benchmarks.loss_map

A map of 25 x 25 models of the 2NN, each tested on 1,000 images, in turn with the round of three
clients with 5,000 images each (B = 32, E = 1) and with the map's bare matrix products: NumPy's
products of 1,000 images with as many models, on all cores.
How to read it: the seconds of a map have a target; the ratios say what it costs beside the round,
and how far it is from the products alone. Python's garbage and compilation are outside the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table

SECONDS = 4.0  # target
MAP, ROUND, PRODUCTS = "the map", "training the round", "matrix products alone"


def seconds(points: int, images: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, in turn in this process."""
    import numpy as np

    import fedlab

    mnist = fedlab.load_mnist()
    test = mnist.test.subset(np.arange(images))
    names = ["alice", "bob", "carol"]
    clients = {name: mnist.shards(k, k) for k, name in enumerate(names, 1)}
    walks = fedlab.walk_round(clients)
    x = (test.x.reshape(images, 784) / 255).astype(np.float32)
    layers = walks.average[::2]

    def draw() -> float:
        began = time.perf_counter()
        fedlab.loss_map(walks, test, points=points)
        return time.perf_counter() - began

    def train() -> float:
        return fedlab.simulate(clients, rounds=1, progress=False).last.seconds

    def multiply() -> float:
        began = time.perf_counter()
        for _ in range(points * points):
            hidden = x
            for layer in layers:
                hidden = hidden @ layer
        return time.perf_counter() - began

    sides = {MAP: draw, ROUND: train, PRODUCTS: multiply}
    for side in sides.values():  # compiles, and loads what it needs
        side()
    return in_turn(sides, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=25, help="of each side of the map")
    parser.add_argument("--images", type=int, default=1_000, help="on which each model is tested")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side")
    given = parser.parse_args(arguments)

    machine("matplotlib")
    results = in_process("loss_map:seconds", **vars(given))
    middle = {name: statistics.median(values) for name, values in results.items()}
    rows = [
        [name, spread(values), f"{middle[MAP] / middle[name]:.3g} x"]
        for name, values in results.items()
    ]
    title = f"{given.points} x {given.points} models of the 2NN on {given.images:,} images"
    table(title, ["what", "median", "the map, to it"], rows)
    print(f"\n{MAP}  {judged(middle[MAP], most=SECONDS, unit=' s')}")


if __name__ == "__main__":
    main()
