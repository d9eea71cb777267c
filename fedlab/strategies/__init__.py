"""How updates become the next global model.

base.py          what a strategy is; its state, its settings
combine.py       mean, median, trimmed mean: from many updates to one model
averaging.py     server steps, and the strategies made of the two: FedAvg, FedProx, FedAdam, ...
scaffold.py      SCAFFOLD, the server's side and the client's
asynchronous.py  no rounds
"""

from collections.abc import Callable

from fedlab.strategies.asynchronous import async_average, fed_async, fed_buff
from fedlab.strategies.averaging import (
    Adam,
    Momentum,
    Replace,
    Yogi,
    fed_adam,
    fed_avg,
    fed_avg_momentum,
    fed_prox,
    fed_yogi,
    median,
    trimmed_mean,
)
from fedlab.strategies.base import (
    Finished,
    Setting,
    State,
    Strategy,
    TooFewUpdates,
    Updates,
    settings_of,
)
from fedlab.strategies.combine import Mean, Median, TrimmedMean, weighted_mean
from fedlab.strategies.scaffold import scaffold

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    strategy.__name__: strategy
    for strategy in (
        fed_avg,
        fed_prox,
        fed_avg_momentum,
        fed_adam,
        fed_yogi,
        scaffold,
        median,
        trimmed_mean,
        async_average,
        fed_async,
        fed_buff,
    )
}
"""The strategies by the name of their function: what a menu offers, what an option takes."""
