"""The GPU that engines are built on, as CUDA describes its first one; asked once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

DRIVER = Path("/sys/module/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """`NVIDIA L4`, `sm89` and the driver's release; all empty where no GPU is usable."""

    name: str = ""
    target: str = ""
    driver: str = ""


@cache
def gpu_here() -> Gpu:
    """CUDA's first GPU; an empty one where there is none, no driver, or no cuda-bindings to ask."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return Gpu()
    status, found = runtime.cudaGetDeviceProperties(0)
    if status != runtime.cudaError_t.cudaSuccess:
        return Gpu()
    _, cuda_version = runtime.cudaDriverGetVersion()
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Gpu(name.rstrip("\0"), f"sm{found.major}{found.minor}", _release() or f"CUDA {cuda_version}")


def _release() -> str:
    try:
        return DRIVER.read_text().strip()
    except OSError:  # not Linux, or a container without it
        return ""
