"""In which types a parsed network computes, read back from the network that the builder was given."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from typing import Any

from converters.onnx_types import MacNode, TypeReport

PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8", "FP4": "fp4"}
# They move, reorder or convert values and compute nothing.
UNCOUNTED = ("CAST", "CONSTANT", "DEQUANTIZE", "IDENTITY", "QUANTIZE", "SHUFFLE", "SHAPE")


def read(trt: Any, network: Any, batch_size: int) -> TypeReport:
    """Multiply-accumulates and layers by precision; a dimension left open counts as the batch size."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(k).name: layer for layer in layers for k in range(layer.num_outputs)}
    macs = []
    nodes: collections.Counter[str] = collections.Counter()
    for layer in layers:
        count = _macs(trt, layer, batch_size)
        if count:
            macs.append(MacNode(layer.name, layer.type.name.lower(), count, _precision(layer, makers)))
        precision = PRECISIONS.get(layer.get_output(0).dtype.name) if layer.num_outputs else None
        if precision and layer.type.name not in UNCOUNTED:
            nodes[precision] += 1
    quantize = sum(layer.type.name == "QUANTIZE" for layer in layers)
    return TypeReport(tuple(macs), nodes, quantize)


def _precision(layer: Any, makers: Mapping[str, Any]) -> str:
    """8 bits where every operand comes out of a dequantization of 8 bits, else the first operand's type."""
    dequantized = [_dequantized(layer.get_input(k), makers) for k in range(_operands(layer))]
    if dequantized and all(dequantized):
        return dequantized[0]
    name: str = layer.get_input(0).dtype.name
    return PRECISIONS.get(name, name.lower())


def _operands(layer: Any) -> int:
    """A convolution's third input is its bias."""
    return min(int(layer.num_inputs), 2)


def _dequantized(tensor: Any, makers: Mapping[str, Any]) -> str:
    """What a tensor was before it was dequantized; empty where it was not. Reordering does not matter."""
    layer = makers.get(tensor.name) if tensor is not None else None
    while layer is not None and layer.type.name in ("SHUFFLE", "IDENTITY"):
        layer = makers.get(layer.get_input(0).name)
    if layer is None or layer.type.name != "DEQUANTIZE":
        return ""
    return PRECISIONS.get(layer.get_input(0).dtype.name, "")


def _macs(trt: Any, layer: Any, batch_size: int) -> int:
    kind = layer.type.name
    if kind in ("CONVOLUTION", "DECONVOLUTION"):
        return _convolution(trt, layer, batch_size)
    if kind == "MATRIX_MULTIPLY":
        layer.__class__ = trt.IMatrixMultiplyLayer
        left = _shape(layer.get_input(0), batch_size)
        summed: int = left[-2] if layer.op0 == trt.MatrixOperation.TRANSPOSE and len(left) > 1 else left[-1]
        return math.prod(_shape(layer.get_output(0), batch_size)) * summed
    if kind == "EINSUM" and layer.num_inputs > 1:
        layer.__class__ = trt.IEinsumLayer
        labels = layer.equation.replace(" ", "").partition("->")[0].split(",")
        sides: dict[str, int] = {}
        for k, operand in enumerate(labels):
            sides |= zip(operand, _shape(layer.get_input(k), batch_size), strict=True)
        return math.prod(sides.values())
    return 0


def _convolution(trt: Any, layer: Any, batch_size: int) -> int:
    """Per position of the larger grid: kernel positions times channels in times channels out, per group."""
    forward = layer.type.name == "CONVOLUTION"
    layer.__class__ = trt.IConvolutionLayer if forward else trt.IDeconvolutionLayer
    image, out = (_shape(t, batch_size) for t in (layer.get_input(0), layer.get_output(0)))
    whole = math.prod(out) * image[1] if forward else math.prod(image) * out[1]
    kernel: tuple[int, ...] = layer.kernel_size_nd
    groups: int = layer.num_groups
    return whole * math.prod(kernel) // groups


def _shape(tensor: Any, batch_size: int) -> tuple[int, ...]:
    return tuple(side if side >= 0 else batch_size for side in tensor.shape)
