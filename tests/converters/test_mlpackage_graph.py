"""The exported graph as coremltools takes it: rewritten where it must be, and equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converters.mlpackage_graph import MAX_RANK, exported, merged


class Windows(nn.Module):
    """Partition into windows and back as timm's Swin does it: six axes, and a copy between."""

    def __init__(self, *, shift: bool = False) -> None:
        super().__init__()
        self.mix = nn.Linear(9, 9)
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        b, h, w, c = x.shape
        x = x.view(b, h // 3, 3, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 9, c)
        x = self.mix(x.transpose(1, 2)).transpose(1, 2)
        x = x.reshape(b, h // 3, w // 3, 3, 3, c).transpose(2, 3)
        return (x.flip(0) if self.shift else x).reshape(b, h, w, c)


def ranks(program: torch.export.ExportedProgram) -> set[int]:
    return {node.meta["val"].dim() for node in program.graph_module.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize(
    ("order", "groups"),
    [
        ([0, 1, 3, 2, 4, 5], [[0, 1], [3], [2], [4, 5]]),
        ([0, 1, 2], [[0, 1, 2]]),
        ([2, 1, 0], [[2], [1], [0]]),
        ([3, 4, 0, 1, 2, 5], [[3, 4], [0, 1, 2], [5]]),
    ],
)
def test_axes_that_stay_neighbours_move_as_one(order: list[int], groups: list[list[int]]) -> None:
    assert merged(order) == groups


@pytest.mark.parametrize("batch", [1, 2])
def test_windows_of_six_axes_become_five_or_less(batch: int) -> None:
    net, x = Windows().eval(), torch.randn(batch, 6, 9, 4)
    program, rewritten = exported(net, x)
    assert rewritten == {"high_rank_permutes": 2}
    assert max(ranks(program)) <= MAX_RANK
    assert torch.equal(program.module()(x), net(x))


def test_an_open_batch_stays_open() -> None:
    net, x = Windows().eval(), torch.randn(2, 6, 9, 4)
    program, rewritten = exported(net, x, ({0: torch.export.Dim("batch", min=1, max=8)},))
    assert rewritten == {"high_rank_permutes": 2}
    for batch in (1, 5):
        other = torch.randn(batch, 6, 9, 4)
        torch.testing.assert_close(program.module()(other), net(other))


def test_six_axes_that_something_computes_with_are_left() -> None:
    net, x = Windows(shift=True).eval(), torch.randn(2, 6, 9, 4)
    program, rewritten = exported(net, x)
    assert rewritten == {"high_rank_permutes": 1}
    assert max(ranks(program)) == 6
    assert torch.equal(program.module()(x), net(x))


class Aliased(nn.Module):
    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = (x * 2).detach()
        return y if self.last else y + 1


@pytest.mark.parametrize("last", [True, False])
def test_aliases_go_from_the_middle_and_from_the_end(last: bool) -> None:
    net, x = Aliased(last=last).eval(), torch.randn(2, 3)
    program, rewritten = exported(net, x)
    assert rewritten["aliases"] >= 1
    targets = {str(node.target) for node in program.graph_module.graph.nodes}
    assert not targets & {"aten.alias.default", "aten.detach.default"}
    assert torch.equal(program.module()(x), net(x))
