"""What the federation itself costs: the same local training with and without it.

    python -m benchmarks.overhead

10 clients, all in every round, 600 images each, B = 10, SGD: by `simulate`, over HTTP on loopback
with a server and 10 clients in one process, and with no federation at all: `Classifier.train` in a
loop, nothing sent, nothing averaged, nobody waits for anybody. The loop runs
- plainly, one client's data after another, as one writes it (TensorFlow shares out each matrix
  product among the cores by itself), and
- in as many threads as the federation beside it has, which is harder to match: several small
  trainings at once fill the cores better.
Clients over HTTP also test their own model before they send it: there, the loops do that too.
How to read it: the ratios are to these two loops; 1.07 x means that the federation adds 7 %, 0.6 x
that it takes 40 % less time. No side tests the global model. All sides run in one process, in turn,
with the same compiled functions.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable

from benchmarks.measure import CORES, in_process, in_turn, judged, machine, spread, table

SIMULATE, HTTP = 1.10, 1.30  # targets


def bare(clients: list, rounds: int, threads: int, tested: bool) -> float:
    """Seconds a round of local training (and, if `tested`, of each client's test) in a loop in so
    many threads.
    """
    import fedlab

    classifier, training = (
        fedlab.Classifier(),
        fedlab.Training(epochs=1, batch_size=10, learning_rate=0.1),
    )
    work = [(round, number) for round in range(rounds) for number in range(len(clients))]

    def loop() -> None:
        while True:
            try:
                round, number = work.pop()
            except IndexError:
                return
            weights, _ = classifier.train(
                classifier.weights,
                clients[number],
                training,
                fedlab.local_seed(0, round, str(number)),
            )
            if tested:
                classifier.evaluate(weights, clients[number])

    workers = [threading.Thread(target=loop) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - began) / rounds


def simulated(clients: list, rounds: int) -> float:
    """Seconds a round of `simulate`; the first does not count."""
    import fedlab

    return per_round(
        fedlab.simulate(
            clients, rounds=rounds + 1, batch_size=10, learning_rate=0.1, progress=False
        )
    )


def over_http(clients: list, rounds: int) -> float:
    """Seconds a round of a server and its clients; the first does not count."""
    import fedlab

    with fedlab.Server() as server:
        for number, data in enumerate(clients):
            fedlab.Client(server.url, f"client-{number}", data).start()
        return per_round(
            server.run(
                rounds=rounds + 1,
                min_clients=len(clients),
                batch_size=10,
                learning_rate=0.1,
                progress=False,
            )
        )


def per_round(history) -> float:
    return (history.last.seconds - history[0].seconds) / (len(history) - 1)


def sides(clients: int, images: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """All sides in this process, in turn."""
    import numpy as np

    import fedlab

    train = fedlab.load_mnist().train
    data = [
        train.subset(np.arange(number * images, (number + 1) * images)) for number in range(clients)
    ]
    calls: dict[str, Callable[[], float]] = {
        "plain loop": lambda: bare(data, rounds, 1, tested=False),
        f"loop in {CORES + 1} threads": lambda: bare(data, rounds, CORES + 1, tested=False),
        "simulate": lambda: simulated(data, rounds),
        "plain loop, testing": lambda: bare(data, rounds, 1, tested=True),
        f"loop in {clients} threads, testing": lambda: bare(data, rounds, clients, tested=True),
        "HTTP": lambda: over_http(data, rounds),
    }
    for call in calls.values():  # compiles, and warms everything up
        call()
    return in_turn(calls, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=int, default=600, help="images of each client")
    parser.add_argument("--rounds", type=int, default=20, help="rounds in each measurement")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs")
    given = parser.parse_args(arguments)

    machine("flask", "uvicorn")
    seconds = in_process("overhead:sides", **vars(given))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    loops = {
        "simulate": ("plain loop", f"loop in {CORES + 1} threads"),
        "HTTP": ("plain loop, testing", f"loop in {given.clients} threads, testing"),
    }
    ratios = {
        name: [medians[name] / medians[loop] for loop in pair] for name, pair in loops.items()
    }
    rows = []
    for name, values in seconds.items():
        shown = [f"{ratio:.2f} x" for ratio in ratios[name]] if name in ratios else ["", ""]
        rows.append([name, spread(values), *shown])
    title = f"a round of {given.clients} clients with {given.images} images, E = 1, B = 10, SGD"
    table(
        title,
        ["side", "seconds a round: median", "to the plain loop", "to the loop in threads"],
        rows,
    )
    print(f"\nsimulate  {judged(ratios['simulate'][0], most=SIMULATE)}")
    print(f"HTTP      {judged(ratios['HTTP'][0], most=HTTP)}")


if __name__ == "__main__":
    main()
