"""What is asked of the trainer, and what it tells while it works and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from models.recipe import Recipe
from models.spec import Options


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One training. What is not in `recipe` decides where and how fast it runs.

    `data` None are the digits. `start` is a checkpoint whose weights training starts from, with a classifier
    of its own where the classes are others; a resumed training does not read it again. `accumulate` are
    the parts that a process takes its share of a batch in. `save_every` are steps between checkpoints inside
    an epoch, 0 for none; there is one after every epoch. `device` is `cpu` or `cuda`.
    """

    model: str
    recipe: Recipe
    output: Path
    options: Options = ()
    data: Path | None = None
    start: Path | None = None
    resume: bool = False
    teacher: str = ""
    teacher_checkpoint: Path | None = None
    device: str = "cpu"
    workers: int = 0
    accumulate: int = 1
    save_every: int = 0
    compiled: bool = False
    channels_last: bool = False


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave. `top1` and `val_loss` are of the weights that are saved for deployment."""

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    top1: float
    images_per_second: float
    peak_memory_bytes: int
    best: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NewClassifier:
    """A classifier that was not in the file that a training started from: its tensors, and both classes."""

    tensors: tuple[str, ...]
    file_classes: int
    classes: int

    def __str__(self) -> str:
        return (
            f"a new classifier of {self.classes} classes instead of {self.file_classes}"
            f" ({', '.join(self.tensors)}); all other weights are the file's"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "tensors": list(self.tensors)}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> NewClassifier:
        return NewClassifier(tuple(value["tensors"]), value["file_classes"], value["classes"])


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training: its epochs in order, and where the weights are.

    `unreadable` names the images that this run left out, in any process.
    """

    epochs: tuple[Epoch, ...]
    best: Path
    last: Path
    unreadable: tuple[str, ...] = field(default=())
    new_classifier: NewClassifier | None = None

    @property
    def best_epoch(self) -> Epoch:
        """The first of the highest accuracy."""
        return next(epoch for epoch in reversed(self.epochs) if epoch.best)


class TrainingStopped(Exception):
    """A training that cannot go on: says where it was, why, and what to change. What is saved is whole."""


class Observer(Protocol):
    """Told of every step, epoch and note by the first process."""

    def step(self, done: int, total: int, *, epoch: int, loss: float) -> None: ...

    def epoch(self, epoch: Epoch, *, epochs: int) -> None: ...

    def note(self, text: str) -> None: ...
