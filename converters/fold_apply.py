"""Module surgery for planned folds: layers are replaced where they hang, so names and hierarchy stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from converters.fold_plan import Fold
from models.folding import Affine, fold_into_next, fold_into_previous


class _Scale(nn.Module):
    """A layer scale as `models.folding` wants to see it: values per channel and no shift."""

    fold_kind = "layer_scale"

    def __init__(self, gamma: Tensor) -> None:
        super().__init__()
        self.gamma = gamma.detach().double().flatten()

    def as_affine(self) -> Affine:
        return Affine(self.gamma, torch.zeros_like(self.gamma))


def apply_folds(net: nn.Module, folds: Iterable[Fold], folded: Counter[str]) -> None:
    """Make every planned fold in `net`, in order, and count them by kind."""
    with torch.no_grad():
        for fold in folds:
            folded[_apply(net, fold)] += 1


def _apply(net: nn.Module, fold: Fold) -> str:
    layers = [net.get_submodule(name) for name in fold.layers]
    owner = net.get_submodule(fold.factor)
    if fold.attribute:
        _replace(net, fold.layers[0], _scaled(layers[0], getattr(owner, fold.attribute)))
        remove_scale(net, fold)
        return "layer_scale"
    norm = _normalization(owner)
    new = fold_into_next(norm, *layers) if fold.forward else (fold_into_previous(layers[0], norm),)
    for name, layer in zip(fold.layers, new, strict=True):
        _replace(net, name, layer)
    _replace(net, fold.factor, what_remains(owner))
    kind = "linear" if isinstance(layers[0], nn.Linear) else "conv"
    return f"bn_{kind}" if fold.forward else f"{kind}_bn"


def _normalization(norm: nn.Module) -> nn.Module:
    """The BatchNorm alone of a module that may do more; the parameters are shared."""
    plain = nn.BatchNorm2d(cast(int, norm.num_features), eps=cast(float, norm.eps), device="meta").eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        setattr(plain, name, getattr(norm, name))
    return plain


def _scaled(layer: nn.Module, gamma: Tensor) -> nn.Module:
    had_bias = layer.bias is not None
    scaled = fold_into_previous(layer, _Scale(gamma))
    if not had_bias:
        # Zero times a scale: the layer needs no bias that it did not have.
        scaled.register_parameter("bias", None)
    return scaled


def what_remains(norm: nn.Module) -> nn.Module:
    """What a BatchNorm module does after normalizing: nothing, or timm's `drop` and `act`."""
    rest = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    rest = [part for part in rest if not isinstance(part, nn.Identity)]
    if len(rest) == 1:
        return rest[0]
    return nn.Sequential(*rest).eval() if rest else nn.Identity()


def remove_scale(net: nn.Module, fold: Fold) -> None:
    """Take a folded layer scale out: the module that does nothing else, or the attribute (ConvNeXt)."""
    owner = net.get_submodule(fold.factor)
    if fold.factor and _is_only_scale(owner, fold.attribute):
        _replace(net, fold.factor, nn.Identity())
    else:
        setattr(owner, fold.attribute, None)


def _is_only_scale(module: nn.Module, attribute: str) -> bool:
    return [name for name, _ in module.named_parameters()] == [attribute] and not list(module.children())


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, module)


def removable_scales(
    scratch: nn.Module, example: Tensor, folds: Sequence[Fold], reasons: dict[str, str]
) -> list[Fold]:
    """The folds without those layer scales that a module cannot do without.

    Whether a module skips its scale when it is taken out cannot be read off: it is tried on `scratch`, which
    is used up. All scales are set to one; taking one out must then change nothing.
    """
    scales = [fold for fold in folds if fold.attribute]
    if not scales:
        return list(folds)
    with torch.no_grad():
        for fold in scales:
            getattr(scratch.get_submodule(fold.factor), fold.attribute).fill_(1)
        expected = scratch(example)
        refused = {
            fold
            for group in _by_class(scratch, scales)
            for fold in _refused(scratch, example, expected, group)
        }
    for fold in refused:
        reasons[f"{fold.factor}.{fold.attribute}".lstrip(".")] = "its module does not run without it"
    return [fold for fold in folds if fold not in refused]


def _by_class(net: nn.Module, folds: Sequence[Fold]) -> Iterable[list[Fold]]:
    groups: dict[tuple[type, str], list[Fold]] = {}
    for fold in folds:
        groups.setdefault((type(net.get_submodule(fold.factor)), fold.attribute), []).append(fold)
    return groups.values()


def _refused(scratch: nn.Module, example: Tensor, expected: object, group: Sequence[Fold]) -> Sequence[Fold]:
    kept = [(fold, scratch.get_submodule(fold.factor)) for fold in group]
    values = [getattr(owner, fold.attribute) for fold, owner in kept]
    for fold, _ in kept:
        remove_scale(scratch, fold)
    try:
        unchanged = max_relative(scratch(example), expected) <= 1e-6
    except (TypeError, AttributeError, RuntimeError):
        unchanged = False
    if unchanged:
        return ()
    for (fold, owner), value in zip(kept, values, strict=True):
        setattr(owner, fold.attribute, value)
        if fold.factor:
            _replace(scratch, fold.factor, owner)
    return group


def max_relative(output: object, expected: object) -> float:
    """Largest difference over the largest magnitude, the worst of all tensors; NaN where one holds a NaN."""
    worst = 0.0
    for ours, theirs in zip(tree_leaves(output), tree_leaves(expected), strict=True):
        if isinstance(theirs, Tensor):
            smallest = torch.finfo(theirs.dtype).tiny
            difference = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(smallest))
            worst = difference if difference != difference else max(worst, difference)
    return worst
