"""How examples are dealt to clients."""

import numpy as np
import pytest

import fedlab
from fedlab.data import DataError


def each_example_once(parts, data):
    return np.array_equal(
        np.sort(np.concatenate([part.rows for part in parts])), np.arange(len(data))
    )


def test_iid_deals_everything_evenly(mnist):
    parts = fedlab.partition_iid(mnist.train, 100, seed=3)
    assert {len(part) for part in parts} == {600} and each_example_once(parts, mnist.train)
    again, other = (
        fedlab.partition_iid(mnist.train, 100, seed=3),
        fedlab.partition_iid(mnist.train, 100, seed=4),
    )
    assert np.array_equal(parts[7].rows, again[7].rows) and not np.array_equal(
        parts[7].rows, other[7].rows
    )
    assert (
        max(
            abs(part.label_counts() / 600 - mnist.train.label_counts() / 60_000).max()
            for part in parts
        )
        < 0.07
    )


def test_by_label_is_the_papers(mnist):
    """200 shards of 300 sorted by label, two a client: most clients see two digits, none more than
    four.
    """
    parts = fedlab.partition_by_label(mnist.train, 100, seed=0)
    kinds = [np.count_nonzero(part.label_counts()) for part in parts]
    assert {len(part) for part in parts} == {600} and each_example_once(parts, mnist.train)
    assert max(kinds) <= 4 and np.median(kinds) == 2


def test_dirichlet_is_skewed_by_alpha_and_leaves_nobody_empty(mnist):
    def skew(alpha):
        parts = fedlab.partition_dirichlet(mnist.train, 50, alpha=alpha, seed=1)
        assert each_example_once(parts, mnist.train) and min(len(part) for part in parts) >= 1
        return np.mean([part.label_counts().max() / len(part) for part in parts])

    assert skew(0.05) > 0.7 > 0.5 > skew(0.5) > 0.2 > skew(100.0)
    assert (
        min(
            len(part)
            for part in fedlab.partition_dirichlet(mnist.train, 50, alpha=0.01, seed=1, minimum=20)
        )
        >= 20
    )


@pytest.mark.parametrize(
    "deal", [fedlab.partition_iid, fedlab.partition_by_label, fedlab.partition_dirichlet]
)
@pytest.mark.parametrize("clients", [0, -1, 601, 2.0, True, "3"])
def test_clients_that_cannot_be(small, deal, clients):
    with pytest.raises(DataError, match="expected a whole number from 1 to 600"):
        deal(small, clients)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_alpha_that_cannot_be(small, alpha):
    with pytest.raises(DataError, match="alpha is .*; expected a number above 0"):
        fedlab.partition_dirichlet(small, 5, alpha=alpha)
