"""Row "authentication": every route of `url_map` x method x kind of somebody, over HTTP, against a
table written by hand; then what a student's script tries that it may not do.

Who is refused must be told 401 (nobody knows it) or 403 (it is not for it), and nothing may have
changed: model, history, members, failures, not even the federation's version of everything.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import urlencode

import numpy as np

from fedlab.federation import Federation, Limits, members
from fedlab.http.server import Server
from fedlab.messages import ClientFailed
from fedlab.original import Original
from fedlab.strategies import async_average, fed_avg
from stress.result import Result, first, part, say
from stress.wire import FORM, JSON, TENSORS, Answer, Peer, asked, tiny

CLASS, TEACHER = "the-token-of-the-class", "the-secret-of-the-teacher"
METHODS = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"

KNOWN = {"class", "teacher", "own", "another's", "removed", "banned"}
LOOKS = KNOWN | {"looker"}
TABLE = {
    ("POST", "/clients"): {"class", "teacher"},
    ("DELETE", "/clients/<client>"): {"teacher", "own"},
    ("GET", "/task"): {"own"},
    ("POST", "/updates"): {"own"},
    ("GET", "/model"): LOOKS,
    ("GET", "/status"): LOOKS,
    ("GET", "/history"): LOOKS,
    ("GET", "/requests"): LOOKS,
    ("GET", "/pages/<name>"): LOOKS,
    ("GET", "/"): LOOKS | {"class, in the query", "teacher, in the query"},
    ("POST", "/"): None,
}
"""Whom each route lets in, by hand, where what it asks for is alice's; None: everybody, for it is
the original's."""

UNREADABLE = {"very long"}
"""No headers of a request: 400 or 431, or none that can be read."""


@contextmanager
def a_class(strategy, original: bool, clients: int = 1_000) -> Iterator[Server]:
    """A server in whose run alice, bob and more take part."""
    about = {"token": CLASS, "teacher": TEACHER, "linger": 0}
    about["original_protocol"] = Original() if original else None
    federation = Federation(tiny(), strategy, limits=Limits(clients=clients))
    with Server(federation=federation, **about) as server:
        yield server


def bearer(token: str) -> list[tuple[str, str]]:
    """The header."""
    return [("Authorization", f"Bearer {token}")]


def identities(server: Server, alice: Peer, old: str) -> dict[str, tuple[list, str]]:
    """Kind -> headers, and what is in the query. old: alice's token of an earlier server."""
    bob, carol, mallory, dave = (Peer(server.url, n) for n in ("bob", "carol", "mallory", "dave"))
    after = Peer(server.url, "dave", session="of somebody else")
    for peer in (bob, carol, mallory, dave):
        peer.join()
    for client, query in (("carol", ""), ("mallory", "?ban=1")):
        asked(server.url, "DELETE", f"/clients/{client}{query}", bearer(TEACHER))
    with mock.patch.object(members, "SILENT_AFTER", 0.0):
        after.join()
    for peer in (bob, carol, mallory, dave, after):
        peer.close()
    cookie, own = f"fedlab-{server.port}=", alice.token
    looker = server.app.extensions["fedlab"][2].looker
    return {
        "none": ([], ""),
        "empty": ([("Authorization", "")], ""),
        "an empty token": (bearer(""), ""),
        "wrong": (bearer("wrong"), ""),
        "class": (bearer(CLASS), ""),
        "teacher": (bearer(TEACHER), ""),
        "own": (bearer(own), ""),
        "another's": (bearer(bob.token), ""),
        "removed": (bearer(carol.token), ""),
        "banned": (bearer(mallory.token), ""),
        "whose name another has": (bearer(dave.token), ""),
        "an old server's": (bearer(old), ""),
        "looker": ([("Cookie", cookie + looker)], ""),
        "the looker's, in the header": (bearer(looker), ""),
        "class, as a cookie": ([("Cookie", cookie + CLASS)], ""),
        "teacher, as a cookie": ([("Cookie", cookie + TEACHER)], ""),
        "own, as a cookie": ([("Cookie", cookie + own)], ""),
        "class, in the query": ([], f"token={CLASS}"),
        "teacher, in the query": ([], f"token={TEACHER}"),
        "own, in the query": ([], f"token={own}"),
        "wrong, and a looker's cookie": ([*bearer("x"), ("Cookie", cookie + looker)], ""),
        "twice in one header": (bearer(f"{own}, Bearer {own}"), ""),
        "two headers": (bearer(own) * 2, ""),
        "two headers, class and own": (bearer(CLASS) + bearer(own), ""),
        "another scheme": ([("Authorization", f"Basic {own}")], ""),
        "without a scheme": ([("Authorization", own)], ""),
        "in small letters": ([("Authorization", f"bearer {own}")], ""),
        "with a letter more": (bearer(own + "x"), ""),
        "without its last letter": (bearer(own[:-1]), ""),
        "non-ASCII": (bearer("t\xf6k\xe9n\xff"), ""),
        "long": (bearer("x" * 30_000), ""),
        "very long": (bearer(own + "x" * 500_000), ""),
    }


def facts(server: Server) -> tuple:
    """What a refusal may not change."""
    federation = server.federation
    table = federation._table
    bits = [w.tobytes() for w in federation.weights], federation.state.num_examples
    return bits, len(federation.history), federation.status(), list(table.failures), table.first


def the_table(share: float, rng: random.Random, tally: Counter, faults: list[str]) -> None:
    """Every route, method and kind; of the methods that a route does not take, a share."""
    with a_class(async_average(), True) as earlier:
        old = Peer(earlier.url, "alice")
        old.join()
        old.close()
    with a_class(async_average(), True) as server:
        alice = Peer(server.url, "alice", shards=12)
        alice.join()
        kinds = identities(server, alice, old.token)
        server.start(rounds=1_000)
        rules = {(m, r.rule) for r in server.app.url_map.iter_rules() for m in r.methods}
        if {(m, rule) for m, rule in rules if m not in ("HEAD", "OPTIONS")} != set(TABLE):
            faults.append("the table's routes are not the server's")
        changed = True
        for rule in sorted({rule for _, rule in rules}):
            for method in METHODS:
                for kind, (headers, query) in kinds.items():
                    if (method, rule) not in rules and rng.random() > share:
                        continue
                    if changed:  # perhaps she was removed
                        alice.join()
                        body, before = alice.update(alice.task(), tiny(1)), facts(server)
                    answer = ask(server, method, rule, headers, query, body)
                    tally[answer.status] += 1
                    wrong = judged(method, rule, kind, answer, (method, rule) in rules)
                    let_in = answer.status < 400 and method not in ("GET", "HEAD", "OPTIONS")
                    if let_in:
                        written_down(server)
                    changed = not same(before, facts(server))
                    if changed and not let_in:
                        wrong = wrong or f"{answer.status}, and it has changed something"
                    if wrong:
                        faults.append(f"{method} {rule} by {kind}: {wrong}")
        alice.close()


def written_down(server: Server) -> None:
    """Wait until the run's thread has written down the model of an update that was taken: it does
    so after the answer, and the next one asked would seem to have changed something.
    """
    end = time.monotonic() + 10
    while len(server.history) < server.federation.model[0] and time.monotonic() < end:
        time.sleep(0.001)


def same(before: tuple, after: tuple) -> bool:
    """Whether nothing has changed."""
    return repr(before[:4]) == repr(after[:4]) and before[4] is after[4]


def ask(server: Server, method: str, rule: str, headers, query: str, update: bytes) -> Answer:
    """What alice, the class or the teacher could ask of this route."""
    path = rule.replace("<client>", "alice").replace("<name>", "page.js")
    bodies = {
        "/clients": (b'{"client": "ghost", "num_examples": 5, "session": "its"}', JSON),
        "/updates": (update, TENSORS),
        "/": (urlencode({"id": 1, "send": False}).encode(), FORM),
    }
    body, content = bodies.get(rule, (b"", "")) if method in ("POST", "PUT", "PATCH") else (b"", "")
    query = "&".join(filter(None, [query, "client=alice" * (rule == "/task")]))
    more = [("Content-Type", content)] if content else []
    try:
        target = f"{path}?{query}" if query else path
        return asked(server.url, method, target, [*headers, *more], body)
    except OSError:
        return Answer(0, b"")  # cut off in the middle of too much


def judged(method: str, rule: str, kind: str, answer: Answer, there: bool) -> str:
    """What is wrong with this answer, or "". there: the route takes this method."""
    status = answer.status
    if kind in UNREADABLE:
        return "" if status in (0, 400, 401, 431) else f"{status}"
    if any(secret in answer.body for secret in (CLASS.encode(), TEACHER.encode())):
        return "the answer has a secret in it"
    if not there or method == "OPTIONS":  # no more than which methods there are
        right = status in (401, 403, 405) or (method == "OPTIONS" and status == 200)
        return "" if right and (status != 200 or not answer.body) else f"{status}"
    admitted = TABLE["GET" if method == "HEAD" else method, rule]
    if admitted is None or kind in admitted:
        return "" if status < 400 else f"{status} {answer.kind}, and it may"
    if status != (403 if kind in KNOWN else 401):
        return f"{status}, not {403 if kind in KNOWN else 401}"
    right = method == "HEAD" or answer.kind == ("not_yours" if kind in KNOWN else "token")
    return "" if right else f"it is told {answer.kind!r}"


# ---- a student's script --------------------------------------------------------------------------


def attempts(alice: Peer, mallory: Peer, body: bytes, rng: random.Random) -> Iterator[tuple]:
    """(name, status that is expected, method, path, token, body, kind, X-Reason): none may do
    anything.
    """
    keys = {"the class's token": CLASS, "its own": mallory.token}
    keys |= {f"a guess of {n}": rng.randbytes(n).hex() for n in (4, 16, 24, 32)}
    for whose, token in keys.items():
        status = 401 if "guess" in whose else 403
        for path in ("/task?client=alice", "/task?client=ALICE", "/task?client=alice%00", "/task"):
            yield f"{path} with {whose}", status, "GET", path, token, b"", "", ""
        about = token, body, TENSORS, ""
        yield f"an update as alice with {whose}", status, "POST", "/updates", *about
        for path in ("/clients/alice", "/clients/alice?ban=1", "/clients/%61lice", "/clients/bob"):
            yield f"{path} with {whose}", status, "DELETE", path, token, b"", "", "it is broken"
    for session in ("", None, 0, "alice", "bob", {"a": 1}, rng.randbytes(9).hex()):
        for client in ("alice", "bob"):
            fields = {"client": client, "num_examples": 1, "session": session}
            about = "POST", "/clients", CLASS, json.dumps(fields).encode(), JSON, ""
            yield f"join as {client} of session {session!r}", 409, *about
    for client in ("alice", "bob", "eve"):  # its own token admits under its own name
        join = json.dumps({"client": client, "num_examples": 5, "session": "x"}).encode()
        about = "POST", "/clients", mallory.token, join, JSON, ""
        yield f"join as {client} with its own token", 403, *about
    for name in ("num_examples", "shards"):
        for count in (10**9, 60_001, 10**40, -1, 0, 1e9, True, "1", None, [1]):
            fields = {"client": "eve", "num_examples": 5, "session": "x"} | {name: count}
            about = "POST", "/clients", CLASS, json.dumps(fields).encode(), JSON, ""
            yield f"join with {name} {count!r}", 400, *about
    for client in ("alice ", " alice", "alice/../bob", "", "../model", "alice\n"):
        fields = {"client": client, "num_examples": 5}
        about = "POST", "/clients", CLASS, json.dumps(fields).encode(), JSON, ""
        yield f"join as {client!r}", 400, *about


def the_script(ghosts: int, rng: random.Random, tally: Counter, faults: list[str]) -> str:
    """Everything that it may not, then what it may: to join, and to fail. What came of it."""
    most = ghosts // 2
    with a_class(fed_avg(), False, clients=most) as server:
        alice, bob, mallory = (Peer(server.url, name) for name in ("alice", "bob", "mallory"))
        for peer in (alice, bob, mallory):
            peer.join()
        server.start(rounds=1, min_clients=3)
        tasks = [peer.task() for peer in (alice, bob, mallory)]
        before, body = facts(server), alice.update(tasks[0], tiny(9.0))
        for name, status, method, path, token, sent, kind, why in attempts(
            alice, mallory, body, rng
        ):
            headers = bearer(token) + [("Content-Type", kind)] * bool(kind)
            headers += [("X-Reason", why)] * bool(why)
            answer = asked(server.url, method, path, headers, sent)
            tally[answer.status] += 1
            if answer.status != status:
                faults.append(f"{name}: {answer.status}, not {status}")
            if not same(before, facts(server)):
                faults.append(f"{name}: {answer.status}, and it has changed something")
                before = facts(server)
        answer = mallory.send(mallory.update(tasks[2], tiny(9.0), examples=10**9))
        if answer.status != 400:
            faults.append(f"an update of 10**9 examples: {answer.status}")
        joined: Counter = Counter()
        for number in range(ghosts):
            ghost = Peer(server.url, f"ghost-{number}")
            joined[ghost.join().status] += 1
            ghost.close()
        if joined[201] != most - 3 or set(joined) != {201, 409}:
            faults.append(f"of {ghosts:,} ghosts {dict(joined)} with a limit of {most:,}")
        mallory.ask("DELETE", "/clients/mallory?ban=1", X_Reason="I am broken")
        sent = [
            peer.send(peer.update(task, tiny(value)))
            for peer, task, value in ((alice, tasks[0], 1.0), (bob, tasks[1], 2.0))
        ]
        if [answer.status for answer in sent] != [202, 202]:
            faults.append(f"the others' updates: {[answer.status for answer in sent]}")
        end = time.monotonic() + 10
        while server.federation.running and time.monotonic() < end:
            time.sleep(0.01)
        server.stop()
        try:
            server.federation.wait()
            faults.append("a strict run did not say that mallory failed")
        except ClientFailed as error:
            if len(re.findall("client '", str(error))) != 1 or "mallory" not in str(error):
                faults.append(f"the run says: {error}")
        if len(server.history) != 1 or not (server.weights[0] == np.float32(1.5)).all():
            faults.append("the round is not the mean of alice and bob")
        for peer in (alice, bob, mallory):
            peer.close()
    return f"{joined[201]:,} of {ghosts:,} ghosts let in, alice's own update taken"


def run(scale: float, seed: int) -> Result:
    """The table, then the script."""
    rng, tally, faults = random.Random(seed), Counter(), []
    the_table(scale, rng, tally, faults)
    asked_for = tally.total()
    say(f"{asked_for:,} requests of the table")
    came = the_script(part(scale, 2_000, 100), rng, tally, faults)
    figures = {
        "answers": ", ".join(
            f"{n:,} x {status or 'cut off'}" for status, n in sorted(tally.items())
        ),
        "then": came,
        "wrong": first(faults, 6),
    }
    tried = f"{asked_for:,} requests: routes x methods x kinds of somebody; a script's"
    return Result("authentication", f"{tried} {tally.total() - asked_for}", figures, not faults)
