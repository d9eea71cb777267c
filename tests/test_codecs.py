"""In how few bytes updates and models are written: what is lost, and what is refused."""

import doctest
import importlib
import random
import re
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedlab
from fedlab import cli, codecs, wire
from fedlab.codecs import COMPRESSORS, QSGD, ByteCodec, Quantise, RandomMask, TopK, codec
from fedlab.codecs import bits as bits_of
from fedlab.codecs import compressors as compressors_room
from fedlab.codecs.compressors import mixed, some
from fedlab.dashboard.controls import Controls
from fedlab.messages import BadUpdate, Codec, Conflict, Refused, Task, Training, Update
from fedlab.model import Classifier
from fedlab.options import parse
from fedlab.participant import RESIDUAL, Participant
from fedlab.plan import Plan
from fedlab.settings import Settings
from fedlab.strategies import STRATEGIES

PAGE = (Path(__file__).parents[1] / "docs" / "codecs.md").read_text("utf-8")
NAMES = [
    "dense", "float16", "quantise-8+zlib", "quantise-4", "quantise-3", "quantise-2+zlib",
    "quantise-1", "sign", "sign+feedback", "ternary+zlib", "top-0.01", "top-0.1+feedback+zlib",
    "mask-0.01", "mask-0.3+feedback", "qsgd-1+zlib", "qsgd-4", "dense/quantise-8", "dense/float16",
    "float16/dense", "quantise-2+zlib/float16", "top-0.01+feedback/quantise-8",
    "top-0.0123456789", "mask-0.333333333333",
]  # fmt: skip
SHAPES = [(7, 5), (5,), (), (1,)]
TWO_NN = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]


def normal(shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]


def zeros(shapes=SHAPES):
    return [np.zeros(shape, np.float32) for shape in shapes]


def flat(arrays):
    return np.concatenate([a.ravel() for a in arrays]).astype(np.float64)


def same(some, others):
    pairs = zip(some, others, strict=True)
    return all(a.tobytes() == b.tobytes() and a.shape == b.shape for a, b in pairs)


def body(*parts) -> list[np.ndarray]:
    return [np.frombuffer(b"".join(parts), np.uint8)]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_all_of_a_codec(name):
    made = codec(name)
    assert made.name == name and codec(made.name) == made and isinstance(made, Codec)
    assert repr(made) == f"fedlab.codec({name!r})"


def test_short_names_have_defaults():
    assert codec("quantise").name == "quantise-8" and codec("top+zlib").name == "top-0.01+zlib"
    assert codec("float16/float16").name == "float16" and codec("sign/dense").name == "sign"
    assert codec("mask-1e-3").name == "mask-0.001"
    assert ByteCodec(Quantise(2), zlib=True) == codec("quantise-2+zlib")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gzip", "there is no 'gzip'; expected one of dense, float16, quantise, sign, ternary"),
        ("", "there is no ''"),
        ("top-0", "share is 0.0; expected a number above 0 to 0.8"),
        ("top-0.81", "share is 0.81; expected a number above 0 to 0.8"),
        ("mask-1.1", "share is 1.1; expected a number above 0 to 1"),
        ("top-nan", "share is nan"),
        ("top-x", "the share of 'top' is 'x'; expected a number above 0 to 0.8"),
        ("quantise-9", "bits is 9; expected a whole number from 1 to 8"),
        ("quantise-2.5", "the bits of 'quantise' is '2.5'; expected a whole number"),
        ("qsgd-128", "levels is 128"),
        ("sign-2", "'sign' has no setting"),
        ("sign+zlib+feedback", "there is 'zlib\\+feedback' behind 'sign'"),
        ("sign+gzip", "there is 'gzip' behind 'sign'"),
        ("dense+zlib", "zlib with 'dense'; expected it with one of quantise"),
        ("float16+feedback", "error feedback with 'float16'"),
        ("quantise-2+feedback", "error feedback with 'quantise-2': what it loses may be more than"),
        ("ternary+feedback", "error feedback with 'ternary'"),
        ("qsgd+feedback", "error feedback with 'qsgd-1'"),
        ("sign/top-0.1", "the model is sent as 'top-0.1'; expected 'dense', 'float16' or"),
        ("sign/dense/dense", "there is no 'dense/dense'"),
        ("x" * 1_000, "expected a name such as"),
        (None, "the codec is 'None'; expected a name"),
    ],
)
def test_a_name_that_is_none(name, words):
    with pytest.raises(Refused, match=words):
        codec(name)


def test_the_docstrings_examples_run():
    tried = 0
    for module in (bits_of, compressors_room, importlib.import_module("fedlab.codecs.codec")):
        results = doctest.testmod(module)
        assert results.failed == 0
        tried += results.attempted
    assert tried >= 12


# ---- byte by byte --------------------------------------------------------------------------------

V = [np.array([[0.0, 3.0], [-1.0, 1.0]], np.float32), np.array([-2.0], np.float32)]
F = struct.Struct


def floats(*numbers) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


BY_HAND = {
    # -1 to 3 in steps of 4/15: 0 is code 3.75, by chance 3 or 4; the others are steps
    "quantise-8": floats(-1, 3, -2, -2) + bytes([64, 255, 0, 128, 0]),
    "sign": floats(1.25, 2) + bytes([0b10100]),
    "ternary": floats(3, 2) + bytes([0b00000100, 0b10]),
    "top-0.4": floats(3, -2) + bytes([1, 2]),
    "qsgd-127": floats(15**0.5) + bytes([0, 195, 64, 63, 130]),
}


@pytest.mark.parametrize("name", ["sign", "top-0.4"])
def test_a_payload_without_chance_byte_by_byte(name):
    arrays, left = codec(name).encode(V, zeros([(2, 2), (1,)]), seed=5)
    assert arrays[0].dtype == np.uint8 and arrays[0].tobytes() == BY_HAND[name] and left is None


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("quantise-2", floats(-1, 2, 5, 5) + bytes([0b11100100, 0b01]), [-1, 0, 1, 2, 5]),
        ("quantise-4", floats(0, 15, -1, 14) + bytes([0x10, 0xF2, 0x03]), [0, 1, 2, 15, 2]),
        ("quantise-1", floats(-1, 1, 0, 3) + bytes([0b11010]), [-1, 1, -1, 1, 3]),
        ("quantise-8", floats(0, 255, 0, 255) + bytes([0, 1, 2, 255, 7]), [0, 1, 2, 255, 7]),
        ("sign", BY_HAND["sign"], [1.25, 1.25, -1.25, 1.25, -2]),
        ("ternary", BY_HAND["ternary"], [0, 3, 0, 0, -2]),
        ("top-0.4", BY_HAND["top-0.4"], [0, 3, 0, 0, -2]),
        ("qsgd-1", floats(2) + bytes([0b00100100, 0b01]), [0, 2, -2, 0, 2]),
        ("qsgd-2", floats(4) + bytes([0o21, 0b1]), [2, -2, -4, 0, 0]),
        ("qsgd-127", floats(127) + bytes([0, 5, 128, 253, 254]), [0, 3, -64, 127, -127]),
    ],
)
def test_what_stands_in_a_payload(name, payload, expected):
    found = codec(name).decode(body(payload), zeros([(2, 2), (1,)]))
    assert [a.shape for a in found] == [(2, 2), (1,)] and flat(found).tolist() == expected
    squeezed = codec(f"{name}+zlib").decode(body(zlib.compress(payload, 1)), [w + 1 for w in found])
    assert np.allclose(flat(squeezed), 2 * np.array(expected) + 1)


def test_the_numbers_of_a_mask_stand_where_its_seed_says():
    seed, size = 2**64 - 3, 41
    order = np.argsort([int(m) for m in mixed(seed, size)])
    places = sorted(order[: some(0.1, size)])
    assert len(places) == 4
    payload = seed.to_bytes(8, "little") + floats(1, 2, 3, 4)
    found = flat(codec("mask-0.1").decode(body(payload), zeros([(size,)])))
    assert np.flatnonzero(found).tolist() == places and found[places].tolist() == [1, 2, 3, 4]
    sent, _ = codec("mask-0.1").encode([np.ones(size, np.float32)], zeros([(size,)]), seed)
    assert sent[0].tobytes() == seed.to_bytes(8, "little") + floats(*[size / 4] * 4)
    sent, _ = codec("mask-0.1+feedback").encode([np.ones(size, np.float32)], zeros([(size,)]), seed)
    assert sent[0].tobytes() == seed.to_bytes(8, "little") + floats(1, 1, 1, 1)


def test_bits_and_gaps_come_back():
    rng = np.random.default_rng(0)
    for bits in range(1, 9):
        codes = rng.integers(0, 2**bits, 1_001)
        assert bits_of.unpacked(bits_of.packed(codes, bits), 1_001, bits).tolist() == codes.tolist()
    for size in (5, 200, 20_000, 2**22):
        for places in ([size - 1], np.flatnonzero(rng.random(min(size, 5_000)) < 0.1), [0, 4]):
            again = bits_of.places_of(bits_of.gaps_of(np.array(places)), len(places), size)
            assert again.tolist() == list(places)


# ---- what is lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_codec_comes_back(name):
    """As near as it is to be; exactly where nothing was learned; the same bits every time."""
    made, given, trained = codec(name), normal(seed=1), normal(seed=2)
    packed = made.unpack(made.pack(given), zeros())
    assert np.abs(flat(packed) - flat(given)).max() < 0.02 or name == "dense"
    sent, left = made.encode(trained, given, seed=3)
    assert same(sent, made.encode(trained, given, seed=3)[0])
    found = made.decode(sent, given)
    assert [(a.shape, a.dtype) for a in found] == [(s, np.float32) for s in SHAPES]
    assert np.isfinite(flat(found)).all() and (left is not None) == ("feedback" in name)
    untrained, _ = made.encode(given, given, seed=3)
    again = made.decode(untrained, given)
    assert same(again, given) or "float16" in name
    if name in ("dense", "dense/float16", "dense/quantise-8"):
        assert same(found, trained)


@pytest.mark.parametrize(
    "made",
    [Quantise(1), Quantise(2), Quantise(8), codecs.TernGrad(), QSGD(1), QSGD(4), RandomMask(0.3)],
    ids=lambda made: made.name,
)
def test_the_mean_over_many_seeds_is_what_was_meant(made):
    v, tries = normal([(6,), (4,)], seed=4), 1_500
    shapes = [a.shape for a in v]
    found = np.array([flat(made.read(made.write(v, seed), shapes)) for seed in range(tries)])
    error = found.std(0) / tries**0.5
    assert made.unbiased and (np.abs(found.mean(0) - flat(v)) < 5 * error + 1e-6).all()
    assert (found.std(0) > 0).sum() >= 6 or made == Quantise(8)


@pytest.mark.parametrize("name", ["sign", "top-0.1", "mask-0.2"])
def test_what_was_lost_and_what_was_sent_are_what_there_was(name):
    made, given = codec(f"{name}+feedback"), normal(seed=1)
    added, came, left = np.zeros(42), np.zeros(42), None
    for seed in range(60):
        trained = [g + 0.1 * d for g, d in zip(given, normal(seed=seed), strict=True)]
        before = 0 if left is None else flat(left)
        sent, left = made.encode(trained, given, seed, left)
        change = flat(made.decode(sent, zeros()))
        there = flat(trained) - flat(given)
        assert np.allclose(change + flat(left), there + before, atol=1e-5)
        added, came = added + there, came + change
    # Nothing is lost for good: the sum of what came is the sum of all, but for the last residual
    assert np.allclose(came + flat(left), added, atol=1e-4)
    assert np.linalg.norm(flat(left)) < 10  # of differences of length 0.65


SPIKY = np.where(np.arange(2_000), 0.01, 1).astype(np.float32)
SPIKY[1::2] *= -1


@pytest.mark.parametrize("name", ["quantise-1", "ternary", "qsgd-1", "sign", "top", "mask"])
def test_only_what_contracts_is_contractive(name):
    """The mean |Q(v) - v| against v, for a v of one large number and many small ones, and for one
    of numbers that are alike. Where it may be longer, error feedback is refused.
    """
    made = codec(name).up
    used = made.for_feedback() if made.contractive else made
    ratios = []
    for v in (SPIKY, np.roll(SPIKY, 7) * np.float32(0.3), normal([(2_000,)])[0]):
        lost = [used.read(used.write([v], seed), [v.shape])[0] - v for seed in range(20)]
        ratios.append(np.mean([np.sum(e**2) for e in lost]) / np.sum(v**2))
    assert (max(ratios) < 1) == made.contractive
    if not made.contractive:
        with pytest.raises(Refused, match="expected a compressor that always keeps some of it"):
            made.for_feedback()


def test_error_feedback_on_one_bit_by_chance_would_diverge():
    """Why it is refused: what is carried along grows without end."""
    made, v, left = Quantise(1), normal([(500,)]), np.zeros(500)
    lengths = []
    for seed in range(40):
        there = [(flat(v) + left).astype(np.float32)]
        left = flat(there) - flat(made.read(made.write(there, seed), [(500,)]))
        lengths.append(np.linalg.norm(left))
    assert lengths[-1] > 1e6 * lengths[0]


def test_the_model_is_sent_at_its_nearest_step():
    made, weights = codec("dense/quantise-8"), normal(TWO_NN)
    arrays = made.pack(weights)
    assert arrays[0].nbytes == 199_210 + 6 * 8
    again = made.unpack(arrays, weights)
    for there, came in zip(weights, again, strict=True):
        assert np.abs(there - came).max() <= 0.5001 * np.ptp(there) / 255


@pytest.mark.parametrize(
    "name", ["top-0.8", "top-0.8+feedback+zlib", "mask-1", "quantise-8", "qsgd-127+zlib", "float16"]
)
def test_a_server_takes_the_longest_update_of_every_codec(name):
    """Of `top` with every gap that needs two bytes: all that is left out lies 128 together."""
    given, trained = zeros(TWO_NN), normal(TWO_NN)
    size = len(flat(given))
    largest = np.arange(size) % 640 >= 128
    trained = compressors_room.split(
        np.where(largest, np.sign(flat(trained)) * 9, flat(trained) / 9).astype(np.float32),
        TWO_NN,
    )
    sent, _ = codec(name).encode(trained, given, seed=1)
    update = Update("a" * 40, 10**6, 60_000, sent, 1 / 3, 1 / 3, 10**6, run="f" * 16, codec=name)
    assert len(wire.encode_update(update)) <= wire.size_limit(given)


def test_half_precision_is_half_of_the_bytes():
    made, weights = codec("float16"), normal(TWO_NN)
    for arrays in (made.pack(weights), made.encode(weights, weights, 0)[0]):
        assert sum(a.nbytes for a in arrays) == 398_420
        again = [a.astype(np.float16).astype(np.float32) for a in weights]
        assert same(made.unpack(arrays, weights), again) and same(
            made.decode(arrays, weights), again
        )
    huge = [np.full(2, 1e6, np.float32)]
    assert np.isinf(made.decode(made.encode(huge, huge, 0)[0], huge)[0]).all()


SIZES = {
    "dense": 796_840, "float16": 398_420, "quantise-8": 199_258, "quantise-4": 99_653,
    "quantise-2": 49_851, "quantise-1": 24_950, "sign": 24_926, "ternary": 49_827,
    "mask-0.01": 7_976, "qsgd-1": 49_807, "quantise-8+zlib": 125_000, "quantise-2+zlib": 31_000,
    "ternary+zlib": 16_000, "top-0.01": 10_900, "qsgd-1+zlib": 1_100,
}  # fmt: skip


@pytest.fixture(scope="module")
def round_of_one(small):
    """What a client's training really changes: (given, trained), of the 2NN."""
    classifier = Classifier(seed=1)
    trained, _ = classifier.train(classifier.weights, small, Training(batch_size=10), seed=1)
    return classifier.weights, trained


@pytest.mark.parametrize("name", SIZES)
def test_a_message_of_the_2nn_has_as_few_bytes_as_is_said(round_of_one, name):
    given, trained = round_of_one
    sent, _ = codec(name).encode(trained, given, seed=1)
    size = sum(a.nbytes for a in sent)
    assert size == SIZES[name] or (name in list(SIZES)[-5:] and 0.6 * SIZES[name] < size)
    assert size <= SIZES[name]
    update = Update("client-0001", 1, 600, sent, 0.9, 0.3, 1, codec=name, run="0" * 16)
    assert len(wire.encode_update(update)) < size + (500 if len(sent) == 1 else 1_000)


# ---- what is refused -----------------------------------------------------------------------------

GIVEN = [np.zeros((2, 2), np.float32), np.zeros(1, np.float32)]
BOMB = zlib.compress(bytes(50_000_000), 9)

BAD = {
    "nothing": ("sign", [], "the update has the arrays none; expected one, a row of uint8"),
    "two": ("sign", body(b"x") * 2, "uint8 \\(1,\\), uint8 \\(1,\\); expected one"),
    "floats": ("sign", GIVEN, "float32 \\(2, 2\\), float32 \\(1,\\); expected one"),
    "a table": ("sign", [np.zeros((3, 3), np.uint8)], "uint8 \\(3, 3\\); expected one"),
    "empty": ("sign", body(), "what 'sign' makes of this model has 0 bytes; expected 9"),
    "a byte less": ("sign", body(BY_HAND["sign"][:-1]), "has 8 bytes; expected 9"),
    "a byte more": ("sign", body(BY_HAND["sign"], b"\0"), "has 10 bytes; expected 9"),
    "bits behind": ("sign", body(floats(1, 1), b"\xff"), "bits behind the last number"),
    "NaN": ("sign", body(floats(np.nan, 1), b"\0"), "a scale or a number is NaN or infinity"),
    "infinity": ("ternary", body(floats(np.inf, 1), b"\0\0"), "NaN or infinity"),
    "below zero": ("sign", body(floats(-1, 1), b"\0"), "a scale is -1; expected none below 0"),
    "upside down": ("quantise-8", body(floats(1, 0, 0, 1), bytes(5)), "a scale begins above its"),
    "NaN scale": ("quantise-8", body(floats(0, np.nan, 0, 1), bytes(5)), "NaN or infinity"),
    "no code": ("ternary", body(floats(1, 1), b"\3\0"), "has the code 3; expected at most 2"),
    "no level": ("qsgd-2", body(floats(1), b"\7\0"), "has the code 7; expected at most 4"),
    "the length below zero": ("qsgd-1", body(floats(-1), bytes(2)), "a scale is -1"),
    "places beyond": ("top-0.4", body(floats(1, 1), b"\0\4"), "at place 5; expected places below"),
    "places far beyond": (
        "top-0.4", body(floats(1, 1), b"\0", b"\xff\xff\xff\xff\x7f"), "at place 34,359,738,368"),
    "places without end": ("top-0.4", body(floats(1, 1), b"\0\x80"), "1 whole places; expected 2"),
    "too many places": ("top-0.4", body(floats(1, 1), b"\0\0\0"), "3 whole places; expected 2"),
    "a gap of 9 bytes": (
        "top-0.4", body(floats(1, 1), b"\x80" * 8, b"\0\0"), "has 18 bytes|a gap has 9 bytes"),
    "NaN at a place": ("top-0.4", body(floats(np.nan, 1), b"\0\0"), "NaN or infinity"),
    "no numbers": ("mask-0.4", body(bytes(8)), "has 8 bytes; expected 16"),
    "NaN in a mask": ("mask-0.4", body(bytes(8), floats(np.nan, 1)), "NaN or infinity"),
    "no zlib": ("sign+zlib", body(BY_HAND["sign"]), "what should be zlib's is not"),
    "half of zlib's": ("sign+zlib", body(zlib.compress(BY_HAND["sign"])[:-5]), "is not whole"),
    "more than zlib's": ("sign+zlib", body(zlib.compress(BY_HAND["sign"]), b"x"), "something beh"),
    "too much": ("sign+zlib", body(zlib.compress(bytes(10))), "more than 9 bytes in what zlib"),
    "too little": ("sign+zlib", body(zlib.compress(bytes(8))), "has 8 bytes; expected 9"),
    "a bomb": ("sign+zlib", body(BOMB), "more than 9 bytes in what zlib made"),
    "a bomb of gaps": ("top-0.4+zlib", body(BOMB), "more than 18 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_payload_that_cannot_be_is_refused_with_a_sentence(what):
    name, arrays, words = BAD[what]
    with pytest.raises(BadUpdate, match=words):
        codec(name).decode(arrays, GIVEN)


def test_of_a_bomb_no_more_is_made_than_there_may_be():
    tracemalloc.start()
    try:
        with pytest.raises(BadUpdate, match="more than 9 bytes"):
            codec("sign+zlib").decode(body(BOMB), GIVEN)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # of 50,000,000
    finally:
        tracemalloc.stop()


def mutated(good: bytes, rng: random.Random) -> bytes:
    changed = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        how = rng.randrange(4)
        if how == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif how == 1:
            del changed[at : at + rng.randint(1, 8)]
        elif how == 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 8))
        elif at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("dense", "float16"))])
def test_whatever_comes_is_refused_or_finite_numbers_of_the_right_shapes(name):
    made, rng, given, taken = codec(name), random.Random(name), normal(seed=1), 0
    good = made.encode(normal(seed=2), given, seed=3)[0][0].tobytes()
    with np.errstate(all="raise", under="ignore"):
        for _ in range(400):
            bad = mutated(good, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(200))
            try:
                found = made.decode(body(bad), given)
            except BadUpdate:
                continue
            except FloatingPointError:
                continue  # too large for float32: infinite, and seen by `check_weights`
            taken += 1
            assert [a.shape for a in found] == SHAPES
            assert all(a.dtype == np.float32 for a in found)
    assert taken < 400


def test_an_update_of_another_codec_than_was_asked():
    plan = Plan(codec=codec("sign"))
    update = Update("ada", 1, 10, body(BY_HAND["sign"]), codec="sign")
    assert flat(plan.read(update, GIVEN).weights).tolist() == [1.25, 1.25, -1.25, 1.25, -2]
    for other in ("top-0.4", "dense", "sign+zlib", "x" * 500):
        with pytest.raises(BadUpdate, match="the update's codec is '.*'; expected 'sign', as its"):
            plan.read(replace(update, codec=other), GIVEN)
    with pytest.raises(BadUpdate, match="the update's codec is 'sign'; expected 'dense'"):
        Plan().read(update, GIVEN)
    # Half precision is easy for whoever writes a client: dense is taken, and halves without a name
    halves = replace(update, weights=[w.astype(np.float16) for w in GIVEN])
    for name in ("float16", "dense"):
        for sent in (halves, replace(update, weights=GIVEN)):
            read = Plan(codec=codec("float16")).read(replace(sent, codec=name), GIVEN)
            assert all(w.dtype == np.float32 for w in read.weights)


def test_a_plan_has_a_codec_and_not_its_name():
    with pytest.raises(Refused, match="codec is 'sign'; expected one that fedlab.codec made"):
        Plan(codec="sign")


# ---- in a federation -----------------------------------------------------------------------------


def toy(value=0.5):
    return [np.full((2, 2), value, np.float32), np.full(1, value, np.float32)]


def test_a_bad_payload_changes_nothing_and_a_good_one_is_read_before_the_strategy_sees_it():
    federation = fedlab.Federation(toy(), fedlab.fed_avg())
    for client in ("ada", "bob"):
        federation.join(client, 10)
    federation.start(Plan(1, min_clients=2, codec=codec("sign/float16")))
    tasks = {client: federation.task(client, wait=5) for client in ("ada", "bob")}
    assert tasks["ada"].codec == "sign/float16" and tasks["ada"].weights[0].dtype == np.float16
    about = {"round": 1, "num_examples": 10, "run": tasks["ada"].run, "codec": "sign/float16"}
    for name, arrays, _ in BAD.values():
        if name == "sign":
            with pytest.raises(BadUpdate):
                federation.report(Update("ada", weights=arrays, **about))
    for dense in (toy(1), []):
        with pytest.raises(BadUpdate):
            federation.report(Update("ada", weights=dense, **{**about, "codec": "dense"}))
    assert federation.status().waiting_for == ["ada", "bob"]
    for client in ("ada", "bob"):
        federation.report(Update(client, weights=body(BY_HAND["sign"]), **about))
    history = federation.wait()
    assert len(history) == 1
    assert flat(federation.weights).tolist() == [1.75, 1.75, -0.75, 1.75, -1.5]


def test_differences_are_added_to_the_model_that_the_server_has_not_to_the_one_it_sent():
    federation = fedlab.Federation(toy(0.1), fedlab.fed_avg())  # no half has 0.1
    federation.join("ada", 10)
    federation.start(Plan(1, codec=codec("sign/float16")))
    task = federation.task("ada", wait=5)
    nothing = body(floats(0, 0), b"\0")
    update = Update("ada", 1, 10, nothing, run=task.run, codec=task.codec)
    federation.report(update)
    federation.wait()
    assert same(federation.weights, toy(0.1))


def test_without_rounds_a_difference_is_to_the_model_that_was_given():
    """A client that has fetched another one since cannot mean that."""
    federation = fedlab.Federation(toy(), fedlab.async_average())
    for client in ("ada", "bob"):
        federation.join(client, 10, shards=2)
    federation.start(Plan(1, min_clients=2, codec=codec("sign")))
    tasks = {client: federation.task(client, wait=5) for client in ("ada", "bob")}
    about = {"num_examples": 10, "run": tasks["ada"].run, "codec": "sign"}
    federation.report(Update("bob", 1, weights=body(BY_HAND["sign"]), version=0, **about))
    federation.task("ada")  # once more: the newer model
    with pytest.raises(Conflict, match="trained from model 0; expected model 1"):
        federation.report(Update("ada", 1, weights=body(BY_HAND["sign"]), version=0, **about))
    federation.report(Update("ada", 1, weights=body(BY_HAND["sign"]), version=1, **about))
    federation.stop()
    assert flat(federation.weights).tolist() == [
        2.375,
        2.375,
        -1.375,
        2.375,
        -2.5,
    ]  # bob's, half of hers


SPARSE = [name for name in NAMES if codec(name).sparse]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["sign", "quantise-2", "top-0.01", "float16"])
def test_which_strategies_go_with_which_codecs(strategy, name):
    made, plan = STRATEGIES[strategy](), Plan(codec=codec(name))
    words = None
    if strategy == "scaffold":
        words = "with SCAFFOLD; expected 'dense': both sides divide the change by steps"
    elif strategy in ("median", "trimmed_mean") and name == "top-0.01":
        words = "expected one that sends every number: here most come as no change"
    if words is None:
        made.check(plan)
    else:
        with pytest.raises(Refused, match=words):
            made.check(plan)


def test_what_is_masked_is_not_compressed():
    for name in ("float16", "sign"):
        with pytest.raises(Refused, match="FedAvg, secure; expected 'dense': under its mask every"):
            fedlab.secured(fedlab.fed_avg()).check(Plan(codec=codec(name)))
    with pytest.raises(Refused, match="under its mask"):
        fedlab.simulate(
            [fedlab.Dataset(np.zeros((9, 28, 28), np.uint8), np.arange(9))] * 3,
            strategy=fedlab.secured(fedlab.fed_avg()), codec=codec("sign"), progress=False,
        )  # fmt: skip
    assert {"top-0.01", "mask-0.01", "ternary+zlib", "qsgd-4"} <= set(SPARSE)


# ---- a client's side -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier():
    return Classifier(seed=4)


def task_of(classifier, name="top-0.01+feedback", **more):
    made = codec(name)
    about = {"training": Training(batch_size=20), "seed": 5, "codec": name}
    return Task(rounds=9, weights=made.pack(classifier.weights), **{"round": 1, **about, **more})


def test_a_client_remembers_what_was_lost_unless_its_update_was_refused(classifier, small):
    alice = Participant("alice", small, classifier, codecs=codec)
    first = alice.answer(task_of(classifier))
    assert alice.memory == {} and first.codec == "top-0.01+feedback"
    alice.settle(taken=False)
    again = alice.answer(task_of(classifier))
    assert same(first.weights, again.weights)  # as if it were the first
    alice.settle(taken=True)
    left = alice.memory[RESIDUAL]
    trained, _ = classifier.train(
        classifier.weights, small, Training(batch_size=20), fedlab.local_seed(5, 1, "alice")
    )
    sent = codec(first.codec).decode(first.weights, zeros(TWO_NN))
    assert np.allclose(flat(sent) + flat(left), flat(trained) - flat(classifier.weights), atol=1e-6)
    assert not same(first.weights, alice.answer(task_of(classifier)).weights)
    alice.answer(task_of(classifier, lineage="another"))
    alice.settle(taken=False)
    assert alice.memory == {}  # another model: what was lost of the old one is nothing to it


def test_a_codec_comes_after_all_transforms_which_see_weights(classifier, small):
    seen = []

    def twice(update, task):
        seen.append((update.codec, update.weights[0].dtype, task.weights[0].dtype))
        pairs = zip(update.weights, task.weights, strict=True)
        return replace(update, weights=[2 * w - g for w, g in pairs])

    plain, doubled = (
        Participant("alice", small, classifier, codecs=codec, transforms=transforms).answer(
            task_of(classifier, "sign/quantise-8")
        )
        for transforms in ([], [twice])
    )
    assert seen == [("dense", np.float32, np.float32)]
    scales = [np.frombuffer(u.weights[0][:24].tobytes(), "<f4") for u in (plain, doubled)]
    assert np.allclose(2 * scales[0], scales[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, "the task's codec is 'sign'; expected 'dense'. What a client needs for others is"),
        ({"codecs": codec}, "there is no 'gzip'"),
    ],
)
def test_a_client_that_does_not_know_a_codec_says_so(classifier, small, about, words):
    task = task_of(classifier, "sign")
    task = replace(task, codec="gzip") if about else task
    with pytest.raises(Refused, match=words):
        Participant("alice", small, classifier, **about).answer(task)


def test_a_model_that_cannot_be_read(classifier, small):
    alice = Participant("alice", small, classifier, codecs=codec)
    task = task_of(classifier, "sign/quantise-8")
    for arrays in ([], [task.weights[0][:-1]], classifier.weights):
        with pytest.raises(BadUpdate, match="the model has the arrays|has 199,257 bytes"):
            alice.answer(replace(task, weights=arrays))


# ---- HTTP = simulation ---------------------------------------------------------------------------

SETTINGS = {"rounds": 3, "epochs": 1, "batch_size": 32, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def three(mnist):
    hands = ((0, 40), (40, 300), (300, 375))
    return {f"c{i}": mnist.train.subset(np.arange(*hand)) for i, hand in enumerate(hands)}


def told(history):
    return [(r.loss, r.accuracy, sorted(r.clients), r.bytes_down, r.bytes_up) for r in history]


def both(three, test, name, strategy=None):
    about = {"test": test, "seed": 6, "progress": False, "codec": codec(name), **SETTINGS}
    expected = fedlab.simulate(three, strategy=strategy, evaluate_clients=True, **about)
    with fedlab.Server(test, strategy, seed=6) as server:
        for client in reversed(three):
            fedlab.Client(server.url, client, three[client], test=test, codecs=codec).start()
        history = server.run(codec=codec(name), min_clients=3, progress=False, **SETTINGS)
    return told(expected), told(history)


QUICK = ["quantise-2+zlib", "mask-0.3+feedback/quantise-8"]


@pytest.mark.parametrize("name", QUICK)
def test_the_same_bits_and_the_same_bytes_over_http_and_in_one_process(three, test_images, name):
    expected, history = both(three, test_images, name)
    assert history == expected and len({loss for loss, *_ in history}) == 3
    assert history[-1][1] > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_the_same_of_every_codec(three, test_images, name):
    expected, history = both(three, test_images, name)
    assert history == expected and len({loss for loss, *_ in history}) == 3


@pytest.mark.slow
def test_the_same_of_a_strategy_that_looks_at_changes(three, test_images):
    expected, history = both(three, test_images, "sign+feedback", fedlab.fed_adam())
    assert history == expected


def test_without_rounds_too(three, test_images):
    """FedBuff by a virtual clock: differences are to what each client was given."""
    about = {"test": test_images, "strategy": fedlab.fed_buff(buffer=2), "progress": False}
    about |= {"clock": fedlab.VirtualClock(speed=100), "rounds": 2, "batch_size": 32}
    dense, few = (
        fedlab.simulate(three, codec=how, **about) for how in (None, codec("quantise-4+zlib"))
    )
    assert len(few) == len(dense) and few.last.accuracy > dense.last.accuracy - 0.05
    assert few.last.bytes_up < dense.last.bytes_up / 7


def test_a_client_without_codecs_leaves_with_a_reason(three, test_images):
    with fedlab.Server(test_images, seed=6) as server:
        client = fedlab.Client(server.url, "c0", three["c0"]).start()
        with pytest.raises(
            fedlab.ClientFailed, match="the task's codec is 'sign'; expected 'dense'"
        ):
            server.run(codec=codec("sign"), progress=False, **SETTINGS)
        with pytest.raises(Refused, match="given to it as codecs=fedlab.codec"):
            client.join()


# ---- the panel, the terminal ---------------------------------------------------------------------

HANDS = {"alice": (1, 2), "bob": (3, 4), "carol": (5, 5)}


def test_a_panel_s_settings_have_a_codec_by_its_name():
    settings = Settings(HANDS, codec="sign+feedback")
    settings.check()
    assert settings.plan().codec == codec("sign+feedback") and Settings(HANDS).plan().codec is None
    asynchronous = Settings(HANDS, strategy="fed_buff", codec="sign")
    asynchronous.check()
    assert asynchronous.plan().codec == codec("sign")
    calls = settings.as_calls()
    compile(calls, "calls", "exec")
    assert "optimizer='sgd', codec=fedlab.codec('sign+feedback'),\n    )" in calls
    assert "codecs=fedlab.codec,\n        ).start()" in calls
    assert "codec" not in Settings(HANDS).as_calls()
    assert settings.difference(Settings(HANDS)) == "sign+feedback"
    for more, words in (
        ({"codec": "gzip"}, "there is no 'gzip'"),
        ({"codec": "sign", "secure": True}, "under its mask"),
        ({"codec": "sign", "strategy": "scaffold"}, "with SCAFFOLD"),
    ):
        with pytest.raises(Refused, match=words):
            Settings(HANDS, **more).check()


@pytest.mark.parametrize("name", [*NAMES, "top-0.02+zlib/quantise-3"])
def test_the_panel_s_controls_say_the_codec_that_they_were_made_with(name):
    controls = Controls(Settings(HANDS, codec=name), lambda: None)
    assert controls.settings(HANDS).codec == name


def test_the_panel_shows_what_can_be_set():
    controls = Controls(Settings(HANDS), lambda: None)
    shown = {}
    for _, word in controls.bytes.kind.options:
        controls.bytes.kind.value = word
        controls.bytes.feedback.value = controls.bytes.zlib.value = True
        shown[word] = [w.description for w in controls.bytes.children if w.description]
        assert codec(controls.settings(HANDS).codec).name == controls.settings(HANDS).codec
    more = {"quantise": ["bits"], "qsgd": ["levels"], "sign": ["error feedback"], "ternary": []}
    more |= {word: ["share", "error feedback"] for word in ("top", "mask")}
    assert shown == {"dense": ["Bytes", "Model"], "float16": ["Bytes", "Model"]} | {
        word: ["Bytes", *settings, "zlib behind it", "Model"] for word, settings in more.items()
    }
    controls.set_disabled(True)
    assert all(control.disabled for control in controls.bytes.all)


def test_the_terminal_s_option():
    for command in ("simulate", "server"):
        assert parse([command, "--codec", "quantise-2+zlib"]).codec == codec("quantise-2+zlib")
        assert parse([command]).codec is None
    with pytest.raises(Refused, match="--codec: the codec is 'gzip': there is no 'gzip'; expected"):
        parse(["simulate", "--codec", "gzip"])


def test_the_original_s_clients_have_no_codec(capsys):
    assert cli.main(["server", "--original", "--codec", "sign"]) == 2
    assert "--original with --codec sign: its clients send every number" in capsys.readouterr().err


@pytest.mark.slow
def test_a_simulation_in_a_terminal(tmp_path, capsys):
    sizes = []
    for more in ([], ["--codec", "quantise-2+zlib/float16"]):
        path = tmp_path / "history.json"
        about = ["--clients", "60", "--fraction", "0.05", "--rounds", "1", "--history", str(path)]
        assert cli.main(["simulate", *about, *more]) == 0
        (record,) = fedlab.History.from_json(path.read_text("utf-8"))
        sizes.append((record.bytes_up, record.bytes_down))
    assert 25 < sizes[0][0] / sizes[1][0] < 32 and sizes[0][1] / sizes[1][1] == pytest.approx(
        2, 0.01
    )


# ---- docs/codecs.md ------------------------------------------------------------------------------


def test_the_page_tells_every_codec_and_its_examples_are_true():
    """The table of examples: a codec, the bytes of an update of two arrays, what they are."""
    rows = re.findall(r"^\| `([^`]+)` \| `([0-9a-f ]+)` \| ([-\d., ]+) \|$", PAGE, re.MULTILINE)
    assert {name.split("-")[0].split("+")[0] for name, *_ in rows} == set(COMPRESSORS)
    for name, payload, numbers in rows:
        found = codec(name).decode(body(bytes.fromhex(payload)), GIVEN)
        assert flat(found).tolist() == pytest.approx([float(n) for n in numbers.split(",")]), name
    assert len(PAGE.splitlines()) <= 100
    for name in ("dense", "float16", "quantise-8", *COMPRESSORS):
        assert f"`{name}" in PAGE


def test_the_page_is_where_the_protocol_says():
    protocol = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text("utf-8")
    assert "[codecs.md](codecs.md)" in protocol


def test_top_keeps_the_largest():
    v = normal([(300,)])
    found = flat(TopK(0.1).read(TopK(0.1).write(v, 0), [(300,)]))
    largest = np.sort(np.abs(flat(v)))[-30:]
    assert np.sort(np.abs(found[found != 0])).tolist() == pytest.approx(largest.tolist())
