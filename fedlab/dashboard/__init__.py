"""The panel of a notebook: widgets that show a federation and its clients and call them. The only
folder that imports ipywidgets.

session.py  the server, the clients and the runs behind a panel, without widgets
panel.py    the Dashboard: layout, buttons, and the one thread that keeps it up to date
card.py     one client: its name, its shards, what it is doing
controls.py the run's sliders
views.py    tables and sentences as HTML
prediction.py  the Prediction: a question to answer before a run
"""

from fedlab.dashboard.panel import Dashboard
from fedlab.dashboard.prediction import Prediction

__all__ = ["Dashboard", "Prediction"]
