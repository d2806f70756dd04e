"""Which types a graph computes in: multiply-accumulates counted by hand, and another precision refused."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from converters import onnx_types
from converters.artifact import ConversionError
from converters.onnx_cast import lower, prepare


def test_multiply_accumulates_by_hand(graphs: ModuleType) -> None:
    report = onnx_types.read(graphs.healthy())
    found = {node.name: node.macs for node in report.macs}
    assert found == {"a": 2 * 8 * 6 * 6 * 4 * 3 * 3, "y": 2 * 5 * 8}
    assert report.shares == {"fp32": 1.0}
    assert report.nodes == {"fp32": 5}  # Shape gives integers
    assert report.facts() == {"macs_fp32_percent": 100.0, "nodes_fp32": 5}


OPERATORS = {
    "grouped Conv": ("Conv", {"group": 2, "strides": [2, 2]}, (6, 2, 1, 1), [1, 4, 8, 8], [1, 6, 4, 4], 192),
    "ConvTranspose": ("ConvTranspose", {"strides": [2, 2]}, (4, 3, 2, 2), [1, 4, 5, 5], [1, 3, 10, 10], 1200),
    "Gemm": ("Gemm", {}, (7, 3), [2, 7], [2, 3], 42),
    "Gemm, both transposed": ("Gemm", {"transA": 1, "transB": 1}, (3, 7), [7, 2], [2, 3], 42),
    "batched MatMul": ("MatMul", {}, (5, 6), [2, 4, 3, 5], [2, 4, 3, 6], 720),
    "Einsum": ("Einsum", {"equation": "bij,jk->bik"}, (5, 6), [2, 3, 5], [2, 3, 6], 180),
    "Einsum with dots": ("Einsum", {"equation": "...ij,jk->...ik"}, (5, 6), [2, 3, 5], [2, 3, 6], 180),
    "implicit Einsum": ("Einsum", {"equation": "ij,jk"}, (5, 6), [3, 5], [3, 6], 90),
}


@pytest.mark.parametrize(
    ("operator", "attributes", "weight", "shape", "out", "macs"), OPERATORS.values(), ids=OPERATORS
)
def test_every_counted_operator(
    graphs: ModuleType,
    operator: str,
    attributes: dict[str, object],
    weight: tuple[int, ...],
    shape: list[int],
    out: list[int],
    macs: int,
) -> None:
    nodes = [graphs.node(operator, ["x", "w"], "y", **attributes)]
    report = onnx_types.read(graphs.model(nodes, {"w": graphs.normal(*weight)}, shape, out))
    assert [node.macs for node in report.macs] == [macs]


def test_large_weights_need_not_be_read(graphs: ModuleType) -> None:
    big = graphs.normal(64, 64)  # more elements than inference is shown
    assert big.size > onnx_types.LARGEST_SHAPE
    proto = graphs.model([graphs.node("MatMul", ["x", "w"], "y")], {"w": big}, [1, 64], [1, 64])
    assert [node.macs for node in onnx_types.read(proto).macs] == [64 * 64]


def test_eight_bits_need_both_operands(graphs: ModuleType) -> None:
    weights = {
        "w8": np.ones((8, 8), np.int8),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
        "w": graphs.normal(8, 8),
    }
    pair = [
        graphs.node("QuantizeLinear", ["x", "scale", "zero"], "q"),
        graphs.node("DequantizeLinear", ["q", "scale", "zero"], "d"),
    ]
    whole = [
        *pair,
        graphs.node("DequantizeLinear", ["w8", "scale", "zero"], "dw"),
        graphs.node("MatMul", ["d", "dw"], "y"),
    ]
    half = [*pair, graphs.node("MatMul", ["d", "w"], "y")]
    assert onnx_types.precision_of(graphs.model(whole, weights, [1, 8], [1, 8])) == "int8"
    assert onnx_types.precision_of(graphs.model(half, weights, [1, 8], [1, 8])) == "fp32"


def test_other_precision_is_refused(graphs: ModuleType) -> None:
    report = onnx_types.read(graphs.healthy())
    onnx_types.require(report, "fp32")
    with pytest.raises(
        ConversionError, match="do not compute in fp16, the first is Conv 'a' in fp32"
    ) as caught:
        onnx_types.require(report, "fp16")
    assert caught.value.failure.kind == "precision_mismatch"
    with pytest.raises(ConversionError, match=r"int8 was asked for and does 0\.0 %"):
        onnx_types.require(report, "int8")


def test_islands_are_allowed_up_to_a_floor(graphs: ModuleType) -> None:
    """The convolution is 99.6 % of the work: without it fp16 is a label, without the product it is not."""
    prepared = prepare(graphs.healthy(), "fp16")
    small = onnx_types.read(lower(prepared, "fp16", ["y"]).proto)
    assert small.facts()["macs_fp16_percent"] == 99.6
    assert small.precision == "fp16"
    onnx_types.require(small, "fp16", islands=["y"])
    with pytest.raises(ConversionError, match="the first is MatMul 'y' in fp32"):
        onnx_types.require(small, "fp16")
    large = onnx_types.read(lower(prepared, "fp16", ["a"]).proto)
    with pytest.raises(ConversionError, match=r"does 0\.4 % of the multiply-accumulates"):
        onnx_types.require(large, "fp16", islands=["a"])


def test_types_that_contradict_each_other(graphs: ModuleType) -> None:
    proto = lower(prepare(graphs.healthy(), "fp16"), "fp16").proto
    weight = next(w for w in proto.graph.initializer if w.name.startswith("w_"))
    weight.CopyFrom(onnx.numpy_helper.from_array(graphs.normal(8, 4, 3, 3), weight.name))
    with pytest.raises(ConversionError, match="types contradict each other"):
        onnx_types.typed_values(_with_declared(proto))


def _with_declared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The convolution's output declared to be fp32, as a tool that changes a label alone would leave it."""
    name = next(node.output[0] for node in proto.graph.node if node.op_type == "Conv")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8, 6, 6]))
    return proto


def test_no_multiply_accumulates(graphs: ModuleType) -> None:
    report = onnx_types.read(graphs.model([graphs.node("Relu", ["x"], "y")], {}, [4], [4]))
    assert (report.macs, report.precision, str(report)) == ((), "fp32", "no multiply-accumulates")
    onnx_types.require(report, "fp32")
