"""The processes of one training, as `torchrun` starts them: one for every GPU, or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Which process this is, of how many, and the device that it works on."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def summed(self, value: Tensor) -> Tensor:
        """The sum of all processes' `value`, on every one of them."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all processes' `value`, on every one of them."""
        return self.summed(value) / self.count

    def gathered(self, value: T) -> list[T]:
        """All processes' `value` in their order, on every one of them; small plain values."""
        if self.count == 1:
            return [value]
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return [each for each in found if each is not None]

    def share_buffers(self, net: nn.Module) -> None:
        """The first process's buffers everywhere: BatchNorm's statistics differ by what each one saw."""
        if self.count > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """This process among those that torchrun started (it sets RANK, WORLD_SIZE and LOCAL_RANK), or alone."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count == 1:
        yield Processes(torch.device(device))
        return
    on_gpu = device == "cuda"
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device(device)
    if on_gpu:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(own, rank, count)
    finally:
        dist.destroy_process_group()
