"""How examples are dealt to clients."""

from xml.etree import ElementTree

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


def test_by_digit_gives_each_client_one_digit(mnist):
    parts = fedlab.partition_by_digit(mnist.train, 25, seed=2)
    assert each_example_once(parts, mnist.train)
    for client, part in enumerate(parts):
        assert set(part.y) == {client % 10}
    counts = mnist.train.label_counts()
    zeros = [len(parts[client]) for client in (0, 10, 20)]
    assert sum(zeros) == counts[0] and max(zeros) - min(zeros) <= 1
    other = fedlab.partition_by_digit(mnist.train, 25, seed=3)
    assert not np.array_equal(np.sort(parts[0].rows), np.sort(other[0].rows))


def test_by_digit_refuses_what_would_leave_somebody_or_some_digit_out(small):
    with pytest.raises(DataError, match="clients is 9; expected a whole number from 10 to 600"):
        fedlab.partition_by_digit(small, 9)
    no_seven = small.subset(np.flatnonzero(small.y != 7))
    sentence = "the digit 7 has 0 examples; expected at least one for its client"
    with pytest.raises(DataError, match=sentence):
        fedlab.partition_by_digit(no_seven, 10)
    one_seven = small.subset(
        np.append(np.flatnonzero(small.y != 7), np.flatnonzero(small.y == 7)[0])
    )
    sentence = "the digit 7 has 1 example; expected at least one for each of its 2 clients"
    with pytest.raises(DataError, match=sentence):
        fedlab.partition_by_digit(one_seven, 20)
    with pytest.raises(DataError, match=r"there is a label 9; expected 0 to 4 \(classes\)"):
        fedlab.partition_by_digit(small, 10, classes=5)


def test_by_quantity_is_alike_in_digits_and_unequal_in_size(mnist):
    def sizes(alpha):
        parts = fedlab.partition_by_quantity(mnist.train, 20, alpha=alpha, seed=1)
        assert each_example_once(parts, mnist.train) and fedlab.skew(parts) < 0.05
        return sorted(map(len, parts))

    few, many = sizes(0.1), sizes(100)
    assert few[0] >= 1 and few[-1] > 10_000  # nobody is empty, somebody has a large share
    assert many[0] > 2_000 and many[-1] < 4_000
    parts = fedlab.partition_by_quantity(mnist.train, 20, alpha=0.01, seed=1, minimum=50)
    assert min(map(len, parts)) == 50 and each_example_once(parts, mnist.train)


def of_counts(*counts):
    """Data sets with so many examples of each label: ((2, 0), (0, 2)) is two clients."""
    images = np.zeros((sum(map(sum, counts)), 1), np.uint8)
    labels = [np.repeat(np.arange(len(row)), row) for row in counts]
    everyone = fedlab.Dataset(images, np.concatenate(labels))
    ends = np.cumsum([0, *map(sum, counts)])
    return [everyone.subset(np.arange(a, b)) for a, b in zip(ends, ends[1:], strict=False)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (((1, 1), (5, 5)), 0.0),  # alike, whatever their sizes
        (((2, 0), (0, 2)), 1.0),
        (((3, 0, 0), (0, 5, 0), (0, 0, 9)), 1.0),  # one digit each, unequal
        # A quarter of each client's examples would have to be exchanged; with one digit each, half
        (((3, 1), (1, 3)), 0.5),
        # Everyone: 1/4, 1/4, 1/2, from which both are 1/2 away; the largest: 1 - 1/16 - 1/16 - 1/4
        (((2, 2, 0), (0, 0, 4)), 0.5 / 0.625),
        # Everyone: 5/8, 3/8, from which both are 3/8 away; the largest: 1 - 25/64 - 9/64
        (((4, 0), (1, 3)), (3 / 8) / (30 / 64)),
        (((4,), (1,)), 0.0),  # there is only one digit: nothing to differ in
        (((4, 0), (0, 0), (0, 4)), 1.0),  # an empty client counts nothing
    ],
)
def test_skew_by_hand(counts, expected):
    assert fedlab.skew(of_counts(*counts)) == pytest.approx(expected, abs=1e-12)
    named = {f"client {k}": part for k, part in enumerate(of_counts(*counts))}
    assert fedlab.skew(named, classes=10) == pytest.approx(expected, abs=1e-12)


def test_skew_orders_the_ways_to_deal(mnist):
    ways = [
        fedlab.partition_iid(mnist.train, 20),
        fedlab.partition_dirichlet(mnist.train, 20, alpha=1.0),
        fedlab.partition_dirichlet(mnist.train, 20, alpha=0.1),
        fedlab.partition_by_label(mnist.train, 20),
        fedlab.partition_by_digit(mnist.train, 20),
    ]
    values = [fedlab.skew(parts) for parts in ways]
    assert values == sorted(values) and values[0] < 0.05 and values[-1] == 1.0


def test_skew_of_nothing(small):
    with pytest.raises(DataError, match="the clients have no examples; expected at least one"):
        fedlab.skew([small.subset(np.arange(0))])


def test_the_picture_has_a_circle_for_every_digit_that_somebody_holds():
    parts = of_counts((4, 0, 1), (0, 16, 0))
    root = ElementTree.fromstring(fedlab.partition_svg({"<alice>": parts[0], "bob": parts[1]}, 3))
    circles = list(root.iter("circle"))
    radii = [float(circle.get("r")) for circle in circles]
    assert [r / radii[1] for r in radii] == pytest.approx([2, 1, 4], rel=0.01), "areas count"
    heights = [float(circle.get("cy")) for circle in circles]
    assert heights[0] == heights[1] < heights[2]
    texts = [text.text for text in root.iter("text")]
    assert texts == ["<alice>", "5", "bob", "16", "0", "1", "2", "digit", "images"]
    assert root.get("aria-label") == f"2 clients and their digits, skew {fedlab.skew(parts):.2f}"
    assert "client 1" in fedlab.partition_svg(parts)


@pytest.mark.parametrize(
    "deal",
    [
        fedlab.partition_iid,
        fedlab.partition_by_label,
        fedlab.partition_dirichlet,
        fedlab.partition_by_quantity,
    ],
)
@pytest.mark.parametrize("clients", [0, -1, 601, 2.0, True, "3"])
def test_clients_that_cannot_be(small, deal, clients):
    with pytest.raises(DataError, match="expected a whole number from 1 to 600"):
        deal(small, clients)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("deal", [fedlab.partition_dirichlet, fedlab.partition_by_quantity])
def test_alpha_that_cannot_be(small, deal, alpha):
    with pytest.raises(DataError, match="alpha is .*; expected a number above 0"):
        deal(small, 5, alpha=alpha)
