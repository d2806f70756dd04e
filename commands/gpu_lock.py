"""The measuring lock of the GPU here, held while an engine is built: a builder times its tactics on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from commands import UsageError
from converters.artifact import ConversionRequest
from converters.tensorrt_package import uses_gpu
from runners.locks import POLL_SECONDS, acquire, default_folder
from runners.runner import RunnerError

DEVICE = "cuda-0"  # builders use CUDA's first GPU


class GpuLock:
    """One build at a time on the GPU, and none beside a measurement; what needs no GPU never waits.

    `tell` hears once of each process that is waited for. Raises UsageError where the lock cannot be used.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: object = None
        self._held: dict[ConversionRequest, int] = {}

    def take(self, request: ConversionRequest) -> bool:
        """Whether the request may be built now; the lock is then held for it."""
        if not uses_gpu(request):
            return True
        if self._held:
            return False
        purpose = f"building an engine of {request.model.name}"
        try:
            self._held[request] = acquire(default_folder(), DEVICE, wait_seconds=0, purpose=purpose)
        except RunnerError as error:
            if "holder_pid" not in error.detail:
                raise UsageError(f"{error}. {error.advice}") from None
            self._waits_for(error.detail["holder_pid"])
            return False
        return True

    def release(self, request: ConversionRequest) -> None:
        descriptor = self._held.pop(request, None)
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def hold(self, request: ConversionRequest) -> Iterator[None]:
        """Waits for `take`, and releases."""
        while not self.take(request):
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            self.release(request)

    def _waits_for(self, pid: object) -> None:
        if pid != self._told:
            self._told = pid
            self._tell(f"waiting to build on {DEVICE}, which process {pid} uses")
