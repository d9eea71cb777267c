"""How examples are dealt to clients: alike, or each its own; and how unlike they then are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from fedlab.checks import counted, number, whole
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
    dealt = _fed([np.concatenate(hand) for hand in hands], minimum)
    return [data.subset(rng.permutation(rows)) for rows in dealt]


def partition_by_digit(
    data: Dataset, clients: int, classes: int = 10, seed: int = 0
) -> list[Dataset]:
    """Each client has one digit only: client k has the digit k % classes, and clients of the same
    digit share its examples evenly ("0 % similarity" in Karimireddy et al. 2020, arXiv:1910.06378).

    Raises DataError for fewer clients than classes (some digit would be nobody's), and when a digit
    has fewer examples than clients.
    """
    whole("classes", classes, error=DataError)
    most = max(len(data), classes)
    bounds = " (at least one for each digit, at most one for each example)"
    whole("clients", clients, classes, most, more=bounds, error=DataError)
    y = data.y
    if len(y) and y.max() >= classes:
        raise DataError(f"there is a label {y.max()}; expected 0 to {classes - 1} (classes)")
    rng = np.random.default_rng(seed)
    hands: list[np.ndarray] = [np.empty(0, int)] * clients
    for digit in range(classes):
        owners = range(digit, clients, classes)
        rows = rng.permutation(np.flatnonzero(y == digit))
        if len(rows) < len(owners):
            whose = "its client" if len(owners) == 1 else f"each of its {len(owners)} clients"
            raise DataError(
                f"the digit {digit} has {counted(len(rows), 'example')}; expected at least one for"
                f" {whose}"
            )
        for owner, piece in zip(owners, np.array_split(rows, len(owners)), strict=True):
            hands[owner] = piece
    return [data.subset(rows) for rows in hands]


def partition_by_quantity(
    data: Dataset, clients: int, alpha: float = 1.0, seed: int = 0, minimum: int = 1
) -> list[Dataset]:
    """Alike in digits, unequal in size: shuffled, and cut in proportions drawn from a Dirichlet
    distribution ("quantity skew" of Li, Diao, Chen & He 2022, arXiv:2102.02079).

    alpha: how equal the sizes are; at 0.3 a few clients have nearly everything, at 100 all have
           about as much. Clients that end with fewer than `minimum` examples are given some of the
           largest client's, so that nobody is empty.
    Raises DataError for alpha <= 0, or for more clients than examples.
    """
    _check_clients(data, clients)
    _check_clients(data, clients * max(minimum, 1), "clients x minimum")
    number("alpha", alpha, "a number above 0, for example 1.0", above=0, error=DataError)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    cuts = (np.cumsum(rng.dirichlet(np.full(clients, float(alpha))))[:-1] * len(data)).astype(int)
    return [data.subset(rows) for rows in _fed(np.split(order, cuts), minimum)]


def skew(clients: Mapping[str, Dataset] | Sequence[Dataset], classes: int | None = None) -> float:
    """How unlike the clients' digits are: 0 when all have the same mix, 1 when each has one digit.

    For a client: the share of its examples that would have to be exchanged for others until its mix
    of digits is everybody's. That is the total variation distance, half of the "earth mover's
    distance" of Zhao et al. 2018 (arXiv:1806.00582). Its mean, each client weighted by its
    examples, is divided by the largest that it could be with these examples: that of one digit
    each. Clients of different sizes but with the same mix have skew 0.

    classes: how many labels there are; None: as many as occur. Raises DataError for no examples.
    """
    parts = list(clients.values() if isinstance(clients, Mapping) else clients)
    if not sum(map(len, parts)):
        raise DataError("the clients have no examples; expected at least one")
    if classes is None:
        classes = 1 + max(int(part.y.max()) for part in parts if len(part))
    counts = np.array([part.label_counts(classes) for part in parts], np.int64)
    digits, sizes, total = counts.sum(0), counts.sum(1), int(counts.sum())
    # All times total^2, in whole numbers: so one digit each is exactly 1
    distance = int(np.abs(total * counts - np.outer(sizes, digits)).sum())
    largest = 2 * (total**2 - int((digits**2).sum()))
    return distance / largest if largest else 0.0


def partition_svg(clients: Mapping[str, Dataset] | Sequence[Dataset], classes: int = 10) -> str:
    """Which labels each client holds as a picture that can follow a slider: an SVG text, made in a
    millisecond. A row a client, a circle a label, its area as large as its number of examples; at
    the row's end how many there are. Text has the colour of the page.

    A circle that fills its cell is all examples of one label. Raises DataError for no examples.
    """
    if not isinstance(clients, Mapping):
        clients = {f"client {number}": part for number, part in enumerate(clients)}
    unlike = skew(clients, classes)
    counts = {name: part.label_counts(classes) for name, part in clients.items()}
    largest = max(sum(counts.values()).max(), 1)
    left, right, height = 105, 70, 24
    across, width = (640 - left - right) / classes, 640
    drawn = []
    for row, (name, several) in enumerate(counts.items()):
        y = height * (row + 0.5)
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        drawn.append(
            f'<text x="{width - 8}" y="{y + 4}" text-anchor="end">{several.sum():,}</text>'
        )
        drawn.append(f'<line x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        for label in np.flatnonzero(several):
            radius = max(min(height, across) * 0.5 * np.sqrt(several[label] / largest), 0.6)
            where = f'cx="{left + across * (label + 0.5):.1f}" cy="{y}" r="{radius:.2f}"'
            drawn.append(f"<circle {where}/>")
    y = height * (len(counts) + 0.5) + 4
    for label in range(classes):
        x = left + across * (label + 0.5)
        drawn.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>')
    drawn.append(f'<text x="{left - 8}" y="{y}" text-anchor="end">digit</text>')
    drawn.append(f'<text x="{width - 8}" y="{y}" text-anchor="end">images</text>')
    told = f"{counted(len(counts), 'client')} and their digits, skew {unlike:.2f}"
    tall = height * (len(counts) + 1)
    return (
        f'<svg viewBox="0 0 {width} {tall}" width="{width}" height="{tall}" role="img"'
        f' aria-label="{told}" style="max-width:100%;height:auto;font:13px sans-serif"'
        ' fill="currentColor"><style>.fl-dealt line{stroke:currentColor;opacity:.15}'
        '.fl-dealt circle{fill:#2a7fbd}</style><g class="fl-dealt">'
        f"{''.join(drawn)}</g></svg>"
    )


def _fed(dealt: list[np.ndarray], minimum: int) -> list[np.ndarray]:
    """The same hands, but who has fewer than `minimum` rows is given some of the richest's."""
    for poor in range(len(dealt)):
        while (lacking := minimum - len(dealt[poor])) > 0:
            rich = max(range(len(dealt)), key=lambda client: len(dealt[client]))
            gift = min(lacking, len(dealt[rich]) - minimum)
            dealt[poor], dealt[rich] = (
                np.append(dealt[poor], dealt[rich][:gift]),
                dealt[rich][gift:],
            )
    return dealt


def _check_clients(data: Sequence, clients: int, what: str = "clients") -> None:
    whole(what, clients, 1, len(data), more=", the number of examples", error=DataError)
