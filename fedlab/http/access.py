"""Who may do what: by which names this server is called, and who has its token."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from flask import Request

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

PAGE, ORIGINAL = "page", "original"
"""The endpoints that see to it by themselves: browsers bring the token to the page in its URL or in
a cookie, the original's clients have none."""

LOOKING = (PAGE, "pages", "status", "history", "requests")
"""What a page asks for again and again, to show what is going on."""

READ_ONLY = (*LOOKING, "model")
"""The endpoints that change nothing: there a browser's cookie will do."""


class Denied(Exception):
    """A request that is not for its sender: the HTTP status, a kind for programs, a sentence."""

    def __init__(self, status: int, kind: str, sentence: str):
        super().__init__(sentence)
        self.status, self.kind = status, kind


@dataclass(frozen=True)
class Access:
    """token: the secret in the URL. hosts: the Host names that are answered (without port, in lower
    case); a web page that rebinds its own name to this address is refused (DNS rebinding).
    """

    token: str
    hosts: frozenset[str] = frozenset(LOOPBACK)

    def check(self, request: Request) -> None:
        """Raise Denied unless this request may be answered."""
        name = request.host if request.host.endswith("]") else request.host.rsplit(":", 1)[0]
        if name.lower() not in self.hosts:
            known = ", ".join(sorted(self.hosts))
            more = f"expected one of {known} (Server's allowed_hosts, --allow-host)"
            raise Denied(403, "host", f"the Host header is {request.host[:100]!r}; {more}")
        tokenless = request.endpoint == ORIGINAL or (
            request.endpoint == PAGE and "send" in request.args
        )
        # No token guards the original's wire, so any web page in this machine's browser could send
        # to it; browsers say when one does.
        site = request.headers.get("Sec-Fetch-Site", "none")
        if tokenless and ("Origin" in request.headers or site != "none"):
            expected = "expected one of the original demonstration's clients"
            raise Denied(403, "origin", f"the request comes from a web page; {expected}")
        if request.endpoint in (PAGE, ORIGINAL, None):
            return
        reading = request.endpoint in READ_ONLY and request.method in ("GET", "HEAD")
        if not self.admits(request, reading):
            header = "'Authorization: Bearer <token>', from the URL that the server printed"
            what = "the token is missing or wrong; expected the header"
            raise Denied(401, "token", f"{what} {header}")

    def admits(self, request: Request, reading: bool) -> bool:
        """The header, always; a cookie only to read with, so that no other page can make its
        browser change anything.
        """
        header = request.headers.get("Authorization", "")
        if header:
            return header.startswith("Bearer ") and self.same(header.removeprefix("Bearer "))
        return reading and self.same(request.cookies.get(cookie(request), ""))

    def same(self, received: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(received.encode("utf-8", "replace"), self.token.encode())


def cookie(request: Request) -> str:
    """The cookie's name. Cookies ignore the port: two servers must not share one."""
    return f"fedlab-{request.host.rsplit(':', 1)[-1]}"
