"""The panel in a real JupyterLab in a real Chromium, as a class sees and uses it: lesson 01, then
the panel by itself on small and large screens, light and dark, by keyboard, for screen readers.
"""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import symtable
import sys
import time
from pathlib import Path

import axe_playwright_python
import matplotlib.image
import nbformat
import numpy as np
import psutil
import pytest
import requests
from chromium import launched

ROOT = Path(__file__).parents[1]
SCREENSHOTS = Path(os.environ.get("FEDLAB_SCREENSHOTS", ROOT / "screenshots"))

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"

# Playwright's own event loop and pipes, closed a moment later
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def browser():
    """One for each test: what it writes into files is done by threads that end with it."""
    with launched() as browser:
        yield browser


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own on a copy of the notebooks: its address, its token, their folder."""
    notebooks = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks", notebooks)
    folders = {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower())
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    folders |= {
        f"JUPYTERLAB_{name}_DIR": str(tmp_path / name.lower())
        for name in ("WORKSPACES", "SETTINGS")
    }
    news = tmp_path / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # as in what `fedlab lab` starts
    environment = {**os.environ, **folders, "IPYTHONDIR": str(tmp_path / "ipython")}
    environment.pop("MPLBACKEND", None)  # of these tests: notebooks draw into their cells
    port, token = free_port(), "test-token"
    options = [
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={notebooks}",
    ]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--LabApp.expose_app_in_browser=True",
        *options,
    ]
    with open(tmp_path / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{address}/api?token={token}"), 60, "JupyterLab to answer")
        yield address, token, notebooks
    finally:
        # The kernels: they outlive the page
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def wait_for(true, seconds: float, what: str):
    """What `true()` returns once it is true."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return value


class Page:
    """The notebook's page: what a person sees and does, in few words."""

    def __init__(self, page, address: str, token: str, notebook: str):
        self.page = page
        self.wrong: list[str] = []  # what the page's own scripts complain about
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.goto(f"{address}/lab/tree/{notebook}?reset&token={token}")
        self.connected()
        self.panel = page.locator(".fedlab-panel")

    def connected(self) -> None:
        """Wait for the kernel."""
        self.page.wait_for_selector(
            '.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000
        )
        connected = (
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'"
        )
        self.page.wait_for_function(connected, timeout=60_000)

    def command(self, name: str, **arguments) -> None:
        told = json.dumps(arguments)
        self.page.evaluate(f"void window.jupyterapp.commands.execute('{name}', {told})")

    def theme(self, dark: bool) -> None:
        self.command("apputils:change-theme", theme=f"JupyterLab {'Dark' if dark else 'Light'}")
        light = "false" if dark else "true"
        self.page.wait_for_selector(
            f'body[data-jp-theme-light="{light}"]', state="attached", timeout=20_000
        )
        time.sleep(0.5)

    def size(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})
        time.sleep(0.7)

    def select(self, cell: str):
        """Make the cell with this id the active one: its place in the page."""
        index = self.page.evaluate(
            """cell => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                const index = notebook.widgets.findIndex(widget => widget.model.id === cell);
                notebook.activeCellIndex = index;
                notebook.deselectAll();
                return index;
            }""",
            cell,
        )
        return self.page.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def finish_cells(self) -> None:
        prompts = (
            "[...document.querySelectorAll('.jp-InputPrompt')].some(p =>"
            " p.textContent.includes('[*]'))"
        )
        time.sleep(1)
        self.page.wait_for_function(f"!({prompts})", timeout=400_000)

    def button(self, name: str):
        return self.panel.get_by_role("button", name=name, exact=True)

    def press(self, name: str) -> None:
        wait_for(self.button(name).is_enabled, 60, f"the button {name}")
        self.button(name).click()

    def pill(self) -> str:
        return self.panel.locator(".fl-pill").inner_text(timeout=60_000)

    def until_pill(self, text: str, seconds: float = 60) -> None:
        wait_for(lambda: text in self.pill(), seconds, f"the panel to say {text}")

    def said(self, where: str = "fl-live") -> str:
        """What a screen reader reads aloud."""
        return self.panel.locator(f".{where}").text_content()

    def axe(self, where: str = ".fedlab") -> list:
        """What axe-core finds wrong there, in the panel if nothing is said."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(AXE.read_text("utf-8"))
        return self.page.evaluate(
            """async where => {
                const found = await axe.run(where, {resultTypes: ['violations']});
                return found.violations.map(
                    v => [v.id, v.help, v.nodes.slice(0, 5).map(node => node.html)]);
            }""",
            where,
        )

    def scrolling(self) -> list:
        """What in the panel is larger than its room and has a scrollbar of its own."""
        return self.page.evaluate("""() => {
                const wrong = [];
                for (const e of document.querySelectorAll('.fedlab, .fedlab *')) {
                    const style = getComputedStyle(e), bars = ['auto', 'scroll'];
                    if ((bars.includes(style.overflowX) && e.scrollWidth > e.clientWidth + 1)
                        || (bars.includes(style.overflowY) && e.scrollHeight > e.clientHeight + 1))
                        wrong.push(`${e.className}: ${e.scrollWidth} x ${e.scrollHeight} in`
                            + ` ${e.clientWidth} x ${e.clientHeight}`);
                }
                const panel = document.querySelector('.fedlab-panel').getBoundingClientRect();
                const cell = document.querySelector('.fedlab-panel').closest('.jp-OutputArea')
                    .getBoundingClientRect();
                if (panel.right > cell.right + 1) wrong.push(`${panel.right} of ${cell.right}`);
                return wrong;
            }""")

    def boxes(self, *selectors: str) -> list[dict]:
        """Where these parts of the panel stand, in pixels from its top."""
        top = self.panel.bounding_box()["y"]
        found = [self.panel.locator(selector).first.bounding_box() for selector in selectors]
        return [box | {"y": box["y"] - top} for box in found]

    def round(self) -> int:
        """The round that the panel's summary speaks of."""
        said = re.search(r"After round (\d+) of", self.said())
        return int(said.group(1)) if said else 0

    def picture(self) -> str:
        return self.panel.locator(".fl-plot").inner_html()

    def python(self, code: str) -> str:
        """What `code` prints in the notebook's kernel."""
        return self.page.evaluate(
            """async code => {
                let text = '';
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({code});
                future.onIOPub = message => {
                    text += message.content.text || message.content.evalue || '';
                };
                await future.done;
                return text.trim();
            }""",
            code,
        )

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.panel.screenshot(path=SCREENSHOTS / name)


def test_start_here_sees_that_widgets_are_alive(lab, browser):
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = Page(context.new_page(), *lab[:2], "00_start_here.ipynb")
        cells = nbformat.read(lab[2] / "00_start_here.ipynb", as_version=4).cells
        table, row = page.page.locator(".fl-check"), page.page.locator(".fl-check tr")

        def run_the_check() -> None:
            page.select(next(cell.id for cell in cells if "fedlab.check(" in cell.source))
            page.command("notebook:run-cell")
            table.wait_for(timeout=30_000)
            page.finish_cells()

        run_the_check()
        alive = row.filter(has_text="Widgets").filter(has_text="Alive: your browser has drawn one")
        alive.wait_for(timeout=20_000)
        assert "good" in alive.inner_text() and "Nobody has answered" not in table.inner_text()
        assert page.page.locator(".fl-alive").inner_text() == "This line was drawn by a widget."
        # What is read aloud has stayed where it was, and says the same as the table's last line
        heard = page.page.locator(".fl-unseen[role=status]").text_content()
        assert heard == table.locator("p").inner_text() and heard.startswith("Everything that")
        SCREENSHOTS.mkdir(exist_ok=True)
        for dark, width in ((False, 1280), (True, 1024)):
            page.theme(dark)
            page.size(width, 900)
            table.scroll_into_view_if_needed()
            assert page.axe(".fl-check") == [] == page.axe(".fl-alive")
            wider = "e => e.scrollWidth > e.clientWidth + 1"
            assert not table.evaluate(wider), "nothing is cut off"
            table.screenshot(path=SCREENSHOTS / f"check-{'dark' if dark else 'light'}.png")
        run_the_check()  # once more
        alive.wait_for(timeout=20_000)
        assert table.count() == 1 and page.wrong == []
        left = "import threading; print(*(t.name for t in threading.enumerate() if"
        assert page.python(f"{left} t.name.startswith('fedlab')))") == ""


def test_lesson_01_in_jupyterlab(lab, browser):
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        use_the_panel(Page(context.new_page(), *lab[:2], "01_first_federation.ipynb"))


def use_the_panel(page: Page) -> None:
    page.command("notebook:run-all-cells")
    page.panel.wait_for(timeout=30_000)
    page.finish_cells()
    failed, expected = page.page.evaluate("""() => {
            const model = window.jupyterapp.shell.currentWidget.model.sharedModel;
            const cells = model.cells.filter(cell => cell.cell_type === 'code');
            const wrong = cell => cell.getOutputs().some(output => output.output_type === 'error');
            const failed = cells.filter(wrong);
            const tagged = cell => (cell.getMetadata().tags || []).includes('raises-exception');
            const expected = cells.filter(tagged);
            return [failed.map(cell => cell.getSource()), expected.map(cell => cell.getSource())];
        }""")
    assert failed == expected and expected, "the expected failure fails, and nothing else does"

    # A shard slider, by keyboard: carol's upper end goes from 12 to 10, and her line follows.
    handle = page.panel.get_by_role("slider", name="carol: last shard")
    handle.focus()
    for _ in range(2):
        page.page.keyboard.press("ArrowLeft")
    carol = page.panel.locator(".fl-card").nth(2)
    wait_for(lambda: "shards 9–10 · 10,000" in carol.inner_text(), 5, "her line to follow")
    assert handle.get_attribute("aria-valuetext") == "10"

    # Start: the curve and the table grow round by round.
    page.press("Table")
    page.press("Start training")
    pictures, rounds = set(), []
    while len(rounds) < 3:
        number = wait_for(
            lambda: (now := page.round()) > (rounds[-1] if rounds else 0) and now,
            60,
            "the next round",
        )
        rounds.append(number)
        # The picture is the last thing that is set, and a browser on busy cores shows it later.
        pictures.add(
            wait_for(
                lambda: (now := page.picture()) not in pictures and now,
                10,
                f"the curve after round {number}",
            )
        )
        rows = page.panel.locator("table.fl tbody tr")
        wait_for(lambda: rows.count() >= number, 5, "the table to have a row for every round")
    assert len(pictures) == 3, "the curve is drawn anew for every round"

    # Stop: over soon (two seconds where nobody else is at work), and the panel can start again.
    pressed = time.monotonic()
    page.press("Stop")
    wait_for(page.button("Start training").is_enabled, 10, "the panel to be ready again")
    assert time.monotonic() - pressed < 5
    page.until_pill("stopped")

    # A fourth client, and a second run, to its end: the earlier run is still in the picture.
    page.press("+ client")
    page.panel.locator(".fl-card").nth(3).wait_for()
    page.press("Start training")
    page.until_pill("finished", 120)
    assert "before: no dave" in page.panel.inner_text()
    page.press("What it reads")
    time.sleep(0.7)
    page.shot("panel.png")

    # The panel's cell once more: one server, and no thread of the first panel.
    page.page.evaluate("""() => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            const source = cell => cell.model.sharedModel.getSource();
            notebook.activeCellIndex = notebook.widgets.findIndex(
                cell => source(cell).includes('fedlab.Dashboard('));
            notebook.deselectAll();
        }""")
    page.command("notebook:run-cell")
    page.finish_cells()
    wait_for(page.button("Start training").is_enabled, 60, "the second panel")
    threads = (
        "import threading; print(*sorted(t.name for t in threading.enumerate() if"
        " t.name.startswith('fedlab')))"
    )
    wait_for(
        lambda: page.python(threads) == "fedlab-panel fedlab-server",
        10,
        f"one panel and one server, found {page.python(threads)!r}",
    )
    assert page.page.locator(".fedlab-panel").count() == 1
    assert page.wrong == []


# ---- the panel by itself -------------------------------------------------------------------------

TWELVE = "{name: (i + 1, i + 1) for i, name in enumerate('abcdefghijkl')}"
PROJECTOR = (1280, 720)  # with JupyterLab's file browser open: about 830 x 560 for a cell's output


@pytest.mark.parametrize(
    "lesson, cell, slider, draws",
    [
        ("02_what_crosses_the_wire", "explore", "byte", "explore"),
        ("03_federated_averaging", "explore-sliders", "E", "explore"),
        ("04_unequal_data", "explore", "round", "explore"),
        ("05_the_clock", "explore-sliders", "x slower", "explore"),
        ("06_what_an_update_gives_away", "explore", "images", "explore"),
        ("07_what_does_it_cost_to_hide_it", "explore-z", "noise z", "explore"),
        ("08_who_can_spoil_it", "paper-live", "far", "draw"),
        ("09_beyond_one_machine", "09-25", "clients", "compare"),
        ("10_how_few_bytes_are_enough", "explore-bits", "bits", "explore"),
    ],
)
def test_a_lessons_slider_by_keyboard(lab, browser, lesson, cell, slider, draws):
    """Run what a lesson's main slider needs, go there by Tab, move it with an arrow key: the
    picture below is another one, and whole: the same as the function `draws` makes in a cell.
    """
    only_what_it_needs(lab[2] / f"{lesson}.ipynb", cell)
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = Page(context.new_page(), *lab[:2], f"{lesson}.ipynb")
        page.select(cell)
        page.command("notebook:run-all-above")
        page.finish_cells()
        place = page.select(cell)
        page.command("notebook:run-cell")
        page.finish_cells()
        control = place.locator(".widget-hslider").filter(has_text=slider)
        handle, readout = control.get_by_role("slider"), control.locator(".widget-readout")
        handle.wait_for(timeout=20_000)
        button = place.get_by_role("button", name="Run Interact")

        def picture() -> str:
            """Everything that is drawn in the cell's output."""
            drawn = "all => all.map(e => e.src || e.outerHTML).join()"
            return place.locator(".jp-OutputArea").locator("img, svg").evaluate_all(drawn)

        def by_tab(wanted) -> None:
            for _ in range(60):
                if wanted.evaluate("e => e === document.activeElement"):
                    return
                page.page.keyboard.press("Tab")
            pytest.fail(f"{slider} is not reached by Tab")

        before, value = picture(), readout.inner_text()
        by_tab(handle)
        page.page.keyboard.press("ArrowRight")
        wait_for(lambda: readout.inner_text() != value, 10, "the slider to move")
        if button.count():
            by_tab(button)
            page.page.keyboard.press("Enter")
        wait_for(lambda: picture() != before, 60, "another picture")
        place.locator(".jp-OutputArea").first.scroll_into_view_if_needed()
        SCREENSHOTS.mkdir(exist_ok=True)
        for dark in (False, True):
            page.theme(dark)
            page.page.screenshot(
                path=SCREENSHOTS / f"{lesson[:2]}-{cell}-{'dark' if dark else 'light'}.png"
            )
        if draws:
            # After every message of a widget, in whatever thread, pyplot's figures are shown and
            # closed: drawn with it, this picture once lost its lower half, once its bars
            shown = place.locator(".jp-OutputArea img").get_attribute("src").split(",")[1]
            page.python(f"again = {draws}(**{draws}.widget.kwargs)")
            code = "print(get_ipython().display_formatter.format(again)[0]['image/png'])"
            assert_alike(*(image_of(base64.b64decode(png)) for png in (shown, page.python(code))))
        assert page.wrong == []


WITHOUT_A_NAME = {"others"}
"""Cells that are needed for what they do, and give no name to it: in lesson 02 others join, and the
server has a task."""


def only_what_it_needs(path: Path, cell: str) -> None:
    """Leave in the notebook at `path` this cell and what it stands on: above it, the last cells
    that give a value to a name that it, or another one that is left, reads. (test_notebooks.py runs
    the lessons whole.)
    """
    notebook = nbformat.read(path, as_version=4)
    code = [above for above in notebook.cells if above.cell_type == "code"]
    wanted, kept = set(), []
    for above in reversed(code[: [c.id for c in code].index(cell) + 1]):
        reads, binds = names(re.sub("(?m)^%.*", "", above.source))
        if above.id in (cell, *WITHOUT_A_NAME) or binds & wanted:
            wanted = (wanted - binds) | reads
            kept.append(above)
    notebook.cells = kept[::-1]
    nbformat.write(notebook, path)


def names(source: str) -> tuple[set[str], set[str]]:
    """What a cell reads, in its functions too, and what it gives a value to."""
    table = symtable.symtable(source, "a cell", "exec")
    tables = [table]
    for inner in tables:
        tables += inner.get_children()
    reads = {
        symbol.get_name()
        for each in tables
        for symbol in each.get_symbols()
        if symbol.is_referenced() and (each is table or symbol.is_global())
    }
    given = (s for s in table.get_symbols() if s.is_assigned() or s.is_imported())
    return reads, {symbol.get_name() for symbol in given}


def image_of(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    """Two pictures of the same: what is trained twice may differ by a line's width."""
    assert one.shape == other.shape
    different = (np.abs(one - other) > 0.1).any(axis=-1).mean()
    assert different < 0.01, f"{different:.1%} of the pixels are others"


@pytest.fixture
def notebook(lab, browser):
    """Opens a notebook of these cells: the Page, which is closed afterwards."""
    address, token, folder = lab
    with contextlib.ExitStack() as opened:

        def page_of(*cells: str, **options) -> Page:
            made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
            made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
            nbformat.write(made, folder / "panel.ipynb")
            size = {"width": PROJECTOR[0], "height": PROJECTOR[1]}
            context = opened.enter_context(browser.new_context(viewport=size, **options))
            return Page(context.new_page(), address, token, "panel.ipynb")

        yield page_of


def test_a_panel_on_a_projector(notebook):
    page = notebook("import fedlab\npanel = fedlab.Dashboard(rounds=3)\npanel", *["1"] * 12)
    # Shift+Enter, as a teacher does: the panel's top is in sight, though the next cell is active.
    page.page.locator(".jp-Cell").first.click()
    page.page.keyboard.press("Shift+Enter")
    page.until_pill("ready")
    time.sleep(1.5)
    start = page.button("Start training").bounding_box()
    assert 0 <= start["y"] < 300, f"the panel's top is at {start['y']}"

    # One screen: buttons, status, picture and curve within 600 pixels, beside each other.
    picture, curve = page.boxes(".fl-round", ".fl-plot")
    for box in (picture, curve):
        assert box["y"] + box["height"] < 600 and box["height"] > 150
    assert curve["x"] > picture["x"] + picture["width"], "beside each other"
    assert page.scrolling() == []

    # A round in slow motion, by key: what is said, what has been sent.
    page.press("Slow motion")
    page.press("Start training")
    seen = []
    for step in ("sends its model", "they train", "they send weights", "a new model"):
        wait_for(lambda: step in page.said(), 30, f"the run to wait before: {step}")
        wait_for(page.button("Next step").is_enabled, 10, "the next step to be possible")
        now = page.panel.locator(".fl-steps [aria-current=step]")
        seen.append(now.inner_text() if now.count() else "")
        page.shot(f"step-{len(seen)}.png")
        time.sleep(0.3)
        page.page.keyboard.press("n")  # though the button that was pressed is disabled now
        if step == "they send weights":
            packet = page.panel.locator(".packet.up")
            packet.first.wait_for(timeout=10_000)
            assert re.fullmatch(r"79\d kB", packet.first.text_content())
    assert seen == ["", "1 broadcast", "2 client update", "3 upload"]
    wait_for(lambda: "Round 1 of 3" not in page.pill(), 30, "the first round to end")
    page.press("Slow motion")
    page.until_pill("finished")

    # Looking back moves picture, curve and accuracy.
    good, drawn = page.panel.locator(".fl-number").inner_text(), page.picture()
    back = page.panel.get_by_role("slider", name="Look back at round")
    back.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowLeft")
    wait_for(lambda: "untrained model guesses" in page.panel.inner_text(), 10, "round 0")
    wait_for(lambda: page.picture() != drawn, 10, "the curve of that time")
    assert page.panel.locator(".fl-number").inner_text() != good
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    wait_for(lambda: page.panel.locator(".fl-number").inner_text() == good, 10, "the present")

    # A digit, drawn with the mouse: everybody says what it is.
    page.press("Draw a digit")
    draw(page, [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)])
    read = page.panel.locator(".fl-read")
    wait_for(lambda: read.count() == 4, 10, "four models to answer")
    # They answer while it is drawn, too: half a seven is a four.
    wait_for(lambda: read.first.inner_text().startswith("7"), 10, "the whole digit to be read")
    page.page.locator(".fl-tabs").scroll_into_view_if_needed()
    page.shot("draw.png")

    # Nothing is cut off, and nothing has a scrollbar of its own, whatever is looked at.
    for tab in page.panel.locator(".fl-tab").all_inner_texts():
        if tab != "Draw a digit":
            page.press(tab)
            time.sleep(0.5)
        assert page.scrolling() == [], tab

    # Files.
    with page.page.expect_download() as saved:
        page.press("CSV")
    rows = Path(saved.value.path()).read_text("utf-8").splitlines()
    assert saved.value.suggested_filename.endswith(".csv") and len(rows) == 4
    with page.page.expect_download() as saved:
        page.press("PNG")
    pixels = matplotlib.image.imread(io.BytesIO(Path(saved.value.path()).read_bytes()))
    assert pixels.shape[:2] == (1200, 2000)

    # The whole screen, and back.
    page.press("Full screen")
    page.button("Leave full screen").wait_for(timeout=10_000)
    time.sleep(0.7)
    page.page.screenshot(path=SCREENSHOTS / "projector.png")
    wide, high = page.page.evaluate("[innerWidth, innerHeight]")
    box = page.panel.locator(".fl-main").bounding_box()
    assert box["width"] > 0.95 * wide and box["y"] + box["height"] < high
    page.press("Leave full screen")
    page.button("Full screen").wait_for(timeout=10_000)

    # After a reload before anything was saved the outputs are gone, the panel is not.
    page.page.reload()
    page.connected()
    assert page.panel.count() == 0
    page.page.evaluate("""() => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = notebook.widgets.length - 1;
            notebook.activeCell.model.sharedModel.setSource('panel');
        }""")
    page.command("notebook:run-cell")
    page.until_pill("finished")
    assert page.panel.locator(".fl-number").inner_text() == good
    assert page.panel.locator(".fl-round svg circle.face").count() == 3
    assert page.wrong == []


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """A stroke through these points, parts of the pad's width and height."""
    canvas = page.panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.page.mouse.move(*places[0])
    page.page.mouse.down()
    for place in places[1:]:
        page.page.mouse.move(*place, steps=12)
    page.page.mouse.up()


@pytest.mark.parametrize(
    ("clients", "beside"),
    [(1, False), (3, True), (12, False)],
    ids=["1 in a cell", "3 in a Prediction", "12 in a cell"],
)
def test_a_panel_fits_every_room(notebook, clients, beside):
    shards = {1: "{'alice': (1, 2)}", 3: "None", 12: TWELVE}[clients]
    made = f"import fedlab\npanel = fedlab.Dashboard(clients={shards}, rounds=2, batch_size=64)\n"
    question = "fedlab.Prediction('What happens?', ['this', 'that'], 'Try it.', panel)"
    page = notebook(made + (question if beside else "panel"))
    page.command("notebook:run-all-cells")
    if beside:
        page.page.get_by_role("button", name="Skip", exact=True).click(timeout=60_000)
    page.until_pill("ready")
    page.press("Start training")
    page.until_pill("finished")
    for width, height in ((1024, 768), PROJECTOR, (1500, 900), (1920, 1080)):
        page.size(width, height)
        page.panel.evaluate("panel => panel.scrollIntoView({block: 'start'})")
        assert page.scrolling() == [], f"at {width} x {height}"
        bar, picture, curve = page.boxes(".fl-bar", ".fl-round", ".fl-plot")
        highest = max(box["y"] + box["height"] for box in (picture, curve))
        assert bar["y"] >= 0 and highest < 600, f"Start and curve in one screen at {width}"
        page.shot(f"room-{clients}-{'prediction' if beside else 'cell'}-{width}.png")
    assert page.wrong == []


def test_everyone_can_use_it(notebook):
    page = notebook("import fedlab\npanel = fedlab.Dashboard(rounds=2, batch_size=64)\npanel", "1")
    page.command("notebook:run-all-cells")
    page.until_pill("ready")
    assert page.axe() == []

    # By keyboard alone: from the first button on, everything is reached by Tab and has a name of
    # its own. Sliders announce what they mean.
    page.panel.get_by_role("button", name="Start training").focus()
    page.page.keyboard.press("Enter")
    wait_for(lambda: "After round" in page.said(), 60, "a round to be read aloud")
    page.until_pill("finished")
    page.panel.get_by_role("button", name="Change settings").focus()
    page.page.keyboard.press("Enter")
    page.panel.get_by_role("slider", name="B batch").wait_for()
    for name in ("alice: Edit", "bob: Edit"):
        page.panel.get_by_role("button", name=name).focus()
        page.page.keyboard.press("Space")
    time.sleep(0.5)
    page.button("Start training").focus()
    names = []
    for _ in range(80):
        names.append(
            page.page.evaluate("""() => {
                const e = document.activeElement;
                if (!e.closest('.fedlab-panel')) return null;
                const own = e.getAttribute('aria-label') || e.textContent;
                    return (own || e.labels?.[0]?.textContent || '').trim();
            }""")
        )
        if names[-1] is None:
            break
        page.page.keyboard.press("Tab")
    reached = names[:-1]
    assert names[-1] is None and "" not in reached
    assert len(set(reached)) >= len(reached) - 4, "an end as a handle and as a number: one name"
    expected = {"alice: first shard", "bob: last shard", "alice: Remove", "B batch", "Strategy"}
    assert expected | {"Draw a digit", "Join", "CSV", "Look back at round"} <= set(reached)
    batch = page.panel.get_by_role("slider", name="B batch")
    assert batch.get_attribute("aria-valuetext") == "64"
    batch.focus()
    page.page.keyboard.press("ArrowLeft")
    wait_for(lambda: batch.get_attribute("aria-valuetext") == "32", 5, "32, and not 3")
    rate = page.panel.get_by_role("slider", name="Learning rate")
    assert rate.get_attribute("aria-valuetext") == "0.1"

    # A tab by keyboard, and a digit by keyboard; none of the keys reaches JupyterLab.
    cells = page.page.locator(".jp-Cell").count()
    page.panel.get_by_role("button", name="Draw a digit").focus()
    page.page.keyboard.press("Enter")
    page.panel.locator("canvas").first.wait_for()
    page.panel.locator("canvas").first.focus()
    page.page.keyboard.press("Space")
    for _ in range(12):
        page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Space")
    wait_for(lambda: page.panel.locator(".fl-read").count() == 4, 10, "the models to answer")
    page.page.keyboard.press("b")
    page.button("PNG").focus()
    page.page.keyboard.press("a")
    assert page.page.locator(".jp-Cell").count() == cells, "no cell was inserted"

    tabs = page.panel.locator(".fl-tab").all_inner_texts()
    assert len(tabs) == 8
    for dark in (False, True):
        page.theme(dark)
        for tab in tabs:
            if page.panel.locator(".fl-tab.fl-on").all_inner_texts() != [tab]:
                page.press(tab)
            time.sleep(0.6)
            assert page.axe() == [], f"{tab}, {'dark' if dark else 'light'}"
        page.shot("dark.png" if dark else "light.png")
    assert page.wrong == []


BOARD = """import fedlab
attacks = {"nobody": None, "sign x 5": fedlab.SignFlip(5), "backdoor x 5": [fedlab.Backdoor(),
           fedlab.ScaledUpdate(5)], "label flip": fedlab.LabelFlip()}
defences = {"mean": fedlab.fed_avg(), "median": fedlab.median(), "trimmed": fedlab.trimmed_mean(1),
            "Krum": fedlab.krum(1), "Multi-Krum": fedlab.multi_krum(1), "clip 2":
            fedlab.clipped_mean(2.0), "geometric": fedlab.geometric_median()}
board = fedlab.Board(attacks, defences, clients=6, images=100, attackers=2, rounds=2)
board"""


def test_a_board_by_keyboard(notebook):
    """A cell, a prediction, the result beside it; then all the rest, and Stop. Everybody can use
    it, it fits, light and dark.
    """
    page = notebook(BOARD)
    page.command("notebook:run-all-cells")
    page.panel = page.page.locator(".fedlab-board")
    cells = page.panel.locator(".fb-cell")
    page.panel.get_by_role("button", name="sign x 5 against mean").focus(timeout=60_000)
    assert cells.count() == 28
    page.page.keyboard.press("Enter")
    wait_for(lambda: "choose a prediction" in page.said("fb-live"), 20, "the question")
    focused = "document.activeElement.textContent"
    wait_for(lambda: page.page.evaluate(focused) == "under 50 %", 10, "the choices")
    page.page.keyboard.press("Enter")
    wait_for(lambda: "You predicted under 50 %" in page.said("fb-live"), 60, "the result")
    assert re.fullmatch(
        r"[\d.]+|diverged", page.panel.locator(".fb-picked").inner_text().split()[0]
    )
    page.press("Run all the rest")
    stop = page.panel.get_by_role("button", name="Stop")  # its icon is part of its name
    wait_for(stop.is_enabled, 30, "something to stop")
    stop.click()
    wait_for(page.button("Run all the rest").is_enabled, 30, "the stop")
    page.press("Run all the rest")
    # What is read aloud is soon followed by the next: the cells stay
    filled = page.panel.locator(".fb-0, .fb-1, .fb-2, .fb-3, .fb-4").and_(cells)
    wait_for(lambda: filled.count() == 28, 240, "all of the board")
    assert (
        "trigger" in page.panel.get_by_role("button", name="backdoor x 5 against mean").inner_text()
    )
    for dark in (False, True):
        page.theme(dark)
        for width in (1024, PROJECTOR[0], 1500):
            page.size(width, PROJECTOR[1])
            outside = page.panel.evaluate("e => e.scrollWidth - e.clientWidth")
            assert outside <= 1, f"{outside} pixels are outside at {width}"
        assert page.axe(".fedlab-board") == []
        page.shot(f"board-{'dark' if dark else 'light'}.png")
    assert page.wrong == []


def test_questions_by_keyboard(notebook):
    """Nine questions from Begin to the end, and an exit question: Tab, Space and Enter.
    Long answers fit, light and dark, and everybody can use it.
    """
    cells = ["fedlab.Questionnaire('after')", "fedlab.ExitQuestion('03')"]
    page = notebook(*[f"import fedlab\n{cell}" for cell in cells])
    page.size(1024, PROJECTOR[1])
    page.command("notebook:run-all-cells")
    quiz, exit = (page.page.locator(".fedlab-quiz").nth(n) for n in (0, 1))
    page.panel, press = quiz, page.page.keyboard.press
    page.button("Begin").focus(timeout=60_000)
    press("Enter")
    for number in range(1, 10):
        wait_for(lambda: f"Question {number} of 9" in quiz.inner_text(), 20, "the next question")
        wait_for(lambda: quiz.get_by_role("radio").count() == 5, 20, "its answers")
        page.button("Next").focus()
        for _ in range(1 + number % 3):  # each answer is a stop of its own
            press("Shift+Tab")
        press("Space")
        wait_for(lambda: f"{number} answered" in quiz.inner_text(), 20, "the answer to be kept")
        if number == 5:
            look_at(page, "question")
        for _ in range(1 + number % 3):
            press("Tab")
        assert page.page.evaluate("document.activeElement.textContent") == "Next"
        press("Enter")
    wait_for(page.button("Show what is right").is_enabled, 20, "all nine")
    page.press("Show what is right")
    wait_for(lambda: quiz.locator("li").count() == 9, 20, "the answers")
    look_at(page, "compared")
    page.panel = exit
    exit.get_by_role("radio").nth(0).focus()
    press("Space")
    wait_for(page.button("Check").is_enabled, 20, "the choice to be known")
    page.button("Check").focus()
    press("Enter")
    wait_for(lambda: "Not a." in exit.inner_text(), 20, "the reply")
    exit.get_by_role("radio").nth(1).check()
    page.press("Check")
    wait_for(lambda: "Right." in exit.inner_text(), 20, "the other reply")
    look_at(page, "exit")
    assert page.wrong == []


def look_at(page: Page, name: str) -> None:
    """Light and dark: nothing is outside, no answer over another one, and axe finds nothing."""
    for dark in (True, False):
        page.theme(dark)
        assert page.panel.evaluate("e => e.scrollWidth - e.clientWidth") <= 1
        tops = page.panel.locator("label:has(input)").evaluate_all(
            "labels => labels.map(l => [l.offsetTop, l.offsetTop + l.scrollHeight])"
        )
        assert all(a[1] <= b[0] + 1 for a, b in zip(tops, tops[1:], strict=False))
        assert page.axe(".fedlab-quiz") == []
        page.shot(f"quiz-{name}-{'dark' if dark else 'light'}.png")


def test_a_picture_of_nothing_yet_is_no_error(notebook):
    """The browser may be faster than the panel's first look at what is so."""
    cell = "from fedlab.dashboard.stage import RoundPicture\npicture = RoundPicture()\npicture"
    page = notebook(cell)
    page.command("notebook:run-all-cells")
    page.page.locator(".fl-round .fl-steps").wait_for(timeout=30_000)
    time.sleep(0.5)
    assert page.wrong == []


def test_nothing_moves_for_those_who_do_not_want_it(notebook):
    cell = "import fedlab\npanel = fedlab.Dashboard(rounds=1, epochs=5)\npanel"
    page = notebook(cell, reduced_motion="reduce")
    page.command("notebook:run-all-cells")
    page.until_pill("ready")
    page.press("Start training")
    # This one: a busy browser may show the next one meanwhile, elsewhere
    packet = page.panel.locator(".packet").first.element_handle(timeout=30_000)
    places = set()
    with contextlib.suppress(Exception):  # it is gone in the end
        for _ in range(20):
            places.add(packet.get_attribute("transform"))
            time.sleep(0.02)
    assert len(places - {None}) == 1, "a packet is shown, and stands"
    turning = page.panel.locator(".turning").first
    assert turning.evaluate("e => getComputedStyle(e).animationName") == "none"
    page.press("Stop")
