"""From a network to a file that a runtime loads: fusion, export, parity after every step, and the cache.

Importing this package loads no toolchain; the functions do when called.

A new target is one file named `TARGET_from_SOURCE.py` with `convert(request, folder, *, on_step)`, one line
in CONVERTERS and one in PRECISIONS. What is built from another artifact is given that one as `source`:
`converters.stages` says which.
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
from models.spec import WITHOUT_FORM
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
    "engine": "converters.engine_from_onnx:convert",
    "mlpackage": "converters.mlpackage_from_torch:convert",
}

# What can be made of an ONNX file of somebody's own: `converters.onnx_from_file` takes it over.
FROM_FILE = ("onnx", "engine")

# What each kind of file can be made in. A converter of another package checks its own.
PRECISIONS = {
    "onnx": ("fp32", "fp16", "bf16", "int8"),
    "exported_program": ("fp32", "bf16"),
    "engine": ("fp32", "fp16", "bf16", "int8"),
    # What the compressed ones mean: converters.mlpackage_compress.COMPRESSIONS.
    "mlpackage": ("fp32", "fp16", "fp16-int8w", "fp16-pal8", "fp16-pal6", "fp16-pal4", "fp16-sparse50"),
}

# Which build options a kind of file has; those of an engine are checked where its package is known,
# those of an mlpackage in converters.mlpackage_options.
BUILD_OPTIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("dynamic_batch", WITHOUT_FORM),
    "exported_program": (WITHOUT_FORM,),
}

# The runtimes that an int8 graph can be written for. In other precisions there is one graph for all.
FLAVOURS = {
    "onnx": ("cpu", "trt"),
    "engine": ("trt",),
}


def check(request: ConversionRequest) -> None:
    """Refuse at once, without loading a toolchain, what no converter can make and no model can be.

    Raises ConversionError `bad_input` naming the value and what is possible.
    """
    from converters.left_out_forms import check as check_forms
    from converters.stages import source_request
    from models.info import check as check_model

    # The table first: looking for entry points costs milliseconds, and a suite has many requests.
    if request.kind not in CONVERTERS and request.kind not in (known := names(CONVERTERS, "converters")):
        raise _refused(f"unknown kind of artifact '{request.kind}': {suggest(request.kind, known)}")
    possible = PRECISIONS.get(request.kind)
    if possible is not None and request.precision not in possible:
        raise _refused(
            f"{request.kind} cannot be made in {request.precision}: it can be made in {', '.join(possible)}"
        )
    if request.model.is_file and request.kind not in FROM_FILE:
        raise _refused(
            f"{request.model.name} is an ONNX file, and no {request.kind} can be made of one: measure it with"
            " onnxruntime, openvino or trt"
        )
    _check_flavour(request)
    _check_calibration(request)
    _check_build(request)
    check_forms(request)
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
    if request.kind == "mlpackage":
        from converters.mlpackage_options import read

        read(request)
    source = source_request(request)
    if source is None and request.target and request.kind in CONVERTERS:
        raise _refused(f"target {request.target}: {request.kind} is made for no GPU in particular")
    if source is not None:
        from converters.tensorrt_package import check as check_engine

        check_engine(request)
        check(source)


def _check_flavour(request: ConversionRequest) -> None:
    flavours = FLAVOURS.get(request.kind, ())
    if request.precision != "int8" and request.flavour:
        raise _refused(f"flavour '{request.flavour}' is for int8; {request.precision} has one graph for all")
    if request.precision == "int8" and flavours and request.flavour not in flavours:
        asked = f"unknown flavour '{request.flavour}'" if request.flavour else "int8 needs a flavour"
        raise _refused(f"{asked}: {request.kind} has {', '.join(flavours)}")


def _check_calibration(request: ConversionRequest) -> None:
    if not request.calibration:
        return
    model = request.model
    if request.precision != "int8":
        raise _refused(f"calibration is for int8: {request.precision} has no ranges to find")
    square = (3, model.resolution, model.resolution)
    if model.is_block or model.name.startswith("peak/") or model.input_shape(1)[1:] != square:
        shape = "x".join(str(side) for side in model.input_shape(1)[1:])
        raise _refused(
            f"{model.name} takes {shape}: only networks of square colour images can be calibrated on images"
        )


def _check_build(request: ConversionRequest) -> None:
    known = BUILD_OPTIONS.get(request.kind)
    if known is None:
        return
    for name, value in request.build:
        if name not in known:
            have = f"it has {', '.join(known)}" if known else "it has none"
            raise _refused(f"{request.kind} has no build option '{name}': {have}")
        if name != WITHOUT_FORM and not isinstance(value, bool):
            raise _refused(f"build option {name}={value}: true or false")


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
