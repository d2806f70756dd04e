"""Core ML's own prediction on a Mac: the kernels that the interpreter cannot speak for.

It has not been run: this project was written where there is no Mac.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from converters.mil_load import PackageError, opened
from converters.parity import Array

COMPUTE_UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")


def why_not() -> str:
    """Why Core ML cannot predict here; empty where it can."""
    if (system := platform.system()) != "Darwin":
        return f"Core ML runs on macOS; this is {system}"
    if find_spec("coremltools") is None:
        return "coremltools is not installed: pip install '.[coreml]'"
    return ""


def predict(package: Path, inputs: Sequence[Array], *, compute_unit: str = "CPU_ONLY") -> tuple[Array, ...]:
    """The first output for each input of a package with one tensor input, computed by Core ML.

    Raises PackageError where Core ML is not there, the package is none, or an input is an image.
    """
    if reason := why_not():
        raise PackageError(reason)
    import coremltools

    with opened(package) as found:
        description = found.specification.description
        name = description.input[0].name
        if len(description.input) != 1 or description.input[0].type.WhichOneof("Type") != "multiArrayType":
            raise PackageError(f"{package}: one tensor input is expected for a prediction")
        units = coremltools.ComputeUnit[compute_unit]
        model = coremltools.models.MLModel(str(found.folder), compute_units=units)
        results = [model.predict({name: np.asarray(value, np.float32)}) for value in inputs]
        output = description.output[0].name
        return tuple(np.asarray(result[output], np.float32) for result in results)
