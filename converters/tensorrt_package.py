"""Which of the two packages with TensorRT's interface builds an engine, and for which GPUs it can.

`tensorrt` builds for the GPU of the machine that it runs on. `tensorrt_rtx` also builds for GPUs that are
not here, on a machine without any. Neither is imported before `load`.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.engine_options import EngineOptions, read, refused

PACKAGES = ("tensorrt", "tensorrt_rtx")
INSTALL = {"tensorrt": "pip install tensorrt", "tensorrt_rtx": "pip install '.[trt]'"}
_FULL = "For that GPU use the package tensorrt on a machine that has one."


def check(request: ConversionRequest) -> None:
    """Raises ConversionError `bad_input` for what no builder here can be asked for."""
    options = read(request)
    choose(request.target, options.package)
    if not request.target and not capability_here():
        raise refused(
            "no NVIDIA GPU is usable here, and no target says for which one to build: give one, such as sm89"
        )


@cache
def installed() -> tuple[str, ...]:
    return tuple(name for name in PACKAGES if importlib.util.find_spec(name) is not None)


@cache
def capability_here() -> str:
    """`sm89` for CUDA's first GPU, empty where there is none, no driver, or no cuda-bindings to ask."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return ""
    digits = ""
    for name in ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor"):
        status, value = runtime.cudaDeviceGetAttribute(getattr(runtime.cudaDeviceAttr, name), 0)
        if status != runtime.cudaError_t.cudaSuccess:
            return ""
        digits += str(value)
    return f"sm{digits}"


def choose(target: str, wanted: str = "") -> str:
    """The package that builds for `target`: the full one for the GPU here, tensorrt_rtx for another.

    Raises ConversionError `bad_input` where none is installed, or not the one that is wanted.
    """
    found = installed()
    if wanted or not found:
        if wanted in found:
            return wanted
        missing = f"{wanted} is not" if wanted else "neither tensorrt nor tensorrt_rtx is"
        raise refused(f"{missing} installed: {INSTALL[wanted or 'tensorrt_rtx']}")
    if len(found) == 1:
        return found[0]
    return found[0] if target in ("", capability_here()) else "tensorrt_rtx"


def identity(request: ConversionRequest) -> dict[str, str]:
    """What the key of an engine takes from this machine: the package, and the GPU where none is named."""
    try:
        package = choose(request.target, read(request).package)
    except ConversionError:  # `check` refuses such a request; it still has a key
        package = ""
    return {"package": package, "target": request.target or capability_here()}


def load(request: ConversionRequest, options: EngineOptions) -> Any:
    """The package's module. Raises ConversionError where it is broken."""
    name = choose(request.target, options.package)
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        message = f"{name} is installed and cannot be imported: {error}"
        raise ConversionError(
            ConversionFailure("unsupported", "engine", message, advice=f"Install it again: {INSTALL[name]}")
        ) from error


def title(trt: Any) -> str:
    """`tensorrt_rtx 1.7.1.116`."""
    return f"{trt.__name__} {trt.__version__}"


def targets(trt: Any) -> tuple[str, ...]:
    """The GPUs that a package can build for without having one; none where it has no such list."""
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return tuple(sorted((name.lower() for name in members if name.startswith("SM")), key=_number))


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))


def set_target(trt: Any, config: Any, target: str) -> None:
    """Tell the builder which GPU the engine is for.

    Raises ConversionError `unsupported` naming those that this package can build for.
    """
    known, here = targets(trt), capability_here()
    if not known:
        if target not in ("", here):
            raise _unsupported(trt, target, f"it builds for the GPU here, {here or 'and there is none'}")
        return
    if target and target not in known:
        raise _unsupported(trt, target, f"it can for {', '.join(known)}")
    capability = getattr(trt.ComputeCapability, target.upper() if target else "CURRENT")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(capability, 0):
        raise _unsupported(trt, target or here, "the builder refused it")


def _unsupported(trt: Any, target: str, why: str) -> ConversionError:
    message = f"{title(trt)} cannot build for {target}: {why}"
    return ConversionError(ConversionFailure("unsupported", "engine", message, advice=_FULL))
