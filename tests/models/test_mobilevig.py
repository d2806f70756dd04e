"""MobileViG's graph convolution, against its definition."""

from __future__ import annotations

import pytest
import torch

from models.mobilevig import SVGA, MaxRelative


@pytest.mark.parametrize("shape", [(7, 7), (8, 5), (2, 3), (1, 1)])
def test_max_relative_is_the_greatest_difference_to_every_second_position(shape):
    x = torch.randn(2, 3, *shape)
    joined = [x]
    for row in range(2, shape[0], 2):
        joined.append(torch.cat((x[:, :, -row:], x[:, :, :-row]), dim=2))
    for column in range(2, shape[1], 2):
        joined.append(torch.cat((x[..., -column:], x[..., :-column]), dim=3))
    assert torch.equal(MaxRelative()(x), torch.stack([x - y for y in joined]).amax(dim=0))


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
