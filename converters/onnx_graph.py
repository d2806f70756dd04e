"""An ONNX graph after export: simplified, cleaned, checked, described, and run for parity."""

from __future__ import annotations

import collections
import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim

from converters.artifact import ConversionError, ConversionFailure, TensorInfo
from converters.parity import Array
from converters.quiet import captured

# Fuses attention into com.microsoft.Attention, an operator that only ONNX Runtime has (onnxsim 0.8.1).
SKIPPED_OPTIMIZERS = ["fuse_qkv"]
STANDARD_DOMAINS = ("", "ai.onnx")


def simplify(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim's result, without what is specific to one runtime.

    Raises ConversionError where onnxsim fails or leaves an operator outside the ONNX standard.
    """
    with captured():
        try:
            simplified, _ = onnxsim.simplify(proto, check_n=0, **_supported_options())
        except Exception as error:  # onnxsim raises whatever its passes raise; recorded as the failure
            raise _failure("simplified", f"onnxsim failed: {type(error).__name__}: {error}") from error
    foreign = sorted(
        {f"{n.domain}.{n.op_type}" for n in simplified.graph.node if n.domain not in STANDARD_DOMAINS}
    )
    if foreign:
        raise _failure(
            "simplified", f"the graph has operators outside the ONNX standard: {', '.join(foreign)}"
        )
    result: onnx.ModelProto = simplified
    return result


def _supported_options() -> dict[str, Any]:
    import inspect

    wanted: dict[str, Any] = {"skipped_optimizers": list(SKIPPED_OPTIMIZERS), "certify": False}
    known = inspect.signature(onnxsim.simplify).parameters
    return {name: value for name, value in wanted.items() if name in known}


def check(proto: onnx.ModelProto, *, step: str = "simplified") -> None:
    """Raises ConversionError at `step` where the graph breaks the ONNX standard, shapes included."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _failure(step, f"onnx.checker: {error}") from error


def describe(proto: onnx.ModelProto, facts: Mapping[str, str]) -> None:
    """Remove what tools left (source paths among it) and write our own facts into `metadata_props`."""
    proto.doc_string = ""
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.doc_string = ""
        part.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    for key, value in sorted(facts.items()):
        proto.metadata_props.add(key=f"deploybench.{key}", value=value)


def serialize(proto: onnx.ModelProto) -> bytes:
    """Equal graphs give equal bytes."""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def run(model: bytes, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The first output for each input, computed by ONNX Runtime on one CPU thread.

    Graph optimizations are off: parity is about what the file says, not about what this runtime makes of it.
    The measuring process checks the optimized session's outputs again.
    """
    session = open_session(model)
    name = session.get_inputs()[0].name
    return tuple(session.run(None, {name: value})[0] for value in inputs)


def module_outputs(proto: onnx.ModelProto, scopes: Mapping[str, str], example: Array) -> dict[str, Array]:
    """What the graph computed last in each module, by module name; `scopes` maps values to modules."""
    proto = copy.deepcopy(proto)
    last: dict[str, str] = {}
    for node in proto.graph.node:
        for value in node.output:
            for module in _enclosing(scopes.get(value, "")):
                last[module] = value
    known = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=value) for value in dict.fromkeys(last.values()) if value not in known
    )
    session = open_session(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    values = dict(zip(names, session.run(None, {session.get_inputs()[0].name: example}), strict=True))
    return {module: np.asarray(values[value]) for module, value in last.items()}


def _enclosing(module: str) -> Iterable[str]:
    parts = module.split(".") if module else []
    return (".".join(parts[:depth]) for depth in range(len(parts) + 1))


def op_counts(proto: onnx.ModelProto) -> dict[str, int]:
    return dict(sorted(collections.Counter(node.op_type for node in proto.graph.node).items()))


def check_open_batch(proto: onnx.ModelProto, model: str) -> None:
    """Raises ConversionError `unsupported` where the graph's input or output has a batch size after all."""
    for value in (*proto.graph.input, *proto.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise fixed_batch(model, f"'{value.name}' has a batch size in the exported graph")


def fixed_batch(model: str, why: str) -> ConversionError:
    """The failure of a model that cannot leave its batch size open."""
    message = f"{model} fixes its batch size, so it cannot be exported with dynamic_batch: {why}"
    advice = "Leave dynamic_batch out and convert the model for each batch size."
    return ConversionError(ConversionFailure("unsupported", "simplified", message[:500], advice=advice))


def tensor_infos(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    """Names, types and shapes; an open dimension is -1."""
    return tuple(
        TensorInfo(
            value.name,
            str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def open_session(model: bytes) -> Any:
    """A session on one CPU thread, without graph optimizations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _failure(step: str, message: str) -> ConversionError:
    advice = "Try the other versions of onnx and onnxsim that pyproject.toml allows."
    return ConversionError(ConversionFailure("export_failed", step, message[:500], advice=advice))
