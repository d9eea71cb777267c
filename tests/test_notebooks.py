"""Every notebook runs from top to bottom as students run it: its own kernel, its own folder, nobody
at the buttons."""

import re
import statistics
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book"))

import running  # noqa: E402

sys.path.pop(0)

NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
START = NOTEBOOKS / "00_start_here.ipynb"
"""No lesson with goals, exercises and solutions, but the way to them: the map, the check."""
QUESTIONS = NOTEBOOKS / "12_before_and_after.ipynb"
"""No lesson either: the nine questions before the course and after it."""
ALL = LESSONS + sorted(NOTEBOOKS.glob("solutions/*.ipynb"))

# Of nbclient's own event loop and sockets
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def name(path: Path) -> str:
    return str(path.relative_to(NOTEBOOKS))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def may_raise(cell) -> bool:
    return "raises-exception" in cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    tokens = running.run(notebook, path.parent)
    for cell in code_cells(notebook):
        raised = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(raised) == may_raise(cell), f"{cell.id}: expected an error, and none came"
    serves = any(
        word in cell.source
        for cell in code_cells(notebook)
        for word in ("fedlab.Server(", "fedlab.Dashboard(", "fedlab.Classroom(")
    )
    assert bool(tokens) == serves, (
        "no server was made, and so no token was looked for"
        if serves
        else "a server was made, and by what?"
    )
    kept = nbformat.writes(notebook)
    assert not any(token in kept for token in tokens), (
        "a server's token is in an output: whoever gets this notebook may take part"
    )

    if path.name in SAYS and path.parent == NOTEBOOKS:
        SAYS[path.name](printed(notebook))


def printed(notebook) -> dict[str, str]:
    """What each cell has printed, by the cell's id."""
    return {
        cell.id: "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
        for cell in code_cells(notebook)
    }


def lesson_02_says(said: dict[str, str]) -> None:
    """What it says of its own client, and of who may speak for whom, is so."""
    rounds = re.findall(r"round \d: (\S+) with your client, (\S+) with the lib", said["same"])
    assert len(rounds) == 3 and all(mine == theirs for mine, theirs in rounds)
    answers = said["wrong"] + said["as-bob"] + said["token"]
    kinds = re.findall(r": (\d+) (\w+)$", answers, re.MULTILINE)
    refused = ["bad_update", "not_finite", "conflict", "bad_update", "bad_update"]
    assert [kind for _, kind in kinds[:5]] == refused
    assert kinds[5:] == [("403", "not_yours"), ("202", "counted"), ("202", "counted")]
    assert re.search(r"history says: {'alice': 20000, 'bob': 20000}", said["token"])
    assert re.findall(r": (\d{3}) (\w+)", said["who"]) == [
        ("409", "a"), ("201", "welcome"), ("403", "this"), ("401", "the")]  # fmt: skip


def lesson_03_says(said: dict[str, str]) -> None:
    """It says what it has compared, and one number of rounds for one run."""
    assert re.search(r"all 7,850 weights .* difference is 0\.00000\d+$", said["client-check"], re.M)
    assert re.search(r"your average .* 0\.0000000\d", said["average-check"])
    assert re.search(r"the plain mean .* 0\.0[1-9]", said["average-check"])
    runs = re.compile(r"^(IID|non-IID) +C = (\S+) +(?:here +)?(\d+) rounds", re.MULTILINE)
    rounds = runs.findall(said["cells-table"])
    assert len(rounds) == 4 and runs.findall(said["views-table"]) == rounds
    first = re.search(r"^97\.\d% after (\d+) rounds", said["first-run"], re.MULTILINE)[1]
    assert ("IID", "0.1", first) in rounds
    assert re.search(r"97 % after \d+ rounds", said["explore-first"])


def start_here_says(said: dict[str, str]) -> None:
    """What is stopped does not answer, and nothing is left."""
    assert said["answers"] == "The server answers: True\nIts clients: ['alice']\n"
    assert said["stop"] == "The server answers: False\n"
    assert said["with"] == "inside: True\nafter:  False\n"
    assert said["nothing-left"] == "left: nothing\n"


def lesson_05_says(said: dict[str, str]) -> None:
    """A virtual week is quick, rounds end when the text says, and who is forgotten is."""
    assert re.search(
        r"^10,080 virtual minutes in [\d.]+ seconds: \d+ rounds$", said["first-run"], re.M
    )
    assert "the same accuracies: True" in said["both"]
    assert "[15.0, 30.0, 45.0]" in said["three"] and "[2.0, 3.5, 5.0]" in said["three"]
    hours = dict(re.findall(r"^(\S.*?) +92 % after +([\d.]+) hours", said["alike"], re.MULTILINE))
    assert set(hours) == {"wait for all", "deadline of 2 h", "ask 7, take 5", "FedAsync", "FedBuff"}
    assert float(hours["wait for all"]) > 2 * max(map(float, list(hours.values())[1:]))
    read = dict(re.findall(r"^(\S.*?) +(\d+) % of the 7s", said["sevens-bars"], re.MULTILINE))
    assert read["deadline of 2 h"] == read["ask 7, take 5"] == read["running average"] == "0"
    for name in ("FedAsync", "FedBuff"):
        assert 5 < int(read[name]) < int(read[f"{name} undamped"]) - 15
    assert said["both"].count("virtual,") == 4
    assert "abandoned: 0 of 5 updates came" in said["no-models"]


def lesson_04_says(said: dict[str, str]) -> None:
    """The skews, three accuracies of one model, two networks that cannot be averaged."""
    assert re.search(r"'alike': 'skew 0\.0\d', 'own digits': 'skew 0\.7\d'", said["people"])
    three = re.fullmatch(r"everybody's (\S+)%, own (\S+) % .* client (\S+) %\n", said["three"])
    everybody, own, worst = map(float, three.groups())
    assert everybody > worst + 5 and abs(everybody - own) < 1
    one, other, average = map(float, re.findall(r"([\d.]+) %", said["permute-check"]))
    assert one == other and average < one - 30
    assert "by_digit   skew 1.00" in said["repair"]


def lesson_06_says(said: dict[str, str]) -> None:
    """From the messages to the image, the labels, and what a trap takes."""
    fired, wrong = re.match(r"(\d+) of the 200 neurons .*: (\S+) grey", said["by-hand"]).groups()
    assert int(fired) > 50 and float(wrong) < 0.25
    honest, trap = map(int, re.findall(r"(\d+) (?:of 100 )?with", said["trap"]))
    assert honest <= 3 and trap > 50
    assert "[0, 784]" in said["look"]
    assert "certain: 0" in said["half"]
    assert said["repair"].startswith("100.0% of the pixels")


def lesson_07_says(said: dict[str, str]) -> None:
    """Masks cancel, the average is right, the sum still tells, and the budget ends the run."""
    assert said["hours"].endswith("together: 21\n")
    assert re.findall(r"^(\w+) +weights: 0", said["exchanges"], re.MULTILINE) == [
        "keys", "shares", "train", "unmask"]  # fmt: skip
    assert float(said["equal"].split()[-1]) < 1e-6
    assert float(re.search(r"worst pixel: (\S+) grey", said["outlier-show"])[1]) < 0.25
    spent = [float(e) for e in re.findall(r"ε so far (\S+),", said["repair"])]
    assert len(spent) == 7 and spent == sorted(spent) and spent[-1] <= 3


def lesson_10_says(said: dict[str, str]) -> None:
    """What a round weighs, what cancels, what a memory brings back, and what stays to be seen."""
    sizes = [int(n.replace(",", "")) for n in re.findall(r"update: +([\d,]+) bytes", said["weigh"])]
    assert len(sizes) == 2 and 796_840 < sizes[0] < 798_000 and 25 * sizes[1] < sizes[0]
    alike = [float(a) for a in re.findall(r"([\d.]+) alike$", said["many"], re.MULTILINE)]
    assert len(alike) == 4 and alike == sorted(alike) and alike[0] < 0.5 and alike[2] > 0.9
    bits = [float(a) for a in re.findall(r"([\d.]+)% after 20", said["bits-live"])]
    assert len(bits) == 2 and abs(bits[0] - bits[1]) < 1
    every, sign, back = (float(a) for a in re.findall(r"([\d.]+)% after 30", said["sign-live"]))
    assert sign < every - 10 and back > every - 5
    assert re.search(r"^top-0\.003\+feedback: [\d,]+ bytes, [\d.]+ %:", said["push"])
    read = dict(re.findall(r"^(\S+) +([\d.]+) alike$", said["read-off"], re.MULTILINE))
    assert float(read["top-0.01"]) > 0.9 and float(read["sign"]) > 0.8
    assert "expected 'dense'" in said["secured"]


def lesson_08_says(said: dict[str, str]) -> None:
    """A backdoor hides, the clip stops one and not four, and nine are many."""
    found = {
        cell: [
            tuple(map(float, pair)) for pair in re.findall(r"accuracy (\S+)%, trigger (\S+)%", text)
        ]
        for cell, text in said.items()
    }
    assert len(re.findall(r"9[234]\.\d|8\d\.\d", said["fill"])) == 2
    (mean, works), (median, works_not) = found["door"]
    assert min(mean, median) > 92 and works > 95 and works_not < 10
    assert found["one-clip"][0][1] < 20
    assert found["four-clip"][0][1] > 50
    assert found["repair"][0][0] > 80
    assert len(found["scores"]) == 1


def lesson_11_says(said: dict[str, str]) -> None:
    """Twenty come in, together is better than alone, a liar owns the pot, drawings come back."""
    assert said["here"].endswith("20 of 20 are ready\n")
    for cell, last in (("ends", "10"), ("ends-mnist", "5")):
        assert re.findall(r"round +(\d+): together", said[cell]) == ["0", last]
    together, alone = map(int, re.findall(r"together (\d+)%, alone (\d+)%", said["ends"])[-1])
    assert together > alone + 10
    from_mnist = [int(good) for good in re.findall(r"together (\d+)%", said["ends-mnist"])]
    assert from_mnist[-1] > from_mnist[0] > 75
    mean, pot = map(float, re.findall(r"([\d.]+)%", said["lie"].splitlines()[1]))
    assert pot > 95 > mean
    assert int(re.search(r"(\d+) of 240 together", said["many"])[1]) >= 3
    assert "who wishes to be called Ada\nthe class sees Ada\n20 are in" in said["repair"]


def questions_say(said: dict[str, str]) -> None:
    """Whoever has handed in answers, and if nobody has: a sentence."""
    assert "persons" in said["class"]


SAYS = {
    "12_before_and_after.ipynb": questions_say,
    "10_how_few_bytes_are_enough.ipynb": lesson_10_says,
    "11_live_classroom.ipynb": lesson_11_says,
    "08_who_can_spoil_it.ipynb": lesson_08_says,
    "07_what_does_it_cost_to_hide_it.ipynb": lesson_07_says,
    "06_what_an_update_gives_away.ipynb": lesson_06_says,
    "04_unequal_data.ipynb": lesson_04_says,
    "05_the_clock.ipynb": lesson_05_says,
    "02_what_crosses_the_wire.ipynb": lesson_02_says,
    "00_start_here.ipynb": start_here_says,
    "03_federated_averaging.ipynb": lesson_03_says,
}
"""What a lesson's cells must have printed, where students read on from it."""


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert all(cell.get("id") for cell in notebook.cells)
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None, (
            f"{cell.id} keeps outputs: make strip"
        )
        assert "plt.show" not in cell.source, f"{cell.id}: see ARCHITECTURE, behind a slider"
        assert len(cell.source.splitlines()) <= 25, f"{cell.id} is longer than 25 lines"


@pytest.mark.parametrize(
    "path", [path for path in LESSONS if path not in (START, QUESTIONS)], ids=name
)
def test_a_lesson_opens_with_goals_and_times(path):
    notebook = nbformat.read(path, as_version=4)
    opening, text = notebook.cells[0].source, "\n".join(cell.source for cell in notebook.cells)
    assert re.match(r"# \d+ · .+\?\n", opening), "the title is one question"
    goals = opening.split("you can**", 1)[1].strip().split("\n\n")[0].splitlines()
    assert len(goals) == 3 and all(goal.startswith("- ") for goal in goals)
    *minutes, together = map(int, re.findall(r"\| \**(\d+)\** \|$", opening, re.MULTILINE))
    assert sum(minutes) == together <= 45
    assert re.search(r"cells together run in about \d+ seconds", opening)
    assert sum(int(m) for m in re.findall(r"^## .*\((\d+) minutes", text, re.MULTILINE)) == together
    assert "Real or simulated here?" in text and "Where this toy misleads:" in text
    assert 15 <= len(code_cells(notebook)) - 1 <= 30  # one is the exit question
    assert statistics.median(len(cell.source.splitlines()) for cell in code_cells(notebook)) <= 5
    assert (path.parent / "solutions" / path.name).exists() and (
        path.parent / "teacher" / f"{path.stem}.md"
    ).exists()


def test_the_map_shows_every_lesson_and_nothing_else():
    cells = {cell.id: cell.source for cell in nbformat.read(START, as_version=4).cells}
    rows = re.findall(r"^\| ([^|]*\d\d[^|]*) \| ([^|]+) \|", cells["map"], re.MULTILINE)
    rows = [(lesson, question) for lesson, question in rows if re.match(r"\[?\**\d\d", lesson)]
    assert [re.search(r"\d\d", lesson)[0] for lesson, _ in rows[:12]] == [
        f"{number:02}" for number in range(12)
    ]
    linked = {}
    for lesson, question in rows[1:12]:
        if link := re.fullmatch(r"\[\*\*(\d\d)\*\*\]\((\1_\w+\.ipynb)\)", lesson):
            linked[link[2]] = question
        else:
            assert re.fullmatch(r"\d\d \(in preparation\)", lesson), lesson
    assert set(linked) == {path.name for path in LESSONS if path not in (START, QUESTIONS)}
    for file, question in linked.items():
        title = nbformat.read(NOTEBOOKS / file, as_version=4).cells[0].source.splitlines()[0]
        assert title == f"# {int(file[:2])} · {question}"
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(cells.values()))
    assert all((NOTEBOOKS / link).exists() for link in links), links


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_privacy_is_never_a_bare_word(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert not re.search(
        r"\bprivate(ly)?\b|data never leaves?|\bstays? private\b", text, re.IGNORECASE
    ), "say who sees what"
