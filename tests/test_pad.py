"""The drawing pad and its JavaScript in a real Chromium, without a notebook: drawn on by mouse,
finger and keyboard, and the images compared with Python's."""

from pathlib import Path

import numpy as np
import pytest
from jupyter_core.paths import jupyter_path
from test_browser import SCREENSHOTS
from test_handwriting import DIGITS, DRAWINGS, random_drawings

from fedlab.checks import Refused
from fedlab.dashboard.pad import DrawingPad
from fedlab.dashboard.scripts import PAGES
from fedlab.handwriting import prepare

pytestmark = [
    pytest.mark.slow,
    # Playwright's own event loop and pipes, closed a moment later
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

# What anywidget does to show a widget, with a model that keeps what it was sent: [ms, grey values]
SHOW = """async ([module, style]) => {
    document.head.append(Object.assign(document.createElement('style'), {textContent: style}));
    const url = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
    const widget = (await import(url)).default;
    const kept = {pixels: new DataView(new ArrayBuffer(0))}, listeners = {};
    window.sent = [];
    window.model = {
        get: name => kept[name],
        set: (name, value) => { kept[name] = value; model.tell('change:' + name); },
        save_changes: () => sent.push([performance.now(), model.grey()]),
        on: (name, listener) => (listeners[name] ??= []).push(listener),
        tell: (name, said) => (listeners[name] ?? []).forEach(listener => listener(said)),
        grey: () => [...new Uint8Array(kept.pixels.buffer)],
    };
    window.colours = (selector, ...where) => {  // a copy: what is read back often is drawn slowly
        const canvas = document.querySelector(selector);
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData(...where).data];
    };
    window.reached = [];
    document.addEventListener('keydown', event => reached.push(event.key));
    widget.render({model, el: document.querySelector('#pad')});
}"""
HTML = """<!doctype html><html lang="en"><title>Pad</title>
<body style="margin: 20px; min-height: 2000px; background: var(--jp-layout-color0, #fff)">
<main><h1 style="font-size: 0">Pad</h1><div id="pad"></div><button id="after">After</button></main>
"""


@pytest.fixture
def page(browser):
    with browser.new_context(viewport={"width": 420, "height": 360}, has_touch=True) as context:
        page = context.new_page()
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console", lambda said: said.type in ("error", "warning") and wrong.append(said.text)
        )
        yield page
        assert not wrong


class Pad:
    """The pad on its page, as a person uses it; points are those of the canvas, 200 x 200."""

    def __init__(self, page, style: str = ""):
        self.page = page
        page.set_content(HTML)
        page.evaluate(SHOW, [DrawingPad._esm, style + DrawingPad._css])
        self.paper = page.locator(".fp-paper")
        self.undo = page.get_by_role("button", name="Undo")
        self.clear = page.get_by_role("button", name="Clear")
        box = self.paper.bounding_box()
        assert (box["width"], box["height"]) == (200, 200)
        self.x, self.y = box["x"], box["y"]

    def mouse(self, strokes) -> None:
        for stroke in strokes:
            for number, (x, y) in enumerate(stroke):
                self.page.mouse.move(self.x + x, self.y + y)
                if not number:
                    self.page.mouse.down()
            self.page.mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def grey(self) -> list[int]:
        return self.page.evaluate("model.grey()")

    @property
    def seen(self) -> list[int]:
        """The preview's pixels as they are seen: white as opaque as they say, on black."""
        return self.page.evaluate("colours('.fp-seen', 0, 0, 28, 28)")[3::4]

    def ink(self, x: float, y: float) -> list[int]:
        """Red, green, blue and opacity of the canvas at a point."""
        return self.page.evaluate("([x, y]) => colours('.fp-paper', x, y, 1, 1)", [x, y])

    @property
    def buttons(self) -> tuple[bool, bool]:
        return self.undo.is_enabled(), self.clear.is_enabled()

    @property
    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.className || document.activeElement.id")


@pytest.fixture
def pad(page):
    return Pad(page)


def grey(strokes) -> list[int]:
    """What Python makes of them."""
    return np.round(255 * prepare(strokes)).astype(int).ravel().tolist()


# ---- handwriting.js ------------------------------------------------------------------------------


@pytest.fixture
def javascript(page):
    """`prepare` of handwriting.js, as a function in the page."""
    text = (PAGES / "handwriting.js").read_text("utf-8")
    page.evaluate(
        """async text => {
            const url = URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));
            window.prepare = (await import(url)).prepare;
        }""",
        text,
    )
    return page


def test_javascript_prepares_as_python_does(javascript):
    drawings = [*DRAWINGS.values(), *random_drawings(60), [], [[]], [[(3, 4)]], [[], [(-1e300, 0)]]]
    drawings += [[[(x, y)] for x, y in np.random.default_rng(3).normal(size=(30, 2)).tolist()]]
    # Sizes that overflow or vanish when they are squared
    drawings += [[[(0, 0), (size, 2 * size), (size, 0)]] for size in (1e-320, 1e-170, 1e170, 1e307)]
    images = javascript.evaluate("drawings => drawings.map(d => [...prepare(d)])", drawings)
    for strokes, image in zip(drawings, images, strict=True):
        assert np.abs(np.reshape(image, (28, 28)) - prepare(strokes)).max() < 1e-6


def test_javascript_refuses_what_is_not_finite(javascript):
    said = javascript.evaluate("""() => {
        const wrong = [[[[0, 0], [NaN, 1]]], [[[-1e308, 0], [1e308, 0]]]];
        return wrong.map(strokes => {
            try { return prepare(strokes); } catch (error) { return `${error}`; }
        });
    }""")
    assert said == [
        "RangeError: a stroke has a point (NaN, 1); expected finite numbers",
        "RangeError: the drawing is wider than a number can be; expected points within 1e308",
    ]


def test_javascript_is_fast_enough_for_live_drawing(javascript):
    """A digit of 300 points in less than a frame of 16 ms."""
    x, y = np.transpose(DIGITS[8][0])
    along = np.linspace(0, len(x) - 1, 300)
    stroke = np.stack([np.interp(along, np.arange(len(x)), axis) for axis in (x, y)], axis=1)
    took = javascript.evaluate(
        """strokes => Array.from({length: 20}, () => {
            const start = performance.now();
            prepare(strokes);
            return performance.now() - start;
        })""",
        [stroke.tolist()],
    )
    print(f"{len(stroke)} points: {np.median(took):.1f} ms, the first time {took[0]:.1f} ms")
    assert np.median(took) < 15


# ---- the pad -------------------------------------------------------------------------------------


def test_by_mouse(pad):
    assert pad.buttons == (False, False) and pad.seen == [0] * 784
    first, second = moved(DIGITS[4])
    pad.mouse([first])
    assert pad.grey == pad.seen == grey([first]) and pad.buttons == (True, True)
    assert pad.ink(*first[1]) == [255, 255, 255, 255] and pad.ink(*second[2])[3] == 0
    pad.mouse([second])
    assert pad.grey == pad.seen == grey([first, second])
    pad.undo.click()
    assert pad.grey == pad.seen == grey([first]) and pad.ink(*second[2])[3] == 0
    pad.mouse([second])
    pad.clear.click()
    assert pad.grey == [] and pad.seen == [0] * 784 and pad.buttons == (False, False)
    pad.mouse([[(50, 60)]])  # a dot
    assert pad.grey == grey([[(50, 60)]]) and pad.ink(50, 60) == [255, 255, 255, 255]
    pad.undo.click()
    assert pad.grey == [] and pad.buttons == (False, False)


def moved(strokes) -> list[list[tuple[float, float]]]:
    return [[(x + 40, y + 30) for x, y in stroke] for stroke in strokes]


@pytest.mark.parametrize("digit", DIGITS)
def test_every_digit_is_prepared_as_in_python(pad, digit):
    pad.mouse(moved(DIGITS[digit]))
    assert pad.grey == grey(moved(DIGITS[digit]))


def test_a_stroke_that_leaves_the_canvas_ends_at_its_edge(pad):
    pad.mouse([[(100, 100), (260, 100), (260, 150)]])
    assert pad.grey == grey([[(100, 100), (200, 100), (200, 150)]])
    pad.page.mouse.move(pad.x + 20, pad.y + 20)  # the button is up: nothing more
    assert pad.grey == grey([[(100, 100), (200, 100), (200, 150)]])


def test_other_buttons_of_the_mouse_do_not_draw(pad):
    pad.page.mouse.click(pad.x + 50, pad.y + 50, button="right")
    assert pad.grey == [] and pad.buttons == (False, False)


def test_messages_have_100_ms_between_them_and_one_ends_a_stroke(pad):
    pad.page.mouse.move(pad.x + 20, pad.y + 20)
    pad.page.mouse.down()
    for step in range(60):
        pad.page.mouse.move(pad.x + 20 + 2 * step, pad.y + 20 + step * step / 40)
        pad.page.wait_for_timeout(10)
    pad.page.mouse.up()
    sent = pad.page.evaluate("sent")
    assert len(sent) >= 4 and len({tuple(pixels) for _, pixels in sent}) >= 3
    # All but the last, which is the stroke's end; a timer may ring a little early.
    assert np.diff([when for when, _ in sent[:-1]]).min() > 95
    pad.page.wait_for_timeout(300)
    assert len(pad.page.evaluate("sent")) == len(sent)


def test_by_finger(pad):
    """A finger draws and does not scroll; a second one beside it does nothing."""
    assert pad.paper.evaluate("canvas => getComputedStyle(canvas).touchAction") == "none"
    stroke = [(60, 60), (80, 120), (140, 150)]
    devtools = pad.page.context.new_cdp_session(pad.page)

    def touch(kind: str, *points):
        places = [{"x": pad.x + x, "y": pad.y + y, "id": i} for i, (x, y) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", stroke[0])
    touch("touchMove", stroke[1])
    touch("touchStart", stroke[1], (20, 20))
    touch("touchMove", stroke[2], (30, 190))
    touch("touchEnd")
    assert pad.grey == grey([stroke])


def test_by_keyboard(pad):
    pad.press("Tab")
    assert pad.focused == "fp-paper" and pad.ink(93, 100)[3] == 255, "the pen is seen"
    pad.press("ArrowDown")
    assert pad.grey == [], "the pen is up"
    pad.press("Space")
    assert pad.page.get_by_role("status").inner_text() == "Pen down"
    pad.press("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowLeft", "Space", "ArrowUp")
    assert pad.page.get_by_role("status").inner_text() == "Pen lifted"
    first = [(100, 108), (108, 108), (116, 108), (116, 106), (108, 106)]
    assert pad.grey == pad.seen == grey([first])
    pad.press("Space", "Space")
    assert pad.grey == grey([first, [(108, 98)]])
    pad.press("Backspace")
    assert pad.grey == grey([first])
    pad.press("Space", "ArrowDown", "Backspace", "ArrowDown")  # a stroke that is still drawn
    assert pad.grey == grey([first])
    pad.press("Delete", "Backspace")
    assert pad.grey == [] and pad.buttons == (False, False)
    pad.press("Space", "ArrowLeft", "Escape")
    pad.page.wait_for_timeout(150)
    assert pad.grey == []
    # From one place to the edge and not beyond it
    pad.press("Space", "Space", *["ArrowLeft"] * 40, "Space", "ArrowDown", "Space")
    assert pad.grey == grey([[(100, 114)], [(0, 114), (0, 122)]])


def test_mouse_and_keys_take_turns(pad):
    """Whoever begins ends the other's stroke."""
    pad.paper.focus()
    pad.press("Space", "ArrowUp")
    pad.mouse([[(50, 50), (60, 90)]])
    strokes = [[(100, 100), (100, 92)], [(50, 50), (60, 90)]]
    assert pad.grey == grey(strokes) and pad.page.get_by_role("status").inner_text() == ""
    pad.page.mouse.move(pad.x + 150, pad.y + 50)
    pad.page.mouse.down()
    pad.press("Space", "ArrowUp")
    pad.page.mouse.move(pad.x + 150, pad.y + 150)
    pad.page.mouse.up()
    pad.press("Space")
    assert pad.grey == grey([*strokes, [(150, 50)], [(100, 92), (100, 84)]])


def test_what_holds_the_focus(pad):
    """Tab goes on, from the canvas to what is enabled and out of the pad; the pen is lifted then,
    and a button that is disabled hands the focus back.
    """
    pad.press("Tab", "Space", "ArrowUp", "Tab")
    assert pad.focused == "fp-undo" and pad.grey == grey([[(100, 100), (100, 92)]])
    assert pad.ink(100, 84)[3] == 0, "no pen where no keys are heard"
    pad.press("Tab", "Tab")
    assert pad.focused == "after"
    pad.press("Shift+Tab", "Enter")
    assert pad.focused == "fp-paper" and pad.grey == []
    pad.press("Tab")
    assert pad.focused == "after", "disabled buttons are passed"


def test_no_key_reaches_jupyterlab(pad):
    pad.press("Tab")
    keys = ["ArrowUp", "Space", "a", "b", "Delete", "Escape", "Backspace", "Enter", "Control+z"]
    pad.press(*keys, "Tab")
    assert pad.page.evaluate("reached") == ["Tab"], "the one that came before the pad had the focus"
    canvas = pad.page.locator(".fp-paper")
    assert canvas.get_attribute("data-lm-suppress-shortcuts") == "true", "JupyterLab asks it"
    assert pad.page.evaluate("scrollY") == 0


def test_python_clears_the_canvas(pad):
    strokes = moved(DIGITS[7])
    pad.mouse(strokes)
    pad.page.evaluate("model.tell('msg:custom', 'clear')")
    assert pad.grey == [] and pad.ink(*strokes[0][1])[3] == 0 and pad.buttons == (False, False)
    # In the middle of a stroke, nothing of which has been sent yet
    pad.page.mouse.move(pad.x + 20, pad.y + 20)
    pad.page.mouse.down()
    pad.page.evaluate("model.tell('msg:custom', 'clear')")
    pad.page.mouse.move(pad.x + 80, pad.y + 80)
    pad.page.wait_for_timeout(150)
    pad.page.mouse.up()
    assert pad.grey == [] and pad.buttons == (False, False)


def test_what_another_view_has_drawn_is_shown(pad):
    """The pixels are taken over, and cleared; the strokes were another view's."""
    pad.mouse(moved(DIGITS[7]))
    other = grey(DIGITS[3])
    take_over = "grey => model.set('pixels', new DataView(Uint8Array.from(grey).buffer))"
    pad.page.evaluate(take_over, other)
    assert pad.grey == pad.seen == other and pad.buttons == (False, True)
    pad.paper.focus()
    pad.press("Backspace")
    assert pad.grey == other, "there is no stroke to take back"
    pad.clear.click()
    assert pad.grey == [] and pad.buttons == (False, False)
    # In the middle of a stroke: its next message would undo that
    pad.page.mouse.move(pad.x + 20, pad.y + 20)
    pad.page.mouse.down()
    pad.page.evaluate(take_over, other)
    pad.page.wait_for_timeout(150)
    pad.page.mouse.up()
    assert pad.grey == other


def theme(name: str) -> str:
    """The colours of one of JupyterLab's themes."""
    (style,) = (
        file
        for folder in jupyter_path("lab", "themes", "@jupyterlab", f"theme-{name}-extension")
        if (file := Path(folder) / "index.css").exists()
    )
    return style.read_text("utf-8")


@pytest.mark.parametrize("name", ["none", "light", "dark"])
def test_it_can_be_read_in_every_theme(page, name):
    """Nothing that axe finds (contrast of 4.5, names, roles), empty and drawn on; and a picture of
    it to look at.
    """
    from axe_playwright_python.sync_playwright import Axe

    pad = Pad(page, theme(name) if name != "none" else "")
    assert_accessible(Axe(), page)
    pad.mouse(moved(DIGITS[5]))
    pad.paper.focus()
    pad.press("ArrowRight", "Space")
    assert_accessible(Axe(), page)
    outline = pad.paper.evaluate("canvas => getComputedStyle(canvas).outlineStyle")
    assert outline == "solid", "the focus is seen"
    SCREENSHOTS.mkdir(exist_ok=True)
    # Written here: Playwright would do it in threads, which stay as long as the browser.
    (SCREENSHOTS / f"pad-{name}.png").write_bytes(page.screenshot())


def assert_accessible(axe, page) -> None:
    found = axe.run(page)
    assert not found.response["violations"], found.generate_report()


# ---- pad.py --------------------------------------------------------------------------------------


def test_the_image_is_what_prepare_makes():
    pad = DrawingPad()
    assert pad.pixels == b"" and pad.image() is None
    image = prepare(DIGITS[6])
    # As a browser's message arrives
    pad.set_state({"pixels": memoryview(np.round(255 * image).astype(np.uint8).tobytes())})
    assert isinstance(pad.pixels, bytes) and pad.image().dtype == np.float32
    assert np.array_equal(pad.image(), image)
    pad.set_state({"pixels": memoryview(b"")})
    assert pad.image() is None


def test_clear_tells_the_canvas(monkeypatch):
    pad, told = DrawingPad(pixels=bytes(784)), []
    monkeypatch.setattr(pad, "send", told.append)
    pad.clear()
    assert pad.pixels == b"" and told == ["clear"]


def test_other_numbers_of_pixels_are_refused():
    pad = DrawingPad()
    with pytest.raises(Refused, match="pixels has length 3; expected 784, or 0"):
        pad.pixels = b"abc"
    assert pad.pixels == b""
