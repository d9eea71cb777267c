"""The server's side: a fedlab Federation whose tasks travel as Flower's messages."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fedlab import wire
from fedlab.checks import Refused, counted, whole
from fedlab.data import Dataset
from fedlab.federation import Federation
from fedlab.flower.installed import FlowerError
from fedlab.flower.records import arrays_of, parts_of, size, task_records
from fedlab.history import History, RoundRecord
from fedlab.messages import BadUpdate, Conflict, RunOver, Task, TooFar, UnknownClient, Weights
from fedlab.model import Classifier
from fedlab.plan import Plan
from fedlab.strategies import Strategy, fed_avg

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

POLL = (0.02, 0.5)
"""Seconds between two looks for replies: the first, when something has just come, and the longest:
on real machines a look is a request."""

INTRODUCTION = 300.0
"""Seconds that nodes have to say who they are: on a real node, a process loads TensorFlow for
it."""


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
    seconds and bytes in the history are those of the rounds; bytes are of the arrays alone.

    Raises FlowerError when too few nodes come, two have one id, a node fails, or its training
    diverges; Refused for settings that cannot be; what `Federation.run` raises.
    """
    plan = plan_of(strategy, rounds, settings)
    least = strategy.min_updates if isinstance(strategy, Strategy) else 1
    whole("nodes", nodes, max(plan.min_clients, plan.min_updates, least))
    classifier = Classifier(model() if model else None, seed)
    evaluate = (lambda weights: classifier.evaluate(weights, test)) if test is not None else None
    if strategy is not None and not isinstance(strategy, Strategy):
        if strategy.min_available_nodes > nodes or strategy.min_train_nodes > nodes:
            raise Refused(
                f"got {counted(nodes, 'node')}; expected at least {strategy.min_available_nodes}"
                f" (min_available_nodes) with {type(strategy).__name__}"
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


def plan_of(strategy, rounds: int, settings: Mapping) -> Plan:
    """What a run does. Raises Refused for what the strategy cannot."""
    if isinstance(strategy, Strategy) and strategy.asynchronous:
        raise Refused(
            f"the strategy is {strategy.name}; expected one with rounds: Flower's runs have rounds"
        )
    if isinstance(strategy, Strategy) and strategy.client_side() is not None:
        raise Refused(
            f"the strategy is {strategy.name}; expected another: what its clients keep from one"
            " exchange to the next is in their process, and Flower may answer each message in a"
            " new one. For secure aggregation Flower has its own: SecAggPlusWorkflow"
        )
    more = sorted(set(settings) - {"epochs", "batch_size", "learning_rate", "optimizer"})
    if more and not (strategy is None or isinstance(strategy, Strategy)):
        raise Refused(
            f"got {', '.join(more)}; expected none of them with a strategy of Flower's own, which"
            " decides that: see its own options"
        )
    plan = Plan.of(rounds, **settings)
    if isinstance(strategy, Strategy):
        strategy.check(plan)
    return plan


def _wait_for(grid: Grid, nodes: int, patience: float) -> list[int]:
    end = time.monotonic() + patience
    while len(found := list(grid.get_node_ids())) < nodes:
        if time.monotonic() > end:
            raise FlowerError(
                f"found {counted(len(found), 'SuperNode')} within {patience:g} s; expected {nodes}:"
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
            f"{len(known)} of {counted(len(questions), 'node')} gave an id within {INTRODUCTION:g}"
            " s; expected all of them"
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
            messages = []
            for client, task in out:
                content, to = task_records(task), known[client][0]
                federation.count_bytes(down=size(content["arrays"]))
                where = {"dst_node_id": to, "message_type": MessageType.TRAIN}
                messages.append(Message(content=content, group_id=str(task.round), **where))
            sent = list(grid.push_messages(messages)) if messages else []
            if len(sent) < len(out) or not all(sent):
                raise FlowerError(
                    f"{sum(map(bool, sent))} of {counted(len(out), 'message')} could be"
                    " sent; expected all: are the nodes connected?"
                )
            waiting |= {
                number: (client, task.round)
                for number, (client, task) in zip(sent, out, strict=True)
            }
            replies = list(grid.pull_messages(list(waiting))) if waiting else []
            for reply in replies:
                client, round = waiting.pop(reply.metadata.reply_to_message_id)
                if reply.has_error() and plan.deadline:
                    excuse(federation, client, round, known[client][1])
                else:
                    _report(federation, reply, client, round, known[client][1])
            pause = POLL[0] if replies or out else min(1.5 * pause, POLL[1])
            over.wait(pause)
    except BaseException as error:
        # Flower's "the run was stopped" is no Exception. `serve` raises it in the main thread.
        federation.fail(error)


def excuse(federation: Federation, client: str, round: int, num_examples: int) -> None:
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
    arrays = _content(reply, client, "arrays")
    sent = parts_of(arrays, _content(reply, client, "config"))
    federation.count_bytes(up=size(arrays))
    try:
        federation.report(replace(wire.update_from(sent), client=client))
    except (Conflict, RunOver, TooFar):
        pass  # after its round's deadline or an error of its own, or the round goes on without it
    except UnknownClient:
        # It was silent for so long that no round waited for it any more: it is there again.
        federation.join(client, num_examples)
    except BadUpdate as error:
        raise FlowerError(
            f"{client} sent an update that cannot be, in round {round}: {error}"
        ) from None


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
        initial_arrays=arrays_of(wire.parts(weights)),
        num_rounds=plan.rounds,
        train_config=task_records(Task(0, 0, [], plan.training, seed))["config"],
        evaluate_fn=test,
    )
    return history
