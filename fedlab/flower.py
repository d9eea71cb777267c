"""The same federation on Flower (flwr.ai), for when one machine is not enough: the same model,
partition, local training and strategies.

A Flower app is two parts. The `ClientApp` answers messages on every node: it calls the very
training that `simulate` calls. The `ServerApp`
runs once: here it is a fedlab `Federation`, whose tasks travel as Flower's messages. Which engine
           carries them, a simulation or real
machines, is decided by how the app is started. The only file that imports flwr (the optional extra
"flower"), and only when it is used.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.messages import (
    BadUpdate,
    Conflict,
    Refused,
    RunOver,
    Task,
    Training,
    UnknownClient,
    Update,
    Weights,
    local_seed,
)
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.progress import rounds_bar
from fedlab.simulation import Transform, named_clients
from fedlab.strategy import Strategy, fed_avg

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp

SUPPORTED = ((1, 41), (2, 0))
"""From this version of Flower on, and before that one."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",  # nothing is reported to Flower's makers,
    "RAY_USAGE_STATS_ENABLED": "0",  # nor to Ray's
    "FLWR_DISABLE_UPDATE_CHECK": "1",  # works without internet
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns of a coming change in how it hides GPUs
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": (
        "0"
    ),  # the workers use this environment, also where uv started us
}
"""Environment of everything of Flower that fedlab starts; who has set one of these has decided."""

POLL = (0.02, 0.5)
"""Seconds between two looks for replies: the first, when something has just come, and the longest:
on real machines a look is a request."""

INTRODUCTION = 300.0
"""Seconds that nodes have to say who they are: on a real node, a process loads TensorFlow for
it."""


class FlowerError(RuntimeError):
    """Flower, or a run on it, is not as expected; the message says what was found and what was
    expected.
    """


def check_flower() -> None:
    """Raises FlowerError unless a supported Flower is installed. Switches off what it would report
    and look up, before it is first imported.
    """
    expected = f"expected flwr {SUPPORTED[0][0]}.{SUPPORTED[0][1]} or a later {SUPPORTED[0][0]}.x"
    how = (
        "python -m pip install -r requirements-flower.txt in fedlab's folder (or: make flower)"
        " installs it"
    )
    try:
        version = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        raise FlowerError(f"Flower is not installed; {expected}: {how}") from None
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        raise FlowerError(f"the Flower that is installed is flwr {version}; {expected}: {how}")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Imported before, by somebody else: it has read its variable already
    if telemetry := sys.modules.get("flwr.supercore.telemetry"):
        telemetry.FLWR_TELEMETRY_ENABLED = os.environ["FLWR_TELEMETRY_ENABLED"]


# ---- the client's side ---------------------------------------------------------------------------


def client_app(
    data: Callable[[Context], tuple[str, Dataset]],
    *,
    model: Callable[[], object] | None = None,
    transforms: Sequence[Transform] = (),
) -> ClientApp:
    """A Flower ClientApp that trains as fedlab's clients do.

    data:       called with Flower's context (its `node_config` says which node this is): the
                client's id, and its own examples.
    model:      a function that builds the Keras classifier; the 2NN if None. A function, because it
                runs in other processes.
    transforms: what happens to an update before it leaves, in order.

    It answers `train` (weights in, weights, number of examples and loss out), `evaluate` (loss and
    accuracy of the global model on its own examples) and `query` (its id and number of examples).
    Raises FlowerError without a supported Flower.
    """
    check_flower()
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app, key = ClientApp(), uuid.uuid4().hex

    def classifier() -> Classifier:
        return _once((key, "model"), lambda: Classifier(model() if model else None))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        client, own = data(context)
        about = ConfigRecord({"client": client, "num-examples": len(own)})
        return Message(content=RecordDict({"about": about}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client, own = data(context)
        task = _task(message)
        weights, loss = classifier().train(
            task.weights, own, task.training, local_seed(task.seed, task.round, client)
        )
        update = Update(client, task.round, len(own), weights)
        for transform in transforms:
            update = transform(update)
        content = {
            "arrays": ArrayRecord(update.weights),
            "metrics": MetricRecord({"num-examples": update.num_examples, "train-loss": loss}),
        }
        return Message(content=RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client, own = data(context)
        loss, accuracy = classifier().evaluate(message.content["arrays"].to_numpy_ndarrays(), own)
        metrics = MetricRecord({"num-examples": len(own), "loss": loss, "accuracy": accuracy})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=message)

    return app


def _task(message: Message) -> Task:
    """The Task in a `train` message, our own server's or one of Flower's strategies'."""
    config = message.content["config"]
    training = Training(
        config["epochs"], config["batch-size"] or None, config["learning-rate"], config["optimizer"]
    )
    weights = message.content["arrays"].to_numpy_ndarrays()
    return Task(config["server-round"], 0, weights, training, int(config["seed"]))


_kept: dict = {}


def _once(key, make: Callable):
    """`make()`, the first time in this process: Flower sends an app anew with every message to a
    simulated node.
    """
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


# ---- the server's side ---------------------------------------------------------------------------


def serve(
    grid: Grid,
    *,
    nodes: int,
    test: Dataset | None = None,
    strategy=None,
    model: Callable[[], object] | None = None,
    seed: int = 0,
    rounds: int = 10,
    patience: float = 60.0,
    on_round: Callable[[RoundRecord], None] | None = None,
    checkpoint: str | None = None,
    ended: threading.Event | None = None,
    **settings,
) -> History:
    """Run the federation over Flower's nodes: what the main function of a Flower ServerApp does.

    nodes:    how many nodes to wait for, at most `patience` seconds.
    strategy: a fedlab Strategy with rounds (FedAvg if None): then a fedlab `Federation` runs the
              rounds, chooses the participants, tests and aggregates, and the weights are those of
              `simulate`, bit for bit on machines of one kind. Or a strategy of Flower's own
              (`flwr.serverapp.strategy`): then Flower does, sums in another order and precision
              (after one round equal to some 1e-7), goes on without nodes that fail, and the history
              has no bytes.
    ended:    set by whoever runs the engine when it has ended: nothing will answer any more.
    settings: epochs, batch_size, learning_rate, optimizer, and for fedlab's strategies fraction,
              deadline, target, ... as in `Plan.of`. With a deadline a round goes on without nodes
              that fail or are late; without one, the run ends with what they said.
    seconds and bytes in the history are those of the rounds; bytes are of the weights alone.

    Raises FlowerError when too few nodes come, two have one id, a node fails, or its training
    diverges; Refused for settings that cannot be; what `Federation.run` raises.
    """
    plan = _plan(strategy, rounds, settings)
    if (
        isinstance(nodes, bool)
        or not isinstance(nodes, int)
        or not max(1, plan.min_clients) <= nodes
    ):
        raise Refused(
            f"nodes is {nodes!r}; expected a whole number from {max(1, plan.min_clients)}"
        )
    classifier = Classifier(model() if model else None, seed)
    evaluate = (lambda weights: classifier.evaluate(weights, test)) if test is not None else None
    if strategy is not None and not isinstance(strategy, Strategy):
        if strategy.min_available_nodes > nodes or strategy.min_train_nodes > nodes:
            raise Refused(
                f"{type(strategy).__name__} wants at least {strategy.min_available_nodes} nodes"
                f" (min_available_nodes), and there are {nodes}"
            )
        _wait_for(grid, nodes, patience)
        return _run_flowers(grid, strategy, plan, classifier.weights, seed, evaluate, on_round)

    known = _introduced(grid, _wait_for(grid, nodes, patience))
    federation = Federation(
        classifier.weights,
        strategy or fed_avg(),
        evaluate=evaluate,
        seed=seed,
        checkpoint=checkpoint,
    )
    for client, (_, num_examples) in known.items():
        federation.join(client, num_examples)
    over = threading.Event()
    carrier = threading.Thread(
        target=_carry,
        args=(grid, federation, known, plan, over, ended),
        name="fedlab-flower",
        daemon=True,
    )
    federation.start(plan)  # first: the carrier may have something to complain of at once
    carrier.start()
    try:
        return federation.wait(on_round)
    finally:
        over.set()
        federation.stop()
        carrier.join()


def _plan(strategy, rounds: int, settings: Mapping) -> Plan:
    """What a run does. Raises Refused for what the strategy cannot."""
    if isinstance(strategy, Strategy) and strategy.asynchronous:
        raise Refused(
            f"the strategy is {strategy.name}; expected one with rounds: Flower's runs have rounds"
        )
    more = sorted(set(settings) - {"epochs", "batch_size", "learning_rate", "optimizer"})
    if more and not (strategy is None or isinstance(strategy, Strategy)):
        raise Refused(
            f"got {', '.join(more)}; expected none of them with a strategy of Flower's own, which"
            " decides that: see its own options"
        )
    return Plan.of(rounds, **settings)


def _wait_for(grid: Grid, nodes: int, patience: float) -> list[int]:
    end = time.monotonic() + patience
    while len(found := list(grid.get_node_ids())) < nodes:
        if time.monotonic() > end:
            raise FlowerError(
                f"{len(found)} SuperNodes are connected after {patience:g} s; expected {nodes}:"
                " start the others, or ask for fewer"
            )
        time.sleep(0.5)
    return found


def _introduced(grid: Grid, nodes: Iterable[int]) -> dict[str, tuple[int, int]]:
    """Client id -> (node id, number of examples): Flower's nodes have random numbers, and ours have
    names.
    """
    from flwr.app import Message, MessageType, RecordDict

    questions = [
        Message(content=RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)
        for node in nodes
    ]
    known: dict[str, tuple[int, int]] = {}
    for reply in grid.send_and_receive(questions, timeout=INTRODUCTION):
        about = _content(reply, f"node {reply.metadata.src_node_id}", "about")
        client = str(about["client"])
        if client in known:
            raise FlowerError(
                f"two nodes say that they are {client!r}; expected each node to have an id of"
                " its own"
            )
        known[client] = (reply.metadata.src_node_id, int(about["num-examples"]))
    if len(known) < len(questions):
        raise FlowerError(
            f"{len(known)} of {len(questions)} nodes said who they are within {INTRODUCTION:g} s;"
            " expected all of them"
        )
    return known


def _content(reply: Message, who: str, record: str):
    if reply.has_error():
        raise FlowerError(f"{who} failed: {reply.error.reason or f'error {reply.error.code}'}")
    if record not in reply.content:
        raise FlowerError(
            f"{who} answered with {sorted(reply.content)}; expected {record!r} in it: is it a"
            " client_app of fedlab's?"
        )
    return reply.content[record]


def _carry(
    grid: Grid,
    federation: Federation,
    known: Mapping[str, tuple[int, int]],
    plan: Plan,
    over: threading.Event,
    ended: threading.Event | None,
) -> None:
    """Between the federation and Flower, until the run is over: tasks out as messages, replies in
    as updates.
    """
    from flwr.app import Message, MessageType

    waiting: dict[str, tuple[str, int]] = {}  # message id -> client, round
    pause = POLL[0]
    try:
        while not over.is_set():
            if ended is not None and ended.is_set():
                raise FlowerError(
                    "Flower's engine ended before the run did; expected it to go on: was it"
                    " interrupted?"
                )
            out = []
            while (taken := federation.take()) is not None:
                out.append(taken)
            messages = [
                Message(
                    content=_outgoing(task),
                    dst_node_id=known[client][0],
                    message_type=MessageType.TRAIN,
                    group_id=str(task.round),
                )
                for client, task in out
            ]
            sent = list(grid.push_messages(messages)) if messages else []
            if len(sent) < len(out) or not all(sent):
                raise FlowerError(
                    f"{sum(map(bool, sent))} of {len(out)} messages could be sent; expected all:"
                    " are the nodes connected?"
                )
            waiting |= {
                number: (client, task.round)
                for number, (client, task) in zip(sent, out, strict=True)
            }
            replies = list(grid.pull_messages(list(waiting))) if waiting else []
            for reply in replies:
                client, round = waiting.pop(reply.metadata.reply_to_message_id)
                if reply.has_error() and plan.deadline:
                    _excuse(federation, client, round, known[client][1])
                else:
                    _report(federation, reply, client, round, known[client][1])
            pause = POLL[0] if replies or out else min(1.5 * pause, POLL[1])
            over.wait(pause)
    except BaseException as error:
        # Flower's "the run was stopped" is no Exception. `serve` raises it in the main thread.
        federation.fail(error)


def _excuse(federation: Federation, client: str, round: int, num_examples: int) -> None:
    """A node says that it failed: the round does not wait for it, and later ones ask it again."""
    status = federation.status()
    joined = client in {member.client for member in status.members}
    if joined and round == status.round:
        federation.leave(client)
    # What it failed in may be an earlier round: that changes nothing in this one
    if not joined or round == status.round:
        federation.join(client, num_examples)


def _report(
    federation: Federation, reply: Message, client: str, round: int, num_examples: int
) -> None:
    metrics, weights = (
        _content(reply, client, "metrics"),
        _content(reply, client, "arrays").to_numpy_ndarrays(),
    )
    size = sum(w.nbytes for w in weights)
    federation.count_bytes(size, size)
    try:
        federation.report(Update(client, round, int(metrics["num-examples"]), weights))
    except (Conflict, RunOver):
        pass  # it came after its round's deadline, or after an error of its own
    except UnknownClient:
        # It was silent for so long that no round waited for it any more: it is there again
        federation.join(client, num_examples)
    except BadUpdate as error:
        raise FlowerError(
            f"{client} sent an update that cannot be, in round {round}: {error}"
        ) from None


def _outgoing(task: Task):
    from flwr.app import ArrayRecord, RecordDict

    return RecordDict(
        {
            "arrays": ArrayRecord(task.weights),
            "config": _config(task.training, task.seed, **{"server-round": task.round}),
        }
    )


def _config(training: Training, seed: int, **more):
    """What a `train` message says beside the weights. Flower's records have no None: 0 is "all",
    and a seed may be too large for a number.
    """
    from flwr.app import ConfigRecord

    fields = {
        "epochs": training.epochs,
        "batch-size": training.batch_size or 0,
        "optimizer": training.optimizer,
    }
    return ConfigRecord(
        {**fields, "learning-rate": float(training.learning_rate), "seed": str(seed), **more}
    )


def _run_flowers(
    grid: Grid, strategy, plan: Plan, weights: Weights, seed: int, evaluate, on_round
) -> History:
    """Rounds by a strategy of Flower's own; it asks for a test before the first round and after
    each.
    """
    from flwr.app import ArrayRecord, MetricRecord

    history, began = History(), time.perf_counter()

    def test(round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if round:
            loss, accuracy = (
                evaluate(arrays.to_numpy_ndarrays()) if evaluate else (math.nan, math.nan)
            )
            history.append(RoundRecord(round, accuracy, loss, time.perf_counter() - began))
            if on_round:
                on_round(history.last)
        return None

    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(weights),
        num_rounds=plan.rounds,
        train_config=_config(plan.training, seed),
        evaluate_fn=test,
    )
    return history


# ---- both, from what a lesson has ----------------------------------------------------------------


def to_flower(
    partition: Callable[[], Mapping[str, Dataset] | Sequence[Dataset]],
    *,
    test: Dataset | None = None,
    model: Callable[[], object] | None = None,
    strategy=None,
    transforms: Sequence[Transform] = (),
    seed: int = 0,
    rounds: int = 10,
    **settings,
) -> FlowerApp:
    """The federation that `simulate(partition(), ...)` runs, as a Flower app.

    partition: a function that deals the examples: a data set for each client, as `simulate` takes
               them. A function, because it is called in Flower's worker processes, once in each,
               instead of sending them the images.
    model, strategy, transforms, seed, rounds, settings: as in `client_app` and `serve`.
    Raises FlowerError without a supported Flower, DataError or Refused for what cannot be, before
    anything is started.
    """
    check_flower()
    from flwr.serverapp import ServerApp

    _plan(strategy, rounds, settings)  # refuses what cannot be, at once
    clients = len(named_clients(partition()))
    server, key, outcome = ServerApp(), uuid.uuid4().hex, _Outcome()

    def own(context: Context) -> tuple[str, Dataset]:
        dealt = _once((key, "clients"), lambda: list(named_clients(partition()).items()))
        return dealt[int(context.node_config["partition-id"])]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            of_this_run = {"rounds": rounds, "on_round": outcome.on_round, "ended": outcome.ended}
            outcome.history = serve(
                grid,
                nodes=clients,
                test=test,
                strategy=strategy,
                model=model,
                seed=seed,
                **of_this_run,
                **settings,
            )
        except Exception as error:  # Flower would log it, and go on: `run` raises it
            outcome.error = error

    return FlowerApp(
        server, client_app(own, model=model, transforms=transforms), clients, rounds, outcome
    )


class _Outcome:
    """What the server's main function leaves behind: Flower takes no return value of it."""

    history: History | None = None
    error: Exception | None = None
    on_round: Callable[[RoundRecord], None] | None = None
    ended: threading.Event | None = None


@dataclass(frozen=True)
class FlowerApp:
    """A federation as a Flower app.

    server, client: the two parts, as Flower starts them.
    clients:        how many there are.
    rounds:         how many a run has.
    """

    server: ServerApp
    client: ClientApp
    clients: int
    rounds: int
    _outcome: _Outcome

    def run(self, workers: int | None = None, progress: bool = True) -> History:
        """Run it by Flower's simulation engine (Ray): every client in one of `workers` processes
        (default: one a core).

        Starting takes some twenty seconds: each worker loads TensorFlow. Raises FlowerError when
        Ray is not installed, Refused for a number of workers that cannot be, or what the run
        raised.
        """
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
        ):
            raise Refused(
                f"workers is {workers!r}; expected a whole number from 1, or None for the number of"
                " cores"
            )
        check_flower()
        try:
            import ray
        except ImportError:
            raise FlowerError(
                "Ray is not installed; expected it for a simulation: flwr[simulation], in"
                " requirements-flower.txt"
            ) from None
        import logging
        import warnings

        from flwr.simulation import run_simulation

        workers = min(workers or os.cpu_count() or 1, self.clients)
        self._outcome.history, self._outcome.error, self._outcome.ended = (
            None,
            None,
            threading.Event(),
        )
        logging.getLogger("flwr").setLevel(logging.ERROR)
        with rounds_bar(self.rounds, shown=progress) as show, warnings.catch_warnings():
            self._outcome.on_round = show
            # Ray's and Flower's own; what concerns the run is raised
            warnings.simplefilter("ignore")
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
            try:
                one_core = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
                run_simulation(
                    self.server, self.client, num_supernodes=self.clients, backend_config=one_core
                )
            finally:
                # after an interrupt the server's thread would wait for answers for ever
                self._outcome.ended.set()
                ray.shutdown()
        if self._outcome.error is not None:
            raise self._outcome.error
        if self._outcome.history is None:
            raise FlowerError(
                "Flower's simulation ended without a result; expected one: its log says why"
            )
        return self._outcome.history
