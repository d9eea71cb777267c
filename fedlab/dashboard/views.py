"""Tables and sentences of the panel as HTML. Pure functions of what happened: no widgets, no
state."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from html import escape

from fedlab.history import History, RoundRecord
from fedlab.plots import COLOURS

STYLE = """<style>
.fedlab {
  --jp-widgets-font-size: 15px; font-size: 16px; max-width: 980px; color: #111; background: #fff;
  padding: 6px; border-radius: 6px; }
.fedlab .widget-html-content, .fedlab .widget-label {
  font-size: 15px; line-height: 1.35; color: #111; }
.fedlab .fl-images .widget-html-content { white-space: nowrap; text-align: right; }
.fedlab .fl-card { border: 1px solid #bbb; border-radius: 6px; padding: 6px 8px; }
.fedlab .fl-state { font-size: 20px; }
.fedlab .fl-where {
  color: #444; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; max-width: 960px; }
.fedlab .fl-number { font-size: 26px; font-weight: 600; }
.fedlab .fl-pill {
  color: #fff; border-radius: 12px; padding: 2px 12px; font-weight: 600; white-space: nowrap; }
.fedlab .fl-error { background: #fdecea; border-left: 5px solid #bd1f01; padding: 6px 10px; }
.fedlab table.fl { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.fedlab table.fl th, .fedlab table.fl td {
  padding: 2px 12px 2px 0; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
.fedlab table.fl td.text, .fedlab table.fl th.text { text-align: left; }
.fedlab pre {
  background: #f4f4f4; padding: 8px; font-size: 14px; overflow-x: auto; line-height: 1.3; }
</style>"""


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


def header(pill: str, colour: str, where: str, round_: str, accuracy: str) -> str:
    """The top lines: what is going on, how far, how good; and where, in a smaller line below."""
    return (
        '<div class="fl-state"><span class="fl-pill"'
        f' style="background:{colour}">{escape(pill)}</span> &nbsp;<span>{escape(round_)}</span>'
        f' &nbsp;&nbsp; accuracy <span class="fl-number">{escape(accuracy)}</span></div><div'
        f' class="fl-where">{escape(where)}</div>'
    )


def message(text: str, error: bool = False) -> str:
    """A sentence below the buttons; mistakes are announced to screen readers."""
    if not text:
        return ""
    return (
        f'<div role="{"alert" if error else "status"}"'
        f' class="{"fl-error" if error else ""}">{escape(text)}</div>'
    )


def client_state(status) -> str:
    """What a client (its ClientStatus) is doing, and how good its own model was when last tested:
    two lines.
    """
    own = "" if math.isnan(status.accuracy) else f"<br>own model {percent(status.accuracy)}"
    return (
        message(status.message, error=True)
        if status.phase == "failed"
        else f"{escape(status.message)}{own}"
    )


def guests(members: Sequence) -> str:
    """Who takes part from another notebook or terminal."""
    if not members:
        return ""
    shown = ", ".join(
        f"<b>{escape(m.client)}</b> ({m.num_examples:,} images, {escape(m.state)})" for m in members
    )
    return f"<div>Joined from elsewhere: {shown}</div>"


def dot(number: int) -> str:
    """A client's colour in the plot."""
    return (
        f'<span style="color:{COLOURS[number % len(COLOURS)]};font-size:24px"'
        ' aria-hidden="true">●</span>'
    )


def summary(history: History, rounds: int, earlier: Sequence[str] = ()) -> str:
    """The picture in a few sentences, for those who cannot see it. `earlier`: the labels of the
    faint lines.
    """
    last, best = history.last, history.best
    if last is None:
        text = "No round yet."
    else:
        own = _own(last)
        spread = (
            f"; the clients' own models: mean {percent(sum(own) / len(own))}, worst"
            f" {percent(min(own))}"
            if own
            else ""
        )
        top = f" Best so far: {percent(best.accuracy)} in round {best.round}." if best else ""
        text = (
            f"After round {last.round} of {max(rounds, last.round)}: the global model has"
            f" {percent(last.accuracy)} on the test images{spread}.{top}"
        )
    if earlier:
        text += f" Faint lines: {'; '.join(earlier)}."
    return f'<div aria-live="polite" style="max-width:620px">{escape(text)}</div>'


def _own(record: RoundRecord) -> list[float]:
    return [
        client.accuracy for client in record.clients.values() if not math.isnan(client.accuracy)
    ]


def rounds_table(history: History) -> str:
    """Every round as a row, the latest first."""
    if not len(history):
        return "<p>No round yet: press Start training.</p>"
    names = [
        "round",
        "global model",
        "loss",
        "clients' own, mean",
        "worst client's own",
        "updates",
        "examples",
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
            size(r.bytes_up),
            size(r.bytes_down),
            f"{r.seconds:.1f}",
        ]
        note = f'<td class="text">{escape(r.note)}</td>' if r.note else ""
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + note + "</tr>")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f'<table class="fl"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def wire_table(exchanges: Iterable, history: History) -> str:
    """The last HTTP requests, and the bytes of the last round."""
    rows = [
        f"<tr><td>{time.strftime('%H:%M:%S', time.localtime(e.time))}</td>"
        f'<td class="text">{escape(e.client)}</td>'
        f'<td class="text">{e.method} {escape(e.path)}</td><td>{e.status}</td>'
        f"<td>{size(e.bytes_up)}</td><td>{size(e.bytes_down)}</td></tr>"
        for e in list(exchanges)[-15:][::-1]
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
    return f'{sums}<table class="fl"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


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


def join(address: str, url: str | None) -> str:
    """How another notebook or terminal joins; the address with its token only when asked for."""
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
        f'<p>From a terminal: <code>fedlab client "{escape(shown)}" --id dave --shards 1'
        f' 4</code></p><p>From another notebook: <code>fedlab.Client("{escape(shown)}", "dave",'
        " mnist.shards(1, 4), test=mnist.test).start()</code></p><p>Or look on, in a browser:"
        f" <code>{escape(shown)}</code></p>{lan}<p>Whoever has the address with its token may take"
        " part. Plain HTTP can be read by anyone on the same network.</p>"
    )
