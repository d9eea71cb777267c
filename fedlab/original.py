"""The original demonstration's wire, for its own client, unmodified.

One address, `/`, as a form or a query: `id`, `send`, and with `send=True` `datasets` (a count of
examples) and `weights` (JSON, nested lists). Any other `send` is answered with `id`, `datasets` and
`weights`.

That client adds the `datasets` of the answer to the examples it trained on, and sends the sum: with
the original server the count of everyone's examples came back inside every update, and doubled each
time. Here the answer always says `datasets: 0`. So what comes back is what was trained on, and the
server's own count (`State.num_examples`) adds up only that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.federation import Evaluate, Federation
from fedlab.history import Tested
from fedlab.messages import BadUpdate, Update, Weights, check_client_id, check_update

PIXELS = (1, 255)
"""What white may be in the images of the original's clients: they train on their files as they are,
with grey values 0-1 or, as usual, 0-255."""

CLOSE = 0.005
"""Accuracies that are no further apart do not tell on which grey values a model has learned."""


def evaluate_on(classifier, test: Dataset, pixels: int | None = None) -> Evaluate:
    """A test of the global model that does not misjudge it: on images of 0-1 and of 0-255, for the
    server cannot see which its clients have; or on those that `pixels` says. Which it was is in
    the result.

    The better accuracy counts; within half a point, the lower loss: a model that has learned on
    0-1 is as often right on 0-255, but absurdly sure of itself there (losses of 0.1 and 20).
    """
    kinds = PIXELS if pixels is None else (pixels,)
    images = {kind: scaled(test, kind) for kind in kinds}
    for data in images.values():
        classifier.prepare_evaluation(data)

    def evaluate(weights: Weights) -> Tested:
        results = []
        for kind, data in images.items():
            loss, accuracy = classifier.evaluate(weights, data)
            results.append(Tested(loss, accuracy, kind, f"tested on grey values 0-{kind}"))
        best = max(tested.accuracy for tested in results)
        close = [tested for tested in results if tested.accuracy > best - CLOSE]
        return min(close, key=lambda tested: (math.isnan(tested.loss), tested.loss))

    return evaluate


def scaled(data: Dataset, pixels: int) -> Dataset:
    """These uint8 images as a model sees them whose white is `pixels`: 1 is the library's own."""
    if pixels == 1:
        return data
    return Dataset(data.x.astype(np.float32), data.y)


def client_id(received: str | None) -> str:
    """The id under which an original client takes part. Raises BadUpdate without one, Refused for
    one that cannot be.
    """
    if not received:
        raise BadUpdate("the field id is missing or empty; expected the client's id")
    return check_client_id(f"original-{received}"[:40].rstrip())


def exchange(federation: Federation, fields: Mapping[str, str], size: int) -> dict:
    """One request of an original client (its form or query, `size` bytes), and what to answer as
    JSON.

    It has no task: its updates are merged the moment they arrive. Raises BadUpdate for a bad one;
    then nothing has changed.
    """
    client = client_id(fields.get("id"))
    # It does not say how many examples it has: no more than the owner allows
    update, most = None, federation.limits.examples
    if fields.get("send") == "True":
        update = read_update(client, fields, federation.weights)
        # Before it joins: nothing has changed yet
        check_update(update, federation.weights, most)
    if client not in {member.client for member in federation.status().members}:
        # It ends by itself, when it has done its range
        federation.join(client, most, guest=True)
    if update is not None:
        federation.count_bytes(up=size)
        federation.report(update)
        return {"id": fields["id"], "message": "merged"}
    return {"id": fields["id"], "datasets": 0, "weights": [w.tolist() for w in federation.weights]}


def read_update(client: str, fields: Mapping[str, str], like: Weights) -> Update:
    """The update in the fields. Raises BadUpdate. Shapes and finite values are not checked here,
    but with every update.
    """
    try:
        count = int(fields.get("datasets", ""))
    except ValueError:
        raise BadUpdate(
            f"datasets is {str(fields.get('datasets'))[:40]!r}; expected a whole number of examples"
        ) from None
    return Update(client, 1, count, read_weights(fields.get("weights", ""), like))


def size_limit(weights: Weights) -> int:
    """The most bytes that a body may have: each weight is up to 25 characters, of which a form
    escapes some.
    """
    return 40 * sum(w.size for w in weights)


def write_weights(weights: Weights) -> str:
    """Weights as the original sends them: a JSON list of nested lists of numbers (about 4 MB for
    the 2NN).
    """
    return json.dumps([w.tolist() for w in weights])


def read_weights(text: str, like: Weights) -> Weights:
    """Weights from the original's JSON, as float32 arrays. `like` says how many arrays of which
    depth to expect.

    Raises BadUpdate.
    """
    # Before it is parsed: as lists of lists four million characters can become gigabytes.
    most = 1 + sum(math.prod(w.shape[:depth]) for w in like for depth in range(w.ndim))
    numbers = sum(w.size for w in like)
    lists = text.count("[") + text.count("{")
    if lists > most or text.count(",") > most + numbers:
        expected = f"expected at most {most:,} lists with {numbers:,} numbers"
        raise BadUpdate(f"weights has {lists:,} lists and {text.count(','):,} commas; {expected}")
    try:
        lists = json.loads(text, parse_constant=lambda _: math.nan)
        if not isinstance(lists, list) or len(lists) != len(like):
            received = f"{len(lists)} arrays" if isinstance(lists, list) else type(lists).__name__
            raise BadUpdate(f"weights is {received}; expected a JSON list of {len(like)} arrays")
        # What is too large becomes infinity, and is refused as that
        with np.errstate(over="ignore"):
            return [np.asarray(values, dtype=np.float32) for values in lists]
    except BadUpdate:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadUpdate(
            f"weights cannot be read ({str(error)[:120]}); expected a JSON list of nested lists of"
            " numbers"
        ) from None


@dataclass(frozen=True)
class Original:
    """Serve the original demonstration's own clients too: `Server(original_protocol=Original())`.

    pixels: the grey value of white in its clients' images, 255 or 1; both are tried, and the better
            one counts, if None.
    Raises Refused for other pixels.
    """

    pixels: int | None = None

    def __post_init__(self):
        if self.pixels not in (None, *PIXELS):
            expected = "expected 1, 255, or None for the better of the two"
            raise Refused(f"pixels is {self.pixels!r}; {expected}")

    def evaluate_on(self, classifier, test: Dataset) -> Evaluate:
        """As `evaluate_on` above, on these pixels."""
        return evaluate_on(classifier, test, self.pixels)

    client_id = staticmethod(client_id)
    exchange = staticmethod(exchange)
    size_limit = staticmethod(size_limit)
