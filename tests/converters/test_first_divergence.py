"""The first module that differs is found: in a folded network, and in a tampered ONNX graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from converters import onnx_graph
from converters.divergence import first_divergence, module_outputs
from converters.onnx_exporters import EXPORTERS
from converters.parity import Array
from converters.reparameterization import reparameterize


def network() -> nn.Module:
    """Two nested stages of conv and BatchNorm, a branch beside the second."""
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.act(self.norm(self.conv(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 1)
            self.stages = nn.Sequential(nn.Sequential(Block(), Block()), nn.Sequential(Block()))
            self.branch = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.stages(x) + self.branch(x)

    net = Net().eval()
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if "norm" in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return net


def example() -> Array:
    return np.random.default_rng(0).standard_normal((1, 3, 9, 9), dtype=np.float32)


def test_equal_networks_do_not_diverge() -> None:
    net = network()
    outputs = module_outputs(net, example())
    assert next(iter(outputs)) == "stem"
    assert list(outputs)[-1] == ""
    assert first_divergence(outputs, outputs, 1e-4) == ""


def test_a_correct_fold_is_not_mistaken_for_a_divergence() -> None:
    net = network()
    fused = reparameterize(net, torch.from_numpy(example()))
    reference, ours = module_outputs(net, example()), module_outputs(fused, example())
    assert not np.allclose(reference["stages.0.0.conv"], ours["stages.0.0.conv"])
    assert first_divergence(reference, ours, 1e-4) == ""


@pytest.mark.parametrize("broken", ["stem", "stages.0.1.conv", "stages.1.0.conv", "branch"])
def test_broken_module_of_a_folded_network_is_named(broken: str) -> None:
    net = network()
    fused = reparameterize(net, torch.from_numpy(example()))
    with torch.no_grad():
        fused.get_submodule(broken).weight.mul_(1.5)
    reference, ours = module_outputs(net, example()), module_outputs(fused, example())
    assert first_divergence(reference, ours, 1e-4) == broken


def test_difference_outside_of_all_modules() -> None:
    reference = module_outputs(network(), example())
    assert first_divergence(reference, {**reference, "": reference[""] + 1}, 1e-4) == "the network"


@pytest.mark.parametrize("exporter", list(EXPORTERS))
@pytest.mark.parametrize("simplified", [False, True])
def test_tampered_onnx_graph(exporter: str, simplified: bool) -> None:
    net = network()
    exported = EXPORTERS[exporter](net, torch.from_numpy(example()))
    proto = onnx_graph.simplify(exported.proto) if simplified else exported.proto
    reference = module_outputs(net, example())
    computed = onnx_graph.module_outputs(proto, exported.scopes, example())
    assert first_divergence(reference, computed, 1e-4) == ""
    third = [node for node in proto.graph.node if node.op_type == "Conv"][2]  # stem, 0.0, 0.1
    tamper(proto, third.input[1])
    computed = onnx_graph.module_outputs(proto, exported.scopes, example())
    assert first_divergence(reference, computed, 1e-4).startswith("stages.0.1")


def tamper(proto: onnx.ModelProto, name: str) -> None:
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, name))
