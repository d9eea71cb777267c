"""What a class is answered over HTTP: every route, by every kind of somebody; coming in, and all
that may be wrong with it.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from live_class import Phone, bearer, phones
from test_server import METHODS

from fedlab.classroom import routes
from fedlab.classroom.codes import A_MINUTE, A_SECOND, Tries
from fedlab.classroom.names import given
from fedlab.http.app import SMALL
from fedlab.http.app import STATUS as OF_EVERY_SERVER

EVERYBODY = {
    ("GET", "/J"): 303,
    ("GET", "/j"): 303,
    ("GET", "/J/"): 200,
    ("GET", "/j/"): 200,
    ("GET", "/J/<code>"): 200,
    ("GET", "/j/<code>"): 200,
    ("GET", "/phone/<name>"): 200,
    ("POST", "/students"): 201,
}
"""By hand: what is answered to whomever."""
STUDENTS = ("POST", "/students/me")


def sentence(answer, status: int, kind: str) -> str:
    """The error of an answer: JSON with a sentence and a kind, and no secret in it."""
    assert (answer.status_code, answer.json and answer.json["kind"]) == (status, kind), answer.text
    assert sorted(answer.json) == ["error", "kind"]
    said = answer.json["error"]
    assert "\n" not in said and 10 < len(said) < 700
    return said


def snapshot(live) -> tuple:
    """All that a request could have changed."""
    roster = live._roster
    return (
        repr([(vars(s) | {"seen": 0}) for s in roster.all()]),
        repr((roster._by_session, sorted(roster._removed), sorted(roster._banned))),
        sorted(live._access._tokens),
        [(m.client, m.num_examples) for m in live.federation.status().members],
    )


def gone(live, ban: bool) -> str:
    """The token of one whom the teacher has removed."""
    phone = Phone(live, "the session of one that goes").enrol().join()
    live.remove(phone.client, ban)
    return phone.token


# Headers, and what is in the query.
KINDS = {
    "none": lambda live: ({}, ""),
    "wrong": lambda live: (bearer("wrong"), ""),
    "empty": lambda live: (bearer(""), ""),
    "the code": lambda live: (bearer(live.code), ""),
    "a student": lambda live: (bearer(Phone(live).enrol().token), ""),
    "a student's, another scheme": lambda live: (
        {"Authorization": f"Basic {Phone(live).enrol().token}"},
        "",
    ),
    "removed": lambda live: (bearer(gone(live, ban=False)), ""),
    "banned": lambda live: (bearer(gone(live, ban=True)), ""),
    "class": lambda live: (bearer(live.server._token), ""),
    "teacher": lambda live: (bearer(live.server.teacher), ""),
    "looker": lambda live: ({"Cookie": f"fedlab-localhost={live._access.looker}"}, ""),
    "a student's, in a cookie": lambda live: (
        {"Cookie": f"fedlab-localhost={Phone(live).enrol().token}"},
        "",
    ),
    "a student's, in the query": lambda live: ({}, f"?token={Phone(live).enrol().token}"),
    "class, in the query": lambda live: ({}, f"?token={live.server._token}"),
    "non-ASCII": lambda live: (bearer("tökén-\xff"), ""),
    "non-ASCII, in the query": lambda live: ({}, "?token=t%C3%B6k%ED%A0%80n"),
}


def request(live, method: str, path: str, headers, query: str, session: str = "a new session"):
    path = path.replace("<code>", "k7qxm").replace("<name>", "handwriting.js")
    fields = {"code": live.code, "session": session} if path == "/students" else {"doing": "ready"}
    body = {"data": json.dumps(fields), "content_type": "application/json"}
    http = live.server.app.test_client(use_cookies=False)
    return http.open(
        path + query, method=method, headers=headers, **(body if method == "POST" else {})
    )


def test_the_table_names_every_route(shared):
    app = shared.server.app
    added = [r for r in app.url_map.iter_rules() if r.endpoint in routes.ClassRoutes.admitted]
    found = {(m, r.rule) for r in added for m in r.methods - {"HEAD", "OPTIONS"}}
    assert found == {*EVERYBODY, STUDENTS}
    assert {r.endpoint for r in added} == set(routes.ClassRoutes.admitted)


def test_the_page_in_docs_names_every_route_kind_and_field(live):
    """docs/classroom.md is true."""
    page = (Path(__file__).parents[1] / "docs" / "classroom.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {name for row in rows if " /" in row[0] for name in re.findall(r"(/\S*?)`", row[0])}
    assert told >= {path for _, path in [*EVERYBODY, STUDENTS] if not path.startswith("/j/")}
    kinds = {row[0].strip("| `"): int(row[1]) for row in rows if " /" not in row[0]}
    every = {**OF_EVERY_SERVER, "token": 401}
    assert kinds == routes.STATUS | {kind: every[kind] for kind in ("banned", "full", "token")}
    came = Phone(live).enrol()
    heard = live.tell(came.client, {})
    asked = {"code", "session", "kind", "name", "again", "doing", "drawn", "measured", "token"}
    for field in {*heard, *live.enrol({"code": live.code, "session": came.session}, ""), *asked}:
        assert f"`{field}`" in page or f'"{field}"' in page, field


@pytest.mark.parametrize("kind", KINDS)
def test_whom_every_route_lets_in(live, kind):
    headers, query = KINDS[kind](live)
    if kind == "a student":
        assert request(live, *STUDENTS, headers, query).status_code == 200
    else:
        before = snapshot(live)
        right = (403, "not_yours") if kind in ("class", "teacher") else (401, "token")
        answer = request(live, *STUDENTS, headers, query)
        sentence(answer, *right)
        assert answer.headers["Connection"] == "close"
        secret = {live.server._token, live.server.teacher, live._access.looker, live.code}
        assert not any(text in answer.text for text in secret) and snapshot(live) == before
    for (method, path), status in EVERYBODY.items():
        answer = request(live, method, path, headers, query, session=f"session of {kind}")
        assert answer.status_code == status, (path, answer.text)
        assert not any(name.startswith("Access-Control") for name, _ in answer.headers)
        assert "Set-Cookie" not in answer.headers


def test_who_has_joined_without_coming_in_is_no_student(live):
    """With the class's token, as `fedlab client` does."""
    http = live.server.app.test_client(use_cookies=False)
    fields = {"client": "ada", "num_examples": 5}
    answer = http.post("/clients", json=fields, headers=bearer(live.server._token))
    headers = bearer(answer.json["token"])
    said = sentence(http.post("/students/me", json={}, headers=headers), 401, "token")
    assert said == "you are not in the class; expected you to come in"
    assert live.students() == []


def test_no_other_method_and_no_other_host(live):
    student = Phone(live).enrol()
    before = snapshot(live)
    http = live.server.app.test_client(use_cookies=False)
    for (method, path), other in ((route, m) for route in (*EVERYBODY, STUDENTS) for m in METHODS):
        path = path.replace("<code>", "k7qxm").replace("<name>", "handwriting.js")
        about = {"json": student.fields, "headers": bearer(student.token)}
        if other not in (method, "HEAD", "OPTIONS"):
            answer = http.open(path, method=other, **about)
            assert answer.status_code in (401, 405), (other, path)
        for host in ("evil.example", "evil.example:8642", "192.168.1.20", "0.0.0.0", ""):
            answer = http.open(path, method=method, environ_overrides={"HTTP_HOST": host}, **about)
            assert answer.status_code in (400, 403), (host, path)
    assert snapshot(live) == before


# ---- pages ---------------------------------------------------------------------------------------


def test_the_page_is_the_same_with_any_code_and_leaks_nothing(shared):
    http = shared.server.app.test_client(use_cookies=False)
    paths = (
        "/J/",
        "/j/",
        f"/J/{shared.code}",
        f"/j/{shared.code.lower()}",
        "/J/WRONG",
        "/J/%3Cb%3E",
    )
    answers = [http.get(path) for path in paths]
    assert len({answer.data for answer in answers}) == 1
    assert len({str(sorted(a.headers.items())) for a in answers}) == 1
    headers = answers[0].headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert shared.code not in answers[0].text


def test_its_policy_lets_nothing_in_from_elsewhere(shared):
    http = shared.server.app.test_client(use_cookies=False)
    for path in ("/J/", "/J/K7QXM", "/phone/train.js", "/phone/handwriting.js"):
        said = http.get(path).headers["Content-Security-Policy"]
        policy = dict(part.split(" ", 1) for part in said.split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
            "worker-src": "'self'", "connect-src": "'self'", "img-src": "'self' data:",
            "base-uri": "'none'", "form-action": "'none'",
        }  # fmt: skip


def test_without_a_slash_one_is_led_on_by_a_relative_address(shared):
    """A proxy may have put a path before it."""
    http = shared.server.app.test_client(use_cookies=False)
    for path in ("/J", "/j"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (303, "J/")


def test_the_root_leads_who_has_no_token_to_the_class(live):
    http = live.server.app.test_client(use_cookies=False)
    for headers in ({}, bearer("wrong"), {"Cookie": "fedlab-localhost=wrong"}):
        answer = http.get("/", headers=headers)
        assert (answer.status_code, answer.headers["Location"]) == (303, "J/")
    for token in (live.server._token, live.server.teacher, Phone(live).enrol().token):
        assert http.get("/", headers=bearer(token)).status_code == 200
    sentence(http.get("/?token=wrong"), 401, "token")
    answer = http.get(f"/?token={live.server._token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "./")


def test_every_file_that_a_page_names_is_served(shared):
    http = shared.server.app.test_client(use_cookies=False)
    page = http.get("/J/").text
    named = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', page))
    named.discard("data:,")  # no icon is asked for
    assert named and all(name.startswith("../phone/") for name in named), named
    files = {file.name for file in routes.PAGES.iterdir() if file.suffix in routes.TYPES}
    for name in files | set(routes.SHARED_FILES) | {n.rpartition("/")[2] for n in named}:
        answer = http.get(f"/phone/{name}")
        assert answer.status_code == 200 and answer.data, name
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    ["index.html", "nothing.js", "page.js", "__init__.py", "..", "../routes.py", "..%2Froutes.py",
     "..%5Croutes.py", "%2e%2e/routes.py", "/etc/passwd", "%2Fetc%2Fpasswd", "phone.css/",
     "phone.css%00", "PHONE.CSS", "", "http://evil.example/x.js", "%ED%A0%80.js"],
)  # fmt: skip
def test_nothing_else_is_served(shared, name):
    answer = shared.server.app.test_client(use_cookies=False).get(f"/phone/{name}")
    assert answer.status_code == 404 and answer.json["kind"] == "not_found", answer.status_code


def test_what_lies_about_in_the_folder_is_not_served(make_class, monkeypatch, tmp_path):
    for name in ("index.html", "phone.js", "phone.js~", ".phone.js.swp", "notes.txt", "key.pem"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(routes, "PAGES", tmp_path)
    http = make_class().server.app.test_client(use_cookies=False)
    found = {f.name: http.get(f"/phone/{f.name}").status_code for f in tmp_path.iterdir()}
    assert [name for name, status in found.items() if status == 200] == ["phone.js"]
    assert set(found.values()) == {200, 404}


def test_who_has_opened_the_page_is_counted(live):
    assert live.visits() == (0, None)
    Phone(live, address="10.0.0.1").call("GET", "/J/K7QXM")
    Phone(live, address="10.0.0.1").call("GET", "/phone/phone.css")
    Phone(live, address="10.0.0.2").call("GET", "/j/")
    count, seconds = live.visits()
    assert count == 2 and 0 <= seconds < 60
    for number in range(1_100):
        live.seen(f"address {number}")
    assert live.visits()[0] == 1_000


def test_what_is_asked_again_and_again_is_not_recorded(live):
    Phone(live).enrol().tell()
    Phone(live).call("GET", "/J/")
    assert list(live.server.wire) == []


# ---- coming in -----------------------------------------------------------------------------------


def test_coming_in(live):
    answer = Phone(live, "a session of mine").ask(code=f" {live.code.lower()} ")
    assert answer.status_code == 201
    assert sorted(answer.json) == ["class", "client", "seed", "token"]
    assert answer.json["client"] == given("a session of mine", ())
    assert answer.json["class"] == live.code and 0 <= answer.json["seed"] < 2**32
    assert len(answer.json["token"]) >= 32
    (student,) = live.students()
    assert (student.client, student.kind) == (answer.json["client"], "phone")


def test_a_reload_is_the_same_student_with_a_token_that_holds(live):
    phone = Phone(live, name="Anna").enrol()
    token = phone.token
    live.approve(phone.client)
    phone.enrol()
    assert phone.token == token and len(live.students()) == 1
    assert phone.tell() | {"name": "Anna", "approved": True} == phone.tell()
    # In two tabs, and with another code that is read the same
    assert Phone(live, phone.session).enrol(code=f"{live.code[:2]}-{live.code[2:]}").token == token


def test_two_sessions_are_two_students_even_of_one_machine(live):
    one, two = Phone(live, "session one").enrol(), Phone(live, "session two").enrol()
    assert one.client != two.client and one.token != two.token
    one.tell(name="Anna", drawn={"train": 24, "held_out": 6, "labels": 10})
    assert two.tell()["name"] == "" and live.students()[1].drawn == (0, 0, 0)


def test_a_server_that_takes_anothers_place_with_the_same_code_keeps_the_names(make_class):
    first = make_class(code="K7QXM")
    before = {p.session: (p.client, p.token) for p in phones(first, 5)}
    first.close()
    second = make_class(code="k7qxm")
    assert second.code == "K7QXM"
    for session in reversed(before):
        phone = Phone(second, session)
        sentence(phone.call("POST", "/students/me", {}, token=before[session][1]), 401, "token")
        phone.enrol().join()
        assert phone.client == before[session][0] and phone.token != before[session][1]


BAD = [
    *[{"session": s} for s in (None, "", "short", 7, ["a session of a list"], {}, "x" * 101)],
    *[{"kind": k} for k in (None, "", "teacher", 1, ["phone"])],
    *[{"code": c, "is": (403, "code")} for c in
      (None, "", "WRONG", 12345, True, ["K7QXM"], {"a": 1}, "\ud800", "K" * 5_000, "<b>",
       "ＫＫＫＫＫ")],
    *[{"name": n, "is": (400, "name")} for n in
      ("fuck", "f.u.c.k", "x" * 21, "\u202eannA", "An\u200bna", "\u1160", "An\x1b[2Jna",
       "<b>Anna</b>", 7, True, ["Anna"], {"a": 1}, "\ud800")],
    {"name": "Ánnà", "is": (409, "name_taken")},
    {"name": "Ａnna", "is": (409, "name_taken")},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:50].encode("ascii", "replace"))
def test_what_is_wrong_with_coming_in_is_a_sentence_and_nothing_changed(shared, bad):
    Phone(shared, "the session of Anna", name="Anna").enrol()
    shared._tries = Tries()  # nobody waits
    before = snapshot(shared)
    fields = {name: value for name, value in bad.items() if name != "is"}
    sentence(Phone(shared).ask(**fields), *bad.get("is", (400, "refused")))
    assert snapshot(shared) == before


BODIES = [b"", b"null", b"[]", b'"K7QXM"', b"5", b"{", b"{}" * 2, b"\xff\xfe", b"[" * 9_000,
          b'{"code": ' + b"9" * 5_000 + b"}", b"<html>", b"code=K7QXM"]  # fmt: skip


@pytest.mark.parametrize("path", ["/students", "/students/me"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:12]))
def test_what_is_no_json_object_is_said(shared, path, body):
    phone = Phone(shared).enrol()
    before = snapshot(shared)
    sentence(phone.call("POST", path, body, "application/json"), 400, "bad_update")
    for kind in (None, "text/plain", "application/x-www-form-urlencoded"):
        sentence(phone.call("POST", path, body, kind), 415, "media_type")
    assert snapshot(shared) == before


def test_a_body_that_is_too_large(shared):
    phone = Phone(shared).enrol()
    for path in ("/students", "/students/me"):
        body = json.dumps(phone.fields | {"more": "x" * SMALL})
        sentence(phone.call("POST", path, body, "application/json"), 413, "too_large")


def test_another_class_is_another_code(make_class):
    one, two = make_class(), make_class()
    assert one.code != two.code
    sentence(Phone(one).ask(code=two.code), 403, "code")
    token = Phone(one).enrol().token
    sentence(Phone(two).call("POST", "/students/me", {}, token=token), 401, "token")


def test_the_sentence_about_a_wrong_code_does_not_say_the_right_one(shared):
    said = sentence(Phone(shared).ask(code="WRONG"), 403, "code")
    assert "the code 'WRONG' is not this class's" in said and shared.code not in said


# ---- guessing ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The class's own time."""
    now = [1_000.0]
    monkeypatch.setattr("fedlab.classroom.live.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_ten_wrong_codes_a_minute_from_one_address(live, clock):
    guess = Phone(live, address="10.0.0.66")
    for _ in range(A_MINUTE):
        sentence(guess.ask(code="WRONG"), 403, "code")
        clock[0] += 2
    for code in ("WRONG", live.code):  # then none is looked at
        said = sentence(guess.ask(code=code), 429, "tries")
        assert said == "too many wrong codes from here; expected you to wait a minute"
    assert Phone(live, address="10.0.0.7").ask().status_code == 201, "another address is not meant"
    clock[0] += 41
    assert guess.ask().status_code == 201


def test_who_is_in_comes_back_while_its_neighbours_guess(live, clock):
    """Behind one router, or a proxy, all have one address."""
    phone = Phone(live).enrol()
    for _ in range(A_MINUTE):
        Phone(live).ask(code="WRONG")
    for session in ("a session of another", None, ["a session of a list"], {}):
        sentence(phone.ask(session=session), 429, "tries")
    assert phone.ask().status_code == 201
    clock[0] += 2
    sentence(phone.ask(code="WRONG"), 403, "code")
    live.remove(phone.client)
    sentence(phone.ask(again=True), 429, "tries")
    clock[0] += 61
    assert phone.ask(again=True).status_code == 201


def test_a_right_code_is_let_in_while_others_guess(live, clock):
    """From everywhere, ten a second and more: nobody keeps a class out by guessing."""
    for number in range(A_SECOND):
        sentence(Phone(live, address=f"10.0.1.{number}").ask(code="WRONG"), 403, "code")
    said = sentence(Phone(live, address="10.0.2.1").ask(code="WRONG"), 429, "tries")
    assert said == "many wrong codes come in just now; expected another try"
    assert Phone(live, address="10.0.2.2").ask().status_code == 201
    clock[0] += 1.1
    sentence(Phone(live, address="10.0.2.3").ask(code="WRONG"), 403, "code")


def test_while_many_guess_each_ones_tries_are_counted_all_the_same(live, clock):
    """Otherwise who sees to it that there are many could guess without end."""
    guess = Phone(live, address="10.0.0.66")
    for number in range(A_SECOND):
        Phone(live, address=f"10.0.1.{number}").ask(code="WRONG")
    for _ in range(A_MINUTE):
        sentence(guess.ask(code="WRONG"), 429, "tries")
    clock[0] += 5
    assert "from here" in sentence(guess.ask(), 429, "tries")


def test_with_a_right_code_nothing_is_counted(live, clock):
    phone = Phone(live)
    for _ in range(3 * A_MINUTE):
        assert phone.ask().status_code == 201
        sentence(phone.ask(session="short"), 400, "refused")
    assert len(live._tries._by_address) == 0


# ---- removed, banned, closed, full ---------------------------------------------------------------


def test_who_was_removed_hears_it_and_comes_back_when_it_asks(live):
    phone = Phone(live).enrol().join()
    live.remove(phone.client)
    for method, path, body in (
        ("POST", "/students/me", {}),
        ("GET", f"/task?client={phone.client}", None),
        ("POST", "/clients", {"client": phone.client, "num_examples": 5}),
        ("DELETE", f"/clients/{phone.client}", None),
        ("GET", "/status", None),
    ):
        sentence(phone.call(method, path, body), 401, "token")
    for again in ({}, {"again": False}, {"again": "true"}, {"again": 1}):
        said = sentence(phone.ask(**again), 403, "removed")
        assert said.startswith("your teacher has removed you")
    assert live.students() == [] and live.federation.status().members == []
    name = phone.client
    phone.enrol(again=True).join()
    assert phone.client == name and phone.tell()["students"] == 1
    assert phone.ask().status_code == 201


def test_who_is_banned_does_not_come_back(live):
    phone = Phone(live).enrol().join()
    live.remove(phone.client, ban=True)
    for again in (False, True):
        said = sentence(phone.ask(again=again), 403, "banned")
        assert said.startswith("your teacher has banned this device")
    sentence(phone.call("POST", "/students/me", {}), 401, "token")
    fields = {"client": phone.client, "num_examples": 5}
    sentence(phone.call("POST", "/clients", fields), 401, "token")
    assert live.students() == [] and live.federation.status().members == []


def test_whose_token_is_revoked_while_it_joins_gets_none(live, monkeypatch):
    """The teacher presses Remove between two steps of a join: it does not bring the token back."""
    phone = Phone(live).enrol()
    federation, join = live.federation, live.federation.join

    def slow(*of, **more):
        live.remove(phone.client, ban=True)
        join(*of, **more)

    monkeypatch.setattr(federation, "join", slow)
    fields = {"client": phone.client, "num_examples": 5}
    sentence(phone.call("POST", "/clients", fields), 401, "token")
    monkeypatch.undo()
    assert federation.status().members == []
    sentence(phone.call("GET", f"/task?client={phone.client}"), 401, "token")
    assert phone.client not in live._access._tokens


def test_who_is_removed_while_it_tells_is_told_to_come_in(live, monkeypatch):
    phone = Phone(live).enrol()
    tell = live.tell

    def slow(client, said):
        live.remove(client)
        return tell(client, said)

    monkeypatch.setattr(live, "tell", slow)
    sentence(phone.call("POST", "/students/me", {}), 401, "token")


def test_a_closed_door_and_a_full_class(make_class):
    live = make_class(students=2)
    one, two = Phone(live).enrol(), Phone(live).enrol()
    sentence(Phone(live).ask(), 409, "full")
    live.open = False
    sentence(Phone(live).ask(), 403, "closed")
    assert one.ask().status_code == 201 and two.tell()["students"] == 2
    live.remove(two.client)
    sentence(two.ask(again=True), 403, "closed")
    sentence(two.ask(), 403, "removed")
    live.open = True
    assert two.ask(again=True).status_code == 201


# ---- telling -------------------------------------------------------------------------------------


def test_what_a_student_hears(live):
    phone = Phone(live).enrol()
    drawn = {"train": 24, "held_out": 6, "labels": 10}
    told = phone.tell(doing="ready", drawn=drawn, name="Anna", measured=[])
    assert told.pop("lineage") == live.federation.state.lineage
    assert told == {
        "client": phone.client, "name": "Anna", "approved": False, "class": live.code,
        "phase": "waiting", "round": 0, "rounds": 0, "version": 0, "students": 1, "training": 0,
        "min_digits": 10, "target": 30, "shards": None, "class_accuracy": None, "half": False,
    }  # fmt: skip
    live.approve()
    assert phone.measure(0, 3, alone=2)["class_accuracy"] == 0.3
    assert phone.tell(doing="training")["training"] == 1
    laptop = Phone(live, kind="notebook").enrol()
    live.deal()
    assert laptop.tell()["shards"] == [1, 12] and phone.tell()["shards"] is None


def test_who_said_that_it_trains_and_is_gone_does_not_count(live, clock):
    one, two = Phone(live).enrol(), Phone(live).enrol()
    one.tell(doing="training")
    assert two.tell()["training"] == 1
    clock[0] += 60
    assert two.tell()["training"] == 0


def test_what_is_wrong_with_telling_changes_nothing(live):
    phone, other = Phone(live).enrol(name="Anna"), Phone(live).enrol(name="Ben")
    result = {"version": 0, "correct": 1, "total": 2}
    before = snapshot(live)
    for bad, is_ in (
        ({"doing": "flying"}, (400, "refused")),
        ({"drawn": {"train": 10**9}}, (400, "refused")),
        ({"measured": [result | {"version": 1}]}, (400, "refused")),
        ({"measured": [result | {"total": 1_000_000}]}, (400, "refused")),
        ({"measured": [result] * 21}, (400, "refused")),
        ({"name": "fuck"}, (400, "name")),
        ({"name": None}, (400, "name")),
        ({"name": "BEN"}, (409, "name_taken")),
        ({"name": other.client}, (409, "name_taken")),
    ):
        fields = {"doing": "ready", "measured": [result]} | bad
        sentence(phone.call("POST", "/students/me", fields), *is_)
        assert snapshot(live) == before, bad


def test_with_its_own_token_one_joins_under_its_own_name_alone(live):
    phone, other = Phone(live).enrol(), Phone(live).enrol()
    before = snapshot(live)
    for client in (other.client, "Anna", "", None, ["x"], phone.client.lower()):
        fields = {"client": client, "num_examples": 5, "session": other.session}
        sentence(phone.call("POST", "/clients", fields), 403, "not_yours")
    assert snapshot(live) == before
    # More digits: joined once more. Whatever session is said, it is its own
    phone.join(10).join(24)
    fields = {"client": phone.client, "num_examples": 30, "session": other.session}
    assert phone.call("POST", "/clients", fields).json["token"] == phone.token
    (member,) = live.federation.status().members
    assert (member.client, member.num_examples) == (phone.client, 30)
    assert phone.fetch(0).status_code == 204


def test_over_real_http_behind_the_gateway(live):
    """A body is let in by the headers alone, also of who has no token."""
    url = live.server.address
    fields = {"code": live.code, "session": "a session over HTTP"}
    with requests.Session() as http:
        answer = http.post(f"{url}students", json=fields, timeout=10)
        assert answer.status_code == 201
        token = answer.json()["token"]
        answer = http.post(f"{url}students/me", json={}, headers=bearer(token), timeout=10)
        assert answer.json()["client"] == live.students()[0].client
        assert http.post(f"{url}students/me", json={}, timeout=10).status_code == 401
        answer = http.get(f"{url}", timeout=10)
        assert answer.url == f"{url}J/" and answer.status_code == 200
        assert http.get(f"{url}J", timeout=10).url == f"{url}J/"
