"""PVT's attention without reduction, and positions at other resolutions."""

from __future__ import annotations

import torch

import models
from models.pvt import PatchEmbed, SpatialReductionAttention


def test_without_reduction_it_is_plain_attention(scramble):
    attention = scramble(SpatialReductionAttention(64, reduction=1))
    x = torch.randn(2, 9, 64, dtype=torch.float64)
    with torch.no_grad():
        k, v = attention.kv(x).chunk(2, dim=2)
        y = torch.nn.functional.scaled_dot_product_attention(attention.q(x), k, v)
        torch.testing.assert_close(attention(x, (3, 3)), attention.proj(y))


def test_reduction_leaves_fewer_keys(scramble):
    attention = scramble(SpatialReductionAttention(64, reduction=4))
    seen = []
    attention.kv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    x = torch.randn(2, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        assert attention(x, (8, 12)).shape == (2, 96, 64)
    assert seen == [(2, 6, 64)]


def test_positions_are_as_learned_at_224_and_interpolated_elsewhere(scramble):
    embed = scramble(PatchEmbed(3, 8, patch=2, side=4))
    blank = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        tokens, side = embed(blank)
        plain = embed.norm(embed.proj.bias)
        torch.testing.assert_close(tokens[0] - plain, embed.positions[0].flatten(1).T)
        assert side == (4, 4)
        wider, side = embed(torch.zeros(1, 3, 16, 8, dtype=torch.float64))
    assert side == (8, 4)
    assert wider.shape == (1, 32, 8)
    assert models.build("pvt_tiny", num_classes=5)(torch.zeros(1, 3, 64, 96)).shape == (1, 5)
