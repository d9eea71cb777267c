"""The server's page in a real Chromium, before real servers: what somebody sees who looks on."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import requests
from test_browser import SCREENSHOTS, free_port
from test_server import proxied, toy

import fedlab
from fedlab.federation import Federation
from fedlab.http.server import Server
from fedlab.strategies import async_average, fed_avg

pytestmark = [
    pytest.mark.slow,
    # Playwright's own event loop and pipes, closed a moment later
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WIDE, PHONE = (1280, 720), (390, 800)
GONE = "net::ERR_"  # the browser's own words for a server that does not answer

# Every packet that was ever in the picture, and every state of the picture's steps
WATCH = """() => {
    window.seen = {packets: [], steps: new Set()};
    const look = changes => {
        const step = document.querySelector('.fl-steps .now');
        if (step) seen.steps.add(step.textContent);
        for (const change of changes) for (const node of change.addedNodes) {
            if (node.classList?.contains('packet')) setTimeout(() => seen.packets.push(
                `${node.classList[1]} ${node.textContent}`));
        }
    };
    const picture = document.querySelector('#picture');
    new MutationObserver(look).observe(picture, {subtree: true, childList: true, attributes: true});
}"""

# The boxes of the names at the lines' ends, and of the drawing
LABELS = """() => {
    const box = element => {
        const {left, top, right, bottom} = element.getBoundingClientRect();
        return {text: element.textContent, left, top, right, bottom};
    };
    return [[...document.querySelectorAll('#curve .name')].map(box),
            box(document.querySelector('#curve'))];
}"""


class Looker:
    """Somebody who looks on: the page, and what its console has said."""

    def __init__(self, browser, url: str, size=WIDE, scheme: str = "light", **options):
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.goto(url)
        self.page.evaluate(WATCH)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait(self, script: str, seconds: float = 30) -> None:
        """Until a JavaScript expression is true. (Playwright's own way puts a script into the page,
        which its policy forbids.)
        """
        end = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < end, f"waited {seconds} s for {script}; {self.said}"
            self.page.wait_for_timeout(50)

    def wait_for(self, selector: str, words: str, seconds: float = 30) -> None:
        """Until this is among the words of an element that is to be seen."""
        one = f"document.querySelector({selector!r})"
        self.wait(f"{one} && !{one}.hidden && {one}.innerText.includes({words!r})", seconds)

    def until(self, thread: threading.Thread) -> None:
        """Look on until a thread has ended: Playwright takes what the page says only meanwhile."""
        while thread.is_alive():
            self.page.wait_for_timeout(20)

    def curve(self) -> list[int]:
        """The number of points of each line of the curve, those to its names' not counted."""
        lines = self.page.locator("#curve .line").all()
        return [len(line.get_attribute("points").split()) for line in lines]

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        # Written here: Playwright would do it in threads, which stay as long as the browser.
        (SCREENSHOTS / f"page-{name}.png").write_bytes(self.page.screenshot())

    def violations(self) -> list:
        """What axe-core finds wrong. (It is put in from outside: the page's policy, which holds
        for what the page loads, keeps nobody from that.)
        """
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


@pytest.fixture
def look(browser):
    """Opens pages, and looks afterwards at what their consoles have said: nothing, but that a
    server was gone.
    """
    lookers = []

    def open_page(url: str, *args, **options) -> Looker:
        lookers.append(Looker(browser, url, *args, **options))
        return lookers[-1]

    yield open_page
    said = [text for looker in lookers for text in looker.said if GONE not in text]
    for looker in lookers:
        looker.context.close()
    assert said == []


@contextmanager
def taking_part(server: Server, images, *names: str, size: int = 200, test=None):
    """Clients of this server, each with fewer images than the one before."""
    clients = []
    try:
        for number, name in enumerate(names):
            first, last = number * size, (number + 1) * size - 10 * number
            own = images.subset(np.arange(first, last))
            clients.append(fedlab.Client(server.url, name, own, test=test).start())
        yield clients
    finally:
        for client in clients:
            client.stop()


def doing(work, *args) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


class Slow(fedlab.Strategy):
    """FedAvg that waits a moment before each round: so that there is something to see."""

    def __init__(self):
        super().__init__("FedAvg", "as FedAvg, slowly", fed_avg().aggregate)

    def run_round(self, state, task, ask):
        time.sleep(0.6)
        return fed_avg().run_round(state, task, ask)


# ---- a run, from before it to after it -----------------------------------------------------------


def test_a_run_from_its_beginning_to_its_end(look, mnist, test_images):
    """Packets, the growing curve, the clients' own; "finished", and a server that has left; on a
    screen and on a phone, light and dark; nothing that axe finds wrong, before, during and after.
    """
    with Server(test_images, Slow(), seed=1) as server:
        wide, phone = look(server.url), look(server.url, PHONE, "dark")
        wide.wait_for("#pill", "ready")
        assert "token" not in wide.page.url
        assert wide.text("#round") == "no round yet" and wide.text("#nobody").startswith("Nobody")
        assert "The curve begins with round 1." in wide.page.locator("#curve").text_content()
        assert wide.violations() == phone.violations() == []

        with taking_part(server, mnist.train, "bob", "alice", "carol", test=test_images):
            wide.wait("document.querySelectorAll('#clients tr').length === 3")
            assert "alice\n190\n–\n○ has joined" in wide.text("#clients").replace("\t", "\n")
            server.start(5, epochs=50)  # half a second at least: a busy page looks so often
            wide.wait_for("#pill", "running")
            wide.wait("document.querySelectorAll('#curve .line').length === 4")
            grown = wide.curve()
            assert len(set(grown)) == 1, "the global model's line and three clients'"
            wide.wait(f"document.querySelectorAll('#rounds tr').length > {grown[0]}")
            assert wide.curve()[0] > grown[0]
            wide.shot("running-light"), phone.shot("running-dark")
            assert wide.violations() == phone.violations() == []
            server.federation.wait()
            closing = doing(server.close)
            wide.until(closing)

    for looker in (wide, phone):
        looker.wait_for("#notice", "The run is over, and the server has left. This is its result.")
        assert (looker.text("#pill"), looker.text("#round")) == ("finished", "round 5 of 5")
        best = f"{100 * server.history.last.accuracy:.1f} %"
        assert looker.text("#accuracy") == best
        assert best in looker.text("#rounds tr:first-child")
        assert looker.page.title() == f"{best}, round 5 of 5 – federation"
        assert looker.curve() == [5, 5, 5, 5]
        assert looker.page.locator(".fl-round .face").count() == 3, "though all have left"
        assert looker.violations() == []
    wide.shot("finished-light"), phone.shot("finished-dark")

    names = [box["text"] for box in wide.page.evaluate(LABELS)[0]]
    own = {name: 100 * part.accuracy for name, part in server.history.last.clients.items()}
    own["global model"] = 100 * server.history.last.accuracy
    assert sorted(names) == sorted(f"{name} {value:.1f}" for name, value in own.items())
    colours = wide.page.locator("#curve .line").evaluate_all(
        "all => all.map(e => e.attributes.stroke.value)"
    )
    # Colours are given when somebody is first seen: the page may have looked while they joined.
    assert set(colours[:3]) == {f"var(--fl-client-{n})" for n in range(3)}
    assert colours[3:] == ["var(--fl-ink)"]
    steps, packets = wide.page.evaluate("[[...seen.steps], seen.packets]")
    assert {"1 broadcast", "2 client update"} & set(steps)
    assert {packet.split()[0] for packet in packets} == {"up", "down"}
    assert all(packet.endswith(" kB") for packet in packets) and len(packets) >= 10


def test_each_round_is_shown_while_it_goes_on(look, small):
    """Who takes part, what has arrived, and who is awaited alone, step by step."""
    with Server(federation=Federation(toy(), fed_avg()), linger=0) as server:
        for name, count in (("ada", 300), ("bo", 100), ("cy", 600)):
            server.federation.join(name, count)
        looker = look(server.url)
        looker.wait_for("#about", "FedAvg · 3 clients")
        server.start(2, fraction=0.67)
        looker.wait_for(".fl-steps .now", "1 broadcast")
        drawn = server.federation.status().participants
        (other,) = {"ada", "bo", "cy"} - set(drawn)
        looker.wait_for(".fl-says", f"The server sends its model to {drawn[0]} and {drawn[1]}.")
        assert f"{other}: not drawn" in looker.page.locator("#picture svg").get_attribute(
            "aria-label"
        )
        for name in drawn:
            assert server.federation.task(name, 2)
        looker.wait_for(".fl-steps .now", "2 client update")
        server.federation.report(update_of(server, drawn[0], 1))
        looker.wait_for(".fl-steps .now", "3 upload")
        assert (
            looker.text(".fl-says")
            == f"{drawn[0].capitalize()} has sent weights. Awaited: {drawn[1]}."
        )
        assert "1 of 2 updates" in looker.page.locator("#picture svg").text_content()
        looker.wait_for(".fl-says", f"The server waits for {drawn[1]}.", 10)
        words = looker.page.locator("#picture svg").get_attribute("aria-label")
        assert f"{drawn[1]}: late, weight" in words and f"{drawn[0]}: sent, weight" in words
        server.federation.report(update_of(server, drawn[1], 1))
        looker.wait_for("#round", "round 2 of 2")
        looker.wait("document.querySelectorAll('#rounds tr').length === 1")


def update_of(server, client: str, round: int, value: float = 1.0):
    from fedlab.messages import Update

    about = {"accuracy": 0.5, "run": server.federation.state.progress.run}
    return Update(client=client, round=round, num_examples=100, weights=toy(value), **about)


def test_every_update_of_the_asynchronous_way(look, mnist, test_images):
    with Server(test_images, async_average(), seed=1) as server:
        looker = look(server.url)
        with taking_part(server, mnist.train, "alice", "bob", test=test_images):
            server.start(4)
            looker.wait_for("#pill", "finished")
            assert looker.text("#round") == "update 8"
            looker.wait("document.querySelectorAll('#rounds tr').length === 8")
            assert sorted(looker.curve()) == [4, 4, 8]
            assert looker.text("#rounds-title") == "Updates" and looker.text("#unit") == "Update"


# ---- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0, 0.3, 1.5])
def test_the_end_is_seen_however_soon_the_server_leaves(look, small, wait):
    """A run of 0.3 s between two looks, a server that closes at once: its last round is seen."""
    with Server(small, seed=1) as server, taking_part(server, small, "alice"):
        looker = look(server.url)
        looker.wait_for("#pill", "ready")
        took = []

        def run():
            server.run(3, progress=False)
            time.sleep(wait)
            began = time.monotonic()
            server.close()
            took.append(time.monotonic() - began)

        looker.until(doing(run))
    looker.wait_for("#notice", "The run is over, and the server has left.")
    assert (looker.text("#pill"), looker.text("#round")) == ("finished", "round 3 of 3")
    assert looker.page.locator("#rounds tr").count() == 3
    assert took[0] < (0.5 if wait > 1 else 2.6), "who knows the end is not waited for"


def test_a_run_that_is_stopped_or_ends_by_an_error_says_so(look):
    for message, word, notice in (
        ("", "stopped", "The run is over, and the server has left."),
        ("the disk is full", "failed", "The run was ended by an error: the disk is full. The serv"),
    ):
        with Server(federation=Federation(toy(), fed_avg()), linger=0) as server:
            server.federation.join("alice", 5)
            looker = look(server.url)
            server.start(3)
            looker.wait_for("#pill", "running")
            if message:
                server.federation.fail(RuntimeError(message))
            looker.until(doing(server.close, 0))
        looker.wait_for("#notice", notice)
        assert looker.text("#pill") == word
        assert looker.violations() == []


PROGRAM = """
import sys, threading
from fedlab.federation import Federation
from fedlab.http.server import Server
from fedlab.strategies import fed_avg
sys.path.insert(0, sys.argv[2])
from test_server import toy
server = Server(federation=Federation(toy(), fed_avg()), port=int(sys.argv[1]), token="of-a-test")
server.federation.join(sys.argv[3], 5)
server.start(3)
print("here", flush=True)
threading.Event().wait()
"""


def test_a_server_that_vanishes_in_mid_run_and_one_that_takes_its_place(look):
    """Killed: the page says so, keeps what it shows, and goes on with the next one at its place."""
    port, tests = free_port(), os.path.dirname(__file__)
    command = [sys.executable, "-c", PROGRAM, str(port), tests]
    looker = None
    for name in ("alice", "bob"):
        process = subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "here\n"
            looker = looker or look(f"http://127.0.0.1:{port}/?token=of-a-test")
            looker.wait_for("#pill", "running")
            looker.wait_for("#clients", name)
            assert looker.page.locator("#notice").is_hidden()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        looker.wait_for("#notice", "The server cannot be reached. Is it still running?")
        assert looker.text("#pill") == "out of reach" and name in looker.text("#clients")
        assert looker.violations() == []
    with Server(federation=Federation(toy(), fed_avg()), port=port):
        looker.wait_for("#notice", "This page is of an earlier server.")
    looker.said = [text for text in looker.said if "401" not in text]


# ---- what it looks like --------------------------------------------------------------------------


def boxes(looker: Looker) -> list[dict]:
    """The names at the lines' ends, looked at: within the drawing, and none over another."""
    labels, drawing = looker.page.evaluate(LABELS)
    for label in labels:
        assert label["right"] <= drawing["right"] + 1, label["text"]
    labels.sort(key=lambda label: label["top"])
    for one, other in zip(labels, labels[1:], strict=False):
        assert one["bottom"] <= other["top"] + 4, (one["text"], other["text"])  # an em's empty rows
    return labels


def replayed(
    look, names, accuracies, *args, rounds: int = 3, note: str = "", strategy: str = "plain"
) -> Looker:
    """A page before a server whose history is this: round by round each client's accuracy."""
    from fedlab.history import ClientRecord, History, RoundRecord

    records = []
    for number in range(1, rounds + 1):
        parts = {
            name: ClientRecord(100, float(accuracies(number, i)), 0.5)
            for i, name in enumerate(names)
        }
        mean = float(np.mean([part.accuracy for part in parts.values()]))
        records.append(RoundRecord(number, mean, 0.5, 2.0 * number, 10**6, 10**6, parts, note))
    plain = fedlab.Strategy(strategy, "", fed_avg().aggregate)
    federation = Federation(toy(), plain, history=History(records))
    with Server(federation=federation, linger=0) as server:
        for name in names:
            federation.join(name, 100)
        looker = look(server.url, *args)
        looker.wait(f"document.querySelectorAll('#rounds tr').length === {min(rounds, 200)}")
    return looker


@pytest.mark.parametrize("size", [WIDE, PHONE, (820, 1180), (1920, 1080)])
def test_names_at_the_lines_ends_do_not_overlap(look, size):
    names = ["alice", "bob", "carol", "dave", "Erika-von-der-Hochschule-am-Ende-der-Wel", "f"]
    looker = replayed(look, names, lambda number, i: 0.9 + 0.01 * number + 0.002 * i, size)
    labels = boxes(looker)
    assert len(labels) == 7
    assert [label["text"].rsplit(" ", 1)[1] for label in labels] == [
        "94.0", "93.8", "93.6", "93.5", "93.4", "93.2", "93.0",
    ]  # fmt: skip
    assert looker.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert "axis from 90 %" in looker.page.locator("#curve").text_content()
    corners = "all => all.map(e => e.attributes.points.value.split(' ').length)"
    markers = looker.page.locator("#curve polygon").evaluate_all(corners)
    assert set(markers) == {24, 4, 3, 12}, (
        "circles, squares, triangles, a cross: not by colour alone"
    )


def test_of_many_clients_the_mean_and_the_worst(look):
    names = [f"client-{n:02}" for n in range(40)]
    looker = replayed(look, names, lambda number, i: 0.2 + 0.1 * number + 0.01 * i, rounds=4)
    texts = [label["text"] for label in boxes(looker)]
    assert texts == ["global model 79.5", "clients' mean 79.5", "clients' worst 60.0"] or texts == [
        "clients' mean 79.5", "global model 79.5", "clients' worst 60.0",
    ]  # fmt: skip
    dashes = looker.page.locator("#curve .line").evaluate_all(
        "all => all.map(e => e.attributes['stroke-dasharray'].value)"
    )
    assert dashes == ["8 5", "2 5", "none"]
    assert looker.page.locator(".fl-round .face").count() == 40
    assert looker.violations() == []


def test_a_thousand_rounds(look):
    looker = replayed(look, ["a", "b"], lambda number, i: 1 - 0.9 / number, rounds=1000)
    assert looker.text("#shown") == "The latest 200 of 1,000, the latest first"
    assert looker.curve() == [1000, 1000, 1000]
    assert looker.page.locator("#curve polygon").count() < 80


def test_what_a_server_says_is_never_markup(look):
    markup = "<img src=x onerror=alert(1)>&amp;"
    looker = replayed(look, ["a"], lambda number, i: 0.5, note=markup, strategy=markup)
    assert markup in looker.text("#rounds") and markup in looker.text("#about")
    assert looker.page.locator("img").count() == 0


def test_everyone_keeps_their_colour(look):
    """Numbers in the order of the names at first sight; who comes later gets the next."""

    def colours(looker: Looker) -> dict[str, str]:
        rows = looker.page.locator("#clients tr").all()
        colour = "e => e.style.getPropertyValue('--own')"
        return {
            r.locator("td").first.inner_text(): r.locator(".dot").evaluate(colour) for r in rows
        }

    with Server(federation=Federation(toy(), fed_avg()), linger=0) as server:
        for name in ("mia", "ben"):
            server.federation.join(name, 10)
        looker = look(server.url)
        looker.wait("document.querySelectorAll('#clients tr').length === 2")
        first = {"ben": "var(--fl-client-0)", "mia": "var(--fl-client-1)"}
        assert colours(looker) == first
        server.federation.join("ada", 10)
        looker.wait("document.querySelectorAll('#clients tr').length === 3")
        assert colours(looker) == first | {"ada": "var(--fl-client-2)"}
        server.federation.leave("ben")
        server.federation.join("ben", 10)
        looker.wait_for("#about", "3 clients")
        assert colours(looker) == first | {"ada": "var(--fl-client-2)"}


# ---- how it asks ---------------------------------------------------------------------------------


def test_it_asks_often_while_a_run_goes_on_and_never_twice_at_a_time(look):
    with Server(federation=Federation(toy(), fed_avg()), linger=0) as server:
        looker = look(server.url)
        open_now, most, asked = {}, {}, []

        def begins(request):
            kind = request.url.split("?")[0].rsplit("/", 1)[1]
            open_now[kind] = open_now.get(kind, 0) + 1
            most[kind] = max(most.get(kind, 0), open_now[kind])
            asked.append(kind)

        def ends(request):
            kind = request.url.split("?")[0].rsplit("/", 1)[1]
            open_now[kind] = max(open_now.get(kind, 0) - 1, 0)

        looker.page.wait_for_timeout(500)
        looker.page.on("request", begins)
        for event in ("requestfinished", "requestfailed"):
            looker.page.on(event, ends)
        looker.page.wait_for_timeout(4000)
        assert 2 <= asked.count("status") <= 5 and "history" not in asked, "nothing is new"
        server.federation.join("alice", 5)
        server.start(None)
        looker.wait_for("#pill", "running")
        asked.clear()
        looker.page.wait_for_timeout(3000)
        assert 4 <= asked.count("status") <= 11
        assert set(most.values()) == {1}


def test_below_a_path_that_a_proxy_puts_before_it(look):
    with (
        Server(federation=Federation(toy(), fed_avg()), linger=0) as server,
        proxied(server.port, "/lab/8642") as base,
    ):
        server.federation.join("alice", 5)
        token = server.url.split("token=")[1]
        # The proxy asks from another port: the cookie's name is that of the one.
        looker = look(f"{base}?token={token}")
        looker.wait_for("#clients", "alice")
        assert looker.page.url == base


def test_without_motion_nothing_moves(look, mnist, test_images):
    with Server(test_images, Slow(), seed=1) as server:
        looker = look(server.url, reduced_motion="reduce")
        places = """() => {
            window.places = [];
            const noted = ({target}) => {
                if (target.classList.contains('packet')) places.push(target);
            };
            new MutationObserver(changes => changes.forEach(noted)).observe(
                document.querySelector('#picture'),
                {subtree: true, attributeFilter: ['transform']});
        }"""
        looker.page.evaluate(places)
        with taking_part(server, mnist.train, "alice"):
            server.start(2)
            looker.wait("window.seen.packets.length > 1")
            looker.page.wait_for_timeout(800)
            moved = "places.length - new Set(places).size"
            assert looker.page.evaluate(moved) == 0, "a packet stands where it is for a moment"
            turning = "getComputedStyle(document.querySelector('.turning')).animationName"
            assert looker.page.evaluate(turning) == "none"


def test_everything_is_reached_by_keyboard_and_said_once(look):
    looker = replayed(look, ["alice"], lambda number, i: 0.5)
    live = "[...document.querySelectorAll('[aria-live], [role=alert], [role=status]')].length"
    assert looker.page.evaluate(live) == 1
    reached = []
    for _ in range(3):
        looker.page.keyboard.press("Tab")
        reached.append(
            looker.page.evaluate("document.activeElement.getAttribute('aria-labelledby')")
        )
    assert reached[:2] == ["clients-title", "rounds-title"]
    looker.wait("document.querySelector('.fl-live').textContent.includes('50.0 %')")


def test_the_policy_holds(look):
    """What somebody puts into the page does not run: neither a script nor a style of its own."""
    with Server(federation=Federation(toy(), fed_avg()), linger=0) as server:
        looker = look(server.url)
        looker.wait_for("#pill", "ready")
        looker.page.evaluate("""() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            document.body.setAttribute('style', 'color: red');
        }""")
        assert looker.page.evaluate("[window.ran, document.body.style.color]") == [None, ""]
        assert len(looker.said) == 2 and all("Content Security Policy" in s for s in looker.said)
        looker.said.clear()
        assert requests.get(server.address + "pages/page.js", timeout=5).status_code == 401
