"""An ONNX file as somebody may bring it along, small enough to be made in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[onnx.ModelProto], None]


def net(
    path: Path,
    *,
    batch: int | str = 1,
    side: int | str = 32,
    kind: int = TensorProto.FLOAT,
    seed: int = 0,
    change: Change = lambda model: None,
) -> Path:
    """A convolution, a ReLU and a mean: (B, 3, S, S) -> (B, 8); `change` is made before it is written."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weight = np.random.default_rng(seed).standard_normal((8, 3, 3, 3)).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["maps"], "conv", strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("ReduceMean", ["positive", "axes"], ["scores"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, [batch, 3, side, side])],
        [helper.make_tensor_value_info("scores", kind, [batch, 8])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def gpu_kernel(model: onnx.ModelProto) -> None:
    """ONNX Runtime has it for CUDA alone."""
    model.graph.node[1].op_type, model.graph.node[1].domain = "NhwcConv", "com.microsoft"
    model.graph.node[1].input.append("weight")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
