"""No runtime at all: does nothing, or sleeps a known time, so that the loop itself can be measured."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runners.measurement import Job
from runners.runner import HOST_CLOCK, Array, Description, runtime_options


class NullRunner:
    """`infer` is an empty method, or `time.sleep(sleep_ns)` with the option `sleep_ns`."""

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False
        self._sleep_s = 0.0

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._sleep_s = runtime_options(job)["sleep_ns"] / 1e9
        if self._sleep_s:
            self.infer = self._sleep  # type: ignore[method-assign]

    def infer(self, index: int) -> object:
        return None

    def _sleep(self, index: int) -> object:
        time.sleep(self._sleep_s)
        return None

    def synchronize(self) -> None:
        """Nothing was started."""

    def outputs(self, index: int) -> list[Array]:
        return []

    def describe(self) -> Description:
        sleeping = f"time.sleep({self._sleep_s})" if self._sleep_s else "an empty method"
        return Description("null", sleeping, options={"sleep_ns": str(round(self._sleep_s * 1e9))})

    def close(self) -> None:
        """Nothing was opened."""
