"""The command `fedlab join`, in real classes: what it prints, and how it ends."""

import threading

import pytest
from live_class import Phone, until
from test_cli import press

from fedlab import cli


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A word every moment."""
    monkeypatch.setattr("fedlab.classroom.student.PAUSE", 0.05)


@pytest.fixture
def beside():
    """Runs something beside the command, and raises what went wrong there."""
    threads, wrong = [], []

    def run(action):
        def guarded():
            try:
                action()
            except BaseException as error:
                wrong.append(error)
                press()  # or the command would never end

        threads.append(threading.Thread(target=guarded))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong, wrong


def url_of(live) -> str:
    return f"{live.server.address}J/{live.code}"


def terminal(live):
    """The student at the terminal, once it has said something."""
    until(lambda: any(s.uses == "shards" for s in live.students()), 180)
    return next(s for s in live.students() if s.uses == "shards")


@pytest.mark.slow
def test_a_laptop_from_its_first_word_to_the_end_of_the_class(make_class, beside, capsys):
    live = make_class(epochs=1, batch_size=100)
    live._last_words = 30.0

    def lesson():
        me = terminal(live).client
        others = [Phone(live, kind="notebook").enrol() for _ in range(11)]
        assert live.deal()[me] == (1, 1)
        until(lambda: live.federation.status().members, 60)
        live.start(1)
        assert list(live.wait(60).last.clients) == [me]
        until(lambda: live.students()[0].last is not None, 60)
        for other in others:
            live.remove(other.client)
        live.close()

    beside(lesson)
    assert cli.main(["join", url_of(live), "--name", "Anna"]) == 0
    out = capsys.readouterr().out
    (me,) = live.students()
    assert out.startswith(f"In the class, as {me.client}. Ctrl-C leaves it.\n")
    assert f"{me.client}: waiting until the teacher deals shards of 5,000 images\n" in out
    assert f"{me.client}, shard 1: " in out and "; the class's model: " in out
    assert me.wish == "Anna" and me.uses == "shards" and not me.last.drawn


def test_who_has_nothing_to_train_on_hears_too_that_the_class_is_over(make_class, beside, capsys):
    """Before, it asked for a server that was gone until somebody pressed Ctrl-C."""
    live = make_class()
    live._last_words = 30.0

    def lesson():
        terminal(live)
        live.close()

    beside(lesson)
    assert cli.main(["join", live.server.address, "--code", live.code.lower()]) == 0
    assert "waiting until the teacher deals shards" in capsys.readouterr().out


def test_a_class_that_is_gone_without_a_word(make_class, beside, capsys, monkeypatch):
    monkeypatch.setattr("fedlab.attending.PATIENCE", 0.5)
    live = make_class()

    def lesson():
        terminal(live)
        live.server._listener.close()
        live.server._listener = None

    beside(lesson)
    assert cli.main(["join", url_of(live)]) == 1
    out, err = capsys.readouterr()
    assert "no class answers at" in out and "no class answers at" in err


def test_ctrl_c_leaves_the_class(make_class, beside, capsys):
    live = make_class()

    def lesson():
        terminal(live)
        press()

    beside(lesson)
    assert cli.main(["join", url_of(live)]) == 130
    assert live.students()[0].doing == "away"
    assert "Traceback" not in "".join(capsys.readouterr())


def test_who_is_removed_is_told_why_it_ends(make_class, beside, capsys):
    live = make_class()

    def lesson():
        live.remove(terminal(live).client, ban=True)

    beside(lesson)
    assert cli.main(["join", url_of(live)]) == 1
    assert "your teacher has banned this device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (lambda live: ["join", live.server.address, "--code", "22222"], 2, "is not this class's"),
        (lambda live: ["join", live.server.address], 2, "expected what your teacher shows"),
        (lambda live: ["join", "http://127.0.0.1:1/J/K7QXM"], 1, "no class answers at"),
        (lambda live: ["join", url_of(live), "--name", "fuck"], 2, "expected"),
    ],
)
def test_what_cannot_be_is_a_sentence(live, capsys, wrong, code, said):
    try:
        found = cli.main(wrong(live))
    except SystemExit as ended:
        found = ended.code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and found == code
    assert live.students() == []
