"""Ctrl-C and SIGTERM in the first second, while a command still imports what it needs."""

import signal
import subprocess
import sys

import pytest

from fedlab import interrupts

AT = """
import importlib.abc, os, sys
class At(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == where:
            os.kill(os.getpid(), number)
where, number = sys.argv[1], int(sys.argv[2])
sys.argv = [sys.argv[0], "simulate", "--rounds", "1"]
sys.meta_path.insert(0, At())
from fedlab.__main__ import main
raise SystemExit(main())
"""
"""A command, into whose import of a module a signal comes."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "name", ["fedlab.cli", "numpy", "numpy.random", "numpy.linalg", "safetensors", "fedlab.options"]
)
def test_an_interrupt_while_modules_are_imported_is_the_end_and_no_traceback(name, number):
    done = subprocess.run(
        [sys.executable, "-c", AT, name, str(int(number))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (interrupts.EXIT, "", "")


def test_the_handlers_are_put_back_and_an_inner_one_changes_nothing():
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.interruptible():
        outer = signal.getsignal(signal.SIGTERM)
        with interrupts.interruptible():
            assert signal.getsignal(signal.SIGTERM) is outer is not before
        assert signal.getsignal(signal.SIGTERM) is outer
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):  # swallowed once, it is raised again
            interrupts.heed()
    assert signal.getsignal(signal.SIGTERM) is before
    with interrupts.interruptible():
        interrupts.heed()  # a new command: nothing has come


def test_another_thread_may_run_a_command():
    from concurrent.futures import ThreadPoolExecutor

    def inside() -> bool:
        with interrupts.interruptible():
            return signal.getsignal(signal.SIGTERM) is not interrupts._interrupt

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result()
