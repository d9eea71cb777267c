"""The same federation on Flower (flwr.ai), for when one machine is not enough: the same model,
partition, local training and strategies.

A Flower app is two parts. The `ClientApp` answers messages on every node: it calls the very
training that `simulate` calls. The `ServerApp` runs once: here it is a fedlab `Federation`, whose
tasks travel as Flower's messages. Which engine carries them, a simulation or real machines, is
decided by how the app is started. The only folder that imports flwr (the optional extra "flower"),
and only when it is used.

installed.py  which Flower is installed
records.py    messages as Flower's records
nodes.py      the client's side
server.py     the server's side
app.py        both, from what a lesson has
"""

from fedlab.flower.app import FlowerApp, to_flower
from fedlab.flower.installed import QUIET, SUPPORTED, FlowerError, check_flower
from fedlab.flower.nodes import client_app
from fedlab.flower.server import serve

__all__ = [
    "QUIET",
    "SUPPORTED",
    "FlowerApp",
    "FlowerError",
    "check_flower",
    "client_app",
    "serve",
    "to_flower",
]
