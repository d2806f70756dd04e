"""Reparameterization: the same function with fewer operators, before anything is exported.

In this order: the project's own contract (`models.folding`), what other libraries' modules offer
(`converters.contracts`), then every BatchNorm and layer scale that a recorded forward pass shows to be
foldable (`converters.fold_plan`). Each step works on a copy, so the caller's network stays as it was.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from converters.artifact import ConversionError, ConversionFailure
from converters.contracts import apply_contracts
from converters.dataflow import record
from converters.fold_apply import apply_folds, max_relative, removable_scales
from converters.fold_plan import AnyBatchNorm, plan, plan_sequences
from models.folding import fuse_all

# Difference between a network and its folded copy, relative to the largest output, up to which it is taken
# for rounding. float32: typical 3e-7 to 1e-5; where it is more, the folds are checked again in float64.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What reparameterization removed, by kind, and what it left and why.

    `folded` counts by kind (`conv_bn`, `bn_linear`, `layer_scale`, `branch`, `library_fuse`, ...).
    """

    folded: Mapping[str, int] = field(default_factory=dict)
    batchnorms_left: int = 0
    left_because: tuple[str, ...] = ()


def reparameterize(net: nn.Module, example_input: Tensor | None = None) -> nn.Module:
    """A new module that computes the same as `net` in eval mode, with no BatchNorm where algebra allows.

    See `reparameterize_with_report`.
    """
    return reparameterize_with_report(net, example_input)[0]


def reparameterize_with_report(
    net: nn.Module, example_input: Tensor | None = None
) -> tuple[nn.Module, FusionReport]:
    """The folded copy of `net`, and what was folded, what was not and why.

    `net` is in eval mode and is not modified. `example_input` (B, C, H, W) is run once where BatchNorms or
    layer scales are left after the modules' own contracts; by default it has the input size that the network
    declares (timm's `default_cfg`) or 224x224. Raises ConversionError: `bad_input` for a network in training
    mode, `parity_failed` where the folded copy computes something else.
    """
    _require_eval(net)
    folded: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    fused = apply_contracts(fuse_all(net, folded=folded), folded, reasons)
    if _has_candidates(fused):
        fused = _fold_by_dataflow(net, fused, example_input, folded=folded, reasons=reasons)
    left = sum(isinstance(module, AnyBatchNorm) for module in fused.modules())
    because = tuple(f"{name or 'the network'}: {reason}" for name, reason in sorted(reasons.items()))
    return fused, FusionReport(dict(sorted(folded.items())), left, because)


def _require_eval(net: nn.Module) -> None:
    training = next((name or "the network" for name, m in net.named_modules() if m.training), None)
    if training is not None:
        raise ConversionError(
            ConversionFailure(
                "bad_input",
                "fused",
                f"{training} is in training mode: a BatchNorm there depends on its batch",
                module=training,
                advice="Call net.eval() first.",
            )
        )


def _has_candidates(net: nn.Module) -> bool:
    """Whether a BatchNorm is left, or a one-dimensional parameter that is no layer's weight or bias."""
    return any(
        isinstance(module, AnyBatchNorm)
        or any(name not in ("weight", "bias") and _may_scale(p) for name, p in module._parameters.items())
        for module in net.modules()
    )


def _may_scale(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.numel() == max(parameter.shape, default=0) > 1


def _fold_by_dataflow(
    net: nn.Module,
    fused: nn.Module,
    example: Tensor | None,
    *,
    folded: Counter[str],
    reasons: dict[str, str],
) -> nn.Module:
    example = _default_example(net) if example is None else example
    scratch = copy.deepcopy(fused)
    try:
        trace = record(scratch, example)
    except Exception as error:  # the network's own code failed; what could not be analysed is reported
        reasons["dataflow"] = (
            f"the network does not run on an input of shape {tuple(example.shape)}: "
            f"{type(error).__name__}: {error}; pass example_input"
        )
        apply_folds(fused, plan_sequences(fused), folded)
        return fused
    found = plan(scratch, trace)
    reasons.update(found.reasons)
    folds = removable_scales(scratch, example, found.folds, reasons)
    apply_folds(fused, folds, folded)
    difference = _difference(fused, example, trace.output) if folds else 0.0
    if not difference <= TOLERANCES.get(example.dtype, 1e-4):
        _check_algebra(net, example, difference)
    return fused


def _default_example(net: nn.Module) -> Tensor:
    config: Any = getattr(net, "pretrained_cfg", None) or getattr(net, "default_cfg", None) or {}
    shape = config.get("input_size") if isinstance(config, Mapping) else None
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, *(shape or _guessed_shape(net)), generator=generator)
    return values.to(like)


def _guessed_shape(net: nn.Module) -> tuple[int, ...]:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return (module.in_channels, 224, 224)
        if isinstance(module, nn.Linear):
            return (module.in_features,)
    return (3, 224, 224)


def _difference(fused: nn.Module, example: Tensor, expected: Any) -> float:
    with torch.no_grad():
        return max_relative(copy.deepcopy(fused)(example), expected)


def _check_algebra(net: nn.Module, example: Tensor, difference: float) -> None:
    """Tell a wrong fold from rounding that a deep network amplifies: in float64 only a wrong fold is left."""
    if example.dtype != torch.float64:
        reparameterize_with_report(copy.deepcopy(net).double(), example.double())
        return
    raise ConversionError(
        ConversionFailure(
            "parity_failed",
            "fused",
            f"folding changed the outputs by {difference:.1e} of the largest, computed in float64",
            advice="Convert with fused=False, and report the network.",
        )
    )
