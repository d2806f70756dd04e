"""Resizing of the last two axes, from the sampling grids that the MIL operator reference gives.

Each side is sampled by itself, at positions computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from converters.mil_call import Call, Implementation

SAMPLING_MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def upsample_nearest_neighbor(call: Call) -> Tensor:
    x = call.tensor("x")
    return _nearest(x, _scaled(call, x))


def resize_nearest_neighbor(call: Call) -> Tensor:
    return _nearest(call.tensor("x"), _target(call))


def upsample_bilinear(call: Call) -> Tensor:
    x = call.tensor("x")
    align = call.flag("align_corners", True)
    half = call.flag("half_pixel_centers", not align)
    if align and half:
        call.refuse("align_corners and half_pixel_centers together")
    mode = "ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half else "DEFAULT"
    return _linear(x, _scaled(call, x), "STRICT_ALIGN_CORNERS" if align else mode)


def resize_bilinear(call: Call) -> Tensor:
    mode = call.one_of("sampling_mode", SAMPLING_MODES, "DEFAULT")
    return _linear(call.tensor("x"), _target(call), mode)


def resize(call: Call) -> Tensor:
    """The operator of iOS 17: the last `resized_dims` of `shape`, where 0 keeps a side."""
    x, count = call.tensor("x"), call.integer("resized_dims")
    if count > 2:
        call.refuse(f"resized_dims={count}; 1 and 2 are possible")
    wanted = call.integers("shape")
    sides = [size or x.shape[axis - count] for axis, size in enumerate(wanted[len(wanted) - count :])]
    mode = call.one_of("sampling_mode", SAMPLING_MODES, "DEFAULT")
    if call.one_of("interpolation_mode", ("LINEAR", "NEAREST_NEIGHBOR"), "LINEAR") == "LINEAR":
        return _linear(x, sides, mode)
    if mode != "DEFAULT":
        call.refuse(f"NEAREST_NEIGHBOR with sampling_mode={mode}; known is DEFAULT")
    return _nearest(x, sides)


def _target(call: Call) -> list[int]:
    return [call.integer("target_size_height", 1), call.integer("target_size_width", 1)]


def _scaled(call: Call, x: Tensor) -> list[int]:
    names = ("scale_factor_height", "scale_factor_width")
    return [int(call.number(name, 1) * side) for name, side in zip(names, x.shape[-2:], strict=True)]


def _nearest(x: Tensor, sides: Sequence[int]) -> Tensor:
    for axis, size in zip(range(-len(sides), 0), sides, strict=True):
        x = x.index_select(axis, torch.arange(size) * x.shape[axis] // size)
    return x


def _linear(x: Tensor, sides: Sequence[int], mode: str) -> Tensor:
    for axis, size in zip(range(-len(sides), 0), sides, strict=True):
        have = x.shape[axis]
        place = _grid(have, size, mode).clamp(0, have - 1)
        below = place.floor().long()
        above = (below + 1).clamp(max=have - 1)
        weight = (place - below).to(x.dtype).reshape(-1, *(1,) * (-axis - 1))
        x = x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
    return x


def _grid(have: int, want: int, mode: str) -> Tensor:
    """Where the `want` samples lie among `have` values."""
    steps = torch.arange(want, dtype=torch.float64)
    if mode == "UNALIGN_CORNERS":
        return (steps + 0.5) * have / want - 0.5
    if mode == "OFFSET_CORNERS":
        return (steps + 0.5) * max(1, have - 1) / want
    if mode == "DEFAULT":
        return steps * have / want
    if want == 1:
        return steps + ((have - 1) / 2 if mode == "ALIGN_CORNERS" else 0)
    return steps * (have - 1) / (want - 1)


OPS: dict[str, Implementation] = {
    function.__name__: function
    for function in (
        upsample_nearest_neighbor,
        resize_nearest_neighbor,
        upsample_bilinear,
        resize_bilinear,
        resize,
    )
}
