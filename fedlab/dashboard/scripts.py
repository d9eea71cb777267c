"""The JavaScript and the style of the panel's own widgets, read from files."""

from __future__ import annotations

import re
from pathlib import Path

import fedlab.http

STATIC = Path(__file__).parent / "static"
PAGES = Path(fedlab.http.__file__).parent / "pages"
"""What the server's page shows is here: the panel shows the same."""


def module(*files: Path) -> str:
    """These JavaScript modules as one, for anywidget, which takes one: each stands after those that
    it imports from, so the import lines go, and only the last one exports.
    """
    *before, last = (file.read_text("utf-8") for file in files)
    before = [
        re.sub(r"^export (?=async |function |const |class )", "", t, flags=re.M) for t in before
    ]
    texts = [re.sub(r"^import .*? from .*?;\n", "", text, flags=re.M) for text in [*before, last]]
    return "\n".join(texts)
