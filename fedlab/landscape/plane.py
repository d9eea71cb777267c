"""The plane through a round's models, and the test loss on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused, counted, number, whole
from fedlab.data import Dataset
from fedlab.landscape.walks import Walks
from fedlab.messages import BadUpdate, Weights, check_weights


@dataclass(frozen=True)
class Place:
    """A model on the map: where it is, and how good it is on the test images. The loss and the
    accuracy are the model's own; where it lies outside the plane, the map around its place shows
    others.
    """

    x: float
    y: float
    loss: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class LossMap:
    """The test loss on a plane through a round's models.

    x, y:     (points,) distances from the average along the two directions of the plane: the
              Euclidean length of the difference of all weights.
    losses:   (points, points) mean cross-entropy in nats, losses[i, j] at (x[j], y[i]).
    paths:    client id -> (steps, 2) its walk.
    start, average, ends: the round's first model, its last, and the model that each client sent.
    in_plane: how much of the walks lies in the plane: of the squared distances from the average,
              the fraction that is not lost when every model is moved to its nearest place there.
    origin, directions: the weights at (0, 0), and what one step of x and of y adds to them.
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    paths: Mapping[str, np.ndarray] = field(repr=False)
    start: Place
    average: Place
    ends: Mapping[str, Place]
    in_plane: float
    origin: Weights = field(repr=False)
    directions: tuple[Weights, Weights] = field(repr=False)

    def weights(self, x: float, y: float) -> Weights:
        """The model at a place of the plane."""
        return _at(self.origin, self.directions, x, y)


def loss_map(
    walks: Walks, test: Dataset, *, points: int = 25, width: float | None = None
) -> LossMap:
    """The test loss on the plane of a round, `points` x `points` models of it.

    The plane goes through the average. With two clients both walks' ends and the start span it,
    with three their ends; with more, the first two principal directions of all walks. What lies
    outside is drawn at its nearest place in the plane (`in_plane` says how much that leaves out).

    test:  1,000 images give a smooth map in a few seconds.
    width: of the square that is drawn, in distance between models; what all walks need if None.
           Maps of the same width can be compared by eye.
    Raises Refused for fewer than two clients, walks along one line, or no test images; BadUpdate
    for models of different shapes.
    """
    whole("points", points, 2)
    if len(walks.paths) < 2:
        raise Refused(
            f"got the walk of {counted(len(walks.paths), 'client')}; expected those of at least"
            " two: a plane needs two directions"
        )
    if not len(test):
        raise Refused("there are no test images; expected at least one")
    _check_shapes(walks)
    origin = walks.average
    directions = _directions(walks)
    basis = np.stack([_flat(direction) for direction in directions])
    middle = _flat(origin)
    paths, inside, length = {}, 0.0, 0.0
    for name, path in walks.paths.items():
        away = np.stack([_flat(model) for model in path]) - middle
        paths[name] = (away @ basis.T).astype(float)
        inside += float((paths[name] ** 2).sum())
        length += float((away.astype(float) ** 2).sum())
    start_at = basis @ (_flat(walks.start) - middle)
    x, y = _square([*paths.values(), [start_at], [(0.0, 0.0)]], points, width)
    evaluate = walks.classifier.evaluate
    ends = {name: path[-1] for name, path in walks.paths.items()}
    grid = [_Point(origin, directions, across, up) for up in y for across in x]
    # A model a core, and one more: NumPy makes its weights while others are tested
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1, thread_name_prefix="fedlab-map") as pool:
        models = [walks.start, walks.average, *ends.values()]
        own = list(pool.map(lambda model: evaluate(model, test), models))
        losses = list(pool.map(lambda point: evaluate(point.weights(), test)[0], grid))
    places = [start_at, (0.0, 0.0), *(paths[name][-1] for name in ends)]
    start, average, *sent = (
        Place(float(px), float(py), *tested) for (px, py), tested in zip(places, own, strict=True)
    )
    return LossMap(
        x,
        y,
        np.reshape(losses, (points, points)),
        paths,
        start,
        average,
        dict(zip(ends, sent, strict=True)),
        inside / length if length else 1.0,
        origin,
        directions,
    )


@dataclass(frozen=True, eq=False)
class _Point:
    """A place of the plane whose weights are made only when it is tested."""

    origin: Weights
    directions: tuple[Weights, Weights]
    x: float
    y: float

    def weights(self) -> Weights:
        return _at(self.origin, self.directions, self.x, self.y)


def _at(origin: Weights, directions: tuple[Weights, Weights], x: float, y: float) -> Weights:
    across, up = np.float32(x), np.float32(y)
    return [w + across * u + up * v for w, u, v in zip(origin, *directions, strict=True)]


def _check_shapes(walks: Walks) -> None:
    models = {"the start": [walks.start], "the average": [walks.average], **walks.paths}
    for name, path in models.items():
        if not len(path):
            raise Refused(f"the walk of {name} is empty; expected at least one model")
        for model in path:
            try:
                check_weights(model, walks.classifier.weights)
            except BadUpdate as error:
                raise type(error)(f"a model of {name} is not of this map's kind: {error}") from None


def _directions(walks: Walks) -> tuple[Weights, Weights]:
    """Two directions of length 1, at right angles."""
    names, middle = list(walks.paths), _flat(walks.average)
    if len(names) <= 3:
        # With two clients their average lies between them: only the start gives a second direction
        base = _flat(walks.start) if len(names) == 2 else middle
        first, second = (_flat(walks.paths[name][-1]) - base for name in names[:2])
    else:
        rows = np.stack([_flat(m) for path in walks.paths.values() for m in path[1:]]) - middle
        values, vectors = np.linalg.eigh((rows @ rows.T).astype(float))
        first, second = (vectors[:, k].astype(np.float32) @ rows for k in (-1, -2))
        # Eigenvectors have no sign: the first client's end is on the right, the second's above
        if first @ (_flat(walks.paths[names[0]][-1]) - middle) < 0:
            first = -first
        if second @ (_flat(walks.paths[names[1]][-1]) - middle) < 0:
            second = -second
    lengths = [np.linalg.norm(first)]
    if lengths[0]:
        first = first / lengths[0]
        second = second - (second @ first) * first
        lengths.append(np.linalg.norm(second))
    if min(lengths) <= 1e-5 * max(lengths):
        raise Refused(
            "the clients' models lie on one line; expected two directions: clients whose data or"
            " whose training differ"
        )
    return _shaped(first, walks.start), _shaped(second / lengths[1], walks.start)


def _flat(weights: Weights) -> np.ndarray:
    return np.concatenate([w.ravel() for w in weights])


def _shaped(flat: np.ndarray, like: Weights) -> Weights:
    ends = np.cumsum([w.size for w in like])
    pieces = np.split(flat.astype(np.float32), ends[:-1])
    return [piece.reshape(w.shape) for piece, w in zip(pieces, like, strict=True)]


def _square(
    paths: Sequence[np.ndarray], points: int, width: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The axes of a square around all walks, with room for names."""
    places = np.concatenate([np.reshape(path, (-1, 2)) for path in paths])
    low, high = places.min(0), places.max(0)
    if width is None:
        width = 1.5 * float((high - low).max())
    width = number("width", width, "a number above 0, for example 3.0", above=0)
    middle = (low + high) / 2
    x, y = (np.linspace(m - width / 2, m + width / 2, points) for m in middle)
    return x, y
