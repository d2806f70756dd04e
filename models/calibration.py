"""Which images an int8 graph is calibrated on, as a text that names them; no image is opened here."""

from __future__ import annotations

from dataclasses import dataclass

USUAL_COUNT = 128  # images; ranges by smallest and largest value hardly change beyond


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """`count` images of the split `train` of `name`, which is `digits` or a folder's own name.

    `sha256` is over the contents of the images, in the order in which they were drawn.
    """

    name: str
    count: int
    sha256: str

    def __str__(self) -> str:
        """As a Case and a request hold it."""
        return f"{self.name}:{self.count}:{self.sha256}"

    @property
    def label(self) -> str:
        return f"{self.name} {self.sha256[:8]}"

    @staticmethod
    def parse(text: str) -> CalibrationImages:
        """Raises ValueError for what `str` never gave."""
        name, count, sha256 = text.rsplit(":", 2)
        return CalibrationImages(name, int(count), sha256)
