"""What identifies an artifact: everything that its bytes may depend on, hashed without a toolchain."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from converters.artifact import ConversionRequest
from converters.source_graph import CONVERSION, digest_of_sources
from converters.stages import source_request
from models.spec import ModelSpec, digest

# Raised when the layout of an artifact's folder or of artifact.json changes.
SCHEMA = 1

# The highest opset that both of torch's exporters write, and the first with a Gelu operator:
# docs/decisions/0002-onnx-exporter.md.
OPSET = 20

TOOLCHAINS = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime"),
    "exported_program": ("torch",),
    "engine": ("tensorrt", "tensorrt_rtx"),
    "mlpackage": ("torch", "coremltools"),
}


_PATHS = ("checkpoint", "calibration_data")
_READING_IMAGES = ("timm", "torchvision", "pillow", "scikit-learn")


def cache_key(request: ConversionRequest) -> str:
    """32 hex digits that change with the request, the toolchain's versions or the sources that convert.

    The paths of checkpoint and images are left out: `weights` and `calibration` hold their sha256.
    """
    return digest(key_facts(request))[:32]


def key_facts(request: ConversionRequest) -> dict[str, Any]:
    """The value that `cache_key` hashes."""
    asked = {name: value for name, value in request.to_dict().items() if name not in _PATHS}
    facts = {
        "request": asked,
        "schema": SCHEMA,
        "opset": OPSET,
        "toolchain": toolchain(request.kind, request.model),
        "sources": sources_digest(),
    }
    if request.calibration:
        facts["images"] = {package: _version(package) for package in _READING_IMAGES}
    source = source_request(request)
    if source is not None:
        from converters.tensorrt_package import identity

        facts |= {"source": cache_key(source), "builder": identity(request)}
    return facts


def toolchain(kind: str, model: ModelSpec) -> dict[str, str]:
    """Versions of the packages that shape an artifact of that kind; timm's for timm's models."""
    packages = TOOLCHAINS.get(kind, ("torch",))
    if model.is_file and kind == "onnx":
        packages = ("onnx", "onnxruntime")
    extra = ("timm",) if model.name.startswith("timm/") else ()
    return {package: _version(package) for package in (*packages, *extra)}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def sources_digest() -> str:
    """sha256 over all that a conversion loads: an edited model or fusion makes new artifacts."""
    return digest_of_sources(CONVERSION)
