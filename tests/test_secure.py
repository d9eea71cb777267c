"""Secure aggregation: the sum of those who stayed, whoever leaves when; and nothing else."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

import fedlab
from fedlab.checks import Refused
from fedlab.secure import shamir
from fedlab.secure.client import PublicKeys, SecureClient, pair_mask
from fedlab.secure.fixed import FixedPoint
from fedlab.secure.keys import BadKey, agree, new_private, public_of, seal, stream, unseal
from fedlab.secure.server import passed_on, total

# ---- shares --------------------------------------------------------------------------------------


def test_fewer_shares_than_the_threshold_tell_nothing_whatever_the_secret():
    """In a field of seven, all polynomials: each pair of two shares comes from every secret equally
    often, and any three tell it.
    """
    seen = {secret: Counter() for secret in range(7)}
    for secret, *others in itertools.product(range(7), repeat=3):
        coefficients = iter(others)
        shares = shamir.split(secret, 5, 3, prime=7, random=lambda _, it=coefficients: next(it))
        for pair in itertools.combinations(shares.items(), 2):
            seen[secret][pair] += 1
        for three in itertools.combinations(shares.items(), 3):
            assert shamir.combine(dict(three), prime=7) == secret
    assert all(counts == seen[0] for counts in seen.values())
    assert len(seen[0]) == 10 * 49  # every pair of places, every pair of values


def test_a_secret_of_32_bytes_comes_back():
    for secret in (0, 1, 2**256 - 1, shamir.PRIME - 1):
        shares = shamir.split(secret, 9, 5)
        some = dict(random.sample(sorted(shares.items()), 5))
        assert shamir.combine(some) == shamir.combine(some, shamir.factors(some)) == secret
    assert len({shamir.split(5, 3, 2)[1] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: shamir.split(shamir.PRIME, 3, 2), "521 bits"),
        (lambda: shamir.split(-1, 3, 2), "expected a number from 0"),
        (lambda: shamir.split(1, 3, 4), "threshold"),
        (lambda: shamir.split(1, 0, 1), "shares"),
        (lambda: shamir.factors([]), "different numbers"),
        (lambda: shamir.factors([1, 1]), "different numbers"),
        (lambda: shamir.factors([0, 1]), "from 1"),
    ],
)
def test_shares_that_cannot_be(call, said):
    with pytest.raises(Refused, match=said):
        call()


# ---- fixed point ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "fraction"), [(32, 20), (64, 32)])
def test_a_sum_is_exact_but_for_the_rounding(bits, fraction):
    point = FixedPoint(bits, fraction, summands=50)
    numbers = np.random.default_rng(0).uniform(-point.most, point.most, (50, 1000))
    numbers[:, :2] = point.most, -point.most  # the ends, all on one side
    written = [point.write(row) for row in numbers]
    assert written[0].dtype.itemsize == bits // 8
    told = point.read(sum(written[1:], written[0]))
    exactly = [math.fsum(column) for column in numbers.T]
    assert np.abs(told - exactly).max() <= point.error * (1 + 1e-6)


def test_numbers_that_have_no_room():
    point = FixedPoint(summands=100)
    for wrong in (np.array([20.6]), np.array([np.nan]), np.array([-np.inf])):
        with pytest.raises(Refused, match=r"expected at most 20\.48"):
            point.write(wrong)
    assert point.write(np.array([])).size == 0
    for settings in ({"bits": 16}, {"fraction": 31}, {"summands": 0}, {"summands": 5000}):
        with pytest.raises(Refused, match="expected"):
            FixedPoint(**settings)


# ---- keys ----------------------------------------------------------------------------------------


def test_two_agree_on_what_a_third_does_not_know():
    alice, bob, eve = (new_private() for _ in range(3))
    key = agree(alice, public_of(bob), b"masks")
    assert key == agree(bob, public_of(alice), b"masks")
    others = {agree(eve, public_of(bob), b"masks"), agree(alice, public_of(bob), b"letters")}
    assert key not in others and len(key) == 32


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"short", bytes(33)])
def test_a_key_of_low_order_makes_no_secret(key):
    with pytest.raises(BadKey, match="expected 32 bytes"):
        agree(new_private(), key, b"masks")


def test_a_letter_is_for_one_reader_and_cannot_be_changed():
    key = agree(new_private(), public_of(new_private()), b"letters")
    sealed = seal(key, b"a share", b"from a to b")
    assert unseal(key, sealed, b"from a to b") == b"a share"
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for wrong in ((key, changed, b"from a to b"), (key, sealed, b"from a to c"), (key, b"", b"")):
        with pytest.raises(BadKey, match="cannot be opened"):
            unseal(*wrong)
    with pytest.raises(BadKey):
        unseal(bytes(32), sealed, b"from a to b")


def test_the_stream_is_chacha20():
    """RFC 8439, A.1, test vector 1: the first words for a key, nonce and counter of zeros."""
    expected = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    assert stream(bytes(32), 8, np.dtype("<u4")).tobytes() == expected


# ---- a round -------------------------------------------------------------------------------------


class Played:
    """A round in one process. leave: how many exchanges each client takes part in, 4 if absent."""

    def __init__(self, number, threshold, leave=None, size=20, seed=0):
        random_numbers = np.random.default_rng(seed)
        self.point = FixedPoint(summands=number)
        self.threshold, self.leave = threshold, leave or {}
        names = [f"client-{i}" for i in range(number)]
        self.numbers = {name: random_numbers.normal(0, 1, size) for name in names}
        self.clients = {name: SecureClient(name, 7) for name in names}
        self.roster = {name: c.keys() for name, c in self.clients.items() if self.there(name, 1)}
        self.letters = {
            name: self.clients[name].share(self.roster, threshold)
            for name in self.roster
            if self.there(name, 2)
        }
        self.post = passed_on(self.letters)

    def there(self, name, exchange):
        return self.leave.get(name, 4) >= exchange

    def mask(self):
        self.masked = {
            name: self.clients[name].mask(self.post[name], self.point.write(self.numbers[name]))
            for name in self.letters
            if self.there(name, 3)
        }
        return self.masked

    def unmask(self):
        self.answers = {
            name: self.clients[name].unmask(set(self.masked))
            for name in self.masked
            if self.there(name, 4)
        }
        return self.answers

    def total(self):
        around = self.masked, self.answers, self.roster, self.letters, self.threshold
        return self.point.read(total(*around))


@pytest.mark.slow
def test_two_hundred_rounds_with_people_leaving():
    """Each is the plain sum of those who have sent numbers, or ends with a sentence."""
    choice, ended = random.Random(1), Counter()
    for seed in range(200):
        chance = choice.choice([0.0, 0.1, 0.3, 0.5])
        leave = {f"client-{i}": choice.randint(1, 3) for i in range(12) if choice.random() < chance}
        played = Played(12, 7, leave, seed=seed)
        stayed = [name for name in played.letters if played.there(name, 3)]
        answering = [name for name in stayed if played.there(name, 4)]
        try:
            played.mask()
            played.unmask()
            told = played.total()
        except Refused as error:
            assert "expected at least 7" in str(error)
            assert len(answering) < 7
            ended["a sentence"] += 1
        else:
            plain = sum(played.numbers[name] for name in stayed)
            assert np.abs(told - plain).max() <= played.point.error
            ended["the sum"] += 1
    assert min(ended.values()) > 20


def test_what_the_server_gets_looks_like_noise_and_hides_the_numbers():
    """The same numbers twice: what arrives has nothing in common, and its bits are fair."""
    first, second = Played(5, 3, size=20_000), Played(5, 3, size=20_000)
    one, other = first.mask()["client-0"], second.mask()["client-0"]
    assert not (one == other).mean() > 0.001
    bits = np.unpackbits(one.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.005
    plain = first.point.write(first.numbers["client-0"]).astype(np.float64)
    assert abs(np.corrcoef(one.astype(np.float64), plain)[0, 1]) < 0.03


def test_never_both_secrets_of_one_client():
    played = Played(6, 4, {"client-5": 2, "client-4": 3})
    played.mask()
    answers = played.unmask()
    for answer in answers.values():
        assert set(answer) == set(played.letters)
    number = {name: place for place, name in enumerate(sorted(played.roster), 1)}
    for owner in played.letters:
        shares = {number[name]: int.from_bytes(a[owner], "big") for name, a in answers.items()}
        found = shamir.combine(shares).to_bytes(66, "big")[-32:]
        is_key = public_of(found) == played.roster[owner].masks
        assert is_key == (owner == "client-5")  # who has sent numbers gives its key to nobody
    with pytest.raises(fedlab.Conflict, match="each once, in order"):
        played.clients["client-0"].unmask(set(played.letters) - {"client-1"})


def test_masks_of_a_pair_cancel():
    seed = new_private()
    mine = pair_mask(seed, "a", "b", 10, np.dtype("<u4"))
    assert not (mine + pair_mask(seed, "b", "a", 10, np.dtype("<u4"))).any() and mine.any()


def test_each_exchange_once_and_in_order():
    client = SecureClient("a", 1)
    with pytest.raises(fedlab.Conflict, match="share is exchange 2 of round 1, and 0 of them"):
        client.share({}, 1)
    client.keys()
    with pytest.raises(fedlab.Conflict, match="keys is exchange 1"):
        client.keys()
    with pytest.raises(fedlab.Conflict, match="mask is exchange 3"):
        client.mask({}, np.zeros(3, np.uint32))


def test_what_a_client_refuses():
    def ready():
        return [SecureClient(name, 1) for name in "abc"]

    clients = ready()
    roster = {client.name: client.keys() for client in clients}
    strangers = {**roster, "a": PublicKeys(public_of(new_private()), public_of(new_private()))}
    with pytest.raises(Refused, match="does not have 'a' with its own keys"):
        clients[0].share(strangers, 2)
    for threshold in (1, 4):
        clients = ready()
        roster = {client.name: client.keys() for client in clients}
        with pytest.raises(Refused, match=r"of 3 clients; expected more than half of them, 2 to 3"):
            clients[0].share(roster, threshold)
    twice = {**roster, "b": roster["c"]}
    with pytest.raises(Refused, match="two keys on the roster are the same"):
        clients[2].share(twice, 2)


def test_letters_that_cannot_be():
    for change, error, said in (
        (lambda post: post.clear(), Refused, "1 of 3 clients are still there"),
        (lambda post: post.update(z=b""), Refused, "from 'z'; expected others of the roster"),
        (lambda post: post.update(b=post["c"]), BadKey, "cannot be opened"),
        (lambda post: post.update(b=b"letter"), BadKey, "cannot be opened"),
    ):
        clients = {name: SecureClient(name, 1) for name in "abc"}
        roster = {name: client.keys() for name, client in clients.items()}
        post = passed_on({name: client.share(roster, 2) for name, client in clients.items()})
        change(post["a"])
        with pytest.raises(error, match=said):
            clients["a"].mask(post["a"], np.zeros(4, np.uint32))


def test_survivors_that_cannot_be():
    for survivors, said in (
        (["client-0"], "came from 1 client;"),
        (["client-1", "client-2"], "not cl"),
    ):
        played = Played(3, 2)
        played.mask()
        with pytest.raises(Refused, match=said):
            played.clients["client-0"].unmask(survivors)
    played = Played(4, 3, {"client-3": 1})
    played.mask()
    with pytest.raises(Refused, match="'client-3'; expected those who sent letters"):
        played.clients["client-0"].unmask(played.roster)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.answers.pop("client-0"), "2 of 4 clients have told"),
        (lambda p: p.answers.update(zoe={}), "'zoe' has told shares; expected only who"),
        (lambda p: p.answers["client-0"].pop("client-1"), "has told no share of 'client-1'"),
        (lambda p: p.answers["client-0"].update({"client-1": b"\x01" * 66}), "is wrong"),
        (lambda p: p.answers["client-0"].update({"client-3": b"\x01" * 66}), "is wrong"),
        (lambda p: p.masked.update({"client-1": np.zeros(3, np.uint32)}), "of shape"),
        (lambda p: p.masked.update({"client-1": np.zeros(20, np.uint64)}), "uint64"),
    ],
)
def test_answers_that_cannot_be(spoil, said):
    played = Played(4, 3, {"client-3": 2})
    played.mask()
    played.unmask()
    spoil(played)
    with pytest.raises(Refused, match=said):
        played.total()
