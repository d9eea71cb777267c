"""The federation on Flower: what is refused, the same weights as `simulate`, the project folder,
and a real deployment on one machine.

The extra "flower" is installed by `make test`; without it these tests are skipped.
"""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
import uuid
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import pytest
from test_participant import Greeting, add_sum, say_hello

import fedlab
from fedlab import flower
from fedlab.flower.server import excuse

pytest.importorskip("flwr", reason="Flower is not installed: make flower")
psutil = pytest.importorskip("psutil")

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "flower"


# ---- what is installed ---------------------------------------------------------------------------


def test_without_flower_fedlab_works_and_says_what_to_install():
    code = (
        "import sys; sys.modules['flwr'] = None\n"
        "from importlib import metadata\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = missing\n"
        "import fedlab\n"
        "try: fedlab.to_flower(lambda: [])\n"
        "except fedlab.FlowerError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert (
        said.startswith("Flower is not installed; expected flwr 1.41 or a later 1.x")
        and "requirements-flower.txt" in said
    )


@pytest.mark.parametrize("version", ["1.40.2", "2.0.0", "1.5"])
def test_a_version_outside_the_range_is_refused(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(
        flower.FlowerError, match=f"flwr {version}; expected flwr 1.41 or a later 1.x"
    ):
        flower.to_flower(lambda: [])


@pytest.mark.parametrize("version", ["1.41.0", "1.50.1"])
def test_versions_inside_the_range_are_taken(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    flower.check_flower()


def test_the_supported_range_is_the_extras():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]["flower"]
    assert [
        requirement.split("]")[-1] for requirement in extra if requirement.startswith("flwr")
    ] == ["~={}.{}".format(*flower.SUPPORTED[0])]


def test_nothing_is_reported_by_default():
    code = (
        "import flwr.serverapp, fedlab; from fedlab import flower; flower.check_flower(); from"
        " flwr.supercore import telemetry; print(telemetry.FLWR_TELEMETRY_ENABLED)"
    )
    environ = {name: value for name, value in os.environ.items() if name not in flower.QUIET}
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environ,
    ).stdout
    assert said.strip() == "0"


# ---- the two parts, with Flower's own messages but no processes between them ---------------------


class Nodes:
    """A Grid in this process: every message goes to `client_app` at once. `broken` nodes answer
    with an error.
    """

    def __init__(self, app, configs, broken=()):
        from flwr.app import Context, RecordDict

        self.app, self.broken, self.replies, self.asked = app, broken, {}, []
        self.contexts = {
            100 + i: Context(1, 100 + i, config, RecordDict(), {})
            for i, config in enumerate(configs)
        }

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        from flwr.app import Error, Message

        ids = []
        for message in messages:
            node, number = message.metadata.dst_node_id, uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = number
            self.asked.append((node, message.metadata.message_type))
            if node in self.broken and message.metadata.message_type == "train":
                reply = Message(error=Error(2, "the disk is full"), reply_to=message)
            else:
                reply = self.app(message, self.contexts[node])
            self.replies[number] = reply
            ids.append(number)
        return ids

    def pull_messages(self, ids):
        return [self.replies.pop(number) for number in ids if number in self.replies]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """Flower's messages say which run and node they are from; in its own processes it sets that
    itself.
    """
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def clients(mnist):
    """Three clients of unequal size."""
    return {
        "alice": mnist.train.subset(np.arange(300)),
        "bob": mnist.train.subset(np.arange(300, 400)),
        "carol": mnist.shards(2, 2),
    }


def app_for(clients):
    return flower.client_app(
        lambda context: (context.node_config["client"], clients[context.node_config["client"]])
    )


def capturing(weights: list):
    """FedAvg that keeps every round's weights."""
    plain = fedlab.fed_avg()

    def aggregate(state, updates):
        state = plain.aggregate(state, updates)
        weights.append(state.weights)
        return state

    return fedlab.Strategy("FedAvg", "", aggregate)


@pytest.mark.parametrize(
    "strategy",
    [
        fedlab.fed_prox(0.1),
        fedlab.fed_adam(combine=fedlab.Median()),
        fedlab.scaffold(),
        fedlab.trimmed_mean(),
        fedlab.clipped_mean(0.5),
        Greeting([]),
    ],
    ids=lambda strategy: strategy.name,
)
def test_other_strategies_are_those_of_simulate_too(clients, test_images, strategy):
    """What a strategy adds to tasks, what clients remember (in the node's state, for each message
    is answered by a new Participant), and a round of two exchanges.
    """
    settings = {"rounds": 3, "epochs": 1, "batch_size": 50, "learning_rate": 0.1, "seed": 5}
    mine = {}
    if strategy.name == "Greeting":
        mine = {"phases": {"hello": say_hello}, "transforms": [add_sum]}
    app = flower.client_app(
        lambda context: (context.node_config["client"], clients[context.node_config["client"]]),
        **mine,
    )
    nodes = Nodes(app, [{"client": name} for name in ("carol", "alice", "bob")])
    history = flower.serve(nodes, nodes=3, test=test_images, strategy=strategy, **settings)
    same = fedlab.simulate(
        clients, test=test_images, strategy=strategy, progress=False, **mine, **settings
    )
    assert [(r.loss, r.accuracy, sorted(r.clients)) for r in history] == [
        (r.loss, r.accuracy, sorted(r.clients)) for r in same
    ]
    assert history.last.accuracy > 0.3


def test_what_is_compressed_is_as_in_simulate_too(clients, test_images):
    """What a codec has lost is remembered in the node's state."""
    settings = {"rounds": 3, "batch_size": 50, "learning_rate": 0.1, "seed": 5}
    settings["codec"] = fedlab.codec("top-0.1+feedback+zlib/quantise-8")
    nodes = Nodes(app_for(clients), [{"client": name} for name in ("carol", "alice", "bob")])
    history = flower.serve(nodes, nodes=3, test=test_images, **settings)
    same = fedlab.simulate(clients, test=test_images, progress=False, **settings)
    assert [record.loss for record in history] == [record.loss for record in same]
    assert history.last.accuracy > 0.3 and history.last.bytes_down == 3 * (199_210 + 48)
    assert history.last.bytes_up < 3 * 110_000


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_the_rounds_are_those_of_simulate_bit_for_bit(clients, test_images, fraction):
    settings = {
        "rounds": 3,
        "fraction": fraction,
        "epochs": 2,
        "batch_size": 20,
        "learning_rate": 0.2,
        "seed": 5,
    }
    there, here = [], []
    nodes = Nodes(app_for(clients), [{"client": name} for name in ("carol", "alice", "bob")])
    history = flower.serve(nodes, nodes=3, test=test_images, strategy=capturing(there), **settings)
    same = fedlab.simulate(
        clients, test=test_images, strategy=capturing(here), progress=False, **settings
    )
    assert [sorted(record.clients) for record in history] == [
        sorted(record.clients) for record in same
    ]
    assert [record.accuracy for record in history] == [record.accuracy for record in same]
    assert len(there) == 3 and all(
        np.array_equal(a, b)
        for x, y in zip(there, here, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert history.last.bytes == 2 * 796_840 * len(history.last.clients)


def test_a_deadline_a_target_and_all_examples_in_one_batch(clients, test_images):
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients])
    history = flower.serve(
        nodes,
        nodes=3,
        test=test_images,
        rounds=50,
        batch_size=None,
        learning_rate=0.5,
        target=0.3,
        deadline=60,
    )
    assert len(history) < 50 and history.last.accuracy >= 0.3


def test_what_happens_to_an_update_before_it_leaves(clients):
    seen = []
    app = flower.client_app(
        lambda context: ("alice", clients["alice"]),
        transforms=[lambda update, task: seen.append(update) or update],
    )
    flower.serve(Nodes(app, [{}]), nodes=1, rounds=1)
    assert [(update.client, update.num_examples) for update in seen] == [("alice", 300)]


def test_a_client_tests_the_global_model_on_its_own_examples(clients):
    from flwr.app import ArrayRecord, Message, RecordDict

    classifier = fedlab.Classifier()
    nodes = Nodes(app_for(clients), [{"client": "alice"}])
    content = RecordDict({"arrays": ArrayRecord(classifier.weights)})
    (reply,) = nodes.send_and_receive(
        [Message(content=content, dst_node_id=100, message_type="evaluate")]
    )
    loss, accuracy = classifier.evaluate(classifier.weights, clients["alice"])
    assert dict(reply.content["metrics"]) == {
        "num-examples": 300,
        "loss": loss,
        "accuracy": accuracy,
    }


def test_too_few_nodes(clients):
    nodes = Nodes(app_for(clients), [{"client": "alice"}])
    with pytest.raises(flower.FlowerError, match=r"found 1 SuperNode within 0.1 s; expected 3"):
        flower.serve(nodes, nodes=3, rounds=1, patience=0.1)


def test_two_nodes_of_one_name(clients):
    nodes = Nodes(app_for(clients), [{"client": "alice"}, {"client": "alice"}])
    with pytest.raises(flower.FlowerError, match="two nodes say that they are 'alice'"):
        flower.serve(nodes, nodes=2, rounds=1)


def test_a_node_that_fails_ends_the_run_with_its_reason(clients):
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients], broken=[101])
    with pytest.raises(flower.FlowerError, match="bob failed: the disk is full"):
        flower.serve(nodes, nodes=3, rounds=1)


def test_with_a_deadline_a_round_goes_on_without_a_node_that_fails(clients):
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients], broken=[101])
    history = flower.serve(nodes, nodes=3, rounds=1, deadline=6)
    assert [sorted(record.clients) for record in history] == [["alice", "carol"]]


def test_who_goes_too_far_loses_the_round_and_not_the_run(clients):
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients])
    history = flower.serve(nodes, nodes=3, rounds=2, bound=1e-6)
    said = "abandoned: 0 of 3 updates came; expected at least 1 (longer than the bound: alice,"
    assert [record.note.startswith(said) for record in history] == [True, True]


def test_with_a_deadline_nodes_that_all_fail_once_are_asked_again(clients):
    """And nobody waits for the deadline: a node that says that it failed is not waited for."""
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients], broken=[100, 101, 102])
    push = nodes.push_messages

    def fail_once(messages):
        numbers = push(messages)
        if any(message.metadata.message_type == "train" for message in messages):
            nodes.broken = ()
        return numbers

    nodes.push_messages = fail_once
    history = flower.serve(nodes, nodes=3, rounds=4, deadline=60)
    assert history[0].note.startswith("abandoned") and not history[0].clients
    assert sorted(history.last.clients) == ["alice", "bob", "carol"]


def test_an_error_of_an_earlier_round_changes_nothing_in_this_one():
    federation = fedlab.Federation([np.zeros(3, np.float32)], fedlab.fed_avg())
    for client in ("alice", "bob"):
        federation.join(client, 10)
    federation.start(fedlab.Plan(3, deadline=60))
    try:
        run = federation.task("alice", 5).run
        excuse(federation, "bob", 0, 10)
        assert federation.status().waiting_for == ["alice", "bob"]
        excuse(federation, "bob", 1, 10)
        assert federation.status().waiting_for == ["alice"] and [
            m.client for m in federation.status().members
        ] == ["alice", "bob"]
        federation.report(fedlab.Update("alice", 1, 10, [np.ones(3, np.float32)], run=run))
        assert federation.task("bob", 5).round == 2
    finally:
        federation.close(0)


def test_an_engine_that_ends_too_early_ends_the_run(clients):
    nodes, ended = (
        Nodes(app_for(clients), [{"client": name} for name in clients]),
        threading.Event(),
    )
    ended.set()
    with pytest.raises(flower.FlowerError, match="engine ended before the run did"):
        flower.serve(nodes, nodes=3, rounds=1, ended=ended)


@pytest.mark.parametrize(
    "settings", [{"nodes": 0}, {"nodes": -1}, {"nodes": 2.5}, {"nodes": 2, "min_clients": 3}]
)
def test_numbers_of_nodes_that_cannot_be(settings):
    with pytest.raises(
        fedlab.Refused, match=f"nodes is {settings['nodes']}; expected a whole number from"
    ):
        flower.serve(Nodes(None, []), **settings)


def test_what_a_strategy_of_flowers_own_decides_cannot_be_set(small):
    from flwr.serverapp.strategy import FedAvg

    with pytest.raises(
        fedlab.Refused,
        match="got fraction, target; expected none of them with a strategy of Flower's own",
    ):
        flower.to_flower(
            lambda: [small], strategy=FedAvg(fraction_evaluate=0.0), fraction=0.5, target=0.9
        )
    with pytest.raises(
        fedlab.Refused, match="got 1 node; expected at least 2 .min_available_nodes. with FedAvg"
    ):
        flower.serve(Nodes(None, [{}]), nodes=1, strategy=FedAvg(fraction_evaluate=0.0))


def test_training_that_diverges_ends_the_run_with_a_sentence(clients):
    nodes = Nodes(app_for(clients), [{"client": name} for name in clients])
    with pytest.raises(
        flower.FlowerError,
        match="alice failed: training diverged in round 1, at alice with .*NaN or infinity",
    ):
        flower.serve(nodes, nodes=3, rounds=1, learning_rate=1e6, epochs=5, batch_size=10)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"epochs": 0}, "epochs .E. is 0"),
        ({"fraction": 2}, "fraction"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"strategy": fedlab.krum(1)}, "got 1 client; expected at least 5 with the strategy Krum"),
        ({"strategy": fedlab.scaffold(), "optimizer": "adam"}, "SCAFFOLD"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_starts(settings, sentence, small):
    with pytest.raises(fedlab.Refused, match=sentence):
        flower.to_flower(lambda: [small], **settings)


def test_strategies_without_rounds_are_refused(clients):
    nodes = Nodes(app_for(clients), [{"client": "alice"}])
    with pytest.raises(fedlab.Refused, match="expected one with rounds"):
        flower.serve(nodes, nodes=1, strategy=fedlab.async_average())
    assert not nodes.asked
    with pytest.raises(fedlab.Refused, match="expected one with rounds"):
        flower.to_flower(lambda: list(clients.values()), strategy=fedlab.async_average())


def test_secrets_of_a_round_do_not_outlive_a_process(clients):
    with pytest.raises(fedlab.Refused, match="FedAvg, secure; expected another: .* SecAggPlus"):
        fedlab.to_flower(clients, strategy=fedlab.secured(fedlab.fed_avg()))


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_numbers_of_workers_that_cannot_be(workers, small):
    with pytest.raises(
        fedlab.Refused, match=f"workers is {workers}; expected a whole number from 1"
    ):
        flower.to_flower(lambda: [small]).run(workers=workers)


def test_no_clients_are_refused():
    with pytest.raises(fedlab.DataError, match="got no clients"):
        flower.to_flower(lambda: [])


# ---- the project folder --------------------------------------------------------------------------


@pytest.fixture
def project(monkeypatch):
    """Imports a module of the folder, which is forgotten again."""
    monkeypatch.syspath_prepend(PROJECT)
    yield import_module
    for name in [name for name in sys.modules if name.split(".")[0] in ("deploy", "digits")]:
        del sys.modules[name]


@pytest.fixture
def own_examples(project):
    return project("digits.client_app").own_examples


class Node:
    def __init__(self, **config):
        self.node_config = config


def test_simulated_nodes_share_the_shards(own_examples):
    sizes = [
        len(own_examples(Node(**{"partition-id": i, "num-partitions": 5}))[1]) for i in range(5)
    ]
    assert sum(sizes) == 60_000 and set(sizes) == {10_000, 15_000}


def test_a_node_without_its_file(own_examples, tmp_path):
    with pytest.raises(
        flower.FlowerError,
        match=(
            r"are to be in .*alice.npz, which is not there; expected an .npz with images and labels"
        ),
    ):
        own_examples(Node(client="alice", examples=str(tmp_path / "alice.npz")))
    with pytest.raises(flower.FlowerError, match="no file named"):
        own_examples(Node(client="alice"))
    with pytest.raises(flower.FlowerError, match="this node's --node-config has nothing; expected"):
        own_examples(Node())


def test_a_file_of_something_else(own_examples, tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(flower.FlowerError, match=r"has \['weights'\]; expected images and labels"):
        own_examples(Node(client="alice", examples=str(tmp_path / "a.npz")))


# ---- real processes ------------------------------------------------------------------------------


def environment(home: Path) -> dict:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # As in fedlab.flower.app: beside other tests Ray's agent would need more than its 15 s
    left_out = home / "left out"
    left_out.mkdir(exist_ok=True)
    (left_out / "rfc3987_syntax.py").write_text("raise ImportError\n")
    return {
        **os.environ,
        **flower.QUIET,
        "FLWR_HOME": str(home),
        "PATH": path,
        "PYTHONPATH": f"{left_out}{os.pathsep}{ROOT}",
    }


def started_by(mark: str) -> list:
    """The processes in whose environment `mark` is: what a command of ours left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and mark in process.environ().values():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass
    return found


@contextmanager
def started(command: list[str], **environ: str):
    """A process, its output in pipes, and the mark in its environment. At the end, however the test
    goes, it and all that came of it are killed: `with Popen(...)` would wait for it instead.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FEDLAB_TEST": mark, **environ},
    )
    try:
        yield process, mark
    finally:
        if hasattr(os, "killpg"):  # for macOS, which does not show the mark; not on Windows
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while (left := started_by(mark)) and time.monotonic() < end:
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.stdout.close()
        process.stderr.close()
        process.wait(10)


def deploy(*arguments: str):
    """deploy.py to its end, after which nothing of it runs."""
    command = [sys.executable, str(PROJECT / "deploy.py"), *arguments]
    with started(command) as (process, mark):
        out, err = process.communicate(timeout=300)
        left = started_by(mark)
        assert not left, f"left running: {left}"
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def accuracies(results: Path) -> list[float]:
    """The column of that name of history.csv."""
    with open(results / "history.csv", newline="") as file:
        return [float(row["accuracy"]) for row in csv.DictReader(file)]


BOTH = """
import json, warnings
import numpy as np
import fedlab
from flwr.serverapp.strategy import FedAvg
from test_flower import capturing

def deal():
    train = fedlab.load_mnist().train
    cuts = {"a": (0, 300), "b": (300, 400), "c": (400, 1000)}
    return {name: train.subset(np.arange(*cut)) for name, cut in cuts.items()}

theirs = []
class Flowers(FedAvg):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        theirs.append(arrays.to_numpy_ndarrays())
        return arrays, metrics

test = fedlab.load_mnist().test.subset(np.arange(1000))
settings = {"rounds": 2, "epochs": 1, "batch_size": 10, "learning_rate": 0.1, "seed": 3}
here, there = [], []
history = fedlab.simulate(deal(), test=test, strategy=capturing(here), progress=False, **settings)
def on_flower(strategy, workers=2, **changed):
    app = fedlab.to_flower(deal, test=test, strategy=strategy, **{**settings, **changed})
    return app.run(workers=workers, progress=False)

one = on_flower(capturing(there))
two = on_flower(Flowers(fraction_evaluate=0.0))
def gap(x, y):
    pairs = [pair for v, w in zip(x, y, strict=True) for pair in zip(v, w, strict=True)]
    return max(float(np.abs(a - b).max()) for a, b in pairs)

try:
    on_flower(None, workers=1, learning_rate=1e6, epochs=9)
except fedlab.FlowerError as error:
    failure = str(error)
print(json.dumps({"bits": gap(here, there), "float": gap(here, theirs), "failure": failure,
                  "accuracies": [[r.accuracy for r in h] for h in (history, one, two)]}))
"""


def test_by_flowers_engine_our_strategy_gives_the_same_bits_and_flowers_nearly_the_same(
    tmp_path,
):
    environ = {**environment(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with started([sys.executable, "-W", "ignore", "-c", BOTH], **environ) as (process, _):
        out, err = process.communicate(timeout=540)
    assert process.returncode == 0, err[-3000:]
    result = json.loads(out.strip().splitlines()[-1])
    assert result["bits"] == 0.0
    assert result["float"] < 1e-6
    simulated, one, two = result["accuracies"]
    assert simulated == one and np.allclose(simulated, two, atol=0.002)
    assert "failed: training diverged in round 1, at " in result["failure"]


def test_flwr_run_takes_the_project_folder(tmp_path):
    command = [
        "flwr",
        "run",
        str(PROJECT),
        "--federation-config",
        "num-supernodes=3 client-resources-num-cpus=1",
        "--stream",
        "--run-config",
        f'rounds=1 results="{tmp_path}"',
    ]
    # Flower keeps a SuperLink of its own for later runs; it is killed with the rest
    with started(command, **environment(tmp_path)) as (process, _):
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "accuracy" in out, out[-3000:]
    (accuracy,) = accuracies(tmp_path)
    assert 0.93 < accuracy < 0.96
    assert "uv.lock" not in os.listdir(PROJECT)


def test_a_real_deployment_with_tls_and_authenticated_nodes(tmp_path, mnist):
    done = deploy("--tls", "--auth", "--results", str(tmp_path), "--run-config", "rounds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SuperNode ") == 3
    clients = {
        name: mnist.shards(first, first + 3)
        for name, first in (("alice", 1), ("bob", 5), ("carol", 9))
    }
    same = fedlab.simulate(clients, test=mnist.test, rounds=2, progress=False)
    assert accuracies(tmp_path) == pytest.approx([record.accuracy for record in same], abs=1e-4)
    weights = fedlab.load_checkpoint(tmp_path / "model.safetensors")[0].weights
    assert math.isclose(
        fedlab.Classifier().evaluate(weights, mnist.test)[1], same.last.accuracy, abs_tol=1e-4
    )


def test_a_superlink_that_is_not_there():
    done = deploy("--superlink", "127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "deploy: nothing listens at 127.0.0.1:9; expected a SuperLink there"
    )


def test_a_superlink_that_is_something_else():
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with started(command, PYTHONUNBUFFERED="1") as (other, _):
        port = other.stdout.readline().split("port ")[1].split()[0]
        done = deploy("--superlink", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"127.0.0.1:{port} did not take the run; expected a SuperLink" in done.stderr


# A child that leaves a process which only SIGKILL ends, in one way or another
LEAVES = """
import os, signal, subprocess, sys, time
def leave(**how):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    code += "open('ready', 'w').close(); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], **how)
def leave_an_orphan(**how):
    if os.fork() == 0:
        leave(**how)
        os._exit(0)
    os.wait()
def leave_at_sigterm(*_):
    leave(start_new_session=True)
    os._exit(0)
"""
WAYS = {
    "an orphan in a session of its own": "leave_an_orphan(start_new_session=True); time.sleep(60)",
    "an orphan without an environment": "leave_an_orphan(env={}); time.sleep(60)",
    "without an environment in a session of its own": (
        "leave(env={}, start_new_session=True); time.sleep(60)"
    ),
    "of a child that has ended": "leave()",
    "started when told to end": (
        "signal.signal(signal.SIGTERM, leave_at_sigterm); open('ready', 'w'); time.sleep(60)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_child_is_left(way, project, monkeypatch, tmp_path):
    if sys.platform == "darwin" and way in (
        "an orphan in a session of its own",
        "started when told to end",
    ):
        pytest.skip("macOS shows no environment, by which alone it could be known")

    def left():
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                if str(tmp_path) in one.cmdline():
                    found.append(one)
        return found

    deployment = project("deploy")
    monkeypatch.setattr(deployment, "GRACE", 1.0)
    command = [sys.executable, "-c", LEAVES + WAYS[way], str(tmp_path)]
    try:
        with deployment.process("child", command, tmp_path, dict(os.environ)):
            end = time.monotonic() + 30
            while not (tmp_path / "ready").exists():
                assert time.monotonic() < end, (tmp_path / "child.log").read_text()
                time.sleep(0.02)
            assert left()
            began = time.monotonic()
        assert not left()
        assert time.monotonic() - began < 5
    finally:
        for one in left():
            with suppress(psutil.NoSuchProcess):
                one.kill()


def test_a_child_that_cannot_be_stopped_is_told_of(project, monkeypatch, tmp_path):
    deployment = project("deploy")
    monkeypatch.setattr(deployment, "GRACE", 0.1)
    monkeypatch.setattr(psutil.Process, "terminate", lambda process: None)
    monkeypatch.setattr(psutil.Process, "kill", lambda process: None)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    try:
        with (
            pytest.raises(flower.FlowerError, match=r"carol could not be stopped; .*: \d+$"),
            deployment.process("carol", command, tmp_path, dict(os.environ)) as child,
        ):
            pass
    finally:
        child.kill()
        child.wait(10)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_nothing_is_left_running(number, code):
    command = [sys.executable, str(PROJECT / "deploy.py"), "--nodes", "1"]
    with started(command) as (process, mark):
        while "SuperNode" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        # Now there are a SuperLink, a SuperNode and a run, with processes of their own
        time.sleep(3)
        assert len(started_by(mark)) >= 4
        end = time.monotonic() + 60
        while process.poll() is None:  # by somebody impatient
            assert time.monotonic() < end
            process.send_signal(number)
            time.sleep(0.05)
        left = started_by(mark)
        assert not left, f"left running: {left}"
    assert process.returncode == code


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["--run-config", "rounds = 5"],
            "--run-config has 'rounds'; expected 'rounds=5 learning-rate=0.1 ...'",
        ),
        (["--run-config", "nodes=5"], "--run-config has nodes; expected --expect"),
        (["--expect", "-1"], "expected numbers above 0"),
        (["--auth"], "--auth needs --tls"),
        (["--superlink", "127.0.0.1:9", "--tls"], "--superlink with --tls"),
    ],
)
def test_options_that_cannot_be(arguments, sentence):
    done = deploy(*arguments)
    assert done.returncode == 2 and sentence in " ".join(done.stderr.split())


def test_a_deployment_without_a_nodes_file(tmp_path):
    done = deploy("--examples", str(tmp_path))
    assert done.returncode == 1
    assert "alice.npz, are not there; expected an .npz with images and labels" in done.stderr


def test_fewer_nodes_than_the_run_expects():
    done = deploy("--nodes", "1", "--expect", "2", "--patience", "3")
    assert done.returncode == 1
    assert "found 1 SuperNode within 3 s; expected 2" in done.stderr, done.stderr


@pytest.mark.parametrize("failures", [1, 2])
def test_ray_may_start_late(failures, tmp_path, monkeypatch):
    """Its processes have 30 s, and a busy machine needs more: once again, then a sentence."""
    from fedlab.flower.app import _start

    class Ray:
        tried, stopped = 0, 0

        def init(self, **settings):
            self.tried += 1
            code = "import rfc3987_syntax"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert done.stderr.endswith("ImportError\n"), "what its processes import is left out"
            if self.tried <= failures:
                raise Exception("The current node timed out during startup.")

        def shutdown(self):
            self.stopped += 1

    monkeypatch.setenv("PYTHONPATH", "somebody's own")
    ray = Ray()
    with (
        nullcontext()
        if failures == 1
        else pytest.raises(
            flower.FlowerError, match="did not start, twice: The current node timed out"
        )
    ):
        _start(ray, 2, str(tmp_path))
    assert os.environ["PYTHONPATH"] == "somebody's own"
    assert ray.tried == 2 and ray.stopped == failures
