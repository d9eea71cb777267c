"""Nine questions before the course and after it, and one at the end of each lesson. No widgets:
these are in dashboard/quiz.py.

question.py  what a question is
nine.py      the nine, exits.py: the lessons' own (both are data, nothing else)
kept.py      one person's answers, a file beside the notebook
results.py   a class's answers, added up; drawing.py: as bars
"""

from fedlab.questions.drawing import plot_answers
from fedlab.questions.exits import EXITS
from fedlab.questions.nine import NINE
from fedlab.questions.question import Question
from fedlab.questions.results import ClassAnswers, class_answers

__all__ = ["EXITS", "NINE", "ClassAnswers", "Question", "class_answers", "plot_answers"]
