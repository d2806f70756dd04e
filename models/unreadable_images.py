"""The images that a training leaves out as no decoder takes them, over both splits and all its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from models.image_data import ImageData, Unreadable
from models.image_loading import Batch
from models.processes import Processes


class UnreadableImages:
    """Counts each once, names it by `note` of the first process, and raises DataError above 1 % of a split.

    A process knows its own at once and those of others since the last `gather`.
    """

    def __init__(
        self, splits: Iterable[ImageData], processes: Processes, note: Callable[[str], None]
    ) -> None:
        self._splits = {data.split: Unreadable(data) for data in splits}
        self._processes = processes
        self._note = note

    def add(self, batch: Batch, split: str) -> None:
        """What this process could not read. Raises DataError."""
        for index, reason in batch.unreadable:
            self._add(split, index, reason)

    def gather(self) -> None:
        """What any process could not read, known to every one: all of them meet here. Raises DataError."""
        own = {split: dict(each.found) for split, each in self._splits.items()}
        for found in self._processes.gathered(own):
            for split, reasons in found.items():
                for index, reason in reasons.items():
                    self._add(split, index, reason)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is left out and why, one text an image."""
        return tuple(text for each in self._splits.values() for text in each.found.values())

    def _add(self, split: str, index: int, reason: str) -> None:
        if self._splits[split].add(index, reason):
            self._note(f"left out, as it cannot be read: {reason}")
