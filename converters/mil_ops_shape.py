"""Operators that move, cut, join and repeat values and compute none."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from converters.mil_call import Call, Implementation


def reshape(call: Call) -> Tensor:
    """A -1 is what is left; a 0 keeps the side at its place."""
    x, shape = call.tensor("x"), call.integers("shape")
    if 0 in shape and x.numel():
        if len(shape) != x.ndim:
            call.refuse(f"shape {list(shape)} keeps sides of an x of rank {x.ndim}")
        shape = tuple(new or old for new, old in zip(shape, x.shape, strict=True))
    return x.reshape(shape)


def transpose(call: Call) -> Tensor:
    return call.tensor("x").permute(call.integers("perm"))


def expand_dims(call: Call) -> Tensor:
    x, axes = call.tensor("x"), call.integers("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.squeeze(call.integers("axes")) if "axes" in call.arguments else x.squeeze()


def concat(call: Call) -> Tensor:
    # Shapes that are put together while the program runs are made of single numbers.
    values, axis = tuple(map(torch.atleast_1d, call.tensors("values"))), call.integer("axis")
    if not call.flag("interleave"):
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def stack(call: Call) -> Tensor:
    return torch.stack(call.tensors("values"), call.integer("axis"))


def split(call: Call) -> tuple[Tensor, ...]:
    x, axis = call.tensor("x"), call.integer("axis")
    if "split_sizes" in call.arguments:
        return torch.split(x, list(call.integers("split_sizes")), axis)
    return torch.split(x, x.shape[axis] // call.integer("num_splits"), axis)


def slice_by_index(call: Call) -> Tensor:
    """NumPy's slicing: a set mask bit of begin or end ignores that bound, of squeeze takes one element."""
    x = call.tensor("x")
    begin, end, stride = (call.integers(name, (1,) * x.ndim) for name in ("begin", "end", "stride"))
    masks = [call.flags(name, x.ndim) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    index: list[int | Tensor] = []
    for axis, (no_begin, no_end, squeezed) in enumerate(zip(*masks, strict=True)):
        places = range(x.shape[axis])[
            None if no_begin else begin[axis] : None if no_end or squeezed else end[axis] : stride[axis]
        ]
        if squeezed:
            index.append(0 if no_begin else begin[axis])
        else:
            index.append(torch.tensor(list(places), dtype=torch.long))
    for axis in reversed(range(x.ndim)):
        place = index[axis]
        x = x.select(axis, place) if isinstance(place, int) else _picked(x, axis, place)
    return x


def _picked(x: Tensor, axis: int, places: Tensor) -> Tensor:
    if len(places) == x.shape[axis] and bool((places == torch.arange(len(places))).all()):
        return x
    return x.index_select(axis, places)


def slice_by_size(call: Call) -> Tensor:
    """A size of -1 takes everything from `begin` on."""
    x = call.tensor("x")
    for axis, (begin, size) in enumerate(zip(call.integers("begin"), call.integers("size"), strict=True)):
        start = begin % x.shape[axis] if begin < 0 else begin
        x = x.narrow(axis, start, x.shape[axis] - start if size == -1 else size)
    return x


def gather(call: Call) -> Tensor:
    """x (*B, *D) at indices (*B, *I) along `axis`; negative indices count from the end."""
    x, axis = call.tensor("x"), call.integer("axis", 0)
    axis %= x.ndim
    indices = _indices(call, x.shape[axis])
    batch = call.integer("batch_dims", 0)
    if not batch:
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return x.index_select(axis, indices.reshape(-1)).reshape(shape)
    places = itertools.product(*(range(side) for side in x.shape[:batch]))
    parts = [x[place].index_select(axis - batch, indices[place].reshape(-1)) for place in places]
    shape = (*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :])
    return torch.stack(parts).reshape(shape)


def gather_along_axis(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 0)
    indices = _indices(call, x.shape[axis])
    shape = list(x.shape)
    shape[axis] = indices.shape[axis]
    return x.gather(axis, indices.expand(shape))


def gather_nd(call: Call) -> Tensor:
    """The last axis of indices (*I, K) names a place along the first K axes of x."""
    x, indices = call.tensor("x"), call.tensor("indices").long()
    if call.integer("batch_dims", 0):
        call.refuse(f"batch_dims={call.integer('batch_dims')}")
    return x[tuple(indices[..., k] for k in range(indices.shape[-1]))]


def _indices(call: Call, size: int) -> Tensor:
    indices = call.tensor("indices").long()
    if indices.numel() and not (-size <= int(indices.min()) and int(indices.max()) < size):
        call.refuse(f"an index outside of the {size} places")
    return indices % size


def tile(call: Call) -> Tensor:
    return call.tensor("x").repeat(call.integers("reps"))


def pad(call: Call) -> Tensor:
    """The last axes, two numbers for each; `reflect` leaves the edge out, `replicate` repeats it."""
    x = call.tensor("x")
    mode = call.one_of("mode", ("constant", "reflect", "replicate"), "constant")
    given = call.integers("pad")
    pairs = list(zip(given[::2], given[1::2], strict=True))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        flat = [number for pair in reversed(pairs) for number in pair]
        return torch.nn.functional.pad(x, flat, value=call.number("constant_val", 0.0))
    for axis, pair in enumerate(pairs):
        if any(pair):
            x = x.index_select(axis, _mirrored(call, x.shape[axis], pair, mode))
    return x


def _mirrored(call: Call, size: int, pair: tuple[int, int], mode: str) -> Tensor:
    if mode == "reflect" and max(pair) >= size:
        call.refuse(f"reflect by {pair} of a side of {size}")
    places = torch.arange(-pair[0], size + pair[1])
    if mode == "replicate":
        return places.clamp(0, size - 1)
    return torch.where(places >= size, 2 * (size - 1) - places, places.abs())


def reverse(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.flip(call.integers("axes", range(x.ndim)))


def flatten2d(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 1)
    sides = x.shape[: axis % x.ndim if axis < 0 else axis]
    return x.reshape(math.prod(sides), -1)


def shape(call: Call) -> Tensor:
    return torch.tensor(call.tensor("x").shape, dtype=torch.int32)


def pixel_shuffle(call: Call) -> Tensor:
    return torch.nn.functional.pixel_shuffle(call.tensor("x"), call.integer("upscale_factor"))


def pixel_unshuffle(call: Call) -> Tensor:
    return torch.nn.functional.pixel_unshuffle(call.tensor("x"), call.integer("downscale_factor"))


def fill(call: Call) -> Tensor:
    return call.tensor("value").reshape(()).expand(call.integers("shape")).clone()


def fill_like(call: Call) -> Tensor:
    return call.tensor("value").reshape(()).expand(call.tensor("ref_tensor").shape).clone()


def range_1d(call: Call) -> Tensor:
    start, end, step = (call.tensor(name).item() for name in ("start", "end", "step"))
    return torch.arange(start, end, step, dtype=call.tensor("start").dtype)


def cumsum(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 0)
    x = x.flip(axis) if call.flag("reverse") else x
    y = x.cumsum(axis)
    y = y - x if call.flag("exclusive") else y
    return y.flip(axis) if call.flag("reverse") else y


def band_part(call: Call) -> Tensor:
    """Keeps `lower` diagonals below and `upper` above the main one; -1 keeps all of them."""
    x = call.tensor("x")
    lower, upper = call.integer("lower", -1), call.integer("upper", -1)
    y = x if upper < 0 else x.tril(upper)
    return y if lower < 0 else y.triu(-lower)


def one_hot(call: Call) -> Tensor:
    size, axis = call.integer("one_hot_vector_size"), call.integer("axis", -1)
    hot = torch.nn.functional.one_hot(_indices(call, size), size).bool().movedim(-1, axis)
    on, off = (_value(call, name, default) for name, default in (("on_value", 1), ("off_value", 0)))
    return torch.where(hot, on, off)


def _value(call: Call, name: str, default: int) -> Tensor:
    return call.tensor(name) if name in call.arguments else torch.tensor(default, dtype=torch.int32)


def topk(call: Call) -> tuple[Tensor, ...]:
    x, axis = call.tensor("x"), call.integer("axis", -1)
    order = _order(call, x, axis)
    order = order.narrow(axis, 0, call.integer("k", 1))
    values = x.gather(axis, order)
    return (values, order) if call.flag("return_indices", True) else (values,)


def argsort(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", -1)
    return _order(call, x, axis)


def _order(call: Call, x: Tensor, axis: int) -> Tensor:
    return torch.argsort(x, stable=True, dim=axis, descending=not call.flag("ascending"))


def sliding_windows(call: Call) -> Tensor:
    axis, size, step = call.integer("axis"), call.integer("size"), call.integer("stride", 1)
    x = call.tensor("x")
    axis %= x.ndim
    return x.unfold(axis, size, step).movedim(-1, axis + 1)


OPS: dict[str, Implementation] = {
    function.__name__: function
    for function in (
        reshape, transpose, expand_dims, squeeze, concat, stack, split, slice_by_index, slice_by_size,
        gather, gather_along_axis, gather_nd, tile, pad, reverse, flatten2d, shape, pixel_shuffle,
        pixel_unshuffle, fill, fill_like, range_1d, cumsum, band_part, one_hot, topk, argsort,
        sliding_windows,
    )
}  # fmt: skip
