"""From an update back to the images and labels that a client trained on.

In a dense layer the gradient of neuron j's weights is a sum over the images of a batch, delta_ij
x_i, and that of its bias is the sum of the same delta_ij. Where one image only has made the neuron
fire, one divided by the other *is* the image (Phong et al. 2018; Geiping et al. 2020). Epochs do
not hide it: every step adds a multiple of the same image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused, whole
from fedlab.data import Dataset
from fedlab.messages import Task, Update, check_weights
from fedlab.model import Classifier
from fedlab.wire import decode_task, decode_update

SIDE = 28  # pixels
GREYS = 255
UNCLEAR = 0.25
"""Grey values by which rounding may have moved a pixel; with more, whole ones cannot be told."""
FLOAT32 = 0.001
"""The same, for what is rounded inside the client's own computation."""
CHANCE = 1e-6
"""With which a mixture of several images may look like one."""


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """An image that was in an update.

    image:   (28, 28) uint8, grey values as in MNIST.
    neurons: how many neurons (or neighbours, of a trap) have told it.
    off:     grey values by which the worst pixel missed a whole one before it was rounded.
    """

    image: np.ndarray = field(repr=False)
    neurons: int
    off: float


def rebuild_images(task: Task | bytes, update: Update | bytes) -> list[Rebuilt]:
    """The images that can be read off an update. It would rather say nothing than something wrong.

    task, update: what a server has sent and got, as objects or as the bytes on the wire. The first
        layer must be a dense one on 784 pixels, with a bias. Every neuron is looked at, and every
        difference between two neurons with neighbouring biases: in a trap (`trap_weights`) these
        are the ones that tell.

    An image is told when it is the only one that makes some neuron fire: of a few images nearly
    all, of a hundred hardly any. Where several do, what comes out is a mixture of them. It gives
    itself away: its pixels are no whole grey values. So an image is claimed when all 784 are, as
    far as the rounding of 32-bit numbers allows, and when they have so many different values that
    a mixture has them with a chance of less than a millionth. MNIST's images have them; of images
    in black and white only (where there are several) nothing is claimed, and two that differ in
    one or two pixels can be mixed up.

    Raises BadUpdate where an update does not fit its task, Refused for other layers, optimizers,
    or strategies that change the steps (SCAFFOLD).

    >>> import numpy as np
    >>> from fedlab import Classifier, Dataset, Participant, Task, Training, rebuild_images
    >>> mine = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    >>> classifier = Classifier(seed=1)
    >>> task = Task(1, 1, classifier.weights, Training())
    >>> update = Participant("carol", Dataset(mine, np.array([3])), classifier).answer(task)
    >>> [found] = rebuild_images(task, update)
    >>> np.array_equal(found.image, mine[0])
    True
    """
    task, update = _read(task, update)
    kernel, bias = _first_layer(task)
    steps = task.training.steps(update.num_examples)
    pixels, away = _moved(kernel, update.weights[0], steps)
    scale, off = _moved(bias, update.weights[1], steps)
    blur = away.max(axis=0) + off  # by which anything about a neuron may be wrong
    alone = update.num_examples == 1  # then there is nothing to mix
    found = _told(pixels, scale, blur, alone)
    order = np.argsort(-bias, kind="stable")  # in a trap: the lower the threshold, the sooner
    pixels, scale, blur = pixels[:, order], scale[order], blur[order]
    neighbours = pixels[:, :-1] - pixels[:, 1:], scale[:-1] - scale[1:], blur[:-1] + blur[1:]
    return list((_told(*neighbours, alone) | found).values())


def _told(
    pixels: np.ndarray, scale: np.ndarray, blur: np.ndarray, alone: bool
) -> dict[bytes, Rebuilt]:
    """The images x for which pixels[:, j] = scale[j] x, for one neuron j or several, each pixel
    and scale being wrong by at most blur[j]. alone: there is only one.
    """
    found: dict[bytes, Rebuilt] = {}
    some = scale != 0
    unclear = np.divide(blur, np.abs(scale), where=some, out=np.full(len(scale), np.inf))
    free = some.copy()
    for neuron in np.argsort(unclear, kind="stable"):
        if unclear[neuron] > UNCLEAR:  # here even black and white are hard to tell apart
            break
        if not free[neuron]:
            continue
        guess = pixels[:, neuron] / scale[neuron]
        allowed = blur * (1 + np.abs(guess).max()) + np.abs(scale) * unclear[neuron]
        same = free & (np.abs(pixels - np.outer(guess, scale)).max(axis=0) <= allowed)
        free &= ~same
        # Least squares over all who have seen it
        weight = scale[same] / (scale[same] @ scale[same])
        greys = GREYS * (pixels[:, same] @ weight)
        rounded = np.rint(greys)
        off = float(np.abs(greys - rounded).max())
        wrong = 2 * GREYS * float(np.abs(weight) @ blur[same]) + FLOAT32
        if off > wrong or wrong > UNCLEAR or not 0 <= rounded.min() < rounded.max() <= GREYS:
            continue
        # Of k images in black and white a mixture has up to 2^k values, made of k - 1 free shares,
        # and each is near a whole one with a chance of twice `wrong`
        free_shares = np.log2(len(np.unique(rounded)))
        if not alone and (2 * wrong) ** (free_shares - 1) > CHANCE:
            continue
        image = rounded.astype(np.uint8).reshape(SIDE, SIDE)
        found.setdefault(image.tobytes(), Rebuilt(image, int(same.sum()), off))
    return found


def rebuild_labels(
    task: Task | bytes, update: Update | bytes, classifier: Classifier, images: Dataset
) -> np.ndarray:
    """How many examples of each class a client has trained on: (classes,) int, which add up to
    what the update says. An estimate: with one step on an untrained model it is hardly ever wrong,
    with many steps it is often wrong.

    The last bias moves by -eta (mean p - share of the class) in every step, where p is what the
    model says. The server knows the bias before and after, and finds the mean p on `images` of its
    own, before and after.
    Raises BadUpdate where an update does not fit its task, Refused for other optimizers.
    """
    task, update = _read(task, update)
    steps = task.training.steps(update.num_examples)
    moved = (update.weights[-1].astype(np.float64) - task.weights[-1]) / task.training.learning_rate
    said = [classifier.predict(task.weights, images).mean(axis=0)]
    if steps > 1:
        said.append(classifier.predict(update.weights, images).mean(axis=0))
    counts = update.num_examples * (np.mean(said, axis=0) + moved / steps)
    labels = np.floor(np.maximum(counts, 0)).astype(int)
    # Largest remainders, until they add up
    while labels.sum() < update.num_examples:
        labels[np.argmax(counts - labels)] += 1
    while labels.sum() > update.num_examples:
        labels[np.argmin(np.where(labels > 0, counts - labels, np.inf))] -= 1
    return labels


def _read(task: Task | bytes, update: Update | bytes) -> tuple[Task, Update]:
    task = decode_task(task) if isinstance(task, bytes) else task
    update = decode_update(update) if isinstance(update, bytes) else update
    check_weights(update.weights, task.weights)
    whole("num_examples", update.num_examples)
    if task.more:
        raise Refused(
            f"the task holds {', '.join(sorted(task.more))} beside the model, which changes every"
            " step; expected steps along the gradient alone"
        )
    if task.training.optimizer != "sgd":
        raise Refused(
            f"the task's optimizer is {task.training.optimizer!r}; expected 'sgd', whose steps are"
            " multiples of a gradient"
        )
    return task, update


def _first_layer(task: Task) -> tuple[np.ndarray, np.ndarray]:
    shapes = [w.shape for w in task.weights[:2]]
    if len(shapes) < 2 or len(shapes[0]) != 2 or shapes != [(SIDE**2, shapes[0][1]), shapes[0][1:]]:
        raise Refused(
            f"the model's first arrays have the shapes {', '.join(map(str, shapes))}; expected a"
            f" dense layer on {SIDE**2} pixels: ({SIDE**2}, neurons) and (neurons,)"
        )
    return task.weights[0], task.weights[1]


def _moved(old: np.ndarray, new: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much training has moved these numbers, and by how much the rounding of 32-bit numbers
    may have changed that: half of the last digit in every step.
    """
    last = np.spacing(np.maximum(np.abs(old), np.abs(new)))
    return old.astype(np.float64) - new, steps * last.astype(np.float64) / 2
