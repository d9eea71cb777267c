"""An executed notebook as a page that stands still: pictures become files, widgets what they
show."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

import nbformat
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"

PICTURES = {
    "Dashboard": (
        "panel.png",
        "The panel: the server and four clients with what they weigh in the average, the accuracy"
        " of every round, shard sliders, ten test digits and what the model reads",
    ),
    "Classroom": (
        "class.png",
        "The teacher's panel of a class: who is there, the accuracy on the class's own handwriting"
        " after every round, and the buttons",
    ),
    "Board": (
        "board.png",
        "The board: attacks in rows, defences in columns, and in every cell that was run the"
        " accuracy in per cent, coloured",
    ),
    "DrawingPad": (
        "pad.png",
        "The drawing pad: a digit drawn with a finger or a mouse, beside it what the model sees of"
        " it, and the buttons Undo and Clear",
    ),
}
"""Widgets that are a picture from docs/ in the book: the name of the class → file, words."""

QUESTIONS = {"Prediction", "ExitQuestion", "Questionnaire"}
ASKS = ("fedlab.Prediction(", "fedlab.ExitQuestion(")

SLIDERS = {
    "IntSliderModel",
    "FloatSliderModel",
    "FloatLogSliderModel",
    "SelectionSliderModel",
    "DropdownModel",
    "ComboboxModel",
    "CheckboxModel",
}
PROGRESS = {"FloatProgressModel", "IntProgressModel"}
CLASS = re.compile(r"(?:<[\w.]*\.)?(\w+)(?:\(| object at )")
"""The name of a widget's class, from how Python shows it: `Board(...)`, `<a.b.DrawingPad object at
...>`."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Page:
    """Where a page is, and where its pictures go.

    up: from the page's folder to the top, such as "../". pictures: the folder that is
    `_static/outputs` in the site.
    """

    up: str
    pictures: Path


def still(notebook: nbformat.NotebookNode, page: Page) -> nbformat.NotebookNode:
    """A copy in which every output is text or HTML that needs no script."""
    copy = nbformat.from_dict(notebook)
    states = copy.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    copy.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        if hidden or cell.source.startswith(ASKS):  # what stands below says the same
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "remove-input"]
        shown = [_output(output, states, page) for output in cell.outputs]
        cell.outputs = [output for output in shown if output is not None]
    return copy


def _output(output, states: dict, page: Page) -> nbformat.NotebookNode | None:
    """An output as it stands in the book; None for what is only noise there."""
    if output.output_type == "stream":
        if output.name == "stderr":
            return None
        return nbformat.v4.new_output("stream", name="stdout", text=scrubbed(output.text))
    if set(output.get("data", {})) == {"text/plain"}:
        text = scrubbed(output.data["text/plain"])
        return nbformat.v4.new_output("display_data", data={"text/plain": text})
    html = _html(output, states, page)
    return nbformat.v4.new_output("display_data", data={"text/html": html}) if html else None


def _html(output, states: dict, page: Page) -> str:
    """An output as HTML; empty for what is only noise in a book."""
    if output["output_type"] == "stream":
        noise = output["name"] == "stderr"
        return "" if noise else f"<pre>{escape(scrubbed(output['text']))}</pre>"
    if output["output_type"] == "error":
        # One line, not a traceback: it is what the lesson asks people to read
        said = COLOUR.sub("", f"{output['ename']}: {output['evalue']}")
        return f'<pre class="book-error">{escape(scrubbed(said))}</pre>'
    data = output["data"]
    words = data.get("text/plain", "")
    if VIEW in data:
        kind = CLASS.match(words)
        return _widget(kind[1] if kind else "", data[VIEW]["model_id"], states, page)
    if "text/html" in data:
        return _on_white(data["text/html"])
    if "image/svg+xml" in data:
        return _on_white(data["image/svg+xml"])
    if "image/png" in data:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "Figure")
        return _picture(data["image/png"], alt, page)
    return f"<pre>{escape(scrubbed(words))}</pre>"


def _on_white(html: str) -> str:
    """HTML of the library, which is made for a white page."""
    return f'<div class="book-white">{scrubbed(html)}</div>'


def _picture(encoded: str, alt: str, page: Page) -> str:
    content = base64.b64decode(encoded)
    file = page.pictures / f"{hashlib.sha256(content).hexdigest()[:20]}.png"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    width, height = Image.open(io.BytesIO(content)).size
    return (
        f'<img class="book-figure" loading="lazy" width="{width}" height="{height}"'
        f' src="{page.up}_static/outputs/{file.name}" alt="{escape(alt, quote=True)}">'
    )


def _widget(kind: str, model: str, states: dict, page: Page) -> str:
    """A widget as HTML: its picture, or what it shows. kind: the name of its class in Python."""
    if kind in PICTURES:
        file, alt = PICTURES[kind]
        return (
            f'<figure><img class="book-widget" loading="lazy"'
            f' src="{page.up}_static/pictures/{file}" alt="{escape(alt, quote=True)}">'
            "<figcaption>A picture, from another run. In JupyterLab this is alive.</figcaption>"
            "</figure>"
        )
    parts = _Parts([], [])
    _walk(model, states, page, parts)
    shown = "\n".join(parts.shown)
    if kind in QUESTIONS:
        return f'<div class="book-question">{shown}</div>'
    if parts.controls:
        how = "this changes with" if shown else "a picture or numbers appear here, made with"
        shown += (
            f'<p class="book-note">In JupyterLab {how} {escape(", ".join(parts.controls))}.</p>'
        )
    return shown


@dataclass(frozen=True)
class _Parts:
    """What a widget and those in it show, and the controls among them."""

    shown: list[str]
    controls: list[str]


def _walk(model: str, states: dict, page: Page, parts: _Parts) -> None:
    found = states.get(model.removeprefix("IPY_MODEL_"))
    if found is None:
        return
    kind, state = found["model_name"], found["state"]
    children = state.get("children", [])
    if any(
        states.get(child.removeprefix("IPY_MODEL_"), {}).get("model_name") in PROGRESS
        for child in children
    ):
        return  # a progress bar: what it says is over
    if kind == "HTMLModel" and (html := _without_style(state["value"])):
        parts.shown.append(
            _on_white(html) if "<svg" in html or "<table" in html else scrubbed(html)
        )
    elif kind == "RadioButtonsModel":
        options = "".join(f"<li>{escape(option)}</li>" for option in state["_options_labels"])
        parts.shown.append(f"<ul>{options}</ul>")
    elif kind == "OutputModel":
        parts.shown.extend(filter(None, (_html(o, states, page) for o in state.get("outputs", []))))
    elif kind in SLIDERS:
        parts.controls.append(_control(state))
    for child in children:
        _walk(child, states, page, parts)


def _without_style(html: str) -> str:
    return re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).strip()


def _control(state: dict) -> str:
    """A slider or a menu in words: its name, and where it stands."""
    labels = state.get("_options_labels")
    value = (
        labels[state["index"]] if labels and state.get("index") is not None else state.get("value")
    )
    if isinstance(value, float):
        value = f"{value:g}"
    name = unescape(state.get("description") or "a control")
    return f"{name} (here {value})"


def _own() -> list[tuple[str, str]]:
    """What tells of the machine that made the book → what stands there instead."""
    addresses = {
        address.address
        for several in psutil.net_if_addrs().values()
        for address in several
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    own = {
        str(ROOT): "fedlab",
        sys.prefix: ".venv",
        sys.base_prefix: "python",
        str(Path.home()): "~",
        **dict.fromkeys(addresses, "192.168.1.20"),
    }
    return sorted(
        ((was, now) for was, now in own.items() if len(was) > 4), key=lambda pair: -len(pair[0])
    )


_OWN = _own()
_MORE: list[Callable[[str], str]] = [
    lambda text: re.sub(r"/tmp/[\w./-]+", "…", text),
]


def scrubbed(text: str) -> str:
    """The text without paths and addresses of this machine."""
    for was, now in _OWN:
        text = re.sub(rf"{re.escape(was)}(?![\w])", now, text)
    for more in _MORE:
        text = more(text)
    return text
