"""Every block: at any stage shape, equal to timm's block of that paper, and equal to itself when fused."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import timm
import torch
from timm.models import _efficientnet_blocks, byobnet, convnext, efficientformer, metaformer, resnet, twins
from timm.models import vision_transformer as vit
from torch import nn

import models
from models.counting import count
from models.folding import fuse_all
from models.info import INFO
from models.poolformer import Pooling

BLOCKS = [name for name in models.MODELS if name.startswith("block/")]
RESHAPING = [name for name in BLOCKS if not INFO[name].reshape]
STAGES = [(56, 96), (28, 192), (14, 384), (7, 768)]
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def channels_for(name: str, channels: int) -> int:
    return max(channels, INFO[name].minimum_channels)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("side", "channels"), STAGES)
def test_keeps_the_shape_of_every_stage(name, side, channels):
    channels = channels_for(name, channels)
    net = models.build(name, in_channels=channels, resolution=side)
    assert not net.training
    with torch.no_grad():
        assert net(torch.zeros(1, channels, side, side)).shape == (1, channels, side, side)


@pytest.mark.parametrize("name", RESHAPING)
@pytest.mark.parametrize("side", [14, 15])
def test_stride_and_new_channels(name, side):
    net = models.build(name, in_channels=64, out_channels=128, stride=2, resolution=side)
    with torch.no_grad():
        assert net(torch.zeros(2, 64, side, side)).shape == (2, 128, (side + 1) // 2, (side + 1) // 2)
        net = models.build(name, in_channels=64, out_channels=128, resolution=side)
        assert net(torch.zeros(2, 64, side, side)).shape == (2, 128, side, side)


VARIATIONS = [{}, *({"out_channels": 160}, {"stride": 2}, {"out_channels": 160, "stride": 2})]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in BLOCKS for options in (VARIATIONS if name in RESHAPING else VARIATIONS[:1])],
    ids=str,
)
def test_fused_block_is_equal_and_has_no_batchnorm(scramble, name, options):
    net = scramble(models.build(name, in_channels=128, resolution=14, **options))
    fused, x = fuse_all(net), torch.randn(2, 128, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(fused(x), expected, **EXACT)
    assert (expected[0] - expected[1]).std() > 0.01  # the input reaches the output
    assert not [module for module in fused.modules() if "BatchNorm" in type(module).__name__]
    assert type(fused) is type(net)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("block/ncb", {"conv_bn": 1, "bn_conv": 1}),
        ("block/ntb", {"conv_bn": 3, "bn_conv": 3}),
        ("block/bottleneck", {"conv_bn": 3}),
        ("block/convnext", {"layer_scale": 1}),
        ("block/transformer", {}),
        ("block/lsa", {}),
        ("block/poolformer", {"layer_scale": 2}),
        ("block/mbconv", {"conv_bn": 3}),
        ("block/repvgg", {"conv_bn": 3, "branch": 2}),
        ("block/mobileone", {"conv_bn": 11, "branch": 9}),
        ("block/efficientformer4d", {"conv_bn": 2, "layer_scale": 1}),
    ],
)
def test_what_fusion_removes(name, expected):
    net = models.build(name, in_channels=128, resolution=14)
    norms = sum("BatchNorm" in type(module).__name__ for module in net.modules())
    folded: Counter[str] = Counter()
    fuse_all(net, folded=folded)
    assert folded == expected
    assert folded["conv_bn"] + folded["bn_conv"] + folded["bn_linear"] == norms


def repvgg_order(state: list[torch.Tensor]) -> list[torch.Tensor]:
    """timm has the identity's five tensors first, we have them last."""
    return state[5:] + state[:5]


class Twins(nn.Module):
    """timm's block takes tokens and the map's size."""

    def __init__(self) -> None:
        super().__init__()
        self.block = twins.Block(64, num_heads=2, ws=7, norm_layer=partial(nn.LayerNorm, eps=1e-6))

    def forward(self, x):
        tokens = self.block(x.flatten(2).transpose(1, 2), x.shape[2:])
        return tokens.transpose(1, 2).reshape(x.shape)


class Vit(Twins):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.block = vit.Block(64, num_heads=2, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))

    def forward(self, x):
        return self.block(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


def downsample(stride: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(64, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


REFERENCES = {
    "bottleneck": ("block/bottleneck", {}, lambda: resnet.Bottleneck(64, 16)),
    "bottleneck, stride 2": (
        "block/bottleneck",
        {"out_channels": 128, "stride": 2},
        lambda: resnet.Bottleneck(64, 32, stride=2, downsample=downsample(2, 128)),
    ),
    "convnext": ("block/convnext", {}, lambda: convnext.ConvNeXtBlock(64)),
    "transformer": ("block/transformer", {}, Vit),
    "lsa": ("block/lsa", {}, Twins),
    "poolformer": (
        "block/poolformer",
        {},
        lambda: metaformer.MetaFormerBlock(
            64,
            mlp_act=nn.GELU,
            mlp_bias=True,
            norm_layer=metaformer.GroupNorm1,
            layer_scale_init_value=1e-5,
        ),
    ),
    "mbconv": (
        "block/mbconv",
        {},
        lambda: _efficientnet_blocks.InvertedResidual(64, 64, exp_ratio=6.0, act_layer=nn.ReLU6),
    ),
    "mbconv, stride 2": (
        "block/mbconv",
        {"out_channels": 96, "stride": 2},
        lambda: _efficientnet_blocks.InvertedResidual(64, 96, stride=2, exp_ratio=6.0, act_layer=nn.ReLU6),
    ),
    "repvgg": ("block/repvgg", {}, lambda: byobnet.RepVggBlock(64, 64)),
    "repvgg, stride 2": ("block/repvgg", {"stride": 2}, lambda: byobnet.RepVggBlock(64, 64, stride=2)),
    "efficientformer4d": ("block/efficientformer4d", {}, lambda: efficientformer.MetaBlock2d(64)),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_equals_timm(scramble, case):
    name, options, reference = REFERENCES[case]
    theirs = scramble(reference())
    ours = models.build(name, in_channels=64, resolution=14, **options).double()
    state = list(theirs.state_dict().values())
    if case == "repvgg":
        state = repvgg_order(state)
    elif case == "bottleneck, stride 2":
        assert len(state) == len(ours.state_dict())
    elif case == "convnext":
        state = state[1:] + state[:1]  # timm's layer scale comes first
    expected = ours.state_dict()
    assert [tensor.shape for tensor in state] == [tensor.shape for tensor in expected.values()]
    ours.load_state_dict(dict(zip(expected, state, strict=True)))
    x = torch.randn(2, 64, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), **EXACT)


def test_mobileone_equals_timm(scramble):
    """timm has the depthwise and the pointwise part as two blocks, each with its identity first."""
    part = partial(byobnet.MobileOneBlock, num_conv_branches=4)
    depthwise = scramble(part(64, 64, kernel_size=3, stride=2, group_size=1), 1)
    pointwise = scramble(part(64, 64, kernel_size=1), 2)
    ours = models.build("block/mobileone", in_channels=64, stride=2, resolution=14).double()
    state = [*depthwise.state_dict().values(), *repvgg_order(list(pointwise.state_dict().values()))]
    ours.load_state_dict(dict(zip(ours.state_dict(), state, strict=True)))
    x = torch.randn(2, 64, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), pointwise(depthwise(x)), **EXACT)


def test_lsa_mixes_inside_windows_only(scramble):
    net = scramble(models.build("block/lsa", in_channels=32, resolution=14))
    x = torch.randn(1, 32, 14, 14, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 0, 0] += torch.randn(32, dtype=torch.float64)
    with torch.no_grad():
        difference = (net(changed) - net(x)).abs().amax(dim=(0, 1))
    assert (difference[:7, :7] > 1e-6).all()
    assert difference[7:].max() == difference[:, 7:].max() == 0


def test_lsa_takes_oblong_maps_and_other_windows(scramble):
    net = scramble(models.build("block/lsa", in_channels=32, resolution=8, window=4))
    x = torch.randn(2, 32, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[..., 4:8], net(x[..., 4:8]))


def test_poolformer_that_counts_its_padding_becomes_a_convolution(scramble):
    net = scramble(models.build("block/poolformer", in_channels=32, resolution=14, count_padding=True))
    folded: Counter[str] = Counter()
    fused, x = fuse_all(net, folded=folded), torch.randn(2, 32, 14, 14, dtype=torch.float64)
    assert folded == {"layer_scale": 2, "pool_minus_identity": 1}
    assert not [module for module in fused.modules() if isinstance(module, Pooling)]
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), **EXACT)


@pytest.mark.parametrize(
    ("name", "per_position", "params"),
    [
        # NCB: 3x3 in groups of 32, projection, MLP of ratio 3
        (
            "block/ncb",
            9 * 32 * 128 + 128 * 128 + 2 * 3 * 128 * 128,
            9 * 32 * 128 + 7 * 128**2 + 4 * 128 + 4 * 128,
        ),
        ("block/bottleneck", 128 * 32 * 2 + 9 * 32 * 32, 128 * 32 * 2 + 9 * 32 * 32 + 2 * (32 + 32 + 128)),
        ("block/convnext", 49 * 128 + 8 * 128**2, 50 * 128 + 2 * 128 + 8 * 128**2 + 5 * 128 + 128),
        ("block/transformer", 12 * 128**2 + 2 * 196 * 128, 12 * 128**2 + 9 * 128 + 4 * 128),
        ("block/lsa", 12 * 128**2 + 2 * 49 * 128, 12 * 128**2 + 9 * 128 + 4 * 128),
        ("block/mbconv", 2 * 6 * 128**2 + 9 * 6 * 128, 2 * 6 * 128**2 + 9 * 6 * 128 + 2 * (12 + 1) * 128),
    ],
)
def test_counts_are_the_analytic_ones(name, per_position, params):
    net = models.build(name, in_channels=128, resolution=14)
    counts = count(net, (1, 128, 14, 14))
    assert counts.gmacs == pytest.approx(per_position * 14 * 14 / 1e9, rel=1e-12)
    assert counts.params_m == pytest.approx(params / 1e6, rel=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_forward_does_not_depend_on_the_batch(scramble, name):
    net = scramble(models.build(name, in_channels=128, resolution=14))
    x = torch.randn(3, 128, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-9, atol=1e-9)


def test_timm_resnet50_is_made_of_our_bottleneck():
    """The block inside and out: 256 -> 64 -> 256."""
    theirs = timm.create_model("resnet50").layer1[1]
    ours = models.build("block/bottleneck", in_channels=256, resolution=56)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
