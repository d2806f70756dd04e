"""FcaFormer's position index, and cross tokens that reach later blocks."""

from __future__ import annotations

import torch

from models.fcaformer import CrossAttention, FcaStage, relative_index


def test_pairs_with_one_offset_share_an_entry():
    side = 4
    index = relative_index(side)
    offsets = {}
    for one in range(side**2):
        for two in range(side**2):
            offset = (abs(one // side - two // side), abs(one % side - two % side))
            assert offsets.setdefault(offset, int(index[one, two])) == index[one, two]
    assert sorted(offsets.values()) == list(range(side**2))


def test_cross_attention_is_softmax_over_both_kinds_of_tokens(scramble):
    attention = scramble(CrossAttention(32, side=2, cross_tokens=3))
    x, cross = (torch.randn(1, n, 32, dtype=torch.float64) for n in (4, 3))
    with torch.no_grad():
        read = torch.nn.functional.layer_norm(
            cross * attention.factors, (32,), attention.cross_norm.weight, attention.cross_norm.bias
        )
        q, k, v = attention.qkv(torch.cat((x, read), 1)).chunk(3, dim=2)
        scores = q[0, :4] @ k[0].T * 32**-0.5
        scores[:, :4] += attention.relative_bias[0][relative_index(2)]
        scores[:, 4:] += attention.cross_bias[0]
        expected = attention.proj(scores.softmax(1) @ v[0])
        torch.testing.assert_close(attention(x, [cross])[0], expected)


def test_blocks_read_the_cross_tokens_of_at_most_twelve_before_them():
    stage = FcaStage(32, 15, side=7)
    read = [block.attention.factors.shape[0] if block.attention.has_cross else 0 for block in stage.blocks]
    assert read == [4 * min(place, 12) for place in range(15)]
    assert stage.blocks[-1].merge is None
    with torch.no_grad():
        assert stage(torch.randn(2, 32, 7, 7)).shape == (2, 32, 7, 7)
