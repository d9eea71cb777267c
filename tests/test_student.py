"""One of a class in Python: what it measures, what its model alone learns, and that it comes back
whatever happens to the server, or to it.
"""

import socket
import threading

import numpy as np
import pytest
import requests
from live_class import Phone, until

from fedlab.checks import Refused
from fedlab.classroom import student as module
from fedlab.classroom.codes import WrongCode
from fedlab.classroom.names import given
from fedlab.classroom.roster import BadName, Full, Measured, NameTaken, Removed, Roster
from fedlab.classroom.student import Student, share, split_join_url
from fedlab.http.client import ServerAway
from fedlab.messages import Banned, Task, Training, Update, local_seed
from fedlab.model import Classifier


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A word every moment, and tries without long waits between them."""
    monkeypatch.setattr(module, "PAUSE", 0.03)
    monkeypatch.setattr("fedlab.http.client.random.uniform", lambda low, high: 0.02)


@pytest.fixture
def make(small):
    """Makes students with 24 digits to train on, and 10 kept aside, and stops them."""
    made = []

    def student(live, session: str = "a session of mine", digits=True, **options) -> Student:
        own = small.subset(np.arange(24)), small.subset(np.arange(100, 110))
        settings = {"digits": own if digits is True else digits, "session": session} | options
        made.append(Student(url_of(live), **settings))
        return made[-1]

    yield student
    for each in made:
        each.stop()


def url_of(live) -> str:
    return f"{live.server.address}J/{live.code}"


def killed(live) -> None:
    """Its server is gone, and nobody was told."""
    live.server._listener.close()
    live.server._listener = None


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def models_of(live) -> dict[int, list]:
    """Every model of the class by its round, as it comes."""
    models = {0: live.federation.weights}
    live.federation._table.on_model = models.__setitem__
    return models


# ---- the address ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, code, base",
    [
        ("http://192.168.1.20:8642/J/K7QXM", None, "http://192.168.1.20:8642/"),
        ("HTTP://192.168.1.20:8642/J/K7QXM", None, "http://192.168.1.20:8642/"),
        (" http://192.168.1.20:8642/j/k7qxm ", None, "http://192.168.1.20:8642/"),
        ("http://192.168.1.20:8642/J/K7QXM/", None, "http://192.168.1.20:8642/"),
        ("http://192.168.1.20:8642/J/K7QXM#drawings", None, "http://192.168.1.20:8642/"),
        ("192.168.1.20:8642/J/K7QXM", None, "http://192.168.1.20:8642/"),
        ("192.168.1.20:8642", "k7qxm", "http://192.168.1.20:8642/"),
        ("192.168.1.20:8642/", "K7-QXM", "http://192.168.1.20:8642/"),
        ("http://192.168.1.20:8642/J/", "K7QXM", "http://192.168.1.20:8642/"),
        ("http://192.168.1.20:8642/J", "K7QXM", "http://192.168.1.20:8642/"),
        ("http://192.168.1.20:8642/J/WRONG", "K7QXM", "http://192.168.1.20:8642/"),
        ("https://lab.example/a/proxy/8642/J/K7QXM", None, "https://lab.example/a/proxy/8642/"),
        ("https://lab.example/a/proxy/8642/", "K7QXM", "https://lab.example/a/proxy/8642/"),
        ("http://[fe80::1]:8642/J/K7QXM", None, "http://[fe80::1]:8642/"),
        ("teacher.local:8642/J/K7QXM", None, "http://teacher.local:8642/"),
    ],
)
def test_what_a_teacher_shows(url, code, base):
    assert split_join_url(url, code) == (base, "K7QXM")


@pytest.mark.parametrize(
    "url, code",
    [
        ("", None),
        ("", "K7QXM"),
        ("http://192.168.1.20:8642/", None),
        ("http://192.168.1.20:8642/K7QXM", None),
        ("http://192.168.1.20:8642/J/", None),
        ("http://192.168.1.20:8642/J/WRONG1", None),
        ("http://192.168.1.20:8642/J/K7QXM", "12345"),
        ("192.168.1.20:8642", 12345),
        ("ftp://192.168.1.20/J/K7QXM", None),
        ("http://:8642/J/K7QXM", None),
        ("http://192.168.1.20:0/J/K7QXM", None),
        ("http://192.168.1.20:99999/J/K7QXM", None),
        ("http://192.168.1.20:port/J/K7QXM", None),
        ("http://[fe80::1/J/K7QXM", None),
        ("file:///J/K7QXM", None),
        (None, None),
        (7, "K7QXM1"),
    ],
)
def test_what_is_no_such_address(url, code):
    with pytest.raises(Refused, match="the address is .*; expected what your teacher shows: http"):
        split_join_url(url, code)
    with pytest.raises(Refused):
        Student(url, code=code)


# ---- taking part ---------------------------------------------------------------------------------


def test_what_it_measures_is_what_an_independent_test_finds(make_class, make):
    live = make_class(epochs=2)
    seen = []
    student = make(live, on_change=seen.append).start()
    train, held = student._digits
    models = models_of(live)
    live.start(3)
    live.wait()
    until(lambda: 3 in live.students()[0].measured)
    (known,) = live.students()
    classifier, alone = Classifier(seed=0), models[0]
    for version in range(4):
        # The class's model, and the one that is only ever trained on its own digits
        right = int((classifier.predict(models[version], held).argmax(1) == held.y).sum())
        by_itself = int((classifier.predict(alone, held).argmax(1) == held.y).sum())
        assert known.measured[version] == Measured(version, right, 10, by_itself)
        if version < 3:
            of = local_seed(live.seed, version + 1, f"{student.seen.client}, alone")
            alone, _ = Classifier().train(alone, train, live.training, of)
    assert bits(student._alone) == bits(alone), "as many rounds of the same training"
    assert (known.first.version, known.last.version) == (0, 3)
    until(lambda: student.seen.last == known.last)
    assert student.seen.first == known.first and share(student.seen.last) == known.last.correct / 10
    assert known.drawn == (24, 10, len(np.unique(train.y))) and seen[-1] == student.seen
    # One client alone in a class: the class's model is what it has trained
    of = local_seed(live.seed, 1, student.seen.client)
    trained, _ = Classifier().train(models[0], train, live.training, of)
    np.testing.assert_allclose(models[1][0], trained[0], rtol=0, atol=1e-7)


def test_it_says_how_it_goes(make_class, make):
    live = make_class()
    student = make(live, digits=None, name="Anna").start()
    assert student.running and student.seen.client == given("a session of mine", ())
    until(lambda: student.seen.told is not None)
    assert (student.seen.doing, student.seen.message) == ("drawing", "waiting for examples")
    assert student.seen.told["phase"] == "waiting" and not student.seen.approved
    live.approve()
    until(lambda: student.seen.approved)
    assert live.federation.status().members == []
    student.stop()
    student.stop()
    assert not student.running and len(live.students()) == 1


def test_other_digits_are_told_and_used(make_class, make, small):
    live = make_class()
    student = make(live).start()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [24])
    student.give(small.subset(np.arange(60)), small.subset(np.arange(300)))
    until(lambda: [m.num_examples for m in live.federation.status().members] == [60])
    until(lambda: live.students()[0].drawn[:2] == (60, 300))
    with pytest.raises(Refused, match="got 0 digits to train on and 10 kept aside"):
        student.give(small.subset(np.arange(0)), small.subset(np.arange(10)))


def test_of_many_kept_aside_the_first_thousand_are_looked_at(make_class, make, mnist, small):
    live = make_class()
    student = make(live, digits=(small, mnist.test)).start()
    until(lambda: live.students()[0].measured)
    assert live.students()[0].last.total == 1_000 and student.running


def test_a_laptop_takes_up_what_the_teacher_deals(make_class, make, mnist):
    live = make_class()
    student = make(live, digits=None, mnist=mnist).start()
    for number in range(2):
        Phone(live, f"another laptop {number}", kind="terminal").enrol()
    assert student.seen.client in live.deal()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [20_000])
    first, last = live.students()[0].shards
    np.testing.assert_array_equal(student._digits[0].rows, mnist.shards(first, last).rows)


def test_who_takes_shards_after_digits_trains_on_them_no_more(make_class, make, mnist):
    live = make_class()
    student = make(live).start()
    until(lambda: live.students()[0].measured and student.seen.first is not None)
    student.take(mnist)
    until(lambda: live.federation.status().members == [] and live.students()[0].uses == "shards")
    assert student.seen.first is None and student.seen.last is None and student.running
    for number in range(2):
        Phone(live, f"another laptop {number}", kind="terminal").enrol()
    live.deal()
    until(lambda: [m.num_examples for m in live.federation.status().members] == [20_000])
    until(lambda: student.seen.last is not None)
    assert student.seen.last.total == student.seen.first.total == 1_000
    until(lambda: live.students()[0].last.total == 1_000)
    assert live.students()[0].uses == "shards" and not live.students()[0].last.drawn
    assert live.curves().students == [0], "nobody's handwriting"


def test_what_is_under_way_when_it_takes_other_examples_belongs_to_none(make_class, make):
    """The model that learned alone from MNIST's shards is none of its handwriting."""
    student = make(make_class())
    student._begins("of shards")
    train, weights = student._classifier.train, student._classifier.weights

    def meanwhile(*about):
        learned = train(*about)
        student._begins("of drawings")
        return learned

    update = Update("me", 1, 24, weights)
    task = Task(1, 7, weights, Training(), version=1, lineage="of shards")
    student._measure(update, task)
    assert student._alone is not None and list(student._measured) == [1]
    student._classifier.train = meanwhile
    student._measure(update, task)
    assert student._alone is None and student._measured == {}
    beginning = student._beginning()
    student._begins("of others")
    student._note(2, weights, beginning)
    assert student._measured == {} and student._untold == []


def test_after_a_new_beginning_what_was_measured_is_over(make_class, make):
    live = make_class(epochs=1)
    student = make(live).start()
    live.start(1)
    live.wait()
    until(lambda: live.students()[0].last and live.students()[0].last.version == 1)
    live.begin_anew()
    until(lambda: list(live.students()[0].measured) == [0])
    until(lambda: student.seen.last is not None and student.seen.last.version == 0)
    live.start(1)
    assert len(live.wait()) == 1 and student.running


def test_a_result_that_the_server_refuses_does_not_end_it(make_class, make):
    """Of a model from before a restart: told too late."""
    live = make_class()
    student = make(live, digits=None).start()
    with student._lock:
        student._untold = [Measured(99, 1, 2), Measured(0, 1, 2)]
    until(lambda: not student._untold)
    student._wake.set()
    until(lambda: student.seen.doing == "drawing" and student.running)


# ---- names ---------------------------------------------------------------------------------------


def test_a_name_is_wished_for(make_class, make):
    live = make_class()
    Phone(live, name="Ben").enrol()
    with pytest.raises(NameTaken, match="the name 'ben' is taken"):
        make(live, name="ben").start()
    with pytest.raises(BadName):
        make(live, name="fuck").start()
    student = make(live, digits=None).start()
    with pytest.raises(NameTaken):
        student.wish("BEN")
    with pytest.raises(BadName):
        student.wish("\u202enneB")
    student.wish("Anna")
    assert [s.wish for s in live.students()] == ["Ben", "Anna"]


def test_who_comes_back_and_finds_its_name_taken_comes_back_without(make_class, make):
    live = make_class()
    student = make(live, name="Anna")
    Phone(live, name="anna").enrol()
    student._back()
    assert student.seen.client and [s.wish for s in live.students()] == ["anna", ""]


# ---- what may happen -----------------------------------------------------------------------------


def test_after_a_restart_it_is_back_under_its_name_and_goes_on(make_class, make):
    first = make_class(code="K7QXM", epochs=1)
    student = make(first).start()
    until(lambda: first.federation.status().members)
    first.start(1)
    first.wait()
    name = student.seen.client
    killed(first)
    until(lambda: student.seen.doing == "away")
    assert "no class answers at http://127.0.0.1" in student.seen.message and student.running
    second = make_class(code="K7QXM", port=first.server.port, epochs=1)
    until(lambda: second.federation.status().members)
    assert [s.client for s in second.students()] == [name]
    second.start(2)
    assert [list(record.clients) for record in second.wait()] == [[name], [name]]
    until(lambda: 2 in second.students()[0].measured)
    assert student.error is None and student.seen.first.version == 0


def test_who_is_removed_is_out_and_may_come_again(make_class, make):
    live = make_class(epochs=1)
    student = make(live).start()
    until(lambda: live.federation.status().members)
    live.remove(student.seen.client)
    until(lambda: not student.running)
    assert student.seen.doing == "out" and isinstance(student.error, Removed)
    assert student.seen.message.startswith("your teacher has removed you")
    assert live.federation.status().members == [] and live.students() == []
    student.come_again()
    assert student.running and student.error is None
    student.come_again()  # it is in
    until(lambda: live.federation.status().members)
    live.start(1)
    assert list(live.wait().last.clients) == [student.seen.client]


def test_who_is_banned_is_out(make_class, make):
    live = make_class()
    student = make(live, digits=None).start()
    live.remove(student.seen.client, ban=True)
    until(lambda: not student.running)
    assert isinstance(student.error, Banned)
    with pytest.raises(Banned):
        student.come_again()
    assert live.students() == []


def test_who_cannot_come_in_is_told_and_leaves_no_thread(make_class, make):
    live = make_class(students=1)
    before = set(threading.enumerate())
    wrong = "22222" if live.code != "22222" else "33333"
    with pytest.raises(WrongCode, match="is not this class's"):
        Student(live.server.address, code=wrong).start()
    Phone(live).enrol()
    with pytest.raises(Full):
        make(live).start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerAway, match="expected the teacher's computer there"):
        Student(f"127.0.0.1:{port}/J/K7QXM").start()
    names = {t.name for t in set(threading.enumerate()) - before}
    assert not any(name.startswith(("fedlab-student", "fedlab-client")) for name in names)


@pytest.mark.parametrize("trouble", ["tell", "enrol", "model"])
def test_a_server_in_trouble_is_asked_again(make_class, make, monkeypatch, trouble):
    """An error of its own, one of the network: it passes."""
    live = make_class()
    student = make(live).start()
    until(lambda: live.students()[0].measured)

    def fails(*of, **more):
        raise OSError("no such thing")

    if trouble == "model":
        monkeypatch.setattr(student._http, "get", _broken)
        student._measured.clear()
    else:
        monkeypatch.setattr(live.server.app.logger, "exception", lambda *of: None)
        monkeypatch.setattr(live, trouble, fails)
    if trouble == "enrol":
        live._access.revoke(student.seen.client)
    student._wake.set()
    until(lambda: student.seen.doing == "away")
    monkeypatch.undo()
    monkeypatch.setattr(module, "PAUSE", 0.03)
    student._wake.set()
    until(lambda: student.seen.doing == "ready")
    assert student.running and student.error is None


def _broken(*of, **more):
    raise requests.ConnectionError("cut off")


def test_while_others_have_guessed_too_often_it_waits(make_class, make):
    """Of the same address, as behind one router, after a restart: it is not out."""
    live = make_class()
    student = make(live, digits=None).start()
    guess = Phone(live, address="127.0.0.1")
    for _ in range(10):
        guess.ask(code="WRONG")
    live._roster = Roster()
    live._access.revoke(student.seen.client)
    until(lambda: student.seen.doing == "away")
    assert student.seen.message.startswith("too many wrong codes from here")
    live._tries._by_address.clear()
    until(lambda: student.seen.doing == "drawing")
    assert student.running


def test_when_the_class_is_over_it_is_out(make_class, make):
    live = make_class()
    student = make(live).start()
    until(lambda: live.federation.status().members)
    live.server._linger = 5
    live.close()
    until(lambda: not student.running)
    assert (student.seen.doing, student.seen.message) == ("out", "the class is over")
    assert student.error is None


def test_who_has_no_digits_yet_hears_too_that_the_class_is_over(make_class, make):
    live = make_class()
    live._last_words = 5.0
    student = make(live, digits=None).start()
    until(lambda: student.seen.told)
    live.close()
    until(lambda: not student.running)
    assert (student.seen.doing, student.seen.message) == ("out", "the class is over")
    assert student.error is None


def test_the_word_that_the_class_is_over_is_the_last_thing_it_asks_for(make_class, make):
    """Before, it then fetched the last model, found nobody there any more, and took the class for
    one that it has to wait for.
    """
    live = make_class()
    live._last_words, heard, fetched = 5.0, [], []
    student = make(live)
    ask = student._ask

    def hearing(path, said, **options):
        told = ask(path, said, **options)
        heard.append(told.get("phase"))
        return told

    student._ask, student._measure_the_latest = hearing, lambda: fetched.append(heard[-1])
    student.start()
    until(lambda: fetched)  # nothing is measured: a model to fetch at every word
    live.close()
    until(lambda: not student.running)
    assert (student.seen.doing, student.seen.message) == ("out", "the class is over")
    assert heard[-1] == "over" and set(fetched) == {"waiting"}


def test_who_leaves_says_so(make_class, make):
    live = make_class()
    student = make(live, digits=None).start()
    until(lambda: student.seen.told)
    student.stop()
    assert [s.doing for s in live.students()] == ["away"]
    student.come_again()
    until(lambda: [s.doing for s in live.students()] == ["drawing"])


def test_its_token_is_nowhere_to_be_seen(make_class, make):
    live = make_class()
    student = make(live, name="Anna", digits=None).start()
    assert student._token not in repr(student.seen) and len(student._token) >= 32
    assert student._session_name not in repr(student.seen)


def test_in_half_precision_it_takes_part_all_the_same(make_class, make):
    live = make_class(epochs=1, half=True)
    student = make(live).start()
    live.start(1)
    live.wait()
    until(lambda: 1 in live.students()[0].measured)
    assert student.seen.told["half"] and live.history.last.bytes_up < 500_000
