"""A whole federation in one process: the same Federation and the same training as over HTTP, with
no HTTP between them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from fedlab.checks import counted, whole
from fedlab.data import DataError, Dataset
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.messages import BadUpdate, Refused, Task, Training, Weights
from fedlab.model import Classifier, TrainingStopped, chunk_shape
from fedlab.participant import Answer, Participant, Transform
from fedlab.plan import Plan
from fedlab.progress import rounds_bar
from fedlab.strategies import State, Strategy, fed_avg
from fedlab.strategies.scaffold import correction
from fedlab.wire import encode_task, encode_update


def simulate(
    clients: Mapping[str, Dataset] | Sequence[Dataset],
    *,
    test: Dataset | None = None,
    rounds: int = 10,
    fraction: float = 1.0,
    epochs: int = 1,
    batch_size: int | None = 32,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
    strategy: Strategy | None = None,
    model=None,
    seed: int = 0,
    target: float | None = None,
    evaluate_every: int = 1,
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
    rounds, fraction (C), epochs (E), batch_size (B), learning_rate, optimizer, target,
    evaluate_every: as in `Plan` and `Training`.
    model:    a built Keras classifier; the 2NN with weights from `seed` if None.
    transforms: what happens to an update before it leaves a client, in order; phases: how clients
              answer phases other than training: as in `Participant`.
    evaluate_clients: test each client's own model on `test` too (as clients over HTTP do): slow
                      with many clients.
    workers:  threads that train; one more than there are cores if None. The result is the same, bit
              for bit, for any number.
    on_round: called with each new record, in the calling thread.
    on_model: called with the round's number and each new global model before it is tested, in a
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
    if strategy.asynchronous:
        raise Refused(
            f"the strategy is {strategy.name}; expected one with rounds: who comes first is not"
            " simulated"
        )
    if strategy.min_updates > len(named):
        raise Refused(
            f"got {counted(len(named), 'client')}; expected at least {strategy.min_updates} with"
            f" the strategy {strategy.identity}"
        )
    if workers is not None:
        whole("workers", workers, more=", or None for one more than there are cores")
    training = Training(epochs, batch_size, learning_rate, optimizer)
    plan = Plan(rounds, training, fraction, evaluate_every=evaluate_every, target=target)
    strategy.check(training)
    classifier = Classifier(model, seed)
    evaluate = (lambda weights: classifier.evaluate(weights, test)) if test is not None else None
    federation = Federation(
        classifier.weights, strategy, evaluate=evaluate, seed=seed, on_model=on_model
    )
    own_test = test if evaluate_clients else None
    participants = {
        name: Participant(
            name, data, classifier, test=own_test, transforms=transforms, phases=phases
        )
        for name, data in named.items()
    }
    for name, data in named.items():
        federation.join(name, len(data))
    # Compile before the clock of the first round starts.
    compile_for(classifier, named.values(), strategy, training)
    if test is not None:
        classifier.prepare_evaluation(test)
    stopped = threading.Event()

    def enough() -> bool:
        return stopped.is_set() or (stop is not None and stop())

    def work() -> None:
        """One worker: the next participant's task, train, report; again."""
        sizes: dict[str, tuple[int, int]] = {}
        try:
            while not enough():
                # Short: the end of a run is not announced to those who wait here.
                taken = federation.take(wait=0.02)
                if taken is None:
                    continue
                client, task = taken
                update = participants[client].answer(task, stop=enough)
                # Every message of a phase has the same size, but for a digit or two of its header.
                if task.phase not in sizes:
                    sizes[task.phase] = len(encode_task(task)), len(encode_update(update))
                federation.count_bytes(*sizes[task.phase])
                try:
                    federation.report(update)
                except BadUpdate as error:
                    where = f"{client}'s update of round {task.round}, after its transforms"
                    raise type(error)(f"{where}: {error}") from None
                participants[client].settle(taken=True)
        except TrainingStopped:
            pass
        except Exception as error:  # raised again by `wait`, in the caller's thread
            # Else the run was ended while this client trained: its update is not wanted, and no
            # mistake.
            if not stopped.is_set():
                federation.fail(error)
        stopped.set()  # first, for the others
        federation.stop(timeout=0)

    # One more than cores: while one of them packs or reports, and at the end of a round, another
    # has a core to train on.
    number = min(workers or (os.cpu_count() or 1) + 1, len(named))
    threads = [
        threading.Thread(target=work, name=f"fedlab-worker-{i}", daemon=True) for i in range(number)
    ]
    try:
        with rounds_bar(rounds, on_round, shown=progress) as show:
            # Before the workers: the first of them may find that it is to stop
            federation.start(plan)
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
