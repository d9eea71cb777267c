"""Virtual time: what becomes of those who are too late for their round."""

import numpy as np
import pytest

import fedlab


@pytest.fixture(scope="module")
def clients():
    rng = np.random.default_rng(0)
    data = fedlab.Dataset(rng.integers(0, 256, (60, 28, 28), np.uint8), np.arange(60) % 10)
    return dict(zip(["ann", "zoe"], fedlab.partition_iid(data, 2), strict=True))


def race(clients, deadline):
    """Two rounds; ann needs 3 seconds for her 30 images, zoe 6."""
    models = {}
    history = fedlab.simulate(
        clients,
        rounds=2,
        deadline=deadline,
        clock=fedlab.VirtualClock({"ann": 10, "zoe": 5}),
        on_model=models.__setitem__,
        progress=False,
    )
    return history, models


def test_at_the_deadline_is_too_late(clients):
    history, models = race(clients, deadline=6)
    assert [task[:3] + (task.taken,) for task in history.tasks] == [
        ("ann", 0, 3, True),
        ("zoe", 0, 6, False),
        ("ann", 6, 9, True),
    ]
    assert [list(record.clients) for record in history] == [["ann"], ["ann"]]
    # The same models as where zoe is hopelessly late: nothing of hers was taken for an update
    _, without = race(clients, deadline=5)
    for number in (1, 2):
        for here, there in zip(models[number], without[number], strict=True):
            np.testing.assert_array_equal(here, there)


def test_a_moment_before_it_is_in_time(clients):
    history, _ = race(clients, deadline=6.001)
    assert [record.seconds for record in history] == [6, 12]
    assert [list(record.clients) for record in history] == [["ann", "zoe"]] * 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_who_was_given_up_may_still_leave(clients, seed):
    """zoe misses her rounds by more than the minute after which a server gives a silent client up;
    then she drops out of that old task.
    """
    clock = fedlab.VirtualClock({"ann": 10, "zoe": 0.1}, drop_out=0.5)
    about = {"rounds": 300, "deadline": 5, "seed": seed, "progress": False}
    history = fedlab.simulate(clients, clock=clock, **about)
    assert len(history) == 300
    zoes = [task for task in history.tasks if task.client == "zoe"]
    assert zoes and not any(task.taken for task in zoes)
    for before, after in zip(zoes, zoes[1:], strict=False):
        assert before.ended <= after.began
