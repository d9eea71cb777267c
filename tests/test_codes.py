"""The class's code, and how often one may guess: with the time told, a year passes in no time."""

import pytest

from fedlab.checks import Refused
from fedlab.classroom import codes
from fedlab.classroom.codes import (
    A_MINUTE,
    A_SECOND,
    LENGTH,
    LETTERS,
    MOST_KEPT,
    Tries,
    check_code,
    read,
)


def test_a_code_is_five_characters_that_nobody_takes_for_others():
    assert (LENGTH, len(LETTERS), len(set(LETTERS))) == (5, 31, 31)
    assert not set("0O1IL") & set(LETTERS) and LETTERS.isalnum()
    made = {codes.new_code() for _ in range(200)}
    assert len(made) > 190 and all(read(code) == code for code in made)
    assert set("".join(made)) == set(LETTERS), "each of them is used"


@pytest.mark.parametrize(
    "typed", ["K7QXM", "k7qxm", " k7 qxm ", "K7-QXM", "k-7-q-x-m", "ｋ7qxm".replace("ｋ", "k")]
)
def test_a_code_is_read_in_any_letters_with_spaces_and_dashes(typed):
    assert read(typed) == check_code(typed) == "K7QXM"


@pytest.mark.parametrize(
    "typed",
    ["", "K7QX", "K7QXMM", "K7QX0", "K7QXO", "K7QXI", "K7QX1", "K7QXL", "ｋ7qxm", "K7QXÄ", "K7QX\0",
     "K7_QXM", "ßßß", None, 12345, True, ["K7QXM"], {"code": "K7QXM"}, "K7QXM" + " " * 40,
     "K" * 10_000, "\ud800"],
)  # fmt: skip
def test_what_is_no_code_is_none(typed):
    assert read(typed) == ""
    with pytest.raises(
        Refused, match=r"the code is .*; expected 5 of the characters 2345"
    ) as error:
        check_code(typed)
    assert len(str(error.value)) < 200


def test_ten_wrong_codes_a_minute_from_one_address():
    tries = Tries()
    for second in range(A_MINUTE):
        assert not tries.spent("10.0.0.7", second)
        tries.wrong("10.0.0.7", second)
    assert tries.spent("10.0.0.7", 10) and tries.spent("10.0.0.7", 59.9)
    assert not tries.spent("10.0.0.8", 10), "others are not meant"
    # The oldest is a minute old: one more, and so on
    assert not tries.spent("10.0.0.7", 60)
    tries.wrong("10.0.0.7", 60)
    assert tries.spent("10.0.0.7", 60) and not tries.spent("10.0.0.7", 61)
    assert not tries.spent("10.0.0.7", 365 * 86_400)


def test_ten_wrong_codes_a_second_from_everywhere():
    tries = Tries()
    for number in range(A_SECOND):
        assert not tries.busy(0.5)
        tries.wrong(f"10.0.0.{number}", 0.5)
    assert tries.busy(0.5) and tries.busy(1.4)
    assert not tries.busy(1.5)


def test_a_million_addresses_are_not_kept():
    """Those who have only asked, and those who were wrong: of neither does a list grow."""
    tries = Tries()
    for number in range(30_000):
        now = number / 200
        assert not tries.spent(f"right {number}", now)
        assert tries.busy(now) == (number >= A_SECOND)
        tries.wrong(f"wrong {number}", now)
    assert len(tries._by_address) == MOST_KEPT and len(tries._all) <= 201
