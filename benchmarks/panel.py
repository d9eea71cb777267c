"""What looking costs: the same run of twelve clients with its panel at work, and without one.

    python -m benchmarks.panel
    python -m benchmarks.panel --clients 3

Both sides are one Session: a server, its clients, HTTP on loopback, every model tested on 10,000
images, with everything compiled before. One of them has a panel that brings its picture, its curve
and its digits up to date at most five times a second. No browser draws them here: that is another
program's time.
How to read it: the ratio is how many times longer a run takes with a panel.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table

LONGER = 1.05  # target: times
WITHOUT, WITH = "without", "with its panel"
NAMES = [chr(ord("a") + number) for number in range(12)]


def seconds(clients: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of runs, from Start to the last round, in turn in this process."""
    import fedlab
    from fedlab.dashboard.session import Session
    from fedlab.settings import Settings

    mnist = fedlab.load_mnist()
    shards = {name: (number + 1, number + 1) for number, name in enumerate(NAMES[:clients])}
    settings = Settings(shards, rounds=rounds)

    def alone() -> float:
        session = Session(mnist)
        session.open(settings)
        session.begin(settings)
        history = session.federation.wait()
        session.close()
        return history.last.seconds

    def with_panel() -> float:
        panel = fedlab.Dashboard(mnist, shards, rounds=rounds)
        panel.start()
        history = panel.wait()
        panel.shutdown()
        panel._thread.join(30)
        return history.last.seconds

    sides = {WITHOUT: alone, WITH: with_panel}
    for run in sides.values():  # compiles, and loads what it needs
        run()
    return in_turn(sides, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=12, help="up to 12, a shard each")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side")
    given = parser.parse_args(arguments)

    machine("ipywidgets", "matplotlib")
    results = in_process("panel:seconds", **vars(given))
    without = statistics.median(results[WITHOUT])
    rows = [
        [name, spread(values), f"{statistics.median(values) / without:.3g} x"]
        for name, values in results.items()
    ]
    table(f"{given.rounds} rounds of {given.clients} clients", ["run", "median", "ratio"], rows)
    print(f"\n{WITH}  {judged(statistics.median(results[WITH]) / without, most=LONGER)}")


if __name__ == "__main__":
    main()
