"""Tables and sentences of the panel as HTML. Pure functions of what happened: no widgets, no
state."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from fedlab.checks import counted
from fedlab.dashboard.scripts import PAGES, STATIC
from fedlab.history import History, RoundRecord
from fedlab.plots import image_png
from fedlab.settings import Settings

STYLE = "".join(
    f"<style>{file.read_text('utf-8')}</style>"
    for file in (PAGES / "colours.css", STATIC / "panel.css")
)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal, or a dash."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def size(count: int) -> str:
    """Bytes for people."""
    return (
        f"{count / 1e6:.2f} MB"
        if count >= 1e6
        else f"{count / 1e3:.0f} kB"
        if count >= 1e3
        else f"{count} B"
    )


def header(pill: str, failed: bool, said: str, accuracy: str, of: str) -> str:
    """One line: what is going on, a sentence about it, and how good the model `of` that is. `said`
    and `of` are HTML.
    """
    return (
        f'<div class="fl-now"><span class="fl-pill {"failed" if failed else ""}">{escape(pill)}'
        f'</span><div>{said}</div><span class="fl-of">{of}</span>'
        f'<span class="fl-number">{escape(accuracy)}</span></div>'
    )


def message(text: str, error: bool = False) -> str:
    """A sentence; a mistake stands out."""
    if not text:
        return ""
    return f'<div class="{"fl-error" if error else "fl-soft"}">{escape(text)}</div>'


def guests(members: Sequence) -> str:
    """Who takes part from another notebook or terminal."""
    if not members:
        return ""
    shown = ", ".join(
        f"<b>{escape(m.client)}</b> ({counted(m.num_examples, 'image')}, {escape(m.state)})"
        for m in members
    )
    return f"<div>Joined from elsewhere: {shown}</div>"


def words(settings: Settings, strategy: str) -> str:
    """The settings of the run as words."""
    batch = "all" if settings.batch_size is None else settings.batch_size
    told = {
        "rounds": settings.rounds,
        "E epochs": settings.epochs,
        "C fraction": f"{settings.fraction:g}",
        "B batch": batch,
        "learning rate": f"{settings.learning_rate:g}",
        "optimizer": {"sgd": "SGD", "adam": "Adam"}[settings.optimizer],
        "strategy": strategy,
        "seed": settings.seed,
    }
    plan = settings.plan()  # which has no limits where there are no rounds
    if plan.enough:
        told["first updates"] = plan.enough
    if plan.deadline:
        told["deadline"] = f"{plan.deadline:g} s"
    shown = "".join(
        f"<span>{name}<b>{escape(str(value))}</b></span>" for name, value in told.items()
    )
    return f'<div class="fl-words">{shown}</div>'


def summary(history: History, rounds: int, earlier: Sequence[str] = (), unit: str = "round") -> str:
    """The curve in a few sentences, for those who cannot see it. `earlier`: the other lines;
    `unit`: what is counted.
    """
    last, best = history.last, history.best
    if last is None:
        return f"No {unit} yet."
    own = _own(last)
    spread = (
        f"; the clients' own models: mean {percent(sum(own) / len(own))}, worst {percent(min(own))}"
        if own
        else ""
    )
    top = f" Best so far: {percent(best.accuracy)} in {unit} {best.round}." if best else ""
    others = f" Other lines: {'; '.join(earlier)}." if earlier else ""
    return (
        f"After {unit} {last.round} of {max(rounds, last.round)}: the global model has"
        f" {percent(last.accuracy)} on the test images{spread}.{top}{others}"
    )


def cost(settings: Settings) -> str:
    """What the noise of these settings is worth; nothing where there is none to speak of."""
    spent = settings.epsilon()
    if spent is None:
        return ""
    epsilon, known, delta = spent
    if math.isinf(epsilon):
        return "<b>ε = ∞</b>: without noise nothing is hidden."
    clients = counted(len(settings.shards), "client")
    few = " With so few clients there is hardly a crowd to hide in." if delta >= 0.01 else ""
    return (
        f"<b>ε = {epsilon:.3g}</b> after {counted(settings.rounds, 'round')} (δ = {delta:.2g}, for"
        f" {clients}), for whoever sees the models; {known:.3g} for whoever also knows who took"
        f" part.{few}"
    )


def _own(record: RoundRecord) -> list[float]:
    return [
        client.accuracy for client in record.clients.values() if not math.isnan(client.accuracy)
    ]


# ---- what models read ----------------------------------------------------------------------------


def digits(images: np.ndarray, labels: np.ndarray, read: np.ndarray | None, when: str) -> str:
    """Test images, (n, 28, 28) uint8, and what the model reads in them, (n, 10), below each."""
    shown = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        answer = "–" if read is None else str(int(read[i].argmax()))
        right = answer in ("–", str(label))
        mark = answer if right else f'<span class="fl-wrong">{answer} ✗</span>'
        shown.append(
            f'<figure><img src="{_image(image)}" alt="test image {i + 1}: digit {label}">'
            f"<figcaption>{mark}</figcaption></figure>"
        )
    right = "" if read is None else f" {(read.argmax(1) == labels).sum()} of {len(labels)} right."
    note = f"The first {len(labels)} test images, and what the global model reads {when}.{right}"
    return f'<div class="fl-digits">{"".join(shown)}<p class="fl-note">{escape(note)}</p></div>'


def partition(svg: str, counts: Mapping[str, np.ndarray], width: int) -> str:
    """Which digits each client holds: a drawing, and the same as a table for those who cannot see
    it.
    """
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{n}</td>" for n in row)}</tr>'
        for name, row in counts.items()
    )
    head = "".join(f'<th scope="col">digit {digit}</th>' for digit in range(10))
    return (
        f'<div style="max-width: {width * 1.3:.0f}px">{svg}</div><table class="fl-hidden"><tr>'
        f"<td></td>{head}</tr>{rows}</table>"
    )


def answers(read: Mapping[str, np.ndarray], colours: Mapping[str, int]) -> str:
    """What several models read in one image: a row each, a bar a digit. Probabilities, (10,); the
    global model's under "".
    """
    rows = []
    for name, values in read.items():
        best = int(values.argmax())
        bars = "".join(
            f'<td><i aria-hidden="true"><i style="height:{100 * value:.0f}%"></i></i>'
            f'<span class="fl-hidden">{100 * value:.0f} %</span></td>'
            for value in values
        )
        colour = f"fl-colour-{colours.get(name, 0) % 12}" if name else "fl-global"
        rows.append(
            f'<tr class="{colour}"><th scope="row">{escape(name or "global model")}</th>{bars}'
            f'<td class="fl-read">{best} ({100 * values[best]:.0f} %)</td></tr>'
        )
    head = "".join(f'<th scope="col">{digit}</th>' for digit in range(10))
    return (
        f'<table class="fl-bars"><thead><tr><td></td>{head}<th scope="col">reads</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def mistakes(images: np.ndarray, labels: np.ndarray, read: np.ndarray, count: int = 12) -> str:
    """What a model, which reads probabilities (n, 10) in test images (n, 28, 28) uint8, confuses:
    a table of how often, and the worst mistakes as pictures.
    """
    answer = read.argmax(1)
    table = np.zeros((10, 10), int)
    np.add.at(table, (labels, answer), 1)
    most = max(1, int((table - np.diag(np.diag(table))).max()))
    rows = []
    for label, row in enumerate(table):
        cells = "".join(
            f"<td{_shade(number / most) if digit != label else ''}>{number or ''}</td>"
            for digit, number in enumerate(row)
        )
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{digit}</th>' for digit in range(10))
    wrong = np.flatnonzero(answer != labels)
    sure = read[wrong, answer[wrong]]
    worst = wrong[np.argsort(-sure, kind="stable")][:count]
    shown = "".join(
        f'<figure><img src="{_image(images[i])}" alt="digit {labels[i]}"><figcaption>'
        f'<span class="fl-wrong">{answer[i]}</span> {100 * read[i].max():.0f} %</figcaption>'
        "</figure>"
        for i in worst
    )
    said = f"{counted(len(wrong), 'mistake')} in {counted(len(labels), 'test image')}"
    return (
        f'<div class="fl-side"><div class="fl-wide"><table class="fl-matrix"><caption>{said}: a row'
        f" for each digit, a column for what was read</caption><thead><tr><td></td>{head}</tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<div style="flex: 1 1 240px"><p>Wrong, and most sure of it:</p>'
        f'<div class="fl-digits">{shown}</div></div></div>'
    )


def _shade(part: float) -> str:
    mixed = f"color-mix(in srgb, var(--fl-error) {45 * part:.0f}%, transparent)"
    return f' style="background:{mixed}"' if part else ""


def _image(image: np.ndarray) -> str:
    """As white ink on black, which is how MNIST and the models have it."""
    return f"data:image/png;base64,{base64.b64encode(image_png(image)).decode()}"


# ---- tables --------------------------------------------------------------------------------------


def rounds_table(history: History) -> str:
    """Every round as a row, the latest first."""
    if not len(history):
        return "<p>No round yet: press Start training.</p>"
    private = any("epsilon" in record.measures for record in history)
    names = [
        "round",
        "global model",
        "loss",
        "clients' mean",
        "their worst",
        "updates",
        "examples",
        *(["ε"] if private else []),
        "received",
        "sent",
        "seconds",
    ]
    rows = []
    for r in reversed(list(history)):
        own = _own(r)
        cells = [
            r.round,
            percent(r.accuracy),
            f"{r.loss:.3f}",
            percent(sum(own) / len(own)) if own else "–",
            percent(min(own)) if own else "–",
        ]
        cells += [
            len(r.clients),
            f"{r.num_examples:,}",
            *([f"{r.measures.get('epsilon', 0):.3g}"] if private else []),
            size(r.bytes_up),
            size(r.bytes_down),
            f"{r.seconds:.1f}",
        ]
        note = f'<td class="text">{escape(r.note)}</td>' if r.note else ""
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + note + "</tr>")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return _scrolled(f'<table class="fl">{table}</table>', "every round")


def _scrolled(table: str, name: str) -> str:
    """A table that may be larger than its room, to be moved in by keyboard too."""
    known = f'tabindex="0" role="region" aria-label="{name}"'
    return f'<div class="fl-wide" {known}>{table}</div>'


def wire_table(exchanges: Iterable, history: History) -> str:
    """The last HTTP requests, and the bytes of the last round."""
    rows = [
        f"<tr><td>{time.strftime('%H:%M:%S', time.localtime(e.time))}</td>"
        f'<td class="text">{escape(e.client)}</td>'
        f'<td class="text">{e.method} {escape(e.path)}</td><td>{e.status}</td>'
        f"<td>{size(e.bytes_up)}</td><td>{size(e.bytes_down)}</td></tr>"
        for e in list(exchanges)[-12:][::-1]
    ]
    if not rows:
        return "<p>No request yet.</p>"
    last = history.last
    sums = (
        f"<p>Round {last.round}: the server received {size(last.bytes_up)} and sent"
        f" {size(last.bytes_down)}: weights, and no image.</p>"
        if last
        else ""
    )
    head = (
        '<tr><th>time</th><th class="text">client</th><th'
        ' class="text">request</th><th>status</th><th>to the server</th><th>from the'
        " server</th></tr>"
    )
    table = f'<table class="fl"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    return sums + _scrolled(table, "the last requests")


def code(text: str) -> str:
    """Python to copy with one click. navigator.clipboard is missing on plain http from another
    machine: then the text is selected instead.
    """
    copy = (
        "const p=this.parentNode.querySelector('pre'),b=this;const"
        " done=()=>{b.textContent='Copied'};"
        "const mark=()=>{getSelection().selectAllChildren(p);b.textContent='Selected: press"
        " Ctrl+C'};"
        "navigator.clipboard?navigator.clipboard.writeText(p.textContent).then(done,mark):mark()"
    )
    return (
        f'<div><button onclick="{escape(copy)}" class="lm-Widget jupyter-widgets'
        f' jupyter-button">Copy</button><pre>{escape(text)}</pre></div>'
    )


def join(address: str, url: str | None, name: str) -> str:
    """How another notebook or terminal joins, under a name that is free; the address with its token
    only when asked for.
    """
    shown = url or f"{address}?token=…"
    lan = (
        ""
        if "127.0.0.1" not in address
        else (
            "<p>This server answers only this machine. For a class: <code>fedlab.Dashboard(mnist,"
            " host='0.0.0.0')</code>.</p>"
        )
    )
    return (
        f'<p>From a terminal: <code>fedlab client "{escape(shown)}" --id {name} --shards 1'
        f' 4</code></p><p>From another notebook: <code>fedlab.Client("{escape(shown)}", "{name}",'
        " mnist.shards(1, 4), test=mnist.test, codecs=fedlab.codec).start()</code></p><p>Everybody"
        f" needs a name of their own: in place of {name} write yours. Or look on, in a browser:"
        f" <code>{escape(shown)}</code></p>{lan}<p>Whoever has the address with its token may take"
        " part. Plain HTTP can be read by anyone on the same network.</p>"
    )
