"""What a file predicted for labelled images, kept raw, and the accuracies that are computed from it.

Intervals of shares are Wilson's score intervals at 95 % (SciPy's `binomtest(...).proportion_ci`): they hold
where a share is near 0 or 1, and for few images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from models.spec import ModelSpec
from runners.measurement import Samples

NOT_FINITE = -1  # in place of a predicted class: the outputs hold a NaN or an infinity
TOP = 5
NO_EAGER = np.zeros(0, np.int64)

# In rows of before `backend` was kept: the backends with whose names their tools begin, and what a tool holds
# that rounds what ONNX Runtime would not.
NAMED_BY_TOOL = ("onnxruntime", "openvino", "torch", "interpreter")
ROUNDED = "every value rounded"


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, and the 95 % interval of the probability behind it."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        return _wilson(self.hits, self.count)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"hits": self.hits, "count": self.count, "value": self.value, "low": low, "high": high}


@dataclass(frozen=True, slots=True)
class EvaluatedFile:
    """The file that was run. `kind` is an artifact's, or `checkpoint`; `tool` says what ran it.

    `key` is the artifact's, empty for a file of other origin; `model` None where nobody said what it is;
    `batch_size` the images of one inference. `sha256` of a folder is that of its files' names and sha256.
    `training` is the digest of the training whose weights these were, where they were evaluated and not kept.
    `backend` is the name of what ran it (`onnxruntime`, `interpreter`), empty in rows of before it was kept.
    """

    name: str
    kind: str
    sha256: str
    precision: str
    tool: str
    batch_size: int
    key: str = ""
    flavour: str = ""
    model: ModelSpec | None = None
    training: str = ""
    backend: str = ""

    @property
    def run_by(self) -> str:
        """The backend; where it was not kept what the tool's name tells, empty where that tells nothing."""
        named = self.tool.partition(" ")[0]
        told = named if named in NAMED_BY_TOOL and ROUNDED not in self.tool else ""
        return self.backend or told

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value; what came later than the first rows only where there is any."""
        value = {**asdict(self), "model": self.model.to_dict() if self.model else None}
        later = {"training": self.training, "backend": self.backend}
        return {name: each for name, each in value.items() if later.get(name) != ""}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> EvaluatedFile:
        model = value["model"]
        return EvaluatedFile(**{**value, "model": ModelSpec.from_dict(model) if model else None})


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images that it was run on. `sha256` is that of their names and labels, in order.

    `skipped` images could not be read; `transform` says how an image became an input.
    """

    name: str
    split: str
    sha256: str
    classes: tuple[str, ...]
    skipped: int
    transform: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """Accuracies on one axis are of equal identity."""
        return self.name, self.split, self.sha256

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> ImageSet:
        return ImageSet(**{**value, "classes": tuple(value["classes"])})


@dataclass(frozen=True)  # without slots, so that what is computed from it is computed once
class Evaluation:
    """One file on one set of images: arrays of int64, one value an image.

    `predicted` is the class with the largest output, NOT_FINITE where there is none; `ranks` how many outputs
    were above the right class's, 0 for a hit; `eager` what the eager fp32 model predicted for the same input,
    empty where it was not run, and `eager_tool` what ran it. `outputs` is how many the network has.
    """

    evaluated_at_ns: int
    duration_ns: int
    command: str
    file: EvaluatedFile
    images: ImageSet
    outputs: int
    labels: Samples
    predicted: Samples
    ranks: Samples
    eager: Samples
    eager_tool: str = ""

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def data(self) -> str:
        """`digits, val (360 images)`: the name of an axis."""
        return f"{self.images.name}, {self.images.split} ({self.count:,} images)"

    @cached_property
    def top1(self) -> Share:
        return self._within(1)

    @cached_property
    def top5(self) -> Share | None:
        """None for a network of five outputs or fewer: it would be right always."""
        return self._within(TOP) if self.outputs > TOP else None

    @cached_property
    def differing(self) -> Samples:
        """Places of the images for which the file and its eager form do not predict the same class.

        Among them are those for which neither predicts any. Empty where the eager form was not run.
        """
        if not self.eager.size:
            return NO_EAGER
        return np.flatnonzero((self.predicted != self.eager) | (self.predicted == NOT_FINITE))

    @cached_property
    def agreement(self) -> Share | None:
        """Images for which the file and its eager form predict the same class."""
        return Share(self.count - self.differing.size, self.count) if self.eager.size else None

    @cached_property
    def eager_top1(self) -> Share | None:
        return Share(int((self.eager == self.labels).sum()), self.count) if self.eager.size else None

    @property
    def lost(self) -> int:
        """Images that the eager form has right and the file has not."""
        return self._only(self.eager, self.predicted)

    @property
    def gained(self) -> int:
        return self._only(self.predicted, self.eager)

    @property
    def not_finite(self) -> int:
        return int((self.predicted == NOT_FINITE).sum())

    @cached_property
    def per_class(self) -> dict[str, Share]:
        """Top-1 by class, of the classes that have images."""
        counts = np.bincount(self.labels, minlength=len(self.images.classes))
        hits = np.bincount(self.labels[self.ranks == 0], minlength=len(self.images.classes))
        found = zip(self.images.classes, hits, counts, strict=True)
        return {name: Share(int(right), int(number)) for name, right, number in found if number}

    def facts(self) -> dict[str, Any]:
        """What is no array, as a plain value."""
        return {
            "duration_ns": self.duration_ns,
            "command": self.command,
            "file": self.file.to_dict(),
            "images": asdict(self.images),
            "outputs": self.outputs,
            "eager_tool": self.eager_tool,
        }

    def to_dict(self) -> dict[str, Any]:
        """The scores as a plain value, for files that others read; not the arrays."""
        scores = {"top1": self.top1, "top5": self.top5, "agreement": self.agreement}
        return {
            "evaluated_at_ns": self.evaluated_at_ns,
            **self.facts(),
            "data": self.data,
            "count": self.count,
            **{name: score.to_dict() if score else None for name, score in scores.items()},
            "eager_top1": self.eager_top1.to_dict() if self.eager_top1 else None,
            "lost": self.lost,
            "gained": self.gained,
            "not_finite": self.not_finite,
            "per_class": {name: score.to_dict() for name, score in self.per_class.items()},
        }

    def _within(self, best: int) -> Share:
        return Share(int((self.ranks < best).sum()), self.count)

    def _only(self, right: Samples, wrong: Samples) -> int:
        if not self.eager.size:
            return 0
        return int(((right == self.labels) & (wrong != self.labels)).sum())


@cache
def _wilson(hits: int, count: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)
