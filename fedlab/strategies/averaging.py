"""Strategies with rounds, made of two choices: how updates are combined (combine.py) and which step
the server takes with what comes out. FedAvg, FedProx, momentum, FedAdam, FedYogi, and the robust
ones, which only combine otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused
from fedlab.messages import Task, Update, Weights
from fedlab.plan import Plan
from fedlab.strategies.base import State, Strategy, check_settings, like, setting
from fedlab.strategies.combine import Combine, Mean, Median, TrimmedMean, combined

Step = Callable[[State, Weights], tuple[Weights, Mapping[str, Weights]]]
"""A server step: the state and the combined weights -> the next weights, and what is kept."""

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Replace:
    """What was combined is the next model: FedAvg's step."""

    def __call__(self, state: State, combined: Weights) -> tuple[Weights, Mapping[str, Weights]]:
        return combined, {}


@dataclass(frozen=True)
class Momentum:
    """FedAvgM (Hsu, Qi & Brown 2019, arXiv:1909.06335).

    v <- momentum * v + (w - combined); w <- w - server_learning_rate * v. With momentum 0 and
    rate 1 it is FedAvg, bit for bit.
    """

    momentum: float = setting(
        0.9,
        "momentum",
        "how much of its last step the server repeats: 0.5 makes a push 2 x as long, 0.9 10 x",
        (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
        below=1.0,
    )
    server_learning_rate: float = setting(
        1.0,
        "server rate",
        "how far the server goes towards what was combined",
        RATES,
        positive=True,
    )

    __post_init__ = check_settings

    def __call__(self, state: State, combined: Weights) -> tuple[Weights, Mapping[str, Weights]]:
        rate = np.float32(self.server_learning_rate)
        if not self.momentum:  # nothing is carried on; and at rate 1 nothing may be rounded
            if rate == 1:
                return combined, {}
            pairs = zip(state.weights, combined, strict=True)
            return [w - rate * (w - c) for w, c in pairs], {}
        velocity = state.memory.get("velocity") or like(state.weights)
        triples = zip(velocity, state.weights, combined, strict=True)
        velocity = [np.float32(self.momentum) * v + (w - c) for v, w, c in triples]
        weights = [w - rate * v for w, v in zip(state.weights, velocity, strict=True)]
        return weights, {"velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """FedAdam (Reddi et al. 2021, "Adaptive federated optimization", Algorithm 2).

    With d = combined - w: m <- beta1 m + (1 - beta1) d; v <- beta2 v + (1 - beta2) d^2;
    w <- w + server_learning_rate * m / (sqrt(v) + tau). m starts at 0 and v at tau^2, and, as in
    the paper, no bias is corrected.
    """

    server_learning_rate: float = setting(
        0.01, "server rate", "how far the server's step goes", RATES, positive=True
    )
    beta1: float = setting(
        0.9,
        "β1",
        "beta1: how long the server remembers a direction",
        (0.0, 0.5, 0.9, 0.99),
        below=1.0,
    )
    beta2: float = setting(
        0.99,
        "β2",
        "beta2: how long it remembers how large steps were",
        (0.9, 0.99, 0.999),
        below=1.0,
    )
    tau: float = setting(
        1e-3,
        "τ",
        "tau: the smaller, the more alike all numbers' steps are",
        (1e-4, 1e-3, 1e-2, 1e-1),
        positive=True,
    )

    __post_init__ = check_settings

    def __call__(self, state: State, combined: Weights) -> tuple[Weights, Mapping[str, Weights]]:
        rate, tau = np.float32(self.server_learning_rate), np.float32(self.tau)
        first = state.memory.get("first") or like(state.weights)
        second = state.memory.get("second") or [np.full_like(w, tau**2) for w in state.weights]
        change = [c - w for c, w in zip(combined, state.weights, strict=True)]
        keep = np.float32(self.beta1)
        first = [keep * m + (1 - keep) * d for m, d in zip(first, change, strict=True)]
        second = [self.spread(v, d * d) for v, d in zip(second, change, strict=True)]
        triples = zip(state.weights, first, second, strict=True)
        weights = [w + rate * m / (np.sqrt(v) + tau) for w, m, v in triples]
        return weights, {"first": first, "second": second}

    def spread(self, v: np.ndarray, square: np.ndarray) -> np.ndarray:
        """The next v: how large the steps are, smoothed."""
        keep = np.float32(self.beta2)
        return keep * v + (1 - keep) * square


@dataclass(frozen=True)
class Yogi(Adam):
    """FedYogi (Reddi et al. 2021, Algorithm 2): as Adam, but v comes nearer to d^2 by a share of
    d^2 and not of their distance: v <- v - (1 - beta2) d^2 sign(v - d^2).
    """

    def spread(self, v: np.ndarray, square: np.ndarray) -> np.ndarray:
        return v - (1 - np.float32(self.beta2)) * square * np.sign(v - square)


@dataclass(frozen=True, repr=False)
class Averaging(Strategy):
    """Rounds in which everyone who was drawn trains the global model; what they send is combined,
    and the server takes a step with it. The paper's FedAvg is Mean and Replace.
    """

    name: str
    meaning: str
    combine: Combine = Mean()
    step: Step = Replace()

    @property
    def min_updates(self) -> int:
        """What the combination needs."""
        return getattr(self.combine, "min_updates", 1)

    def check(self, plan: Plan) -> None:
        super().check(plan)
        if plan.codec and plan.codec.sparse and getattr(self.combine, "by_number", False):
            raise Refused(
                f"codec is {plan.codec_name!r} with {self.name}; expected one that sends every"
                " number: here most come as no change, so the middle one is no change either"
            )

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        model, total = combined(self.combine, state.weights, updates)
        weights, memory = self.step(state, model)
        return State(weights, state.num_examples + total, memory)


@dataclass(frozen=True, repr=False)
class Proximal(Averaging):
    """Clients are held near the model that they were sent: FedProx (Li et al. 2020)."""

    mu: float = setting(
        0.01,
        "μ",
        "mu: how strongly a client is pulled back to the model that it was sent; 0 is FedAvg",
        (0.0, 0.001, 0.01, 0.1, 1.0),
    )

    __post_init__ = check_settings

    def prepare(self, task: Task, state: State) -> Task:
        return replace(task, training=replace(task.training, proximal=self.mu))


MEAN, REPLACE = Mean(), Replace()

# ---- by name -------------------------------------------------------------------------------------


def named(name: str, combine: Combine = MEAN, step: Step = REPLACE) -> str:
    """A strategy's name, with the parts that it does not have by itself: "FedAdam + Median"."""
    others = [part for part in (combine, step) if not isinstance(part, (Mean, Replace))]
    return " + ".join([name, *(getattr(p, "__name__", type(p).__name__) for p in others)])


def fed_avg(*, combine: Combine = MEAN, step: Step = REPLACE) -> Strategy:
    """Federated averaging (McMahan et al. 2017, Algorithm 1): w <- sum(n_k / n * w_k).

    combine, step: another way to combine, another server step: `fed_avg(combine=Median(),
                   step=Momentum(0.5))` is the robust average with momentum.
    """
    meaning = (
        "every round: the average of the clients' weights, each weighted by its number of examples"
    )
    return Averaging(named("FedAvg", combine, step), meaning, combine, step)


def fed_prox(mu: float = 0.01, *, combine: Combine = MEAN, step: Step = REPLACE) -> Strategy:
    """FedProx (Li et al. 2020, arXiv:1812.06127): clients minimise F_k(w) + mu/2 |w - w_t|^2.

    With mu = 0 it is FedAvg, bit for bit. Raises Refused for a negative mu.
    """
    meaning = "as FedAvg, but each client is pulled back to the global model while it trains"
    return Proximal(named("FedProx", combine, step), meaning, combine, step, mu)


def fed_avg_momentum(
    momentum: float = 0.9, server_learning_rate: float = 1.0, *, combine: Combine = MEAN
) -> Strategy:
    """FedAvg with momentum on the server (Hsu, Qi & Brown 2019): see `Momentum`.

    Raises Refused for a momentum outside [0, 1) or a rate that is not above 0.
    """
    meaning = "as FedAvg, but the global model keeps some of its last direction, like a heavy ball"
    step = Momentum(momentum, server_learning_rate)
    return Averaging(named("FedAvg with momentum", combine), meaning, combine, step)


def fed_adam(
    server_learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    *,
    combine: Combine = MEAN,
) -> Strategy:
    """FedAdam (Reddi et al. 2021, arXiv:2003.00295): see `Adam`. Raises Refused for numbers outside
    their bounds.
    """
    meaning = "the server takes an Adam step towards the average: every number at its own pace"
    step = Adam(server_learning_rate, beta1, beta2, tau)
    return Averaging(named("FedAdam", combine), meaning, combine, step)


def fed_yogi(
    server_learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    *,
    combine: Combine = MEAN,
) -> Strategy:
    """FedYogi (Reddi et al. 2021, arXiv:2003.00295): see `Yogi`. Raises Refused for numbers outside
    their bounds.
    """
    meaning = "as FedAdam, but its pace changes more slowly when steps become small"
    step = Yogi(server_learning_rate, beta1, beta2, tau)
    return Averaging(named("FedYogi", combine), meaning, combine, step)


def median(*, step: Step = REPLACE) -> Strategy:
    """The coordinate-wise median of the updates (Yin et al. 2018, arXiv:1803.01498): see
    `Median`. It does not weigh clients by their examples.
    """
    meaning = "every number of the next model is the middle one of what the clients sent"
    return Averaging(named("Median", step=step), meaning, Median(), step)


def trimmed_mean(trim: int = 1, *, step: Step = REPLACE) -> Strategy:
    """The coordinate-wise trimmed mean of the updates (Yin et al. 2018, arXiv:1803.01498): see
    `TrimmedMean`. It does not weigh clients by their examples.

    trim: f, how many are left out at each end: a round needs 2f + 1 updates.
    Raises Refused for anything but a whole number from 0.
    """
    meaning = "the mean of every number without the largest and the smallest that were sent"
    return Averaging(named("Trimmed mean", step=step), meaning, TrimmedMean(trim), step)
