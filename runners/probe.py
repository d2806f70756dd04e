"""Can a backend run on a device here? Answered from files, without importing a runtime."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from runners import BackendInfo, parse_device

COMPILERS = ("g++", "clang++", "c++")


def reason(info: BackendInfo, device: str) -> str | None:
    """Why the backend cannot run on the device here, with the fix; None where nothing speaks against it."""
    try:
        kind, _ = parse_device(device)
    except ValueError as error:
        return str(error)
    if kind not in info.devices:
        known = ", ".join(info.devices)
        return f"backend '{info.name}' does not run on device '{device}'; it runs on: {known}"
    return (
        _missing_package(info)
        or _missing_compiler(info)
        or _missing_driver(kind)
        or (_cuda_library_missing(info) if kind == "cuda" else None)
        or _missing_binding(info, kind)
    )


def compiler() -> str | None:
    """The C++ compiler that inductor would call: `$CXX`, else the first of COMPILERS that is on PATH."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, COMPILERS)), None)


def package_folder(package: str) -> Path | None:
    """Where a package lies, found without importing it."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def findable(package: str) -> bool:
    """Is a package, or one inside another (`cuda.bindings`), installed? It is not imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


def _missing_package(info: BackendInfo) -> str | None:
    if not info.packages or any(package_folder(package) for package in info.packages):
        return None
    what = f"'deploybench[{info.extra}]'" if info.extra else info.package
    named = "' or '".join(info.packages)
    return f"package '{named}' is not installed; install it: pip install {what}"


def _missing_compiler(info: BackendInfo) -> str | None:
    if info.name != "torch-compile" or compiler():
        return None
    wanted = os.environ.get("CXX", "g++ or clang++")
    return (
        f"torch.compile needs a C++ compiler and '{wanted}' is not on PATH; install it: apt-get install g++"
    )


def _missing_driver(kind: str) -> str | None:
    if kind != "cuda" or any(Path(path).exists() for path in DRIVER_FILES):
        return None
    return "no NVIDIA GPU on this machine (no driver is loaded); run it on a machine with one"


def _missing_binding(info: BackendInfo, kind: str) -> str | None:
    """These runners hold streams, events and buffers of their own; torch has its own for its runners."""
    if kind != "cuda" or info.package not in NEED_BINDING:
        return None
    if any(findable(package) for package in CUDA_BINDINGS):
        return None
    return "no CUDA binding is installed (cuda-bindings or pycuda); install one: pip install cuda-bindings"


DRIVER_FILES = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")  # the last one under WSL
NEED_BINDING = ("tensorrt", "onnxruntime")
CUDA_BINDINGS = ("cuda.bindings", "pycuda")
CUDA_LIBRARIES = {
    "onnxruntime": ("capi/libonnxruntime_providers_cuda.so", "onnxruntime-gpu in place of onnxruntime"),
    "torch": ("lib/libtorch_cuda.so", "a CUDA build of torch"),
}


def _cuda_library_missing(info: BackendInfo) -> str | None:
    if info.package not in CUDA_LIBRARIES:
        return None
    library, fix = CUDA_LIBRARIES[info.package]
    folder = package_folder(info.package)
    if folder and (folder / library).exists():
        return None
    return f"the installed {info.package} has no CUDA support ({library} is missing); install {fix}"
