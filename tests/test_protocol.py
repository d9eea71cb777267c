"""docs/protocol.md is true: its routes, kinds and fields are the code's, and its transcript is what
a real server says."""

import ast
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import requests

import fedlab
from fedlab import original, wire
from fedlab.conformance.rules import FIELDS
from fedlab.http import app as http_app
from fedlab.http.app import create_app
from fedlab.http.routes import LONGEST_WAIT
from fedlab.messages import Task, Training, Update

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
WEIGHTS = [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table after a line that begins so, without its head."""
    after = TEXT.split(f"\n{heading}", 1)[1]
    rows = re.search(r"^\|(?:.*\n\|)*.*$", after, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_it_is_two_pages():
    assert len(TEXT.splitlines()) <= 130


def test_the_routes_are_those_of_the_server():
    federation = fedlab.Federation(WEIGHTS, fedlab.async_average())
    rules = create_app(
        federation, "a-token", original_protocol=original.Original()
    ).url_map.iter_rules()
    real = {
        f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    told = [names(row[0]) for row in table("## Routes")]
    assert sorted(route for (route,) in told) == sorted(real)
    for _, _, answers in table("## Routes"):
        assert re.fullmatch(r"\d{3}(, \d{3})*", answers)


def kinds() -> dict[str, int]:
    """Every kind that a server may send, with its status."""
    found = {"http": 400}
    tree = ast.parse((ROOT / "fedlab" / "messages.py").read_text("utf-8"))
    refusals = {"Refused", "BadUpdate", "Conflict", "RunOver"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and {b.id for b in node.bases} & refusals:
            kind = getattr(fedlab, node.name).kind
            found[kind] = http_app.STATUS.get(kind, 400)
    found[fedlab.Refused.kind] = 400
    found |= {kind: status for status, kind in http_app.KINDS.items()}
    for file in (ROOT / "fedlab" / "http").glob("*.py"):
        source = file.read_text("utf-8")
        found |= {kind: int(n) for n, kind in re.findall(r'Denied\((\d+), "(\w+)"', source)}
        found |= {kind: int(n) for n, kind in re.findall(r'failure\((\d+), "(\w+)"', source)}
    return found


def test_the_kinds_and_their_statuses_are_those_of_the_server():
    told = {names(row[0])[0]: int(row[1]) for row in table("## Errors")}
    assert told == kinds()


def test_the_texts_of_messages_are_those_of_the_wire():
    task = wire.task_parts(Task(1, 2, WEIGHTS, Training()))
    update = wire.update_parts(Update("ada", 1, 100, WEIGHTS))
    for heading, texts in (("**A task**", task.texts), ("**An update**", update.texts)):
        told = [name for row in table(heading) for name in names(row[0])]
        assert sorted(told) == sorted(texts), heading
        assert f"`{texts['kind']}`" in table(heading)[0][1]
    assert set(update.texts) == FIELDS
    assert f"`{wire.parts([], kind='model').texts['kind']}`" in TEXT


def test_the_numbers_are_those_of_the_code():
    assert f"at most {LONGEST_WAIT:g})" in TEXT and f"At most {wire.MAX_HEADER:,} bytes" in TEXT
    assert wire.CONTENT_TYPE in TEXT
    body = wire.encode_task(Task(1, 2, WEIGHTS, Training(batch_size=None)))
    n = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + n])
    texts = header.pop("__metadata__")
    assert texts["batch_size"] == "all" and all(isinstance(text, str) for text in texts.values())
    assert header["0000"] == {"dtype": "F32", "shape": [784, 10], "data_offsets": [0, 31_360]}
    assert len(body) == 8 + n + 31_400
    shapes = re.findall(r"(?:kernel|bias) \(([\d, ]+)\)", TEXT)
    told = [tuple(int(n) for n in shape.split(",")) for shape in shapes]
    assert told == [w.shape for w in fedlab.Classifier().weights]


LINE = re.compile(r"^([<>]) (.*?)(?:   +.*)?$", re.MULTILINE)


def transcript() -> list[tuple[str, str]]:
    """(what is said, what is heard)."""
    lines = LINE.findall(TEXT.split("## A round", 1)[1])
    asked = [said for mark, said in lines if mark == ">"]
    heard = [said for mark, said in lines if mark == "<"]
    assert len(asked) == len(heard) == 11
    return list(zip(asked, heard, strict=True))


class Others:
    """The two who take part meanwhile: they answer when they are told to."""

    def __init__(self, federation):
        self.federation = federation
        for name in ("bob", "carol"):
            federation.join(name, 100)

    def answer(self):
        for name in ("bob", "carol"):
            task = self.federation.task(name, wait=5)
            self.federation.report(Update(name, task.round, 100, task.weights, run=task.run))


@pytest.fixture
def server():
    weights = [w.copy() for w in WEIGHTS]
    federation = fedlab.Federation(weights, fedlab.fed_avg())
    with fedlab.Server(federation=federation, linger=0) as server, requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "Bearer " + server.url.split("token=")[1]
        server.ask = lambda method, path, **content: session.request(
            method, server.address[:-1] + path, timeout=20, **content
        )
        yield server


def test_the_transcript_is_what_a_server_says(server):
    others, closing = Others(server.federation), None
    for said, heard in transcript():
        method, path, *rest = said.split(" ", 2)
        content = {}
        if path == "/clients":
            content = {"json": json.loads(rest[0])}
        elif path == "/updates":
            number = int(re.fullmatch(r"update: round (\d+)", rest[0])[1])
            run = server.federation.state.progress.run
            body = wire.encode_update(Update("ada", number, 100, WEIGHTS, run=run))
            content = {"data": body, "headers": {"Content-Type": wire.CONTENT_TYPE}}
        if heard == "200 task: round 1":
            server.start(rounds=2)
        elif heard == "200 task: round 2":
            others.answer()
        elif heard == "410 run_over":
            for name in ("bob", "carol"):
                server.federation.leave(name)
            closing = threading.Thread(target=server.close, args=(5,))
            closing.start()
        answer = server.ask(method, path, **content)
        status, _, words = heard.partition(" ")
        assert answer.status_code == int(status), (said, answer.text)
        if words.startswith("{"):
            assert answer.json() == json.loads(words)
        elif words.startswith("task"):
            assert f"task: round {wire.decode_task(answer.content).round}" == words
        elif words:
            assert answer.json()["kind"] == words
    closing.join(10)


def test_who_has_the_token_may_send_as_anyone(server):
    """As the page says of today's token."""
    Others(server.federation)
    server.start(rounds=1)
    run = server.federation.task("bob", wait=5).run
    body = wire.encode_update(Update("bob", 1, 100, WEIGHTS, run=run))
    headers = {"Content-Type": wire.CONTENT_TYPE}
    assert server.ask("POST", "/updates", data=body, headers=headers).status_code == 202
    assert server.ask("DELETE", "/clients/carol").status_code == 204


@pytest.mark.parametrize(
    ("route", "content", "status"),
    [
        ("POST /clients", {"data": b"x"}, 415),
        ("POST /clients", {"json": {"client": "ada" * 5_000, "num_examples": 1}}, 413),
        ("POST /clients", {"json": {"client": "ada"}}, 400),
        ("GET /task?client=nobody", {}, 404),
        ("GET /task?client=bob&wait=x", {}, 400),
        ("POST /updates", {"data": b"x"}, 415),
        ("DELETE /clients/nobody", {}, 404),
        ("GET /model", {}, 200),
        ("GET /status", {}, 200),
        ("GET /history?after=x", {}, 400),
        ("GET /requests?after=0", {}, 200),
        ("GET /pages/nothing", {}, 404),
        ("GET /?token=wrong", {}, 401),
    ],
)
def test_a_route_answers_as_its_row_says(server, route, content, status):
    method, path = route.split(" ")
    answer = server.ask(method, path, **content)
    assert answer.status_code == status
    own = re.sub(r"^(/clients|/pages)/.*", r"\1/<", path.split("?")[0])
    rows = {names(row[0])[0]: row[2] for row in table("## Routes")}
    (told,) = [
        statuses
        for name, statuses in rows.items()
        if name == f"{method} {own}" or (own[-1] == "<" and name.startswith(f"{method} {own}"))
    ]
    assert str(status) in told
    if status >= 400:
        assert set(answer.json()) == {"error", "kind"} and answer.json()["kind"] in kinds()
