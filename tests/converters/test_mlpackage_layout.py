"""The Neural Engine's layout computes the same: compared in float64, where only a wrong form is left."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import models
from converters import reparameterize
from converters.forms_of_attention import TwinsWindows
from converters.mlpackage_graph import exported
from converters.mlpackage_layout import LAYOUTS, relayout


def randomized(net: nn.Module) -> nn.Module:
    """In eval mode, in float64, with BatchNorm statistics and affine parameters that are not trivial."""
    generator = torch.Generator().manual_seed(0)
    net = net.eval().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            for tensor in (module.weight, module.bias):
                tensor.data = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator).double()
            module.running_var = torch.rand(module.num_features, generator=generator).double() + 0.5
    return net


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_same(net: nn.Module, other: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected, found = net(x), other(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("side", "reduction", "stride"), [(14, 2, 1), (8, 4, 1), (7, 1, 1), (9, 2, 1), (14, 2, 2)]
)
def test_ntb(side: int, reduction: int, stride: int, fused: bool) -> None:
    net = randomized(
        models.build("block/ntb", in_channels=128, resolution=side, reduction=reduction, stride=stride)
    )
    x = inputs(2, 128, side, side)
    before = reparameterize(net, x) if fused else net
    after, changed = relayout(before)
    assert changed == {"EMHSA": 1}
    assert_same(net, after, x)


def test_transformer_block() -> None:
    net = randomized(models.build("block/transformer", in_channels=96, resolution=5))
    x = inputs(2, 96, 5, 5)
    for before in (net, reparameterize(net, x)):
        after, changed = relayout(before)
        assert changed == {"TransformerBlock": 1}
        assert_same(net, after, x)


@pytest.mark.slow
def test_nextvit_small() -> None:
    net = randomized(models.build("nextvit_small", num_classes=10))
    x = inputs(1, 3, 96, 96)
    after, changed = relayout(reparameterize(net, x))
    assert changed == {"EMHSA": 4}
    assert_same(net, after, x)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (9, 12)])
def test_twins_windows_with_and_without_padding(height: int, width: int) -> None:
    from timm.models.twins import LocallyGroupedAttn

    net = randomized(LocallyGroupedAttn(64, num_heads=2, ws=7))
    x, after = inputs(2, height * width, 64), TwinsWindows(net)
    with torch.no_grad():
        torch.testing.assert_close(after(x, (height, width)), net(x, (height, width)), rtol=1e-12, atol=1e-12)


def test_the_network_is_left_as_it_was() -> None:
    net = randomized(models.build("block/ntb", in_channels=128, resolution=7))
    before, kinds = copy.deepcopy(net.state_dict()), [type(module) for module in net.modules()]
    relayout(net)
    assert [type(module) for module in net.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_has_no_form_of_its_own_is_only_copied() -> None:
    net = randomized(models.build("block/ncb", in_channels=32, resolution=7))
    after, changed = relayout(net)
    assert changed == {}
    assert after is not net
    assert_same(net, after, inputs(1, 32, 7, 7))


def test_every_line_of_the_table_names_a_class() -> None:
    from pkgutil import resolve_name

    for place in LAYOUTS:
        module, _, name = place.rpartition(".")
        found = resolve_name(f"{module}:{name}")
        assert f"{found.__module__}.{found.__qualname__}" == place


def test_one_transpose_and_two_reshapes_per_attention_in_whatever_number_of_heads() -> None:
    net = reparameterize(randomized(models.build("block/ntb", in_channels=256, resolution=14)))
    program, _ = exported(relayout(net)[0], inputs(1, 256, 14, 14))
    names = [str(node.target) for node in program.graph_module.graph.nodes if node.op == "call_function"]
    moved = [name for name in names if any(kind in name for kind in ("permute", "transpose"))]
    assert moved == ["aten.transpose.int"]
    assert sum(name in ("aten.view.default", "aten.reshape.default") for name in names) == 2
    assert names.count("aten.einsum.default") == 2 * 6
