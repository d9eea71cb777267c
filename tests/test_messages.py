"""Messages: what is refused, in which words; and the seed of a client's batches."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from fedlab.messages import (
    BadUpdate,
    Conflict,
    NotFinite,
    Refused,
    RunOver,
    Training,
    UnknownClient,
    Update,
    check_client_id,
    check_update,
    check_weights,
    local_seed,
)


def weights(value: float = 0.0) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32), np.full(3, value, np.float32)]


@pytest.mark.parametrize(
    "client", ["alice", "a", "Zoë", "3", "_x", "bob.2-b@lab", "two words", "x" * 40, "李"]
)
def test_a_client_id_that_is_taken(client):
    assert check_client_id(client) == client


@pytest.mark.parametrize(
    "client",
    [
        "",
        " ",
        "x" * 41,
        " alice",
        "alice ",
        "alice\n",
        "a/b",
        "a\\b",
        "<b>",
        "a\tb",
        "a?b",
        ".",
        "..",
        "-a",
        "a\0",
        None,
        3,
        ["a"],
        b"a",
    ],
)
def test_a_client_id_that_is_refused_in_a_sentence(client):
    with pytest.raises(
        Refused,
        match=(
            r"^the client id is .*; expected 1 to 40 letters, digits, spaces or . _ - @, for"
            r" example 'alice'$"
        ),
    ) as caught:
        check_client_id(client)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("epochs", 0, r"epochs \(E\) is 0; expected a whole number from 1 to 10,000"),
        ("epochs", 1.5, "is 1.5;"),
        ("epochs", True, "is True;"),
        ("epochs", 10_001, "10001"),
        ("epochs", "3", "is '3'"),
        ("batch_size", 0, r"batch_size \(B\) is 0; expected a whole number from 1, or None"),
        ("batch_size", -1, "is -1"),
        ("batch_size", 2.0, "is 2.0"),
        ("learning_rate", 0, "learning_rate is 0; expected a number above 0"),
        ("learning_rate", -0.1, "is -0.1"),
        ("learning_rate", math.nan, "is nan"),
        ("learning_rate", math.inf, "is inf"),
        ("learning_rate", "0.1", "is '0.1'"),
        ("optimizer", "rmsprop", "optimizer is 'rmsprop'; expected 'sgd' or 'adam'"),
    ],
)
def test_training_settings_that_cannot_be(setting, value, words):
    with pytest.raises(Refused, match=words):
        Training(**{setting: value})


def test_training_settings_that_can_be():
    training = Training(epochs=np.int64(3), batch_size=None, learning_rate=1, optimizer="adam")
    assert (training.epochs, training.batch_size, training.learning_rate, training.optimizer) == (
        3,
        None,
        1,
        "adam",
    )
    assert Training() == Training(1, 32, 0.1, "sgd")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"round": 0}, "round is 0; expected a whole number from 1"),
        ({"round": 1.5}, "round is 1.5; expected a whole number from 1"),
        ({"num_examples": 0}, "num_examples is 0; expected a whole number above 0"),
        ({"num_examples": -5}, "num_examples is -5; expected a whole number above 0"),
        ({"num_examples": 5.0}, "num_examples is 5.0; expected a whole number"),
        ({"num_examples": True}, "num_examples is True; expected a whole number"),
        (
            {"num_examples": 101},
            "num_examples is 101; expected at most 100, with which 'alice' joined",
        ),
        ({"num_examples": 10**30}, "expected at most 100"),
        ({"accuracy": 1.5}, "accuracy is 1.5; expected a fraction from 0 to 1, or NaN"),
        ({"accuracy": math.inf}, "accuracy is inf"),
        ({"accuracy": -0.1}, "accuracy is -0.1"),
        ({"weights": []}, "got 0 arrays; expected 2"),
        ({"weights": weights()[:1]}, "got 1 array; expected 2"),
        ({"weights": weights() + [np.zeros(1, np.float32)]}, "got 3 arrays; expected 2"),
        ({"weights": weights()[::-1]}, r"array 0 has the shape \(3,\); expected \(2, 3\)"),
        (
            {"weights": [weights()[0], np.zeros((3, 1), np.float32)]},
            r"array 1 has the shape \(3, 1\); expected \(3,\)",
        ),
        (
            {"weights": [w.astype(np.float64) for w in weights()]},
            "array 0 is float64; expected float32",
        ),
        (
            {"weights": [w.astype(np.int32) for w in weights()]},
            "array 0 is int32; expected float32",
        ),
        ({"weights": weights(math.nan)}, "array 0 holds NaN or infinity; expected finite numbers"),
        ({"weights": weights(-math.inf)}, "array 0 holds NaN or infinity"),
        (
            {"weights": [weights()[0], np.array([math.inf, 1, -math.inf], np.float32)]},
            "array 1 holds NaN or infinity",
        ),
    ],
)
def test_an_update_that_cannot_be_right(change, words):
    update = {"client": "alice", "round": 1, "num_examples": 100, "weights": weights(1)} | change
    with pytest.raises(BadUpdate, match=words) as caught:
        check_update(Update(**update), weights(), most_examples=100)
    assert "\n" not in str(caught.value)


def test_an_update_that_is_right():
    """At the edges: all of the examples, huge but finite weights, an accuracy of nought and of one,
    none measured.
    """
    for accuracy in (0.0, 1.0, math.nan):
        check_update(
            Update("alice", 1, 100, weights(3e38), accuracy=accuracy, loss=math.inf),
            weights(),
            most_examples=100,
        )
    check_update(Update("alice", 1, 10**12, weights()), weights())  # no limit known


def test_one_nan_among_a_million_is_found():
    big = np.zeros(1_000_000, np.float32)
    check_weights([big], [big])
    for bad in (math.nan, math.inf):
        spoiled = big.copy()
        spoiled[765_432] = bad
        with pytest.raises(BadUpdate, match="array 0"):
            check_weights([spoiled], [big])


def test_the_seed_of_a_client_is_a_function_of_seed_round_and_client_only():
    # The first 8 bytes of SHA-256("7/3/alice"), from coreutils: printf 7/3/alice | sha256sum
    assert local_seed(7, 3, "alice") == 0x4E8A593B2F25A818
    seeds = {
        local_seed(seed, round, client)
        for seed in range(5)
        for round in range(1, 21)
        for client in ("a", "b", "1/a")
    }
    assert len(seeds) == 5 * 20 * 3


def test_every_refusal_has_a_kind_of_its_own_for_programs():
    kinds = [
        error.kind for error in (Refused, BadUpdate, NotFinite, Conflict, UnknownClient, RunOver)
    ]
    assert len(set(kinds)) == len(kinds) and all(re.fullmatch("[a-z_]+", kind) for kind in kinds)


def test_only_numbers_that_are_not_finite_are_called_so():
    good = Update("alice", 1, 10, weights())
    with pytest.raises(NotFinite, match="array 1 holds NaN or infinity"):
        check_update(replace(good, weights=[weights()[0], weights(math.inf)[1]]), weights())
    with pytest.raises(BadUpdate) as caught:
        check_update(replace(good, weights=[w.astype(float) for w in weights()]), weights())
    assert not isinstance(caught.value, NotFinite)
    with pytest.raises(NotFinite, match="an array of 'control' holds NaN"):
        check_update(replace(good, more={"control": weights(math.nan)}), weights())


def test_a_phase_that_is_not_training_may_come_without_weights():
    check_update(Update("alice", 1, 10, [], phase="keys"), weights())
    with pytest.raises(BadUpdate, match="got 0 arrays; expected 2"):
        check_update(Update("alice", 1, 10, []), weights())
    with pytest.raises(BadUpdate, match="got 1 array; expected 2"):
        check_update(Update("alice", 1, 10, weights()[:1], phase="keys"), weights())


@pytest.mark.parametrize(
    ("batch_size", "examples", "steps"),
    [(10, 600, 180), (10, 601, 183), (None, 600, 3), (1000, 600, 3), (32, 1, 3)],
)
def test_how_many_steps_a_task_has(batch_size, examples, steps):
    assert Training(3, batch_size).steps(examples) == steps


@pytest.mark.parametrize("mu", [-0.1, math.nan, math.inf, "0", True])
def test_a_proximal_term_that_cannot_be(mu):
    with pytest.raises(Refused, match=r"proximal \(mu\) is .*; expected a number from 0"):
        Training(proximal=mu)
