"""The panel of a notebook: widgets that show a federation and its clients and call them. The only
folder that imports ipywidgets.

Without widgets:
session.py  the server, the clients and the runs behind a panel
steps.py    a round step by step: what is seen of it, and slow motion
models.py   the models of a run, round by round
scene.py    the picture of the round as data, and the sentences that say the same
glance.py   what is so at one moment, and the header's and the screen reader's words for it
views.py    tables and sentences as HTML; drawing.py: plots in the page's colours

Widgets:
panel.py    the Dashboard: what stands where, and the one thread that keeps it up to date
stage.py    the picture of the round, and what a panel needs of the browser (static/ has the
            JavaScript and the style, scripts.py reads them)
card.py     one client: its name, its shards; cards.py: all of them, and which colour is whose
controls.py the run's sliders
curve.py    the curve, looking back, comparing, saving
details.py  what stands below, one thing at a time (tabs.py)
reading.py  of that, what the models read: test digits, a drawn one (pad.py), mistakes
prediction.py  the Prediction: a question to answer before a run
quiz.py     questions to choose an answer to: before and after the course, and at a lesson's end
board.py    the Board of attacks and defences: predict a cell, then run it
teacher.py  the Classroom, a teacher's panel of a live class: lesson.py is what is so in it, and the
            words for it (no widgets); joincard.py how to come in; roll.py who is here;
            classcurve.py the curve
learner.py  the Learner, a student's panel of a live class, made by `join`. (These two are imported
            by name: a panel without a class does not wait for what they need.)
alive.py    the table of fedlab.check(), and whether widgets are alive in this front end
"""

from fedlab.dashboard.board import Board
from fedlab.dashboard.pad import DrawingPad
from fedlab.dashboard.panel import Dashboard
from fedlab.dashboard.prediction import Prediction

__all__ = ["Board", "Dashboard", "DrawingPad", "Prediction"]
