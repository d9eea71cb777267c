"""The original demonstration's way of doing the work, written anew to be measured against: `python
-m benchmarks.original --help`.

As there: a Flask server with one global model, merged under a lock as updates arrive; clients that
build a Keras model each, call `fit`, and send and fetch their weights as JSON lists of numbers;
every participant a process of its own. Not as there, all in its favour: no debugger, no random
waits, no saving of the model, and counts of examples that do not double, so that its model can be
compared too.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import threading
import time

import numpy as np

CLIENTS = {"alice": 1, "bob": 5, "carol": 9}  # name -> its first shard


def build_model(optimizer: str = "Adam", learning_rate: float = 0.001):
    """784-200-200-10, compiled as the original does."""
    import keras

    hidden = [keras.layers.Dense(200, activation="relu") for _ in range(2)]
    model = keras.Sequential(
        [keras.Input((784,)), *hidden, keras.layers.Dense(10, activation="softmax")]
    )
    optimizer = getattr(keras.optimizers, optimizer)(learning_rate)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def serve() -> None:
    """The server: prints its port, and runs until it is ended."""
    from flask import Flask, jsonify, request
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = Flask("original")
    app.config["MAX_FORM_MEMORY_SIZE"] = 50_000_000
    weights, counted, lock = build_model().get_weights(), 0, threading.Lock()

    @app.post("/")
    def exchange():
        nonlocal weights, counted
        if request.form["send"] != "True":
            with lock:
                return jsonify(
                    id=request.form["id"], datasets=counted, weights=[w.tolist() for w in weights]
                )
        count = int(request.form["datasets"])
        received = [np.array(values) for values in json.loads(request.form["weights"])]
        with lock:
            total = counted + count
            weights = [
                (w * counted + new * count) / total
                for w, new in zip(weights, received, strict=True)
            ]
            counted = total
        return "Success"

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


def take_part(name: str, first: int, last: int, port: int, epochs: int) -> None:
    """A client: says "ready" when Keras is loaded, begins at a line on its standard input, and says
    how large its messages were.
    """
    import requests

    from fedlab.data import SHARD_SIZE, load_mnist

    mnist = load_mnist()
    x, y = mnist.train.x.reshape(-1, 784) / np.float32(255), mnist.train.y
    model, url = build_model(), f"http://127.0.0.1:{port}/"
    print("ready", flush=True)
    sys.stdin.readline()
    up = down = 0
    for shard in range(first, last + 1):
        answer = requests.post(url, data={"id": name, "send": "False"}, timeout=60)
        model.set_weights([np.array(values) for values in answer.json()["weights"]])
        rows = slice((shard - 1) * SHARD_SIZE, shard * SHARD_SIZE)
        model.fit(x[rows], y[rows], epochs=epochs, batch_size=32, verbose=0)
        weights = json.dumps([w.tolist() for w in model.get_weights()])
        sent = requests.post(
            url,
            data={"id": name, "send": "True", "datasets": SHARD_SIZE, "weights": weights},
            timeout=60,
        )
        sent.raise_for_status()
        up, down = (
            max(up, int(sent.request.headers["Content-Length"])),
            max(down, len(answer.content)),
        )
    print(json.dumps([up, down]), flush=True)


def federation(shards: int, epochs: int) -> dict:
    """A whole federation: the server, and three clients with so many shards each. Seconds: from all
    being ready to the last update.
    """
    import requests

    import fedlab

    command = [sys.executable, "-m", "benchmarks.original"]
    server = subprocess.Popen([*command, "serve"], stdout=subprocess.PIPE, text=True)
    clients: list[subprocess.Popen] = []
    try:
        port = server.stdout.readline().strip()
        for name, first in CLIENTS.items():
            last = first + shards - 1
            arguments = ["client", name, str(first), str(last), port, str(epochs)]
            clients.append(
                subprocess.Popen(
                    [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
        for client in clients:
            if client.stdout.readline().strip() != "ready":
                raise RuntimeError("a client of the original did not start")
        began = time.perf_counter()
        for client in clients:
            client.stdin.write("go\n")
            client.stdin.flush()
        sizes = [json.loads(client.stdout.readline()) for client in clients]
        seconds = time.perf_counter() - began
        answer = requests.post(
            f"http://127.0.0.1:{port}/", data={"id": "test", "send": "False"}, timeout=60
        ).json()
    finally:
        for process in (*clients, server):
            process.kill()
            process.communicate()
    weights = [np.array(values, np.float32) for values in answer["weights"]]
    accuracy = fedlab.Classifier().evaluate(weights, fedlab.load_mnist().test)[1]
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "up": max(up for up, _ in sizes),
        "down": max(down for _, down in sizes),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    programs = parser.add_subparsers(dest="program", required=True)
    programs.add_parser("serve", help="the server")
    client = programs.add_parser("client", help="one client")
    client.add_argument("name")
    for name in ("first", "last", "port", "epochs"):
        client.add_argument(name, type=int)
    given = vars(parser.parse_args())
    {"serve": serve, "client": take_part}[given.pop("program")](**given)
