"""Batches of labelled images, decoded by worker processes; their order does not depend on how many there are.

Every random draw is a function of the seed and of what is drawn, so that a training which starts in the
middle sees what an unbroken one saw.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from traceback import clear_frames
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from models.errors import ReadingError, UnreadableImageError
from models.image_data import UNREADABLE_SHARE, ImageData

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD = 4  # batches that every worker has ready, where they are small
AHEAD_BYTES = 2_000_000_000  # of images that one process has ready or in work, or one batch if that is more
LARGE_SIDE = 384  # of an image, where none is told


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


class Samples(Dataset[Loaded]):
    """Both splits of a training, loaded by the same workers: a Draw is of `train`, a number of `val`."""

    def __init__(self, train: TrainSamples, val: EvalSamples) -> None:
        self.train = train
        self.val = val

    def __getitem__(self, asked: Draw | int) -> Loaded:
        return self.train[asked] if isinstance(asked, Draw) else self.val[asked]


@dataclass(frozen=True, slots=True)
class Loading:
    """How batches are loaded: images of one, the side of its square images, processes that decode.

    With `pin` batches are in memory that a GPU copies from while it works.
    """

    batch_size: int
    side: int
    workers: int = 0
    pin: bool = False

    @property
    def image_bytes(self) -> int:
        return 3 * self.side**2 * torch.float32.itemsize

    @property
    def piece(self) -> int:
        """Images that a worker loads at once: a batch, or so many that each can have a piece ready."""
        if not self.workers:
            return self.batch_size
        most = max(1, self._ahead_bytes // (self.workers * self.image_bytes))
        return math.ceil(self.batch_size / math.ceil(self.batch_size / most))

    @property
    def pieces_ahead(self) -> int:
        """Pieces that each worker has ready or in work."""
        fit = self._ahead_bytes // (self.workers * self.piece * self.image_bytes)
        return min(AHEAD, max(1, fit))

    @property
    def _ahead_bytes(self) -> int:
        return max(AHEAD_BYTES, self.batch_size * self.image_bytes)


def eval_lists(count: int, batch_size: int, *, share: tuple[int, int] = (0, 1)) -> list[list[int]]:
    """All of `count` images in order; of several processes, `share` is this one and how many there are."""
    indices = range(share[0], count, share[1])
    return [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]


def eval_batches(
    data: ImageData,
    transform: Callable[[Image], Tensor],
    *,
    batch_size: int,
    workers: int = 0,
    side: int = LARGE_SIDE,
) -> Iterator[Batch]:
    """The whole split in order."""
    lists = eval_lists(len(data), batch_size)
    return batches(EvalSamples(data, transform), lists, Loading(batch_size, side, workers))


def batches(
    samples: Dataset[Loaded], lists: Iterable[list[Draw] | list[int]], loading: Loading
) -> Generator[Batch]:
    """One batch for every list, in their order, loaded while the network works on the ones before.

    Large batches are loaded in pieces, so that many workers have no more ready than AHEAD_BYTES. Raises
    ReadingError where the machine cannot read an image, RuntimeError where a worker ends before its work.
    """
    sizes: deque[int] = deque()  # of the batches whose pieces were asked for

    def pieces() -> Iterator[list[Draw] | list[int]]:
        for each in lists:
            sizes.append(len(each))
            yield from (each[start : start + loading.piece] for start in range(0, len(each), loading.piece))

    loader: DataLoader[Loaded] = DataLoader(
        samples,
        batch_sampler=pieces(),
        num_workers=loading.workers,
        collate_fn=_collate,
        pin_memory=loading.pin and loading.piece == loading.batch_size,
        prefetch_factor=loading.pieces_ahead if loading.workers else None,
        generator=torch.Generator(),  # the global one stays as it is
    )
    loaded = _without_traceback(iter(loader))
    for first in loaded:
        size = sizes.popleft()
        others = math.ceil(size / loading.piece) - 1
        yield _joined(chain([first], islice(loaded, others)), size, pin=loading.pin) if others else first


def _without_traceback(loaded: Iterator[Batch]) -> Iterator[Batch]:
    """The same; a worker's ReadingError comes with the worker's traceback, the error last, and leaves it.

    Workers are ended before it is raised: whoever holds the error would hold them with its frames.
    """
    try:
        yield from loaded
        return
    except ReadingError as error:
        said = str(error).rpartition(f"{ReadingError.__name__}: ")[2].strip()
        clear_frames(error.__traceback__)  # those of PyTorch hold the error and the workers in a circle
    del loaded
    raise ReadingError(said)


def _joined(pieces: Iterable[Batch], size: int, *, pin: bool) -> Batch:
    """The pieces of a batch of up to `size` images as one; each is let go once it is copied."""
    images, labels = torch.empty(0, 3, 0, 0), torch.empty(size, dtype=torch.int64)
    unreadable: list[tuple[int, str]] = []
    filled = 0
    for piece in pieces:
        unreadable += piece.unreadable
        if count := len(piece.labels):
            if not filled:
                images = torch.empty(size, *piece.images.shape[1:], pin_memory=pin)
            images[filled : filled + count] = piece.images
            labels[filled : filled + count] = piece.labels
            filled += count
    return Batch(images[:filled], labels[:filled], tuple(unreadable))


def _collate(loaded: Sequence[Loaded]) -> Batch:
    samples = [sample for sample, _ in loaded if sample is not None]
    failures = tuple(failure for _, failures in loaded for failure in failures)
    if not samples:
        return Batch(torch.empty(0, 3, 0, 0), torch.empty(0, dtype=torch.int64), failures)
    images, labels = zip(*samples, strict=True)
    batch = Batch(torch.stack(images), torch.tensor(labels), failures)
    if get_worker_info() is not None:
        # Here, as an error that comes up later, while a worker's queue sends, stops nothing: all would wait.
        for tensor in (batch.images, batch.labels):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    return batch
