"""Convolutions, pooling and their padding, as the MIL operator reference of coremltools defines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from converters.mil_call import Call, Implementation

PAD_TYPES = ("valid", "custom", "same", "same_lower")
CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED: tuple[Callable[..., Tensor], ...] = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
AVERAGES: tuple[Callable[..., Tensor], ...] = (
    functional.avg_pool1d,
    functional.avg_pool2d,
    functional.avg_pool3d,
)
MAXIMA: tuple[Callable[..., Tensor], ...] = (
    functional.max_pool1d,
    functional.max_pool2d,
    functional.max_pool3d,
)

Sides = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]  # before and after, for every spatial side


def conv(call: Call) -> Tensor:
    """x (N, C_in, *D), weight (C_out, C_in / groups, *K)."""
    x, weight = call.tensor("x"), call.tensor("weight")
    sides = _spatial(call, x)
    strides, dilations = call.integers("strides", (1,) * sides), call.integers("dilations", (1,) * sides)
    window = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)]
    padding = _padding(call, x.shape[2:], window, strides)
    symmetric = all(before == after for before, after in padding)
    if not symmetric:
        x = _padded(x, padding, 0.0)
    return CONVOLUTIONS[sides - 1](
        x,
        weight,
        call.optional("bias"),
        stride=strides,
        padding=[before for before, _ in padding] if symmetric else 0,
        dilation=dilations,
        groups=call.integer("groups", 1),
    )


def conv_transpose(call: Call) -> Tensor:
    """x (N, C_in, *D), weight (C_in, C_out / groups, *K): the whole result, cut to the output's sides."""
    x, weight = call.tensor("x"), call.tensor("weight")
    sides = _spatial(call, x)
    strides = call.integers("strides", (1,) * sides)
    whole = TRANSPOSED[sides - 1](
        x,
        weight,
        stride=strides,
        dilation=call.integers("dilations", (1,) * sides),
        groups=call.integer("groups", 1),
    )
    cut = _cut(call, whole.shape[2:], [side * step for side, step in zip(x.shape[2:], strides, strict=True)])
    y = _padded(whole, [(-before, -after) for before, after in cut], 0.0)
    bias = call.optional("bias")
    return y if bias is None else y + bias.reshape(-1, *(1,) * sides)


def _cut(call: Call, whole: Sequence[int], same: Sequence[int]) -> Padding:
    """What is left away before and after; a negative number is what `output_shape` adds behind."""
    kind = call.one_of("pad_type", ("valid", "custom", "same"), "valid")
    wanted = call.integers("output_shape")[2:] if "output_shape" in call.arguments else None
    if kind == "same":
        over = [have - want for have, want in zip(whole, wanted or same, strict=True)]
        if min(over) < 0:
            call.refuse("pad_type='same' with a stride larger than the kernel")
        return tuple((number // 2, number - number // 2) for number in over)
    given = call.integers("pad", (0,) * 2 * len(whole)) if kind == "custom" else (0,) * 2 * len(whole)
    before = given[::2]
    if wanted is None:
        return tuple(zip(before, given[1::2], strict=True))
    return tuple(
        (start, have - start - want) for start, have, want in zip(before, whole, wanted, strict=True)
    )


def avg_pool(call: Call) -> Tensor:
    """The mean over windows; padded zeros count unless `exclude_padding_from_average`."""
    pool, padding, x = _pooling(call, AVERAGES)
    exclude = call.flag("exclude_padding_from_average")
    if call.flag("ceil_mode"):
        return pool(
            x, padding=_half(call, padding), ceil_mode=True, count_include_pad=not exclude
        )  # windows beyond the padding are shortened, as PyTorch does
    padded = pool(_padded(x, padding, 0.0))
    if not exclude or not any(map(any, padding)):
        return padded
    return padded / pool(_padded(torch.ones_like(x[:1, :1]), padding, 0.0))


def max_pool(call: Call) -> Tensor:
    pool, padding, x = _pooling(call, MAXIMA)
    if call.flag("ceil_mode"):
        return pool(x, padding=_half(call, padding), ceil_mode=True)
    return pool(_padded(x, padding, float("-inf")))


def l2_pool(call: Call) -> Tensor:
    """The root of the sum of squares over windows."""
    pool, padding, x = _pooling(call, AVERAGES)
    if call.flag("ceil_mode"):
        call.refuse("ceil_mode=True")
    count = 1
    for size in call.integers("kernel_sizes"):
        count *= size
    return (pool(_padded(x, padding, 0.0).square()) * count).sqrt()


def _pooling(
    call: Call, functions: Sequence[Callable[..., Tensor]]
) -> tuple[Callable[..., Tensor], Padding, Tensor]:
    """The pool as a function of x alone, and what x is padded by."""
    x, window = call.tensor("x"), call.integers("kernel_sizes")
    sides = _spatial(call, x)
    strides = call.integers("strides", (1,) * sides)
    function = functions[sides - 1]

    def pool(value: Tensor, **settings: object) -> Tensor:
        return function(value, window, stride=strides, **settings)

    return pool, _padding(call, x.shape[2:], window, strides), x


def _half(call: Call, padding: Padding) -> list[int]:
    """Padding as PyTorch's pools take it: the same on both sides, at most half of the window."""
    window = call.integers("kernel_sizes")
    for (before, after), size in zip(padding, window, strict=True):
        if before != after or 2 * before > size:
            call.refuse(f"ceil_mode=True with pad {padding} for a window of {window}")
    return [before for before, _ in padding]


def _padding(call: Call, sides: Sequence[int], window: Sequence[int], strides: Sides) -> Padding:
    kind = call.one_of("pad_type", PAD_TYPES, "valid")
    if kind == "valid":
        return ((0, 0),) * len(window)
    if kind == "custom":
        given = call.integers("pad", (0,) * 2 * len(window))
        return tuple(zip(given[::2], given[1::2], strict=True))
    found = []
    for side, size, step in zip(sides, window, strides, strict=True):
        total = max(0, (-(-side // step) - 1) * step + size - side)
        less, more = total // 2, total - total // 2
        found.append((less, more) if kind == "same" else (more, less))
    return tuple(found)


def _padded(x: Tensor, padding: Sequence[tuple[int, int]], value: float) -> Tensor:
    flat = [number for pair in reversed(padding) for number in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x


def _spatial(call: Call, x: Tensor) -> int:
    if not 1 <= x.ndim - 2 <= 3:
        call.refuse(f"x has rank {x.ndim}; 3 to 5 are possible")
    return x.ndim - 2


OPS: dict[str, Implementation] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "l2_pool": l2_pool,
}
