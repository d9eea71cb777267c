"""The command `fedlab`: as processes where that matters, in this one where it does not."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

import fedlab
from fedlab import cli, lab, lessons, terminal
from fedlab.checkpoint import load_checkpoint, save_checkpoint
from fedlab.history import ClientRecord, RoundRecord
from fedlab.http.client import ClientStatus

ROOT = Path(__file__).parents[1]
URL = "http://127.0.0.1:1/?token=nobody"
SHARDS = "First and last shard, 1 to 12 (for example 1 4): "  # the question


class Process:
    """`fedlab` with these arguments, as a process; what it says goes to files and can be waited
    for.
    """

    def __init__(self, folder, *arguments, stdin="", token="the-token"):
        self._files = [folder / f"{time.monotonic_ns()}.{stream}" for stream in ("out", "err")]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "FEDLAB_TOKEN": token}
        command = [sys.executable, "-m", "fedlab", *map(str, arguments)]
        with open(self._files[0], "w") as out, open(self._files[1], "w") as err:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=err, text=True
            )
        self._process.stdin.write(stdin)
        self._process.stdin.close()
        self.send_signal, self.kill = self._process.send_signal, self._process.kill

    @property
    def out(self):
        return self._files[0].read_text()

    @property
    def err(self):
        return self._files[1].read_text()

    def says(self, pattern, seconds=60, stream="out"):
        """Wait until a line of stdout, or of "err", matches; the match."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, getattr(self, stream), re.MULTILINE)):
            assert self._process.poll() is None, (
                f"it ended with {self._process.returncode}: {self.out}{self.err}"
            )
            assert time.monotonic() < deadline, f"no {pattern!r} in: {self.out}{self.err}"
            time.sleep(0.02)
        return found

    def url(self):
        return self.says(r"^http://\S+$")[0]

    def ends(self, seconds=60):
        """Wait for the end; the exit code."""
        return self._process.wait(seconds)


@contextmanager
def processes_in(folder):
    """Makes Processes, and leaves none behind."""
    made = []

    def make(*arguments, **more):
        made.append(Process(folder, *arguments, **more))
        return made[-1]

    try:
        yield make
    finally:
        for process in made:
            process.kill()
            process.ends()


@pytest.fixture
def processes(tmp_path):
    with processes_in(tmp_path) as make:
        yield make


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test writes into the project."""
    monkeypatch.chdir(tmp_path)


@dataclass
class Class:
    """A server and its three clients, ended, and what they have left."""

    checkpoint: Path
    history: Path
    server: Process
    clients: dict[str, Process]
    codes: list[int]


@pytest.fixture(scope="module")
def a_class(tmp_path_factory):
    """Two rounds of three clients, one of whom answers the questions: all processes, from the first
    line to the end.
    """
    folder = tmp_path_factory.mktemp("class")
    checkpoint, history = folder / "class.safetensors", folder / "rounds.csv"
    with processes_in(folder) as processes:
        server = processes(
            "server",
            "--rounds",
            2,
            "--min-clients",
            3,
            "--checkpoint",
            checkpoint,
            "--history",
            history,
        )
        clients = {
            "alice": processes("client", server.url(), "--id", "alice", "--shards", 1, 4),
            "bob": processes("client", server.url(), "--id", "bob", "--shards", 5, 8),
            "carol": processes("client", server.url(), stdin="carol\n9 12\n"),
        }
        return Class(
            checkpoint,
            history,
            server,
            clients,
            [process.ends() for process in [server, *clients.values()]],
        )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def press(number=signal.SIGINT):
    """Ctrl-C, as this process gets it."""
    os.kill(os.getpid(), number)


# ---- processes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_class(a_class):
    assert a_class.codes == [0, 0, 0, 0], a_class.server.err
    out, url = a_class.server.out, a_class.server.out.splitlines()[0]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=the-token", url)
    assert f'fedlab client "{url}" --id alice --shards 1 4' in out
    assert len(re.findall(r"^(alice|bob|carol) joined, 20,000 examples$", out, re.MULTILINE)) == 3
    rounds = re.findall(
        r"^round (\d) of 2: accuracy ([\d.]+)%, loss [\d.]+, 3 clients, 60,000 examples, [\d.]+ s$",
        out,
        re.MULTILINE,
    )
    assert [number for number, _ in rounds] == ["1", "2"]
    assert re.search(rf"^2 rounds, .*accuracy {rounds[-1][1]}%", out, re.MULTILINE), (
        "the final accuracy"
    )
    assert out.endswith(f"checkpoint: {a_class.checkpoint}\n")
    assert a_class.server.err == "loading TensorFlow ...\n"

    assert a_class.clients["carol"].out.startswith(f"Client id: {SHARDS}")
    for name, client in a_class.clients.items():
        assert f"{name}: round 2 of 2, training, epoch 1 of 1" in client.out
        assert re.search(
            rf"^{name}: round 2 of 2, finished: .*, own accuracy 9\d\.\d%$",
            client.out,
            re.MULTILINE,
        )
        assert client.err == "loading TensorFlow ...\n"

    table = a_class.history.read_text().splitlines()
    assert (
        table[0]
        == "round,seconds,accuracy,loss,bytes_down,bytes_up,bytes,num_examples,clients,note"
    )
    assert [row.split(",")[7] for row in table[1:]] == ["60000", "60000"]


@pytest.mark.slow
def test_a_server_goes_on_and_keeps_its_clients(processes, a_class):
    """On another server's checkpoint; killed and started again under a live client; ended by
    Ctrl-C.
    """
    checkpoint = shutil.copy(a_class.checkpoint, "c.safetensors")
    arguments = [
        "server",
        "--port",
        free_port(),
        "--rounds",
        10_000,
        "--min-clients",
        1,
        "--checkpoint",
        checkpoint,
    ]
    first = processes(*arguments)
    client = processes("client", first.url(), "--id", "alice", "--shards", 1, 1)
    assert "Goes on from" in first.out
    assert "Waits for 1 client, then begins." in first.out
    first.says(r"^round 3 of 10002: accuracy 9")
    first.kill()
    first.ends()
    saved = len(load_checkpoint(checkpoint)[1])
    assert saved >= 3

    second = processes(*arguments)
    client.says(r"the server is away")
    second.says(rf"^round {saved + 1} of 10002: accuracy 9", 90)  # and not 10,000 more
    second.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert second.ends() == 130
    assert time.monotonic() - began < 10  # and does not train its 10,000 rounds
    assert "Traceback" not in second.err
    _, history = load_checkpoint(checkpoint)
    assert len(history) > saved and second.out.endswith(f"checkpoint: {checkpoint}\n")
    assert f"round {history.last.round} of" in second.out, "what was printed is in the checkpoint"
    assert client.ends() == 0 and "finished" in client.out.splitlines()[-1]


@pytest.mark.slow
def test_a_client_that_is_stopped_leaves(processes):
    """SIGTERM while it waits."""
    with fedlab.Server() as server:
        client = processes("client", server.url, "--id", "dave", "--shards", "2", "2")
        client.says("waiting for a task")  # its thread; and the process itself:
        client.says("loading TensorFlow", stream="err")
        client.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert client.ends() == 130
        assert time.monotonic() - began < 10
        assert server.federation.status().members == []
    assert client.err == "loading TensorFlow ...\n" and client.out.endswith("dave: stopped\n")


def test_stopped_while_python_executes_a_string(tmp_path):
    """As when TensorFlow is being loaded."""
    (tmp_path / "stopped.py").write_text(
        "import os, signal\n"
        "from fedlab import cli\n"
        "cli.COMMANDS['simulate'] = lambda args: exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "raise SystemExit(cli.main(['simulate']))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "stopped"]
    assert subprocess.run(command, env=environment, timeout=60).returncode == 130


def test_a_question_without_an_answer(processes):
    client = processes("client", URL, stdin="alice\n")
    assert client.ends() == 2
    assert client.err == (
        "fedlab: got no answer to 'First and last shard, 1 to 12 (for example 1 4)'; expected one"
        " on standard input, or --shards\n"
    )


def test_importing_it_is_quick():
    """Neither TensorFlow nor Flask nor matplotlib before a command needs them."""
    code = (
        "import sys, fedlab.cli; print({'tensorflow', 'keras', 'flask', 'matplotlib', 'ipywidgets',"
        " 'tqdm'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr


# ---- wrong words ---------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys):
    """The sentence with which `fedlab` refuses its arguments."""

    def said(*arguments, code=2):
        assert cli.main([str(argument) for argument in arguments]) == code
        err = [
            line
            for line in capsys.readouterr().err.splitlines()
            if line != "loading TensorFlow ..."
        ]
        assert len(err) == 1 and err[0].startswith("fedlab: "), err
        return err[0].removeprefix("fedlab: ")

    return said


@pytest.mark.parametrize(
    "shards", [("0", "3"), ("5", "2"), ("1", "13"), ("a", "b"), ("", ""), ("1.5", "3"), ("-1", "3")]
)
def test_ranges_that_cannot_be(refused, shards):
    received = " to ".join(number or "(empty)" for number in shards)
    expected = (
        f"the shards are {received}; expected a first and a last shard from 1 to 12, the first not"
        " above the last, for example 1 and 4"
    )
    assert refused("client", URL, "--id", "alice", "--shards", *shards) == expected


@pytest.mark.parametrize("answer, received", [
    ("0 3", "0 to 3"), ("5 2", "5 to 2"), ("1 13", "1 to 13"), ("a b", "a to b"),
    ("", "(empty) to (empty)"), ("  ", "(empty) to (empty)"),
    ("7", "7 to (empty)"), ("1 2 3", "1 to 2 3"), ("1-4", "1-4 to (empty)"),
])  # fmt: skip
def test_answers_that_cannot_be(refused, monkeypatch, answer, received):
    """From a pipe: one sentence and the end."""
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert refused("client", URL, "--id", "alice").startswith(
        f"the shards are {received}; expected a first and a last shard"
    )


def test_a_wrong_answer_at_a_terminal_is_asked_for_again(refused, monkeypatch, capsys):
    answers = {
        "Client id: ": ["", "a/b", "alice"],
        SHARDS: ["0 3", "4", " 2   3 "],
    }
    monkeypatch.setattr("builtins.input", lambda question: answers[question].pop(0))
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    # Nobody is there; but all answers were understood
    assert cli.main(["client", URL, "--patience", "0"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in err[:4]] == [
        "fedlab: the client id is ''",
        "fedlab: the client id is 'a/b'",
        "fedlab: the shards are 0 to 3",
        "fedlab: the shards are 4 to (empty)",
    ]
    assert len(err) == 5 and err[4].startswith("fedlab: no answer from http://127.0.0.1:1/ after 1")
    assert answers == {"Client id: ": [], SHARDS: []}


@pytest.mark.parametrize("arguments, sentence", [
    ("serve", "argument COMMAND: invalid choice: 'serve'"),
    ("--nonsense", "got --nonsense, which is no option here; see fedlab --help"),
    ("server --nonsense", "got --nonsense, which is no option here; see fedlab server --help"),
    ("server --port 99999", "argument --port: got '99999', expected a port"),
    ("server --port http", "argument --port: got 'http', expected a whole number"),
    ("server --rounds many", "argument --rounds: got 'many', expected a whole number"),
    ("server --rounds 0", "rounds is 0; expected a whole number from 1"),
    ("server --mode turns", "argument --mode: invalid choice: 'turns'"),
    ("server --mode async --strategy fed_avg", "--mode async with --strategy fed_avg; expected"),
    ("server --mode rounds --strategy async_average",
    "--mode rounds with --strategy async_average; expected"),
    ("server --original --mode rounds", "--original with --mode rounds; expected --mode async"),
    ("server --original --strategy fed_avg", "--original with --strategy fed_avg; expected"),
    ("server --original --rounds 3",
    "--original with --rounds 3: its clients do not say how many they plan; expected no --rounds"),
    ("server --original --host 0.0.0.0 --port 0", "original_protocol with host '0.0.0.0'"),
    ("server --fraction 1.5", "fraction (C) is 1.5; expected"),
    ("server --fraction nan", "fraction (C) is nan; expected"),
    ("server --deadline 0", "deadline is 0.0; expected"),
    ("server --deadline soon", "argument --deadline: got 'soon', expected a number of seconds, or"),
    ("server --min-clients 0", "argument --min-clients: got '0', expected a whole number from 1"),
    ("server --epochs 0", "epochs (E) is 0; expected"),
    ("server --batch-size none",
     "argument --batch-size: got 'none', expected a whole number, or all;"),
    ("simulate --batch-size inf",
     "argument --batch-size: got 'inf', expected a whole number, or all;"),
    ("server --batch-size 0",
     "argument --batch-size: got '0', expected a whole number from 1, or all;"),
    ("server --learning-rate -1", "learning_rate is -1.0; expected"),
    ("server --optimizer rmsprop", "argument --optimizer: invalid choice: 'rmsprop'"),
    ("server --seed -1", "argument --seed: got '-1', expected a whole number from 0"),
    ("server --history rounds.txt",
     "argument --history: got 'rounds.txt', expected a name that ends in .csv or .json"),
    ("server --history nowhere/rounds.csv", "cannot write nowhere/rounds.csv; expected"),
    ("server --checkpoint nowhere/c.safetensors", "cannot write nowhere/c.safetensors; expected"),
    ("server --checkpoint .", "cannot write .; expected"),
    ("server --data nowhere", "there is no nowhere; expected mnist.npz"),
    ("client", "the following arguments are required: URL"),
    ("client here --id alice --shards 1 1", "the server's URL is 'here'; expected"),
    (f"client {URL} --id a/b --shards 1 1", "the client id is 'a/b'; expected"),
    (f"client {URL} --id alice --shards 1", "argument --shards: expected 2 arguments"),
    (f"client {URL} --id alice --shards 1 1 --patience x",
     "argument --patience: got 'x', expected a number"),
    (f"client {URL} --id alice --shards 1 1 --data nowhere",
    "there is no nowhere; expected mnist.npz"),
    ("evaluate", "the following arguments are required: F"),
    ("evaluate nowhere",
    "nowhere is not a checkpoint of this model: [Errno 2] No such file or directory"),
    ("simulate --clients 0", "clients is 0; expected a whole number from 1 to 60,000"),
    ("simulate --clients 60001", "clients is 60001; expected"),
    ("simulate --partition label --clients 40000",
    "clients x shards_per_client is 80000; expected"),
    ("simulate --partition dirichlet --alpha 0", "alpha is 0.0; expected"),
    ("simulate --partition quantity --alpha 0", "alpha is 0.0; expected"),
    ("simulate --partition digit --clients 9", "clients is 9; expected a whole number from 10 to"),
    ("simulate --partition random", "argument --partition: invalid choice: 'random'"),
    ("simulate --strategy fed_async", "--strategy fed_async without --speed; expected both"),
    ("simulate --enough 3", "--enough 3 without --speed; expected both: it matters there who"),
    ("simulate --drop-out 0.1 --until 9", "--drop-out 0.1 without --speed; expected both"),
    ("simulate --speed 0", "speed is 0.0; expected images a second, a number above 0"),
    ("simulate --speed 9 --slow 101", "--slow 101; expected at most the 100 clients"),
    ("simulate --speed 9 --drop-out 1", "drop_out is 1.0; expected a probability from 0 up to"),
    ("simulate --mu 0.1", "--mu 0.1 with the strategy fed_avg; expected it with fed_prox"),
    ("simulate --strategy median --tau 1",
     "--tau 1.0 with the strategy median; expected it with fed_adam or fed_yogi"),
    ("simulate --strategy fed_prox --mu -1", "mu is -1.0; expected a number from 0"),
    ("simulate --strategy trimmed_mean --trim x", "argument --trim: got 'x', expected a whole n"),
    ("simulate --strategy scaffold --optimizer adam", "optimizer is 'adam' with SCAFFOLD; expe"),
    ("server --strategy scaffold --optimizer adam", "optimizer is 'adam' with SCAFFOLD; expecte"),
    ("server --pixels 255", "--pixels 255 without --original; expected them together"),
    ("server --original --pixels 128", "argument --pixels: invalid choice: "),
    ("simulate --target 97", "target is 97.0; expected an accuracy between 0 and 1"),
    ("simulate --evaluate-every 0", "evaluate_every is 0; expected"),
    ("simulate --workers 0", "argument --workers: got '0', expected a whole number from 1"),
    ("simulate --history .csv/rounds.csv", "cannot write .csv/rounds.csv; expected"),
])  # fmt: skip
def test_arguments_that_cannot_be(refused, arguments, sentence):
    assert refused(*arguments.split()).startswith(sentence)


def test_help_explains_every_option(capsys):
    assert cli.main([]) == 2
    page = capsys.readouterr().out
    assert cli.main(["--help"]) == 0 and capsys.readouterr().out == page
    for word in [
        "lab",
        "lessons",
        "check",
        "server",
        "client",
        "evaluate",
        "simulate",
        "notebooks",
        "--original --port 5000",
        "--target 0.97",
        "--id alice",
    ]:
        assert word in page
    options = {}
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        page = capsys.readouterr().out
        options[command] = set(re.findall(r"^  (--[\w-]+)", page, re.MULTILINE))
        unexplained = re.findall(r"^  (--[\w-]+)(?: [^ ]+)*\n(?!     )", page, re.MULTILINE)
        assert unexplained == []
        assert max(map(len, page.splitlines())) < 140
    own = {"--id", "--shards", "--patience", "--data", "--secure", "--token-file", "--certificate"}
    assert options["client"] == own
    assert options["lab"] == {"--no-browser", "--allow-root"}
    assert options["lessons"] == {"--update"}
    assert options["check"] == {"--port", "--data"}
    training = {
        "--epochs",
        "--batch-size",
        "--learning-rate",
        "--optimizer",
        "--fraction",
        "--rounds",
        "--seed",
        "--history",
        "--data",
    }
    assert training <= options["server"] & options["simulate"]
    assert {
        "--host",
        "--port",
        "--mode",
        "--checkpoint",
        "--original",
        "--deadline",
        "--min-updates",
        "--allow-host",
    } <= options["server"]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fedlab {fedlab.__version__}\n"


# ---- who is there, and who is not ----------------------------------------------------------------


def test_a_wrong_token(refused):
    with fedlab.Server() as server:
        for url in (f"{server.address}?token=wrong", server.address):
            assert refused("client", url, "--id", "alice", "--shards", 1, 1).startswith(
                "the token is missing or wrong"
            )
        assert server.federation.status().members == []


def test_who_is_one_too_many_or_not_let_in(refused):
    with fedlab.Server(limits=fedlab.Limits(clients=1, examples=10_000)) as server:
        arguments = ("client", server.url, "--id")
        server.remove("mallory", ban=True)
        assert refused(*arguments, "mallory", "--shards", 1, 1).startswith(
            "client 'mallory' may not take part"
        )
        assert refused(*arguments, "alice", "--shards", 1, 3).startswith(
            "num_examples is 15000; expected a whole number from 1 to 10,000"
        )
        server.federation.join("bob", 5)
        assert refused(*arguments, "alice", "--shards", 1, 1).startswith(
            "'alice' would be one too many; expected at most 1 client"
        )
        assert [member.client for member in server.federation.status().members] == ["bob"]


def test_what_is_wrong_is_said_before_tensorflow_is_loaded(mnist):
    """It takes seconds. And a client that was refused has not joined."""
    code = (
        "import sys; from fedlab import cli; code = cli.main(['client', *sys.argv[1:]]);"
        " print(code, {'tensorflow', 'keras'} & set(sys.modules))"
    )

    def said(*arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.stdout == "2 set()\n", done
        return done.stderr

    with fedlab.Server() as server:
        with_it = fedlab.Client(server.url, "alice", mnist.shards(1, 1)).start()
        complete = ("--id", "alice", "--shards", "2", "2")
        assert said("foo").startswith("fedlab: the server's URL is 'foo'; expected")  # no question
        assert said(f"{server.address}?token=x", *complete).startswith("fedlab: the token is")
        assert said(server.url, *complete[:3], "5", "1").startswith("fedlab: the shards are 5 to 1")
        assert said(server.url, *complete).startswith("fedlab: a client called 'alice' has already")
        assert [member.client for member in server.federation.status().members] == ["alice"]
        with_it.stop()


def test_a_client_joins_first_and_leaves_where_tensorflow_cannot_be_loaded(tmp_path):
    broken = tmp_path / "broken" / "tensorflow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no TensorFlow here')")
    path = os.pathsep.join([str(broken.parent), str(ROOT)])
    with fedlab.Server() as server:
        command = [sys.executable, "-m", "fedlab", "client", server.url]
        done = subprocess.run(
            [*command, "--id", "alice", "--shards", "1", "1"],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr == "loading TensorFlow ...\nfedlab: no TensorFlow here\n"
        sent = [(r.method, r.path, r.status) for r in server.wire if r.client == "alice"]
        assert sent[0] == ("POST", "/clients", 201)
        assert server.federation.status().members == []


def test_at_a_terminal_another_name_is_asked_for(monkeypatch, capsys, mnist):
    answers, questions = ["alice", "zoe"], []
    monkeypatch.setattr("builtins.input", lambda asked: questions.append(asked) or answers.pop(0))
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with fedlab.Server() as server:
        with_it = fedlab.Client(server.url, "alice", mnist.shards(1, 1)).start()

        def end_with_zoe():
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                if {m.client for m in server.federation.status().members} == {"alice", "zoe"}:
                    break
                time.sleep(0.02)
            server.close()

        thread = threading.Thread(target=end_with_zoe)
        thread.start()
        code = cli.main(["client", server.url, "--id", "alice", "--shards", "2", "2"])
        thread.join()
        with_it.join()
    out, err = capsys.readouterr()
    assert code == 0 and questions == ["Client id: "] * 2 and answers == []
    taken = "fedlab: a client called 'alice' has already joined; expected an id of your own, or"
    assert [line.startswith(taken) for line in err.splitlines()] == [True, True, False]
    assert err.endswith("loading TensorFlow ...\n") and "zoe: finished: " in out


def test_an_id_that_is_taken(refused, mnist):
    with fedlab.Server() as server:
        with_it = fedlab.Client(server.url, "alice", mnist.shards(1, 1)).start()
        assert refused("client", server.url, "--id", "alice", "--shards", 2, 2).startswith(
            "a client called 'alice' has already joined"
        )
        assert [member.client for member in server.federation.status().members] == ["alice"]
        with_it.stop()


def test_a_server_that_is_not_there(refused):
    url = f"http://127.0.0.1:{free_port()}/?token=t"
    assert refused(
        "client", url, "--id", "alice", "--shards", 1, 1, "--patience", 1, code=1
    ).startswith("no answer from http://127.0.0.1:")


def test_patience_that_cannot_be(refused):
    url = f"http://127.0.0.1:{free_port()}/?token=t"
    said = refused("client", url, "--id", "alice", "--shards", 1, 1, "--patience", -1)
    assert said.startswith("patience is -1.0; expected seconds from 0, for example 300")


def test_a_client_whose_run_has_failed_says_so_and_exits_with_1(capsys):
    server = fedlab.Server()
    server.start(rounds=5, min_clients=2)

    def fail():
        while not server.federation.status().members:
            time.sleep(0.01)
        server.federation.fail(OSError("no space left"))
        server.close()

    thread = threading.Thread(target=fail)
    thread.start()
    assert cli.main(["client", server.url, "--id", "alice", "--shards", "1", "1"]) == 1
    thread.join()
    out, err = capsys.readouterr()
    assert "fedlab: the run ended by an error: no space left" in err
    assert "failed" in out.splitlines()[-1] and "finished" not in out


def test_something_that_is_not_a_fedlab_server(refused):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            sentence = refused(
                "client",
                f"http://127.0.0.1:{other.server_port}/",
                "--id",
                "alice",
                "--shards",
                1,
                1,
                code=1,
            )
        finally:
            other.shutdown()
            thread.join()
    assert "is not a fedlab server; expected the URL that `fedlab server` printed" in sentence


def test_a_port_in_use(refused):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert refused("server", "--port", port, code=1).startswith(
            f"cannot listen on 127.0.0.1:{port} (Address already in use)"
        )


# ---- server and clients in this process ----------------------------------------------------------


def test_who_needs_a_certificate_is_told(capsys):
    with fedlab.Server() as server:
        for given, told in (("", "4\n"), ("--certificate c.pem --key k.pem", '"c.pem"\n')):
            cli._say_how_to_join(server, cli.parse(["server", *given.split()]))
            said = capsys.readouterr().out
            assert f"--shards 1 4{' --certificate ' if given else ''}" in said and told in said


@pytest.mark.parametrize(
    ("more", "token", "told"),
    [
        ("", None, "only with FEDLAB_TOKEN set to the token above and --port {port}."),
        ("--port 0", "the-token", "only with --port {port}."),
        ("--original", None, "only with FEDLAB_TOKEN set to the token above."),
        ("--port 8642", "the-token", None),
    ],
)
def test_a_server_with_a_checkpoint_says_how_clients_find_it_again(
    capsys, monkeypatch, more, token, told
):
    monkeypatch.delenv("FEDLAB_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("FEDLAB_TOKEN", token)
    with fedlab.Server() as server:
        for given in (f"--checkpoint c.safetensors {more}", more):
            cli._say_how_to_join(server, cli.parse(["server", *given.split()]))
            said = [line for line in capsys.readouterr().out.splitlines() if "again" in line]
            due = told is not None and "--checkpoint" in given
            line = f"Started again it finds its clients {told}".format(port=server.port)
            assert said == [line] * due


def test_more_examples_may_be_more_shards():
    """A client says how many shards of 5,000 its images are."""
    limits = {n: cli._limits(cli.parse(["server", "--most-examples", n])) for n in ("9", "100001")}
    assert (limits["9"].shards, limits["9"].examples) == (12, 9)
    assert (limits["100001"].shards, limits["100001"].examples) == (21, 100_001)


def test_a_token_file_that_is_no_text(tmp_path, capsys):
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    arguments = ["client", "http://127.0.0.1:9/", "--id", "a", "--shards", "1", "1"]
    assert cli.main([*arguments, "--token-file", str(tmp_path / "token")]) == cli.USAGE
    assert "is no text; expected a file with the token in it" in capsys.readouterr().err


def test_ctrl_c_while_the_server_waits(capsys, monkeypatch):
    """Nobody has joined, and nothing is written."""
    monkeypatch.setenv("FEDLAB_TOKEN", "the-token")
    pressed = []
    timer = threading.Timer(0.5, lambda: (pressed.append(time.monotonic()), press()))
    monkeypatch.setattr(cli, "_say_how_to_join", lambda *_: timer.start())  # the server is up
    assert cli.main(["server", "--checkpoint", "c.safetensors"]) == 130
    assert time.monotonic() - pressed[0] < 10
    timer.join()
    out, err = capsys.readouterr()
    assert "token=the-token" in out.splitlines()[0] and "waiting" not in out
    assert err == "loading TensorFlow ...\n" and list(Path().iterdir()) == []


def test_ctrl_c_while_a_client_trains(capsys):
    """It ends between two compiled calls, leaves, and says so."""
    with fedlab.Server() as server:
        pressed = []

        def press_when_it_trains():
            server.start(1, epochs=1_000, strict=False)
            deadline = time.monotonic() + 120  # TensorFlow loads first
            while time.monotonic() < deadline:
                if [m.state for m in server.federation.status().members] == ["training"]:
                    break
                time.sleep(0.02)
            time.sleep(0.2)
            pressed.append(time.monotonic())
            press()

        thread = threading.Thread(target=press_when_it_trains)
        thread.start()
        code = cli.main(["client", server.url, "--id", "alice", "--shards", "1", "12"])
        took = time.monotonic() - pressed[0]
        thread.join()
        assert code == 130 and took < 20  # its task would take many minutes
        assert server.federation.status().members == []
    # It is waited for, but not for ever: a busy machine may still compile what it trains with
    said, end = capsys.readouterr().out, time.monotonic() + 60
    while not said.endswith("alice: round 1 of 1, stopped\n") and time.monotonic() < end:
        time.sleep(0.1)
        said += capsys.readouterr().out
    assert said.endswith("alice: round 1 of 1, stopped\n")


def test_asynchronous_rounds_end_by_themselves(capsys, monkeypatch, mnist):
    monkeypatch.setenv("FEDLAB_TOKEN", "the-token")
    port = free_port()
    client = fedlab.Client(
        f"http://127.0.0.1:{port}/?token=the-token",
        "erin",
        mnist.shards(1, 2),
        test=mnist.test,
    )
    thread = threading.Thread(target=client.run)
    threading.Timer(0.5, thread.start).start()
    arguments = (
        "--mode async --rounds 1 --epochs 1 --optimizer adam --checkpoint c.safetensors --history"
        " h.json"
    )
    assert cli.main(["server", "--port", str(port), *arguments.split()]) == 0
    thread.join()
    out = capsys.readouterr().out
    assert re.findall(r"^update (\d): accuracy .*, erin, 5,000 examples", out, re.MULTILINE) == [
        "1",
        "2",
    ]
    state, history = load_checkpoint("c.safetensors")
    assert state.num_examples == 10_000 and history.to_json() == Path("h.json").read_text()


@pytest.mark.slow
def test_a_client_that_has_died_costs_one_deadline(capsys, monkeypatch, small):
    """A laptop that was closed: the round goes on without it, and the next do not wait for it."""
    monkeypatch.setenv("FEDLAB_TOKEN", "the-token")
    monkeypatch.setattr("fedlab.federation.members.SILENT_AFTER", 2.0)
    # So that the living one is never too late
    fedlab.Classifier().prepare(small, fedlab.Training())
    port = free_port()
    url = f"http://127.0.0.1:{port}/?token=the-token"
    alive, dead = (fedlab.Client(url, name, small) for name in ("alive", "dead"))

    def take_part():
        with dead._session() as session:
            dead._join(session)  # and never a word again
        alive.run()

    thread = threading.Timer(0.5, take_part)
    thread.start()
    assert (
        cli.main(
            [
                "server",
                "--port",
                str(port),
                "--rounds",
                "3",
                "--min-clients",
                "2",
                "--deadline",
                "4",
            ]
        )
        == 0
    )
    thread.join()
    rounds = re.findall(r"^round \d of 3: accuracy .*$", capsys.readouterr().out, re.MULTILINE)
    assert [line.endswith("(1 of 2 updates: went on without dead)") for line in rounds] == [
        True,
        False,
        False,
    ]


@pytest.mark.slow
def test_a_damaged_checkpoint_stays_what_it_is(refused, a_class):
    Path("cut.safetensors").write_bytes(a_class.checkpoint.read_bytes()[:-1000])
    before = Path("cut.safetensors").read_bytes()
    assert refused("evaluate", "cut.safetensors").startswith(
        "cut.safetensors is not a checkpoint of this model: "
    )
    assert refused("server", "--checkpoint", "cut.safetensors").startswith(
        "cut.safetensors is not a checkpoint of this model: "
    )
    assert Path("cut.safetensors").read_bytes() == before


@pytest.mark.slow
def test_evaluate(capsys, a_class, mnist):
    assert (
        cli.main(["evaluate", str(a_class.checkpoint), "--data", str(ROOT / "data" / "mnist.npz")])
        == 0
    )
    out = capsys.readouterr().out
    accuracy = float(
        re.search(r"^accuracy ([\d.]+)% on the 10,000 test images$", out, re.MULTILINE)[1]
    )
    rows = re.findall(r"^ +(\d) +([\d,]+) +([\d,]+) +([\d.]+)%$", out, re.MULTILINE)
    assert [int(digit) for digit, *_ in rows] == list(range(10))
    images, right = (sum(int(row[column].replace(",", "")) for row in rows) for column in (1, 2))
    assert images == 10_000 and accuracy == pytest.approx(right / 100) and accuracy > 90
    state, history = load_checkpoint(a_class.checkpoint)
    assert f": model {len(history)}, {state.num_examples:,} examples trained on\n" in out
    assert fedlab.Classifier().evaluate(state.weights, mnist.test)[1] == right / 10_000


@pytest.mark.filterwarnings("always::fedlab.checkpoint.DamagedCheckpoint")
@pytest.mark.slow
def test_a_damaged_checkpoint_is_said_once_and_the_one_before_is_taken(capsys, a_class, tmp_path):
    state, history = load_checkpoint(a_class.checkpoint)
    path = tmp_path / "damaged.safetensors"
    for _ in range(2):
        save_checkpoint(path, state, history)
    body = bytearray(path.read_bytes())
    body[-5] ^= 4
    path.write_bytes(body)
    assert cli.main(["evaluate", str(path), "--data", str(ROOT / "data" / "mnist.npz")]) == 0
    out, err = capsys.readouterr()
    assert err.count("Taken instead: ") == 1 and "UserWarning" not in err
    assert re.search(r"^accuracy 9\d\.\d+% on the 10,000", out, re.MULTILINE)


# ---- simulate ------------------------------------------------------------------------------------


def simulate(*more):
    usual = "--clients 20 --fraction 0.1 --rounds 3 --batch-size 100 --history h.csv"
    return cli.main(["simulate", *usual.split(), *more])


def test_simulate(capsys):
    assert simulate("--target", "0.5") == 0
    out, err = capsys.readouterr()
    rows = [line.split(",") for line in Path("h.csv").read_text().splitlines()]
    assert rows[0] == [
        "round",
        "seconds",
        "accuracy",
        "loss",
        "bytes_down",
        "bytes_up",
        "bytes",
        "num_examples",
        "clients",
        "note",
    ]
    assert rows[1][7:9] == ["6000", "2"]
    assert len(re.findall(r"^round \d of 3: accuracy", out, re.MULTILINE)) == len(rows) - 1
    assert "; 50.00% reached after " in out and out.endswith("history: h.csv\n")
    assert err == "loading TensorFlow ...\n"
    with_one = [row[2:4] for row in rows]
    assert simulate("--target", "0.5", "--workers", "1") == 0
    assert [line.split(",")[2:4] for line in Path("h.csv").read_text().splitlines()] == with_one, (
        "one seed, one result"
    )


@pytest.mark.slow
def test_simulate_by_a_virtual_clock(capsys):
    """60,000 images, 20 clients: 3,000 each, 5 s at 600 a second, 50 s for the slow one. In
    16 s the six at work make eight or nine steps of two updates each.
    """
    command = (
        "simulate --clients 20 --fraction 0.3 --strategy fed_buff --buffer 2 --rounds 100"
        " --speed 600 --slow 1 --until 16"
    )
    assert cli.main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model 1: accuracy ") and lines[0].endswith("6,000 examples, 5.0 s")
    assert lines[-2].endswith(", 15.0 s") and re.match(r"[89] models, 15\.0 s: ", lines[-1])


def test_a_virtual_end_before_the_first_round(capsys):
    assert cli.main(["simulate", "--clients", "20", "--speed", "600", "--until", "1"]) == 0
    assert capsys.readouterr().out == "0 rounds\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "partition",
    [
        "label --shards-per-client 1 --batch-size all",
        "dirichlet --alpha 0.1",
        "digit",
        "quantity --alpha 0.3",
    ],
)
def test_simulate_with_uneven_clients(capsys, partition):
    assert (
        simulate(
            "--partition",
            *partition.split(),
            "--strategy",
            "fed_avg_momentum",
            "--evaluate-every",
            "2",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "round 1 of 3: not tested" in out and "3 rounds" in out


def test_training_that_diverges(refused):
    arguments = (
        "simulate --clients 2 --rounds 3 --learning-rate 1e9 --batch-size 1000 --history h.csv"
    )
    sentence = refused(*arguments.split(), code=1)
    assert sentence.startswith("training diverged in round 1")
    assert Path("h.csv").read_text().startswith("round,"), "the rounds before, here none"


def test_ctrl_c_while_simulating(capsys, monkeypatch):
    """In round 2: the history so far is written."""
    monkeypatch.setattr(cli, "round_line", lambda record, *_: press() if record.round == 2 else "")
    assert simulate("--rounds", "100000") == 130
    out, err = capsys.readouterr()
    assert "Traceback" not in err and out.strip().startswith("2 rounds, ")
    assert len(Path("h.csv").read_text().splitlines()) == 3


# ---- lab -----------------------------------------------------------------------------------------


@pytest.fixture
def jupyter(monkeypatch, tmp_path):
    """What `fedlab lab` would start, and a project with the lesson."""
    started = []

    class Started:
        pid = -1

        def __init__(self, command, env):
            started.append(command)

        def wait(self, timeout=None):
            return 0

    monkeypatch.setattr(lab.subprocess, "Popen", Started)
    monkeypatch.setattr(lab, "PROJECT", tmp_path / "project")
    return started


@pytest.mark.parametrize("place", ["project", "."])
def test_lab_opens_lesson_00(jupyter, tmp_path, place):
    lesson = (tmp_path / place / "notebooks" / "00_start_here.ipynb").resolve()
    lesson.parent.mkdir(parents=True)
    lesson.touch()
    assert cli.main(["lab", "--no-browser", "--allow-root", "--ServerApp.port=8899"]) == 0
    (command,) = jupyter
    assert command[:4] == [sys.executable, "-m", "jupyterlab", str(lesson)]
    assert {"--no-browser", "--allow-root"} < set(command)
    assert command[-1] == "--ServerApp.port=8899", "passed on"


def test_what_was_said_of_folders_is_not_said_again(jupyter, tmp_path):
    """JupyterLab would have two, and take neither."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    assert cli.main(["lab", "--allow-root", f"--ServerApp.root_dir={tmp_path}"]) == 0
    assert [word for word in jupyter[0] if "root_dir" in word or "default_url" in word] == [
        f"--ServerApp.root_dir={tmp_path}"
    ]


def test_lab_as_root_says_what_to_add(jupyter, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").touch()
    said = refused("lab", "--no-browser")
    assert said.startswith("this is the user root") and "make lab ARGS=--allow-root" in said
    assert jupyter == []
    assert cli.main(["lab", "--ServerApp.allow_root=True"]) == 0 and len(jupyter) == 1
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert cli.main(["lab"]) == 0 and len(jupyter) == 2 and "--allow-root" not in jupyter[1]


@pytest.mark.slow
def test_lab_prints_the_address_that_opens_the_lesson(processes, tmp_path, monkeypatch):
    """A real JupyterLab, that does not ask about news; and nothing of the user's is written."""
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    for name in ("SETTINGS", "WORKSPACES"):
        monkeypatch.setenv(f"JUPYTERLAB_{name}_DIR", str(tmp_path / name.lower()))
    port = free_port()
    lab = processes("lab", "--no-browser", "--allow-root", f"--ServerApp.port={port}")
    where = rf"http://\w+:{port}/lab/tree/00_start_here\.ipynb\?token=\w+"
    address = lab.says(rf"^Start here: ({where})$")[1]
    assert address in lab.err, "JupyterLab's own address opens the lesson too"

    page = requests.get(address, timeout=20)
    about = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page.text, re.DOTALL)[1]
    assert json.loads(about)["treePath"] == "00_start_here.ipynb"

    news = "lab/api/settings/@jupyterlab/apputils-extension:notification"
    setting = address.replace("lab/tree/00_start_here.ipynb", news)
    said = requests.get(setting, timeout=20).json()
    # "none" is the question; what users have chosen themselves would be in "settings", and count
    assert said["schema"]["properties"]["fetchNews"]["default"] == "false"
    assert said["schema"]["properties"]["checkForUpdates"]["default"] is False
    assert said["settings"] == {} and not list(tmp_path.glob("settings/**/*.jupyterlab-settings"))
    assert not list(tmp_path.glob("config/labconfig/*"))

    lab.send_signal(signal.SIGINT)
    assert lab.ends() == 130 and "Traceback" not in lab.err


def test_lab_outside_a_clone_brings_the_lessons(jupyter, tmp_path, capsys):
    """To a folder of one's choice, or one in the current folder; then it opens what is there."""
    for words, folder in (([], lessons.FOLDER), (["my course"], "my course")):
        where = Path.cwd() / folder
        for said in (
            "The lessons are in {}: {} files brought.",
            "The lessons are in {}: all there.",
        ):
            assert cli.main(["lab", *words, "--allow-root", "--port", "8899"]) == 0
            assert said.format(where, len(lessons.files())) in capsys.readouterr().out
            command = jupyter.pop()
            assert command[3] == str((where / "00_start_here.ipynb").resolve())
            assert f"--ServerApp.root_dir={where.resolve()}" in command
            assert command[-2:] == ["--port", "8899"], "passed on, and no folder"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["fedlab-lessons", "my course"]


def test_lab_refuses_before_it_brings_anything(jupyter, refused, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert refused("lab").startswith("this is the user root")
    Path("file").touch()
    assert "file is a file; expected a folder" in refused("lab", "file", "--allow-root")
    assert jupyter == [] and [path.name for path in Path.cwd().iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Binder's machines run Linux")
def test_binder_does_not_ask_about_news_either(tmp_path):
    environment = os.environ | {"NB_PYTHON_PREFIX": str(tmp_path)}
    subprocess.run([ROOT / "postBuild"], env=environment, check=True)
    (written,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written.relative_to(tmp_path).parts[:3] == ("etc", "jupyter", "labconfig")
    code = (
        "from jupyterlab_server.settings_utils import _get_overrides;"
        " print(_get_overrides('nowhere')[0])"
    )
    environment = os.environ | {"JUPYTER_CONFIG_PATH": str(tmp_path / "etc" / "jupyter")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    news = "'@jupyterlab/apputils-extension:notification': {'fetchNews': 'false', 'checkFor"
    assert f"{news}Updates': False}}" in done.stdout
    assert json.loads(written.read_text()) == lab.NO_NEWS


# ---- check ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_check_finds_this_machine_good(processes):
    """As a process, with a port that is taken: that is no reason to fail."""
    with socket.create_server(("0.0.0.0", 0)) as busy:
        port = busy.getsockname()[1]
        check = processes("check", "--port", port)
        assert check.ends() == 0, check.out + check.err
    rows = re.findall(r"^(ok|note|BAD) +([\w ]+): ", check.out, re.MULTILINE)
    assert [title for _, title in rows] == [
        *("Python", "Packages", "JupyterLab", "MNIST", "Memory", "Port", "Other machines"),
        *("Flower", "TensorFlow"),
    ]
    assert ("note", "Port") in rows and f"Port {port} is taken" in check.out
    assert check.out.splitlines()[-1].startswith("Everything that the first lessons need is here.")
    assert check.err == "looking at what the lessons need ...\n"
    assert {path.suffix for path in Path().iterdir()} == {".out", ".err"}, "nothing of its own"


def test_check_fails_when_something_needed_is_broken(monkeypatch, capsys):
    from fedlab.installation import Finding, installed

    Path("mnist.npz").write_bytes((ROOT / "data" / "mnist.npz").read_bytes()[:100_000])
    fine = Finding("tensorflow", "TensorFlow", "good", "Not looked at here.")
    monkeypatch.setattr(installed, "tensorflow", lambda: fine)
    assert cli.main(["check", "--data", "mnist.npz"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^BAD   MNIST: mnist\.npz is not MNIST \(BadZipFile: ", out, re.MULTILINE)
    assert "      To mend it: Expected the arrays" in out
    assert out.splitlines()[-1].startswith("To be mended before a lesson: MNIST.")


# ---- the screen ----------------------------------------------------------------------------------


def test_progress_at_a_terminal_stays_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    screen = terminal.Screen()
    for text in ["training, epoch 1", "short", "short", "a text that is longer than the line"]:
        screen.now(text)
    screen.line("round 1")
    screen.now("waiting")
    screen.keep()
    shown = capsys.readouterr().out
    assert shown == (
        "\rtraining, epoch 1"
        + "\rshort            "
        + "\ra text that is long"
        + "\r"
        + " " * 19
        + "\rround 1\n"
        + "\rwaiting\n"
    )


def test_progress_in_a_pipe_is_lines(capsys):
    screen = terminal.Screen()
    for text in ["training", "training", "testing"]:
        screen.now(text)
    screen.keep()
    terminal.Screen(pipe=False).now("not a result")
    assert capsys.readouterr().out == "training\ntesting\n"


def test_lines_say_what_matters():
    record = RoundRecord(
        3,
        0.91234,
        0.25,
        4.125,
        clients={"alice": ClientRecord(5000)},
        note="1 of 2 updates: went on without bob",
    )
    line = (
        "round 3 of 10: accuracy 91.23%, loss 0.2500, alice, 5,000 examples, 4.1 s (1 of 2 updates:"
        " went on without bob)"
    )
    assert terminal.round_line(record, 10) == line
    assert (
        terminal.round_line(RoundRecord(4), 0, "update")
        == "update 4: not tested, 0 clients, 0 examples, 0.0 s"
    )
    history = fedlab.History([record, RoundRecord(4, 0.9, 0.3, 5.0), RoundRecord(5)])
    assert terminal.summary(history).endswith(
        "5.0 s: accuracy 90.00%, loss 0.3000 on the 10,000 test images; best 91.23% (round 3)"
    )
    assert terminal.summary(history, target=0.95).endswith("; 95.00% was not reached")
    assert terminal.summary(fedlab.History()) == "0 rounds"
    say = partial(ClientStatus, "training", "round 2: training, epoch 1 of 5", 1, 5)
    assert (
        terminal.client_line("alice", say(2, 4, 0.934))
        == "alice: round 2 of 4, training, epoch 1 of 5, own accuracy 93.4%"
    )
    assert terminal.client_line("alice", say(2, 0)) == "alice: round 2, training, epoch 1 of 5"


WHOLE = {"trim", "attackers", "keep"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "fed_prox --mu 0.5",
        "fed_avg_momentum --momentum 0.5",
        "fed_adam --server-learning-rate 0.003 --beta1 0.5",
        "fed_yogi --tau 0.01",
        "scaffold",
        "median",
        "trimmed_mean --trim 2",
        "multi_krum --attackers 1 --keep 2",
        "clipped_mean --clip 0.7",
    ],
)
def test_every_strategy_and_its_settings_in_the_terminal(options, monkeypatch):
    """What `fedlab simulate` says reaches the simulation; and it is a run."""
    import fedlab.simulation

    run, seen = fedlab.simulation.simulate, []
    monkeypatch.setattr(
        fedlab.simulation, "simulate", lambda *a, **k: seen.append(k["strategy"]) or run(*a, **k)
    )
    assert simulate("--strategy", *options.split()) == 0
    name, *given = options.split()
    settings = {key.removeprefix("--").replace("-", "_"): value
                for key, value in zip(given[::2], given[1::2], strict=True)}  # fmt: skip
    numbers = {key: int(v) if key in WHOLE else float(v) for key, v in settings.items()}
    assert seen == [getattr(fedlab, name)(**numbers)]


def test_another_momentum_does_not_go_on_from_a_checkpoint(refused, tmp_path, monkeypatch):
    """It used to resume as 0.9, whatever it was."""

    path = tmp_path / "c.safetensors"
    state = fedlab.State(fedlab.Classifier().weights, 10)
    half = fedlab.fed_avg_momentum(0.5)
    save_checkpoint(path, state, fedlab.History([RoundRecord(1, 0.5)]), half.identity)
    said = refused("server", "--strategy", "fed_avg_momentum", "--checkpoint", str(path))
    assert said.endswith(
        "was written by the strategy FedAvg with momentum (momentum 0.5, server_learning_rate 1);"
        " expected FedAvg with momentum (momentum 0.9, server_learning_rate 1)"
    )
    monkeypatch.setattr(cli, "_follow", lambda *_: None)  # it goes on, and there is no more to do
    again = ["--strategy", "fed_avg_momentum", "--momentum", "0.5", "--checkpoint", str(path)]
    assert cli.main(["server", *again]) == 0


@pytest.mark.parametrize(
    "control", ["\x1b[2J", "\x9b31m", "\x07", "\r", "\x85", "\u2028", "\u202e"]
)
def test_what_others_say_does_not_reach_the_terminal_as_control(control, capsys):
    screen = terminal.Screen()
    screen.line(f"mallory has left: {control}done\nsecond line")
    screen.now(f"waiting {control}")
    terminal.note(f"fedlab: {control}refused")
    written = capsys.readouterr()
    assert control not in written.out + written.err
    assert written.out.startswith("mallory has left: \N{REPLACEMENT CHARACTER}") and (
        "\nsecond line\n" in written.out)  # fmt: skip


def test_names_in_every_alphabet_are_written_as_they_are(capsys):
    terminal.note("李 änne Ω joined")
    assert capsys.readouterr().err == "李 änne Ω joined\n"
