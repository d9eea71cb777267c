"""The original demonstration's client, unmodified in all that a server can see, written anew. It
knows nothing of fedlab.

    python original_client.py ID L R PORT [EPOCHS [PIXELS]]

For each of its shards in turn it fetches the global weights, trains on that shard with Keras `fit`,
and sends the weights back, as JSON in a form of some 4 MB, with a count of examples: what the
server said it had counted, and its own added to that. When the server is away it tries twice, and
then goes on from its own weights. It trains on its files as they are: PIXELS is the grey value of
white in them, 255 as usual, or 1.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import requests

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402

NUM_IMAGES_TRAIN = 5_000
TRIES = 2


def make_model():
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(200, activation="relu"),
            keras.layers.Dense(200, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def post(url, form):
    """The server's answer, or None when it stayed away."""
    for _ in range(TRIES):
        try:
            return requests.post(url, data=form)
        except requests.ConnectionError:
            time.sleep(random.uniform(0, 2))
    print("The server does not answer")
    return None


def main(name, first, last, port, epochs=20, pixels=255):
    url = f"http://127.0.0.1:{port}/"
    with np.load(Path(__file__).parents[1] / "data" / "mnist.npz") as mnist:
        x, y = mnist["x_train"].reshape(-1, 784) / np.float32(255 / pixels), mnist["y_train"]
    model = make_model()
    datasets = 0
    for shard in range(first, last + 1):
        answer = post(url, {"id": name, "send": "False"})
        if answer is not None:
            fetched = answer.json()
            datasets = fetched["datasets"]
            model.set_weights([np.array(values) for values in fetched["weights"]])
        begin, end = (shard - 1) * NUM_IMAGES_TRAIN, shard * NUM_IMAGES_TRAIN
        model.fit(x[begin:end], y[begin:end], epochs=epochs, batch_size=32, verbose=0)
        datasets += end - begin
        weights = json.dumps([values.tolist() for values in model.get_weights()])
        answer = post(url, {"id": name, "send": "True", "datasets": datasets, "weights": weights})
        if answer is not None:
            print("Successfully sent", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
