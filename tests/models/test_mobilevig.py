"""MobileViG's graph convolution, against its definition."""

from __future__ import annotations

import pytest
import torch

from models.mobilevig import SVGA, max_relative


@pytest.mark.parametrize("shape", [(7, 7), (8, 5), (2, 3), (1, 1)])
def test_max_relative_is_the_greatest_difference_to_every_second_position(shape):
    x = torch.randn(2, 3, *shape)
    expected = torch.zeros_like(x)
    for dim in (2, 3):
        for shift in range(2, x.shape[dim], 2):
            expected = torch.maximum(expected, x - x.roll(shift, dims=dim))
    assert torch.equal(max_relative(x), expected)


def test_svga_mixes_rows_and_columns_and_nothing_else(scramble):
    block = scramble(SVGA(4))
    x = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    changed = x.clone()
    changed[..., 3, 3] -= 5
    with torch.no_grad():
        moved = (block(x) != block(changed)).any(dim=(0, 1))
    rows, columns = moved.any(dim=1), moved.any(dim=0)
    assert moved.sum() > 3
    assert not moved[[row for row in range(7) if row != 3]][:, [c for c in range(7) if c != 3]].any()
    assert rows[3]
    assert columns[3]
