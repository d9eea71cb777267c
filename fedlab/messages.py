"""What server and client say to each other, and what each of them refuses to hear."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from fedlab.checks import Refused, counted, is_number, is_whole, number, whole

Weights = list[np.ndarray]
"""A model's arrays in Keras `get_weights()` order, float32."""


TRAIN = "train"
"""The phase of a round in which clients train; the only one, unless a strategy asks for more."""

DENSE = "dense"
"""The codec that sends every number as it is: where there is none."""

HALF = "float16"
"""The codec that sends weights in half precision, both ways: half of the bytes."""


@runtime_checkable
class Codec(Protocol):
    """How a run's models and updates are written in few bytes; `fedlab.codec` makes them.

    name:     by which a task asks for it, and a client finds it.
    sparse:   most numbers of an update come as no change at all.
    optional: an update may be dense all the same.
    """

    @property
    def name(self) -> str: ...

    @property
    def sparse(self) -> bool: ...

    @property
    def optional(self) -> bool: ...

    def pack(self, weights: Weights) -> Weights:
        """A model's arrays as the server sends them."""

    def unpack(self, arrays: Weights, like: Weights) -> Weights:
        """The inverse, for a model with the shapes of `like`. Raises BadUpdate."""

    def encode(
        self, weights: Weights, given: Weights, seed: int, residual: Weights | None = None
    ) -> tuple[Weights, Weights | None]:
        """An update's arrays as the client sends them, trained from the weights `given`; and what
        it keeps for its next update, as `residual`. seed: decides what is left to chance.
        """

    def decode(self, arrays: Weights, given: Weights) -> Weights:
        """The weights in such arrays, as trained from those `given`. Raises BadUpdate."""


class BadUpdate(Refused):
    """An update that cannot be right: its shapes, types, numbers or count."""

    kind = "bad_update"


class NotFinite(BadUpdate):
    """An update with NaN or infinity in it: training has diverged, or a transform has."""

    kind = "not_finite"


class Conflict(Refused):
    """Something that was right at another time, or has been done already: a stale or repeated
    update, an id that is taken.
    """

    kind = "conflict"


class AlreadyCounted(Conflict):
    """An update that came before: its sender need not mind."""

    kind = "already_counted"


class UnknownClient(Refused):
    """A message from a client that has not joined, or has left."""

    kind = "unknown_client"


class Full(Refused):
    """There are as many clients as the server's owner allows."""

    kind = "full"


class Banned(Refused):
    """A client whom the server's owner does not let in."""

    kind = "banned"


class RunOver(Refused):
    """There is no more work for this client."""

    kind = "run_over"


class RunFailed(RunOver):
    """There is no more work, because the run has ended by an error."""

    kind = "run_failed"


class ClientFailed(RuntimeError):
    """A client stopped because of an error of its own; a run that was waited for raises it at its
    end.
    """

    kind = "client_failed"


class Diverged(ArithmeticError):
    """Training left the finite numbers; the message says in which round. `history` (where there is
    one) holds the rounds before.
    """

    kind = "diverged"
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

    proximal:      mu of FedProx (Li et al. 2020): every step follows g + mu (w - w0) in place of g,
                   where w0 are the weights that the task began with. 0 is plain training.

    Raises Refused for anything else.
    """

    epochs: int = 1
    batch_size: int | None = 32
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    proximal: float = 0.0

    def __post_init__(self):
        whole("epochs (E)", self.epochs, 1, 10_000)
        if self.batch_size is not None:
            more = ", or None for all examples at once"
            whole("batch_size (B)", self.batch_size, more=more)
        example = "a number above 0, for example 0.1"
        number("learning_rate", self.learning_rate, example, above=0)
        if self.optimizer not in ("sgd", "adam"):
            raise Refused(f"optimizer is {self.optimizer!r}; expected 'sgd' or 'adam'")
        number("proximal (mu)", self.proximal, "a number from 0 (none)", least=0)

    def steps(self, num_examples: int) -> int:
        """How many training steps these epochs have on so many examples, at least one."""
        return self.epochs * -(-num_examples // min(self.batch_size or num_examples, num_examples))

    def pace(self, num_examples: int) -> float:
        """K eta, steps times learning rate: how far gradients of length 1 would go."""
        return self.steps(num_examples) * self.learning_rate


@dataclass(frozen=True, eq=False)
class Task:
    """Server to client: train these weights like this.

    round:   the round, from 1; in the asynchronous way each client counts its own.
    rounds:  the last round that is planned, 0 when there is no plan (the server goes on until it is
             stopped).
    weights: the global model; on its way, what the codec makes of it.
    seed:    the federation's seed; `local_seed` makes the client's own of it.
    shard_by_shard: train on one shard of the client's data in each task, as the original
                    demonstration does, not on all of it.
    version: a number that grows with every new model: 0 is the untrained one.
    phase:   what is asked: "train"; a strategy whose round has several exchanges names the others.
    codec:   how weights are written, here and in the update: the name of a `Codec`; "dense" is
             every number as it is.
    more:    further arrays of the strategy's by name, a list each (SCAFFOLD's control variate).
    note:    further texts of the strategy's, by name.
    lineage: which untrained model this one comes from; another one, and the server has begun again.
    run:     which run it is of, as a text that no two runs share.
    """

    round: int
    rounds: int
    weights: Weights = field(repr=False)
    training: Training
    seed: int = 0
    shard_by_shard: bool = False
    version: int = 0
    phase: str = TRAIN
    codec: str = DENSE
    more: Mapping[str, Weights] = field(default_factory=dict, repr=False)
    note: Mapping[str, str] = field(default_factory=dict)
    lineage: str = ""
    run: str = ""


@dataclass(frozen=True, eq=False)
class Update:
    """Client to server: what my training made of your weights. No example is in it.

    num_examples: n_k, the examples trained on: the weight of this update in the average.
    accuracy, loss: the client's own model before it is sent, on its test set (the examples just
                    trained on where it has none); NaN if not measured.
    version: of the model that this one was trained from, as the task said.
    phase:   which of the round's exchanges this answers, as the task said. What identifies an
             update is its client, round and phase.
    more, note: as in Task: what a strategy of several exchanges needs beside the weights.
    run:     as the task said: in another run this update is not wanted.
    codec:   how its weights are written: as the task said. A strategy gets them read.
    """

    client: str
    round: int
    num_examples: int
    weights: Weights = field(repr=False)
    accuracy: float = math.nan
    loss: float = math.nan
    version: int = 0
    phase: str = TRAIN
    more: Mapping[str, Weights] = field(default_factory=dict, repr=False)
    note: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    codec: str = DENSE


def check_client_id(client) -> str:
    """A client id: 1 to 40 letters, digits, spaces or . _ - @, starting with a letter, digit or _,
    not ending with a space. Raises Refused.

    (An id of dots alone would vanish from a URL's path.)
    """
    good = isinstance(client, str) and re.fullmatch(r"\w([\w.@ -]{0,38}[\w.@-])?", client)
    # What NFKC changes looks like something else: full-width letters, letters that nobody sees.
    unseen = good and set(client) & {"\u115f", "\u1160"}  # Hangul's fillers, letters of no shape
    if not good or unseen or unicodedata.normalize("NFKC", client) != client:
        raise Refused(
            f"the client id is {str(client)[:60]!r}; expected 1 to 40 letters, digits, spaces or ."
            " _ - @, for example 'alice'"
        )
    return client


def check_answer(update: Update, weights: Sequence[np.ndarray]) -> None:
    """Raise BadUpdate unless `update` has weights like these; in phases other than training it may
    have none, and say all that it has to in `more` and `note`.
    """
    if update.phase == TRAIN or update.weights:
        check_weights(update.weights, weights)


def check_update(
    update: Update,
    weights: Sequence[np.ndarray],
    most_examples: int | None = None,
    check: Callable[[Update, Sequence[np.ndarray]], None] = check_answer,
) -> None:
    """Raise BadUpdate unless `update` could be added to a model with these `weights`.

    most_examples: the number the client joined with: it cannot have trained on more.
    check:         what looks at its weights, a strategy's own where that is another.
    """
    whole("round", update.round, error=BadUpdate)
    if not is_whole(update.num_examples) or update.num_examples <= 0:
        raise BadUpdate(f"num_examples is {update.num_examples!r}; expected a whole number above 0")
    if most_examples is not None and update.num_examples > most_examples:
        raise BadUpdate(
            f"num_examples is {update.num_examples:,}; expected at most {most_examples:,}, with"
            f" which {update.client!r} joined"
        )
    if not is_number(update.accuracy) or not (
        math.isnan(update.accuracy) or 0 <= update.accuracy <= 1
    ):
        raise BadUpdate(
            f"accuracy is {update.accuracy!r}; expected a fraction from 0 to 1, or NaN where it was"
            " not measured"
        )
    check(update, weights)
    for name, arrays in update.more.items():
        for array in arrays:
            check_finite(f"an array of {name!r}", array)


class TooFar(BadUpdate):
    """An update whose change is longer than the server's owner allows."""

    kind = "too_far"


def length(weights: Weights, began: Weights) -> float:
    """How long the change from `began` is, all numbers together; in float64, where the square of
    the largest float32 still has room.
    """
    pairs = zip(weights, began, strict=True)
    return math.sqrt(sum(float(np.sum((w.astype(np.float64) - b) ** 2)) for w, b in pairs))


def check_change(update: Update, began: Weights, bound: float) -> None:
    """Raise TooFar for a change longer than `bound`. began: the model it was trained from."""
    if update.weights and (far := length(update.weights, began)) > bound:
        raise TooFar(
            f"the change of {update.client!r} is {far:.3g} long; expected at most {bound:g}, the"
            " bound of this server's owner"
        )


def check_finite(what: str, array: np.ndarray) -> None:
    """Raise NotFinite if `array` holds NaN or infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotFinite(
            f"{what} holds NaN or infinity; expected finite numbers (did training diverge?)"
        )


class Secret(str):
    """A text that has a secret in it: a traceback or a notebook that shows its value shows dots.
    `print` shows it.
    """

    def __repr__(self) -> str:
        shown = str(self).split("token=")[0] if "token=" in self else ""
        return repr(f"{shown}token=…" if shown else "…")


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
            f"got {counted(len(received), 'array')}; expected {len(expected)}, one for each"
            " of the model's weights"
        )
    for place, (got, want) in enumerate(zip(received, expected, strict=True)):
        if got.shape != want.shape:
            raise BadUpdate(f"array {place} has the shape {got.shape}; expected {want.shape}")
        if got.dtype != want.dtype:
            raise BadUpdate(f"array {place} is {got.dtype}; expected {want.dtype}")
        check_finite(f"array {place}", got)


def local_seed(seed: int, round: int, client: str) -> int:
    """The seed of one client's batches in one round: f(seed, round, client), whatever machine,
    thread or order it runs in.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{round}/{client}".encode()).digest()[:8], "big")
