"""Equal forms of published modules that a runtime takes faster, or takes at all.

A form replaces modules of one class by a module of the same weights, names and function. Forms are taken
after reparameterization, in the order of FORMS; each that finds something is a step of the parity ledger with
its name, what it is for, how many modules it replaced and the error that it left (`converters.ledger`). The
build option `without_form` leaves them out by name (`converters.left_out_forms`).

Which classes have a form is told by the class's place, so that no library is imported for a network that does
not use it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from converters.forms_of_attention import TwinsWindows, constant_bias, swin_windows, unfolded_patches
from converters.forms_of_heads import one_classifier, scaled_norm
from converters.forms_of_modulation import channels_first
from converters.forms_of_shifts import sliced_shifts

# The module in its form, or None where this instance has no need of it.
Maker = Callable[[Any], nn.Module | None]


@dataclass(frozen=True, slots=True)
class Form:
    """One form: its name in the ledger, what it does, and the classes that it is known for."""

    name: str
    what: str
    makers: Mapping[str, Maker]


_biases = constant_bias("get_attention_biases", "cpu", tables=("attention_biases", "attention_bias_idxs"))
_TIMM_BIASES = (
    "efficientformer.Attention",
    "efficientformer_v2.Attention2d",
    "efficientformer_v2.Attention2dDownsample",
    "levit.Attention",
    "levit.AttentionDownsample",
)
_TIMM_TWO_HEADS = (
    "efficientformer.EfficientFormer",
    "efficientformer_v2.EfficientFormerV2",
    "swiftformer.SwiftFormer",
    "levit.LevitDistilled",
)

FORMS: tuple[Form, ...] = (
    Form(
        "constant biases",
        "tables of attention biases, gathered once and for all",
        {
            **{f"timm.models.{place}": _biases for place in _TIMM_BIASES},
            "timm.models.swin_transformer.WindowAttention": constant_bias(
                "_get_rel_pos_bias", tables=("relative_position_bias_table", "relative_position_index")
            ),
            "models.fcaformer.CrossAttention": constant_bias(
                "position_bias", tables=("relative_bias", "cross_bias", "index")
            ),
        },
    ),
    Form(
        "one classifier",
        "the distilled classifier averaged into the other",
        {f"timm.models.{place}": one_classifier for place in _TIMM_TWO_HEADS},
    ),
    Form(
        "scaled norm",
        "the layer scale behind `pool(x) - x` in the norm before it",
        {"timm.models.metaformer.MetaFormerBlock": scaled_norm},
    ),
    Form(
        "five axes",
        "windows and patches cut out with five axes at most, in place of six",
        {
            "timm.models.swin_transformer.SwinTransformerBlock": swin_windows,
            "timm.models.mobilevit.MobileVitV2Block": unfolded_patches,
            "timm.models.twins.LocallyGroupedAttn": TwinsWindows,
        },
    ),
    Form(
        "channels first",
        "Linear between permutations as 1x1 convolution",
        {"models.efficientmod.EfficientMod": channels_first},
    ),
    Form(
        "sliced shifts",
        "differences to shifted maps as one difference to the least of their slices",
        {"models.mobilevig.MaxRelative": sliced_shifts},
    ),
)


def places(names: Collection[str]) -> frozenset[str]:
    """Where the classes are that the forms of these names are known for."""
    return frozenset(place for form in FORMS if form.name in names for place in form.makers)


def has(net: nn.Module, form: Form) -> bool:
    """Whether a module of `net` is of a class that the form is known for."""
    return any(_place(module) in form.makers for module in net.modules())


def formed(net: nn.Module, form: Form) -> tuple[nn.Module, int]:
    """A copy of `net` with every module in the form that has it, and how many those are.

    `net` is in eval mode and is not modified.
    """
    made, count = _formed(copy.deepcopy(net), form)
    made.eval()  # what it returns is not to be trusted: timm has modules that return nothing
    return made, count


def _formed(module: nn.Module, form: Form) -> tuple[nn.Module, int]:
    total = 0
    for name, child in list(module.named_children()):
        made, count = _formed(child, form)
        if count:
            setattr(module, name, made)
        total += count
    maker = form.makers.get(_place(module))
    replacement = maker(module) if maker is not None else None
    return (module, total) if replacement is None else (replacement, total + 1)


def _place(module: nn.Module) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"
