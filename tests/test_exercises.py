"""The exercises' checkers: they accept the solution, and answer the blank and the usual mistakes
with a hint. The answers are in tests/answers/, a file a lesson."""

import importlib
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(file.stem for file in (NOTEBOOKS / "exercises").glob("lesson_*.py"))
ANSWERS = {lesson: importlib.import_module(f"answers.{lesson}") for lesson in LESSONS}
SECONDS = {"check_client", "check_lossy"}  # a whole examination each


def cases(kind: str) -> list:
    """Every lesson's right or wrong answers."""
    return [
        pytest.param(lesson, *case, marks=[pytest.mark.slow] if case[0] in SECONDS else [])
        for lesson, answers in ANSWERS.items()
        for case in getattr(answers, kind)
    ]


@pytest.fixture
def exercises(monkeypatch):
    """A lesson's checkers, imported as the lesson does: from the folder of the lessons."""
    monkeypatch.syspath_prepend(NOTEBOOKS)
    return lambda lesson: importlib.import_module(f"exercises.{lesson}")


@pytest.mark.parametrize(("lesson", "checker", "answer"), cases("RIGHT"))
def test_a_right_answer(exercises, lesson, checker, answer):
    verdict = getattr(exercises(lesson), checker)(*answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Right: ")


@pytest.mark.parametrize(("lesson", "checker", "answer", "hint"), cases("WRONG"))
def test_a_wrong_answer_gets_one_hint(exercises, lesson, checker, answer, hint):
    verdict = getattr(exercises(lesson), checker)(*answer)
    assert not verdict
    assert hint in verdict.sentence
    assert repr(verdict).startswith("Not yet: ") and "\n" not in repr(verdict)


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_checker_is_tested_and_says_what_it_checks(exercises, lesson):
    module = exercises(lesson)
    checkers = {name for name in vars(module) if name.startswith("check_")}
    right, wrong = ANSWERS[lesson].RIGHT, ANSWERS[lesson].WRONG
    assert checkers == {name for name, _ in right} == {name for name, *_ in wrong}
    assert all(getattr(module, name).__doc__ for name in checkers)
    for name in checkers:  # the blank, and two typical mistakes
        assert sum(name == case[0] for case in wrong) >= 3


def test_what_students_wrote_is_shown_as_text(exercises):
    shown = exercises("verdict").Verdict(False, "got <b>bold</b>")._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>" not in shown


def test_the_bill_is_that_of_the_real_wire(exercises, mnist):
    import fedlab
    from fedlab.wire import encode_task, encode_update

    weights = fedlab.Classifier().weights
    task = encode_task(fedlab.Task(1, 5, weights, fedlab.Training()))
    update = encode_update(fedlab.Update("alice", 1, 20_000, weights, 0.93, 0.2))
    lesson = exercises("lesson_01")
    assert [len(task), len(update)] == pytest.approx([lesson.MESSAGE_BYTES] * 2, rel=0.001)
    assert mnist.train.x.nbytes == lesson.IMAGE_BYTES
