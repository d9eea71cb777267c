"""Flower's simulation of a Keras client, for `benchmarks.round`: the same clients, model and work,
with Flower's own message API.

Not a command of its own: Ray, Flower's engine for simulations, needs a process that is made ready
for it (`QUIETLY`).
"""

from __future__ import annotations

import functools
import os
import time

import numpy as np

from benchmarks import original
from benchmarks.measure import CORES

# nothing is reported to anybody, and nothing is printed between the lines of the benchmark
QUIETLY = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


build_model = functools.partial(original.build_model, "SGD", 0.1)
kept_model = functools.lru_cache(maxsize=1)(build_model)


@functools.lru_cache(maxsize=1)
def partition(clients: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every client's images and labels, read once in each worker."""
    import fedlab

    parts = fedlab.partition_iid(fedlab.load_mnist().train, clients)
    return [(part.x.reshape(-1, 784) / np.float32(255), part.y) for part in parts]


def train(message, context, clients: int, batch: int, keep: bool):
    """The client: weights from the message, one epoch of `fit`, weights back."""
    import keras
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    if keep:
        model = kept_model()
    else:
        # as Flower's tutorial does: without it, a worker's memory grows with every model
        keras.backend.clear_session()
        model = build_model()
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    x, y = partition(clients)[context.node_config["partition-id"]]
    model.fit(x, y, epochs=1, batch_size=batch, verbose=0)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.get_weights()),
            "metrics": MetricRecord({"num-examples": len(y)}),
        }
    )
    return Message(content=content, reply_to=message)


def simulate(clients: int, fraction: float, batch: int, rounds: int, keep: bool) -> dict:
    """Seconds of each of Flower's rounds, test included, but for the first (in which the workers
    load TensorFlow).
    """
    import logging

    import ray
    from flwr.app import ArrayRecord, MetricRecord
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    import fedlab

    logging.getLogger("flwr").setLevel(logging.ERROR)
    test, model, ends = fedlab.load_mnist().test, build_model(), []
    x, y = test.x.reshape(-1, 784) / np.float32(255), test.y
    client_app, server_app = ClientApp(), ServerApp()

    @client_app.train()
    def client(message, context):
        return train(message, context, clients, batch, keep)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model.set_weights(arrays.to_numpy_ndarrays())
        loss, accuracy = model.evaluate(x, y, batch_size=1_000, verbose=0)
        ends.append(time.perf_counter())
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    @server_app.main()
    def server(grid, context):
        strategy = FedAvg(
            fraction_train=fraction,
            fraction_evaluate=0.0,
            min_train_nodes=1,
            min_available_nodes=clients,
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.get_weights()),
            num_rounds=rounds + 1,
            evaluate_fn=evaluate,
        )

    workers = {"env_vars": {"PYTHONPATH": os.getcwd()}}  # they import this file
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env=workers,
    )
    try:
        one_core = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
        run_simulation(server_app, client_app, num_supernodes=clients, backend_config=one_core)
    finally:
        ray.shutdown()
    if len(ends) != rounds + 2:
        raise RuntimeError(f"Flower ended after {len(ends) - 1} of {rounds + 1} rounds")
    return {"seconds": [after - before for before, after in zip(ends[1:-1], ends[2:], strict=True)]}
