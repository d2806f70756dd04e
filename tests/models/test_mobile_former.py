"""Mobile-Former's parts, against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from models.folding import fuse_all
from models.mobile_former_blocks import (
    DownsamplingBottleneck,
    DynamicReLU,
    FormerToMobile,
    Layer,
    MobileFormerBlock,
    attend,
)


def test_attention_is_that_of_each_head_alone():
    queries, keys, values = (torch.randn(2, n, 6, dtype=torch.float64) for n in (3, 5, 5))
    heads = [
        (q @ k.transpose(1, 2) / 3**0.5).softmax(dim=2) @ v
        for q, k, v in zip(queries.split(3, dim=2), keys.split(3, dim=2), values.split(3, dim=2), strict=True)
    ]
    torch.testing.assert_close(attend(queries, keys, values, heads=2), torch.cat(heads, dim=2))


def test_slopes_of_the_activation_come_from_the_token_and_are_bounded():
    act = DynamicReLU(3, token_dim=8)
    x, last = torch.randn(2, 3, 4, 4), act.slopes[2]
    for bias, one, two in ((0.0, 1.0, 0.0), (9.0, 2.0, 1.0), (-9.0, 0.0, -1.0)):
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, bias)
        expected = torch.maximum(one * x, two * x)
        torch.testing.assert_close(act(x, torch.randn(2, 8)), expected)


def test_dynamic_relu_tells_images_apart(scramble):
    act, x = scramble(DynamicReLU(3, token_dim=8)), torch.ones(2, 3, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        one, two = act(x, torch.randn(2, 8, dtype=torch.float64))
    assert not torch.allclose(one, two)


def test_former_to_mobile_adds_what_the_tokens_say(scramble):
    bridge = scramble(FormerToMobile(4, token_dim=8))
    x, tokens = torch.randn(1, 4, 3, 2).double(), torch.randn(1, 1, 8).double()
    with torch.no_grad():  # of one token, all attention is on it
        said = bridge.value(tokens[:, 0])[..., None, None]
        torch.testing.assert_close(bridge(x, tokens), x + said)


def test_downsampling_widens_by_its_depthwise_convolutions():
    mobile = DownsamplingBottleneck(4, Layer(6, 3, 2), token_dim=8)
    shapes = {name: tuple(p.shape) for name, p in mobile.named_parameters() if p.ndim == 4}
    assert shapes == {
        "down.conv.weight": (12, 1, 3, 3),
        "project1.conv.weight": (6, 12, 1, 1),
        "depthwise.conv.weight": (12, 1, 3, 3),
        "project2.conv.weight": (6, 12, 1, 1),
    }
    assert mobile.eval()(torch.randn(2, 4, 8, 6), torch.randn(2, 8)).shape == (2, 6, 4, 3)


@pytest.mark.parametrize("layer", [Layer(6, 2), Layer(4, 2), Layer(6, 2, 2)])
def test_map_and_tokens_reach_each_other(scramble, layer):
    block = scramble(MobileFormerBlock(4, layer, token_dim=8))
    x, tokens = torch.randn(1, 4, 4, 4).double(), torch.randn(1, 3, 8).double()
    with torch.no_grad():
        before = block(x, tokens)
        for changed in (block(x + torch.eye(4).double(), tokens), block(x, tokens + 0.1)):
            assert (changed[0] != before[0]).all()
            assert (changed[1] != before[1]).all()


def test_head_folds_its_batchnorm_into_the_linear_layer(scramble):
    head = scramble(models.build("mobile_former_96m", num_classes=5)).head
    x, token = torch.randn(2, 128, 3, 3).double(), torch.randn(2, 128).double()
    fused = fuse_all(head)
    with torch.no_grad():
        torch.testing.assert_close(fused(x, token), head(x, token), rtol=1e-10, atol=1e-10)
    assert not [module for module in fused.modules() if "BatchNorm" in type(module).__name__]
