"""The strategies that a panel's menu and a command's options offer: those of the core, and those
that a lesson brings. Any other is a Python object that is handed in."""

from __future__ import annotations

from collections.abc import Callable

from fedlab import strategies
from fedlab.privacy.dp_fed_avg import dp_fed_avg
from fedlab.strategies import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **strategies.STRATEGIES,
    dp_fed_avg.__name__: dp_fed_avg,
}
"""By the name of their function."""
