"""Compressed weights: how a Core ML program turns what is stored into the numbers that it computes with.

The operators of iOS 16 pack their bits into bytes, lowest bit first; those of iOS 18 have types of less than
a byte, which arrive here one value each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from converters.mil_call import Call, Implementation

LUT_BITS = {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}


def constexpr_affine_dequantize(call: Call) -> Tensor:
    """scale * (quantized_data - zero_point), both per tensor or along `axis`."""
    data = call.tensor("quantized_data")
    shape = [1] * data.ndim
    shape[call.integer("axis")] = -1
    scale, zero_point = (
        value.reshape(shape) if value.ndim else value
        for value in (call.tensor("scale"), call.tensor("zero_point"))
    )
    return scale * (data.to(scale.dtype) - zero_point.to(scale.dtype))


def constexpr_blockwise_shift_scale(call: Call) -> Tensor:
    """scale * (data - offset), where each value of scale and offset holds for a block."""
    data, scale = call.tensor("data"), call.tensor("scale")
    return _shift_scale(data.to(scale.dtype), scale, call.optional("offset"))


def constexpr_lut_to_dense(call: Call) -> Tensor:
    """`lut[indices]`: one table of scalars, or (iOS 18) a table per block of scalars or vectors."""
    lut = call.tensor("lut")
    if "shape" not in call.arguments:
        axis = call.integer("vector_axis") if "vector_axis" in call.arguments else None
        return _from_tables(call, call.tensor("indices"), lut, axis)
    if lut.numel() not in LUT_BITS:
        call.refuse(f"a table of {lut.numel()} values")
    shape = call.integers("shape")
    indices = _unpacked(call.tensor("indices"), LUT_BITS[lut.numel()], math.prod(shape))
    return lut[indices].reshape(shape)


def constexpr_sparse_to_dense(call: Call) -> Tensor:
    """Values where the mask is set, zero elsewhere."""
    mask = call.tensor("mask")
    if "shape" in call.arguments:
        shape = call.integers("shape")
        mask = _unpacked(mask, 1, math.prod(shape)).reshape(shape)
    return _scattered(call.tensor("nonzero_data"), mask)


def constexpr_lut_to_sparse(call: Call) -> tuple[Tensor, ...]:
    """The mask and the values that the table has for its places."""
    mask = call.tensor("indices_mask")
    indices = _scattered(call.tensor("indices_nonzero_data"), mask)
    axis = call.integer("vector_axis") if "vector_axis" in call.arguments else None
    lut = call.tensor("lut")
    for side in range(mask.ndim if lut.shape[-1] > 1 else 0):
        if side == (axis or 0) % mask.ndim:
            mask = mask.repeat_interleave(lut.shape[-1], side)
    return mask, _from_tables(call, indices, lut, axis)[mask != 0]


def constexpr_sparse_blockwise_shift_scale(call: Call) -> tuple[Tensor, ...]:
    mask, scale = call.tensor("data_mask"), call.tensor("scale")
    dense = _scattered(call.tensor("nonzero_data"), mask).to(scale.dtype)
    return mask, _shift_scale(dense, scale, call.optional("offset"))[mask != 0]


def constexpr_cast(call: Call) -> Tensor:
    return call.tensor("source_val")


def _shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    shifted = data if offset is None else data - _spread(offset.to(scale.dtype), data)
    return shifted * _spread(scale, data)


def _spread(value: Tensor, like: Tensor) -> Tensor:
    """`value` repeated along every axis until it has the shape of `like`."""
    for axis in range(like.ndim):
        value = value.repeat_interleave(like.shape[axis] // value.shape[axis], axis)
    return value


def _from_tables(call: Call, indices: Tensor, lut: Tensor, axis: int | None) -> Tensor:
    """indices (*S), lut (*T, palettes, vector): T divides S, a vector lies along `axis` of the result."""
    vector = lut.shape[-1]
    if vector > 1 and axis is None:
        call.refuse("vectors without a vector_axis")
    tables = lut.reshape(-1, *lut.shape[-2:])
    table_of = _spread(torch.arange(len(tables)).reshape(lut.shape[:-2]), indices)
    values = tables[table_of, indices.long()]  # (*S, vector)
    if vector == 1:
        return values.squeeze(-1)
    place = (axis or 0) % indices.ndim
    return values.movedim(-1, place + 1).flatten(place, place + 1)


def _scattered(values: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[mask != 0] = values
    return dense


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """`count` numbers of `bits` bits from bytes, the lowest bit first."""
    octets = packed.to(torch.int64).reshape(-1, 1)
    stream = ((octets >> torch.arange(8)) & 1).reshape(-1)[: count * bits].reshape(count, bits)
    return (stream << torch.arange(bits)).sum(1)


OPS: dict[str, Implementation] = {
    function.__name__: function
    for function in (
        constexpr_affine_dequantize,
        constexpr_blockwise_shift_scale,
        constexpr_cast,
        constexpr_lut_to_dense,
        constexpr_lut_to_sparse,
        constexpr_sparse_blockwise_shift_scale,
        constexpr_sparse_to_dense,
    )
}
