"""A whole federation in one process: the same Federation and the same training as over HTTP, with
no HTTP between them."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedlab.checks import counted, whole
from fedlab.data import DataError, Dataset
from fedlab.federation import Federation
from fedlab.federation.clock import Clock
from fedlab.history import History, RoundRecord
from fedlab.messages import BadUpdate, Codec, Refused, Task, Training, Update, Weights
from fedlab.model import Classifier, TrainingStopped, chunk_shape
from fedlab.participant import Answer, Participant, Transform
from fedlab.plan import FIXED, Plan
from fedlab.progress import rounds_bar
from fedlab.strategies import State, Strategy, fed_avg
from fedlab.strategies.scaffold import correction
from fedlab.wire import encode_task, encode_update


def check_clients(strategy: Strategy, clients: int) -> None:
    """Raise Refused when no round of this strategy could succeed with so many clients."""
    if strategy.min_updates > clients:
        raise Refused(
            f"got {counted(clients, 'client')}; expected at least {strategy.min_updates} with the"
            f" strategy {strategy.identity}"
        )


def simulate(
    clients: Mapping[str, Dataset] | Sequence[Dataset],
    *,
    test: Dataset | None = None,
    rounds: int = 10,
    fraction: float = 1.0,
    sampling: str = FIXED,
    epochs: int = 1,
    batch_size: int | None = 32,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
    strategy: Strategy | None = None,
    model=None,
    seed: int = 0,
    target: float | None = None,
    deadline: float | None = None,
    enough: int | None = None,
    evaluate_every: int = 1,
    codec: Codec | None = None,
    clock: Driver | None = None,
    evaluate_clients: bool = False,
    transforms: Sequence[Transform] = (),
    phases: Mapping[str, Answer] | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_round: Callable[[RoundRecord], None] | None = None,
    on_model: Callable[[int, Weights], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Run FedAvg (or another synchronous strategy) over hundreds or thousands of clients in worker
    threads.

    clients:  a data set each; a mapping gives them their ids, a list gives client-0000,
              client-0001, ...
    rounds, fraction (C), sampling, epochs (E), batch_size (B), learning_rate, optimizer, target,
    deadline, enough, evaluate_every, codec: as in `Plan` and `Training`.
    clock:    how fast each client is, a `VirtualClock`: then time is virtual, and strategies
              without rounds can be simulated too. Without one, as fast as this machine goes.
    model:    a built Keras classifier; the 2NN with weights from `seed` if None.
    transforms: what happens to an update before it leaves a client, in order; phases: how clients
              answer phases other than training: as in `Participant`.
    evaluate_clients: test each client's own model on `test` too (as clients over HTTP do): slow
                      with many clients.
    workers:  threads that train; one more than there are cores if None. The result is the same, bit
              for bit, for any number.
    on_round: called with each new record, in the calling thread.
    on_model: called with the round's number and each new global model once it is tested, in a
              background thread: with `models = {}`, `on_model=models.__setitem__` keeps all.
    stop:     asked by the workers, between compiled calls; True ends the run at once, as an
              interrupt does.

    Returns the history; a kernel interrupt or Ctrl-C ends the run at once and returns the history
    so far.
    Raises Refused or DataError for settings that cannot be, Diverged (with the history so far) when
    training leaves the finite numbers.
    """
    named = named_clients(clients)
    strategy = strategy or fed_avg()
    if clock is None and (strategy.asynchronous or deadline is not None or enough is not None):
        what = f"the strategy {strategy.name}" if strategy.asynchronous else "a deadline or enough"
        raise Refused(
            f"got {what} and no clock; expected also clock=fedlab.VirtualClock(speed=...): it"
            " matters there who comes first"
        )
    check_clients(strategy, len(named))
    if workers is not None:
        whole("workers", workers, more=", or None for one more than there are cores")
    training = Training(epochs, batch_size, learning_rate, optimizer)
    plan = Plan(
        rounds,
        training,
        fraction,
        deadline=deadline,
        enough=enough,
        evaluate_every=evaluate_every,
        target=target,
        sampling=sampling,
        codec=codec,
    )
    strategy.check(plan)
    side = strategy.client_side()
    classifier = Classifier(model, seed)
    evaluate = (lambda weights: classifier.evaluate(weights, test)) if test is not None else None
    own_test = test if evaluate_clients else None
    about = {"test": own_test, "transforms": transforms, "phases": phases, "side": side}
    if codec is not None:
        about["codecs"] = {codec.name: codec}.__getitem__
    participants = {
        name: Participant(name, data, classifier, **about) for name, data in named.items()
    }

    def begin(time: Clock | None = None) -> Federation:
        about = {"evaluate": evaluate, "seed": seed, "on_model": on_model, "clock": time}
        federation = Federation(classifier.weights, strategy, **about)
        for name, data in named.items():
            federation.join(name, len(data), len(participants[name].shards))
        return federation

    # Compile before the clock of the first round starts.
    compile_for(classifier, named.values(), strategy, training)
    if test is not None:
        classifier.prepare_evaluation(test)
    # One more than cores: while one of them packs or reports, and at the end of a round, another
    # has a core to train on.
    number = min(workers or (os.cpu_count() or 1) + 1, len(named))
    play = Play(begin, participants, plan, number, stop or (lambda: False))
    total = None if clock else rounds  # it may end by its own clock, long before
    with rounds_bar(total, on_round, shown=progress) as show:
        return (clock.run if clock else in_threads)(play, show)


@dataclass(frozen=True)
class Play:
    """A simulation, for what drives it.

    begin:   makes the federation, which all have joined; by another clock where one is given.
    workers: how many threads may train. stop: asked between compiled calls, True ends it at once.
    """

    begin: Callable[[Clock | None], Federation]
    participants: Mapping[str, Participant]
    plan: Plan
    workers: int
    stop: Callable[[], bool]


class Driver(Protocol):
    """What plays all clients, by a clock of its own: a `VirtualClock`."""

    def run(self, play: Play, show: Callable[[RoundRecord], None]) -> History:
        """From the first round to the last; `show` is called with each record."""


def in_threads(play: Play, show: Callable[[RoundRecord], None]) -> History:
    """Worker threads take one participant's task after the other, as fast as they can."""
    federation, participants = play.begin(None), play.participants
    stopped = threading.Event()

    def enough() -> bool:
        return stopped.is_set() or play.stop()

    def work() -> None:
        """One worker: the next participant's task, train, report; again."""
        size = sizes()
        try:
            while not enough():
                # Short: the end of a run is not announced to those who wait here.
                taken = federation.take(wait=0.02)
                if taken is not None:
                    client, task = taken
                    update = participants[client].answer(task, stop=enough)
                    hand_in(federation, participants[client], task, update, size)
        except TrainingStopped:
            pass
        except Exception as error:  # raised again by `wait`, in the caller's thread
            # Else the run was ended while this client trained: its update is not wanted, and no
            # mistake.
            if not stopped.is_set():
                federation.fail(error)
        stopped.set()  # first, for the others
        federation.stop(timeout=0)

    threads = [
        threading.Thread(target=work, name=f"fedlab-worker-{i}", daemon=True)
        for i in range(play.workers)
    ]
    try:
        # Before the workers: the first of them may find that it is to stop
        federation.start(play.plan)
        for thread in threads:
            thread.start()
        return federation.wait(show)
    except KeyboardInterrupt:
        return federation.history
    finally:
        stopped.set()
        federation.stop()
        for thread in threads:
            # An interrupt may come before all of them have been started
            if thread.ident is not None:
                thread.join()


def hand_in(
    federation: Federation,
    participant: Participant,
    task: Task,
    update: Update,
    size: Callable[[Task], int],
) -> None:
    """Report an update, and count the bytes that it and its task would have had on the wire.

    size: of a task, from `sizes`. Raises what `Federation.report` does.
    """
    federation.count_bytes(size(task), len(encode_update(update)))
    try:
        federation.report(update)
    except BadUpdate as error:
        where = f"{update.client}'s update of round {task.round}, after its transforms"
        raise type(error)(f"{where}: {error}") from None
    participant.settle(taken=True)


def sizes() -> Callable[[Task], int]:
    """What tells a task's bytes: once for a task that several get."""
    return functools.lru_cache(maxsize=1)(lambda task: len(encode_task(task)))


def compile_for(
    classifier: Classifier, clients: Iterable[Dataset], strategy: Strategy, training: Training
) -> None:
    """Compile what local training will need under this strategy, once for each shape of data."""
    task = Task(1, 1, classifier.weights, training)
    task = strategy.prepare(task, State(classifier.weights))
    added = correction(task, {})
    for data in {chunk_shape(training.batch_size, len(data)): data for data in clients}.values():
        classifier.prepare(data, task.training, added)


def named_clients(clients: Mapping[str, Dataset] | Sequence[Dataset]) -> dict[str, Dataset]:
    """Clients by id: a list gets client-0000, client-0001, ... Raises DataError for none, or one
    without examples.
    """
    if not isinstance(clients, Mapping):
        # Leading zeros: the order of the ids is the order of the list
        width = max(4, len(str(len(clients) - 1)))
        clients = {f"client-{i:0{width}d}": data for i, data in enumerate(clients)}
    if not clients:
        raise DataError("got no clients; expected at least one data set")
    for name, data in clients.items():
        if not len(data):
            raise DataError(f"{name} has no examples; expected at least one for every client")
    return dict(clients)
