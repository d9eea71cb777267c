"""The card by which a class comes in, for a projector: a QR code, the address to type, the code to
read aloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets

from fedlab.checks import Refused, number, whole
from fedlab.classroom.reach import Address, Hint, hints, join_url, qr_svg, typed
from fedlab.dashboard.scripts import PAGES, STATIC

STYLE = "".join(
    f"<style>{file.read_text('utf-8')}</style>"
    for file in (PAGES / "colours.css", STATIC / "joincard.css")
)


class JoinCard(widgets.VBox):
    """How to come in, in a box of 300 pixels or of a projector's width.

    addresses: this machine's, the likeliest first, as `reach.addresses` gives them: at least one.
    port, code, scheme: the server's port, the class's code, "https" where there is a certificate.
    on_change: called with no argument when another address is chosen.

    `code` and `addresses` may be set later; `ip` is the chosen address, `url` what the QR code
    says. Raises Refused for what cannot be: nothing is changed then.
    """

    _parts: tuple[widgets.Widget, ...] = ()

    def __init__(
        self,
        addresses: Sequence[Address],
        port: int,
        code: str,
        scheme: str = "http",
        on_change: Callable[[], None] | None = None,
    ):
        self._port, self._scheme, self._on_change = port, scheme, on_change
        self._addresses, self._code = _some(addresses), code
        for address in self._addresses:
            join_url(address.ip, port, code, scheme)  # or Refused, before any widget is made
        self.qr, self.say, self.seen, self.help = (widgets.HTML() for _ in range(4))
        self.menu = widgets.Dropdown(description="Address", options=self._options())
        style = widgets.HTML(STYLE)
        for part, name in (
            (style, "fl-style"),
            (self.qr, "fl-join-qr"),
            (self.say, "fl-join-say"),
            (self.seen, "fl-join-seen"),
            (self.help, "fl-join-help"),
            (self.menu, "fl-join-menu"),
        ):
            part.add_class(name)
        beside = widgets.VBox([self.say, self.seen, self.menu])
        beside.add_class("fl-join-beside")
        main = widgets.HBox([self.qr, beside])
        main.add_class("fl-join-main")
        super().__init__([style, main, self.help])
        self._parts = (*beside.children, *main.children, *self.children)
        self.add_class("fl-join")
        self._draw()
        self._draw_help()
        self.show(0, None)
        self.menu.observe(self._chosen, "value")

    # ---- what it is about ------------------------------------------------------------------------

    @property
    def ip(self) -> str:
        """The address that was chosen."""
        return self.menu.value

    @property
    def url(self) -> str:
        """Where a phone comes in: what the QR code says."""
        return join_url(self.ip, self._port, self._code, self._scheme)

    @property
    def code(self) -> str:
        """The class's code."""
        return self._code

    @code.setter
    def code(self, code: str) -> None:
        join_url(self.ip, self._port, code, self._scheme)  # or Refused
        self._code = code
        self._draw()

    @property
    def addresses(self) -> list[Address]:
        """What the menu offers."""
        return list(self._addresses)

    @addresses.setter
    def addresses(self, addresses: Sequence[Address]) -> None:
        """What was chosen stays, where it is still there."""
        addresses = _some(addresses)
        for address in addresses:
            join_url(address.ip, self._port, self._code, self._scheme)  # or Refused
        if addresses == self._addresses:
            return
        before, self._addresses = self.ip, addresses
        self.menu.unobserve(self._chosen, "value")  # new options choose the first of them
        self.menu.options = self._options()
        if before in [address.ip for address in addresses]:
            self.menu.value = before
        self.menu.observe(self._chosen, "value")
        self._draw_help()
        if self.ip != before:
            self._chosen(None)

    # ---- what it shows ---------------------------------------------------------------------------

    def show(self, seen: int, last: float | None) -> None:
        """How many phones have come so far, and how many seconds ago the last one opened the
        page: None where nobody knows.
        """
        parts = [f"<span>{escape(part)}</span>" for part in seen_words(seen, last).split(" · ")]
        self.seen.value = f'<p class="{"fl-come" if seen else "fl-none"}">{" · ".join(parts)}</p>'

    def close(self) -> None:
        """Forget the card with all that is in it: ipywidgets would keep it."""
        for part in self._parts:
            part.close()
        super().close()

    def _chosen(self, _) -> None:
        self._draw()
        if self._on_change is not None:
            self._on_change()

    def _options(self) -> list[tuple[str, str]]:
        return [(_label(address), address.ip) for address in self._addresses]

    def _draw(self) -> None:
        self.qr.value = qr_svg(self.url)
        self.say.value = say(typed(self.ip, self._port, self._scheme), self._code)

    def _draw_help(self) -> None:
        self.help.value = fold(hints(self._addresses, self._port, self._scheme))


def _some(addresses: Sequence[Address]) -> list[Address]:
    if not addresses:
        raise Refused("addresses is empty; expected at least one address of this machine")
    return list(addresses)


def _label(address: Address) -> str:
    """An address as an entry of the menu."""
    way = f"{address.interface}, " if address.interface else ""
    return f"{address.ip} · {way}{address.why}"


def seen_words(seen: int, last: float | None) -> str:
    """How many phones have come, and when: seconds ago, None where nobody knows."""
    if not whole("seen", seen, 0):
        return "no phone has come yet"
    if last is None:
        return f"phones seen: {seen}"
    return f"phones seen: {seen} · the last one {ago(number('last', last, 'seconds', least=0))}"


def ago(seconds: float) -> str:
    """How long since, as people say it."""
    if seconds < 1:
        return "just now"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds // 1:.0f} s ago"


def say(address: str, code: str) -> str:
    """The address to type and the code to read aloud, as large as the box lets them be."""
    letters = "".join(f"<span>{escape(letter)}</span>" for letter in code.upper())
    aloud = escape(" ".join(code.upper()))
    return (
        '<p class="fl-join-what">Scan the square, or type into the phone\'s browser</p>'
        f'<p class="fl-join-address" style="--fl-letters: {len(address)}">{escape(address)}</p>'
        '<p class="fl-join-what">and then the code</p>'
        f'<p class="fl-join-code" style="--fl-letters: {len(code)}">'
        f'<span aria-hidden="true">{letters}</span><span class="fl-unseen">{aloud}</span></p>'
    )


def fold(found: Sequence[Hint]) -> str:
    """Hints in a fold that opens by mouse and keyboard, those about this machine marked."""
    items = "".join(
        f'<li class="{"fl-here" if hint.here else "fl-any"}"><b>{escape(hint.title)}</b>'
        f" {_text(hint.text)}</li>"
        for hint in found
    )
    # JupyterLab asks the focused element itself, and would take Enter for "edit the cell"
    return (
        '<details><summary data-lm-suppress-shortcuts="true">A phone cannot come in?</summary>'
        f"<ul>{items}</ul></details>"
    )


def _text(sentence: str) -> str:
    """A sentence as HTML, with its commands as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))
