"""Small ONNX graphs made by hand: in every precision, with a batch axis left open, and wrong in many ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS = 8, 16
FLOATS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def serialized(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any],
    *,
    batch: int | str = 1,
    domains: Sequence[str] = (),
) -> bytes:
    """A model from `input` to `output`, both fp32 of the shape (batch, CHANNELS, SIDE, SIDE)."""
    shape = [batch, CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        list(nodes),
        "made_by_hand",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [
            value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
            for name, value in weights.items()
        ],
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(name, 1) for name in domains)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


def convolution(precision: str = "fp32", *, groups: int = 1, batch: int | str = 1) -> bytes:
    """One 3x3 convolution computed in a floating-point type, with casts at the edges of the graph."""
    kind = FLOATS[precision]
    values = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS // groups, 3, 3)).astype(np.float32)
    weight = helper.make_tensor("weight", kind, values.shape, values.ravel())
    nodes = [
        helper.make_node("Cast", ["input"], ["typed"], "cast_in", to=kind),
        helper.make_node(
            "Conv", ["typed", "weight"], ["convolved"], "/body/conv/Conv", pads=[1] * 4, group=groups
        ),
        helper.make_node("Cast", ["convolved"], ["output"], "cast_out", to=TensorProto.FLOAT),
    ]
    return serialized(nodes, {"weight": weight}, batch=batch)


def quantized(*, integer_bias: bool = False) -> bytes:
    """One 1x1 convolution in 8 bits between QuantizeLinear and DequantizeLinear; its bias fp32 or INT32."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "kernel": rng.integers(-127, 127, (CHANNELS, CHANNELS, 1, 1), dtype=np.int8),
        "kernel_scale": np.full(CHANNELS, 0.01, np.float32),
        "kernel_zero": np.zeros(CHANNELS, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], "dequantize"),
        helper.make_node(
            "DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["w"], "weights", axis=0
        ),
    ]
    if integer_bias:
        weights |= {
            "bias": rng.integers(-9, 9, CHANNELS, dtype=np.int32),
            "bias_scale": np.full(CHANNELS, 5e-4, np.float32),
            "bias_zero": np.zeros(CHANNELS, np.int32),
        }
        names = ["bias", "bias_scale", "bias_zero"]
        nodes.append(helper.make_node("DequantizeLinear", names, ["b"], "/body/bias_dequantize", axis=0))
    else:
        weights["b"] = np.zeros(CHANNELS, np.float32)
    nodes.append(helper.make_node("Conv", ["x", "w", "b"], ["output"], "/body/conv/Conv"))
    return serialized(nodes, weights)


def matrix_product() -> bytes:
    weights = {"weight": np.eye(SIDE, dtype=np.float32)}
    return serialized([helper.make_node("MatMul", ["input", "weight"], ["output"], "/mix/MatMul")], weights)


def custom_operator() -> bytes:
    node = helper.make_node("Rotate", ["input"], ["output"], "/body/body.3/turn/Rotate", domain="our.own")
    return serialized([node], {}, domains=["our.own"])


def two_types() -> bytes:
    """Two convolutions of equal size, the first in fp16 and the second, three times as wide, in fp32."""
    rng = np.random.default_rng(0)
    weights = {
        "half": rng.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float16),
        "full": rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["a"], "in", to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["a", "half"], ["b"], "/half/Conv"),
        helper.make_node("Cast", ["b"], ["c"], "out", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["c", "full"], ["output"], "/full/Conv", pads=[1] * 4),
    ]
    return serialized(nodes, weights)


def two_layers(body: str, *, conv: str, relu: str) -> bytes:
    """A 3x3 convolution in `body`, then a 1x1 convolution and a Relu, each in a type of its own."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, size, precision in (("wide", 3, body), ("narrow", 1, conv)):
        values = rng.standard_normal((CHANNELS, CHANNELS, size, size)).astype(np.float32)
        weights[name] = helper.make_tensor(name, FLOATS[precision], values.shape, values.ravel())
    nodes = [
        helper.make_node("Cast", ["input"], ["a"], "in", to=FLOATS[body]),
        helper.make_node("Conv", ["a", "wide"], ["b"], "/body/Conv", pads=[1] * 4),
        helper.make_node("Cast", ["b"], ["c"], "between", to=FLOATS[conv]),
        helper.make_node("Conv", ["c", "narrow"], ["d"], "/tail/Conv"),
        helper.make_node("Cast", ["d"], ["e"], "behind", to=FLOATS[relu]),
        helper.make_node("Relu", ["e"], ["f"], "/tail/Relu"),
        helper.make_node("Cast", ["f"], ["output"], "out", to=TensorProto.FLOAT),
    ]
    return serialized(nodes, weights)
