"""The client: fetch, train, send; a server that is away, comes back, forgets, refuses or is none;
prompt stopping; failures are told."""

import json
import math
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

import fedlab
from fedlab import wire
from fedlab.http import client as module
from fedlab.http.client import Client, ServerAway, split_url
from fedlab.http.server import Server
from fedlab.messages import ClientFailed, Refused, Task, Training, local_seed
from fedlab.strategies import async_average

TOKEN = "the-token-of-this-server-0123456789"


@pytest.fixture(scope="module")
def model():
    """A softmax regression: 7,850 weights, so that these tests are about the client and not about
    training.
    """
    import keras

    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(10, activation="softmax", kernel_initializer="zeros"),
        ]
    )


@pytest.fixture(scope="module")
def classifier(model):
    return fedlab.Classifier(model)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Long polls of a moment, and waits between tries that are counted, not slept through."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.3)
    asked = []
    monkeypatch.setattr(
        module.random, "uniform", lambda low, high: asked.append((low, high)) or 0.01
    )
    return asked


@pytest.fixture
def make(model, small):
    """Makes clients of 100 images if not told otherwise, and stops them after the test."""
    made = []

    def client(url: str, name: str = "alice", data=None, **options) -> Client:
        made.append(
            Client(
                url,
                name,
                small.subset(np.arange(100)) if data is None else data,
                **({"model": model} | options),
            )
        )
        return made[-1]

    yield client
    for each in made:
        each.stop()


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


def until(true, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class Scripted:
    """A server that answers as a test says, and notes what it was asked.

    `answers`: METHOD_path -> a list of answers, used up in order, the last one again and again. An
    answer is (status, body), or None: then the line is cut.
    """

    def __init__(self, **answers):
        joined = {
            ("POST", "clients"): [(201, b"{}")],
            ("DELETE", "clients"): [(204, b"")],
            ("GET", "task"): [OVER],
        }
        self.answers = joined | {
            tuple(name.split("_")): list(given) for name, given in answers.items()
        }
        self.asked: list[tuple[str, str, dict, bytes]] = []
        self.links: list[socket.socket] = []

    def of(self, method: str, path: str) -> list:
        return [(headers, body) for m, p, headers, body in self.asked if (m, p) == (method, path)]

    def __enter__(self):
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                script.links.append(self.connection)

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = urlsplit(self.path).path.strip("/").split("/")[0]
                script.asked.append(
                    (
                        self.command,
                        path,
                        dict(self.headers) | {"query": parse_qs(urlsplit(self.path).query)},
                        body,
                    )
                )
                answers = script.answers[self.command, path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, content, *headers = answer
                self.send_response(status)
                kind = (
                    wire.CONTENT_TYPE
                    if status == 200 and content[:1] != b"<"
                    else "text/html"
                    if content[:1] == b"<"
                    else "application/json"
                )
                for name, value in (
                    ("Content-Type", kind),
                    ("Content-Length", str(len(content))),
                    *headers,
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/?token={TOKEN}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.thread.join()
        for link in self.links:  # the client's side keeps them open for more
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self.http.server_close()


def error(text: str, kind: str = "refused") -> bytes:
    return json.dumps({"error": text, "kind": kind}).encode()


OVER = (410, error("the run is over", "run_over"))


def task(
    classifier, round: int = 1, rounds: int = 1, shard_by_shard: bool = False, **training
) -> tuple[int, bytes]:
    return 200, wire.encode_task(
        Task(round, rounds, classifier.weights, Training(**training), 5, shard_by_shard)
    )


TAKEN = (202, b'{"round": 1}')


# ---- taking part ---------------------------------------------------------------------------------


def test_a_client_trains_on_its_own_examples_and_says_what_it_does(
    make, model, classifier, small, test_images
):
    """The weights are those of the same training by hand; one client's average is its own model."""
    data, said = small.subset(np.arange(100)), []
    with Server(model=model, seed=7, test=test_images) as server:
        client = make(
            server.url,
            "alice",
            data,
            test=test_images,
            on_status=lambda status: said.append((status, threading.current_thread().name)),
        ).start()
        history = server.run(rounds=2, epochs=3, batch_size=10, learning_rate=0.05, progress=False)
        weights = classifier.weights
        for round in (1, 2):
            weights, _ = classifier.train(
                weights, data, Training(3, 10, 0.05), local_seed(7, round, "alice")
            )
        assert bits(server.weights) == bits(weights)
        loss, accuracy = classifier.evaluate(weights, test_images)
        mine = history.last.clients["alice"]
        assert (
            (mine.num_examples, mine.accuracy, mine.loss)
            == (100, accuracy, loss)
            == (100, history.last.accuracy, history.last.loss)
        )
    client.join(5)
    phases = [status.phase for status, _ in said]
    one_round = [
        "waiting",
        "fetching",
        "training",
        "training",
        "training",
        "testing",
        "sending",
        "waiting",
    ]
    squeezed = [
        phase
        for phase, before in zip(phases, [None, *phases], strict=False)
        if not phase == before == "waiting"
    ]
    assert squeezed == one_round + one_round[1:] + ["finished"]
    assert [(s.round, s.rounds, s.epoch, s.epochs) for s, _ in said if s.phase == "training"] == [
        (r, 2, e, 3) for r in (1, 2) for e in (1, 2, 3)
    ]
    assert {thread for _, thread in said} == {"fedlab-client-alice"}
    assert (
        client.status.message == "finished: the run is over"
        and not client.running
        and client.status.accuracy == accuracy
    )
    # 7,850 numbers of 4 bytes
    assert 31_400 < client.status.bytes_up < 32_500 and 31_400 < client.status.bytes_down < 32_500


def test_what_happens_to_an_update_before_it_leaves_happens_in_order(make, model, classifier):
    def double(update, task):
        return replace(update, weights=[2 * w for w in update.weights])

    def one_more(update, task):
        return replace(update, weights=[w + 1 for w in update.weights], num_examples=50)

    with Server(model=model, seed=7) as server:
        client = make(server.url, transforms=[double, one_more]).start()
        history = server.run(rounds=1, progress=False)
        trained, _ = classifier.train(
            classifier.weights, client.data, Training(), local_seed(7, 1, "alice")
        )
        assert (
            bits(server.weights) == bits([2 * w + 1 for w in trained])
            and history.last.num_examples == 50
        )


def test_three_unequal_clients_asynchronously_go_through_their_shards_once(make, model, small):
    sizes = {"alice": 300, "bob": 100, "carol": 200}
    with Server(model=model, strategy=async_average()) as server:
        for (name, size), start in zip(sizes.items(), (0, 300, 400), strict=True):
            client = make(server.url, name, small.subset(np.arange(start, start + size)))
            client._participant.shards = client.data.split(60)  # as 5,000 of 60,000
            client.start()
        history = server.run(rounds=1, progress=False)
        assert server.federation.state.num_examples == 600
    counted = {
        name: [record.clients[name].num_examples for record in history if name in record.clients]
        for name in sizes
    }
    assert counted == {"alice": [60] * 5, "bob": [60, 40], "carol": [60, 60, 60, 20]}


def test_a_client_without_a_test_set_tests_on_what_it_has_just_trained_on(
    make, model, classifier, small
):
    with Server(model=model, seed=7, strategy=async_average()) as server:
        client = make(server.url, data=small)
        client._participant.shards = small.split(400)  # 400 and 200 images, as 5,000 of 60,000
        client.start()
        history = server.run(rounds=1, epochs=2, progress=False)
    weights, training = classifier.weights, Training(2, 32, 0.1)
    for round, shard in enumerate(client._participant.shards, 1):
        trained, _ = classifier.train(weights, shard, training, local_seed(7, round, "alice"))
        loss, accuracy = classifier.evaluate(trained, shard)
        mine = history[round - 1].clients["alice"]
        assert (mine.num_examples, mine.accuracy, mine.loss) == (len(shard), accuracy, loss)
        assert loss != classifier.evaluate(trained, small)[0]
        # the first update replaces the untrained model, and so is what the second begins with
        weights = trained


def test_a_client_in_the_calling_thread(make, classifier):
    with Scripted(GET_task=[task(classifier), OVER], POST_updates=[TAKEN]) as server:
        client = make(server.url)
        client.run()
        assert client.status.phase == "finished" and len(server.of("POST", "updates")) == 1
        (headers, body), (_, leaving) = (
            server.of("POST", "clients")[0],
            server.of("DELETE", "clients")[0],
        )
        assert headers["Authorization"] == f"Bearer {TOKEN}" and leaving == b""
        fields = json.loads(body)
        assert (fields["client"], fields["num_examples"], fields["shards"]) == (
            "alice",
            100,
            1,
        ) and len(fields["session"]) == 16
        assert all("token" not in headers["query"] for _, _, headers, _ in server.asked)


# ---- who it is -----------------------------------------------------------------------------------


def shown(server: Scripted) -> list[tuple[str, str]]:
    """With which token each request came: (path, token)."""
    return [
        (path, headers["Authorization"].removeprefix("Bearer "))
        for _, path, headers, _ in server.asked
    ]


def a_token(text: str) -> tuple[int, bytes]:
    return 201, json.dumps({"client": "alice", "token": text}).encode()


WRONG = (401, error("the token is missing or wrong; expected another", "token"))


def test_a_client_joins_with_the_classs_token_and_then_shows_its_own(make, classifier):
    with Scripted(
        POST_clients=[a_token("its-own")], GET_task=[task(classifier), OVER], POST_updates=[TAKEN]
    ) as server:
        client = make(server.url)
        client.run()
        assert shown(server) == [
            ("clients", TOKEN), ("task", "its-own"), ("updates", "its-own"), ("task", "its-own"),
            ("clients", "its-own"),
        ]  # fmt: skip
    with client._session() as session:
        assert "its-own" not in repr(session.headers) + repr(vars(client)) and TOKEN not in repr(
            vars(client)
        )


def test_started_it_shows_its_own_token_from_another_connection_too(make):
    with Scripted(POST_clients=[a_token("its-own")]) as server:
        make(server.url).start().join(5)
        assert {token for path, token in shown(server) if path == "task"} == {"its-own"}


def test_a_server_that_was_restarted_gives_it_another_token(make, classifier):
    """It does not know the old one: the client joins again with the class's, which is the same."""
    with Scripted(
        POST_clients=[a_token("one"), a_token("two"), a_token("three")],
        GET_task=[WRONG, task(classifier), OVER],
        POST_updates=[WRONG, TAKEN],
    ) as server:
        make(server.url, patience=0).run()
        assert shown(server) == [
            ("clients", TOKEN), ("task", "one"), ("clients", TOKEN), ("task", "two"),
            ("updates", "two"), ("clients", TOKEN), ("updates", "three"), ("task", "three"),
            ("clients", "three"),
        ]  # fmt: skip
        assert len({json.loads(b)["session"] for _, b in server.of("POST", "clients")}) == 1


def test_a_client_whose_tokens_are_all_refused_does_not_ask_for_ever(make):
    with Scripted(POST_clients=[a_token("one"), a_token("two"), WRONG], GET_task=[WRONG]) as server:
        with pytest.raises(fedlab.NotAdmitted, match="the token is missing or wrong"):
            make(server.url).run()
        assert len(server.of("GET", "task")) == 2 and len(server.of("POST", "clients")) == 2
    # The class's is no longer what it was
    with Scripted(POST_clients=[a_token("one"), WRONG], GET_task=[WRONG]) as server:
        with pytest.raises(fedlab.NotAdmitted):
            make(server.url).run()
        assert len(server.of("GET", "task")) == 1 and len(server.of("POST", "clients")) == 2


@pytest.mark.parametrize("text", ["two\r\nX: lines", "gehe\u00efm", "\0"])
def test_a_token_that_no_header_carries_is_not_sent(make, text):
    with Scripted(POST_clients=[a_token(text)]) as server:
        with pytest.raises(Refused, match="the token has characters that no HTTP header carries"):
            make(server.url).start()
        assert {path for path, _ in shown(server)} == {"clients"}


def test_what_is_not_its_own_ends_it(make):
    refused = (403, error("the token is that of 'bob'; expected that client's own", "not_yours"))
    with Scripted(GET_task=[refused]) as server:
        with pytest.raises(Refused, match="the token is that of 'bob'"):
            make(server.url).run()
        assert len(server.of("GET", "task")) == len(server.of("POST", "clients")) == 1


def test_who_is_removed_hears_it_and_does_not_come_back(make, model):
    with Server(model=model) as server:
        client = make(server.url).start()
        until(lambda: client.status.phase == "waiting")
        server.remove("alice")
        client.join(5)
        assert client.status.message == "finished: client 'alice' has left, or was removed"
        assert server.federation.status().members == []
        make(server.url).start().stop()  # there is no ban
        server.remove("bob", ban=True)
        with pytest.raises(fedlab.Banned, match="client 'bob' may not take part"):
            make(server.url, "bob").start()
        with pytest.raises(fedlab.UnknownClient):
            server.remove("carol")


def test_what_a_server_limits(make, model, small):
    limits = fedlab.Limits(clients=2, examples=100, shards=2)
    with Server(model=model, limits=limits) as server:
        with pytest.raises(Refused, match="num_examples is 600; expected a .* from 1 to 100"):
            make(server.url, "much", small).start()
        many = make(server.url, "many")
        many._participant.shards = many.data.split(20)
        with pytest.raises(Refused, match="shards is 5; expected a whole number from 1 to 2"):
            many.start()
        clients = [make(server.url, name).start() for name in ("alice", "bob")]
        with pytest.raises(fedlab.Full, match="'carol' would be one too many; expected at most 2"):
            make(server.url, "carol").start()
        clients[0].stop()
        carol = make(server.url, "carol").start()
        server.run(rounds=1, min_clients=2, progress=False)
        assert carol.running


# ---- stopping ------------------------------------------------------------------------------------


def test_stopping_a_client_that_waits_is_prompt(make, model, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 20.0)
    with Server(model=model) as server:
        client = make(server.url).start()
        until(lambda: client.status.phase == "waiting")
        time.sleep(0.2)  # in its long poll
        began = time.monotonic()
        client.stop()
        assert (
            time.monotonic() - began < 5 and not client.running and client.status.phase == "stopped"
        )
        assert server.federation.status().members == []
        client.join()  # no error: it was asked to
        client.stop()  # again: nothing to do


def test_stopping_a_client_that_trains_is_prompt_and_the_round_goes_on_without_it(
    make, model, small
):
    with Server(model=model) as server:
        slow = make(server.url, "slow", small)
        quick = make(server.url, "quick").start()
        slow._participant.classifier = Endless(slow._participant.classifier)
        slow.start()
        server.start(rounds=1, epochs=1)
        until(
            lambda: (
                slow.status.phase == "training"
                and "quick" not in server.federation.status().waiting_for
            )
        )
        began = time.monotonic()
        slow.stop()
        assert time.monotonic() - began < 5 and not slow.running and slow.status.phase == "stopped"
        assert list(server.federation.wait().last.clients) == ["quick"] and quick.running


class Endless:
    """Training that goes on for 10,000 epochs, whatever it is told."""

    def __init__(self, classifier):
        self.classifier = classifier

    def train(self, weights, data, training, *rest, **more):
        endless = replace(training, epochs=10_000)
        return self.classifier.train(weights, data, endless, *rest, **more)


def test_stopping_a_client_that_waits_for_a_server_that_is_away(make, monkeypatch):
    monkeypatch.setattr(module.random, "uniform", lambda low, high: 30.0)
    with Scripted(GET_task=[None]) as server:
        client = make(server.url).start()
        until(lambda: client.status.phase == "retrying")
        began = time.monotonic()
        client.stop()
        assert (
            time.monotonic() - began < 5 and not client.running and client.status.phase == "stopped"
        )


# ---- the server is away --------------------------------------------------------------------------


def test_a_server_that_is_not_there(make, short_waits):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = make(f"http://127.0.0.1:{port}/?token={TOKEN}", patience=0.3)
    with pytest.raises(
        ServerAway,
        match=(
            rf"no answer from http://127.0.0.1:{port}/ after \d+ tries \(ConnectionError\);"
            r" expected a fedlab server there"
        ),
    ) as caught:
        client.start()
    assert TOKEN not in str(caught.value) and not client.running
    # Random, and growing, but not without an end
    assert short_waits[:5] == [(0.2, 1.0), (0.2, 2.0), (0.2, 4.0), (0.2, 5.0), (0.2, 5.0)]


def test_an_address_where_nobody_has_ever_been_is_given_up_soon_and_a_server_that_was_there_not(
    make, classifier, monkeypatch
):
    """Both with the patience of minutes that is usual."""
    monkeypatch.setattr(module, "SOON", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ServerAway):
        make(f"http://127.0.0.1:{port}/?token={TOKEN}").run()
    assert time.monotonic() - began < 5
    away = [None] * 100  # more than a second
    with Scripted(GET_task=[*away, task(classifier), OVER], POST_updates=[*away, TAKEN]) as server:
        said = []
        make(server.url, on_status=lambda status: said.append(status.message)).run()
        assert len(server.of("POST", "updates")) == 101 and said[-1].startswith("finished")
    waiting = "the server is away (ConnectionError): trying for another 5 minutes"
    assert waiting in said


def test_what_is_left_is_said_in_words():
    assert [module._time(seconds) for seconds in (0.2, 7.6, 89.9, 90, 239, 1e5)] == [
        "1 second", "8 seconds", "90 seconds",
        "2 minutes", "4 minutes", "1,667 minutes"]  # fmt: skip


def test_stopping_ends_a_client_at_once_that_waits_for_its_server(make, monkeypatch):
    monkeypatch.setattr(module.random, "uniform", lambda low, high: 60.0)
    with Scripted(GET_task=[None]) as server:
        client = make(server.url).start()
        until(lambda: client.status.phase == "retrying")
        began = time.monotonic()
        client.stop()
        assert time.monotonic() - began < 5 and client.status.phase == "stopped"


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        (408, error("the body came too slowly")),
        (500, error("the server failed")),
        (502, b"<html>Bad Gateway</html>"),
        (503, b""),
    ],
)
def test_what_passes_is_tried_again(make, classifier, trouble):
    with Scripted(
        POST_clients=[trouble, (201, b"{}")],
        GET_task=[trouble, trouble, task(classifier), OVER],
        POST_updates=[trouble, TAKEN],
    ) as server:
        client = make(server.url)
        client.run()
        assert client.status.phase == "finished"
        sent = server.of("POST", "updates")
        assert len(sent) == 2 and sent[0][1] == sent[1][1]  # the same update, to the byte
        sessions = {json.loads(body)["session"] for _, body in server.of("POST", "clients")}
        assert len(sessions) == 1  # so that the server knows it is the same client again


def test_a_client_gives_up_when_its_patience_ends_where_there_are_rounds(make, classifier):
    with Scripted(GET_task=[task(classifier, rounds=9), None], POST_updates=[TAKEN]) as server:
        client = make(server.url, patience=0.3).start()
        began = time.monotonic()
        with pytest.raises(ServerAway, match=r"after \d+ tries"):
            client.join(10)
        assert 0.3 < time.monotonic() - began < 5 and client.status.phase == "failed"
        assert len(server.of("GET", "task")) > 3


def test_retrying_is_shown_until_the_server_is_back(make):
    said = []
    with Scripted(GET_task=[None, (204, b""), OVER]) as server:
        make(server.url, on_status=lambda status: said.append(status.phase)).run()
    assert said == ["waiting", "retrying", "waiting", "finished"]


@pytest.mark.parametrize("patience", [0, 300])
def test_a_server_that_was_restarted_and_does_not_know_the_client(make, classifier, patience):
    """It joins again, as the same client, and says again what it had to say; that needs no
    patience.
    """
    unknown = (404, error("it says so in other words", "unknown_client"))
    with Scripted(
        GET_task=[unknown, task(classifier), OVER], POST_updates=[unknown, TAKEN]
    ) as server:
        make(server.url, patience=patience).run()
        assert [(method, path) for method, path, _, _ in server.asked] == [
            ("POST", "clients"), ("GET", "task"), ("POST", "clients"), ("GET", "task"),
            ("POST", "updates"), ("POST", "clients"), ("POST", "updates"), ("GET", "task"),
            ("DELETE", "clients"),
        ]  # fmt: skip


@contextmanager
def crash(server: Server):
    """The server goes down without a word to anyone, as when its machine is switched off."""
    server.federation.close = lambda grace: server.federation.stop()
    server.close()
    yield


def test_a_server_restarted_on_its_checkpoint_finds_its_clients_again_and_loses_nothing(
    make, model, classifier, tmp_path
):
    """Four rounds with a crash after the second are the four rounds of an undisturbed run, bit for
    bit.
    """
    path = tmp_path / "model.safetensors"
    first = Server(model=model, seed=7, checkpoint=path, token=TOKEN)
    client = make(first.url).start()
    first.run(rounds=2, progress=False)
    with crash(first):
        until(lambda: client.status.phase == "retrying")
    with Server(model=model, seed=7, checkpoint=path, token=TOKEN, port=first.port) as second:
        history = second.run(rounds=2, progress=False)
        assert client.running and [record.round for record in history] == [1, 2, 3, 4]
        weights = classifier.weights
        for round in (1, 2, 3, 4):
            weights, _ = classifier.train(
                weights, client.data, Training(), local_seed(7, round, "alice")
            )
        assert bits(second.weights) == bits(weights)


def test_an_asynchronous_client_goes_on_alone_from_its_own_weights_and_sends_after_the_next_shard(
    make, classifier, small
):
    """The original's way. The server is away when shard 1 is done, and while 2 is fetched; it is
    back when 2 is done.
    """
    away = [None]
    with Scripted(
        GET_task=[task(classifier, 1, 4, True), *away, task(classifier, 3, 4, True), OVER],
        POST_updates=[*away, TAKEN],
    ) as server:
        client = make(server.url, patience=0)
        client._participant.shards = shards = client.data.split(30)
        said = []
        client._on_status = lambda status: said.append(status.message)
        client.run()
        updates = [wire.decode_update(body) for _, body in server.of("POST", "updates")]
    assert [(u.round, u.num_examples) for u in updates] == [(1, 30), (2, 30), (3, 30)]
    first, _ = classifier.train(
        classifier.weights, shards[0], Training(), local_seed(5, 1, "alice")
    )
    second, _ = classifier.train(first, shards[1], Training(), local_seed(5, 2, "alice"))
    third, _ = classifier.train(
        classifier.weights, shards[2], Training(), local_seed(5, 3, "alice")
    )
    assert bits(updates[0].weights) == bits(first) and bits(updates[1].weights) == bits(second)
    # The server is back: from the global weights again
    assert bits(updates[2].weights) == bits(third)
    assert any(message.startswith("the server is away: going on alone") for message in said)


def test_alone_to_the_last_shard_and_no_further(make, classifier):
    with Scripted(GET_task=[task(classifier, 2, 4, True), None], POST_updates=[None]) as server:
        client = make(server.url, patience=0)
        client._participant.shards = client.data.split(25)
        with pytest.raises(ServerAway):
            client.run()
        rounds = [wire.decode_update(body).round for _, body in server.of("POST", "updates")]
    assert rounds == [2, 3, 4]


def test_alone_a_client_loses_no_minutes_and_with_nothing_left_it_has_patience(
    make, classifier, monkeypatch
):
    monkeypatch.setattr(module, "SOON", 0)
    with Scripted(
        GET_task=[task(classifier, 1, 2, True), None], POST_updates=[None, *[None] * 50, TAKEN]
    ) as server:
        client = make(server.url, patience=1.5)
        client._participant.shards = client.data.split(50)
        with pytest.raises(ServerAway):
            client.run()
        rounds = [wire.decode_update(body).round for _, body in server.of("POST", "updates")]
    assert rounds == [1] + [2] * 51


def test_a_run_that_has_failed_is_no_end_like_any_other(make, classifier):
    failed = (410, error("the run ended by an error: no space left", "run_failed"))
    for answers in (
        {"GET_task": [failed]},
        {"GET_task": [task(classifier)], "POST_updates": [failed]},
    ):
        with Scripted(**answers) as server:
            client = make(server.url).start()
            with pytest.raises(fedlab.RunFailed, match="by an error: no space left"):
                client.join(10)
            assert client.status.phase == "failed"
            assert client.status.message == "failed: the run ended by an error: no space left"
            # It is not this client that has failed
            assert all("X-Reason" not in h for h, _ in server.of("DELETE", "clients"))
    with Scripted(POST_clients=[failed]) as server, pytest.raises(fedlab.RunFailed):
        make(server.url).start()


def test_a_server_that_closes_after_an_error_says_so_to_its_clients(make, model):
    server = Server(model=model)
    client = make(server.url).start()
    server.start(rounds=3, min_clients=2)
    server.federation.fail(OSError("no space left"))
    with pytest.raises(OSError):
        server.federation.wait()
    until(lambda: client.status.phase == "waiting")
    server.close()
    with pytest.raises(fedlab.RunFailed, match="by an error: no space left"):
        client.join(10)


# ---- what the server says no to ------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "already have an update of 'alice' for round 1",
        "got an update of 'alice' for round 1; expected one for round 2",
    ],
)
def test_an_update_that_the_server_has_or_wants_no_more_is_done_with(make, classifier, words):
    """409 after an answer that was lost: not a failure, and not to be sent a third time."""
    with Scripted(
        GET_task=[task(classifier), task(classifier, 2), OVER],
        POST_updates=[None, (409, error(words, "conflict")), TAKEN],
    ) as server:
        said = []
        make(server.url, on_status=lambda status: said.append(status.message)).run()
        assert [wire.decode_update(body).round for _, body in server.of("POST", "updates")] == [
            1,
            1,
            2,
        ]
    assert words in said


def test_a_change_that_is_too_long_costs_a_client_its_round_and_nobody_has_to_wait(make, model):
    """A strict run without a deadline: it would wait for ever, or end with the client."""

    def far(update, task):
        return replace(update, weights=[w + 100 * (task.round == 1) for w in update.weights])

    said = []
    with Server(model=model) as server:
        make(server.url).start()
        sent = make(server.url, "bob", transforms=[far], on_status=said.append).start()
        history = server.run(2, min_clients=2, bound=50, progress=False)
    sent.join(10)
    assert [sorted(record.clients) for record in history] == [["alice"], ["alice", "bob"]]
    assert sent.status.phase == "finished"
    words = [status.message for status in said if "not taken" in status.message]
    assert len(words) == 1 and "the change of 'bob' is" in words[0] and "at most 50" in words[0]


def test_an_update_that_is_refused_ends_the_client_and_the_server_is_told_why(make, classifier):
    with Scripted(
        GET_task=[task(classifier)],
        POST_updates=[(400, error("num_examples is 0; expected a whole number above 0"))],
    ) as server:
        client = make(server.url).start()
        with pytest.raises(Refused, match="num_examples is 0; expected a whole number above 0"):
            client.join(10)
        assert client.status.phase == "failed" and len(server.of("POST", "updates")) == 1
        assert [headers["X-Reason"] for headers, _ in server.of("DELETE", "clients")] == [
            "Refused: num_examples is 0; expected a whole number above 0"
        ]


def test_a_second_client_of_one_id_is_told_at_once_and_the_first_one_stays(make, model):
    with Server(model=model) as server:
        first = make(server.url).start()
        second = make(server.url)
        with pytest.raises(
            Refused, match="a client called 'alice' has already joined; expected an id of your own"
        ):
            second.start()
        second.stop()
        assert first.running and [
            member.client for member in server.federation.status().members
        ] == ["alice"]
        server.run(rounds=1, progress=False)


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
def test_a_wrong_token_is_said_at_once(make, model, query, short_waits):
    with Server(model=model) as server:
        with pytest.raises(
            Refused,
            match="the token is missing or wrong; expected .* from the URL that the server printed",
        ):
            make(server.address + query).start()
        assert short_waits == [] and server.federation.status().members == []


def test_a_client_of_another_model_fails_before_it_sends_anything(make, model, small):
    import keras

    other = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    with Server(model=model) as server:
        client = make(server.url, model=other).start()
        with pytest.raises(
            ClientFailed,
            match="client 'alice' failed in round 1: BadUpdate: got 2 arrays; expected 4",
        ):
            server.run(rounds=1, progress=False)
        with pytest.raises(Refused, match="got 2 arrays; expected 4"):
            client.join(5)
        assert (
            not any(exchange.path == "/updates" for exchange in server.wire)
            and len(server.history) == 0
        )


@pytest.mark.parametrize("where", ["transform", "status"])
def test_a_failure_of_its_own_is_told_to_the_server_and_raised_where_one_waits(make, model, where):
    def fail(status, task=None):
        if where == "transform" or status.phase == "training":
            raise ZeroDivisionError("division by zero\n\u2620 of images")

    with Server(model=model) as server:
        client = make(
            server.url, **({"transforms": [fail]} if where == "transform" else {"on_status": fail})
        ).start()
        with pytest.raises(
            ClientFailed,
            match=(
                "client 'alice' failed in round 1: ZeroDivisionError: division by zero   of images"
            ),
        ):
            server.run(rounds=3, progress=False)
        with pytest.raises(ZeroDivisionError):
            client.join(5)
        assert (
            not client.running
            and client.status.phase == "failed"
            and server.federation.status().members == []
        )


def test_training_that_leaves_the_finite_numbers_is_refused_by_the_server_and_changes_nothing(
    make, model
):
    with Server(model=model) as server:
        client = make(
            server.url,
            transforms=[
                lambda update, task: replace(
                    update, weights=[w * np.float32(math.nan) for w in update.weights]
                )
            ],
        ).start()
        before = bits(server.weights)
        with pytest.raises(
            ClientFailed, match="array 0 holds NaN or infinity; expected finite numbers"
        ):
            server.run(rounds=1, progress=False)
        assert bits(server.weights) == before and len(server.history) == 0
        with pytest.raises(Refused):
            client.join(5)


# ---- what is no fedlab server --------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [(200, b"<!doctype html><title>Router</title>"), (404, b"<html>Not Found</html>"),
    (404, b""), (401, b"[]"),
               (403, b'{"message": "no"}'),
               (302, b"", ("Location", "/login")), (405, b'"no"')]
)  # fmt: skip
def test_a_server_that_is_no_fedlab_server(make, answer):
    with Scripted(POST_clients=[answer]) as server:
        address = server.url.partition("?")[0]
        with pytest.raises(
            ServerAway,
            match="is not a fedlab server; expected the URL that `fedlab server` printed",
        ) as caught:
            make(server.url).start()
        assert address in str(caught.value) and TOKEN not in str(caught.value)


def test_the_token_is_not_carried_on_to_where_a_server_redirects(make):
    with (
        Scripted() as other,
        Scripted(
            POST_clients=[(307, b"", ("Location", other.url.partition("?")[0] + "clients"))]
        ) as server,
    ):
        with pytest.raises(ServerAway):
            make(server.url).start()
        assert other.asked == []


def test_no_proxy_stands_between_a_client_and_its_server(make, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Scripted() as server:
        make(server.url, patience=0).run()


# ---- bad settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "127.0.0.1:8642", "ftp://127.0.0.1:8642/", "http://",
"http://:80/", "http://127.0.0.1:99999/", "http://127.0.0.1:port/",
                                 "http://[::1/",
                                 "http://192.168..1:8642/?token=x",
                                 f"htp//127.0.0.1:8642/?token={TOKEN}", None, 8642])  # fmt: skip
def test_an_address_that_is_none(make, url):
    with pytest.raises(
        Refused,
        match=(
            "the server's URL is .*; expected what the server printed, such as"
            " http://127.0.0.1:8642/"
        ),
    ) as caught:
        make(url)
    assert TOKEN[:8] not in str(caught.value)


# The first: as a panel has it before it is shown
@pytest.mark.parametrize("token", ["…", "t%C3%B6ken"])
def test_a_token_that_cannot_be_one(make, token):
    with pytest.raises(
        Refused,
        match=(
            "the token has characters that no HTTP header carries; .*Show the address with its"
            " token"
        ),
    ):
        make(f"http://127.0.0.1:8642/?token={token}")


def test_the_address_and_its_token():
    assert split_url(f" http://lab.example:8642/?token={TOKEN}\n") == (
        "http://lab.example:8642/",
        TOKEN,
    )
    assert split_url("http://[::1]:8642/?token=a%2Bb") == ("http://[::1]:8642/", "a+b")
    assert split_url("http://127.0.0.1:8642") == ("http://127.0.0.1:8642/", "")


def test_settings_that_cannot_be(make, small):
    url = "http://127.0.0.1:1/"
    with pytest.raises(Refused, match="client 'alice' has no examples; expected at least one"):
        make(url, data=small.subset(np.arange(0)))
    with pytest.raises(Refused, match="the client id is 'a/b'"):
        make(url, "a/b")
    for patience in (-1, math.inf, "5"):
        with pytest.raises(Refused, match="patience is .*; expected seconds from 0, for example"):
            make(url, patience=patience)


def test_a_client_is_started_once(make):
    with Scripted(GET_task=[(204, b""), OVER]) as server:
        client = make(server.url).start()
        with pytest.raises(
            RuntimeError, match="client 'alice' has been started already; expected a new Client"
        ):
            client.start()
        client.join(5)


def test_a_size_in_words_is_never_nothing():
    from fedlab.http.client import _size

    assert [_size(bytes(n)) for n in (264, 9_999, 10_000, 797_848)] == [
        "0.3 kB", "10.0 kB", "10 kB", "798 kB"]  # fmt: skip
