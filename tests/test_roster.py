"""Who is in the class: by hand, with the time told."""

import pytest

from fedlab.checks import Refused
from fedlab.classroom.names import given
from fedlab.classroom.roster import (
    DOING,
    KINDS,
    MOST_DRAWN,
    MOST_MEASURED,
    NOTEBOOK,
    PHONE,
    QUIET_AFTER,
    BadName,
    Closed,
    Measured,
    NameTaken,
    Removed,
    Roster,
    deal,
)
from fedlab.messages import Banned, Full

ANNA, BEN, CEM = "session of Anna", "session of Ben", "session of Cem"


def enrol(roster: Roster, session: str = ANNA, now: float = 0.0, **more):
    return roster.enrol(session, PHONE, now, **more)


def result(version: int = 0, correct: int = 4, total: int = 6, alone: int | None = None) -> dict:
    return {"version": version, "correct": correct, "total": total, "alone": alone}


def snapshot(roster: Roster) -> str:
    return repr([(vars(s), list(s.measured)) for s in roster.all()]) + repr(
        (roster.open, roster._by_session, sorted(roster._removed), sorted(roster._banned))
    )


# ---- coming in -----------------------------------------------------------------------------------


def test_the_same_device_comes_back_as_who_it_was():
    roster = Roster()
    anna, ben = enrol(roster), enrol(roster, BEN, 1.0)
    assert anna.client == given(ANNA, ()) and anna.client != ben.client
    assert (anna.kind, anna.seen, anna.doing, anna.wish) == (PHONE, 0.0, "drawing", "")
    assert enrol(roster, ANNA, 7.0) is anna and anna.seen == 7.0
    assert len(roster) == 2 and roster.all() == [anna, ben]
    assert roster.find(anna.client) is roster.student(anna.client) is anna
    # What it has done stays, and so does what it is
    roster.tell(anna.client, {"doing": "ready", "drawn": DRAWN}, 0, 8.0)
    assert roster.enrol(ANNA, NOTEBOOK, 9.0) is anna
    assert (anna.kind, anna.doing, anna.drawn) == (PHONE, "ready", (24, 6, 10))


def test_a_new_roster_gives_the_same_names():
    """A server that takes another's place: whoever comes first."""
    names = {s: enrol(Roster(), s).client for s in (ANNA, BEN, CEM)}
    roster = Roster()
    assert {s: enrol(roster, s).client for s in (CEM, ANNA, BEN)} == names


def test_names_that_are_taken_elsewhere_are_not_given():
    first = enrol(Roster()).client
    assert enrol(Roster(), taken=[first.upper()]).client != first


def test_a_wish_is_taken_for_given_names():
    """Nobody is given what another is shown as."""
    roster = Roster()
    first = given(BEN, ())
    enrol(roster, ANNA, wish=first)
    assert enrol(roster, BEN).client != first
    # Nor what it wishes for itself
    alone = Roster()
    cem = enrol(alone, CEM, wish=given(CEM, ()))
    assert cem.client != cem.wish == given(CEM, ())


@pytest.mark.parametrize(
    "session", [None, "", "short", 12345678, ["a session of a list"], {}, True, "x" * 101]
)
def test_a_session_that_is_none(session):
    roster = Roster()
    with pytest.raises(Refused, match="the session is no text of 8 to 100 characters"):
        enrol(roster, session)
    assert len(roster) == 0


@pytest.mark.parametrize("kind", ["", "teacher", None, 3, ["phone"], {}, "Phone"])
def test_a_kind_that_is_none(kind):
    roster = Roster()
    with pytest.raises(Refused, match="kind is .*; expected one of phone, notebook, terminal"):
        roster.enrol(ANNA, kind, 0.0)
    assert len(roster) == 0


def test_every_kind_and_any_text_of_a_session():
    roster = Roster()
    for number, kind in enumerate(KINDS):
        assert roster.enrol(f"\ud800 {number} any text", kind, 0.0).kind == kind


def test_the_last_place_is_the_last():
    roster = Roster(most=2)
    anna = enrol(roster)
    enrol(roster, BEN)
    before = snapshot(roster)
    with pytest.raises(Full, match="the class is full; expected at most 2 students"):
        enrol(roster, CEM)
    assert snapshot(roster) == before
    assert enrol(roster) is anna, "who has a place has it"
    roster.remove(anna.client)
    enrol(roster, CEM)
    with pytest.raises(Full):
        enrol(roster, ANNA, again=True)
    with pytest.raises(Removed):  # nothing has changed: it still has to ask
        enrol(roster, ANNA)


def test_a_closed_door_is_for_newcomers():
    roster = Roster()
    anna = enrol(roster)
    ben = enrol(roster, BEN)
    roster.remove(ben.client)
    roster.open = False
    for more in ({"session": CEM}, {"session": BEN, "again": True}):
        with pytest.raises(Closed, match="the door is closed: your teacher lets nobody new in"):
            enrol(roster, **more)
    assert enrol(roster) is anna
    roster.open = True
    assert len(roster) == 1 and enrol(roster, CEM)


# ---- going ---------------------------------------------------------------------------------------


def test_who_was_removed_comes_back_when_it_asks():
    roster = Roster()
    anna = enrol(roster, wish="Anna")
    roster.remove(anna.client)
    assert len(roster) == 0 and roster.find(anna.client) is None
    for _ in range(2):
        with pytest.raises(Removed, match="your teacher has removed you"):
            enrol(roster)
    back = enrol(roster, again=True)
    assert back is not anna and back.client == anna.client and (back.wish, back.drawn[0]) == ("", 0)
    assert enrol(roster) is back, "it need not ask a second time"


def test_who_is_banned_does_not():
    roster = Roster()
    anna = enrol(roster)
    roster.remove(anna.client, ban=True)
    for again in (False, True):
        with pytest.raises(Banned, match="your teacher has banned this device"):
            enrol(roster, again=again)
    assert len(roster) == 0 and enrol(roster, BEN)


def test_who_comes_back_is_never_somebody_else():
    """Whoever has got its name meanwhile is not touched: another session makes any name."""
    roster = Roster()
    anna = enrol(roster)
    roster.remove(anna.client)
    thief = next(s for s in map("thief {}".format, range(100_000)) if given(s, ()) == anna.client)
    stolen = enrol(roster, thief)
    assert stolen.client == anna.client
    back = enrol(roster, again=True)
    assert back is not stolen and back.client != stolen.client
    assert back.session == ANNA and stolen.session == thief
    # And the other way round
    roster.remove(stolen.client, ban=True)
    assert enrol(roster) is back and roster.all() == [back]


def test_removing_and_coming_again_leaves_nothing_behind():
    roster = Roster()
    for _ in range(50):
        roster.remove(enrol(roster, again=True).client)
    assert not roster._by_session and len(roster._removed) == 1


@pytest.mark.parametrize("call", ["student", "remove", "wish", "rename", "tell"])
def test_nobody_of_this_name(call):
    roster = Roster()
    more = {"wish": ["x"], "rename": ["x"], "tell": [{}, 0, 0.0]}.get(call, [])
    with pytest.raises(Refused, match="there is no student 'nobody'; expected one of nobody yet"):
        getattr(roster, call)("nobody", *more)
    anna = enrol(roster)
    with pytest.raises(Refused, match=f"expected one of {anna.client}$"):
        getattr(roster, call)("nobody", *more)


# ---- names ---------------------------------------------------------------------------------------


def test_a_wish_is_shown_once_it_is_approved():
    roster = Roster()
    anna = enrol(roster)
    roster.wish(anna.client, " Ａnna ")
    assert (anna.wish, anna.approved, anna.shown) == ("Anna", False, anna.client)
    anna.approved = True
    assert anna.shown == "Anna"
    roster.wish(anna.client, "Anna")  # the same once more, as with a reload
    assert anna.shown == "Anna"
    roster.wish(anna.client, "Anne")
    assert anna.shown == anna.client and not anna.approved, "another one has to be approved anew"
    roster.wish(anna.client, "")
    assert (anna.wish, anna.shown) == ("", anna.client)


def test_what_the_teacher_says_is_approved():
    roster = Roster()
    anna = enrol(roster, wish="Xx")
    roster.rename(anna.client, "Anna B.")
    assert (anna.wish, anna.approved, anna.shown) == ("Anna B.", True, "Anna B.")
    roster.rename(anna.client, "")
    assert (anna.wish, anna.approved, anna.shown) == ("", False, anna.client)
    with pytest.raises(BadName):
        roster.rename(anna.client, "fuck")
    with pytest.raises(NameTaken):
        roster.rename(anna.client, enrol(roster, BEN).client)
    assert anna.shown == anna.client


@pytest.mark.parametrize("name", ["Anna", "anna", "ANNA", "Ａｎｎａ", "Ánnà"])
def test_a_name_is_taken_in_whatever_letters(name):
    roster = Roster()
    anna, ben = enrol(roster, wish="Anna"), enrol(roster, BEN)
    before = snapshot(roster)
    with pytest.raises(NameTaken, match="is taken; expected another one"):
        roster.wish(ben.client, name)
    with pytest.raises(NameTaken):
        enrol(roster, CEM, wish=name)
    with pytest.raises(NameTaken):
        enrol(roster, BEN, wish=name)
    with pytest.raises(NameTaken):
        roster.wish(ben.client, anna.client.lower())
    assert snapshot(roster) == before
    roster.wish(anna.client, name)  # its own


def test_a_name_that_is_given_back_is_free():
    roster = Roster()
    anna, ben = enrol(roster, wish="Anna"), enrol(roster, BEN)
    roster.wish(anna.client, "")
    roster.wish(ben.client, "Anna")
    roster.remove(ben.client)
    roster.wish(anna.client, "anna")
    assert anna.wish == "anna"


@pytest.mark.parametrize("name", ["fuck", "x" * 21, "\u202eannA", None, 7, ["Anna"], "<b>"])
def test_a_wish_that_cannot_be_changes_nothing(name):
    roster = Roster()
    anna = enrol(roster, wish="Anna")
    before = snapshot(roster)
    with pytest.raises(BadName, match="expected"):
        roster.wish(anna.client, name)
    with pytest.raises(BadName, match="expected"):
        roster.tell(anna.client, {"name": name, "doing": "ready", "measured": [result()]}, 0, 1.0)
    if name is not None:
        for session in (ANNA, BEN):
            with pytest.raises(BadName):
                enrol(roster, session, 1.0, wish=name)
    assert snapshot(roster) == before


# ---- telling -------------------------------------------------------------------------------------

DRAWN = {"train": 24, "held_out": 6, "labels": 10}


def test_what_a_device_says_is_taken_in():
    roster = Roster()
    anna = enrol(roster)
    said = {"doing": "training", "drawn": DRAWN, "name": "Anna", "measured": [result(3, 5, 6, 4)]}
    roster.tell(anna.client, said, 3, 9.0)
    assert (anna.doing, anna.drawn, anna.wish, anna.seen) == ("training", (24, 6, 10), "Anna", 9.0)
    assert anna.measured == {3: Measured(3, 5, 6, 4)}
    roster.tell(anna.client, {}, 3, 10.0)  # a word is enough
    assert (anna.doing, anna.drawn, anna.seen) == ("training", (24, 6, 10), 10.0)
    for doing in DOING:
        roster.tell(anna.client, {"doing": doing}, 3, 11.0)
        assert anna.doing == doing


def test_who_says_nothing_is_quiet():
    roster = Roster()
    anna = enrol(roster, now=100.0)
    assert not anna.quiet(100 + QUIET_AFTER) and anna.quiet(100.001 + QUIET_AFTER)
    roster.tell(anna.client, {}, 0, 200.0)
    assert not anna.quiet(200.0)


BAD = [
    {"doing": "sleeping"}, {"doing": None}, {"doing": ["ready"]}, {"doing": {}}, {"doing": 1},
    {"drawn": None}, {"drawn": []}, {"drawn": {}}, {"drawn": 24}, {"drawn": DRAWN | {"train": -1}},
    {"drawn": DRAWN | {"train": MOST_DRAWN + 1}}, {"drawn": DRAWN | {"held_out": 1.0}},
    {"drawn": DRAWN | {"labels": 11}}, {"drawn": DRAWN | {"labels": True}},
    {"drawn": DRAWN | {"train": 10**400}}, {"drawn": DRAWN | {"train": "24"}},
    {"measured": None}, {"measured": {}}, {"measured": result()}, {"measured": "5"},
    {"measured": [None]}, {"measured": [[]]}, {"measured": [{}]}, {"measured": [result(), 1]},
    {"measured": [result()] * 21},
    {"measured": [result(version=4)]},  # of the future
    {"measured": [result(version=10**30)]}, {"measured": [result(version=-1)]},
    {"measured": [result(version=True)]}, {"measured": [result(version=1.0)]},
    {"measured": [result(version="1")]}, {"measured": [result(version=None)]},
    {"measured": [result(correct=7)]}, {"measured": [result(correct=-1)]},
    {"measured": [result(correct=float("nan"))]}, {"measured": [result(total=0, correct=0)]},
    {"measured": [result(total=1_000_000)]}, {"measured": [result(total=10**400)]},
    {"measured": [result(alone=7)]}, {"measured": [result(alone=-1)]},
    {"measured": [result(alone=0.5)]}, {"measured": [result(alone=True)]},
    {"measured": [result(alone="4")]}, {"measured": [result() | {"drawn": 1}]},
    {"measured": [result() | {"drawn": None}]},
    {"uses": "images"}, {"uses": None}, {"uses": ["shards"]}, {"uses": True},
    {"name": "fuck"}, {"name": 7},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:60])
def test_what_cannot_be_is_a_sentence_and_changes_nothing(bad):
    roster = Roster()
    anna = enrol(roster)
    good = {"doing": "ready", "drawn": DRAWN, "name": "Anna", "measured": [result()]}
    before = snapshot(roster)
    with pytest.raises(Refused, match="expected") as error:
        roster.tell(anna.client, good | bad, 3, 50.0)
    assert 10 < len(str(error.value)) < 400 and "\n" not in str(error.value)
    assert snapshot(roster) == before


def test_of_what_was_measured_the_first_and_the_latest_are_kept():
    roster = Roster()
    anna = enrol(roster)
    assert anna.first is None and anna.last is None
    for version in range(MOST_MEASURED + 50):
        roster.tell(anna.client, {"measured": [result(version, version % 7)]}, 10_000, 1.0)
    assert len(anna.measured) == MOST_MEASURED
    assert (anna.first.version, anna.last.version) == (0, MOST_MEASURED + 49)
    assert sorted(anna.measured)[1] == 51, "the oldest after the first have gone"


def test_the_means_by_hand():
    roster = Roster()
    anna, ben, cem = (enrol(roster, session) for session in (ANNA, BEN, CEM))
    assert roster.accuracy(0) is None and roster.alone(0) is None and roster.versions() == []
    roster.tell(anna.client, {"measured": [result(0, 1, 4, 1), result(2, 3, 4, 2)]}, 2, 1.0)
    roster.tell(ben.client, {"measured": [result(0, 5, 10)]}, 2, 1.0)
    roster.tell(cem.client, {"measured": [result(2, 1, 1, 0)]}, 2, 1.0)
    assert roster.versions() == [0, 2]
    # Each counts as much, whatever it has drawn
    assert roster.accuracy(0) == ((1 / 4 + 5 / 10) / 2, 2)
    assert roster.accuracy(2) == ((3 / 4 + 1) / 2, 2)
    assert roster.alone(0) == (1 / 4, 1) and roster.alone(2) == ((2 / 4 + 0) / 2, 2)
    assert roster.accuracy(1) is None
    # Measured once more: the later counts
    roster.tell(anna.client, {"measured": [result(0, 4, 4)]}, 2, 2.0)
    assert roster.accuracy(0) == ((1 + 5 / 10) / 2, 2) and roster.alone(0) is None
    roster.remove(ben.client)
    assert roster.accuracy(0) == (1.0, 1)
    roster.forget_measured()
    assert roster.versions() == [] and anna.first is None


def test_what_laptops_measure_on_mnist_is_not_the_class_s_handwriting():
    roster = Roster()
    anna, laptop = enrol(roster), roster.enrol(BEN, NOTEBOOK, 0.0)
    assert (anna.uses, laptop.uses) == ("drawings", "")
    of_mnist = {"uses": "shards", "measured": [result(1, 900, 1_000, 800) | {"drawn": False}]}
    roster.tell(laptop.client, of_mnist, 1, 1.0)
    assert roster.versions() == [] and roster.accuracy(1) is None and roster.alone(1) is None
    roster.tell(anna.client, {"measured": [result(1, 3, 6, 2)]}, 1, 1.0)
    assert (roster.accuracy(1), roster.alone(1)) == ((3 / 6, 1), (2 / 6, 1))
    assert roster.versions() == [1] and laptop.last.correct == 900, "its own row shows it"

    # Who changes from drawings to shards: before and after are of one kind
    roster.tell(anna.client, {"measured": [result(2, 900, 1_000) | {"drawn": False}]}, 3, 1.0)
    assert (anna.first.version, anna.last.version) == (2, 2)
    roster.tell(anna.client, {"measured": [result(3, 950, 1_000) | {"drawn": False}]}, 3, 1.0)
    assert (anna.first.version, anna.last.version) == (2, 3) and roster.versions() == [1]


def test_who_had_to_go_stays_out_of_the_class_that_takes_its_place():
    before, after = Roster(), Roster()
    anna, ben = enrol(before), enrol(before, BEN)
    before.remove(anna.client)
    before.remove(ben.client, ban=True)
    after.keep_out(before)
    with pytest.raises(Removed):
        enrol(after)
    with pytest.raises(Banned):
        enrol(after, BEN, again=True)
    assert enrol(after, again=True) and enrol(after, CEM)


# ---- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 13))
def test_shards_are_dealt_whole_and_none_twice(count):
    clients = [f"client {number}" for number in range(count)]
    dealt = deal(clients, 12)
    assert list(dealt) == clients
    shards = [shard for first, last in dealt.values() for shard in range(first, last + 1)]
    assert shards == list(range(1, 13))
    sizes = [last - first + 1 for first, last in dealt.values()]
    assert max(sizes) - min(sizes) <= 1


def test_nobody_and_too_many():
    assert deal([], 12) == {}
    said = "there are 13 laptops and 12 shards; expected at least one shard for each"
    with pytest.raises(Refused, match=said):
        deal([str(number) for number in range(13)], 12)


def test_who_has_drawn_nothing_and_is_long_gone_makes_room_in_a_full_class():
    roster = Roster(most=2)
    ghost, drawer = enrol(roster, ANNA), enrol(roster, BEN)
    drawer.drawn = (8, 2, 10)
    with pytest.raises(Full):
        enrol(roster, CEM, 119.0)
    new = enrol(roster, CEM, 121.0)
    assert {s.client for s in roster.all()} == {drawer.client, new.client}
    assert roster.find(ghost.client) is None or ghost.client == new.client
