"""This machine's addresses, the likeliest for a phone in the room first; the QR code of one; and
what to do when a phone cannot come in."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import psutil
import segno

from fedlab.checks import Refused, whole
from fedlab.serving.listening import lan_address

PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
"""What routers give to phones and laptops."""

HOTSPOTS = ("192.168.137.1", "10.42.0.1")
"""Addresses that Windows and Linux (NetworkManager) take when they are a hotspot themselves."""

VPN = re.compile(r"vpn|tun|tap|wireguard|nordlynx|tailscale|zerotier|^(wg|zt|ipsec)", re.I)
VIRTUAL = re.compile(
    r"docker|podman|wsl|vethernet|veth|^br-|virbr|vmnet|vmenet|vmware|vbox|virtualbox|hyper-v"
    r"|^(cni|lxc|lxd)",
    re.I,
)
"""Names of interfaces behind which there is no phone: another network far away, or one inside this
machine."""

QUIET = 4
"""Light modules around a QR code: it is not found without."""


@dataclass(frozen=True)
class Address:
    """An address of this machine. interface: what the system calls the way in ("" where nobody
    says); why: what makes it likely or unlikely, in words for a menu.
    """

    ip: str
    interface: str
    why: str

    @property
    def local(self) -> bool:
        """Whether no other machine reaches it."""
        return ipaddress.ip_address(self.ip).is_loopback


LOCAL = Address("127.0.0.1", "", "this machine only")


@dataclass(frozen=True)
class Interface:
    """A way into this machine: its name, whether it is connected, its IP addresses."""

    name: str
    up: bool
    ips: tuple[str, ...]


def addresses(host: str = "0.0.0.0") -> list[Address]:
    """Where a server that listens on `host` is reached, the likeliest first: all of this machine's
    IPv4 addresses with "0.0.0.0", the IPv6 ones too with "::". Never empty; the loopback address is
    there only where there is no other.
    """
    return heard(host, rank(interfaces(), lan_address()))


def heard(host: str, found: Sequence[Address]) -> list[Address]:
    """Those of this machine's addresses at which a server that listens on `host` is reached."""
    if host in ("", "0.0.0.0"):
        return [a for a in found if ipaddress.ip_address(a.ip).version == 4] or [LOCAL]
    if host == "localhost":
        return [LOCAL]
    try:
        own = ipaddress.ip_address(host)
    except ValueError:  # a name of this machine
        return list(found)
    if own.is_unspecified:
        return list(found)
    if own.is_loopback:
        return [Address(host, "", LOCAL.why)]
    return [a for a in found if a.ip == host] or [Address(host, "", "where this class listens")]


def interfaces() -> list[Interface]:
    """What the system says of them; nothing where it says nothing."""
    try:
        cards, states = psutil.net_if_addrs(), psutil.net_if_stats()
    except (OSError, psutil.Error):  # a sandbox, Android: the default route is known all the same
        return []
    return [
        Interface(
            name,
            name not in states or states[name].isup,
            tuple(a.address for a in entries if a.family.name in ("AF_INET", "AF_INET6")),
        )
        for name, entries in cards.items()
    ]


def rank(found: Iterable[Interface], default: str) -> list[Address]:
    """These interfaces' addresses, the likeliest for a phone first. default: the address of the
    default route.
    """
    ways = [(ip.partition("%")[0], way) for way in found for ip in way.ips]
    if default not in [ip for ip, _ in ways]:
        ways.append((default, Interface("", True, (default,))))
    ranked = sorted(
        (_look(ip, way, default) for ip, way in ways if _may_be_called(ip)),
        key=lambda pair: pair[0],
    )
    best: dict[str, Address] = {}
    for _, address in ranked:
        best.setdefault(address.ip, address)
    return [a for a in best.values() if not a.local] or [LOCAL]


def _may_be_called(ip: str) -> bool:
    """Not those that a machine gives to itself, nor those of nobody."""
    address = ipaddress.ip_address(ip)
    return not (address.is_link_local or address.is_unspecified or address.is_multicast)


def _look(ip: str, way: Interface, default: str) -> tuple[tuple, Address]:
    """An address, and its place among others."""
    vpn, virtual = VPN.search(way.name), VIRTUAL.search(way.name)
    address, out = ipaddress.ip_address(ip), ip == default
    private = address.version == 4 and any(address in network for network in PRIVATE)
    if not way.up:
        place, why = 4, "not connected"
    elif vpn:
        place, why = 3, "a VPN: phones in the room rarely reach it"
    elif virtual:
        place, why = 3, "inside this machine: phones rarely reach it"
    elif out:
        place, why = 0, "the likeliest: this machine's way out"
    elif ip in HOTSPOTS:
        place, why = 1, "a hotspot of this machine, it seems"
    elif private:
        place, why = 1, "a private network"
    else:
        place, why = 2, "no private address: phones may not reach it"
    if address.version == 6 and place in (1, 2):
        why = "IPv6: long to type"
    return (address.version, place, not out, not private), Address(ip, way.name, why)


# ---- the address as a phone takes it -------------------------------------------------------------


def join_url(ip: str, port: int, code: str, scheme: str = "http") -> str:
    """Where a phone comes in: "http://192.168.1.20:8642/J/K7QXM". Raises Refused for what is no
    address, port, code or scheme.
    """
    if not re.fullmatch(r"[A-Za-z0-9]+", code):  # anything else would end the QR code's small mode
        raise Refused(f"code is {code!r}; expected letters and digits, such as 'K7QXM'")
    return f"{root_url(ip, port, scheme)}/J/{code.upper()}"


def root_url(ip: str, port: int, scheme: str = "http") -> str:
    """The same without code and path: "http://192.168.1.20:8642". Raises Refused as join_url."""
    try:
        six = ipaddress.ip_address(ip).version == 6
    except ValueError:
        raise Refused(f"ip is {ip!r}; expected an IP address, such as '192.168.1.20'") from None
    if scheme not in ("http", "https"):
        raise Refused(f"scheme is {scheme!r}; expected 'http' or 'https'")
    host = f"[{ip}]" if six else ip
    return f"{scheme}://{host}:{whole('port', port, 1, 65_535)}"


def typed(ip: str, port: int, scheme: str = "http") -> str:
    """What somebody types into a phone's browser: "192.168.1.20:8642". Raises Refused as
    join_url.
    """
    return root_url(ip, port, scheme).removeprefix("http://")  # https must be said


def qr_text(url: str) -> str:
    """`url` as the QR code holds it: scheme and host in capitals, which mean the same there, and
    with a path in capitals make a code of fewer, larger modules ("alphanumeric").
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.upper()}://{host.upper()}{slash}{path}"


def qr_svg(url: str) -> str:
    """The QR code of `url` as SVG, as wide as its box: black on white in every theme."""
    matrix = segno.make(qr_text(url), error="m", micro=False).matrix
    side = len(matrix) + 2 * QUIET
    runs = []
    for y, row in enumerate(matrix):
        for dark in re.finditer(rb"\x01+", bytes(row)):
            width = dark.end() - dark.start()
            runs.append(f"M{dark.start() + QUIET} {y + QUIET}h{width}v1h-{width}z")
    told = escape(f"QR code of {url}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" role="img"'
        f' aria-label="{told}" shape-rendering="crispEdges"><title>{told}</title>'
        f'<path fill="#fff" d="M0 0h{side}v{side}h-{side}z"/>'
        f'<path fill="#000" d="{"".join(runs)}"/></svg>'
    )


# ---- when a phone cannot come in -----------------------------------------------------------------


@dataclass(frozen=True)
class Hint:
    """What to do when a phone cannot come in: a few words, and sentences with commands between
    backticks. here: whether it concerns this machine above others.
    """

    title: str
    text: str
    here: bool = False


HOSTED = (
    "COLAB_RELEASE_TAG",
    "BINDER_SERVICE_HOST",
    "BINDER_LAUNCH_HOST",
    "JUPYTERHUB_USER",
    "CODESPACES",
)
"""Variables of notebooks that run on somebody else's machine."""

WSL = "{40E0AC32-46A5-438A-A0B2-2B479E8F2E90}"
"""How Windows' firewall for virtual machines calls WSL."""


def machine(
    platform: str = sys.platform, variables: Mapping[str, str] | None = None, root: Path = Path("/")
) -> str:
    """What this machine is to a phone: "hosted" (far away), "container", "wsl", "windows", "macos"
    or "linux".
    """
    if any(name in (os.environ if variables is None else variables) for name in HOSTED):
        return "hosted"
    if platform in ("win32", "darwin"):
        return {"win32": "windows", "darwin": "macos"}[platform]
    # Before WSL: Docker on Windows has WSL's kernel
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return "container"
    try:
        kernel = (root / "proc/sys/kernel/osrelease").read_text("utf-8")
    except OSError:
        kernel = ""
    return "wsl" if "microsoft" in kernel.lower() else "linux"


def hints(
    found: Sequence[Address], port: int, scheme: str = "http", on: str | None = None
) -> list[Hint]:
    """What to do when a phone cannot come in; what concerns this machine comes first. found: its
    addresses; on: what `machine` says of it, which is asked if None.
    """
    on = machine() if on is None else on
    systems = _systems(port)
    first = _about(found)
    if on in systems:
        first.append(systems.pop(on))
    if scheme == "https":
        first.append(CERTIFICATE)
    systems.pop("hosted", None)  # elsewhere it would help nobody
    return [
        *(Hint(title, text, here=True) for title, text in first),
        *(Hint(title, text) for title, text in (*GENERAL, *systems.values(), NOTHING)),
    ]


def _about(found: Sequence[Address]) -> list[tuple[str, str]]:
    """What these addresses have to do with it."""
    said = []
    if all(address.local for address in found):
        said.append(
            (
                "This machine is in no network",
                "Join the Wi-Fi of the room first. Until then only this machine's own browser comes"
                " in.",
            )
        )
    if any(VPN.search(address.interface) for address in found):
        said.append(
            (
                "A VPN is on",
                "It may keep phones away from this machine. Switch it off for the lesson.",
            )
        )
    if len(found) > 1:
        said.append(
            (
                f"This machine has {len(found)} addresses",
                "If no phone comes, choose the next one in the menu. As soon as a phone is seen,"
                " the address is right.",
            )
        )
    return said


def _systems(port: int) -> dict[str, tuple[str, str]]:
    """What is in a phone's way on each kind of machine."""
    return {
        "hosted": (
            "This notebook runs far away",
            "Colab, Binder, a JupyterHub or a Codespace: no phone in the room reaches it. Play the"
            " lesson with simulated phones, or run fedlab on a machine in the room.",
        ),
        "windows": (
            "On Windows",
            "The firewall must allow Python on this network's profile, private or public: Windows"
            " asks once. To change the answer: Windows Security > Firewall & network protection >"
            " Allow an app through firewall > Python.",
        ),
        "macos": (
            "On a Mac",
            "If the firewall is on, it must allow Python incoming connections: System Settings >"
            " Network > Firewall > Options.",
        ),
        "linux": (
            "On Linux",
            f"If a firewall is on, open the port: `sudo ufw allow {port}/tcp` or `sudo firewall-cmd"
            f" --add-port={port}/tcp`.",
        ),
        "wsl": (
            "In Linux on Windows (WSL)",
            "Phones see only Windows. Write `networkingMode=mirrored` below `[wsl2]` in the file"
            " .wslconfig of your Windows folder, type `wsl --shutdown`, and open the port in a"
            " PowerShell as administrator: `New-NetFirewallHyperVRule -Name fedlab -DisplayName"
            f" fedlab -Direction Inbound -VMCreatorId '{WSL}' -Protocol TCP -LocalPorts {port}`. Or"
            " run fedlab in Windows itself.",
        ),
        "container": (
            "In a container (Docker)",
            f"Publish the port, `docker run -p {port}:{port}`, and give out the address of the"
            " machine around it: phones do not reach the container's own.",
        ),
    }


GENERAL = (
    (
        "The same Wi-Fi",
        "The phone must be in the same Wi-Fi as this machine, with mobile data off: many phones"
        " prefer that to a Wi-Fi without internet.",
    ),
    (
        "School and guest Wi-Fi",
        "It often keeps devices apart (client isolation); then no phone comes in, whatever you do"
        " here. Bring a small travel router: it needs no internet.",
    ),
    (
        "The page loads for long and times out",
        "The phone may keep its browser from devices nearby. Android 17: Settings > Apps > the"
        " browser > Permissions > Nearby devices. iPhone, iPad: Settings > Privacy & Security >"
        " Local Network. Allow it, and load the page again.",
    ),
    (
        "Hotspots",
        "The hotspot of a phone or a laptop takes 5 to 10 devices: too few for most classes.",
    ),
    (
        "Typing the address",
        "Type the numbers: names that end in .local fail on many phones. If the browser searches"
        " for them, type `http://` in front.",
    ),
)

CERTIFICATE = (
    "The phone warns of the certificate",
    "It knows no certificate that you have made yourself. Have the class choose Advanced or"
    " Details, and go on.",
)

NOTHING = (
    "When nothing works",
    "Play the same lesson with simulated phones on this machine: it needs no network.",
)
