"""8-bit graphs in the CPU runtimes: run as such, and refused where they would be computed in fp32."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from runners.measurement import Failure, Job, Round
from runners.process import run_job

MakeJob = Callable[..., Job]


def graph(computes: str | None) -> onnx.ModelProto:
    """A 3x3 convolution between QuantizeLinear pairs, on (1, 16, 24, 24)."""
    weight = np.random.default_rng(1).integers(-127, 128, (16, 16, 3, 3), dtype=np.int8)
    arrays = {
        "weight": weight,
        "bias": np.zeros(16, np.int32),
        "coarse": np.array(0.03, np.float32),
        "fine": np.array(0.01, np.float32),
        "product": np.array(0.0003, np.float32),
        "wide": np.array(0.5, np.float32),
        "middle": np.array(128, np.uint8),
        "zero": np.array(0, np.int8),
        "zero32": np.array(0, np.int32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "coarse", "middle"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "coarse", "middle"], ["d"]),
        helper.make_node("DequantizeLinear", ["weight", "fine", "zero"], ["w"]),
        helper.make_node("DequantizeLinear", ["bias", "product", "zero32"], ["b"]),
        helper.make_node("Conv", ["d", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["c", "wide", "middle"], ["e"]),
        helper.make_node("DequantizeLinear", ["e", "wide", "middle"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 24, 24]) for name in "xy")
    stored = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    made = helper.make_graph(nodes, "pairs", [x], [y], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    if computes is not None:
        model.metadata_props.add(key="deploybench.computes", value=computes)
    return model


def saved(folder: Path, computes: str | None) -> Any:
    """The file and its tensors as `make_job` takes them; references from onnx's own evaluator."""
    model, path, tensors = graph(computes), folder / "model.onnx", folder / "model.npz"
    path.write_bytes(model.SerializeToString())
    inputs = [np.random.default_rng(k).standard_normal((1, 16, 24, 24), np.float32) for k in range(2)]
    references = [ReferenceEvaluator(model).run(None, {"x": value})[0] for value in inputs]
    arrays = {f"input_{k}": value for k, value in enumerate(inputs)}
    np.savez(tensors, **arrays, **{f"reference_{k}": value for k, value in enumerate(references)})
    return SimpleNamespace(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), tensors=tensors)


def run(job: Job) -> Round | Failure:
    return run_job(replace(job, precision="int8", tolerance=0.05))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_eight_bit_graph_is_timed(make_job: MakeJob, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend, reason=f"the package {backend} is not installed")
    outcome = run(make_job(backend, saved(tmp_path, "int8")))
    assert isinstance(outcome, Round), outcome
    if backend == "openvino":
        assert outcome.protocol.options["executed_precision"] == "int8"


def test_label_is_not_believed_against_the_types(make_job: MakeJob, tmp_path: Path) -> None:
    """The file says that its nodes compute in fp32, whatever the job calls it."""
    outcome = run(make_job("onnxruntime", saved(tmp_path, "fp32")))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "precision_mismatch"
    assert "the graph runs fp32 where int8 was asked for" in outcome.message


def test_eight_bit_graph_is_not_fp32(make_job: MakeJob, tmp_path: Path) -> None:
    outcome = run_job(make_job("onnxruntime", saved(tmp_path, "int8"), tolerance=0.05))
    assert isinstance(outcome, Failure)
    assert "the graph runs int8 where fp32 was asked for" in outcome.message


@pytest.mark.parametrize("level", ["disable", "basic"])
def test_pairs_that_are_not_fused_are_fp32(make_job: MakeJob, tmp_path: Path, level: str) -> None:
    options = {"runtime": {"graph_optimization": level}}
    outcome = run(make_job("onnxruntime", saved(tmp_path, "int8"), options=options))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "precision_mismatch"
    assert f"graph_optimization={level}" in outcome.message


@pytest.mark.parametrize(("level", "operator"), [("basic", "Conv"), ("extended", "QLinearConv")])
def test_where_the_runtime_fuses_pairs(tmp_path: Path, level: str, operator: str) -> None:
    """Read from the graph that ONNX Runtime optimized: the reason for the refusal above."""
    import onnxruntime as ort

    from runners.ort_session import FUSING_LEVELS, LEVELS

    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(graph("int8").SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert operator in {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    assert (level in FUSING_LEVELS) == (operator == "QLinearConv")
