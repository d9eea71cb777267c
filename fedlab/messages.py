"""What server and client say to each other, and what each of them refuses to hear."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Weights = list[np.ndarray]
"""A model's arrays in Keras `get_weights()` order, float32."""


class Refused(ValueError):
    """Something the federation does not accept. The message names what was received and what was
    expected; nothing was changed.
    """


class BadUpdate(Refused):
    """An update that cannot be right: its shapes, types, numbers or count."""


class Conflict(Refused):
    """Something that was right at another time, or has been done already: a stale or repeated
    update, an id that is taken.
    """


class UnknownClient(Refused):
    """A message from a client that has not joined, or has left."""


class RunOver(Refused):
    """There is no more work for this client."""


class ClientFailed(RuntimeError):
    """A client stopped because of an error of its own; a run that was waited for raises it at its
    end.
    """


class Diverged(ArithmeticError):
    """Training left the finite numbers; the message says in which round. `history` (where there is
    one) holds the rounds before.
    """

    history = None


@dataclass(frozen=True)
class Training:
    """How a client trains (McMahan et al. 2017, section 2).

    epochs:        E, passes over the client's examples in one round.
    batch_size:    B, examples in one step; None is the paper's B = infinity (all of the client's
                   examples in one step).
    learning_rate: eta.
    optimizer:     "sgd" or "adam" (Kingma & Ba 2015). Moments start from zero in every task: a
                   client keeps no state.

    Raises Refused for anything else.
    """

    epochs: int = 1
    batch_size: int | None = 32
    learning_rate: float = 0.1
    optimizer: str = "sgd"

    def __post_init__(self):
        if not _whole(self.epochs) or not 1 <= self.epochs <= 10_000:
            raise Refused(
                f"epochs (E) is {self.epochs!r}; expected a whole number from 1 to 10,000"
            )
        if self.batch_size is not None and (not _whole(self.batch_size) or self.batch_size < 1):
            raise Refused(
                f"batch_size (B) is {self.batch_size!r}; expected a whole number from 1, or None"
                " for all examples at once"
            )
        if not _number(self.learning_rate) or not 0 < self.learning_rate < math.inf:
            raise Refused(
                f"learning_rate is {self.learning_rate!r}; expected a number above 0, for"
                " example 0.1"
            )
        if self.optimizer not in ("sgd", "adam"):
            raise Refused(f"optimizer is {self.optimizer!r}; expected 'sgd' or 'adam'")


@dataclass(frozen=True, eq=False)
class Task:
    """Server to client: train these weights like this.

    round:   the round, from 1; in the asynchronous way each client counts its own.
    rounds:  the last round that is planned, 0 when there is no plan (the server goes on until it is
             stopped).
    weights: the global model.
    seed:    the federation's seed; `local_seed` makes the client's own of it.
    shard_by_shard: train on one shard of the client's data in each task, as the original
                    demonstration does, not on all of it.
    """

    round: int
    rounds: int
    weights: Weights = field(repr=False)
    training: Training
    seed: int = 0
    shard_by_shard: bool = False


@dataclass(frozen=True, eq=False)
class Update:
    """Client to server: what my training made of your weights. No example is in it.

    num_examples: n_k, the examples trained on: the weight of this update in the average.
    accuracy, loss: the client's own model before it is sent, on its test set (the examples just
                    trained on where it has none); NaN if not measured.
    """

    client: str
    round: int
    num_examples: int
    weights: Weights = field(repr=False)
    accuracy: float = math.nan
    loss: float = math.nan


def check_client_id(client) -> str:
    """A client id: 1 to 40 letters, digits, spaces or . _ - @, starting with a letter, digit or _,
    not ending with a space. Raises Refused.

    (An id of dots alone would vanish from a URL's path.)
    """
    if not isinstance(client, str) or not re.fullmatch(r"\w([\w.@ -]{0,38}[\w.@-])?", client):
        raise Refused(
            f"the client id is {str(client)[:60]!r}; expected 1 to 40 letters, digits, spaces or ."
            " _ - @, for example 'alice'"
        )
    return client


def check_update(
    update: Update, weights: Sequence[np.ndarray], most_examples: int | None = None
) -> None:
    """Raise BadUpdate unless `update` could be added to a model with these `weights`.

    most_examples: the number the client joined with: it cannot have trained on more.
    """
    if not _whole(update.round) or update.round < 1:
        raise BadUpdate(f"round is {update.round!r}; expected a whole number from 1")
    if not _whole(update.num_examples) or update.num_examples <= 0:
        raise BadUpdate(f"num_examples is {update.num_examples!r}; expected a whole number above 0")
    if most_examples is not None and update.num_examples > most_examples:
        raise BadUpdate(
            f"num_examples is {update.num_examples:,}; expected at most {most_examples:,}, with"
            f" which {update.client!r} joined"
        )
    if not (math.isnan(update.accuracy) or 0 <= update.accuracy <= 1):
        raise BadUpdate(
            f"accuracy is {update.accuracy!r}; expected a fraction from 0 to 1, or NaN where it was"
            " not measured"
        )
    check_weights(update.weights, weights)


def check_token(token: str) -> str:
    """`token`, if it can travel in an HTTP header. Raises Refused, without saying what it is."""
    if not (token.isascii() and token.isprintable()):
        raise Refused(
            "the token has characters that no HTTP header carries; expected the one that the server"
            " printed (in a panel: Show the address with its token)"
        )
    return token


def check_weights(received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Raise BadUpdate unless `received` has the arrays of `expected`: number, shapes, dtypes, and
    only finite values.
    """
    if len(received) != len(expected):
        raise BadUpdate(
            f"got {len(received)} arrays; expected {len(expected)}, one for each of the model's"
            " weights"
        )
    for number, (got, want) in enumerate(zip(received, expected, strict=True)):
        if got.shape != want.shape:
            raise BadUpdate(f"array {number} has the shape {got.shape}; expected {want.shape}")
        if got.dtype != want.dtype:
            raise BadUpdate(f"array {number} is {got.dtype}; expected {want.dtype}")
        if not np.isfinite(got).all():
            raise BadUpdate(
                f"array {number} holds NaN or infinity; expected finite numbers (did training"
                " diverge?)"
            )


def local_seed(seed: int, round: int, client: str) -> int:
    """The seed of one client's batches in one round: f(seed, round, client), whatever machine,
    thread or order it runs in.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{round}/{client}".encode()).digest()[:8], "big")


def _whole(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _number(value) -> bool:
    return isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
