"""Virtual time: who is ready at the very moment of the deadline is too late, and counts nothing."""

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
