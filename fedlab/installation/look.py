"""All looks one after the other, and how a notebook shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fedlab.installation import installed, machine, reach
from fedlab.installation.finding import INSTALL, Finding, line, summary
from fedlab.options import CLASS_PORT as PORT


def findings(
    number: int = PORT,
    data: str | Path | None = None,
    on_begin: Callable[[str], None] = lambda what: None,
) -> Iterator[Finding]:
    """One Finding after the other, as each is there; `on_begin` hears what is looked at next.

    number: the port that a server is to have. data: as load_mnist's path.
    """
    looks = [  # the slow one last
        ("Python", installed.python),
        ("the packages", installed.packages),
        ("JupyterLab", installed.jupyterlab),
        ("MNIST", partial(machine.mnist, data)),
        ("the memory", machine.memory),
        ("a port", partial(reach.port, number)),
        ("the network", partial(reach.network, number)),
        ("Flower", installed.flower),
        ("TensorFlow, which takes 5 to 30 seconds", installed.tensorflow),
    ]
    for what, look in looks:
        on_begin(what)
        try:
            yield look()
        except Exception as error:  # whatever it is, the other looks go on
            name = getattr(look, "func", look).__name__
            title = what.partition(",")[0].removeprefix("the ").removeprefix("a ")
            found = f"It could not be looked at: {type(error).__name__}: {error}"
            yield Finding(name, title, "bad", found, f"{INSTALL}.")


SILENT = Finding(
    "widgets",
    "Widgets",
    "warning",
    "Nobody has answered yet: no browser has drawn a widget of this notebook.",
    "Wait a moment. If this stays: save, reload the page and run the cell again; start JupyterLab"
    " with `fedlab lab`, so that it has the widgets too.",
)
ALIVE = Finding("widgets", "Widgets", "good", "Alive: your browser has drawn one, and answered.")


def check(port: int = PORT, data: str | Path | None = None) -> None:
    """Look at what the lessons need, and show a row for each thing as soon as it is known: what was
    found, and how to mend it. In a notebook also whether widgets are alive in this front end.

    port: the one that your server is to have. data: as load_mnist's path.
    """
    if hasattr(getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)(), "kernel"):
        try:
            from fedlab.dashboard.alive import Shown
        except ImportError as error:
            print(line(Finding("widgets", "Widgets", "bad", f"{error}.", f"{INSTALL}.")))
        else:
            shown = Shown(SILENT, ALIVE, summary)
            try:
                for finding in findings(port, data, shown.begin):
                    shown.add(finding)
            except KeyboardInterrupt:
                shown.end("Interrupted: not everything was looked at. Run the cell again.")
                raise
            shown.end()
            return
    found = []
    for finding in findings(port, data):
        print(line(finding), flush=True)
        found.append(finding)
    print(summary(found))
