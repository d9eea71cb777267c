"""What this machine has of what the lessons need: a sentence for each thing, and how to mend it.

`fedlab.check()` in a notebook, `fedlab check` in a terminal. Every look is a function that returns
a Finding; nothing that one of them starts is left behind.

finding.py    what was found of one thing
installed.py  Python, the packages, JupyterLab, Flower, TensorFlow
machine.py    MNIST, the memory
reach.py      a port, the network
look.py       all of them; check
"""

from fedlab.installation.finding import Finding, line, summary
from fedlab.installation.look import check, findings

__all__ = ["Finding", "check", "findings", "line", "summary"]
