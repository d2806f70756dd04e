"""What each driver is for, whether it can work here, and the transports that it carries jobs with."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from device_agents.devicectl import DeviceCtl
from device_agents.mac_engine import missing as mac_missing
from device_agents.pymobiledevice import PyMobileDevice
from device_agents.this_machine import ThisMachine
from device_agents.transport import Transport

Transports = Callable[[Path], list[Transport]]


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """`missing` gives the reason and the fix, empty where the driver can work here.

    `transports` are asked for devices in turn. `compute_units` are what a job may name, the usual one last.
    `runs_jobs` is false for one that only imports, `runs_networks` where outputs are not the network's.
    """

    name: str
    description: str
    model_format: str
    compute_units: tuple[str, ...]
    missing: Callable[[], str]
    transports: Transports
    runs_jobs: bool = True
    runs_networks: bool = True


_ALL_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")


def _iphone_missing() -> str:
    if shutil.which("xcrun") or shutil.which("pymobiledevice3"):
        return ""
    return (
        "neither xcrun nor pymobiledevice3 is on this machine; install Xcode 16 on a Mac, or on Linux:"
        " pipx install pymobiledevice3"
    )


def _iphone_transports(folder: Path) -> list[Transport]:
    found: list[Transport] = []
    if shutil.which("xcrun"):
        found.append(DeviceCtl())
    if shutil.which("pymobiledevice3"):
        found.append(PyMobileDevice())
    return found


def _coremltools_missing() -> str:
    if platform.system() != "Darwin":
        return (
            "coremltools' remote device needs macOS with Xcode 16; run it on a Mac, or use the driver iphone"
        )
    return mac_missing() or (
        "" if shutil.which("devicectl") else "devicectl is not on PATH; install Xcode 16"
    )


IPHONE = DriverInfo(
    "iphone",
    "BenchRunner on a phone: steady state, cold and warm loads, placement",
    "mlpackage-zip",
    _ALL_UNITS,
    _iphone_missing,
    _iphone_transports,
)
COREMLTOOLS = DriverInfo(
    "coremltools",
    "Apple's remote device: the phone idles between samples, so a protocol of its own",
    "mlpackage-zip",
    _ALL_UNITS,
    _coremltools_missing,
    lambda folder: [],
)
MAC = DriverInfo(
    "mac",
    "Core ML on this Mac",
    "mlpackage-zip",
    _ALL_UNITS,
    mac_missing,
    lambda folder: [ThisMachine("mac", folder)],
)
XCODE_REPORT = DriverInfo(
    "xcode-report",
    "import of performance reports that Xcode wrote (agent import X.mlperf)",
    "mlpackage-zip",
    _ALL_UNITS,
    lambda: "",
    lambda folder: [],
    runs_jobs=False,
)
LOCAL = DriverInfo(
    "local",
    "ONNX Runtime on this machine, by the same jobs",
    "onnx",
    ("cpuOnly",),
    lambda: "" if find_spec("onnxruntime") else "onnxruntime is not installed; pip install onnxruntime",
    lambda folder: [ThisMachine("local", folder)],
)
SIMULATED = DriverInfo(
    "simulated",
    "a phone in software that runs no network: for trying the path",
    "mlpackage-zip",
    _ALL_UNITS,
    lambda: "",
    lambda folder: [ThisMachine("simulated", folder)],
    runs_networks=False,
)
