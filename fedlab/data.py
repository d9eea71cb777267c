"""MNIST: examples, and the shards of the original demonstration.

A `Dataset` is a view: one copy of the images stays in memory, and every client holds only the row
numbers of its own examples.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlab.checks import Refused, counted

SHARD_SIZE = 5_000
"""Training images in one shard of the original demonstration (its `NUM_IMAGES_TRAIN`)."""

NUM_SHARDS = 12
"""Shards in the 60,000 training images of MNIST."""


class DataError(Refused):
    """A data set, a range of shards or a partition that cannot be; the message says what was
    received and what was expected.
    """

    kind = "data"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples with their labels.

    images: (n, 28, 28) or any (n, ...), uint8 with grey values 0-255 (or float32 already in [0,
            1]).
    labels: (n,) integers from 0.
    rows:   (m,) row numbers into both, or None for all of them. The arrays are shared, never
            copied, until `x` or `take` is called.

    Raises DataError when images and labels differ in number, or a row does not exist.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray | None = None

    def __post_init__(self):
        if len(self.images) != len(self.labels):
            raise DataError(
                f"got {counted(len(self.images), 'image')} and {counted(len(self.labels), 'label')}"
                "; expected one label for every image"
            )
        if self.images.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"images are {self.images.dtype}; expected uint8 (0-255) or float32 (0-1)"
            )
        if self.labels.ndim != 1 or not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"labels are {self.labels.dtype} of shape {self.labels.shape}; expected one integer"
                " for every image"
            )
        if (
            self.rows is not None
            and len(self.rows)
            and not 0 <= self.rows.min() <= self.rows.max() < len(self.labels)
        ):
            raise DataError(
                f"rows run from {self.rows.min()} to {self.rows.max()}; expected 0 to"
                f" {len(self.labels) - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels if self.rows is None else self.rows)

    @property
    def x(self) -> np.ndarray:
        """The images of this data set, (len, ...)."""
        return self.images if self.rows is None else self.images[self.rows]

    @property
    def y(self) -> np.ndarray:
        """The labels of this data set, (len,)."""
        return self.labels if self.rows is None else self.labels[self.rows]

    def take(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at the positions `order` (integers in 0..len-1), as copies (x, y)."""
        rows = order if self.rows is None else self.rows[order]
        return self.images[rows], self.labels[rows]

    def subset(self, positions: np.ndarray) -> Dataset:
        """The examples at `positions` (integers in 0..len-1), sharing this data set's arrays."""
        positions = np.asarray(positions)
        return Dataset(
            self.images, self.labels, positions if self.rows is None else self.rows[positions]
        )

    def split(self, size: int = SHARD_SIZE) -> list[Dataset]:
        """Consecutive parts of `size` examples; the last may be shorter. The original trains on one
        shard after the other.
        """
        return [
            self.subset(np.arange(start, min(start + size, len(self))))
            for start in range(0, len(self), size)
        ]

    def label_counts(self, classes: int = 10) -> np.ndarray:
        """How many examples there are of each label, (classes,)."""
        return np.bincount(self.y, minlength=classes)


@dataclass(frozen=True, eq=False)
class Mnist:
    """MNIST: `train` (60,000 images) and `test` (10,000), each 28 x 28 uint8 with labels 0-9, in
    the original order.
    """

    train: Dataset
    test: Dataset

    def shards(self, first: int, last: int) -> Dataset:
        """Training images of shards `first` to `last` (1-12, both included): images (first-1)*5,000
        up to last*5,000.

        Raises DataError for anything but whole numbers with 1 <= first <= last <= 12.
        """
        first, last = shard_range(first, last)
        return self.train.subset(np.arange((first - 1) * SHARD_SIZE, last * SHARD_SIZE))


def shard_range(first, last) -> tuple[int, int]:
    """The first and the last shard of a range as two whole numbers with 1 <= first <= last <= 12;
    text is accepted when it is a whole number.

    Raises DataError with a sentence that names both values.
    """
    given = first, last
    try:
        first, last = (int(shard) if int(shard) == float(shard) else 0 for shard in given)
    except (TypeError, ValueError, OverflowError):
        first = 0  # what is no whole number is no shard either
    if not 1 <= first <= last <= NUM_SHARDS:
        received = " to ".join(str(shard).strip() or "(empty)" for shard in given)
        raise DataError(
            f"the shards are {received}; expected a first and a last shard from 1 to {NUM_SHARDS},"
            " the first not above the last, for example 1 and 4"
        )
    return first, last


# ---- reading MNIST -------------------------------------------------------------------------------


def load_mnist(path: str | Path | None = None) -> Mnist:
    """Read MNIST without any network.

    path: a `.npz` file in the layout of `keras.datasets.mnist`, or a folder that holds `mnist.npz`
          or the original demonstration's four `.npy` files (told apart by their shapes, whatever
          their names). Without a path: `data/` of this project, then what is installed with fedlab,
          then `data/` in the current folder, then `keras.datasets`, which downloads the file once.

    Raises DataError when nothing was found, or when what was found is not MNIST.
    """
    if path is not None:
        return _read(Path(path))
    fedlab = Path(__file__).parent
    here = [fedlab.parent / "data", fedlab / "mnist", Path("data").absolute()]
    for folder in here:
        if (folder / "mnist.npz").exists():
            return _read(folder)
    return _download(here[-1])


def _read(path: Path) -> Mnist:
    if path.is_dir() and (path / "mnist.npz").exists():
        path = path / "mnist.npz"
    if not path.exists():
        raise DataError(
            f"there is no {path}; expected mnist.npz, or a folder with mnist.npz or four .npy files"
            " in it"
        )
    try:
        if path.is_dir():
            arrays = _sort_by_shape(
                [np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))], path
            )
        else:
            # Opened here: numpy leaves a file open that it opened itself and could not read.
            with open(path, "rb") as binary, np.load(binary, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zipfile.zlib.error,
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is not MNIST ({type(error).__name__}: {error}); expected the arrays x_train,"
            " y_train, x_test and y_test. Fetch data/mnist.npz again, for example with: git"
            " checkout -- data/mnist.npz (outside a clone: install fedlab-notebooks again)"
        ) from error
    return _mnist(arrays, path)


def _sort_by_shape(arrays: list[np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Name four arrays by their shapes: 60,000 or 10,000 rows, images (784 numbers a row) or labels
    (1, or 10 as one-hot).
    """
    named = {}
    for array in arrays:
        if array.ndim and len(array) in (60_000, 10_000):
            kind = "x" if array[0].size == 784 else "y"
            named[f"{kind}_{'train' if len(array) == 60_000 else 'test'}"] = array
    if len(named) != 4:
        raise DataError(
            f"{folder} holds {counted(len(arrays), '.npy file')}, of which"
            f" {sorted(named) or 'none'} could be told by their shapes; expected four: 60,000 and"
            " 10,000 images of 28 x 28, and as many labels"
        )
    return named


def _mnist(arrays: dict[str, np.ndarray], path: Path) -> Mnist:
    images, labels = {}, {}
    for part, count in (("train", 60_000), ("test", 10_000)):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if (
            x.size != count * 784
            or len(x) != count
            or y.size not in (count, 10 * count)
            or len(y) != count
        ):
            raise DataError(
                f"{path} has {part} images {x.shape} and labels {y.shape}; expected ({count}, 28,"
                f" 28) and ({count},)"
            )
        if np.issubdtype(x.dtype, np.floating) and x.max() <= 1:  # already scaled to [0, 1]
            x = np.rint(x * 255)
        images[part] = np.ascontiguousarray(x.reshape(count, 28, 28), dtype=np.uint8)
        labels[part] = (
            y.reshape(count, 10).argmax(1) if y.size == 10 * count else y.reshape(count)
        ).astype(np.uint8)
        if labels[part].max() > 9:
            raise DataError(
                f"{path} has a {part} label {labels[part].max()}; expected digits 0 to 9"
            )
    return Mnist(Dataset(images["train"], labels["train"]), Dataset(images["test"], labels["test"]))


def _download(folder: Path) -> Mnist:
    """MNIST from `keras.datasets`: for a package that was built without the file."""
    try:
        from keras.datasets import mnist  # brings TensorFlow in, and the network: the last resort

        (x_train, y_train), (x_test, y_test) = mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception for any failed download
        raise DataError(
            f"there is no mnist.npz in {folder}, and Keras could not download it ({error}). Put the"
            " file mnist.npz (11 MB, from the data folder of the fedlab project, or Keras' own) at"
            f" {folder / 'mnist.npz'}, or name its place: load_mnist('/where/mnist.npz')"
        ) from error
    return _mnist(
        {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test},
        Path("keras.datasets.mnist"),
    )
