"""The selective scan against one step after another, and as part of an exported graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.folding import fuse_all
from models.selective_scan import selective_scan
from models.vcmamba import MambaBlock, MambaMixer, snakes


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


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 49, 196])
def test_equals_the_steps(length):
    tensors, parameters = inputs(length)
    expected = one_after_another(*tensors, **parameters)
    torch.testing.assert_close(selective_scan(*tensors, **parameters), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_states_that_never_fade_and_that_fade_at_once(scale):
    tensors, parameters = inputs(49, scale=scale)
    expected = one_after_another(*tensors, **parameters)
    torch.testing.assert_close(selective_scan(*tensors, **parameters), expected, rtol=1e-12, atol=1e-12)


def test_an_output_depends_on_what_came_before_alone():
    (u, delta), parameters = inputs(20)
    changed = u.clone()
    changed[:, 11] += 1
    moved = (selective_scan(u, delta, **parameters) != selective_scan(changed, delta, **parameters)).any(2)
    assert not moved[:, :11].any()
    assert moved[:, 11:].all()


def test_snakes_go_by_neighbours_and_visit_every_position():
    for order in snakes(7):
        assert sorted(order.tolist()) == list(range(49))
        rows, columns = order // 7, order % 7
        assert ((rows.diff().abs() + columns.diff().abs()) == 1).all()
    assert len({tuple(order.tolist()) for order in snakes(7)}) == 4


def test_mixer_sums_four_scans_of_the_features_in_snake_order(scramble):
    mixer = scramble(MambaMixer(8, side=3))
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    with torch.no_grad():
        step, enters, leaves = mixer.parameters_of_x(x).split((1, 16, 16), dim=2)
        step = torch.nn.functional.softplus(mixer.step(step))
        expected = torch.zeros_like(x)
        for index, order in enumerate(snakes(3)):
            y = one_after_another(
                x[:, order],
                step,
                a=-mixer.decay_log.exp(),
                b=enters + mixer.direction[index],
                c=leaves,
                d=mixer.skip,
            )
            expected[:, order] += y
        torch.testing.assert_close(mixer.scan(x), expected)


def test_fused_mamba_block_is_equal_and_has_no_batchnorm(scramble):
    block = scramble(MambaBlock(8, side=3))
    fused, x = fuse_all(block), torch.randn(2, 8, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), block(x), rtol=1e-10, atol=1e-10)
    assert not [m for m in fused.modules() if "BatchNorm" in type(m).__name__ or "Scale" in type(m).__name__]
