"""What attacks do to examples and updates, by hand; who does it; and a duel."""

import doctest
from dataclasses import dataclass, replace

import numpy as np
import pytest

import fedlab
from fedlab import attacks, contest
from fedlab.checks import Refused
from fedlab.data import DataError, Dataset, Mnist
from fedlab.messages import Task, Training, Update
from fedlab.strategies import settings_of

START = [np.array([1, 1], np.float32), np.array([[0]], np.float32)]


def task(round: int = 3, seed: int = 5) -> Task:
    return Task(round, 9, START, Training(), seed, run="a run")


def update(*values: float, client: str = "mallory", round: int = 3) -> Update:
    first, second, third = values
    weights = [np.array([first, second], np.float32), np.array([[third]], np.float32)]
    return Update(client, round, 600, weights, 0.5, 1.5, version=4)


def sent(attack, given: Update, about: Task | None = None) -> list:
    found = attack.update(given, about or task())
    assert all(w.dtype == np.float32 for w in found.weights)
    assert replace(found, weights=given.weights).__dict__ == given.__dict__, "nothing else changes"
    return [w.tolist() for w in found.weights]


# ---- updates -------------------------------------------------------------------------------------


def test_changes_that_are_reversed_and_scaled():
    given = update(3, 0, 2)  # a change of 2, -1, 2
    assert sent(fedlab.SignFlip(), given) == [[-1, 2], [[-2]]]
    assert sent(fedlab.SignFlip(5), given) == [[-9, 6], [[-10]]]
    assert sent(fedlab.ScaledUpdate(10), given) == [[21, -9], [[20]]]
    assert sent(fedlab.ScaledUpdate(1), given) == [[3, 0], [[2]]]


def test_the_mean_goes_backwards_where_enough_reverse():
    """f / K > 1 / (1 + scale): with a scale of 4, more than two of ten."""
    for several, backwards in ((1, False), (3, True)):
        all_of_them = [update(3, 0, 2, client=f"c{k}") for k in range(10)]
        for k in range(several):
            all_of_them[k] = fedlab.SignFlip(4).update(all_of_them[k], task())
        mean, _ = fedlab.weighted_mean(all_of_them)
        assert (mean[0][0] < START[0][0]) == backwards


def test_a_scaled_update_of_one_replaces_the_mean_of_all():
    others = [update(1, 1, 0, client=f"c{k}") for k in range(19)]
    mine = update(3, 0, 2)
    mean, _ = fedlab.weighted_mean([fedlab.ScaledUpdate(20).update(mine, task()), *others])
    for one, other in zip(mean, mine.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_what_would_be_infinite_is_the_largest_number_that_there_is():
    far = fedlab.ScaledUpdate(20).update(update(3e38, 0, -3e38), task())
    assert all(np.isfinite(w).all() for w in far.weights)
    assert far.weights[0][0] == -far.weights[1][0, 0] == np.finfo(np.float32).max


def test_noise_is_of_its_deviation_and_of_client_round_and_seed():
    zeros = Update("mallory", 3, 1, [np.zeros(40_000, np.float32)])
    about = Task(3, 9, zeros.weights, Training(), 5)

    def noise(client: str = "mallory", **other) -> np.ndarray:
        given = replace(zeros, client=client)
        return fedlab.GaussianNoise(0.3).update(given, replace(about, **other)).weights[0]

    assert noise().std() == pytest.approx(0.3, rel=0.02) and abs(noise().mean()) < 0.01
    assert (noise() == noise()).all()
    for other in (noise("eve"), noise(round=4), noise(seed=6)):
        assert abs(np.corrcoef(noise(), other)[0, 1]) < 0.03


def test_a_little_is_enough_by_hand():
    """In the round before, the attackers' changes were 1, 3 and 5: a standard deviation of 1.63."""
    attack = fedlab.LittleIsEnough(0.5)
    clients, before = ["m1", "m2", "m3"], [(1, 9, 0), (3, 1, 0), (5, 5, 0)]
    for client, change in zip(clients, before, strict=True):
        a, b, c = change
        given = update(1 + a, 1 + b, c, client=client, round=3)
        assert attack.update(given, task(3)) is given, "nothing is known yet"
    spreads = np.std(before, axis=0)
    for client in reversed(clients):  # whoever comes first
        found = attack.update(update(4, 4, 4, client=client, round=4), task(4))
        expected = 4 - 0.5 * spreads
        assert [*found.weights[0], *found.weights[1][0]] == pytest.approx(expected)
    assert attack.update(update(4, 4, 4, round=6), task(6)).weights[0].tolist() == [4, 4]
    another = replace(task(4), run="another run")
    assert attack.update(update(4, 4, 4, round=4), another).weights[0].tolist() == [4, 4]


def test_alone_it_is_honest():
    attack = fedlab.LittleIsEnough()
    for round in (1, 2, 3):
        given = update(3, 0, 2, round=round)
        assert attack.update(given, task(round)) is given


def test_what_z_the_paper_allows():
    assert fedlab.LittleIsEnough.z_for(50, 24) == pytest.approx(1.426, abs=1e-3)
    assert fedlab.LittleIsEnough.z_for(20, 4) == pytest.approx(0.157, abs=1e-3)
    with pytest.raises(Refused, match="attackers is 25; expected a whole number from 1 to 24"):
        fedlab.LittleIsEnough.z_for(50, 25)


# ---- examples ------------------------------------------------------------------------------------


def digits(several: int = 100) -> Dataset:
    labels = (np.arange(several) % 10).astype(np.uint8)
    images = np.random.default_rng(0).integers(1, 200, (several, 28, 28), np.uint8)
    return Dataset(images, labels)


def test_labels_are_flipped_and_images_are_shared():
    data = digits().subset(np.arange(5, 25))
    flipped = fedlab.LabelFlip().data(data, 1)
    assert (flipped.y == 9 - data.y).all() and flipped.images is data.images
    assert flipped.y.dtype == np.uint8 and (data.y == digits().y[5:25]).all()
    one = fedlab.LabelFlip(7, 1).data(data)
    assert (one.y == np.where(data.y == 7, 1, data.y)).all() and (one.y == 1).sum() == 4


def test_a_backdoor_is_in_its_share_of_the_images():
    data = digits().subset(np.arange(10, 90))
    attack = fedlab.Backdoor(target=3, share=0.25)
    spoiled = attack.data(data, 6)
    changed = (spoiled.x != data.x).any((1, 2))
    assert changed.sum() == 20 and (spoiled.y[changed] == 3).all()
    assert (spoiled.y[~changed] == data.y[~changed]).all()
    square = spoiled.x[changed]
    assert (square[:, -4:, -4:] == 255).all()
    assert (square[:, :-4] == data.x[changed][:, :-4]).all()
    assert (square[:, :, :-4] == data.x[changed][:, :, :-4]).all()
    assert (data.x < 200).all(), "the honest images are as they were"
    again, other = attack.data(data, 6), attack.data(data, 7)
    assert (again.x == spoiled.x).all() and (other.x != spoiled.x).any()


def test_a_trigger_on_images_between_0_and_1():
    images = np.zeros((2, 28, 28, 1), np.float32)
    marked = fedlab.Trigger(2).on(images)
    assert marked.sum() == 8 and marked.max() == 1 and not images.any()


def test_how_often_a_trigger_works():
    """A classifier that reads 3 where the last pixel is white, and otherwise the first pixel."""

    class Spoiled:
        def predict(self, weights, data):
            x = data.x
            return np.eye(10)[np.where(x[:, -1, -1] == 255, weights, x[:, 0, 0] % 10)]

    test = digits()
    attack = fedlab.Backdoor(target=3)
    assert attack.success_rate(Spoiled(), 3, test) == 1
    assert attack.success_rate(Spoiled(), 4, test) == 0
    with pytest.raises(DataError, match="all images are 3, the target"):
        attack.success_rate(Spoiled(), 3, test.subset(np.flatnonzero(test.y == 3)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fedlab.SignFlip(0), "scale is 0; expected a number above 0"),
        (lambda: fedlab.ScaledUpdate(-1), "scale is -1; expected a number above 0"),
        (lambda: fedlab.GaussianNoise(float("nan")), "deviation is nan; expected a number above 0"),
        (lambda: fedlab.Backdoor(share=1.5), "share is 1.5; expected a number above 0"),
        (lambda: fedlab.Backdoor(target=-1), "target is -1; expected a whole number from 0 to 9"),
        (lambda: fedlab.Backdoor(target=10), "target is 10; expected a whole number from 0 to 9"),
        (lambda: fedlab.Backdoor(26, classes=26), "target is 26; expected a whole number"),
        (lambda: fedlab.Backdoor(classes=1), "classes is 1; expected a whole number from 2"),
        (lambda: fedlab.LittleIsEnough(0), "z is 0; expected a number above 0"),
        (lambda: fedlab.LabelFlip(7), r"target is None; expected a whole number from 0 to 9 \(or"),
        (lambda: fedlab.LabelFlip(7, 10), "target is 10; expected a whole number from 0 to 9"),
        (lambda: fedlab.Trigger(0), "size is 0; expected a whole number from 1"),
        (lambda: fedlab.Trigger(9).on(np.zeros((1, 8, 8), np.uint8)), "images have the shape"),
        (lambda: fedlab.Trigger().on(np.zeros((1, 784), np.uint8)), "images have the shape"),
    ],
)
def test_what_cannot_be(make, sentence):
    with pytest.raises(Refused, match=sentence):
        make()


def test_every_place_of_a_slider_is_an_attack():
    kinds = ("SignFlip", "ScaledUpdate", "GaussianNoise", "Backdoor", "LittleIsEnough")
    for attack in (getattr(fedlab, kind)() for kind in kinds):
        for name, (known, value) in settings_of(attack).items():
            assert value in known.stops and "\n" not in known.meaning
            for stop in known.stops:
                assert getattr(replace(attack, **{name: stop}), name) == stop


# ---- who does it ---------------------------------------------------------------------------------


def people() -> dict[str, Dataset]:
    return {name: digits() for name in ("alice", "bob", "carol", "mallory")}


def test_only_those_who_attack_do():
    several = [fedlab.LabelFlip(), fedlab.SignFlip(2), fedlab.ScaledUpdate(3)]
    clients, transforms = fedlab.attacked(people(), several, ["mallory", "bob"], seed=4)
    assert list(clients) == ["alice", "bob", "carol", "mallory"]
    for name, data in clients.items():
        assert (data.y != digits().y).all() == (name in ("bob", "mallory"))
        found = update(2, 1, 0, client=name)
        for transform in transforms:
            found = transform(found, task())
        assert found.weights[0][0] == (-5 if name in ("bob", "mallory") else 2)


def test_attackers_by_number_are_the_first():
    def zeros(update, task):
        return replace(update, weights=[0 * w for w in update.weights])

    for attackers in (0, 1, 3):
        clients, (transform,) = fedlab.attacked([digits()] * 4, zeros, attackers)
        assert list(clients) == [f"client-000{k}" for k in range(4)]
        changed = [transform(update(1, 2, 3, client=name), task()).weights[0][0] == 0
                   for name in clients]  # fmt: skip
        assert changed == [k < attackers for k in range(4)]


def test_everyone_spoils_other_images():
    clients, _ = fedlab.attacked(people(), fedlab.Backdoor(), ["alice", "bob"])
    places = [(clients[name].x != digits().x).any((1, 2)) for name in ("alice", "bob")]
    assert places[0].sum() == places[1].sum() == 50 and (places[0] != places[1]).any()


@pytest.mark.parametrize(
    ("attack", "attackers", "sentence"),
    [
        (fedlab.SignFlip(), ["eve", "bob"], "attackers are eve; expected a list of ids"),
        (fedlab.SignFlip(), "bob", "attackers are 'bob'; expected a list of ids"),
        (fedlab.SignFlip(), 5, "attackers is 5; expected a whole number from 0 to 4"),
        (fedlab.SignFlip, 1, "an attack is <class .*SignFlip'>; expected an object with data"),
        (7, 1, r"an attack is 7; expected an object with data\(dataset, seed\) or"),
    ],
)
def test_attacks_that_cannot_be(attack, attackers, sentence):
    with pytest.raises(Refused, match=sentence):
        fedlab.attacked(people(), attack, attackers)


def test_over_http_it_is_the_same_attack(small, test_images):
    """The bits of the simulation, with an attack on data and on updates."""
    honest = {name: small.subset(np.arange(k, 600, 3)) for k, name in enumerate("abc")}
    several = [fedlab.Backdoor(share=0.8), fedlab.ScaledUpdate(2), fedlab.GaussianNoise(0.01)]
    clients, transforms = fedlab.attacked(honest, several, ["b"])
    settings = {"rounds": 2, "batch_size": 20, "learning_rate": 0.1, "progress": False}
    expected = fedlab.simulate(clients, test=test_images, transforms=transforms, seed=2, **settings)
    with fedlab.Server(test_images, seed=2) as server:
        for name, data in honest.items():
            mine = {}
            if name == "b":
                data = several[0].data(data, fedlab.local_seed(0, 0, "b"))
                mine = {"transforms": [one.update for one in several]}
            fedlab.Client(server.url, name, data, **mine).start()
        history = server.run(min_clients=3, **settings)
    assert [r.loss for r in history] == [r.loss for r in expected]


# ---- a duel --------------------------------------------------------------------------------------

FEW = {"clients": 5, "images": 60, "attackers": 1, "rounds": 2}


@pytest.fixture(scope="module")
def few(mnist) -> Mnist:
    """MNIST with a thousand test images."""
    return Mnist(mnist.train, mnist.test.subset(np.arange(1_000)))


def test_a_duel_is_a_run_and_two_numbers(few, capsys):
    seen = []
    found = fedlab.duel(
        fedlab.SignFlip(5), fedlab.median(), few, on_round=seen.append, seed=3, **FEW
    )
    assert capsys.readouterr() == ("", "")
    assert found.accuracy == found.history.last.accuracy > 0.3 and len(found.history) == 2
    assert [record.round for record in seen] == [1, 2] and not found.ended
    assert 0 <= found.trigger < 0.2
    assert repr(found).startswith(
        "<Duel: SignFlip(scale=5) by 1 of 5 (iid) against Median: accuracy "
    )
    page = found._repr_html_()
    assert "1 attacker of 5, iid" in page and page.count("<svg") == 3
    again = fedlab.duel(fedlab.SignFlip(5), fedlab.median(), few, seed=3, **FEW)
    assert (again.accuracy, again.trigger) == (found.accuracy, found.trigger)


def test_both_sides_may_be_functions(few):
    """The attack is told as it is written; a defence is given a list, and returns weights."""

    def upside_down(update, task):
        return replace(update, weights=[w[::-1].copy() for w in update.weights])

    def last(updates):
        assert isinstance(updates, list) and len(updates) == 5
        return updates[-1].weights

    def halfway(updates, model):
        pairs = zip(updates[-1].weights, model, strict=True)
        return [(new + w) / 2 for new, w in pairs], updates[-1].num_examples

    plain = fedlab.duel(None, last, few, **FEW | {"attackers": 9})  # of whom nobody attacks
    assert repr(plain).startswith("<Duel: nobody by 0 of 5 (iid) against last: ")
    spoiled = fedlab.duel(upside_down, last, few, **FEW)
    assert spoiled.accuracy == plain.accuracy, "the first attacks, the last is taken"
    half = fedlab.duel(upside_down, halfway, few, deal="two digits", **FEW)
    assert half.attack == "upside_down" and half.defence == "halfway"
    assert half.deal == "two digits" and half.accuracy != plain.accuracy


def test_both_sides_may_be_objects_of_ones_own(few):
    @dataclass(frozen=True)
    class Shouting:
        """A backdoor of one's own: what it measures is its own, too."""

        def update(self, update, task):
            return fedlab.ScaledUpdate(3).update(update, task)

        def success_rate(self, classifier, weights, test):
            return 0.25

    found = fedlab.duel([fedlab.LabelFlip(), Shouting()], fedlab.Krum(1), few, **FEW)
    assert found.trigger == 0.25 and found.defence == "Krum(attackers=1)"
    assert found.attack.endswith("Shouting()") and found.attack.startswith("LabelFlip(")


def test_numbers_that_leave_the_finite_ones_are_a_result(few):
    def enormous(update, task):
        return replace(update, weights=[np.full_like(w, 3e38) for w in update.weights])

    found = fedlab.duel(enormous, fedlab.fed_avg(), few, **{**FEW, "attackers": 4})
    assert found.ended.startswith("training diverged in round ") and len(found.history) < 2
    assert 0 <= found.accuracy < 0.4 and f"diverged in round {len(found.history) + 1}" in repr(
        found
    )
    assert "training diverged" in found._repr_html_()


def test_names_are_shown_and_not_read_as_html():
    one = contest.Duel("<b>", "a & b", 1, 2, "iid", 0.5, 0.1, fedlab.History(), "<i>")
    page = one._repr_html_()
    assert "&lt;b&gt;" in page and "a &amp; b" in page and "<b>" not in page and "<i>" not in page


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"defence": 3}, Refused, "the defence is 3; expected a strategy, a combination such as"),
        ({"defence": fedlab.Median}, Refused, "the defence is <class .*Median'>; expected"),
        ({"attack": 3}, Refused, "an attack is 3; expected an object"),
        ({"deal": "label"}, Refused, "deal is 'label'; expected 'iid' or 'two digits'"),
        ({"attackers": 6}, Refused, "attackers is 6; expected a whole number from 0 to 5"),
        ({"clients": "20"}, Refused, "clients is '20'; expected a whole number from 1 to 1,000"),
        ({"images": 60_000}, Refused, "images is 60000; expected a whole number from 1 to 12,000"),
        ({"defence": fedlab.bulyan(1)}, Refused, "got 5 clients; expected at least 7"),
        ({"defence": lambda updates: 1 / 0}, ZeroDivisionError, "division by zero"),
    ],
)
def test_a_duel_that_cannot_be(few, options, error, sentence):
    sides = {"attack": fedlab.SignFlip(), "defence": fedlab.median(), **FEW, **options}
    with pytest.raises(error, match=sentence):
        fedlab.duel(sides.pop("attack"), sides.pop("defence"), few, **sides)


def test_a_backdoor_that_is_scaled_passes_the_mean_and_not_the_median(mnist):
    """The lesson's board at a tenth of its size."""
    attack = [fedlab.Backdoor(), fedlab.ScaledUpdate(10)]
    size = {"clients": 10, "images": 200, "attackers": 1, "rounds": 4}
    open_to_all, robust = (fedlab.duel(attack, d, mnist, **size)
                           for d in (fedlab.fed_avg(), fedlab.median()))  # fmt: skip
    assert open_to_all.trigger > 0.9 and robust.trigger < 0.2
    assert robust.accuracy > 0.7


def test_the_docstrings_examples_run():
    results = doctest.testmod(attacks)
    assert results.failed == 0 and results.attempted >= 6
