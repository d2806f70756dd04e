"""What may be asked of an engine's builder: read from a request and checked, without a toolchain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.stages import has_batch_range
from models.spec import WITHOUT_FORM, Option
from models.tables import suggest

_INTEGERS = {
    "optimization_level": (0, 5),
    "workspace_mib": (1, 2**20),
    "avg_timing_iterations": (1, 1000),
    "min_batch": (1, 2**16),
    "max_batch": (1, 2**16),
}
_SWITCHES = ("tf32", "timing_cache")
_CHOICES = {"package": ("tensorrt", "tensorrt_rtx")}

NAMES = (*_INTEGERS, *_SWITCHES, *_CHOICES)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """None is the builder's own default. `batches` are the least, usual and largest batch size of a range."""

    optimization_level: int | None = None
    workspace_mib: int | None = None
    avg_timing_iterations: int | None = None
    tf32: bool = False
    timing_cache: bool | None = None
    package: str = ""
    batches: tuple[int, int, int] | None = None


def read(request: ConversionRequest) -> EngineOptions:
    """Raises ConversionError `bad_input` that names the option, its value and what is possible."""
    if request.target and not re.fullmatch(r"sm[1-9]\d{1,2}[a-z]?", request.target):
        raise refused(f"target '{request.target}' is not written like sm89, a compute capability of 8.9")
    chosen = {name: value for name, value in request.build if name != WITHOUT_FORM}  # the ONNX file's
    for name, value in chosen.items():
        _check(name, value)
    batches = _batches(request, chosen) if has_batch_range(request.build) else None
    own = {name: value for name, value in chosen.items() if name in EngineOptions.__dataclass_fields__}
    return EngineOptions(**own, batches=batches)  # type: ignore[arg-type]  # _check has seen every value


def _check(name: str, value: Option) -> None:
    if name in _INTEGERS:
        least, most = _INTEGERS[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise refused(f"{name}={value}: a whole number from {least} to {most} is wanted")
    elif name in _SWITCHES:
        if not isinstance(value, bool):
            raise refused(f"{name}={value}: true or false is wanted")
    elif name in _CHOICES:
        if value not in _CHOICES[name]:
            raise refused(f"{name}={value}: {' or '.join(_CHOICES[name])} is wanted")
    else:
        raise refused(f"an engine's builder has no option '{name}': {suggest(name, (*NAMES, WITHOUT_FORM))}")


def _batches(request: ConversionRequest, chosen: dict[str, Option]) -> tuple[int, int, int]:
    least, most = int(chosen.get("min_batch", 1)), int(chosen.get("max_batch", request.batch_size))
    if not least <= request.batch_size <= most:
        raise refused(
            f"batch size {request.batch_size} is outside the engine's range, min_batch={least} to "
            f"max_batch={most}"
        )
    return least, request.batch_size, most


def refused(message: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "request", message, advice="Change the request."))
