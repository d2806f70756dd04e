"""Small ONNX graphs made by hand for the tests of types, 16-bit rewriting and quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters.keys import OPSET

FLOAT = TensorProto.FLOAT


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    """A node named after its output."""
    return helper.make_node(operator, inputs, [output], output, **attributes)


def model(
    nodes: Sequence[NodeProto],
    weights: dict[str, np.ndarray],
    shape: Sequence[int],
    out: Sequence[int],
    *,
    kind: int = FLOAT,
) -> onnx.ModelProto:
    """A graph from `x` of `shape` and element type `kind` to `y` of shape `out`; weights as they are."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def healthy() -> onnx.ModelProto:
    """Convolution, ReLU and a pooled classifier, its sizes computed from the input's shape."""
    nodes = [
        node("Conv", ["x", "w", "b"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "r"),
        node("ReduceMean", ["r", "axes"], "m", keepdims=0),
        node("Shape", ["m"], "s"),
        node("Reshape", ["m", "s"], "f"),
        node("MatMul", ["f", "v"], "y"),
    ]
    weights = {
        "w": normal(8, 4, 3, 3, scale=0.2),
        "b": normal(8, seed=1),
        "axes": np.array([2, 3], np.int64),
        "v": normal(8, 5, seed=2),
    }
    return model(nodes, weights, [2, 4, 6, 6], [2, 5])


def wide() -> onnx.ModelProto:
    """Two matrix products around a hand-written LayerNorm whose squares are beyond fp16's range."""
    nodes = [
        node("MatMul", ["x", "w"], "a"),
        node("Mul", ["a", "thousand"], "big"),
        node("ReduceMean", ["big", "axes"], "mean"),
        node("Sub", ["big", "mean"], "off"),
        node("Mul", ["off", "off"], "square"),
        node("ReduceMean", ["square", "axes"], "variance"),
        node("Sqrt", ["variance"], "deviation"),
        node("Div", ["off", "deviation"], "n"),
        node("MatMul", ["n", "v"], "y"),
    ]
    weights = {
        "w": normal(16, 32, scale=0.3),
        "thousand": np.array(1000, np.float32),
        "axes": np.array([-1], np.int64),
        "v": normal(32, 8, seed=1),
    }
    return model(nodes, weights, [4, 16], [4, 8])


def attention(tokens: int = 1024) -> onnx.ModelProto:
    """Attention over so many tokens that each of its weights is far below 1/256."""
    nodes = [
        node("MatMul", ["x", "w"], "scores"),
        node("Softmax", ["scores"], "weights", axis=-1),
        node("MatMul", ["weights", "v"], "y"),
    ]
    weights = {"w": normal(8, tokens, scale=0.1), "v": normal(tokens, 3, seed=1)}
    return model(nodes, weights, [1, 6, 8], [1, 6, 3])


def masked() -> onnx.ModelProto:
    """Attention scores with a mask of -1e9, far beyond fp16's range."""
    mask = np.where(np.tri(6, dtype=bool), 0, -1e9).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], "scores"),
        node("Add", ["scores", "mask"], "hidden"),
        node("Softmax", ["hidden"], "weights", axis=-1),
        node("MatMul", ["weights", "v"], "y"),
    ]
    return model(nodes, {"w": normal(8, 6), "mask": mask, "v": normal(6, 3, seed=1)}, [2, 6, 8], [2, 6, 3])
