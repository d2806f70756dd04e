"""EfficientMod (`models.efficientmod`) channels first: its Linear layers as 1x1 convolutions.

Published channels-last, every depthwise convolution stands between two permutations, with Linear layers on
either side. With the map channels first those are convolutions, and only LayerNorm is permuted around.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from converters.pointwise import pointwise
from converters.reclassed import answering
from models.efficientmod import AttentionBlock, ModulationBlock, PatchEmbed


def channels_first(source: Any) -> nn.Module | None:
    """An `EfficientMod` on (B, C, H, W) throughout; None where its layer scales are not folded."""
    modulations = [module for module in source.modules() if isinstance(module, ModulationBlock)]
    if not all(isinstance(module.layer_scale, nn.Identity) for module in modulations):
        return None
    made = answering(source, forward=_network)
    made.stages = nn.Sequential(*(nn.Sequential(*map(_block, stage)) for stage in source.stages))
    return made


def _block(block: nn.Module) -> nn.Module:
    if isinstance(block, PatchEmbed):
        return answering(block, forward=_embed)
    if isinstance(block, AttentionBlock):
        return answering(block, forward=_attend)
    assert isinstance(block, ModulationBlock)
    made, context = answering(block, forward=_modulate), answering(block.context, forward=_context)
    context.fc1, context.fc2 = _as_conv(block.context.fc1), _as_conv(block.context.fc2)
    made.context, made.values, made.proj = context, _as_conv(block.values), _as_conv(block.proj)
    return made


def _as_conv(linear: nn.Linear) -> nn.Conv2d:
    return pointwise(linear.weight, linear.bias)


def _normalized(norm: nn.Module, x: Tensor) -> Tensor:  # (B, C, H, W)
    normed: Tensor = norm(x.permute(0, 2, 3, 1))
    return normed.permute(0, 3, 1, 2)


def _network(self: Any, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
    x = self.stages(x)  # (B, C, H/32, W/32)
    out: Tensor = self.head(self.norm(x.permute(0, 2, 3, 1)).mean(dim=(1, 2)))
    return out


def _embed(self: Any, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
    return _normalized(self.norm, self.proj(x))


def _context(self: Any, x: Tensor) -> Tensor:  # (B, C, H, W)
    out: Tensor = self.fc2(self.act(self.dwconv(self.fc1(x))))
    return out


def _modulate(self: Any, x: Tensor) -> Tensor:  # (B, C, H, W)
    b, c, h, w = x.shape
    y = _normalized(self.norm, x)
    values, context = self.act(self.values(y)), self.context(y)
    if self.ratio > 1:
        values = values.reshape(b, self.ratio, c, h, w) * context[:, None]  # (B, ratio, C, H, W)
        modulated = values.reshape(b, self.ratio * c, h, w)
    else:
        modulated = values * context
    out: Tensor = x + self.proj(modulated)
    return out


def _attend(self: Any, x: Tensor) -> Tensor:  # (B, C, H, W)
    b, c, h, w = x.shape
    x = x.reshape(b, c, h * w).transpose(1, 2)  # (B, N, C)
    x = x + self.attention(self.norm1(x))
    x = x + self.mlp(self.norm2(x))
    return x.transpose(1, 2).reshape(b, c, h, w)
