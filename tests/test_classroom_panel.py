"""The panels of a live class in a real JupyterLab in a real Chromium: a lesson of simulated phones
on a projector, by keyboard, light and dark; and a student's panel."""

import io
import time
from pathlib import Path

import matplotlib.image
import pytest
from test_browser import SCREENSHOTS, browser, draw, lab, notebook, wait_for

__all__ = ["browser", "lab", "notebook"]  # fixtures

# Playwright's own event loop and pipes, closed a moment later
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CELL = """import fedlab
panel = fedlab.Classroom(host='127.0.0.1', port=0, code='K7QXM', epochs=1)
panel"""


def shot(page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.page.screenshot(path=SCREENSHOTS / f"classroom-{name}.png")


def summary(page) -> str:
    return page.panel.locator(".fr-summary").inner_text()


def test_a_lesson_on_a_projector(notebook):
    page = notebook(CELL, *["1"] * 8)
    page.page.locator(".jp-Cell").first.click()
    page.page.keyboard.press("Shift+Enter")
    page.until_pill("open", 90)
    assert page.panel.locator(".fl-join-code [aria-hidden]").inner_text().split() == [*"K7QXM"]
    wait_for(lambda: summary(page) == "Nobody is here yet", 30, "the roll")
    assert page.panel.locator(".fl-main").is_hidden()
    page.press("More")
    page.press("+ 3 simulated phones")
    wait_for(lambda: summary(page) == "3 here · 3 ready", 60, "three to come in")
    page.press("More")
    for dark in (False, True):
        page.theme(dark)
        assert page.axe() == [] == page.scrolling()
        shot(page, f"join-{'dark' if dark else 'light'}")

    # The lesson, by keyboard: N is one round, the card makes room for picture and curve.
    page.panel.get_by_role("button", name="One round").focus()
    page.page.keyboard.press("n")
    wait_for(lambda: "After round 1 of 1" in page.said(), 60, "a round")
    picture, curve = page.boxes(".fl-round", ".fl-plot")
    for box in (picture, curve):
        assert box["y"] + box["height"] < 600 and box["height"] > 150
    assert curve["x"] > picture["x"] + picture["width"], "beside each other"
    assert page.panel.locator(".fl-join-code").is_hidden()
    assert page.panel.locator(".fl-come-in").inner_text().endswith("code K 7 Q X M")
    assert "Drawings stay on the devices." in page.panel.locator(".fl-honest").inner_text()

    # A name is in sight only where it is asked for; then the roll's keys
    first = page.panel.locator(".fr-chip").first
    given = first.locator(".fr-name").inner_text()
    page.python(f"panel.live._roster.wish({given!r}, 'Zoë')")
    page.button("Look at names (1)").wait_for(timeout=10_000)
    assert "Zoë" not in page.panel.inner_text()
    page.press("Look at names (1)")
    page.press("Approve all")
    wait_for(lambda: first.locator(".fr-name").inner_text() == "Zoë", 10, "her name")
    first.focus()
    page.page.keyboard.press("ArrowRight")
    second = page.panel.locator(".fr-chip").nth(1)
    assert second.evaluate("chip => chip === document.activeElement")
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Tab")  # Rename
    page.page.keyboard.press("Enter")
    page.page.keyboard.type("Nils")  # of which n and s are keys elsewhere
    page.page.keyboard.press("Enter")
    wait_for(lambda: second.locator(".fr-name").inner_text() == "Nils", 10, "his name")
    page.press("Remove")
    wait_for(lambda: page.panel.locator(".fr-chip").count() == 2, 10, "him to go")
    assert page.panel.locator(".fr-gone").inner_text().startswith("Removed: Nils.")
    assert page.axe() == [] == page.scrolling()

    # The projector: no controls; keys; the card; and back
    page.page.keyboard.press("p")
    page.button("Leave full screen").wait_for(timeout=10_000)
    time.sleep(0.7)
    wide, high = page.page.evaluate("[innerWidth, innerHeight]")
    for part in (".fl-main", ".fl-roll"):
        box = page.panel.locator(part).bounding_box()
        assert box["width"] > 0.95 * wide and box["y"] + box["height"] < high, part
    buttons = page.panel.get_by_role("button").all_inner_texts()
    assert [text for text in buttons if text.strip() and "\n" not in text] == ["Leave full screen"]
    shot(page, "projector")
    page.page.keyboard.press("j")
    page.panel.locator(".fl-join-code").wait_for(timeout=5_000)
    time.sleep(0.5)
    card = page.panel.locator(".fl-join").bounding_box()
    assert card["width"] > 0.95 * wide and page.panel.locator(".fl-main").is_hidden()
    assert page.axe() == []
    shot(page, "projector-join")
    page.page.keyboard.press("j")
    page.page.keyboard.press("p")
    page.button("Full screen").wait_for(timeout=10_000)

    # Files
    page.press("More")
    with page.page.expect_download() as saved:
        page.press("CSV")
    rows = Path(saved.value.path()).read_text("utf-8").splitlines()
    assert rows[0].startswith("round,class,") and len(rows) == 3
    with page.page.expect_download() as saved:
        page.press("PNG")
    pixels = matplotlib.image.imread(io.BytesIO(Path(saved.value.path()).read_bytes()))
    assert pixels.shape[:2] == (1200, 2000)
    assert page.wrong == []


@pytest.mark.parametrize("students", [12, 30])
def test_many_students_fit(notebook, students):
    page = notebook(CELL, *["1"] * 8)
    page.command("notebook:run-all-cells")
    page.until_pill("open", 90)
    page.python(f"panel.rehearse({students}); panel.show_join(False); panel.wait()")
    wait_for(lambda: summary(page).startswith(f"{students} here"), 90, "all to come in")
    page.panel.evaluate("panel => panel.scrollIntoView({block: 'start'})")
    for width, height in ((1024, 768), (1280, 720), (1920, 1080)):
        page.size(width, height)
        assert page.scrolling() == [], f"at {width} x {height}"
        assert page.panel.locator(".fl-round .face").count() == students
        assert apart(page, ".fl-round .face") and apart(page, ".fl-round .box, .fl-round .face")
        assert cut(page, ".fr-name") <= students // 10, "names are whole, but for the longest"
        shot(page, f"{students}-{width}")
    page.size(1280, 720)
    page.press("Full screen")
    time.sleep(1)
    # " of " would be the cell's width, which the panel has left
    assert not [wrong for wrong in page.scrolling() if " in " in wrong]
    assert apart(page, ".fl-round .face, .fl-round .box")
    shot(page, f"{students}-projector")
    assert page.wrong == []


def apart(page, what: str) -> bool:
    """Whether none of these boxes overlaps another."""
    return page.page.evaluate(
        """what => {
            const boxes = [...document.querySelectorAll(what)].map(e => e.getBoundingClientRect());
            return boxes.every((a, i) => boxes.slice(i + 1).every(b =>
                a.right <= b.left + 1 || b.right <= a.left + 1
                || a.bottom <= b.top + 1 || b.bottom <= a.top + 1
                || Math.hypot(a.x + a.width / 2 - b.x - b.width / 2,
                    a.y + a.height / 2 - b.y - b.height / 2) > (a.width + b.width) / 2));
        }""",
        what,
    )


def cut(page, what: str) -> int:
    """How many of these are wider than their room."""
    wider = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    return page.panel.locator(what).evaluate_all(wider)


def test_a_student_draws_and_takes_part(notebook):
    cell = """import fedlab
from fedlab.classroom.live import LiveClass
live = LiveClass(code='K7QXM', host='127.0.0.1', port=0, minimum=1, epochs=1)
panel = fedlab.join(f'{live.server.address}J/K7QXM', 'Anna')
panel"""
    page = notebook(cell, *["1"] * 6)
    page.command("notebook:run-all-cells")
    page.panel.wait_for(timeout=60_000)
    wait_for(lambda: "not approved “Anna” yet" in page.panel.inner_text(), 60, "her to be in")
    for number in range(10):
        draw(page, [(0.3, 0.2 + 0.02 * number), (0.7, 0.2), (0.45, 0.85)])
        page.press("Keep it")
        kept = f"{number + 1 - (number + 1) // 5} to train on, {(number + 1) // 5} kept aside"
        wait_for(lambda kept=kept: kept in page.panel.inner_text(), 10, kept)
    page.press("Train with the class")
    wait_for(lambda: "Ready." in page.panel.inner_text(), 30, "her to be ready")
    assert page.axe() == [] == page.scrolling()
    page.python("live.approve(); live.start(1); live.wait()")
    wait_for(lambda: "alone" in page.panel.inner_text(), 30, "before and after")
    page.until_pill("Anna", 20)  # with its next word to the class it hears that she is approved
    page.press("Take shards")
    page.theme(dark=True)
    assert page.axe() == [] == page.scrolling() == page.wrong
    shot(page, "learner-dark")
