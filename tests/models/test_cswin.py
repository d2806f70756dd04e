"""CSWin's stripes: cut and put together again, and attention that stays inside them."""

from __future__ import annotations

import pytest
import torch

from models.cswin import CrossShapedAttention, from_columns, to_columns, to_rows


@pytest.mark.parametrize("width", [1, 2, 7])
def test_stripes_hold_their_columns_and_rows(width):
    x = torch.randn(2, 14, 14, 3)
    columns, rows = to_columns(x, width), to_rows(x, width)
    assert torch.equal(columns[0], x[0, :, :width])
    assert torch.equal(columns[14 // width], x[1, :, :width])
    assert torch.equal(rows[1], x[0, width : 2 * width])
    assert torch.equal(from_columns(columns, 14), x)


def test_attention_reaches_a_cross(scramble):
    attention = scramble(CrossShapedAttention(16, heads=2, stripe=2))
    x = torch.randn(1, 8, 8, 16, dtype=torch.float64)
    changed = x.clone()
    changed[0, 3, 5] += 1
    with torch.no_grad():
        moved = (attention(x) != attention(changed)).any(dim=(0, 3))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4] = True
    expected[:, 4:6] = True
    assert torch.equal(moved, expected)


def test_exports_within_the_rank_that_core_ml_has():
    exported = torch.export.export(
        CrossShapedAttention(16, heads=2, stripe=7).eval(), (torch.randn(1, 14, 14, 16),)
    )
    values = (node.meta.get("val") for node in exported.graph.nodes)
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) == 5
