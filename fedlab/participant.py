"""One client's side of a round: the only one. HTTP, the simulation and Flower all call it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from fedlab.data import Dataset
from fedlab.messages import (
    DENSE,
    TRAIN,
    Codec,
    Diverged,
    NotFinite,
    Refused,
    Task,
    Update,
    Weights,
    check_weights,
    local_seed,
)
from fedlab.model import Classifier
from fedlab.strategies.scaffold import CONTROL, correction, learned

Transform = Callable[[Update, Task], Update]
"""What happens to an update before it leaves the client: clip, add noise, mask, compress, poison.

It sees the task too: the weights that training began with, the round, the seed. This one sends only
half of what was learned:

>>> import numpy as np
>>> from dataclasses import replace
>>> from fedlab import Task, Training, Update
>>> def halved(update, task):
...     pairs = zip(task.weights, update.weights)
...     return replace(update, weights=[w + (new - w) / 2 for w, new in pairs])
>>> task = Task(1, 10, [np.zeros(2, np.float32)], Training())
>>> halved(Update("alice", 1, 600, [np.ones(2, np.float32)]), task).weights
[array([0.5, 0.5], dtype=float32)]
"""

Answer = Callable[["Participant", Task], Update]
"""How a participant answers a phase that is not training."""

OWN_EXAMPLES = "own examples"

RESIDUAL = "residual"
"""The name, in a client's memory, of what its codec has lost of its updates."""


class Side(Protocol):
    """A client's side of a strategy's protocol, such as `SecureSide`.

    phases: how it answers what a round asks beside training. mask: the last that happens to an
    update before it leaves.
    """

    @property
    def phases(self) -> Mapping[str, Answer]: ...

    def mask(self, update: Update, task: Task) -> Update: ...


class Participant:
    """A client, wherever it runs: from a task it makes an update.

    client:     its id. data: its own examples, which never leave it.
    classifier: the model, as functions of its weights; several participants may share one.
    test:       where its own model is tested before it is sent: a Dataset, OWN_EXAMPLES for those
                that it has just trained on, None for no test.
    transforms: what happens to an update before it leaves, in order.
    memory:     what it keeps from one round to the next, by name; forgotten when the server begins
                again with an untrained model.
    phases:     how it answers phases other than "train", by name.
    side:       its side of a strategy's protocol, which brings phases and a last transform.
    codecs:     makes a codec of the name that a task asks for: `fedlab.codec`. Without it only what
                is dense is understood. What a codec does, it does after all transforms.

    >>> import numpy as np
    >>> from fedlab import Classifier, Dataset, Participant, Task, Training
    >>> rng = np.random.default_rng(0)
    >>> data = Dataset(rng.integers(0, 256, (60, 28, 28), np.uint8), np.arange(60) % 10)
    >>> classifier = Classifier(seed=1)
    >>> alice = Participant("alice", data, classifier)
    >>> update = alice.answer(Task(1, 10, classifier.weights, Training(batch_size=10)))
    >>> update.client, update.round, update.num_examples, len(update.weights)
    ('alice', 1, 60, 6)
    """

    def __init__(
        self,
        client: str,
        data: Dataset,
        classifier: Classifier,
        *,
        test: Dataset | str | None = None,
        transforms: Sequence[Transform] = (),
        memory: dict[str, Weights] | None = None,
        phases: Mapping[str, Answer] | None = None,
        side: Side | None = None,
        codecs: Callable[[str], Codec] | None = None,
    ):
        self.client, self.data, self.classifier, self.test = client, data, classifier, test
        self.shards = data.split()
        self.transforms, self.phases = tuple(transforms), dict(phases or {})
        if side is not None:
            self.transforms, self.phases = (*transforms, side.mask), {**side.phases, **self.phases}
        self.memory: dict[str, Weights] = {} if memory is None else memory
        self._codecs = codecs
        self.train_loss = math.nan  # of the last epoch, in nats
        self._learned: dict[str, Weights] = {}  # for the memory, once the update was taken
        self._lineage: str | None = None  # of the model in the last task
        if isinstance(test, str) and test != OWN_EXAMPLES:
            raise Refused(f"test is {test!r}; expected a Dataset, {OWN_EXAMPLES!r} or None")

    def answer(
        self,
        task: Task,
        on_epoch: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
        on_test: Callable[[], None] | None = None,
        on_step: Callable[[Weights], None] | None = None,
    ) -> Update:
        """The update that this task asks for.

        on_epoch: called with 1, 2, ... before each epoch; on_test: before its own model is tested;
        on_step:  with the weights after every step of its training.
        stop:     asked between compiled calls; True ends training with TrainingStopped.
        Raises Diverged when training leaves the finite numbers, Refused for a phase or a codec that
        it does not know, BadUpdate for weights of another model.
        """
        self.settle(taken=True)  # where nobody said how the last update fared
        if self._lineage not in (None, task.lineage):
            self.memory.clear()  # the server has begun again: what was learned of its model is old
        self._lineage = task.lineage
        if task.phase != TRAIN:
            if task.phase not in self.phases:
                known = ", ".join([TRAIN, *self.phases])
                raise Refused(
                    f"the task's phase is {task.phase!r}; expected one of {known}. What a client"
                    " needs for others is given to it as side=: for secure aggregation a SecureSide"
                )
            answer = self.phases[task.phase](self, task)
            about = {"client": self.client, "round": task.round, "phase": task.phase}
            return replace(answer, version=task.version, run=task.run, **about)
        if task.codec == DENSE:
            return self._train(task, on_epoch, stop, on_test, on_step)
        codec = self._codec(task)
        task = replace(task, weights=codec.unpack(task.weights, self.classifier.weights))
        update = self._train(task, on_epoch, stop, on_test, on_step)
        seed = local_seed(task.seed, task.round, self.client)
        residual = self.memory.get(RESIDUAL)
        sent, left = codec.encode(update.weights, task.weights, seed, residual)
        if left is not None:
            self._learned[RESIDUAL] = left
        return replace(update, weights=sent, codec=task.codec)

    def _codec(self, task: Task) -> Codec:
        """What writes this task's model and its update. Raises Refused where it is not known."""
        if self._codecs is None:
            raise Refused(
                f"the task's codec is {task.codec[:60]!r}; expected {DENSE!r}. What a client needs"
                " for others is given to it as codecs=fedlab.codec"
            )
        return self._codecs(task.codec)

    def _train(self, task: Task, on_epoch, stop, on_test, on_step) -> Update:
        data = self.shard(task)
        seed = local_seed(task.seed, task.round, self.client)
        added = correction(task, self.memory)
        trained, self.train_loss = self.classifier.train(
            task.weights,
            data,
            task.training,
            seed,
            added,
            on_epoch=on_epoch,
            on_step=on_step,
            stop=stop,
        )
        try:
            check_weights(trained, task.weights)
        except NotFinite as error:
            rate = task.training.learning_rate
            raise Diverged(
                f"training diverged in round {task.round}, at {self.client} with learning_rate"
                f" {rate}: {error}"
            ) from None
        measured: tuple[float, ...] = ()
        if self.test is not None:
            if on_test:
                on_test()
            test = data if isinstance(self.test, str) else self.test
            measured = self.classifier.evaluate(trained, test)[::-1]
        about = {"version": task.version, "run": task.run}
        update = Update(self.client, task.round, len(data), trained, *measured, **about)
        for transform in self.transforms:
            update = transform(update, task)
        if added is not None:
            check_weights(update.weights, task.weights)
            control = learned(task, self.memory, update.weights, update.num_examples)
            self._learned = {CONTROL: control}
        return update

    def settle(self, taken: bool) -> None:
        """Say how the last update fared: what was learned with one that was refused is forgotten.
        Without a word it counts as taken.
        """
        if taken:
            self.memory.update(self._learned)
        self._learned = {}

    def shard(self, task: Task) -> Dataset:
        """The examples to train on: all of them, or one shard after the other."""
        if not task.shard_by_shard:
            return self.data
        return self.shards[(task.round - 1) % len(self.shards)]
