"""What every test has: quiet TensorFlow, plots without a screen, no thread left behind; and MNIST,
read once."""

import os

# TensorFlow and matplotlib read these when they are imported, here or in a process that a test
# starts. Set, not overwritten:
# who looks for a fault may ask for more words.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import signal
import sys
import threading
import time

import numpy as np
import pytest
from chromium import launched
from live_class import live, make_class, one_model, quick_mnist, shared  # noqa: F401

import fedlab

# A shell lets what it starts with "&" ignore Ctrl-C, and some tests press it
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GRACE = 2.0
"""Seconds that a thread may take to end after its test: what was told to stop is given the time to
do so."""

PROCESS_WIDE = {
    "tqdm_monitor": "tqdm starts it at its first bar and keeps it for the next ones",
    "IPythonHistorySavingThread": (
        "IPython starts it with the first shell of a process, which lives as long as the process"
    ),
}
"""Threads that belong to the process and not to a test: name → why it stays."""


PLACES = {"test_notebooks": "test_a", "test_browser": "test_m", "test_flower": "test_m1"}
"""Files that keep two cores busy by themselves, and the name whose place they take."""


def pytest_collection_modifyitems(items):
    """In the order of the files' names, but the busiest one after the other: two files run at a
    time, and beside each of these should be one that mostly waits.
    """
    items.sort(key=lambda item: PLACES.get(item.path.stem, item.path.stem))


def _strangers(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that were not there before and have no business to be."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before
        and thread.name not in PROCESS_WIDE
        # Python did not start these: one of TensorFlow's own pool threads looks like this once it
        # has called into Python.
        and not isinstance(thread, threading._DummyThread)
    ]


def _whereabouts(thread: threading.Thread) -> str:
    """The thread's name and the line it is at: the innermost one outside `threading`, whose own
    waits tell nothing.
    """
    frame = innermost = sys._current_frames().get(thread.ident)
    while frame and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    frame = frame or innermost
    return f"{thread.name} at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else thread.name


@pytest.fixture(autouse=True)
def no_thread_left():
    """Fails a test after which a thread still runs. It is set up before a test's own fixtures and
    so looks after they are gone.
    """
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE
    while (left := _strangers(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        pytest.fail(
            f"{len(left)} thread(s) still run {GRACE:g} s after the test: "
            + "; ".join(map(_whereabouts, left)),
            pytrace=False,
        )


@pytest.fixture(scope="session")
def mnist():
    """MNIST from data/: `train` (60,000 images) and `test` (10,000)."""
    return fedlab.load_mnist()


@pytest.fixture(scope="session")
def small(mnist):
    """The first 600 training images: one client's share in the paper, and a local epoch of
    milliseconds.
    """
    return mnist.train.subset(np.arange(600))


@pytest.fixture(scope="session")
def test_images(mnist):
    """The first 1,000 test images: enough to see a model learn."""
    return mnist.test.subset(np.arange(1000))


@pytest.fixture(scope="module")
def browser():
    """A Chromium, for the tests of one file."""
    with launched() as browser:
        yield browser
