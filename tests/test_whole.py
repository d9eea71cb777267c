"""Files that are always whole, whoever reads them and whatever happens on the way."""

from __future__ import annotations

import os
import threading

import pytest

from fedlab.whole import part_of, write_whole

OLD, NEW = b"old" * 100_000, b"new" * 50_000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(OLD)
    return path


def test_a_reader_finds_the_old_or_the_new_one(path):
    done, found = threading.Event(), set()

    def read():
        while not done.is_set():
            found.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(50):
            write_whole(path, (NEW, OLD)[number % 2])
    finally:
        done.set()
        reader.join()
    assert found <= {OLD, NEW}
    assert path.read_bytes() == OLD and list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_yet(tmp_path):
    write_whole(tmp_path / "answers.json", b"{}")
    assert (tmp_path / "answers.json").read_bytes() == b"{}"
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "answers.json", b"{}")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_broken_off_it_is_what_it_was(path, monkeypatch, step, error):
    def breaks(*_):
        raise error

    monkeypatch.setattr(os, step, breaks)
    with pytest.raises(type(error)):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD and list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="making a link needs a right of its own on Windows")
def test_a_link_that_waits_there_leads_nowhere(path):
    with part_of(path) as beside:
        pass
    other = path.with_name("another's")
    other.write_bytes(b"theirs")
    beside.symlink_to(other)  # whoever may write into the folder can guess this name
    write_whole(path, NEW)
    assert other.read_bytes() == b"theirs"
    assert path.read_bytes() == NEW and not path.is_symlink()
