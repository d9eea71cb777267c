"""ε: against closed forms, integrals, dp-accounting's other accountants, and published values."""

import itertools
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from fedlab.checks import Refused
from fedlab.plan import FIXED, POISSON, Plan
from fedlab.privacy import accountant
from fedlab.privacy.accountant import Release, delta_for, epsilon, epsilon_unsampled, noise_for

WAYS = POISSON, FIXED


# ---- without sampling: a closed form -------------------------------------------------------------


def test_the_published_value_without_sampling():
    assert epsilon_unsampled(4, 10, 0.01) == pytest.approx(1.692, abs=5e-4)
    assert epsilon(Release(4.0, 1.0, 10, 20), 0.01) == epsilon_unsampled(4, 10, 0.01)


@pytest.mark.parametrize("mu", [1e-4, 0.01, 0.3, 1.0, 3.0, 10.0, 40.0, 100.0, 300.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-3, 0.3, 0.99])
def test_the_closed_form_of_others(mu, delta):
    from dp_accounting import get_epsilon_gaussian

    theirs = get_epsilon_gaussian(1 / mu, delta)
    assert epsilon_unsampled(1 / mu, 1, delta) == pytest.approx(theirs, rel=2e-6, abs=1e-11)


def test_the_closed_form_is_an_integral():
    x = np.linspace(-40, 40, 100_001)
    for z, rounds, delta in ((4, 10, 0.01), (1, 3, 1e-4), (0.5, 1, 1e-6)):
        z_all = z / math.sqrt(rounds)
        found = hockey_stick(density(x, 0, z_all), density(x, 1, z_all), x, delta)
        assert epsilon_unsampled(z, rounds, delta) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("rounds", [1, 20])
@pytest.mark.parametrize("z", [0.5, 2.0, 8.0])
def test_with_sampling_that_draws_nearly_all_it_is_the_closed_form(z, rounds):
    exact = epsilon_unsampled(z, rounds, 1e-4)
    assert epsilon(Release(z, 1 - 1e-9, rounds, 10), 1e-4) == pytest.approx(exact, rel=1e-4)
    members = 10_000_000
    almost = epsilon(Release(2 * z, 1 - 1 / members, rounds, members, FIXED), 1e-4)
    assert almost == pytest.approx(exact, rel=1e-4)
    assert epsilon(Release(2 * z, 1.0, rounds, members, FIXED), 1e-4) == exact


# ---- one round: integrals ------------------------------------------------------------------------


def density(x, mean, z):
    return np.exp(-(((x - mean) / z) ** 2) / 2) / (z * math.sqrt(2 * math.pi))


def mixture(x, share, mean, z):
    """What is released if one client is there, in a fraction `share` of all cases."""
    return (1 - share) * density(x, 0, z) + share * density(x, mean, z)


def delta_of(one, other, x, epsilon):
    """Σ max(one - exp(ε) other, 0), over a grid."""
    return np.maximum(one - math.exp(epsilon) * other, 0).sum() * (x[1] - x[0])


def hockey_stick(one, other, x, delta):
    """The ε at which that is `delta`."""
    low, high = 0.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(one, other, x, middle) <= delta else (middle, high)
    return high


ONE_ROUND = list(itertools.product((0.7, 1.0, 3.0), (0.02, 0.3), (1e-5, 1e-3)))


@pytest.mark.parametrize(("z", "share", "delta"), ONE_ROUND)
def test_one_round_of_poisson_sampling(z, share, delta):
    x = np.linspace(-12 * z - 2, 12 * z + 2, 20_001)
    with_it, without = mixture(x, share, 1, z), density(x, 0, z)
    exact = max(hockey_stick(with_it, without, x, delta), hockey_stick(without, with_it, x, delta))
    said = epsilon(Release(z, share, 1, 100), delta)
    assert exact * (1 - 1e-4) <= said <= exact * 1.01


@pytest.mark.parametrize(("z", "share", "delta"), ONE_ROUND)
def test_one_round_of_a_fixed_size_is_the_worst_that_others_can_make_of_it(z, share, delta):
    """One client at `here` is replaced by one at `there`; somebody at `other` is drawn if it is
    not. Said is the worst of all, and no more.
    """
    x = np.linspace(-12 * z - 4, 12 * z + 4, 10_001)
    said = epsilon(Release(z, share, 1, 100, FIXED), delta)
    found = {
        (here, there, other): hockey_stick(
            mixture(x, share, here - other, z), mixture(x, share, there - other, z), x, delta
        )
        for here, there, other in itertools.product((-1, 0, 1), repeat=3)
    }
    worst = max(found.values())
    assert found[1, -1, -1] == worst
    assert worst * (1 - 1e-4) <= said <= worst * 1.01
    if share < 0.1:
        assert found[-1, 1, 0] < worst / 1.5  # nobody stands in for it: REPLACE_ONE of Poisson


# ---- many rounds ---------------------------------------------------------------------------------


def test_published_values():
    """K = 1000, q = .1, T = 30, z = 1, δ = 1/K. For the fixed size a looser bound says 27.7."""
    release = Release(1.0, 0.1, 30, 1000)
    assert epsilon(release, 1e-3) == pytest.approx(2.57, abs=0.005)
    assert epsilon(release, delta_for(1000)) == pytest.approx(2.83, abs=0.005)
    assert epsilon(replace(release, sampling=FIXED), 1e-3) == pytest.approx(12.86, abs=0.01)


@pytest.mark.parametrize(("z", "share", "rounds"), [(0.7, 0.1, 20), (2, 0.3, 50)])
def test_others_accountants(z, share, rounds):
    """Poisson sampling: the same as dp-accounting's finest, and Renyi's bound is above, and near. A
    fixed size: with half the noise Renyi's bound is above; with all of it, it is too low.
    """
    import dp_accounting as dp

    def theirs(account, event):
        return account.compose(dp.SelfComposedDpEvent(event, rounds)).get_epsilon(1e-4)

    orders = [1 + x / 10 for x in range(5, 40, 5)] + list(range(5, 64))
    poisson = dp.PoissonSampledDpEvent(share, dp.GaussianDpEvent(z))
    said = epsilon(Release(z, share, rounds, 100), 1e-4)
    assert said == pytest.approx(theirs(dp.pld.PLDAccountant(), poisson), rel=0.01)
    assert said <= theirs(dp.rdp.RdpAccountant(orders), poisson) <= 1.5 * said

    said = epsilon(Release(z, share, rounds, 100, FIXED), 1e-4)
    swap = dp.NeighboringRelation.REPLACE_ONE
    half, whole = (
        theirs(
            dp.rdp.RdpAccountant(orders, swap),
            dp.SampledWithoutReplacementDpEvent(100, round(100 * share), dp.GaussianDpEvent(noise)),
        )
        for noise in (z / 2, z)
    )
    assert whole < least_of_fixed(z, share, rounds, 1e-4) <= said <= half


def least_of_fixed(z, share, rounds, delta):
    """What an attacker really can do: all others are at the end to which the client is moved, in
    every round. dp-accounting's, with what one client more does to a sum: 2.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    losses = pld.from_gaussian_mechanism(
        z, 2, sampling_prob=share, value_discretization_interval=2e-3
    )
    return losses.self_compose(rounds).get_epsilon_for_delta(delta) * 0.999  # it rounds up


def test_fixed_sizes_are_near_what_an_attacker_can_do():
    for z, share, rounds in ((1, 0.1, 30), (2, 0.1, 30), (4, 0.5, 20)):
        said = epsilon(Release(z, share, rounds, 1000, FIXED), 1e-3)
        least = least_of_fixed(z, share, rounds, 1e-3)
        assert least <= said <= 1.3 * least


@pytest.mark.parametrize("sampling", WAYS)
def test_rounds_one_by_one_are_the_same(sampling):
    release = Release(1.5, 0.1, 12, 50, sampling)
    parts = [replace(release, rounds=rounds) for rounds in (5, 0, 1, 6)]
    assert epsilon(parts, 1e-4) == epsilon(release, 1e-4)
    mixed = [release, Release(3.0, 0.2, 4, 60, sampling)]
    assert epsilon(mixed, 1e-4) == epsilon(mixed[::-1], 1e-4)
    assert epsilon(mixed, 1e-4) > max(epsilon(one, 1e-4) for one in mixed)
    twice = [release, replace(release, noise=1.5 * (1 + 1e-9))]  # composed, for it is another noise
    assert epsilon(twice, 1e-4) == pytest.approx(
        epsilon(replace(release, rounds=24), 1e-4), rel=1e-3
    )


def test_both_ways_of_sampling_are_about_one_client_replaced():
    poisson, fixed = Release(1.5, 0.1, 12, 50), Release(1.5, 0.1, 12, 50, FIXED)
    both = epsilon([poisson, fixed], 1e-4)
    assert epsilon(fixed, 1e-4) < both < epsilon(replace(fixed, rounds=24), 1e-4)
    assert epsilon([poisson, replace(fixed, rounds=0)], 1e-4) > epsilon(poisson, 1e-4)
    everybody = [replace(poisson, fraction=1.0), replace(fixed, fraction=1.0)]
    assert epsilon(everybody, 1e-4) == epsilon_unsampled(0.75, 24, 1e-4)


@pytest.mark.parametrize("sampling", WAYS)
def test_more_noise_fewer_rounds_and_clients_and_a_larger_delta_hide_more(sampling):
    def falls(values):
        return all(more > less > 0 for more, less in itertools.pairwise(values))

    def said(z=1.0, fraction=0.1, rounds=10, delta=1e-4):
        return epsilon(Release(z, fraction, rounds, 1000, sampling), delta)

    assert falls(said(z=z) for z in (0.1, 0.3, 1.0, 1.01, 2.0, 10.0))
    assert falls(said(fraction=q) for q in (1.0, 0.99, 0.1, 0.01))
    assert falls(said(rounds=rounds) for rounds in (200, 31, 30, 1))
    assert falls(said(delta=delta) for delta in (1e-9, 1e-6, 1e-4, 1e-3, 1e-2))
    assert falls([said(z / 2) for z in (1.0, 2.0)] + [epsilon_unsampled(8, 10, 1e-4)])


@pytest.mark.parametrize("sampling", WAYS)
def test_ends(sampling):
    release = Release(1.0, 0.5, 3, 10, sampling)
    assert epsilon([], 0.1) == epsilon(replace(release, rounds=0), 0.1) == 0.0
    assert epsilon(replace(release, noise=0.0), 0.1) == math.inf
    assert epsilon([release, replace(release, noise=0)], 0.1) == math.inf
    assert epsilon(replace(release, noise=0, rounds=0), 0.1) == 0.0
    nobody = epsilon(replace(release, noise=0, fraction=0.0), 0.1)
    assert nobody == (0.0 if sampling == POISSON else math.inf)  # a fixed size is one at least
    assert epsilon_unsampled(0, 1, 0.1) == math.inf and epsilon_unsampled(0, 0, 0.1) == 0.0
    assert epsilon(replace(release, noise=1e300), 1e-9) == 0.0
    for z, delta in ((1e-8, 0.1), (0.001, 0.999), (0.3, 1e-300), (100.0, 1e-15), (0.01, 0.9)):
        said = epsilon(replace(release, noise=z), delta)
        assert 0 <= said <= epsilon_unsampled(z / 2, 3, delta) * (1 + 1e-5)


def test_how_many_take_part():
    assert Release(1, 0.25, 1, 10).expected == 2.5 and Release(1, 0.25, 1, 10).share == 0.25
    assert Release(1, 0.25, 1, 10, FIXED).expected == 2 and Release(1, 0, 1, 10).expected == 0
    assert Release(1, 0.0, 1, 10, FIXED).share == 0.1
    assert Release(1, np.float64(0.26), np.int64(1), np.int64(10), FIXED).share == 0.3
    plan = Plan(fraction=0.25, sampling=FIXED)
    from fedlab.federation.rounds import size

    for members in range(1, 40):
        release = Release(1, plan.fraction, 1, members, plan.sampling)
        assert release.expected == size(plan, members, 1)


# ---- the noise that is needed --------------------------------------------------------------------


@pytest.mark.parametrize("sampling", WAYS)
@pytest.mark.parametrize(("wanted", "fraction", "rounds"), [(8, 0.1, 30), (2, 1.0, 5)])
def test_the_least_noise_of_three_digits(sampling, wanted, fraction, rounds):
    z = noise_for(wanted, fraction, rounds, 1e-3, members=100, sampling=sampling)
    assert z == float(f"{z:.3g}")
    release = Release(z, fraction, rounds, 100, sampling)
    less = float(f"{z - 10 ** (math.floor(math.log10(z)) - 2):.3g}")
    assert epsilon(release, 1e-3) <= wanted < epsilon(replace(release, noise=less), 1e-3)


def test_no_noise_where_none_is_needed_and_much_where_much_is():
    assert noise_for(math.inf, 0.1, 30, 1e-3, members=100) == 0.0
    assert noise_for(1.0, 0.1, 0, 1e-3, members=100) == 0.0
    assert noise_for(1.0, 0.0, 30, 1e-3, members=100) == 0.0
    from dp_accounting import get_sigma_gaussian

    for wanted, delta in ((1e-3, 1e-6), (1.0, 1e-3), (5_000.0, 1e-3)):
        found = noise_for(wanted, 1.0, 1, delta, members=100)
        assert (
            get_sigma_gaussian(wanted, delta) <= found <= 1.01 * get_sigma_gaussian(wanted, delta)
        )


def test_delta_is_less_than_one_client():
    assert delta_for(1000) == pytest.approx(1000**-1.1)
    assert all(delta_for(members) < 1 / members for members in (1, 2, 3, 10**6))
    assert delta_for(1) == delta_for(65) == 0.01 > delta_for(66)


# ---- bad input -----------------------------------------------------------------------------------

GOOD = {"noise": 1.0, "fraction": 0.1, "rounds": 3, "members": 10, "sampling": POISSON}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"noise": -0.1}, "noise (z) is -0.1; expected"),
        ({"noise": math.inf}, "noise (z) is inf"),
        ({"noise": math.nan}, "noise (z) is nan"),
        ({"noise": "1"}, "noise (z) is '1'"),
        ({"noise": True}, "noise (z) is True"),
        ({"fraction": 1.01}, "fraction (C) is 1.01; expected a number from 0 to 1"),
        ({"fraction": -1}, "fraction (C) is -1"),
        ({"fraction": None}, "fraction (C) is None"),
        ({"rounds": -1}, "rounds is -1; expected a whole number from 0"),
        ({"rounds": 1.5}, "rounds is 1.5"),
        ({"members": 0}, "members (K) is 0; expected a whole number from 1"),
        ({"sampling": "all"}, "sampling is 'all'; expected 'poisson' or 'fixed'"),
        ({"sampling": None}, "sampling is None"),
    ],
)
def test_releases_that_cannot_be(wrong, said):
    with pytest.raises(Refused) as error:
        Release(**GOOD | wrong)
    assert said in str(error.value)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5, math.nan, math.inf, None, "0.1"])
def test_deltas_that_cannot_be(delta):
    for call in (
        lambda: epsilon(Release(**GOOD), delta),
        lambda: epsilon([], delta),
        lambda: epsilon_unsampled(1.0, 1, delta),
        lambda: noise_for(1.0, 0.1, 1, delta, members=10),
        lambda: noise_for(math.inf, 0.1, 1, delta, members=10),
    ):
        with pytest.raises(Refused, match="delta .* expected a probability between 0 and 1"):
            call()


def test_other_numbers_that_cannot_be():
    for wrong in (0, -1.0, math.nan, -math.inf, None, "1"):
        with pytest.raises(Refused, match="expected a number above 0, or inf"):
            noise_for(wrong, 0.1, 1, 0.1, members=10)
    with pytest.raises(Refused, match="fraction"):
        noise_for(1.0, 2, 1, 0.1, members=10)
    with pytest.raises(Refused, match="sampling"):
        noise_for(1.0, 0.1, 1, 0.1, members=10, sampling="no")
    with pytest.raises(Refused, match="noise"):
        epsilon_unsampled(-1, 1, 0.1)
    with pytest.raises(Refused, match="rounds"):
        epsilon_unsampled(1, 1.0, 0.1)
    for wrong in (0, 1.5, True):
        with pytest.raises(Refused, match="members"):
            delta_for(wrong)


# ---- behind a slider -----------------------------------------------------------------------------


def test_only_sampling_loads_what_is_slow_to_load():
    code = (
        "import sys; from fedlab.privacy import accountant as a; a.epsilon_unsampled(1, 5, 0.01);"
        " a.epsilon(a.Release(1, 1, 5, 9, 'fixed'), 0.01);"
        " print(sorted({'dp_accounting', 'scipy', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


@pytest.mark.parametrize("sampling", WAYS)
def test_it_is_quick_and_the_steps_are_small_enough(sampling, monkeypatch):
    """On a quiet machine 0.1 s each; this one may be busy."""
    spent = []
    for z, fraction, rounds in ((0.3, 0.01, 200), (3, 0.01, 30), (10, 0.5, 200)):
        release = Release(z, fraction, rounds, 1000, sampling)
        began = time.process_time()
        said = epsilon(release, 1e-4)
        spent.append(time.process_time() - began)
        with monkeypatch.context() as patch:
            patch.setattr(accountant, "STEPS", 15_000)
            accountant._epsilon.cache_clear()
            fine = epsilon(release, 1e-4)
        accountant._epsilon.cache_clear()
        assert fine * (1 - 1e-5) <= said <= fine * 1.01
    assert sorted(spent)[1] < 1
