"""Linear maps over channels as 1x1 convolutions."""

from __future__ import annotations

from torch import Tensor, nn


def pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A 1x1 convolution from the matrix (out, in) and bias of a linear map; they are copied."""
    rows, columns = weight.shape
    conv = nn.Conv2d(columns, rows, 1, bias=bias is not None, device="meta", dtype=weight.dtype)
    conv.weight = nn.Parameter(weight.detach()[:, :, None, None].clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv
