"""What NVML tells about a GPU before and after a round: clocks, power, temperature, reasons for slowdown.

Without NVML, a driver or a figure the reading is absent; a round never fails for want of one. No card has
answered this code yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runners.readings import Readings

# Bits of NVML's clocks event reasons that mean less speed than was asked for. Idle and user settings do not.
SLOWDOWN_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
}
POWER_POLICY, THERMAL_POLICY = 0, 1
MIN_SHARE = 0.01


class Gpu:
    """One GPU through NVML; `read` gives what it tells."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def read(self) -> Readings:
        return dict(self._tell())

    def process_bytes(self, pid: int) -> int | None:
        """Device memory of one process; None where the driver does not tell, as in most containers."""
        try:
            found = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        used = [process.usedGpuMemory for process in found if process.pid == pid]
        return int(used[0]) if used and used[0] else None

    def _tell(self) -> Iterator[tuple[str, int]]:
        nvml, handle = self._nvml, self._handle
        calls: dict[str, Callable[[], Any]] = {
            "gpu_sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "gpu_memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "gpu_power_mw": lambda: nvml.nvmlDeviceGetPowerUsage(handle),
            "gpu_temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "gpu_utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_slowdown_reasons": lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
            "gpu_power_violation_ns": lambda: _violation(nvml, handle, POWER_POLICY),
            "gpu_thermal_violation_ns": lambda: _violation(nvml, handle, THERMAL_POLICY),
        }
        for name, call in calls.items():
            try:
                yield name, int(call())
            except nvml.NVMLError:  # not supported by this card, or not permitted to this user
                continue


def open_gpu(index: int, pci_bus_id: str = "") -> Gpu | None:
    """The GPU with that PCI address, else the one with that NVML index; None where NVML does not answer.

    CUDA's indices follow CUDA_VISIBLE_DEVICES, NVML's do not: the address is the same for both.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        if pci_bus_id:
            return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id))
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        return None


def slowdown_reasons(bits: int) -> list[str]:
    """What NVML's clocks event reasons say of less speed than was asked for."""
    return [text for bit, text in SLOWDOWN_REASONS.items() if bits & bit]


def slowdowns(before: Readings, after: Readings, span_ns: int) -> list[str]:
    """Why the GPU ran below its clocks in between: reasons in force at the end, and counters that grew.

    A counter counts from MIN_SHARE of `span_ns` on.
    """
    found = slowdown_reasons(int(after.get("gpu_slowdown_reasons", 0)))
    for name, text in (("power", "power cap"), ("thermal", "thermal slowdown")):
        key = f"gpu_{name}_violation_ns"
        grown_ns = after.get(key, 0) - before.get(key, after.get(key, 0))
        if grown_ns > MIN_SHARE * span_ns and text not in found:
            found.append(text)
    return found


def _violation(nvml: Any, handle: Any, policy: int) -> int:
    """Nanoseconds since the driver was loaded in which the policy held the clocks down."""
    return int(nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime)
