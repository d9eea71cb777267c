"""Bytes on the wire: what goes in comes out to the bit, and nothing but a whole message is read."""

import json
import math
import pickle
import struct

import numpy as np
import pytest

from fedlab import original, wire
from fedlab.messages import BadUpdate, Refused, Task, Training, Update, check_update


def pack(weights, **texts) -> bytes:
    """Weights and texts as the bytes of a message."""
    return wire.pack(wire.parts(weights, **texts))


SHAPES_2NN = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]


def weights_2nn(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES_2NN]


def small_weights() -> list[np.ndarray]:
    return [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0.1, -0.0, 3e38], np.float32)]


def body_of(header, data: bytes = b"") -> bytes:
    """A safetensors file written by hand, from its specification: length, JSON header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def metadata(**changes) -> dict:
    fields = {
        "kind": "update",
        "client": "alice",
        "round": "1",
        "num_examples": "100",
        "accuracy": "0.5",
        "loss": "nan",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def by_hand(**changes) -> bytes:
    header = {
        "__metadata__": metadata(**changes),
        "0000": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "0001": {"dtype": "F32", "shape": [3], "data_offsets": [24, 36]},
    }
    return body_of(header, b"".join(w.tobytes() for w in small_weights()))


def same_bits(left, right) -> bool:
    return [(w.shape, w.dtype, w.tobytes()) for w in left] == [
        (w.shape, w.dtype, w.tobytes()) for w in right
    ]


@pytest.mark.parametrize("batch_size", [32, None])
def test_a_task_comes_back_to_the_bit(batch_size):
    training = Training(
        epochs=5, batch_size=batch_size, learning_rate=0.1 + 1e-17, optimizer="adam"
    )
    task = Task(3, 10, weights_2nn(), training, seed=-7, shard_by_shard=True)
    back = wire.decode_task(wire.encode_task(task))
    assert (back.round, back.rounds, back.training, back.seed, back.shard_by_shard) == (
        3,
        10,
        training,
        -7,
        True,
    )
    assert same_bits(back.weights, task.weights)


@pytest.mark.parametrize(("accuracy", "loss"), [(0.123456789012345, 1e-300), (math.nan, math.inf)])
def test_an_update_comes_back_to_the_bit(accuracy, loss):
    update = Update("李 b.o-b@lab", 7, 12_345, small_weights(), accuracy, loss)
    back = wire.decode_update(wire.encode_update(update))
    assert (back.client, back.round, back.num_examples) == ("李 b.o-b@lab", 7, 12_345)
    assert struct.pack("dd", back.accuracy, back.loss) == struct.pack("dd", accuracy, loss)
    assert same_bits(back.weights, update.weights)


def test_the_format_is_safetensors_as_specified():
    """Read by the specification, not by the library: arrays in Keras order, little-endian, one
    after the other.
    """
    body = wire.encode_update(Update("alice", 1, 100, small_weights(), 0.5))
    (length,) = struct.unpack("<Q", body[:8])
    header, data = json.loads(body[8 : 8 + length]), body[8 + length :]
    assert header.pop("__metadata__") == metadata(version="0", phase="train", run="")
    assert list(header) == ["0000", "0001"]
    for name, w in header.items():
        begin, end = w["data_offsets"]
        assert (
            w["dtype"] == "F32"
            and data[begin:end] == small_weights()[int(name)].tobytes()
            and w["shape"] == list(small_weights()[int(name)].shape)
        )
    assert same_bits(wire.decode_update(by_hand()).weights, small_weights())


def test_a_message_of_the_2nn_is_at_most_one_per_cent_more_than_its_weights():
    weights = weights_2nn()
    assert sum(w.nbytes for w in weights) == 796_840
    longest = Update("x" * 40, 10**9, 10**9, weights, 0.12345678901234567, 123456.78901234567)
    assert 796_840 < len(wire.encode_update(longest)) <= 804_808
    assert (
        len(
            wire.encode_task(
                Task(10**9, 10**9, weights, Training(10_000, 10**9, 1e-7, "adam"), 2**63, True)
            )
        )
        <= 804_808
    )
    assert wire.size_limit(weights) > 804_808


def test_more_than_ten_arrays_keep_their_order():
    weights = [np.full(1, number, np.float32) for number in range(25)]
    assert [float(w[0]) for w in wire.groups(wire.unpack(pack(weights)).arrays)[""]] == list(
        range(25)
    )


def test_a_single_number_stays_one():
    back = wire.decode_update(pack([np.array(3, np.float32)], **metadata())).weights
    assert back[0].shape == () and float(back[0]) == 3


def test_weights_that_do_not_lie_in_c_order_are_sent_as_they_read():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    back = wire.unpack(pack([turned])).arrays["0000"]
    assert back.tolist() == [[0, 3], [1, 4], [2, 5]]


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("unpickled: whoever sends this runs any code here",))


WHOLE = by_hand()
NAN_HEADER = {"0000": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
NOT_SAFETENSORS = {
    "empty": b"",
    "one byte": b"\0",
    "seven bytes": b"\0" * 7,
    "no header": b"\0" * 8,
    "text": b"weights, please take them",
    "html": b"<!doctype html><title>fedlab</title>",
    "pickle": pickle.dumps(Explosive()),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n",
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 60,
    "header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "header of 2**64-1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "header longer than the limit": body_of(b'{"a":"' + b"x" * 1_000_001 + b'"}'),
    "header longer than the body": struct.pack("<Q", 100) + b"{}",
    "header cut short": WHOLE[:40],
    "data cut short": WHOLE[:-1],
    "data too long": WHOLE + b"\0",
    "header no JSON": body_of(b"{'a': 1}"),
    "header not UTF-8": body_of(b'{"\xff": 1}'),
    "header a list": body_of([1, 2]),
    "header a number": body_of(3),
    "header null": body_of(None),
    "header deep": body_of(b"[" * 10_000),
    "metadata deep": body_of(b'{"__metadata__":{"a":' + b"[" * 10_000),
    "metadata of numbers": body_of({"__metadata__": {"round": 1}}),
    "offsets beyond the data": body_of(
        {"0000": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, b"\0" * 8
    ),
    "offsets backwards": body_of(
        {"0000": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"\0" * 8
    ),
    "offsets negative": body_of(
        {"0000": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, b"\0" * 8
    ),
    "offsets overlapping": body_of(NAN_HEADER | {"0001": NAN_HEADER["0000"]}, b"\0" * 8),
    "a hole in the data": body_of(
        {"0000": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8
    ),
    "shape that is not the data": body_of(
        {"0000": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "shape of 2**62 times 4": body_of(
        {"0000": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}
    ),
    "shape negative": body_of(
        {"0000": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "dtype unknown": body_of(
        {"0000": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "dtype that NumPy has not": body_of(
        {"0000": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "dtype of 4 bits": body_of(
        {"0000": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "names of its own": body_of({"dense/kernel": NAN_HEADER["0000"]}, b"\0" * 8),
    "names from 1": body_of({"0001": NAN_HEADER["0000"]}, b"\0" * 8),
    "no dtype": body_of({"0000": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
}


@pytest.mark.parametrize("body", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
@pytest.mark.parametrize("decode", [wire.decode_update, wire.decode_task])
def test_what_is_not_a_whole_safetensors_file_is_refused_in_a_sentence(decode, body):
    with pytest.raises(BadUpdate) as caught:
        decode(body)
    assert "expected" in str(caught.value) or "is not a safetensors file" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 7))
def test_a_message_cut_anywhere_is_refused(cut):
    with pytest.raises(BadUpdate):
        wire.decode_update(WHOLE[:cut])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client": None}, "client is nothing; expected a text"),
        ({"round": None}, "round is nothing; expected a whole number"),
        ({"round": "1.0"}, "round is '1.0'; expected a whole number"),
        ({"round": "one"}, "round is 'one'"),
        ({"round": ""}, "round is ''"),
        ({"round": "9" * 5000}, "round is '999"),  # turning it into a number would be slow
        ({"num_examples": "1e3"}, "num_examples is '1e3'; expected a whole number"),
        ({"num_examples": "nan"}, "num_examples is 'nan'"),
        ({"num_examples": None}, "num_examples is nothing"),
        ({"accuracy": "good"}, "accuracy is 'good'; expected a number"),
        ({"loss": None}, "loss is nothing; expected a number"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(changes, words):
    with pytest.raises(BadUpdate, match=words) as caught:
        wire.decode_update(by_hand(**changes))
    assert len(str(caught.value)) < 200


def test_metadata_that_is_missing_or_null():
    for header in ({}, {"__metadata__": None}, {"__metadata__": {}}):
        with pytest.raises(BadUpdate, match="client is nothing"):
            wire.decode_update(body_of(header))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "0"),
        ("epochs", "999999"),
        ("batch_size", "-1"),
        ("learning_rate", "nan"),
        ("optimizer", "x"),
    ],
)
def test_a_task_with_training_that_cannot_be_is_refused_by_the_client(field, value):
    texts = {
        "round": 1,
        "rounds": 1,
        "seed": 0,
        "shard_by_shard": 0,
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.1,
        "optimizer": "sgd",
    }
    assert wire.decode_task(pack(small_weights(), **texts)).training == Training()
    with pytest.raises(BadUpdate, match=field):
        wire.decode_task(pack(small_weights(), **(texts | {field: value})))


def test_ten_thousand_damaged_messages_are_refused_or_read_and_never_anything_else():
    """Bits flipped, bytes cut, doubled or exchanged, all from one seed: BadUpdate, or an update
    that then passes or fails its check.
    """
    rng, read = np.random.default_rng(20), 0
    for _ in range(10_000):
        body = bytearray(WHOLE)
        for _ in range(rng.integers(1, 4)):
            at, kind = int(rng.integers(len(body))), rng.integers(4)
            if kind == 0:
                body[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del body[at : at + int(rng.integers(1, 20))]
            elif kind == 2:
                body[at:at] = body[at : at + int(rng.integers(1, 20))]
            else:
                body[at] = int(rng.integers(256))
            if not body:
                break
        try:
            update = wire.decode_update(bytes(body))
            check_update(update, small_weights(), 100)
            read += 1
        except BadUpdate:
            continue
    assert 100 < read < 5_000  # a flipped bit in a number of the weights is another number


# ---- the original demonstration's wire -----------------------------------------------------------


def test_the_original_json_is_a_list_of_nested_lists():
    text = original.write_weights(small_weights())
    assert json.loads(text) == [
        [[0, 1, 2], [3, 4, 5]],
        [float(np.float32(0.1)), 0, float(np.float32(3e38))],
    ]
    assert same_bits(original.read_weights(text, small_weights()), small_weights())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "weights cannot be read .*; expected a JSON list"),
        ("[[1, 2", "weights cannot be read .*; expected a JSON list"),
        ("null", "weights is NoneType; expected a JSON list of 2 arrays"),
        ('{"a": 1}', "weights is dict"),
        ("[]", "weights is 0 arrays; expected a JSON list of 2 arrays"),
        ("[[1], [2], [3]]", "weights is 3 arrays"),
        (
            "[[1, [2]], [3]]",
            "weights cannot be read .*; expected a JSON list of nested lists of numbers",
        ),  # ragged
        (
            '[["a"], [3]]',
            "weights cannot be read .*; expected a JSON list of nested lists of numbers",
        ),
        (
            '[{"a": 1}, [3]]',
            "weights cannot be read .*; expected a JSON list of nested lists of numbers",
        ),
        ("[" * 4, "weights cannot be read .*; expected a JSON list"),
        ("[" * 20_000, "20,000 lists and 0 commas; expected at most 5 lists with 9 numbers"),
        ("[[" + "1," * 20_000, "2 lists and 20,000 commas; expected at most 5 lists with 9 "),
        ('{"a":' * 20, "20 lists and 0 commas; expected at most 5 lists"),
    ],
)
def test_the_originals_json_that_is_no_weights(text, words):
    with pytest.raises(BadUpdate, match=words):
        original.read_weights(text, small_weights())


def test_the_originals_not_a_number_is_seen_by_the_check():
    for constant in ("NaN", "Infinity", "-Infinity", "1e999", "1e39"):
        weights = original.read_weights(f"[[[0,1,2],[3,4,{constant}]],[1,2,3]]", small_weights())
        with pytest.raises(Refused, match="array 0 holds NaN or infinity"):
            check_update(Update("o", 1, 1, weights), small_weights())


def test_a_task_comes_back_with_everything_a_strategy_may_add():
    more = {"control": small_weights(), "keys": [np.arange(3, dtype=np.uint32)]}
    note = {"round": "not the round", "hello": "wörld"}
    training = Training(2, None, 0.3, "sgd", 0.01)
    task = Task(
        3, 9, small_weights(), training, 2**63, False, 17, "keys", "dense", more, note, "lineage"
    )
    back = wire.decode_task(wire.encode_task(task))
    assert (back.round, back.rounds, back.seed, back.training) == (3, 9, 2**63, training)
    assert (back.version, back.phase, back.codec, back.note) == (17, "keys", "dense", note)
    assert back.lineage == "lineage"
    assert same_bits(back.weights, small_weights()) and sorted(back.more) == ["control", "keys"]
    assert same_bits(back.more["control"], small_weights())
    assert back.more["keys"][0].dtype == np.uint32


def test_an_update_comes_back_with_everything_a_strategy_may_add():
    update = Update("alice", 2, 7, [], version=3, phase="keys", more={"keys": [np.ones(2, "u1")]})
    back = wire.decode_update(wire.encode_update(update))
    assert (back.client, back.version, back.phase, back.weights) == ("alice", 3, "keys", [])
    assert back.more["keys"][0].tolist() == [1, 1] and back.note == {}


def test_a_client_in_another_language_may_leave_out_what_it_does_not_know():
    """The fields of the first edition are enough: a version and a phase are there by themselves."""
    update = wire.decode_update(pack(small_weights(), **metadata()))
    assert (update.version, update.phase, update.more, update.note) == (0, "train", {}, {})


@pytest.mark.parametrize("name", ["w", "1", "00000", "control/1", "Control/0000", "/0000", "a/b/0"])
def test_arrays_of_other_names_are_refused(name):
    body = wire.pack(wire.Parts({name: small_weights()[0]}, metadata()))
    with pytest.raises(BadUpdate, match="the arrays are named"):
        wire.decode_update(body)


def test_a_list_of_arrays_with_a_gap_is_refused():
    arrays = {"0000": small_weights()[0], "0002": small_weights()[1]}
    with pytest.raises(BadUpdate, match="expected 0000, 0001"):
        wire.decode_update(wire.pack(wire.Parts(arrays, metadata())))


def test_what_cannot_be_read_back_is_not_written():
    with pytest.raises(BadUpdate, match="a list of arrays is called 'Share'; expected at most 40"):
        wire.encode_update(Update("alice", 1, 10, [], more={"Share": small_weights()}))
    back = wire.decode_update(wire.encode_update(Update("a", 1, 1, [], more={"m_1": [np.ones(1)]})))
    assert list(back.more) == ["m_1"]


@pytest.mark.parametrize(
    "header",
    [
        '{"0000":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"0000":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"__metadata__":{"client":"a","client":"b"},'
        '"0000":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"0000":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_a_name_that_is_there_twice_is_refused(header):
    body = len(header).to_bytes(8, "little") + header.encode() + bytes(8)
    with pytest.raises(BadUpdate, match="is not a safetensors file: .*(twice|duplicate)"):
        wire.unpack(body)


def test_what_a_codec_has_made_travels_as_it_is():
    """Whatever a codec makes of weights; its name travels with it."""
    few = [np.arange(5, dtype=np.uint8)]
    task = wire.decode_task(wire.encode_task(Task(1, 2, few, Training(), codec="sign")))
    update = wire.decode_update(wire.encode_update(Update("ada", 1, 24, few, codec="sign")))
    for came in (task, update):
        assert came.codec == "sign" and same_bits(came.weights, few)


def test_half_precision_that_nobody_has_named_stays_what_it_is():
    """Then its types are not the model's, and it is refused."""
    half = [np.zeros((2, 2), np.float16)]
    texts = wire.update_parts(Update("ada", 1, 24, half)).texts
    assert wire.decode_update(wire.pack(wire.parts(half, **texts))).weights[0].dtype == np.float16
