"""A network that is fed pixels: mean and deviation of its training images folded into what is converted.

Core ML's image input computes `scale * pixel + bias[channel]` with one scale for all channels, so the
deviation per channel goes into the first convolution. Its padding stays right: a zero divided by anything is
a zero.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.artifact import ConversionError, ConversionFailure
from converters.dataflow import record
from converters.parity import Array

# Of ImageNet's training images, in the order red, green, blue: what networks without their own are trained
# with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Normalization:
    """A network's input is `(pixel / 255 - mean) / std` per channel."""

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    @property
    def scale(self) -> float:
        return 1 / 255

    @property
    def bias(self) -> list[float]:
        return [-value for value in self.mean]

    def pixels(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The images of whole numbers from 0 to 255 that are nearest to normalized inputs (B, 3, H, W)."""
        mean, std = (_per_channel(values) for values in (self.mean, self.std))
        return tuple(np.clip(np.round((x * std + mean) * 255), 0, 255).astype(np.float32) for x in inputs)

    def normalized(self, pixels: Sequence[Array]) -> tuple[Array, ...]:
        """What the network itself takes."""
        return tuple((value / _per_channel(self.std)).astype(np.float32) for value in self.shifted(pixels))

    def shifted(self, pixels: Sequence[Array]) -> tuple[Array, ...]:
        """What Core ML hands on: scaled and shifted, not yet divided by the deviation."""
        bias = _per_channel(self.bias)
        return tuple((np.float32(self.scale) * value + bias).astype(np.float32) for value in pixels)


def normalization_of(net: nn.Module) -> Normalization:
    """The one that a timm network names, else ImageNet's."""
    config: Any = getattr(net, "pretrained_cfg", None) or getattr(net, "default_cfg", None) or {}
    if not isinstance(config, Mapping):
        return Normalization()
    mean, std = (tuple(config.get(key) or usual) for key, usual in (("mean", MEAN), ("std", STD)))
    return Normalization(mean, std) if len(mean) == len(std) == 3 else Normalization()


def fold_std(net: nn.Module, example: torch.Tensor, std: Sequence[float]) -> nn.Module:
    """A copy of `net` that computes `net(x / std)`: the convolutions that read the image are divided by it.

    Raises ConversionError `unsupported` where something else reads the image.
    """
    folded = copy.deepcopy(net)
    for conv in _first_convolutions(folded, example):
        divisor = torch.tensor(std, dtype=conv.weight.dtype)[:, None, None]
        conv.weight = nn.Parameter(conv.weight.detach() / divisor)
    return folded


def _first_convolutions(net: nn.Module, example: torch.Tensor) -> list[nn.Conv2d]:
    """The convolutions that read the network's input, which nothing else may read."""
    scratch = copy.deepcopy(net)  # some networks keep tensors from a forward pass
    trace = record(scratch, example)
    image = trace.ops[0].reads[0] if trace.ops else -1
    if image in trace.parameters or image in trace.producers:
        raise _unsupported("the network's first operator does not read the image")
    found = []
    for op in trace.readers[image]:
        name = _convolution(scratch, op.arguments.get("weight")) if op.name == "conv2d" else None
        conv = net.get_submodule(name) if name is not None else None
        if not isinstance(conv, nn.Conv2d) or conv.groups != 1:
            raise _unsupported(f"{op.name} reads the image, where a convolution over all channels is wanted")
        found.append(conv)
    return found


def _convolution(net: nn.Module, weight: Any) -> str | None:
    """The module that a weight belongs to."""
    return next((n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.weight is weight), None)


def _unsupported(why: str) -> ConversionError:
    return ConversionError(
        ConversionFailure(
            "unsupported",
            "image",
            f"the normalization cannot be folded in: {why}",
            advice="Use input_type=tensor and normalize before the model.",
        )
    )


def _per_channel(values: Sequence[float]) -> Array:
    return np.asarray(values, np.float32)[:, None, None]
