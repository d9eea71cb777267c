"""The picture of the round as data: from what is so to what is drawn and said."""

from dataclasses import replace

import pytest

from fedlab.dashboard.glance import Glance, header
from fedlab.dashboard.scene import AVERAGE, Facts, names, says, scene, step_of
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.http.app import RequestRecord
from fedlab.http.client import ClientStatus
from fedlab.plan import Member, Status

EXAMPLES = {"alice": 20_000, "bob": 5_000, "dave": 15_000}
PART = ("alice", "bob", "dave")
OURS = {"alice": ClientStatus("waiting"), "bob": ClientStatus("waiting")}


def status(waiting_for=PART, training=(), **more):
    known = {"strategy": "FedAvg", "round": 2, "rounds": 10, "accuracy": 0.9, "version": 7}
    members = [
        Member(name, count, "training" if name in training else "waiting")
        for name, count in EXAMPLES.items()
    ]
    known |= {
        "participants": [*PART],
        "waiting_for": list(waiting_for),
        "members": members,
        "message": "round 2",
    }
    return Status(**({"running": True, "asynchronous": False} | known | more))


@pytest.fixture
def facts():
    """Alice and bob are the panel's own, dave has joined from elsewhere."""
    colours = {name: number for number, name in enumerate(EXAMPLES)}
    return Facts(EXAMPLES, colours, status(), PART, OURS)


def of(facts, name):
    return next(c for c in scene(facts, [], "")["clients"] if c["name"] == name)


def doing(**phases):
    return {name: ClientStatus(phase, epoch=2, epochs=5) for name, phase in phases.items()}


def test_the_four_steps_in_order(facts):
    """As a round goes: everybody is sent the model, trains, sends, and the server averages."""
    moments = [
        facts,
        replace(facts, own=doing(alice="training", bob="waiting")),
        replace(facts, own=doing(alice="testing", bob="training")),
        replace(facts, own=doing(alice="sending", bob="sending")),
        replace(facts, status=status(["bob"], ["bob"]), own=doing(bob="sending", alice="waiting")),
        replace(facts, status=status([])),
    ]
    assert [step_of(moment) for moment in moments] == [1, 2, 2, 3, 3, 4]
    told = [scene(moment, [], "")["says"] for moment in moments]
    assert told[0] == "The server sends its model to alice, bob and dave."
    assert told[1] == "Alice, bob and dave train on their own images."
    assert told[4] == "Bob sends weights. Already there: alice and dave."
    assert told[5] == "The server makes a new model of 3 updates, and tests it."


def test_what_each_client_does(facts):
    now = replace(facts, own=doing(alice="training", bob="sending"), status=status(PART, ["dave"]))
    alice, bob, dave = (of(now, name) for name in PART)
    assert alice["state"] == "training 2/5" and alice["progress"] == 0.2 and alice["busy"]
    assert bob["state"] == "sending" and bob["progress"] == 1 and not bob["busy"]
    assert dave["state"] == "training" and dave["busy"], "a guest, as far as the server knows"
    assert [c["share"] for c in (alice, bob, dave)] == [0.5, 0.125, 0.375]


def test_who_was_not_drawn_has_no_weight_and_who_is_late_is_named(facts):
    few = replace(facts, participants=("bob", "dave"), status=status(["dave"]))
    assert of(few, "alice") | {"part": False, "share": 0.0, "state": "not drawn"} == of(
        few, "alice"
    )
    assert of(few, "bob")["share"] == 0.25 and of(few, "bob")["state"] == "sent"
    late = replace(few, late=frozenset({"dave"}))
    assert of(late, "dave")["late"] and of(late, "dave")["state"] == "late"
    assert scene(late, [], "")["says"] == "The server waits for dave. Stop ends the run."


def test_slow_motion_over_a_deadline_says_so():
    """Switched on during a run: from its beginning on there would be none."""
    now = Glance(History(), status(), ready=True, running=True, held=2)
    assert "deadline" not in header(now, 10_000)
    assert "has a deadline of 2 s: press within it." in header(replace(now, deadline=2.0), 10_000)


def test_slow_motion_says_what_comes_next(facts):
    told = {held: scene(replace(facts, held=held), [], "") for held in (1, 2, 3, 4)}
    assert [told[held]["step"] for held in (1, 2, 3, 4)] == [0, 1, 2, 3], "the one that was done"
    assert all(moment["held"] and "Next: " in moment["says"] for moment in told.values())
    done = RoundRecord(1, 0.876, clients={"alice": ClientRecord(5)})
    again = scene(replace(facts, held=1, record=done), [], "")
    assert again["step"] == 4 and "87.6 %" in again["says"]


def test_looking_back(facts):
    clients = {"alice": ClientRecord(20_000, 0.91), "bob": ClientRecord(5_000, 0.8)}
    back = replace(facts, record=RoundRecord(3, 0.93, clients=clients), replayed=True)
    assert of(back, "alice")["accuracy"] == 91.0 and of(back, "alice")["state"] == "averaged"
    assert [of(back, n)["share"] for n in ("alice", "bob")] == [0.8, 0.2], "of those who came"
    assert of(back, "dave")["state"] == "too late" and of(back, "dave")["accuracy"] is None
    assert scene(back, [], "")["says"] == "Round 3: the model was made of 2 updates."
    untrained = replace(back, record=None)
    assert "untrained model guesses" in scene(untrained, [], "")["says"]


def test_without_rounds_nobody_waits(facts):
    now = replace(facts, status=status([], asynchronous=True), participants=())
    assert step_of(now) == 0 and scene(now, [], "")["server"]["text"] == "merges at once"
    assert all(of(now, name)["part"] for name in PART)


def test_requests_with_weights_are_packets(facts):
    wire = [
        RequestRecord(1, 0.0, "alice", "POST", "/clients", 201, 90, 20),
        RequestRecord(2, 0.0, "alice", "GET", "/task", 200, 0, 797_520),
        RequestRecord(3, 0.0, "alice", "POST", "/updates", 202, 797_432, 12),
        RequestRecord(4, 0.0, "bob", "POST", "/updates", 409, 797_432, 60),
        RequestRecord(5, 0.0, "bob", "GET", "/task", 410, 0, 60),
    ]
    assert scene(facts, wire, "")["packets"] == [
        {"id": 2, "client": "alice", "up": False, "bytes": 797_520},
        {"id": 3, "client": "alice", "up": True, "bytes": 797_432},
    ]


def test_the_picture_in_words(facts):
    told = scene(replace(facts, own=doing(alice="training", bob="waiting")), [], "aloud")
    assert told["live"] == "aloud"
    assert told["words"].startswith("The server and 3 clients. ")
    assert "alice: training 2/5, weight 50 %" in told["words"]
    assert [names(c) for c in ([], ["a"], ["a", "b"], list("abcde"))] == [
        "nobody",
        "a",
        "a and b",
        "5 clients",
    ]


def test_who_has_left_has_sent_nothing(facts):
    """The round no longer waits for bob, and bob is no member."""
    left = status(["alice"])
    left = replace(left, members=[m for m in left.members if m.client != "bob"])
    now = replace(facts, status=left)
    assert not of(now, "bob")["arrived"] and not of(now, "bob")["part"]
    assert scene(now, [], "")["server"]["text"] == "1 of 2 updates"
    assert of(now, "dave")["share"] == 15 / 35


def test_a_share_is_a_weight_only_where_it_is_one(facts):
    assert scene(facts, [], "")["server"]["share"] == "weight"
    median = scene(replace(facts, weighs=False), [], "")
    assert median["server"]["share"] == "images" and "images 50 %" in median["words"]


def test_an_abandoned_round_has_no_new_model(facts):
    now = replace(facts, held=1, record=RoundRecord(1, 0.876))
    assert "the model stays" in scene(now, [], "")["says"]


@pytest.mark.parametrize(
    ("note", "noisy", "told"),
    [
        ("abandoned: 1 of 3 updates came", False, "Too few updates: the model stays."),
        ("nobody was drawn", False, "Nobody was drawn: the model stays."),
        ("rejected: training diverged", False, "What came of the updates was rejected: the last"),
        ("rejected: training diverged", True, "What came of the updates was rejected: the last"),
        ("nobody was drawn", True, "There was no update, only noise, which is in the model now."),
    ],
)
def test_what_became_of_the_model_in_a_round_without_updates(facts, note, noisy, told):
    now = replace(facts, held=1, record=RoundRecord(2, 0.876, note=note), noisy=noisy)
    assert says(now, 0).startswith(told) and says(now, 0).endswith(" Next: it is sent.")
    back = replace(now, held=0, replayed=True)
    assert says(back, AVERAGE).startswith(f"Round 2. {told}")


@pytest.mark.parametrize(
    ("phase", "step", "told"),
    [
        ("keys", 0, "public keys"),
        ("shares", 0, "shares of their secrets"),
        ("unmask", AVERAGE, "what takes them off"),
    ],
)
def test_exchanges_beside_training_are_said_and_are_no_step(facts, phase, step, told):
    shown = replace(facts, status=replace(facts.status, phase=phase))
    assert step_of(shown) == step and told in says(shown, step)
