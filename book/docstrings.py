"""fedlab's docstrings, which are plain text, as reStructuredText.

A docstring is paragraphs; lines such as `rounds: how many` that say what an argument is, longer
ones indented below; `code` between single backticks; examples behind `>>>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

ARGUMENT = re.compile(r"((?:\*{0,2}\w+(?: \(\w+\))?)(?:, \*{0,2}\w+(?: \(\w+\))?)*): +(\S.*)")
"""`name: words`, `one, two: words`, `fraction (C): words`."""

SENTENCE = re.compile(r"(Returns|Raises|Note|Example|None|True|False)\b")
"""What begins like an argument and is none."""

CODE = re.compile(r"(`[^`]+`)")


def as_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring, without their common indentation, as reStructuredText."""
    made: list[str] = []
    for kind, block in _blocks(lines):
        if kind == "example":
            made += [".. code-block:: pycon", "", *(f"   {line}" for line in block)]
        elif kind == "argument":
            names, words = ARGUMENT.fullmatch(block[0]).groups()
            made.append(", ".join(f"``{name}``" for name in names.split(", ")))
            made += [f"   {_text(line.strip())}" for line in [words, *block[1:]]]
        else:
            made += _text("\n".join(line.strip() for line in block)).split("\n")
        made.append("")
    return made


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The pieces of a docstring: ("text" | "argument" | "example", its lines)."""
    for empty, paragraph in groupby(lines, key=lambda line: not line.strip()):
        if empty:
            continue
        kind, block = "text", []
        for line in paragraph:
            begins = _begins(line, kind)
            if begins and (begins != kind or begins == "argument"):
                if block:
                    yield kind, block
                kind, block = begins, []
            block.append(line)
        yield kind, block


def _begins(line: str, inside: str) -> str | None:
    """What begins with this line; None where it goes on with what it is in."""
    if line.startswith(">>> "):
        return "example"
    if inside == "example" or line.startswith(" "):
        return None
    if ARGUMENT.fullmatch(line) and not SENTENCE.match(line):
        return "argument"
    return "text"


def _text(text: str) -> str:
    """Prose: code between two backticks, and nothing that reStructuredText would read."""
    parts = CODE.split(text)
    return "".join(
        f"`{part}`" if CODE.fullmatch(part) else re.sub(r"([\\*|_`])", r"\\\1", part)
        for part in parts
    )


def shorter(signature: str) -> str:
    """A signature as people read it: types by their last name, and "..." for a default that is made
    anew for each object.
    """
    return re.sub(r"~(?:\w+\.)+(\w+)", r"\1", signature).replace("<factory>", "...")


def setup(app) -> None:
    def process(app, what, name, obj, options, lines):
        lines[:] = as_rst(lines)

    def sign(app, what, name, obj, options, signature, returns):
        return signature and shorter(signature), returns and shorter(returns)

    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", sign)
