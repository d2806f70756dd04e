"""What makes latencies noisy on an NVIDIA GPU, and the command that changes it. Nothing is changed here.

No card has answered this code yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from commands.finding import Finding
from runners import environment
from runners.gpu_readings import slowdown_reasons

HOT_C = 80


def findings() -> Iterator[Finding]:
    """Of every card that NVML knows; none without a driver."""
    if not environment.nvml_may_answer():
        return
    import pynvml

    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        yield Finding("GPU", "note", f"NVML does not answer ({error}): clocks and heat stay unknown")
        return
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            yield Finding(f"GPU {index}", "note", f"NVML does not let it be asked: {error}")
            continue
        yield from Card(pynvml, handle, index).findings()


class Card:
    """One GPU through NVML, by its index there, which is that of `nvidia-smi -i`."""

    def __init__(self, nvml: Any, handle: Any, index: int) -> None:
        self._nvml, self._handle, self._index = nvml, handle, index

    def findings(self) -> Iterator[Finding]:
        """What the card does not tell, or not to this user, is left out."""
        for check in (self._persistence, self._clock, self._power, self._heat, self._slowed, self._others):
            yield from check()

    def _persistence(self) -> Iterator[Finding]:
        if self._asked("nvmlDeviceGetPersistenceMode") == 0:
            yield self._note(
                "persistence mode is off: the driver may unload between processes, and each begins with a"
                " cold card",
                "-pm 1",
            )

    def _clock(self) -> Iterator[Finding]:
        """NVML does not tell whether clocks are locked; a clock that may rise is told as it is."""
        top = self._asked("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM)
        now = self._asked("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        if top and now is not None:
            yield self._note(
                f"the clock is {now} of at most {top} MHz, and moves with load and heat unless it is locked;"
                " take one that the card holds for hours",
                "-lgc MHZ,MHZ",
                "-rgc",
            )

    def _power(self) -> Iterator[Finding]:
        limit = self._asked("nvmlDeviceGetEnforcedPowerLimit")
        usual = self._asked("nvmlDeviceGetPowerManagementDefaultLimit")
        if limit and usual and limit < usual:
            yield self._note(
                f"its power is limited to {limit / 1000:.0f} W, below its usual {usual / 1000:.0f} W",
                f"-pl {usual / 1000:.0f}",
            )

    def _heat(self) -> Iterator[Finding]:
        degrees = self._asked("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU)
        if degrees is not None and degrees >= HOT_C:
            yield Finding(self._name, "note", f"it is {degrees} °C hot", "let it cool, or lock a lower clock")

    def _slowed(self) -> Iterator[Finding]:
        reasons = slowdown_reasons(self._asked("nvmlDeviceGetCurrentClocksThrottleReasons") or 0)
        if reasons:
            yield Finding(self._name, "note", f"it runs below its clocks now: {', '.join(reasons)}")

    def _others(self) -> Iterator[Finding]:
        running = self._asked("nvmlDeviceGetComputeRunningProcesses") or []
        pids = sorted({int(process.pid) for process in running} - {os.getpid()})
        if pids:
            shown = " ".join(map(str, pids))
            fix = f"end them, or let them wait: kill -STOP {shown}, afterwards kill -CONT {shown}"
            yield Finding(self._name, "note", f"other processes use it: {shown}", fix)

    @property
    def _name(self) -> str:
        return f"GPU {self._index}"

    def _note(self, message: str, change: str, undo: str = "") -> Finding:
        command = f"sudo nvidia-smi -i {self._index}"
        after = f", afterwards {command} {undo}" if undo else ""
        return Finding(self._name, "note", message, f"{command} {change}{after}")

    def _asked(self, name: str, *arguments: Any) -> Any:
        """None where the card does not support the question, or this user may not ask it."""
        call: Callable[..., Any] = getattr(self._nvml, name)
        try:
            return call(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
