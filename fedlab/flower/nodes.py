"""The client's side: what answers messages on every node."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fedlab import wire
from fedlab.checks import Refused
from fedlab.codecs import codec
from fedlab.data import Dataset
from fedlab.flower.installed import check_flower
from fedlab.flower.records import MEMORY, arrays_of, remembered, task_from, update_records
from fedlab.messages import Diverged
from fedlab.model import Classifier
from fedlab.participant import Answer, Participant, Transform

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp


FAILED = 2
"""Flower's code of an error in a client's app (flwr.common.constant.ErrorCode)."""


def client_app(
    data: Callable[[Context], tuple[str, Dataset]],
    *,
    model: Callable[[], object] | None = None,
    transforms: Sequence[Transform] = (),
    phases: Mapping[str, Answer] | None = None,
) -> ClientApp:
    """A Flower ClientApp that trains as fedlab's clients do.

    data:       called with Flower's context (its `node_config` says which node this is): the
                client's id, and its own examples.
    model:      a function that builds the Keras classifier; the 2NN if None. A function, because it
                runs in other processes.
    transforms, phases: as in `Participant`. What it remembers from round to round is in the node's
                state.

    It answers `train` (a task in, an update out), `evaluate` (loss and
    accuracy of the global model on its own examples) and `query` (its id and number of examples).
    Raises FlowerError without a supported Flower.
    """
    check_flower()
    from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app, key = ClientApp(), uuid.uuid4().hex

    def classifier() -> Classifier:
        return kept((key, "model"), lambda: Classifier(model() if model else None))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        client, own = data(context)
        about = ConfigRecord({"client": client, "num-examples": len(own)})
        return Message(content=RecordDict({"about": about}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client, own = data(context)
        try:
            participant = Participant(
                client,
                own,
                classifier(),
                transforms=transforms,
                memory=remembered(context),
                phases=phases,
                codecs=codec,
            )
            update = participant.answer(task_from(message))
            participant.settle(taken=True)  # nobody tells a node how its update fared
            # Kept by the node, from round to round of this run.
            context.state[MEMORY] = arrays_of(wire.parts([], participant.memory))
        except (Diverged, Refused) as error:  # a sentence, in place of Flower's traceback
            return Message(Error(FAILED, str(error)), reply_to=message)
        records = update_records(update, participant.train_loss)
        return Message(content=records, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client, own = data(context)
        weights = message.content["arrays"].to_numpy_ndarrays()
        loss, accuracy = classifier().evaluate(weights, own)
        metrics = MetricRecord({"num-examples": len(own), "loss": loss, "accuracy": accuracy})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=message)

    return app


_kept: dict = {}


def kept(key, make: Callable):
    """`make()`, the first time in this process: Flower sends an app anew with every message to a
    simulated node.
    """
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]
