"""Questions to choose an answer to: nine before and after the course, one at the end of a lesson.
What is asked and what is kept is in `fedlab.questions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import ipywidgets as widgets

from fedlab.checks import Refused, counted
from fedlab.dashboard import views
from fedlab.dashboard.buttons import Buttons
from fedlab.dashboard.scripts import STATIC
from fedlab.questions import EXITS, NINE, Question
from fedlab.questions import kept as files
from fedlab.questions.question import DONT_KNOW, UNKNOWN


class _Quiz(Buttons, widgets.VBox):
    """What both have: how they look, and a place for what goes wrong."""

    def __init__(self):
        self._trouble = widgets.HTML()
        look = f"<style>{(STATIC / 'quiz.css').read_text('utf-8')}</style>"
        self._style = widgets.HTML(views.STYLE + look)
        self._style.add_class("fl-style")
        super().__init__()
        self.add_class("fedlab")
        self.add_class("fedlab-quiz")

    def _put(self, *parts: widgets.Widget) -> None:
        self.children = [self._style, *parts, self._trouble]

    def _show_error(self, error: Exception) -> None:
        said = views.message(str(error) or type(error).__name__, error=True)
        self._trouble.value = f'<div role="alert">{said}</div>'

    def _guard(self, action: Callable[[], object]) -> Callable:
        def after_silence() -> None:
            self._trouble.value = ""
            action()

        return super()._guard(after_silence)


class Questionnaire(_Quiz):
    """The nine questions, one at a time. Before the course nobody hears what is right; after it,
    one sees both of one's answers to each, the right one, and why. Make one as the last line of a
    cell.

    part:     "before" or "after" the course.
    nickname: up to 20 letters, digits, - or _; "" for none. It names the file, nothing else.
    folder:   where the file is: `answers_NICKNAME.json`, or `answers.json`.

    Each answer is written into that file when it is chosen, and is there when the cell is run
    again; making the widget writes nothing, and nothing is sent. The buttons are plain calls too:
    `begin`, `go`, `answer`, `show`. Raises Refused for another part or nickname.
    """

    def __init__(self, part: str, nickname: str = "", folder: str | Path = "."):
        if part not in files.PARTS:
            raise Refused(f"part is {part!r}; expected 'before' or 'after'")
        self.path = files.path_of(nickname, folder)
        self.part, self._nickname = part, nickname
        self.number = 0
        """Which question is in sight, from 1; 0 before the first, 10 behind the last one."""
        self.answers: files.Answers | None = None  # nothing is read before somebody begins
        super().__init__()
        self._loading = False
        self._words, self._note = widgets.HTML(), widgets.HTML()
        self._radios = [_radios(question) for question in NINE]
        for number, radios in enumerate(self._radios, 1):
            radios.observe(self._guard(self._chooser(number)), "value")
        # One button for Begin and Next: who works by keyboard stays where they are
        self._on = self._button("Begin", self._go_on, "The next question", "success")
        self._back = self._button("Back", lambda: self.go(self.number - 1), "The question before")
        self._show = self._button(
            "Show what is right", self.show, "Then no answer can be changed any more", "success"
        )
        self._place = widgets.VBox()
        self._put(self._note, self._words, self._place, _row(self._on, self._back, self._show))
        self._draw()

    # ---- plain calls, the same as the buttons ----------------------------------------------------

    def begin(self) -> None:
        """Read the file, and go to the first question without an answer. Raises OtherVersion for a
        file that another version has written.
        """
        self.answers, said = files.load(self.path, self._nickname)
        if self.part == "after" and not self.answers.before:
            said = said or (
                f"There are no answers from before the course in {self.path.name}. Was it another"
                " nickname? Without them nobody can say what has changed."
            )
        self._note.value = views.message(said, error=True)
        self._loading = True
        for question, radios in zip(NINE, self._radios, strict=True):
            radios.value = getattr(self.answers, self.part).get(question.key)
        self._loading = False
        missing = self.answers.missing(self.part)
        self.go(missing[0] if missing and not files.closed(self.answers, self.part) else 10)

    def go(self, number: int) -> None:
        """Show this question, from 1; 10 is the end."""
        if self.answers is None:
            raise Refused("nothing is read yet; expected begin() first")
        self.number = min(max(number, 1), len(NINE) + 1)
        self._draw()

    def answer(self, number: int, letter: str) -> None:
        """Choose an answer to a question, from 1: a letter, or "?" for "I do not know". Raises
        Refused for another, and for a part that is closed.
        """
        if self.answers is None:
            self.begin()
        if number not in range(1, len(NINE) + 1):
            raise Refused(f"there is no question {number!r}; expected 1 to {len(NINE)}")
        key = NINE[number - 1].key
        try:
            self.answers = files.keep(self.path, self.part, key, letter, self._nickname)
        finally:
            self._loading = True  # what was not kept is not shown as chosen
            self._radios[number - 1].value = getattr(self.answers, self.part).get(key)
            self._loading = False
            self._draw()

    def show(self) -> None:
        """After the course: close the answers, and show both of each, the right one, and why.
        Raises Refused while one is missing, and before the course.
        """
        if self.part == "before":
            raise Refused("what is right is shown after the course: Questionnaire('after')")
        if self.answers is None:
            self.begin()
        self.answers = files.finish(self.path)
        self.go(len(NINE) + 1)

    # ---- widgets ---------------------------------------------------------------------------------

    def _chooser(self, number: int) -> Callable[[], None]:
        def chosen() -> None:
            letter = self._radios[number - 1].value
            if not self._loading and letter is not None:
                self.answer(number, letter)

        return chosen

    def _go_on(self) -> None:
        if self.answers is None:
            self.begin()
        else:
            self.go(self.number + 1)

    def _draw(self) -> None:
        asking, over, all_told = 0 < self.number <= len(NINE), self.number > len(NINE), False
        if asking:
            done = len(NINE) - len(self.answers.missing(self.part))
            above = f"Question {self.number} of {len(NINE)} · {done} answered"
            self._words.value = _asked(NINE[self.number - 1], above)
            radios = self._radios[self.number - 1]
            radios.disabled = bool(files.closed(self.answers, self.part))
            self._place.children = [radios]
        else:
            self._place.children = []
            all_told = over and self.answers.finished and self.part == files.AFTER
            self._words.value = (
                compared(self.answers)
                if all_told
                else f'<div role="status">{self._end() if over else self._start()}</div>'
            )
        self._on.description = "Next" if asking else "Begin"
        self._back.disabled = self.number == 1
        self._show.disabled = over and bool(self.answers.missing(self.part))
        _in_sight(self._note, not all_told)
        _in_sight(self._on, not over)
        _in_sight(self._back, asking or (over and not all_told))
        _in_sight(self._show, over and not all_told and self.part == files.AFTER)

    def _start(self) -> str:
        return (
            f"<b>Nine questions, {self.part} the course.</b> What you choose is written into the"
            f" file <code>{escape(self.path.name)}</code>, and nothing is sent."
        )

    def _end(self) -> str:
        name = f"<code>{escape(self.path.name)}</code>"
        if missing := self.answers.missing(self.part):
            numbers = ", ".join(map(str, missing))
            told = f"Without an answer: {numbers}. (“{DONT_KNOW}” is an answer, too.)"
        else:
            told = f"All nine are answered, and kept in {name}."
        if why := files.closed(self.answers, self.part):
            return f"{told} {escape(why[0].upper() + why[1:])}."
        if self.part == "before":
            return f"{told} What is right you will see after the course."
        return told


class ExitQuestion(_Quiz):
    """One question about a lesson's one idea, with a reply at once. Nothing is kept, and nothing is
    sent: another cell run, and it is as new.

    lesson: "01" to "11". `tried` has the letters that were chosen, the first one first. The button
    is a plain call too: `answer`. Raises Refused for another lesson.
    """

    def __init__(self, lesson: str):
        if lesson not in EXITS:
            raise Refused(f"lesson is {lesson!r}; expected one of {', '.join(map(repr, EXITS))}")
        self.question = EXITS[lesson]
        self.tried: list[str] = []
        super().__init__()
        self._radios, self._reply = _radios(self.question), widgets.HTML()
        self._check = self._button(
            "Check", lambda: self.answer(self._radios.value), "Is it right?", "success"
        )
        self._check.disabled = True
        self._radios.observe(
            self._guard(lambda: setattr(self._check, "disabled", self._radios.value is None)),
            "value",
        )
        words = widgets.HTML(_asked(self.question, "One question before you go"))
        self._put(words, self._radios, _row(self._check), self._reply)

    def answer(self, letter: str) -> str:
        """Choose an answer, and get the reply as a sentence. Raises Refused for another than those
        offered.
        """
        question = self.question
        letters = [given for _, given in question.choices]
        if letter not in letters:
            raise Refused(
                f"the answer is {letter!r}; expected one of {', '.join(map(repr, letters))}"
            )
        self.tried.append(letter)
        right = letter == question.right
        if right:
            said = f"Right. {question.why}"
        elif letter == UNKNOWN:
            said = f"The right one is {question.right}. {question.why}"
        else:
            said = f"Not {letter}. {question.replies[letter]} Choose again."
        look = "fq-right" if right else "fq-wrong"
        self._reply.value = f'<div role="status" class="fq-reply {look}">{escape(said)}</div>'
        return said


def compared(answers: files.Answers) -> str:
    """HTML: to each question both answers, the right one, and why; first how many were right."""
    before, after = answers.before, answers.after
    right = {part: _right(given) for part, given in (("before", before), ("after", after))}
    count = f"After the course {len(right['after'])} of {len(NINE)} of your answers are right"
    if not before:
        count += "; from before the course there are none to compare them with."
    else:
        learned = counted(len(right["after"] - right["before"]), "question")
        lost = counted(len(right["before"] - right["after"]), "question")
        count += (
            f", before it {len(right['before'])}. Right now and not then: {learned}. Right then"
            f" and not now: {lost}."
        )
    rows = "".join(_compared(n, q, before, after) for n, q in enumerate(NINE, 1))
    return f'<div role="status"><b>{count}</b></div><ol class="fq-all">{rows}</ol>'


def _right(given: Mapping[str, str]) -> set[str]:
    return {question.key for question in NINE if given.get(question.key) == question.right}


def _compared(
    number: int, question: Question, before: Mapping[str, str], after: Mapping[str, str]
) -> str:
    told = "".join(
        f"<p><b>{name}:</b> {_told(question, given.get(question.key))}</p>"
        for name, given in (("Before", before), ("After", after))
    )
    right = (
        ""
        if after.get(question.key) == question.right
        else f"<p><b>Right is:</b> {escape(question.said(question.right))}</p>"
    )
    return (
        f'<li value="{number}"><p>{escape(question.text)}</p>{told}{right}'
        f'<p class="fq-why">{escape(question.why)}</p></li>'
    )


def _told(question: Question, letter: str | None) -> str:
    if letter is None:
        return "no answer"
    if letter == UNKNOWN:
        return DONT_KNOW
    mark, look = ("✓ right", "fq-yes") if letter == question.right else ("✗ not so", "fq-no")
    return f'{escape(question.said(letter))} <span class="{look}">{mark}</span>'


def _asked(question: Question, above: str) -> str:
    return (
        f'<div role="status"><div class="fl-soft">{escape(above)}</div>'
        f'<div class="fq-ask">{escape(question.text)}</div></div>'
    )


def _radios(question: Question) -> widgets.RadioButtons:
    return widgets.RadioButtons(options=question.choices, value=None, layout={"width": "auto"})


def _in_sight(widget: widgets.Widget, shown: bool) -> None:
    widget.layout.display = None if shown else "none"


def _row(*buttons: widgets.Button) -> widgets.HBox:
    row = widgets.HBox(buttons)
    row.add_class("fl-bar")
    return row
