"""Seconds and memory of a round as the number of clients grows and the work does not.

    python -m benchmarks.scale

K = 10, 100, 1,000 and 10,000 clients, of which 10 take part in every round (C = 10 / K): 600 images
each, B = 10, SGD, dealt as row numbers into one copy of MNIST, so that clients share images where
there are more of them than 60,000 images allow. No test of the global model.
How to read it: both ratio columns should stay near 1: a participant costs the same, whoever else is
there. Each size runs in a process of its own, whose memory at its highest is the last column but
one; "join" is what the clients cost once, before the first round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from benchmarks.measure import in_process, in_turn, judged, machine, table

PARTICIPANTS = 10
TIME, MEMORY = 1.20, 1.50  # targets


def rounds_of(clients: int, images: int, rounds: int) -> dict:
    """Seconds of each round but the first, seconds before it, and peak memory (bytes) of this
    process.
    """
    import resource

    import numpy as np

    import fedlab

    train = fedlab.load_mnist().train
    data = [
        train.subset(np.arange(number * images, (number + 1) * images) % len(train))
        for number in range(clients)
    ]
    fedlab.simulate(data[:1], rounds=1, batch_size=10, progress=False)  # compiles
    began = time.perf_counter()
    history = fedlab.simulate(
        data,
        rounds=rounds + 1,
        fraction=min(PARTICIPANTS / clients, 1.0),
        batch_size=10,
        progress=False,
    )
    before = time.perf_counter() - began - history.last.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    seconds = [
        after.seconds - record.seconds
        for record, after in zip(history[:-1], history[1:], strict=True)
    ]
    return {"seconds": seconds, "before": before, "peak": peak}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients",
        type=int,
        nargs="+",
        default=[10, 100, 1_000, 10_000],
        help="the sizes, smallest first",
    )
    parser.add_argument("--images", type=int, default=600, help="images of each client")
    parser.add_argument("--rounds", type=int, default=40, help="rounds in each measurement")
    parser.add_argument("--repeats", type=int, default=3, help="how often each size runs")
    given = parser.parse_args(arguments)

    machine()
    sides = {
        f"{clients:,}": lambda clients=clients: in_process(
            "scale:rounds_of", clients=clients, images=given.images, rounds=given.rounds
        )
        for clients in given.clients
    }
    results = in_turn(sides, given.repeats)
    rows, first = [], None
    for name, runs in results.items():
        seconds = statistics.median(value for run in runs for value in run["seconds"])
        peak, before = (statistics.median(run[key] for run in runs) for key in ("peak", "before"))
        first = first or (seconds, peak)
        time_ratio, memory_ratio = seconds / first[0], peak / first[1]
        participants = min(PARTICIPANTS, int(name.replace(",", "")))
        rows.append(
            [
                name,
                f"{before * 1e3:.0f} ms",
                f"{seconds * 1e3:.1f} ms",
                f"{seconds / participants * 1e3:.2f} ms",
                f"{time_ratio:.2f} x",
            ]
            + [f"{peak / 1e6:.0f} MB", f"{memory_ratio:.2f} x"]
        )
    title = f"{PARTICIPANTS} participants a round with {given.images} images, E = 1, B = 10, SGD"
    table(
        title,
        [
            "clients",
            "join",
            "a round: median",
            "a participant",
            "to the first",
            "peak memory",
            "to the first",
        ],
        rows,
    )
    print(f"\ntime of the largest    {judged(time_ratio, most=TIME)}")
    print(f"memory of the largest  {judged(memory_ratio, most=MEMORY)}")


if __name__ == "__main__":
    main()
