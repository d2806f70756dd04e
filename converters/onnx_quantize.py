"""Static 8-bit quantization: QuantizeLinear and DequantizeLinear pairs where a runtime wants them."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from converters import onnx_graph
from converters.artifact import ConversionError
from converters.failures import failure_of
from converters.onnx_cast import prepare
from converters.parity import Array
from converters.quiet import captured


@dataclass(frozen=True, slots=True)
class Flavour:
    """How a runtime wants its pairs: around `operators`, or all that the quantizer knows but `excluded`."""

    activations: QuantType
    options: Mapping[str, Any] = field(default_factory=dict)
    operators: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def operators_of(self) -> list[str]:
        """The operators that get pairs."""
        return sorted({*(self.operators or (*QLinearOpsRegistry, *QDQRegistry))} - {*self.excluded})


FLAVOURS: Mapping[str, Flavour] = {
    # ONNX Runtime and OpenVINO on a CPU: unsigned activations (VNNI multiplies them with signed weights),
    # biases in 32 bits, and pairs around whatever has an 8-bit kernel, so that values stay 8-bit between
    # convolutions.
    # Softmax is left alone: its output would get the range 0 to 1, whose steps of 1/256 no weight of an
    # attention over 56x56 tokens reaches, so that all of them are 0; unquantized, it gets the range that it
    # has.
    "cpu": Flavour(QuantType.QUInt8, excluded=("Softmax",)),
    # TensorRT: signed and symmetric, biases in floating point. Pairs around a Transpose or Mul would quantize
    # constants in a way that its builder refuses (tensorrt_rtx 1.7.1: "Quantized constant is only allowed
    # before DQ"); those around a residual addition save the way through fp32.
    "trt": Flavour(
        QuantType.QInt8,
        {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add"),
    ),
}


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """The inputs, one after another."""

    def __init__(self, name: str, inputs: Iterable[Array]) -> None:
        self._feeds = ({name: value} for value in inputs)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def quantize(proto: onnx.ModelProto, flavour: str, inputs: Iterable[Array]) -> onnx.ModelProto:
    """`proto`, as `prepared` gives it, with 8-bit weights per channel and activations per tensor.

    Ranges are the smallest and largest values that `inputs` give, of which one is held at a time. Raises
    ConversionError `export_failed`, and what reading an input raises of it.
    """
    chosen = FLAVOURS[flavour]
    proto = copy.deepcopy(proto)  # the quantizer moves the weights of what it is given into a file
    add_pre_process_metadata(proto)
    with tempfile.TemporaryDirectory() as folder, captured() as printed:
        file = Path(folder) / "quantized.onnx"
        try:
            quantize_static(
                proto,
                file,
                _Calibration(proto.graph.input[0].name, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=chosen.operators_of(),
                per_channel=True,
                activation_type=chosen.activations,
                weight_type=QuantType.QInt8,
                extra_options=dict(chosen.options),
            )
        except Exception as error:  # the quantizer raises whatever it meets; recorded as the failure
            failure = failure_of(error, "quantized", printed=printed.getvalue())
            raise ConversionError(failure) from error
        made: onnx.ModelProto = onnx.load(file)
        return made


def prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The copy that `quantize` and `node_errors` take."""
    return prepare(proto, "int8")


def node_errors(
    proto: onnx.ModelProto, quantized: onnx.ModelProto, operators: Sequence[str], inputs: Sequence[Array]
) -> dict[str, float]:
    """By name of each such node: how far it alone is off with the operands that it has in `quantized`.

    Each gets the values of the fp32 graph through the pairs of `quantized`, so errors do not add up over the
    depth: the norm of the difference relative to that of its output, the worst of all inputs. A wrong scale,
    axis or weight shows here even where the whole network drowns in rounding.
    """
    probe, names = _probe(proto, quantized, operators)
    session = onnx_graph.open_session(onnx_graph.serialize(probe))
    found = np.array(
        [session.run(None, {session.get_inputs()[0].name: value}) for value in inputs], np.float64
    ).reshape(len(inputs), len(names), 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(found[..., 0] == 0, 0.0, found[..., 0] / found[..., 1])
    worst = np.where(np.isfinite(relative), relative, math.inf).max(axis=0)
    return dict(zip(names, (float(error) for error in worst), strict=True))


def _probe(
    proto: onnx.ModelProto, quantized: onnx.ModelProto, operators: Sequence[str]
) -> tuple[onnx.ModelProto, list[str]]:
    """The fp32 graph and, for each node, the part of the quantized one between its values and its output."""
    known = {name for node in proto.graph.node for name in node.output} | {v.name for v in proto.graph.input}
    part = _Part({name: node for node in quantized.graph.node for name in node.output}, known)
    originals = {node.name: node for node in proto.graph.node}
    probe, names = copy.deepcopy(proto), []
    probe.opset_import[0].version = max(o.version for o in quantized.opset_import)
    del probe.graph.output[:]
    for node in quantized.graph.node:
        original = originals.get(node.name)
        if node.op_type not in operators or original is None:
            continue
        double = part.add(node)
        names.append(node.name)
        off, norm = f"{node.name}/off", original.output[0]
        part.nodes += [
            helper.make_node("Sub", [norm, double], [off]),
            helper.make_node("ReduceL2", [off], [f"{node.name}/difference"], keepdims=0),
            helper.make_node("ReduceL2", [norm], [f"{node.name}/norm"], keepdims=0),
        ]
        probe.graph.output.extend(
            helper.make_tensor_value_info(f"{node.name}/{what}", onnx.TensorProto.FLOAT, [])
            for what in ("difference", "norm")
        )
    probe.graph.node.extend(part.nodes)
    stored = {weight.name for weight in probe.graph.initializer}
    probe.graph.initializer.extend(w for w in quantized.graph.initializer if w.name not in stored)
    return probe, names


@dataclass
class _Part:
    """Nodes copied from the quantized graph, back to the values that the fp32 graph has too."""

    makers: Mapping[str, NodeProto]
    known: set[str]
    nodes: list[NodeProto] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def add(self, node: NodeProto) -> str:
        """Copy a node and its pairs; the name of its first output in the copy."""
        if node.output[0] not in self.done:
            self.done.add(node.output[0])
            copied = copy.deepcopy(node)
            copied.name = f"{node.name}/double"
            for index, name in enumerate(node.input):
                if name in self.makers and name not in self.known:
                    copied.input[index] = self.add(self.makers[name])
            copied.output[:] = [f"{name}/double" for name in node.output]
            self.nodes.append(copied)
        return f"{node.output[0]}/double"
