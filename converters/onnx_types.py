"""In which types an ONNX file computes, read from the file alone: its multiply-accumulates by precision."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from converters.artifact import ConversionError, ConversionFailure
from models.spec import Option

PRECISION_OF_TYPE: Mapping[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
TYPE_OF_PRECISION: Mapping[str, int] = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}

# A file in which less of the work than this is done in the precision asked for is not what was asked for.
LEAST_SHARE = 0.5
# They move a value from one type to another and compute nothing.
CONVERSIONS = ("Cast", "QuantizeLinear", "DequantizeLinear")
# An initializer with more elements than this holds no shape that inference would need.
LARGEST_SHAPE = 1024

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TypedValues:
    """Element type and shape of every value by name; a symbolic dimension counts as 1."""

    types: Mapping[str, int]
    shapes: Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class MacNode:
    """One node that multiplies and accumulates: how often, and in which precision."""

    name: str
    operator: str
    macs: int
    precision: str


@dataclass(frozen=True, slots=True)
class TypeReport:
    """`nodes` counts nodes with a floating-point output by precision, conversions left out."""

    macs: tuple[MacNode, ...]
    nodes: Mapping[str, int]
    quantize_nodes: int

    @property
    def shares(self) -> dict[str, float]:
        """Share of the multiply-accumulates by precision, the largest first; empty where there are none."""
        totals: collections.Counter[str] = collections.Counter()
        for node in self.macs:
            totals[node.precision] += node.macs
        whole = sum(totals.values())
        return {name: count / whole for name, count in totals.most_common()} if whole else {}

    @property
    def precision(self) -> str:
        """That of most multiply-accumulates; of most nodes where a graph has no multiply-accumulates."""
        ranked = self.shares or self.nodes
        return max(ranked, key=lambda name: ranked[name], default="fp32")

    def facts(self) -> dict[str, Option]:
        """What an artifact keeps: shares in percent and nodes, by precision."""
        shares = {f"macs_{name}_percent": round(100 * share, 1) for name, share in self.shares.items()}
        return {**shares, **{f"nodes_{name}": count for name, count in sorted(self.nodes.items())}}

    def __str__(self) -> str:
        shares = ", ".join(f"{_percent(share)} % {name}" for name, share in self.shares.items())
        return f"multiply-accumulates: {shares}" if shares else "no multiply-accumulates"


def _percent(share: float) -> str:
    """One digit after the point, and never 100 for less than all."""
    return "100" if share == 1 else f"{min(100 * share, 99.9):.1f}"


def typed_values(proto: onnx.ModelProto) -> TypedValues:
    """What the graph declares and ONNX's own inference tells.

    Raises ConversionError `export_failed` where the types contradict each other.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(_skeleton(proto), strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        message = f"the graph's types contradict each other: {str(error)[:400]}"
        raise ConversionError(ConversionFailure("export_failed", "", message)) from error
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(dim.dim_value or 1 for dim in tensor.shape.dim)
    for weight in graph.initializer:
        types[weight.name], shapes[weight.name] = weight.data_type, tuple(weight.dims)
    return TypedValues(types, shapes)


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large weights as inputs: inference copies the whole file twice, and needs no weight."""
    skeleton = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    graph, whole = skeleton.graph, proto.graph
    graph.name = whole.name
    for name in ("node", "input", "output"):
        getattr(graph, name).extend(getattr(whole, name))
    if not _close_batch(graph):
        graph.value_info.extend(whole.value_info)
    for weight in whole.initializer:
        if math.prod(weight.dims) <= LARGEST_SHAPE:
            graph.initializer.append(weight)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    return skeleton


def _close_batch(graph: onnx.GraphProto) -> bool:
    """Let open dimensions of inputs be 1, so that shapes behind a Reshape are known; tell if any are."""
    dims = [dim for value in graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param]
    for dim in dims:
        dim.dim_value = 1
    for value in graph.output if dims else ():
        value.type.tensor_type.ClearField("shape")
    return bool(dims)


def read(proto: onnx.ModelProto) -> TypeReport:
    """The types of a graph. Raises ConversionError `export_failed` where a shape that counts is unknown."""
    values = typed_values(proto)
    makers = {name: node for node in proto.graph.node for name in node.output}
    counted = tuple(
        MacNode(node.name, node.op_type, _macs(node, values), _precision(node, makers, values))
        for node in proto.graph.node
        if node.op_type in COUNTED
    )
    nodes: collections.Counter[str] = collections.Counter()
    for node in proto.graph.node:
        precision = PRECISION_OF_TYPE.get(values.types.get(_first(node.output), 0))
        if precision and precision != "int8" and node.op_type not in CONVERSIONS:
            nodes[precision] += 1
    quantize = sum(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    return TypeReport(tuple(node for node in counted if node.macs), nodes, quantize)


def precision_of(proto: onnx.ModelProto) -> str:
    """`fp32`, `fp16`, `bf16` or `int8`: in which most of the graph's multiply-accumulates are done."""
    return read(proto).precision


def require(
    report: TypeReport, precision: str, *, islands: Collection[str] = (), least: float = LEAST_SHARE
) -> None:
    """Raises ConversionError `precision_mismatch` unless the graph computes in `precision`.

    In fp32, fp16 and bf16 every node of `report.macs` must, but for those named in `islands`; in int8 it is
    enough that most of the work does, as a quantizer leaves what it has no 8-bit operator for.
    """
    strays = [node for node in report.macs if node.precision != precision and node.name not in islands]
    if strays and precision != "int8":
        first = strays[0]
        raise mismatch(
            f"{len(strays)} nodes of the graph do not compute in {precision}, the first is {first.operator} "
            f"'{first.name}' in {first.precision}"
        )
    if not report.macs and report.precision != precision:
        raise mismatch(f"{precision} was asked for and the graph computes in {report.precision}")
    share = report.shares.get(precision, 0.0)
    if report.macs and share < least:
        raise mismatch(
            f"{precision} was asked for and does {_percent(share)} % of the multiply-accumulates ({report}); "
            f"at least {100 * least:.0f} % are needed"
        )


def mismatch(message: str) -> ConversionError:
    """The error of a file that does not compute in the precision asked for."""
    advice = "Ask for the precision that the graph can be computed in, fp32 or bf16."
    return ConversionError(ConversionFailure("precision_mismatch", "types", message, advice=advice))


def _precision(node: NodeProto, makers: Mapping[str, NodeProto], values: TypedValues) -> str:
    """8 bits where both operands come through DequantizeLinear, else the type of the first operand."""
    if all(_is_dequantized(name, makers, values) for name in node.input[:2]):
        return "int8"
    kind = values.types.get(node.input[0], 0)
    return PRECISION_OF_TYPE.get(kind, f"element type {kind}")


def _is_dequantized(name: str, makers: Mapping[str, NodeProto], values: TypedValues) -> bool:
    maker = makers.get(name)
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    return PRECISION_OF_TYPE.get(values.types.get(maker.input[0], 0)) == "int8"


def _macs(node: NodeProto, values: TypedValues) -> int:
    names = [*node.input[:2], node.output[0]]
    missing = [name for name in names if name and name not in values.shapes]
    if missing:
        message = f"the shape of '{missing[0]}' at {node.op_type} '{node.name}' is unknown"
        raise ConversionError(ConversionFailure("export_failed", "types", message, node.op_type))
    return COUNTED[node.op_type](node, [values.shapes[name] for name in names if name])


def _conv(node: NodeProto, shapes: Sequence[Shape]) -> int:
    _, weight, out = shapes  # (N, C, *), (M, C / groups, *kernel), (N, M, *)
    return math.prod(out) * math.prod(weight[1:])


def _conv_transpose(node: NodeProto, shapes: Sequence[Shape]) -> int:
    image, weight, _ = shapes  # (N, C, *), (C, M / groups, *kernel)
    return math.prod(image) * math.prod(weight[1:])


def _gemm(node: NodeProto, shapes: Sequence[Shape]) -> int:
    left, _, out = shapes
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * left[0 if transposed else 1]


def _matmul(node: NodeProto, shapes: Sequence[Shape]) -> int:
    left, _, out = shapes
    return math.prod(out) * left[-1]


def _einsum(node: NodeProto, shapes: Sequence[Shape]) -> int:
    """The output's elements times the sides that are summed over; nothing is multiplied with one operand."""
    if len(node.input) < 2:
        return 0
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    operands, arrow, result = equation.partition("->")
    if not arrow:
        result = "".join(label for label in operands if operands.count(label) == 1)
    sides: dict[str, int] = {}
    for labels, shape in zip(operands.split(","), shapes, strict=False):
        before, _, after = labels.partition("...")
        sides |= dict(zip(before, shape, strict=False))
        sides |= dict(zip(reversed(after), reversed(shape), strict=False))
    summed = [side for label, side in sides.items() if label not in result]
    return math.prod(shapes[-1]) * math.prod(summed)


COUNTED: Mapping[str, Callable[[NodeProto, Sequence[Shape]], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
}


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""
