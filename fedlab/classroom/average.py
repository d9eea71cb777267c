"""How a class combines what its devices send: federated averaging that says who was asked and who
has answered, and the mean in which everybody counts as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from fedlab.messages import Task, Update, Weights
from fedlab.strategies import State, weighted_mean
from fedlab.strategies.averaging import Averaging
from fedlab.strategies.base import Ask


def alike(updates: Iterable[Update]) -> tuple[Weights, int]:
    """Every student's weights count as much: a class whose handwriting is wanted is not outweighed
    by whoever has more images. As `fedlab.strategies.combine`'s: the weights, and the examples.
    """
    examples = 0

    def each():
        nonlocal examples
        for update in updates:
            examples += update.num_examples
            yield replace(update, num_examples=1)

    weights, _ = weighted_mean(each())
    return weights, examples


@dataclass(frozen=True, repr=False)
class ClassAverage(Averaging):
    """Federated averaging that says who was asked, and who has answered."""

    asked: Callable[[Iterable[str]], object] = lambda clients: None
    answered: Callable[[str], object] = lambda client: None

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        updates = ask(self.prepare(task, state))
        self.asked(updates.participants)
        return self.aggregate(state, self._noted(updates))

    def _noted(self, updates: Iterable[Update]) -> Iterator[Update]:
        for update in updates:
            self.answered(update.client)
            yield update
