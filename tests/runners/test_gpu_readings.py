"""NVML's readings against a stand-in module, and the real one where no driver answers it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners import gpu_readings
from runners.gpu_readings import Gpu, slowdowns

SECOND_NS = 1_000_000_000


class NVMLError(Exception):
    pass


def nvml(**changes: Any) -> SimpleNamespace:
    """The functions that are used, with the names and results of nvidia-ml-py."""

    def refuse(*arguments: Any) -> Any:
        raise NVMLError("not supported")

    calls: dict[str, Any] = {
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1410, 2: 5001}[kind],
        "nvmlDeviceGetPowerUsage": lambda handle: 71_000,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=99, memory=12),
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x04,
        "nvmlDeviceGetViolationStatus": lambda handle, policy: SimpleNamespace(violationTime=policy + 7),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=42, usedGpuMemory=1000)],
        **{name: refuse for name, value in changes.items() if value is None},
    }
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0}
    return SimpleNamespace(NVMLError=NVMLError, **constants, **calls)


def test_every_figure_is_read() -> None:
    assert Gpu(nvml(), None).read() == {
        "gpu_sm_mhz": 1410,
        "gpu_memory_mhz": 5001,
        "gpu_power_mw": 71_000,
        "gpu_temperature_c": 61,
        "gpu_utilization_percent": 99,
        "gpu_slowdown_reasons": 4,
        "gpu_power_violation_ns": 7,
        "gpu_thermal_violation_ns": 8,
    }


def test_what_a_card_does_not_tell_is_absent() -> None:
    module = nvml(nvmlDeviceGetPowerUsage=None, nvmlDeviceGetViolationStatus=None)
    found = Gpu(module, None).read()
    assert "gpu_power_mw" not in found
    assert "gpu_power_violation_ns" not in found
    assert found["gpu_sm_mhz"] == 1410


def test_every_call_and_constant_exists_in_nvidia_ml_py() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    for name in vars(nvml()):
        assert hasattr(pynvml, name), name
    told = {
        "power cap": pynvml.nvmlClocksThrottleReasonSwPowerCap,
        "hardware slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
        "thermal slowdown (software)": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
        "thermal slowdown (hardware)": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "power brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    assert {text: bit for bit, text in gpu_readings.SLOWDOWN_REASONS.items()} == told
    assert pynvml.NVML_PERF_POLICY_POWER == gpu_readings.POWER_POLICY
    assert pynvml.NVML_PERF_POLICY_THERMAL == gpu_readings.THERMAL_POLICY


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({"gpu_slowdown_reasons": 0}, {"gpu_slowdown_reasons": 0x01 | 0x02 | 0x10 | 0x100}, []),
        ({}, {"gpu_slowdown_reasons": 0x04}, ["power cap"]),
        ({}, {"gpu_slowdown_reasons": 0x08 | 0x40}, ["hardware slowdown", "thermal slowdown (hardware)"]),
        ({"gpu_thermal_violation_ns": 5}, {"gpu_thermal_violation_ns": 2 * 10**8}, ["thermal slowdown"]),
        ({"gpu_thermal_violation_ns": 5}, {"gpu_thermal_violation_ns": 5 * 10**6}, []),
        ({}, {"gpu_power_violation_ns": 10**12}, []),
        (
            {"gpu_power_violation_ns": 0},
            {"gpu_power_violation_ns": 10**9, "gpu_slowdown_reasons": 4},
            ["power cap"],
        ),
    ],
)
def test_slowdowns(before: dict[str, int], after: dict[str, int], expected: list[str]) -> None:
    """Idle, the user's own clocks, sync boost and display settings are no slowdown; nor is less than 1 %."""
    assert slowdowns(before, after, SECOND_NS) == expected


def test_memory_of_a_process() -> None:
    assert Gpu(nvml(), None).process_bytes(42) == 1000
    assert Gpu(nvml(), None).process_bytes(43) is None
    assert Gpu(nvml(nvmlDeviceGetComputeRunningProcesses=None), None).process_bytes(42) is None


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("address", ["", "00000000:01:00.0"])
def test_without_a_driver_there_is_no_gpu(address: str) -> None:
    assert gpu_readings.open_gpu(0, address) is None
