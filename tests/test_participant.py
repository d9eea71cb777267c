"""One client's side of a round, and that all who carry its messages get the same of it."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

import fedlab
from fedlab.messages import BadUpdate, Diverged, Refused, Task, Training, Update, local_seed
from fedlab.model import Classifier, TrainingStopped
from fedlab.participant import OWN_EXAMPLES, Participant
from fedlab.strategies import STRATEGIES, State, Strategy, fed_avg, scaffold


@pytest.fixture(scope="module")
def classifier():
    return Classifier(seed=4)


def task(classifier, **more) -> Task:
    return Task(**{"round": 3, "rounds": 9, "weights": classifier.weights,
                   "training": Training(batch_size=20), "seed": 5, **more})  # fmt: skip


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def test_an_answer_is_local_training_from_the_clients_own_seed(classifier, small):
    alice = Participant("alice", small, classifier)
    update = alice.answer(task(classifier, version=7))
    seed = local_seed(5, 3, "alice")
    trained, _ = classifier.train(classifier.weights, small, Training(batch_size=20), seed)
    assert bits(update.weights) == bits(trained)
    assert (update.client, update.round, update.num_examples, update.version, update.phase) == (
        "alice",
        3,
        600,
        7,
        "train",
    )
    assert math.isnan(update.accuracy) and alice.memory == {}


def test_it_tests_where_it_is_told_to(classifier, small, test_images):
    asked = []
    for test in (test_images, OWN_EXAMPLES):
        alice = Participant("alice", small, classifier, test=test)
        update = alice.answer(task(classifier), on_test=lambda: asked.append(1))
        where = small if test is OWN_EXAMPLES else test
        loss, accuracy = classifier.evaluate(update.weights, where)
        assert (update.loss, update.accuracy) == (loss, accuracy)
    assert asked == [1, 1]


def test_transforms_see_the_task_and_come_in_order(classifier, small):
    def clipped(update: Update, task: Task) -> Update:
        change = [w - w0 for w, w0 in zip(update.weights, task.weights, strict=True)]
        norm = math.sqrt(sum(float((d**2).sum()) for d in change))
        kept = [
            w0 + np.float32(min(1, 0.5 / norm)) * d
            for w0, d in zip(task.weights, change, strict=True)
        ]
        return replace(update, weights=kept)

    seen = []
    alice = Participant(
        "alice", small, classifier, transforms=[clipped, lambda u, t: seen.append(u) or u]
    )
    update = alice.answer(task(classifier))
    change = [w - w0 for w, w0 in zip(update.weights, classifier.weights, strict=True)]
    assert math.sqrt(sum(float((d**2).sum()) for d in change)) == pytest.approx(0.5, rel=1e-5)
    assert seen == [update]


def test_one_shard_after_the_other(classifier, small):
    alice = Participant("alice", small, classifier)
    alice.shards = small.split(250)
    shards = [alice.shard(task(classifier, round=r, shard_by_shard=True)) for r in (1, 2, 3, 4)]
    assert [len(shard) for shard in shards] == [250, 250, 100, 250]
    assert alice.shard(task(classifier)) is small


def test_stopping(classifier, small):
    with pytest.raises(TrainingStopped):
        Participant("alice", small, classifier).answer(task(classifier), stop=lambda: True)


def test_divergence_is_called_so_and_nothing_else_is(classifier, small):
    wild = task(classifier, training=Training(5, 20, 1e6))
    with pytest.raises(Diverged, match="diverged in round 3, at alice with learning_rate 1000000"):
        Participant("alice", small, classifier).answer(wild)
    with pytest.raises(BadUpdate, match="array 0 has the shape"):
        Participant("alice", small, classifier).answer(
            task(classifier, weights=classifier.weights[::-1])
        )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"phase": "keys"}, "the task's phase is 'keys'; expected one of train, masks"),
        ({"codec": "qsgd"}, "the task's codec is 'qsgd'; expected 'dense'"),
    ],
)
def test_what_it_does_not_know_is_refused(classifier, small, more, sentence):
    alice = Participant("alice", small, classifier, phases={"masks": lambda *_: None})
    with pytest.raises(Refused, match=sentence):
        alice.answer(task(classifier, **more))


def test_it_forgets_when_the_server_begins_again(classifier, small):
    alice = Participant("alice", small, classifier)
    control = {"control": [np.zeros_like(w) for w in classifier.weights]}
    for lineage, round in (("old", 3), ("old", 4), ("new", 3)):
        alice.answer(task(classifier, lineage=lineage, more=control, round=round))
        alice.settle(taken=True)
        if round == 3 and lineage == "old":
            learned = bits(alice.memory["control"])
        elif lineage == "old":
            assert bits(alice.memory["control"]) != learned
    assert bits(alice.memory["control"]) == learned  # as if it were the first time


def test_what_was_learned_with_an_update_that_was_refused_is_forgotten(classifier, small):
    alice = Participant("alice", small, classifier)
    control = {"control": [np.zeros_like(w) for w in classifier.weights]}
    alice.answer(task(classifier, more=control))
    alice.settle(taken=False)
    assert alice.memory == {}
    alice.answer(task(classifier, more=control))
    assert alice.memory == {}  # nobody has said yet
    alice.answer(task(classifier, more=control, round=4))
    assert list(alice.memory) == ["control"]  # where nobody says, it counts as taken


def test_an_answer_to_another_phase_is_told_by_its_task(classifier, small):
    """Whoever writes it need not remember to say whose answer it is, to what."""
    careless = {"masks": lambda participant, task: Update("x", 99, 1, [])}
    alice = Participant("alice", small, classifier, phases=careless)
    update = alice.answer(task(classifier, phase="masks", version=5))
    assert (update.client, update.round, update.phase, update.version) == ("alice", 3, "masks", 5)


def test_a_test_that_cannot_be(classifier, small):
    with pytest.raises(Refused, match="test is 'own'; expected a Dataset, 'own examples' or None"):
        Participant("alice", small, classifier, test="own")


# ---- HTTP = simulation ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unequal(mnist):
    """Five clients with very different numbers of examples."""
    cuts = np.cumsum([0, 40, 300, 75, 220, 131])
    hands = zip(cuts[:-1], cuts[1:], strict=True)
    return {f"c{i}": mnist.train.subset(np.arange(*hand)) for i, hand in enumerate(hands)}


SETTINGS = {"rounds": 3, "fraction": 0.6, "epochs": 2, "batch_size": 32, "learning_rate": 0.1}


def over_http(clients, strategy, test, **more) -> list[tuple]:
    with fedlab.Server(test, strategy, seed=6) as server:
        for name in reversed(clients):  # in another order
            fedlab.Client(server.url, name, clients[name], **more).start()
        settings = {**SETTINGS, "min_clients": len(clients), "progress": False}
        return told(server.run(**settings))


def simulated(clients, strategy, test, **more) -> list[tuple]:
    return told(
        fedlab.simulate(
            clients, test=test, strategy=strategy, seed=6, progress=False, **SETTINGS, **more
        )
    )


def told(history) -> list[tuple]:
    """The loss depends on every weight: equal losses are equal weights."""
    return [(record.loss, record.accuracy, sorted(record.clients)) for record in history]


SYNCHRONOUS = [name for name, make in STRATEGIES.items() if not make().asynchronous]


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_every_strategy_gives_the_same_bits_over_http_and_in_one_process(
    unequal, test_images, name
):
    strategy = STRATEGIES[name]()
    expected = simulated(unequal, strategy, test_images)
    assert over_http(unequal, strategy, test_images) == expected
    assert expected[-1][1] > 0.3 and len({loss for loss, *_ in expected}) == 3


def test_scaffold_is_more_than_fed_avg(unequal, test_images):
    """That the test above would see it: from round 2 on its clients correct their steps."""
    plain, corrected = (simulated(unequal, s, test_images) for s in (fed_avg(), scaffold()))
    assert plain[0] == corrected[0] and plain[2] != corrected[2]


class Greeting(Strategy):
    """A round of two exchanges: everyone first sends a number of its own, and is told all of them;
    then it trains, and adds a multiple of their sum to what it sends. The server takes it off.
    """

    name, meaning = "Greeting", "as FedAvg, with a number added that the server takes off again"

    def __init__(self, seen: list):
        self.seen = seen

    def run_round(self, state: State, task: Task, ask) -> State:
        hello = ask(replace(task, phase="hello", weights=[]))
        numbers = {update.client: float(update.more["number"][0]) for update in hello}
        self.seen.append((task.round, hello.participants, hello.members, numbers))
        note = {"sum": repr(sum(numbers.values()))}
        answers = ask({client: replace(task, note={**note, "to": client}) for client in numbers})
        return self.aggregate(state, answers)

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        cleaned = []
        for update in updates:
            total = np.float32(update.note["sum"])
            cleaned.append(replace(update, weights=[w - total for w in update.weights]))
        return fed_avg().aggregate(state, cleaned)


def say_hello(participant: Participant, task: Task) -> Update:
    number = np.array(len(participant.data) + task.round, np.float32)
    participant.memory["number"] = [number]
    more = {"number": [number]}
    return Update(participant.client, task.round, 1, [], phase="hello", more=more)


def add_sum(update: Update, task: Task) -> Update:
    assert task.note["to"] == update.client  # each has a task of its own
    total = np.float32(task.note["sum"])
    return replace(update, weights=[w + total for w in update.weights], note=dict(task.note))


def test_a_round_of_several_exchanges_is_the_same_over_http_and_in_one_process(
    unequal, test_images
):
    mine = {"phases": {"hello": say_hello}, "transforms": [add_sum]}
    seen: list[list] = [[], []]
    expected = simulated(unequal, Greeting(seen[0]), test_images, **mine)
    assert over_http(unequal, Greeting(seen[1]), test_images, **mine) == expected
    assert seen[0] == seen[1] and [round for round, *_ in seen[0]] == [1, 2, 3]
    for number, participants, members, numbers in seen[0]:
        assert members == 5 and len(participants) == 3
        assert numbers == {name: len(unequal[name]) + number for name in participants}
    assert expected[-1][1] > 0.3 and all(len(clients) == 3 for *_, clients in expected)


def test_the_docstrings_examples_run():
    import doctest

    from fedlab import participant
    from fedlab.strategies import base

    for module in (participant, base):
        results = doctest.testmod(module)
        assert results.attempted >= 4 and results.failed == 0
    # a text below a name is no docstring of Python's: Transform's example is run by hand
    import ast
    import inspect

    texts = [
        node.value.value
        for node in ast.parse(inspect.getsource(participant)).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    (example,) = [text for text in texts if ">>>" in text]
    test = doctest.DocTestParser().get_doctest(example, {}, "Transform", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 0 and len(test.examples) >= 4
