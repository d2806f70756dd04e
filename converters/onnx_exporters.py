"""PyTorch's two ONNX exporters, each as `export(net, example) -> Exported`, in the order they are tried.

The order and the opset were chosen by trial: docs/decisions/0002-onnx-exporter.md has the figures.
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from converters.artifact import ConversionError
from converters.failures import failure_of, module_at
from converters.keys import OPSET
from converters.quiet import captured

INPUT, OUTPUT, BATCH = "input", "output", "batch"


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph as an exporter left it; `scopes` names the module that each value was computed in."""

    proto: onnx.ModelProto
    tool: str
    scopes: Mapping[str, str] = field(default_factory=dict)


def export_torchscript(net: nn.Module, example: Tensor, *, dynamic_batch: bool = False) -> Exported:
    """The exporter that traces (`dynamo=False`); `dynamic_batch` makes axis 0 of input and output symbolic.

    Raises ConversionError naming the operator, module and source line where the exporter tells them.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        axes: dict[str, Any] = (
            {"dynamic_axes": {name: {0: BATCH} for name in (INPUT, OUTPUT)}} if dynamic_batch else {}
        )
        _quietly(lambda: torch.onnx.export(net, (example,), file, dynamo=False, **_COMMON, **axes), net)
        proto = onnx.load(file)
    return Exported(proto, f"torch.onnx TorchScript {torch.__version__}", _scopes_of_names(proto, net))


def export_dynamo(net: nn.Module, example: Tensor, *, dynamic_batch: bool = False) -> Exported:
    """The exporter built on `torch.export` (`dynamo=True`); arguments and errors as `export_torchscript`."""
    axes: dict[str, Any] = {}
    if dynamic_batch:
        axes["dynamic_shapes"] = ({0: torch.export.Dim(BATCH)},)
        example = torch.cat([example, example])  # torch.export takes an axis of length 1 for a constant
    program: Any = _quietly(
        lambda: torch.onnx.export(
            net, (example,), dynamo=True, external_data=False, verbose=False, **_COMMON, **axes
        ),
        net,
    )
    proto = program.model_proto
    return Exported(proto, f"torch.onnx dynamo {torch.__version__}", _scopes_of_metadata(proto))


_COMMON: dict[str, Any] = {"opset_version": OPSET, "input_names": [INPUT], "output_names": [OUTPUT]}

EXPORTERS: Mapping[str, Callable[..., Exported]] = {
    "torchscript": export_torchscript,
    "dynamo": export_dynamo,
}


def _quietly(export: Callable[[], Any], net: nn.Module) -> Any:
    with captured() as printed, torch.no_grad():
        try:
            return export()
        except Exception as error:  # exporters raise anything; all of it becomes the recorded failure
            raise ConversionError(
                failure_of(error, "exported", net=net, printed=printed.getvalue())
            ) from error


def _scopes_of_names(proto: onnx.ModelProto, net: nn.Module) -> dict[str, str]:
    """TorchScript writes the module's path into node names: `/stem/stem.0/conv/Conv`."""
    names = {name for name, _ in net.named_modules()}
    scopes = {}
    for node in proto.graph.node:
        *path, _ = node.name.strip("/").split("/")
        scopes.update(dict.fromkeys(node.output, module_at(path, names)))
    return scopes


def _scopes_of_metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """The dynamo exporter keeps the path of scopes, the operator last, in each node's metadata."""
    scopes = {}
    for node in proto.graph.node:
        found = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        path = ast.literal_eval(found) if found else ["", ""]
        scopes.update(dict.fromkeys(node.output, path[-2] if len(path) > 1 else ""))
    return scopes
