"""Checkpoints: to the bit, always whole, and nothing else is taken for one."""

import errno
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fedlab import checkpoint as module
from fedlab import wire
from fedlab.checkpoint import (
    BadCheckpoint,
    DamagedCheckpoint,
    before,
    load_checkpoint,
    prepare,
    save_checkpoint,
)
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.messages import Refused
from fedlab.strategies import State


def pack(weights, **texts) -> bytes:
    """Weights and texts as the bytes of a message that knows its digest."""
    message = wire.parts(weights, **texts)
    message.texts["digest"] = module.digest(message)
    return wire.pack(message)


def state(value: float = 0.1) -> State:
    weights = [np.full((2, 3), value, np.float32), np.array([-0.0, 1e-40, 3e38], np.float32)]
    return State(weights, 12_345, {"first": [w + 1 for w in weights], "second": weights[:1]})


def history() -> History:
    return History(
        [
            RoundRecord(1, 0.5, 1.0, 0.25, 10, 20, {"李": ClientRecord(100, 0.5)}),
            RoundRecord(2, math.nan, note="abandoned"),
        ]
    )


def bits(weights) -> list:
    return [(w.shape, w.dtype.str, w.tobytes()) for w in weights]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_a_checkpoint_comes_back_to_the_bit(path):
    save_checkpoint(path, state(), history(), "FedAvg with momentum")
    back, rounds = load_checkpoint(path, state().weights, "FedAvg with momentum")
    assert (
        bits(back.weights) == bits(state().weights)
        and list(back.memory) == ["first", "second"]
        and all(bits(back.memory[name]) == bits(state().memory[name]) for name in back.memory)
        and back.num_examples == 12_345
    )
    assert rounds.to_json() == history().to_json()
    assert os.listdir(path.parent) == [path.name]


def test_a_checkpoint_of_thousands_of_rounds(path):
    clients = {f"client-{i:04d}": ClientRecord(600, 0.9, 0.3) for i in range(10)}
    many = History(
        [RoundRecord(r, 0.9, 0.3, float(r), 10**6, 10**6, clients) for r in range(1, 3001)]
    )
    save_checkpoint(path, state(), many)
    assert path.stat().st_size > 1_000_000  # more than a message's header may have
    assert len(load_checkpoint(path)[1]) == 3000


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EPERM])
def test_when_writing_fails_the_file_is_what_it_was(path, monkeypatch, step, number):
    save_checkpoint(path, state(1), history(), "FedAvg")
    whole = path.read_bytes()

    def fail(*_):
        raise OSError(number, os.strerror(number))

    class FullDisk:
        """A file that takes a hundred bytes and then no more."""

        def __init__(self, *args):
            self.file = open(*args)  # noqa: SIM115 - closed by __exit__

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, body):
            self.file.write(body[:100])
            fail()

    if step == "write":
        monkeypatch.setattr("fedlab.whole.open", FullDisk, raising=False)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        save_checkpoint(path, state(2), history(), "FedAvg")
    monkeypatch.undo()
    assert error.value.filename == str(path) and error.value.errno == number
    assert path.read_bytes() == whole and not list(path.parent.glob("*.part"))
    assert load_checkpoint(path)[0].weights[0][0, 0] == 1


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError):
        save_checkpoint(tmp_path / "nowhere" / "model.safetensors", state(), history())


def test_a_checkpoint_cut_anywhere_is_refused(path):
    save_checkpoint(path, state(), history(), "FedAvg")
    whole = path.read_bytes()
    for cut in range(0, len(whole), 11):
        path.write_bytes(whole[:cut])
        with pytest.raises(
            BadCheckpoint, match=r"model.safetensors is not a checkpoint of this model: the body "
        ):
            load_checkpoint(path, state().weights)
        assert path.read_bytes() == whole[:cut]


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"junk", "4 bytes"),
        (b"\0" * 100, "safetensors"),
        (pickle.dumps(Explosive()), "safetensors"),
        (pack(state().weights, kind="model"), "it says it is 'model'; expected 'checkpoint'"),
        (pack(state().weights), "it says it is 'of no kind'"),
        (pack(state().weights, kind="checkpoint"), "num_examples"),
        (
            pack(state().weights, kind="checkpoint", num_examples="x", history="[]"),
            "invalid literal",
        ),
        (
            pack(state().weights, kind="checkpoint", num_examples=1, history="[1]"),
            "this is not a history",
        ),
        (
            pack(state().weights, kind="checkpoint", num_examples=1, history="[{"),
            "model",
        ),
        (
            pack(state().weights[:1], kind="checkpoint", num_examples=1, history="[]"),
            "got 1 array; expected 2",
        ),
        (
            pack(
                [w.T for w in state().weights],
                kind="checkpoint",
                num_examples=1,
                history="[]",
            ),
            r"array 0 has the shape \(3, 2\)",
        ),
        (
            pack(
                [w * np.float32(math.nan) for w in state().weights],
                kind="checkpoint",
                num_examples=1,
                history="[]",
            ),
            "NaN",
        ),
    ],
)
def test_what_is_no_checkpoint_of_this_model_is_refused(path, content, words):
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=words):
        load_checkpoint(path, state().weights)
    assert path.read_bytes() == content


def test_one_that_is_not_there_or_a_folder(path):
    with pytest.raises(BadCheckpoint, match="No such file"):
        load_checkpoint(path)
    for folder in (path.parent, "."):  # the latter has no name
        with pytest.raises(Refused, match="not a checkpoint"):
            load_checkpoint(folder)


def test_another_strategys_checkpoint_is_refused(path):
    """FedAvg would take the momentum for nothing; the running average's count would mislead the
    momentum.
    """
    save_checkpoint(path, state(), history(), "FedAvg with momentum")
    with pytest.raises(
        BadCheckpoint, match="was written by the strategy FedAvg with momentum; expected FedAvg$"
    ):
        load_checkpoint(path, state().weights, "FedAvg")
    assert load_checkpoint(path)[0].num_examples == 12_345  # evaluating it does not ask


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_every_flipped_bit_is_noticed_or_changes_nothing(path, seed):
    """Of the whole file: its length, its header, every number, every letter of the history."""
    save_checkpoint(path, state(), history(), "FedAvg")
    whole = path.read_bytes()
    back, rounds = load_checkpoint(path)
    rng = np.random.default_rng(seed)
    noticed = 0
    for place in rng.integers(0, 8 * len(whole), 300):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            found, found_rounds = load_checkpoint(path)
        except BadCheckpoint:
            noticed += 1
            continue
        assert bits(found.weights) == bits(back.weights)
        assert found_rounds.to_json() == rounds.to_json()
        assert (found.num_examples, found.lineage) == (back.num_examples, back.lineage)
    assert noticed > 290


def test_the_round_before_is_kept_and_taken_where_the_last_is_damaged(path):
    save_checkpoint(path, state(1), History(list(history())[:1]), "FedAvg")
    first = path.read_bytes()
    assert not before(path).exists()
    save_checkpoint(path, state(2), history(), "FedAvg")
    assert before(path).read_bytes() == first
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = r"digest do not go together: it is damaged. Taken instead: .*\.before, of round 1$"
    with pytest.warns(DamagedCheckpoint, match=said):
        back, rounds = load_checkpoint(path, state().weights, "FedAvg")
    assert back.weights[0][0, 0] == 1 and len(rounds) == 1
    before(path).write_bytes(first[:-1])
    with pytest.raises(BadCheckpoint, match="digest"):
        load_checkpoint(path)
    path.write_bytes(whole)
    before(path).write_bytes(first)
    with pytest.raises(BadCheckpoint, match="was written by the strategy FedAvg; expected Median"):
        load_checkpoint(path, strategy="Median")


def test_what_is_whole_and_of_something_else_is_refused_whatever_lies_beside_it(path):
    """Only damage is a reason to take the round before."""
    save_checkpoint(path, state(1), history(), "FedAvg")
    save_checkpoint(path, state(2), history(), "Median")
    with pytest.raises(BadCheckpoint, match="by the strategy Median; expected FedAvg$"):
        load_checkpoint(path, state().weights, "FedAvg")
    save_checkpoint(path, State([np.zeros(3, np.float32)]), history(), "FedAvg")
    save_checkpoint(before(path), state(1), history(), "FedAvg")
    with pytest.raises(BadCheckpoint, match="got 1 array; expected 2"):
        load_checkpoint(path, state().weights, "FedAvg")
    # What GET /model sends, saved under the same name
    path.write_bytes(wire.pack(wire.parts(state().weights, kind="model", version=3)))
    with pytest.raises(BadCheckpoint, match="it says it is 'model'; expected 'checkpoint'$"):
        load_checkpoint(path, state().weights, "FedAvg")
    path.unlink()
    path.mkdir()
    with pytest.raises(BadCheckpoint, match="Is a directory"):
        load_checkpoint(path)


def test_what_lies_beside_a_first_file_is_not_of_the_round_before(path):
    save_checkpoint(path, state(1), history(), "FedAvg")
    save_checkpoint(path, state(2), history(), "FedAvg")
    path.unlink()  # somebody begins anew
    save_checkpoint(path, state(3), history(), "FedAvg")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint):
        load_checkpoint(path)


def test_on_a_disk_without_second_names_it_is_copied(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save_checkpoint(path, state(1), history())
    first = path.read_bytes()
    save_checkpoint(path, state(2), history())
    assert before(path).read_bytes() == first and path.read_bytes() != first


def test_what_killed_processes_have_left_is_cleared_away(path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f".{path.name}.{number}.part" for number in (gone.pid, os.getppid(), "x")]
    for name in [*names, ".other.1.part"]:
        (path.parent / name).write_bytes(b"half")
    prepare(path)
    assert sorted(os.listdir(path.parent)) == sorted([*names[1:], ".other.1.part"])


def test_the_half_copy_of_the_round_before_is_cleared_away(tmp_path, monkeypatch):
    path, seen = tmp_path / "model[1].safetensors", []  # brackets, as browsers name copies
    save_checkpoint(path, state(1), history())

    def link(_, kept):
        seen.append(kept)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    save_checkpoint(path, state(2), history())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = seen[0].with_name(seen[0].name.replace(str(os.getpid()), str(gone.pid)))
    kept.write_bytes(b"half")
    prepare(path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, before(path).name])


def test_where_one_cannot_write_is_told_at_once(path, monkeypatch):
    with pytest.raises(OSError) as error:
        prepare(path.parent / "nowhere" / path.name)
    assert error.value.filename.endswith(f"nowhere{os.sep}{path.name}")
    monkeypatch.setattr(module, "open", lambda *_: (_ for _ in ()).throw(
        OSError(errno.ENOSPC, "No space left on device")), raising=False)  # fmt: skip
    with pytest.raises(OSError, match="No space left") as error:
        prepare(path)
    assert error.value.filename == str(path)
