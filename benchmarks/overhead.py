"""What the federation itself costs: the same local training with and without it.

    python -m benchmarks.overhead

10 clients, all in every round, 600 images each, B = 10, SGD: once with no federation at all (`Classifier.train` in a loop, in as many
threads (one more than cores), nothing sent, nothing averaged, nobody waits for anybody), once by `simulate`, and once over HTTP on loopback with a server and
10 clients in one process. Clients over HTTP also test their own model before they send it: there, the loop without a federation does that
too.
How to read it: the ratio is to the loop in the row above; 1.07 x means that the federation adds 7 %. No side tests the global model.
All sides run in one process, in turn, with the same compiled functions.
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
    """Seconds a round of local training (and, if `tested`, of each client's test) in a loop in so many threads."""
    import fedlab

    classifier, training = fedlab.Classifier(), fedlab.Training(epochs=1, batch_size=10, learning_rate=0.1)
    work = [(round, number) for round in range(rounds) for number in range(len(clients))]

    def loop() -> None:
        while True:
            try:
                round, number = work.pop()
            except IndexError:
                return
            weights, _ = classifier.train(classifier.weights, clients[number], training, fedlab.local_seed(0, round, str(number)))
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

    return per_round(fedlab.simulate(clients, rounds=rounds + 1, batch_size=10, learning_rate=0.1, progress=False))


def over_http(clients: list, rounds: int) -> float:
    """Seconds a round of a server and its clients; the first does not count."""
    import fedlab

    with fedlab.Server() as server:
        for number, data in enumerate(clients):
            fedlab.Client(server.url, f"client-{number}", data).start()
        return per_round(server.run(rounds=rounds + 1, min_clients=len(clients), batch_size=10, learning_rate=0.1, progress=False))


def per_round(history) -> float:
    return (history.last.seconds - history[0].seconds) / (len(history) - 1)


def sides(clients: int, images: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """All sides in this process, in turn."""
    import numpy as np

    import fedlab

    train = fedlab.load_mnist().train
    data = [train.subset(np.arange(number * images, (number + 1) * images)) for number in range(clients)]
    calls: dict[str, Callable[[], float]] = {
        "loop": lambda: bare(data, rounds, CORES + 1, tested=False),
        "simulate": lambda: simulated(data, rounds),
        "loop with client tests": lambda: bare(data, rounds, clients, tested=True),
        "HTTP": lambda: over_http(data, rounds),
    }
    for call in calls.values():  # compiles, and warms everything up
        call()
    return in_turn(calls, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=int, default=600, help="images of each client")
    parser.add_argument("--rounds", type=int, default=20, help="rounds in each measurement")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side runs")
    given = parser.parse_args(arguments)

    machine("flask", "waitress")
    seconds = in_process("overhead:sides", **vars(given))
    ratio = {
        ours: statistics.median(seconds[ours]) / statistics.median(seconds[bare])
        for bare, ours in (("loop", "simulate"), ("loop with client tests", "HTTP"))
    }
    names = {"loop": f"loop, {CORES + 1} threads", "loop with client tests": f"loop with client tests, {given.clients} threads"}
    rows = [[names.get(name, name), spread(values), f"{ratio[name]:.2f} x" if name in ratio else ""] for name, values in seconds.items()]
    title = f"a round of {given.clients} clients with {given.images} images, E = 1, B = 10, SGD"
    table(title, ["side", "seconds a round: median", "to the loop"], rows)
    print(f"\nsimulate  {judged(ratio['simulate'], most=SIMULATE)}")
    print(f"HTTP      {judged(ratio['HTTP'], most=HTTP)}")


if __name__ == "__main__":
    main()
