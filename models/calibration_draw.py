"""The images that an int8 graph is calibrated on, drawn from a split `train`, and the others that judge it.

Which ones are drawn depends on a fixed seed and on how many images a split holds, so the same folder gives
the same images on every machine. Those that judge it are of the split `val`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.calibration import USUAL_COUNT, CalibrationImages
from models.errors import DataError, UnreadableImageError
from models.image_data import DIGITS, ImageData, eval_transform, open_data, preprocessing
from models.spec import ModelSpec

SEED = 0
LEAST = 2  # inputs that are timed: a runtime that stores its output would pass unseen with one
Images = NDArray[np.float32]


def named(data: str, count: int | None) -> CalibrationImages:
    """The images of `digits` or of a folder in ImageNet's layout; for None as many as is usual, or all.

    Raises DataError for no such images, and for fewer than `count`.
    """
    train, _ = _splits(data)
    if count is not None and count > len(train):
        raise DataError(f"{data}: train holds {len(train)} images, fewer than {count}")
    indices = _drawn(train, count or min(USUAL_COUNT, len(train)))
    name = DIGITS if data == DIGITS else Path(data).resolve().name
    return CalibrationImages(name, len(indices), _identity(train, indices))


def calibrating(data: str, images: CalibrationImages, spec: ModelSpec, batch_size: int) -> Iterator[Images]:
    """Inputs (B, 3, H, W) with all of `images`, one after another; the last is filled up from the first.

    Raises DataError where they are not those that were named, or one cannot be read.
    """
    train, _ = _splits(data)
    if images.count > len(train):
        raise DataError(f"{data}: train holds {len(train)} images, fewer than the {images.count} planned")
    indices = _drawn(train, images.count)
    if _identity(train, indices) != images.sha256:
        raise DataError(
            f"{data}: the images of train were changed since the plan: run the same command again"
        )
    for first in range(0, len(indices), batch_size):
        yield _inputs(train, np.resize(np.roll(indices, -first), batch_size), spec)


def judging(data: str, spec: ModelSpec, batch_size: int, *, first: int, count: int) -> tuple[Images, ...]:
    """Inputs `first` to `first + count - 1` (B, 3, H, W) of images held out, as far as `val` holds so many.

    None of them is there twice. Raises DataError where `val` is too small for two, or one cannot be read.
    """
    _, val = _splits(data)
    whole = len(val) // batch_size
    if whole < LEAST:
        raise DataError(
            f"{data}: val holds {len(val)} images: at batch {batch_size}, {LEAST * batch_size} at least are"
            " judged on"
        )
    indices = _drawn(val, len(val))
    return tuple(
        _inputs(val, indices[place * batch_size : (place + 1) * batch_size], spec)
        for place in range(first, min(first + count, whole))
    )


@lru_cache(maxsize=1)
def _splits(data: str) -> tuple[ImageData, ImageData]:
    """(train, val): listing ImageNet's folders takes seconds."""
    path = None if data == DIGITS else Path(data)
    return open_data(path, "train"), open_data(path, "val")


def _drawn(data: ImageData, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(SEED).permutation(len(data))[:count]


def _identity(data: ImageData, indices: Sequence[int] | NDArray[np.int64]) -> str:
    """sha256 (hex) over the sha256 of every image: of its file, or of its pixels."""
    total = hashlib.sha256()
    for index in indices:
        source = data.sources[index]
        try:
            content = Path(source).read_bytes() if isinstance(source, str) else source.tobytes()
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error.strerror}") from None
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def _inputs(data: ImageData, indices: NDArray[np.int64], spec: ModelSpec) -> Images:
    """As the model is evaluated: its own resize, crop and normalization."""
    name = "" if spec.is_file else spec.name
    steps = preprocessing(name, resolution=spec.resolution, fills_frame=data.fills_frame)
    transform = eval_transform(steps)
    try:
        return np.stack([transform(data.load(int(index))).numpy() for index in indices])
    except UnreadableImageError as error:
        raise DataError(f"{error}: repair or remove it") from None
