"""The federation without HTTP: rounds, who takes part, deadlines, stopping, errors, checkpoints;
against numbers worked out by hand."""

import contextlib
import dataclasses
import itertools
import math
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedlab.checkpoint import load_checkpoint
from fedlab.federation import Federation, Limits, members, synchronous
from fedlab.federation import run as module
from fedlab.federation.clock import RealTime
from fedlab.messages import (
    BadUpdate,
    Banned,
    ClientFailed,
    Conflict,
    Diverged,
    Full,
    NotFinite,
    Refused,
    RunFailed,
    RunOver,
    Task,
    TooFar,
    Training,
    UnknownClient,
    Update,
    local_seed,
)
from fedlab.plan import Plan
from fedlab.strategies import (
    State,
    Strategy,
    async_average,
    fed_async,
    fed_avg,
    fed_avg_momentum,
    fed_buff,
    scaffold,
    trimmed_mean,
    weighted_mean,
)

SIZES = {"alice": 300, "bob": 100, "carol": 600}


def toy(value: float = 0.0) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32), np.full(3, -value, np.float32)]


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def number(weights) -> float:
    """The value of weights made by `toy`; fails for others."""
    value = float(weights[0][0, 0])
    assert bits(weights) == bits(toy(value))
    return value


def trained(task, client: str) -> list[np.ndarray]:
    """A client's training for these tests: a function of the task and its seed, in numbers so
    unequal that the order of summing shows.
    """
    rng = np.random.default_rng(local_seed(task.seed, task.round, client))
    return [
        (0.9 * w + rng.normal(size=w.shape) * 10.0 ** rng.integers(-9, 9, w.shape)).astype(
            np.float32
        )
        for w in task.weights
    ]


def report(federation: Federation, client: str, *about, **more) -> None:
    """Send an update of the run that is going on."""
    federation.report(Update(client, *about, **{"run": federation.state.progress.run} | more))


def play(
    federation: Federation, client: str, value: float | None = None, wait: float = 5.0
) -> None:
    """Fetch, train, report, once. `value`: report these weights instead of trained ones."""
    task = federation.task(client, wait)
    assert task is not None, f"{client} got no task"
    federation.report(
        Update(
            client,
            task.round,
            SIZES.get(client, 50),
            trained(task, client) if value is None else toy(value),
            version=task.version,
            run=task.run,
        )
    )


@contextmanager
def playing(federation: Federation, *clients: str):
    """These clients take part, each in a thread, until the federation closes."""

    def loop(client: str) -> None:
        while True:
            try:
                task = federation.task(client, 10)
                if task is not None:
                    report(federation, client, task.round, SIZES[client], trained(task, client))
            except Conflict:
                continue
            except RunOver:
                return

    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(loop, client) for client in clients]
        try:
            yield
        finally:
            federation.close()
    for each in running:
        each.result()


@pytest.fixture
def make():
    """Makes federations, of three clients if not told otherwise, and closes them after the test."""
    made = []

    def federation(
        strategy=None, *, clients=SIZES, shards=1, weights=None, **settings
    ) -> Federation:
        made.append(
            Federation(toy() if weights is None else weights, strategy or fed_avg(), **settings)
        )
        for client in clients:
            made[-1].join(client, SIZES.get(client, 50), shards)
        return made[-1]

    yield federation
    for each in made:
        each.close(grace=0)


def until(true, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def snapshot(federation: Federation):
    """Everything that a refused message must leave as it was."""
    status = federation.status()
    state = federation.state
    return (
        bits(state.weights),
        state.num_examples,
        federation.history.to_json(),
        status.round,
        status.waiting_for,
        status.members,
    )


# ---- rounds --------------------------------------------------------------------------------------


def test_a_round_is_the_mean_weighted_by_examples(make):
    federation = make(evaluate=lambda weights: (1.0, number(weights) / 10))
    federation.start(Plan(2))
    for values in ({"alice": 1, "bob": 5, "carol": 2}, {"carol": 0, "bob": 0, "alice": 10}):
        for client, value in values.items():
            play(federation, client, value)
    history = federation.wait()
    # (300*1 + 100*5 + 600*2) / 1000 = 2; 300*10 / 1000 = 3
    assert history.accuracy == [pytest.approx(0.2), pytest.approx(0.3)] and number(
        federation.weights
    ) == pytest.approx(3)
    assert [record.num_examples for record in history] == [
        1000,
        1000,
    ] and federation.state.num_examples == 2000
    assert {client: record.num_examples for client, record in history.last.clients.items()} == SIZES
    assert not federation.running and federation.status().message == "finished"


def in_single_precision(state, updates):
    """An average whose rounding shows in which order it was summed (the library's own, in double
    precision, hardly ever shows it).
    """
    total = [np.zeros_like(w) for w in state.weights]
    for update in updates:
        total = [
            t + np.float32(update.num_examples / 1000) * w
            for t, w in zip(total, update.weights, strict=True)
        ]
    return module.State(total)


@pytest.mark.parametrize("aggregate", [in_single_precision, fed_avg().aggregate])
def test_the_order_of_arrival_does_not_change_a_bit(make, aggregate):
    results = set()
    for order in itertools.permutations(SIZES):
        federation = make(
            Strategy("average", "", aggregate), weights=[np.zeros(1000, np.float32)], seed=3
        )
        federation.start(Plan(3))
        for _ in range(3):
            for client in order:
                play(federation, client)
        federation.wait()
        results.add(b"".join(bits(federation.weights)))
    assert len(results) == 1


def test_the_order_of_summing_would_show():
    """That the test above can fail: the same updates in another order give other bits."""
    task = Task(1, 1, [np.zeros(1000, np.float32)], Training(), 3)
    updates = [Update(client, 1, SIZES[client], trained(task, client)) for client in SIZES]
    states = [
        in_single_precision(module.State(task.weights), order)
        for order in itertools.permutations(updates)
    ]
    assert len({bits(state.weights)[0] for state in states}) > 1


def test_the_task_says_what_to_do_and_asked_again_says_the_same(make):
    federation = make(seed=9)
    assert federation.task("bob") is None  # no run yet
    federation.start(Plan(4, Training(3, 10, 0.5, "adam")))
    first, again = federation.task("bob", 5), federation.task("bob", 5)
    for task in (first, again):
        assert (task.round, task.rounds, task.training, task.seed, task.shard_by_shard) == (
            1,
            4,
            Training(3, 10, 0.5, "adam"),
            9,
            False,
        )
        assert bits(task.weights) == bits(toy())
    report(federation, "bob", 1, 100, toy(1))
    assert federation.task("bob") is None  # its part is done


def test_a_waiting_client_hears_at_once_of_a_run(make):
    federation = make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(federation.task, "alice", 10)
        time.sleep(0.1)
        began = time.monotonic()
        federation.start(Plan(1))
        assert waiting.result().round == 1 and time.monotonic() - began < 5
    began = time.monotonic()
    play(federation, "alice")
    assert federation.task("alice", 0.2) is None and 0.2 <= time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("clients", "fraction", "size"),
    [
        (10, 0.0, 1),
        (10, 0.1, 1),
        (10, 0.25, 2),
        (10, 0.35, 4),
        (10, 0.5, 5),
        (10, 1.0, 10),
        (3, 0.1, 1),
        (100, 0.1, 10),
    ],
)
def test_a_round_has_a_fraction_of_the_clients(make, clients, fraction, size):
    """max(round(C*K), 1), worked out by hand (Python rounds a half to the even number)."""
    federation = make(clients=[f"c{i:03}" for i in range(clients)])
    federation.start(Plan(1, fraction=fraction))
    until(lambda: federation.status().round == 1)
    assert len(federation.status().waiting_for) == size


def chosen(make, seed: int, rounds: int, joining: list[str]) -> list[list[str]]:
    federation = make(clients=joining, seed=seed)
    federation.start(Plan(rounds, fraction=0.3))
    sets = []
    for _ in range(rounds):
        sets.append([])
        while len(sets[-1]) < 3:
            client, task = federation.take(5)
            sets[-1].append(client)
            report(federation, client, task.round, 50, toy(1))
    federation.wait()
    return sets


def test_who_takes_part_is_a_function_of_seed_and_round(make):
    names = [f"c{i}" for i in range(10)]
    first = chosen(make, 1, 12, names)
    assert chosen(make, 1, 12, names[::-1]) == first  # not of the order in which they joined
    assert chosen(make, 2, 12, names) != first
    # And everyone has a turn
    assert len({tuple(round) for round in first}) > 6 and set(itertools.chain(*first)) == set(names)
    assert all(round == sorted(round) for round in first)


def test_who_is_not_chosen_gets_no_task_and_may_not_report(make):
    federation = make(seed=0)
    federation.start(Plan(1, fraction=0.1))
    until(lambda: federation.status().round == 1)
    (chosen,) = federation.status().waiting_for
    idle = next(client for client in SIZES if client != chosen)
    assert federation.task(idle) is None
    with pytest.raises(Conflict):
        report(federation, idle, 1, SIZES[idle], toy(1))
    assert federation.status().waiting_for == [chosen]


def test_a_run_waits_for_its_minimum_of_clients(make):
    federation = make(clients=["alice"])
    federation.start(Plan(1, min_clients=2))
    assert (
        federation.task("alice", 0.1) is None
        and federation.status().message == "waiting for 2 clients to join"
    )
    federation.join("bob", 100)
    play(federation, "alice", 1)
    play(federation, "bob", 5)
    federation.wait()
    assert number(federation.weights) == pytest.approx(2)


def test_a_newcomer_takes_part_from_the_next_round(make):
    federation = make(clients=["alice"])
    federation.start(Plan(2))
    assert federation.task("alice", 5)
    federation.join("bob", 100)
    assert federation.task("bob") is None
    play(federation, "alice")
    play(federation, "bob")
    play(federation, "alice")
    assert [sorted(record.clients) for record in federation.wait()] == [["alice"], ["alice", "bob"]]


# ---- stragglers, drop-outs -----------------------------------------------------------------------


def test_a_straggler_is_left_behind_at_the_deadline(make):
    federation = make()
    began = time.monotonic()
    federation.start(Plan(2, deadline=0.3))
    late = federation.task("alice", 5)
    play(federation, "bob", 4)
    play(federation, "carol", 1)
    until(lambda: len(federation.history) == 1)
    until(lambda: federation.status().round == 2)
    assert 0.3 <= time.monotonic() - began < 5
    record = federation.history[0]
    assert (
        sorted(record.clients) == ["bob", "carol"]
        and record.note == "2 of 3 updates: went on without alice"
    )
    assert number(federation.weights) == pytest.approx((100 * 4 + 600 * 1) / 700)
    before = snapshot(federation)
    with pytest.raises(
        Conflict, match="got an update of 'alice' for round 1; expected one for round 2"
    ):
        report(federation, "alice", late.round, 300, toy(9))
    assert snapshot(federation) == before
    with pytest.raises(Conflict):
        report(federation, "alice", late.round, 300, toy(9))
    work = [(task.client, task.taken) for task in federation.history.tasks]
    assert work.count(("alice", False)) == 1, "sent twice it was at work once"
    play(federation, "alice", 1)  # and it takes part again
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    assert federation.wait().last.num_examples == 1000


def test_who_was_too_late_and_is_not_drawn_again_is_waiting(make):
    def drawn(seed: int, round: int) -> int:
        return np.random.default_rng([seed, round]).choice(2, 1, replace=False)[0]

    # Alice, then bob
    seed = next(seed for seed in range(100) if (drawn(seed, 1), drawn(seed, 2)) == (0, 1))
    federation = make(clients=["alice", "bob"], seed=seed)
    federation.start(Plan(2, fraction=0.0, deadline=1))
    assert federation.task("alice", 5).round == 1
    until(lambda: federation.status().waiting_for == ["bob"])
    assert {member.client: member.state for member in federation.status().members} == {
        "alice": "training",
        "bob": "waiting",
    }
    assert federation.task("alice") is None  # it has come back, too late
    assert {member.client: member.state for member in federation.status().members} == {
        "alice": "waiting",
        "bob": "waiting",
    }


def test_an_update_that_comes_while_the_others_are_averaged_is_too_late_and_is_told_so(make):
    """Alice is first in order: the average has gone past her when she reports, though the round is
    still open.
    """
    past_alice, reported = threading.Event(), threading.Event()

    def slow(state, updates):
        def one_by_one():
            for update in updates:
                past_alice.set()
                reported.wait(5)
                yield update

        return fed_avg().aggregate(state, one_by_one())

    federation = make(Strategy("slow", "", slow))
    federation.start(Plan(1, deadline=0.2))
    task = federation.task("alice", 5)
    play(federation, "bob", 4)
    play(federation, "carol", 1)
    assert past_alice.wait(5)
    with pytest.raises(Conflict, match="too late"):
        report(federation, "alice", task.round, 300, toy(9))
    reported.set()
    assert sorted(federation.wait().last.clients) == ["bob", "carol"] and number(
        federation.weights
    ) == pytest.approx(1000 / 700)


def test_an_update_whose_round_closes_while_it_is_checked_is_too_late(make, monkeypatch):
    checking, go_on = threading.Event(), threading.Event()
    check = module.check_update

    def slow_check(update, *rest):
        check(update, *rest)
        if update.client == "alice":
            checking.set()
            assert go_on.wait(5)

    monkeypatch.setattr(module, "check_update", slow_check)
    federation = make()
    federation.start(Plan(1, deadline=0.2))
    with ThreadPoolExecutor(1) as pool:
        reporting = pool.submit(play, federation, "alice", 9)
        assert checking.wait(5)
        play(federation, "bob", 4)
        play(federation, "carol", 1)
        federation.wait()
        go_on.set()
        with pytest.raises(Conflict):
            reporting.result(5)
    assert (
        sorted(federation.history.last.clients) == ["bob", "carol"]
        and federation.state.num_examples == 700
    )


def test_after_a_deadline_no_round_waits_for_a_client_that_was_silent_too_long(make, monkeypatch):
    """Its program has probably died. One that lives is told that it is unknown, joins again and
    takes part again.
    """
    monkeypatch.setattr(members, "SILENT_AFTER", 0.2)
    federation = make()
    federation.start(Plan(3, deadline=0.4))
    late = federation.task("alice", 5)
    play(federation, "bob")
    play(federation, "carol")
    assert federation.task("bob", 5).round == 2
    assert federation.status().waiting_for == ["bob", "carol"] and [
        member.client for member in federation.status().members
    ] == [
        "bob",
        "carol",
    ]
    with pytest.raises(UnknownClient):
        report(federation, "alice", late.round, 300, toy(9))
    federation.join("alice", 300)
    play(federation, "bob")
    play(federation, "carol")
    for client in SIZES:
        play(federation, client)
    assert [sorted(record.clients) for record in federation.wait()] == [
        ["bob", "carol"],
        ["bob", "carol"],
        ["alice", "bob", "carol"],
    ]


def test_a_round_with_too_few_updates_is_abandoned_and_the_next_one_goes_on(make):
    federation = make(weights=toy(0.3))
    federation.start(Plan(2, deadline=0.15, min_updates=2))
    play(federation, "bob", 4)
    until(lambda: len(federation.history) == 1)
    record = federation.history[0]
    assert (
        record.note == "abandoned: 1 of 3 updates came; expected at least 2"
        and record.clients == {}
    )
    assert bits(federation.weights) == bits(toy(0.3)) and federation.state.num_examples == 0
    play(federation, "bob", 4)
    play(federation, "carol", 1)
    assert number(federation.weights) in (pytest.approx(0.3), pytest.approx(1000 / 700))
    assert federation.wait().last.note == "2 of 3 updates: went on without alice" and number(
        federation.weights
    ) == pytest.approx(1000 / 700)


def test_no_round_waits_for_a_client_that_left(make):
    federation = make()
    federation.start(Plan(2))
    assert federation.task("alice", 5)
    play(federation, "bob", 4)
    play(federation, "carol", 1)
    federation.leave("alice")
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    history = federation.wait()
    assert [sorted(record.clients) for record in history] == [["bob", "carol"]] * 2 and history[
        0
    ].note == "2 of 3 updates: went on without alice"
    with pytest.raises(RunOver, match="'alice' has left"):
        federation.task("alice")
    with pytest.raises(RunOver):
        report(federation, "alice", 1, 300, toy(1))


def test_an_update_counts_though_its_client_leaves_after_it(make):
    federation = make()
    federation.start(Plan(1))
    play(federation, "alice", 1)
    federation.leave("alice")
    play(federation, "bob", 5)
    play(federation, "carol", 2)
    assert federation.wait().last.num_examples == 1000 and number(
        federation.weights
    ) == pytest.approx(2)


# ---- joining -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_examples", "shards"),
    [(0, 1), (-1, 1), (1.0, 1), (True, 1), ("5", 1), (None, 1), (10**10, 1), (5, 0), (5, 1.5)],
)
def test_joining_with_a_count_that_cannot_be(make, num_examples, shards):
    federation = make()
    before = snapshot(federation)
    with pytest.raises(
        Refused,
        match=r"(num_examples|shards) is .*; expected a whole number from 1 to 1,000,000,000",
    ):
        federation.join("dave", num_examples, shards)
    assert snapshot(federation) == before


def test_two_clients_of_one_id(make):
    federation = make(clients=[])
    federation.join("alice", 300, session="one")
    before = snapshot(federation)
    with pytest.raises(
        Conflict, match="a client called 'alice' has already joined; expected an id of your own"
    ):
        federation.join("alice", 100, session="two")
    assert snapshot(federation) == before
    federation.join("alice", 300, session="one")  # an answer was lost, it asks again
    assert snapshot(federation) == before


def test_a_repeated_join_does_not_forget_what_was_done(make):
    federation = make(async_average(), clients=[])
    federation.join("alice", 300, 3, session="one")
    federation.start(Plan(None))
    play(federation, "alice", 1)
    federation.join("alice", 300, 3, session="one")
    assert federation.task("alice", 1).round == 2


def test_the_id_of_a_program_that_died_can_be_taken_after_a_while(make, monkeypatch):
    federation = make(clients=[])
    federation.join("alice", 300, session="one")
    monkeypatch.setattr(members, "SILENT_AFTER", 0.05)
    time.sleep(0.06)
    federation.join("alice", 100, session="two")
    assert federation.status().members[0].num_examples == 100
    federation.start(Plan(1))
    assert federation.task("alice", 5)
    time.sleep(0.06)
    with pytest.raises(Conflict):  # it is training: silence is what one expects
        federation.join("alice", 1, session="three")


def test_who_has_not_joined_is_told_so(make):
    federation = make()
    for call in (
        lambda: federation.task("dave"),
        lambda: federation.leave("dave"),
        lambda: report(federation, "dave", 1, 1, toy()),
    ):
        with pytest.raises(
            UnknownClient, match="no client called 'dave' has joined; expected it to join first"
        ):
            call()


# ---- updates that are refused --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_examples": 0}, BadUpdate),
        ({"num_examples": -1}, BadUpdate),
        ({"num_examples": 301}, BadUpdate),
        ({"weights": toy(1)[:1]}, BadUpdate),
        ({"weights": toy(1)[::-1]}, BadUpdate),
        ({"weights": toy(math.nan)}, BadUpdate),
        ({"weights": toy(math.inf)}, BadUpdate),
        ({"weights": [w.astype(np.float16) for w in toy(1)]}, BadUpdate),
        ({"round": 0}, Refused),
        ({"round": -1}, Refused),
        ({"round": 99}, Conflict),
        ({"client": "dave"}, UnknownClient),
    ],
)
def test_a_bad_update_changes_nothing_and_a_good_one_is_taken_after_it(
    make, strategy, change, error
):
    federation = make(strategy())
    federation.start(Plan(1))
    task = federation.task("alice", 5)
    good = {"client": "alice", "round": task.round, "num_examples": 300, "weights": toy(1)}
    before = snapshot(federation)
    with pytest.raises(error, match="expected"):
        report(federation, **(good | change))
    assert snapshot(federation) == before
    report(federation, **good)
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    assert federation.wait() and number(federation.weights) == pytest.approx(1)


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
def test_an_update_sent_again_is_counted_once(make, strategy):
    federation = make(strategy())
    federation.start(Plan(1))
    task = federation.task("alice", 5)
    update = Update("alice", task.round, 300, toy(1), run=task.run)
    federation.report(update)
    before = bits(federation.weights), federation.state.num_examples
    with pytest.raises(Conflict, match="already have an update of 'alice' for round 1"):
        federation.report(update)
    assert (bits(federation.weights), federation.state.num_examples) == before
    play(federation, "bob", 5)
    play(federation, "carol", 2)
    federation.wait()
    assert federation.state.num_examples == 1000 and number(federation.weights) == pytest.approx(2)
    with pytest.raises(Conflict, match="no run is going on"):
        federation.report(update)


def test_of_many_copies_at_once_one_is_counted(make):
    for strategy in (fed_avg, async_average):
        federation = make(strategy())
        federation.start(Plan(1))
        task = federation.task("alice", 5)

        def send(_, federation=federation, round=task.round) -> str:
            try:
                report(federation, "alice", round, 300, toy(1))
                return "taken"
            except Conflict:
                return "already there"

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(send, range(40))) == ["already there"] * 39 + ["taken"]
        play(federation, "bob", 1)
        play(federation, "carol", 1)
        federation.wait()
        assert federation.state.num_examples == 1000


# ---- stopping, starting again, resetting, closing ------------------------------------------------


def test_stopping_drops_the_open_round_and_keeps_what_was_committed(make):
    federation = make()
    federation.start(Plan(10))
    for client in SIZES:
        play(federation, client, 1)
    play(federation, "alice", 50)
    play(federation, "bob", 50)
    before = bits(federation.weights), federation.history.to_json()
    began = time.monotonic()
    federation.stop()
    assert (
        time.monotonic() - began < 5
        and not federation.running
        and federation.status().message == "stopped"
    )
    assert (bits(federation.weights), federation.history.to_json()) == before and len(
        federation.history
    ) == 1
    assert federation.status().round == 1 and federation.wait() is federation.history
    federation.stop()  # nothing to stop: no mistake


@pytest.mark.parametrize("strategy", [fed_avg, fed_avg_momentum])
def test_a_run_that_was_stopped_and_taken_up_again_equals_an_undisturbed_one(make, strategy):
    def run(federation, rounds):
        federation.start(Plan(rounds))
        for _ in range(rounds):
            for client in SIZES:
                play(federation, client)
        federation.wait()

    undisturbed, stopped = make(strategy(), seed=5), make(strategy(), seed=5)
    run(undisturbed, 4)
    stopped.start(Plan(4))
    for client in SIZES:
        play(stopped, client)
    play(stopped, "carol")  # of round 2, which is dropped
    stopped.stop()
    run(stopped, 3)
    assert bits(stopped.weights) == bits(undisturbed.weights) and [
        record.round for record in stopped.history
    ] == [1, 2, 3, 4]


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
@pytest.mark.parametrize("reset", [False, True])
def test_an_update_of_an_earlier_run_does_not_slip_into_the_next_one(make, strategy, reset):
    """Stop, (Reset,) Start, while Alice still trains: her round 1 is not this run's round 1, though
    it has its number.
    """
    federation = make(strategy())
    federation.start(Plan(1, Training(epochs=1)))
    old = federation.task("alice", 5)
    federation.stop()
    if reset:
        federation.reset()
    federation.start(Plan(1, Training(epochs=7)))
    until(lambda: federation.status().round == 1 or strategy is async_average)
    before = snapshot(federation)
    with pytest.raises(
        Conflict, match="of an earlier run; expected its client to fetch a task of this run first"
    ):
        report(federation, "alice", old.round, 300, toy(99), run=old.run)
    assert snapshot(federation) == before
    assert federation.task("alice", 5).training.epochs == 7
    for client in SIZES:
        play(federation, client, 1)
    assert number(federation.wait() and federation.weights) == pytest.approx(1)


def test_reset_goes_back_to_the_first_model(make):
    federation = make(weights=toy(0.3), seed=1)
    federation.start(Plan(1))
    with pytest.raises(Conflict, match="a run is going on; expected to stop it first"):
        federation.reset()
    with pytest.raises(Conflict, match="a run is going on"):
        federation.start(Plan(1))
    for client in SIZES:
        play(federation, client, 1)
    federation.wait()
    federation.reset()
    assert (
        bits(federation.weights) == bits(toy(0.3))
        and len(federation.history) == 0
        and federation.state.num_examples == 0
    )
    assert (federation.status().round, federation.status().rounds, federation.seed) == (0, 0, 1)
    federation.reset(toy(0.7), async_average(), seed=2)
    assert (
        bits(federation.weights) == bits(toy(0.7))
        and federation.strategy.asynchronous
        and federation.seed == 2
    )
    # Who has joined stays
    assert [member.client for member in federation.status().members] == list(SIZES)


def test_closing_tells_every_client_and_waits_until_it_heard(make):
    federation = make()
    federation.start(Plan(5))
    task = federation.task("alice", 5)
    with ThreadPoolExecutor(2) as pool:
        play(federation, "bob")
        waiting = pool.submit(federation.task, "bob", 30)
        time.sleep(0.05)
        closing = pool.submit(federation.close, 5.0)
        with pytest.raises(RunOver, match="the run is over"):
            waiting.result(20)
        with pytest.raises(RunOver):
            federation.task("carol")
        time.sleep(0.1)
        assert not closing.done()  # Alice is training, and has not heard
        with pytest.raises(RunOver, match="the run is over"):
            report(federation, "alice", task.round, 300, toy(1))
        closing.result(4)
    assert federation.status().members == [] and federation.status().message == "closed"
    with pytest.raises(RunOver, match="the server is closing"):
        federation.join("dave", 5)
    with pytest.raises(Conflict, match="the federation is closed; expected a new one"):
        federation.start(Plan(1))


def test_closing_does_not_wait_longer_than_its_grace(make):
    federation = make()
    began = time.monotonic()
    federation.close(grace=0.1)
    assert 0.1 <= time.monotonic() - began < 1.9  # 2 s, were its grace not looked at


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_failing_client_is_an_error_of_the_run_at_its_end(make):
    federation = make()
    federation.start(Plan(2))
    assert federation.task("alice", 5)
    federation.leave("alice", "ZeroDivisionError: division by zero")
    for _ in range(2):
        play(federation, "bob", 1)
        play(federation, "carol", 1)
    with pytest.raises(
        ClientFailed, match="client 'alice' failed in round 1: ZeroDivisionError: division by zero"
    ):
        federation.wait()
    assert [sorted(record.clients) for record in federation.history] == [
        ["bob", "carol"]
    ] * 2  # the others went on


def test_a_run_ends_when_every_client_has_failed(make):
    federation = make()
    federation.start(Plan(100))
    for client in SIZES:
        federation.leave(client, "out of memory")
    with pytest.raises(
        ClientFailed, match="'alice' failed .*; client 'bob' failed .*; client 'carol' failed"
    ):
        federation.wait()
    assert bits(federation.weights) == bits(toy())


def test_a_run_ends_when_a_failure_leaves_fewer_than_its_minimum(make):
    federation = make()
    federation.start(Plan(100, min_clients=4))
    federation.leave("alice", "out of memory")
    with pytest.raises(ClientFailed, match="'alice' failed in round 0: out of memory"):
        federation.wait()
    assert len(federation.history) == 0


def test_the_minimum_of_clients_is_for_the_first_round_only(make):
    federation = make()
    federation.start(Plan(2, min_clients=3))
    for name in ("alice", "bob", "carol"):
        play(federation, name, 1)
    assert federation.task("alice", 5).round == 2
    federation.leave("alice")
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    assert [len(record.clients) for record in federation.wait()] == [3, 2]


def test_a_plan_that_is_not_strict_goes_on_without_a_failed_client(make):
    federation = make()
    federation.start(Plan(1, strict=False))
    assert federation.task("alice", 5)
    federation.leave("alice", "out of memory")
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    assert federation.wait().last.note == "2 of 3 updates: went on without alice"


class Broken(Exception):
    pass


def broken(*_):
    raise Broken("it is broken")


def average_of(number_of_updates: int, then) -> Strategy:
    """Takes so many updates in, and then goes wrong."""
    return Strategy(
        "broken",
        "",
        lambda state, updates: then(list(itertools.islice(updates, number_of_updates))),
    )


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"evaluate": broken}, Broken),
        ({"strategy": average_of(3, broken)}, Broken),
        ({"strategy": average_of(2, exit)}, SystemExit),
        ({"strategy": Strategy("broken", "", broken, True)}, None),
        ({"checkpoint": str(Path(__file__).parent)}, OSError),  # a folder, where a file should be
    ],
)
def test_what_goes_wrong_in_the_background_is_raised_to_who_waits(make, settings, error):
    federation = make(**settings)
    federation.start(Plan(5))
    if error is None:  # a strategy that merges at once fails in the face of the client that reports
        with pytest.raises(Broken):
            play(federation, "alice", 1)
        federation.stop()
    else:
        for client in SIZES:
            play(federation, client, 1)
        with pytest.raises(error):
            federation.wait()
        assert (
            federation.status().message.startswith("ended by an error") and not federation.running
        )
    assert (
        bits(federation.weights) == bits(toy())
        and len(federation.history) == 0
        and federation.status().round == 0
    )
    federation.start(Plan(1))  # and it can be started again
    federation.stop()


def test_a_checkpoint_without_a_folder_is_refused_at_once(make):
    with pytest.raises(
        Refused,
        match=(
            "there is no folder for the checkpoint /nowhere/at/all; expected a path in a folder"
            " that exists"
        ),
    ):
        make(checkpoint="/nowhere/at/all")


def test_training_that_diverged_says_so_and_keeps_the_last_good_model(make):
    federation = make(evaluate=lambda w: (1.0 if number(w) == 1 else math.nan, 0.5))
    federation.start(Plan(3))
    for value in (1, 2):
        for client in SIZES:
            play(federation, client, value)
    with pytest.raises(
        Diverged,
        match=(
            "training diverged in round 2: the loss on the test set is nan; expected a finite"
            " number"
        ),
    ) as caught:
        federation.wait()
    assert (
        number(federation.weights) == 1
        and caught.value.history is federation.history
        and len(federation.history) == 1
    )


def test_an_interrupt_ends_the_run_and_is_raised_on(make):
    federation = make()

    def interrupt(record):
        raise KeyboardInterrupt

    with playing(federation, *SIZES):
        with pytest.raises(KeyboardInterrupt):
            federation.run(Plan(None), interrupt)
        assert not federation.running and len(federation.history) >= 1


def test_on_round_sees_every_record_once_in_order_in_the_callers_thread(make):
    federation, seen = make(), []
    with playing(federation, *SIZES):
        history = federation.run(
            Plan(20), lambda record: seen.append((record.round, threading.current_thread()))
        )
        assert seen == [(number, threading.current_thread()) for number in range(1, 21)]
        federation.run(Plan(2), lambda record: seen.append((record.round, None)))
    assert [round for round, _ in seen] == list(range(1, 23)) and len(history) == 22


# ---- testing, targets, checkpoints ---------------------------------------------------------------


def test_the_model_is_tested_every_so_many_rounds_and_after_the_last(make):
    tested = []

    def evaluate(weights):
        tested.append(bits(weights))
        return 1.0, 0.25

    federation = make(evaluate=evaluate)
    with playing(federation, *SIZES):
        history = federation.run(Plan(7, evaluate_every=3))
    assert [record.round for record in history if record.accuracy == 0.25] == [3, 6, 7] and len(
        tested
    ) == 3
    assert (
        math.isnan(history[0].accuracy)
        and math.isnan(history[0].loss)
        and tested[-1] == bits(federation.weights)
    )


def test_a_target_ends_the_run_early(make):
    federation = make(evaluate=lambda weights: (1.0, len(federation.history) / 10))
    with playing(federation, *SIZES):
        history = federation.run(Plan(100, target=0.3))
    assert history.accuracy == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("strategy", [fed_avg, fed_avg_momentum])
def test_going_on_from_a_checkpoint_equals_an_undisturbed_run_bit_for_bit(make, strategy, tmp_path):
    def evaluate(weights):
        return 1.0, abs(float(weights[0].mean())) % 1

    undisturbed = make(strategy(), evaluate=evaluate, seed=11)
    with playing(undisturbed, *SIZES):
        undisturbed.run(Plan(5, fraction=0.7))
    path = tmp_path / "model.safetensors"
    for rounds in (2, 1, 2):  # each in a federation of its own, as after a crash
        state, history = (
            load_checkpoint(path, toy(), strategy().identity) if path.exists() else (None, None)
        )
        federation = make(
            strategy(), evaluate=evaluate, seed=11, checkpoint=path, state=state, history=history
        )
        assert federation.status().round == (len(history) if history else 0)
        with playing(federation, *SIZES):
            federation.run(Plan(rounds, fraction=0.7))
    assert (
        bits(federation.weights)
        == bits(undisturbed.weights)
        == bits(load_checkpoint(path)[0].weights)
    )
    assert federation.state.num_examples == undisturbed.state.num_examples
    assert [(r.round, r.accuracy, sorted(r.clients)) for r in federation.history] == [
        (r.round, r.accuracy, sorted(r.clients)) for r in undisturbed.history
    ]
    seconds = [record.seconds for record in federation.history]
    assert seconds == sorted(seconds)


def test_the_checkpoint_is_there_when_the_round_is(make, tmp_path):
    path = tmp_path / "model.safetensors"
    federation, seen = make(checkpoint=path), []

    def look(record):
        state, history = load_checkpoint(path, toy(), "FedAvg")
        seen.append((record.round, history.last.round >= record.round))

    with playing(federation, *SIZES):
        federation.run(Plan(4), look)
    assert seen == [(round, True) for round in (1, 2, 3, 4)] and bits(
        load_checkpoint(path)[0].weights
    ) == bits(federation.weights)


def test_when_the_disk_is_full_the_run_ends_and_everything_is_of_the_round_before(
    make, tmp_path, monkeypatch
):
    path = tmp_path / "model.safetensors"
    federation = make(checkpoint=path)
    federation.start(Plan(5))
    for client in SIZES:
        play(federation, client, 1)
    until(lambda: len(federation.history) == 1)
    before = path.read_bytes(), snapshot(federation)[:3]

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for client in SIZES:
        play(federation, client, 2)
    with pytest.raises(OSError, match="No space left"):
        federation.wait()
    assert (path.read_bytes(), snapshot(federation)[:3]) == before


# ---- asynchronous --------------------------------------------------------------------------------


def test_the_running_average_of_three_unequal_clients(make):
    """300 of 1: 1. 100 of 5: (300 + 500)/400 = 2. 600 of 2: (800 + 1200)/1000 = 2. Then 300 of 12:
    (2000 + 3600)/1300.
    """
    federation = make(
        async_average(),
        shards=2,
        weights=toy(77),
        evaluate=lambda weights: (1.0, number(weights) / 100),
    )
    federation.start(Plan(1))
    for client, value in (("alice", 1), ("bob", 5), ("carol", 2), ("alice", 12)):
        play(federation, client, value)
    until(lambda: len(federation.history) == 4)
    assert [round(accuracy * 100, 4) for accuracy in federation.history.accuracy] == [
        1,
        2,
        2,
        round(5600 / 1300, 4),
    ]
    assert federation.state.num_examples == 1300 and federation.status().rounds == 6
    assert [list(record.clients) for record in federation.history] == [
        ["alice"],
        ["bob"],
        ["carol"],
        ["alice"],
    ]


def test_each_client_counts_its_own_shards_and_the_run_ends_when_all_are_done(make):
    federation = make(async_average(), clients=[])
    federation.join("alice", 300, shards=2)
    federation.join("bob", 100, shards=1)
    federation.start(Plan(2))  # twice through the shards
    rounds = []
    for client in ("alice", "bob", "alice", "bob", "alice", "alice"):
        task = federation.task(client, 5)
        rounds.append((client, task.round, task.rounds, task.shard_by_shard))
        play(federation, client)
    assert rounds == [
        ("alice", 1, 4, True),
        ("bob", 1, 2, True),
        ("alice", 2, 4, True),
        ("bob", 2, 2, True),
        ("alice", 3, 4, True),
        ("alice", 4, 4, True),
    ]
    assert len(federation.wait()) == 6 and federation.task("alice") is None


def test_without_an_end_each_client_goes_through_its_shards_once_and_newcomers_are_welcome(make):
    federation = make(async_average(), clients=["alice"], shards=2)
    federation.start(Plan(None))
    play(federation, "alice")
    play(federation, "alice")
    with pytest.raises(RunOver, match="client 'alice' has trained on its 2 shards"):
        federation.task("alice")
    federation.join("bob", 100)
    play(federation, "bob")
    until(lambda: len(federation.history) == 3)
    assert federation.running
    federation.join("alice", 300, 1)  # and once more, with other data
    play(federation, "alice")
    until(lambda: len(federation.history) == 4)


def test_who_leaves_and_comes_back_goes_on_with_its_next_shard(make):
    federation = make(async_average(), clients=["bob"])
    federation.join("alice", 300, shards=3, session="one")
    federation.start(Plan(1))
    play(federation, "alice")
    play(federation, "alice")
    federation.leave("alice", session="one")
    federation.join("alice", 300, shards=3, session="one")
    with pytest.raises(Conflict, match="already have an update of 'alice' for round 2"):
        report(federation, "alice", 2, 300, toy(2))
    assert federation.task("alice", 5).round == 3
    # Another program of that name is another client
    federation.leave("alice")
    federation.join("alice", 300, shards=3, session="two")
    assert federation.task("alice", 5).round == 1
    # Who has left for good is not waited for
    federation.leave("alice")
    play(federation, "bob")
    assert len(federation.wait()) == 3 and federation.state.num_examples == 300 + 300 + 100


def test_a_client_that_was_on_its_own_is_welcome_back(make):
    """The server was restarted and knows nothing of rounds 1 and 2: round 3 is merged all the same,
    once.
    """
    federation = make(async_average(), clients=[])
    federation.start(Plan(1))
    federation.join("alice", 300, shards=4)
    report(federation, "alice", 3, 300, toy(2))
    with pytest.raises(Conflict, match="already have"):
        report(federation, "alice", 3, 300, toy(2))
    assert federation.state.num_examples == 300 and federation.task("alice", 5).round == 4


def test_asynchronous_clients_wait_for_their_minimum_too(make):
    federation = make(async_average(), clients=["alice"])
    federation.start(Plan(1, min_clients=2))
    assert federation.task("alice", 0.2) is None
    federation.join("bob", 100)
    play(federation, "alice", 1)
    federation.leave("alice")  # and once begun, it goes on
    play(federation, "bob", 5)
    assert len(federation.wait()) == 2 and number(federation.weights) == pytest.approx(2)


def test_many_threads_merge_at_once_and_every_update_is_counted_once(make):
    def unhurried(state, updates):
        # Long enough for others to come between reading the state and writing the next one
        time.sleep(0.002)
        return async_average().aggregate(state, updates)

    names = [f"c{i}" for i in range(8)]
    federation = make(Strategy("unhurried", "", unhurried, True), clients=names, shards=10)
    federation.start(Plan(1))

    def work(client: str) -> None:
        for turn in range(10):
            task = federation.task(client, 5)
            report(federation, client, task.round, int(client[1]) + 1, toy(turn))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, names))
    history = federation.wait()
    assert (
        federation.state.num_examples == 10 * sum(range(1, 9))
        and len(history) == 80
        and [record.round for record in history] == list(range(1, 81))
    )
    # Everyone sent 0..9 with its own weight, in whatever order
    assert number(federation.weights) == pytest.approx(4.5, rel=1e-5)


@pytest.mark.parametrize("how", ["stop", "target", "fail"])
def test_what_was_merged_is_in_model_history_and_checkpoint_however_the_run_ends(
    make, tmp_path, how
):
    """Testing lags behind merging: a run that ends then must not leave a model that is ahead of its
    history and its checkpoint.
    """
    path, testing, go_on = tmp_path / "model.safetensors", threading.Event(), threading.Event()

    def evaluate(weights):
        testing.set()
        assert go_on.wait(5)
        return 1.0, 0.9

    federation = make(async_average(), evaluate=evaluate, checkpoint=path, shards=3)
    federation.start(Plan(1, target=0.5 if how == "target" else None))
    play(federation, "alice", 1)
    assert testing.wait(5)
    play(federation, "bob", 5)
    play(federation, "carol", 2)
    with ThreadPoolExecutor(1) as pool:
        if how == "stop":
            ending = pool.submit(federation.stop)
        elif how == "fail":
            federation.fail(Broken("from outside"))
        until(lambda: how == "target" or federation._table.stopping)
        if how != "target":  # from here on, nothing more is taken
            with pytest.raises(Conflict, match="no run is going on"):
                play(federation, "alice", 99)
        go_on.set()
        if how == "stop":
            ending.result(5)
    if how == "fail":
        with pytest.raises(Broken):
            federation.wait()
    else:
        federation.wait()
    state, history = load_checkpoint(path, toy())
    assert (
        bits(state.weights) == bits(federation.weights)
        and state.num_examples == federation.state.num_examples == 1000
    )
    assert (
        sum(record.num_examples for record in federation.history) == 1000
        and history.to_json() == federation.history.to_json()
    )


def test_a_merge_under_way_when_the_run_ends_does_not_reach_the_next_model(make):
    merging, go_on = threading.Event(), threading.Event()

    def slow(state, updates):
        merging.set()
        assert go_on.wait(5)
        return async_average().aggregate(state, updates)

    federation = make(Strategy("slow", "", slow, True))
    federation.start(Plan(1))
    with ThreadPoolExecutor(1) as pool:
        reporting = pool.submit(play, federation, "alice", 99)
        assert merging.wait(5)
        federation.stop()
        federation.reset()
        go_on.set()
        with pytest.raises(Conflict, match="the run ended"):
            reporting.result(5)
    assert bits(federation.weights) == bits(toy()) and federation.state.num_examples == 0


def test_updates_of_guests_are_merged_as_they_come(make):
    federation = make(async_average(), clients=[])
    federation.start(Plan(1))
    federation.join("original-1", 60_000, guest=True)
    for value in (1, 3):
        report(federation, "original-1", 1, 5000, toy(value))
    until(lambda: len(federation.history) == 2)
    # Nobody knows when it is done
    assert number(federation.weights) == pytest.approx(2) and federation.running
    began = time.monotonic()
    federation.close(5)
    assert time.monotonic() - began < 4  # nor can it be told


# ---- looking in ----------------------------------------------------------------------------------


def test_the_status_tells_who_trains_and_who_waits(make):
    federation = make(evaluate=lambda weights: (1.0, 0.25))
    federation.start(Plan(2))
    federation.task("alice", 5)
    play(federation, "bob")
    status = federation.status()
    assert status.running and (
        status.round,
        status.rounds,
        status.strategy,
        status.asynchronous,
    ) == (1, 2, "FedAvg", False)
    assert {member.client: member.state for member in status.members} == {
        "alice": "training",
        "bob": "waiting",
        "carol": "waiting",
    }
    assert (
        status.waiting_for == ["alice", "carol"]
        and status.message == "round 1: 3 of 3 clients training"
        and math.isnan(status.accuracy)
    )
    play(federation, "alice")
    play(federation, "carol")
    until(lambda: federation.status().accuracy == 0.25)


def test_waiting_for_a_change(make):
    federation = make()
    version = federation.status().version
    assert federation.wait_for_change(version, 0.05) == version
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(federation.wait_for_change, version, 10)
        federation.join("dave", 10)
        assert waiting.result(5) != version


def test_bytes_are_counted_by_the_round(make):
    federation = make(clients=["alice"])
    federation.start(Plan(2))
    for size in (100, 30):
        task = federation.task("alice", 5)
        federation.count_bytes(down=size)
        federation.count_bytes(down=1, up=size * 2)
        report(federation, "alice", task.round, 300, toy(1))
    assert [(record.bytes_down, record.bytes_up) for record in federation.wait()] == [
        (101, 200),
        (31, 60),
    ]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rounds", 0), ("rounds", -1), ("rounds", 1.5), ("rounds", True), ("rounds",
    "5"), ("min_updates", 0), ("min_clients", 0),
     ("evaluate_every", 0),
     ("fraction", -0.1), ("fraction", 1.1), ("fraction", math.nan), ("fraction", "all"),
     ("deadline", 0), ("deadline", -1),
     ("deadline", math.nan),
     ("deadline", math.inf), ("deadline", "5"), ("target", 0), ("target", 1), ("target", 97),
     ("target", math.nan), ("target", "97 %"), ("sampling", "all")],
)  # fmt: skip
def test_a_plan_that_cannot_be(setting, value):
    with pytest.raises(Refused, match=f"^{setting}.* is {value!r}; expected"):
        Plan(**{setting: value})


def test_a_custom_strategy_is_any_function_of_state_and_updates(make):
    """The median of three clients, as a student would write it."""

    def median(state, updates):
        rows = [update.weights for update in updates]
        return module.State(
            [np.median(np.stack(w), axis=0).astype(np.float32) for w in zip(*rows, strict=True)]
        )

    federation = make(Strategy("median", "the middle one", median))
    federation.start(Plan(1))
    for client, value in (("alice", 1), ("bob", 100), ("carol", 2)):
        play(federation, client, value)
    federation.wait()
    assert number(federation.weights) == 2 and weighted_mean([Update("a", 1, 1, toy(4))])[1] == 1


def first_come(state, updates):
    """A strategy that takes what comes first, and looks at nothing more."""
    return State(next(iter(updates)).weights)


def test_a_minimum_counts_also_where_a_strategy_looks_at_one_update_only(make):
    """It used to be skipped: one of three came, three were needed, and the model was replaced."""
    federation = make(Strategy("first come", "", first_come), clients=SIZES)
    federation.start(Plan(1, deadline=0.3, min_updates=3))
    play(federation, "alice", 7)
    record = federation.wait().last
    assert number(federation.weights) == 0 and record.clients == {}
    assert record.note == "abandoned: 1 of 3 updates came; expected at least 3"


def test_a_round_waits_for_all_and_counts_them_whatever_its_strategy_looks_at(make):
    federation = make(Strategy("first come", "", first_come))
    federation.start(Plan(1, min_updates=3))
    play(federation, "alice", 7)
    time.sleep(0.1)
    assert federation.running and federation.status().waiting_for == ["bob", "carol"]
    play(federation, "carol", 1)
    play(federation, "bob", 2)
    record = federation.wait().last
    assert number(federation.weights) == 7 and sorted(record.clients) == sorted(SIZES)
    assert record.note == ""


def test_a_round_that_cannot_have_its_minimum_waits_for_more_clients(make):
    """It used to burn rounds: ten abandoned in no time."""
    federation = make(clients=["alice", "bob"])
    federation.start(Plan(10, deadline=2, min_updates=3))
    time.sleep(0.3)
    status = federation.status()
    assert len(federation.history) == 0 and status.message == "waiting for 3 clients to join"
    federation.join("carol", 600)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda client: play(federation, client, 1), SIZES))
    until(lambda: len(federation.history) == 1)
    assert len(federation.history[0].clients) == 3
    federation.leave("carol")  # and again, in the middle of a run
    until(lambda: federation.status().message == "waiting for 3 clients to join")


def test_a_fraction_draws_at_least_the_minimum(make):
    federation = make(clients=[f"c{i}" for i in range(10)])
    federation.start(Plan(1, fraction=0.1, min_updates=4))
    until(lambda: federation.status().round == 1)
    assert len(federation.status().waiting_for) == 4


def test_a_strategy_that_needs_more_updates_waits_for_them_too(make):
    federation = make(trimmed_mean(1), clients=["alice", "bob"])
    federation.start(Plan(1))
    until(lambda: federation.status().message == "waiting for 3 clients to join")
    federation.join("carol", 600)
    for client, value in (("alice", 1), ("bob", 5), ("carol", 2)):
        play(federation, client, value)
    federation.wait()
    assert number(federation.weights) == 2


def test_too_few_for_a_strategy_is_an_abandoned_round(make):
    federation = make(trimmed_mean(1))
    federation.start(Plan(1, deadline=0.2))
    play(federation, "alice", 1)
    play(federation, "bob", 5)
    record = federation.wait().last
    assert (
        record.note == "abandoned: 2 of 3 updates came; expected at least 3"
        and record.clients == {}
    )


def test_a_strategy_that_cannot_go_with_the_training_is_refused_before_the_run(make):
    federation = make(scaffold())
    with pytest.raises(Refused, match="optimizer is 'adam' with SCAFFOLD"):
        federation.start(Plan(1, Training(optimizer="adam")))
    assert not federation.running


def test_the_version_of_the_model_is_in_the_task(make):
    federation = make(clients=["alice"])
    federation.start(Plan(2))
    for version in (0, 1):
        assert federation.task("alice", 5).version == version
        play(federation, "alice", 1)
    federation.wait()
    federation.reset()
    federation.start(Plan(1))
    assert federation.task("alice", 5).version == 0


def test_in_the_asynchronous_way_too(make):
    federation = make(async_average(), clients=["alice", "bob"], shards=2)
    federation.start(Plan(1))
    assert federation.task("alice", 5).version == federation.task("bob", 5).version == 0
    play(federation, "alice", 1)
    assert federation.task("alice", 5).version == federation.task("bob", 5).version == 1


def test_numpys_integers_are_integers_here_too(make):
    federation = make(clients=[])
    federation.join("alice", np.int64(300), np.int32(2))
    assert federation.status().members[0].num_examples == 300
    assert Plan(np.int64(3), min_updates=np.uint8(2)).rounds == 3


class TwoSteps(Strategy):
    """Everyone is asked twice; who did not answer first is not asked again."""

    name, meaning = "two steps", ""

    def __init__(self):
        self.asked = []

    def run_round(self, state, task, ask):
        for phase in ("hello", "train"):
            updates = ask(dataclasses.replace(task, phase=phase))
            self.asked.append((phase, updates.participants))
            state = fed_avg().aggregate(state, updates)
        return state


def test_who_misses_an_exchange_takes_no_part_in_the_next(make):
    strategy = TwoSteps()
    federation = make(strategy)
    federation.start(Plan(1, deadline=0.4))
    assert federation.task("bob", 5).phase == "hello"
    for client in ("alice", "carol"):
        assert federation.task(client, 5).phase == "hello"
        report(federation, client, 1, 300, toy(1), phase="hello")
    until(lambda: federation.status().message == "round 1: 2 of 3 clients training")
    assert federation.task("bob") is None
    with pytest.raises(Conflict, match="expected one for round 1, phase 'train'"):
        report(federation, "bob", 1, 100, toy(1), phase="hello")
    for client in ("alice", "carol"):
        play(federation, client, 3)
    record = federation.wait().last
    assert strategy.asked == [("hello", ("alice", "bob", "carol")), ("train", ("alice", "carol"))]
    assert sorted(record.clients) == ["alice", "carol"] and number(federation.weights) == 3
    assert record.note == "2 of 3 updates: went on without bob"


def test_an_exchange_nobody_answers_abandons_the_round(make):
    federation = make(TwoSteps())
    federation.start(Plan(2, deadline=0.1))
    history = federation.wait()
    assert [r.note for r in history] == ["abandoned: 0 of 3 updates came; expected at least 1"] * 2


class Asking(Strategy):
    """A round of whatever `asks` makes of the task and the ids, in turn."""

    name, meaning = "asking", ""

    def __init__(self, *asks):
        self.asks = asks

    def run_round(self, state, task, ask):
        for each in self.asks:
            updates = ask(each(task))
            list(updates)
        return state


@pytest.mark.parametrize(
    ("asks", "sentence"),
    [
        ([lambda task: {}], "the strategy asking asks alice, bob, carol nothing; expected a task"),
        (
            [lambda task: dict.fromkeys(SIZES, task) | {"bob": dataclasses.replace(task, round=7)}],
            "asks for round 1, phase 'train', round 7, phase 'train'; expected round 1 and one",
        ),
        (
            [
                lambda task: (
                    dict.fromkeys(SIZES, task) | {"bob": dataclasses.replace(task, phase="x")}
                )
            ],
            "asks for round 1, phase 'train', round 1, phase 'x'; expected round 1 and one phase",
        ),
        ([lambda task: dataclasses.replace(task, round=2)], "expected round 1 and one phase"),
        ([lambda task: task] * 2, "asks for phase 'train' twice in a round; expected it once"),
    ],
)
def test_tasks_that_could_never_be_answered_are_refused(make, asks, sentence):
    federation = make(Asking(*asks))
    federation.start(Plan(1))
    if len(asks) == 2:
        for client in SIZES:
            play(federation, client, 1)
    with pytest.raises(Refused, match=sentence):
        federation.wait()


def test_answers_that_were_not_taken_before_the_next_phase_are_not_silently_none(make):
    @dataclasses.dataclass(frozen=True)
    class Late(Strategy):
        name: str = "late"

        def run_round(self, state, task, ask):
            first = ask(dataclasses.replace(task, phase="hello"))
            ask(task)
            return fed_avg().aggregate(state, first)

    federation = make(Late(), clients=["alice"])
    federation.start(Plan(1))
    federation.task("alice", 5)
    report(federation, "alice", 1, 10, toy(1), phase="hello")
    with pytest.raises(Refused, match="answers to phase 'hello' were asked for after another"):
        federation.wait()


def test_a_newcomer_does_not_go_on_under_a_leavers_name(make):
    federation = make(TwoSteps(), clients=["bob"])
    federation.join("alice", 300, session="first")
    federation.start(Plan(1, deadline=1.0))
    for client in ("alice", "bob"):
        federation.task(client, 5)
    report(federation, "alice", 1, 300, toy(1), phase="hello")
    federation.leave("alice")
    federation.join("alice", 300, session="second")
    report(federation, "bob", 1, 100, toy(1), phase="hello")
    until(lambda: federation.status().waiting_for == ["bob"])
    assert federation.task("alice") is None
    play(federation, "bob", 3)
    record = federation.wait().last
    assert sorted(record.clients) == ["bob"] and record.note.endswith("went on without alice")


@pytest.mark.parametrize(
    ("made", "error", "sentence"),
    [
        (
            lambda w: [2 * x for x in w],
            Refused,
            "the strategy mine made a list of round 1; expected",
        ),
        (
            lambda w: State([x.astype(float) for x in w]),
            Refused,
            "made a model of round 1 whose ar",
        ),
        (lambda w: State([x * np.float32("nan") for x in w]), Diverged, "diverged in round 1: the"),
    ],
)
def test_what_a_strategy_made_is_looked_at_before_it_is_written(
    make, tmp_path, made, error, sentence
):
    path = tmp_path / "c.safetensors"
    good = make(checkpoint=path, clients=["alice"])
    good.start(Plan(1))
    play(good, "alice", 1)
    good.wait()
    before = path.read_bytes()
    mine = Strategy("mine", "", lambda state, updates: list(updates) and made(state.weights))
    federation = make(mine, checkpoint=path, clients=["alice"])
    federation.start(Plan(1))
    play(federation, "alice", 1)
    with pytest.raises(error, match=sentence):
        federation.wait()
    assert path.read_bytes() == before and bits(federation.weights) == bits(toy())


def test_a_lineage_is_kept_over_rounds_and_checkpoints_and_ends_with_a_reset(make, tmp_path):
    path = tmp_path / "c.safetensors"
    federation = make(clients=["alice"], checkpoint=path)
    federation.start(Plan(2))
    seen = []
    for _ in range(2):
        seen.append(federation.task("alice", 5).lineage)
        play(federation, "alice", 1)
    federation.wait()
    assert len(set(seen)) == 1 and seen[0]
    state, history = load_checkpoint(path)
    again = make(clients=["alice"], state=state, history=history)
    again.start(Plan(1))
    assert again.task("alice", 5).lineage == seen[0]
    again.stop()
    again.reset()
    again.start(Plan(1))
    assert again.task("alice", 5).lineage not in ("", seen[0])


# ---- without rounds: stale updates ---------------------------------------------------------------


def test_fed_async_goes_less_far_towards_a_stale_update(make):
    """From 0: bob's 4 at half the way, 2. Alice's 10, one model late: a quarter of the way, 4."""
    federation = make(fed_async(mixing=0.5, damping=1.0))
    federation.start(Plan(1))
    late = federation.task("alice", 5)
    play(federation, "bob", 4)
    assert number(federation.weights) == 2
    report(federation, "alice", late.round, 300, toy(10), version=late.version)
    assert number(federation.weights) == 4
    assert [(t.client, t.staleness, t.taken) for t in federation.history.tasks] == [
        ("bob", 0, True),
        ("alice", 1, True),
    ]


def test_fed_buff_takes_a_step_with_every_second_update(make):
    """From 1. Alice changes it by 3; bob, from the same model, by 5: the mean of both is 4, so 5.
    Carol's change by 2, one model late, counts half: (1 + 6) / 2 more, with alice's 6.
    """
    federation = make(fed_buff(2, damping=1.0), weights=toy(1), shards=2)
    federation.start(Plan(1))
    late = federation.task("carol", 5)
    play(federation, "alice", 4)
    assert number(federation.weights) == 1 and federation.status().rounds == 3
    play(federation, "bob", 6)
    until(lambda: len(federation.history) == 1)
    assert number(federation.weights) == 5
    report(federation, "carol", late.round, 600, toy(3), version=late.version)
    assert number(federation.weights) == 5 and len(federation.history) == 1
    play(federation, "alice", 11)
    until(lambda: len(federation.history) == 2)
    assert number(federation.weights) == pytest.approx(5 + (0.5 * 2 + 6) / 2)
    assert [sorted(record.clients) for record in federation.history] == [
        ["alice", "bob"],
        ["alice", "carol"],
    ]
    play(federation, "bob", 7)
    play(federation, "carol", 7)
    assert len(federation.wait()) == 3


def test_the_last_model_is_tested_where_too_few_updates_for_another_may_come(make):
    for buffer, shards, tested in ((2, 1, True), (4, 2, True), (2, 2, False)):
        federation = make(fed_buff(buffer), evaluate=finite_square, shards=shards)
        federation.start(Plan(1, evaluate_every=2))
        for client in ["alice", "bob"] * shards:
            play(federation, client, 1)
        until(lambda federation=federation: len(federation.history) >= 1)
        first = federation.history[0]
        assert math.isfinite(first.loss) == tested, (buffer, shards)
        play(federation, "carol", 1)  # who is still waited for


def test_what_is_left_in_the_buffer_is_not_lost_with_a_checkpoint(make, tmp_path):
    strategy, path = fed_buff(2), tmp_path / "model.safetensors"
    federation = make(strategy, clients=["alice"], shards=3, checkpoint=path)
    federation.start(Plan(1))
    for value in (2, 4, 9):
        play(federation, "alice", value)
    assert len(federation.wait()) == 1 and federation.state.memory["buffered"][0] == 1
    state, history = load_checkpoint(path, toy(), strategy.identity)
    assert len(history) == 1 and bits(state.weights) == bits(federation.weights)


@pytest.mark.parametrize("strategy", [fed_async(), fed_buff(1)])
def test_an_update_of_a_model_that_is_not_kept_is_refused(make, strategy):
    federation = make(strategy, shards=3)
    federation.start(Plan(1))
    play(federation, "bob", 1)
    play(federation, "bob", 1)
    task = federation.task("bob", 5)
    until(lambda: len(federation.history) == 2)  # which is written down in the background
    before = snapshot(federation)
    with pytest.raises(
        Conflict, match="trained from model 0; expected model 2, which it was given"
    ):
        report(federation, "bob", task.round, 100, toy(1), version=0)
    assert snapshot(federation) == before
    report(federation, "bob", task.round, 100, toy(1), version=task.version)


def test_a_guest_sends_what_it_has_trained_from_anything(make):
    federation = make(fed_async(mixing=0.5), clients=[])
    federation.join("guest", 100, guest=True)
    federation.start(Plan(None))
    until(lambda: federation.status().message == "every update is merged as it arrives")
    report(federation, "guest", 1, 100, toy(4))
    assert number(federation.weights) == 2
    federation.stop()


def test_a_round_takes_the_first_that_come_and_says_who_was_at_work(make):
    federation = make()
    federation.start(Plan(2, enough=2))
    late = federation.task("alice", 5)
    play(federation, "carol", 1)
    play(federation, "bob", 8)
    until(lambda: len(federation.history) == 1)
    assert federation.history.last.note == "2 of 3 updates: went on without alice"
    assert number(federation.weights) == pytest.approx((600 + 800) / 700)
    play(federation, "bob", 8)  # round 2
    with pytest.raises(Conflict):
        report(federation, "alice", late.round, 300, toy(9))
    play(federation, "alice", 8)
    history = federation.wait()
    assert [(t.client, t.taken) for t in history.tasks] == [
        ("carol", True),
        ("bob", True),
        ("bob", True),
        ("alice", False),
        ("alice", True),
    ]
    assert all(0 <= t.began <= t.ended < 60 for t in history.tasks)


def test_enough_is_never_less_than_a_round_needs(make):
    federation = make()
    federation.start(Plan(1, enough=1, min_updates=2))
    play(federation, "carol", 1)
    assert federation.running
    play(federation, "bob", 1)
    assert sorted(federation.wait().last.clients) == ["bob", "carol"]


def test_who_left_in_the_middle_was_at_work_in_vain(make):
    federation = make()
    federation.start(Plan(1))
    federation.task("alice", 5)
    federation.leave("alice")
    play(federation, "bob", 1)
    play(federation, "carol", 1)
    assert [(t.client, t.taken) for t in federation.wait().tasks] == [
        ("alice", False),
        ("bob", True),
        ("carol", True),
    ]


# ---- one bad update costs one round --------------------------------------------------------------


def finite_square(weights):
    """A test whose loss overflows where weights are absurd: (loss, accuracy)."""
    with np.errstate(over="ignore"):
        return float(sum(np.sum(w * w, dtype=np.float32) for w in weights)), 0.5


@pytest.fixture
def tested(make):
    """A federation with a test set, and alice, bob, carol and mallory."""
    return make(evaluate=finite_square, clients=["alice", "bob", "carol", "mallory"])


def test_a_finite_update_that_spoils_the_model_costs_its_round_and_is_named(tested):
    tested.start(Plan(3))
    for round in (1, 2, 3):
        for name in ("alice", "bob", "carol"):
            play(tested, name, round)
        play(tested, "mallory", 1e30 if round == 2 else round)
    history = tested.wait()
    assert [len(record.clients) for record in history] == [4, 0, 4]
    said = r"rejected: training diverged in round 2: .* the test set is inf; .*without mallory$"
    assert re.match(said, history[1].note)
    assert tested.weights[0].ravel()[0] == 3 and history[1].loss == history[0].loss


def test_two_who_spoil_it_are_both_named_and_honest_ones_are_not(make):
    names = ["ann", "ben", "cleo", "dora", "eve"]
    federation = make(evaluate=finite_square, clients=names)
    federation.start(Plan(1))
    for name in names:
        play(federation, name, {"ben": 1e30, "eve": -2e30}.get(name, 1))
    assert federation.wait()[0].note.endswith("it would not without ben, eve")


def test_where_nobody_alone_has_done_it_the_run_ends_or_goes_on_as_the_plan_says(tested):
    """All of them: then the learning rate is wrong, and whoever is at the keyboard has to know. A
    server for a class goes on.
    """
    for strict in (True, False):
        tested.start(Plan(1, strict=strict))
        for name in ("alice", "bob", "carol", "mallory"):
            play(tested, name, 1e30)
        if strict:
            with pytest.raises(Diverged, match="diverged in round 1"):
                tested.wait()
        else:
            history = tested.wait()
            assert history[0].note.startswith("rejected: training diverged in round 1")
            assert "without" not in history[0].note and not history[0].clients


def test_where_single_updates_are_nobodys_business_nobody_is_named(make):
    """Leaving one out and looking at what is left would tell of it."""
    strategy = fed_avg()
    hidden = Strategy("hidden", "", strategy.aggregate)
    hidden.open_updates = False
    federation = make(hidden, evaluate=finite_square, clients=["alice", "bob", "mallory"])
    federation.start(Plan(1, strict=False))
    for name, value in {"alice": 1, "bob": 1, "mallory": 1e30}.items():
        play(federation, name, value)
    note = federation.wait()[0].note
    assert note.startswith("rejected: training diverged in round 1") and "mallory" not in note


def test_without_a_test_a_model_that_is_not_finite_is_noticed_too(make):
    """Momentum's step overflows where the average does not."""
    federation = make(fed_avg_momentum(0.9, 1e10), clients=["alice", "bob", "mallory"])
    federation.start(Plan(1))
    for name, value in {"alice": 1, "bob": 1, "mallory": 1e30}.items():
        play(federation, name, value)
    history = federation.wait()
    assert re.search("made a model whose .*; it would not without mallory", history[0].note)


def test_where_not_all_updates_were_kept_a_round_is_rejected_without_a_name(tested, monkeypatch):
    """Of more than MOST_KEPT bytes: whoever has spoiled it, the others go on."""
    monkeypatch.setattr(synchronous, "MOST_KEPT", 1)
    tested.start(Plan(6))
    for round in range(1, 7):
        for name in ("alice", "bob", "carol"):
            play(tested, name, round)
        play(tested, "mallory", round if round in (3, 6) else 1e30)
    history = tested.wait()
    assert [len(record.clients) for record in history] == [0, 0, 4, 0, 0, 4]
    assert history[0].note.startswith("rejected: training diverged in round 1")
    assert "without" not in history[0].note and number(tested.weights) == 6


def test_the_third_spoiled_round_in_a_row_ends_the_run(tested, monkeypatch):
    """Where not all updates were kept: then it is what everybody does, as far as one can tell."""
    monkeypatch.setattr(synchronous, "MOST_KEPT", 1)
    tested.start(Plan(9))
    for _ in range(synchronous.MOST_REJECTED):
        for name in ("alice", "bob", "carol", "mallory"):
            play(tested, name, 1e30)
    until(lambda: not tested.running)
    with pytest.raises(Diverged, match="diverged in round 3"):
        tested.wait()
    assert len(tested.history) == 2


def test_a_round_that_is_abandoned_between_them_is_no_spoiled_one(tested, monkeypatch):
    monkeypatch.setattr(synchronous, "MOST_KEPT", 1)
    everybody = ("alice", "bob", "carol", "mallory")
    tested.start(Plan(5, min_updates=4))
    for round in range(1, 6):
        if round % 2:
            for name in everybody:
                play(tested, name, 1e30)
        else:
            tested.task("mallory", 5)
            tested.leave("mallory")
            for name in everybody[:3]:
                play(tested, name, round)
            tested.join("mallory", SIZES.get("mallory", 50))
    notes = [record.note.split(":")[0] for record in tested.wait()]
    assert notes == ["rejected", "abandoned", "rejected", "abandoned", "rejected"]


# ---- without rounds: one bad update costs one update ---------------------------------------------


def test_an_update_that_takes_the_model_out_of_the_finite_numbers_is_refused(make):
    """From 1, ten times the change of 3e38 would be infinity; so would two such changes be that are
    only in the buffer yet. Nothing has changed, and 0.5 + 10 * 0.05 makes 1 again.
    """
    for buffer, tries in ((1, 1), (3, 2)):
        federation = make(fed_buff(buffer, server_learning_rate=10.0), weights=toy(1), shards=3)
        federation.start(Plan(1))
        task = federation.task("bob", 5)
        for _ in range(tries - 1):
            play(federation, "carol", 3.4e38)
            play(federation, "carol", 3.4e38)
        before = snapshot(federation)
        with pytest.raises(NotFinite, match="of 'bob' merged, holds NaN or infinity; expected"):
            play(federation, "bob", 3.4e38)
        assert snapshot(federation) == before and federation.running
        if buffer == 1:
            report(federation, "bob", 1, 100, toy(1.5), version=task.version)
            assert number(federation.weights) == 6


def test_an_update_that_spoils_the_test_is_rejected_and_the_run_goes_on(make):
    """300 of 1, 100 of 5 and 600 of 2 make 2, as if mallory had never been."""
    names = ["alice", "bob", "carol", "mallory"]
    federation = make(async_average(), evaluate=finite_square, clients=names, shards=2)
    federation.start(Plan(1))
    sent = ("alice", 1), ("mallory", 1e30), ("bob", 5), ("carol", 2)
    for count, (client, value) in enumerate(sent, start=1):
        play(federation, client, value)
        until(lambda count=count: len(federation.history) == count)
    assert number(federation.weights) == pytest.approx(2)
    assert federation.state.num_examples == 1000
    assert [sorted(record.clients) for record in federation.history] == [
        ["alice"], [], ["bob"], ["carol"]]  # fmt: skip
    said = (
        r"rejected: training diverged in round 2: the loss on the test set is inf; .*; since the"
        r" last good model mallory came$"
    )
    assert re.match(said, federation.history[1].note)
    assert federation.history[1].loss == federation.history[0].loss
    # It costs its round: mallory is at its second
    assert federation.task("mallory", 5).round == 2
    for client in names:
        play(federation, client, 2)
    assert number(federation.wait() and federation.weights) == pytest.approx(2)


def test_who_has_trained_from_the_spoiled_model_trains_again_and_is_not_to_blame(make):
    testing, go_on = threading.Event(), threading.Event()

    def evaluate(weights):
        if abs(weights[0][0, 0]) > 1e9:
            testing.set()
            assert go_on.wait(5)
        return finite_square(weights)

    federation = make(async_average(), evaluate=evaluate, clients=["alice", "bob", "mallory"])
    federation.start(Plan(1))
    play(federation, "alice", 1)
    until(lambda: len(federation.history) == 1)
    play(federation, "mallory", 1e30)
    assert testing.wait(5)
    spoiled = federation.task("bob", 5)
    assert spoiled.weights[0][0, 0] > 1e9
    go_on.set()
    until(lambda: len(federation.history) == 2)
    with pytest.raises(Conflict, match="of 'bob' trained from model 2, which was taken back; exp"):
        federation.report(
            Update("bob", 1, 100, toy(1e30), version=spoiled.version, run=spoiled.run)
        )
    again = federation.task("bob", 5)
    assert (again.round, again.version, number(again.weights)) == (1, 3, 1)
    play(federation, "bob", 5)
    assert number(federation.wait() and federation.weights) == pytest.approx(2)
    assert [sorted(record.clients) for record in federation.history] == [["alice"], [], ["bob"]]


def test_all_that_came_since_the_last_test_is_rejected_with_it_and_named(make):
    names = ["alice", "bob", "carol", "dora", "mallory"]
    federation = make(async_average(), evaluate=finite_square, clients=names, shards=2)
    federation.start(Plan(1, evaluate_every=2))
    for client, value in (("alice", 1), ("bob", 1), ("carol", 1), ("mallory", 1e30)):
        play(federation, client, value)
    until(lambda: len(federation.history) == 4)
    assert federation.history[3].note.endswith("since the last good model carol, mallory came")
    assert number(federation.weights) == 1 and federation.state.num_examples == 400


@pytest.mark.parametrize("strict", [True, False])
def test_where_everyone_spoils_it_an_asynchronous_run_ends_or_goes_on_as_the_plan_says(
    make, strict
):
    federation = make(async_average(), evaluate=finite_square)
    federation.start(Plan(1, strict=strict))
    for count, client in enumerate(SIZES, start=1):
        play(federation, client, 1e30)
        until(lambda count=count: len(federation.history) == count or not federation.running)
        if not federation.running:
            break
    if strict:
        with pytest.raises(Diverged, match="diverged in round 2"):
            federation.wait()
        assert len(federation.history) == 1
    else:
        assert len(federation.wait()) == 3 and bits(federation.weights) == bits(toy())


# ---- a run that has failed -----------------------------------------------------------------------


@pytest.mark.parametrize("failed", [True, False])
def test_whoever_is_turned_away_hears_whether_the_run_has_failed(make, failed):
    federation = make()
    federation.start(Plan(2))
    task = federation.task("alice", 5)
    if failed:
        federation.fail(Broken("the strategy is"))
    federation.close(grace=0)
    said = "the run ended by an error: the strategy is" if failed else "the run is over"
    for call in (
        lambda: federation.report(Update("alice", 1, 300, toy(1), run=task.run)),
        lambda: federation.task("bob"),
    ):
        with pytest.raises(RunOver, match=said) as heard:
            call()
        assert heard.type is (RunFailed if failed else RunOver)
    with pytest.raises(RunFailed if failed else RunOver):
        federation.join("dave", 1)


def test_after_an_error_and_a_good_run_it_is_over_and_has_not_failed(make):
    federation = make(clients=["alice"])
    federation.start(Plan(1))
    federation.fail(Broken("once"))
    with pytest.raises(Broken):
        federation.wait()
    federation.start(Plan(1))
    play(federation, "alice")
    federation.wait()
    federation.close(grace=0)
    with pytest.raises(RunOver) as heard:
        federation.task("alice")
    assert heard.type is RunOver


def test_a_bound_refuses_what_goes_too_far_and_nothing_else(make):
    federation = make(clients=["alice", "mallory"])
    size = sum(w.size for w in federation.weights)
    federation.start(Plan(3, bound=2 * size**0.5))
    play(federation, "alice", 2)
    with pytest.raises(TooFar, match=r"the change of 'mallory' is .* long; expected at most"):
        play(federation, "mallory", 2.01)
    with pytest.raises(TooFar) as error:
        play(federation, "mallory", 3e38)
    assert error.value.kind == "too_far"
    play(federation, "alice", 2)
    play(federation, "alice", 4)
    play(federation, "mallory", 3)
    history = federation.wait()
    share = SIZES["alice"] / (SIZES["alice"] + 50)
    assert federation.weights[0].ravel()[0] == pytest.approx(3 + share)
    said = "1 of 2 updates: went on without mallory (longer than the bound: mallory)"
    assert [record.note for record in history] == [said, said, ""]
    assert [task.taken for task in history.tasks if task.client == "mallory"] == [False] * 2 + [
        True
    ]
    with pytest.raises(Refused, match="bound is 0; expected a length above 0"):
        Plan(bound=0)


def test_a_round_does_not_wait_for_who_has_gone_too_far(make):
    federation = make(clients=["alice", "mallory"])
    federation.start(Plan(2, bound=1, min_updates=2))
    with pytest.raises(TooFar):
        play(federation, "mallory", 5)
    assert federation.task("mallory") is None and federation.status().waiting_for == ["alice"]
    with pytest.raises(Conflict):  # its answer was lost: it says it again
        report(federation, "mallory", 1, 50, toy(5))
    play(federation, "alice", 0.1)
    for name in ("alice", "mallory"):
        play(federation, name, 0.2)
    history = federation.wait()
    said = "abandoned: 1 of 2 updates came; expected at least 2 (longer than the bound: mallory)"
    assert [record.note for record in history] == [said, ""]


def test_without_rounds_who_has_gone_too_far_goes_on_with_its_next_shard(make):
    federation = make(async_average(), clients=["alice"], shards=2)
    federation.start(Plan(1, bound=1))
    with pytest.raises(TooFar):
        play(federation, "alice", 5)
    with pytest.raises(Conflict, match="for round 1 again; expected none: it went too far") as said:
        report(federation, "alice", 1, SIZES["alice"], toy(5))  # as the answer was lost
    assert said.value.kind == "conflict", "it was not counted"
    assert federation.task("alice", 5).round == 2
    play(federation, "alice", 0.1)
    assert len(federation.wait()) == 1 and number(federation.weights) == np.float32(0.1)
    federation.start(Plan(1))  # in another run nothing of that is left
    for round in (1, 2):
        assert federation.task("alice", 5).round == round
        play(federation, "alice", round)
    assert len(federation.wait()) == 3


# ---- who is let go -------------------------------------------------------------------------------


def test_who_is_removed_hears_it_and_is_waited_for_no_longer(make):
    federation = make()
    federation.start(Plan(1))
    assert all(federation.task(client, 5) for client in SIZES)
    federation.remove("carol")
    for call in (
        lambda: federation.task("carol"),
        lambda: federation.report(Update("carol", 1, 600, toy(9))),
        lambda: federation.remove("carol"),
        lambda: federation.leave("carol"),
    ):
        with pytest.raises(RunOver, match="client 'carol' has left, or was removed"):
            call()
    play(federation, "alice", 1)
    play(federation, "bob", 5)
    # It did not fail: the run does not, either, though the plan is strict
    (record,) = federation.wait()
    assert sorted(record.clients) == ["alice", "bob"]
    assert record.note == "2 of 3 updates: went on without carol"
    assert number(federation.weights) == pytest.approx(2)
    federation.join("carol", 600)
    assert federation.task("carol") is None


def test_a_long_poll_of_who_is_removed_ends(make):
    federation = make()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(federation.task, "carol", 30)
        time.sleep(0.1)
        federation.remove("carol")
        with pytest.raises(RunOver, match="was removed"):
            poll.result(5)


def test_who_is_dismissed_is_waited_for_no_longer_and_joins_again(make):
    federation = make()
    federation.start(Plan(2))
    assert all(federation.task(client, 5) for client in SIZES)
    federation.dismiss("carol")
    federation.dismiss("carol")  # again, and nobody: nothing to do
    federation.dismiss("nobody")
    for call in (
        lambda: federation.task("carol"),
        lambda: report(federation, "carol", 1, 600, toy(9)),
        lambda: federation.leave("carol"),
    ):
        with pytest.raises(UnknownClient, match="no client called 'carol' has joined"):
            call()
    play(federation, "alice", 1)
    federation.join("carol", 600)
    assert federation.task("carol") is None, "the round goes on without it"
    play(federation, "bob", 5)
    assert federation.task("carol", 5).round == 2
    for client in SIZES:
        play(federation, client, 7)
    first, second = federation.wait()
    assert sorted(first.clients) == ["alice", "bob"] and sorted(second.clients) == sorted(SIZES)


def test_what_who_is_dismissed_has_sent_counts(make):
    federation = make(clients={"alice": 300, "bob": 100})
    federation.start(Plan(1))
    play(federation, "alice", 1)
    federation.dismiss("alice")
    play(federation, "bob", 5)
    (record,) = federation.wait()
    assert sorted(record.clients) == ["alice", "bob"]
    assert number(federation.weights) == pytest.approx(2)


def test_a_long_poll_of_who_is_dismissed_ends(make):
    federation = make()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(federation.task, "carol", 30)
        federation.dismiss("carol")
        with pytest.raises(UnknownClient):
            poll.result(5)
        assert not federation.waits("carol"), "over HTTP it would be answered at once"


def test_the_model_and_its_version_belong_together(make):
    federation = make()
    assert federation.model[0] == 0 and bits(federation.model[1]) == bits(federation.weights)
    federation.start(Plan(2))
    for client in SIZES:
        play(federation, client, 3)
    version, weights = federation.task("alice", 5).version, federation.task("alice").weights
    assert federation.model == (version, weights) and version == 1
    federation.stop()
    federation.reset()
    assert federation.model[0] == 0 and number(federation.model[1]) == 0


def test_a_ban_holds_for_a_name_joined_or_not(make):
    federation = make()
    federation.remove("carol", ban=True)
    federation.remove("eve", ban=True)
    federation.remove("carol", ban=True)  # again: nothing to do
    for name in ("carol", "Carol", "eve"):
        with pytest.raises(Banned, match=f"client '{name}' may not take part"):
            federation.join(name, 50)
    with pytest.raises(RunOver):  # what it hears whose name is banned is still that it was removed
        federation.task("carol")
    with pytest.raises(UnknownClient):
        federation.remove("nobody")
    with pytest.raises(UnknownClient):
        federation.task("eve")
    assert [member.client for member in federation.status().members] == ["alice", "bob"]


def test_who_is_banned_goes_in_whatever_letters_and_what_it_sent_counts_no_more(make):
    federation = make(clients=["alice", "bob"])
    federation.start(Plan(1))
    play(federation, "bob", 1e6)
    federation.remove("BOB", ban=True)
    play(federation, "alice", 3)
    record = federation.wait().last
    assert list(record.clients) == ["alice"] and number(federation.weights) == 3
    for name in ("bob", "Bob"):
        with pytest.raises(Banned):
            federation.join(name, 1)


def test_a_token_of_an_earlier_session_does_nothing_in_a_later_one(make):
    """Whoever had the name before: not fetch, not send, not leave."""
    federation = make(clients=[])
    federation.join("ada", 300, session="first")
    federation.leave("ada", session="first")
    federation.join("ada", 300, session="second")
    federation.start(Plan(1))
    run = federation.task("ada", 5, "second").run
    for act in (
        lambda: federation.leave("ada", session="first"),
        lambda: federation.task("ada", 0, "first"),
        lambda: federation.report(Update("ada", 1, 300, toy(9), run=run), "first"),
    ):
        with pytest.raises(RunOver, match="'ada' has left: somebody else has its name now"):
            act()
    assert not federation.waits("ada", "first")
    play(federation, "ada", 2)
    assert number(federation.wait() and federation.weights) == 2


def test_of_what_clients_claim_the_owner_decides(make):
    """A federation of one's own clients limits nothing."""
    make(clients=[]).join("alice", 10**9, 10**9)
    federation = make(clients=[], limits=Limits(clients=2, examples=300))
    with pytest.raises(Refused, match="num_examples is 600; expected a whole number from 1 to 300"):
        federation.join("carol", 600)
    federation.join("alice", 300)
    federation.join("bob", 100)
    with pytest.raises(Full, match="'dave' would be one too many; expected at most 2 clients"):
        federation.join("dave", 50)
    # The last word is the update's: no more examples than it joined with
    federation.start(Plan(1))
    run = federation.task("bob", 5).run
    with pytest.raises(BadUpdate, match="num_examples is 300"):
        federation.report(Update("bob", 1, 300, toy(1), run=run))
    federation.leave("alice")
    federation.join("dave", 50)


# ---- whether one would have to wait --------------------------------------------------------------


class Jumping(RealTime):
    """This machine's clock, which a test sets on."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("way", ["rounds", "two steps", "as they come", "in buffers"])
def test_whether_one_would_have_to_wait_agrees_with_what_is_answered(make, way, seed):
    """A random walk through what can happen; after each step somebody asks. `waits` decides
    whether a long poll is looked after again: a wrong True is a client that sleeps on, a wrong
    False is one that is asked for nothing.
    """
    strategies = {"rounds": fed_avg, "two steps": TwoSteps, "as they come": async_average}
    strategy = strategies.get(way, lambda: fed_buff(buffer=2))()
    clock, rng = Jumping(), np.random.default_rng(seed)
    federation = make(strategy, clients=[], clock=clock)
    table, names, tasks, seen = federation._table, ["alice", "bob", "carol", "dave"], {}, set()

    def sessions(client):
        return {"session": str(rng.integers(2)), "shards": int(rng.integers(1, 4))}

    def report(client):
        task = tasks.pop(client)
        about = {"phase": task.phase, "version": task.version}
        federation.report(Update(client, task.round, 1, toy(1), **about))

    def sleep_on(client):
        clock.ahead += members.SILENT_AFTER / 2

    def begin(client):
        rounds = [1, 3, None][rng.integers(3)]
        fraction = [0.5, 1.0][rng.integers(2)] if not strategy.asynchronous else 1.0
        deadline = [None, 40.0][rng.integers(2)] if not strategy.asynchronous else None
        federation.start(Plan(rounds, fraction=fraction, deadline=deadline, strict=False))

    steps = [
        lambda client: federation.join(client, 50, **sessions(client)),
        lambda client: federation.leave(client),
        lambda client: federation.remove(client),
        sleep_on,
        begin,
        lambda client: federation.stop(),
        lambda client: time.sleep(0.002),  # for the background
        report,
    ]
    often = np.array([4, 1, 1, 1, 3, 0.5, 6, 12])
    for _ in range(400):
        step = steps[rng.choice(len(steps), p=often / often.sum())]
        with contextlib.suppress(Refused, KeyError):
            step(names[rng.integers(4)])
        client = names[rng.integers(4)]
        with table.changed:  # so that nothing happens between the two
            version = federation.status().version
            waits = federation.waits(client)
            assert federation.status().version == version, "looking changes nothing"
            try:
                answer = tasks[client] = federation.task(client)
            except Refused:
                answer = "refused"
            tasks = {name: task for name, task in tasks.items() if task is not None}
            assert waits == (answer is None), (client, answer)
            seen.add("task" if isinstance(answer, Task) else answer)
    assert seen == {"task", None, "refused"}
    federation.close(grace=0)
    assert not any(federation.waits(client) for client in [*names, "nobody"])


def test_who_has_another_ones_name_waits(make):
    """Within a round of two steps, under the name of one that fell silent after the first: there
    is a task for that name, and not for this one.
    """
    clock = Jumping()
    federation = make(TwoSteps(), clients=[], clock=clock)
    for client in ("alice", "bob"):
        federation.join(client, 300, session="first")
    federation.start(Plan(1))
    for client in ("alice", "bob"):
        run = federation.task(client, 5).run
        federation.report(Update(client, 1, 300, toy(1), phase="hello", run=run))
    until(lambda: federation.status().phase == "train")
    clock.ahead = members.SILENT_AFTER
    assert not federation.waits("alice")
    federation.join("alice", 300, session="second")
    assert federation.waits("alice") and federation.task("alice") is None
    play(federation, "bob", 3)
    assert sorted(federation.wait().last.clients) == ["bob"]


def test_whoever_wants_to_is_told_of_every_change(make):
    federation, told = make(clients=[]), []
    federation.on_change(lambda: told.append(federation.status().version))
    federation.on_change(lambda: told.append("another"))
    federation.join("alice", 300)
    assert told == [1, "another"]
    federation.start(Plan(1))
    play(federation, "alice")
    federation.wait()
    federation.leave("alice")
    versions = [version for version in told if version != "another"]
    assert versions == list(range(1, federation.status().version + 1))
