"""DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963): a model from which nobody can tell whether a
client took part at all, up to ε."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused, number
from fedlab.messages import Task, Update
from fedlab.plan import FIXED, POISSON, Plan
from fedlab.privacy.accountant import Release, delta_for, epsilon
from fedlab.privacy.clipping import change, clipped, gaussian, shaped
from fedlab.strategies import Finished, Replace, State, Strategy, Updates
from fedlab.strategies.averaging import REPLACE, Step, named
from fedlab.strategies.base import Ask, check_settings, setting

CLIP, SPENT = "clip", "spent"
"""What the server keeps: the clip where it adapts; the rounds so far, a row of `Release` each."""

WAYS = FIXED, POISSON
STEP_OF_CLIP = 0.2
"""eta_C of Andrew et al. 2021: how fast the clip follows."""


@dataclass(frozen=True)
class Noise:
    """What a round's sum needs. clip: S, the longest that a change may be. change: the standard
    deviation of the noise in the sum of the changes. inside: in the sum of who was not cut.
    """

    clip: float
    change: float
    inside: float


@dataclass(frozen=True, repr=False)
class DPFedAvg(Strategy):
    """Changes that are clipped, added, noised, and divided by how many are expected."""

    clip: float = setting(
        0.5,
        "clip S",
        "S: the length to which a longer change is cut",
        (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
        positive=True,
    )
    noise: float = setting(
        1.0,
        "noise z",
        "z: the noise in the sum, in lengths of the clip; 0 hides nothing",
        (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0),
    )
    adapt: float = setting(
        0.0,
        "adapt clip",
        "the share of the clients that the clip should not cut: it follows; 0, it stays",
        (0.0, 0.3, 0.5, 0.7, 0.9),
        below=1.0,
    )
    step: Step = Replace()
    delta: float | None = None
    budget: float | None = None
    seeded: bool = False
    name: str = "DP-FedAvg"
    meaning: str = (
        "every round: changes are cut to the clip and added, each client's alike, under noise that"
        " hides whether any one of them is there"
    )
    min_updates: int = 0
    open_updates: bool = False  # the noise hides a client in the sum, and nowhere else
    alike: bool = True

    def __post_init__(self):
        check_settings(self)
        if self.delta is not None:
            expected = "a probability between 0 and 1, much smaller than one of all clients"
            number("delta (δ)", self.delta, expected, above=0, below=1)
        if self.budget is not None:
            number("budget (ε)", self.budget, "a number above 0, or None", above=0)
            if not self.noise:
                raise Refused(
                    f"noise is 0 with a budget of ε = {self.budget:g}; expected noise above 0:"
                    " without it there is no ε that would do"
                )

    @property
    def secret_draw(self) -> bool:
        """Who knows who was drawn sees more than ε says."""
        return not self.seeded

    def check(self, plan: Plan) -> None:
        super().check(plan)
        if not plan.fraction and plan.sampling == POISSON:
            raise Refused(
                f"fraction (C) is {plan.fraction!r} by Poisson sampling with {self.name}; expected"
                " a number above 0: sums are divided by how many are expected"
            )
        for name, usual in (("enough", None), ("min_updates", 1)):
            if (value := getattr(plan, name)) != usual:
                raise Refused(
                    f"{name} is {value!r} with {self.name}; expected {usual!r}: whether a round"
                    " counts must not depend on who takes part, or ε would say too little"
                )

    # ---- a round ---------------------------------------------------------------------------------

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        self.check_budget(state)
        updates = ask(self.prepare(task, state))
        self.check_budget(state, self.release(updates))
        noise = self.noise_of(state, updates)
        total, inside = self.added(state, updates, noise.clip)
        rng = self.rng(task)
        total += gaussian(total.size, noise.change, rng)
        inside += gaussian(1, noise.inside, rng)[0]
        return self.released(state, total, inside, updates)

    def added(self, state: State, updates: Iterable[Update], clip: float):
        """The sum of the clipped changes, (numbers,) float64; and over all clients, 1/2 for each
        that was not cut, -1/2 for each that was.
        """
        total, inside = np.zeros(sum(w.size for w in state.weights)), 0.0
        for update in updates:
            part, whole = clipped(change(update.weights, state.weights), clip)
            total += part
            inside += 0.5 if whole else -0.5
        return total, inside

    def released(self, state: State, total: np.ndarray, inside: float, updates: Updates) -> State:
        """The state after a round whose noised sums are these. The denominator is fixed: how many
        took part is nobody's business.
        """
        release = self.release(updates)
        weights = shaped(total / release.expected, state.weights)
        combined = [w + c for w, c in zip(state.weights, weights, strict=True)]
        new, memory = self.step(state, combined)
        memory = {**memory, SPENT: [rows(spent(state) + [release])]}
        if self.adapt:
            share = inside / release.expected + 0.5
            clip = self.clip_of(state) * math.exp(-STEP_OF_CLIP * (share - self.adapt))
            memory[CLIP] = [np.array(clip)]
        examples = state.num_examples  # nobody's number of examples is used
        return replace(state, weights=new, num_examples=examples, memory=memory)

    def clip_of(self, state: State) -> float:
        """S, now."""
        return float(state.memory[CLIP][0]) if CLIP in state.memory else self.clip

    def noise_of(self, state: State, updates: Updates) -> Noise:
        """This round's clip and noise. Where the clip adapts, a part of the noise hides who was
        cut, and the changes have so much more that both together are worth z (Andrew et al. 2021,
        Theorem 1).
        """
        clip, z = self.clip_of(state), self.noise
        if not self.adapt or not z:
            return Noise(clip, z * clip, 0.0)
        inside = max(self.release(updates).expected / 20, z)
        return Noise(clip, clip * (z**-2 - (2 * inside) ** -2) ** -0.5, inside)

    def rng(self, task: Task) -> np.random.Generator:
        """The server's noise: from the operating system, or from the run's seed."""
        return np.random.default_rng([task.seed % 2**63, task.round] if self.seeded else None)

    # ---- what it costs ---------------------------------------------------------------------------

    def release(self, updates: Updates) -> Release:
        """What such a round makes public."""
        plan = updates.plan
        return Release(self.noise, plan.fraction, 1, max(updates.members, 1), plan.sampling)

    def check_budget(self, state: State, further: Release | None = None) -> None:
        """Raise Finished where a further round, such as the last one, would cost too much."""
        before = spent(state)
        further = further or (replace(before[-1], rounds=1) if before else None)
        if self.budget is None or further is None:
            return
        every = merged([*before, further])
        after = epsilon(every, self.delta_of(every))
        if after > self.budget:
            raise Finished(
                f"one round more would spend ε = {after:.3g}; the budget is {self.budget:g}"
            )

    def measures(self, state: State) -> dict[str, float]:
        """ε spent so far, and the δ of it; the clip, where it adapts."""
        before = spent(state)
        if not before:
            return {}
        delta = self.delta_of(before)
        found = {"epsilon": epsilon(tuple(before), delta), "delta": delta}
        return found | ({CLIP: self.clip_of(state)} if self.adapt else {})

    def delta_of(self, releases: Iterable[Release]) -> float:
        """The δ that was chosen, or the one for the most clients that there were."""
        return self.delta or delta_for(max(release.members for release in releases))


def spent(state: State) -> list[Release]:
    """What was made public so far."""
    table = state.memory[SPENT][0] if SPENT in state.memory else ()
    return [Release(z, q, int(n), int(k), WAYS[int(how)]) for z, q, n, k, how in table]


def merged(releases: list[Release]) -> tuple[Release, ...]:
    """The same, equal neighbours as one."""
    found: list[Release] = []
    for release in releases:
        if found and replace(found[-1], rounds=release.rounds) == release:
            found[-1] = replace(release, rounds=found[-1].rounds + release.rounds)
        else:
            found.append(release)
    return tuple(found)


def rows(releases: list[Release]) -> np.ndarray:
    """As numbers, for the server's memory and its checkpoint: float64, (n, 5)."""
    table = [[r.noise, r.fraction, r.rounds, r.members, WAYS.index(r.sampling)]
             for r in merged(releases)]  # fmt: skip
    return np.array(table, np.float64)


def dp_fed_avg(
    clip: float = 0.5,
    noise: float = 1.0,
    adapt: float = 0.0,
    *,
    step: Step = REPLACE,
    combine=None,
    delta: float | None = None,
    budget: float | None = None,
    seeded: bool = False,
) -> Strategy:
    """DP-FedAvg (McMahan et al. 2018): w <- w + (sum of clipped w_k - w, + N(0, (z S)^2)) / (q K).

    clip:   S. A change w_k - w that is longer, over all arrays together, is cut to it.
    noise:  z. The noise in the sum has the standard deviation z S in every number.
    adapt:  the share of clients that should not be cut: the clip follows that quantile (Andrew et
            al. 2021, arXiv:1905.03871). 0: it stays as it is.
    step:   another server step: what is done with what was released costs nothing.
    delta:  δ of the ε in every round's record; `delta_for` of the clients if None.
    budget: the run ends before a round that would spend a larger ε. None: it does not.
    seeded: the noise, and who is drawn, follow from the run's seed, so that a run repeats. For
            lessons, not for people: every client knows the seed, and can take the noise off again.

    Every client counts alike: weights by examples would let one move the sum by more than S. Draw
    by `sampling="poisson"` in the plan: for "fixed" the same noise is worth far less. A round for
    which nobody was drawn, or came, is one of noise alone.

    ε is for whoever sees all models, and does not know who took part when. The server knows, and
    tells everybody who may look on (its page, `/status`, `/history`): whoever has the class's
    token, and every client with its own. Against them it is `epsilon_unsampled`, with the rounds
    in which a client took part. The server sees single updates, too, unless they are `secured`.
    That a client leaves in the middle for reasons of its data is not counted. What clients say of
    their own models, accuracy and loss, is not written down.
    Raises Refused for values that cannot be.
    """
    if combine is not None:
        raise Refused(
            f"combine is {combine!r} with DP-FedAvg; expected none: every client counts alike, and"
            " for a mean weighted by examples, or a median, this ε would not be true"
        )
    return DPFedAvg(clip, noise, adapt, step, delta, budget, seeded, named("DP-FedAvg", step=step))
