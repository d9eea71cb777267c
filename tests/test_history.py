"""History: append-only records, the paper's rounds-to-target, CSV and JSON."""

import csv
import io
import json
import math

import pytest

from fedlab.history import ClientRecord, History, RoundRecord, TaskRecord

NAN = math.nan


def history(*accuracies: float, start: int = 1) -> History:
    return History(
        [RoundRecord(round, accuracy) for round, accuracy in enumerate(accuracies, start)]
    )


def full() -> History:
    clients = {"alice": ClientRecord(300, 0.5, 1.25), "bob": ClientRecord(100)}
    return History(
        [
            RoundRecord(1, 0.25, 2.0, 0.5, 1000, 3000, clients),
            RoundRecord(2, NAN, NAN, 1.5, note='abandoned: "too few", again'),
        ]
    )


def test_records_only_ever_follow():
    h = history(0.1, 0.2)
    h.append(RoundRecord(7, 0.3))
    assert (
        [r.round for r in h] == [1, 2, 7]
        and len(h) == 3
        and h.last.round == 7
        and h[0].accuracy == 0.1
        and h.accuracy == [0.1, 0.2, 0.3]
    )
    for late in (7, 1):
        with pytest.raises(
            ValueError, match=f"got round {late} after round 7; expected a later one"
        ):
            h.append(RoundRecord(late))
    assert len(h) == 3


def test_an_iteration_sees_the_rounds_of_its_beginning():
    h = history(0.1, 0.2)
    seen = iter(h)
    h.append(RoundRecord(3))
    assert [r.round for r in seen] == [1, 2]


def test_last_and_best():
    assert history().last is None and history().best is None and history(NAN).best is None
    assert history(0.2, 0.9, 0.9, NAN, 0.3).best.round == 2


def test_sums_of_a_record():
    record = full()[0]
    assert record.num_examples == 400 and record.bytes == 4000


@pytest.mark.parametrize(
    ("accuracies", "target", "rounds"),
    [
        ((), 0.5, None),
        ((0.1, 0.2, 0.3), 0.5, None),
        ((0.6,), 0.5, 1.0),  # there at once
        ((0.1, 0.2, 0.5), 0.5, 3.0),  # exactly
        ((0.2, 0.4, 0.8), 0.5, 2.25),  # a quarter of the way from 0.4 to 0.8
        ((0.2, 0.4, 0.1, 0.6), 0.5, 3.5),  # the fall to 0.1 does not count: the best so far is 0.4
        ((0.2, NAN, 0.6), 0.4, 2.0),  # not tested in round 2: half-way from round 1 to 3
        ((NAN, NAN, 0.6), 0.4, 3.0),
        ((0.2, 0.6, 0.1, 0.9), 0.5, 1.75),  # the first crossing
    ],
)
def test_rounds_to_a_target_as_the_paper_counts_them(accuracies, target, rounds):
    assert history(*accuracies).rounds_to(target) == (
        None if rounds is None else pytest.approx(rounds)
    )


def test_csv_is_read_back_by_a_reader_of_its_own(tmp_path):
    text = full().to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == text
    first, second = csv.DictReader(io.StringIO(text))
    assert first == {
        "round": "1", "seconds": "0.5000", "accuracy": "0.250000", "loss": "2.000000",
        "bytes_down": "1000", "bytes_up": "3000",
        "bytes": "4000", "num_examples": "400", "clients": "2", "note": "",
    }  # fmt: skip
    assert (second["accuracy"], second["loss"], second["note"]) == (
        "",
        "",
        'abandoned: "too few", again',
    )


def test_json_is_strict_and_comes_back(tmp_path):
    def refuse(constant):
        raise AssertionError(f"JSON has no {constant}")

    text = full().to_json(tmp_path / "h.json")
    rounds = json.loads((tmp_path / "h.json").read_text(), parse_constant=refuse)
    assert rounds[0]["clients"] == {
        "alice": {"num_examples": 300, "accuracy": 0.5, "loss": 1.25},
        "bob": {"num_examples": 100, "accuracy": None, "loss": None},
    }
    assert rounds[1]["accuracy"] is None
    back = History.from_json(text)
    assert (
        back.to_json() == text
        and back.to_csv() == full().to_csv()
        and math.isnan(back[1].loss)
        and math.isnan(back[0].clients["bob"].loss)
    )
    assert History.from_json("[]").last is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "null",
        "3",
        "[1]",
        "[{}]",
        '[{"round": 1}]',
        '[{"round": 1, "clients": 3}]',
        '[{"clients": {}, "colour": 1}]',
    ],
)
def test_json_that_is_no_history(text):
    with pytest.raises(ValueError):
        History.from_json(text)


def test_repr_says_how_it_stands():
    assert repr(history()) == "<History: no rounds yet>"
    assert repr(history(math.nan)) == "<History: 1 round, not tested>"
    assert repr(history(0.5, math.nan)) == ("<History: 2 rounds, the last not tested, best 50.00%>")
    assert repr(history(0.5, 0.25)) == "<History: 2 rounds, accuracy 25.00%, best 50.00%>"


def test_who_was_at_work_is_in_no_file():
    history = History([RoundRecord(1, 0.5)])
    history.tasks.append(TaskRecord("alice", 0.0, 1.5, staleness=2, taken=False))
    assert History.from_json(history.to_json()).tasks == []
    assert "alice" not in history.to_json() + history.to_csv()
