"""The server: every row of the HTTP table, every kind of bad input, tokens, Hosts, and the real
socket."""

import contextlib
import http.server
import itertools
import json
import logging
import math
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import parse_qs, urljoin, urlsplit

import numpy as np
import pytest
import requests

import fedlab
from fedlab import original, wire
from fedlab.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from fedlab.federation import Federation
from fedlab.history import History, RoundRecord
from fedlab.http import routes
from fedlab.http.app import create_app
from fedlab.http.server import Server
from fedlab.messages import Refused, Task, Training, Update
from fedlab.plan import Plan
from fedlab.strategies import State, Strategy, async_average, fed_avg


def pack(weights, **texts) -> bytes:
    """Weights and texts as the bytes of a message."""
    return wire.pack(wire.parts(weights, **texts))


TOKEN, TEACHER = "the-token-of-this-server", "the-secret-of-its-teacher"
OWN = object()
"""The token of whoever may make the request: its client's own, else the class's."""
SIZES = {"alice": 300, "bob": 100, "carol": 600}
THREE_ROUNDS = Plan(3)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def toy(value: float = 0.0) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32), np.full(3, -value, np.float32)]


def bits(weights) -> list[bytes]:
    return [w.tobytes() for w in weights]


RUN = "the-run"


@pytest.fixture(autouse=True)
def known_run(monkeypatch):
    """So that updates can be written down before the run has begun that they are for."""
    monkeypatch.setattr("fedlab.plan.token_hex", lambda count: RUN)


def update(client: str = "alice", round: int = 1, value: float = 1.0, **changes) -> bytes:
    fields = {
        "client": client,
        "round": round,
        "num_examples": SIZES[client],
        "weights": toy(value),
        "accuracy": 0.5,
        "run": RUN,
    } | changes
    return wire.encode_update(Update(**fields))


class Api:
    """The application without a socket, over a federation of three clients with a run going on."""

    def __init__(
        self, strategy=None, plan: Plan | None = THREE_ROUNDS, clients=SIZES, shards=1, **settings
    ):
        self.federation = Federation(toy(), strategy or fed_avg())
        self.app = create_app(self.federation, TOKEN, teacher=TEACHER, **settings)
        self.records, self.looks, self.access = self.app.extensions["fedlab"]
        self.http = self.app.test_client(use_cookies=False)
        for client in clients:
            self.federation.join(client, SIZES[client], shards)
        if plan:
            self.federation.start(plan)
            if clients:
                assert all(self.federation.task(client, 5) for client in clients)

    def call(
        self,
        method: str,
        path: str,
        body=None,
        kind: str | None = None,
        headers=(),
        token: str | object | None = OWN,
        **options,
    ):
        sent = dict(headers)
        token = self.own(method, path, body) if token is OWN else token
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if isinstance(body, dict):
            body, kind = json.dumps(body), kind or "application/json"
        return self.http.open(
            path, method=method, data=body, content_type=kind, headers=sent, **options
        )

    def enrolled(self, client: str) -> str:
        """This client's own token, for the session in which it has joined."""
        member = self.federation._table.members.find(client)
        return self.access.enrol(client, member.session if member else "")

    def own(self, method: str, path: str, body) -> str:
        """The token of whoever may make this request."""
        if path.startswith("/task"):
            asked = parse_qs(urlsplit(path).query).get("client", [""])
            return self.enrolled(asked[0])
        if path == "/updates":
            with contextlib.suppress(Refused, TypeError):
                return self.enrolled(wire.decode_update(body).client)
            return self.enrolled("alice")
        return TEACHER if method == "DELETE" else TOKEN

    def send(self, body: bytes, kind: str = wire.CONTENT_TYPE, **options):
        return self.call("POST", "/updates", body, kind, **options)

    def snapshot(self):
        status, state = self.federation.status(), self.federation.state
        return (
            bits(state.weights),
            state.num_examples,
            self.federation.history.to_json(),
            status.round,
            status.waiting_for,
            status.members,
        )

    def routes(self) -> list[tuple[str, str, str]]:
        """(endpoint, method, path) of every route there is."""
        rules = self.app.url_map.iter_rules()
        return [
            (
                rule.endpoint,
                method,
                rule.rule.replace("<client>", "alice").replace("<name>", "page.js"),
            )
            for rule in rules
            for method in sorted(rule.methods)
        ]


@pytest.fixture
def make_api():
    made = []

    def make(*args, **kwargs) -> Api:
        made.append(Api(*args, **kwargs))
        return made[-1]

    yield make
    for api in made:
        api.federation.close(grace=0)


@pytest.fixture
def api(make_api) -> Api:
    return make_api()


def sentence(answer, status: int) -> str:
    """The error of an answer: its status, JSON with `error` and nothing else, one sentence that is
    not long and holds no token.
    """
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["Content-Type"].startswith("application/json")
    fields = json.loads(answer.text)
    assert (
        sorted(fields) == ["error", "kind"]
        and re.fullmatch("[a-z_]+", fields["kind"])
        and "\n" not in fields["error"]
        and 10 < len(fields["error"]) < 700
        and TOKEN not in answer.text
        and TEACHER not in answer.text
    )
    return fields["error"]


# ---- the table: what each route answers ----------------------------------------------------------


def test_the_routes_are_those_of_the_table(api):
    assert sorted((method, path) for _, method, path in api.routes() if method not in ("HEAD",
    "OPTIONS")) == [
        ("DELETE", "/clients/alice"), ("GET", "/"), ("GET", "/history"), ("GET", "/model"),
        ("GET", "/pages/page.js"), ("GET", "/requests"), ("GET", "/status"), ("GET", "/task"),
        ("POST", "/clients"), ("POST", "/updates"),
    ]  # fmt: skip


def test_joining_and_leaving(make_api):
    api = make_api(plan=None, clients=[])
    answer = api.call("POST", "/clients", {"client": "dave", "num_examples": 5000})
    assert (answer.status_code, answer.json["client"]) == (201, "dave")
    assert [(member.client, member.num_examples) for member in api.federation.status().members] == [
        ("dave", 5000)
    ]
    answer = api.call("DELETE", "/clients/dave")
    assert (answer.status_code, answer.data) == (204, b"") and api.federation.status().members == []
    assert "has left" in sentence(api.call("DELETE", "/clients/dave"), 410)
    assert "no client called 'eve' has joined" in sentence(api.call("DELETE", "/clients/eve"), 404)
    # Back again
    assert api.call("POST", "/clients", {"client": "dave", "num_examples": 1}).status_code == 201


def test_a_client_with_a_name_of_any_letters(make_api):
    api = make_api(plan=None, clients=[])
    for name in ("李 lei", "a@b.c-d_e", "x" * 40):
        assert api.call("POST", "/clients", {"client": name, "num_examples": 1}).status_code == 201
        assert api.call("DELETE", f"/clients/{requests.utils.quote(name)}").status_code == 204


def test_two_clients_of_one_id_and_the_repeated_join_of_one(make_api):
    api = make_api(plan=None, clients=[])
    fields = {"client": "dave", "num_examples": 5000, "session": "one"}
    assert api.call("POST", "/clients", fields).status_code == 201
    before = api.snapshot()
    assert "a client called 'dave' has already joined" in sentence(
        api.call("POST", "/clients", fields | {"session": "two", "num_examples": 1}), 409
    )
    assert "already joined" in sentence(
        api.call("POST", "/clients", {"client": "dave", "num_examples": 1}), 409
    )
    assert api.call("POST", "/clients", fields).status_code == 201 and api.snapshot() == before


def test_a_task_is_what_the_federation_says(make_api):
    api = make_api(plan=None)
    assert api.call("GET", "/task?client=alice").status_code == 204
    api.federation.start(Plan(2, Training(3, None, 0.25, "adam")))
    answer = api.call("GET", "/task?client=alice&wait=5")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == wire.CONTENT_TYPE
    task = wire.decode_task(answer.data)
    assert (task.round, task.rounds, task.training) == (
        1,
        2,
        Training(3, None, 0.25, "adam"),
    ) and bits(task.weights) == bits(toy())
    assert "no client called 'dave'" in sentence(api.call("GET", "/task?client=dave"), 404)
    assert "no client called ''" in sentence(api.call("GET", "/task"), 404)


def test_a_long_poll_waits_and_ends_with_the_run(make_api):
    api = make_api(plan=None)
    began = time.monotonic()
    assert (
        api.call("GET", "/task?client=alice&wait=0.2").status_code == 204
        and 0.2 <= time.monotonic() - began < 10
    )
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(api.call, "GET", "/task?client=alice&wait=30")
        time.sleep(0.1)
        api.federation.start(Plan(1))
        assert waiting.result(10).status_code == 200
        assert api.send(update()).status_code == 202
        waiting = pool.submit(api.call, "GET", "/task?client=alice&wait=30")
        time.sleep(0.1)
        api.federation.close(0.1)
        assert sentence(waiting.result(10), 410) == "the run is over"
    assert "closing" in sentence(
        api.call("POST", "/clients", {"client": "dave", "num_examples": 1}), 410
    )
    assert sentence(api.send(update("bob")), 410)


@pytest.mark.parametrize("wait", ["nan", "soon", "1e", "--1", "%00"])
def test_a_wait_that_is_no_number(api, wait):
    assert "expected seconds, at most 30" in sentence(
        api.call("GET", f"/task?client=alice&wait={wait}"), 400
    )


def test_a_wait_is_held_to_its_limits(make_api, monkeypatch):
    api, waits = make_api(plan=None), []
    monkeypatch.setattr(api.federation, "task", lambda client, wait, session: waits.append(wait))
    for wait in ("-5", "0", "2.5", "1e9", "inf", "-inf"):
        assert api.call("GET", f"/task?client=alice&wait={wait}").status_code == 204
    assert waits == [0, 0, 2.5, 30, 30, 0]


def test_a_whole_round_by_hand(api):
    """(300*1 + 100*5 + 600*2) / 1000 = 2."""
    sizes = []
    for client, value in (("carol", 2), ("alice", 1), ("bob", 5)):
        body = update(client, 1, value)
        sizes.append(len(body))
        answer = api.send(body)
        assert (answer.status_code, answer.json) == (202, {"round": 1})
    task = wire.decode_task(api.call("GET", "/task?client=bob&wait=5").data)
    assert task.round == 2 and float(task.weights[0][0, 0]) == pytest.approx(2)
    (record,) = json.loads(api.call("GET", "/history").data)
    assert (record["round"], record["accuracy"], record["bytes_up"]) == (
        1,
        None,
        sum(sizes),
    ) and record["clients"]["bob"]["num_examples"] == 100


def test_the_bytes_of_an_update_belong_to_the_round_that_it_closes(make_api, monkeypatch):
    """Without a test set a round is committed at once: the last update's bytes must have been
    counted by then.
    """
    api = make_api(clients=["alice"], plan=Plan(1))
    count = api.federation.count_bytes

    def slowly(down=0, up=0):
        time.sleep(0.1)
        count(down, up)

    monkeypatch.setattr(api.federation, "count_bytes", slowly)
    body = update()
    assert api.send(body).status_code == 202
    assert api.federation.wait().last.bytes_up == len(body)


def test_the_model_is_a_safetensors_file(api):
    answer = api.call("GET", "/model")
    assert (
        answer.status_code == 200
        and answer.headers["Content-Disposition"] == "attachment; filename=model.safetensors"
    )
    (length,) = struct.unpack("<Q", answer.data[:8])
    assert answer.data[8 + length :] == b"".join(bits(api.federation.weights))


def test_the_model_says_its_version_which_is_that_of_the_tasks(api):
    for version in range(3):
        texts = wire.unpack(api.call("GET", "/model").data).texts
        assert (texts["kind"], texts["version"]) == ("model", str(version))
        assert api.federation.model[0] == version
        task = wire.decode_task(api.call("GET", "/task?client=alice&wait=5").data)
        assert task.version == version and bits(task.weights) == bits(api.federation.model[1])
        for client in SIZES:
            assert api.federation.task(client, 5)
            assert api.send(update(client, version + 1, version + 2.0)).status_code == 202
        while api.federation.model[0] == version:
            time.sleep(0.001)


def test_status_and_history_are_json_without_nan(api):
    def refuse(constant):
        raise AssertionError(f"JSON has no {constant}")

    status = json.loads(api.call("GET", "/status").data, parse_constant=refuse)
    assert status["running"] and (
        status["round"],
        status["rounds"],
        status["accuracy"],
        status["strategy"],
    ) == (1, 3, None, "FedAvg")
    assert status["members"][1] == {
        "client": "bob",
        "num_examples": 100,
        "state": "training",
    } and status["waiting_for"] == [
        "alice",
        "bob",
        "carol",
    ]
    for client in SIZES:
        api.send(update(client))
    api.federation.task("alice", 5)
    (record,) = json.loads(api.call("GET", "/history").data, parse_constant=refuse)
    assert record["accuracy"] is None and record["clients"]["alice"] == {
        "num_examples": 300,
        "accuracy": 0.5,
        "loss": None,
    }


def test_errors_of_the_web_are_json_too(api):
    assert "there is no /nowhere; expected /, /clients, /task" in sentence(
        api.call("GET", "/nowhere"), 404
    )
    assert "there is no /clients/; expected" in sentence(api.call("POST", "/clients/"), 404)
    assert (
        sentence(api.call("PUT", "/updates"), 405)
        == "/updates does not take PUT; expected OPTIONS, POST"
    )
    assert "does not take DELETE" in sentence(api.call("DELETE", "/model"), 405)


def test_an_error_of_its_own_gives_no_details_away(api, monkeypatch):
    def fail():
        raise ZeroDivisionError(f"secret {TOKEN}")

    monkeypatch.setattr(api.federation, "status", fail)
    monkeypatch.setattr(api.app.logger, "exception", lambda message: None)
    assert "ZeroDivisionError" in sentence(api.call("GET", "/status"), 500)
    monkeypatch.undo()
    assert api.call("GET", "/status").status_code == 200


def test_what_went_over_the_wire_can_be_looked_at(make_api):
    api = make_api(plan=None, clients=[])
    api.call("POST", "/clients", {"client": "alice", "num_examples": 300})
    api.call("GET", "/task?client=alice")  # nothing yet: not worth a line
    api.federation.start(Plan(1))
    task = api.call("GET", "/task?client=alice&wait=5")
    body = update()
    api.send(body)
    api.send(b"junk")
    api.call("GET", "/status")  # a page asks for it every second
    seen = [(e.client, e.method, e.path, e.status) for e in api.records]
    assert seen == [
        ("alice", "POST", "/clients", 201),
        ("alice", "GET", "/task", 200),
        ("alice", "POST", "/updates", 202),
        # Whose it is, the token says
        ("alice", "POST", "/updates", 400),
    ]
    assert [e.bytes_up for e in api.records] == [40, 0, len(body), 4]
    assert api.records[1].bytes_down == len(task.data)
    assert abs(api.records[0].time - time.time()) < 5


def test_a_page_asks_for_the_requests_that_it_has_not_seen(make_api):
    api = make_api()
    for client in ("alice", "bob"):
        api.send(update(client))
    api.call("GET", "/task?client=carol")
    answer = api.call("GET", "/requests")
    assert answer.status_code == 200 and TOKEN not in answer.text
    first = answer.json[0]
    assert sorted(first) == sorted(
        ["number", "time", "client", "method", "path", "status", "bytes_up", "bytes_down"]
    )
    assert (first["client"], first["path"], first["bytes_up"]) == (
        "alice",
        "/updates",
        len(update("alice")),
    )
    assert [(r["number"], r["client"]) for r in answer.json] == [
        (1, "alice"),
        (2, "bob"),
        (3, "carol"),
    ]
    for path in ("/", "/status?looker=1", "/history", "/requests", "/pages/page.js"):
        api.call("GET", path)
    assert [r["number"] for r in api.call("GET", "/requests?after=2").json] == [3]
    assert api.call("GET", "/requests?after=3").json == [], "looking is not among them"


def test_of_the_requests_the_latest_are_kept(api):
    for _ in range(250):
        api.call("GET", "/task?client=nobody")
    numbers = [record["number"] for record in api.call("GET", "/requests").json]
    assert numbers == list(range(51, 251))


def test_a_page_asks_for_the_rounds_that_it_does_not_know(make_api):
    api = make_api(clients=["alice"])
    for number in (1, 2, 3):
        assert api.federation.task("alice", 5)
        api.send(update(round=number))
    api.federation.wait()
    rounds = {after: api.call("GET", f"/history?after={after}").json for after in (0, 1, 3, 10**14)}
    assert [[record["round"] for record in several] for several in rounds.values()] == [
        [1, 2, 3],
        [2, 3],
        [],
        [],
    ]
    assert api.call("GET", "/history").json == rounds[0]


@pytest.mark.parametrize("path", ["/requests", "/history"])
@pytest.mark.parametrize("after", ["", "-1", "1.5", "nan", "one", "1" * 5000, "%00"])
def test_a_number_that_is_none(api, path, after):
    assert "; expected the number of a round or a request" in sentence(
        api.call("GET", f"{path}?after={after}"), 400
    )


def test_who_takes_part_is_in_the_status(make_api):
    api = make_api(plan=None)
    assert api.call("GET", "/status").json["participants"] == []
    api.federation.start(Plan(2, fraction=0.67))
    there = [client for client in SIZES if api.federation.task(client, 1)]
    assert len(there) == 2, "two of three are drawn"
    status = api.call("GET", "/status").json
    assert status["participants"] == status["waiting_for"] == there
    api.send(update(there[0]))
    status = api.call("GET", "/status").json
    assert (status["participants"], status["waiting_for"]) == (there, there[1:])


def test_a_page_says_its_name_and_what_it_shows(api):
    for query in ("looker=a&shown=7", "", "shown=9", "looker=b", "looker=c&shown=x", "looker="):
        assert api.call("GET", f"/status?{query}").status_code == 200
    assert [(name, version) for _, name, version in api.looks] == [
        ("a", 7),
        ("b", -1),
        ("c", -1),
        ("", -1),
    ]
    api.call("GET", f"/status?looker={'x' * 500}")
    assert len(api.looks[-1][1]) == 40


# ---- bad bodies ----------------------------------------------------------------------------------


def packed(weights, **fields) -> bytes:
    return pack(
        weights,
        **(
            {
                "kind": "update",
                "client": "alice",
                "round": 1,
                "num_examples": 300,
                "accuracy": 0.5,
                "loss": 1.0,
                "run": RUN,
            }
            | fields
        ),
    )


BAD_UPDATES = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "zeros": b"\0" * 100,
    "text": b"weights",
    "json": b'{"client": "alice", "round": 1}',
    "original form": b"id=1&send=True&datasets=5&weights=[]",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
    "zip": b"PK\3\4" + b"\0" * 30,
    "truncated header": update()[:100],
    "truncated data": update()[:-1],
    "one byte more": update() + b"\0",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "header of all ones": b"\xff" * 100,
    "header longer than the body": struct.pack("<Q", 5000) + b"{}",
    "header no JSON": struct.pack("<Q", 2) + b"{]",
    "metadata null": struct.pack("<Q", 21) + b'{"__metadata__": null}'[:21],
    "a task": wire.encode_task(Task(1, 1, toy(), Training())),
    "no arrays": packed([]),
    "an array too few": packed(toy()[:1]),
    "an array too many": packed([*toy(), np.zeros(1, np.float32)]),
    "a thousand empty arrays": packed([np.zeros(0, np.float32)] * 300),
    "wrong order": packed(toy()[::-1]),
    "wrong shape": packed([np.zeros((3, 2), np.float32), toy()[1]]),
    "flat": packed([w.ravel() for w in toy()]),
    "no dimensions": packed([np.float32(0).reshape(()), toy()[1]]),
    "float64": packed([w.astype(np.float64) for w in toy()]),
    "float16": packed([w.astype(np.float16) for w in toy()]),
    "int32": packed([w.astype(np.int32) for w in toy()]),
    "bool": packed([w.astype(bool) for w in toy()]),
    "NaN": packed(toy(math.nan)),
    "one NaN": packed([toy()[0], np.array([1, math.nan, 3], np.float32)]),
    "infinity": packed(toy(math.inf)),
    "both infinities": packed([toy()[0], np.array([math.inf, 0, -math.inf], np.float32)]),
    "count 0": packed(toy(), num_examples=0),
    "count negative": packed(toy(), num_examples=-300),
    "count not whole": packed(toy(), num_examples=300.0),
    "count a word": packed(toy(), num_examples="many"),
    "count empty": packed(toy(), num_examples=""),
    "count NaN": packed(toy(), num_examples="nan"),
    "count more than joined": packed(toy(), num_examples=301),
    "count absurd": packed(toy(), num_examples=10**39),
    "count of 5000 digits": packed(toy(), num_examples="9" * 5000),
    "round 0": packed(toy(), round=0),
    "round missing": pack(toy(), client="alice", num_examples=300, accuracy=0.5, loss=1.0),
    "round not whole": packed(toy(), round="1.5"),
    "accuracy 2": packed(toy(), accuracy=2.0),
    "accuracy a word": packed(toy(), accuracy="high"),
    "client missing": pack(toy(), round=1, num_examples=300, accuracy=0.5, loss=1.0),
}


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
def test_a_bad_body_gets_a_sentence_and_changes_nothing(make_api, strategy):
    api = make_api(strategy())
    before = api.snapshot()
    for name, body in BAD_UPDATES.items():
        status = 409 if name == "round 0" and strategy is fed_avg else 400
        assert sentence(api.send(body), status), name
        assert api.snapshot() == before, name
    # And the server goes on
    assert len(BAD_UPDATES) >= 40 and api.send(update()).status_code == 202


def test_a_good_update_is_what_the_bad_ones_differ_from(api):
    assert api.send(packed(toy())).status_code == 202


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/octet-stream",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
        "é",
    ],
)
def test_an_update_of_another_content_type(api, kind):
    before = api.snapshot()
    assert "expected 'application/vnd.safetensors'" in sentence(api.send(update(), kind), 415)
    assert api.snapshot() == before


def test_a_body_that_is_too_large(api):
    limit = wire.size_limit(api.federation.weights)
    before = api.snapshot()
    assert (
        sentence(api.send(b"x" * (limit + 1)), 413)
        == f"the body is {limit + 1:,} bytes; expected at most {limit:,} here"
    )
    assert sentence(api.send(b"x" * limit), 400)
    assert "expected at most 10,000 here" in sentence(
        api.call(
            "POST", "/clients", {"client": "dave", "num_examples": 1, "padding": "x" * 10_000}
        ),
        413,
    )
    assert api.snapshot() == before


def test_a_body_of_unknown_length_is_refused(api):
    answer = api.send(
        update(), headers={"Transfer-Encoding": "chunked"}, environ_overrides={"CONTENT_LENGTH": ""}
    )
    assert sentence(answer, 411) == "the body has no Content-Length; expected one"


BAD_JOINS = {
    "empty": b"",
    "not JSON": b"{client: dave}",
    "cut": b'{"client": "dave", "num_ex',
    "a list": b"[1]",
    "null": b"null",
    "a number": b"7",
    "not UTF-8": b'{"client": "\xff"}',
    "deep": b"[" * 9_000,
    "a number of 5000 digits": b'{"client": "dave", "num_examples": ' + b"9" * 5000 + b"}",
    "nothing in it": b"{}",
    "no count": b'{"client": "dave"}',
    "no client": b'{"num_examples": 5}',
    "client null": b'{"client": null, "num_examples": 5}',
    "client a list": b'{"client": ["dave"], "num_examples": 5}',
    "client empty": b'{"client": "", "num_examples": 5}',
    "client of 41 letters": b'{"client": "' + b"x" * 41 + b'", "num_examples": 5}',
    "client with a slash": b'{"client": "a/b", "num_examples": 5}',
    "client dots": b'{"client": "..", "num_examples": 5}',
    "client markup": b'{"client": "<script>", "num_examples": 5}',
    "count 0": b'{"client": "dave", "num_examples": 0}',
    "count negative": b'{"client": "dave", "num_examples": -5}',
    "count not whole": b'{"client": "dave", "num_examples": 5.5}',
    "count text": b'{"client": "dave", "num_examples": "5"}',
    "count true": b'{"client": "dave", "num_examples": true}',
    "count NaN": b'{"client": "dave", "num_examples": NaN}',
    "count absurd": b'{"client": "dave", "num_examples": 1000000000000}',
    "shards 0": b'{"client": "dave", "num_examples": 5, "shards": 0}',
}


def test_a_bad_join_gets_a_sentence_and_changes_nothing(api):
    before = api.snapshot()
    for name, body in BAD_JOINS.items():
        assert "expected" in sentence(
            api.call("POST", "/clients", body, "application/json"), 400
        ), name
        assert api.snapshot() == before, name
    # What a form of a foreign page can send
    for kind in ("", "text/plain", "application/x-www-form-urlencoded"):
        assert "expected 'application/json'" in sentence(
            api.call("POST", "/clients", b'{"client": "dave", "num_examples": 5}', kind), 415
        )
    assert (
        api.snapshot() == before
        and api.call("POST", "/clients", {"client": "dave", "num_examples": 5}).status_code == 201
    )


def test_a_thousand_damaged_updates_change_nothing_or_are_an_update(make_api):
    """From one seed. Whatever comes, no 5xx; a model only ever from an update that was answered
    202.
    """
    api, rng, whole, taken = (
        make_api(async_average(), shards=1000),
        np.random.default_rng(4),
        update(),
        0,
    )
    for _ in range(1000):
        body = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(body)))
            if rng.integers(2):
                body[at] = int(rng.integers(256))
            else:
                del body[at : at + int(rng.integers(1, 30))]
        before = api.federation.state
        answer = api.send(bytes(body))
        assert answer.status_code in (202, 400, 404, 409)
        taken += answer.status_code == 202
        assert (api.federation.state is before) == (answer.status_code != 202)
    assert all(np.isfinite(w).all() for w in api.federation.weights) and taken < 100


# ---- stale and repeated updates ------------------------------------------------------------------


def test_a_stale_update_changes_nothing(api):
    for client in SIZES:
        api.send(update(client))
    for client in SIZES:
        assert api.call("GET", f"/task?client={client}&wait=5").status_code == 200
    before = api.snapshot()
    assert "got an update of 'alice' for round 1; expected one for round 2" in sentence(
        api.send(update()), 409
    )
    assert "expected one for round 2" in sentence(api.send(update(round=3)), 409)
    assert "no client called 'carol' has" not in sentence(api.send(update("carol", 9)), 409)
    assert api.snapshot() == before


@pytest.mark.parametrize("strategy", [fed_avg, async_average])
def test_an_update_whose_answer_was_lost_is_sent_again_and_counted_once(make_api, strategy):
    api = make_api(strategy(), plan=Plan(1))
    body = update(value=1)
    assert api.send(body).status_code == 202
    # Merged at once, written down a moment later
    while strategy is async_average and not len(api.federation.history):
        time.sleep(0.005)
    before = api.snapshot()
    for _ in range(3):
        assert sentence(api.send(body), 409) == "already have an update of 'alice' for round 1"
    assert api.snapshot() == before
    api.send(update("bob", value=5))
    api.send(update("carol", value=2))
    api.federation.wait()
    assert api.federation.state.num_examples == 1000 and float(
        api.federation.weights[0][0, 0]
    ) == pytest.approx(2)


def test_an_update_without_a_run_or_a_client(make_api):
    api = make_api(plan=None)
    assert "expected none: no run is going on" in sentence(api.send(update()), 409)
    api.federation.leave("bob")
    assert "'bob' has left" in sentence(api.send(update("bob")), 410)
    assert "no client called 'dave' has joined" in sentence(
        api.send(packed(toy(), client="dave")), 404
    )


def test_a_client_says_why_it_goes(make_api):
    api = make_api(plan=Plan(1))
    assert (
        api.call(
            "DELETE",
            "/clients/alice",
            headers={"X-Reason": "MemoryError: no more"},
            token=api.access.enrol("alice", ""),
        ).status_code
        == 204
    )
    api.send(update("bob"))
    api.send(update("carol"))
    with pytest.raises(
        fedlab.ClientFailed, match="client 'alice' failed in round 1: MemoryError: no more"
    ):
        api.federation.wait()


# ---- tokens --------------------------------------------------------------------------------------

COOKIE = "fedlab-localhost"  # the test client's Host is localhost, without a port
WRONG = {
    "absent": {},
    "empty": {"Authorization": ""},
    "wrong": {"Authorization": "Bearer wrong"},
    "cut": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "longer": {"Authorization": f"Bearer {TOKEN}x"},
    "other case": {"Authorization": f"Bearer {TOKEN.upper()}"},
    "bare": {"Authorization": TOKEN},
    "other scheme": {"Authorization": f"Basic {TOKEN}"},
    "twice": {
        "Authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"
    },  # as a WSGI server joins two headers
    "non-ASCII": {"Authorization": "Bearer tökén-\xff"},
    "the class's token as a cookie": {"Cookie": f"{COOKIE}={TOKEN}"},
    "the teacher's secret as a cookie": {"Cookie": f"{COOKIE}={TEACHER}"},
    "a wrong cookie": {"Cookie": f"{COOKIE}=wrong"},
    "a non-ASCII cookie": {"Cookie": f"{COOKIE}=t\xf6ken"},
}


def good_cookie(api) -> dict[str, str]:
    """What the page gives a browser."""
    return {"Cookie": f"{COOKIE}={api.access.looker}"}


def test_every_route_wants_the_token(api):
    """Every route there is, every method that it takes, every way to have no right to it; and in
    the query, where a token leaks from.
    """
    before, asked = api.snapshot(), 0
    looker = api.access.looker
    ways = WRONG | {
        "wrong with a good cookie": {"Authorization": "Bearer wrong"} | good_cookie(api),
        "another port's cookie": {"Cookie": f"fedlab-8888={looker}"},
        "the cookie's secret as a token": {"Authorization": f"Bearer {looker}"},
    }
    for endpoint, method, path in api.routes():
        if (endpoint, method) == ("page", "OPTIONS"):
            continue  # says which methods there are
        for name, headers in ways.items():
            answer = api.call(method, path, update(), wire.CONTENT_TYPE, headers, token=None)
            assert answer.status_code == 401, (method, path, name)
            assert method == "HEAD" or "expected" in sentence(answer, 401)
            asked += 1
        if endpoint != "page":
            answer = api.call(
                method,
                f"{path}?token={TOKEN}&client=alice",
                update(),
                wire.CONTENT_TYPE,
                token=None,
            )
            assert answer.status_code == 401, (method, path, "in the query only")
    assert api.snapshot() == before and asked > 200
    assert api.call("OPTIONS", "/", token=None).data == b""


def test_another_servers_token_is_a_wrong_token(make_api):
    other = create_app(Federation(toy(), fed_avg()), "the-token-of-the-server-before").test_client()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert sentence(other.get("/status", headers=headers), 401) and sentence(
        other.get(f"/?token={TOKEN}"), 401
    )
    assert (
        other.get(
            "/status", headers={"Authorization": "Bearer the-token-of-the-server-before"}
        ).status_code
        == 200
    )


def test_each_server_has_a_secret_of_its_own():
    with (
        Server(federation=Federation(toy(), fed_avg())) as one,
        Server(federation=Federation(toy(), fed_avg())) as two,
    ):
        tokens = [server.url.partition("?token=")[2] for server in (one, two)]
        assert tokens[0] != tokens[1] and all(len(token) >= 32 for token in tokens)
        for server, token in ((one, tokens[1]), (two, tokens[0])):
            assert (
                requests.get(
                    f"{server.address}status",
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=5,
                ).status_code
                == 401
            )


def test_the_page_turns_the_token_of_the_address_into_a_cookie(api):
    answer = api.call("GET", f"/?token={TOKEN}", token=None)
    assert (answer.status_code, answer.headers["Location"]) == (303, "./")
    cookie = answer.headers["Set-Cookie"]
    assert (
        cookie.startswith(f"{COOKIE}={api.access.looker};")
        and "HttpOnly" in cookie
        and "SameSite=Strict" in cookie
    )
    # Any port of this host gets it: it is not the token, with which one could join
    assert TOKEN not in cookie
    answer = api.call("GET", "/", headers=good_cookie(api), token=None)
    assert (
        answer.status_code == 200
        and answer.headers["Content-Type"] == "text/html; charset=utf-8"
        and TOKEN not in answer.text
    )
    assert "is wrong" in sentence(
        api.call("GET", "/?token=wrong", headers=good_cookie(api), token=None), 401
    )
    assert "expected the whole address" in sentence(api.call("GET", "/", token=None), 401)


def test_the_cookie_reads_and_changes_nothing(api):
    """A page of another program on this machine is of the same site (ports do not count): its
    browser sends the cookie along.
    """
    before, cookie = api.snapshot(), good_cookie(api)
    readable = {
        path
        for _, method, path in api.routes()
        if method == "GET" and api.call("GET", path, headers=cookie, token=None).status_code == 200
    }
    assert readable == {"/", "/status", "/history", "/model", "/requests", "/pages/page.js"}
    for _, method, path in api.routes():
        if method not in ("GET", "HEAD", "OPTIONS"):
            for kind, body in (
                (wire.CONTENT_TYPE, update()),
                ("application/json", b'{"client": "dave", "num_examples": 5}'),
            ):
                assert sentence(api.call(method, path, body, kind, cookie, token=None), 401)
    # Taking a task is taking part
    assert sentence(api.call("GET", "/task?client=alice", headers=cookie, token=None), 401)
    assert api.snapshot() == before


def test_headers_that_keep_what_is_said_here(api):
    for endpoint, method, path in api.routes():
        for token in (TOKEN, None):
            answer = api.call(method, path, token=token)
            assert (
                answer.headers["Referrer-Policy"] == "no-referrer"
                and answer.headers["X-Content-Type-Options"] == "nosniff"
            ), endpoint
            assert answer.headers["Cache-Control"] == "no-store"
    policy = api.call("GET", "/").headers["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' data:"
    )
    assert "unsafe" not in policy


# ---- Hosts and Origins ---------------------------------------------------------------------------

GOOD_HOSTS = ["127.0.0.1", "127.0.0.1:8642", "localhost", "localhost:1", "[::1]", "[::1]:8642"]
BAD_HOSTS = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.",
"0.0.0.0:8642", "127.0.0.1@evil.example",
             "evil.example#127.0.0.1", "127.1", "2130706433", "::1", "[::1].evil.example",
             "127.0.0.1, evil.example", "",
             "192.168.1.5:8642", "localhost:80:evil"]  # fmt: skip
ORIGINS = [
    None,
    "null",
    "http://evil.example",
    "https://evil.example",
    "http://localhost:8888",
    "http://127.0.0.1:8642",
    "file://",
    "chrome-extension://abc",
]


def test_no_other_host_is_answered_on_any_route_by_any_method_from_any_origin(api):
    """A page that rebinds its own name to 127.0.0.1 sends the right token to the right place under
    the wrong Host (DNS rebinding).
    """
    before = api.snapshot()
    paths = sorted({path for _, _, path in api.routes()}) + ["/nowhere"]
    for host, origin, method, path in itertools.product(BAD_HOSTS, ORIGINS, METHODS, paths):
        headers = good_cookie(api) | ({"Origin": origin} if origin else {})
        answer = api.call(
            method,
            path,
            update(),
            wire.CONTENT_TYPE,
            headers,
            environ_overrides={"HTTP_HOST": host},
        )
        assert answer.status_code in (400, 403), (host, origin, method, path)
        assert not any(name.startswith("Access-Control") for name, _ in answer.headers)
    assert api.snapshot() == before
    words = sentence(
        api.call("GET", "/status", environ_overrides={"HTTP_HOST": "evil.example"}), 403
    )
    assert (
        "the Host header is 'evil.example'; expected one of 127.0.0.1, [::1], localhost" in words
        and "allowed_hosts" in words
    )


def test_this_machines_names_are_answered_and_no_origin_is_given_rights(api):
    for host, origin in itertools.product(GOOD_HOSTS, ORIGINS):
        answer = api.call(
            "GET",
            "/status",
            headers={"Origin": origin} if origin else {},
            environ_overrides={"HTTP_HOST": host},
        )
        assert answer.status_code == 200, host
        assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


NUMBERS = ["192.168.1.20", "192.168.1.20:8642", "10.0.0.1:80", "127.0.0.2", "[fe80::1]:8642",
           "[2001:db8::1]", "[::ffff:192.168.1.20]"]  # fmt: skip
NO_NUMBERS = ["0.0.0.0", "0.0.0.0:8642", "[::]", "[::]:8642", "evil.example", "192.168.1.20.nip.io",
              "192.168.1", "192.168.1.20.", "0xc0a80114", "3232235796", "0300.0250.1.24", "fe80::1",
              "[fe80::1", "1.2.3.4.5", "１９２.168.1.20", "", " "]  # fmt: skip


@pytest.mark.parametrize("wide", [True, False])
def test_an_address_in_numbers_is_answered_where_all_networks_are_listened_to(make_api, wide):
    """No name was looked up that could have been rebound; and of several addresses others know
    better which reaches this machine.
    """
    api = make_api(plan=None, numbers=wide)
    for hosts, right in ((NUMBERS, 200 if wide else 403), (NO_NUMBERS, 403)):
        for host in hosts:
            about = {"environ_overrides": {"HTTP_HOST": host.encode().decode("latin-1")}}
            answer = api.call("GET", "/status", **about)
            assert answer.status_code in (right, 400 if right == 403 else right), host
    for host in GOOD_HOSTS:
        about = {"environ_overrides": {"HTTP_HOST": host}}
        assert api.call("GET", "/status", **about).status_code == 200


@pytest.mark.parametrize("host, status", [("0.0.0.0", 200), ("127.0.0.1", 403)])
def test_only_a_server_on_all_networks_answers_to_any_number(host, status):
    with Server(federation=Federation(toy(), fed_avg()), host=host) as server:
        url = f"http://127.0.0.1:{server.port}/status"
        headers = {"Authorization": f"Bearer {server.url.partition('=')[2]}"}
        for called, right in (("192.0.2.7", status), ("0.0.0.0", 403), ("evil.example", 403)):
            about = {"headers": headers | {"Host": f"{called}:{server.port}"}, "timeout": 5}
            assert requests.get(url, **about).status_code == right, called


def test_a_host_can_be_allowed():
    with Server(federation=Federation(toy(), fed_avg()), allowed_hosts=["lab.example"]) as server:
        headers = {"Authorization": f"Bearer {server.url.partition('=')[2]}"}
        for host, status in (
            (f"lab.example:{server.port}", 200),
            ("lab.example", 200),
            ("other.example", 403),
            ("xlab.example", 403),
        ):
            assert (
                requests.get(
                    f"{server.address}status", headers=headers | {"Host": host}, timeout=5
                ).status_code
                == status
            )


def test_a_name_with_capital_letters_is_the_same_name():
    """Windows and macOS show a computer's name with them; browsers send it without."""
    with Server(
        federation=Federation(toy(), fed_avg()), allowed_hosts=["Teacher-PC.local"]
    ) as server:
        headers = {"Authorization": f"Bearer {server.url.partition('=')[2]}"}
        for host in ("teacher-pc.local", "Teacher-PC.local", f"TEACHER-PC.LOCAL:{server.port}"):
            assert (
                requests.get(
                    f"{server.address}status", headers=headers | {"Host": host}, timeout=5
                ).status_code
                == 200
            ), host


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_every_network_is_ipv4_too():
    with Server(federation=Federation(toy(), fed_avg()), host="::") as server:
        url, headers = (
            f"http://127.0.0.1:{server.port}/status",
            {"Authorization": f"Bearer {server.url.partition('=')[2]}"},
        )
        assert requests.get(url, headers=headers, timeout=5).status_code == 200


def test_a_token_that_no_header_carries_is_refused():
    with pytest.raises(Refused, match="the token has characters that no HTTP header carries"):
        Server(federation=Federation(toy(), fed_avg()), token="geheim…")


# ---- the original's routes -----------------------------------------------------------------------


def test_the_originals_routes_are_off_unless_asked_for(make_api):
    api = make_api(async_average())
    before = api.snapshot()
    form = {"id": "1", "send": "True", "datasets": "5", "weights": original.write_weights(toy(9))}
    for token in (None, TOKEN):
        assert "does not take POST" in sentence(
            api.http.post("/", data=form, headers={"Authorization": f"Bearer {token}"}), 405
        )
    assert sentence(api.http.get("/", query_string=form), 401)
    assert api.call("GET", "/", query_string=form).text.startswith("<!doctype html>")
    assert api.snapshot() == before


def test_the_originals_routes_are_only_for_this_machine_and_its_way_to_merge():
    with pytest.raises(
        Refused,
        match=(
            "original_protocol with host '0.0.0.0': the original's clients have no token; expected"
            " 127.0.0.1"
        ),
    ):
        Server(
            federation=Federation(toy(), async_average()),
            host="0.0.0.0",
            original_protocol=original.Original(),
        )
    with pytest.raises(
        Refused, match=r"original_protocol with the strategy FedAvg; expected async_average\(\)"
    ):
        Server(federation=Federation(toy(), fed_avg()), original_protocol=original.Original())


def test_the_originals_routes_are_not_for_other_hosts_either(make_api):
    api = make_api(async_average(), original_protocol=original.Original())
    before = api.snapshot()
    form = {"id": "1", "send": "True", "datasets": "5", "weights": original.write_weights(toy(9))}
    assert sentence(
        api.http.post("/", data=form, environ_overrides={"HTTP_HOST": "evil.example"}), 403
    )
    assert sentence(
        api.http.get("/", query_string=form, environ_overrides={"HTTP_HOST": "evil.example"}), 403
    )
    assert api.snapshot() == before
    assert (
        api.http.post("/", data=form).status_code == 200 and api.federation.state.num_examples == 5
    )


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_says_how_to_join_and_runs_nothing_of_its_own(api):
    page = api.call("GET", "/").text
    assert (
        page.startswith("<!doctype html>")
        and '<html lang="en">' in page
        and "<title>" in page
        and 'name="viewport"' in page
    )
    assert page.count("<caption") == page.count("<table") == 2 and "<main" in page
    assert all(
        words in page
        for words in (
            "fedlab client &lt;URL&gt;",
            "--id NAME",
            "--shards L R",
            'fedlab.Client("&lt;URL&gt;", "NAME"',
        )
    )
    assert TOKEN not in page
    assert "<style" not in page and not re.search(r"<[^>]*\s(style|on\w+)=", page)
    assert re.findall("<script[^>]*>[^<]*</script>", page) == [
        '<script type="module" src="pages/page.js"></script>'
    ]


def test_what_the_page_is_made_of_comes_from_this_server_and_a_path_may_stand_before_it(api):
    known, waiting = {}, ["./"]
    while waiting:
        address = waiting.pop()
        answer = known[address] = api.call("GET", urljoin("/", address))
        assert answer.status_code == 200, address
        ours = r"""(?:src|href)="([^"]*)"|from "([^"]*)"|import\("([^"]*)"\)|url\(([^)]*)\)"""
        for found in re.findall(ours, answer.text):
            loaded = "".join(found)
            assert not loaded.startswith(("/", "http", "//")), loaded
            whole = urljoin(address, loaded)
            if not loaded.startswith(("data:", "#")) and whole not in [*known, *waiting]:
                waiting.append(whole)
    assert sorted(known) == sorted(["./", *(f"pages/{name}" for name in routes.SHOWN)])
    for address, answer in known.items():
        kind = {"js": "text/javascript", "ss": "text/css", "./": "text/html"}[address[-2:]]
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8", address
        # A client's name is text, never markup; and nothing that the policy would refuse.
        assert "innerHTML" not in answer.text and 'setAttribute("style"' not in answer.text


@pytest.mark.parametrize(
    "name",
    ["index.html", "handwriting.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "page.js%00",
     "..\\app.py", "%2fetc%2fpasswd", "/etc/passwd", "PAGE.JS", "page.js/", "."],
)  # fmt: skip
def test_no_other_file_is_served(api, name):
    sentence(api.call("GET", f"/pages/{name}"), 404)


# ---- the real socket -----------------------------------------------------------------------------


@pytest.fixture
def server():
    with Server(federation=Federation(toy(), fed_avg()), linger=0.2) as server:
        yield server


def headers_of(server: Server) -> dict:
    """With the class's token."""
    return {"Authorization": f"Bearer {server.url.partition('?token=')[2]}"}


def joined(server: Server, client: str, num_examples: int = 300, **fields) -> dict:
    """Headers with the token of a client that has just joined."""
    fields |= {"client": client, "num_examples": num_examples}
    answer = post(server, "clients", json=fields)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def post(server: Server, path: str, **options) -> requests.Response:
    return requests.post(
        server.address + path,
        headers=headers_of(server) | options.pop("headers", {}),
        timeout=10,
        **options,
    )


def raw(server: Server, request: bytes) -> bytes:
    """Everything that comes back for these bytes, until the server closes the line (with a reset
    where it left some of them unread).
    """
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as link,
        contextlib.suppress(ConnectionResetError),
    ):
        link.sendall(request)
        while piece := link.recv(10_000):
            answer += piece
    return answer


def test_a_server_listens_from_its_making_to_its_close():
    began = time.monotonic()
    server = Server(federation=Federation(toy(), fed_avg()))
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}", server.url
    ) and server.url.startswith(f"http://127.0.0.1:{server.port}/")
    assert (
        requests.get(server.address + "status", headers=headers_of(server), timeout=5).status_code
        == 200
    )
    assert repr(server) == f"<Server at {server.address}, ready>"
    server.close()
    server.close()
    assert time.monotonic() - began < 10
    with pytest.raises(requests.ConnectionError):
        requests.get(server.address, timeout=5)


def test_closing_is_prompt_though_clients_wait_and_connections_are_open(server):
    own = {client: joined(server, client) for client in SIZES}
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    with ThreadPoolExecutor(3) as pool:
        polls = [
            pool.submit(
                requests.get,
                f"{server.address}task?client={c}&wait=30",
                headers=own[c],
                timeout=40,
            )
            for c in SIZES
        ]
        time.sleep(0.3)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 10
        # Each was told, none was cut off
        assert [poll.result().status_code for poll in polls] == [410, 410, 410]
    for connection in idle:
        connection.close()


def look(server: Server, name: str = "a", shown: int = -1) -> dict:
    """The status, as a page asks for it."""
    address = f"{server.address}status?looker={name}&shown={shown}"
    return requests.get(address, headers=headers_of(server), timeout=5).json()


def test_closing_waits_until_pages_show_the_end(server):
    """Two pages; each asks every 0.2 s and shows what it was told. The server closes in mid-run,
    once both show that it was stopped; had they said nothing more, after two seconds.
    """
    server.federation.join("alice", 5)
    server.start(3)
    seen = {"a": [], "b": []}

    def page(name: str):
        shown = -1
        with contextlib.suppress(requests.RequestException):
            while True:
                status = look(server, name, shown)
                shown = status["version"]
                seen[name].append((status["running"], status["message"]))
                time.sleep(0.2)

    pages = [threading.Thread(target=page, args=(name,)) for name in seen]
    for each in pages:
        each.start()
    time.sleep(0.5)
    began = time.monotonic()
    server.close(0)
    took = time.monotonic() - began
    for each in pages:
        each.join()
    for name, told in seen.items():
        assert told[0][0] and (False, "stopped") in told, name
    assert 0.05 < took < 1.9


def test_closing_waits_not_longer_than_two_seconds_for_a_page_and_for_none_that_is_gone(server):
    look(server)
    began = time.monotonic()
    server.close(0)
    assert 1.9 < time.monotonic() - began < 10


def test_closing_is_prompt_where_nobody_looks_on_or_all_know(server):
    version = look(server, "gone")["version"]
    look(server, "there", version)
    requests.get(f"{server.address}status", headers=headers_of(server), timeout=5)  # no page
    now = time.monotonic() - 3.1
    looks = server.app.extensions["fedlab"][1]
    looks[0] = (now, *looks[0][1:])
    began = time.monotonic()
    server.close(0)
    assert time.monotonic() - began < 1.9


def test_a_port_in_use_is_said_in_a_sentence_and_leaves_nothing_behind(server):
    threads = threading.active_count()
    with pytest.raises(
        OSError,
        match=(
            rf"cannot listen on 127\.0\.0\.1:{server.port} \(Address already in use\); expected .*"
            r" a free port, or 0"
        ),
    ):
        Server(federation=Federation(toy(), fed_avg()), port=server.port)
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", 70_000, "expected a port from 1 to 65535"),
        ("127.0.0.1", -1, "expected a port from 1 to 65535"),
        ("192.0.2.1", 0, "expected this machine's address"),
        ("no such host", 0, "cannot listen on no such host:0"),
    ],
)
def test_where_one_cannot_listen(host, port, words):
    with pytest.raises(OSError, match=words):
        Server(federation=Federation(toy(), fed_avg()), host=host, port=port)


def test_localhost_is_a_host_like_another():
    with Server(federation=Federation(toy(), fed_avg()), host="localhost") as server:
        assert server.address == f"http://localhost:{server.port}/"
        assert (
            requests.get(
                server.address + "status", headers=headers_of(server), timeout=5
            ).status_code
            == 200
        )


def test_listening_on_every_network_announces_an_address_that_answers():
    with Server(federation=Federation(toy(), fed_avg()), host="0.0.0.0") as server:
        assert "0.0.0.0" not in server.url
        for address in (server.address, f"http://127.0.0.1:{server.port}/"):
            assert (
                requests.get(address + "status", headers=headers_of(server), timeout=5).status_code
                == 200
            )
        assert (
            requests.get(
                f"http://0.0.0.0:{server.port}/status", headers=headers_of(server), timeout=5
            ).status_code
            == 403
        )


def test_a_body_too_large_is_refused_before_it_is_read_and_in_json(server):
    limit, own = wire.size_limit(toy()), joined(server, "alice")
    kind = {"Content-Type": wire.CONTENT_TYPE} | own
    assert (
        sentence(post(server, "updates", data=b"x" * (limit + 1), headers=kind), 413)
        == f"the body is {limit + 1:,} bytes; expected at most {limit:,} here"
    )
    assert sentence(post(server, "updates", data=b"x" * limit, headers=kind), 400)
    # Announced and never sent: answered at once, and the line is closed.
    head = "POST /updates HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: {own['Authorization']}\r\n"
    announced = raw(server, f"{head}Content-Length: 99999999999\r\n\r\n".encode())
    assert (
        announced.startswith(b"HTTP/1.1 413 ") and b"the body is 99,999,999,999 bytes" in announced
    )
    # In chunks, without a length: none of them is taken.
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    chunked = raw(
        server,
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * (limit // 0x4000 + 1),
    )
    assert (
        chunked.startswith(b"HTTP/1.1 411 ")
        and b"the body has no Content-Length; expected one" in chunked
    )


def test_what_is_no_http_is_answered_and_the_server_goes_on(server):
    for request in (
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
    ):
        answer = raw(server, request)
        assert (
            re.match(rb"HTTP/1\.[01] 400 ", answer)
            and b'{"error": "the request cannot be read' in answer
        ), request
    assert (
        requests.get(server.address + "status", headers=headers_of(server), timeout=5).status_code
        == 200
    )


@pytest.mark.parametrize("who", ["nobody", "the class", "a client"])
def test_half_sent_requests_hold_no_one_up(server, who):
    """Of nobody, who is refused; of the class, on its way to join; of a client that goes on."""
    own = {"nobody": {}, "the class": headers_of(server), "a client": joined(server, "alice")}[who]
    path = "clients" if who == "the class" else "updates"
    head = f"POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in own.items())
    links = []
    for _ in range(100):
        links.append(socket.create_connection(("127.0.0.1", server.port)))
        links[-1].sendall(f"{head}\r\nhalf".encode())
    began = time.monotonic()
    for _ in range(10):
        assert (
            requests.get(
                server.address + "status", headers=headers_of(server), timeout=5
            ).status_code
            == 200
        )
    assert time.monotonic() - began < 10
    for link in links:
        link.close()


def test_a_reply_that_was_lost_on_the_way(server):
    """The update goes out, the line is cut before the answer: sent again, it is known, and counted
    once.
    """
    own = joined(server, "alice")
    server.start(rounds=2)
    assert (
        requests.get(
            server.address + "task?client=alice&wait=5", headers=own, timeout=10
        ).status_code
        == 200
    )
    body = update()
    head = f"POST /updates HTTP/1.1\r\nHost: localhost\r\nAuthorization: {own['Authorization']}\r\n"
    head += f"Content-Type: {wire.CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(head.encode() + body)
    end = time.monotonic() + 5
    while not len(server.history) and time.monotonic() < end:
        time.sleep(0.01)
    assert sentence(
        post(server, "updates", data=body, headers=own | {"Content-Type": wire.CONTENT_TYPE}), 409
    )
    server.stop()
    assert server.federation.state.num_examples == 300 and len(server.history) == 1


def test_forty_clients_at_once(server):
    """Forty connections, three rounds; every update counted once, and everyone hears of the end."""

    def take_part(number: int) -> list[int]:
        name, statuses = f"client-{number:02}", []
        with requests.Session() as session:
            session.headers.update(joined(server, name, number + 1))
            while True:
                answer = session.get(f"{server.address}task?client={name}&wait=10", timeout=20)
                if answer.status_code == 204:
                    continue
                if answer.status_code != 200:
                    return [*statuses, answer.status_code]
                task = wire.decode_task(answer.content)
                body = wire.encode_update(
                    Update(name, task.round, number + 1, toy(number), run=task.run)
                )
                statuses.append(
                    session.post(
                        server.address + "updates",
                        data=body,
                        headers={"Content-Type": wire.CONTENT_TYPE},
                        timeout=10,
                    ).status_code
                )

    with ThreadPoolExecutor(40) as pool:
        clients = [pool.submit(take_part, number) for number in range(40)]
        history = server.run(rounds=3, min_clients=40, progress=False)
        server.close()
        assert all(client.result(10) == [202, 202, 202, 410] for client in clients)
    assert [record.num_examples for record in history] == [820] * 3
    assert float(server.weights[0][0, 0]) == pytest.approx(
        sum(n * (n + 1) for n in range(40)) / 820
    )


def test_a_run_that_is_wrong_is_refused_at_once(server):
    for settings, words in (
        ({"rounds": 0}, "rounds is 0"),
        ({"epochs": -1}, r"epochs \(E\) is -1"),
        ({"fraction": 2}, r"fraction \(C\) is 2"),
        ({"target": 97}, "target is 97"),
    ):
        with pytest.raises(Refused, match=words):
            server.run(progress=False, **settings)
    with pytest.raises(TypeError, match="epoch"):
        server.run(epoch=1, progress=False)
    assert not server.federation.running


def test_progress_is_shown_round_by_round(server, capsys):
    post(server, "clients", json={"client": "alice", "num_examples": 300})
    seen = []

    def answer():
        for round in (1, 2):
            server.federation.task("alice", 5)
            server.federation.report(Update("alice", round, 300, toy(round), run=RUN))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(answer)
        server.run(rounds=2, on_round=lambda record: seen.append(record.round))
    assert seen == [1, 2] and "2/2" in capsys.readouterr().err


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_nn_weights():
    return fedlab.Classifier(seed=1).weights


def test_a_server_goes_on_from_its_checkpoint(tmp_path, two_nn_weights):
    path = tmp_path / "model.safetensors"
    saved = State([w + np.float32(1) for w in two_nn_weights], 4321)
    save_checkpoint(path, saved, History([RoundRecord(7, 0.5)]), "FedAvg")
    with Server(checkpoint=path) as server:
        assert (
            bits(server.weights) == bits(saved.weights)
            and server.federation.state.num_examples == 4321
        )
        assert server.history.last.round == 7 and server.federation.status().round == 7


@pytest.mark.parametrize("damage", ["cut", "junk", "another model", "another strategy"])
def test_a_checkpoint_that_cannot_be_used_is_refused_and_left_alone(
    tmp_path, two_nn_weights, damage
):
    path = tmp_path / "model.safetensors"
    save_checkpoint(
        path,
        State(toy() if damage == "another model" else two_nn_weights),
        History(),
        "Asynchronous" if damage == "another strategy" else "FedAvg",
    )
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    if damage == "junk":
        path.write_bytes(b"junk")
    before, threads = path.read_bytes(), threading.active_count()
    with pytest.raises(BadCheckpoint, match="model.safetensors") as caught:
        Server(checkpoint=path)
    assert "expected" in str(caught.value) or "is not a" in str(caught.value)
    assert path.read_bytes() == before and threading.active_count() == threads


# ---- secrets -------------------------------------------------------------------------------------


def test_the_token_is_nowhere_but_in_the_url(tmp_path, caplog):
    """Not in logs, reprs, the wire, errors, answers, the page or the checkpoint; a client's own
    is nowhere but in the answer to its joining.
    """
    path = tmp_path / "model.safetensors"
    with (
        caplog.at_level(logging.DEBUG),
        Server(federation=Federation(toy(), fed_avg(), checkpoint=path), linger=0.1) as server,
    ):
        token = server.url.partition("?token=")[2]
        answers = [requests.get(server.url, allow_redirects=False, timeout=5).text]
        own = joined(server, "alice")
        binary = own | {"Content-Type": wire.CONTENT_TYPE}
        server.start(rounds=1)
        requests.get(server.address + "task?client=alice&wait=5", headers=own, timeout=10)
        answers += [
            requests.get(server.address + path, headers=headers_of(server), timeout=5).text
            for path in ("", "status", "history", "nowhere", "clients")
        ]
        assert post(server, "updates", data=update(), headers=binary).status_code == 202
        answers += [
            post(server, "updates", data=b"junk", headers=binary).text,
            post(server, "updates", data=b"junk").text,
            requests.get(server.address + "task?client=bob", headers=own, timeout=5).text,
            post(server, "clients?token=" + token, json=[]).text,
        ]
        server.federation.wait()
        seen = [
            *answers,
            repr(server),
            repr(server.url),
            repr(server.teacher),
            repr(server.app.extensions),
            repr(server.federation),
            str(list(server.wire)),
            server.history.to_json(),
            server.history.to_csv(),
        ]
        assert len(server.wire) >= 4
    # The test's own requests
    ours = [record for record in caplog.records if not record.name.startswith("urllib3")]
    said = "\n".join([*seen, *(record.getMessage() for record in ours)])
    for secret in (token, str(server.teacher), own["Authorization"].removeprefix("Bearer ")):
        assert secret not in said and secret.encode() not in path.read_bytes()


# ---- HTTP and simulation -------------------------------------------------------------------------


def test_over_http_and_in_one_process_one_seed_gives_the_same_weights_bit_for_bit(
    small, test_images
):
    data = {
        "alice": small.subset(np.arange(60)),
        "bob": small.subset(np.arange(60, 210)),
        "carol": small.subset(np.arange(210, 600)),
    }
    settings = {
        "rounds": 3,
        "fraction": 0.7,
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.1,
        "optimizer": "adam",
        "progress": False,
    }
    settings["learning_rate"] = 0.001
    simulated = []

    def noting(state, updates):
        simulated.append(fed_avg().aggregate(state, updates))
        return simulated[-1]

    expected = fedlab.simulate(
        data, test=test_images, seed=3, strategy=Strategy("noting", "", noting), **settings
    )
    with Server(test=test_images, seed=3) as server:
        for client in ("carol", "alice", "bob"):  # in another order
            fedlab.Client(server.url, client, data[client]).start()
        history = server.run(min_clients=3, **settings)
        assert bits(server.weights) == bits(simulated[-1].weights)
    assert [(r.accuracy, r.loss, sorted(r.clients)) for r in history] == [
        (r.accuracy, r.loss, sorted(r.clients)) for r in expected
    ]
    assert {size for r in history for size in (r.num_examples,)} <= {
        210,
        450,
        540,
    } and history.last.accuracy > 0.2


def test_the_checkpoint_of_a_run_over_http_is_the_global_model(tmp_path, small):
    path = tmp_path / "model.safetensors"
    with Server(checkpoint=path, test=small) as server:
        fedlab.Client(server.url, "alice", small.subset(np.arange(100))).start()
        server.run(rounds=2, progress=False, min_clients=1)
        weights = server.weights
    state, history = load_checkpoint(path)
    assert (
        bits(state.weights) == bits(weights)
        and [record.round for record in history] == [1, 2]
        and state.num_examples == 200
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"seed": 3}, "seed"),
        ({"strategy": fed_avg()}, "strategy"),
        ({"checkpoint": "c.safetensors"}, "checkpoint"),
        ({"limits": fedlab.Limits(), "model": object()}, "model, limits"),
    ],
)
def test_with_a_federation_of_ones_own_nothing_is_passed_over(given, named):
    with pytest.raises(Refused, match=f"got a federation and {named}; expected the federation"):
        Server(federation=Federation(toy(), fed_avg()), **given)


def test_a_federation_of_ones_own_decides_whether_the_originals_wire_goes_with_it():
    federation = Federation(toy(), async_average())
    with Server(federation=federation, original_protocol=original.Original()) as server:
        assert server.federation is federation


def test_two_servers_in_one_process_each_keep_their_own_task(monkeypatch):
    """Both clients of a server ask in turn with those of another: each task becomes bytes once."""
    packed = []
    pack = wire.pack
    monkeypatch.setattr(wire, "pack", lambda message: packed.append(1) or pack(message))
    federations = [Federation(toy(), fed_avg()) for _ in range(2)]
    clients = []
    for federation in federations:
        for name in ("a", "b", "c"):
            federation.join(name, 10)
        federation.start(Plan(1))
        app = create_app(federation, TOKEN, {"localhost"})
        clients.append((app.test_client(), app.extensions["fedlab"][2]))
    try:
        for name in ("a", "b", "c"):
            for client, access in clients:
                headers = {"Authorization": f"Bearer {access.enrol(name, '')}"}
                answer = client.get(f"/task?client={name}&wait=5", headers=headers)
                assert answer.status_code == 200
        assert len(packed) == 2
    finally:
        for federation in federations:
            federation.close(0)


def test_behind_a_proxy_that_puts_a_path_before_it(small):
    """A reverse proxy that serves http://host/lab/8642/ from the server's /, as Jupyter's does:
    a client joins and trains, and the page turns its token into a cookie and stays below the path.
    """
    with Server(seed=1) as server, proxied(server.port, "/lab/8642") as base:
        token = server.url.split("token=")[1]
        client = fedlab.Client(f"{base}?token={token}", "alice", small).start()
        assert len(server.run(rounds=1, progress=False)) == 1
        client.stop()
        browser = requests.Session()
        answer = browser.get(f"{base}?token={token}")
        assert (answer.status_code, answer.url) == (200, base) and "<title>" in answer.text
        for address in re.findall(r'(?:src|href)="(pages/[^"]*)"', answer.text):
            assert browser.get(base + address).status_code == 200


@contextmanager
def proxied(port: int, prefix: str):
    """A proxy for this port of this machine; the address below which it serves it."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def forward(self):
            if not self.path.startswith(prefix + "/"):
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {k: v for k, v in self.headers.items() if k not in ("Host", "Connection")}
            answer = requests.request(
                self.command,
                f"http://127.0.0.1:{port}{self.path.removeprefix(prefix)}",
                data=body,
                headers={**kept, "Host": "127.0.0.1"},
                allow_redirects=False,
                timeout=30,
            )
            self.send_response(answer.status_code)
            for name in ("Content-Type", "Location", "Set-Cookie"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = forward

        def log_message(self, *_):
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}{prefix}/"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
