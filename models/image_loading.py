"""Batches of labelled images, decoded by worker processes; their order does not depend on how many there are.

Every random draw is a function of the seed and of what is drawn, so that a training which starts in the
middle sees what an unbroken one saw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.errors import UnreadableImageError
from models.image_data import UNREADABLE_SHARE, ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD = 4  # batches that every worker has ready


@dataclass(frozen=True, slots=True)
class Batch:
    """`images` (B, 3, H, W) float32, `labels` (B,) int64, and (index, reason) of what could not be read."""

    images: Tensor
    labels: Tensor
    unreadable: tuple[tuple[int, str], ...] = ()

    def pin_memory(self) -> Batch:
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.unreadable)


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of a training: its index, and the numbers that its augmentation is drawn from."""

    index: int
    seed: tuple[int, ...]


# A sample, or None where there is none, and (index, reason) of what could not be read.
Loaded = tuple[tuple[Tensor, int] | None, tuple[tuple[int, str], ...]]


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's (CPU) global generators as functions of `seed`, and afterwards as before.

    The augmentations of timm and torchvision draw from all three.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class EvalSamples(Dataset[Loaded]):
    """Every image once, as the network sees it; what cannot be read is left out."""

    def __init__(self, data: ImageData, transform: Callable[[Image], Tensor]) -> None:
        self.data = data
        self.transform = transform

    def __getitem__(self, index: int) -> Loaded:
        try:
            return (self.transform(self.data.load(index)), int(self.data.labels[index])), ()
        except UnreadableImageError as error:
            return None, ((index, str(error)),)


class TrainSamples(Dataset[Loaded]):
    """A Draw as the network sees it; where it cannot be read the next that can, so that batches stay full."""

    def __init__(self, data: ImageData, transform: Callable[[Image], Tensor]) -> None:
        self.data = data
        self.transform = transform

    def __getitem__(self, draw: Draw) -> Loaded:
        failures: list[tuple[int, str]] = []
        for offset in range(int(UNREADABLE_SHARE * len(self.data)) + 1):  # more are an error anyway
            index = (draw.index + offset) % len(self.data)
            try:
                image = self.data.load(index)
            except UnreadableImageError as error:
                failures.append((index, str(error)))
                continue
            with seeded(*draw.seed):
                return (self.transform(image), int(self.data.labels[index])), tuple(failures)
        return None, tuple(failures)


def eval_batches(
    data: ImageData,
    transform: Callable[[Image], Tensor],
    *,
    batch_size: int,
    workers: int = 0,
    pin: bool = False,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The whole split in order; of several processes, `share` is this one and how many there are."""
    indices = range(share[0], len(data), share[1])
    chunks = [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]
    return _batches(EvalSamples(data, transform), chunks, workers=workers, pin=pin)


def train_batches(
    data: ImageData,
    transform: Callable[[Image], Tensor],
    draws: Iterable[list[Draw]],
    *,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """One batch for every list of draws, in their order, made while the network works on the one before."""
    return _batches(TrainSamples(data, transform), draws, workers=workers, pin=pin)


def _batches(
    samples: Dataset[Loaded], chunks: Iterable[list[Draw]] | Iterable[list[int]], *, workers: int, pin: bool
) -> Iterator[Batch]:
    loader: DataLoader[Loaded] = DataLoader(
        samples,
        batch_sampler=chunks,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        prefetch_factor=AHEAD if workers else None,
        generator=torch.Generator(),  # the global one stays as it is
    )
    return iter(loader)


def _collate(loaded: Sequence[Loaded]) -> Batch:
    samples = [sample for sample, _ in loaded if sample is not None]
    failures = tuple(failure for _, failures in loaded for failure in failures)
    if not samples:
        return Batch(torch.empty(0, 3, 0, 0), torch.empty(0, dtype=torch.int64), failures)
    images, labels = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), failures)
