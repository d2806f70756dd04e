"""Next-ViT: the published sizes, the published structure, and timm's implementation to rounding."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

import models
from models.counting import count
from models.folding import fuse_all
from models.nextvit import VARIANTS, NextViT
from models.nextvit_blocks import EMHSA, MHCA, NCB, NTB, PatchEmbed, default_reduction, mhsa_width
from models.spec import ModelSpec

# Parameters in M and GMACs at 224 and 384, from the table of the paper and the official README.
PUBLISHED = {
    "nextvit_small": (31.7, 5.8, 17.3),
    "nextvit_base": (44.8, 8.3, 24.6),
    "nextvit_large": (57.8, 10.8, 32.0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name):
    """To one unit of the last published digit: 31.76 M is published as 31.7, 17.22 G as 17.3."""
    params_m, gmacs_224, gmacs_384 = PUBLISHED[name]
    net = models.build(name)
    at_224 = count(net, (1, 3, 224, 224))
    assert at_224.params_m == pytest.approx(params_m, abs=0.1)
    assert at_224.gmacs == pytest.approx(gmacs_224, abs=0.05)
    assert count(net, (1, 3, 384, 384)).gmacs == pytest.approx(gmacs_384, abs=0.1)


def paired(name: str, scramble) -> tuple[nn.Module, NextViT]:
    """timm's network and ours with its weights, float64."""
    theirs = scramble(timm.create_model(name))
    ours = models.build(name).double()
    ours.load_state_dict(ours.checkpoint_names(theirs.state_dict()))
    return theirs, ours


def assert_same(pair: tuple[nn.Module, NextViT], *shape: int) -> None:
    x = torch.randn(*shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(pair[1](x), pair[0](x), rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def small_pair(module_scramble):
    return paired("nextvit_small", module_scramble)


@pytest.mark.parametrize("resolution", [32, 192, 224, 384])
def test_equals_timm(small_pair, resolution):
    assert_same(small_pair, 2 if resolution == 32 else 1, 3, resolution, resolution)


@pytest.mark.parametrize("resolution", [33, 90, 100, 201])
def test_equals_timm_where_sides_are_odd_and_tokens_are_left_over(small_pair, resolution):
    assert_same(small_pair, 1, 3, resolution, resolution)


@pytest.mark.parametrize("name", ["nextvit_base", pytest.param("nextvit_large", marks=pytest.mark.slow)])
def test_larger_variants_equal_timm(scramble, name):
    assert_same(paired(name, scramble), 1, 3, 64, 96)


def test_equals_timm_in_float32(small_pair):
    theirs, ours = (copy.deepcopy(net).float() for net in small_pair)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(x)
        assert (ours(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", VARIANTS)
def test_hybrid_strategy(name):
    """Stage ends and widths as published: N = 4 NCBs before each NTB of stage 3, none in stage 1."""
    depth_3 = {"nextvit_small": 10, "nextvit_base": 20, "nextvit_large": 30}[name]
    net = models.build(name)
    kinds = [["T" if isinstance(block, NTB) else "C" for block in stage] for stage in net.stages]
    assert ["".join(kind) for kind in kinds] == ["CCC", "CCCT", "CCCCT" * (depth_3 // 5), "CCT"]
    ends = torch.tensor([len(stage) for stage in net.stages]).cumsum(0) - 1
    assert ends.tolist() == [2, 6, 6 + depth_3, 9 + depth_3]
    with torch.no_grad():
        x = net.stem(torch.zeros(1, 3, 64, 64))
        shapes = [tuple((x := stage(x)).shape[1:]) for stage in net.stages]
    assert shapes == [(96, 16, 16), (256, 8, 8), (512, 4, 4), (1024, 2, 2)]


@pytest.mark.parametrize(
    ("channels", "expected"), [(256, 192), (512, 384), (1024, 768), (128, 96), (96, 64), (64, 32)]
)
def test_attention_width(channels, expected):
    assert mhsa_width(channels) == expected


def test_every_block_width_leaves_both_mixers_whole_heads():
    for channels in range(64, 2049, 32):
        width = mhsa_width(channels)
        assert width % 32 == 0
        assert (channels - width) % 32 == 0
        assert 0 < width < channels


@pytest.mark.parametrize(("side", "reduction"), [(56, 8), (28, 4), (14, 2), (7, 1), (64, 8), (16, 2), (1, 1)])
def test_default_reduction_keeps_about_49_keys(side, reduction):
    assert default_reduction(side) == reduction


def test_ntb_builder_counts_the_side_after_its_stride():
    assert models.build("block/ntb", in_channels=192, out_channels=256, stride=2, resolution=56).e_mhsa.pool
    net = models.build("block/ntb", in_channels=128, stride=2, resolution=14)
    assert isinstance(net.e_mhsa.pool, nn.Identity)
    net = models.build("block/ntb", in_channels=128, resolution=14, reduction=7)
    assert net.e_mhsa.pool.kernel_size == (1, 49)


def test_leftover_tokens_are_in_no_average(scramble):
    attention = scramble(EMHSA(32, reduction=2))
    x = torch.randn(1, 32, 3, 3, dtype=torch.float64)
    changed = x.clone()
    changed[..., 2, 2] += 1  # the ninth token: two averages of four end before it
    with torch.no_grad():
        before, after = attention(x), attention(changed)
    torch.testing.assert_close(before[..., :2, :], after[..., :2, :])
    assert (before[..., 2, 2] - after[..., 2, 2]).abs().max() > 1e-3


def test_fused_network_is_equal_and_has_no_batchnorm(small_pair):
    net = small_pair[1]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fused = fuse_all(net)
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-11, atol=1e-11)
    assert not [module for module in fused.modules() if "BatchNorm" in type(module).__name__]
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_fused_network_is_equal_in_float32():
    net = models.instantiate(ModelSpec.of("nextvit_small"))
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = net(x)
        assert (fuse_all(net)(x) - expected).abs().max() <= 5e-6 * expected.abs().max()


def test_fused_network_keeps_its_blocks_by_name():
    fused = fuse_all(models.build("nextvit_small"))
    counted = {kind: sum(isinstance(m, kind) for m in fused.modules()) for kind in (NCB, NTB, MHCA, EMHSA)}
    assert counted == {NCB: 16, NTB: 4, MHCA: 20, EMHSA: 4}
    assert sum(isinstance(m, PatchEmbed) for m in fused.modules()) == 24


def test_other_classes_and_channels():
    net = models.build("nextvit_small", num_classes=10, in_chans=1)
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 10)
