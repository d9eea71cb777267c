"""Secure aggregation as a strategy: the same model as without, over HTTP too, and a server that
never holds an update in the open."""

import json
import random
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import fedlab
from fedlab import wire
from fedlab.checks import Refused
from fedlab.http import routes
from fedlab.messages import BadUpdate, Conflict, Task, Training, Update
from fedlab.plan import POISSON, Plan
from fedlab.secure import BadKey, FixedPoint, SecureSide, secured
from fedlab.secure.told import ABOUT, KEYS, MASKED, SHARES, UNMASK, about_of, get, listed, put
from fedlab.strategies import State, TooFewUpdates, Updates

SIZES = {"ann": 30, "ben": 60, "cleo": 90, "dora": 30, "eve": 45}


def examples(number: int, seed: int) -> fedlab.Dataset:
    pixels = np.random.default_rng(seed).integers(0, 256, (number, 28, 28), np.uint8)
    return fedlab.Dataset(pixels, np.arange(number) % 10)


@pytest.fixture(scope="module")
def clients():
    return {name: examples(size, seed) for seed, (name, size) in enumerate(SIZES.items())}


def models(clients, strategy, rounds=2, **more):
    """Every global model of a simulation."""
    found = {}
    settings = {"batch_size": 10, "progress": False, "on_model": found.__setitem__} | more
    found["history"] = fedlab.simulate(clients, rounds=rounds, strategy=strategy, **settings)
    return found


class Played:
    """A round of a strategy, with clients that train nothing: their models are random. leave: how
    many exchanges each takes part in, 4 if absent.
    """

    def __init__(self, strategy, number=12, leave=None, seed=0, plan=None, drawn=None):
        rng = np.random.default_rng(seed)
        self.strategy, self.leave, self.plan = strategy, leave or {}, plan or Plan()
        self.old = [rng.normal(0, 1, shape).astype(np.float32) for shape in ((4, 3), (5,), ())]
        self.names = [f"client-{i:02}" for i in range(number)]
        self.drawn = self.names if drawn is None else drawn
        self.new = {n: [w + rng.normal(0, 0.3, w.shape).astype(np.float32) for w in self.old]
                    for n in self.names}  # fmt: skip
        self.examples = {name: int(rng.integers(1, 600)) for name in self.names}
        self.sides = {name: SecureSide() for name in self.names}
        self.received, self.exchanges = [], 0
        self.state = State(self.old)
        self.task = Task(3, 9, self.old, Training(), seed=5)

    def ask(self, tasks):
        self.exchanges += 1
        within = self.within() if self.exchanges > 1 else self.drawn
        tasks = dict.fromkeys(within, tasks) if isinstance(tasks, Task) else tasks
        assert set(within) <= set(tasks)
        answers = [self.answer(name, tasks[name]) for name in self.within(within)]
        for update in answers:
            self.strategy.check_answer(update, self.old, tasks[update.client])
        self.received += answers
        total = sum(self.examples.values())
        return Updates(answers, tuple(within), len(self.names), total, self.plan)

    def within(self, of=None):
        before = self.exchanges - (of is None)
        return [name for name in of or self.drawn if self.leave.get(name, 4) >= before]

    def answer(self, name, task):
        if task.phase == "train":
            update = Update(name, task.round, self.examples[name], self.new[name])
            return self.sides[name].mask(update, task)
        body = SimpleNamespace(client=name, shard=lambda _: range(self.examples[name]))
        answer = self.sides[name].phases[task.phase](body, task)
        return replace(answer, phase=task.phase)

    def run(self):
        return self.strategy.run_round(self.state, self.task, self.ask)


# ---- the same model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [fedlab.fed_avg, fedlab.fed_prox, fedlab.fed_adam, lambda: fedlab.fed_avg_momentum(0.5)],
)
def test_it_is_the_plain_average_within_the_stated_error(clients, make):
    plain, secure = models(clients, make(), 1), models(clients, secured(make()), 1)
    error = FixedPoint(summands=5).error * max(SIZES.values()) / sum(SIZES.values())
    for mine, its in zip(plain[1], secure[1], strict=True):
        assert np.abs(mine - its).max() <= error + 2e-7  # and the rounding of one float32 each
        assert (mine != its).any() or mine.size < 20, "nothing was rounded: was it masked?"
    record = secure["history"][0]
    assert {name: c.num_examples for name, c in record.clients.items()} == SIZES
    assert all(np.isnan(c.accuracy) for c in record.clients.values())


@pytest.mark.slow
def test_two_hundred_rounds_with_people_leaving_at_any_exchange():
    choice, ended = random.Random(3), Counter()
    for seed in range(200):
        chance = choice.choice([0.0, 0.1, 0.3, 0.5])
        leave = {f"client-{i:02}": choice.randint(0, 3) for i in range(12)
                 if choice.random() < chance}  # fmt: skip
        played = Played(secured(fedlab.fed_avg()), leave=leave, seed=seed)
        try:
            new = played.run()
        except TooFewUpdates as error:
            assert "expected at least" in str(error)
            ended["a sentence"] += 1
            continue
        stayed = [name for name in played.names if leave.get(name, 4) >= 3]
        plain, total = fedlab.weighted_mean(
            Update(name, 3, played.examples[name], played.new[name]) for name in stayed
        )
        assert new.num_examples == total
        scale = max(played.examples[n] for n in played.names if leave.get(n, 4) >= 2)
        error = FixedPoint(summands=12).error * scale / total + 3e-7
        for mine, its in zip(new.weights, plain, strict=True):
            assert np.abs(mine - its).max() <= error
        ended["the average"] += 1
    assert min(ended.values()) > 20


def test_the_server_never_holds_what_a_client_trained():
    """Of everything that arrives in a round, no array is a model, and no number of it is one of the
    client's own as the server would write it.
    """
    played = Played(secured(fedlab.fed_avg()), seed=8)
    played.run()
    point, scale = FixedPoint(summands=12), max(played.examples.values())
    assert len(played.received) == 48 and {u.phase for u in played.received} == {
        KEYS, SHARES, "train", UNMASK}  # fmt: skip
    alike = 0
    for update in played.received:
        assert not update.weights and np.isnan(update.accuracy) and np.isnan(update.loss)
        assert all(a.dtype in (np.uint8, np.uint32) for group in update.more.values()
                   for a in group)  # fmt: skip
        if update.phase == "train":
            new, old = played.new[update.client], played.old
            change = np.concatenate([(n.astype(float) - o).ravel()
                                     for n, o in zip(new, old, strict=True)])  # fmt: skip
            own = point.write(change * played.examples[update.client] / scale)
            alike += (own == update.more[MASKED][0]).sum()
    assert alike == 0


def test_over_http_it_is_the_simulation_bit_for_bit_and_nothing_open_arrives(clients, monkeypatch):
    """The masks are others in every run; the sum is the same whole number."""
    received = []
    decode = wire.decode_update

    def watched(body):
        received.append(decode(body))
        return received[-1]

    monkeypatch.setattr(routes.wire, "decode_update", watched)
    simulated, over_http = models(clients, secured(fedlab.fed_avg())), {}
    with fedlab.Server(strategy=secured(fedlab.fed_avg())) as server:
        people = []
        for name, data in clients.items():
            side = SecureSide(insist=True)
            people.append(fedlab.Client(server.url, name, data, side=side).start())
        for round in (1, 2):
            history = server.run(rounds=1, batch_size=10, min_clients=5)
            over_http[round] = server.federation.weights
        for client in people:
            client.stop()
    for round, weights in over_http.items():
        for mine, its in zip(simulated[round], weights, strict=True):
            np.testing.assert_array_equal(mine, its)
    assert len(received) == 40 and not any(update.weights for update in received)
    bytes_up = sum(sum(w.nbytes for w in simulated[1]) for _ in SIZES)
    assert bytes_up < history[0].bytes_up < bytes_up * 1.03  # one model each, and little more


@pytest.mark.slow
def test_clients_that_drop_out_in_virtual_time(clients):
    strategy, notes = secured(fedlab.fed_avg()), Counter()
    clock = fedlab.VirtualClock(100, drop_out=0.1)
    for seed in range(3):
        found = models(clients, strategy, 3, clock=clock, seed=seed)
        for record in found["history"]:
            how = "abandoned" if record.note.startswith("abandoned") else len(record.clients)
            notes[how] += 1
            if how == "abandoned":
                before = found.get(record.round - 1)
                if before:
                    np.testing.assert_array_equal(found[record.round][0], before[0])
    assert notes["abandoned"] and sum(notes.values()) > notes["abandoned"]


def test_who_was_in_the_sum_and_left_before_its_end_is_not_called_missing(clients):
    played = fedlab.simulate(
        clients, rounds=1, strategy=secured(fedlab.fed_avg()), batch_size=10, progress=False
    )
    assert played[0].note == "" and len(played[0].clients) == 5


# ---- who may be secured, and how -----------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        fedlab.median,
        fedlab.scaffold,
        fedlab.fed_buff,
        fedlab.trimmed_mean,
        fedlab.krum,
        fedlab.multi_krum,
        fedlab.bulyan,
        fedlab.geometric_median,
        fedlab.clipped_mean,
    ],
)
def test_strategies_that_look_at_single_updates_cannot_be_secured(make):
    with pytest.raises(Refused, match="expected one that needs only the average"):
        secured(make())


@pytest.mark.parametrize("threshold", [0.5, 0, 1.1, float("nan"), "2/3"])
def test_a_threshold_is_more_than_a_half(threshold):
    with pytest.raises(Refused, match=r"threshold is .*; expected a share above 1/2"):
        secured(fedlab.fed_avg(), threshold)


def test_the_sum_of_one_is_that_one(clients):
    with pytest.raises(Refused, match="got 1 client; expected at least 2 with the strategy FedAvg"):
        models({"ann": clients["ann"]}, secured(fedlab.fed_avg()))
    strategy = secured(fedlab.fed_avg())
    found = models(clients, strategy, 2, fraction=0.01)
    assert [len(record.clients) for record in found["history"]] == [2, 2]
    with pytest.raises(TooFewUpdates, match="expected at least"):
        Played(strategy, 3, {f"client-0{i}": 1 for i in (1, 2)}).run()


def test_by_poisson_sampling_with_too_few_the_model_stays(clients):
    strategy = secured(fedlab.fed_avg())
    found = models(clients, strategy, 12, fraction=0.2, sampling=POISSON, seed=1)
    sizes = {len(record.clients) for record in found["history"]}
    assert 0 in sizes and 1 not in sizes and max(sizes) >= 2
    notes = " ".join(record.note for record in found["history"])
    assert "nobody was drawn" in notes and "1 of 1 update came; expected at least 2" in notes


def test_it_names_itself_and_its_settings():
    strategy = secured(fedlab.fed_adam())
    assert strategy.name == "FedAdam, secure" and "only the sum can be read" in strategy.meaning
    assert strategy.identity.startswith("FedAdam (server_learning_rate 0.01") and (
        strategy.identity.endswith(", secure"))  # fmt: skip


# ---- what is refused -----------------------------------------------------------------------------


def test_who_insists_sends_nothing_in_the_open():
    update = Update("ann", 1, 30, [np.ones(2, np.float32)])
    task = Task(1, 1, [np.zeros(2, np.float32)], Training())
    assert SecureSide().mask(update, task) is update
    with pytest.raises(Refused, match=r"'ann' for an update in the open; expected exchanges of"):
        SecureSide(insist=True).mask(update, task)


def test_a_phase_that_was_skipped_or_comes_twice():
    played = Played(secured(fedlab.fed_avg()), 3)
    side, body = SecureSide(), SimpleNamespace(client="ann", shard=lambda _: range(3))
    told = put(KEYS, {"ann": bytes(64)})
    with pytest.raises(Conflict, match="ann has no keys for this round"):
        side.phases[SHARES](body, replace(played.task, phase=SHARES, **told))
    unmask = replace(played.task, phase=UNMASK, note=listed(UNMASK, ["ann"]))
    side.phases[KEYS](body, played.task)
    with pytest.raises(Conflict, match="unmask is exchange 4 of round 3, and 1 of them were done"):
        side.phases[UNMASK](body, unmask)
    played.run()
    again = played.sides["client-00"]
    with pytest.raises(Conflict, match="has no keys for this round"):
        again.phases[UNMASK](SimpleNamespace(client="client-00"), unmask)


def spoilt(phase, change):
    """A round in which one answer of this phase is changed on its way; what comes of it."""
    played = Played(secured(fedlab.fed_avg()), 4)
    answer = played.answer

    def changed(name, task):
        update = answer(name, task)
        return change(update) if name == "client-01" and task.phase == phase else update

    played.answer = changed
    return played.run


def other(what, of):
    return lambda update: replace(update, **put(what, of))


def numbers(kind, size):
    return lambda update: replace(update, more={MASKED: [np.zeros(size, kind)]})


@pytest.mark.parametrize(
    ("phase", "change", "error", "said"),
    [
        (KEYS, other(KEYS, {"client-01": bytes(64)}), BadKey, "no secret can be made"),
        (KEYS, other(KEYS, {"client-01": bytes(63)}), BadUpdate, "rows of 64 bytes"),
        (KEYS, other(KEYS, {"client-02": bytes(64)}), BadUpdate, "not right for 'client-01'"),
        (KEYS, lambda u: replace(u, note={}), BadUpdate, "expected clients' names"),
        (KEYS, lambda u: replace(u, note={KEYS: '["b", "a"]'}), BadUpdate, "names, in order"),
        (KEYS, lambda u: replace(u, note={KEYS: "[" * 20_000}), BadUpdate, "names, in order"),
        (KEYS, lambda u: replace(u, more={}), BadUpdate, "expected one of uint8, 1 rows"),
        (SHARES, other(SHARES, {"client-00": bytes(160)}), BadUpdate, "not right"),
        (SHARES, other(SHARES, {"client-00": bytes(9)}), BadUpdate, "rows of 160 bytes"),
        ("train", numbers(np.uint32, 17), BadUpdate, r"uint32 \(17,\); expected one of uint32"),
        ("train", numbers(np.uint64, 18), BadUpdate, r"uint64 \(18,\); expected one of uint32"),
        ("train", numbers(np.float32, 18), BadUpdate, "float32"),
        ("train", lambda u: replace(u, more={}), BadUpdate, "arrays none; expected one of uint32"),
        ("train", lambda u: replace(u, weights=[np.zeros(3)]), BadUpdate, "unmasked weights"),
        (UNMASK, other(UNMASK, {"client-00": bytes(66)}), BadUpdate, "not right for 'client-01'"),
        (UNMASK, other(UNMASK, {f"client-0{i}": b"\x01" * 66 for i in range(4)}), TooFewUpdates,
         "one of them is wrong"),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_is_refused_at_the_door(phase, change, error, said):
    with pytest.raises(error, match=said):
        spoilt(phase, change)()


def test_a_client_that_answers_for_another_stops_the_round_and_learns_nothing():
    """Over HTTP it is refused: each client sends with a token of its own. But a server that cheats
    may do so, and whoever has read a token on its way. The keys then are not those of the one who
    was spoken for, which it notices before it sends anything.
    """
    played = Played(secured(fedlab.fed_avg()), 4)
    stranger, answer = SecureSide(), played.answer

    def spoken_for(name, task):
        if name == "client-01" and task.phase == KEYS:
            answer(name, task)
            body = SimpleNamespace(client=name, shard=lambda _: range(5))
            return replace(stranger.phases[KEYS](body, task), phase=KEYS)
        return answer(name, task)

    played.answer = spoken_for
    with pytest.raises(Refused, match="the roster does not have 'client-01' with its own keys"):
        played.run()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"threshold": "2"}', "{" * 5_000])
def test_a_note_that_says_nothing(text):
    with pytest.raises(BadUpdate, match="expected what a strategy made by fedlab.secured says"):
        about_of(Task(1, 1, [], Training(), note={ABOUT: text}))


def test_numbers_that_have_no_room_and_examples_that_were_not_told():
    played = Played(secured(fedlab.fed_avg()), 3)
    played.new["client-01"] = [w * 1e6 for w in played.old]
    with pytest.raises(Refused, match=r"client-01 has no room under its mask; .* 682\.667") as said:
        played.run()
    assert "e+0" not in str(said.value), "how large it is the server does not learn"
    played = Played(secured(fedlab.fed_avg()), 3)
    answer = played.answer

    def more(name, task):
        if task.phase == "train":
            played.examples[name] = 10_000
        return answer(name, task)

    played.answer = more
    with pytest.raises(Refused, match="says 10,000 examples; expected .*, as it has told with its"):
        played.run()
    played = Played(secured(fedlab.fed_avg()), 3)
    answer = played.answer

    def fewer(name, task):
        update = answer(name, task)
        return replace(update, num_examples=9_999) if task.phase == "train" else update

    played.answer = fewer
    with pytest.raises(
        TooFewUpdates, match="'client-00' has told .* and now 9,999; expected the same"
    ):
        played.run()


def test_a_mask_comes_once_and_last(clients):
    played = Played(secured(fedlab.fed_avg()), 3)
    answer = played.answer

    def twice(name, task):
        update = answer(name, task)
        return played.sides[name].mask(update, task) if task.phase == "train" else update

    played.answer = twice
    with pytest.raises(Refused, match="has 0 arrays; expected 3, and the mask as the last"):
        played.run()


def test_a_client_that_has_no_side_is_told_what_it_lacks(clients):
    with fedlab.Server(strategy=secured(fedlab.fed_avg())) as server:
        people = [fedlab.Client(server.url, n, d).start() for n, d in list(clients.items())[:2]]
        with pytest.raises(
            fedlab.ClientFailed, match="'keys'; expected one of train. .* side=: for"
        ):
            server.run(rounds=1, min_clients=2)
        for client in people:
            client.stop()


def test_more_than_have_room_are_told_before_anything_is_split():
    played = Played(secured(fedlab.fed_avg()), 3)
    many = {f"client-{number}": 1 for number in range(1_025)}
    updates = Updates([], (), 1_025, 1_025)
    with pytest.raises(Refused, match="summands is 1025; expected a whole number from 1 to 1,024"):
        played.strategy.about(played.state, many, updates)
    noisy = secured(fedlab.dp_fed_avg(clip=1e-6, noise=1.0))
    with pytest.raises(
        Refused, match="with a clip of 1e-06 and noise of .*; expected numbers from"
    ):
        noisy.about(played.state, dict.fromkeys("abc", 1), updates)
    large = secured(fedlab.dp_fed_avg(clip=5.0, noise=5.0))
    assert large.about(played.state, dict.fromkeys(map(str, range(300)), 1), updates).fraction < 20


def test_who_restarts_in_the_middle_of_a_round_is_left_out():
    """A name that is free again while it is awaited: whoever has it now knows nothing of the keys
    of this round.
    """
    federation = fedlab.Federation([np.zeros(3, np.float32)], secured(fedlab.fed_avg()))
    sides = {name: SecureSide() for name in ("ann", "ben", "cleo")}
    for name in sides:
        federation.join(name, 10, 1, session=f"first {name}")
    federation.start(Plan(1))

    def answer(name):
        task = until_there(lambda: federation.task(name))
        body = SimpleNamespace(client=name, shard=lambda _: range(10))
        if task.phase == "train":
            update = sides[name].mask(Update(name, 1, 10, [np.ones(3, np.float32)]), task)
        else:
            update = replace(sides[name].phases[task.phase](body, task), phase=task.phase)
        update = replace(update, run=task.run)
        federation.report(update)

    for name in sides:
        answer(name)
    federation._table.members.leave("ann")  # silent for too long
    federation.join("ann", 10, 1, session="second ann")
    assert federation.task("ann", 0.2) is None
    for _ in range(3):
        answer("ben")
        answer("cleo")
    history = federation.wait()
    assert list(history[0].clients) == ["ben", "cleo"]
    np.testing.assert_allclose(federation.weights[0], np.ones(3), atol=1e-6)


def until_there(get, seconds=10):
    end = time.monotonic() + seconds
    while (found := get()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_bytes_by_client_are_what_they_were():
    of = {"zoe": b"xyz", "änne": b"abc", "bo b": b"123"}
    message = Update("ann", 1, 1, [], **put("letters", of))
    body = wire.encode_update(message)
    assert get("letters", wire.decode_update(body), 3) == of
    assert json.loads(message.note["letters"]) == sorted(of)
    assert get("letters", Update("ann", 1, 1, [], **put("letters", {})), 3) == {}
