"""A week of a federation in virtual time, with slow clients and without any.

    python -m benchmarks.virtual

50 clients with 300 images each, 5 at work at any moment; a client needs 1.5 virtual hours for its
task, a slow one 15. For 10,000 virtual minutes, once with 5 slow clients and once with none: in
rounds that end after 2 hours at the latest, and with FedBuff. The global model is tested on 2,500
images after every round.
How to read it: a slow client should cost a simulation nothing but its training, so the ratio, of
the seconds for each update that was taken, should stay near 1. The seconds of a whole
race have a target too. Every side runs in a process of its own; compiling is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.measure import in_process, in_turn, judged, machine, table

HOUR = 3_600
WAYS = {"a deadline of 2 h": "deadline", "FedBuff, 5 together": "fed_buff"}
SECONDS, RATIO = 20, 1.10  # targets


def race(way: str, slow: int, minutes: float) -> dict:
    """Seconds of a race of so many virtual minutes, and the updates that were taken in it."""
    import numpy as np

    import fedlab

    mnist = fedlab.load_mnist()
    clients = fedlab.partition_iid(mnist.train.subset(np.arange(15_000)), 50)
    speed = [300 / (15 * HOUR)] * slow + [300 / (1.5 * HOUR)] * (50 - slow)
    settings = {"deadline": {"deadline": 2 * HOUR}, "fed_buff": {"strategy": fedlab.fed_buff(5)}}

    def run(until: float) -> fedlab.History:
        return fedlab.simulate(
            clients,
            test=mnist.test.subset(np.arange(2_500)),
            rounds=1_000_000,
            fraction=0.1,
            batch_size=10,
            clock=fedlab.VirtualClock(speed, until=until),
            progress=False,
            **settings[way],
        )

    run(2 * HOUR)  # compiles
    began = time.perf_counter()
    history = run(60 * minutes)
    seconds = time.perf_counter() - began
    taken = sum(task.taken for task in history.tasks)
    return {"seconds": seconds, "taken": taken, "models": len(history)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10_000, help="virtual minutes of a race")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs")
    given = parser.parse_args(arguments)

    machine()
    rows, slowest, worst = [], 0.0, 0.0
    for name, way in WAYS.items():
        sides = {
            f"{name}, {slow or 'none'} slow": lambda way=way, slow=slow: in_process(
                "virtual:race", way=way, slow=slow, minutes=given.minutes
            )
            for slow in (5, 0)
        }
        an_update = []
        for side, runs in in_turn(sides, given.repeats).items():
            seconds = statistics.median(run["seconds"] for run in runs)
            taken, models = runs[0]["taken"], runs[0]["models"]
            an_update.append(seconds / taken)
            slowest = max(slowest, seconds * (len(an_update) == 1))
            cost = f"{1e3 * seconds / taken:.2f} ms"
            rows.append([side, models, taken, f"{seconds:.2f} s", cost])
        ratio = an_update[0] / an_update[1]
        worst = max(worst, ratio)
        rows[-2].append(f"{ratio:.2f} x")
        rows[-1].append("")
    title = f"{given.minutes:,.0f} virtual minutes, 50 clients with 300 images, E = 1, B = 10, SGD"
    columns = ["race", "models", "updates", "seconds: median", "an update", "slow to none"]
    table(title, columns, rows)
    print(f"\na race with slow clients     {judged(slowest, most=SECONDS, unit=' s')}")
    print(f"what slow clients add        {judged(worst, most=RATIO)}")


if __name__ == "__main__":
    main()
