"""The checkers of lesson 01."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import fedlab
from exercises.verdict import Hint, checker, expect, kind_of
from fedlab.checks import counted


@checker
def check_twelve(shards: dict[str, tuple[int, int]], history: fedlab.History) -> str:
    """Exercise 1: twelve clients with a shard each, five rounds, every other setting as before."""
    expect(
        isinstance(shards, dict),
        f"the first answer is of the type {kind_of(shards)}; expected a dict, as SHARDS is.",
    )
    expect(len(shards) == 12, f"got {counted(len(shards), 'client')}; expected 12.")
    ranges = {tuple(held) for held in shards.values()}
    expect(
        all(first == last for first, last in ranges),
        "somebody holds more than one shard: first and last must be the same number.",
    )
    expect(
        len(ranges) == 12,
        f"got {counted(len(ranges), 'different shard')}; expected 12. Give every client a shard of"
        " its own.",
    )
    expect(
        isinstance(history, fedlab.History),
        f"the second answer is of the type {kind_of(history)}; expected what server.run returns.",
    )
    expect(
        len(history) == 5,
        f"the history has {counted(len(history), 'round')}; expected 5, from a new server.",
    )
    names = sorted(history.last.clients)
    expect(
        names == sorted(shards),
        f"in this history {counted(len(names), 'client')} took part. Is it the history of the run"
        " with your twelve?",
    )
    accuracy = history.last.accuracy
    expect(
        0.93 < accuracy < 0.965,
        f"after round 5 it has {accuracy:.1%}; expected about 95 %. Did another setting change as"
        " well?",
    )
    return (
        f"twelve clients have {accuracy:.1%} after five rounds, and three had more than 97 %, with"
        " the same images. Can you say why?"
    )


IMAGE_BYTES = 60_000 * 784  # one byte a pixel
MESSAGE_BYTES = 797_400  # a task or an update of the 2NN: 796,840 bytes of weights, and a header


@checker
def check_bytes(rounds: float) -> str:
    """Exercise 2: the first round after which more bytes were exchanged than all images have. Three
    clients, both ways.
    """
    expect(
        not isinstance(rounds, bool) and isinstance(rounds, (int, float, np.number)),
        "expected a number of rounds, such as 3.",
    )
    right, one_way, one_client = (
        math.ceil(IMAGE_BYTES / (messages * MESSAGE_BYTES)) for messages in (6, 3, 2)
    )
    expect(
        rounds not in (one_way, one_way - 1),
        "that counts one direction only. In every round the model also goes the other way.",
    )
    expect(
        rounds not in (one_client, one_client - 1),
        "that counts one client only. Three receive the model, and three send theirs.",
    )
    expect(
        rounds == int(rounds),
        "only whole rounds can be run. After which one is the sum larger for the first time?",
    )
    expect(
        rounds != right - 1,
        "close: after that round the sum is still a little smaller than the images.",
    )
    expect(
        rounds == right,
        "divide the bytes of all training images by the bytes of one round, history[0].bytes.",
    )
    return f"from round {right} on, the models that were sent have more bytes than all the images."


@checker
def check_average(average: Callable[[list[fedlab.Update]], list[np.ndarray]]) -> str:
    """Exercise 3: a function from updates to the weighted mean of their weights."""
    expect(
        callable(average),
        f"the answer is of the type {kind_of(average)}; expected the function itself, without"
        " brackets.",
    )
    updates = _hand_sized()
    try:
        got = average(updates)
    except IndexError:  # range(6), as in the lesson by hand, where six arrays are right
        raise Hint(
            "your function asks for an array or an update that is not there. Here it got three"
            " updates of two small arrays each, not of six as in part 5: let the updates say how"
            " many arrays they have."
        ) from None
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise Hint(
            f"your function ended in {what}. It gets a list of updates, each with .weights and"
            " .num_examples."
        ) from None
    expect(
        got is not None and got is not ...,
        "your function returns nothing yet. It must return the list of averaged arrays.",
    )
    changed = not all(
        _close(mine.weights, fresh.weights)
        for mine, fresh in zip(updates, _hand_sized(), strict=True)
    )
    expect(
        not changed,
        "your function changes the arrays of the updates that it gets. Make new arrays instead.",
    )
    shapes = [np.shape(array) for array in got]
    expect(
        shapes == [(2, 3), (3,)],
        f"you return arrays of the shapes {shapes}; expected [(2, 3), (3,)], as each update has.",
    )
    expect(
        not _is_sum(got, 1 / 3, 1 / 3, 1 / 3),
        "this is the plain mean: here a client with 1 example counts as much as one with 6.",
    )
    expect(
        not _is_sum(got, 1 / 3, 3 / 3, 6 / 3),
        "you divide by the number of clients. Divide by what, so that the shares make 1?",
    )
    expect(
        not _is_sum(got, 1, 3, 6),
        "each model is multiplied by its number of examples; now divide, so that the shares"
        " make 1.",
    )
    expect(
        _is_sum(got, 0.1, 0.3, 0.6),
        "with 1, 3 and 6 examples the shares must be 1/10, 3/10 and 6/10.",
    )
    kinds = {np.asarray(array).dtype for array in got}
    expect(
        kinds == {np.dtype(np.float32)},
        f"the numbers are right, but of the type {', '.join(sorted(map(str, kinds)))}; the model's"
        ' are float32: add .astype("float32").',
    )
    return "your server update is the one of federated averaging (FedAvg)."


def _hand_sized() -> list[fedlab.Update]:
    """Three updates of two small arrays, with 1, 3 and 6 examples: unequal, so that a wrong
    weighing shows.
    """
    rng = np.random.default_rng(1)
    counts = {"a": 1, "b": 3, "c": 6}
    return [
        fedlab.Update(
            name, 1, n, [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3), (3,))]
        )
        for name, n in counts.items()
    ]


def _is_sum(got: Sequence[np.ndarray], *shares: float) -> bool:
    """Whether `got` is the sum of the hand-sized updates, each multiplied by its share."""
    terms = [
        [share * array for array in update.weights]
        for share, update in zip(shares, _hand_sized(), strict=True)
    ]
    return _close(got, [sum(arrays) for arrays in zip(*terms, strict=True)])


def _close(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(some, others, strict=True))
