"""The rows of the stress table, each in a short version. At full size: `make stress`."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
SHORT = {"authentication": 0.001, "disk": 1, "damage": 0.02}
"""Rows that take seconds -> their scale."""

LONG = {"bodies": 0.01, "crashes": 0.02, "replies": 0.05, "hosts": 1, "restart": 0.1}
LONG |= {"dropouts": 0.05, "clients": 0.05, "slow": 0.03, "soak": 0.03, "secrets": 1, "bites": 0.05}
"""Rows that take longer."""


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """`stress` is not installed: it is found as `python -m stress` finds it."""
    monkeypatch.syspath_prepend(str(ROOT))


def result(row: str, scale: float):
    return importlib.import_module(f"stress.{row}").run(scale, seed=1)


@pytest.mark.parametrize("row", SHORT)
def test_a_row_is_good(row):
    found = result(row, SHORT[row])
    assert found.name == row and found.good, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("row", LONG)
def test_a_longer_row_is_good(row):
    found = result(row, LONG[row])
    assert found.name == row and found.good, str(found)


def test_every_row_is_here_and_in_the_readme_in_their_order():
    rows = importlib.import_module("stress.__main__").ROWS
    assert set(rows) == {*SHORT, *LONG}
    text = (ROOT / "stress" / "README.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == rows


def test_bad_bodies_are_of_forty_kinds_and_more():
    bodies = importlib.import_module("stress.bodies")
    assert len(bodies.kinds(b"x" * 100, "a run")) >= 80 and len(bodies.framings(100)) >= 12


def test_the_readme_counts_bad_bodies_as_they_are():
    bodies = importlib.import_module("stress.bodies")
    text = (ROOT / "stress" / "README.md").read_text(encoding="utf-8")
    peer = SimpleNamespace(update=lambda *_, **__: b"")
    said = r"(\d+) named kinds .* and (\d+) of bad framing .*, (\d+) more of each of (\d+) codecs"
    kinds, framings = len(bodies.kinds(b"x" * 100, "a run")), len(bodies.framings(100))
    found = kinds, framings, len(bodies.coded("sign", peer, None)), len(bodies.CODECS)
    assert tuple(map(int, re.search(said, text).groups())) == found


def test_every_guard_is_where_the_list_says():
    """One that was written anew must be written anew in the list, too."""
    for guard in importlib.import_module("stress.bites").GUARDS:
        text = (ROOT / "fedlab" / guard.file).read_text(encoding="utf-8")
        assert text.count(guard.old) == 1, guard.name
        file, _, name = guard.test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / f"test_{file}").read_text(encoding="utf-8"), name


def test_the_command(capsys, monkeypatch):
    main = importlib.import_module("stress.__main__")
    assert main.main(["--rows", "damage", "--scale", "0.001"]) == 0
    assert "| damage | 70 cuts" in capsys.readouterr().out
    fail = importlib.import_module("stress.result").Result("damage", "", {"wrong": "all"}, False)
    monkeypatch.setattr(main, "run", lambda *_: fail)
    assert main.main(["--rows", "damage"]) == 1 and "NOT GOOD" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(["--rows", "nothing"])


def test_the_command_goes_on_after_a_row_that_breaks_off(capsys, monkeypatch):
    main = importlib.import_module("stress.__main__")

    def broken(*_):
        raise OSError("no room")

    monkeypatch.setattr(main, "run", broken)
    assert main.main(["--rows", "disk,damage"]) == 1
    assert capsys.readouterr().out.count("it broke off: OSError: no room") == 2
