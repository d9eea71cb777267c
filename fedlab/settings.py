"""Everything that a panel's sliders say, as one value: to run it, to compare it with an earlier
run, to write it as plain calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from fedlab.checks import Refused, counted, is_whole, whole
from fedlab.codecs import codec
from fedlab.data import SHARD_SIZE, Dataset, Mnist, shard_range
from fedlab.menu import STRATEGIES
from fedlab.messages import DENSE, Training, check_client_id
from fedlab.plan import FIXED, POISSON, Plan
from fedlab.privacy.accountant import Release, delta_for, epsilon, epsilon_unsampled
from fedlab.privacy.dp_fed_avg import DPFedAvg
from fedlab.secure import secured
from fedlab.strategies import Strategy, settings_of

USUAL_RATES = {"sgd": 0.1, "adam": 0.001}
"""Learning rates to begin with: at SGD's Adam does not learn."""

LABELS = {
    "rounds": "rounds",
    "fraction": "C",
    "epochs": "E",
    "batch_size": "B",
    "learning_rate": "rate",
    "optimizer": "",
    "seed": "seed",
    "enough": "first",
    "deadline": "deadline",
    "sampling": "",
    "codec": "",
}


@dataclass(frozen=True)
class Settings:
    """shards: client id -> (first, last) of its shards, 1-12. The others as in `Plan` and
    `Training`; strategy: a name in `menu.STRATEGIES`; strategy_settings: its settings by name,
    those that are not there as they are by default; secure: whether updates are masked, so that
    only their sum can be read; codec: the name of what writes models and updates (`fedlab.codec`).
    """

    shards: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rounds: int = 10
    fraction: float = 1.0
    epochs: int = 1
    batch_size: int | None = 32
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    strategy: str = "fed_avg"
    strategy_settings: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    enough: int | None = None
    deadline: float | None = None
    sampling: str = FIXED
    secure: bool = False
    codec: str = DENSE

    def check(self) -> None:
        """Raise Refused or DataError, with a sentence, for what cannot run."""
        if not self.shards:
            raise Refused("there are no clients; expected at least one")
        for name, (first, last) in self.shards.items():
            check_client_id(name)
            shard_range(first, last)
        whole("rounds", self.rounds)  # a plan may have none, a slider has a number
        if not is_whole(self.seed):
            raise Refused(f"seed is {self.seed!r}; expected a whole number")
        if self.strategy not in STRATEGIES:
            raise Refused(f"strategy is {self.strategy!r}; expected one of {', '.join(STRATEGIES)}")
        known = settings_of(STRATEGIES[self.strategy]())
        if unknown := sorted(set(self.strategy_settings) - set(known)):
            raise Refused(
                f"strategy_settings has {', '.join(unknown)}; expected for {self.strategy} one of"
                f" {', '.join(known) or 'none'}"
            )
        strategy = self.make_strategy()
        strategy.check(self.plan())
        if strategy.min_updates > len(self.shards):
            raise Refused(
                f"got {counted(len(self.shards), 'client')}; expected at least"
                f" {strategy.min_updates} with the strategy {strategy.identity}"
            )

    def training(self) -> Training:
        """E, B, learning rate and optimizer."""
        return Training(self.epochs, self.batch_size, self.learning_rate, self.optimizer)

    def plan(self) -> Plan:
        """The run."""
        limits = {"enough": self.enough, "deadline": self.deadline, "sampling": self.sampling}
        if STRATEGIES[self.strategy]().asynchronous:  # no rounds that could end early
            limits = {}
        if self.codec != DENSE:
            limits["codec"] = codec(self.codec)
        clients = max(len(self.shards), 1)
        return Plan(self.rounds, self.training(), self.fraction, min_clients=clients, **limits)

    def make_strategy(self) -> Strategy:
        """The strategy of this name, with these settings. Raises Refused for a value that cannot
        be, or one that cannot be secured.
        """
        strategy = STRATEGIES[self.strategy](**self.strategy_settings)
        return secured(strategy) if self.secure else strategy

    def epsilon(self) -> tuple[float, float, float] | None:
        """What such a run spends of privacy: ε for whoever sees the models, ε for whoever also
        knows who took part (at worst always the same one), and δ. None for other strategies than
        DP-FedAvg, or without clients.
        """
        strategy = STRATEGIES[self.strategy](**self.strategy_settings)
        if not isinstance(strategy, DPFedAvg) or not self.shards:
            return None
        members = len(self.shards)
        release = Release(strategy.noise, self.fraction, self.rounds, members, self.sampling)
        delta = delta_for(members)
        hidden = strategy.noise / (1 if self.sampling == POISSON else 2)
        known = epsilon_unsampled(hidden, self.rounds, delta)
        return epsilon(release, delta), known, delta

    def _set(self) -> dict[str, float]:
        """The settings of the strategy that are not as they are by default."""
        known = settings_of(STRATEGIES[self.strategy]())
        return {n: value for n, value in self.strategy_settings.items() if value != known[n][1]}

    def _call(self) -> str:
        """The strategy as Python: "fed_prox(mu=0.1)"."""
        return f"{self.strategy}({', '.join(f'{n}={v!r}' for n, v in self._set().items())})"

    def _spoken(self) -> str:
        """The strategy in a legend: "FedProx, mu 0.1"."""
        name = STRATEGIES[self.strategy]().name
        return ", ".join([name, *(f"{n} {v:g}".replace("_", " ") for n, v in self._set().items())])

    def datasets(self, mnist: Mnist) -> dict[str, Dataset]:
        """Each client's own examples."""
        return {name: mnist.shards(first, last) for name, (first, last) in self.shards.items()}

    def pooled(self, mnist: Mnist) -> Dataset:
        """All clients' examples in one place; a shard that several hold is there once."""
        held = sorted(
            {shard for first, last in self.shards.values() for shard in range(first, last + 1)}
        )
        return mnist.train.subset(
            np.concatenate(
                [np.arange((shard - 1) * SHARD_SIZE, shard * SHARD_SIZE) for shard in held]
            )
        )

    def difference(self, other: Settings) -> str:
        """What is special about these settings beside `other`, for a legend: "E 5, carol 9-9"."""
        parts = []
        for item in fields(self):
            mine, its = getattr(self, item.name), getattr(other, item.name)
            if mine == its:
                continue
            if item.name == "shards":
                parts += [
                    f"{name} {_range(mine[name])}" for name in mine if mine[name] != its.get(name)
                ]
                parts += [f"no {name}" for name in its if name not in mine]
            elif item.name == "strategy":
                parts.append(self._spoken())
            elif item.name == "strategy_settings":
                if self.strategy == other.strategy and self._set() != other._set():
                    parts.append(self._spoken())
            elif item.name == "secure":
                parts.append("secure" if mine else "not secure")
            else:
                none = "none" if item.name == "deadline" else "all"
                parts.append(f"{LABELS[item.name]} {none if mine is None else mine}".strip())
        return ", ".join(parts) or "same settings"

    def as_calls(self) -> str:
        """The same run as plain Python. With a strategy that has rounds it gives the same numbers,
        bit for bit.
        """
        clients = "".join(
            f"    {name!r}: ({first}, {last}),\n" for name, (first, last) in self.shards.items()
        )
        plan = self.plan()
        given = {"enough": plan.enough, "deadline": plan.deadline, "sampling": plan.sampling}
        given = [f"{name}={value!r}" for name, value in given.items() if value not in (None, FIXED)]
        limits = f" {', '.join(given)}," if given else ""
        strategy = f"fedlab.{self._call()}"
        start = "        fedlab.Client(server.url, name, mnist.shards(first, last), test=mnist.test"
        start += ").start()"
        more = ""
        if self.secure:
            strategy, more = f"fedlab.secured({strategy})", "side=fedlab.SecureSide()"
        if self.codec != DENSE:
            limits += f" codec=fedlab.codec({self.codec!r}),"
            more = "codecs=fedlab.codec"
        if more:
            start = f"""\
        fedlab.Client(
            server.url, name, mnist.shards(first, last), test=mnist.test,
            {more},
        ).start()"""
        return f"""\
import fedlab

mnist = fedlab.load_mnist()
shards = {{
{clients}}}

with fedlab.Server(test=mnist.test, strategy={strategy}, seed={self.seed}) as server:
    for name, (first, last) in shards.items():
{start}
    history = server.run(
        rounds={self.rounds}, fraction={self.fraction}, epochs={self.epochs},
        batch_size={self.batch_size}, learning_rate={self.learning_rate},
        optimizer={self.optimizer!r},{limits}
    )

fedlab.plot_history(history)
"""


def _range(shards: tuple[int, int]) -> str:
    return f"{shards[0]}-{shards[1]}" if shards[0] != shards[1] else f"only {shards[0]}"
