"""Everything exports, fused or not: torch.export, and ONNX by both exporters, run in ONNX Runtime."""

from __future__ import annotations

import collections
import warnings

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import models
from models.folding import fuse_all
from models.spec import ModelSpec

BLOCKS = [name for name in models.MODELS if name.startswith("block/")]
TRIED = [ModelSpec.of(name, resolution=14, in_channels=128) for name in BLOCKS]


def onnx_graph(net: nn.Module, x: torch.Tensor, path, *, dynamo: bool) -> onnx.GraphProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of the older exporter
        if dynamo:
            torch.onnx.export(net, (x,), path, dynamo=True, external_data=False, verbose=False)
        else:
            torch.onnx.export(net, (x,), path, dynamo=False, opset_version=17)
    return onnx.load(path).graph


def assert_runtime_agrees(path, x: torch.Tensor, expected: torch.Tensor) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert (torch.from_numpy(output) - expected).abs().max() <= 5e-6 * expected.abs().max()


def assert_exports(net: nn.Module, x: torch.Tensor) -> None:
    exported = torch.export.export(net, (x,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), net(x))


@pytest.mark.parametrize("spec", TRIED, ids=lambda spec: spec.name)
def test_torch_export_of_blocks(spec):
    net, x = models.instantiate(spec), torch.randn(spec.input_shape(1))
    assert_exports(net, x)
    assert_exports(fuse_all(net), x)


def test_torch_export_of_next_vit():
    spec = ModelSpec.of("nextvit_small", resolution=64)
    assert_exports(fuse_all(models.instantiate(spec)), torch.randn(spec.input_shape(1)))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(("name", "nodes"), [("block/ncb", 8), ("block/ntb", 35)])
def test_onnx_of_the_next_vit_blocks(tmp_path, name, nodes, dynamo):
    spec = ModelSpec.of(name, resolution=14, in_channels=128)
    net, x = models.instantiate(spec), torch.randn(spec.input_shape(2))
    with torch.no_grad():
        expected = net(x)
    for fused in (net, fuse_all(net)):
        graph = onnx_graph(fused, x, tmp_path / "block.onnx", dynamo=dynamo)
        assert_runtime_agrees(tmp_path / "block.onnx", x, expected)
    operators = collections.Counter(node.op_type for node in graph.node)
    assert operators["BatchNormalization"] == 0
    assert len(graph.node) <= nodes


def test_onnx_of_next_vit(tmp_path):
    """Where sides are odd: pooling rounds up and attention leaves tokens over, in the runtime as in torch."""
    spec = ModelSpec.of("nextvit_small", resolution=75)
    net, x = models.instantiate(spec), torch.randn(spec.input_shape(1))
    graph = onnx_graph(fuse_all(net), x, tmp_path / "net.onnx", dynamo=False)
    with torch.no_grad():
        assert_runtime_agrees(tmp_path / "net.onnx", x, net(x))
    operators = collections.Counter(node.op_type for node in graph.node)
    assert operators["BatchNormalization"] == 0
    assert operators["Transpose"] == 12
    assert len(graph.node) <= 281


@pytest.mark.slow
def test_onnx_of_next_vit_by_the_newer_exporter(tmp_path):
    spec = ModelSpec.of("nextvit_small")
    net, x = models.instantiate(spec), torch.randn(spec.input_shape(1))
    graph = onnx_graph(fuse_all(net), x, tmp_path / "net.onnx", dynamo=True)
    with torch.no_grad():
        assert_runtime_agrees(tmp_path / "net.onnx", x, net(x))
    assert len(graph.node) <= 257


def test_lsa_stays_within_the_rank_that_core_ml_has():
    spec = ModelSpec.of("block/lsa", resolution=14, in_channels=64)
    exported = torch.export.export(models.instantiate(spec), (torch.randn(spec.input_shape(1)),))
    values = (node.meta.get("val") for node in exported.graph.nodes)
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) == 5
