"""The questions as data, answers kept in a file, a class's answers added up: by hand-made answers
of which the shares are known."""

import json
import math
import re
from pathlib import Path

import nbformat
import pytest

import fedlab
from fedlab.questions import EXITS, NINE, kept, results

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RIGHT = {question.key: question.right for question in NINE}
NOT_KNOWN = dict.fromkeys(RIGHT, "?")


# ---- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [*NINE, *EXITS.values()], ids=lambda q: q.key)
def test_a_question_has_one_right_answer_an_explanation_and_a_lesson(question):
    assert list(question.answers) == list("abcd") and question.right in question.answers
    assert len(set(question.answers.values())) == 4 and all(question.answers.values())
    assert question.why.endswith(".") and question.lessons
    for lesson in question.lessons:
        assert len(list(NOTEBOOKS.glob(f"{lesson}_*.ipynb"))) == 1
    lengths = [len(answer) for answer in question.answers.values()]
    assert max(lengths) <= 1.25 * min(lengths), "a longer answer looks like the right one"
    words = " ".join(question.answers.values())
    assert not re.search(r"\b(always|never|depends)\b", words), "a word that gives it away"


def test_the_nine_name_their_lessons_and_the_right_ones_are_not_in_one_place():
    assert len(NINE) == 9 == len({q.key for q in NINE}) == len({q.topic for q in NINE})
    for question in NINE:
        assert re.search(rf"[Ll]esson {question.lessons[0]}", question.why)
    for questions in (NINE, EXITS.values()):
        letters = [question.right for question in questions]
        assert all(letters.count(letter) >= 2 for letter in "abcd")
        for pick in (min, max):  # who always takes the shortest, or the longest
            found = [pick(q.answers, key=lambda k: len(q.answers[k])) for q in questions]
            assert sum(a == b for a, b in zip(found, letters, strict=True)) <= len(letters) // 2


def test_an_exit_question_replies_to_each_answer():
    assert list(EXITS) == [f"{number:02}" for number in range(1, 12)]
    for lesson, question in EXITS.items():
        assert question.lessons == (lesson,)
        assert set(question.replies) | {question.right} == set("abcd")
        assert len(set(question.replies.values())) == 3


@pytest.mark.parametrize("lesson", EXITS)
def test_a_lesson_ends_with_its_question_and_the_teachers_page_knows_the_answer(lesson):
    (path,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    *_, words, cell, end = nbformat.read(path, as_version=4).cells
    assert (words.id, cell.id) == ("exit-words", "exit") and "What to take" in end.source
    assert cell.source.split("\n")[-1] == f'fedlab.ExitQuestion("{lesson}")'
    page = (NOTEBOOKS / "teacher" / f"{path.stem}.md").read_text("utf-8")
    (line,) = re.findall(r"^\*\*The question in the notebook.*$", page, re.MULTILINE)
    right = EXITS[lesson].right
    assert f"Right is **{right}**" in line
    assert all(f"*{letter}*" in line for letter in EXITS[lesson].replies)


# ---- what is kept --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return kept.path_of("Blue", tmp_path)


def test_answers_are_kept_one_by_one_and_nothing_else_changes(path):
    assert path.name == "answers_blue.json" and not path.exists()
    first = kept.keep(path, "before", "update", "a", "Blue")
    again = kept.keep(path, "before", "update", "?", "Blue")
    assert again.person == first.person and again.nickname == "Blue"
    now = kept.keep(path, "after", "bytes", "a")
    assert now == kept.read(path)
    assert (now.before, now.after, now.finished) == ({"update": "?"}, {"bytes": "a"}, False)
    assert now.missing("before") == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    said = json.loads(path.read_text("utf-8"))
    assert set(said) == {"what", "version", "person", "nickname", "before", "after", "finished"}


def test_what_is_closed_stays_as_it_is(path):
    kept.keep(path, "before", "sum", "b")
    for key in RIGHT:
        kept.keep(path, "after", key, "a")
    with pytest.raises(ValueError, match="those before it are closed"):
        kept.keep(path, "before", "sum", "a")
    kept.finish(path)
    with pytest.raises(ValueError, match="nothing is changed any more"):
        kept.keep(path, "after", "sum", "b")
    assert kept.read(path).before == {"sum": "b"}


def test_nothing_is_shown_before_all_is_answered(path):
    kept.keep(path, "after", "sum", "b")
    with pytest.raises(ValueError, match="no answer after the course yet: 1, 3, 4"):
        kept.finish(path)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (("during", "sum", "a"), "part is 'during'; expected 'before' or 'after'"),
        (("before", "weather", "a"), "there is no question 'weather'; expected one of update"),
        (("before", "sum", "e"), "the answer to 'sum' is 'e'; expected one of a, b, c, d"),
        (("before", "sum", ["a"]), "the answer to 'sum' is"),
    ],
)
def test_what_is_no_answer(path, case, sentence):
    with pytest.raises(fedlab.Refused, match=re.escape(sentence)):
        kept.keep(path, *case)
    assert not path.exists()


@pytest.mark.parametrize("nickname", ["../up", "a b", "x" * 21, "a.b", None, 3])
def test_what_is_no_nickname(nickname):
    with pytest.raises(fedlab.Refused, match="expected up to 20 letters"):
        kept.path_of(nickname)


def whole(**changes) -> dict:
    return {
        "what": kept.WHAT,
        "version": kept.VERSION,
        "person": "0123abcd",
        "nickname": "",
        "before": RIGHT,
        "after": {},
        "finished": False,
    } | changes


DAMAGED = {
    "empty": b"",
    "half of it": json.dumps(whole()).encode()[:90],
    "no text": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "of something else": b'{"what": "a shopping list"}',
    "too long": b" " * 200_000,
    "too deep": b"[" * 50_000,
    "an unknown question": json.dumps(whole(before={"weather": "a"})).encode(),
    "an unknown answer": json.dumps(whole(after={"sum": "x"})).encode(),
    "a person's name": json.dumps(whole(person="Ann Miller")).encode(),
    "no answers": json.dumps(whole(after=None)).encode(),
    "finished or not": json.dumps(whole(finished="yes")).encode(),
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_set_aside_and_never_lost(path, body):
    path.write_bytes(body)
    with pytest.raises(kept.BadAnswers, match=r"answers_blue\.json"):
        kept.read(path)
    for number in (1, 2):
        path.write_bytes(body)
        answers, said = kept.load(path, "Blue")
        assert answers.before == answers.after == {} and answers.nickname == "Blue"
        assert f"It is kept as answers_blue.json.damaged-{number}" in said
        assert (path.parent / f"answers_blue.json.damaged-{number}").read_bytes() == body
        assert not path.exists()


def test_a_file_of_another_version_is_left_alone(path):
    body = json.dumps(whole(version=2, before={"new question": "f"}))
    path.write_text(body)
    for ask in (kept.load, kept.read, lambda path: kept.keep(path, "before", "sum", "a")):
        with pytest.raises(kept.OtherVersion, match="answers of version 2; expected version 1"):
            ask(path)
    assert path.read_text() == body


def test_a_disk_that_is_full_leaves_the_old_file(path, monkeypatch):
    kept.keep(path, "before", "sum", "a")
    body = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.keep(path, "before", "sum", "b")
    assert path.read_bytes() == body and len(list(path.parent.iterdir())) == 1


# ---- a class -------------------------------------------------------------------------------------


def hand_in(folder, number: int, before=RIGHT, after=RIGHT, **more) -> Path:
    folder.mkdir(exist_ok=True)
    nickname = more.pop("nickname", f"p{number}")
    path = folder / more.pop("name", f"answers_{nickname}.json")
    record = whole(person=f"{number:08x}", nickname=nickname, before=before, after=after)
    path.write_text(json.dumps(record | more))
    return path


@pytest.fixture
def folder(tmp_path):
    """Eight persons. "update": 2 of 8 are right before, 6 after. "sum": all are right before, 4
    after. "noise": nobody, ever. The others: not known before, right after.
    """
    for n in range(8):
        before = {**NOT_KNOWN, "update": "c" if n < 2 else "a", "sum": "a", "noise": "b"}
        after = {**RIGHT, "update": "c" if n < 6 else "b", "sum": "ab"[n % 2], "noise": "a"}
        hand_in(tmp_path / "class", n, before, after)
    return tmp_path / "class"


def test_shares_and_gains_are_those_of_the_answers(folder):
    found = fedlab.class_answers(folder)
    assert (found.persons, found.parts, found.enough) == (8, ("before", "after"), True)
    assert [found.share(part, "update") for part in found.parts] == [0.25, 0.75]
    assert [found.share(part, "sum") for part in found.parts] == [1, 0.5]
    assert found.unknown["before"]["bytes"] == 8 and found.unknown["after"]["bytes"] == 0
    assert found.gain("update") == pytest.approx((0.75 - 0.25) / 0.75)  # Hake 1998
    assert math.isnan(found.gain("sum")) and found.gain("noise") == 0 and found.gain("bytes") == 1
    assert found.notes == (
        "8 persons answered all nine questions before and after the course: one of them is 12"
        " points.",
    )
    row = next(line for line in found.table().splitlines() if "what an update tells" in line)
    assert row.split()[-5:] == ["25", "0", "75", "0", "0.67"]


def test_the_picture_says_the_same(folder):
    ax = fedlab.plot_answers(fedlab.class_answers(folder))
    before, after = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert before[:4] == [25, 100, 0, 0] and after[:4] == [75, 50, 0, 100]
    assert [line.get_xdata()[0] for line in ax.lines] == [25]
    texts = [text.get_text() for text in ax.texts]
    assert "gain" in texts and "+0.67" in texts and "–" in texts
    assert "8 persons" in ax.get_xlabel() and len(ax.get_yticklabels()) == 9
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["before the course", "after the course"]


def test_a_picture_into_axes_that_are_there(folder):
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    assert fedlab.plot_answers(fedlab.class_answers(folder), ax) is ax


def test_of_few_persons_nothing_is_counted_or_drawn(tmp_path):
    nobody = fedlab.class_answers(tmp_path / "class")
    assert not nobody.enough and "There is no folder 'class' here yet" in repr(nobody)
    for number in range(results.LEAST - 1):
        hand_in(tmp_path / "class", number)
    few = fedlab.class_answers(tmp_path / "class")
    assert (few.persons, few.parts, few.right, few.unknown) == (4, (), {}, {})
    assert "4 persons have answered all nine questions; expected at least 5" in repr(few)
    with pytest.raises(fedlab.Refused, match="of 4 persons; expected at least 5"):
        fedlab.plot_answers(few)
    with pytest.raises(fedlab.Refused, match="found is dict; expected what class_answers returns"):
        fedlab.plot_answers({})


def test_before_the_course_is_over_there_is_a_picture_of_before(tmp_path):
    for number in range(6):
        hand_in(tmp_path / "class", number, after=RIGHT if number < 4 else {})
    found = fedlab.class_answers(tmp_path / "class")
    assert (found.persons, found.parts) == (6, ("before",))
    assert math.isnan(found.gain("sum"))
    assert "6 persons answered all nine questions before the course" in repr(found)
    assert len(fedlab.plot_answers(found).containers) == 1


def test_each_file_that_is_left_out_gets_a_sentence(folder):
    hand_in(folder, 20, after={})
    hand_in(folder, 21, before={})
    hand_in(folder, 22, before=dict(list(RIGHT.items())[:7]))
    (folder / "answers_torn.json").write_text('{"what"')
    (folder / "answers.json").write_text(json.dumps(whole(version=7)))
    (folder / "answers_dir.json").mkdir()
    (folder / "notes.txt").write_text("not looked at")
    files = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    found = fedlab.class_answers(folder)
    assert found.persons == 8 and len(found.notes) == 7
    said = "\n".join(found.notes)
    for sentence in (
        "answers_p20.json has 0 of 9 questions after the course; expected all nine. It is left out",
        "answers_p21.json has 0 of 9 questions before the course",
        "answers_p22.json has 7 of 9 questions before the course",
        "answers_torn.json is damaged, or holds no answers",
        "answers.json has answers of version 7",
        "answers_dir.json",
    ):
        assert sentence in said
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == files


def test_one_person_counts_once_and_namesakes_are_named(folder):
    hand_in(folder, 0, after={}, name="answers (1).json")
    hand_in(folder, 1, name="answers_zz.json")
    hand_in(folder, 30, nickname="P7", name="answers_P7-laptop.json")
    found = fedlab.class_answers(folder)
    assert found.persons == 9
    said = "\n".join(found.notes)
    assert "answers_p0.json counts, answers (1).json is left out" in said
    assert "are of the same person: answers_p1.json counts, answers_zz.json is left out" in said
    assert "answers_P7-laptop.json and answers_p7.json have the nickname 'p7'" in said
