"""The strategies that a panel's menu and a command's options offer: those of the core, and those
that a lesson brings. Any other is a Python object that is handed in."""

from __future__ import annotations

from collections.abc import Callable

from fedlab import strategies
from fedlab.privacy.dp_fed_avg import dp_fed_avg
from fedlab.robust import bulyan, clipped_mean, geometric_median, krum, multi_krum
from fedlab.strategies import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **strategies.STRATEGIES,
    **{
        strategy.__name__: strategy
        for strategy in (
            krum,
            multi_krum,
            bulyan,
            geometric_median,
            clipped_mean,
            dp_fed_avg,
        )
    },
}
"""By the name of their function."""
