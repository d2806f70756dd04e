"""EfficientMod's modulation, against its definition."""

from __future__ import annotations

import pytest
import torch

from models.efficientmod import Attention, ModulationBlock


@pytest.mark.parametrize("ratio", [1, 4])
def test_modulation_multiplies_the_context_with_each_share_of_the_values(scramble, ratio):
    block = scramble(ModulationBlock(8, ratio=ratio))
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        y = block.norm(x)
        values = block.values(y)
        values = torch.nn.functional.gelu(values) if ratio > 1 else values
        product = values * block.context(y).repeat(1, 1, 1, ratio)
        torch.testing.assert_close(block(x), x + block.layer_scale.gamma * block.proj(product))


def test_attention_has_eight_heads_of_at_least_32_channels(scramble):
    attention = scramble(Attention(144))
    assert attention.qkv.out_features == 3 * 256
    x = torch.randn(1, 9, 144, dtype=torch.float64)
    with torch.no_grad():
        q, k, v = (t.reshape(9, 8, 32).transpose(0, 1) for t in attention.qkv(x)[0].chunk(3, dim=1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(attention(x)[0], attention.proj(y.transpose(0, 1).reshape(9, 256)))
