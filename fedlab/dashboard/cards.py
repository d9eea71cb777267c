"""All clients' cards, and which colour is whose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import ipywidgets as widgets

from fedlab.checks import Refused
from fedlab.dashboard.card import NAMES, ClientCard
from fedlab.plots import CLIENTS


class Cards(widgets.Box):
    """The cards, `children`, of these clients (name → shards).

    on_change: called with no argument when a name, a range or the number of cards changes;
    on_forget: with a client's name, when its card goes or a new one of that name comes.
    """

    def __init__(
        self,
        shards: Mapping[str, tuple[int, int]],
        on_change: Callable[[], None],
        on_forget: Callable[[str], None],
    ):
        super().__init__()
        self.add_class("fl-cards")
        self._on_change, self._on_forget = on_change, on_forget
        self.colours: dict[str, int] = {}
        """Client id → its number in plots.CLIENTS, also of those who were here before."""
        for name, (first, last) in shards.items():
            self._append(name, first, last, in_sight=self.colours)

    def add(self, guests: Collection[str], in_sight: Collection[str]) -> None:
        """One more, under a name that nobody has. in_sight: who is still to be seen in the curve;
        the new one gets another colour.
        """
        name = self.free_name(guests)
        self._on_forget(name)
        self._append(name, 1, 1, in_sight)
        self._on_change()

    def _append(self, name: str, first: int, last: int, in_sight: Collection[str]) -> None:
        taken = {card.colour for card in self.children}
        seen = taken | {self.colours[other] for other in in_sight if other in self.colours}
        colour = first_free(seen if len(seen) < len(CLIENTS) else taken)
        self.colours[name] = colour
        card = ClientCard(colour, name, first, last, self._on_change, self._remove)
        self.children = [*self.children, card]

    def _remove(self, card: ClientCard) -> None:
        self.children = [other for other in self.children if other is not card]
        self._on_forget(card.client)
        card.close()
        self._on_change()

    def free_name(self, guests: Collection[str]) -> str:
        """A name that neither a card nor one of these guests has."""
        taken = {card.client for card in self.children} | set(guests)
        # Without a blank: it is typed into a terminal, too
        more = (f"client-{i}" for i in range(len(taken) + 1))
        return next(name for name in (*NAMES, *more) if name not in taken)

    def name_colours(self, guests: Collection[str]) -> None:
        """Each client's colour stays its own: through a new name, and in rounds without it."""
        for card in self.children:
            self.colours[card.client] = card.colour
        for name in guests:
            if name not in self.colours:
                self.colours[name] = first_free(set(self.colours.values()))

    @property
    def shards(self) -> dict[str, tuple[int, int]]:
        """Name → range, right or wrong. Raises Refused when two have one name."""
        found: dict[str, tuple[int, int]] = {}
        for card in self.children:
            if card.client in found:
                raise Refused(
                    f"two clients are called {card.client!r}; expected a different name for each"
                )
            found[card.client] = card.shards
        return found

    def set_disabled(self, disabled: bool) -> None:
        """Grey during a run; the last one stays."""
        for card in self.children:
            card.set_disabled(disabled, removable=len(self.children) > 1)


def first_free(taken: Collection[int]) -> int:
    """The lowest number that is not taken."""
    return next(number for number in range(len(taken) + 1) if number not in taken)
