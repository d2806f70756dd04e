"""What is timed of a loaded runner: its sampler, its method, or that with a known wait added to it."""

from __future__ import annotations

from collections.abc import Callable

from runners import timing
from runners.runner import HOST_CLOCK, Description, DeviceSide, Runner, RunnerError


def of(runner: Runner, description: Description, busy_wait_ns: int = 0) -> timing.Work:
    """The device's sampler, or the runner's own method where nothing has to be waited for.

    `busy_wait_ns` is added to every inference by spinning, with which the instrument is tested. Raises
    RunnerError where the samples are not taken on the host's clock, on which the wait passes.
    """
    side: DeviceSide | None = getattr(runner, "device_side", None)
    if not busy_wait_ns:
        if side is not None:
            return side.sampler
        return _waited_for(runner)
    if description.clock != "host":
        message = f"a busy wait does not pass on the clock '{description.clock}'"
        raise RunnerError("load", message, "Drop busy_wait_ns.")
    return _delayed(_waited_for(runner), busy_wait_ns)


def _waited_for(runner: Runner) -> timing.Step:
    return _synchronized(runner.infer, runner.synchronize) if runner.asynchronous else runner.infer


def _synchronized(infer: timing.Step, synchronize: Callable[[], None]) -> timing.Step:
    def step(index: int) -> None:
        infer(index)
        synchronize()

    return step


def _delayed(step: timing.Step, wait_ns: int) -> timing.Step:
    clock = HOST_CLOCK

    def delayed(index: int) -> None:
        step(index)
        end = clock() + wait_ns
        while clock() < end:
            pass

    return delayed
