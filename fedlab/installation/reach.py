"""Whether a server can listen here, and who can reach it."""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fedlab.installation.finding import Finding
from fedlab.options import CLASS_PORT as PORT


def port(number: int = PORT) -> Finding:
    """Whether a server can have a free port, and this one."""
    said = partial(Finding, "port", "Port")
    from fedlab.http.server import listen  # here: where Flask is missing, the other looks go on

    try:
        listen("127.0.0.1", 0).close()
    except OSError as error:
        mend = "A security program may forbid it: allow Python to accept connections."
        return said("bad", f"No program may listen on this machine: {error}.", mend)
    try:
        listen("0.0.0.0", number).close()
    except OSError:
        found = f"Port {number} is taken, perhaps by a fedlab server of yours. Others are free."
        mend = "Stop what listens there, or take any free one: `fedlab server --port 0`"
        return said("warning", found, mend)
    also = f", also on port {number}" if number else ""
    return said("good", f"A server can listen here{also}.")


def network(port: int = PORT, where: Callable[[], tuple[str, str]] | None = None) -> Finding:
    """Whether another machine can reach this one, as far as that can be seen from here: a server is
    started for a moment, and asked over HTTP at every address of this machine.
    """
    said = partial(Finding, "network", "Other machines")
    addresses = own_addresses()
    if not addresses:
        found = "This machine is in no network: all clients must run on it."
        return said("warning", found, "For a class on many machines, join a network first.")
    from fedlab.federation import Federation
    from fedlab.http.server import Server
    from fedlab.strategies import fed_avg

    token = secrets.token_urlsafe(24)
    federation = Federation([np.zeros(1, np.float32)], fed_avg())
    with Server(
        federation=federation, host="0.0.0.0", allowed_hosts=addresses, token=token, linger=0
    ) as server:
        silent = [own for own in addresses if not _answers(own, server.port, token)]
    if len(silent) == len(addresses):
        found = f"A server on this machine does not answer at its address {silent[0]}."
        mend = "A firewall on this machine may forbid it: allow Python to accept connections."
        return said("warning", found, mend)
    heard = [own for own in addresses if own not in silent]
    found = f"A server on this machine answers at {', '.join(heard)}."
    place, mend = (where or surroundings)()
    if place:
        return said("warning", f"{found} But {place}", mend)
    return said(
        "good",
        f"{found} Whether a firewall stands between two machines cannot be seen from here. To try:"
        f" `fedlab server --host 0.0.0.0 --port {port}`, and in a browser on the other machine"
        f" http://{heard[0]}:{port}/ - even an answer about a missing token is an answer.",
    )


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine by which others may call it; the likeliest first."""
    from fedlab.http.server import lan_address

    found = [lan_address()]
    try:
        import psutil

        cards = psutil.net_if_addrs()
        found += [a.address for name in cards for a in cards[name] if a.family.name == "AF_INET"]
    except (ImportError, OSError):
        pass  # then the likeliest alone
    return [a for a in dict.fromkeys(found) if not a.startswith(("127.", "169.254.", "0."))]


def _answers(address: str, port: int, token: str) -> bool:
    """Whether a fedlab server answers there, over HTTP and by no proxy."""
    asked = urllib.request.Request(f"http://{address}:{port}/status")
    asked.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(asked, timeout=3) as answer:
            return "members" in json.load(answer)
    except (OSError, ValueError):
        return False


def surroundings(root: Path = Path("/")) -> tuple[str, str]:
    """Where this machine hides from its network, and what to do: two sentences, "" where it does
    not.
    """
    has = os.environ.keys().__contains__
    inside = "Let all clients run in this notebook, or install fedlab on a machine of yours."
    if has("COLAB_RELEASE_TAG"):
        return "this is Google Colab: no other machine reaches it.", inside
    if has("BINDER_SERVICE_HOST") or has("BINDER_LAUNCH_HOST"):
        return "this is Binder: no other machine reaches it.", inside
    if has("JUPYTERHUB_USER"):
        return "this is a JupyterHub: others reach only its web pages.", inside
    if has("CODESPACES"):
        return "this is a Codespace: others reach it only by a forwarded port.", inside
    release = root / "proc" / "sys" / "kernel" / "osrelease"
    if release.exists() and "microsoft" in release.read_text("utf-8").lower():
        mend = (
            "Write `networkingMode=mirrored` below `[wsl2]` in the file .wslconfig of your Windows"
            " folder and type `wsl --shutdown`, or run fedlab in Windows itself."
        )
        return "this is Linux in Windows (WSL): others see only Windows.", mend
    marks = (".dockerenv", "run/.containerenv")
    if has("KUBERNETES_SERVICE_HOST") or any((root / mark).exists() for mark in marks):
        mend = (
            f"Publish the port, such as `docker run -p {PORT}:{PORT}`, and tell the server by which"
            f" address others call it: `fedlab server --host 0.0.0.0 --port {PORT} --allow-host"
            " ADDRESS`"
        )
        return "this is a container: others reach only the ports that it publishes.", mend
    return "", ""
