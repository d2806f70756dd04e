"""The selective scan against one step after another, and as part of an exported graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.folding import fuse_all
from models.selective_scan import selective_scan
from models.snake_scan import SnakeScan
from models.snakes import MOVES, arrivals, snakes
from models.vcmamba import MambaBlock


def one_after_another(u: Tensor, delta: Tensor, *, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The definition, step by step."""
    state = torch.zeros(u.shape[0], u.shape[2], a.shape[1], dtype=u.dtype)
    outputs = []
    for t in range(u.shape[1]):
        decay = (delta[:, t, :, None] * a).exp()
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * b[:, t, None]
        outputs.append((state * c[:, t, None]).sum(dim=2) + d * u[:, t])
    return torch.stack(outputs, dim=1)


def inputs(length: int, *, scale: float = 1.0) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    u, delta = random(2, length, 5), scale * torch.nn.functional.softplus(random(2, length, 5))
    b, c = random(2, length, 3), random(2, length, 3)
    return (u, delta), {"a": -random(5, 3).exp(), "b": b, "c": c, "d": random(5)}


@pytest.mark.parametrize(("length", "chunk"), [(196, 14), (49, 7), (12, 4), (12, 1), (12, 12), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e3])
def test_scans_equal_the_steps(length, chunk, scale):
    """Three scans that differ in their features and B, with equal steps and C."""
    (_, delta), parameters = inputs(length, scale=scale)
    u, b = torch.randn(2, 3, length, 5).double(), torch.randn(2, 3, length, 3).double()
    c = parameters["c"]
    scans = selective_scan(
        u, delta[:, None], a=parameters["a"], b=b, c=c[:, None], d=parameters["d"], chunk=chunk
    )
    for index in range(3):
        expected = one_after_another(u[:, index], delta, **(parameters | {"b": b[:, index]}))
        torch.testing.assert_close(scans[:, index], expected, rtol=1e-12, atol=1e-12)


def test_an_output_depends_on_what_came_before_alone():
    (u, delta), parameters = inputs(20)
    parameters |= {name: parameters[name][:, None] for name in ("b", "c")}
    changed = u.clone()
    changed[:, 11] += 1
    first, second = (
        selective_scan(x[:, None], delta[:, None], chunk=4, **parameters)[:, 0] for x in (u, changed)
    )
    moved = (first != second).any(2)
    assert not moved[:, :11].any()
    assert moved[:, 11:].all()


def test_scans_have_five_axes_at_most():
    (_, delta), parameters = inputs(12)
    tensors = {name: parameters[name][:, None] for name in ("b", "c")}
    exported = torch.export.export(
        InChunks(parameters | tensors), (torch.randn(2, 3, 12, 5).double(), delta[:, None])
    )
    values = (node.meta.get("val") for node in exported.graph.nodes)
    assert max(value.ndim for value in values if isinstance(value, Tensor)) == 5


class InChunks(torch.nn.Module):
    """The function as a module, which torch.export wants."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.parameters_of_scan = parameters

    def forward(self, u: Tensor, delta: Tensor) -> Tensor:
        return selective_scan(u, delta, chunk=4, **self.parameters_of_scan)


def test_snakes_go_by_neighbours_and_visit_every_position():
    for order in snakes(7):
        assert sorted(order.tolist()) == list(range(49))
        rows, columns = order // 7, order % 7
        assert ((rows.diff().abs() + columns.diff().abs()) == 1).all()
    assert len({tuple(order.tolist()) for order in snakes(7)}) == 4


@pytest.mark.parametrize("side", [3, 4])
def test_arrivals_lead_along_the_snakes(side):
    orders = snakes(side)
    for order, ways in zip(orders.tolist(), arrivals(orders, side).tolist(), strict=True):
        place = divmod(order[0], side)
        assert ways[0] == 0
        for position, way in zip(order[1:], ways[1:], strict=True):
            place = tuple(here + moved for here, moved in zip(place, MOVES[way], strict=True))
            assert place == divmod(position, side)


@pytest.mark.parametrize("side", [3, 7])
def test_four_scans_of_the_features_in_snake_order_are_summed(scramble, side):
    scan = scramble(SnakeScan(8, side=side, rank=2))
    x = torch.randn(2, side**2, 8, dtype=torch.float64)
    with torch.no_grad():
        step, enters, leaves = scan.parameters_of_x(x).split((2, 16, 16), dim=2)
        step = torch.nn.functional.softplus(scan.step(step))
        expected = torch.zeros_like(x)
        orders = snakes(side)
        for order, ways in zip(orders, arrivals(orders, side), strict=True):
            y = one_after_another(
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
    steps = torch.nn.functional.softplus(SnakeScan(512, side=7, rank=2).step.bias.detach())
    assert float(steps.min()) == pytest.approx(1e-3, rel=0.2)
    assert float(steps.max()) == pytest.approx(0.1, rel=0.2)
    assert float(steps.median()) == pytest.approx(0.01, rel=0.5)


def test_fused_mamba_block_is_equal_and_has_no_batchnorm(scramble):
    block = scramble(MambaBlock(8, side=3))
    fused, x = fuse_all(block), torch.randn(2, 8, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), block(x), rtol=1e-10, atol=1e-10)
    assert not [m for m in fused.modules() if "BatchNorm" in type(m).__name__ or "Scale" in type(m).__name__]
