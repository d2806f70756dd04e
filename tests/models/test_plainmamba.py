"""PlainMamba's block, against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.plainmamba import SIDE, PlainMambaBlock


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
