"""What stands below the picture and the curve, one thing at a time: what the models read, tables,
calls, how to join. Only what is in sight is brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import ipywidgets as widgets

from fedlab.dashboard import views
from fedlab.dashboard.drawing import drawing
from fedlab.dashboard.glance import Glance
from fedlab.dashboard.reading import Reading
from fedlab.dashboard.session import Session
from fedlab.dashboard.tabs import Tabs
from fedlab.data import DataError
from fedlab.plots import plot_partition
from fedlab.settings import Settings

PARTITION = (520, 40)  # pixels: its width, and the height of a client's row


class Details(Tabs):
    """on_change: called with no argument when another thing is to be seen, or a digit was drawn."""

    def __init__(self, session: Session, on_change: Callable[[], None]):
        self._session = session
        self.reading = Reading(session, on_change)
        self.images, self.table, self.wire, self.code, self.join = (
            widgets.HTML() for _ in range(5)
        )
        self.show_url = widgets.Button(description="Show the address with its token")
        self._dealt: object = None
        self._revealed = False  # whether the address is shown with its token
        super().__init__(
            {
                "What it reads": self.reading.digits,
                "Draw a digit": self.reading.draw,
                "Mistakes": self.reading.mistakes,
                "Their images": self.images,
                "Table": self.table,
                "Plain calls": self.code,
                "Wire": self.wire,
                "Join": widgets.VBox([self.join, self.show_url]),
            },
            on_change,
        )

    def reveal(self, name: str) -> None:
        """Show the address with its token; `name`: one that is free."""
        self._revealed = True
        self._show_join(name)

    def _show_join(self, name: str) -> None:
        if (server := self._session.server) is not None:
            url = server.url if self._revealed else None
            self.join.value = views.join(server.address, url, name)

    def refresh(
        self, now: Glance, settings: Settings | None, colours: Mapping[str, int], name: str
    ) -> None:
        """What is in sight, as it is now. settings: None where they cannot be; name: one that is
        free.
        """
        server = self._session.server
        self.show_url.disabled = server is None
        if self.shown == "What it reads":
            after = f"after {now.unit} {now.round}" if now.round else "before any training"
            self.reading.show_digits(now.round, after)
        elif self.shown == "Draw a digit":
            self.reading.show_answers(now.round, colours)
        elif self.shown == "Mistakes":
            self.reading.show_mistakes(now.round)
        elif self.shown == "Their images" and settings is not None:
            self._show_images(settings, colours)
        elif self.shown == "Table":
            self.table.value = views.rounds_table(now.history)
        elif self.shown == "Plain calls" and settings is not None:
            self.code.value = views.code(settings.as_calls())
        elif self.shown == "Wire" and server is not None:
            self.wire.value = views.wire_table(server.wire, now.history)
        elif self.shown == "Join":
            self._show_join(name)  # the name may have been taken since

    def _show_images(self, settings: Settings, colours: Mapping[str, int]) -> None:
        dealt = tuple((*item, colours[item[0]]) for item in settings.shards.items())
        if self._dealt == dealt:
            return
        # A range that was mended in this very moment; the next pass draws it
        with suppress(DataError):
            datasets = settings.datasets(self._session.mnist)
            size = PARTITION[0], PARTITION[1] * len(datasets) + 60
            told = "which digits each client holds; the same numbers are in the table that follows"
            svg = drawing(lambda ax: plot_partition(datasets, ax, colours=colours), *size, told)
            counts = {name: data.label_counts() for name, data in datasets.items()}
            self.images.value = views.partition(svg, counts, PARTITION[0])
            self._dealt = dealt
