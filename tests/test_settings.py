"""A panel's sliders as one value."""

import pytest

from fedlab.data import DataError
from fedlab.messages import Refused, Training
from fedlab.secure import secured
from fedlab.settings import Settings
from fedlab.strategies import fed_avg, fed_avg_momentum

THREE = {"alice": (1, 4), "bob": (5, 8), "carol": (9, 12)}


def test_settings_become_a_plan():
    plan = Settings(
        THREE,
        rounds=7,
        fraction=0.5,
        epochs=2,
        batch_size=None,
        learning_rate=0.3,
        optimizer="adam",
    ).plan()
    assert (plan.rounds, plan.fraction, plan.min_clients) == (
        7,
        0.5,
        3,
    ) and plan.training == Training(2, None, 0.3, "adam")


@pytest.mark.parametrize(
    "settings, error, sentence",
    [
        (Settings({}), Refused, "there are no clients"),
        (
            Settings({"alice": (5, 2)}),
            DataError,
            "the shards are 5 to 2; expected a first and a last",
        ),
        (Settings({"<b>": (1, 2)}), Refused, "the client id is '<b>'"),
        (Settings(THREE, epochs=0), Refused, r"epochs \(E\) is 0"),
        (Settings(THREE, rounds=None), Refused, "rounds is None; expected a whole number from 1"),
        (Settings(THREE, seed=None), Refused, "seed is None; expected a whole number"),
    ],
)
def test_what_cannot_run_is_named(settings, error, sentence):
    with pytest.raises(error, match=sentence):
        settings.check()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strategy": "fed_sgd"}, "strategy is 'fed_sgd'; expected one of fed_avg, fed_prox, "),
        ({"strategy_settings": {"mu": 1}}, "has mu; expected for fed_avg one of none"),
        (
            {"strategy": "fed_prox", "strategy_settings": {"tau": 1, "mu": 1}},
            "has tau; expected for fed_prox one of mu",
        ),
        ({"strategy": "fed_prox", "strategy_settings": {"mu": -1}}, "mu is -1; expected a number"),
        ({"strategy": "scaffold", "optimizer": "adam"}, "optimizer is 'adam' with SCAFFOLD"),
        (
            {"strategy": "trimmed_mean", "strategy_settings": {"trim": 2}},
            r"got 3 clients; expected at least 5 with the strategy Trimmed mean \(trim 2\)",
        ),
    ],
)
def test_a_strategy_that_cannot_be(settings, sentence):
    with pytest.raises(Refused, match=sentence):
        Settings(THREE, **settings).check()


def test_the_strategys_settings_are_in_the_strategy_the_calls_and_the_legend():
    now = Settings(THREE)
    half = Settings(THREE, strategy="fed_avg_momentum", strategy_settings={"momentum": 0.5})
    whole = {"momentum": 0.9, "server_learning_rate": 1.0}
    default = Settings(THREE, strategy="fed_avg_momentum", strategy_settings=whole)
    assert half.make_strategy() == fed_avg_momentum(0.5)
    assert default.make_strategy() == fed_avg_momentum()
    assert "strategy=fedlab.fed_avg_momentum(momentum=0.5), seed=0" in half.as_calls()
    assert "strategy=fedlab.fed_avg_momentum(), seed=0" in default.as_calls()
    assert half.difference(now) == "FedAvg with momentum, momentum 0.5"
    assert default.difference(half) == "FedAvg with momentum"
    assert now.difference(half) == "FedAvg"


def test_the_difference_names_what_was_special():
    now = Settings(THREE)
    assert Settings(THREE).difference(now) == "same settings"
    assert Settings(THREE, epochs=5, batch_size=None).difference(now) == "E 5, B all"
    assert (
        Settings({**THREE, "carol": (9, 9)}, strategy="async_average").difference(now)
        == "carol only 9, Asynchronous"
    )
    assert now.difference(Settings({**THREE, "dave": (1, 2)}, optimizer="adam")) == "no dave, sgd"


def test_pooled_data_counts_a_shared_shard_once(mnist):
    pooled = Settings({"a": (1, 2), "b": (2, 3)}).pooled(mnist)
    assert len(pooled) == 15_000 and pooled.rows[0] == 0 and pooled.rows[-1] == 14_999


def test_whom_a_round_waits_for_is_in_the_plan_the_calls_and_the_legend():
    some = Settings(THREE, enough=2, deadline=0.5)
    assert (some.plan().enough, some.plan().deadline) == (2, 0.5)
    assert "optimizer='sgd', enough=2, deadline=0.5,\n    )" in some.as_calls()
    assert "enough" not in Settings(THREE).as_calls()
    assert some.difference(Settings(THREE)) == "first 2, deadline 0.5"
    without = Settings(THREE, strategy="fed_buff", enough=2, deadline=0.5)
    assert without.plan().enough is None is without.plan().deadline
    assert "deadline" not in without.as_calls()


def test_secure_is_in_the_strategy_the_calls_and_the_legend():
    secure = Settings(THREE, secure=True, sampling="poisson", fraction=0.5)
    assert secure.make_strategy() == secured(fed_avg()) and secure.plan().sampling == "poisson"
    calls = secure.as_calls()
    assert "strategy=fedlab.secured(fedlab.fed_avg()), seed=0" in calls
    assert "            side=fedlab.SecureSide(),\n        ).start()" in calls
    assert "optimizer='sgd', sampling='poisson',\n" in calls
    compile(calls, "calls", "exec")
    assert secure.difference(Settings(THREE, fraction=0.5)) == "poisson, secure"
    assert Settings(THREE).difference(secure) == "C 1.0, fixed, not secure"
    with pytest.raises(Refused, match="expected one that needs only the average"):
        Settings(THREE, secure=True, strategy="median").check()


def test_what_such_a_run_spends_of_privacy():
    assert Settings(THREE).epsilon() is None
    noisy = {"strategy": "dp_fed_avg", "strategy_settings": {"noise": 4.0}}
    assert Settings(**noisy).epsilon() is None
    epsilon, known, delta = Settings(THREE, sampling="poisson", **noisy).epsilon()
    assert epsilon == pytest.approx(known, rel=1e-3) and delta == 0.01  # C = 1: all take part
    less, same, _ = Settings(THREE, sampling="poisson", fraction=0.3, **noisy).epsilon()
    assert less < epsilon and same == known
    fixed = Settings(THREE, fraction=0.3, **noisy).epsilon()
    assert fixed[0] > less and fixed[1] > known
