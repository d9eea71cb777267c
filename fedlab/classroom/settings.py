"""What a teacher decides before a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedlab.checks import Refused, number, whole
from fedlab.messages import Training

BLANK, MNIST = "blank", "mnist"
STARTS = BLANK, MNIST
"""What the class begins with: an untrained model, or one that reads MNIST."""

ALIKE, IMAGES = "alike", "images"
WEIGHS = ALIKE, IMAGES
"""What a student's weights count in the average: as much as anybody's, or as many as its images.
With the second, one laptop of 5,000 images outweighs two hundred phones of 24."""


@dataclass(frozen=True)
class ClassSettings:
    """The settings of a live class. Raises Refused for values that cannot be.

    begin:    "blank" or "mnist": the model that the class begins with.
    weigh:    "alike": all students count as much in the average; "images": by their images.
    epochs, batch_size, learning_rate: of the training on every device.
    deadline: seconds that a round waits for its updates.
    half:     weights travel in half precision: half of the bytes, for a slow Wi-Fi.
    minimum:  how many must be ready before a round begins.
    students: how many may be in the class.
    host, port: where to listen: all networks of this machine, and 8642, or a free one where another
              program has that.
    seed, checkpoint, certificate, key: as in `Server`.
    """

    begin: str = BLANK
    weigh: str = ALIKE
    epochs: int = 5
    batch_size: int = 10
    learning_rate: float = 0.1
    deadline: float = 30.0
    half: bool = False
    minimum: int = 2
    students: int = 60
    host: str = "0.0.0.0"
    port: int | None = None
    seed: int = 0
    checkpoint: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self):
        self.training()
        number("deadline", self.deadline, "seconds above 0", above=0, most=1e6)
        for name in ("minimum", "students"):
            whole(name, getattr(self, name), 1, 1_000)
        for name, known in (("begin", STARTS), ("weigh", WEIGHS)):
            if getattr(self, name) not in known:
                expected = " or ".join(map(repr, known))
                raise Refused(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def training(self) -> Training:
        """E, B and the learning rate."""
        return Training(self.epochs, self.batch_size, self.learning_rate)
