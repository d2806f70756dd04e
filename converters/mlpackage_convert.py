"""The one call of coremltools' converter: an exported program in, an MLModel that is not loaded out."""

from __future__ import annotations

import importlib.util
import json
import shutil
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from converters.artifact import ConversionError, ConversionFailure
from converters.failures import node_place
from converters.mlpackage_archive import LEFT_OUT
from converters.mlpackage_facts import MODULES
from converters.mlpackage_failures import conversion_failure
from converters.mlpackage_image import Normalization
from converters.mlpackage_options import PackageOptions
from converters.quiet import captured

INPUT, OUTPUT = "input", "output"
INSTALL = "pip install '.[coreml]'"

# What coremltools carries along from a node to every operator that it becomes.
_HANDLE = "debug_handle"

# Written by coremltools and different in every run.
_DATE = "com.github.apple.coremltools.conversion_date"


def installed() -> bool:
    """Whether coremltools is there; nothing is imported."""
    return importlib.util.find_spec("coremltools") is not None


def require_coremltools() -> None:
    """Raises ConversionError `bad_input` with the line that installs it."""
    if not installed():
        message = f"coremltools is not installed, which makes Core ML packages: {INSTALL}"
        raise ConversionError(ConversionFailure("bad_input", "request", message, advice=f"Run {INSTALL}."))


def tool() -> str:
    """`coremltools 9.0`."""
    return f"coremltools {version('coremltools')}"


def to_core_ml(
    program: torch.export.ExportedProgram,
    options: PackageOptions,
    *,
    precision: str,
    shapes: Sequence[tuple[int, ...]],
    normalization: Normalization | None,
) -> Any:
    """The MLModel of a program, computed in `fp16` or `fp32`, with fp32 tensors in and out.

    `shapes` are those that the input may have; more than one are listed in the package. With `normalization`
    the input is an image. Raises ConversionError naming operator, module and source line.
    """
    _number(program)
    with captured():
        import coremltools as ct

        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                inputs=[_input(options, shapes, normalization)],
                outputs=[ct.TensorType(name=OUTPUT, dtype=_float32())],
                minimum_deployment_target=getattr(ct.target, options.minimum_deployment_target),
                compute_precision=getattr(ct.precision, {"fp16": "FLOAT16", "fp32": "FLOAT32"}[precision]),
                skip_model_load=True,
            )
        except Exception as error:  # coremltools raises many types; all of them become the recorded failure
            failure = conversion_failure(error, "mlpackage", program)
            traceback.clear_frames(error.__traceback__)  # they hold weights, and a temporary folder
            raise ConversionError(failure) from error
    described = model.user_defined_metadata
    described.pop(_DATE, None)
    described[MODULES] = json.dumps(_modules(model, program), sort_keys=True, separators=(",", ":"))
    return model


def save(model: Any, path: Path) -> Path:
    """The model as a package at `path`, without what our packages leave out."""
    with captured():
        model.save(str(path))
    for name in LEFT_OUT:
        (path / name).unlink(missing_ok=True)
    return path


def forget(model: Any) -> None:
    """Remove the copy of its package that an MLModel keeps among the temporary files until Python exits."""
    if model.is_temp_package:
        shutil.rmtree(model.package_path, ignore_errors=True)


def _input(
    options: PackageOptions, shapes: Sequence[tuple[int, ...]], normalization: Normalization | None
) -> Any:
    import coremltools as ct

    shape: Any = shapes[0]
    if len(shapes) > 1:
        shape = ct.EnumeratedShapes(shapes=list(shapes), default=shapes[0])
    elif options.max_batch:
        shape = (ct.RangeDim(1, options.max_batch, default=shapes[0][0]), *shapes[0][1:])
    if normalization is None:
        return ct.TensorType(name=INPUT, shape=shape, dtype=_float32())
    return ct.ImageType(
        name=INPUT,
        shape=shape,
        scale=normalization.scale,
        bias=normalization.bias,
        color_layout=ct.colorlayout.RGB,
    )


def _float32() -> Any:
    import numpy as np

    return np.float32


def _number(program: torch.export.ExportedProgram) -> None:
    """Number the nodes: the names that coremltools makes for operators do not tell where they come from."""
    for index, node in enumerate(program.graph_module.graph.nodes):
        node.meta[_HANDLE] = index


def _modules(model: Any, program: torch.export.ExportedProgram) -> dict[str, str]:
    """The module path of every operator that coremltools says the node of, by output name."""
    nodes = {node.meta[_HANDLE]: node for node in program.graph_module.graph.nodes}
    found: dict[str, str] = {}
    for handle, places in model._mil_program.construct_debug_handle_to_ops_mapping().items():
        node = nodes.get(handle)
        if node is None or not node.meta.get("nn_module_stack"):
            continue
        operations = [place[-1] for place in places]
        module = node_place(node)[0]
        found |= {op["Output"]: module for op in operations if op["Operator"] != "const"}
    return found
