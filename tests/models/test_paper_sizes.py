"""Every network of the comparison has the size that its paper prints."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import models
from converters import reparameterize
from models.counting import params_m
from models.paper_sizes import FUSED, PAPER_SIZES, PaperSize

BENCH = Path(__file__).parents[2] / "bench.toml"
PRODUCTS = {"aten.bmm", "aten.baddbmm"}  # of two activations; those with weights are mm and addmm

# The smallest of each family, built on the meta device in a moment; the rest takes half a minute.
QUICK = {
    *("mobilevig_ti", "efficientmod_xxs", "fcaformer_l1", "cswin_tiny", "pvt_tiny", "vcmamba_s"),
    *("plainmamba_l1", "mobile_former_96m", "pyramid_vig_ti"),
    *("nextvit_small", "timm/resnet50", "timm/convnext_tiny", "timm/swin_tiny_patch4_window7_224"),
    *("timm/twins_svt_small", "timm/twins_pcpvt_small", "timm/pvt_v2_b0", "timm/poolformer_s12"),
    *("timm/efficientformer_l1", "timm/mobilenetv2_100", "timm/mobilevit_xxs", "timm/mobilevitv2_050"),
    *("timm/mobileone_s1", "timm/shvit_s1", "timm/swiftformer_xs"),
}


def _marked(size: PaperSize) -> object:
    marks = () if size.model in QUICK else pytest.mark.slow
    return pytest.param(size, id=f"{size.model}-{size.resolution}", marks=marks)


@pytest.mark.parametrize("size", [_marked(size) for size in PAPER_SIZES])
def test_a_network_has_the_size_that_its_paper_prints(size: PaperSize) -> None:
    net = _built(size)
    for name, counted in (("params_m", _params_m(net, size)), ("gmacs", _gmacs(net, size))):
        printed = getattr(size, name)
        if name in size.off:
            assert counted / float(printed) - 1 == pytest.approx(size.off[name], abs=0.002)
        else:
            assert counted == _near(printed), name


def _built(size: PaperSize) -> nn.Module:
    if size.form == FUSED:
        example = torch.randn(1, 3, size.resolution, size.resolution)
        return reparameterize(models.build(size.model), example)
    with torch.device("meta"):
        return models.build(size.model)


def _params_m(net: nn.Module, size: PaperSize) -> float:
    return params_m(net) if size.classifier else params_m(net) - params_m(net.get_submodule("head"))


def _gmacs(net: nn.Module, size: PaperSize) -> float:
    device = next(net.parameters()).device
    counter, elementwise = FlopCounterMode(display=False), _Elementwise(net, size.elementwise)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        net(torch.zeros(1, 3, size.resolution, size.resolution, device=device))
    counts = counter.get_flop_counts()["Global"].items()
    products = sum(flops for op, flops in counts if size.products or str(op) not in PRODUCTS)
    return products / 2e9 + elementwise.operations / 1e9


class _Elementwise:
    """Counts the operations of modules that `PaperSize.elementwise` names, while the network runs once."""

    def __init__(self, net: nn.Module, per_value: Mapping[str, int]) -> None:
        self.operations, self._per_value = 0, per_value
        for module in net.modules():
            if type(module).__name__ in per_value:
                module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        self.operations += output.numel() * self._per_value[type(module).__name__]


def _near(printed: str) -> object:
    """Within 2 %, or within the rounding of the printed digits where that is more."""
    unit = 10.0 ** -len(printed.partition(".")[2])
    return pytest.approx(float(printed), rel=0.02, abs=0.5 * unit)


def test_what_is_off_is_past_the_bar_and_explained() -> None:
    for size in PAPER_SIZES:
        assert bool(size.off) == bool(size.why)
        assert all(abs(share) > 0.02 for share in size.off.values())


def test_the_variants_suite_compares_every_network_that_a_paper_sizes() -> None:
    matrices = tomllib.loads(BENCH.read_text())["suites"]["variants"]["matrix"]
    compared = [(name, side) for m in matrices for name in m["models"] for side in m["resolutions"]]
    assert sorted(compared) == sorted((size.model, size.resolution) for size in PAPER_SIZES)
