"""Names: those that are given, and those that people wish for."""

import contextlib
import re
import unicodedata

import pytest

from fedlab.checks import Refused
from fedlab.classroom.names import (
    ANIMALS,
    COLOURS,
    LONGEST,
    RUDE,
    RUDE_ALONE,
    folded,
    given,
    wished,
)
from fedlab.messages import check_client_id

EVERY = {f"{colour} {animal}" for colour in COLOURS for animal in ANIMALS}


def test_every_given_name_is_fit_for_a_projector():
    assert len(EVERY) == len(COLOURS) * len(ANIMALS) >= 1_500
    assert len(set(map(folded, EVERY))) == len(EVERY)
    for name in EVERY:
        assert check_client_id(name) == wished(name) == name and name.isascii()


def test_the_same_session_is_given_the_same_name_where_it_is_free():
    assert given("a phone", ()) == given("a phone", ()) in EVERY
    other = given("a phone", {given("a phone", ())})
    assert other in EVERY and other != given("a phone", ())
    assert len({given(f"phone {number}", ()) for number in range(100)}) > 90
    assert given("\ud800 any text", ()) in EVERY


def test_no_name_is_given_twice_in_whatever_letters():
    taken = set()
    for number in range(500):
        name = given(f"phone {number}", taken)
        assert name not in taken
        taken.add(name)
    first = given("a phone", ())
    for same in (first.upper(), first.lower(), first.replace("a", "á").replace("e", "é")):
        assert given("a phone", {same}) != first


def test_when_all_are_taken_there_is_a_sentence():
    last = "Red Fox"
    assert given("a phone", EVERY - {last}) == last
    with pytest.raises(Refused, match="all 1,.* names are taken; expected a smaller class"):
        given("a phone", EVERY)


@pytest.mark.parametrize(
    "typed, kept",
    [
        ("Anna", "Anna"),
        ("  Anna \t Bo ", "Anna Bo"),
        ("Ａｎｎａ", "Anna"),  # full width
        ("Zoe\u0301", "Zoé"),  # composed
        ("𝓐nna", "Anna"),
        ("李雷", "李雷"),
        ("آنا", "آنا"),
        ("Jo_3", "Jo_3"),
        ("", ""),
        (" \n ", ""),
        ("Dickens", "Dickens"),
        ("Hancock", "Hancock"),
        ("Scunthorpe", "Scunthorpe"),
        ("Cassandra", "Cassandra"),
        ("x" * LONGEST, "x" * LONGEST),
    ],
)
def test_a_wish_as_it_is_kept(typed, kept):
    assert wished(typed) == kept
    assert wished(kept) == kept


@pytest.mark.parametrize("name", [None, 7, True, ["Anna"], {"name": "Anna"}, b"Anna"])
def test_a_name_is_a_text(name):
    with pytest.raises(Refused, match="the name is .*; expected a text"):
        wished(name)


@pytest.mark.parametrize(
    "name",
    [
        "x" * (LONGEST + 1),
        "\ufdfa\ufdfa",  # two characters that are thirty-seven
        "Anna\0", "An\x1b[31mna", "An\rna\x07", "\x7f",  # control characters
        "\u202eannA", "Anna\u202d", "\u2066Anna\u2069", "\u200fAnna",  # which way is it read?
        "An\u200bna", "An\u200dna", "\ufeffAnna", "\u2060", "An\u00adna",  # zero width
        "\u3164", "\u1160", "\u115f\u115f", "\uffa0", "An\u1160na", "\u2800",  # nothing to see
        "A\u0335\u0336\u0337", "Z\u0300\u0301\u0302\u0303",  # piles of marks
        "<b>Anna</b>", "Anna&amp;", "'; DROP", "=1+1", "a/b", "../x", "%41", "☃", "😀", "$", "...",
        "\ud800", "-Anna", "@Anna",
    ],
)  # fmt: skip
def test_what_cannot_be_on_a_projector_is_no_name(name):
    with pytest.raises(Refused, match="expected") as error:
        wished(name)
    sentence = str(error.value)
    assert len(sentence) < 300 and sentence.isprintable()


def test_of_what_is_kept_every_character_is_seen():
    """Of all there are: what passes is a letter, a digit, or a sign between them."""
    passed = set()
    every = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) not in ("Cn", "Co")]
    for character in every:
        if not unicodedata.name(character, "").startswith(("CJK", "HANGUL SYLLABLE", "EGYPTIAN")):
            with contextlib.suppress(Refused):
                passed.add(wished(f"a{character}b"))
    kinds = {unicodedata.category(c) for name in passed for c in name}
    assert kinds <= {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Po", "Zs"}
    others = {c for name in passed for c in name if unicodedata.category(c) in ("Pd", "Po", "Zs")}
    assert others == set("-.@ ")
    assert not any("FILLER" in unicodedata.name(c, "") for name in passed for c in name)


@pytest.mark.parametrize(
    "name",
    ["fuck", "FUCK", "Fuck you", "xfuckx", "f.u.c.k", "f u c k", "fu-ck", "fück", "ｆｕｃｋ",
     "𝓕𝓾𝓬𝓴", "a55hole", "h1tler", "N1gger", "shit", "sh1t", "5hit", "a shit", "p.e.n.i.s", "Nazi",
     "nazi 1", "merde", "scheiße", "Arschloch", "wich5er"],
)  # fmt: skip
def test_rude_names_are_refused_in_whatever_letters(name):
    with pytest.raises(Refused, match="this name cannot be shown to a class; expected another one"):
        wished(name)


def test_no_given_name_is_rude_and_the_lists_are_folded():
    for word in (*RUDE, *RUDE_ALONE):
        assert re.fullmatch("[a-z]+", word)
        with pytest.raises(Refused):
            wished(word)


@pytest.mark.parametrize(
    "one, other",
    [("Anna", "anna"), ("Anna", "ÁNNÀ"), ("Zoë", "Zoe"), ("Straße", "STRASSE"), ("Ａnna", "anna"),
     ("İpek", "ipek"), ("ﬁn", "FIN"), ("①", "1")],
)  # fmt: skip
def test_names_that_look_alike_are_one(one, other):
    assert folded(one) == folded(other)


@pytest.mark.parametrize("one, other", [("Anna", "Ann"), ("Anna 1", "Anna 2"), ("李", "雷")])
def test_names_that_do_not_are_two(one, other):
    assert folded(one) != folded(other)
