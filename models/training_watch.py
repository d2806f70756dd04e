"""Looks at the loss and the gradients of every step, and says when there is no sense in going on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.training_request import TrainingStopped

# Steps in a row that fp16's scaler may leave out. It halves its scale each time: from its first, 65536, to
# 2^-16, where fp16 holds every gradient below 4e9. What is not finite then, no scale makes so.
MAX_SKIPPED = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What one step, counted from 0, gave: its loss, its rate, and the norm of its gradients unclipped."""

    step: int
    rate: float
    loss: float
    norm: float


class Watch:
    """Sees a step when the next one is under way, so that the device always has work while somebody looks.

    `where` is what messages call a step, `kept` what they say of the checkpoint before it. With `scaled`
    gradients (fp16) a norm that is not finite is a step that the scaler leaves out, as it should.

    On CUDA a step's values are copied as soon as it is done, and an event tells of the copy: to ask for them
    later would wait for the step that was queued since. No GPU has run that part.
    """

    def __init__(self, where: Callable[[int], str], kept: Callable[[], str], *, scaled: bool) -> None:
        self._where, self._kept, self._scaled = where, kept, scaled
        self._pending: tuple[int, float, Tensor, torch.cuda.Event | None] | None = None
        self._skipped = 0

    def begin(self, step: int, *, rate: float, loss: Tensor, norm: Tensor) -> None:
        """The step that is under way."""
        self._pending = step, rate, *_on_host(torch.stack((loss, norm)))

    def settle(self) -> Seen | None:
        """The step under way, once it is done; None where there is none. Raises TrainingStopped."""
        if self._pending is None:
            return None
        (step, rate, values, copied), self._pending = self._pending, None
        if copied is not None:
            copied.synchronize()
        loss, norm = values.tolist()
        if not np.isfinite(loss):
            raise self._stopped("the loss is not finite", step)
        self._skipped = 0 if np.isfinite(norm) else self._skipped + 1
        if self._skipped and not self._scaled:
            raise self._stopped("the norm of the gradients is not finite", step)
        if self._skipped >= MAX_SKIPPED:
            raise self._stopped(
                f"the norm of the gradients is not finite, {MAX_SKIPPED} steps in a row that fp16 left out"
                " while its scale halved each time,",
                step,
            )
        return Seen(step, rate, loss, norm)

    def _stopped(self, what: str, step: int) -> TrainingStopped:
        return TrainingStopped(
            f"{what} in {self._where(step)}: lower lr or clip_norm, or raise warmup_epochs; {self._kept()}"
        )


def _on_host(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Where the values will be on the CPU, and the event after which they are; None where they are there."""
    if not values.is_cuda:
        return values, None
    host = torch.empty_like(values, device="cpu", pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied: torch.cuda.Event = torch.cuda.current_stream(values.device).record_event()
    return host, copied
