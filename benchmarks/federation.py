"""A whole federation over HTTP: fedlab against the original demonstration's way of doing the same
work.

    python -m benchmarks.federation                the work of the original: 3 clients, 4 shards
        each, 20 epochs a shard
    python -m benchmarks.federation --epochs 1     the same with fewer epochs: a minute, and a
        smaller ratio

All: 2NN, Adam 0.001, B = 32, every update merged as it arrives; JSON floats and Keras `fit` on one
side (original.py), safetensors and compiled training on the other. Each side in processes of its
own, TensorFlow already loaded; fedlab's seconds include what it compiles. "fedlab" does the work of
the original, which tests nothing on the way; "fedlab, testing" also does what its panel shows: 24
tests on 10,000 images, of every client's model and of the global model after every update.
How to read it: the ratio is how many times faster fedlab is. With few epochs both sides mostly
start up.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table
from benchmarks.original import CLIENTS

FASTER, LARGEST = 8.0, 804_808  # targets: times, bytes
ORIGINAL = "the original's way"


def fedlab_federation(shards: int, epochs: int, testing: bool) -> dict:
    """The same as `original.federation`, by fedlab: server and clients in one process, as in a
    notebook.
    """
    import fedlab

    mnist = fedlab.load_mnist()
    test, classifier = (mnist.test if testing else None), fedlab.Classifier()
    with fedlab.Server(test=test, strategy=fedlab.async_average()) as server:
        clients = [
            fedlab.Client(server.url, name, mnist.shards(first, first + shards - 1), test=test)
            for name, first in CLIENTS.items()
        ]
        began = time.perf_counter()
        for client in clients:
            client.start()
        server.run(
            rounds=1,
            min_clients=len(clients),
            epochs=epochs,
            batch_size=32,
            optimizer="adam",
            learning_rate=0.001,
            progress=False,
        )
        seconds = time.perf_counter() - began
        messages, weights = list(server.wire), server.federation.weights
    up = max(message.bytes_up for message in messages if message.path == "/updates")
    down = max(message.bytes_down for message in messages if message.path == "/task")
    return {
        "seconds": seconds,
        "accuracy": classifier.evaluate(weights, mnist.test)[1],
        "up": up,
        "down": down,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20, help="epochs a shard (the original: 20)")
    parser.add_argument(
        "--shards",
        type=int,
        default=4,
        choices=range(1, 5),
        help="shards of each client (the original: 4)",
    )
    parser.add_argument("--repeats", type=int, default=1, help="how often each side runs")
    given = parser.parse_args(arguments)

    machine("keras", "flask", "uvicorn")
    work = {"shards": given.shards, "epochs": given.epochs}
    sides = {
        "fedlab": lambda: in_process("federation:fedlab_federation", testing=False, **work),
        "fedlab, testing": lambda: in_process("federation:fedlab_federation", testing=True, **work),
        ORIGINAL: lambda: in_process("original:federation", **work),
    }
    results = in_turn(sides, given.repeats)
    medians = {
        name: statistics.median(run["seconds"] for run in side) for name, side in results.items()
    }
    faster = {name: medians[ORIGINAL] / median for name, median in medians.items()}
    rows = [
        [
            name,
            spread([run["seconds"] for run in side]),
            f"{faster[name]:.1f} x",
            f"{statistics.median(run['accuracy'] for run in side):.2%}",
            f"{max(run['up'] for run in side):,}",
            f"{max(run['down'] for run in side):,}",
        ]
        for name, side in results.items()
    ]
    epochs = len(CLIENTS) * given.shards * given.epochs
    title = (
        f"3 clients, {given.shards} shards each, {given.epochs} epochs a shard, over HTTP: {epochs}"
        " epochs of 5,000 images"
    )
    table(
        title,
        ["side", "seconds", "faster", "accuracy", "largest update (bytes)", "largest task (bytes)"],
        rows,
    )
    largest = max(max(run["up"], run["down"]) for run in results["fedlab"])
    print(f"\nfedlab is faster by  {judged(faster['fedlab'], least=FASTER)}")
    print(
        f"its largest message  {largest:,} bytes (at most {LARGEST:,}:"
        f" {'met' if largest <= LARGEST else 'MISSED'})"
    )


if __name__ == "__main__":
    main()
