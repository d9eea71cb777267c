"""The book: every link, picture and anchor of the site, what it loads, what it tells, and how it
looks on a wide and a narrow screen. Made once, with one small notebook that is executed; the
lessons themselves are run by test_notebooks.py, and all of them by `make book`.
"""

import re
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

import fedlab

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
sys.path.insert(0, str(ROOT / "book"))

import docstrings  # noqa: E402
import executed  # noqa: E402
import kernel  # noqa: E402

sys.path.pop(0)

pytestmark = [
    pytest.mark.slow,
    # Of nbclient's and Playwright's own event loops and sockets
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

TOLD = "sample-" + secrets.token_hex(4)
SAMPLE = [
    "%cd -q .",
    f"""import sys, fedlab, ipywidgets
import matplotlib.pyplot as plt
from tqdm.auto import tqdm
print({TOLD!r}, fedlab.__file__)
print("noise", file=sys.stderr)
for _ in tqdm(range(3)): pass""",
    'fedlab.Prediction("How many <b>?", ["few & some", "many"], then="Run on.")',
    """def explore(height):
    figure = plt.Figure((3, 2))
    figure.subplots().set(title="A hill", xlabel="east", ylabel="height")
    return figure
ipywidgets.interact(explore, height=ipywidgets.IntSlider(3, 0, 9, description="how high"));""",
    "ipywidgets.interact_manual(lambda n: print('pressed', n), n=(1, 3));",
    "plt.plot([1, 2], label='up,'); plt.title('A slope'); plt.legend();",
    "fedlab.DrawingPad()",
    "fedlab.Training(epochs=-1)",
]
"""Cells of a notebook that has each kind of output a lesson has."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, in which lesson 00 is the small notebook."""
    folder = tmp_path_factory.mktemp("book")
    cells = [nbformat.v4.new_code_cell(source) for source in SAMPLE]
    cells[-1].metadata["tags"] = ["raises-exception"]
    opening = "# Start here\n\n$\\frac{a}{b}$ and [the data](../data/README.md), [a](../LICENSE)."
    cells.insert(0, nbformat.v4.new_markdown_cell(opening))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "sample.ipynb")
    done = executed.execute(folder / "sample.ipynb")
    nbformat.write(done, folder / "00_start_here.ipynb")
    command = [sys.executable, ROOT / "book" / "build.py", "--run", "none"]
    command += ["--outputs", folder, "--out", folder]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, BeautifulSoup]:
    """Every page of the site, by its place in it."""
    return {
        file.relative_to(site).as_posix(): BeautifulSoup(file.read_text("utf-8"), "html.parser")
        for file in sorted(site.rglob("*.html"))
    }


# Before the browser: while Playwright's loop runs, nbclient would keep a thread of its own
def test_a_token_in_an_output_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("import secrets; print(secrets.token_urlsafe(16))")
    file = tmp_path / "told.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), file)
    with pytest.raises(executed.TokenLeft, match="told.ipynb"):
        executed.execute(file)


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "data")


def test_nothing_is_loaded_from_another_host(site, pages):
    found = []
    for name, page in pages.items():
        for tag in page.find_all(True):
            loads = [
                tag.get(key) for key in ("src", "srcset", "data", "poster", "action", "xlink:href")
            ]
            if tag.name == "link":
                loads.append(tag.get("href"))
            loads += re.findall(r"url\(['\"]?([^'\")]+)", tag.get("style", ""))
            found += [(name, address) for address in loads if address and is_elsewhere(address)]
    for file in site.rglob("*.css"):
        loads = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", file.read_text("utf-8"))
        found += [(file.name, address) for address in loads if is_elsewhere(address)]
    for file in site.rglob("*.js"):
        if file.name != "searchindex.js":  # words of the pages
            loads = re.findall(r"[\"'`]((?:https?:)?//[\w.-]+)", file.read_text("utf-8"))
            found += [(file.name, a) for a in loads if a != "http://www.w3.org"]  # names of formats
    assert found == []
    assert not [
        tag for page in pages.values() for tag in page.find_all(["iframe", "object", "embed"])
    ]


def test_every_link_and_anchor_leads_somewhere(site, pages):
    names = {
        name: {tag["id"] for tag in page.find_all(id=True)} | {"", "top"}
        for name, page in pages.items()
    }
    broken = []
    for name, page in pages.items():
        for tag in page.find_all("a", href=True):
            if is_elsewhere(tag["href"]):
                assert urlsplit(tag["href"]).scheme in ("http", "https", "mailto"), tag
                continue
            parts = urlsplit(tag["href"])
            file = (
                ((site / name).parent / unquote(parts.path)).resolve()
                if parts.path
                else site / name
            )
            if not file.is_file():
                broken.append((name, tag["href"]))
                continue
            place = file.relative_to(site.resolve()).as_posix() if parts.path else name
            if place in names and unquote(parts.fragment) not in names[place]:
                broken.append((name, tag["href"]))
    assert broken == []


def test_every_picture_is_there_and_has_words(site, pages):
    seen = 0
    for name, page in pages.items():
        for picture in page.find_all("img"):
            seen += 1
            assert ((site / name).parent / unquote(picture["src"])).is_file(), (name, picture)
            assert len(picture.get("alt", "")) > 15, (name, picture)
    assert seen > 5


def test_what_an_executed_notebook_shows(pages):
    page = pages["notebooks/00_start_here.html"]
    text = page.get_text(" ", strip=True)
    question = page.select_one(".book-question")
    assert question.select_one(".fl-question").text == "How many <b>?"
    assert [item.text for item in question.find_all("li")] == ["few & some", "many"]
    assert "new_code_cell" not in text and "Keep my prediction" not in text
    hill, slope = (
        next(i["alt"] for i in page.select("img.book-figure") if word in i["alt"])
        for word in ("hill", "slope")
    )
    assert hill == "Figure: A hill: height against east" and slope == "Figure: A slope (up)"
    assert "In JupyterLab this changes with how high (here 3)." in text
    assert "pressed 2" in text, "Run Interact was pressed"
    assert page.select_one("img.book-widget")["src"].endswith("/pad.png")
    error = page.select_one(".book-error").text
    assert error.startswith("Refused: epochs (E) is -1") and "\n" not in error
    assert f"{TOLD} fedlab/fedlab/__init__.py" in text and "noise" not in [
        line.strip() for line in page.get_text().splitlines()
    ]
    assert "3/3" not in text and "100%" not in text, "a progress bar is over"
    assert page.select_one("math mfrac") and not page.find(
        "script", src=re.compile("mathjax", re.I)
    )
    assert page.find("a", href="../data/README.html") and not page.find("a", string="a")


def test_no_page_tells_of_this_machine(site):
    own = {str(ROOT), sys.prefix, str(Path.home()), str(site.parent)}
    for file in site.rglob("*"):
        if file.suffix in (".html", ".js", ".css", ".txt"):
            text = file.read_text("utf-8")
            for path in own:
                assert not re.search(rf"{re.escape(path)}(?!\w)", text), f"{file} has {path}"
            assert not re.search(r"[?&]token=[\w-]{8}", text), f"{file} has a token"


def test_everything_is_in_the_book(pages):
    for file in executed.lessons():
        place = file.relative_to(ROOT).with_suffix(".html").as_posix()
        title = nbformat.read(file, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
        assert pages[place].find("h1").get_text().rstrip("#").replace("’", "'") == title
        if file.parent.name == "solutions":
            said = pages[place].select_one(".admonition.warning").get_text()
            assert "Whoever has not tried the exercises" in said
            assert not pages["index.html"].select(f'main a[href="{place}"]')
        else:
            assert pages["index.html"].select(f'.sidebar-tree a[href="{place}"]')
    table = re.findall(r"^\| \[\w+\]\((\S+)\.ipynb\)", README, re.MULTILINE)
    assert len(table) >= 12
    for place in table:
        assert pages["index.html"].select(f'article table a[href="{place}.html"]')
        if "you can**" in (ROOT / f"{place}.ipynb").read_text("utf-8"):
            assert pages["lessons.html"].select(f'article h2 a[href="{place}.html"]')
    assert "make lab" in pages["start.html"].select_one("article pre").get_text()
    assert not [p for p in pages.values() if "<!-- " in p.select_one("article").get_text()]
    for folder in ("docs", "notebooks/teacher"):
        for file in (ROOT / folder).glob("*.md"):
            assert file.relative_to(ROOT).with_suffix(".html").as_posix() in pages
    assert {
        "ARCHITECTURE.html",
        "SECURITY.html",
        "CHANGELOG.html",
        "benchmarks/README.html",
    } <= set(pages)
    described = {
        tag["id"].rpartition(".")[2]
        for name, page in pages.items()
        if name.startswith("reference/")
        for tag in page.find_all("dt", id=re.compile(r"^fedlab\."))
    }
    assert set(fedlab.__all__) - described == set()


def test_pages_fit_the_screen_and_ask_nobody(site, browser):
    """Wide and narrow, light and dark: nothing is wider than the screen, and every request is for a
    file of the site.
    """
    some = ["index", "notebooks/00_start_here", "notebooks/teacher/01_first_federation"]
    some += ["reference/strategies", "docs/protocol", "SECURITY"]
    asked, wrong = [], []
    for width, scheme in ((1280, "light"), (390, "dark")):
        with browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        ) as context:
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
            for name in some:
                page.goto((site / f"{name}.html").as_uri())
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, f"{name} is {over} pixels too wide for {width}"
    assert wrong == []
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


def test_only_what_has_changed_runs_again(tmp_path, monkeypatch):
    for name, place in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("KEPT", "kept")):
        monkeypatch.setattr(executed, name, tmp_path / place)
    lesson, library = tmp_path / "notebooks" / "00_x.ipynb", tmp_path / "fedlab" / "one.py"
    for file in (lesson, library):
        file.parent.mkdir(parents=True)
        file.write_text("1")
    ran = []

    def execute(path):
        ran.append(path)
        return nbformat.v4.new_notebook(metadata={"fedlab_book": executed.digests(path)})

    monkeypatch.setattr(executed, "execute", execute)
    for change, any_library, times in (
        (None, False, 1),
        (None, False, 1),
        (library, True, 1),
        (None, False, 2),
        (lesson, True, 3),
    ):
        if change:
            change.write_text(change.read_text() + "0")
        executed.execute_changed([lesson], any_library)
        assert len(ran) == times


def test_docstrings_become_lists_and_code():
    said = """Train (McMahan et al. 2017): w_k * 2.

    epochs, rounds (E): how many `passes`,
            and more.
    Raises Refused for anything else.

    >>> 1 + 1
    2"""
    lines = [line.removeprefix("    ") for line in said.splitlines()]
    assert docstrings.as_rst(lines) == [
        "Train (McMahan et al. 2017): w\\_k \\* 2.",
        "",
        "``epochs``, ``rounds (E)``",
        "   how many ``passes``,",
        "   and more.",
        "",
        "Raises Refused for anything else.",
        "",
        ".. code-block:: pycon",
        "",
        "   >>> 1 + 1",
        "   2",
        "",
    ]
    assert docstrings.shorter("(a: ~numpy.ndarray = <factory>)") == "(a: ndarray = ...)"


def test_a_figures_words():
    from matplotlib.figure import Figure

    figure = Figure()
    assert kernel.words(figure) == "Figure: drawn by the code above"
    left, right = figure.subplots(1, 2)
    left.set(title="one", xlabel="round", ylabel="accuracy")
    left.plot([1], [1], label="ours")
    right.barh(["ann", "ben"], [1, 2])
    right.set_xlabel("hours")
    said = "Figure: one: accuracy against round (ours); hours (ann, ben)"
    assert kernel.words(figure) == said
    right.set_title("two " * 200)
    said = kernel.words(figure)
    assert len(said) <= kernel.LONGEST


def test_the_pictures_are_small():
    pictures = list((ROOT / "docs").glob("*.png"))
    assert sum(picture.stat().st_size for picture in pictures) < 1_500_000
