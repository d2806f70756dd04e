"""Reparameterization that other libraries' modules offer themselves, under three names.

`fuse()` returns a replacement (timm's LevIT, RepViT, SHViT); `reparameterize()` (timm's MobileOne, FastViT,
Next-ViT) and `switch_to_deploy()` (RepVGG and its kin) change the module in place. They multiply branches and
norms together that no pairwise fold can; what they leave is left to the folds by dataflow.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

IN_PLACE = ("reparameterize", "switch_to_deploy")


def apply_contracts(net: nn.Module, folded: Counter[str], reasons: dict[str, str]) -> nn.Module:
    """`net` with every offered reparameterization made, parents first; modified in place, so hand in a copy.

    Parents come first because they expect their children unfused. A module whose own method fails is left as
    it was and named in `reasons`.
    """
    with _default_dtype(net):
        return _applied(net, "", folded, reasons)


def _applied(module: nn.Module, name: str, folded: Counter[str], reasons: dict[str, str]) -> nn.Module:
    module = _offered(module, name, folded, reasons)
    for child_name, child in list(module.named_children()):
        path = f"{name}.{child_name}".lstrip(".")
        replacement = _applied(child, path, folded, reasons)
        if replacement is not child:
            setattr(module, child_name, replacement)
    return module


def _offered(module: nn.Module, name: str, folded: Counter[str], reasons: dict[str, str]) -> nn.Module:
    method = _method(module)
    if method is None:
        return module
    attempt = copy.deepcopy(module)
    before = _signature(module)
    try:
        with torch.no_grad():
            result = getattr(attempt, method)()
    except Exception as error:  # anything may go wrong in foreign code; the reason is reported
        reasons[name or "the network"] = f"its own {method}() failed: {type(error).__name__}: {error}"
        return module
    replacement = result if method == "fuse" and isinstance(result, nn.Module) else attempt
    if _signature(replacement) == before:
        return module
    folded[f"library_{method}"] += 1
    return replacement.eval()


def _method(module: nn.Module) -> str | None:
    """The method to call; a `fuse()` outside timm follows this project's contract and was called before."""
    kind = type(module)
    if callable(getattr(kind, "fuse", None)):
        return "fuse" if kind.__module__.startswith("timm.") else None
    return next((name for name in IN_PLACE if callable(getattr(kind, name, None))), None)


def _signature(module: nn.Module) -> tuple[str, tuple[tuple[str, str, tuple[int, ...]], ...]]:
    """Tells whether a method changed anything: already merged modules offer it too."""
    return type(module).__name__, tuple(
        (name, type(part).__name__, tuple(tensor.shape for tensor in part.parameters(recurse=False)))
        for name, part in module.named_modules()
    )


@contextmanager
def _default_dtype(net: nn.Module) -> Iterator[None]:
    """The methods make new layers in torch's default type; the network's own is wanted."""
    before = torch.get_default_dtype()
    own = next((p.dtype for p in net.parameters() if p.is_floating_point()), before)
    torch.set_default_dtype(own)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
