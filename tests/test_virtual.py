"""Virtual time: when everything happens, worked out by hand; and the limits in which it is known
what must come out."""

import itertools
from collections import Counter

import numpy as np
import pytest

import fedlab
from fedlab import VirtualClock, simulate


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.train.subset(np.arange(600))


def toy():
    """A model so small that training costs nothing."""
    from fedlab.compiled import keras

    dense = keras.layers.Dense(10, activation="softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((784,)), dense])


def run(images, sizes, clock, **settings):
    """A run with clients a, b, c, ... of these sizes, and what its tasks were:
    (client, began, ended, taken)."""
    ends = np.cumsum(sizes)
    names = "abcdefghij"[: len(sizes)]
    clients = {
        name: images.subset(np.arange(end - size, end))
        for name, size, end in zip(names, sizes, ends, strict=True)
    }
    settings = {"rounds": 2, "model": toy(), "progress": False} | settings
    history = simulate(clients, clock=clock, **settings)
    return history, [(t.client, t.began, t.ended, t.taken) for t in history.tasks]


# ---- rounds --------------------------------------------------------------------------------------


def test_with_equal_speeds_it_is_the_simulation_without_a_clock_bit_for_bit(images):
    clients = fedlab.partition_dirichlet(images, 6, seed=1)
    for strategy in (fedlab.fed_avg, fedlab.scaffold, fedlab.fed_avg_momentum):
        settings = {"test": images, "rounds": 3, "fraction": 0.5, "progress": False}
        plain, timed = (
            simulate(clients, strategy=strategy(), clock=clock, **settings)
            for clock in (None, VirtualClock(60))
        )
        assert [(r.loss, r.accuracy, sorted(r.clients), r.bytes) for r in plain] == [
            (r.loss, r.accuracy, sorted(r.clients), r.bytes) for r in timed
        ]


def test_a_round_takes_as_long_as_its_slowest_client(images):
    # 60 images, 2 epochs, 12 images a second: 10 s; with 3 s on the way 13 s. c: 20 / 1 * 2 + 3
    clock = VirtualClock({"a": 12, "b": 12, "c": 1}, latency=3)
    history, tasks = run(images, [60, 60, 20], clock, epochs=2)
    assert [r.seconds for r in history] == [43, 86]
    assert tasks[:3] == [("a", 0, 13, True), ("b", 0, 13, True), ("c", 0, 43, True)]
    assert tasks[3:] == [("a", 43, 56, True), ("b", 43, 56, True), ("c", 43, 86, True)]


def test_at_a_deadline_the_late_are_left_out_and_begin_late_again(images):
    clock = VirtualClock([10, 10, 2])  # 2, 2 and 10 s
    history, tasks = run(images, [20, 20, 20], clock, rounds=5, deadline=4)
    assert [r.seconds for r in history] == [4, 8, 12, 16, 20]
    assert all(sorted(r.clients) == ["a", "b"] for r in history)
    # c's first update comes at 10, in round 3, whose task it gets then: until 20, in round 5, which
    # is over by then
    late = [task for task in tasks if task[0] == "c"]
    assert late[0] == ("c", 0, 10, False) and not any(taken for *_, taken in late)


def test_with_enough_the_first_to_come_make_the_round(images):
    clock = VirtualClock({"a": 10, "b": 5, "c": 4, "d": 20})  # 2, 4, 5 and 1 s
    history, tasks = run(images, [20, 20, 20, 20], clock, rounds=1, enough=3)
    assert history[0].seconds == 4 and sorted(history[0].clients) == ["a", "b", "d"]
    assert history[0].note == "3 of 4 updates: went on without c"
    # At the same moment the order of the ids decides
    history, _ = run(images, [20, 20, 20], VirtualClock(10), rounds=1, enough=2)
    assert sorted(history[0].clients) == ["a", "b"]


def test_nobody_is_at_two_tasks_at_once(images):
    """Also not who was too late, and got its next task at once."""
    clock = VirtualClock({"a": 10, "b": 0.1}, drop_out=0.5)
    history, _ = run(images, [30, 30], clock, rounds=60, enough=1)
    own = [t for t in history.tasks if t.client == "b"]
    assert {t.taken for t in own} == {True, False}
    assert all(one.ended <= following.began for one, following in itertools.pairwise(own))


def test_no_training_for_what_is_not_wanted(images, monkeypatch):
    trained = []
    answer = fedlab.Participant.answer
    monkeypatch.setattr(
        fedlab.Participant,
        "answer",
        lambda self, task, **more: trained.append(self.client) or answer(self, task, **more),
    )
    clock = VirtualClock([10] * 5 + [0.001] * 5)
    history, _ = run(images, [20] * 10, clock, rounds=4, deadline=3)
    assert len(history) == 4 and sorted(set(trained)) == list("abcde") and len(trained) == 20


def test_everybody_may_drop_out_of_a_round(images):
    history, tasks = run(images, [20, 20], VirtualClock(10, drop_out=0.9), rounds=30, test=images)
    notes = [r.note for r in history]
    assert "abandoned: 0 of 2 updates came; expected at least 1" in notes
    assert len(tasks) == 60, "who dropped out is there again in the next round"
    assert 0.8 < np.mean([not taken for *_, taken in tasks]) < 1
    times = [r.seconds for r in history]
    assert times == sorted(times) and times[-1] < 60, "the server notices at once"


def test_what_was_trained_ahead_and_is_not_wanted_leaves_no_trace(images, monkeypatch):
    """While the first two of a round come, the others are trained already. What SCAFFOLD's clients
    remember is the same as if they were not.
    """
    clients = fedlab.partition_iid(images, 6)

    def losses():
        history = simulate(
            clients,
            test=images,
            rounds=12,
            fraction=0.7,
            enough=2,
            strategy=fedlab.scaffold(),
            clock=VirtualClock(100),
            progress=False,
        )
        return [r.loss for r in history]

    ahead = losses()
    monkeypatch.setattr("fedlab.virtual.heapq.nsmallest", lambda count, heap: [])
    assert losses() == ahead


# ---- without rounds ------------------------------------------------------------------------------


def test_fedbuff_with_a_barrier_is_fedavg(images):
    clients = fedlab.partition_iid(images, 5)
    settings = {"test": images, "rounds": 3, "progress": False}
    averaged = simulate(clients, **settings)
    buffered = simulate(clients, strategy=fedlab.fed_buff(5), clock=VirtualClock(120), **settings)
    assert [r.seconds for r in buffered] == [1, 2, 3]
    assert [r.loss for r in buffered] == pytest.approx([r.loss for r in averaged], abs=1e-6)
    assert {t.staleness for t in buffered.tasks} == {0}
    assert all(len(r.clients) == 5 for r in buffered)


def test_staleness_is_how_many_new_models_there_were(images):
    clock = VirtualClock({"a": 20, "b": 20 / 3})  # 1 s and 3 s
    history, tasks = run(images, [20, 20], clock, rounds=6, strategy=fedlab.fed_async())
    of_b = [t for t in history.tasks if t.client == "b"]
    # a sends at 1, 2, 3; at 3 a comes first, so three models were new when b's is merged
    assert [(t.began, t.ended, t.staleness) for t in of_b[:2]] == [(0, 3, 3), (3, 6, 3)]
    # and both begin anew with a model in which both are
    assert [t.staleness for t in history.tasks if t.client == "a"] == [0] * 6
    assert len(history) == 12 and history.last.seconds == 18


def test_fed_async_by_hand(images):
    models = {}
    clock = VirtualClock({"a": 20, "b": 20 / 3})
    sent = []

    def keep(update, task):
        sent.append(update)
        return update

    strategy = fedlab.fed_async(mixing=0.5, damping=1.0)
    run(
        images,
        [20, 20],
        clock,
        rounds=3,
        strategy=strategy,
        transforms=[keep],
        on_model=models.__setitem__,
    )
    first = next(u for u in sent if u.client == "a" and u.round == 1)
    start = toy().get_weights()
    for got, old, new in zip(models[1], start, first.weights, strict=True):
        assert np.allclose(got, old + 0.5 * (new - old), atol=1e-7)
    stale = next(u for u in sent if u.client == "b" and u.round == 1)  # 4th, staleness 3
    for got, old, new in zip(models[4], models[3], stale.weights, strict=True):
        assert np.allclose(got, old + 0.125 * (new - old), atol=1e-7)


def test_only_so_many_are_at_work_and_all_have_their_turn(images):
    history, tasks = run(
        images, [20] * 10, VirtualClock(20), rounds=6, fraction=0.3, strategy=fedlab.fed_buff(3)
    )
    for moment in np.arange(0.5, 19):
        assert sum(began < moment < ended for _, began, ended, _ in tasks) == 3
    assert len(tasks) == 60 and {client for client, *_ in tasks} == set("abcdefghij")


def test_a_race_repeats_from_its_seed_for_any_number_of_workers(images):
    def race(seed, workers):
        clock = VirtualClock([10, 20, 30, 40, 50, 7], latency=0.1, drop_out=0.2, until=60)
        history, tasks = run(
            images,
            [20, 30, 40, 50, 60, 70],
            clock,
            rounds=1000,
            fraction=0.5,
            strategy=fedlab.fed_buff(2),
            test=images,
            seed=seed,
            workers=workers,
        )
        return [(r.seconds, r.loss, sorted(r.clients)) for r in history], tasks

    assert race(1, 1) == race(1, 4) != race(2, 4)
    assert 50 < race(1, 1)[0][-1][0] <= 60


@pytest.mark.parametrize("fraction", [0, 0.3])
def test_everybody_is_waited_for_however_late_its_turn(images, fraction):
    """Also where all who are at work end at one moment, and the others have said nothing yet."""
    settings = {"rounds": 1, "fraction": fraction, "strategy": fedlab.fed_async()}
    history, tasks = run(images, [20] * 10, VirtualClock(0.1), **settings)  # 200 s each
    assert sorted(client for client, *_ in tasks) == list("abcdefghij")
    assert len(history) == 10 and history.last.seconds == 200 * (4 if fraction else 10)


def test_who_drops_out_has_done_what_it_had_done(images):
    clock = VirtualClock(10, drop_out=0.3)
    history, tasks = run(images, [20] * 3, clock, rounds=8, strategy=fedlab.fed_async())
    assert Counter(client for client, *_, taken in tasks if taken) == {"a": 8, "b": 8, "c": 8}
    assert len(history) == 24 and len(tasks) > 24, "only the task under way is lost"


def test_the_last_model_is_tested_though_some_updates_only_go_into_the_buffer(images):
    strategy, clock = fedlab.fed_buff(5), VirtualClock(20)
    about = {"strategy": strategy, "test": images, "evaluate_every": 3}
    for rounds, models in ((1, 1), (2, 2), (4, 4)):  # of 6, 12 and 24 updates
        history, _ = run(images, [20] * 6, clock, rounds=rounds, **about)
        tested = [not np.isnan(r.accuracy) for r in history]
        assert tested == [False, False, True, False][: models - 1] + [True]


def test_the_running_average_goes_through_everybodys_shards_once(mnist):
    """As the original does: alice has two shards, bob one; each counts by its examples."""
    clients = {"alice": mnist.shards(1, 2), "bob": mnist.shards(3, 3)}
    history = simulate(
        clients,
        rounds=1,
        strategy=fedlab.async_average(),
        clock=VirtualClock(5_000),
        model=toy(),
        progress=False,
    )
    assert [sorted(r.clients) for r in history] == [["alice"], ["bob"], ["alice"]]
    assert [r.seconds for r in history] == [1, 1, 2]


# ---- the end -------------------------------------------------------------------------------------


def test_until_ends_it(images):
    history, _ = run(images, [20, 20], VirtualClock(10, until=7), rounds=10)
    assert [r.seconds for r in history] == [2, 4, 6]


def test_asked_to_stop_it_keeps_the_history(images):
    asked = []
    history, _ = run(
        images, [20], VirtualClock(10), rounds=1000, stop=lambda: asked.append(1) or len(asked) > 50
    )
    assert 1 <= len(history) < 1000


def test_what_a_client_raises_is_raised(images):
    def broken(update, task):
        raise RuntimeError("out of battery")

    with pytest.raises(RuntimeError, match="out of battery"):
        run(images, [20, 20], VirtualClock(10), transforms=[broken])


def test_a_slow_client_costs_no_waiting(images):
    """A million virtual seconds."""
    history, _ = run(images, [20, 20], VirtualClock([10, 2e-5]), rounds=1)
    assert history.last.seconds == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"speed": 0}, "speed is 0; expected images a second, a number above 0"),
        ({"speed": [600, -1]}, "speed is -1; expected images a second"),
        ({"speed": {"bob": float("nan")}}, "the speed of bob is nan; expected images a second"),
        ({"speed": "fast"}, "speed is 'fast'; expected"),
        ({"speed": 1, "latency": -1}, "latency is -1; expected seconds"),
        ({"speed": 1, "drop_out": 1}, "drop_out is 1; expected a probability from 0 up to, not"),
        ({"speed": 1, "until": 0}, "until is 0; expected seconds above 0, or None"),
    ],
)
def test_a_clock_that_cannot_be(settings, sentence):
    with pytest.raises(fedlab.Refused, match=sentence):
        VirtualClock(**settings)


def test_a_speed_for_each(images):
    with pytest.raises(fedlab.Refused, match="got 3 speeds for 2 clients; expected one each"):
        run(images, [20, 20], VirtualClock([1, 2, 3]))
    with pytest.raises(fedlab.Refused, match="there is no speed for b; expected one for each"):
        run(images, [20, 20], VirtualClock({"a": 1}))


@pytest.mark.parametrize("settings", [{"deadline": 2}, {"enough": 1}])
def test_who_comes_first_needs_a_clock(images, settings):
    with pytest.raises(fedlab.Refused, match="got a deadline or enough and no clock; expected"):
        simulate([images], progress=False, **settings)


def test_over_http_time_is_real(images):
    with (
        fedlab.Server() as server,
        pytest.raises(fedlab.Refused, match="got a clock; expected none"),
    ):
        server.run(rounds=1, clock=VirtualClock(10), progress=False)


def test_without_rounds_nobody_is_drawn(images):
    with pytest.raises(
        fedlab.Refused, match="sampling is 'poisson' with FedBuff; expected a strategy"
    ):
        run(images, [60, 60], VirtualClock(100), strategy=fedlab.fed_buff(2), sampling="poisson")
