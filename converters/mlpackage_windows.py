"""Attention of other libraries in a form that Core ML can hold: five axes at most.

The modules take over a module's weights and compute the same function.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


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
