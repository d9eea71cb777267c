"""Formulas as MathML, made when the book is built: browsers draw it, and no script is needed."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert


def _inline(writer, node) -> None:
    writer.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _block(writer, node) -> None:
    formula = convert(node.astext(), display="block")
    writer.body.append(f'<div class="math book-formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
