"""How examples are dealt to clients: alike, or each its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedlab.checks import number, whole
from fedlab.data import DataError, Dataset


def partition_iid(data: Dataset, clients: int, seed: int = 0) -> list[Dataset]:
    """Shuffle, then deal evenly: every client's examples look like everyone's (McMahan et al. 2017,
    "IID").

    Sizes differ by at most one. Raises DataError when there are more clients than examples.
    """
    _check_clients(data, clients)
    order = np.random.default_rng(seed).permutation(len(data))
    return [data.subset(part) for part in np.array_split(order, clients)]


def partition_by_label(
    data: Dataset, clients: int, shards_per_client: int = 2, seed: int = 0
) -> list[Dataset]:
    """Sort by label, cut into clients * shards_per_client pieces, deal them: most clients see two
    digits (McMahan et al., "non-IID").

    Raises DataError when there are more pieces than examples.
    """
    _check_clients(data, clients)
    _check_clients(data, clients * shards_per_client, "clients x shards_per_client")
    pieces = np.array_split(np.argsort(data.y, kind="stable"), clients * shards_per_client)
    dealt = np.random.default_rng(seed).permutation(len(pieces)).reshape(clients, shards_per_client)
    return [data.subset(np.concatenate([pieces[piece] for piece in hand])) for hand in dealt]


def partition_dirichlet(
    data: Dataset, clients: int, alpha: float = 0.5, seed: int = 0, minimum: int = 1
) -> list[Dataset]:
    """Deal each label in proportions drawn from a Dirichlet distribution (Hsu, Qi & Brown 2019,
    arXiv:1909.06335).

    alpha: skew; 0.1 gives clients a few labels each, 100 is nearly IID. Clients that end with fewer
           than `minimum` examples are given
    some of the largest client's, so that nobody is empty.
    Raises DataError for alpha <= 0, or for more clients than examples.
    """
    _check_clients(data, clients)
    _check_clients(data, clients * max(minimum, 1), "clients x minimum")
    number("alpha", alpha, "a number above 0, for example 0.5", above=0, error=DataError)
    rng, y = np.random.default_rng(seed), data.y
    hands: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(clients, float(alpha))))[:-1] * len(rows)).astype(
            int
        )
        for hand, piece in zip(hands, np.split(rows, cuts), strict=True):
            hand.append(piece)
    dealt = [np.concatenate(hand) for hand in hands]
    for poor in range(clients):
        while (lacking := minimum - len(dealt[poor])) > 0:
            rich = max(range(clients), key=lambda client: len(dealt[client]))
            gift = min(lacking, len(dealt[rich]) - minimum)
            dealt[poor], dealt[rich] = (
                np.append(dealt[poor], dealt[rich][:gift]),
                dealt[rich][gift:],
            )
    return [data.subset(rng.permutation(rows)) for rows in dealt]


def _check_clients(data: Sequence, clients: int, what: str = "clients") -> None:
    whole(what, clients, 1, len(data), more=", the number of examples", error=DataError)
