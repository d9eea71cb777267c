"""The teacher's panel without a browser: its plain calls, and what its widgets show, over a class
of simulated phones. tests/test_classroom_panel.py looks at it in JupyterLab."""

import math
from dataclasses import replace
from html import unescape

import ipywidgets as widgets
import numpy as np
import pytest
from test_dashboard import button, everything, fedlab_threads, pill, until
from test_serving import pem_files

import fedlab
from fedlab.checks import Refused
from fedlab.classroom.curves import Curves
from fedlab.classroom.roster import Measured, Student
from fedlab.classroom.student import Student as Device
from fedlab.dashboard import lesson
from fedlab.dashboard.classcurve import told
from fedlab.dashboard.lesson import Lesson
from fedlab.plan import Member, Status

HERE = {"host": "127.0.0.1", "port": 0}


@pytest.fixture
def few(mnist):
    """A test set that is soon tested, and what laptops are dealt."""
    return replace(mnist, test=mnist.test.subset(np.arange(300)))


@pytest.fixture
def panel(few):
    panel = fedlab.Classroom(few, code="K7QXM", epochs=1, **HERE)
    yield panel
    panel.shutdown()
    panel._thread.join(30)
    assert not panel._thread.is_alive()


@pytest.fixture
def devices():
    """What has joined, and leaves in the end."""
    joined = []
    yield joined
    for device in joined:
        device.stop()


def words(panel):
    """Everything that the panel says."""
    html = [w.value for w in everything(panel) if isinstance(w, widgets.HTML)]
    scene = panel._picture.scene
    shown = [scene[key] for key in ("says", "words", "live")] if scene else []
    rows = [f"{row['shown']} {row['words']}" for row in panel._roll.students]
    return unescape(" ".join([*html, *shown, *rows, panel._roll.summary, panel._roll.removed]))


def row(panel, client):
    return next(row for row in panel._roll.students if row["client"] == client)


def test_it_opens_by_itself_and_says_how_to_come_in(panel):
    assert pill(panel) == "loading TensorFlow" and panel.history.last is None
    assert button(panel, "Start 10 rounds").disabled
    with pytest.raises(Refused, match="the class is not open yet"):
        panel.approve()
    panel.wait(60)
    until(lambda: pill(panel) == "open" and "Nobody has come in yet" in words(panel))
    assert panel._card.url == f"http://127.0.0.1:{panel.live.server.port}/J/K7QXM"
    assert panel._fold.description == "Show the lesson" and "fl-joining" in panel._dom_classes
    assert panel._roll.summary == "Nobody is here yet" and lesson.HONEST in words(panel)
    assert f"<b>127.0.0.1:{panel.live.server.port}</b> · code <b>K 7 Q X M</b>" in words(panel)
    for name in ("Pause", "Stop", "Deal shards", "PNG", "CSV"):
        until(lambda name=name: button(panel, name).disabled)
    assert fedlab_threads() == ["fedlab-server", "fedlab-teacher"]
    panel._fold.click()
    assert panel._fold.description == "Show how to join"


@pytest.mark.slow
def test_a_lesson(panel, monkeypatch):
    panel.rehearse(3)
    panel.wait(60)
    until(lambda: panel._roll.summary == "3 here · 3 ready", 30)
    one, two, three = (student["client"] for student in panel._roll.students)
    assert row(panel, one)["words"] in ("ready, 30 digits", "ready, 30")
    assert row(panel, one)["part"] == 1.0

    panel._rounds.value = 2
    until(lambda: panel._start.description == "Start 2 rounds")
    panel._start.click()
    assert "fl-joining" not in panel._dom_classes, "the lesson takes the place of the card"
    until(lambda: pill(panel) == "Round 1 of 2")
    panel._start.click()  # a second press does no harm
    until(lambda: panel._start.disabled and not panel._stop.disabled, 5)
    assert panel._rounds.disabled and panel._anew.disabled
    assert [record.round for record in panel.wait(90)] == [1, 2]
    until(lambda: panel.curves().students == [3, 3, 3], 30)
    until(lambda: "After round 2 of 2: our handwriting" in words(panel))
    until(lambda: "measured by 3 devices" in words(panel) and "2 rounds done" in words(panel))
    assert pill(panel) == "ready" and f"{100 * panel.curves().ours[-1]:.1f} %" in words(panel)
    until(lambda: all(student["after"] is not None for student in panel._roll.students))
    assert [c["name"] for c in panel._picture.scene["clients"]] == [one, two, three]
    assert [round(c["share"], 2) for c in panel._picture.scene["clients"]] == [0.33] * 3
    for text in ("our handwriting", "each alone", "MNIST test"):
        assert text in panel._curve._plot.value, text

    # Files
    saved = {}
    monkeypatch.setattr(panel._stage, "save", lambda name, kind, text: saved.update({name: text}))
    for name in ("CSV", "PNG", "Model"):
        button(panel, name).click()
    assert saved["fedlab-class.csv"].decode().count("\n") == 4
    assert saved["fedlab-class.png"].startswith(b"\x89PNG")
    weights = saved["fedlab-class.safetensors"]
    assert len(weights) > 790_000 and b"safetensors" not in weights[:8]

    # Begin anew: the same students, another beginning
    panel.begin_anew()
    panel.wait(60)
    until(lambda: pill(panel) == "open" and len(panel.history) == 0)
    assert all(
        student["before"] is None or student["after"] is None for student in panel._roll.students
    )
    panel._stage._pressed({"key": "next"})
    assert len(panel.wait(60)) == 1

    # Pause, resume, stop
    panel.start(30)
    until(lambda: len(panel.history) >= 2, 60)
    panel._stage._pressed({"key": "s"})
    until(lambda: pill(panel).startswith("paused"), 60)
    assert panel._start.description == "Resume" and panel._rounds.disabled
    done = len(panel.history)
    panel._start.click()
    until(lambda: len(panel.history) > done, 60)
    panel._stop.click()
    assert len(panel.wait(60)) < 31
    until(lambda: pill(panel) == "ready" and not panel._start.disabled)


def test_who_is_here(panel, devices):
    panel.wait(60)
    url = f"{panel.live.server.address}J/K7QXM"
    devices += [Device(url, name=name, kind=kind) for name, kind in WISHES]
    clients = [device.start().seen.client for device in devices]
    until(lambda: [r["client"] for r in panel._roll.students] == clients)
    one, two, laptop = clients
    assert row(panel, one)["wish"] == "Anna" and row(panel, one)["shown"] == one
    assert "Anna" not in words(panel), "not before it is approved"
    assert row(panel, one)["words"] == "draws, 0 of 30"
    assert [c["state"] for c in panel._picture.scene["clients"]] == ["draws"] * 3

    # What the roll's buttons send
    panel._roll._act({"do": "approve", "client": one})
    until(lambda: row(panel, one)["shown"] == "Anna" and not row(panel, one)["wish"])
    until(lambda: panel._picture.scene["clients"][0]["name"] == "Anna")
    panel._roll._act({"do": "rename", "client": two, "name": "Ben"})
    until(lambda: row(panel, two)["shown"] == "Ben")
    panel._roll._act({"do": "rename", "client": two, "name": "anna"})
    until(lambda: "the name 'anna' is taken" in words(panel))
    for nonsense in ({"do": "shout"}, {"do": "remove", "client": 3}, "remove", None):
        panel._roll._act(nonsense)
    panel._roll._act({"do": "rename", "client": two, "name": ""})
    until(lambda: row(panel, two)["shown"] == two)
    assert 'class="fl-error"' not in words(panel), "the next thing that is done takes it back"

    # A laptop is dealt shards, where it has no drawings to train with
    until(lambda: not panel._deal.disabled)
    panel._deal.click()
    until(lambda: panel.live.students()[2].shards == (1, 12))
    until(lambda: row(panel, laptop)["part"] == 1.0)
    digits = panel._mnist.test.subset(np.arange(12))
    devices[2].give(digits, digits)
    until(lambda: row(panel, laptop)["part"] == 0.8 and panel._deal.disabled)
    with pytest.raises(Refused, match="no laptop is here that would take shards"):
        panel.deal()

    # Who is removed is told, and is seen again when it has asked
    panel.remove("Anna")
    with pytest.raises(Refused, match="there is no student 'Anna'"):
        panel.remove("Anna")
    until(lambda: "Removed: Anna. Back only when asking on the device." in words(panel))
    until(lambda: devices[0].error is not None)
    devices[0].come_again()
    until(lambda: panel._roll.removed == "" and len(panel._roll.students) == 3)
    panel._roll._act({"do": "ban", "client": two})
    until(lambda: panel._roll.removed == f"Banned: {two}.")

    # The door
    panel._door.value = False
    until(lambda: not panel.live.open and panel._door.description == "Door closed")
    assert "the door is closed" in words(panel)
    with pytest.raises(Refused, match="the door is closed"):
        Device(url).start()
    panel.open_door(True)
    until(lambda: panel._door.value and panel._door.description == "Door open")
    panel._door.value = False
    panel._door.value = True  # before the first press was worked off
    until(lambda: not panel._todo)
    assert panel.live.open and panel._door.value


WISHES = [("Anna", "phone"), ("", "phone"), ("", "notebook")]


def test_a_round_that_lacks_students_says_so(panel):
    panel.wait(60)
    panel.one_round()
    until(lambda: "Waits for students who are ready: 0 of at least 2." in words(panel))
    panel._minimum.value = 3
    until(lambda: "0 of at least 3." in words(panel) and panel.live.minimum == 3)
    panel._deadline.value = 12.5
    until(lambda: panel.live.deadline == 12.5)
    panel.set_waiting(minimum=1, deadline=60)
    until(lambda: (panel._minimum.value, panel._deadline.value) == (1, 60))
    with pytest.raises(Refused, match="deadline is -1"):
        panel.set_waiting(deadline=-1)
    until(lambda: "0 of at least 1." in words(panel) and not panel._todo)
    assert (panel.live.minimum, panel.live.deadline) == (1, 60)
    assert pill(panel) == "Round 1 of 1" and panel._one.disabled
    panel.stop()
    panel.wait(20)
    until(lambda: pill(panel) == "open")
    with pytest.raises(Refused, match="no laptop is here"):
        panel.deal()


@pytest.mark.slow
def test_the_same_cell_again_keeps_code_and_port(few):
    first = fedlab.Classroom(few, host="127.0.0.1")
    first.wait(60)
    port, device = first.live.server.port, None
    rude = Device(f"{first.live.server.address}J/{first.code}", kind="phone", session="a rude one")
    first.remove(rude.start().seen.client, ban=True)
    until(lambda: not rude.running)
    try:
        # One that cannot be opened is in between, and nobody who was banned gets in by that
        wrong = fedlab.Classroom(few, host="127.0.0.1", port=port, checkpoint="/nowhere/at/all")
        with pytest.raises(Exception, match="nowhere"):
            wrong.wait(60)
        second = fedlab.Classroom(few, host="127.0.0.1")
        try:
            second.wait(60)
            until(lambda: pill(second) == "open")
            assert second.code == first.code and second.live.server.port == port
            assert pill(first) == "closed" and button(first, "Stop").disabled
            with pytest.raises(RuntimeError, match="this panel is closed"):
                first.start()
            device = Device(f"{second.live.server.address}J/{first.code}").start()
            until(lambda: len(second._roll.students) == 1)
            with pytest.raises(Refused, match="your teacher has banned this device"):
                rude.come_again()
        finally:
            second.shutdown()
            second._thread.join(30)
    finally:
        first.shutdown()
        if device is not None:
            device.stop()


def test_a_class_with_a_certificate_of_its_own(few, tmp_path):
    certificate, key = pem_files(tmp_path)
    panel = fedlab.Classroom(few, rehearsal=1, certificate=certificate, key=key, **HERE)
    laptop = None
    try:
        panel.wait(90)
        assert len(panel.live.students()) == 1, "the simulated phone"
        url = f"{panel.live.server.address}J/{panel.code}"
        assert url.startswith("https://")
        laptop = fedlab.join(url, certificate=certificate)
        until(lambda: [s.kind for s in panel.live.students()] == ["phone", "notebook"], 20)
    finally:
        for one in (laptop, panel):
            if one is not None:
                one.shutdown()
                one._thread.join(30)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"code": "K7"}, "the code is 'K7'"),
        ({"begin": "good"}, "begin is 'good'; expected 'blank' or 'mnist'"),
        ({"weigh": "much"}, "weigh is 'much'"),
        ({"epochs": 0}, r"epochs \(E\) is 0"),
        ({"deadline": 0}, "deadline is 0"),
        ({"minimum": 0}, "minimum is 0"),
        ({"students": 5_000}, "students is 5000"),
        ({"rehearsal": -1}, "rehearsal is -1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(few, settings, said):
    with pytest.raises(Refused, match=said):
        fedlab.Classroom(few, **settings)


def test_what_goes_wrong_while_it_opens_is_said(few):
    panel = fedlab.Classroom(few, host="203.0.113.7", port=1)
    with pytest.raises(OSError):
        panel.wait(60)
    until(lambda: 'class="fl-error"' in panel._header.value)
    panel.shutdown()
    panel._thread.join(20)


def test_a_mistake_in_the_picture_is_said_and_the_lesson_goes_on(panel, monkeypatch):
    panel.wait(60)
    wrong = lambda now: (_ for _ in ()).throw(ValueError("no ink"))  # noqa: E731
    monkeypatch.setattr(panel, "_refresh_picture", wrong)
    until(lambda: "no ink" in words(panel))
    monkeypatch.undo()
    panel.pause()
    until(lambda: pill(panel) == "open" and "no ink" not in words(panel))


# ---- words, without a class ----------------------------------------------------------------------

NAMES = ["Anna", "Blue Otter", "Red Fox", "Jade Yak", "Pink Owl", "Lime Bee"]


def at(waiting_for=(), trains=(), here=NAMES, **more):
    members = [Member(name, 24, "training" if name in trains else "waiting") for name in here]
    known = {"running": True, "asynchronous": False, "strategy": "FedAvg", "round": 2, "rounds": 1}
    known |= {"accuracy": 0.5, "waiting_for": list(waiting_for), "members": members}
    known |= {"participants": list(here), "message": "", "version": 3}
    known |= {"answered": [name for name in here if name not in waiting_for]}
    record = fedlab.RoundRecord(1, 0.4)
    students = [Student(name, name * 8, "phone", seen=100.0) for name in here]
    for student in students:
        student.doing, student.drawn = "ready", (24, 6, 10)
    known = {"students": students, "status": Status(**known), "phase": "running", "record": record}
    known |= {"rounds": 10, "curves": CURVES, "now": 101.0}
    return Lesson(**known | more)


def test_who_has_left_is_no_part_of_the_round_and_a_laptop_without_shards_draws_nothing():
    now = at(["Red Fox"], trains=["Red Fox"], round_deadline=12)
    now.status.answered.remove("Anna")
    now.students[0].doing = "drawing"  # it was asked, and has pressed Stop
    assert lesson.awaited(now) == "4 of 5 updates are here. Waits for Red Fox, 12 s at most."
    assert lesson.does(now.students[0], now) == ("draws", "draws, 30 of 30")
    assert lesson.does(now.students[1], now) == ("sent", "sent")
    laptop = Student("Teal Fox", "of a laptop", "terminal", seen=100.0, uses="shards")
    now = at(phase="waiting", here=[], students=[laptop])
    assert lesson.does(laptop, now) == ("without", "no shards yet")
    assert lesson.summary(now) == "1 here · 1 without shards"


CURVES = Curves([0, 1], [0.1, 0.4], [0.1, 0.3], [0.1, 0.5], [6, 6])


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (
            at(NAMES),
            ("Round 2 of 10", "0 of 6 updates are here. Waits for 6 devices, 30 s at most."),
        ),
        (at(["Anna"]), ("Round 2 of 10", "5 of 6 updates are here. Waits for Anna, 30 s at most.")),
        (at(), ("Round 2 of 10", "All 6 updates are here. The server averages.")),
        (at(pausing=True), ("Round 2 of 10", "Pauses when this round has ended.")),
        (at(phase="paused"), ("paused, 1 of 10", "1 round done. Resume plays the rest.")),
        (at(phase="over"), ("over", "The class is over.")),
        (
            at(here=NAMES[:1], record=fedlab.RoundRecord(2, 0.4)),
            ("Round 3 of 10", "Waits for students who are ready: 1 of at least 2."),
        ),
        (
            at(record=fedlab.RoundRecord(2, 0.4)),
            ("Round 3 of 10", "The server tests the new model."),
        ),
        (at(phase="waiting"), ("ready", "1 round done. 6 students are here, 6 are ready.")),
    ],
)
def test_what_goes_on_and_whom_it_waits_for(now, said):
    assert lesson.now_words(now) == said


def test_what_each_student_does():
    now = at(["Anna", "Red Fox"], ["Anna"])
    anna, otter, fox, yak, owl, bee = now.students
    yak.seen, owl.doing, bee.doing = 40.0, "asleep", "away"
    kinds = [lesson.does(student, now) for student in now.students]
    assert kinds[:3] == [("trains", "trains"), ("sent", "sent"), ("waits", "waits")]
    assert kinds[3:] == [("quiet", "quiet for 1 min"), ("asleep", "asleep"), ("away", "away")]
    assert lesson.summary(now) == ("6 here · 2 ready · 1 training · 2 asleep · 1 gone quiet")
    idle = replace(now, phase="waiting")
    otter.doing, otter.drawn = "drawing", (7, 1, 5)
    fox.kind, fox.shards = "notebook", (3, 3)
    told = [lesson.does(student, idle)[1] for student in (anna, otter, fox)]
    assert told == ["ready, 30 digits", "draws, 8 of 30", "shard 3"]
    fox.uses = "drawings"  # it draws after all
    assert lesson.does(fox, idle)[1] == "ready, 30 digits"
    anna.measured = {0: Measured(0, 1, 6), 4: Measured(4, 5, 6, 3)}
    (first, *_) = lesson.rows(idle, {"Anna": 13})
    assert (first["before"], first["after"], first["alone"], first["colour"]) == (17, 83, 50, 1)
    assert first["words"] == "ready" and first["drawn"] == 30


def test_the_picture_between_two_rounds_stands_still():
    """The federation does not run then, for a moment."""
    now = at(record=fedlab.RoundRecord(2, 0.4))
    shown = lesson.facts(now, {})
    assert shown.running and shown.participants == NAMES and shown.status.waiting_for == []
    lacking = lesson.facts(replace(now, minimum=9), {})
    assert lacking.participants == [] and set(lacking.said.values()) == {"ready"}


def test_the_last_point_is_shown_when_nearly_all_have_measured_it():
    early = replace(CURVES, students=[6, 3])
    held = lesson.settled(early, running=True)
    assert math.isnan(held.ours[1]) and held.students == [6, 0] and held.mnist == CURVES.mnist
    assert lesson.latest(held) == (0.1, 6) and lesson.settled(early, running=False) is early
    assert lesson.settled(CURVES, running=True) is CURVES
    line = [0.1] * 5
    later = Curves(list(range(5)), line, line, line, [6, 6, 2, 3, 0])
    assert lesson.settled(later, running=True).students == [6, 6, 2, 0, 0]


def test_names_stay_text():
    now = at(here=["<b>x</b>"], removed={"<i>y</i>": False})
    assert "<b>x" not in lesson.header(now, "", "") and "<i>" in lesson.removed_words(now.removed)
    assert "3 of 8 did" in told(replace(CURVES, students=[6, 3]), 8)
