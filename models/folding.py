"""Reparameterization as exact algebra: fewer operators, the same function.

Every function here returns new layers and leaves its arguments as they were; sums are made in float64 and
cast back to the layer's own type.

The fusion contract. A module that can be fused has `fuse() -> nn.Module` and

- returns its replacement, which computes the same in eval mode; the module itself is not modified. Parts that
  do not change are shared with the replacement, so whoever keeps both copies first (`fuse_all` does);
- works when its children have been fused already, and handles only what spans its own direct members:
  `fuse_all` goes children first, then the module, the root last;
- says what it removed: the functions here `record` it, and `fuse_all(net, folded=counter)` adds it up.

`forward()` never knows: a member that was folded away becomes `nn.Identity`.

Kinds recorded: `conv_bn`, `linear_bn` (BatchNorm folded into the layer before it), `bn_conv`, `bn_linear`
(into every layer that reads it), `layer_scale`, `branch` (a parallel branch summed into its neighbour),
`pool_minus_identity` (pooling turned into a depthwise convolution).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from models.errors import FoldingError

Module = TypeVar("Module", bound=nn.Module)
Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AffineNorm = (*BatchNorm, nn.GroupNorm, nn.LayerNorm)

_ledger: ContextVar[Counter[str] | None] = ContextVar("folded", default=None)


@runtime_checkable
class Fusible(Protocol):
    """A module with a replacement that computes the same."""

    def fuse(self) -> nn.Module: ...


@dataclass(frozen=True, slots=True)
class Affine:
    """`x * scale + shift` per channel, in float64."""

    scale: Tensor
    shift: Tensor


@runtime_checkable
class HasAffine(Protocol):
    """A module that is nothing but a per-channel affine map, as a layer scale is."""

    fold_kind: str

    def as_affine(self) -> Affine: ...


def fuse_all(net: Module, *, folded: Counter[str] | None = None) -> nn.Module:
    """A deep copy of `net` with every fusible module replaced, children first, the root last.

    `folded` receives how many folds of which kind were made. Raises FoldingError where a fusion would not be
    exact: a network in training mode, for one.
    """
    token = _ledger.set(Counter() if folded is None else folded)
    try:
        return _fused(copy.deepcopy(net))
    finally:
        _ledger.reset(token)


def _fused(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _fused(child))
    return module.fuse() if _keeps_contract(module) and isinstance(module, Fusible) else module


def _keeps_contract(module: nn.Module) -> bool:
    """timm has methods of the same name that want their children unfused, so its classes are left alone."""
    return not type(module).__module__.startswith("timm.")


def record(kind: str, count: int = 1) -> None:
    """Tell the running `fuse_all` what was removed; outside of one, nobody counts."""
    ledger = _ledger.get()
    if ledger is not None and count:
        ledger[kind] += count


def replaced(module: Module, **members: nn.Module | nn.Parameter) -> Module:
    """A shallow copy of a module with some members replaced: same class, same forward, other parts."""
    clone = object.__new__(type(module))
    for key, value in vars(module).items():
        clone.__dict__[key] = value.copy() if isinstance(value, dict | set) else value
    for name, member in members.items():
        setattr(clone, name, member)
    return clone


def affine_of(module: nn.Module) -> Affine:
    """The per-channel affine map that a BatchNorm in eval mode, or a layer scale, is.

    BatchNorm: scale = weight / sqrt(var + eps), shift = bias - mean * scale (Ioffe and Szegedy,
    arXiv 1502.03167, algorithm 2). Raises FoldingError for a BatchNorm that is in training mode or keeps no
    running statistics, and for every other module.
    """
    if isinstance(module, HasAffine):
        return module.as_affine()
    if type(module) not in BatchNorm:  # a subclass may do more, as timm's BatchNormAct2d does
        raise FoldingError(f"{type(module).__name__} is no per-channel affine map: only BatchNorm is")
    assert isinstance(module, BatchNorm)
    if module.training:
        raise FoldingError("BatchNorm in training mode depends on its batch: call eval() before fusing")
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        raise FoldingError("BatchNorm without running statistics depends on its batch and cannot be folded")
    weight, bias = module.weight, module.bias
    scale = (variance.double() + module.eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach().double()
    shift = -mean.double() * scale
    return Affine(scale, shift if bias is None else shift + bias.detach().double())


def fold_into_previous(layer: Module, module: nn.Module) -> Module:
    """`module(layer(x))` as one layer of the same kind: `W' = scale * W`, `b' = scale * b + shift`.

    `layer` is a Conv, a Linear or a normalization with weight and bias; `module` a BatchNorm or a layer
    scale, with one value per output channel of `layer`. An `nn.Identity` leaves `layer` as it is.
    """
    if isinstance(module, nn.Identity):
        return layer
    affine = affine_of(module)
    if not isinstance(layer, (*Convolution, nn.Linear, *AffineNorm)):
        raise FoldingError(f"nothing can be folded into {type(layer).__name__}: no weight per output channel")
    if layer.weight is None:
        raise FoldingError(f"{type(layer).__name__} without weight and bias takes no affine map")
    if len(affine.scale) != layer.weight.shape[0]:
        raise FoldingError(
            f"{len(affine.scale)} channels cannot be folded into {layer.weight.shape[0]} outputs of {layer}"
        )
    record(_kind(layer, module))
    weight = layer.weight.detach().double() * _per_row(affine.scale, layer.weight)
    return _with_weights(layer, weight, _bias(layer) * affine.scale + affine.shift)


def fold_into_next(module: nn.Module, *layers: Module) -> tuple[Module, ...]:
    """`layer(module(x))` for every layer that reads `module`, as layers of the same kind.

    `W' = W * scale` per input channel, `b' = b + sum(W) @ shift`. Whatever stands between and averages over
    positions (AvgPool without padding, global average pooling) commutes with an affine map, so it may stay.
    `layers` are Conv or Linear. Exact only where no position reads a zero that padding put there: a Conv that
    pads with zeros is refused unless the shift is zero. An `nn.Identity` leaves the layers as they are.
    """
    if isinstance(module, nn.Identity):
        return layers
    affine = affine_of(module)
    folded = tuple(_fold_before(layer, affine) for layer in layers)
    record("bn_linear" if isinstance(layers[0], nn.Linear) else "bn_conv")
    return folded


def _fold_before(layer: Module, affine: Affine) -> Module:
    if not isinstance(layer, (*Convolution, nn.Linear)):
        raise FoldingError(f"nothing can be folded into the {type(layer).__name__} that follows it")
    if isinstance(layer, Convolution) and _reads_zeros(layer) and bool(affine.shift.any()):
        raise FoldingError(
            f"{layer} pads with zeros, which the BatchNorm before it would have shifted: not exact"
        )
    weight = layer.weight.detach().double()
    groups = layer.groups if isinstance(layer, Convolution) else 1
    if len(affine.scale) != groups * weight.shape[1]:
        raise FoldingError(f"{len(affine.scale)} channels do not match the inputs of {layer}")
    scale, shift = (_per_input(values, weight, groups) for values in (affine.scale, affine.shift))
    bias = _bias(layer) + (weight * shift).flatten(1).sum(1)
    return _with_weights(layer, weight * scale, bias)


def merge_branches(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """The sum of parallel convolutions as one (RepVGG, arXiv 2101.03697, section 3.3).

    Smaller kernels are padded with zeros to the largest. Raises FoldingError unless all have odd kernels
    centred by their padding and the same channels, stride, groups and padding mode.
    """
    largest = max(convs, key=lambda conv: conv.kernel_size)
    for conv in convs:
        _check_parallel(conv, largest)
    weight = sum(_padded_kernel(conv, largest.kernel_size) for conv in convs)
    bias = sum(_bias(conv) for conv in convs)
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    record("branch", len(convs) - 1)
    return _with_weights(largest, weight, bias)


def identity_conv(channels: int, *, groups: int = 1, like: Tensor) -> nn.Conv2d:
    """A 1x1 convolution that returns its input, so that an identity branch can be merged.

    `like` gives the type and device of the weights.
    """
    conv = _uninitialized(channels, channels, kernel_size=1, groups=groups)
    eye = torch.eye(channels // groups, dtype=like.dtype, device=like.device)
    return replaced(conv, weight=nn.Parameter(eye.repeat(groups, 1)[..., None, None], requires_grad=False))


def pool_minus_identity(pool: nn.AvgPool2d, channels: int, *, like: Tensor) -> nn.Conv2d:
    """`pool(x) - x` as one depthwise convolution.

    Exact only where the padding counts (`count_include_pad=True`): otherwise the divisor at the border is
    another one and FoldingError is raised. PoolFormer and EfficientFormer do not count it.
    """
    size, padding = _side(pool.kernel_size), _side(pool.padding)
    counted = pool.count_include_pad and pool.divisor_override is None and not pool.ceil_mode
    if not counted or _side(pool.stride) != 1 or size != 2 * padding + 1:
        raise FoldingError(
            f"{pool} minus its input is no convolution: it must keep its size and count padding"
        )
    conv = _uninitialized(channels, channels, kernel_size=size, padding=padding, groups=channels)
    kernel = torch.full((channels, 1, size, size), 1 / size**2, dtype=torch.float64)
    kernel[:, :, padding, padding] -= 1
    record("pool_minus_identity")
    return replaced(conv, weight=nn.Parameter(kernel.to(like), requires_grad=False))


def _kind(layer: nn.Module, module: nn.Module) -> str:
    if isinstance(module, HasAffine):
        return module.fold_kind
    return "linear_bn" if isinstance(layer, nn.Linear) else "conv_bn"


def _bias(layer: nn.Module) -> Tensor:
    if isinstance(layer.bias, Tensor):
        return layer.bias.detach().double()
    assert isinstance(layer.weight, Tensor)
    return torch.zeros(layer.weight.shape[0], dtype=torch.float64, device=layer.weight.device)


def _with_weights(layer: Module, weight: Tensor, bias: Tensor) -> Module:
    old = layer.weight
    assert isinstance(old, Tensor)
    new = (nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad) for value in (weight, bias))
    return replaced(layer, **dict(zip(("weight", "bias"), new, strict=True)))


def _per_row(values: Tensor, weight: Tensor) -> Tensor:
    """One value per output, shaped to multiply `weight` (O, I/groups, *kernel)."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def _per_input(values: Tensor, weight: Tensor, groups: int) -> Tensor:
    """One value per input, shaped to multiply `weight` (O, I/groups, *kernel): by group."""
    rows = values.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))


def _reads_zeros(conv: nn.Module) -> bool:
    assert isinstance(conv, Convolution)
    if conv.padding_mode != "zeros" or conv.padding == "valid":
        return False
    return conv.padding == "same" or any(conv.padding)


def _check_parallel(conv: nn.Conv2d, largest: nn.Conv2d) -> None:
    shared = ("in_channels", "out_channels", "stride", "groups", "padding_mode")
    different = [name for name in shared if getattr(conv, name) != getattr(largest, name)]
    if different:
        raise FoldingError(f"branches differ in {', '.join(different)}: {conv} and {largest}")
    centred = tuple(2 * side + 1 if isinstance(side, int) else None for side in conv.padding)
    if conv.padding_mode != "zeros" or conv.dilation != (1, 1) or centred != conv.kernel_size:
        raise FoldingError(f"{conv} is not centred: odd kernels padded by half with zeros can be merged")


def _padded_kernel(conv: nn.Conv2d, size: tuple[int, ...]) -> Tensor:
    rows, columns = ((big - small) // 2 for big, small in zip(size, conv.kernel_size, strict=True))
    return nn.functional.pad(conv.weight.detach().double(), (columns, columns, rows, rows))


def _uninitialized(
    in_channels: int, out_channels: int, *, kernel_size: int, padding: int = 0, groups: int = 1
) -> nn.Conv2d:
    """On the meta device: no memory, and the global random generator is not touched."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=False, device="meta"
    ).eval()


def _side(value: int | tuple[int, int]) -> int:
    if isinstance(value, int):
        return value
    if value[0] != value[1]:
        raise FoldingError(f"pooling of {value} is not square")
    return value[0]
