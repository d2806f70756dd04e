"""A graph with an open batch size that fails at another one: is it the graph, memory, or the runtime?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest, Step
from converters.ledger import Ledger
from converters.onnx_batch import check_other_batch
from converters.parity import Array
from converters.source import build_source


@pytest.fixture
def ledger(request_onnx: ConversionRequest) -> Ledger:
    exported = Step("simplified", "onnxsim", None, 1)
    return Ledger(build_source(request_onnx), lambda step: None, [exported])


def failure(request: ConversionRequest, ledger: Ledger, error: Exception) -> ConversionFailure:
    def run(inputs: Sequence[Array]) -> Sequence[Array]:
        raise error

    with pytest.raises(ConversionError) as caught:
        check_other_batch(request, ledger, run)
    assert caught.value.failure.step == "batch 2"
    assert "at batch 2" in caught.value.failure.message
    return caught.value.failure


def test_a_shape_that_does_not_fit_is_the_graphs_fault(
    request_onnx: ConversionRequest, ledger: Ledger
) -> None:
    """The runtime's own error for a Reshape whose target has the batch size in it."""
    reshape = onnx_reshape([1, 4])
    with pytest.raises(Exception, match="reshape") as refused:
        reshape.run(None, {"input": np.zeros((2, 4), np.float32)})
    found = failure(request_onnx, ledger, refused.value)
    assert found.kind == "unsupported"
    assert "fixes its batch size" in found.message
    assert "Leave dynamic_batch out" in found.advice


def onnx_reshape(shape: list[int]) -> ort.InferenceSession:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Reshape", ["input", "shape"], ["output"], "reshape")],
        "reshape",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], shape)],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def test_other_outputs_are_the_graphs_fault(request_onnx: ConversionRequest, ledger: Ledger) -> None:
    def run(inputs: Sequence[Array]) -> Sequence[Array]:
        return [np.zeros_like(value) for value in inputs]

    with pytest.raises(ConversionError) as caught:
        check_other_batch(request_onnx, ledger, run)
    assert caught.value.failure.kind == "unsupported"
    assert "fixes its batch size" in caught.value.failure.message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory for the batch"),
        RuntimeError(
            "[E:onnxruntime] bfc_arena.cc: Failed to allocate memory for requested buffer of size 9"
        ),
    ],
    ids=["Python", "ONNX Runtime"],
)
def test_missing_memory_is_told_as_that(
    request_onnx: ConversionRequest, ledger: Ledger, error: Exception
) -> None:
    found = failure(request_onnx, ledger, error)
    assert found.kind == "out_of_memory"
    assert "fixes its batch size" not in found.message
    assert "Free memory" in found.advice


def test_what_else_a_runtime_refuses_is_told_in_its_words(
    request_onnx: ConversionRequest, ledger: Ledger
) -> None:
    found = failure(request_onnx, ledger, RuntimeError("no kernel for Gelu(20) with bfloat16"))
    assert found.kind == "export_failed"
    assert "no kernel for Gelu(20)" in found.message
    assert "fixes its batch size" not in found.message


class OneImage(nn.Module):
    """A network whose own code takes one image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x.reshape(1, 32, 7, 7))


def test_a_network_that_takes_one_image_is_named(request_onnx: ConversionRequest, ledger: Ledger) -> None:
    ledger.source = dataclasses.replace(ledger.source, net=OneImage())
    with pytest.raises(ConversionError, match="fixes its batch size") as caught:
        check_other_batch(request_onnx, ledger, lambda inputs: inputs)
    assert caught.value.failure.kind == "unsupported"
