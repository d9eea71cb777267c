"""Who sends a request, and who may do what: the teacher, the class, each client, lookers-on."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flask import Request

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

TEACHER, CLASS, CLIENT, LOOKER, NOBODY = "teacher", "class", "client", "looker", "nobody"
"""Kinds of identity. The teacher's secret removes anybody; the class's token, which is in the URL
that everybody is given, lets a client join; a client's own is what joining answers, bound to its
name; a looker-on's is a browser's cookie; and nobody has none that is known here."""

PAGE, ORIGINAL = "page", "original"
"""The endpoints that see to it by themselves: browsers bring the class's token to the page in its
URL, the original's clients have none."""

_EVERYONE = frozenset({TEACHER, CLASS, CLIENT, LOOKER})

ADMITTED = {
    "join": frozenset({TEACHER, CLASS, CLIENT}),
    "task": frozenset({CLIENT}),
    "updates": frozenset({CLIENT}),
    "leave": frozenset({TEACHER, CLIENT}),
    **dict.fromkeys(("model", "status", "history", "requests", "pages"), _EVERYONE),
    PAGE: _EVERYONE | {NOBODY},
    ORIGINAL: frozenset({NOBODY}),
}
"""Whom each route admits; one that is not in here admits nobody. A client may only do what is its
own: `Identity.check`."""

MOST_KEPT = 10_000
"""Tokens of clients that are remembered."""


class Denied(Exception):
    """A request that is not for its sender: the HTTP status, a kind for programs, a sentence."""

    def __init__(self, status: int, kind: str, sentence: str):
        super().__init__(sentence)
        self.status, self.kind = status, kind


@dataclass(frozen=True)
class Identity:
    """Who sends a request. name, session: of the client whose token it has; who has joined under
    this name since in another session is somebody else.
    """

    kind: str = NOBODY
    name: str = ""
    session: str | None = field(default=None, repr=False)

    def check(self, client: str) -> None:
        """Raise Denied where a client does something in the name of another."""
        if self.kind == CLIENT and self.name != client:
            said = f"the token is that of {self.name!r}, and this is for {client[:40]!r}"
            raise Denied(403, "not_yours", f"{said}; expected that client's own token")


class Access:
    """token: the class's, in the URL. teacher: the teacher's secret. hosts: the Host names that are
    answered (without port, in lower case); a web page that rebinds its own name to this address is
    refused (DNS rebinding). numbers: so are all addresses in numbers, which nobody can rebind: of
    several that this machine has, others know better which one reaches it. more: whom further
    routes admit.
    """

    def __init__(
        self,
        token: str,
        hosts: Iterable[str] = LOOPBACK,
        teacher: str | None = None,
        numbers: bool = False,
        more: Mapping[str, frozenset[str]] | None = None,
    ):
        self._hosts, self._numbers = frozenset(hosts), numbers
        self._admitted = ADMITTED | dict(more or {})
        self._class, self._teacher = _known(token), _known(teacher or secrets.token_urlsafe(24))
        self._token = token
        self._key = secrets.token_bytes(32)
        self._enrolling = threading.Lock()
        self._clients: dict[bytes, Identity] = {}
        self._tokens: dict[str, bytes] = {}

    @functools.cached_property
    def looker(self) -> str:
        """The secret in a browser's cookie. Not the token: any port of this host gets cookies; and
        made of it so slowly that not even a short token can be guessed from it. A server that takes
        another's place keeps its lookers-on.
        """
        token = self._token.encode("utf-8", "replace")
        return hashlib.scrypt(token, salt=b"fedlab looker", n=2**14, r=8, p=1, dklen=24).hex()

    def enrol(self, client: str, session: str) -> str:
        """A token for this client: the same for the same session, which repeats itself when an
        answer was lost. An earlier one of this name is worth nothing from now on.
        """
        token = self.token(client, session)
        with self._enrolling:
            if self._tokens.get(client) == _known(token):
                return token  # it stays valid all the time
            self._clients.pop(self._tokens.pop(client, b""), None)
            while len(self._clients) >= MOST_KEPT:
                oldest = next(iter(self._clients))
                del self._tokens[self._clients.pop(oldest).name]
            self._tokens[client] = _known(token)
            self._clients[_known(token)] = Identity(CLIENT, client, session)
        return token

    def token(self, client: str, session: str) -> str:
        """What `enrol` answers, or has answered."""
        text = f"{client}\n{session}".encode("utf-8", "surrogatepass")  # JSON may hold any text
        sealed = hmac.digest(self._key, text, "sha256")
        return base64.urlsafe_b64encode(sealed[:24]).decode()

    def enrolled(self, who: Identity) -> bool:
        """Whether the token with which this client's request came is still worth something."""
        return self._clients.get(self._tokens.get(who.name, b"")) == who

    def revoke(self, client: str) -> None:
        """This client's own token is worth nothing from now on."""
        with self._enrolling:
            self._clients.pop(self._tokens.pop(client, b""), None)

    def forget(self) -> None:
        """No client's own token is known any more, as after a restart: each has to join again."""
        self._key = secrets.token_bytes(32)
        self._clients.clear()
        self._tokens.clear()

    def identity(self, request: Request) -> Identity:
        """The header, always; a cookie only to read with."""
        header = request.headers.get("Authorization", "")
        if header:
            known = _known(header.removeprefix("Bearer ")) if header.startswith("Bearer ") else b""
            return self._whose(known)
        # It changes nothing, so no other page can make a browser do so.
        looking = LOOKER in self._admitted.get(request.endpoint, ())
        reading = looking and request.method in ("GET", "HEAD")
        shown = _known(request.cookies.get(cookie(request), ""))
        if reading and hmac.compare_digest(shown, _known(self.looker)):
            return Identity(LOOKER)
        return Identity()

    def shown(self, token: str) -> bool:
        """Whether this is what an address may bring to the page: the class's token, or the
        teacher's.
        """
        return self._whose(_known(token)).kind in (TEACHER, CLASS)

    def _whose(self, known: bytes) -> Identity:
        # What is compared are digests: how long it takes tells nothing of a secret.
        if hmac.compare_digest(known, self._teacher):
            return Identity(TEACHER)
        if hmac.compare_digest(known, self._class):
            return Identity(CLASS)
        return self._clients.get(known, Identity())

    def check(self, request: Request) -> Identity:
        """Who sends this request. Raises Denied unless it may be answered."""
        name = request.host if request.host.endswith("]") else request.host.rsplit(":", 1)[0]
        if name.lower() not in self._hosts and not (self._numbers and _in_numbers(name)):
            known = ", ".join(sorted(self._hosts))
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
        who = self.identity(request)
        if request.endpoint in (PAGE, ORIGINAL, None):
            return who
        admits = self._admitted.get(request.endpoint, ())
        if who.kind in admits:
            return who
        header = "expected the header 'Authorization: Bearer <token>'"
        if who.kind == NOBODY:
            what = f"the token is missing or wrong; {header}, from the URL that the server printed"
            raise Denied(401, "token", what)
        what = f"this is the {who.kind}'s token"
        if who.kind == CLASS:
            raise Denied(403, "not_yours", f"{what}; {header} with the one that joining answered")
        kinds = " or ".join(sorted(admits))
        raise Denied(403, "not_yours", f"{what}; expected one of the kind {kinds}")


def cookie(request: Request) -> str:
    """The cookie's name. Cookies ignore the port: two servers must not share one."""
    return f"fedlab-{request.host.rsplit(':', 1)[-1]}"


def _in_numbers(host: str) -> bool:
    """Whether this Host is an IP address: no name was looked up that could have been rebound."""
    try:
        return not ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_unspecified
    except ValueError:
        return False


def _known(token: str) -> bytes:
    """As what a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
