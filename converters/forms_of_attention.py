"""Attention of other libraries and ours: biases as constants, windows and patches with five axes at most.

Every maker takes a module over as it is, with its weights, its names and its class's name; what changes is
one method, or one parameter that becomes a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from converters.reclassed import answering


def constant_bias(method: str, *arguments: str, tables: Sequence[str]) -> Callable[[Any], nn.Module]:
    """A maker: what `method` gathers from `tables` is gathered now, and the tables are left out."""

    def maker(source: Any) -> nn.Module:
        with torch.no_grad():
            bias = getattr(source, method)(*arguments).detach().clone()
        made = answering(source, **{method: _position_bias})
        for table in tables:
            if hasattr(made, table):
                delattr(made, table)
        made.register_buffer("constant_bias", bias)
        return made

    return maker


def _position_bias(self: Any, *_: object) -> Tensor:
    bias: Tensor = self.constant_bias
    return bias


def swin_windows(source: Any) -> nn.Module | None:
    """timm's `SwinTransformerBlock` with windows cut out of four axes; None where its mask is made anew."""
    return None if getattr(source, "dynamic_mask", False) else answering(source, _attn=_swin_attention)


def _swin_attention(self: Any, x: Tensor) -> Tensor:  # (B, H, W, C)
    b, h, w, c = x.shape
    (rows, columns), shift = self.window_size, self.shift_size
    shifted = any(shift)
    if shifted:
        x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
    x = functional.pad(x, (0, 0, 0, -w % columns, 0, -h % rows))
    down, across = x.shape[1] // rows, x.shape[2] // columns
    x = x.reshape(b * down, rows, across, columns * c).transpose(1, 2)  # (B*down, across, rows, columns*C)
    x = self.attn(x.reshape(b * down * across, rows * columns, c), mask=self.attn_mask)
    x = x.reshape(b * down, across, rows, columns * c).transpose(1, 2)  # (B*down, rows, across, columns*C)
    x = x.reshape(b, down * rows, across * columns, c)[:, :h, :w]
    return torch.roll(x, shifts=tuple(shift), dims=(1, 2)) if shifted else x


def unfolded_patches(source: Any) -> nn.Module | None:
    """timm's `MobileVitV2Block` with patches cut out of five axes; None where it has a form of its own."""
    return None if source.coreml_exportable else answering(source, forward=_mobilevit_v2)


def _mobilevit_v2(self: Any, x: Tensor) -> Tensor:  # (B, C, H, W)
    x = _resized(x, self.patch_size)
    x = self.conv_1x1(self.conv_kxk(x))
    b, c, h, w = x.shape
    below, beside = self.patch_size
    rows, columns = h // below, w // beside
    x = x.reshape(b * c, rows, below, columns, beside).permute(0, 2, 4, 1, 3)  # (B*C, P, P, rows, columns)
    x = self.norm(self.transformer(x.reshape(b, c, below * beside, rows * columns)))
    x = x.reshape(b * c, below, beside, rows, columns).permute(0, 3, 1, 4, 2)  # (B*C, rows, P, columns, P)
    out: Tensor = self.conv_proj(x.reshape(b, c, h, w))
    return out


def _resized(x: Tensor, patch: Sequence[int]) -> Tensor:
    """To sides that patches fill, as the published block does."""
    sides = tuple(-(-side // part) * part for side, part in zip(x.shape[2:], patch, strict=True))
    if sides == tuple(x.shape[2:]):
        return x
    return functional.interpolate(x, size=sides, mode="bilinear", align_corners=True)


class TwinsWindows(nn.Module):
    """timm's `LocallyGroupedAttn` with batch and windows on one axis: rank 5 in place of 6."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.qkv, self.proj = source.qkv, source.proj
        self.heads, self.side, self.scale = source.num_heads, source.ws, source.scale

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:  # (B, H*W, C)
        b, n, c = x.shape
        (h, w), side = size, self.side
        below, beside = -h % side, -w % side
        x = functional.pad(x.reshape(b, h, w, c), (0, 0, 0, beside, 0, below))
        rows, columns = (h + below) // side, (w + beside) // side
        x = x.reshape(b * rows, side, columns, side, c).transpose(1, 2)  # (B*rows, columns, side, side, C)
        x = self._attend(x.reshape(b * rows * columns, side * side, c))
        x = x.reshape(b * rows, columns, side, side, c).transpose(1, 2)  # (B*rows, side, columns, side, C)
        x = x.reshape(b, rows * side, columns * side, c)[:, :h, :w]
        out: Tensor = self.proj(x.reshape(b, n, c))
        return out

    def _attend(self, x: Tensor) -> Tensor:  # (B*windows, side*side, C)
        windows, tokens, c = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B*windows, heads, side*side, head_dim)
        attention = ((q * self.scale) @ k.transpose(2, 3)).softmax(dim=3)
        mixed: Tensor = attention @ v
        return mixed.transpose(1, 2).reshape(windows, tokens, c)
