"""PlainMamba's scan and block, against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.plainmamba import SIDE, PlainMambaBlock, SnakeScan
from models.selective_scan import selective_scan
from models.snakes import arrivals, snakes


def test_scan_sums_four_snakes_that_know_their_way(scramble):
    scan = scramble(SnakeScan(8, rank=2))
    x = torch.randn(2, SIDE**2, 8, dtype=torch.float64)
    with torch.no_grad():
        step, enters, leaves = scan.parameters_of_x(x).split((2, 16, 16), dim=2)
        step = nn.functional.softplus(scan.step(step))
        expected = torch.zeros_like(x)
        for order, ways in zip(snakes(SIDE), arrivals(snakes(SIDE), SIDE), strict=True):
            y = selective_scan(
                x[:, order],
                step,
                a=-scan.decay_log.exp(),
                b=enters + scan.direction[ways],
                c=leaves,
                d=scan.skip,
            )
            expected[:, order] += y
        torch.testing.assert_close(scan(x), expected)


def test_steps_are_spread_over_their_range_at_first():
    steps = nn.functional.softplus(SnakeScan(512, rank=2).step.bias.detach())
    assert float(steps.min()) == pytest.approx(1e-3, rel=0.2)
    assert float(steps.max()) == pytest.approx(0.1, rel=0.2)
    assert float(steps.median()) == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize("local", [False, True])
def test_block_mixes_all_tokens_and_keeps_its_input_where_nothing_follows(scramble, local):
    block = scramble(PlainMambaBlock(8, local=local))
    nn.init.zeros_(block.scan.step.weight)
    nn.init.constant_(block.scan.step.bias, -6)  # a long memory
    x = torch.randn(1, SIDE**2, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, 90, 0] += 1
    with torch.no_grad():
        assert (block(x) != block(changed)).any(dim=2).all()
        nn.init.zeros_(block.project.weight)
        nn.init.zeros_(block.project.bias)
        assert torch.equal(block(x), x) != local
