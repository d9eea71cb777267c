"""Combinations against numbers worked out by hand, against Flower's own, and against attackers: as
many as they promise to stand, and more."""

import doctest
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import fedlab
from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.messages import Training, Update, length
from fedlab.plan import Plan
from fedlab.robust.bulyan import near_the_median
from fedlab.robust.distances import products, squared_distances
from fedlab.robust.geometric import shares
from fedlab.robust.krum import scores
from fedlab.strategies import State, TooFewUpdates, Updates, settings_of
from fedlab.strategies.combine import combined

ROOT = Dataset(np.zeros((2, 28, 28), np.uint8), np.array([0, 1]))


class Fixed:
    """A classifier whose training always goes to the same place; it writes down its questions."""

    def __init__(self, *there: float):
        self.there, self.asked = [np.array(there, np.float32)], []

    def train(self, weights, data, training, seed):
        self.asked.append((weights, len(data), training, seed))
        return self.there, 0.0


def line(*values: float, examples: int = 10) -> list[Update]:
    """One number each."""
    return [
        Update(f"c{k:02}", 3, examples, [np.array([value], np.float32)])
        for k, value in enumerate(values)
    ]


def cloud(count: int, seed: int = 0, spread: float = 1.0) -> list[Update]:
    """Models of two arrays around 5."""
    rng = np.random.default_rng(seed)
    return [
        Update(f"c{k:02}", 3, 10 + k, [
            (5 + spread * rng.normal(size=shape)).astype(np.float32) for shape in ((3, 4), (5,))
        ])
        for k in range(count)
    ]  # fmt: skip


def vector(weights) -> np.ndarray:
    return np.concatenate([w.astype(np.float64).ravel() for w in weights])


def rows(updates) -> np.ndarray:
    return np.stack([vector(update.weights) for update in updates])


def model() -> list[np.ndarray]:
    """Where the cloud's training began."""
    return [np.full((3, 4), 4, np.float32), np.full(5, 4, np.float32)]


def trust() -> fedlab.FLTrust:
    classifier = Fixed()
    classifier.there = [w + np.float32(0.5) for w in model()]
    return fedlab.FLTrust(ROOT, classifier=classifier)


COMBINATIONS = [
    fedlab.Krum(2),
    fedlab.MultiKrum(2),
    fedlab.MultiKrum(2, 3),
    fedlab.Bulyan(2),
    fedlab.GeometricMedian(),
    fedlab.ClippedMean(0.7),
    trust(),
]


def names(value) -> str:
    return type(value).__name__


# ---- by hand -------------------------------------------------------------------------------------


def test_distances_are_numpys_whatever_the_size():
    updates = cloud(40, seed=2)
    big = [np.random.default_rng(k).normal(size=(9_001,)).astype(np.float32) for k in range(40)]
    updates = [replace(u, weights=[*u.weights, w]) for u, w in zip(updates, big, strict=True)]
    apart = rows(updates)[:, None] - rows(updates)
    np.testing.assert_allclose(squared_distances(updates), (apart**2).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(products(updates), rows(updates) @ rows(updates).T, rtol=1e-9)


def test_who_sends_the_largest_numbers_does_not_blur_the_others():
    huge = [np.full((3, 4), 3e38, np.float32), np.full(5, -3e38, np.float32)]
    updates = cloud(6)
    with_it = [*updates[:3], Update("x", 3, 1, huge), *updates[3:]]
    honest = np.ix_([0, 1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6])
    np.testing.assert_allclose(
        squared_distances(with_it)[honest], squared_distances(updates), rtol=1e-9
    )
    for combine in (fedlab.Krum(1), fedlab.MultiKrum(1), fedlab.Bulyan(1),
                    fedlab.GeometricMedian()):  # fmt: skip
        found = vector(combine(with_it)[0])
        assert (np.abs(found - 5) < 3).all(), combine


def test_krum_by_hand():
    """0, 1, 3, 4 and 100, f = 1: to the two nearest others 10, 5, 5, 10 and very many. Of two
    equals the one that is nearer to all.
    """
    updates = line(0, 1, 3, 4, 100)
    assert scores(squared_distances(updates), 1).tolist() == [10, 5, 5, 10, 97**2 + 96**2]
    weights, examples = fedlab.Krum(1)(iter(updates))
    assert weights[0].tolist() == [3] and examples == 10
    kept = fedlab.MultiKrum(1, 4).chosen(updates)
    assert [u.client for u in kept] == ["c02", "c01", "c03", "c00"]
    weights, examples = fedlab.MultiKrum(1, 4)(updates)
    assert weights[0].tolist() == [2] and examples == 40
    assert fedlab.MultiKrum(1)(updates)[0][0].tolist() == [2], "the mean of 1 and 3: n - f - 2"


def test_bulyan_by_hand():
    """-1, 0, 1.5, 2, 9, 10, 50 with f = 1: Krum five times, by the four nearest others, then
    three, two, one and one; of these the mean of the three that are nearest to their median.
    """
    updates = line(-1, 0, 1.5, 2, 9, 10, 50)
    chosen = [float(u.weights[0][0]) for u in fedlab.Bulyan(1).chosen(updates)]
    by_hand, left = [], [-1.0, 0.0, 1.5, 2.0, 9.0, 10.0, 50.0]
    for _ in range(5):
        near = max(len(left) - 3, 1)
        score = {a: sum(sorted((a - b) ** 2 for b in left if b != a)[:near]) for a in left}
        best = min(left, key=lambda a: (score[a], sum((a - b) ** 2 for b in left)))
        by_hand.append(best)
        left.remove(best)
    assert chosen == by_hand and len(chosen) == 5
    middle = float(np.median(chosen))
    three = sorted(chosen, key=lambda value: abs(value - middle))[:3]
    assert fedlab.Bulyan(1)(updates)[0][0] == pytest.approx(np.mean(three))


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 7])
def test_the_values_near_the_median_are_those_that_sorting_by_distance_gives(kept):
    ranked = np.sort(np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32), axis=1)
    middle = np.median(ranked, axis=1, keepdims=True)
    nearest = np.argsort(np.abs(ranked.astype(np.float64) - middle), axis=1)[:, :kept]
    want = np.take_along_axis(ranked, nearest, 1).mean(1, np.float64)
    np.testing.assert_allclose(near_the_median(ranked, kept), want, rtol=1e-12)


def test_the_geometric_median_by_hand():
    """On a line the middle one. Of the corners of a square and anything on its diagonals, where
    these cross. With equal pull from all sides no step is left.
    """
    assert fedlab.GeometricMedian()(line(0, 1, 100))[0][0] == pytest.approx(1, abs=1e-3)
    corners = [(0, 0), (2, 2), (0, 2), (2, 0)]
    four = [Update(f"c{k}", 1, 1, [np.array(c, np.float32)]) for k, c in enumerate(corners)]
    assert fedlab.GeometricMedian()(four)[0][0] == pytest.approx([1, 1])
    four[1] = replace(four[1], weights=[np.array((200, 200), np.float32)])
    assert fedlab.GeometricMedian()(four)[0][0] == pytest.approx([1, 1], abs=1e-3)
    several = cloud(8)
    z = vector(fedlab.GeometricMedian()(several)[0])
    away = rows(several) - z
    pull = (away / np.linalg.norm(away, axis=1, keepdims=True)).sum(0)
    assert np.linalg.norm(pull) < 1e-5


@pytest.mark.parametrize("values", [(7,), (2, 2), (2, 2, 2, 9), (2, 9), (0, 0, 0, 0, 5, 5)])
def test_the_geometric_median_of_some_that_are_the_same(values):
    found = float(fedlab.GeometricMedian()(line(*values))[0][0][0])
    assert min(values) <= found <= max(values)
    if values.count(values[0]) * 2 > len(values):
        assert found == values[0]


def test_the_clipped_mean_by_hand():
    """From (1, 1): a change of (3, 4) is cut to (.6, .8) of 10 examples, (0, .5) of 30 stays."""
    start = [np.array([1, 1], np.float32)]
    both = [Update("a", 1, 10, [np.array([4, 5], np.float32)]),
            Update("b", 1, 30, [np.array([1, 1.5], np.float32)])]  # fmt: skip
    weights, examples = combined(fedlab.ClippedMean(1.0), start, iter(both))
    assert weights[0] == pytest.approx([1 + 0.6 / 4, 1 + (0.8 + 1.5) / 4]) and examples == 40


def test_fl_trust_by_hand():
    """The server goes (2, 0). (3, 4) has the cosine .6 and becomes (1.2, 1.6); (1, 0) has 1 and
    becomes (2, 0); what goes the other way, or nowhere, or across, does not count.
    """
    classifier = Fixed(3, 1)
    combine = fedlab.FLTrust(ROOT, classifier=classifier, seed=4)
    start = [np.array([1, 1], np.float32)]
    sent = [(4, 5), (2, 1), (-9, 1), (1, 1), (1, 9)]
    updates = [Update(f"c{k}", 3, 10, [np.array(w, np.float32)]) for k, w in enumerate(sent)]
    weights, examples = combined(combine, start, updates)
    want = [1 + (0.6 * 1.2 + 1 * 2) / 1.6, 1 + 0.6 * 1.6 / 1.6]
    assert weights[0] == pytest.approx(want) and examples == 20
    nobody, none = combined(combine, start, updates[2:])
    assert nobody[0].tolist() == [1, 1] and none == 0
    (began, count, training, _), _ = classifier.asked
    assert began is start and count == 2 and training == Training()


def test_fl_trusts_server_trains_as_the_plan_says():
    classifier = Fixed(1)
    combine = fedlab.FLTrust(ROOT, classifier=classifier)
    plan = Plan(training=Training(7, 5, 0.3))
    updates = Updates(iter(line(1, 2)), ("c00", "c01"), 2, 20, plan)
    start = State([np.zeros(1, np.float32)])
    fedlab.fed_avg(combine=combine).aggregate(start, updates)
    own = replace(combine, training=Training(2))
    fedlab.fed_avg(combine=own).aggregate(start, Updates(iter(line(1)), ("c00",), 1, 10, plan))
    later = [replace(update, round=4) for update in line(1)]
    fedlab.fed_avg(combine=own).aggregate(start, later)
    assert [training for _, _, training, _ in classifier.asked] == [
        Training(7, 5, 0.3), Training(2), Training(2)
    ]  # fmt: skip
    seeds = [seed for *_, seed in classifier.asked]
    assert seeds[0] == seeds[1] != seeds[2], "every round has batches of its own"


# ---- in any order --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "combine", [*COMBINATIONS, fedlab.Median(), fedlab.TrimmedMean(2)], ids=names
)
def test_the_order_of_the_updates_does_not_matter(combine):
    updates = cloud(11)
    first, examples = combined(combine, model(), iter(updates))
    before = [vector(u.weights) for u in updates]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(updates))
        again, others = combined(combine, model(), [updates[k] for k in order])
        assert others == examples
        for one, other in zip(first, again, strict=True):
            assert one.dtype == other.dtype == np.float32 and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-6)
    assert all((a == vector(u.weights)).all() for a, u in zip(before, updates, strict=True))


# ---- how many attackers --------------------------------------------------------------------------

# combination, updates, how many attackers it stands, with how many it has broken down
BREAKDOWN = [
    (fedlab.Mean(), 9, 0, 1),
    (fedlab.Median(), 9, 4, 5),
    (fedlab.TrimmedMean(2), 9, 2, 3),
    (fedlab.GeometricMedian(), 9, 4, 5),
    # An attacker's score is small if n - f - 2 others are like it: f + 1 where n is 2f + 3
    (fedlab.Krum(2), 7, 3, 4),
    (fedlab.MultiKrum(2), 7, 3, 4),
    (fedlab.Bulyan(1), 7, 3, 4),
    (fedlab.Bulyan(2), 11, 4, 5),
]


@pytest.mark.parametrize(("combine", "several", "stands", "breaks"), BREAKDOWN)
def test_the_breakdown_point(combine, several, stands, breaks):
    """Attackers who agree, far away: with as many as it stands, wherever they are in the order,
    the result is among honest values, number by number; with one more it is theirs.
    """
    far = [np.full((3, 4), 1e5, np.float32), np.full(5, 1e5, np.float32)]

    def attacked(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        updates = cloud(several, seed)
        honest = rows(updates[number:])
        updates[:number] = [replace(u, weights=far) for u in updates[:number]]
        order = np.random.default_rng(seed).permutation(several)
        return honest, vector(combined(combine, model(), [updates[k] for k in order])[0])

    assert stands + 1 == breaks
    for seed in range(5):
        for number in range(stands + 1):
            honest, found = attacked(number, seed)
            if isinstance(combine, fedlab.GeometricMedian):  # near, not between, as is proved
                away = np.linalg.norm(honest - honest.mean(0), axis=1).max()
                bound = 2 * (several - number) / (several - 2 * number) * away
                assert np.linalg.norm(found - honest.mean(0)) < bound
                continue
            assert (found > honest.min(0) - 1e-3).all() and (found < honest.max(0) + 1e-3).all()
        assert np.abs(attacked(breaks, seed)[1]).max() > 1e3


@pytest.mark.parametrize(
    "combine", [fedlab.Krum(2), fedlab.MultiKrum(2), fedlab.Bulyan(2)], ids=names
)
def test_f_attackers_who_go_anywhere(combine):
    """Each by itself, near and far: the result stays as near to the honest mean as their own."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        updates = cloud(11, seed)
        honest = rows(updates[2:])
        for k in range(2):
            scale = 10 ** rng.uniform(0, 6)
            wild = [w + (scale * rng.normal(size=w.shape)).astype(np.float32)
                    for w in updates[k].weights]  # fmt: skip
            updates[k] = replace(updates[k], weights=wild)
        found = vector(combine(updates)[0])
        furthest = np.linalg.norm(honest - honest.mean(0), axis=1).max()
        assert np.linalg.norm(found - honest.mean(0)) < 1.5 * furthest


def test_nobody_moves_the_clipped_mean_by_more_than_its_share_of_the_clip():
    start, clip = model(), 0.7
    updates = [replace(update, num_examples=10) for update in cloud(9)]
    without = combined(fedlab.ClippedMean(clip), start, updates)[0]
    for scale in (1, 1e3, 1e30):
        wild = replace(updates[0], weights=[np.full_like(w, scale) for w in updates[0].weights])
        found = combined(fedlab.ClippedMean(clip), start, [wild, *updates[1:]])[0]
        assert length(found, without) <= 2 * clip / 9 + 1e-5


def test_all_but_one_may_be_against_fl_trust():
    """Who goes the other way does not count, and nobody's change is longer than the server's."""
    start, combine = model(), trust()
    honest = cloud(1)
    against = [
        replace(u, weights=[w - 100 * (new - w) for w, new in zip(start, u.weights, strict=True)])
        for u in cloud(8, seed=3)
    ]
    alone = combined(combine, start, honest)[0]
    assert length(combined(combine, start, [*honest, *against])[0], alone) < 1e-5
    assert length(alone, start) == pytest.approx(length(combine.classifier.there, start))
    along = [replace(u, weights=[w + np.float32(1e6) for w in start]) for u in honest]
    assert length(combined(combine, start, along)[0], combine.classifier.there) < 1e-4


# ---- Flower's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("several", "attackers"), [(5, 1), (9, 2), (12, 0), (20, 4), (20, 8)])
def test_krum_chooses_as_flower_does(several, attackers):
    multikrum = pytest.importorskip("flwr.serverapp.strategy.multikrum")
    from flwr.app import ArrayRecord, RecordDict

    updates = cloud(several, seed=several)
    sent = [RecordDict({"arrays": ArrayRecord(u.weights)}) for u in updates]
    place = {id(content): number for number, content in enumerate(sent)}
    for keep in (1, 3, several - attackers - 2):
        theirs = multikrum.select_multikrum(sent, attackers, keep)
        mine = fedlab.MultiKrum(attackers, keep).chosen(updates)
        assert [u.client for u in mine] == [updates[place[id(c)]].client for c in theirs]


@pytest.mark.parametrize(("several", "attackers"), [(3, 0), (15, 3), (19, 4), (22, 4)])
def test_bulyan_is_flowers_that_asks_krum_again_and_again(several, attackers):
    """With f of 1 and 2 the last choices are by one neighbour, so between two equals: there, it
    takes the first, whoever that is.
    """
    aggregate = pytest.importorskip("flwr.server.strategy.aggregate")
    updates = cloud(several, seed=several)
    results = [([w.astype(np.float64) for w in u.weights], u.num_examples) for u in updates]
    theirs = aggregate.aggregate_bulyan(results, attackers, aggregate.aggregate_krum, to_keep=0)
    mine, _ = fedlab.Bulyan(attackers)(updates)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


# ---- where two are one ---------------------------------------------------------------------------


def test_limits_in_which_two_combinations_agree():
    equal = [replace(update, num_examples=7) for update in cloud(11)]

    def made(combine, updates=equal) -> np.ndarray:
        return vector(combined(combine, model(), updates)[0])

    mean = made(fedlab.Mean())
    assert (made(fedlab.MultiKrum(2, 1)) == made(fedlab.Krum(2))).all()
    for combine in (fedlab.MultiKrum(2, 11), fedlab.Bulyan(0), fedlab.TrimmedMean(0)):
        np.testing.assert_allclose(made(combine), mean, rtol=1e-6)
    assert (made(fedlab.ClippedMean(100.0)) == mean).all()
    assert (made(fedlab.ClippedMean(100.0), cloud(6)) == made(fedlab.Mean(), cloud(6))).all()
    two = equal[:2]
    np.testing.assert_allclose(
        made(fedlab.GeometricMedian(), two), made(fedlab.Mean(), two), rtol=1e-6
    )
    odd = line(4, -2, 7, 3, 11)
    geometric = fedlab.GeometricMedian()(odd)[0][0]
    np.testing.assert_allclose(geometric, fedlab.Median()(odd)[0][0], atol=1e-3)
    one = [replace(u, weights=trust().classifier.there) for u in equal]  # all as the server does
    np.testing.assert_allclose(made(trust(), one), vector(trust().classifier.there), rtol=1e-6)


def test_of_updates_that_are_the_same_everything_is_that_one():
    same = [replace(u, weights=cloud(1)[0].weights) for u in cloud(11)]
    for combine in (*COMBINATIONS[:5], fedlab.ClippedMean(100.0), fedlab.Median()):
        found = combined(combine, model(), same)[0]
        np.testing.assert_allclose(vector(found), rows(same)[0], rtol=1e-6)


# ---- as strategies -------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", COMBINATIONS, ids=names)
def test_each_goes_with_every_server_step(combine):
    updates, state = cloud(11), State(model())
    alone = combined(combine, state.weights, updates)[0]
    for step in (fedlab.Replace(), fedlab.Momentum(0.5, 0.3), fedlab.Adam(), fedlab.Yogi()):
        after = fedlab.fed_avg(combine=combine, step=step).aggregate(state, iter(updates))
        weights, memory = step(state, alone)
        np.testing.assert_allclose(vector(after.weights), vector(weights), rtol=1e-6)
        assert set(after.memory) == set(memory)
    strategy = fedlab.fed_adam(combine=combine)
    assert strategy.name == f"FedAdam + {type(combine).__name__}"
    assert strategy.min_updates == combine.min_updates if hasattr(combine, "min_updates") else 1


MADE = {
    "krum": fedlab.Krum,
    "multi_krum": fedlab.MultiKrum,
    "bulyan": fedlab.Bulyan,
    "geometric_median": fedlab.GeometricMedian,
    "clipped_mean": fedlab.ClippedMean,
}


@pytest.mark.parametrize("name", MADE)
def test_they_are_in_the_menu_with_their_settings(name):
    from fedlab.menu import STRATEGIES

    strategy = STRATEGIES[name]()
    assert strategy.combine == MADE[name]() and STRATEGIES[name] is getattr(fedlab, name)
    assert "\n" not in strategy.meaning and len(strategy.meaning) < 120
    for key, (known, value) in settings_of(strategy).items():
        assert value in known.stops and "\n" not in known.meaning
        for stop in known.stops:
            other = STRATEGIES[name](**{key: stop})
            assert settings_of(other)[key][1] == stop
            assert (other.identity == strategy.identity) == (stop == value)


def test_what_their_settings_are():
    assert fedlab.krum(2).identity == "Krum (attackers 2)"
    assert fedlab.multi_krum(2, 5).identity == "Multi-Krum (attackers 2, keep 5)"
    assert fedlab.bulyan(4, step=fedlab.Adam()).name == "Bulyan + Adam"
    assert fedlab.geometric_median().identity == "Geometric median"
    assert fedlab.clipped_mean(0.5).identity == "Clipped mean (clip 0.5)"
    assert fedlab.fl_trust(ROOT).identity == "FLTrust"


@pytest.mark.parametrize(
    ("combine", "least"),
    [
        (fedlab.Krum(2), 7),
        (fedlab.MultiKrum(2), 7),
        (fedlab.MultiKrum(1, 9), 9),
        (fedlab.Bulyan(2), 11),
        (fedlab.GeometricMedian(), 1),
    ],
)
def test_too_few_are_too_few(combine, least):
    assert combine.min_updates == fedlab.fed_avg(combine=combine).min_updates == least
    combine(cloud(least))
    several = "1 update" if least == 2 else f"{least - 1} updates"
    with pytest.raises(TooFewUpdates, match=f"{several} came; expected at least {least}, "):
        combine(cloud(least - 1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fedlab.krum(-1), "attackers is -1; expected a whole number from 0"),
        (lambda: fedlab.bulyan(1.5), "attackers is 1.5; expected a whole number from 0"),
        (lambda: fedlab.multi_krum(1, -2), "keep is -2; expected a whole number from 0"),
        (lambda: fedlab.clipped_mean(0), "clip is 0; expected a number above 0"),
        (lambda: fedlab.ClippedMean(1)([]), "got no model; expected it: .*since"),
        (lambda: fedlab.FLTrust(ROOT)([]), "got no model; expected it: .*since"),
        (lambda: fedlab.fl_trust(ROOT.subset([])), "root has no examples; expected some"),
        (
            lambda: fedlab.scaffold(combine=fedlab.ClippedMean()),
            "expected one that looks at models",
        ),
        (lambda: fedlab.dp_fed_avg(combine=fedlab.Krum()), "expected none: every client counts"),
    ],
)
def test_what_cannot_be(make, sentence):
    with pytest.raises(Refused, match=sentence):
        make()


@pytest.mark.parametrize("combine", COMBINATIONS, ids=names)
def test_none_can_be_secured(combine):
    """They look at single updates, which nobody gets to see."""
    with pytest.raises(Refused, match="expected one that needs only the average"):
        fedlab.secured(fedlab.fed_avg(combine=combine))


def test_scaffold_goes_with_those_that_look_at_models():
    assert fedlab.scaffold(combine=fedlab.MultiKrum()).name == "SCAFFOLD + MultiKrum"


def test_fl_trust_in_a_simulation(small):
    """It trains as clients do, and a run repeats."""
    clients, root = small.subset(np.arange(500)).split(100), small.subset(np.arange(500, 600))
    settings = {"test": small, "rounds": 2, "batch_size": 10, "seed": 1, "progress": False}
    runs = [fedlab.simulate(clients, strategy=fedlab.fl_trust(root), **settings) for _ in range(2)]
    assert [r.loss for r in runs[0]] == [r.loss for r in runs[1]]
    assert runs[0].last.accuracy > 0.4


@pytest.mark.parametrize("room", ["distances", "krum", "bulyan", "geometric", "clipping"])
def test_the_docstrings_examples_run(room):
    module = import_module(f"fedlab.robust.{room}")
    results = doctest.testmod(module)
    assert results.failed == 0 and results.attempted


def test_shares_are_a_mean():
    found = shares(products(cloud(9)))
    assert found.sum() == pytest.approx(1) and (found > 0).all()
