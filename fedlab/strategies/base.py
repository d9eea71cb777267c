"""What a strategy is: how a round is made, and what the server keeps from one round to the next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused, is_whole, number
from fedlab.messages import Task, Update, Weights, check_answer
from fedlab.plan import POISSON, Plan, Progress


@dataclass(frozen=True, eq=False)
class State:
    """What the server keeps between rounds.

    weights:      the global model.
    num_examples: examples counted so far (asynchronous averaging weighs a new update against them).
    memory:       whatever else a strategy carries on, by name, a list of arrays each: momentum's
                  "velocity", Adam's moments.
    lineage:      which untrained model this one comes from, kept by the federation: where it
                  changes, clients forget what they have learned of the old one.
    progress:     of which run it is, and whose updates are in it; kept by the federation, too.
    """

    weights: Weights = field(repr=False)
    num_examples: int = 0
    memory: Mapping[str, Weights] = field(default_factory=dict, repr=False)
    lineage: str = ""
    progress: Progress = field(default=Progress(), repr=False)


@dataclass(frozen=True)
class Updates:
    """The updates of one exchange, to be iterated over once: in client-id order, each as soon as it
    and those before it are there. So sums come out the same whoever came first.

    participants: who was asked, by client id, in order. members: K, how many have joined, with
    num_examples in all. plan: what the run is asked to do, how participants are drawn among it.
    """

    arriving: Iterable[Update] = field(repr=False)
    participants: tuple[str, ...]
    members: int
    num_examples: int
    plan: Plan = Plan()

    def __iter__(self) -> Iterator[Update]:
        return iter(self.arriving)


Ask = Callable[[Task | Mapping[str, Task]], Updates]
"""One exchange: send this task to everyone who takes part (or to each its own), get the answers.
Who did not answer takes no part in the round's further exchanges. Take an exchange's answers before
you ask again. Raises Refused for tasks that cannot be: of another round, of two phases, of a phase
that was asked before, or none for somebody who takes part."""


class TooFewUpdates(Refused):
    """A round whose updates are too few for its strategy: it is abandoned, and the model stays."""

    kind = "too_few_updates"


class Finished(Exception):
    """A strategy will play no further round: the run ends here, with what came before. The message
    says why.
    """


class Strategy:
    """How updates become the next global model.

    One of your own is any function `(state, updates) -> state`, with a name and a line for people:

    >>> import numpy as np
    >>> from fedlab import State, Strategy, Update
    >>> def first_come(state, updates):
    ...     return State(next(iter(updates)).weights)
    >>> strategy = Strategy("first come", "the first update is the next model", first_come)
    >>> old, new = [np.zeros(2, np.float32)], [np.ones(2, np.float32)]
    >>> strategy.aggregate(State(old), [Update("alice", 1, 600, new)]).weights
    [array([1., 1.], dtype=float32)]

    What more it may be is in the methods below: the library's own strategies are frozen dataclasses
    that derive from this class. Their fields that are made by `setting` are their sliders in the
    panel, their options in the terminal, and their identity in a checkpoint.

    asynchronous: there are no rounds; `merge` gets every update by itself as it arrives.
    per_model:    asynchronous: how many updates make one new model.
    by_version:   asynchronous: an update must come from the model that its client was given last.
    min_updates:  with fewer updates a round is abandoned, and the model stays. 0: a round for which
                  nobody was drawn, or came, is one too.
    secret_draw:  who takes part in a round follows from nothing that anybody knows; otherwise from
                  the run's seed, which every client has.
    open_updates: whether what is known of single clients is written down: accuracy and loss of
                  their own models, whose update has spoiled a round.
    alike:        every client counts alike, whatever its examples.
    """

    name: str
    meaning: str
    asynchronous: bool = False
    per_model: int = 1
    by_version: bool = False
    min_updates: int = 1
    secret_draw: bool = False
    open_updates: bool = True
    alike: bool = False

    def __init__(
        self,
        name: str,
        meaning: str,
        aggregate: Callable[[State, Iterable[Update]], State],
        asynchronous: bool = False,
    ):
        self.name, self.meaning, self.asynchronous = name, meaning, asynchronous
        self.aggregate = aggregate

    def __repr__(self) -> str:
        return f"<Strategy: {self.identity}>"

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        """The state after these updates; it changes neither. Who stops iterating early leaves out
        the rest, which the round waits for and counts all the same.
        """
        raise NotImplementedError(f"{type(self).__name__} has no aggregate")

    def merge(self, state: State, update: Update, began: Weights, staleness: int) -> State:
        """Without rounds: the state after one update. began: the model that it was trained from;
        staleness: how many new models there were since. A state with the very list `state.weights`
        is no new model: the update was only noted.
        """
        return self.aggregate(state, [update])

    def check(self, plan: Plan) -> None:
        """Raise Refused where this strategy cannot go with such a plan."""
        if self.asynchronous and plan.sampling == POISSON:
            raise Refused(
                f"sampling is {plan.sampling!r} with {self.name}; expected a strategy with rounds:"
                " without them nobody is drawn"
            )

    def check_answer(self, update: Update, weights: Weights, task: Task | None) -> None:
        """Raise BadUpdate for an update that this strategy could not take: so whoever sent it
        learns why. weights: the global model. task: what it answers, where there are rounds.
        """
        check_answer(update, weights)

    def client_side(self):
        """What clients need to speak this strategy's protocol: a `participant.Side`, or None. A
        simulation's clients get it; whoever makes a client elsewhere hands one in.
        """
        return None

    def measures(self, state: State) -> dict[str, float]:
        """Further numbers for a round's record, by name: what was spent of a privacy budget."""
        return {}

    def prepare(self, task: Task, state: State) -> Task:
        """The round's task, with what this strategy has to add to it."""
        return task

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        """One round. A protocol of several exchanges calls `ask` several times, each time with
        tasks of another phase.
        """
        return self.aggregate(state, ask(self.prepare(task, state)))

    @property
    def unit(self) -> str:
        """What a run is counted in: rounds, updates, or models that are made of several updates."""
        if not self.asynchronous:
            return "round"
        return "update" if self.per_model == 1 else "model"

    @property
    def identity(self) -> str:
        """The name with every setting: two momenta are two strategies, for a checkpoint too."""
        found = ", ".join(f"{name} {value:g}" for name, (_, value) in settings_of(self).items())
        return f"{self.name} ({found})" if found else self.name


# ---- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A number that can be set in a strategy: what a slider, an option and a check must know of it.

    label: beside a slider. meaning: one line for people. stops: where a slider stops. least, most,
    below: its bounds. positive: the least itself is not among them. whole: it is a whole number.
    """

    label: str
    meaning: str
    stops: tuple[float, ...]
    least: float = 0.0
    most: float = math.inf
    below: float = math.inf
    positive: bool = False
    whole: bool = False

    @property
    def expected(self) -> str:
        """What may be set, in words."""
        kind = "a whole number" if self.whole else "a number"
        start = f"above {self.least:g}" if self.positive else f"from {self.least:g}"
        if self.below < math.inf:
            return f"{kind} {start} up to, not including, {self.below:g}"
        return f"{kind} {start}" + (f" to {self.most:g}" if self.most < math.inf else "")

    def check(self, name: str, value: float) -> None:
        """Raise Refused for a value that cannot be."""
        if self.whole and not is_whole(value):
            raise Refused(f"{name} is {value!r}; expected {self.expected}")
        above = self.least if self.positive else -math.inf
        bounds = {"above": above, "least": self.least, "most": self.most, "below": self.below}
        number(name, value, self.expected, **bounds)


def setting(default: float, label: str, meaning: str, stops: tuple[float, ...], **bounds):
    """A field of a strategy that can be set: a default, and what `Setting` says."""
    return field(default=default, metadata={"setting": Setting(label, meaning, stops, **bounds)})


def settings_of(part) -> dict[str, tuple[Setting, float]]:
    """Everything that can be set in a strategy and in the parts it is made of, by name: what is
    known of it, and its value here.
    """
    found: dict[str, tuple[Setting, float]] = {}
    if dataclasses.is_dataclass(part):
        for item in dataclasses.fields(part):
            value = getattr(part, item.name)
            if "setting" in item.metadata:
                found[item.name] = item.metadata["setting"], value
            else:
                found |= settings_of(value)
    return found


def check_settings(part) -> None:
    """Raise Refused unless every setting of this dataclass is within its bounds."""
    for name, (known, value) in settings_of(part).items():
        known.check(name, value)


def like(weights: Weights) -> Weights:
    """Zeros of the same shapes, float32."""
    return [np.zeros(w.shape, np.float32) for w in weights]
