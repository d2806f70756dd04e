"""Reparameterization of whole networks in float64: nothing changes but the operators."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import models
from converters import reparameterize
from converters.reparameterization import reparameterize_with_report

# Name, input side, constructor options, the BatchNorms that algebra leaves.
NETWORKS = [
    ("resnet18", 64, {}, 0),
    ("mobilenetv2_100", 64, {}, 0),
    ("efficientnet_b0", 64, {}, 0),
    ("regnety_002", 64, {}, 0),
    ("convnext_atto", 64, {}, 0),
    ("efficientformer_l1", 224, {}, 0),
    ("poolformer_s12", 64, {}, 0),
    ("mobilevit_xxs", 64, {}, 0),
    ("repvgg_a0", 64, {}, 0),
    ("mobileone_s0", 64, {}, 0),
    ("fastvit_t8", 64, {}, 0),
    ("repvit_m0_9", 64, {}, 0),
    ("levit_128s", 224, {}, 0),
    ("nextvit_small", 64, {}, 0),
    ("starnet_s1", 64, {}, 0),
    ("pvt_v2_b0", 64, {}, 0),
    ("twins_svt_small", 64, {}, 0),
    ("swin_tiny_patch4_window7_224", 56, {"img_size": 56}, 0),
    ("efficientformerv2_s0", 224, {}, 0),
    ("shvit_s1", 64, {}, 0),
    ("swiftformer_xs", 64, {}, 0),
    ("twins_pcpvt_small", 64, {}, 0),
    ("mobilevitv2_050", 64, {}, 0),
    ("densenet121", 64, {}, 62),  # BatchNorm after a concatenation, before a ReLU
]


def randomized(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    net = net.double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                uniform(module.running_mean, -0.3, 0.3)
                uniform(module.running_var, 0.5, 1.5)
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.3, 0.3)
            for name in ("gamma", "scale"):
                if isinstance(scale := getattr(module, name, None), nn.Parameter):
                    uniform(scale, 0.5, 1.5)
    return net


@pytest.mark.parametrize(("name", "side", "options", "left"), NETWORKS, ids=[n[0] for n in NETWORKS])
def test_timm_network(name: str, side: int, options: dict[str, int], left: int) -> None:
    net = randomized(timm.create_model(name, **options))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.randn(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fused, report = reparameterize_with_report(net, x)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-8, atol=1e-10)
    assert report.batchnorms_left == left == sum(isinstance(m, _BatchNorm) for m in fused.modules())
    assert len(report.left_because) >= left
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_layer_scales_of_networks_are_folded_where_a_layer_precedes_them() -> None:
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    convnext = reparameterize_with_report(randomized(timm.create_model("convnext_atto")), x)
    assert convnext[1].folded == {"layer_scale": 12}
    assert all(block.gamma is None for stage in convnext[0].stages for block in stage.blocks)
    _, poolformer = reparameterize_with_report(randomized(timm.create_model("poolformer_s12")), x)
    assert poolformer.folded == {"layer_scale": 12}  # of 24: the others scale a pooled difference
    assert len(poolformer.left_because) == 12


def test_names_and_activations_stay() -> None:
    """timm's BatchNormAct2d is its own activation: what remains of it keeps its place and name."""
    net = randomized(timm.create_model("mobilenetv2_100"))
    fused = reparameterize(net, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    assert isinstance(fused.bn1, nn.ReLU6)
    assert [name for name, _ in net.named_children()] == [name for name, _ in fused.named_children()]


def test_more_is_folded_than_timm_itself_does() -> None:
    """timm leaves Next-ViT's last BatchNorm, before pooling and classifier, and ConvNorm's."""
    net = randomized(timm.create_model("nextvit_small"))
    own = sum(isinstance(m, _BatchNorm) for m in reparameterize_model(net).modules())
    ours = sum(isinstance(m, _BatchNorm) for m in reparameterize(net).modules())
    assert (own > 0, ours) == (True, 0)


def test_input_size_is_taken_from_the_network() -> None:
    """LeViT runs at 224 only; no example is given."""
    _, report = reparameterize_with_report(randomized(timm.create_model("levit_128s")))
    assert report.batchnorms_left == 0


@pytest.mark.parametrize("name", sorted(name for name in models.MODELS if name.startswith("block/")))
def test_our_blocks_have_no_batchnorm_left(name: str) -> None:
    options = {"out_channels": 128} if name == "block/ntb" else {}
    spec = models.ModelSpec.of(name, resolution=14, in_channels=96, **options)
    net = models.instantiate(spec).double()
    x = torch.randn(spec.input_shape(2), dtype=torch.float64)
    fused, report = reparameterize_with_report(net, x)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-8, atol=1e-10)
    assert report.batchnorms_left == 0


def test_our_next_vit_has_no_batchnorm_left() -> None:
    net = models.instantiate(models.ModelSpec.of("nextvit_small", resolution=64)).double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    fused, report = reparameterize_with_report(net, x)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-8, atol=1e-10)
    assert report.batchnorms_left == 0
    assert sum(report.folded.values()) >= 61


def test_failing_contract_of_a_library_is_reported_and_the_module_left() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.extra = nn.Conv2d(3, 3, 1)

        def reparameterize(self) -> None:
            del self.extra
            raise KeyError("identity")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + self.extra(x)

    net = nn.Sequential(Broken(), nn.BatchNorm2d(3)).double().eval()
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    fused, report = reparameterize_with_report(net, x)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x))
    assert "0: its own reparameterize() failed: KeyError" in " ".join(report.left_because)


def test_in_place_contract_of_a_library_is_used() -> None:
    class Branches(nn.Module):
        """RepVGG's own name for it: the method merges two branches in place."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def switch_to_deploy(self) -> None:
            if self.b is not None:
                self.a.weight.add_(self.b.weight)
                self.a.bias.add_(self.b.bias)
                self.b = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) if self.b is None else self.a(x) + self.b(x)

    net = nn.Sequential(Branches()).eval()
    x = torch.randn(1, 3, 5, 5)
    fused, report = reparameterize_with_report(net, x)
    assert report.folded == {"library_switch_to_deploy": 1}
    assert net[0].b is not None
    assert fused[0].b is None
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x))
