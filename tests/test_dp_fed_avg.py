"""DP-FedAvg: a step by hand, the noise that was promised, and what it costs."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import fedlab
from fedlab.checks import Refused
from fedlab.messages import Task, Training, Update
from fedlab.plan import POISSON, Plan
from fedlab.privacy.accountant import Release, delta_for, epsilon
from fedlab.privacy.clipping import change, clipped, flat, gaussian, shaped
from fedlab.privacy.dp_fed_avg import merged, rows, spent
from fedlab.secure import FixedPoint, secured
from fedlab.strategies import Finished, Momentum, State, Updates
from tests.test_secured import Played, examples, models

dp_fed_avg = fedlab.dp_fed_avg
OLD = [np.array([1.0, 2.0], np.float32), np.array([[3.0]], np.float32)]
PLAN = Plan(fraction=0.5, sampling=POISSON)


def update(client, *moves, n=10):
    """OLD, moved by these."""
    new = shaped(flat(OLD) + np.array(moves), OLD)
    return Update(client, 1, n, new)


def play(strategy, updates, state=None, members=8, plan=PLAN, round=1, seed=0):
    state = state or State(OLD)
    names = tuple(u.client for u in updates)
    task = Task(round, 10, state.weights, Training(), seed=seed)
    return strategy.run_round(state, task, lambda _: Updates(updates, names, members, 99, plan))


# ---- a step by hand ------------------------------------------------------------------------------


def test_clipped_changes_over_the_number_that_is_expected():
    """Three came, four are expected (q K = 0.5 x 8): 3-4-0 is cut to length 1, the others are not.
    Their examples do not matter.
    """
    updates = [update("a", 3, 4, 0), update("b", 0, 0, -0.5, n=600), update("c", 0.6, 0, 0, n=1)]
    new = play(dp_fed_avg(clip=1.0, noise=0.0), updates)
    expected = flat(OLD) + np.array([0.6 + 0.6, 0.8, -0.5]) / 4
    np.testing.assert_allclose(flat(new.weights), expected, rtol=1e-6)
    assert new.num_examples == 0 and [w.dtype for w in new.weights] == [np.float32] * 2


def test_with_a_fixed_number_it_is_divided_by_that():
    updates = [update("a", 1, 0, 0), update("b", 0, 1, 0)]
    new = play(dp_fed_avg(clip=9.0, noise=0.0), updates, plan=Plan(fraction=0.25))
    np.testing.assert_allclose(flat(new.weights) - flat(OLD), [0.5, 0.5, 0], rtol=1e-6)


def test_without_noise_and_with_a_wide_clip_it_is_the_average_of_equal_clients():
    clients = [examples(40, seed) for seed in range(3)]
    plain = models(clients, fedlab.fed_avg())
    wide = models(clients, dp_fed_avg(clip=1e6, noise=0.0))
    for mine, its in zip(plain[2], wide[2], strict=True):
        np.testing.assert_allclose(mine, its, atol=2e-6)


def test_a_server_step_follows_what_was_released():
    strategy = dp_fed_avg(clip=9.0, noise=0.0, step=Momentum(0.5))
    state = None
    for round in (1, 2):
        old = state.weights if state else OLD
        moved = [Update("a", 1, 9, shaped(flat(old) + [4, 0, 0], OLD))]
        state = play(strategy, moved, state, round=round)
    assert flat(state.weights)[0] == pytest.approx(1 + 1 + 1.5)  # 4 / (q K = 4), then half again
    assert "velocity" in state.memory and strategy.name == "DP-FedAvg + Momentum"


def test_the_noise_has_the_deviation_that_is_promised():
    """z S in the sum, whatever came: over q K in the model. A thousand numbers, four rounds."""
    old = [np.zeros(1_000, np.float32)]
    strategy, found = dp_fed_avg(clip=0.2, noise=3.0), []
    for count in range(4):
        updates = [Update(f"c{i}", 1, 5, old) for i in range(count)]
        found.append(flat(play(strategy, updates, State(old)).weights))
    assert np.std(found) == pytest.approx(0.2 * 3.0 / 4, rel=0.05)
    assert abs(np.mean(found)) < 0.01
    for one, other in itertools.combinations(found, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15, "no two rounds have the same noise"


def test_seeded_it_repeats_and_otherwise_it_does_not():
    first, again = (play(dp_fed_avg(seeded=True), [], seed=4) for _ in range(2))
    np.testing.assert_array_equal(flat(first.weights), flat(again.weights))
    for other in (
        play(dp_fed_avg(seeded=True), [], seed=5),
        play(dp_fed_avg(seeded=True), [], seed=4, round=2),
        play(dp_fed_avg(), [], seed=4),
    ):
        assert (flat(first.weights) != flat(other.weights)).all()


def test_a_round_with_nobody_is_a_round():
    """It has noise and costs the same, or else everybody could see that nobody was there."""
    clients = [examples(30, seed) for seed in range(3)]
    found = models(clients, dp_fed_avg(noise=0.3, delta=1e-3), 8, fraction=0.2, sampling=POISSON)
    history, sizes = found["history"], [len(r.clients) for r in found["history"]]
    assert 0 in sizes and len(set(sizes)) > 1
    for record, size in zip(history, sizes, strict=True):
        if record.round > 1:
            before, after = flat(found[record.round - 1]), flat(found[record.round])
            assert (before != after).mean() > 0.5
        assert record.note.startswith("nobody was drawn") == (size == 0)
    spent = [record.measures["epsilon"] for record in history]
    assert all(a < b for a, b in itertools.pairwise(spent))


# ---- a clip that follows -------------------------------------------------------------------------


def test_the_clip_follows_the_quantile():
    """Changes of lengths 0.1 to 2.0: half of them are cut when the clip is near their median."""
    lengths = np.linspace(0.1, 2.0, 20)
    strategy, state = dp_fed_avg(clip=5.0, noise=0.0, adapt=0.5), State(OLD)
    for round in range(1, 60):
        moved = [
            Update(f"c{i:02}", 1, 9, shaped(flat(state.weights) + [x, 0, 0], OLD))
            for i, x in enumerate(lengths)
        ]
        state = play(strategy, moved, state, 20, Plan(sampling=POISSON), round)
    assert strategy.clip_of(state) == pytest.approx(np.median(lengths), rel=0.1)
    assert strategy.measures(state)["clip"] == strategy.clip_of(state)


def test_one_step_of_the_clip_by_hand():
    """One of two is cut, and 80 % should not be: C <- C exp(-0.2 (0.5 - 0.8))."""
    updates = [update("a", 9, 0, 0), update("b", 1, 0, 0)]
    plan = Plan(sampling=POISSON)
    new = play(dp_fed_avg(clip=2.0, noise=0.0, adapt=0.8), updates, members=2, plan=plan)
    assert float(new.memory["clip"][0]) == pytest.approx(2 * math.exp(0.06))


def test_the_noise_of_both_sums_together_is_worth_z():
    """Andrew et al. 2021, Theorem 1: 1/z^2 = 1/z_change^2 + 1/(2 sigma_b)^2."""
    updates = Updates([], (), 100, 0, PLAN)
    noise = dp_fed_avg(clip=0.5, noise=1.2, adapt=0.5).noise_of(State(OLD), updates)
    assert noise.inside == 2.5  # 50 are expected
    assert (noise.change / 0.5) ** -2 + (2 * noise.inside) ** -2 == pytest.approx(1.2**-2)
    few = dp_fed_avg(clip=0.5, noise=1.2, adapt=0.5).noise_of(
        State(OLD), replace(updates, members=4)
    )
    assert few.inside == 1.2 and math.isfinite(few.change)


# ---- with secure aggregation ---------------------------------------------------------------------


@pytest.mark.parametrize("adapt", [0.0, 0.5])
def test_secured_without_noise_it_is_the_same(adapt):
    strategy = dp_fed_avg(clip=0.3, noise=0.0, adapt=adapt)
    plan = Plan(sampling=POISSON)
    played = Played(secured(strategy), plan=plan, leave={"client-03": 2})
    new = played.run()
    updates = [Update(n, 3, 1, played.new[n]) for n in played.names if n != "client-03"]
    plain = play(strategy, updates, State(played.old), 12, plan, round=3)
    error = FixedPoint(summands=12).error / 12 + 3e-7
    assert np.abs(flat(new.weights) - flat(plain.weights)).max() <= error
    if adapt:
        assert float(new.memory["clip"][0]) == pytest.approx(float(plain.memory["clip"][0]))


@pytest.mark.slow
@pytest.mark.parametrize("stay", [12, 8, 7, 0])
def test_secured_there_is_always_as_much_noise_whoever_comes(stay):
    """8 of 12 must stay. Each adds variance (z S)^2 / 8, and the server what is missing to 3/2 of
    (z S)^2: how many came cannot be told. With fewer than 8 it is all the server's.
    """
    strategy, found = secured(dp_fed_avg(clip=0.5, noise=2.0)), []
    for seed in range(60):
        leave = {f"client-{i:02}": 2 for i in range(12 - stay)}
        played = Played(strategy, plan=Plan(sampling=POISSON), leave=leave, seed=seed)
        new = flat(played.run().weights) * 12 - flat(played.old) * 12
        for name in played.names[12 - stay :] if stay >= 8 else ():
            new -= clipped(change(played.new[name], played.old), 0.5)[0]
        found.append(new)
    assert np.std(found) == pytest.approx(2.0 * 0.5 * math.sqrt(1.5), rel=0.06)


def test_secured_the_clients_noise_alone_is_what_was_promised():
    """When just the threshold stays, before the server adds its own: z S."""
    played = Played(secured(dp_fed_avg(clip=0.5, noise=2.0)), plan=Plan(sampling=POISSON))
    about = played.strategy.about(played.state, played.examples, Updates([], (), 12, 0, PLAN))
    assert about.threshold == 8 and about.noise * math.sqrt(8) == pytest.approx(2.0 * 0.5)


def test_secured_a_round_of_one_and_of_nobody():
    strategy = secured(dp_fed_avg(clip=0.5, noise=1.0))
    plan = Plan(fraction=0.1, sampling=POISSON)
    for drawn in ([], ["client-05"]):
        played = Played(strategy, plan=plan, drawn=drawn)
        new = played.run()
        assert (flat(new.weights) != flat(played.old)).all()
        assert spent(new) == [Release(1.0, 0.1, 1, 12, POISSON)]
        assert all(not u.weights for u in played.received)


@pytest.mark.slow
def test_secured_in_a_simulation_it_counts_epsilon():
    clients = [examples(30, seed) for seed in range(4)]
    strategy = secured(dp_fed_avg(clip=1.0, noise=1.0, adapt=0.5, seeded=True))
    one, other = (models(clients, strategy, 3, fraction=0.6, sampling=POISSON) for _ in range(2))
    last = one["history"][-1]
    assert last.measures["epsilon"] == epsilon(Release(1.0, 0.6, 3, 4), delta_for(4))
    assert last.measures["clip"] != 1.0
    for mine, its in zip(one[3], other[3], strict=True):
        np.testing.assert_array_equal(mine, its)


# ---- what it costs -------------------------------------------------------------------------------


def test_every_round_has_its_epsilon_in_the_record_and_in_files(tmp_path):
    clients = [examples(30, seed) for seed in range(4)]
    strategy = dp_fed_avg(noise=2.0, delta=0.01)
    history = models(clients, strategy, 3, fraction=0.5, sampling=POISSON)["history"]
    for record in history:
        known = epsilon(Release(2.0, 0.5, record.round, 4), 0.01)
        assert record.measures == {"epsilon": pytest.approx(known), "delta": 0.01}
    again = fedlab.History.from_json(history.to_json())
    assert [record.measures for record in again] == [record.measures for record in history]
    header, *lines = history.to_csv().splitlines()
    assert header.endswith(",note,delta,epsilon")
    assert float(lines[2].rsplit(",", 1)[1]) == pytest.approx(known, abs=1e-6)
    plain = models(clients, fedlab.fed_avg(), 1)["history"]
    assert plain[0].measures == {} and plain.to_csv().splitlines()[0].endswith(",note")


def test_without_noise_epsilon_is_infinite_and_rounds_of_two_plans_add_up():
    state = play(dp_fed_avg(noise=0.0), [])
    assert dp_fed_avg(noise=0.0).measures(state)["epsilon"] == math.inf
    strategy = dp_fed_avg(noise=2.0)
    state = play(strategy, [], play(strategy, []))
    state = play(strategy, [], state, plan=replace(PLAN, fraction=0.25))
    assert spent(state) == [Release(2.0, 0.5, 2, 8), Release(2.0, 0.25, 1, 8)]
    assert strategy.measures(state)["epsilon"] == epsilon(spent(state), delta_for(8))
    assert merged(spent(state)) == tuple(spent(state)) and rows(spent(state)).shape == (2, 5)


def test_fewer_clients_do_not_make_delta_larger():
    strategy = dp_fed_avg(noise=2.0)
    first = play(strategy, [], members=1_000)
    second = play(strategy, [], first, members=50)
    assert strategy.measures(second)["delta"] == delta_for(1_000)
    assert strategy.measures(second)["epsilon"] > strategy.measures(first)["epsilon"]


@pytest.mark.slow
def test_who_is_drawn_and_what_they_measured_is_nobodys_business():
    """Unless it is seeded, the draw does not follow from the seed, which every client has; and no
    client's own accuracy is written down beside a sum that hides it.
    """
    clients = [examples(30, seed) for seed in range(6)]
    settings = {"fraction": 0.5, "sampling": POISSON, "test": clients[0], "evaluate_clients": True}

    def who(strategy):
        history = models(clients, strategy, 12, **settings)["history"]
        assert all(math.isnan(c.accuracy) for r in history for c in r.clients.values())
        return [tuple(record.clients) for record in history]

    assert who(dp_fed_avg(noise=0.1)) != who(dp_fed_avg(noise=0.1))
    assert who(dp_fed_avg(noise=0.1, seeded=True)) == who(dp_fed_avg(noise=0.1, seeded=True))
    assert who(secured(dp_fed_avg(noise=0.1))) != who(secured(dp_fed_avg(noise=0.1)))


def test_a_round_in_which_nobody_comes_in_time_is_one_of_noise():
    clients = {"ann": examples(30, 1), "zoe": examples(30, 2)}
    for make in (lambda s: s, secured):
        strategy = make(dp_fed_avg(noise=0.5, delta=1e-3))
        clock = fedlab.VirtualClock({"ann": 1e-3, "zoe": 1e-3})
        found = models(clients, strategy, 2, sampling=POISSON, clock=clock, deadline=5.0)
        history = found["history"]
        assert [len(r.clients) for r in history] == [0, 0]
        assert history[0].measures["epsilon"] < history[1].measures["epsilon"]
        assert (flat(found[1]) != flat(found[2])).mean() > 0.5


def test_what_was_spent_goes_on_from_a_checkpoint(tmp_path):
    strategy, path = dp_fed_avg(noise=2.0), tmp_path / "model.safetensors"
    state = play(strategy, [], play(strategy, []))
    fedlab.checkpoint.save_checkpoint(path, state, fedlab.History(), strategy.identity)
    again, _ = fedlab.load_checkpoint(path, OLD, strategy.identity)
    assert strategy.measures(again) == strategy.measures(state)


def test_a_budget_ends_the_run_before_it_is_overspent():
    clients = [examples(30, seed) for seed in range(4)]
    after = [epsilon(Release(2.0, 0.5, rounds, 4), 0.01) for rounds in (1, 2, 3)]
    strategy = dp_fed_avg(noise=2.0, delta=0.01, budget=(after[1] + after[2]) / 2)
    for chosen in (strategy, secured(strategy)):
        history = models(clients, chosen, 9, fraction=0.5, sampling=POISSON)["history"]
        assert len(history) == 2 and history[-1].measures["epsilon"] == pytest.approx(after[1])
    with pytest.raises(Finished, match=r"one round more would spend ε = .*; the budget is 0\.1"):
        play(replace(strategy, budget=0.1), [])


# ---- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clip": 0}, "clip is 0; expected a number above 0"),
        ({"clip": -1}, "clip is -1"),
        ({"noise": -0.1}, "noise is -0.1; expected a number from 0"),
        ({"noise": math.nan}, "noise is nan"),
        ({"adapt": 1.0}, "adapt is 1.0; expected"),
        ({"delta": 0}, r"delta \(δ\) is 0; expected a probability between 0 and 1"),
        ({"delta": 1.0}, r"delta \(δ\) is 1.0"),
        ({"budget": 0}, r"budget \(ε\) is 0; expected a number above 0"),
        ({"budget": 8, "noise": 0}, "noise is 0 with a budget of ε = 8; expected noise above 0"),
        ({"combine": fedlab.Mean()}, r"combine is Mean\(\) with DP-FedAvg; expected none: every"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(Refused, match=said):
        dp_fed_avg(**settings)


def test_nobody_can_be_expected_in_no_round():
    with pytest.raises(Refused, match=r"fraction \(C\) is 0 by Poisson sampling with DP-FedAvg"):
        dp_fed_avg().check(Plan(fraction=0, sampling=POISSON))


@pytest.mark.parametrize("plan", [Plan(enough=3), Plan(min_updates=2)])
def test_plans_that_cannot_be(plan):
    for strategy in (dp_fed_avg(), secured(dp_fed_avg())):
        with pytest.raises(Refused, match="must not depend on who takes part"):
            strategy.check(plan)


def test_a_change_that_cannot_be_clipped():
    assert clipped(np.zeros(3), 1.0)[1]
    with pytest.raises(Refused, match="the change is not finite"):
        clipped(np.array([np.inf]), 1.0)
    with pytest.raises(Refused, match="clip is 0; expected a number above 0"):
        clipped(np.ones(3), 0)
    assert not gaussian(3, 0.0, np.random.default_rng()).any()
