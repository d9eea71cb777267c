"""A server that is killed and started again on its checkpoint: the same run, to the same end, with
every update counted exactly once. Against an undisturbed run, and numbers worked out by hand.

"Killed" is: nobody tells the first federation to stop, and the second gets a copy of its file.
"""

import json
import math
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from fedlab.checkpoint import digest, load_checkpoint
from fedlab.codecs import codec
from fedlab.federation import Federation
from fedlab.federation.clock import RealTime
from fedlab.federation.members import SILENT_AFTER, sealed
from fedlab.messages import (
    AlreadyCounted,
    BadUpdate,
    Conflict,
    Training,
    UnknownClient,
    Update,
    local_seed,
)
from fedlab.plan import Plan, Progress
from fedlab.strategies import async_average, fed_async, fed_avg, fed_buff
from fedlab.wire import pack, unpack

SIZES = {"alice": 300, "bob": 100, "carol": 600}


def toy(value: float = 0.0) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32)]


def number(federation) -> float:
    return float(federation.weights[0][0, 0])


def trained(task, client: str) -> Update:
    """A client's answer: a function of the task and its seed."""
    rng = np.random.default_rng(local_seed(task.seed, task.round, client))
    return answer(task, client, [w + rng.normal(size=w.shape).astype("f4") for w in task.weights])


def answer(task, client: str, weights) -> Update:
    about = {"version": task.version, "run": task.run}
    return Update(client, task.round, SIZES[client], weights, **about)


def play(federation, *clients, value=None, times=1):
    for _ in range(times):
        for client in clients:
            task = federation.task(client, 5)
            update = trained(task, client)
            federation.report(update if value is None else answer(task, client, toy(value)))


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class Clock(RealTime):
    ahead = 0.0

    def now(self):
        return super().now() + self.ahead


@pytest.fixture
def server(tmp_path):
    """Starts servers: the first, and others on a copy of the file of the one before."""
    made, clocks = [], []

    def started(strategy=None, joined=tuple(SIZES), shards=1, checkpoint=True, **settings):
        path = tmp_path / f"{len(made)}.safetensors"
        known = {}
        if checkpoint and made and (before := tmp_path / f"{len(made) - 1}.safetensors").exists():
            shutil.copy(before, path)
            known = dict(zip(("state", "history"), load_checkpoint(path), strict=True))
        clocks.append(Clock())
        about = {"checkpoint": path, "clock": clocks[-1], "seed": 3} | known | settings
        federation = Federation(toy(), strategy or fed_avg(), **about)
        federation.clock, federation.path = clocks[-1], path
        made.append(federation)
        for client in joined:
            federation.join(client, SIZES[client], shards)
        return federation

    yield started
    for federation in made:
        federation.close(grace=0)


# ---- rounds --------------------------------------------------------------------------------------


def test_ten_rounds_killed_after_the_fourth_end_at_ten_as_if_nothing_had_been(server):
    undisturbed = server(checkpoint=False)
    undisturbed.start(Plan(10))
    play(undisturbed, *SIZES, times=10)
    undisturbed.wait()

    first = server(checkpoint=False)
    first.start(Plan(10))
    play(first, *SIZES, times=4)
    until(lambda: len(first.history) == 4)
    flying = trained(first.task("alice", 5), "alice")  # of round 5, when the server is killed

    second = server()
    with pytest.raises(Conflict, match="no run is going on"):
        second.report(flying)
    second.start(Plan(10))
    assert second.status().rounds == 10
    until(lambda: second.status().round == 5)
    second.report(flying)
    with pytest.raises(AlreadyCounted):
        second.report(flying)
    play(second, "bob", "carol")
    play(second, *SIZES, times=5)
    history = second.wait()
    assert [record.round for record in history] == list(range(1, 11))
    assert second.weights[0].tobytes() == undisturbed.weights[0].tobytes()
    assert second.state.num_examples == 10 * 1000


@pytest.mark.parametrize("how", ["finished", "stopped", "target"])
def test_a_run_that_has_ended_is_followed_by_another_with_rounds_of_its_own(server, how):
    first = server(evaluate=lambda weights: (1.0, 0.9))
    first.start(Plan(2 if how == "finished" else 9, target=0.5 if how == "target" else None))
    old = first.task("alice", 5)
    play(first, *SIZES)
    if how == "finished":
        play(first, *SIZES)
    if how == "stopped":
        until(lambda: len(first.history) == 1)
        assert load_checkpoint(first.path)[0].progress.run == old.run
        first.stop()
    rounds = len(first.wait())
    assert load_checkpoint(first.path)[0].progress == Progress()
    second = server()
    second.start(Plan(2 if how == "finished" else 9))
    assert second.status().rounds == rounds + (2 if how == "finished" else 9)
    assert second.task("alice", 5).run not in ("", old.run)


def test_the_last_round_is_written_as_the_end(server, monkeypatch):
    """In one piece: not first the round, and then that it was the last."""
    federation, written = server(), []
    save = federation._table.save
    monkeypatch.setattr(
        federation._table, "save", lambda *about: written.append(about[0].progress) or save(*about)
    )
    federation.start(Plan(2))
    play(federation, *SIZES, times=2)
    federation.wait()
    assert [bool(progress.run) for progress in written] == [True, False]


def test_another_plan_is_another_run(server):
    first = server()
    first.start(Plan(4))
    play(first, *SIZES)
    until(lambda: len(first.history) == 1)
    run = first.task("alice", 5).run
    for plan, rounds in ((Plan(7), 8), (Plan(4, Training(2)), 5), (Plan(4, deadline=60), 4)):
        again = server()
        again.start(plan)
        assert again.status().rounds == rounds
        assert (again.task("alice", 5).run == run) == (rounds == 4)  # a deadline changes no update
        shutil.copy(first.path, again.path)


def test_another_codec_is_another_run_and_who_has_trained_for_the_first_fetches_again(server):
    """As a 400 it would be a fault of its client's, which would leave."""
    first = server()
    first.start(Plan(4, codec=codec("quantise-2")))
    task = first.task("alice", 5)
    sent, _ = codec("quantise-2").encode(toy(1), toy(), seed=1)
    for client in SIZES:
        first.report(replace(answer(task, client, sent), codec="quantise-2"))
    until(lambda: len(first.history) == 1)
    flying = replace(answer(first.task("alice", 5), "alice", sent), codec="quantise-2")

    again = server()
    again.start(Plan(4, codec=codec("sign")))
    until(lambda: again.status().participants)
    with pytest.raises(Conflict, match="of an earlier run; expected its client to fetch a task"):
        again.report(flying)
    assert again.task("alice", 5).run != flying.run


def test_after_an_error_the_same_plan_begins_a_new_run_here_and_goes_on_after_a_restart(server):
    first = server()
    first.start(Plan(3))
    play(first, *SIZES)
    until(lambda: len(first.history) == 1)
    first.fail(OSError("the cable"))
    with pytest.raises(OSError, match="the cable"):
        first.wait()
    second = server()
    second.start(Plan(3))
    first.start(Plan(3))
    assert (first.status().rounds, second.status().rounds) == (4, 3)


def test_a_checkpoint_of_an_earlier_library_still_loads(server):
    first = server()
    first.start(Plan(1))
    play(first, *SIZES)
    first.wait()
    message = unpack(first.path.read_bytes())
    del message.texts["progress"]
    message.texts["digest"] = digest(message)
    first.path.write_bytes(pack(message))
    second = server()
    assert second.state.progress == Progress() and len(second.history) == 1
    second.start(Plan(2))
    assert second.status().rounds == 3


# ---- whose update it is --------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
def test_an_update_for_another_server_is_refused(server, strategy):
    """The server was started again without its checkpoint: the round has the same number."""
    first = server(strategy())
    first.start(Plan(3))
    flying = trained(first.task("alice", 5), "alice")
    second = server(strategy(), checkpoint=False)
    second.start(Plan(3))
    assert second.task("alice", 5).round == flying.round == 1
    with pytest.raises(Conflict, match="for round 1 of an earlier run; expected its client to"):
        second.report(flying)
    assert second.weights[0].tobytes() == toy()[0].tobytes() and not second.state.num_examples


def test_an_update_names_its_run_and_a_guest_has_none(server):
    federation = server(async_average(), joined=["alice"])
    federation.start(Plan(3))
    federation.task("alice", 5)
    with pytest.raises(BadUpdate, match="'alice' for round 1 that names no run; expected that of"):
        federation.report(Update("alice", 1, 300, toy(1)))
    assert not federation.state.num_examples
    federation.join("guest", 100, guest=True)
    federation.report(Update("guest", 1, 100, toy(1)))
    assert federation.state.num_examples == 100


# ---- without rounds ------------------------------------------------------------------------------


def test_an_update_whose_answer_was_lost_is_counted_once_across_a_restart(server):
    """300 of 1 and 100 of 5 make 2; had alice's first come twice, it would be 1.57."""
    first = server(async_average(), shards=2)
    first.start(Plan(1))
    update = answer(first.task("alice", 5), "alice", toy(1))
    first.report(update)
    play(first, "bob", value=5)
    until(lambda: len(first.history) == 2)

    second = server(async_average(), joined=[])
    second.start(Plan(1))
    with pytest.raises(UnknownClient):
        second.report(update)
    second.join("alice", 300, 2)
    with pytest.raises(AlreadyCounted):
        second.report(update)
    assert number(second) == 2 and second.state.num_examples == 400
    second.join("bob", 100, 2)
    second.join("carol", 600, 2)
    assert [second.task(name, 5).round for name in SIZES] == [2, 2, 1]
    play(second, "alice", "bob", "carol", "carol", value=2)
    assert len(second.wait()) == 6 and second.state.num_examples == 2 * 1000
    assert number(second) == pytest.approx(2)


def test_an_update_that_is_in_flight_over_the_restart_is_counted_once(server):
    first = server(async_average(), shards=2)
    first.start(Plan(1))
    play(first, "alice", value=1)
    until(lambda: len(first.history) == 1)
    flying = answer(first.task("alice", 5), "alice", toy(3))
    second = server(async_average(), shards=2)
    second.start(Plan(1))
    second.report(flying)
    with pytest.raises(AlreadyCounted):
        second.report(flying)
    assert number(second) == 2 and second.state.num_examples == 600


def test_counts_are_those_of_the_model_that_was_written(server):
    """Testing lags behind merging. What was merged and not written is lost in a crash, and must not
    be counted as done.
    """

    def evaluate(weights):
        until(lambda: weights[0][0, 0] == 1 or federation.path.name == "gone", 60)
        return 1.0, 0.5

    federation = server(async_average(), shards=2, evaluate=evaluate)
    federation.start(Plan(1))
    play(federation, "alice", value=1)
    until(lambda: len(federation.history) == 1)
    play(federation, "bob", "carol", "alice", value=7)
    state, history = load_checkpoint(federation.path)
    counts = {client: done for client, (_, done) in state.progress.done.items()}
    assert counts == {"alice": 1, "bob": 0, "carol": 0}
    assert sum(record.num_examples for record in history) == state.num_examples == 300
    federation.path = federation.path.with_name("gone")


def test_who_has_the_name_but_not_the_session_begins_at_the_beginning(server):
    first = server(async_average(), joined=[])
    first.join("alice", 300, 3, session="hers")
    first.start(Plan(1))
    play(first, "alice", value=1, times=2)
    until(lambda: len(first.history) == 2)
    for session, round in (("hers", 3), ("another", 1)):
        again = server(async_average(), joined=[])
        again.start(Plan(1))
        again.join("alice", 300, 3, session=session)
        assert again.task("alice", 5).round == round
        shutil.copy(first.path, again.path)


def test_who_has_left_begins_at_the_beginning_too(server):
    first = server(async_average(), shards=2)
    first.start(Plan(1))
    play(first, "alice", value=1)
    first.leave("alice")
    play(first, "bob", value=1)
    until(lambda: len(first.history) == 2)
    assert sorted(load_checkpoint(first.path)[0].progress.done) == ["bob", "carol"]
    second = server(async_average(), shards=2)
    second.start(Plan(1))
    assert [second.task(name, 5).round for name in SIZES] == [1, 2, 1]


def test_a_run_that_goes_on_waits_for_those_who_are_not_back_yet(server):
    first = server(async_average(), joined=["alice", "bob"])
    first.start(Plan(1))
    play(first, "alice", value=1)
    until(lambda: len(first.history) == 1)
    for back in (True, False):
        second = server(async_average(), joined=["alice"])  # who is done
        second.start(Plan(1))
        assert second.task("alice", 0.1) is None and second.running
        if back:
            second.join("bob", 100)
            play(second, "bob", value=1)
        else:
            second.clock.ahead = SILENT_AFTER
            second.join("alice", 300)  # whoever waits looks at the clock again
        assert len(second.wait()) == 1 + back
        shutil.copy(first.path, second.path)


def test_fed_buff_measures_a_change_from_the_model_that_it_was_trained_from_or_refuses_it(server):
    """With a buffer of one: alice's 5 from model 1, which is 1, is a change of 4; bob's 2 comes
    between, a change of 1, so that hers counts half: 1 + 1 + 4 / 2 = 4.
    """
    strategy = fed_buff(1, damping=1.0)
    first = server(strategy, shards=9)
    first.start(Plan(1))
    late = answer(first.task("carol", 5), "carol", toy(9))  # from model 0, which is not kept
    play(first, "bob", value=1)
    until(lambda: len(first.history) == 1)
    flying = answer(first.task("alice", 5), "alice", toy(5))
    second = server(strategy, shards=9)
    second.start(Plan(1))
    play(second, "bob", value=2)
    second.report(flying)
    assert number(second) == 4
    with pytest.raises(Conflict, match="trained from model 0; expected model 1"):
        second.report(late)
    play(second, "carol", value=4)  # she fetches, trains, and is counted
    assert number(second) == 4


def test_versions_go_on_so_that_none_is_of_two_models(server):
    def evaluate(weights):
        return math.inf if weights[0][0, 0] > 9 else 1.0, 0.5

    first = server(fed_async(0.5), shards=9, evaluate=evaluate)
    first.start(Plan(1, strict=False))
    play(first, "bob", value=1)
    until(lambda: len(first.history) == 1)
    play(first, "alice", value=1e30)
    until(lambda: len(first.history) == 2)
    version = first.task("alice", 5).version
    assert version == 3  # bob's, the one that was rejected, and bob's again
    second = server(fed_async(0.5), shards=9)
    second.start(Plan(1, strict=False))
    assert second.task("alice", 5).version == version


# ---- who is silent -------------------------------------------------------------------------------


@pytest.mark.parametrize(("deadline", "waits"), [(None, 600.0), (100.0, 100.0), (1.0, 60.0)])
@pytest.mark.parametrize("trains", [False, True])
def test_who_promised_much_and_is_silent_does_not_keep_a_run_from_its_end(
    server, deadline, waits, trains
):
    federation = server(async_average(), joined=["alice", "bob"])
    federation.join("mallory", 10**9, 10**9)
    federation.start(Plan(1, deadline=deadline))
    if trains:
        federation.task("mallory", 5)
    play(federation, "alice", "bob", value=1)
    until(lambda: len(federation.history) == 2)
    federation.clock.ahead = (waits if trains else SILENT_AFTER) - 1
    federation.join("alice", 300)
    time.sleep(0.05)
    assert federation.running
    federation.clock.ahead += 1
    federation.join("alice", 300)
    assert len(federation.wait()) == 2


def test_a_run_without_a_word_of_anybody_ends_by_its_own_clock(server):
    federation = server(async_average(), joined=["alice", "bob"])
    federation.clock.patience = 0.2, 600.0
    federation.start(Plan(1))
    play(federation, "alice", value=1)
    began = time.monotonic()
    assert len(federation.wait()) == 1 and time.monotonic() - began < 10


def test_the_text_in_the_file_is_plain_json(server):
    first = server(async_average())
    first.start(Plan(1))
    play(first, "alice", value=1)
    until(lambda: len(first.history) == 1)
    told = json.loads(unpack(first.path.read_bytes()).texts["progress"])
    assert told["run"] == first.state.progress.run and told["done"]["alice"] == [sealed(""), 1]
