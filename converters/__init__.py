"""From a network to a file that a runtime loads: fusion, export, parity after every step, and the cache.

Importing this package loads no toolchain; the functions do when called.

A new target is one file named `TARGET_from_SOURCE.py` with `convert(request, folder, *, on_step)`, one line
in CONVERTERS and one in PRECISIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from converters.artifact import (
    Artifact,
    ConversionError,
    ConversionFailure,
    ConversionRequest,
    Parity,
    Step,
    TensorInfo,
)
from models.errors import ModelError
from models.tables import names, suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from converters.cache import ArtifactCache

__all__ = [
    "CONVERTERS",
    "PRECISIONS",
    "Artifact",
    "ConversionError",
    "ConversionFailure",
    "ConversionRequest",
    "Parity",
    "Step",
    "TensorInfo",
    "check",
    "convert",
    "reparameterize",
]

CONVERTERS = {
    "onnx": "converters.onnx_from_torch:convert",
    "exported_program": "converters.exported_program_from_torch:convert",
}

# What each kind of file can be made in. A converter of another package checks its own.
PRECISIONS = {
    "onnx": ("fp32",),
    "exported_program": ("fp32", "bf16"),
}


def check(request: ConversionRequest) -> None:
    """Refuse at once, without loading a toolchain, what no converter can make and no model can be.

    Raises ConversionError `bad_input` naming the value and what is possible.
    """
    from models.info import check as check_model

    # The table first: looking for entry points costs milliseconds, and a suite has many requests.
    if request.kind not in CONVERTERS and request.kind not in (known := names(CONVERTERS, "converters")):
        raise _refused(f"unknown kind of artifact '{request.kind}': {suggest(request.kind, known)}")
    possible = PRECISIONS.get(request.kind)
    if possible is not None and request.precision not in possible:
        raise _refused(
            f"{request.kind} cannot be made in {request.precision}: it can be made in {', '.join(possible)}"
        )
    for name, value, least in (
        ("batch_size", request.batch_size, 1),
        ("input_count", request.input_count, 1),
    ):
        if value < least:
            raise _refused(f"{name}={value}: at least {least}")
    try:
        check_model(request.model)
    except ModelError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "request", message, advice="Change the request."))


def reparameterize(net: nn.Module, example_input: Tensor | None = None) -> nn.Module:
    """A new module, numerically equal, without the BatchNorms and branches that algebra can remove.

    See `converters.reparameterization.reparameterize_with_report`.
    """
    from converters.reparameterization import reparameterize_with_report

    return reparameterize_with_report(net, example_input)[0]


def convert(
    request: ConversionRequest, cache: ArtifactCache, on_step: Callable[[str], None] | None = None
) -> Artifact:
    """The artifact of a request, from the cache or made in this process; see `converters.conversion`."""
    from converters import conversion

    return conversion.convert(request, cache, on_step)
