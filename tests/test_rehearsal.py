"""Simulated phones in a real class."""

import threading

import pytest
from live_class import Phone, until

from fedlab.checks import Refused
from fedlab.classroom.names import given
from fedlab.classroom.rehearsal import rehearse
from fedlab.messages import Full


def url_of(live) -> str:
    return f"{live.server.address}J/{live.code}"


def students() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fedlab-student")]


def test_simulated_phones_take_part(make_class, monkeypatch):
    monkeypatch.setattr("fedlab.classroom.student.PAUSE", 0.05)
    live = make_class(minimum=3, epochs=1)
    came = []
    phones = rehearse(url_of(live), 3, 10, on_phone=came.append)
    try:
        assert phones == came and len({phone.seen.client for phone in phones}) == 3
        assert [s.kind for s in live.students()] == ["phone"] * 3
        # The same every time
        assert phones[1].seen.client == given("rehearsal 0 phone 1", ())
        live.start(1)
        (record,) = live.wait()
        assert {n.num_examples for n in record.clients.values()} == {8}
        assert set(record.clients) == {phone.seen.client for phone in phones}
        until(lambda: all(1 in s.measured for s in live.students()))
        assert live.curves().students == [3, 3]
        assert live.students()[0].last.total == 2, "every fifth is kept aside"
    finally:
        for phone in phones:
            phone.stop()
    assert not students()


def test_who_had_to_go_does_not_come_and_the_others_do(make_class):
    """As when the panel's cell is run again."""
    live = make_class()
    for number, ban in ((0, True), (2, False)):
        live.remove(Phone(live, session=f"rehearsal 0 phone {number}").enrol().client, ban)
    phones = rehearse(url_of(live), 4, 10)
    try:
        names = [given(f"rehearsal 0 phone {number}", ()) for number in (1, 3)]
        assert [phone.seen.client for phone in phones] == names
        assert [student.client for student in live.students()] == names
    finally:
        for phone in phones:
            phone.stop()


def test_where_the_class_refuses_one_none_is_left(make_class):
    live = make_class(students=2)
    Phone(live).enrol()
    with pytest.raises(Full):
        rehearse(url_of(live), 3, 10)
    assert not students() and len(live.students()) == 2


@pytest.mark.parametrize("more", [{"phones": 0}, {"phones": 201}, {"drawings": 9}, {"phones": 1.5}])
def test_numbers_that_cannot_be(shared, more):
    with pytest.raises(Refused, match="expected a whole number"):
        rehearse(url_of(shared), **({"phones": 1, "drawings": 10} | more))
    assert len(shared.students()) == 0
