"""Operators that reduce or normalize along axes, and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from converters.mil_call import Call, Implementation

Reduction = Callable[[Tensor, tuple[int, ...]], Tensor]


def linear(call: Call) -> Tensor:
    """x (*, D_in), weight (D_out, D_in), bias (D_out)."""
    return functional.linear(call.tensor("x"), call.tensor("weight"), call.optional("bias"))


def matmul(call: Call) -> Tensor:
    """The last two axes, each of them transposed first where asked for; a vector's stay as they are."""
    x, y = call.tensor("x"), call.tensor("y")
    x = x.mT if call.flag("transpose_x") and x.ndim > 1 else x
    y = y.mT if call.flag("transpose_y") and y.ndim > 1 else y
    return x @ y


def einsum(call: Call) -> Tensor:
    return torch.einsum(call.text("equation"), *call.tensors("values"))


def scaled_dot_product_attention(call: Call) -> Tensor:
    """softmax(q k^T / sqrt(E) + mask) v; a mask of truth values keeps what is true."""
    q, k, v = (call.tensor(name) for name in ("query", "key", "value"))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    mask = call.optional("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ v


def softmax(call: Call) -> Tensor:
    return call.tensor("x").softmax(call.integer("axis", -1))


def batch_norm(call: Call) -> Tensor:
    """x (N, C, *D) with the statistics of every channel."""
    x = call.tensor("x")
    return functional.batch_norm(
        x,
        call.tensor("mean").to(x.dtype),
        call.tensor("variance").to(x.dtype),
        call.optional("gamma"),
        call.optional("beta"),
        eps=call.number("epsilon", 1e-5),
    )


def instance_norm(call: Call) -> Tensor:
    """x (N, C, *D), over D."""
    x = call.tensor("x")
    shape = (1, -1, *(1,) * (x.ndim - 2))
    y = _standardized(x, tuple(range(2, x.ndim)), call.number("epsilon", 1e-5))
    return _affine(call, y, shape)


def layer_norm(call: Call) -> Tensor:
    """Over `axes`, all of them by default; gamma and beta have the shape of those axes."""
    x = call.tensor("x")
    axes = sorted(axis % x.ndim for axis in call.integers("axes", range(x.ndim)))
    shape = tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape))
    return _affine(call, _standardized(x, tuple(axes), call.number("epsilon", 1e-5)), shape)


def _standardized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + epsilon).sqrt()


def _affine(call: Call, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    gamma, beta = call.optional("gamma"), call.optional("beta")
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def l2_norm(call: Call) -> Tensor:
    """Divided by the norm over the last three axes."""
    x = call.tensor("x")
    if x.ndim < 3:
        call.refuse(f"x has rank {x.ndim}; at least 3")
    return x / (x.square().sum((-3, -2, -1), keepdim=True) + call.number("epsilon", 1e-6)).sqrt()


def local_response_norm(call: Call) -> Tensor:
    return functional.local_response_norm(
        call.tensor("x"),
        call.integer("size"),
        alpha=call.number("alpha", 1e-4),
        beta=call.number("beta", 0.75),
        k=call.number("k", 1.0),
    )


def reduction(function: Reduction) -> Implementation:
    """Over `axes`, all of them by default; `keep_dims` leaves sides of 1."""

    def reduce(call: Call) -> Tensor:
        x = call.tensor("x")
        axes = sorted({axis % x.ndim for axis in call.integers("axes", range(x.ndim))}) if x.ndim else []
        y = function(x, tuple(axes)) if axes else x
        return y if call.flag("keep_dims") else y.squeeze(tuple(axes))

    return reduce


def _product(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        x = x.prod(axis, keepdim=True)
    return x


def argument(function: Callable[[Tensor, int], Tensor]) -> Implementation:
    def find(call: Call) -> Tensor:
        axis = call.integer("axis", -1)
        found = function(call.tensor("x"), axis)
        return found.unsqueeze(axis) if call.flag("keep_dims") else found

    return find


OPS: dict[str, Implementation] = {
    "linear": linear,
    "matmul": matmul,
    "einsum": einsum,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax,
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "l2_norm": l2_norm,
    "local_response_norm": local_response_norm,
    "reduce_mean": reduction(lambda x, axes: x.mean(axes, keepdim=True)),
    "reduce_sum": reduction(lambda x, axes: x.sum(axes, keepdim=True)),
    "reduce_max": reduction(lambda x, axes: x.amax(axes, keepdim=True)),
    "reduce_min": reduction(lambda x, axes: x.amin(axes, keepdim=True)),
    "reduce_prod": reduction(_product),
    "reduce_l1_norm": reduction(lambda x, axes: x.abs().sum(axes, keepdim=True)),
    "reduce_l2_norm": reduction(lambda x, axes: x.square().sum(axes, keepdim=True).sqrt()),
    "reduce_sum_square": reduction(lambda x, axes: x.square().sum(axes, keepdim=True)),
    "reduce_log_sum": reduction(lambda x, axes: x.sum(axes, keepdim=True).log()),
    "reduce_log_sum_exp": reduction(lambda x, axes: x.logsumexp(axes, keepdim=True)),
    "reduce_argmax": argument(lambda x, axis: x.argmax(axis)),
    "reduce_argmin": argument(lambda x, axis: x.argmin(axis)),
}
