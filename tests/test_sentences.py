"""One round is not "1 rounds": what fedlab says when there is one of a thing, and when there are
many."""

import re

import numpy as np
import pytest

import fedlab
from fedlab import cli, terminal
from fedlab.checkpoint import save_checkpoint
from fedlab.checks import Refused, counted
from fedlab.data import load_mnist
from fedlab.federation import merging
from fedlab.federation.members import Joined
from fedlab.history import ClientRecord, RoundRecord
from fedlab.messages import Conflict, RunOver, check_weights
from fedlab.plan import Plan
from fedlab.settings import Settings
from fedlab.wire import unpack

ONE = Joined(num_examples=1, shards=1, session="", seen=0.0, done=1)
IMAGES, LABELS = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("number", "thing", "said"),
    [
        (0, "round", "0 rounds"),
        (1, "round", "1 round"),
        (2, "round", "2 rounds"),
        (np.int64(1), "image", "1 image"),
        (60_000, "example", "60,000 examples"),
        (1, "try", "1 try"),
        (5, "try", "5 tries"),
        (6, "array", "6 arrays"),
        (1, "different shard", "1 different shard"),
        (3, ".npy file", "3 .npy files"),
    ],
)
def test_things_are_counted(number, thing, said):
    assert counted(number, thing) == said


def one_npy_file(folder):
    np.save(folder / "x.npy", np.zeros(3))
    load_mnist(folder)


REFUSED = {
    "got 1 image and 2 labels": lambda _: fedlab.Dataset(IMAGES[:1], LABELS),
    "got 2 images and 1 label": lambda _: fedlab.Dataset(IMAGES, LABELS[:1]),
    "holds 1 .npy file, of which none": one_npy_file,
    "got 1 array; expected 2": lambda _: check_weights([LABELS], [LABELS, LABELS]),
    "the body has 1 byte;": lambda _: unpack(b"x"),
    "its header has 1 byte;": lambda _: unpack((1).to_bytes(8, "little")),
    "got 1 client; expected at least 3": (
        lambda _: Settings({"alice": (1, 1)}, strategy="trimmed_mean").check()
    ),
    "got 1 client; expected at least 5": (
        lambda _: fedlab.simulate([fedlab.Dataset(IMAGES, LABELS)], strategy=fedlab.trimmed_mean(2))
    ),
    "1 update came; expected at least 3": (
        lambda _: fedlab.trimmed_mean().aggregate(
            fedlab.State([]), [fedlab.Update("alice", 1, 1, [])]
        )
    ),
    "has trained on its 1 shard": (
        lambda _: merging.task_for("alice", ONE, Plan(None), fedlab.State([]), 0, 0)
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_one_of_a_thing_is_refused_in_words(tmp_path, sentence):
    with pytest.raises((Refused, RunOver, Conflict), match=re.escape(sentence)):
        REFUSED[sentence](tmp_path)


def test_a_round_of_one_client_that_does_not_answer():
    federation = fedlab.Federation([np.zeros(2, np.float32)], fedlab.fed_avg())
    federation.join("alice", 1)
    federation.start(Plan(1, deadline=0.2))
    try:
        assert federation.task("alice", wait=5).round == 1
        assert federation.status().message == "round 1: 1 of 1 client training"
        note = federation.wait().last.note
        assert note == "abandoned: 0 of 1 update came; expected at least 1"
    finally:
        federation.close(grace=0)


def test_one_in_the_lines_of_the_terminal():
    record = RoundRecord(1, 0.5, 0.7, 1.0, clients={"alice": ClientRecord(1)})
    assert "accuracy 50.00%, loss 0.7000, alice, 1 example, 1.0 s" in terminal.round_line(record, 1)
    many = RoundRecord(1, clients={name: ClientRecord(1_000) for name in map(str, range(1_200))})
    assert "1,200 clients, 1,200,000 examples" in terminal.round_line(many, 1)
    history = fedlab.History([record])
    assert terminal.summary(history).startswith("1 round, 1.0 s: ")
    assert terminal.summary(history, "update").startswith("1 update, 1.0 s: ")
    assert repr(history).startswith("<History: 1 round, ")


def test_one_example_in_a_checkpoint(tmp_path, capsys):
    path = tmp_path / "c.safetensors"
    state = fedlab.State(fedlab.Classifier().weights, 1)
    save_checkpoint(path, state, fedlab.History([RoundRecord(1, 0.5)]))
    assert cli.main(["evaluate", str(path)]) == 0
    assert f"{path}: model 1, 1 example trained on\n" in capsys.readouterr().out
