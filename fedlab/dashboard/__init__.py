"""The panel of a notebook: widgets that show a federation and its clients and call them. The only
folder that imports ipywidgets.

Without widgets:
session.py  the server, the clients and the runs behind a panel
steps.py    a round step by step: what is seen of it, and slow motion
models.py   the models of a run, round by round
scene.py    the picture of the round as data, and the sentences that say the same
views.py    tables and sentences as HTML; drawing.py: plots in the page's colours

Widgets:
panel.py    the Dashboard: what stands where, and the one thread that keeps it up to date
stage.py    the picture of the round, and what a panel needs of the browser (static/ has the
            JavaScript and the style, scripts.py reads them)
card.py     one client: its name, its shards
controls.py the run's sliders
curve.py    the curve, looking back, comparing, saving
reading.py  what the models read: test digits, a drawn one (pad.py), mistakes
tabs.py     one thing at a time
prediction.py  the Prediction: a question to answer before a run
"""

from fedlab.dashboard.panel import Dashboard
from fedlab.dashboard.prediction import Prediction

__all__ = ["Dashboard", "Prediction"]
