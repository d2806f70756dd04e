"""What a round on a GPU tells beside its samples: parts, layers, memory, and NVML's readings around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runners import gpu_readings, parse_device, readings
from runners.measurement import Samples
from runners.runner import DeviceSide, RunnerError


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Empty on a CPU."""

    parts: Mapping[str, Samples] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def read(side: DeviceSide | None, samples: int, gpu: gpu_readings.Gpu | None) -> DeviceFacts:
    """After so many samples. All that matters is measured by then: a profile that fails costs no round."""
    if side is None:
        return DeviceFacts()
    parts = side.sampler.parts(samples)
    own_bytes = gpu.process_bytes(os.getpid()) if gpu else None
    peak_bytes, source = (own_bytes, "NVML, this process") if own_bytes else side.peak_bytes()
    environment = {"device_memory_from": source}
    layers: Mapping[str, int] = {}
    try:
        layers = side.layers()
    except RunnerError as error:
        environment["layers_error"] = str(error)
    return DeviceFacts(parts, layers, peak_bytes, environment)


def gpu_of(side: DeviceSide | None, device: str) -> gpu_readings.Gpu | None:
    """NVML's view of the GPU that the work runs on; None on a CPU, and where NVML does not answer."""
    return gpu_readings.open_gpu(parse_device(device)[1], side.pci_bus_id) if side else None


def reader(gpu: gpu_readings.Gpu | None) -> Callable[[], readings.Readings]:
    """What reads process and machine, and the GPU where there is one."""
    if gpu is None:
        return readings.read
    return lambda: {**readings.read(), **gpu.read()}
