"""What a round of secure aggregation costs, beside the plain sum of the same numbers.

    python -m benchmarks.secure

Every client of a round in this process, two at a time as in the simulation, with as many numbers as
the 2NN has (199,210, 32 bits), a threshold of two thirds, and one in ten leaving after the letters,
so that the server has to make their masks anew. No training, no HTTP.
How to read it: the seconds of a round have a target for 30 and for 100 clients; the ratio says what
hiding costs beside adding in the open.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import in_process, in_turn, judged, machine, spread, table

NUMBERS = 199_210
TARGETS = {30: 1.0, 100: 6.0}  # clients -> seconds


def seconds(clients: int, numbers: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, in turn in this process."""
    import numpy as np

    from fedlab.secure import FixedPoint, SecureClient, passed_on, total

    random, point = np.random.default_rng(0), FixedPoint(summands=clients)
    names = [f"client-{number:03}" for number in range(clients)]
    values = {name: random.normal(0, 0.1, numbers).astype(np.float32) for name in names}
    stay, threshold = names[: clients - clients // 10], clients * 2 // 3

    def hidden() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            everybody = {name: SecureClient(name, 1) for name in names}
            roster = {name: client.keys() for name, client in everybody.items()}

            def share(name: str):
                return everybody[name].share(roster, threshold)

            letters = dict(zip(names, pool.map(share, names), strict=True))
            post = passed_on(letters)

            def mask(name: str):
                return everybody[name].mask(post[name], point.write(values[name]))

            masked = dict(zip(stay, pool.map(mask, stay), strict=True))
            answers = {name: everybody[name].unmask(set(masked)) for name in stay}
            told = point.read(total(masked, answers, roster, letters, threshold))
        took = time.perf_counter() - began
        wrong = np.abs(told - sum(values[name].astype(np.float64) for name in stay)).max()
        if wrong > point.error:
            raise AssertionError(f"the sum is wrong by {wrong:g}; expected at most {point.error:g}")
        return took

    def plain() -> float:
        began = time.perf_counter()
        added = np.zeros(numbers)
        for name in stay:
            added += values[name]
        return time.perf_counter() - began

    hidden()
    return in_turn({"hidden": hidden, "plain": plain}, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="of each client")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    given = parser.parse_args(arguments)

    machine("cryptography")
    rows, verdicts = [], []
    for clients in given.clients:
        settings = {"clients": clients, "numbers": given.numbers, "repeats": given.repeats}
        results = in_process("secure:seconds", **settings)
        middle = {name: statistics.median(values) for name, values in results.items()}
        ratio = f"{middle['hidden'] / middle['plain']:.3g} x"
        rows.append([str(clients), *map(spread, results.values()), ratio])
        if clients in TARGETS:
            said = judged(middle["hidden"], most=TARGETS[clients], unit=" s")
            verdicts.append(f"{clients} clients  {said}")
    title = f"a round of {given.numbers:,} numbers a client, one in ten leaves"
    table(title, ["clients", "hidden", "plain", "hidden, to plain"], rows)
    print("\n" + "\n".join(verdicts))


if __name__ == "__main__":
    main()
