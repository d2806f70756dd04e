"""Weights that hide nothing, for comparing two implementations or a network with its fused self."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.trainer import train
from models.training_request import TrainRequest


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


class _Watcher:
    """An observer of the trainer that keeps what it is told; `at_step` and `at_epoch` are called with it."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.epochs: list[object] = []
        self.notes: list[str] = []
        self.at_step: Callable[[int], None] = lambda done: None
        self.at_epoch: Callable[[object], None] = lambda epoch: None

    def step(self, done: int, total: int, *, epoch: int, loss: float) -> None:
        self.losses.append(loss)
        self.at_step(done)

    def epoch(self, epoch: object, *, epochs: int) -> None:
        self.epochs.append(epoch)
        self.at_epoch(epoch)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def new_watcher() -> Callable[[], _Watcher]:
    return _Watcher


@pytest.fixture(scope="session")
def train_one_epoch() -> Callable[[TrainRequest], _Watcher]:
    """Train, and end as an interrupt does when the first epoch is stored; gives what the watcher was told."""

    def run(request: TrainRequest) -> _Watcher:
        watcher = _Watcher()

        def stop(epoch: object) -> None:
            raise KeyboardInterrupt

        watcher.at_epoch = stop
        with pytest.raises(KeyboardInterrupt):
            train(request, watcher)
        return watcher

    return run


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upright and level stripes under noise: 40 images to train on, 16 to evaluate."""
    folder = tmp_path_factory.mktemp("stripes")
    draw = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 8)):
        for name in ("level", "upright"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.tile(np.arange(16) // 2 % 2 * 160, (16, 1)) + draw.integers(0, 90, (16, 16))
                pixels = pixels if name == "upright" else pixels.T
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number:02}.png")
    return folder
