"""MNIST as shipped, and how examples are dealt."""

import hashlib
import struct
import zipfile

import numpy as np
import pytest

import fedlab
from fedlab.data import DataError, Dataset, shard_range

MD5 = {  # of the four canonical IDX files, uncompressed
    "train-images": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
    "t10k-images": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels": "27ae3e4e09519cfbb04c329615203637",
}


def test_the_shipped_file_is_mnist_to_the_byte(mnist):
    for part, data in (("train", mnist.train), ("t10k", mnist.test)):
        images = struct.pack(">IIII", 2051, len(data), 28, 28) + data.x.tobytes()
        labels = struct.pack(">II", 2049, len(data)) + data.y.tobytes()
        assert hashlib.md5(images).hexdigest() == MD5[f"{part}-images"]
        assert hashlib.md5(labels).hexdigest() == MD5[f"{part}-labels"]


def test_shards_are_consecutive_images_of_the_original_order(mnist):
    carol = mnist.shards(9, 12)
    assert len(carol) == 20_000
    assert np.array_equal(carol.x[0], mnist.train.images[40_000]) and np.array_equal(
        carol.y, mnist.train.labels[40_000:]
    )
    assert np.shares_memory(carol.images, mnist.train.images), (
        "a client's data is a view: one copy of the images in memory"
    )
    assert [len(part) for part in carol.split()] == [5_000] * 4
    assert np.array_equal(carol.split()[1].y, mnist.train.labels[45_000:50_000])
    assert [len(part) for part in carol.subset(np.arange(7)).split(3)] == [3, 3, 1]


@pytest.mark.parametrize(
    "first, last",
    [
        ("0", "3"),
        ("5", "2"),
        ("1", "13"),
        ("a", "b"),
        ("", ""),
        (1.5, 2),
        (None, 3),
        (float("inf"), 2),
        ("nan", 1),
    ],
)
def test_a_range_that_cannot_be_is_named(first, last):
    with pytest.raises(
        DataError,
        match=r"the shards are .+ to .+; expected a first and a last shard from 1 to 12, the first",
    ):
        shard_range(first, last)


def test_a_range_may_be_text():
    assert shard_range("1", "12") == (1, 12) and shard_range(3, 3) == (3, 3)


# ---- reading -------------------------------------------------------------------------------------


def test_the_originals_four_npy_files(mnist, tmp_path):
    np.save(tmp_path / "a.npy", mnist.train.images.reshape(60_000, 784))
    np.save(tmp_path / "b.npy", mnist.train.labels.astype(np.int64))
    np.save(tmp_path / "c.npy", (mnist.test.images / 255).astype(np.float32))
    np.save(tmp_path / "d.npy", np.eye(10)[mnist.test.labels])
    read = fedlab.load_mnist(tmp_path)
    assert np.array_equal(read.train.x, mnist.train.x) and np.array_equal(
        read.train.y, mnist.train.y
    )
    assert np.array_equal(read.test.x, mnist.test.x) and np.array_equal(read.test.y, mnist.test.y)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        DataError, match="there is no .*nowhere.npz; expected mnist.npz, or a folder"
    ):
        fedlab.load_mnist(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="holds 0 .npy files"):
        fedlab.load_mnist(tmp_path)


def test_a_corrupt_file_is_named(tmp_path):
    whole = (fedlab.data.Path(fedlab.__file__).parents[1] / "data" / "mnist.npz").read_bytes()
    for name, content in {
        "cut": whole[:5_000_000],
        "empty": b"",
        "text": b"not a zip",
        "flipped": whole[:900_000] + b"\0" * 99 + whole[900_099:],
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=f"{name}.npz is not MNIST .*expected the arrays x_train"
        ):
            fedlab.load_mnist(path)


def test_another_data_set_is_refused(tmp_path, mnist):
    path = tmp_path / "other.npz"
    np.savez(
        path,
        x_train=mnist.train.images[:100],
        y_train=mnist.train.labels[:100],
        x_test=mnist.test.images,
        y_test=mnist.test.labels,
    )
    with pytest.raises(
        DataError, match=r"train images \(100, 28, 28\).*expected \(60000, 28, 28\)"
    ):
        fedlab.load_mnist(path)
    np.savez(path, x=mnist.test.images)
    with pytest.raises(DataError, match="expected the arrays x_train"):
        fedlab.load_mnist(path)


def test_no_array_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "trap.npz"
    np.savez(path, x_train=np.array([Trap()], dtype=object))
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["x_train.npy"]
    with pytest.raises(DataError, match="is not MNIST"):
        fedlab.load_mnist(path)


def test_without_a_file_keras_is_asked_and_then_the_place_is_named(monkeypatch, tmp_path):
    import keras

    def no_network():
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.setattr(keras.datasets.mnist, "load_data", no_network)
    monkeypatch.setattr(
        fedlab.data, "__file__", str(tmp_path / "site-packages" / "fedlab" / "data.py")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Put the file mnist.npz .* at .*data.mnist.npz"):
        fedlab.load_mnist()


def test_without_a_file_keras_provides_it(monkeypatch, tmp_path, mnist):
    import keras

    arrays = (mnist.train.images, mnist.train.labels), (mnist.test.images, mnist.test.labels)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: arrays)
    monkeypatch.setattr(
        fedlab.data, "__file__", str(tmp_path / "site-packages" / "fedlab" / "data.py")
    )
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(fedlab.load_mnist().test.x, mnist.test.x)


# ---- Dataset and partitions ----------------------------------------------------------------------


def test_a_dataset_says_what_is_wrong_with_it():
    x, y = np.zeros((3, 28, 28), np.uint8), np.arange(3)
    for arguments, sentence in [
        ((x, y[:2]), "3 images and 2 labels"),
        ((x.astype(int), y), "images are int64"),
        ((x, y / 2), "labels are float64"),
    ]:
        with pytest.raises(DataError, match=sentence):
            Dataset(*arguments)
    with pytest.raises(DataError, match="rows run from 0 to 3; expected 0 to 2"):
        Dataset(x, y, np.array([0, 3]))
