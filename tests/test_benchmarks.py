"""The benchmarks must not rot: each can be imported and says what it compares; the quick ones run
at their smallest size. No times here."""

import importlib
import re
from pathlib import Path

import pytest
from chromium import chromium

ROOT = Path(__file__).parents[1]
COMMANDS = [
    "classroom",
    "epsilon",
    "federation",
    "loss_map",
    "overhead",
    "panel",
    "phone",
    "robust",
    "round",
    "scale",
    "secure",
    "server",
    "start",
    "virtual",
]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """`benchmarks` is not installed: it is found as `python -m benchmarks.NAME` finds it."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_can_be_imported_and_explains_itself(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_of_help_that_says_how_to_read_it(name, capsys):
    with pytest.raises(SystemExit) as exit:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert exit.value.code == 0
    assert "How to read it" in capsys.readouterr().out


def test_the_table_names_every_command_and_every_row_has_one():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    heading, rule, *rows = re.search(r"^\| what \|.*?\n\n", text, re.M | re.S)[0].splitlines()[:-1]
    assert heading == "| what | command | target | AMD EPYC | Intel Xeon |"
    commands = set()
    for row in rows:
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 5 and all(cells), row
        command = re.fullmatch(r"`(?:python -m benchmarks\.(\w+)|make (?:quick|test))`", cells[1])
        assert command, row
        commands.add(command[1])
    assert commands == {*COMMANDS, None}


def test_the_sliders_of_epsilon_are_the_lessons(capsys):
    """All of them, each at all its places."""
    importlib.import_module("benchmarks.epsilon").main(["--repeats", "1"])
    out = capsys.readouterr().out
    places = re.findall(r"^\| (\w+) = ", out, re.MULTILINE)
    assert [places.count(name) for name in ("z", "C", "rounds", "sampling")] == [9, 5, 3, 2]
    assert "the slowest place" in out


def test_the_phone_trains(capsys):
    chromium()  # or it is skipped
    importlib.import_module("benchmarks.phone").main(["--digits", "10", "--repeats", "1"])
    out = capsys.readouterr().out
    assert "| the page, in Chromium " in out and "(at most 2: " in out


def test_without_a_chromium_the_phone_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FEDLAB_BROWSER", raising=False)
    importlib.import_module("benchmarks.phone").main([])
    assert capsys.readouterr().out.startswith("no Chromium found, so nothing was measured: ")


def test_secure_aggregation_runs(capsys):
    importlib.import_module("benchmarks.secure").main(
        ["--clients", "10", "--numbers", "100", "--repeats", "1"]
    )
    assert "| 10 " in capsys.readouterr().out


def test_robust_combinations_run(capsys):
    importlib.import_module("benchmarks.robust").main(
        ["--clients", "11", "--attackers", "2", "--repeats", "1"]
    )
    out = capsys.readouterr().out
    assert all(f"| {name} " in out for name in ("mean", "Krum", "Bulyan", "FLTrust"))


def test_the_scale_runs(capsys):
    importlib.import_module("benchmarks.scale").main(
        ["--clients", "2", "20", "--images", "20", "--rounds", "2", "--repeats", "1"]
    )
    out = capsys.readouterr().out
    assert "| 2 " in out
    assert "| 20 " in out
    assert "time of the largest" in out


def test_the_week_runs(capsys):
    """At 300 virtual minutes: two rounds of 1.5 hours, or a little more."""
    importlib.import_module("benchmarks.virtual").main(["--minutes", "300", "--repeats", "1"])
    out = capsys.readouterr().out
    assert all(side in out for side in ("a deadline of 2 h, 5 slow", "FedBuff, 5 together, none"))
    assert "what slow clients add" in out


def test_the_server_takes_every_update(capsys):
    importlib.import_module("benchmarks.server").main(["--clients", "2", "--updates", "6"])
    out = capsys.readouterr().out
    assert all(side in out for side in ("bare road", "rounds", "asynchronous"))


def test_the_limit_is_measured_on_every_core():
    measure = importlib.import_module("benchmarks.measure")
    limit = measure.in_process(
        "round:limit", participants=2, images=20, batch=10, tests=100, repeats=4
    )
    assert set(limit) == {"train", "test"}
    assert len(limit["train"]["seconds"]) == 2  # the first two warm up


def test_a_side_that_fails_says_why():
    measure = importlib.import_module("benchmarks.measure")
    with pytest.raises(RuntimeError, match="has no attribute 'no_such_side'"):
        measure.in_process("round:no_such_side")


def test_both_sides_run_in_turn():
    order = []
    results = importlib.import_module("benchmarks.measure").in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2
    )
    assert order == ["a", "b", "a", "b"]
    assert results == {"a": [None, None], "b": [None, None]}


def test_a_figure_stands_beside_its_target():
    judged = importlib.import_module("benchmarks.measure").judged
    assert judged(1.25, most=1.3) == "1.25 x (at most 1.3: met)"
    assert judged(7.9, least=8) == "7.9 x (at least 8: MISSED)"
