"""Makes the book: runs the lessons, puts pages together as they lie in the repository, and has
Sphinx make a site of them that any host of static files can show.

    python book/build.py                     everything, into build/book/site
    python book/build.py --run none          no lesson runs: those that have are shown with outputs
    python book/build.py --any-library       keep outputs that an earlier library has made
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import executed
import nbformat
import reference
import still
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
OUT = ROOT / "build" / "book"

TEXTS = [
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "data/README.md",
    "flower/README.md",
    "docs/*.md",
    "notebooks/teacher/*.md",
]
"""Pages that are the repository's own files, where they lie."""

TABLE = "<!-- lessons: the table of README.md -->"
GOALS = "<!-- goals: what each lesson says of itself -->"


START = "<!-- start: the section of README.md -->"
"""Marks in the book's own pages, where something is put that stands elsewhere."""


class BookFailed(Exception):
    """Sphinx has found something wrong; what it was stands above."""


def assemble(source: Path, outputs: Path) -> None:
    """Put the pages together in `source`.

    outputs: executed notebooks, as executed.py keeps them; what is not there is shown without.
    """
    shutil.rmtree(source, ignore_errors=True)
    for pattern in TEXTS:
        for file in sorted(ROOT.glob(pattern)):
            _write(source / file.relative_to(ROOT), file.read_text("utf-8"))
    for page in sorted(BOOK.glob("*.md")):
        text = page.read_text("utf-8")
        for mark, made in ((TABLE, lessons_table), (GOALS, goals), (START, start)):
            if mark in text:
                text = text.replace(mark, made())
        _write(source / page.name, text)
    for file in executed.lessons():
        place = file.relative_to(ROOT)
        done = outputs / file.relative_to(executed.NOTEBOOKS)
        page = still.Page("../" * (len(place.parts) - 1), source / "_static" / "outputs")
        notebook = nbformat.read(done if done.exists() else file, as_version=4)
        notebook = still.still(notebook, page)
        _introduce(notebook, file)
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, source / place)
    pictures = source / "_static" / "pictures"
    pictures.mkdir(parents=True)
    for picture in sorted((ROOT / "docs").glob("*.png")):
        shutil.copy(picture, pictures)
    reference.write(source / "reference")


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def lessons_table() -> str:
    """The table of lessons, as README.md has it: links (here their numbers), questions, minutes."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = re.search(r"^\| notebook \|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)[0]
    return re.sub(r"\[(\d\d)_\w+\]", r"[\1]", table).replace("| notebook |", "| lesson |", 1)


def start() -> str:
    """How to begin, as README.md says it."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = re.search(r"^## Start\n+(.*?)\n(?=## )", text, re.MULTILINE | re.DOTALL)[1]
    return section.replace("In the folder of this file", "In the folder of fedlab")


def goals() -> str:
    """What people can do after each lesson, in the lessons' own words."""
    said = []
    for file in sorted(executed.NOTEBOOKS.glob("*.ipynb")):
        opening = nbformat.read(file, as_version=4).cells[0].source
        title = opening.splitlines()[0].removeprefix("# ")
        if points := re.search(r"you can\*\*\n((?:- .*\n?)+)", opening):
            said.append(f"## [{title}](notebooks/{file.name})\n\n{points[1].strip()}\n")
    return "\n".join(said)


def _introduce(notebook: nbformat.NotebookNode, file: Path) -> None:
    """Say below the title what this page is, and where to go from it."""
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    place = file.relative_to(ROOT).as_posix()
    if file.parent.name == "solutions":
        said = (
            f"```{{warning}}\nSolutions. Whoever has not tried [the exercises](../{file.name})"
            f" loses them by reading on.\n```"
        )
    else:
        ways = [
            f"[{words}]({link})"
            for words, link in (
                ("solutions", f"solutions/{file.name}"),
                ("for the teacher", f"teacher/{file.stem}.md"),
            )
            if (file.parent / link).exists()
        ]
        said = (
            "```{note}\nThis page shows the outputs of one run, and stands still. To run it, change"
            f" it and move its sliders, open `{place}` in JupyterLab ([how](/start.md))."
            + (f" Beside it: {', '.join(ways)}." if ways else "")
            + "\n```"
        )
    first.source = f"{title}\n\n{said}\n{rest}"


def build(out: Path, outputs: Path = executed.KEPT) -> Path:
    """Assemble the pages and make the site; return its folder. Raises BookFailed."""
    source, site = out / "source", out / "site"
    assemble(source, outputs)
    shutil.rmtree(site, ignore_errors=True)
    options = ["-b", "html", "-c", str(BOOK), "-d", str(out / "doctrees"), "-q", "-E"]
    options += ["-W", "--keep-going"]
    options += ["-D", f"html_static_path={BOOK / 'static'},{source / '_static'}"]
    if build_main([*options, str(source), str(site)]):
        raise BookFailed("Sphinx has found something wrong: see above")
    (site / "_sources").rmdir()  # an empty folder of MyST's
    # Hosts that run Jekyll would leave out folders that begin with an underscore
    (site / ".nojekyll").touch()
    return site


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make the book, as a site of static files.")
    parser.add_argument("--run", choices=["changed", "none"], default="changed")
    parser.add_argument(
        "--any-library", action="store_true", help="keep outputs of an earlier state of the library"
    )
    parser.add_argument("--outputs", type=Path, default=executed.KEPT, help="executed notebooks")
    parser.add_argument("--out", type=Path, default=OUT, help="where the site is made")
    asked = parser.parse_args(arguments)
    if asked.outputs != executed.KEPT and asked.run != "none":
        parser.error("--outputs has notebooks that were run already; expected --run none with it")
    if asked.run == "changed":
        executed.execute_changed(executed.lessons(), asked.any_library)
    try:
        site = build(asked.out.resolve(), asked.outputs)
    except BookFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The book: {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
