"""A live class: the run that the teacher leads, against numbers worked out by hand; and a student's
script that tries everything it may not do.
"""

import contextlib
import csv
import io
import math
import socket
import threading
import time

import numpy as np
import pytest
from live_class import Phone, phones, quick, until

import fedlab
from fedlab import wire
from fedlab.checks import Refused
from fedlab.classroom import live as module
from fedlab.classroom.live import LiveClass
from fedlab.messages import Training, Update
from fedlab.model import Classifier
from fedlab.strategies import weighted_mean


def played(live, *every: Phone, step: float = 0.001) -> list:
    """Everyone's answer to the round under way: what they have sent."""
    return [phone.play(step * (number + 1)) for number, phone in enumerate(every)]


def ended(live, rounds: int) -> None:
    until(lambda: len(live.history) == rounds)


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def drivers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fedlab-classroom")]


# ---- alike, and by images ------------------------------------------------------------------------


@pytest.mark.parametrize("weigh", ["alike", "images"])
def test_a_round_of_unequal_clients_by_hand(make_class, weigh):
    live = make_class(weigh=weigh, minimum=3)
    every = phones(live, 3)
    for phone, count in zip(every, (24, 5_000, 60), strict=True):
        phone.join(count)
    live.start(1)
    sent = played(live, *every, step=0.01)
    live.wait()
    counts = [1, 1, 1] if weigh == "alike" else [24, 5_000, 60]
    for place, found in enumerate(live.federation.weights):
        terms = [n * np.float64(w[place]) for n, w in zip(counts, sent, strict=True)]
        np.testing.assert_allclose(found, sum(terms) / sum(counts), rtol=0, atol=1e-7)
    if weigh == "images":
        order = sorted(zip([p.client for p in every], (24, 5_000, 60), sent, strict=True))
        mean, _ = weighted_mean([Update(name, 1, n, w) for name, n, w in order])
        assert bits(live.federation.weights) == bits(mean), "FedAvg, bit for bit"
    assert live.federation.state.num_examples == 24 + 5_000 + 60


# ---- the run -------------------------------------------------------------------------------------


def test_rounds_are_played_with_whoever_is_there(make_class):
    live = make_class(minimum=2)
    assert (live.phase, live.round, live.rounds, live.pausing) == ("waiting", 0, 0, False)
    one, two = phones(live, 2)
    live.start(3)
    assert live.phase == "running" and live.rounds == 3
    for number in (1, 2, 3):
        task = two.task()
        assert (task.round, task.version, task.training) == (number, number - 1, live.training)
        played(live, one, two)
    history = live.wait()
    assert [record.round for record in history] == [1, 2, 3] and live.phase == "waiting"
    assert all(set(r.clients) == {one.client, two.client} for r in history)
    assert not drivers()
    # Three more
    live.start(2)
    assert live.rounds == 5
    for _ in range(2):
        played(live, one, two)
    assert [record.round for record in live.wait()] == [1, 2, 3, 4, 5]


def test_a_round_waits_until_enough_are_ready(make_class):
    live = make_class(minimum=2)
    (one,) = phones(live, 1)
    live.start(1)
    assert one.fetch(0.1).status_code == 204
    two = Phone(live).enrol().join()
    played(live, one, two)
    assert len(live.wait()) == 1


def test_who_comes_late_takes_part_from_the_next_round_on(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(2)
    assert one.task().round == 1
    late = Phone(live).enrol().join()
    assert late.fetch(0).status_code == 204
    played(live, one)
    assert late.task().round == 2
    played(live, one, late)
    assert [len(record.clients) for record in live.wait()] == [1, 2]


def test_a_pause_comes_after_the_round_and_start_goes_on_with_the_rest(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(3)
    one.task()
    live.pause()
    live.pause()
    assert live.phase == "running" and live.pausing and one.tell()["phase"] == "running"
    played(live, one)
    until(lambda: live.phase == "paused")
    assert len(live.wait()) == 1 and not live.pausing and one.tell()["phase"] == "paused"
    assert one.fetch(0).status_code == 204 and not drivers()
    live.start(7)  # the rest: not seven
    assert live.rounds == 3
    played(live, one)
    played(live, one)
    assert len(live.wait()) == 3 and live.phase == "waiting"


def test_a_pause_that_has_not_begun_is_taken_back(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(2)
    one.task()
    live.pause()
    live.start(5)
    assert not live.pausing
    played(live, one)
    played(live, one)
    assert len(live.wait()) == 2


def test_a_pause_while_a_round_waits_for_students_is_at_once(make_class):
    live = make_class(minimum=2)
    phones(live, 1)
    live.start(2)
    until(lambda: live.federation.status().message.startswith("waiting"))
    live.pause()
    until(lambda: live.phase == "paused")
    assert len(live.wait()) == 0 and live.rounds == 2 and not drivers()


def test_a_round_that_waits_for_students_waits_for_fewer_when_the_teacher_says_so(make_class):
    live = make_class(minimum=3)
    one, two = phones(live, 2)
    live.start(2)
    until(lambda: live.federation.status().message.startswith("waiting"))
    live.set_waiting(minimum=2)
    played(live, one, two)
    # Of the round under way nothing changes: the next one has the new deadline
    one.task(), two.task()
    live.set_waiting(deadline=5)
    assert live.phase == "running" and (live.minimum, live.deadline) == (2, 5)
    played(live, one, two)
    assert [record.round for record in live.wait()] == [1, 2] and live.rounds == 2
    for wrong in ({"minimum": 0}, {"minimum": 2.5}, {"deadline": 0}, {"deadline": math.nan}):
        with pytest.raises(Refused, match="expected"):
            live.set_waiting(**wrong)
    assert (live.minimum, live.deadline) == (2, 5)


def test_a_pause_without_a_run_is_nothing(make_class):
    live = make_class()
    live.pause()
    assert live.phase == "waiting"
    (one,) = phones(live, 1)
    live.start(1)
    played(live, one)
    assert len(live.wait()) == 1


def test_one_round_is_one_round(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.one_round()
    one.task()
    live.one_round()  # while it is played: nothing
    live.start(5)
    played(live, one)
    assert len(live.wait()) == 1 and live.rounds == 1
    live.one_round()
    played(live, one)
    assert len(live.wait()) == 2 and live.phase == "waiting"


def test_second_presses_change_nothing(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.stop()
    live.start(2)
    live.start(9)
    live.one_round()
    assert live.rounds == 2 and len(drivers()) == 1
    played(live, one)
    played(live, one)
    assert len(live.wait()) == 2
    live.stop()
    live.stop()
    assert live.phase == "waiting" and len(live.history) == 2


def test_stopping_drops_the_round_and_keeps_what_was_learned(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(3)
    played(live, one)
    task = one.task()
    weights = bits(live.federation.weights)
    live.stop()
    assert live.phase == "waiting" and len(live.wait()) == 1 and not drivers()
    assert bits(live.federation.weights) == weights
    assert one.send(task, task.weights).status_code == 409
    live.start(1)
    assert live.rounds == 2
    played(live, one)
    assert [record.round for record in live.wait()] == [1, 2]


def test_stopping_while_nobody_is_there_is_at_once(make_class):
    live = make_class()
    live.start(2)
    live.stop()
    assert live.phase == "waiting" and len(live.history) == 0 and not drivers()


def test_start_and_stop_by_many_at_once_leave_one_run_or_none(make_class):
    """Whoever presses, and when: no two drivers, no deadlock, and it can go on afterwards."""
    live = make_class()
    (one,) = phones(live, 1)

    def press():
        for _ in range(5):
            live.start(2)
            live.pause()
            live.tell(one.client, {})
            live.start(1)
            live.curves()
            live.stop()

    pressing = [threading.Thread(target=press) for _ in range(4)]
    for thread in pressing:
        thread.start()
    for thread in pressing:
        thread.join(60)
        assert not thread.is_alive()
    live.stop()
    assert not drivers() and live.phase == "waiting" and live.trouble == ""
    live.start(1)
    played(live, one)
    live.wait()


@pytest.mark.parametrize("rounds", [0, -1, 1.0, True, "5", None, 10_001])
def test_rounds_that_cannot_be(make_class, shared, rounds):
    with pytest.raises(Refused, match="rounds is .*; expected a whole number from 1 to 10,000"):
        shared.start(rounds)
    assert shared.phase == "waiting"


def test_waiting_has_an_end(make_class):
    live = make_class()
    live.start(1)
    with pytest.raises(TimeoutError, match="the rounds did not end within 0.05 s"):
        live.wait(0.05)
    live.stop()


def test_what_goes_wrong_is_kept_and_said_and_a_new_start_forgets_it(make_class, monkeypatch):
    live = make_class()
    (one,) = phones(live, 1)

    def fails():
        raise OSError("the disk is full")

    monkeypatch.setattr(live.federation, "wait", fails)
    live.start(1)
    with pytest.raises(Refused, match="the disk is full"):
        live.wait()
    assert live.trouble == "the disk is full" and live.phase == "waiting" and not drivers()
    monkeypatch.undo()
    live.federation.stop()
    live.start(1)
    assert live.trouble == ""
    played(live, one)
    assert len(live.wait()) == 1


# ---- who does not answer -------------------------------------------------------------------------


def test_who_never_answers_costs_one_deadline_and_is_not_waited_for_again(make_class):
    live = make_class(deadline=0.3)
    one, silent = phones(live, 2)
    live.start(2)
    silent.task()
    played(live, one)
    until(lambda: silent.client not in [m.client for m in live.federation.status().members])
    assert live.history.last.note.endswith(f"went on without {silent.client}")
    live.stop()
    live.deadline = 60
    live.start(1)
    played(live, one)
    assert list(live.wait().last.clients) == [one.client], "and not after a minute"
    # Its next word brings it back
    answer = silent.fetch(0)
    assert (answer.status_code, answer.json["kind"]) == (404, "unknown_client")
    silent.join()
    live.start(1)
    played(live, one, silent)
    assert len(live.wait().last.clients) == 2


def test_a_round_of_which_nothing_comes_is_noted_and_dismisses_only_the_silent(make_class):
    live = make_class(minimum=3)
    one, two, bad = phones(live, 3)
    before = bits(live.federation.weights)
    live.start(1)
    task = bad.task()
    assert bad.send(task, [np.full_like(w, 1e30) for w in task.weights]).status_code == 202
    played(live, one, two)
    record = live.wait().last
    assert record.note.startswith("rejected: ") and bad.client in record.note
    assert bits(live.federation.weights) == before and live.federation.model[0] == 0
    assert len(live.federation.status().members) == 3, "they have all answered"
    live.start(1)
    played(live, one, two, bad)
    assert live.wait().last.note == "" and live.federation.model[0] == 1


def test_a_round_without_any_answer_is_abandoned_and_the_class_goes_on(make_class):
    live = make_class(deadline=0.2)
    (one,) = phones(live, 1)
    live.start(2)
    one.task()
    until(lambda: one.fetch(0).status_code == 404)
    assert live.history.last.note.startswith("abandoned: ")
    assert live.phase == "running", "it waits for somebody who is there"
    live.stop()
    live.deadline = 20
    one.join()
    live.start(1)
    played(live, one)
    assert live.wait().last.note == ""


def test_who_sleeps_leaves_the_round_and_is_back_in_a_later_one(make_class):
    live = make_class(deadline=60)
    one, sleeper = phones(live, 2)
    live.start(2)
    sleeper.task()
    assert sleeper.call("DELETE", f"/clients/{sleeper.client}").status_code == 204
    played(live, one)
    assert one.task().round == 2
    sleeper.join()
    played(live, one)
    live.wait()
    live.start(1)
    played(live, one, sleeper)
    assert [len(record.clients) for record in live.wait()][0::2] == [1, 2]


def test_who_is_removed_in_a_round_is_not_waited_for(make_class):
    live = make_class(deadline=60)
    one, two = phones(live, 2)
    live.start(1)
    two.task()
    played(live, one)
    live.remove(two.client)
    assert list(live.wait().last.clients) == [one.client]
    with pytest.raises(Refused, match="there is no student"):
        live.remove(two.client)


# ---- the class -----------------------------------------------------------------------------------


def test_shards_are_dealt_to_the_laptops_disjoint_and_whole(make_class):
    live = make_class()
    phone = Phone(live).enrol()
    assert live.deal() == {}
    laptops = [Phone(live, kind=k).enrol() for k in ("notebook", "terminal", "notebook")]
    dealt = live.deal()
    assert set(dealt) == {laptop.client for laptop in laptops}
    rows = [live.mnist.shards(*dealt[laptop.client]).rows for laptop in laptops]
    assert sorted(np.concatenate(rows)) == list(range(60_000))
    for laptop in laptops:
        assert laptop.tell()["shards"] == list(dealt[laptop.client])
    assert phone.tell()["shards"] is None
    for _ in range(10):
        Phone(live, kind="terminal").enrol()
    with pytest.raises(Refused, match="there are 13 laptops and 12 shards"):
        live.deal()
    assert laptops[0].tell()["shards"] == list(dealt[laptops[0].client]), "as they were"


def test_who_trains_with_drawings_is_dealt_none(make_class):
    live = make_class()
    drawing, undecided, taking = (Phone(live, kind="notebook").enrol() for _ in range(3))
    drawing.tell(uses="drawings")
    taking.tell(uses="shards")
    assert live.deal() == {undecided.client: (1, 6), taking.client: (7, 12)}
    # Who draws after all gives its shards back, as soon as they are dealt again
    undecided.tell(uses="drawings")
    assert live.deal() == {taking.client: (1, 12)} and undecided.tell()["shards"] is None


def test_names_are_shown_when_the_teacher_says_so(make_class):
    live = make_class()
    one, two = Phone(live, name="Anna").enrol(), Phone(live, name="Ben").enrol()
    assert (live.shown(one.client), live.shown("ada")) == (one.client, "ada")
    assert set(live.results()) == {one.client, two.client}
    live.approve(one.client)
    assert (live.shown(one.client), live.shown(two.client)) == ("Anna", two.client)
    live.approve()
    live.rename(one.client, "Anna B")
    assert set(live.results()) == {"Anna B", "Ben"} and one.tell()["approved"]
    with pytest.raises(Refused, match="there is no student"):
        live.approve("nobody")
    # Nowhere in what everybody may ask for is a wish: clients are called as they were given
    for path in ("/status", "/history", "/requests"):
        assert "Anna" not in two.call("GET", path).text


def test_what_is_given_out_is_a_copy(make_class):
    live = make_class()
    one = Phone(live).enrol()
    one.measure(0, 3)
    (student,) = live.students()
    student.wish, student.doing = "Mallory", "away"
    student.measured.clear()
    assert live.students()[0].measured and live.shown(one.client) == one.client
    assert one.session not in repr(live.students()) + repr(live)


def test_curves_are_means_by_hand(make_class):
    live = make_class(minimum=2)
    one, two = phones(live, 2)
    curves = live.curves()
    assert (curves.rounds, curves.students) == ([0], [0]) and math.isnan(curves.ours[0])
    untrained = live.history.untrained
    assert curves.mnist == [untrained] and 0 < untrained < 0.5
    one.measure(0, 1, 4, alone=1)
    two.measure(0, 5, 10, alone=4)
    live.start(2)
    played(live, one, two)
    played(live, one, two)
    live.wait()
    one.measure(1, 3, 4)
    two.measure(2, 8, 10, alone=6)
    assert two.tell()["class_accuracy"] == 0.8
    curves = live.curves()
    assert curves.rounds == [0, 1, 2] and curves.students == [2, 1, 1]
    assert curves.ours == [(1 / 4 + 5 / 10) / 2, 3 / 4, 8 / 10]
    assert curves.alone[0] == (1 / 4 + 4 / 10) / 2 and curves.alone[2] == 0.6
    assert math.isnan(curves.alone[1])
    assert curves.mnist == [untrained, *(record.accuracy for record in live.history)]
    assert live.results()[one.client][0].correct == 1
    first, last = live.results()[two.client]
    assert (first.version, last.version, last.alone) == (0, 2, 6)


def test_a_rejected_round_has_the_model_before_it(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(2)
    task = one.task()
    one.send(task, [np.full_like(w, 1e30) for w in task.weights])
    ended(live, 1)
    played(live, one)
    live.wait()
    one.measure(0, 1)
    one.measure(1, 9)
    assert live.curves().ours == [0.1, 0.1, 0.9], "version 0, 0 and 1"


def test_the_table_as_csv(make_class):
    live = make_class()
    assert live.to_csv().count("\n") == 2
    (one,) = phones(live, 1)
    one.tell(name="=cmd()|x".translate({ord(c): None for c in "=()|"}))
    one.measure(0, 1, 4, alone=2)
    live.start(1)
    played(live, one)
    live.wait()
    rows = list(csv.DictReader(io.StringIO(live.to_csv())))
    assert [row["round"] for row in rows] == ["0", "1"]
    assert (rows[0]["class"], rows[0]["alone"], rows[0]["measured_by"]) == ("0.2500", "0.5000", "1")
    assert (rows[0]["updates"], rows[1]["updates"], rows[1]["class"]) == ("", "1", "")
    assert float(rows[1]["mnist"]) == pytest.approx(live.history.last.accuracy, abs=1e-4)
    assert int(rows[1]["bytes_up"]) > 700_000 and float(rows[1]["seconds"]) >= 0
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_the_model_is_one_file(make_class):
    live = make_class()
    message = wire.unpack(live.model_bytes())
    assert (message.texts["kind"], message.texts["version"]) == ("model", "0")
    assert bits(wire.groups(message.arrays)[""]) == bits(live.federation.weights)


def test_beginning_anew_forgets_what_was_learned_and_nobody(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    one.measure(0, 1)
    lineage = one.tell()["lineage"]
    live.start(3)
    task = one.task()
    with pytest.raises(Refused, match="rounds are being played; expected to stop them first"):
        live.begin_anew()
    played(live, one)
    ended(live, 1)
    one.measure(1, 9)
    one.task()
    live.stop()
    live.begin_anew()
    told = one.tell()
    assert (told["version"], told["round"], told["class_accuracy"]) == (0, 0, None)
    assert told["lineage"] != lineage and told["students"] == 1
    assert live.curves().rounds == [0] and live.results()[one.client] == (None, None)
    assert bits(live.federation.weights) == bits(task.weights)
    live.start(1)
    played(live, one)
    assert [record.round for record in live.wait()] == [1]
    with pytest.raises(Refused, match="begin is 'mnists'; expected 'blank' or 'mnist'"):
        live.begin_anew("mnists")


def test_a_class_that_begins_with_mnist_reads_it(quick_mnist, one_model, monkeypatch):
    """With a tenth of the training, and of the images."""
    small = fedlab.data.Mnist(quick_mnist.train.subset(np.arange(3_000)), quick_mnist.test)
    monkeypatch.setattr(module, "PRETRAINING", Training(epochs=1, batch_size=32))
    with quick(small, begin="mnist") as live:
        assert live.curves().mnist[0] > 0.7 and live.begun_with == "mnist"
        reads = bits(live.federation.weights)
        live.begin_anew("blank")
        assert live.curves().mnist[0] < 0.5
        live.begin_anew("mnist")
        assert bits(live.federation.weights) == reads


# ---- a server that goes and comes ----------------------------------------------------------------


def test_a_class_goes_on_from_its_checkpoint(make_class, tmp_path):
    about = {"code": "K7QXM", "checkpoint": tmp_path / "class.safetensors"}
    live = make_class(**about)
    one, two = phones(live, 2)
    live.start(3)
    for _ in range(3):
        played(live, one, two)
    live.wait()
    learned, curves = bits(live.federation.weights), live.curves()
    live.close()

    live = make_class(**about)
    assert bits(live.federation.weights) == learned and live.round == 3
    assert live.curves().rounds == [0, 1, 2, 3]
    assert live.curves().mnist[1:] == curves.mnist[1:]
    again = phones(live, 2)
    assert [phone.client for phone in again] == [one.client, two.client]
    again[0].measure(3, 7)
    assert live.curves().ours[3] == 0.7 and math.isnan(live.curves().ours[1])
    live.start(1)
    assert live.rounds == 4
    played(live, *again)
    assert [record.round for record in live.wait()] == [1, 2, 3, 4]
    assert live.curves().rounds == [0, 1, 2, 3, 4] and live.to_csv().count("\n") == 6


def test_what_was_forgotten_stays_so_after_a_restart(make_class, tmp_path):
    about = {"checkpoint": tmp_path / "class.safetensors"}
    live = make_class(**about)
    (one,) = phones(live, 1)
    live.start(1)
    played(live, one)
    live.wait()
    untrained = bits(Classifier(seed=0).weights)
    live.begin_anew()
    live.close()
    live = make_class(**about)
    assert (live.round, len(live.history), live.curves().rounds) == (0, 0, [0])
    assert bits(live.federation.weights) == untrained


def test_closing_twice_and_using_a_closed_class(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(5)
    one.task()
    live.close()
    assert live.phase == "over" and not drivers()
    live.close()
    with pytest.raises(Refused, match="the class is over; expected a new one"):
        live.start(1)
    with pytest.raises(Refused, match="the class is over"):
        live.one_round()
    live.pause()
    live.stop()
    assert live.phase == "over" and live.curves().rounds == [0]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", live.server.port), 1)


def test_who_asks_when_it_is_over_hears_it(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live._closed = True
    assert one.tell()["phase"] == "over"
    live._closed = False


def test_closing_waits_until_everybody_has_heard_it(make_class):
    live = make_class()
    live._last_words = 20.0
    one, asleep = Phone(live).enrol(), Phone(live).enrol()
    asleep.tell(doing="asleep")
    closing = threading.Thread(target=live.close)
    closing.start()
    until(lambda: live.phase == "over")
    time.sleep(0.3)
    assert closing.is_alive(), "one may still ask"
    assert one.tell()["phase"] == "over"
    closing.join(10)
    assert not closing.is_alive()


def test_closing_does_not_wait_for_ever(make_class):
    live = make_class()
    live._last_words = 0.3
    Phone(live).enrol()
    began = time.monotonic()
    live.close()
    assert 0.3 <= time.monotonic() - began < 5


def test_where_its_port_is_taken_it_takes_another(make_class, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(module, "PORT", port)
        live = make_class(port=None)
        assert live.server.port not in (0, port) and Phone(live).enrol().token
        with pytest.raises(OSError):
            make_class(port=port)
    monkeypatch.setattr(module, "PORT", live.server.port)
    live.close()
    assert make_class(port=None).server.port == live.server.port, "the same address"


def test_who_comes_in_while_the_server_is_made_waits_for_it(make_class, monkeypatch):
    """After a restart phones are there before the class is."""
    answers, real = [], module.Server

    def server(**about):
        made = real(**about)
        http = made.app.test_client(use_cookies=False)
        fields = {"code": "K7QXM", "session": "a session of before"}
        asks = threading.Thread(
            target=lambda: answers.append(http.post("/students", json=fields).status_code)
        )
        asks.start()
        asks.join(0.2)
        assert asks.is_alive() and not answers
        server.asking = asks
        return made

    monkeypatch.setattr(module, "Server", server)
    make_class(code="K7QXM")
    server.asking.join(10)
    assert answers == [201]


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"code": "K7QX"}, "the code is 'K7QX'; expected 5 of the characters"),
        ({"code": 7}, "the code is '7'; expected 5"),
        ({"begin": "anew"}, "begin is 'anew'; expected 'blank' or 'mnist'"),
        ({"weigh": "n_k"}, "weigh is 'n_k'; expected 'alike' or 'images'"),
        ({"minimum": 0}, "minimum is 0; expected a whole number from 1"),
        ({"minimum": True}, "minimum is True; expected a whole number"),
        ({"students": 1_001}, "students is 1001; expected a whole number from 1 to 1,000"),
        ({"deadline": 0}, "deadline is 0; expected seconds above 0"),
        ({"deadline": math.nan}, "deadline is nan; expected seconds above 0"),
        ({"epochs": 0}, r"epochs \(E\) is 0; expected a whole number"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"learning_rate": -1}, "learning_rate is -1; expected a number above 0"),
    ],
    ids=str,
)
def test_a_class_that_cannot_be(quick_mnist, settings, sentence):
    before = set(threading.enumerate())
    with pytest.raises(Refused, match=sentence):
        LiveClass(quick_mnist, **settings)
    assert set(threading.enumerate()) == before


def test_eight_phones_and_a_teacher_who_presses_everything(make_class):
    """Nobody waits for ever, whoever holds which lock."""
    live = make_class(students=60, deadline=5)
    over, wrong = threading.Event(), []

    def student(number: int) -> None:
        phone = Phone(live, f"the session of phone {number}")
        while not over.is_set():
            try:
                phone.ask(again=True, name=f"Name {number}")
                phone.enrol(again=True)
                phone.call("POST", "/students/me", {"doing": "ready", "name": f"Name {number}"})
                fields = {"client": phone.client, "num_examples": 24}
                phone.call("POST", "/clients", fields)
                phone.fetch(0)
            except Exception as error:
                wrong.append(repr(error))
                return

    def teacher() -> None:
        for press in range(15):
            live.start(2)
            live.approve()
            for known in live.students()[press % 5 :: 7]:
                with contextlib.suppress(Refused):
                    live.remove(known.client)
                    live.rename(known.client, "Somebody")
            live.curves()
            live.to_csv()
            live.pause()
            live.stop()
            live.begin_anew("blank")

    threads = [threading.Thread(target=student, args=(number,)) for number in range(8)]
    pressing = threading.Thread(target=teacher)
    for thread in (*threads, pressing):
        thread.start()
    pressing.join(120)
    stuck = pressing.is_alive()
    over.set()
    for thread in threads:
        thread.join(30)
    assert not stuck and not any(thread.is_alive() for thread in threads)
    assert [text for text in wrong if "removed" not in text] == []
    names = [s.client for s in live.students()]
    assert len(set(names)) == len(names) == len(live._access._tokens) <= 8
    assert {m.client for m in live.federation.status().members} <= set(names)
    live.stop()


# ---- a student's script --------------------------------------------------------------------------


def test_a_script_with_one_valid_code_ends_nothing(make_class):
    """It tries everything that it may not do; the class goes on all the while."""
    live = make_class(students=8, minimum=3, deadline=30)
    one, two = phones(live, 2)
    one.tell(name="Anna")
    live.approve()
    mallory = Phone(live, "the session of Mallory", address="10.0.0.66").enrol().join(24)

    # To speak as another
    for method, path, body, kind in (
        ("GET", f"/task?client={one.client}", None, None),
        ("DELETE", f"/clients/{one.client}", None, None),
        ("DELETE", f"/clients/{one.client}?ban=1", None, None),
        ("POST", "/clients", {"client": one.client, "num_examples": 5}, None),
        ("POST", "/clients", {"client": "Teacher", "num_examples": 5}, None),
        ("POST", "/updates", wire.encode_update(Update(one.client, 1, 5, [])), wire.CONTENT_TYPE),
    ):
        answer = mallory.call(method, path, body, kind)
        assert (answer.status_code, answer.json["kind"]) == (403, "not_yours"), path
    told = mallory.tell(client=one.client, session=one.session, approved=True)
    assert told["client"] == mallory.client and not told["approved"]
    for name in ("Anna", "ＡＮＮＡ", one.client, "\u202eannA", "An\u200bna", "\u1160"):
        answer = mallory.call("POST", "/students/me", {"name": name})
        assert answer.status_code in (400, 409), name

    # Nonsense that was measured
    for said in (
        {"version": 1, "correct": 1, "total": 1},
        {"version": 0, "correct": 1_000_000, "total": 1_000_000},
        {"version": 0, "correct": 7, "total": 6},
        {"version": -1, "correct": 0, "total": 1},
    ):
        answer = mallory.call("POST", "/students/me", {"measured": [said]})
        assert (answer.status_code, answer.json["kind"]) == (400, "refused")
    assert one.tell()["class_accuracy"] is None

    # A flood
    came = [Phone(live, f"flood, session {n}", address="10.0.0.66").ask() for n in range(200)]
    assert [answer.status_code for answer in came] == [201] * 5 + [409] * 195
    assert {answer.json.get("kind") for answer in came[5:]} == {"full"}
    assert len(live.students()) == 8 and len(live._access._tokens) == 8
    live.open = False
    for student in live.students():
        if student.client not in (one.client, two.client, mallory.client):
            live.remove(student.client)
    for number in range(200):
        fields = {"session": f"flood, session {number}", "again": True}
        assert Phone(live, address="10.0.0.66").ask(**fields).json["kind"] == "closed"
    assert len(live.students()) == 3 and one.tell()["students"] == 3

    # Others' state: what everybody may see has no wish, no session, no token
    for path in ("/status", "/history", "/requests", f"/status?client={one.client}"):
        answer = mallory.call("GET", path)
        assert answer.status_code == 200
        secret = ("Anna", one.session, one.token, two.token, live.code, live.server.teacher)
        assert not any(text in answer.text for text in secret), path
    assert mallory.call("GET", f"/students/{one.client}").status_code == 404

    # Weights: NaN is refused at once, 1e30 costs one round, 60,000 examples weigh as 24 do
    live.start(2)
    task = mallory.task()
    for value in (np.nan, np.inf):
        answer = mallory.send(task, [np.full_like(w, value) for w in task.weights])
        assert (answer.status_code, answer.json["kind"]) == (400, "not_finite")
    short = mallory.send(task, task.weights[:2])
    more = mallory.send(task, task.weights, num_examples=60_000)
    of_future = mallory.send(task, task.weights, round=7)
    assert [a.status_code for a in (short, more, of_future)] == [400, 400, 409]
    assert mallory.send(task, [np.full_like(w, 1e30) for w in task.weights]).status_code == 202
    played(live, one, two)
    ended(live, 1)
    assert live.history.last.note.startswith("rejected: ")
    for count in (60_001, 10**9, 0, -1, 1e30, "60000", True):
        fields = {"client": mallory.client, "num_examples": count}
        assert mallory.call("POST", "/clients", fields).status_code == 400
    mallory.join(60_000)
    sent = [mallory.play(0.5), *played(live, one, two)]
    live.wait()
    for place, found in enumerate(live.federation.weights):
        each = np.stack([weights[place] for weights in sent]).astype(np.float64)
        np.testing.assert_allclose(found, each.mean(0), rtol=0, atol=1e-7)

    # And out it goes
    live.remove(mallory.client, ban=True)
    assert mallory.call("POST", "/students/me", {}).status_code == 401
    assert mallory.ask(again=True).json["kind"] == "banned"
    live.minimum = 2
    live.start(1)
    played(live, one, two)
    assert list(live.wait().last.clients) == sorted([one.client, two.client])
    assert live.trouble == "" and live.phase == "waiting"


def test_one_round_of_a_pause_leaves_the_rest_for_later(make_class):
    live = make_class()
    (one,) = phones(live, 1)
    live.start(3)
    one.task()
    live.pause()
    played(live, one)
    until(lambda: live.phase == "paused")
    live.one_round()
    played(live, one)
    until(lambda: live.phase == "paused")
    assert len(live.history) == 2 and live.rounds == 3
    live.start()
    played(live, one)
    assert len(live.wait()) == 3 and live.phase == "waiting"


def test_one_round_of_a_pause_that_waits_is_begun_anew_with_another_minimum(make_class):
    live = make_class(deadline=20)
    (one,) = phones(live, 1)
    live.start(3)
    one.task()
    live.set_waiting(deadline=7)
    assert (live.deadline, live.round_deadline) == (7, 20), "the round under way has its own"
    live.pause()
    played(live, one)
    until(lambda: live.phase == "paused")
    live.set_waiting(minimum=2)
    live.one_round()
    until(lambda: "wait" in live.federation.status().message)
    live.set_waiting(minimum=1)
    played(live, one)
    until(lambda: live.phase == "paused")
    assert len(live.history) == 2 and live.round_deadline == 7 and live._left == 1


def test_whoever_had_to_go_stays_out_from_the_first_moment(make_class, quick_mnist):
    before = make_class()
    one, two = phones(before, 2)
    before.remove(one.client, ban=True)
    again = make_class(code=before.code, before=before)
    with pytest.raises(fedlab.Banned):
        again.enrol({"code": before.code, "session": one.session}, "a")
    assert again.enrol({"code": before.code, "session": two.session}, "a")["client"] == two.client
    other = make_class(before=before)  # with a code of its own it is another class
    assert other.enrol({"code": other.code, "session": one.session}, "a")


def test_shards_are_dealt_to_the_laptops_that_are_here(make_class, monkeypatch):
    live = make_class()
    session = {"code": live.code, "kind": "notebook"}
    names = [live.enrol(session | {"session": f"laptop {n} ..."}, "a")["client"] for n in (1, 2)]
    assert live.deal() == {names[0]: (1, 6), names[1]: (7, 12)}
    live.tell(names[0], {"doing": "away"})
    assert live.deal() == {names[1]: (1, 12)}
    live.tell(names[0], {"doing": "drawing"})
    later = module.time.monotonic() + 60
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    live.tell(names[1], {})
    assert live.deal() == {names[1]: (1, 12)}
    assert [student.shards for student in live.students()] == [None, (1, 12)]
