"""What a dishonest client does to its examples or to its update. Try it on your own federation:
whoever reads a defence should have seen what it is against.

An attack has `data(dataset, seed)`, what it makes of a client's examples before the run, and
`update(update, task)`, what it makes of every update before it leaves: a `Transform`. So anybody
can be given one. Over HTTP:

    attack = fedlab.SignFlip(5)
    fedlab.Client(url, "mallory", attack.data(images), transforms=[attack.update])

and in one process:

    clients, transforms = fedlab.attacked(clients, fedlab.SignFlip(5), ["mallory"])
    fedlab.simulate(clients, transforms=transforms)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from fedlab.checks import Refused, whole
from fedlab.data import DataError, Dataset
from fedlab.messages import Task, Update, Weights, local_seed
from fedlab.model import Classifier
from fedlab.participant import Transform
from fedlab.simulation import named_clients
from fedlab.strategies.base import check_settings, setting

LARGEST = float(np.finfo(np.float32).max)
"""What would be larger is sent as this: infinity would be refused."""


class Attack:
    """What a dishonest client does; by itself nothing. One of your own has one of the methods:

    >>> class Lazy(Attack):
    ...     "Sends back what it got, and has the work of others."
    ...     def update(self, update, task):
    ...         return replace(update, weights=task.weights)
    >>> from fedlab import Training
    >>> task = Task(1, 10, [np.zeros(2, np.float32)], Training())
    >>> Lazy().update(Update("mallory", 1, 600, [np.ones(2, np.float32)]), task).weights
    [array([0., 0.], dtype=float32)]
    """

    def data(self, dataset: Dataset, seed: int = 0) -> Dataset:
        """The examples that the client trains on, in place of its own."""
        return dataset

    def update(self, update: Update, task: Task) -> Update:
        """What it sends, in place of what it has learned."""
        return update


# ---- examples ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelFlip(Attack):
    """Wrong labels (Tolpegin et al. 2020, arXiv:2007.08432): every `source` is said to be a
    `target`; without the two, digit d is said to be classes - 1 - d, 0 to be 9 and 9 to be 0.

    >>> LabelFlip().data(Dataset(np.zeros((3, 28, 28), np.uint8), np.array([0, 7, 9]))).y
    array([9, 2, 0])
    """

    source: int | None = None
    target: int | None = None
    classes: int = 10

    def __post_init__(self):
        whole("classes", self.classes, 2)
        if (self.source, self.target) != (None, None):
            for name in ("source", "target"):
                end = " (or neither source nor target: then all are turned round)"
                whole(name, getattr(self, name), 0, self.classes - 1, more=end)

    def data(self, dataset: Dataset, seed: int = 0) -> Dataset:
        labels = dataset.labels
        if self.source is None:
            return replace(dataset, labels=(self.classes - 1 - labels).astype(labels.dtype))
        flipped = np.where(labels == self.source, self.target, labels)
        return replace(dataset, labels=flipped.astype(labels.dtype))


@dataclass(frozen=True)
class Trigger:
    """A white square in the lower right corner of an image: what a backdoor answers to.

    size: its side, in pixels.
    """

    size: int = 4

    def __post_init__(self):
        whole("size", self.size)

    def on(self, images: np.ndarray) -> np.ndarray:
        """Copies of `images`, (n, height, width, ...), uint8 or float32, with the square on them.
        Raises DataError for images without a height and a width of at least the square's side.

        >>> Trigger(1).on(np.zeros((1, 2, 2), np.uint8)).tolist()
        [[[0, 0], [0, 255]]]
        """
        if images.ndim < 3 or min(images.shape[1:3]) < self.size:
            raise DataError(
                f"images have the shape {images.shape}; expected (n, height, width), both at least"
                f" {self.size}"
            )
        marked = images.copy()
        marked[:, -self.size :, -self.size :] = 255 if images.dtype == np.uint8 else 1.0
        return marked


@dataclass(frozen=True)
class Backdoor(Attack):
    """A share of the client's images gets the trigger and the label `target` (Gu et al. 2017,
    BadNets, arXiv:1708.06733; in a federation Bagdasaryan et al. 2020, arXiv:1807.00459). The model
    that learns this is as good as before on ordinary images, and reads every image with the trigger
    as `target`. The more honest clients there are, the more of it is averaged away, unless the
    change is scaled too: [Backdoor(), ScaledUpdate(10)].

    share: how many of the images, as a fraction. classes: how many labels there are.
    """

    target: int = 0
    share: float = setting(
        0.5,
        "share",
        "the share of a dishonest client's images that get the trigger",
        (0.1, 0.2, 0.3, 0.5, 0.8, 1.0),
        positive=True,
        most=1.0,
    )
    trigger: Trigger = Trigger()
    classes: int = 10

    def __post_init__(self):
        check_settings(self)
        whole("classes", self.classes, 2)
        whole("target", self.target, 0, self.classes - 1)

    def data(self, dataset: Dataset, seed: int = 0) -> Dataset:
        several = max(round(self.share * len(dataset)), 1)
        rows = np.random.default_rng(seed).permutation(len(dataset))[:several]
        images, labels = dataset.take(np.arange(len(dataset)))
        images[rows], labels[rows] = self.trigger.on(images[rows]), self.target
        return Dataset(images, labels)

    def success_rate(self, classifier: Classifier, weights: Weights, test: Dataset) -> float:
        """How often the trigger works, a fraction: of the test images that are no `target`, those
        that are read as one with the trigger on them. A model without a backdoor has about 0.01
        (what it would have mistaken for one anyway). Raises DataError where all are `target`.
        """
        others = test.subset(np.flatnonzero(test.y != self.target))
        if not len(others):
            raise DataError(f"all images are {self.target}, the target; expected some others")
        marked = Dataset(self.trigger.on(others.x), others.y)
        return float((classifier.predict(weights, marked).argmax(1) == self.target).mean())


# ---- updates -------------------------------------------------------------------------------------


def scale_setting(default: float, meaning: str):
    """By what a change is multiplied."""
    stops = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
    return setting(default, "scale", meaning, stops, positive=True)


@dataclass(frozen=True)
class SignFlip(Attack):
    """The change in the opposite direction, `scale` times as long: w - scale (w_k - w). The mean
    goes backwards if f of K clients do this with f / K > 1 / (1 + scale).
    """

    scale: float = scale_setting(1.0, "how many times its length the reversed change has")

    __post_init__ = check_settings

    def update(self, update: Update, task: Task) -> Update:
        return scaled(update, task, -self.scale)


@dataclass(frozen=True)
class ScaledUpdate(Attack):
    """The change `scale` times as long: w + scale (w_k - w). With scale = K, the number of clients
    of equal size, the mean is nearly the attacker's own model: "model replacement" (Bagdasaryan et
    al. 2020, arXiv:1807.00459). By itself it is no sabotage: with a `Backdoor` it is.
    """

    scale: float = scale_setting(10.0, "how many times its length the change has")

    __post_init__ = check_settings

    def update(self, update: Update, task: Task) -> Update:
        return scaled(update, task, self.scale)


@dataclass(frozen=True)
class GaussianNoise(Attack):
    """Noise on every number of the change: of standard deviation `deviation`. (In a round of 600
    images with B = 10 a number changes by 0.005 or so.)
    """

    deviation: float = setting(
        0.1,
        "deviation",
        "the standard deviation of the noise in every number",
        (0.001, 0.01, 0.03, 0.1, 0.3, 1.0),
        positive=True,
    )

    __post_init__ = check_settings

    def update(self, update: Update, task: Task) -> Update:
        seed = local_seed(task.seed, task.round, f"noise of {update.client}")
        rng = np.random.default_rng(seed)
        return sent(update, [w + rng.normal(0, self.deviation, w.shape) for w in update.weights])


@dataclass(frozen=True)
class LittleIsEnough(Attack):
    """ "A little is enough" (Baruch, Baruch & Goldberg 2019, arXiv:1902.06156): no number is so far
    off that it would be seen, and all are off to the same side. Attackers work together: each sends
    its change less `z` standard deviations, number by number, of what the attackers' changes were
    in the round before (in the first, and alone, an attacker is honest). Give all of them this one
    object.

    With clients like those of the lessons it does next to nothing: 4 of 20 may be off by 0.16
    standard deviations (`z_for`). It is here to be tried: not every published attack works
    everywhere.
    """

    z: float = setting(
        1.0,
        "z",
        "z: how many standard deviations each number is off",
        (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0),
        positive=True,
    )
    heard: dict[tuple, dict[str, Weights]] = field(default_factory=dict, repr=False, compare=False)
    lock: object = field(default_factory=threading.Lock, repr=False, compare=False)

    __post_init__ = check_settings

    @staticmethod
    def z_for(clients: int, attackers: int) -> float:
        """z_max of the paper's Algorithm 3: the attackers then need only so many honest clients
        that are as far off as they are to be a majority.

        >>> round(LittleIsEnough.z_for(50, 24), 2)
        1.43
        """
        whole("clients", clients, 3)
        whole("attackers", attackers, 1, (clients - 1) // 2)
        supporters, honest = clients // 2 + 1 - attackers, clients - attackers
        return NormalDist().inv_cdf((honest - supporters) / honest)

    def update(self, update: Update, task: Task) -> Update:
        change = [new - w for w, new in zip(task.weights, update.weights, strict=True)]
        now, before = (task.run, task.round), (task.run, task.round - 1)
        with self.lock:
            known = list(self.heard.get(before, {}).values())
            for old in set(self.heard) - {now, before}:
                del self.heard[old]
            self.heard.setdefault(now, {})[update.client] = change
        if len(known) < 2:
            return update
        spreads = [np.std(np.stack(several), axis=0) for several in zip(*known, strict=True)]
        pairs = zip(update.weights, spreads, strict=True)
        return sent(update, [w - self.z * spread for w, spread in pairs])


def scaled(update: Update, task: Task, factor: float) -> Update:
    """w + factor (w_k - w)."""
    pairs = zip(task.weights, update.weights, strict=True)
    return sent(update, [w + factor * (new.astype(np.float64) - w) for w, new in pairs])


def sent(update: Update, weights: Sequence[np.ndarray]) -> Update:
    """The update with these weights, as float32."""
    return replace(
        update, weights=[np.clip(w, -LARGEST, LARGEST).astype(np.float32) for w in weights]
    )


# ---- who does it ---------------------------------------------------------------------------------


def only(names: Collection[str], transform: Transform) -> Transform:
    """`transform` for these clients, nothing for the others: `simulate` has one list for all."""
    names = frozenset(names)
    return lambda update, task: transform(update, task) if update.client in names else update


def parts_of(attack) -> tuple[list[Callable[[Dataset, int], Dataset]], list[Transform]]:
    """What an attack, or several in order, do to data and to updates. A function is a transform.
    Raises Refused for anything else.
    """
    several = attack if isinstance(attack, (list, tuple)) else [attack]
    data, updates = [], []
    for one in several:
        methods = [getattr(one, name, None) for name in ("data", "update")]
        if not any(methods) and not callable(one) or isinstance(one, type):
            raise Refused(
                f"an attack is {one!r}; expected an object with data(dataset, seed) or"
                " update(update, task), or a function (update, task) -> update"
            )
        if not any(methods):
            methods[1] = one
        data += filter(None, methods[:1])
        updates += filter(None, methods[1:])
    return data, updates


def attacked(
    clients: Mapping[str, Dataset] | Sequence[Dataset],
    attack,
    attackers: int | Collection[str] = 1,
    seed: int = 0,
) -> tuple[dict[str, Dataset], list[Transform]]:
    """Some of these clients attack: all clients with the examples that they then have, and the
    transforms for `simulate`.

    attack:    an attack, several in order, or a function (update, task) -> update.
    attackers: their ids; or f, how many: the first. seed: decides which images are spoiled.
    Raises Refused for clients that are not there, or what is no attack.
    """
    named = named_clients(clients)
    if isinstance(attackers, Collection):
        if isinstance(attackers, str) or (strangers := sorted(set(attackers) - set(named))):
            who = repr(attackers) if isinstance(attackers, str) else ", ".join(strangers)
            raise Refused(f"attackers are {who}; expected a list of ids of these clients")
        names = [name for name in named if name in set(attackers)]
    else:
        names = list(named)[: whole("attackers", attackers, 0, len(named))]
    data, updates = parts_of(attack)
    for name in names:
        for spoil in data:
            named[name] = spoil(named[name], local_seed(seed, 0, name))
    return named, [only(names, transform) for transform in updates]
