"""Who has joined, with the time told: a year passes in no time."""

import math

import numpy as np
import pytest

from fedlab.checks import Refused
from fedlab.federation.members import SILENT_AFTER, Limits, Members, sealed
from fedlab.messages import Banned, Conflict, Full, RunOver, UnknownClient

DAY = 86_400.0


def join(members: Members, client: str, now: float, session: str = "", **more) -> None:
    members.join(client, **{"num_examples": 10, "shards": 1, "guest": False} | more,
                 session=session, now=now)  # fmt: skip


def test_a_name_is_free_when_its_owner_was_silent_for_a_minute():
    members = Members()
    join(members, "alice", 0.0, "first")
    for now in (0.0, 30.0, SILENT_AFTER - 0.001):
        with pytest.raises(Conflict, match="a client called 'alice' has already joined"):
            join(members, "alice", now, "second")
    members.heard("alice", 50.0)
    assert members.taken("alice", 50.0 + SILENT_AFTER - 1)
    assert not members.taken("alice", 50.0 + SILENT_AFTER)
    join(members, "alice", 365 * DAY, "second", num_examples=7)
    assert members.find("alice").num_examples == 7 and len(members) == 1


def test_who_trains_keeps_its_name_for_a_year():
    members = Members()
    join(members, "alice", 0.0, "first")
    members.find("alice").task = 1, "train"
    assert members.taken("alice", 365 * DAY)
    members.rest()
    assert not members.taken("alice", 365 * DAY)


def test_joining_again_with_the_same_session_keeps_what_was_done():
    members = Members()
    join(members, "alice", 0.0, "s")
    members.find("alice").done = 3
    join(members, "alice", 1.0, "s", shards=9)
    assert (members.find("alice").done, members.find("alice").shards) == (3, 9)
    members.begin({}, 2.0)
    assert members.find("alice").done == 0 and members.done() == {"alice": (sealed("s"), 0)}


def test_who_is_back_after_a_restart_has_done_what_it_had_done():
    members = Members()
    join(members, "early", 0.0, "s")
    s = sealed("s")
    members.begin({"early": (s, 2), "alice": (s, 3), "bob": (s, 4)}, 1.0)
    assert members.find("early").done == 2 and members.back_by == 1.0 + SILENT_AFTER
    join(members, "alice", 2.0, "s")
    join(members, "guest", 2.0, guest=True)
    assert members.done() == {"early": (s, 2), "alice": (s, 3), "bob": (s, 4)}
    join(members, "bob", 2.0, "another")
    assert members.find("bob").done == 0 and members.back_by == -math.inf


def test_who_leaves_and_comes_back_in_a_run_has_done_what_it_had_done():
    members = Members()
    members.begin({}, 0.0)
    join(members, "alice", 0.0, "s")
    members.leave("alice", 3)
    assert members.done() == {} and members.back_by == -math.inf, "nobody waits for it"
    join(members, "alice", 1.0, "s")
    assert members.done() == {"alice": (sealed("s"), 3)}
    members.leave("alice", 3)
    join(members, "alice", 2.0, "another")
    assert members.find("alice").done == 0
    members.leave("alice")  # who was told that there is no more
    join(members, "alice", 3.0, "another")
    assert members.find("alice").done == 0
    # Of another run it has done nothing, and is still remembered as gone
    members.leave("alice", 3)
    members.begin({}, 4.0)
    with pytest.raises(RunOver):
        members.heard("alice", 5.0)
    join(members, "alice", 5.0, "another")
    assert members.find("alice").done == 0


def test_only_those_who_were_silent_are_dropped():
    members = Members()
    join(members, "alice", 0.0)
    join(members, "bob", 0.0)
    members.heard("bob", 100.0)
    members.drop_silent(["alice", "bob", "nobody"], 100.0 + SILENT_AFTER / 2)
    assert members.ids() == ["bob"]
    with pytest.raises(UnknownClient):  # not RunOver: it may join again
        members.heard("alice", 200.0)


def test_who_is_dismissed_is_not_remembered_as_gone():
    members = Members()
    join(members, "alice", 0.0, "s")
    join(members, "bob", 0.0)
    members.dismiss("alice")
    assert members.ids() == ["bob"] and not members.taken("alice", 1.0)
    with pytest.raises(UnknownClient, match="no client called 'alice' has joined"):
        members.heard("alice", 1.0)
    join(members, "alice", 2.0, "s")
    assert members.heard("alice", 3.0, "s").seen == 3.0


def test_who_has_left_is_told_so_and_may_come_back():
    members = Members()
    join(members, "alice", 0.0)
    members.leave("alice")
    with pytest.raises(RunOver, match="client 'alice' has left, or was removed"):
        members.heard("alice", 1.0)
    join(members, "alice", 2.0)
    assert members.heard("alice", 3.0).seen == 3.0


@pytest.mark.parametrize("value", [0, -1, 10**9 + 1, 1.0, True, "5", None, np.float32(3)])
@pytest.mark.parametrize("what", ["num_examples", "shards"])
def test_counts_that_cannot_be(what, value):
    with pytest.raises(Refused, match=f"{what} is .*; expected a whole number from 1 to 1,000,"):
        join(Members(), "alice", 0.0, **{what: value})


@pytest.mark.parametrize("value", [0, -1, 10**9 + 1, 2.0, True, "5", None])
@pytest.mark.parametrize("what", ["clients", "examples", "shards"])
def test_limits_that_cannot_be(what, value):
    with pytest.raises(Refused, match=f"{what} is .*; expected a whole number from 1 to 1,000,"):
        Limits(**{what: value})


def test_of_a_thousand_clients_with_all_of_mnist_a_server_takes_no_more():
    assert Limits() == Limits(1_000, 60_000, 12)
    with pytest.raises(AttributeError):
        Limits().clients = 5


def test_who_claims_more_than_the_limits_is_not_taken_in():
    members = Members(Limits(clients=2, examples=100, shards=3))
    for more in ({"num_examples": 101}, {"shards": 4}, {"num_examples": 10**9}):
        with pytest.raises(Refused, match="expected a whole number from 1 to (100|3)$"):
            join(members, "alice", 0.0, **more)
    assert len(members) == 0
    join(members, "alice", 0.0, num_examples=100, shards=3)
    # Nor by joining again
    with pytest.raises(Refused):
        join(members, "alice", 1.0, num_examples=101, shards=3)
    assert members.find("alice").num_examples == 100


def test_the_last_place_is_the_last():
    members = Members(Limits(clients=2))
    join(members, "alice", 0.0, "s")
    join(members, "bob", 0.0)
    with pytest.raises(Full, match="'carol' would be one too many; expected at most 2 clients"):
        join(members, "carol", 0.0)
    # Who has a place may say so again, and who takes a silent one's name takes its place
    join(members, "alice", 1.0, "s")
    join(members, "bob", 10 * SILENT_AFTER, "another")
    members.leave("alice")
    join(members, "carol", 0.0)
    assert members.ids() == ["bob", "carol"]


def test_one_client_is_said_as_one():
    members = Members(Limits(clients=1))
    join(members, "alice", 0.0)
    with pytest.raises(Full, match="expected at most 1 client$"):
        join(members, "bob", 0.0)


def test_a_ban_is_of_a_name_however_it_is_written():
    members = Members()
    members.ban("Straße")
    for name in ("Straße", "STRASSE", "strasse"):
        with pytest.raises(Banned, match=f"client '{name}' may not take part; expected another"):
            join(members, name, 0.0)
    join(members, "Strasse 2", 0.0)
    assert members.ids() == ["Strasse 2"]


def test_who_is_there_is_banned_when_it_comes_back():
    """A ban by itself removes nobody: `Federation.remove` does both."""
    members = Members()
    join(members, "alice", 0.0, "s")
    members.ban("alice")
    assert "alice" in members
    with pytest.raises(Banned):
        join(members, "alice", 1.0, "s")


def test_of_those_who_have_left_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr("fedlab.federation.members.MOST_GONE", 3)
    members = Members()
    for number in range(5):
        join(members, f"client-{number}", 0.0)
        members.leave(f"client-{number}")
    for number in range(5):
        with pytest.raises(UnknownClient if number < 2 else RunOver):
            members.heard(f"client-{number}", 1.0)


def test_numpys_integers_are_integers():
    members = Members()
    join(members, "alice", 0.0, num_examples=np.int64(600), shards=np.uint8(3))
    assert (members.find("alice").num_examples, members.find("alice").shards) == (600, 3)
