"""A pad to draw a digit on, by mouse, finger, pen or keyboard; Python has it as an MNIST image."""

from __future__ import annotations

import anywidget
import numpy as np
import traitlets

from fedlab.checks import Refused
from fedlab.dashboard.scripts import PAGES, STATIC, module
from fedlab.handwriting import SIDE


class DrawingPad(anywidget.AnyWidget):
    """A canvas, beside it what a model sees of it, Undo and Clear.

    pixels: 784 grey values 0-255, row by row, as `fedlab.handwriting.prepare` makes them of the
            strokes; b"" when nothing is drawn. Observe it: it follows the drawing at most every 100
            ms, and the end of every stroke. Set in Python it is shown as what the model sees, and
            the canvas is cleared. Raises Refused for another number of bytes.
    """

    _esm = module(PAGES / "handwriting.js", STATIC / "pad.js")
    _css = (STATIC / "pad.css").read_text("utf-8")

    # What a browser sends arrives as a memoryview.
    pixels = traitlets.Bytes().tag(sync=True, from_json=lambda value, _: bytes(value))

    @traitlets.validate("pixels")
    def _looked_at(self, proposal) -> bytes:
        length = len(proposal["value"])
        if length not in (0, SIDE * SIDE):
            raise Refused(f"pixels has length {length}; expected {SIDE * SIDE}, or 0")
        return proposal["value"]

    def image(self) -> np.ndarray | None:
        """What is drawn, (28, 28) float32 from 0 (paper) to 1 (ink); None when nothing is."""
        if not self.pixels:
            return None
        grey = np.frombuffer(self.pixels, np.uint8).reshape(SIDE, SIDE)
        return grey.astype(np.float32) / np.float32(255)

    def clear(self) -> None:
        """As the button: nothing is drawn, here and on the canvas."""
        self.pixels = b""
        # A stroke that is being drawn may not have been sent yet, and then this was no change.
        self.send("clear")
