"""A progress bar over rounds, in a notebook and in a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedlab.history import RoundRecord


@contextmanager
def rounds_bar(
    rounds: int | None, then: Callable[[RoundRecord], None] | None = None, shown: bool = True
) -> Iterator[Callable]:
    """A bar that a new RoundRecord moves on, with the accuracy beside it; `then` is called with
    each record too.
    """
    # tqdm: a bar that is a widget in a notebook and text in a terminal; loaded when first shown
    from tqdm.auto import tqdm

    tqdm.monitor_interval = 0  # no watching thread of tqdm's own
    with tqdm(total=rounds, unit="round", disable=not shown, dynamic_ncols=True) as bar:

        def show(record: RoundRecord) -> None:
            if not math.isnan(record.accuracy):
                bar.set_postfix_str(f"accuracy {record.accuracy:.2%}", refresh=False)
            bar.update()
            if then:
                then(record)

        yield show
        # An end before the last round, at a target: done, and not red as if broken off
        bar.total = bar.n
        if hasattr(bar, "container"):  # a widget, which keeps a total of its own
            bar.container.children[1].max = bar.n
