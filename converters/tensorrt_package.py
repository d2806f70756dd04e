"""Which of the two packages with TensorRT's interface builds an engine, and for which GPUs it can.

`tensorrt` builds for the GPU of the machine that it runs on. `tensorrt_rtx` also builds for GPUs that are
not here, on a machine without any. Neither is imported before it has to be: by `load`, and by `choose` where
both could build.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.engine_options import EngineOptions, read, refused
from converters.gpu_here import gpu_here

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


def capability_here() -> str:
    """`sm89` for CUDA's first GPU, empty where there is none."""
    return gpu_here().target


@cache
def broken(name: str) -> str:
    """Why a package that is installed cannot be imported, in one line; empty where it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a library that is missing or of another version raises anything
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ""


def choose(target: str, wanted: str = "") -> str:
    """The package that builds for `target`: the full one for the GPU here, tensorrt_rtx for another.

    Where the full one is broken and tensorrt_rtx is not, that one; only where both could build are they
    imported to find out. Raises ConversionError `bad_input` where none is installed, or not the one that is
    wanted.
    """
    found = installed()
    if wanted or not found:
        if wanted in found:
            return wanted
        missing = f"{wanted} is not" if wanted else "neither tensorrt nor tensorrt_rtx is"
        raise refused(f"{missing} installed: {INSTALL[wanted or 'tensorrt_rtx']}")
    if len(found) == 1:
        return found[0]
    if target not in ("", capability_here()):
        return "tensorrt_rtx"
    return "tensorrt_rtx" if broken("tensorrt") and not broken("tensorrt_rtx") else "tensorrt"


def instead(request: ConversionRequest, package: str) -> str:
    """Why `package` builds where the full one would have; empty where it is the usual choice."""
    full = PACKAGES[0]
    if package == full or full not in installed() or read(request).package:
        return ""
    if request.target not in ("", capability_here()):
        return ""
    return f"{full} is installed and cannot be imported ({broken(full)}): {package} builds instead"


def identity(request: ConversionRequest) -> dict[str, str]:
    """What the key of an engine takes from this machine: the package, and the GPU where none is named.

    The full package times its tactics on the card, so its engines are those of that model of GPU and of its
    driver; those of tensorrt_rtx are for a compute capability.
    """
    try:
        package = choose(request.target, read(request).package)
    except ConversionError:  # `check` refuses such a request; it still has a key
        package = ""
    known = {"package": package, "target": request.target or capability_here()}
    if package == "tensorrt":
        known |= {"gpu": gpu_here().name, "driver": gpu_here().driver}
    return known


def uses_gpu(request: ConversionRequest) -> bool:
    """Whether building takes the GPU here: the full package times on it, an engine for it is loaded by it."""
    here = capability_here()
    if request.kind != "engine" or not here:
        return False
    return request.target in ("", here) or identity(request)["package"] == "tensorrt"


def load(request: ConversionRequest, options: EngineOptions) -> Any:
    """The package's module. Raises ConversionError where it is broken."""
    name = choose(request.target, options.package)
    if reason := broken(name):
        message = f"{name} is installed and cannot be imported: {reason}"
        raise ConversionError(
            ConversionFailure("unsupported", "engine", message, advice=f"Install it again: {INSTALL[name]}")
        )
    return importlib.import_module(name)


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
