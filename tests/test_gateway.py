"""Between connections and the application: what becomes of a request that nobody can answer."""

import asyncio

from flask import Flask

from fedlab.serving.gateway import Gateway

SCOPE = {
    "type": "http",
    "method": "GET",
    "raw_path": b"/",
    "query_string": b"",
    "http_version": "1.1",
    "scheme": "http",
    "server": ("127.0.0.1", 1),
    "client": ("127.0.0.1", 2),
    "headers": [],
}


def test_what_comes_while_a_server_closes_is_cut_off_in_silence():
    """And not written under a cell of the notebook, with a traceback."""
    gateway, cut, sent = Gateway(Flask(__name__), lambda *_: None, 1), [], []
    gateway.close()

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {**SCOPE, "state": {"cut": lambda: cut.append(True)}}
    asyncio.run(gateway(scope, receive, send))
    assert cut == [True] and sent == []
