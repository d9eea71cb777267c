"""How much noise hides a client: ε, counted by Google's dp-accounting.

The only file that imports dp_accounting, and only where it is needed: it takes a second to load.

What hides a client depends on how clients are drawn. With S for the clip and z S for the noise, the
worst that one round can tell, in lengths of S:

poisson  Each client by itself, so one more or less changes a sum by S at most: N(0, z) against
         (1 - q) N(0, z) + q N(1, z), either way round (Mironov et al. 2019, arXiv:1908.10530).
fixed    m of K, which everybody knows: so one client is replaced by another. Where it is drawn, the
         sum changes by 2 S. Where it is not, somebody else is in its place, who may be as far from
         it: N(0, z) against (1 - q) N(0, z) + q N(2, z), either way round (Zhu, Dong & Wang 2022,
         arXiv:2106.08567), and the next round perhaps the other way: `_replaced` is above both.

dp-accounting 0.6 has nothing for `fixed`. Its PLDAccountant refuses the event; Poisson sampling
with REPLACE_ONE doubles S by itself, but has nobody stand in for who is not drawn. Its
RdpAccountant wants the noise in lengths of the largest change, 2 S: with z it says too little
(google/differential-privacy, issue 378), with z/2 far too much. For K = 1000, m = 100, T = 30,
z = 1, δ = 0.001 these are 3.8, 5.3 and 27.7. The truth is at least 12.0, so much if all others stay
at one end of the clip, and at most 12.9, which is said here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedlab.checks import Refused, number, whole
from fedlab.plan import FIXED, POISSON

STEPS = 5_000
"""Into so many steps the losses of one round are divided: ε is above the exact one by less than 1 %
of it, and 0.1 s away."""

CLOSE = 1e-6  # of ε: as near as it is looked for
COARSE = 100  # a longer step is none: ε is tens of thousands, and said as without sampling
NONE = 1e-9  # less noise than this is none


@dataclass(frozen=True)
class Release:
    """Rounds in which noised sums of clipped changes became public.

    noise:    z, the standard deviation of the noise in lengths of the clip S.
    fraction: C, from 0 to 1. rounds: how many, from 0. members: K, how many clients there are.
    sampling: "poisson", each takes part with probability C; or "fixed", max(round(C K), 1) of K.

    `expected` is how many take part in a round, on average; `share` is q, that number over K.
    Raises Refused for anything else.
    """

    noise: float
    fraction: float
    rounds: int
    members: int
    sampling: str = POISSON

    def __post_init__(self):
        number("noise (z)", self.noise, "a number of clips from 0 (no noise)", least=0)
        number("fraction (C)", self.fraction, "a number from 0 to 1", least=0, most=1)
        whole("rounds", self.rounds, 0)
        whole("members (K)", self.members)
        if self.sampling not in (POISSON, FIXED):
            raise Refused(f"sampling is {self.sampling!r}; expected {POISSON!r} or {FIXED!r}")

    @property
    def expected(self) -> float:
        drawn = self.fraction * self.members
        return drawn if self.sampling == POISSON else max(round(drawn), 1)

    @property
    def share(self) -> float:
        return self.expected / self.members


def epsilon(releases: Release | Sequence[Release], delta: float) -> float:
    """ε, from 0: all of these together are (ε, δ) differentially private for a whole client.

    Neighbours are federations with one client more or less, if all were drawn by Poisson sampling;
    where any was of fixed size, federations in which one client is replaced by another, for all of
    them. inf without noise; 0.0 where nothing was released. An upper bound, by the distribution of
    the privacy loss (Doroshenko et al. 2022, arXiv:2207.04380).
    Raises Refused for a delta that is not between 0 and 1.
    """
    releases = (releases,) if isinstance(releases, Release) else tuple(releases)
    _check(delta)
    replace = any(release.sampling == FIXED for release in releases)
    rounds: Counter[tuple[float, float, str]] = Counter()
    for release in releases:
        if release.rounds and release.share:
            way = float(release.noise), float(release.share), release.sampling
            rounds[way] += int(release.rounds)
    return _epsilon(tuple(sorted(rounds.items())), replace, float(delta))


def epsilon_unsampled(noise: float, rounds: int, delta: float) -> float:
    """ε of a client that takes part in all of the `rounds`; or in so many of more, against somebody
    who knows in which.

    One client more or less: δ = Φ(μ/2 - ε/μ) - exp(ε) Φ(-μ/2 - ε/μ), with μ = √T/z (Balle & Wang
    2018, arXiv:1805.06530). Where a client is replaced by another, pass half the noise. inf for
    noise 0; 0.0 for no rounds.
    Raises Refused for a noise below 0, rounds that are not whole, a delta not between 0 and 1.
    """
    return epsilon(Release(noise, 1.0, rounds, 1), delta)


def noise_for(
    epsilon: float,
    fraction: float,
    rounds: int,
    delta: float,
    *,
    members: int,
    sampling: str = POISSON,
) -> float:
    """The smallest z of three digits whose ε is at most `epsilon`: 0.0 for inf. It takes a second.

    Raises Refused for an epsilon that is not above 0, and what a `Release` and a delta may not be.
    """
    if epsilon != math.inf:
        number("epsilon (ε)", epsilon, "a number above 0, or inf for no noise", above=0)

    def enough(z: float, fraction: float = fraction) -> bool:
        return _of(Release(z, fraction, rounds, members, sampling), delta) <= epsilon

    if enough(0.0):
        return 0.0
    # First without sampling, which is known at once: it needs more.
    most = bisect_left(THREES, True, key=lambda place: enough(_three(place), 1.0))
    return _three(bisect_left(THREES, True, hi=most, key=lambda place: enough(_three(place))))


def delta_for(members: int) -> float:
    """δ for so many clients: K^-1.1, less than one of them (McMahan et al. 2018), and at most 0.01:
    of three clients 0.3 would promise nothing. Raises Refused for less than one.
    """
    return min(whole("members (K)", members) ** -1.1, 0.01)


_of = epsilon  # where an argument has its name

THREES = range(900 * 45)


def _three(place: int) -> float:
    """The numbers of three digits, in order: 0.001, 0.00101 and so on."""
    return float(f"{place % 900 + 100}e{place // 900 - 5}")


def _check(delta: float) -> None:
    expected = "a probability between 0 and 1, less than one of all clients"
    number("delta (δ)", delta, expected, above=0, below=1)


@lru_cache(maxsize=4_096)
def _epsilon(rounds: tuple, replace: bool, delta: float) -> float:
    """ε of ((z, q, sampling), rounds)s, all of which have released something."""
    if not rounds or any(z < NONE for (z, _, _), _ in rounds):
        return math.inf if rounds else 0.0
    change = 2 if replace else 1  # how far the sum of those drawn may move, in lengths of S
    apart = math.sqrt(sum(count * (change / z) ** 2 for (z, _, _), count in rounds))
    most = _gaussian(apart, delta)
    # The losses of one round lie within 10 standard deviations of the noise, but for exp(-50).
    step = max(10 * change / z + (change / z) ** 2 / 2 for (z, _, _), _ in rounds) / STEPS
    if not most or step > COARSE or all(q == 1 for (_, q, _), _ in rounds):
        return most
    total = None
    for (z, q, sampling), count in rounds:
        losses = _one_round(z, q, sampling, replace, step).self_compose(count)
        total = total.compose(losses) if total else losses
    return min(_read(total, delta, most), most)


@lru_cache(maxsize=32)
def _one_round(z: float, q: float, sampling: str, replace: bool, step: float):
    """dp-accounting's PrivacyLossDistribution of one round, in multiples of `step`."""
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    if sampling == FIXED:
        return pld.PrivacyLossDistribution(_replaced(z, q, step))
    relation = NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.ADD_OR_REMOVE_ONE
    return pld.from_gaussian_mechanism(
        z, value_discretization_interval=step, sampling_prob=q, neighboring_relation=relation
    )


def _replaced(z: float, q: float, step: float):
    """A pair of distributions that no client replaced by another can exceed, drawn or not, either
    way round: its δ(ε) is the worst one, and for ε < 0 what follows when both change places,
    δ(-ε) = 1 - exp(-ε) + exp(-ε) δ(ε).
    """
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_mechanism as mechanism

    remove = mechanism.AdjacencyType.REMOVE
    worst = mechanism.GaussianPrivacyLoss(z, 2, sampling_prob=q, adjacency_type=remove)
    top = math.ceil(worst.connect_dots_bounds().epsilon_upper / step)
    losses = np.arange(top + 1) * step
    deltas = worst.get_delta_for_epsilon(losses)
    below = np.minimum(-np.expm1(-losses) + np.exp(-losses) * deltas, 1)[:0:-1]
    curve = np.concatenate([below, deltas])
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(step, -top, top, curve)


def _read(losses, delta: float, most: float) -> float:
    """ε of a PrivacyLossDistribution: where its own way runs out of numbers, exp(-ε) among them, by
    looking for it. That is slower while clients train: NumPy's threads wait for a processor.
    """
    try:
        with np.errstate(over="ignore"):
            found = float(losses.get_epsilon_for_delta(delta))
    except OverflowError:
        found = math.inf
    if found < 600:
        return found
    return _least(lambda epsilon: float(losses.get_delta_for_epsilon(epsilon)), delta, most)


def _gaussian(mu: float, delta: float) -> float:
    """ε of N(0, 1) against N(mu, 1)."""
    if mu <= delta:
        return 0.0  # the two differ by less

    def delta_of(epsilon: float) -> float:
        near, far = mu / 2 - epsilon / mu, mu / 2 + epsilon / mu
        # exp(ε) Φ(-far) without overflow: exp(ε) is density(near) / density(far).
        density = math.exp(-near * near / 2) / math.sqrt(2 * math.pi)
        return math.erfc(-near / math.sqrt(2)) / 2 - density * _tail(far)

    # The bound by Renyi's divergence (Mironov 2017, arXiv:1702.07476): above the exact ε.
    return _least(delta_of, delta, mu * mu / 2 + mu * math.sqrt(-2 * math.log(delta)))


def _tail(x: float) -> float:
    """Φ(-x) over the density at x, for x >= 0 (Mills's ratio)."""
    if x < 25:
        return math.erfc(x / math.sqrt(2)) / 2 * math.exp(x * x / 2) * math.sqrt(2 * math.pi)
    return (1 - x**-2 + 3 * x**-4 - 15 * x**-6) / x


def _least(delta_of: Callable[[float], float], delta: float, most: float) -> float:
    """The least ε with a δ of at most `delta`, rounded up by `CLOSE` of itself; `most` is one."""
    least = 0.0
    if delta_of(least) <= delta:
        return least
    while most - least > CLOSE * most:
        middle = (least + most) / 2
        if delta_of(middle) <= delta:
            most = middle
        else:
            least = middle
    return most
