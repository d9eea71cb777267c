"""One half of a class writes an attack, the other a defence: `duel` lets them meet."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

import numpy as np

from fedlab.attacks import Backdoor, attacked
from fedlab.checks import Refused, counted, whole
from fedlab.data import Mnist, load_mnist
from fedlab.history import History, RoundRecord
from fedlab.messages import Diverged, Update, Weights
from fedlab.model import Classifier
from fedlab.partitions import partition_by_label, partition_iid
from fedlab.simulation import simulate
from fedlab.strategies import Strategy, fed_avg

IID, TWO_DIGITS = "iid", "two digits"


@dataclass(frozen=True, eq=False)
class Duel:
    """What came of an attack against a defence.

    accuracy: of the last model on the 10,000 test images, a fraction.
    trigger:  how often the trigger works on it (`Backdoor.success_rate`), a fraction. Without a
              backdoor about 0.01.
    history:  round by round. ended: why the run ended before its time, "" if it did not: training
              left the finite numbers, and the last model is the one before.
    """

    attack: str
    defence: str
    attackers: int
    clients: int
    deal: str
    accuracy: float
    trigger: float
    history: History = field(repr=False)
    ended: str = ""

    def __repr__(self) -> str:
        end = f", diverged in round {len(self.history) + 1}" if self.ended else ""
        return (
            f"<Duel: {self.attack} by {self.attackers} of {self.clients} ({self.deal}) against"
            f" {self.defence}: accuracy {self.accuracy:.1%}, trigger {self.trigger:.1%}{end}>"
        )

    def _repr_html_(self) -> str:
        who = f"{counted(self.attackers, 'attacker')} of {self.clients}, {self.deal}"
        rows = [
            (f"{escape(self.attack)} <small>({escape(who)})</small>", "accuracy", self.accuracy),
            (f"against {escape(self.defence)}", "the trigger works", self.trigger),
        ]
        drawn = "".join(
            f'<tr><td style="text-align:left">{left}</td><td style="text-align:left">{what}</td>'
            f"<td>{bar(share, colour)}</td><td>{share:.1%}</td></tr>"
            for (left, what, share), colour in zip(rows, ("#2a7fbd", "#c1272d"), strict=True)
        )
        end = f"<p>{escape(self.ended)}</p>" if self.ended else ""
        return f"<table>{drawn}</table>{curve(self.history.accuracy)}{end}"


def bar(share: float, colour: str) -> str:
    """A share as a bar in a frame, an SVG."""
    return (
        f'<svg width="150" height="12" role="img" aria-label="{share:.1%}"><rect width="149"'
        ' height="11" x=".5" y=".5" fill="none" stroke="currentColor" opacity=".3"/>'
        f'<rect width="{150 * share:.1f}" height="12" fill="{colour}"/></svg>'
    )


def curve(accuracy: list[float]) -> str:
    """The accuracy of every round as a line from 0 to 100 %, an SVG; nothing for no rounds."""
    measured = [value for value in accuracy if not math.isnan(value)]
    if not measured:
        return ""
    apart = 320 / max(len(measured) - 1, 1)
    line = " ".join(f"{4 + apart * k:.1f},{56 - 52 * a:.1f}" for k, a in enumerate(measured))
    told = f"accuracy round by round: {', '.join(f'{value:.0%}' for value in measured)}"
    return (
        f'<svg width="328" height="60" role="img" aria-label="{told}"><title>{told}</title>'
        '<g stroke="currentColor" opacity=".2"><path d="M4 4H324M4 30H324M4 56H324"/></g>'
        f'<polyline points="{line}" fill="none" stroke="#2a7fbd" stroke-width="2"/></svg>'
    )


class Written:
    """A combination that somebody has written as a function of a list of updates. It may return
    weights alone.
    """

    def __init__(self, function: Callable):
        self.function, self.__name__ = function, function.__name__

    def __call__(self, updates: Iterable[Update]) -> tuple[Weights, int]:
        return self.made(updates)

    def made(self, updates: Iterable[Update], *model: Weights) -> tuple[Weights, int]:
        """What the function makes of these."""
        rows = list(updates)
        made = self.function(rows, *model)
        if isinstance(made, tuple):
            return made
        return [np.asarray(w, np.float32) for w in made], sum(u.num_examples for u in rows)


class WrittenOfChanges(Written):
    """One of two: updates, and the model."""

    def since(self, model: Weights) -> Callable[[Iterable[Update]], tuple[Weights, int]]:
        return lambda updates: self.made(updates, model)


def strategy_of(defence) -> tuple[Strategy, str]:
    """The strategy of a defence, and what to call it. Raises Refused for what is none."""
    if isinstance(defence, Strategy):
        return defence, defence.identity
    if not callable(defence) or isinstance(defence, type):
        raise Refused(
            f"the defence is {defence!r}; expected a strategy, a combination such as Median(), or a"
            " function (updates) -> weights or (updates, model) -> weights"
        )
    if not inspect.isroutine(defence):
        return fed_avg(combine=defence), str(defence)
    several = len(inspect.signature(defence).parameters)
    kind = WrittenOfChanges if several == 2 else Written
    return fed_avg(combine=kind(defence)), defence.__name__


def name_of(attack) -> str:
    """What to call an attack."""
    if isinstance(attack, (list, tuple)):
        return " + ".join(map(name_of, attack))
    return getattr(attack, "__name__", None) or repr(attack)


def duel(
    attack,
    defence,
    mnist: Mnist | None = None,
    *,
    attackers: int = 4,
    clients: int = 20,
    images: int = 600,
    deal: str = IID,
    rounds: int = 10,
    batch_size: int = 10,
    learning_rate: float = 0.1,
    seed: int = 0,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> Duel:
    """Let an attack meet a defence, in a run of 20 clients with 600 images each, of whom the first
    four attack. A few seconds.

    attack:  an attack, several in order, a function (update, task) -> update; None: nobody attacks.
    defence: a strategy; a combination such as `Median()`; or a function of a list of updates, or of
             these and the model that they began with, that returns the next model's weights.
    mnist:   from `load_mnist` if None. images: of each client.
    deal:    "iid", everybody's images are alike; or "two digits", two shards by label each.
    rounds, batch_size, learning_rate, seed, on_round: as in `simulate`; E = 1, all take part.

    The trigger is that of the attack's `success_rate(classifier, weights, test)`, or else of a
    `Backdoor()`. A run whose numbers leave the finite ones is a result: see `Duel.ended`.
    Raises Refused for what is no attack or no defence, and whatever these raise.
    """
    whole("clients", clients, 1, 1_000)
    attackers = 0 if attack is None else whole("attackers", attackers, 0, clients)
    whole("images", images, 1, 60_000 // clients)
    if deal not in (IID, TWO_DIGITS):
        raise Refused(f"deal is {deal!r}; expected {IID!r} or {TWO_DIGITS!r}")
    strategy, called = strategy_of(defence)
    mnist = mnist or load_mnist()
    rows = np.random.default_rng(seed).permutation(len(mnist.train))[: clients * images]
    shared = mnist.train.subset(rows)
    if deal == IID:
        parts = partition_iid(shared, clients, seed)
    else:
        parts = partition_by_label(shared, clients, 2, seed)
    transforms = []
    if attack is not None:
        parts, transforms = attacked(parts, attack, attackers, seed)

    classifier = Classifier(seed=seed)
    last, ended = {0: classifier.weights}, ""

    def keep(round: int, weights: Weights) -> None:
        last[0] = weights

    try:
        history = simulate(
            parts, test=mnist.test, rounds=rounds, batch_size=batch_size,
            learning_rate=learning_rate, strategy=strategy, seed=seed, transforms=transforms,
            progress=False, on_round=on_round, on_model=keep,
        )  # fmt: skip
    except Diverged as error:
        history, ended = error.history or History(), str(error)
    several = attack if isinstance(attack, (list, tuple)) else [attack]
    measured = next((one for one in several if hasattr(one, "success_rate")), Backdoor())
    accuracy = classifier.evaluate(last[0], mnist.test)[1]
    trigger = measured.success_rate(classifier, last[0], mnist.test)
    told = "nobody" if attack is None else name_of(attack)
    return Duel(told, called, attackers, clients, deal, accuracy, trigger, history, ended)
