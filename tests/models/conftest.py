"""Weights that hide nothing, for comparing two implementations or a network with its fused self."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def _scramble(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random everything, at magnitudes that keep signals and attention alive; eval mode, float64."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            offset = 1.0 if parameter.ndim == 1 and name != "bias" else 0.0
            parameter.data = offset + noise * (fan_in**-0.5 if parameter.ndim > 1 else 0.2)
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
    return net


@pytest.fixture
def scramble() -> Callable[..., nn.Module]:
    return _scramble


@pytest.fixture(scope="module")
def module_scramble() -> Callable[..., nn.Module]:
    return _scramble


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
