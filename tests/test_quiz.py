"""The questions as widgets, by their Python side: nothing is told before the course, everything is
kept, and an exit question replies at once."""

import ipywidgets as widgets
import pytest

import fedlab
from fedlab.questions import EXITS, NINE, kept


def shown(widget) -> str:
    """All the HTML in a widget, in order."""
    own = widget.value if isinstance(widget, widgets.HTML) else ""
    return own + "".join(shown(child) for child in getattr(widget, "children", ()))


def buttons(widget) -> dict:
    """Those in sight."""
    here = isinstance(widget, widgets.Button) and widget.layout.display != "none"
    found = {widget.description: widget} if here else {}
    for child in getattr(widget, "children", ()):
        found |= buttons(child)
    return found


def choice(widget) -> widgets.RadioButtons:
    (radios,) = (
        inner
        for child in widget.children
        for inner in (child, *getattr(child, "children", ()))
        if isinstance(inner, widgets.RadioButtons)
    )
    return radios


@pytest.fixture
def ask(tmp_path):
    return lambda part, **more: fedlab.Questionnaire(part, "blue", tmp_path, **more)


def test_nothing_is_read_or_written_before_somebody_begins(ask):
    before = ask("before")
    assert not before.path.exists() and "answers_blue.json" in shown(before)
    assert list(buttons(before)) == ["Begin"]
    buttons(before)["Begin"].click()
    assert "Question 1 of 9 · 0 answered" in shown(before) and not before.path.exists()
    assert choice(before).value is None
    assert [letter for _, letter in choice(before).options] == list("abcd?")
    assert buttons(before)["Back"].disabled


def test_a_choice_is_kept_at_once_and_survives_the_next_run_of_the_cell(ask):
    before = ask("before")
    before.begin()
    choice(before).value = "b"
    assert kept.read(before.path).before == {"update": "b"}
    buttons(before)["Next"].click()
    choice(before).value = "?"
    buttons(before)["Back"].click()
    choice(before).value = "a"
    again = ask("before")
    again.begin()
    assert again.number == 3 and "2 answered" in shown(again)
    again.go(1)
    assert choice(again).value == "a"
    assert kept.read(again.path).before == {"update": "a", "sum": "?"}


def test_before_the_course_nothing_says_what_is_right(ask):
    before = ask("before")
    seen = ""
    for number, question in enumerate(NINE, 1):
        before.answer(number, question.right if number % 2 else "a")
        before.go(number)
        seen += shown(before)
    before.go(9)
    buttons(before)["Next"].click()
    seen += shown(before)
    assert "All nine are answered, and kept in <code>answers_blue.json</code>" in seen
    assert list(buttons(before)) == ["Back"]
    assert not any(question.why[:40] in seen for question in NINE)
    assert "✓" not in seen.split("</style>")[-1]
    with pytest.raises(ValueError, match="shown after the course"):
        before.show()


def test_what_is_missing_is_named(ask):
    before = ask("before")
    for number in (1, 2, 4, 5, 6, 8, 9):
        before.answer(number, "c")
    before.go(10)
    assert "Without an answer: 3, 7." in shown(before)


def test_afterwards_both_answers_stand_beside_each_other(ask):
    before, after = ask("before"), ask("after")  # both cells run at first, as Run All does
    for number, question in enumerate(NINE, 1):
        before.answer(number, question.right if number <= 3 else "?")
    after.begin()
    assert "no answers from before" not in shown(after)
    for number, question in enumerate(NINE, 1):
        wrong = "a" if question.right != "a" else "b"
        after.answer(number, question.right if number != 2 else wrong)
        assert question.why not in shown(after)
    after.go(10)
    buttons(after)["Show what is right"].click()
    text = shown(after)
    assert "After the course 8 of 9 of your answers are right, before it 3." in text
    assert "Right now and not then: 6 questions. Right then and not now: 1 question." in text
    assert text.count("✓ right") == 11 and text.count("✗ not so") == 1
    assert text.count("I do not know") == 6 and text.count("Right is:") == 1
    assert text.count('class="fq-why"') == 9
    assert kept.read(after.path).finished
    again = ask("after")
    again.begin()
    assert "8 of 9" in shown(again) and buttons(again) == {}


def test_what_is_closed_is_shown_and_not_changed(ask):
    before, after = ask("before"), ask("after")
    before.answer(1, "a")
    after.answer(1, "c")
    before.go(1)
    choice(before).value = "d"
    assert "those before it are closed" in shown(before) and 'role="alert"' in shown(before)
    assert choice(before).value == "a" and kept.read(before.path).before == {"update": "a"}
    again = ask("before")
    again.begin()
    assert "Those before it are closed" in shown(again) or "are closed" in shown(again)
    again.go(1)
    assert choice(again).disabled


def test_without_answers_from_before_it_says_so_at_both_ends(ask):
    after = ask("after")
    after.begin()
    assert "There are no answers from before the course in answers_blue.json" in shown(after)
    for number in range(1, 10):
        after.answer(number, "?")
    after.show()
    assert "0 of 9 of your answers are right; from before the course there are none" in shown(after)
    assert shown(after).count("no answer</p>") == 9


def test_a_damaged_file_and_one_of_another_version_are_told_in_place(ask):
    before = ask("before")
    before.path.write_text("{")
    buttons(before)["Begin"].click()
    assert "It is kept as answers_blue.json.damaged-1" in shown(before)
    choice(before).value = "a"
    body = before.path.read_text().replace('"version": 1', '"version": 2')
    before.path.write_text(body)
    again = ask("before")
    buttons(again)["Begin"].click()
    assert "answers of version 2; expected version 1" in shown(again)
    assert before.path.read_text() == body


def test_a_file_that_is_damaged_meanwhile_is_told_in_place(ask):
    before = ask("before")
    buttons(before)["Begin"].click()
    choice(before).value = "a"
    before.path.write_text("{")
    choice(before).value = "b"
    assert "It is kept as answers_blue.json.damaged-1" in shown(before)
    assert not before.path.exists(), "and not b alone, as if nothing had been"
    choice(before).value = "c"
    assert '"c"' in before.path.read_text()


def test_bad_calls_get_sentences(ask, tmp_path):
    with pytest.raises(fedlab.Refused, match="part is 'now'; expected 'before' or 'after'"):
        fedlab.Questionnaire("now")
    with pytest.raises(fedlab.Refused, match="expected up to 20 letters"):
        fedlab.Questionnaire("before", "no/way", tmp_path)
    with pytest.raises(fedlab.Refused, match=r"expected begin\(\) first"):
        ask("before").go(1)
    with pytest.raises(fedlab.Refused, match="no question 10; expected 1 to 9"):
        ask("before").answer(10, "a")
    with pytest.raises(fedlab.Refused, match="answer to 'update' is 'z'"):
        ask("before").answer(1, "z")
    with pytest.raises(fedlab.Refused, match="lesson is '12'; expected one of '01'"):
        fedlab.ExitQuestion("12")
    with pytest.raises(fedlab.Refused, match="the answer is None; expected one of 'a'"):
        fedlab.ExitQuestion("01").answer(None)


@pytest.mark.parametrize("lesson", EXITS)
def test_an_exit_question_replies_at_once_and_again(lesson, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    question = EXITS[lesson]
    one = fedlab.ExitQuestion(lesson)
    assert buttons(one)["Check"].disabled and question.why not in shown(one)
    for letter, reply in question.replies.items():
        choice(one).value = letter
        buttons(one)["Check"].click()
        assert one.tried[-1] == letter
        said = one.answer(letter)
        assert said == f"Not {letter}. {reply} Choose again." and question.why not in said
    assert f"The right one is {question.right}" in fedlab.ExitQuestion(lesson).answer("?")
    assert one.answer(question.right) == f"Right. {question.why}"
    assert 'role="status"' in shown(one) and list(tmp_path.iterdir()) == []
