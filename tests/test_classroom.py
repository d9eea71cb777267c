"""A class as it will be: a teacher's notebook in JupyterLab, and eight phones in Chromium, each
with a touch screen of 360 x 740, that come in by the code, draw, train, sleep, wake, reload, and
one of which is removed.
"""

import contextlib
import math
import re
import time

import pytest
from test_browser import SCREENSHOTS, free_port, lab, notebook, wait_for  # noqa: F401
from test_browser import browser as browser  # one for each test

from fedlab.classroom.writers import Writer, draw

# Playwright's own event loop and pipes, closed a moment later
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CODE, PHONES, DRAWINGS = "K7QXM", 8, 10


class Phone:
    """A phone in somebody's hand."""

    def __init__(self, browser, number: int, dark: bool = False):
        self.writer = Writer(11, number)
        self.context = browser.new_context(
            viewport={"width": 360, "height": 740},
            has_touch=True,
            is_mobile=True,
            device_scale_factor=2,
            color_scheme="dark" if dark else "light",
        )
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.finger = self.context.new_cdp_session(self.page)
        self.drawn = 0

    def open(self, address: str) -> None:
        self.page.goto(address)

    def come_in(self) -> str:
        """The name that it is given."""
        self.page.locator("#begin").tap(timeout=30_000)
        self.page.wait_for_selector('body[data-screen="draw"]')
        return self.name

    @property
    def name(self) -> str:
        return self.page.locator("#name").inner_text()

    @property
    def screen(self) -> str:
        return self.page.locator("body").get_attribute("data-screen")

    def touch(self, strokes) -> None:
        """Draw these strokes, of 0 to 200 in both directions, with a finger."""
        box = self.page.locator("#paper").bounding_box()
        side = min(box["width"], box["height"])
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        every = [point for stroke in strokes for point in stroke]
        low = [min(point[i] for point in every) for i in (0, 1)]
        high = [max(point[i] for point in every) for i in (0, 1)]
        extent = max(high[0] - low[0], high[1] - low[1]) or 1
        scale = 0.8 * side / extent

        def place(point) -> dict:
            return {
                "x": left + 0.1 * side + scale * (point[0] - low[0]),
                "y": top + 0.1 * side + scale * (point[1] - low[1]),
            }

        for stroke in strokes:
            self._say("touchStart", [place(stroke[0])])
            for point in stroke[1::2]:
                self._say("touchMove", [place(point)])
            self._say("touchMove", [place(stroke[-1])])
            self._say("touchEnd", [])

    def _say(self, type: str, points: list[dict]) -> None:
        self.finger.send("Input.dispatchTouchEvent", {"type": type, "touchPoints": points})

    def draw(self, count: int) -> None:
        """So many digits, each the one that the page asks for."""
        for _ in range(count):
            asked = self.page.locator("#ask").inner_text()
            digit = int(re.search(r"\d", asked).group())
            self.touch(draw(self.writer, digit, self.drawn))
            self.drawn += 1
            self.page.locator("#keep").tap()
            wait_for(lambda: self.count == self.drawn, 10, f"drawing {self.drawn} to be kept")

    @property
    def count(self) -> int:
        return int(self.page.locator("#mine-count").inner_text())

    def take_part(self) -> None:
        self.page.locator("#train").tap()
        self.page.wait_for_selector('body[data-screen="together"]')

    def hide(self, hidden: bool) -> None:
        """The screen is locked, or unlocked: what a browser then says to its page."""
        self.page.evaluate(
            """hidden => {
                Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
                document.dispatchEvent(new Event('visibilitychange'));
            }""",
            hidden,
        )

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"phone-{name}.png")

    def percent(self, card: str) -> float:
        found = re.search(r"(\d+)", self.page.locator(f"#{card}").inner_text())
        return float(found.group(1)) if found else math.nan


@pytest.fixture
def phones(browser):  # noqa: F811
    with contextlib.ExitStack() as opened:

        def phone(number: int, dark: bool = False) -> Phone:
            made = Phone(browser, number, dark)
            opened.callback(made.context.close)
            return made

        yield phone


def test_a_class_of_eight_phones(notebook, phones):  # noqa: F811
    port = free_port()
    settings = f'host="127.0.0.1", port={port}, code="{CODE}", deadline=8, minimum=6, half=True'
    teacher = notebook(f"import fedlab\npanel = fedlab.Classroom({settings})\npanel")
    teacher.page.locator(".jp-Cell").first.click()
    teacher.page.keyboard.press("Shift+Enter")
    address = f"http://127.0.0.1:{port}/"
    wait_for(lambda: teacher.python("print(panel.live is not None)") == "True", 120, "the class")

    class_of = [phones(number, dark=number % 2 == 1) for number in range(PHONES)]
    # By the code in the address, as the square says; by the typed address and a typed code.
    for phone in class_of[1:]:
        phone.open(f"{address}J/{CODE}")
    class_of[0].open(address)
    class_of[0].page.locator("#code").fill("aaaaa")
    class_of[0].page.locator("#enter").tap()
    told = class_of[0].page.locator("#code-told")
    wait_for(lambda: told.inner_text(), 10, "a sentence about a wrong code")
    class_of[0].shot("wrong-code")
    class_of[0].page.locator("#code").fill(CODE.lower())
    class_of[0].page.locator("#enter").tap()
    names = [phone.come_in() for phone in class_of]
    assert len(set(names)) == PHONES

    for phone in class_of:
        phone.draw(DRAWINGS)
        if phone in class_of[:2]:
            phone.shot(f"drawing-{'dark' if phone is class_of[1] else 'light'}")
        phone.take_part()
    drawn = "print(sum(s.drawn[0] for s in panel.live.students()))"
    aside = DRAWINGS // 5
    everything = str(PHONES * (DRAWINGS - aside))
    wait_for(lambda: teacher.python(drawn) == everything, 20, "all drawings to be told")
    teacher.shot("class-before.png")

    def rounds() -> int:
        return int(teacher.python("print(len(panel.history))"))

    teacher.python("panel.start(4)")
    wait_for(lambda: rounds() >= 2, 60, "two rounds")
    teacher.shot("class-running.png")
    wait_for(lambda: rounds() >= 4, 60, "four rounds")
    for phone, name in zip(class_of, names, strict=True):
        wait_for(lambda: phone.percent("now") >= 0, 20, "a phone to show what it has measured")
        assert phone.name == name
    class_of[0].shot("together-light")
    class_of[1].shot("together-dark")

    # One locks its screen, one is out of reach without a word, one is reloaded, one is removed.
    asleep, away, reloaded, removed = class_of[2:6]
    asleep.hide(True)
    away.context.set_offline(True)
    reloaded.page.reload()
    teacher.python(f"panel.remove({names[5]!r})")
    wait_for(lambda: removed.screen == "gone", 20, "the removed phone to say so")
    removed.shot("removed")
    assert names[5] in removed.page.locator("#gone-name").inner_text()
    wait_for(lambda: reloaded.screen == "together", 20, "the reloaded phone to go on")
    assert reloaded.name == names[4]
    members = "print(sorted(m.client for m in panel.live.federation.status().members))"
    wait_for(lambda: names[2] not in teacher.python(members), 20, "the phone that sleeps to leave")
    teacher.python("panel.live.minimum = 4; panel.start(3)")
    wait_for(lambda: rounds() >= 7, 90, "three more rounds")
    took = eval(teacher.python("print([sorted(r.clients) for r in list(panel.history)[4:]])"))
    for clients in took:
        assert names[4] in clients and not {names[2], names[3], names[5]} & set(clients)
    # The first of these rounds waited for whom had said nothing, the others did not.
    seconds = eval(teacher.python("print([r.seconds for r in panel.history])"))
    assert seconds[6] - seconds[5] < 7

    asleep.hide(False)
    away.context.set_offline(False)
    removed.page.locator("#again").tap()
    wait_for(lambda: removed.screen != "gone", 20, "the removed phone to be let in again")
    here = f"print({{*{[names[2], names[3]]!r}}} <= {{*{members[6:-1]}}})"
    wait_for(lambda: teacher.python(here) == "True", 40, "who slept to be back")
    teacher.python("panel.start(3)")
    wait_for(lambda: rounds() >= 10, 90, "the last rounds")
    last = eval(teacher.python("print(sorted(panel.history.last.clients))"))
    assert {names[2], names[3]} <= set(last)
    time.sleep(4)  # the phones measure the last model, and tell
    ours = eval(
        teacher.python("print([round(x, 3) if x == x else None for x in panel.curves().ours])")
    )
    # Some twenty digits kept aside: one model reads them with luck, another without
    assert max(ours[-3:]) > ours[0] + 0.15, ours
    learned = "print(panel.history.untrained + 0.3 < panel.history.last.accuracy)"
    assert teacher.python(learned) == "True"
    teacher.shot("class-after.png")
    for phone in class_of:
        assert phone.wrong == []
    assert teacher.wrong == []
    teacher.python("panel.shutdown()")
