"""HTTP itself, over real sockets: who is slow, silent or too many holds nobody up; who waits holds
no thread; what is no HTTP is told so; TLS."""

import contextlib
import datetime
import ipaddress
import json
import logging
import socket
import threading
import time
from email import message_from_bytes
from email.message import Message

import numpy as np
import pytest
import requests
from flask import Flask
from test_server import headers_of, joined, post, sentence, toy, update

import fedlab
from fedlab import wire
from fedlab.federation import Federation
from fedlab.http.server import WORKER_THREADS, Server
from fedlab.messages import Refused
from fedlab.serving import gateway, listening
from fedlab.serving.gateway import Gateway, Hangup, environ_of
from fedlab.serving.listening import Listener
from fedlab.strategies import fed_avg


@pytest.fixture(autouse=True)
def nothing_is_said(request, caplog, capfd):
    """Whatever the other side does, a notebook shows nothing of it. (Without a handler of one's
    own, Python writes warnings of a log to stderr.)
    """
    yield
    loud = [r for r in caplog.get_records("call") if r.levelno >= logging.WARNING]
    assert [(r.name, r.getMessage()) for r in loud if not r.name.startswith("urllib3")] == []
    if not request.node.get_closest_marker("slow"):  # TensorFlow says something
        assert capfd.readouterr().err == ""


@pytest.fixture
def serve():
    """Makes servers of toy federations, and closes them. (Made in the test: what it has patched is
    so by then.)
    """
    with contextlib.ExitStack() as made:

        def server(**settings) -> Server:
            return made.enter_context(
                Server(federation=Federation(toy(), fed_avg()), linger=0.2, **settings)
            )

        yield server


@pytest.fixture
def links():
    """Opens sockets to a server, and closes them."""
    made = []

    def link(server: Server, said: bytes = b"") -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", server.port), 10))
        made[-1].sendall(said)
        return made[-1]

    yield link
    for each in made:
        each.close()


def until(true, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def cut(link: socket.socket, seconds: float = 10.0) -> bool:
    """Whether the server closes this within so many seconds, and says nothing."""
    link.settimeout(seconds)
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def head(method: str, path: str, headers: dict | None = None, **more) -> bytes:
    """The headers of a request."""
    fields = (
        {"Host": "localhost"} | (headers or {}) | {k.replace("_", "-"): v for k, v in more.items()}
    )
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answered(link: socket.socket, body: bool = True) -> tuple[int, bytes, Message]:
    """The next answer on this socket: status, body, headers. Not a byte of the one after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = link.recv(1)
        if not byte:
            raise ConnectionResetError(f"it was closed after {head!r}")
        head += byte
    first, _, rest = head.partition(b"\r\n")
    fields = message_from_bytes(rest)
    left, came = int(fields.get("Content-Length", 0)) if body else 0, b""
    while len(came) < left:
        piece = link.recv(left - len(came))
        assert piece, "it was closed within a body"
        came += piece
    return int(first.split()[1]), came, fields


def kind(body: bytes) -> str:
    fields = json.loads(body)
    assert sorted(fields) == ["error", "kind"] and "expected" in fields["error"]
    return fields["kind"]


def serves(server: Server) -> bool:
    answer = requests.get(f"{server.address}status", headers=headers_of(server), timeout=10)
    return answer.status_code == 200


def waiting(server: Server) -> dict:
    """The long polls that wait."""
    return server._listener._gateway._waiting


def binary(own: dict) -> dict:
    return own | {"Content-Type": wire.CONTENT_TYPE}


# ---- who is slow or silent -----------------------------------------------------------------------


def test_who_says_nothing_is_cut_off_and_who_has_asked_is_not(serve, links, monkeypatch):
    monkeypatch.setattr(listening, "TO_ASK", 0.3)
    server = serve()
    honest = links(server, head("GET", "/status", headers_of(server)))
    assert answered(honest)[0] == 200
    silent = [links(server) for _ in range(5)]
    assert all(cut(link) for link in silent)
    honest.sendall(head("GET", "/status", headers_of(server)))
    assert answered(honest)[0] == 200


def test_a_connection_is_kept_between_two_requests_and_not_for_ever(serve, links, monkeypatch):
    monkeypatch.setattr(listening, "IDLE", 0.3)
    link = links(server := serve(), head("GET", "/status", headers_of(server)))
    assert answered(link)[0] == 200 and cut(link)


@pytest.mark.parametrize("asked", [False, True], ids=["new", "has asked before"])
def test_headers_that_come_byte_by_byte(serve, links, monkeypatch, asked):
    monkeypatch.setattr(listening, "TO_ASK", 0.5)
    server = serve()
    link = links(server)
    if asked:
        link.sendall(head("GET", "/status", headers_of(server)))
        assert answered(link)[0] == 200
    end = time.monotonic() + 10
    with pytest.raises(ConnectionError):
        for byte in b"GET /status HTTP/1.1\r\nX: " + b"y" * 10_000:
            link.sendall(bytes([byte]))
            time.sleep(0.05)
            assert time.monotonic() < end, "it was waited for"
    assert serves(server)


def test_a_body_that_comes_byte_by_byte_is_not_waited_for(serve, links, monkeypatch):
    monkeypatch.setattr(gateway, "PATIENCE", 0.5)
    server = serve()
    own, body = joined(server, "alice"), update()
    link = links(server, head("POST", "/updates", binary(own), Content_Length=len(body)))
    with contextlib.suppress(ConnectionError):  # the answer may be there before the end
        for byte in body[:20]:
            link.sendall(bytes([byte]))
            time.sleep(0.05)
    status, said, answer = answered(link)
    assert (status, kind(said), answer["Connection"]) == (408, "slow", "close")
    assert f"of {len(body):,} bytes came in 1 s".encode() in said
    assert cut(link) and serves(server)
    assert server._listener._gateway._bodies == {}


def test_who_does_not_read_the_answers_is_cut_off(serve, links, monkeypatch):
    monkeypatch.setattr(listening, "TO_READ", 0.3)
    server = serve()
    server.federation._table.state.weights[0].resize((1_500, 1_500), refcheck=False)  # 9 MB
    link = links(server)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    link.sendall(head("GET", "/model", headers_of(server)))
    connections = server._listener._state.connections
    until(lambda: any(c.transport.get_write_buffer_size() for c in connections))
    until(lambda: not connections)
    assert serves(server)


# ---- bodies that are not let in ------------------------------------------------------------------


@pytest.mark.parametrize("who", ["nobody", "the class", "another"])
def test_a_body_that_is_not_let_in_is_answered_before_it_comes(serve, links, who):
    server = serve()
    headers = {
        "nobody": {"Authorization": "Bearer wrong"},
        "the class": headers_of(server),
        "another": {},
    }[who]
    link = links(server, head("POST", "/updates", binary(headers), Content_Length=800_000))
    began = time.monotonic()
    link.sendall(b"x" * 10)
    status, said, answer = answered(link)
    assert time.monotonic() - began < 1.9, "before the two seconds that its rest may take"
    assert (status, kind(said)) == ((403, "not_yours") if who == "the class" else (401, "token"))
    assert answer["Connection"] == "close" and cut(link)


def test_who_is_busy_sending_what_is_refused_still_reads_the_answer(serve):
    """The size of an update of the 2NN, whole."""
    server = serve()
    wrong = binary({"Authorization": "Bearer wrong"})
    for _ in range(10):
        address = f"{server.address}updates"
        answer = requests.post(address, b"x" * 800_000, headers=wrong, timeout=10)
        assert sentence(answer, 401).startswith("the token is missing or wrong")


def test_of_a_refused_body_only_so_much_is_read(serve, links, monkeypatch):
    came = []
    received = listening.Connection.data_received
    monkeypatch.setattr(
        listening.Connection,
        "data_received",
        lambda c, data: came.append(len(data)) or received(c, data),
    )
    monkeypatch.setattr(gateway, "LEFT_OVER", 100_000)
    server = serve()
    link = links(server, head("POST", "/updates", Content_Length=10**12))
    with pytest.raises(ConnectionError):
        for _ in range(1_000):
            link.sendall(b"x" * 100_000)  # 100 MB
    # What the loop reads at once (256 kB), twice, comes on top
    assert sum(came) < 100_000 + 600_000


def test_who_asks_before_sending_is_told_to_go_on_or_refused(serve, links):
    """Expect: 100-continue."""
    server = serve()
    own, body = joined(server, "alice"), b"junk"
    fields = {"Expect": "100-continue", "Content-Length": len(body)}
    link = links(server, head("POST", "/updates", binary(own) | fields))
    assert link.recv(1_000).startswith(b"HTTP/1.1 100 ")
    link.sendall(body)
    assert answered(link)[0] == 400
    link = links(server, head("POST", "/updates", {"Authorization": "Bearer wrong"} | fields))
    assert answered(link)[0] == 401
    link = links(server, head("POST", "/updates", binary(own) | fields | {"Content-Length": 10**9}))
    assert answered(link)[0] == 413


@pytest.mark.parametrize("encoding", ["chunked", "gzip, chunked", "identity", "Chunked"])
def test_a_body_without_a_length_is_refused(serve, links, encoding):
    server = serve()
    own = joined(server, "alice")
    for method, path in (("POST", "/updates"), ("GET", "/task?client=alice"), ("GET", "/status")):
        link = links(server, head(method, path, binary(own), Transfer_Encoding=encoding))
        status, said, _ = answered(link)
        # h11 knows no other than chunked: then it is no HTTP
        right = (411, "length") if encoding.lower() == "chunked" else (400, "http")
        assert (status, kind(said)) == right
    assert cut(link)
    assert server.federation.status().members[0].client == "alice" and serves(server)


def test_more_bodies_of_one_client_than_it_may_send_at_once(serve, links):
    server = serve()
    own, others = joined(server, "alice"), joined(server, "bob")
    half = head("POST", "/updates", binary(own), Content_Length=1_000) + b"half"
    sent = [links(server, half) for _ in range(gateway.AT_ONCE)]
    bodies = server._listener._gateway._bodies
    until(lambda: bodies == {"alice": gateway.AT_ONCE})
    status, said, _ = answered(links(server, half))
    assert (status, kind(said)) == (503, "busy")
    assert b"got 9 bodies at once; expected at most 8" in said
    # Others go on, and so does it once these have gone
    assert post(server, "updates", data=b"junk", headers=binary(others)).status_code == 400
    for link in sent:
        link.close()
    until(lambda: not bodies)
    assert post(server, "updates", data=b"junk", headers=binary(own)).status_code == 400


# ---- what is no HTTP, and what is unusual --------------------------------------------------------

NO_HTTP = {
    "a length of 5,000 digits": head("POST", "/updates", Content_Length="9" * 5_000),
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two lengths in one": head("POST", "/updates", Content_Length="5, 6"),
    "a negative length": head("POST", "/updates", Content_Length="-5"),
    "a length with a sign": head("POST", "/updates", Content_Length="+5"),
    "no line": b"GET\r\n\r\n",
    "no version": b"GET /status\r\n\r\n",
    "spaces in the address": b"GET /a b c HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /status HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    "a header with a zero byte": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "junk": bytes(range(256)) * 4 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(200),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a header of 100 kB": head("GET", "/status", X="y" * 100_000),
    "ten thousand headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: yyyyyy\r\n" * 10_000,
    "a line of 100 kB": b"GET /" + b"a" * 100_000,
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_told_so_in_json(serve, links, name):
    server = serve()
    link = links(server)
    with contextlib.suppress(ConnectionError):  # answered before it has read all of it
        link.sendall(NO_HTTP[name])
    try:
        status, said, answer = answered(link)
    except ConnectionResetError:  # who is still sending may not get to read it
        assert len(NO_HTTP[name]) > 65_536
    else:
        assert (status, kind(said)) == (400, "http")
        assert answer["Content-Type"] == "application/json" and cut(link)
    assert serves(server) and len(server.wire) == 0


def test_requests_that_follow_each_other_without_waiting(serve, links):
    """Pipelining: answered in order, bodies too."""
    server = serve()
    own = joined(server, "alice")
    asked = [
        head("GET", "/status", own),
        head("POST", "/updates", binary(own), Content_Length=4) + b"junk",
        head("GET", "/nowhere", own),
        head("GET", "/task?client=alice&wait=0.1", own),
        head("GET", "/history", own),
    ]
    link = links(server, b"".join(asked))
    assert [answered(link)[0] for _ in asked] == [200, 400, 404, 204, 200]


def test_unusual_requests_that_are_http(serve, links):
    server = serve()
    own = headers_of(server)
    link = links(server, head("HEAD", "/status", own) + head("GET", "/history", own))
    status, _, fields = answered(link, body=False)
    assert status == 200 and int(fields["Content-Length"]) > 100
    assert answered(link)[1] == b"[]", "no body between them"
    # HTTP/1.0 has no Host, and one request
    text = f"GET /status HTTP/1.0\r\nAuthorization: {own['Authorization']}\r\n\r\n"
    link = links(server, text.encode())
    assert answered(link)[0] == 200 and cut(link)
    for protocol, right in (("h2c", 200), ("websocket", 400)):  # there is none of these here
        upgrade = own | {"Connection": "Upgrade", "Upgrade": protocol}
        assert answered(links(server, head("GET", "/status", upgrade)))[0] == right
    assert answered(links(server, head("OPTIONS", "*", own)))[0] == 404
    assert answered(links(server, head("GET", "http://evil.example/status", own)))[0] == 404
    assert answered(links(server, head("GET", "/status", own, X="y" * 60_000)))[0] == 200
    assert answered(links(server, head("GET", "/pages/%ff%00%0d%0a", own)))[0] == 404


def test_two_tokens_are_none(serve, links):
    server = serve()
    bearer = headers_of(server)["Authorization"]
    twice = (
        f"GET /status HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\nAuthorization: {bearer}\r\n"
    )
    twice = twice.replace("Host: a", "Host: localhost")
    assert answered(links(server, f"{twice}\r\n".encode()))[0] == 401


def test_a_header_does_not_pass_for_another():
    """`X_Reason` and `X-Reason` are the same name in a WSGI environ."""
    scope = {
        "server": None, "client": None, "method": "GET", "raw_path": b"/%C3%A4", "scheme": "http",
        "query_string": b"a=%20", "http_version": "1.1",
        "headers": [(b"x_reason", b"1"), (b"content_length", b"5"), (b"x-reason", b"2"),
                    (b"authorization", b"a"), (b"authorization", b"b"), (b"content-type", b"t")],
    }  # fmt: skip
    environ = environ_of(scope)
    assert environ["HTTP_X_REASON"] == "2" and "CONTENT_LENGTH" not in environ
    assert environ["HTTP_AUTHORIZATION"] == "a,b" and environ["CONTENT_TYPE"] == "t"
    assert environ["PATH_INFO"] == "/\xc3\xa4" and environ["QUERY_STRING"] == "a=%20"


# ---- who waits -----------------------------------------------------------------------------------


def poll(server: Server, client: str, own: dict, seconds: float = 30) -> bytes:
    return head("GET", f"/task?client={client}&wait={seconds}", own)


def test_a_long_poll_ends_when_its_client_asks_again(serve, links):
    server = serve()
    own = joined(server, "alice")
    first = links(server, poll(server, "alice", own))
    until(lambda: "alice" in waiting(server))
    second = links(server, poll(server, "alice", own))
    assert answered(first)[0] == 204
    assert list(waiting(server)) == ["alice"]
    server.start(1)
    status, body, _ = answered(second)
    assert status == 200 and wire.decode_task(body).round == 1
    until(lambda: not waiting(server))


def test_a_long_poll_ends_after_its_time(serve, links):
    server = serve()
    own = joined(server, "alice")
    began = time.monotonic()
    link = links(server, poll(server, "alice", own, 0.3))
    assert answered(link)[0] == 204 and 0.3 <= time.monotonic() - began < 5
    # Changes that are none of its business do not make it longer, or shorter
    began = time.monotonic()
    link.sendall(poll(server, "alice", own, 1))
    for number in range(20):
        server.federation.join(f"client-{number}", 1)
        time.sleep(0.02)
    assert answered(link)[0] == 204 and 1 <= time.monotonic() - began < 5


def test_a_socket_that_is_closed_waits_no_more(serve, links):
    server = serve()
    own = {name: joined(server, name) for name in ("alice", "bob")}
    alices, bobs = (links(server, poll(server, name, own[name])) for name in own)
    until(lambda: len(waiting(server)) == 2)
    alices.close()
    until(lambda: list(waiting(server)) == ["bob"])
    server.start(1, min_clients=2)
    assert answered(bobs)[0] == 200


def test_a_client_that_is_removed_hears_it_in_its_poll(serve, links):
    server = serve()
    link = links(server, poll(server, "alice", joined(server, "alice")))
    until(lambda: waiting(server))
    server.remove("alice")
    status, said, _ = answered(link)
    assert status == 410 and b"client 'alice' has left, or was removed" in said


def test_who_waits_holds_no_thread(serve, links):
    """More of them than there are threads, and everybody is answered at once."""
    server = serve()
    names = [f"client-{number}" for number in range(3 * WORKER_THREADS)]
    polls = [links(server, poll(server, name, joined(server, name))) for name in names]
    until(lambda: len(waiting(server)) == len(names))
    began = time.monotonic()
    assert all(serves(server) for _ in range(5)) and time.monotonic() - began < 5
    at_work = [t for t in threading.enumerate() if t.name.startswith("fedlab-answers")]
    assert len(at_work) <= WORKER_THREADS
    server.start(1, min_clients=len(names))
    assert [answered(link)[0] for link in polls] == [200] * len(names)


# ---- how many there may be -----------------------------------------------------------------------


def test_three_hundred_silent_sockets_keep_nobody_out(serve, links):
    server = serve()
    honest = links(server, head("GET", "/status", headers_of(server)))
    assert answered(honest)[0] == 200
    for _ in range(300):
        links(server)
    began = time.monotonic()
    assert all(serves(server) for _ in range(10)) and time.monotonic() - began < 5
    # Who was there before them is no stranger
    honest.sendall(head("GET", "/status", headers_of(server)))
    assert answered(honest)[0] == 200
    until(lambda: len(server._listener._state.connections) <= listening.STRANGERS + 1)


def test_of_too_many_strangers_the_oldest_goes(serve, links, monkeypatch):
    monkeypatch.setattr(listening, "STRANGERS", 5)
    server = serve()
    strangers = [links(server) for _ in range(5)]
    until(lambda: len(server._listener._state.connections) == 5)
    late = links(server)
    assert cut(strangers[0]) and not any(cut(link, 0.05) for link in (*strangers[1:], late))
    late.sendall(head("GET", "/status", headers_of(server)))
    assert answered(late)[0] == 200


def test_who_is_nobody_is_not_kept(serve, links):
    """Else it would be a stranger no more, for having asked for what there is not."""
    server = serve()
    for method, path in (("GET", "/nowhere"), ("OPTIONS", "/"), ("DELETE", "/task"), ("GET", "/")):
        link = links(server, head(method, path))
        answer = answered(link)[2]
        assert answer["Connection"] == "close" and cut(link, 1), (method, path)
    for path, status in (("/nowhere", 404), ("/status", 405)):  # said before a body is looked at
        link = links(server, head("POST", path, headers_of(server), Content_Length=10**6))
        code, said, answer = answered(link)
        assert (code, answer["Connection"]) == (status, "close") and kind(said)
    link = links(server, head("GET", "/nowhere", headers_of(server)))
    assert answered(link)[0] == 404 and not cut(link, 0.1)


def test_a_busy_connection_is_not_an_idle_one(serve, links, monkeypatch):
    """Each look finds it between two requests, and it lives on."""
    monkeypatch.setattr(listening, "IDLE", 1.5)
    server = serve()
    own = joined(server, "alice")
    link = links(server, head("GET", "/status", own))
    for _ in range(20):
        assert answered(link)[0] == 200
        time.sleep(0.2)
        link.sendall(head("GET", "/status", own))
    assert answered(link)[0] == 200
    assert cut(link, 5), "and now it is idle"


def test_thousands_of_tiny_headers_are_not_read(serve, links):
    server = serve()
    link = links(server, b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a:\r\n" * 5_000)
    assert answered(link)[0] == 400


def test_of_too_many_connections_one_that_does_nothing_goes(serve, links, monkeypatch):
    monkeypatch.setattr(listening, "CONNECTIONS", 4)
    server = serve()
    own = joined(server, "alice")
    until(lambda: not server._listener._state.connections)
    waits = links(server, poll(server, "alice", own))
    until(lambda: waiting(server))
    idle = []
    for _ in range(3):
        idle.append(links(server, head("GET", "/status", own)))
        assert answered(idle[-1])[0] == 200
    new = links(server, head("GET", "/status", own))
    assert answered(new)[0] == 200 and cut(idle[0])
    assert not any(cut(link, 0.05) for link in (*idle[1:], waits)), "who waits does something"


# ---- the end -------------------------------------------------------------------------------------


def test_closing_is_quick_whatever_is_open_and_leaves_nothing(serve, links):
    """Polls, silent ones, half a request, half a body, and a request that comes while it closes."""
    server = serve()
    names = [f"client-{number}" for number in range(5)]
    own = {name: joined(server, name) for name in names}
    polls = [links(server, poll(server, name, own[name])) for name in names]
    until(lambda: len(waiting(server)) == len(names))
    half = head("POST", "/updates", binary(own[names[0]]), Content_Length=1_000) + b"half"
    others = [links(server, said) for said in (b"", b"GET /sta", half, b"") for _ in range(5)]
    until(lambda: server._listener._gateway._bodies == {names[0]: 5})
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 8  # headers have 10 s
    assert [answered(link)[0] for link in polls] == [410] * 5, "each was told"
    assert all(cut(link, 1) for link in others)
    assert not [t for t in threading.enumerate() if t.name.startswith("fedlab-")]
    server.federation.stop()  # who still tells it of changes does no harm


def test_requests_that_come_while_it_closes_get_an_answer_or_none(serve):
    """Not a traceback under a notebook's cell, nor a socket that stays open."""
    for _ in range(10):
        server, stop, wrong = serve(), threading.Event(), []

        def ask(server=server, stop=stop, wrong=wrong):
            while not stop.is_set():
                try:
                    headers = headers_of(server)
                    answer = requests.get(f"{server.address}status", headers=headers, timeout=5)
                    wrong.extend([] if answer.status_code == 200 else [answer])
                except requests.ConnectionError:
                    pass
                except requests.RequestException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        server.close()
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_route_may_hang_up_without_a_word(links):
    """And any Flask application can stand behind a Gateway."""
    app = Flask("any")

    @app.get("/gone")
    def gone():
        raise Hangup

    @app.get("/fine")
    def fine():
        return "fine"

    app.config["PROPAGATE_EXCEPTIONS"] = True  # as a middleware raises it
    sock = listening.listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    behind = Gateway(app, lambda app, environ: None, 2)
    listener = Listener(behind, sock)
    try:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/gone", timeout=5)
        assert requests.get(f"http://127.0.0.1:{port}/fine", timeout=5).text == "fine"
    finally:
        listener.close()


# ---- TLS -----------------------------------------------------------------------------------------


def pem_files(folder, name: str = "server"):
    """A certificate of 127.0.0.1 that has signed itself, and its key, as a teacher makes them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedlab")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    usage = x509.KeyUsage(True, *[False] * 4, True, *[False] * 3)  # to sign, also certificates
    made = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(title)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(where, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(made.public_bytes(pem))
    paths[1].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return pem_files(tmp_path_factory.mktemp("tls"))


def test_over_tls(serve, links, pem, monkeypatch):
    monkeypatch.setattr(listening, "TO_ASK", 1.0)
    server = serve(certificate=pem[0], key=pem[1])
    assert server.url.startswith(f"https://127.0.0.1:{server.port}/?token=")
    headers = headers_of(server)
    about = {"headers": headers, "timeout": 5}
    assert requests.get(f"{server.address}status", verify=pem[0], **about).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.address}status", **about)
    # The browser keeps its secret to where nobody listens
    page = requests.get(server.url, verify=pem[0], allow_redirects=False, timeout=5)
    assert page.status_code == 303 and "Secure" in page.headers["Set-Cookie"]
    for said in (b"", b"\x16\x03\x01", b"junk\r\n\r\n", head("GET", "/status", headers)):
        assert cut(links(server, said)), "no TLS, no answer"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{server.port}/status", **about)
    assert requests.get(f"{server.address}status", verify=pem[0], **about).status_code == 200


@pytest.mark.slow
def test_a_client_takes_part_over_tls(pem):
    import keras

    rng = np.random.default_rng(0)
    data = fedlab.Dataset(rng.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20) % 10)
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])
    with Server(model=model, certificate=pem[0], key=str(pem[1]), linger=1) as server:
        stranger = fedlab.Client(server.url, "bob", data, model=model, patience=0)
        with pytest.raises(fedlab.ServerAway, match="certificate is not trusted here"):
            stranger.start()
        plain = fedlab.Client(
            server.url.replace("https", "http"), "bob", data, model=model, patience=0
        )
        with pytest.raises(fedlab.ServerAway):
            plain.start()
        client = fedlab.Client(server.url, "alice", data, model=model, certificate=pem[0]).start()
        assert sorted(server.run(rounds=2, progress=False).last.clients) == ["alice"]
    client.join(5)
    assert client.status.phase == "finished"


def test_files_that_are_no_certificate(tmp_path, pem):
    junk, other = tmp_path / "junk.pem", pem_files(tmp_path, "other")
    junk.write_text("junk")
    threads = threading.active_count()
    for certificate, key in (
        (tmp_path / "nowhere.pem", pem[1]),
        (pem[0], tmp_path / "nowhere.key"),
        (junk, pem[1]),
        (pem[0], junk),
        (pem[1], pem[0]),
        (pem[0], other[1]),
        (tmp_path, pem[1]),
    ):
        with pytest.raises(Refused, match="expected two PEM files that belong together") as caught:
            Server(federation=Federation(toy(), fed_avg()), certificate=certificate, key=key)
        assert str(certificate) in str(caught.value) and "\n" not in str(caught.value)
    for one in ("certificate", "key"):
        other = "key" if one == "certificate" else "certificate"
        with pytest.raises(Refused, match=f"expected both: {other} is missing"):
            Server(federation=Federation(toy(), fed_avg()), **{one: pem[0]})
    assert threading.active_count() == threads
