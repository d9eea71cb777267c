"""A panel's sliders as one value."""

import pytest

from fedlab.data import DataError
from fedlab.messages import Refused, Training
from fedlab.settings import Settings

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
        (Settings({"alice": (5, 2)}), DataError, "the dataset range is 5 2"),
        (Settings({"<b>": (1, 2)}), Refused, "the client id is '<b>'"),
        (Settings(THREE, epochs=0), Refused, r"epochs \(E\) is 0"),
    ],
)
def test_what_cannot_run_is_named(settings, error, sentence):
    with pytest.raises(error, match=sentence):
        settings.check()


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
