"""One round of McMahan et al. (K = 100, C = 0.1, E = 1, B = 10, SGD: 10 clients x 600 images), in
one process or as others do it.

    python -m benchmarks.round                      everything that is installed
    python -m benchmarks.round --without flower     quicker

`simulate` is measured with and without the test on the 10,000 test images, against
- the limit: the same matrix products, forward and backward, and nothing else, in NumPy with
  single-threaded BLAS, one process a core; with the test, also the products of the test, in large
  batches;
- PyTorch: a plain loop over clients and batches (if installed), on one thread: with matrices this
  small more threads do not help it;
- Flower's simulation of a Keras client (if `flwr[simulation]` is installed), one worker a core: as
  Flower's tutorial writes it, a Keras model built for each client; and with one model kept in each
  worker.
How to read it: seconds are of one round, compilation and start-up left out; the ratios say how far
fedlab is from the limit, and how many times slower the others are. "CPU" is what a round takes of
all cores together (not measured for Flower, whose workers are processes of their own): where
somebody else is at work on the machine it says more than the seconds do. Every side runs in fresh
processes, in turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time

from benchmarks.measure import CORES, in_process, in_turn, installed, judged, machine, spread, table

LIMIT, FLOWER, TORCH = 1.3, 40.0, 3.0  # targets
LAYERS = [(784, 200), (200, 200), (200, 10)]
# The limit takes the best BLAS kernels for this processor, whatever the environment says, on one
# thread.
BLAS = {
    "OPENBLAS_CORETYPE": None,
    "OPENBLAS_L2_SIZE": None,
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


# ---- the limit -----------------------------------------------------------------------------------


def limit(participants: int, images: int, batch: int, tests: int, repeats: int = 15) -> dict:
    """The matrix products of a round, spread over one process a core: seconds of the training's and
    of the test's, and their CPU.
    """
    context = multiprocessing.get_context("spawn")
    workers = min(CORES, participants)
    barrier, answers = context.Barrier(workers), context.Queue()
    shares = [participants // workers + (i < participants % workers) for i in range(workers)]
    common = (images // batch, batch, tests // workers, repeats, barrier, answers)
    processes = [context.Process(target=_products, args=(share, *common)) for share in shares]
    for process in processes:
        process.start()
    # Of each process, for both kinds: (begin, end, CPU) of every repetition
    spans = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    result = {}
    for kind in ("train", "test"):
        # The first two warm up
        together = list(zip(*(span[kind] for span in spans), strict=True))[2:]
        seconds = [
            max(end for _, end, _ in each) - min(begin for begin, _, _ in each) for each in together
        ]
        result[kind] = {
            "seconds": seconds,
            "cpu": statistics.median(sum(cpu for _, _, cpu in each) for each in together),
        }
    return result


def _products(
    clients: int, batches: int, batch: int, tests: int, repeats: int, barrier, answers
) -> None:
    """One process: the products of so many clients' local training, then those of its part of the
    test.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    weights = [rng.random(shape, dtype=np.float32) for shape in LAYERS]
    errors = [rng.random((batch, width), dtype=np.float32) for _, width in LAYERS]
    x = rng.random((batches, batch, 784), dtype=np.float32)
    chunks = [
        rng.random((min(1_000, tests - start), 784), dtype=np.float32)
        for start in range(0, tests, 1_000)
    ]

    def train():
        for _ in range(clients):
            for i in range(batches):
                first = x[i] @ weights[0]
                second = first @ weights[1]
                second @ weights[2]
                second.T @ errors[2]
                errors[2] @ weights[2].T
                first.T @ errors[1]
                errors[1] @ weights[1].T
                x[i].T @ errors[0]

    def test():
        for chunk in chunks:
            chunk @ weights[0] @ weights[1] @ weights[2]

    spans = {}
    for kind, work in (("train", train), ("test", test)):
        spans[kind] = []
        for _ in range(repeats):
            barrier.wait()
            begin, cpu = time.perf_counter(), time.process_time()
            work()
            spans[kind].append((begin, time.perf_counter(), time.process_time() - cpu))
    answers.put(spans)


# ---- the sides -----------------------------------------------------------------------------------


def simulate(clients: int, fraction: float, batch: int, rounds: int, tested: bool) -> dict:
    """Seconds of each of fedlab's rounds but the first, and the CPU of one."""
    import fedlab

    mnist, cpu = fedlab.load_mnist(), []
    history = fedlab.simulate(
        fedlab.partition_iid(mnist.train, clients),
        test=mnist.test if tested else None,
        rounds=rounds + 1,
        fraction=fraction,
        batch_size=batch,
        learning_rate=0.1,
        progress=False,
        on_round=lambda record: cpu.append(time.process_time()),
    )
    seconds = [
        after.seconds - before.seconds
        for before, after in zip(history[:-1], history[1:], strict=True)
    ]
    return {"seconds": seconds, "cpu": (cpu[-1] - cpu[0]) / rounds}


def torch_loop(clients: int, fraction: float, batch: int, rounds: int, threads: int) -> dict:
    """Seconds of each round but the first of a plain PyTorch loop, and the CPU of one."""
    import torch

    import fedlab

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    mnist = fedlab.load_mnist()
    parts = [
        (torch.from_numpy(part.x.reshape(-1, 784)).float() / 255, torch.from_numpy(part.y).long())
        for part in fedlab.partition_iid(mnist.train, clients)
    ]
    test_x, test_y = (
        torch.from_numpy(mnist.test.x.reshape(-1, 784)).float() / 255,
        torch.from_numpy(mnist.test.y).long(),
    )
    layers = [layer for shape in LAYERS for layer in (torch.nn.Linear(*shape), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers[:-1])
    loss_of = torch.nn.CrossEntropyLoss()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seconds, cpu = [], []
    for _ in range(rounds + 1):
        began, total, examples = time.perf_counter(), None, 0
        for chosen in torch.randperm(clients)[: max(round(fraction * clients), 1)].tolist():
            x, y = parts[chosen]
            model.load_state_dict(weights)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            order = torch.randperm(len(x))
            for start in range(0, len(x), batch):
                rows = order[start : start + batch]
                optimizer.zero_grad()
                loss_of(model(x[rows]), y[rows]).backward()
                optimizer.step()
            update = {name: tensor * len(x) for name, tensor in model.state_dict().items()}
            total = (
                update
                if total is None
                else {name: total[name] + tensor for name, tensor in update.items()}
            )
            examples += len(x)
        weights = {name: tensor / examples for name, tensor in total.items()}
        model.load_state_dict(weights)
        with torch.no_grad():
            outputs = model(test_x)
            (outputs.argmax(1) == test_y).float().mean().item(), loss_of(outputs, test_y).item()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time())
    return {"seconds": seconds[1:], "cpu": (cpu[-1] - cpu[0]) / rounds}


def _both(train: dict, test: dict) -> dict:
    """The products of the training and then of the test."""
    seconds = [one + other for one, other in zip(train["seconds"], test["seconds"], strict=True)]
    return {"seconds": seconds, "cpu": train["cpu"] + test["cpu"]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100, help="K")
    parser.add_argument("--fraction", type=float, default=0.1, help="C")
    parser.add_argument("--batch-size", type=int, default=10, help="B")
    parser.add_argument(
        "--rounds", type=int, default=30, help="rounds that fedlab and PyTorch are measured over"
    )
    parser.add_argument(
        "--flower-rounds", type=int, default=5, help="rounds that Flower is measured over"
    )
    parser.add_argument("--torch-threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--repeats", type=int, default=3, help="how often each side runs")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=("flower", "torch"), help="sides to leave out"
    )
    given = parser.parse_args(arguments)

    machine("keras", "flwr", "ray", "torch")
    participants = max(round(given.fraction * given.clients), 1)
    work = {"clients": given.clients, "fraction": given.fraction, "batch": given.batch_size}
    size = {
        "participants": participants,
        "images": 60_000 // given.clients,
        "batch": given.batch_size,
        "tests": 10_000,
    }
    ours = {**work, "rounds": given.rounds}
    sides = {
        "limit": lambda: in_process("round:limit", BLAS, **size),
        "fedlab": lambda: in_process("round:simulate", tested=True, **ours),
        "fedlab, training only": lambda: in_process("round:simulate", tested=False, **ours),
    }
    missing = []
    if "torch" not in given.without:
        if installed("torch"):
            missing.append("PyTorch is not installed: not measured (pip install torch)")
        else:
            sides["PyTorch"] = lambda: in_process(
                "round:torch_loop", threads=given.torch_threads, **ours
            )
    if "flower" not in given.without:
        if name := installed("flwr", "ray"):
            missing.append(
                f"{name} is not installed: Flower not measured (pip install 'flwr[simulation]')"
            )
        else:
            from benchmarks.flower import QUIETLY

            theirs = {**work, "rounds": given.flower_rounds}
            for kind, keep in (("as its tutorial", False), ("one model a worker", True)):
                sides[f"Flower, {kind}"] = lambda keep=keep: in_process(
                    "flower:simulate", QUIETLY, keep=keep, **theirs
                )
    results = in_turn(sides, given.repeats)

    limits = results.pop("limit")
    results = {
        "limit of training": [run["train"] for run in limits],
        "limit of training and test": [_both(run["train"], run["test"]) for run in limits],
        **results,
    }
    seconds = {
        name: [value for run in runs for value in run["seconds"]] for name, runs in results.items()
    }
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    cpu = {
        name: statistics.median(run["cpu"] for run in runs)
        for name, runs in results.items()
        if "cpu" in runs[0]
    }
    rows = []
    for name, values in seconds.items():
        bound = "limit of training" if "training only" in name else "limit of training and test"
        to_limit = used = of_limit = ""
        if not name.startswith("limit"):
            to_limit = f"{medians[name] / medians[bound]:.2f} x"
        if name in cpu:
            used, of_limit = (
                f"{cpu[name] * 1e3:.0f} ms",
                (f"{cpu[name] / cpu[bound]:.2f} x" if to_limit else ""),
            )
        rows.append(
            [
                name,
                spread(values),
                to_limit,
                used,
                of_limit,
                f"{medians[name] / medians['fedlab']:.2f} x",
            ]
        )
    title = (
        f"a round: K = {given.clients}, C = {given.fraction:g} ({participants} clients), E = 1, B ="
        f" {given.batch_size}, SGD"
    )
    table(
        title,
        [
            "side",
            "seconds a round: median",
            "to its limit",
            "CPU a round",
            "to its limit",
            "seconds to fedlab",
        ],
        rows,
    )
    print("\n".join(["", *missing]))
    print(
        "training only, to the limit:       "
        f" {judged(medians['fedlab, training only'] / medians['limit of training'], most=LIMIT)}"
    )
    for name, target in (("PyTorch", TORCH), ("Flower, as its tutorial", FLOWER)):
        if slower := [
            medians[side] / medians["fedlab"] for side in medians if side.startswith(name)
        ]:
            print(f"{name + ':':<25} slower by {judged(min(slower), least=target)}")


if __name__ == "__main__":
    main()
