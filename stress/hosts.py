"""Row "hosts": wrong Hosts and strange Origins, with every method, on every route that the server
has (enumerated from its `url_map`), with the class's token, a client's own, and a looker's cookie.

A web page that rebinds its own name to this machine has Origin equal to Host: only the list of
Hosts helps. And no answer, to whomever, may allow another page to read it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter

from flask import Flask
from werkzeug.wrappers import Response

from fedlab.federation import Federation
from fedlab.http.access import ADMITTED, LOOKER
from fedlab.http.server import Server
from fedlab.original import Original
from fedlab.strategies import async_average
from stress.result import Result, first
from stress.wire import JSON, Peer, parts_of, status_of, tiny

METHODS = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"
HOSTS = (
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.",
    "0.0.0.0",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "127.1",
    "2130706433",
    "::1",
    "127.0.0.1, evil.example",
    "localhost:80:evil",
)
"""None is this server's name."""

OWN = "127.0.0.1", "localhost"
ORIGINS = (
    None,
    "null",
    "http://evil.example",
    "http://localhost:8888",
    "http://127.0.0.1:8642",
    "file://",
    "chrome-extension://abc",
    "http://127.0.0.1:8642, http://evil.example",
)


def paths(app: Flask) -> dict[str, set[str]]:
    """A path of every route, and one that there is not -> its endpoints."""
    known: dict[str, set[str]] = {"/nowhere": set()}
    for rule in app.url_map.iter_rules():
        known.setdefault(re.sub("<.*?>", "ada", rule.rule), set()).add(rule.endpoint)
    return known


def asked(app: Flask, port: int, method: str, path: str, headers: dict) -> Response:
    """An answer of the application, without a socket."""
    client = app.test_client(use_cookies=False)
    body = b'{"client": "eve", "num_examples": 1}'
    host = headers.pop("Host")
    return client.open(
        path,
        method=method,
        data=body,
        headers=headers | {"Content-Type": JSON},
        environ_overrides={"HTTP_HOST": host, "SERVER_PORT": str(port)},
    )


def wrong(answer: Response, own: bool, reading: bool, header: bool) -> str:
    """What is wrong with an answer, or "". header: the request had the token there, else only a
    cookie. reading: of a route and by a method that changes nothing.
    """
    if any(name.startswith("Access-Control") for name, _ in answer.headers):
        return "it lets other pages read"
    served = answer.status_code < 400
    if answer.status_code >= 500:
        return "a 5xx"
    if served and not own:
        return "served under a wrong Host"
    if served and not header and not reading:
        return "changed by a cookie"
    return ""


def run(scale: float, seed: int) -> Result:
    """All of it, whatever the scale: it takes seconds."""
    faults, statuses, count = [], Counter(), 0
    federation = Federation(tiny(), async_average())
    with Server(federation=federation, original_protocol=Original(), linger=0) as server:
        _, port, token = parts_of(server.url)
        ada = Peer(server.url, "ada")
        ada.join()
        looker = {"Cookie": f"fedlab-{port}={server.app.extensions['fedlab'][2].looker}"}
        before = [w.tobytes() for w in server.weights], server.federation.status().members
        routes = paths(server.app)
        keys = *({"Authorization": f"Bearer {key}"} for key in (token, ada.token)), looker
        for host, origin, method, path, key in itertools.product(
            HOSTS, ORIGINS, METHODS, routes, keys
        ):
            headers = {"Host": host} | key | ({"Origin": origin} if origin else {})
            answer = asked(server.app, port, method, path, headers)
            count, statuses[answer.status_code] = count + 1, statuses[answer.status_code] + 1
            if fault := wrong(answer, False, False, "Cookie" not in key):
                faults.append(f"{method} {path} of {host} from {origin}: {fault}")
        after = [w.tobytes() for w in server.weights], server.federation.status().members
        own, read = with_own_names(server, port, looker, routes, faults)
        count += own
        sockets = on_sockets(server, port, ada.token, faults)
        ada.close()
    tried = (
        f"{len(HOSTS)} Hosts x {len(ORIGINS)} Origins x {len(METHODS)} methods x {len(routes)}"
        f" routes x 2 tokens or a cookie, own names too: {count:,}; {sockets} on sockets"
    )
    if not read:
        faults.append("nobody was served at all: this row tests nothing")
    figures = {
        "answers to wrong Hosts": ", ".join(f"{n:,} x {s}" for s, n in sorted(statuses.items())),
        "served that should not be": first(faults),
        "changed": "nothing" if before == after else "SOMETHING",
    }
    return Result("hosts", tried, figures, not faults and before == after)


def with_own_names(
    server: Server, port: int, cookie: dict, routes: dict, faults: list[str]
) -> tuple[int, int]:
    """The server's own names, with a cookie alone: other pages' browsers may send one along. It
    may read, and change nothing; and without a token no page may use the original's wire. (How
    many were asked, how many were read.)
    """
    count, read = 0, 0
    for host, origin, method, path in itertools.product(OWN, ORIGINS, METHODS, routes):
        headers = {"Host": f"{host}:{port}"} | cookie | ({"Origin": origin} if origin else {})
        answer = asked(server.app, port, method, path, headers)
        looking = any(LOOKER in ADMITTED[endpoint] for endpoint in routes[path])
        looked = looking and method in ("GET", "HEAD")
        reading = bool(looked) or method == "OPTIONS"
        from_no_page = path == "/" and origin is None
        if fault := wrong(answer, True, reading or from_no_page, False):
            faults.append(f"{method} {path} of {host} from {origin}: {fault}")
        count, read = count + 1, read + (bool(looked) and answer.status_code == 200)
    return count, read


def on_sockets(server: Server, port: int, token: str, faults: list[str]) -> int:
    """What only bytes can say: no Host, two, an address in the request's first line."""
    good = f"Host: 127.0.0.1:{port}"
    requests = {
        "no Host": ("/model", []),
        "an empty Host": ("/model", ["Host:"]),
        "two Hosts": ("/model", [good, "Host: evil.example"]),
        "two Hosts, the good one last": ("/model", ["Host: evil.example", good]),
        "X-Forwarded-Host alone": ("/model", ["Host: evil.example", f"X-Forwarded-{good}"]),
        "Forwarded alone": ("/model", ["Host: evil.example", "Forwarded: host=localhost"]),
        "an absolute target": ("http://127.0.0.1/model", ["Host: evil.example"]),
        "a Host on a folded line": ("/model", ["Host: evil.example", " localhost"]),
        "a Host with a tab": ("/model", ["Host:\tevil.example"]),
        "a Host of controls": ("/model", ["Host: localhost\x00.evil.example"]),
    }
    for name, (target, hosts) in requests.items():
        lines = [f"GET {target} HTTP/1.1", *hosts, f"Authorization: Bearer {token}", "", ""]
        status = status_of(server.url, "\r\n".join(lines).encode())
        if status < 400 or status >= 500:
            faults.append(f"{name}: {status or 'closed without a word'}")
    return len(requests)
