"""Attention in the layout that Apple's Neural Engine computes in: tokens as (B, C, 1, S), channels in front.

The form is the one that Apple published for transformers on the Neural Engine ("Deploying Transformers on the
Apple Neural Engine", machinelearning.apple.com, 2022): projections are 1x1 convolutions, heads are slices of
the channel axis that are computed one by one, the products contract the last axis with axis 1 (Core ML's
`einsum`, which needs no reshape and no transpose), and of all tensors the keys alone are transposed, once.
The scale of the scores is multiplied into the query projection.

The modules here take over a module's weights and compute the same function; `models/` stays as it is. What
the layout brings on a device was not measured: there was no Mac and no iPhone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from converters.forms_of_attention import TwinsWindows
from converters.pointwise import pointwise
from models.nextvit_blocks import EMHSA, HEAD_DIM
from models.transformer import TransformerBlock

# Both are of the one kind that Core ML has as an operator, nchw,nwhu->nchu.
_SCORES, _MIXED = "bkhc,bchq->bkhq", "bchk,bkhq->bchq"


class HeadwiseAttention(nn.Module):
    """`softmax(k^T q) v` for every slice of `head_dim` channels; q is already scaled."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # (B, C, 1, N), 2 x (B, C, 1, M)
        queries = torch.split(q, self.head_dim, dim=1)  # heads x (B, head_dim, 1, N)
        keys = torch.split(k.transpose(1, 3), self.head_dim, dim=3)  # heads x (B, M, 1, head_dim)
        values = torch.split(v, self.head_dim, dim=1)  # heads x (B, head_dim, 1, M)
        heads = [self.head(*parts) for parts in zip(queries, keys, values, strict=True)]
        return torch.cat(heads, dim=1)  # (B, C, 1, N)

    @staticmethod
    def head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attention = torch.einsum(_SCORES, k, q).softmax(dim=1)  # (B, M, 1, N)
        return torch.einsum(_MIXED, v, attention)  # (B, head_dim, 1, N)


class ChannelsFirstEMHSA(nn.Module):
    """Next-ViT's E-MHSA (`models.nextvit_blocks.EMHSA`): one reshape into tokens and one back."""

    def __init__(self, source: EMHSA) -> None:
        super().__init__()
        self.q = _scaled(source.q, HEAD_DIM**-0.5)
        self.k, self.v, self.proj = source.k, source.v, source.proj
        self.pool, self.norm = source.pool, source.norm
        self.attention = HeadwiseAttention(HEAD_DIM)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        b, c, h, w = x.shape
        x = x.reshape(b, c, 1, h * w)
        tokens = self.norm(self.pool(x))  # (B, C, 1, M), M = H*W / reduction**2
        out: Tensor = self.proj(self.attention(self.q(x), self.k(tokens), self.v(tokens)))
        return out.reshape(b, c, h, w)


class ChannelNorm(nn.Module):
    """LayerNorm over axis 1 of (B, C, 1, S)."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = source.eps
        self.weight = nn.Parameter(source.weight.detach()[:, None, None].clone())
        self.bias = nn.Parameter(source.bias.detach()[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(dim=1, keepdim=True)
        x = x * ((x * x).mean(dim=1, keepdim=True) + self.eps).rsqrt()
        return x * self.weight + self.bias


class ChannelsFirstTransformerBlock(nn.Module):
    """`models.transformer.TransformerBlock`: `x + MHSA(LN(x))`, then `x + MLP(LN(x))`."""

    def __init__(self, source: TransformerBlock) -> None:
        super().__init__()
        attention, mlp = source.attention, source.mlp
        q, k, v = (pointwise(*rows) for rows in _thirds(attention.qkv))
        self.norm1, self.norm2 = _norm(source.norm1), _norm(source.norm2)
        self.q, self.k, self.v = _scaled(q, attention.head_dim**-0.5), k, v
        self.attention = HeadwiseAttention(attention.head_dim)
        self.proj = pointwise(attention.proj.weight, attention.proj.bias)
        self.fc1 = pointwise(mlp.fc1.weight, mlp.fc1.bias)
        self.act = mlp.act
        self.fc2 = pointwise(mlp.fc2.weight, mlp.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        b, c, h, w = x.shape
        x = x.reshape(b, c, 1, h * w)
        y = self.norm1(x)
        x = x + self.proj(self.attention(self.q(y), self.k(y), self.v(y)))
        x = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return x.reshape(b, c, h, w)


Layouts = Mapping[str, Callable[[Any], nn.Module]]

# By the class's place, so that no other library is imported.
LAYOUTS: Layouts = {
    "models.nextvit_blocks.EMHSA": ChannelsFirstEMHSA,
    "models.transformer.TransformerBlock": ChannelsFirstTransformerBlock,
    "timm.models.twins.LocallyGroupedAttn": TwinsWindows,
}


def relayout(net: nn.Module, *, published: Collection[str] = ()) -> tuple[nn.Module, Mapping[str, int]]:
    """A copy of `net` with every module that has a form of its own here in that form, and how many of each.

    `net` is in eval mode and is not modified. Modules of the classes in `published` stay as they are.
    """
    changed: Counter[str] = Counter()
    layouts = {place: form for place, form in LAYOUTS.items() if place not in published}
    return _changed(copy.deepcopy(net), layouts, changed).eval(), dict(sorted(changed.items()))


def _changed(module: nn.Module, layouts: Layouts, changed: Counter[str]) -> nn.Module:
    kind = type(module)
    form = layouts.get(f"{kind.__module__}.{kind.__qualname__}")
    if form is not None:
        changed[kind.__name__] += 1
        return form(module)
    for name, child in list(module.named_children()):
        setattr(module, name, _changed(child, layouts, changed))
    return module


def _scaled(conv: nn.Conv2d, factor: float) -> nn.Conv2d:
    """`conv(x) * factor` as one convolution."""
    assert conv.bias is not None
    return pointwise(conv.weight.flatten(1) * factor, conv.bias * factor)


def _thirds(qkv: nn.Linear) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of queries, keys and values, which lie one below the other."""
    return list(zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True))


def _norm(norm: nn.Module) -> nn.Module:
    """The LayerNorm of tokens in this layout; fusion may have left an Identity in its place."""
    return ChannelNorm(norm) if isinstance(norm, nn.LayerNorm) else norm
