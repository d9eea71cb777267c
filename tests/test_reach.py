"""This machine's addresses as phones in a room would try them, the QR code, and the hints."""

import re

import psutil
import pytest
import segno

from fedlab.checks import Refused
from fedlab.classroom import reach
from fedlab.classroom.reach import (
    Address,
    Interface,
    hints,
    join_url,
    machine,
    qr_svg,
    qr_text,
    rank,
    typed,
)

URL = "http://192.168.1.20:8642/J/K7QXM"


def up(name: str, *ips: str) -> Interface:
    return Interface(name, True, ips)


LO = up("lo", "127.0.0.1", "::1")

MACHINES = {
    "Linux with Docker and libvirt": (
        [
            LO,
            up("docker0", "172.17.0.1"),
            up("br-3f2a91c0d7e1", "172.18.0.1"),
            up("virbr0", "192.168.122.1"),
            up("veth12ab", "fe80::1%veth12ab"),
            up("wlp2s0", "192.168.1.20", "fe80::2%wlp2s0"),
        ],
        "192.168.1.20",
        ["192.168.1.20", "172.17.0.1", "172.18.0.1", "192.168.122.1"],
    ),
    "Linux, all of whose traffic goes through a VPN": (
        [LO, up("tun0", "10.8.0.6"), up("eth0", "141.5.3.9"), up("wlan0", "192.168.1.20")],
        "10.8.0.6",
        ["192.168.1.20", "141.5.3.9", "10.8.0.6"],
    ),
    "Windows with WSL, Hyper-V and VirtualBox": (
        [
            up("vEthernet (WSL (Hyper-V firewall))", "172.28.112.1"),
            up("vEthernet (Default Switch)", "172.24.0.1"),
            up("VirtualBox Host-Only Network", "192.168.56.1"),
            Interface("Ethernet", False, ("169.254.7.7",)),
            up("Wi-Fi", "10.20.30.40", "fe80::99"),
            up("Loopback Pseudo-Interface 1", "127.0.0.1", "::1"),
        ],
        "10.20.30.40",
        ["10.20.30.40", "172.28.112.1", "172.24.0.1", "192.168.56.1"],
    ),
    "Windows that is a hotspot, by cable on the net": (
        [up("Ethernet", "141.5.3.9"), up("Local Area Connection* 10", "192.168.137.1")],
        "141.5.3.9",
        ["141.5.3.9", "192.168.137.1"],
    ),
    "Windows with all of it behind a virtual switch": (
        [up("vEthernet (WSL)", "172.28.112.1"), up("vEthernet (External)", "192.168.1.20")],
        "192.168.1.20",
        ["192.168.1.20", "172.28.112.1"],
    ),
    "macOS with a VPN and Tailscale": (
        [
            up("lo0", "127.0.0.1", "::1", "fe80::1%lo0"),
            up("utun4", "100.101.102.103"),
            up("en0", "192.168.2.14", "2001:db8::14"),
            up("en7", "172.20.4.4"),
        ],
        "192.168.2.14",
        ["192.168.2.14", "172.20.4.4", "100.101.102.103", "2001:db8::14"],
    ),
    "inside WSL": ([LO, up("eth0", "172.28.115.7")], "172.28.115.7", ["172.28.115.7"]),
    "a travel router that leads nowhere": (
        [LO, up("eth0", "192.0.2.7"), up("wlan0", "192.168.8.10")],
        "127.0.0.1",
        ["192.168.8.10", "192.0.2.7"],
    ),
    "a cable that was pulled out": (
        [LO, Interface("eth0", False, ("192.168.5.5",)), up("wlan0", "10.0.0.2")],
        "10.0.0.2",
        ["10.0.0.2", "192.168.5.5"],
    ),
    "two interfaces with one address": (
        [up("br-aaaa", "192.168.1.20"), up("eth0", "192.168.1.20")],
        "192.168.1.20",
        ["192.168.1.20"],
    ),
    "nothing but the default route is known": ([], "192.168.1.20", ["192.168.1.20"]),
    "no network": ([LO, Interface("wlan0", False, ())], "127.0.0.1", ["127.0.0.1"]),
    "nothing is known": ([], "127.0.0.1", ["127.0.0.1"]),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_likeliest_address_comes_first(name):
    found, default, expected = MACHINES[name]
    assert [address.ip for address in rank(found, default)] == expected


def test_17216_is_private_up_to_17231():
    found = [up("a", "172.32.0.1"), up("b", "172.31.255.1"), up("c", "172.15.0.1")]
    assert [address.ip for address in rank(found, "127.0.0.1")][0] == "172.31.255.1"


def test_the_menu_says_why():
    found, default, _ = MACHINES["Linux, all of whose traffic goes through a VPN"]
    why = {address.interface: address.why for address in rank(found, default)}
    assert why["wlan0"] == "a private network"
    assert "VPN" in why["tun0"] and "no private" in why["eth0"]
    (only,) = rank([LO], "127.0.0.1")
    assert only == Address("127.0.0.1", "", "this machine only") and only.local
    assert "not connected" in rank(*MACHINES["a cable that was pulled out"][:2])[1].why
    assert "hotspot" in rank([up("x", "10.42.0.1")], "127.0.0.1")[0].why
    shared = rank(*MACHINES["two interfaces with one address"][:2])
    assert shared[0].interface == "eth0", "the better of the two names stays"
    six = rank(*MACHINES["macOS with a VPN and Tailscale"][:2])[-1]
    assert "IPv6" in six.why and not six.local


@pytest.mark.parametrize(
    ("host", "ips"),
    [
        ("0.0.0.0", ["192.168.2.14", "172.20.4.4", "100.101.102.103"]),
        ("", ["192.168.2.14", "172.20.4.4", "100.101.102.103"]),
        ("::", ["192.168.2.14", "172.20.4.4", "100.101.102.103", "2001:db8::14"]),
        ("172.20.4.4", ["172.20.4.4"]),
        ("2001:db8::14", ["2001:db8::14"]),
        ("192.0.2.9", ["192.0.2.9"]),  # that the system did not say
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("localhost", ["127.0.0.1"]),
        ("teacher.local", ["192.168.2.14", "172.20.4.4", "100.101.102.103", "2001:db8::14"]),
    ],
)
def test_only_addresses_are_offered_at_which_somebody_listens(host, ips):
    found = rank(*MACHINES["macOS with a VPN and Tailscale"][:2])
    assert [address.ip for address in reach.heard(host, found)] == ips


def test_a_machine_that_has_ipv6_alone():
    found = rank([LO, up("eth0", "2001:db8::14")], "2001:db8::14")
    assert [a.ip for a in reach.heard("::", found)] == ["2001:db8::14"]
    assert [a.ip for a in reach.heard("0.0.0.0", found)] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["Ethernet", "Wi-Fi", "en0", "eth0", "wlp2s0", "enx00e04c680001"])
def test_plain_names_are_neither_vpn_nor_virtual(name):
    assert not reach.VPN.search(name) and not reach.VIRTUAL.search(name)


def test_this_machine_has_an_address():
    found = reach.addresses()
    assert found and len({address.ip for address in found}) == len(found)
    assert not any("%" in address.ip for address in found)
    assert [a.local for a in found] in ([True], [False] * len(found))


def test_where_the_system_says_nothing_the_default_route_is_left(monkeypatch):
    def refuses():
        raise PermissionError("not in this sandbox")

    monkeypatch.setattr(psutil, "net_if_addrs", refuses)
    monkeypatch.setattr(reach, "lan_address", lambda: "192.168.1.20")
    assert [address.ip for address in reach.addresses()] == ["192.168.1.20"]


# ---- the address and its QR code -----------------------------------------------------------------


def test_an_address_to_join_by():
    assert join_url("192.168.1.20", 8642, "k7qxm") == URL
    assert join_url("10.0.0.1", 1, "AB2", "https") == "https://10.0.0.1:1/J/AB2"
    assert join_url("2001:db8::1", 8642, "K7QXM") == "http://[2001:db8::1]:8642/J/K7QXM"
    assert typed("192.168.1.20", 8642) == "192.168.1.20:8642"
    assert typed("192.168.1.20", 8642, "https") == "https://192.168.1.20:8642"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ip": "teacher.local"}, "ip is 'teacher.local'; expected an IP address"),
        ({"port": 0}, "port is 0; expected a whole number from 1 to 65,535"),
        ({"port": 70_000}, "port is 70000; expected a whole number"),
        ({"code": "K7 QXM"}, "code is 'K7 QXM'; expected letters and digits"),
        ({"code": ""}, "code is ''; expected letters and digits"),
        ({"scheme": "ftp"}, "scheme is 'ftp'; expected 'http' or 'https'"),
    ],
)
def test_what_is_no_address_is_refused(wrong, sentence):
    right = {"ip": "192.168.1.20", "port": 8642, "code": "K7QXM"}
    with pytest.raises(Refused, match=re.escape(sentence)):
        join_url(**right | wrong)


@pytest.mark.parametrize("ip", ["10.0.0.1", "192.168.1.20", "192.168.178.220"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_ipv4_address_is_a_small_code(ip, scheme):
    text = qr_text(join_url(ip, 65_535, "K7QXM", scheme))
    code = segno.make(text, error="m", micro=False)
    assert (code.version, code.mode) == (2, "alphanumeric") and code.error in "MQ"


def test_capitals_only_where_they_mean_the_same():
    assert qr_text(URL) == "HTTP://192.168.1.20:8642/J/K7QXM"
    assert qr_text("http://example.org/class/J/K7QXM") == "HTTP://EXAMPLE.ORG/class/J/K7QXM"
    assert qr_text("http://example.org") == "HTTP://EXAMPLE.ORG"


def modules(svg: str) -> set[tuple[int, int]]:
    """The dark modules that a QR code's SVG draws: column, row, without the quiet zone."""
    (path,) = re.findall(r'fill="#000" d="([^"]+)"', svg)
    dark = set()
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
        dark |= {(int(x) + i - 4, int(y) - 4) for i in range(int(width))}
    return dark


@pytest.mark.parametrize("url", [URL, "http://[2001:db8::1]:8642/J/K7QXM"])
def test_the_svg_has_every_module_of_the_code(url):
    svg = qr_svg(url)
    code = segno.make(qr_text(url), error="m", micro=False)
    expected = {(x, y) for y, row in enumerate(code.matrix) for x, value in enumerate(row) if value}
    assert modules(svg) == expected
    side = code.symbol_size(border=4)[0]
    assert f'viewBox="0 0 {side} {side}"' in svg and f'fill="#fff" d="M0 0h{side}v{side}' in svg
    assert 'role="img"' in svg and f"<title>QR code of {url}</title>" in svg
    assert "width=" not in svg, "it is as wide as its box"


def test_what_is_not_from_here_stays_text():
    assert "<script>" not in qr_svg("http://x/<script>")


# ---- hints ---------------------------------------------------------------------------------------

WIFI = Address("192.168.1.20", "Wi-Fi", "the likeliest")


def here(*found: Address, **more) -> list[str]:
    return [hint.title for hint in hints(found or (WIFI,), 8642, **more) if hint.here]


@pytest.mark.parametrize(
    ("on", "title"),
    [
        ("windows", "On Windows"),
        ("macos", "On a Mac"),
        ("linux", "On Linux"),
        ("wsl", "In Linux on Windows (WSL)"),
        ("container", "In a container (Docker)"),
        ("hosted", "This notebook runs far away"),
    ],
)
def test_what_concerns_this_machine_comes_first(on, title):
    told = hints([WIFI], 8642, on=on)
    assert [hint.title for hint in told if hint.here] == [title] == [told[0].title]
    titles = [hint.title for hint in told]
    assert len(titles) == len(set(titles)) and titles[-1] == "When nothing works"
    assert ("This notebook runs far away" in titles) == (on == "hosted")


def test_its_addresses_tell_what_may_be_wrong():
    vpn = Address("10.8.0.6", "NordVPN", "a VPN")
    assert here(WIFI, vpn, on="macos") == [
        "A VPN is on",
        "This machine has 2 addresses",
        "On a Mac",
    ]
    assert here(reach.LOCAL, on="linux")[0] == "This machine is in no network"
    assert here(scheme="https", on="linux")[-1] == "The phone warns of the certificate"


def test_every_known_trouble_has_a_sentence():
    said = " ".join(f"{hint.title} {hint.text}" for hint in hints([WIFI], 9000, on="linux"))
    for word in (
        "mobile data",
        "client isolation",
        "travel router",
        "Nearby devices",
        "Local Network",
        "times out",
        "5 to 10",
        ".local",
        "allow Python on this network",
        "networkingMode=mirrored",
        "-LocalPorts 9000",
        "docker run -p 9000:9000",
        "sudo ufw allow 9000/tcp",
        "simulated phones",
    ):
        assert word in said, word
    assert said.count("`") % 2 == 0
    for hint in hints([WIFI], 8642, on="windows"):
        assert hint.text.endswith(".") and len(hint.title) <= 40


def test_what_this_machine_is(tmp_path):
    def on(platform: str = "linux", **variables: str) -> str:
        return machine(platform, variables, tmp_path)

    assert (on("win32"), on("darwin"), on()) == ("windows", "macos", "linux")
    assert on("win32", JUPYTERHUB_USER="ann") == on(COLAB_RELEASE_TAG="x") == "hosted"
    kernel = tmp_path / "proc/sys/kernel/osrelease"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("6.6.87.2-microsoft-standard-WSL2\n")
    assert on() == "wsl"
    (tmp_path / ".dockerenv").touch()
    assert on() == "container", "Docker on Windows has WSL's kernel"
    assert machine() in {"hosted", "container", "wsl", "windows", "macos", "linux"}
