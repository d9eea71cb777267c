"""The card by which a class comes in: what it shows, and what follows what."""

import re

import ipywidgets as widgets
import pytest

from fedlab.checks import Refused
from fedlab.classroom.reach import Address, hints, qr_svg
from fedlab.dashboard import joincard
from fedlab.dashboard.joincard import JoinCard, ago, seen_words

WIFI = Address("192.168.1.20", "Wi-Fi", "the likeliest")
CABLE = Address("10.0.0.7", "eth0", "a private network")


@pytest.fixture
def changes():
    return []


@pytest.fixture
def card(changes):
    card = JoinCard([WIFI, CABLE], 8642, "K7QXM", on_change=lambda: changes.append(card.ip))
    yield card
    card.close()


def shown(card: JoinCard) -> tuple[str, str]:
    """The address to type, and the code, as the card's HTML has them."""
    (address,) = re.findall(r'fl-join-address"[^>]*>([^<]+)<', card.say.value)
    (code,) = re.findall(r'fl-join-code"[^>]*><span[^>]*>(.*?)</span><span class', card.say.value)
    return address, re.sub("<[^>]+>", "", code)


def test_it_shows_the_likeliest_address(card, changes):
    assert card.ip == "192.168.1.20" and card.url == "http://192.168.1.20:8642/J/K7QXM"
    assert shown(card) == ("192.168.1.20:8642", "K7QXM")
    assert card.qr.value == qr_svg(card.url)
    assert card.menu.options == (
        ("192.168.1.20 · Wi-Fi, the likeliest", "192.168.1.20"),
        ("10.0.0.7 · eth0, a private network", "10.0.0.7"),
    )
    assert card.menu.description == "Address" and changes == []
    assert '<span class="fl-unseen">K 7 Q X M</span>' in card.say.value, "spelled when read aloud"


def test_another_address_changes_all_and_tells(card, changes):
    card.menu.value = "10.0.0.7"
    assert card.url == "http://10.0.0.7:8642/J/K7QXM" and card.qr.value == qr_svg(card.url)
    assert shown(card) == ("10.0.0.7:8642", "K7QXM")
    assert changes == ["10.0.0.7"]


def test_another_code_changes_all(card, changes):
    card.menu.value = "10.0.0.7"
    card.code = "ab2cd"
    assert card.code == "ab2cd" and card.url == "http://10.0.0.7:8642/J/AB2CD"
    assert shown(card) == ("10.0.0.7:8642", "AB2CD") and card.qr.value == qr_svg(card.url)
    assert changes == ["10.0.0.7"], "a code is no other address"
    with pytest.raises(Refused, match="code is '<b>'"):
        card.code = "<b>"
    assert card.code == "ab2cd"


def test_what_was_chosen_stays_when_the_machine_has_other_addresses(card, changes):
    card.menu.value = "10.0.0.7"
    before = card.qr.value
    card.addresses = [Address("192.168.8.2", "wlan1", "new"), CABLE]
    assert card.ip == "10.0.0.7" and card.qr.value == before and changes == ["10.0.0.7"]
    card.addresses = [WIFI]
    assert card.ip == "192.168.1.20" and shown(card)[0] == "192.168.1.20:8642"
    assert changes == ["10.0.0.7", "192.168.1.20"] and card.addresses == [WIFI]
    with pytest.raises(Refused, match="addresses is empty; expected at least one"):
        card.addresses = []


def test_the_same_addresses_again_send_nothing(card, monkeypatch):
    sent = []
    monkeypatch.setattr(widgets.Widget, "send_state", lambda self, key=None: sent.append(key))
    card.addresses = [WIFI, CABLE]
    card.code = card.code
    card.show(0, None)
    assert sent == []


@pytest.mark.parametrize(
    ("seen", "last", "words"),
    [
        (0, None, "no phone has come yet"),
        (0, 3.0, "no phone has come yet"),
        (3, 4.2, "phones seen: 3 · the last one 4 s ago"),
        (1, 0.2, "phones seen: 1 · the last one just now"),
        (12, None, "phones seen: 12"),
        (2, 59.9, "phones seen: 2 · the last one 59 s ago"),
        (2, 60, "phones seen: 2 · the last one 1 min ago"),
        (2, 7300, "phones seen: 2 · the last one 2 h ago"),
    ],
)
def test_phones_that_were_seen(card, seen, last, words):
    assert seen_words(seen, last) == words
    card.show(seen, last)
    assert re.sub("<[^>]+>", "", card.seen.value) == words


def test_a_number_that_cannot_be_is_refused(card):
    with pytest.raises(Refused, match="seen is -1; expected a whole number from 0"):
        card.show(-1, None)
    with pytest.raises(Refused, match="last is nan; expected seconds"):
        card.show(2, float("nan"))
    assert ago(1) == "1 s ago"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"addresses": []}, "addresses is empty"),
        ({"addresses": [Address("teacher.local", "", "")]}, "ip is 'teacher.local'"),
        ({"port": 0}, "port is 0"),
        ({"code": "a b"}, "code is 'a b'"),
        ({"scheme": "gopher"}, "scheme is 'gopher'"),
    ],
)
def test_a_card_that_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(Refused, match=sentence):
        JoinCard(**{"addresses": [WIFI], "port": 8642, "code": "K7QXM"} | wrong)


def test_a_server_with_a_certificate_is_typed_with_its_scheme():
    card = JoinCard([WIFI], 8642, "K7QXM", "https")
    assert card.url == "https://192.168.1.20:8642/J/K7QXM"
    assert shown(card)[0] == "https://192.168.1.20:8642"
    assert "certificate" in card.help.value
    card.close()


def test_the_hints_are_folded_and_open_by_keyboard(card):
    html = card.help.value
    assert html.startswith('<details><summary data-lm-suppress-shortcuts="true">')
    assert html.count("<li") == len(hints([WIFI, CABLE], 8642))
    assert "<code>http://</code>" in html and "`" not in html
    opened = html
    card.show(3, 1)
    card.code = "AB2CD"
    card.menu.value = "10.0.0.7"
    assert card.help.value == opened, "what is sent again would be folded again"


def test_names_from_the_system_stay_text():
    odd = Address("10.0.0.1", "<img src=x>", "it is <b>")
    card = JoinCard([odd], 8642, "K7QXM")
    html = card.qr.value + card.say.value + card.help.value + card.seen.value
    assert "<img" not in html  # the menu's options are text for ipywidgets
    card.close()


def test_it_is_gone_when_it_is_closed():
    card = JoinCard([WIFI], 8642, "K7QXM")
    parts = [*card.children[1].children[1].children, *card.children[1].children, *card.children]
    card.close()
    assert all(part.comm is None for part in [card, *parts])


def test_its_style_reaches_the_browser():
    style = joincard.STYLE
    assert (
        ".fl-join-code" in style
        and "--fl-accent" in style
        and "<" not in style[7:-8].replace("</style><style>", "")
    )
