"""docs/protocol.md is true: its routes, kinds and fields are the code's, and its transcript is what
a real server says."""

import ast
import json
import re
import secrets
import threading
from pathlib import Path

import numpy as np
import pytest
import requests

import fedlab
from fedlab import original, wire
from fedlab.conformance.rules import FIELDS
from fedlab.http import app as http_app
from fedlab.http.access import ADMITTED, CLASS, CLIENT, LOOKER, NOBODY, TEACHER
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
    assert len(TEXT.splitlines()) <= 160


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
    for *_, answers in table("## Routes"):
        assert re.fullmatch(r"\d{3}(, \d{3})*", answers)


WHO = {
    "class, teacher, the client itself": {CLASS, TEACHER, CLIENT},
    "the client itself": {CLIENT},
    "the client itself, teacher": {CLIENT, TEACHER},
    "all": {TEACHER, CLASS, CLIENT, LOOKER},
    "no token": {NOBODY},
}


def test_who_may_ask_is_what_the_server_goes_by():
    federation = fedlab.Federation(WEIGHTS, fedlab.async_average())
    app = create_app(federation, "a-token", original_protocol=original.Original())
    endpoints = {
        f"{method} {rule.rule}": rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    for route, who, *_ in table("## Routes"):
        endpoint = endpoints[names(route)[0]]
        page = {NOBODY} if endpoint == "page" else set()  # it says by itself what it lacks
        assert ADMITTED[endpoint] == WHO[who] | page, route


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
    files = [file for room in ("http", "serving") for file in (ROOT / "fedlab" / room).glob("*.py")]
    for file in files:
        source = file.read_text("utf-8")
        found |= {kind: int(n) for n, kind in re.findall(r'Denied\((\d+), "(\w+)"', source)}
        found |= {
            kind: int(n) for n, kind in re.findall(r'(?:failure|failed)\((\d+), "(\w+)"', source)
        }
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


LINE = re.compile(r"^([<>]) (.*?)(?:   +(.*))?$", re.MULTILINE)


def transcript() -> list[tuple[str, str, str]]:
    """(what is said, what the page remarks on it, what is heard)."""
    lines = LINE.findall(TEXT.split("## A round", 1)[1])
    asked = [(said, remark) for mark, said, remark in lines if mark == ">"]
    heard = [said for mark, said, _ in lines if mark == "<"]
    assert len(asked) == len(heard) == 14
    return [(*both, said) for both, said in zip(asked, heard, strict=True)]


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

    def leave(self):
        for name in ("bob", "carol"):
            self.federation.leave(name)


class Talk:
    """One server, as one client after the other speaks with it."""

    def __init__(self, token=None):
        self.token = token or secrets.token_urlsafe(24)
        self.begin()

    def begin(self):
        """A server like this one; the same token, and it knows nobody."""
        federation = fedlab.Federation([w.copy() for w in WEIGHTS], fedlab.fed_avg())
        self.server = fedlab.Server(federation=federation, linger=0, token=self.token)
        self.others = Others(federation)

    def ask(self, method, path, token, **content):
        headers = {**content.pop("headers", {}), "Authorization": f"Bearer {token}"}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.server.address[:-1] + path,
                timeout=20,
                headers=headers,
                **content,
            )

    def own(self, client):
        """A client's own token, as joining would answer it."""
        return self.server.app.extensions["fedlab"][2].enrol(client, "")  # as which `Others` joined


@pytest.fixture
def talk():
    talk = Talk()
    yield talk
    talk.server.close()


def test_the_transcript_is_what_a_server_says(talk):
    closing, own, tokens = None, "", {}
    for said, remark, heard in transcript():
        method, path, *rest = said.split(" ", 2)
        content, token = {}, own
        if path == "/clients":
            content, token = {"json": json.loads(rest[0])}, talk.token
        elif path == "/updates":
            number = int(re.fullmatch(r"update: round (\d+)", rest[0])[1])
            run = talk.server.federation.state.progress.run
            body = wire.encode_update(Update("ada", number, 100, WEIGHTS, run=run))
            content = {"data": body, "headers": {"Content-Type": wire.CONTENT_TYPE}}
        if remark == "with the class's token":
            token = talk.token
        if remark == "the server was restarted":
            talk.server.close()
            talk.begin()
        if heard == "200 task: round 1":
            talk.server.start(rounds=2)
        elif heard == "200 task: round 2":
            talk.others.answer()
        elif heard == "410 run_over":
            talk.others.leave()
            closing = threading.Thread(target=talk.server.close, args=(5,))
            closing.start()
        answer = talk.ask(method, path, token, **content)
        status, _, words = heard.partition(" ")
        assert answer.status_code == int(status), (said, answer.text)
        if words.startswith("{"):
            told, real = json.loads(words), answer.json()
            if "token" in told:
                own = real.pop("token")
                assert tokens.setdefault(told.pop("token"), own) == own
            assert real == told
        elif words.startswith("task"):
            assert f"task: round {wire.decode_task(answer.content).round}" == words
        elif words:
            assert answer.json()["kind"] == words
    assert len(set(tokens.values())) == len(tokens) == 2
    closing.join(10)


UPDATE = {"headers": {"Content-Type": wire.CONTENT_TYPE}}
JOIN = {"json": {"client": "zoe", "num_examples": 1, "session": "of zoe"}}


@pytest.mark.parametrize(
    ("route", "content", "good", "answer"),
    [
        ("GET /task?client=bob", {}, ["bob"], 200),
        ("POST /updates", UPDATE, ["bob"], 202),
        ("DELETE /clients/bob", {}, ["bob", "teacher"], 204),
        ("POST /clients", JOIN, ["class", "teacher"], 201),
        ("GET /status", {}, ["class", "teacher", "bob", "carol"], 200),
    ],
)
def test_who_has_which_token_may_do_what_the_page_says(talk, route, content, good, answer):
    """Each of the tokens, from the worst to the one that is right."""
    talk.server.start(rounds=1)
    task = talk.server.federation.task("bob", wait=5)
    if content is UPDATE:
        update = Update("bob", task.round, 100, WEIGHTS, run=task.run)
        content = {**UPDATE, "data": wire.encode_update(update)}
    tokens = {"class": talk.token, "teacher": talk.server.teacher, "nobody": "a-guess"}
    tokens |= {name: talk.own(name) for name in ("bob", "carol")}
    for whose in [name for name in tokens if name not in good]:
        refused = talk.ask(*route.split(" "), tokens[whose], **content)
        said = refused.status_code, refused.json()["kind"]
        assert said == ((401, "token") if whose == "nobody" else (403, "not_yours")), whose
        assert refused.headers["Connection"] == "close"
    for whose in good if answer in (200, 201) else good[-1:]:
        assert talk.ask(*route.split(" "), tokens[whose], **content).status_code == answer


def test_a_name_that_was_banned_is_free_for_nobody(talk):
    path = "/clients/bob?ban=1"
    assert talk.ask("DELETE", path, talk.server.teacher).status_code == 204
    join = {"json": {"client": "bob", "num_examples": 1}}
    answer = talk.ask("POST", "/clients", talk.token, **join)
    assert (answer.status_code, answer.json()["kind"]) == (403, "banned")


def test_a_join_without_a_session_cannot_be_repeated(talk):
    join = {"json": {"client": "zoe", "num_examples": 1}}
    assert talk.ask("POST", "/clients", talk.token, **join).status_code == 201
    assert talk.ask("POST", "/clients", talk.token, **join).status_code == 409


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
def test_a_route_answers_as_its_row_says(talk, route, content, status):
    method, path = route.split(" ")
    token = talk.token
    if path.startswith(("/task", "/updates")):
        token = talk.own("nobody" if "nobody" in path else "bob")
    elif method == "DELETE":
        token = talk.server.teacher
    answer = talk.ask(method, path, token, **content)
    assert answer.status_code == status
    own = re.sub(r"^(/clients|/pages)/.*", r"\1/<", path.split("?")[0])
    rows = {names(row[0])[0]: row[3] for row in table("## Routes")}
    (told,) = [
        statuses
        for name, statuses in rows.items()
        if name == f"{method} {own}" or (own[-1] == "<" and name.startswith(f"{method} {own}"))
    ]
    assert str(status) in told
    if status >= 400:
        assert set(answer.json()) == {"error", "kind"} and answer.json()["kind"] in kinds()
