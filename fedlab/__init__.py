"""fedlab: learn federated learning by moving sliders over real clients.

`import fedlab` is quick: what needs TensorFlow, Flask or widgets is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOME = {  # public name -> the module it lives in
    "Dashboard": "dashboard",
    "Prediction": "dashboard",
    "Client": "client",
    "Server": "server",
    "simulate": "simulation",
    "to_flower": "flower",
    "FlowerError": "flower",
    "Classifier": "model",
    "two_nn": "model",
    "Dataset": "data",
    "DataError": "data",
    "Mnist": "data",
    "load_mnist": "data",
    "partition_iid": "data",
    "partition_by_label": "data",
    "partition_dirichlet": "data",
    "Strategy": "strategy",
    "State": "strategy",
    "weighted_mean": "strategy",
    "fed_avg": "strategy",
    "fed_avg_momentum": "strategy",
    "async_average": "strategy",
    "Training": "messages",
    "Task": "messages",
    "Update": "messages",
    "Refused": "messages",
    "ClientFailed": "messages",
    "Diverged": "messages",
    "local_seed": "messages",
    "Plan": "plan",
    "Federation": "federation",
    "History": "history",
    "RoundRecord": "history",
    "load_checkpoint": "checkpoint",
    "plot_history": "plots",
    "plot_partition": "plots",
    "plot_digits": "plots",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"fedlab has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"fedlab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
