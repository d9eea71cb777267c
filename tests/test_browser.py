"""Lesson 01 in a real JupyterLab in a real Chromium, as a teacher would use it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

ROOT = Path(__file__).parents[1]
SCREENSHOTS = Path(os.environ.get("FEDLAB_SCREENSHOTS", ROOT / "screenshots"))
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --disable-background-networking"
    " --disable-component-update --disable-sync --no-first-run"
)

# Playwright's own event loop and pipes, closed a moment later
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def chromium() -> str:
    """The path of a Chromium, or a skip (in CI: a failure) with a sentence."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("FEDLAB_BROWSER") or next(
        (path for name in names if (path := shutil.which(name))), None
    )
    if found:
        return found
    sentence = (
        "no Chromium found; install one (Debian and Ubuntu: apt-get install chromium) or set"
        " FEDLAB_BROWSER to its path"
    )
    if os.environ.get("FEDLAB_REQUIRE_BROWSER"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own on a copy of the notebooks: its address and token."""
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
    environment = {**os.environ, **folders, "IPYTHONDIR": str(tmp_path / "ipython")}
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
        yield address, token
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
        page.goto(f"{address}/lab/tree/{notebook}?reset&token={token}")
        page.wait_for_selector(
            '.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000
        )
        connected = (
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus"
            " === 'connected'"
        )
        page.wait_for_function(connected, timeout=60_000)
        self.panel = page.locator(".fedlab-panel")

    def command(self, name: str) -> None:
        self.page.evaluate(f"void window.jupyterapp.commands.execute('{name}')")

    def finish_cells(self) -> None:
        prompts = (
            "[...document.querySelectorAll('.jp-InputPrompt')].some(p =>"
            " p.textContent.includes('[*]'))"
        )
        time.sleep(1)
        self.page.wait_for_function(f"!({prompts})", timeout=180_000)

    def button(self, name: str):
        return self.panel.get_by_role("button", name=name, exact=True)

    def press(self, name: str) -> None:
        wait_for(self.button(name).is_enabled, 60, f"the button {name}")
        self.button(name).click()

    def round(self) -> int:
        """The round that the panel's summary speaks of."""
        said = re.search(r"After round (\d+) of", self.panel.inner_text())
        return int(said.group(1)) if said else 0

    def picture(self) -> str:
        return self.panel.locator("img.widget-image").last.get_attribute("src")

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


def test_lesson_01_in_jupyterlab(lab):
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        try:
            use_the_panel(
                Page(
                    browser.new_page(viewport={"width": 1400, "height": 1500}),
                    *lab,
                    "01_first_federation.ipynb",
                )
            )
        finally:
            browser.close()


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

    # A shard slider, by keyboard: carol's upper end goes from 12 to 10, and her number box follows.
    handle = page.panel.locator(".noUi-handle").nth(5)
    handle.focus()
    for _ in range(2):
        page.page.keyboard.press("ArrowLeft")
    wait_for(
        lambda: page.panel.get_by_label("last").nth(2).input_value() == "10",
        5,
        "the number box to follow the slider",
    )
    assert "10,000 images" in page.panel.inner_text()

    # Start: the curve and the table grow round by round.
    page.panel.get_by_text("Every round, as a table").click()
    page.press("Start training")
    pictures, rounds = set(), []
    while len(rounds) < 3:
        number = wait_for(
            lambda: (now := page.round()) > (rounds[-1] if rounds else 0) and now,
            60,
            "the next round",
        )
        rounds.append(number)
        rows = page.panel.locator("table.fl tbody tr").count()
        assert rows >= number, "the table has a row for every round"
        # The picture is the last thing that is set, and a browser on busy cores shows it later.
        pictures.add(
            wait_for(
                lambda: (now := page.picture()) not in pictures and now,
                10,
                f"the curve after round {number}",
            )
        )
    assert len(pictures) == 3, "the curve is drawn anew for every round"

    # Stop: over within 2 s, and the panel can start again.
    pressed = time.monotonic()
    page.press("Stop")
    wait_for(page.button("Start training").is_enabled, 10, "the panel to be ready again")
    assert time.monotonic() - pressed < 2
    assert "stopped" in page.panel.inner_text()

    # A fourth client, and a second run, to its end: the earlier run is still in the picture.
    page.press("Add client")
    page.panel.get_by_label("Client").nth(3).wait_for()
    page.press("Start training")
    wait_for(page.button("Stop").is_enabled, 20, "the second run to begin")
    wait_for(
        lambda: (
            "rounds done" in page.panel.inner_text() and page.button("Start training").is_enabled()
        ),
        120,
        "the second run to end",
    )
    assert "Faint lines: earlier: no dave" in page.panel.inner_text()
    assert "finished" in page.panel.inner_text()
    page.panel.get_by_text("Every round, as a table").click()
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
