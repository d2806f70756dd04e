"""Evaluations made up for tests: of so many images, so many of them right."""

from __future__ import annotations

import numpy as np

from models.spec import ModelSpec
from reports.evaluations import NO_EAGER, EvaluatedFile, Evaluation, ImageSet

CLASSES = ("cat", "dog", "eel", "fox", "gnu", "hen", "ibis")


def evaluation(
    model: ModelSpec | None,
    *,
    right: int = 90,
    count: int = 100,
    eager_right: int | None = None,
    precision: str = "fp32",
    kind: str = "onnx",
    key: str = "",
    sha256: str = "",
    data: str = "pets",
    images: str = "a" * 64,
    skipped: int = 0,
    tool: str = "onnxruntime 1.31.1",
    backend: str = "",
    at_ns: int = 1_763_689_800_000_000_000,
) -> Evaluation:
    """The first `right` images are hits, the others second; eager has its first `eager_right` right."""
    labels = np.arange(count) % len(CLASSES)
    wrong = (labels + 1) % len(CLASSES)
    hit = np.arange(count) < right
    eager = NO_EAGER
    if eager_right is not None:
        eager = np.where(np.arange(count) < eager_right, labels, wrong)
    return Evaluation(
        at_ns,
        2_000_000_000,
        "python bench.py eval FILE --data pets",
        EvaluatedFile(
            "net.onnx", kind, sha256 or f"{right:064d}", precision, tool, 8, key, "", model, backend=backend
        ),
        ImageSet(data, "val", images, CLASSES, skipped, "bicubic, center crop 0.875, 224x224"),
        len(CLASSES),
        labels,
        np.where(hit, labels, wrong),
        np.where(hit, 0, 1),
        eager,
        "torch 2.14.1, eager fp32" if eager_right is not None else "",
    )
