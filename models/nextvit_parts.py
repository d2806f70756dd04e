"""Next-ViT's stem and head alone, and a whole network as the parts that it is made of.

The parts are found by running the network on the meta device and looking at every block's input: which there
are, how many of each and at which shapes is read from the module tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

import models
from models.folding import fold_into_next, replaced
from models.nextvit import NextViT
from models.nextvit_blocks import NCB, NTB, default_reduction
from models.spec import ModelSpec, Option, sorted_options

MLP_RATIOS = {NCB: 3.0, NTB: 2.0}  # those of the builders, where nothing else is given


class Head(nn.Module):
    """The last BatchNorm, global average pooling and the classifier."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(in_channels)
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes)
        x = self.norm(x)
        out: Tensor = self.head(x.mean(dim=(2, 3)))
        return out

    def fuse(self) -> nn.Module:
        (head,) = fold_into_next(self.norm, self.head)
        return replaced(self, head=head, norm=nn.Identity())


def stem(*, in_chans: int = 3) -> nn.Module:
    """The four convolutions before the first stage; all variants have the same."""
    return NextViT((), num_classes=1, in_chans=in_chans).stem


def head(*, num_classes: int = 1000, in_chans: int = 3) -> Head:
    """What follows the last stage, on its feature map (1024 channels in S, B and L)."""
    return Head(in_chans, num_classes)


def parts(spec: ModelSpec) -> list[tuple[str, ModelSpec]]:
    """(module path, what it is alone) of every part of a Next-ViT at the spec's resolution, in order."""
    with torch.device("meta"):
        net = models.build(spec.name, **spec.build_options())
        assert isinstance(net, NextViT)
        shapes = _input_shapes(net, torch.empty(spec.input_shape(1)))
    blocks = [
        (path, _block(module, shapes[path]))
        for path, module in net.named_modules()
        if isinstance(module, NCB | NTB)
    ]
    return [
        ("stem", ModelSpec("nextvit_stem", spec.resolution, _only(spec, "in_chans"), spec.weights)),
        *((path, replace(block, weights=spec.weights)) for path, block in blocks),
        ("head", _head(net, spec, shapes["norm"])),
    ]


def _input_shapes(net: nn.Module, image: Tensor) -> dict[str, tuple[int, ...]]:
    """Every module's input while the network runs once, by module path."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            shapes[path] = tuple(inputs[0].shape)

        return hook

    hooks = [module.register_forward_pre_hook(note(path)) for path, module in net.named_modules()]
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    return shapes


def _block(block: NCB | NTB, shape: tuple[int, ...]) -> ModelSpec:
    """The block alone; options that are the builder's defaults are left out, as a suite's shapes do."""
    _, in_channels, side, _ = shape
    hidden, out_channels = block.mlp.conv1.weight.shape[:2]
    stride = block.patch_embed.pool.stride if isinstance(block.patch_embed.pool, nn.AvgPool2d) else 1
    assert isinstance(stride, int)
    options: dict[str, Option] = {"in_channels": in_channels}
    given: dict[str, tuple[Option, Option]] = {
        "out_channels": (out_channels, in_channels),
        "stride": (stride, 1),
        "mlp_ratio": (hidden / out_channels, MLP_RATIOS[type(block)]),
    }
    if isinstance(block, NTB):
        given["reduction"] = (_reduction(block), default_reduction(-(-side // stride)))
    options |= {name: value for name, (value, default) in given.items() if value != default}
    return ModelSpec(f"block/{type(block).__name__.lower()}", side, sorted_options(options))


def _reduction(block: NTB) -> int:
    """The side of the square of tokens that one key stands for."""
    pool = block.e_mhsa.pool
    if not isinstance(pool, nn.AvgPool2d):
        return 1
    assert isinstance(pool.kernel_size, tuple)
    return math.isqrt(pool.kernel_size[1])


def _head(net: NextViT, spec: ModelSpec, shape: tuple[int, ...]) -> ModelSpec:
    options: dict[str, Option] = {**dict(_only(spec, "num_classes")), "in_chans": shape[1]}
    return ModelSpec("nextvit_head", shape[2], sorted_options(options), spec.weights)


def _only(spec: ModelSpec, name: str) -> tuple[tuple[str, Option], ...]:
    return tuple((option, value) for option, value in spec.options if option == name)
