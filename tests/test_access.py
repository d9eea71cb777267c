"""Who may do what: every route, as every kind of somebody; and how a client gets its own token."""

import json
from contextlib import contextmanager

import pytest
from test_server import COOKIE, TEACHER, TOKEN, Api, known_run, update  # noqa: F401

from fedlab import original, wire
from fedlab.http.access import ADMITTED, MOST_KEPT, NOBODY, Access, Identity
from fedlab.messages import Secret
from fedlab.plan import Plan
from fedlab.strategies import async_average, fed_avg

ORIGINAL = {"original_protocol": original.Original()}
KNOWN = {"class", "teacher", "alice herself", "bob", "removed", "banned", "looker"}
TABLE = {
    ("POST", "/clients"): {"class", "teacher"},
    ("DELETE", "/clients/<client>"): {"teacher", "alice herself"},
    ("GET", "/task"): {"alice herself"},
    ("POST", "/updates"): {"alice herself"},
    ("GET", "/model"): KNOWN,
    ("GET", "/status"): KNOWN,
    ("GET", "/history"): KNOWN,
    ("GET", "/requests"): KNOWN,
    ("GET", "/pages/<name>"): KNOWN,
    ("GET", "/"): KNOWN | {"class, in the query", "teacher, in the query"},
}
"""By hand: whom each route lets in. What it asks for is alice's: her task, her update, her
leaving."""

NO_TOKEN = {("POST", "/"), ("GET", "/?send=False&id=1")}
"""Where the original's clients are answered, whoever they are."""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def own(api: Api, client: str) -> dict[str, str]:
    return bearer(api.access.enrol(client, ""))


def gone(api: Api, client: str, ban: bool) -> dict[str, str]:
    """Of a client that the teacher has removed."""
    headers = own(api, client)
    if client in [member.client for member in api.federation.status().members]:
        answer = api.call("DELETE", f"/clients/{client}{'?ban=1' * ban}", token=TEACHER)
        assert answer.status_code == 204
    return headers


# Headers, and what is in the query.
KINDS = {
    "class": lambda api: (bearer(TOKEN), ""),
    "teacher": lambda api: (bearer(TEACHER), ""),
    "alice herself": lambda api: (own(api, "alice"), ""),
    "bob": lambda api: (own(api, "bob"), ""),
    "removed": lambda api: (gone(api, "carol", ban=False), ""),
    "banned": lambda api: (gone(api, "carol", ban=True), ""),
    "looker": lambda api: ({"Cookie": f"{COOKIE}={api.access.looker}"}, ""),
    "none": lambda api: ({}, ""),
    "wrong": lambda api: (bearer("wrong"), ""),
    "empty": lambda api: ({"Authorization": ""}, ""),
    "an empty token": lambda api: (bearer(""), ""),
    "of an earlier server": lambda api: (bearer(Access(TOKEN).enrol("alice", "")), ""),
    "an earlier server's teacher": lambda api: (bearer("the-secret-of-another"), ""),
    "another server's looker": lambda api: ({"Cookie": f"{COOKIE}={Access('another').looker}"}, ""),
    "twice in one header": lambda api: (bearer(f"{TOKEN}, Bearer {TOKEN}"), ""),
    "two headers": lambda api: (
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", own(api, "alice").popitem()[1])],
        "",
    ),
    "another scheme": lambda api: ({"Authorization": f"Basic {TEACHER}"}, ""),
    "class, in the query": lambda api: ({}, f"token={TOKEN}"),
    "teacher, in the query": lambda api: ({}, f"token={TEACHER}"),
    "own, in the query": lambda api: ({}, f"token={api.access.enrol('alice', '')}"),
    "class, in a cookie": lambda api: ({"Cookie": f"{COOKIE}={TOKEN}"}, ""),
    "teacher, in a cookie": lambda api: ({"Cookie": f"{COOKIE}={TEACHER}"}, ""),
    "own, in a cookie": lambda api: ({"Cookie": f"{COOKIE}={api.access.enrol('alice', '')}"}, ""),
    "the cookie, in a header": lambda api: (bearer(api.access.looker), ""),
    "non-ASCII": lambda api: (bearer("tökén-\xff"), ""),
    "non-ASCII, in the query": lambda api: ({}, "token=t%C3%B6k%ED%A0%80n"),
    "non-ASCII, in a cookie": lambda api: ({"Cookie": f"{COOKIE}=t\xf6ken"}, ""),
}


@contextmanager
def an_api(**settings):
    """A run of three clients, as the original's clients want it where they are served."""
    api = Api(async_average() if settings else fed_avg(), Plan(3), **settings)
    try:
        yield api
    finally:
        api.federation.close(grace=0)


def ask(api: Api, method: str, path: str, headers, query: str = ""):
    """The request that alice, or the teacher, could make of this route."""
    path = path.replace("<client>", "alice").replace("<name>", "page.js")
    query = "&".join(filter(None, [query, "client=alice" * (path == "/task")]))
    body, kind = None, None
    if path == "/clients":
        body, kind = json.dumps({"client": "dave", "num_examples": 5}), "application/json"
    elif path == "/updates":
        body, kind = update(), wire.CONTENT_TYPE
    elif (method, path) == ("POST", "/"):
        body, kind = "id=1&send=False", "application/x-www-form-urlencoded"
    path = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
    return api.http.open(path, method=method, data=body, content_type=kind, headers=headers)


@pytest.mark.parametrize("settings", [{}, ORIGINAL], ids=["", "original"])
def test_the_table_names_every_route(settings):
    with an_api(**settings) as api:
        rules = list(api.app.url_map.iter_rules())
    found = {(m, rule.rule) for rule in rules for m in rule.methods - {"HEAD", "OPTIONS"}}
    assert found == set(TABLE) | ({("POST", "/")} if settings else set())
    assert {rule.endpoint for rule in rules} <= set(ADMITTED)
    assert not settings or {rule.endpoint for rule in rules} == set(ADMITTED)


@pytest.mark.parametrize("settings", [{}, ORIGINAL], ids=["", "original"])
@pytest.mark.parametrize("kind", KINDS)
def test_whom_every_route_lets_in(kind, settings):
    """Who is not let in changes nothing, is told why in a sentence, and not waited for."""
    known = kind in KNOWN
    with an_api(**settings) as api:
        headers, query = KINDS[kind](api)
        refused = [route for route, admitted in TABLE.items() if kind not in admitted]
        before = api.snapshot()
        for method, path in refused:
            for asked in (method, "HEAD") if method == "GET" else (method,):
                answer = ask(api, asked, path, headers, query)
                # Where another may: 403. Who nobody knows is told how to be known: 401. A cookie
                # is no identity where something changes.
                right = (403, "not_yours") if known and kind != "looker" else (401, "token")
                assert answer.status_code == right[0], (asked, path, answer.text)
                assert answer.headers["Connection"] == "close"
                assert asked == "HEAD" or answer.json["kind"] == right[1]
                assert asked == "HEAD" or "expected" in answer.json["error"]
                secrets = [TOKEN, TEACHER, api.access.looker, api.access.enrol("alice", "")]
                assert not any(secret in answer.text for secret in secrets)
                assert api.snapshot() == before, (asked, path)
        # Its own leaving last
        for method, path in sorted(
            set(TABLE) - set(refused), key=lambda route: (route[0] == "DELETE", route)
        ):
            if path == "/updates" and settings:
                assert api.federation.task("alice", 5)
            answer = ask(api, method, path, headers, query)
            assert answer.status_code < 400, (method, path, answer.text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_originals_clients_have_no_token_and_need_none(kind):
    with an_api(**ORIGINAL) as api:
        headers, query = KINDS[kind](api)
        for method, path in NO_TOKEN:
            assert ask(api, method, path, headers, query).status_code == 200, (method, path)
    with an_api() as api:
        headers, query = KINDS[kind](api)
        before = api.snapshot()
        assert ask(api, "POST", "/", headers, query).status_code == 405
        assert "weights" not in ask(api, "GET", "/?send=False&id=1", headers, query).text
        assert api.snapshot() == before


def test_which_methods_there_are_is_no_more_than_that():
    """OPTIONS, of whomever: nothing but the methods, or a refusal."""
    with an_api() as api:
        before = api.snapshot()
        for kind, made in KINDS.items():
            headers, _ = made(api)
            before = api.snapshot() if kind in ("removed", "banned") else before
            for rule in {rule.rule for rule in api.app.url_map.iter_rules()}:
                answer = ask(api, "OPTIONS", rule, headers)
                assert answer.status_code in (200, 401, 403)
                assert answer.status_code != 200 or answer.data == b""
        assert api.snapshot() == before


@pytest.mark.parametrize("ban", [False, True])
def test_who_was_removed_hears_it(ban):
    """Its token is still known as its own: it is told what happened, not that it is nobody."""
    with an_api() as api:
        headers = gone(api, "carol", ban)
        before = api.snapshot()
        requests = [
            ("GET", "/task?client=carol", None),
            ("POST", "/updates", update("carol")),
            ("DELETE", "/clients/carol", None),
        ]
        for method, path, body in requests:
            answer = api.call(method, path, body, wire.CONTENT_TYPE, headers, token=None)
            assert (answer.status_code, answer.json["kind"]) == (410, "run_over"), path
            assert answer.json["error"] == "client 'carol' has left, or was removed"
        assert api.snapshot() == before
        fields = {"client": "carol", "num_examples": 600}
        answer = api.call("POST", "/clients", fields, token=TOKEN)
        if not ban:
            assert answer.status_code == 201
            return
        assert (answer.status_code, answer.json["kind"]) == (403, "banned")
        assert "'carol' may not take part; expected another" in answer.json["error"]
        fields["client"] = "CAROL"
        assert api.call("POST", "/clients", fields, token=TOKEN).status_code == 403
        assert api.snapshot() == before
        # Nor with the token that it still has
        assert api.call("POST", "/clients", fields, token=headers["Authorization"][7:]).json[
            "kind"
        ] == ("not_yours")


@pytest.mark.parametrize("query", ["ban=0", "ban=", "ban=true", ""])
def test_a_ban_is_asked_for_in_so_many_words(query):
    with an_api() as api:
        assert api.call("DELETE", f"/clients/carol?{query}", token=TEACHER).status_code == 204
        fields = {"client": "carol", "num_examples": 600}
        assert api.call("POST", "/clients", fields, token=TOKEN).status_code == 201


def test_a_client_bans_nobody_and_leaves_only_itself():
    with an_api() as api:
        headers = own(api, "alice")
        answer = api.call("DELETE", "/clients/bob?ban=1", headers=headers, token=None)
        assert (answer.status_code, answer.json["kind"]) == (403, "not_yours")
        answer = api.call("DELETE", "/clients/alice?ban=1", headers=headers, token=None)
        assert answer.status_code == 204
        fields = {"client": "alice", "num_examples": 300}
        assert api.call("POST", "/clients", fields, token=TOKEN).status_code == 201


def test_whom_the_teacher_bans_need_not_have_joined():
    with an_api() as api:
        assert api.call("DELETE", "/clients/eve?ban=1", token=TEACHER).status_code == 204
        fields = {"client": "Eve", "num_examples": 1}
        assert api.call("POST", "/clients", fields, token=TOKEN).json["kind"] == "banned"
        assert api.call("DELETE", "/clients/nobody", token=TEACHER).status_code == 404


def test_a_task_of_anothers_name_and_an_update_in_anothers_name():
    with an_api() as api:
        before, headers = api.snapshot(), own(api, "bob")
        for method, path, body in (
            ("GET", "/task?client=alice", None),
            ("GET", "/task", None),
            ("GET", "/task?client=BOB", None),
            ("GET", "/task?client=alice&client=bob", None),
            ("POST", "/updates", update("alice")),
        ):
            answer = api.call(method, path, body, wire.CONTENT_TYPE, headers, token=None)
            assert (answer.status_code, answer.json["kind"]) == (403, "not_yours"), path
            assert "the token is that of 'bob', and this is for " in answer.json["error"]
        assert api.snapshot() == before


# ---- the token that joining answers --------------------------------------------------------------


def test_with_its_own_token_a_client_joins_again_under_its_own_name():
    """With other examples: the same token, the same session, whatever it says."""
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": "one"}
        own_token = api.call("POST", "/clients", fields).json["token"]
        for session in ("one", "another", None, 7):
            fields |= {"num_examples": fields["num_examples"] + 1, "session": session}
            answer = api.call("POST", "/clients", fields, token=own_token)
            assert (answer.status_code, answer.json["token"]) == (201, own_token)
            member = api.federation._table.members.find("dave")
            assert (member.num_examples, member.session) == (fields["num_examples"], "one")
        # With the class's token and another session it is still somebody else
        assert api.call("POST", "/clients", fields | {"session": "two"}).status_code == 409
        # After it has left, too
        assert api.call("DELETE", "/clients/dave", token=own_token).status_code == 204
        assert api.call("POST", "/clients", fields, token=own_token).json["token"] == own_token
        assert api.call("GET", "/task?client=dave", token=own_token).status_code in (200, 204)


def test_with_its_own_token_a_client_joins_under_no_other_name():
    with an_api() as api:
        fields = {"num_examples": 5, "session": "one"}
        own_token = api.call("POST", "/clients", fields | {"client": "dave"}).json["token"]
        before = api.snapshot()
        for client in ("alice", "Dave", "dave ", "eve", "", None, ["dave"], 5):
            answer = api.call("POST", "/clients", fields | {"client": client}, token=own_token)
            assert (answer.status_code, answer.json["kind"]) == (403, "not_yours"), client
        assert api.call("POST", "/clients", fields, token=own_token).status_code == 403
        # Nor more than the limits
        for number in (0, -1, 10**9 + 1, "5", None):
            about = {"client": "dave", "num_examples": number}
            assert api.call("POST", "/clients", about, token=own_token).status_code == 400
        assert api.snapshot() == before


def test_a_token_that_is_revoked_joins_no_more():
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": "one"}
        token = api.call("POST", "/clients", fields).json["token"]
        api.access.revoke("dave")
        api.access.revoke("dave")
        before = api.snapshot()
        for method, path, body in (
            ("POST", "/clients", fields),
            ("GET", "/task?client=dave", None),
            ("GET", "/status", None),
            ("DELETE", "/clients/dave", None),
        ):
            answer = api.call(method, path, body, token=token)
            assert (answer.status_code, answer.json["kind"]) == (401, "token")
        assert api.snapshot() == before


def test_whose_token_is_revoked_while_it_joins_is_not_in(monkeypatch):
    """And is given none: a ban would otherwise be undone by whoever joins all the time."""
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": "one"}
        token = api.call("POST", "/clients", fields).json["token"]
        join = api.federation.join

        def slow(*of):
            api.access.revoke("dave")
            api.federation.remove("dave")
            join(*of)

        monkeypatch.setattr(api.federation, "join", slow)
        answer = api.call("POST", "/clients", fields, token=token)
        assert (answer.status_code, answer.json["kind"]) == (401, "token")
        assert "dave" not in [member.client for member in api.federation.status().members]
        assert api.call("GET", "/status", token=token).status_code == 401


def test_a_token_is_good_all_the_time_while_its_client_joins_again():
    access = Access(TOKEN)
    token, there = access.enrol("alice", "one"), access._clients

    class Watched(dict):
        def pop(self, *of):
            raise AssertionError("for a moment it was nobody's")

    access._clients = Watched(there)
    assert access.enrol("alice", "one") == token == access.token("alice", "one")
    assert access.enrolled(whose(access, token))
    assert not access.enrolled(Identity("client", "alice", "two"))
    assert not access.enrolled(Identity("client", "bob", "one"))


def test_joining_again_in_the_same_session_gives_the_same_token():
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": "one"}
        first, again = (api.call("POST", "/clients", fields).json["token"] for _ in range(2))
        assert first == again and len(first) >= 32
        answer = api.call("GET", "/task?client=dave", token=first)
        assert answer.status_code in (200, 204)


@pytest.mark.parametrize("session", ["\ud800", "\0\n", "ö" * 1_000])
def test_a_session_is_any_text(session):
    """JSON's too, of which not all is Unicode."""
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": session}
        answers = [api.call("POST", "/clients", fields) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json == answers[1].json


@pytest.mark.parametrize("session", [None, "", 0, 7, ["one"], {}])
def test_without_a_session_a_join_cannot_be_repeated(session):
    """A session that is no text is none: two that sent none are not the same client."""
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5, "session": session}
        token = api.call("POST", "/clients", fields).json["token"]
        before = api.snapshot()
        assert api.call("POST", "/clients", fields).status_code == 409
        assert api.snapshot() == before
        # And who tried does not take the token from who has it
        assert api.call("GET", "/task?client=dave", token=token).status_code in (200, 204)


def test_who_takes_a_free_name_gets_another_token_and_the_earlier_is_nobodys(monkeypatch):
    with an_api() as api:
        fields = {"client": "dave", "num_examples": 5}
        first = api.call("POST", "/clients", fields | {"session": "one"}).json["token"]
        monkeypatch.setattr("fedlab.federation.members.SILENT_AFTER", 0.0)
        second = api.call("POST", "/clients", fields | {"session": "two"}).json["token"]
        assert first != second
        answer = api.call("GET", "/task?client=dave", token=first)
        assert (answer.status_code, answer.json["kind"]) == (401, "token")
        assert api.call("GET", "/task?client=dave", token=second).status_code in (200, 204)


def whose(access: Access, token: str) -> Identity:
    """Whose token this is: as a request with it is looked at."""
    from werkzeug.test import EnvironBuilder
    from werkzeug.wrappers import Request

    request = Request(EnvironBuilder(headers=bearer(token)).get_environ())
    return access.identity(request)


def test_one_session_of_one_client_has_one_token():
    access = Access(TOKEN, teacher=TEACHER)
    one = access.enrol("alice", "one")
    alice = Identity("client", "alice", "one")
    assert access.enrol("alice", "one") == one and whose(access, one) == alice
    bobs = access.enrol("bob", "one")
    two = access.enrol("alice", "two")
    assert len({one, two, bobs, TOKEN, TEACHER, access.looker}) == 6
    assert whose(access, one).kind == NOBODY and whose(access, two).name == "alice"
    assert whose(access, bobs).name == "bob"
    assert access.enrol("alice", "one") == one and whose(access, two).kind == NOBODY


def test_two_servers_give_different_tokens():
    """Whoever has the class's token and a client's session cannot work its token out."""
    tokens = {Access(TOKEN, teacher=TEACHER).enrol("alice", "one") for _ in range(10)}
    assert len(tokens) == 10


def test_a_page_goes_on_with_a_server_that_takes_anothers_place():
    """With the same token; what its cookie holds tells nothing of that."""
    one, two = Access(TOKEN, teacher=TEACHER), Access(TOKEN)
    assert one.looker == two.looker != Access(TOKEN + "x").looker
    assert len(one.looker) >= 32 and TOKEN not in one.looker


def test_of_the_tokens_the_latest_are_kept(monkeypatch):
    assert MOST_KEPT >= 1_000, "as many as may have joined"
    monkeypatch.setattr("fedlab.http.access.MOST_KEPT", 3)
    access = Access(TOKEN)
    tokens = [access.enrol(f"client-{number}", "") for number in range(5)]
    names = [whose(access, token).name for token in tokens]
    assert names == ["", "", "client-2", "client-3", "client-4"]
    # One that is enrolled again does not push another out
    access.enrol("client-4", "again")
    assert whose(access, tokens[2]).name == "client-2"


def test_what_shows_an_access_shows_no_secret():
    access = Access(TOKEN, teacher=TEACHER)
    token = access.enrol("alice", "one")
    shown = (
        repr(access)
        + str(access)
        + repr(vars(access)["_clients"])
        + repr(Identity("client", "x", token))
    )
    assert not any(secret in shown for secret in (TOKEN, TEACHER, token))


def test_a_secret_is_printed_and_not_shown():
    url = Secret(f"http://127.0.0.1:8642/?token={TOKEN}")
    assert str(url) == f"{url}" == f"http://127.0.0.1:8642/?token={TOKEN}"
    assert repr(url) == "'http://127.0.0.1:8642/?token=…'" and TOKEN not in repr([url, {1: url}])
    assert repr(Secret(TOKEN)) == repr(Secret("Bearer x")) == "'…'"


def test_a_compressed_body_is_refused():
    with an_api() as api:
        headers = {"Content-Encoding": "gzip"}
        answer = api.call("POST", "/clients", {"client": "zoe", "num_examples": 1}, headers=headers)
        assert (answer.status_code, answer.json["kind"]) == (415, "media_type")
