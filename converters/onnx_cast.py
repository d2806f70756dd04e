"""An fp32 ONNX graph rewritten into a 16-bit type, weights and values alike; its ends stay fp32.

Nodes that are named as islands stay fp32, with a Cast wherever a value crosses over. A value is made in one
type and cast at most once; a weight is stored in every type that it is used in.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters.artifact import ConversionError, ConversionFailure
from converters.onnx_types import TYPE_OF_PRECISION, typed_values

# The first opset whose Conv and pooling operators take bfloat16.
BF16_OPSET = 22

NUMPY_TYPES: dict[str, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
LARGEST = {"fp16": 65504.0, "bf16": float.fromhex("0x1.fep127")}
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph in 16 bits and the weights that were clamped to the range of the type."""

    proto: onnx.ModelProto
    clamped: tuple[str, ...]


def prepare(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy that `lower` can rewrite: every node has a name of its own and every constant is an initializer.

    Raises ConversionError `unsupported` for operators that hold a graph of their own, and sparse constants.
    """
    proto = copy.deepcopy(proto)
    version = next(opset.version for opset in proto.opset_import if opset.domain in ("", "ai.onnx"))
    if precision == "bf16" and version < BF16_OPSET:
        proto = onnx.version_converter.convert_version(proto, BF16_OPSET)
    kept, names = [], set[str]()
    for index, node in enumerate(proto.graph.node):
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            raise _unsupported(node, precision)
        if constant := _constant(node, precision):
            proto.graph.initializer.append(constant)
            continue
        if not node.name or node.name in names:
            node.name = f"{node.name or node.op_type}_{index}"
        names.add(node.name)
        kept.append(copy.deepcopy(node))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


def lower(proto: onnx.ModelProto, precision: str, islands: Collection[str] = ()) -> Lowered:
    """`proto`, as `prepare` gives it, in `precision` (`fp16`, `bf16`) but for the nodes of `islands`."""
    return _Lowering(proto, precision, frozenset(islands)).result()


def can_lower(node: NodeProto, version: int, kind: int) -> bool:
    """Whether the ONNX standard has this operator with an output of that element type."""
    return _takes(_schema(node, version).outputs[0], _schema(node, version), kind)


def rounded(weight: TensorProto, precision: str) -> tuple[TensorProto, bool]:
    """The weight in another type under its own name, and whether values were clamped to the finite range."""
    array, kind = numpy_helper.to_array(weight), NUMPY_TYPES[precision]
    largest = LARGEST[precision]
    clamped = bool(np.any(np.isfinite(array) & (np.abs(array) > largest)))
    if clamped:
        array = np.where(np.isfinite(array), np.clip(array, -largest, largest), array)
    return helper.make_tensor(
        weight.name, TYPE_OF_PRECISION[precision], weight.dims, array.astype(kind).tobytes(), raw=True
    ), clamped


_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _unsupported(node: NodeProto, precision: str) -> ConversionError:
    message = f"{node.op_type} '{node.name}' holds a graph of its own, which is not rewritten in {precision}"
    advice = "Convert this model in fp32, or make its forward pass independent of tensor values."
    return ConversionError(
        ConversionFailure("unsupported", STEP_NAMES[precision], message, node.op_type, advice=advice)
    )


STEP_NAMES = {"fp16": "float16", "bf16": "bfloat16", "int8": "quantized"}


def _constant(node: NodeProto, precision: str) -> TensorProto | None:
    """The tensor of a Constant node under the name of its output; None for other nodes.

    Raises ConversionError `unsupported` for a sparse one.
    """
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name in _LISTED:
        tensor: TensorProto = numpy_helper.from_array(np.array(value, _LISTED[attribute.name]))
    elif attribute.name == "value":
        tensor = copy.deepcopy(value)
    else:
        message = f"Constant '{node.name}' is a {attribute.name}, which is not rewritten in {precision}"
        advice = "Convert this model in fp32, or give the constant as a dense tensor."
        raise ConversionError(
            ConversionFailure("unsupported", STEP_NAMES[precision], message, "Constant", advice=advice)
        )
    tensor.name = node.output[0]
    return tensor


# The forms of a Constant without a tensor, by the type that the standard gives them.
_LISTED: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": np.object_,
    "value_strings": np.object_,
}


def retype(node: NodeProto, precision: str) -> None:
    """Let an operator that is told its output's type make `precision` where it makes fp32."""
    kind = TYPE_OF_PRECISION[precision]
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
            attribute.i = kind
    if node.op_type == "ConstantOfShape":
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is None:  # the standard's default is 0 in fp32
            value = helper.make_tensor("value", FLOAT, [1], [0.0])
            node.attribute.append(helper.make_attribute("value", value))
        if value.data_type == FLOAT:
            node.attribute[-1].t.CopyFrom(rounded(value, precision)[0])


def _schema(node: NodeProto, version: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=node.domain)


def _takes(parameter: Any, schema: onnx.defs.OpSchema, kind: int) -> bool:
    """Whether an input or output may be of that element type: `scales` of Resize is fp32 and nothing else."""
    name = f"tensor({TensorProto.DataType.Name(kind).lower()})"
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return name in allowed.get(parameter.type_str, (parameter.type_str,))


@dataclass
class _Lowering:
    """One rewriting: `made` is the type of every floating-point value, `casts` its copy in another one."""

    proto: onnx.ModelProto
    precision: str
    islands: frozenset[str]
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, TensorProto] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    clamped: list[str] = field(default_factory=list)

    def result(self) -> Lowered:
        graph = self.proto.graph
        self.kind = TYPE_OF_PRECISION[self.precision]
        self.types = typed_values(self.proto).types
        self.version = max(o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx"))
        self.stored = {weight.name: weight for weight in graph.initializer}
        self.outputs = {output.name for output in graph.output}
        self.made = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        for node in graph.node:
            self._add(node)
        proto = onnx.ModelProto(ir_version=self.proto.ir_version, opset_import=self.proto.opset_import)
        proto.metadata_props.extend(self.proto.metadata_props)
        proto.graph.name = graph.name
        proto.graph.node.extend(self.nodes)
        proto.graph.initializer.extend(self.weights.values())
        proto.graph.input.extend(value for value in graph.input if value.name not in self.stored)
        proto.graph.output.extend(graph.output)
        proto.graph.value_info.extend(self._retyped(value) for value in graph.value_info)
        return Lowered(proto, tuple(self.clamped))

    def _retyped(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        """What the graph declares about a value, which inference may not know, with its type here."""
        value = copy.deepcopy(value)
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = self.made.get(value.name, FLOAT)
        return value

    def _add(self, node: NodeProto) -> None:
        schema, new = _schema(node, self.version), copy.deepcopy(node)
        low = node.name not in self.islands and can_lower(node, self.version, self.kind)
        as_made = self._reads_one_value(node)
        for index, name in enumerate(node.input):
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            wanted = self.kind if low and _takes(formal, schema, self.kind) else FLOAT
            new.input[index] = self._value(name, self.made[name] if name == as_made else wanted)
        self.nodes.append(new)
        for index, name in enumerate(node.output):
            if self.types.get(name) == FLOAT:
                formal = schema.outputs[min(index, len(schema.outputs) - 1)]
                # Statistics of LayerNormalization have a type of their own, whatever is normalized.
                new.output[index] = self._made(name, low and formal.type_str == schema.outputs[0].type_str)
        if low:
            retype(new, self.precision)

    def _reads_one_value(self, node: NodeProto) -> str | None:
        """The value whose shape, say, a node reads to give integers: read as it is, never cast for that."""
        floats = [name for name in node.input if self.types.get(name) == FLOAT]
        integers = not any(self.types.get(name) == FLOAT for name in node.output)
        return floats[0] if integers and len(floats) == 1 and floats[0] in self.made else None

    def _made(self, name: str, low: bool) -> str:
        self.made[name] = self.kind if low else FLOAT
        if not low or name not in self.outputs:
            return name
        inner = f"{name}_{self.precision}"
        self.casts[name, self.kind] = inner
        self.casts[name, FLOAT] = name
        self.nodes.append(helper.make_node("Cast", [inner], [name], f"{name}_cast", to=FLOAT))
        return inner

    def _value(self, name: str, wanted: int) -> str:
        """The name under which a value is found in the wanted type, cast or stored where it is not yet."""
        if name in self.stored:
            return self._weight(name, wanted)
        if self.types.get(name) != FLOAT:
            return name
        if (name, wanted) in self.casts or self.made[name] == wanted:
            return self.casts.get((name, wanted), name)
        copied = f"{name}_{'fp32' if wanted == FLOAT else self.precision}"
        self.nodes.append(helper.make_node("Cast", [name], [copied], f"{copied}_cast", to=wanted))
        self.casts[name, wanted] = copied
        return copied

    def _weight(self, name: str, wanted: int) -> str:
        weight = self.stored[name]
        if weight.data_type != FLOAT or wanted == FLOAT:
            self.weights[name] = weight
            return name
        stored = f"{name}_{self.precision}"
        if stored not in self.weights:
            low, clamped = rounded(weight, self.precision)
            low.name = stored
            self.weights[stored] = low
            if clamped:
                self.clamped.append(name)
        return stored
