"""What a 16-bit graph computes, in fp32 operators that round: exact in the types of every value and weight.

ONNX Runtime's CPU provider has almost no 16-bit operators: it computes them in fp32 and leaves the rounding
between two of them out, so that a graph which overflows in fp16 looks healthy there; bfloat16 does not load
at all (onnxruntime 1.31, x86-64). The twin made here rounds explicitly, to what the file's own types say.
Sums inside one operator stay fp32, as tensor cores accumulate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters import onnx_graph
from converters.onnx_cast import FLOAT, LARGEST, can_lower, rounded
from converters.onnx_types import PRECISION_OF_TYPE, TYPE_OF_PRECISION, typed_values
from converters.parity import Array

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def run(proto: onnx.ModelProto, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The first output of a 16-bit graph for each input, by its twin."""
    return onnx_graph.run(onnx_graph.serialize(twin(proto)), inputs)


def twin(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp32 operators, every value and weight rounded to the type that it has in `proto`."""
    types = typed_values(proto).types
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        nodes.extend(_rounding(node, {name: types[name] for name in node.output if types.get(name) in LOW}))
    result = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    result.graph.name = proto.graph.name
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(_widened(weight) for weight in proto.graph.initializer)
    result.graph.input.extend(proto.graph.input)
    result.graph.output.extend(proto.graph.output)
    return result


def _rounding(node: NodeProto, low: dict[str, int]) -> list[NodeProto]:
    """The node in fp32, and a Cast down and up again behind each output that is 16-bit."""
    wide = copy.deepcopy(node)
    for attribute in wide.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in LOW:
            attribute.i = FLOAT
        if attribute.name == "value" and attribute.t.data_type in LOW:
            attribute.t.CopyFrom(_widened(attribute.t))
    nodes = [wide]
    for index, name in enumerate(node.output):
        if name in low:
            wide.output[index] = f"{name}/exact"
            nodes.extend(_pair(f"{name}/exact", name, low[name]))
    return nodes


def _pair(exact: str, name: str, kind: int) -> list[NodeProto]:
    low = f"{name}/low"
    return [
        helper.make_node("Cast", [exact], [low], to=kind),
        helper.make_node("Cast", [low], [name], to=FLOAT),
    ]


def _widened(weight: TensorProto) -> TensorProto:
    if weight.data_type not in LOW:
        return weight
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name)


def node_errors(proto: onnx.ModelProto, precision: str, inputs: Sequence[Array]) -> dict[str, float]:
    """By node name: how far its output is off where its inputs, weights and output alone are rounded.

    `proto` is an fp32 graph as `prepare` gives it. The norm of the difference relative to that of the output,
    the worst of all inputs; infinite where the output overflows or is not a number.
    """
    probe, names = _probe(proto, precision)
    session = onnx_graph.open_session(onnx_graph.serialize(probe))
    found = np.array(
        [session.run(None, {session.get_inputs()[0].name: value}) for value in inputs], np.float64
    ).reshape(len(inputs), len(names), 2)
    difference, norm = found[..., 0], found[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(difference == 0, 0.0, difference / norm)
    worst = np.where(np.isfinite(relative), relative, math.inf).max(axis=0)
    return dict(zip(names, (float(error) for error in worst), strict=True))


def _probe(proto: onnx.ModelProto, precision: str) -> tuple[onnx.ModelProto, list[str]]:
    """The fp32 graph with, beside every node, its rounded double and the norms of difference and output."""
    kind, types = TYPE_OF_PRECISION[precision], typed_values(proto).types
    version = max(opset.version for opset in proto.opset_import)
    probe = copy.deepcopy(proto)
    del probe.graph.node[:], probe.graph.output[:]
    clamped = {weight.name for weight in probe.graph.initializer if _is_clamped(weight, precision)}
    done: set[str] = set()
    names: list[str] = []
    for node in proto.graph.node:
        floats = [name for name in node.output if types.get(name) == FLOAT]
        for name in node.input if floats else ():
            if types.get(name) == FLOAT and name not in done:
                done.add(name)
                probe.graph.node.extend(_rounded_value(name, kind, clamp=name in clamped))
        probe.graph.node.append(node)
        if floats and can_lower(node, version, kind):
            names.append(node.name)
            probe.graph.node.extend(_double(node, types, kind))
            probe.graph.output.extend(
                helper.make_tensor_value_info(f"{node.name}/{what}", FLOAT, []) for what in _NORMS
            )
    return probe, names


_NORMS = ("difference", "norm")


def _is_clamped(weight: TensorProto, precision: str) -> bool:
    return weight.data_type == FLOAT and rounded(weight, precision)[1]


def _rounded_value(name: str, kind: int, *, clamp: bool) -> list[NodeProto]:
    if not clamp:
        return _pair(name, f"{name}/rounded", kind)
    finite = f"{name}/finite"
    largest = LARGEST[PRECISION_OF_TYPE[kind]]
    low, high = (
        helper.make_node("Constant", [], [f"{name}/{sign}"], value_float=sign * largest) for sign in (-1, 1)
    )
    clip = helper.make_node("Clip", [name, *low.output, *high.output], [finite])
    return [low, high, clip, *_pair(finite, f"{name}/rounded", kind)]


def _double(node: NodeProto, types: Mapping[str, int], kind: int) -> list[NodeProto]:
    double = copy.deepcopy(node)
    double.name = f"{node.name}/double"
    for index, name in enumerate(node.input):
        if types.get(name) == FLOAT:
            double.input[index] = f"{name}/rounded"
    double.output[:] = [f"{name}/double" if name else "" for name in node.output]
    out = node.output[0]
    return [
        double,
        *_pair(f"{out}/double", f"{out}/double/rounded", kind),
        helper.make_node("Sub", [out, f"{out}/double/rounded"], [f"{out}/off"]),
        helper.make_node("ReduceL2", [f"{out}/off"], [f"{node.name}/difference"], keepdims=0),
        helper.make_node("ReduceL2", [out], [f"{node.name}/norm"], keepdims=0),
    ]
