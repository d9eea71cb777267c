"""The pictures of README.md and of the book, docs/*.png, made anew in a real Chromium.

    make pictures    (pytest tests/pictures.py)

Not one of the tests: it takes minutes, and writes into docs/. What it looks at is tested elsewhere.
"""

import base64
import io
import sys
import time

import nbformat
import pytest
from PIL import Image
from test_browser import ROOT, browser, draw, free_port, lab, notebook, wait_for
from test_classroom import Phone

__all__ = ["browser", "lab", "notebook"]  # fixtures

DOCS = ROOT / "docs"
COLOURS = 128
"""In a picture: enough for a panel, and a third of the bytes."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(1800),  # a whole board on a busy machine
]


def keep(name: str, png: bytes) -> None:
    """Write a picture into docs/, with few colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(DOCS / f"{name}.png", optimize=True)


@pytest.fixture
def opened(notebook):
    """A notebook of one cell, run, on a large and sharp screen."""

    def opened(cell: str, what: str = ".fedlab-panel"):
        page = notebook(cell, device_scale_factor=2)
        page.command("application:toggle-left-area")
        page.size(1030, 1100)
        page.command("notebook:run-all-cells")
        page.panel = page.page.locator(what)
        page.panel.wait_for(timeout=90_000)
        return page

    return opened


def test_the_panel(opened):
    four = "{'alice': (1, 4), 'bob': (5, 8), 'carol': (9, 10), 'dave': (1, 1)}"
    page = opened(f"import fedlab\npanel = fedlab.Dashboard(clients={four})\npanel")
    page.until_pill("ready", 90)
    page.press("Start training")
    page.until_pill("finished", 180)
    for tab in ("Table", "What it reads"):  # a second press on an open one would close it
        page.press(tab)
        time.sleep(1)
    keep("panel", page.panel.screenshot())


def test_the_picture_of_a_round(opened):
    page = opened("import fedlab\npanel = fedlab.Dashboard(rounds=3)\npanel")
    page.until_pill("ready", 90)
    page.press("Slow motion")
    page.press("Start training")
    for step in ("sends its model", "they train", "they send weights"):
        wait_for(lambda step=step: step in page.said(), 60, f"the run to wait before: {step}")
        wait_for(page.button("Next step").is_enabled, 10, "the next step to be possible")
        page.press("Next step")
    page.panel.locator(".packet.up").first.wait_for(timeout=20_000)
    time.sleep(0.8)  # on its way
    keep("scene", page.panel.locator(".fl-round").screenshot())
    page.press("Slow motion")
    page.press("Stop")


def test_the_board(opened):
    lesson = nbformat.read(ROOT / "notebooks" / "08_who_can_spoil_it.ipynb", as_version=4)
    sides = next(cell.source for cell in lesson.cells if "ATTACKS = {" in cell.source)
    before = "import numpy as np, fedlab\nmnist = fedlab.load_mnist()\n"
    after = "\nboard = fedlab.Board(ATTACKS, DEFENCES, mnist)\nboard"
    page = opened(before + sides + after, ".fedlab-board")
    page.python("board.run_rest(); board.wait()")
    picked = page.panel.get_by_role("button", name="backdoor x 5 against mean")
    picked.click()
    time.sleep(2)
    keep("board", page.panel.screenshot())


def test_a_class_of_phones(opened, browser):
    port = free_port()
    settings = f"host='127.0.0.1', port={port}, code='K7QXM', rehearsal=11"
    page = opened(f"import fedlab\npanel = fedlab.Classroom({settings})\npanel")
    page.until_pill("open", 90)
    phone = Phone(browser, 3)
    phone.open(f"http://127.0.0.1:{port}/J/K7QXM")
    phone.come_in()
    phone.draw(29)
    keep("phone-draw", _half_drawn(phone))
    phone.draw(1)
    phone.take_part()
    ready = "print(sum(one.doing != 'drawing' for one in panel.live.students()))"
    wait_for(lambda: page.python(ready) == "12", 60, "twelve to be ready")
    page.python("panel.show_join(False); panel.start(10); panel.wait()")
    phone.page.wait_for_function(
        "/1\\d of|[2-9] of/.test(document.querySelector('#now').innerText)", timeout=60_000
    )
    time.sleep(4)  # they measure the last model, and tell
    keep("phone", phone.page.screenshot())
    keep("class", page.panel.screenshot())
    phone.context.close()
    page.python("panel.shutdown()")


def _half_drawn(phone: Phone) -> bytes:
    """The phone's page while the next digit is on the paper."""
    from fedlab.classroom.writers import draw as strokes_of

    digit = int(phone.page.locator("#ask").inner_text().split()[-1])
    phone.touch(strokes_of(phone.writer, digit, phone.drawn))
    time.sleep(0.5)
    picture = phone.page.screenshot()
    phone.page.get_by_role("button", name="Undo").tap()
    return picture


def test_the_drawing_pad(opened):
    page = opened("import fedlab\npad = fedlab.DrawingPad()\npad", ".fedlab-pad")
    page.panel.locator("canvas").first.wait_for(timeout=60_000)
    draw(page, [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)])
    time.sleep(0.5)
    keep("pad", page.panel.screenshot())


def test_the_map_of_the_loss():
    """As lesson 04 draws it."""
    sys.path.insert(0, str(ROOT / "book"))
    try:
        import executed
    finally:
        sys.path.pop(0)
    lesson = ROOT / "notebooks" / "04_unequal_data.ipynb"
    executed.execute_changed([lesson], any_library=True)
    cells = nbformat.read(executed.kept(lesson), as_version=4).cells
    (png,) = (
        output.data["image/png"]
        for cell in cells
        if cell.id == "map"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    )
    keep("map", base64.b64decode(png))
