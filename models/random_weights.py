"""Random weights that tell: nothing is left at an initial value that would hide an error of fusion or export.

Freshly initialized, a BatchNorm is nearly the identity, a layer scale nearly zero and a bias zero: a wrong
fusion changes nothing. Made random without care, the residual sums of deep networks overflow fp16. So every
normalization, layer scale and zero parameter becomes random, and each BatchNorm's statistics are set near
what its input really is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SCALE_CLASSES = ("LayerScale", "LayerScale2d", "LayerScaleConv", "Scale")


@runtime_checkable
class Damped(Protocol):
    """A module with random weights of its own that must be small for outputs to be comparable at all."""

    def damp_random(self) -> None: ...


def randomize(net: nn.Module, shape: tuple[int, ...]) -> object:
    """Make the weights of `net` random in place, from torch's global generator; returns a trial's output.

    `shape` is the input's at batch 1. BatchNorm: weight in [0.75, 1.25], bias within 0.2; mean and variance
    are those of its input in a trial of two images, the mean off by up to 0.2 deviations, the variance by a
    factor in [0.5, 1.5]. Other norms: weight and bias alike. Layer scales: [0.5, 1]. What is all zeros:
    normal with deviation 0.02. A module may damp some of its own (`Damped`). The trial runs on one thread, so
    that the thread count of a machine changes nothing; on another machine it may round otherwise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            _randomize_parameters(net)
            return _match_statistics(net, _trial_images(shape))
    finally:
        torch.set_num_threads(threads)


def _trial_images(shape: tuple[int, ...]) -> Tensor:
    """Two standard normal images, one a little brighter.

    Deep layers average noise away. Fitted to noise alone, a BatchNorm there would amplify every difference in
    brightness without bound; fitted to a large difference in brightness, it would drown the noise, and the
    output would be the same for all inputs.
    """
    images = torch.randn(2, *shape[1:])
    images[1] += 0.3
    return images


def _randomize_parameters(net: nn.Module) -> None:
    for module in net.modules():
        _randomize_module(module)
    for parameter in net.parameters():
        if parameter.is_floating_point() and not parameter.any():
            parameter.normal_(std=0.02)
    for module in net.modules():
        if isinstance(module, Damped):
            module.damp_random()


def _match_statistics(net: nn.Module, images: Tensor) -> object:
    hooks = [norm.register_forward_pre_hook(_Match()) for norm in _batchnorms(net)]
    try:
        return net(images)
    finally:
        for hook in hooks:
            hook.remove()


class _Match:
    """Moves one BatchNorm's unit statistics to those of its input, the first time it runs."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.done:
            return
        self.done = True
        x = inputs[0].transpose(0, 1).flatten(1)  # (C, everything else)
        mean = x.mean(dim=1)
        # One deviation for all channels, and never far below the values: a channel that hardly varies in two
        # images would be amplified without bound in a third.
        variance = torch.maximum((x - mean[:, None]).square().mean(), x.square().mean() / 64)
        if not variance.isfinite() or variance == 0:
            return
        assert isinstance(norm.running_mean, Tensor)
        assert isinstance(norm.running_var, Tensor)
        norm.running_mean.mul_(variance.sqrt()).add_(mean)
        norm.running_var.mul_(variance)


def _batchnorms(net: nn.Module) -> Iterator[_BatchNorm]:
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            yield module


def _randomize_module(module: nn.Module) -> None:
    if isinstance(module, _BatchNorm) and module.running_mean is not None:
        assert module.running_var is not None
        module.running_mean.uniform_(-0.2, 0.2)
        module.running_var.uniform_(0.5, 1.5)
    for name, parameter in module.named_parameters(recurse=False):
        if "Norm" in type(module).__name__ and name in ("weight", "bias"):
            parameter.uniform_(*((0.75, 1.25) if name == "weight" else (-0.2, 0.2)))
        elif "gamma" in name or "layer_scale" in name or type(module).__name__ in SCALE_CLASSES:
            parameter.uniform_(0.5, 1.0)
