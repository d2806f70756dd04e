"""Facts about every model of ours, for listings and for checking a request before anything is built.

No torch here: a suite of a hundred cases is checked in milliseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import models
from models.block_facts import BLOCKS
from models.block_network_facts import BLOCK_NETWORKS, HYBRID_NETWORKS
from models.comparison import COMPARED
from models.errors import ModelError, SideError, UnknownModelError
from models.facts import NETWORK, TEN_CLASSES, ModelInfo, OptionRule
from models.spec import ModelSpec
from models.tables import names, suggest
from models.timm_names import is_timm_name, timm_names

ANY_CHANNELS = {"in_chans": OptionRule(int, 3, 1, "channels of the input")}

REQUIRED = ("in_channels", "resolution")  # of a block
NEXTVIT_PAPER = "Li et al., Next-ViT, arXiv 2207.05501"
ROOFLINE_PAPER = "Williams et al., Roofline, Communications of the ACM 52(4), 2009"


def _nextvit(description: str, *, params_m: float, gmacs: float) -> ModelInfo:
    info = ModelInfo("Next-ViT", description, NEXTVIT_PAPER, NETWORK, 224, 32)
    return replace(info, params_m=params_m, gmacs=gmacs, stochastic_depth=True)


INFO: dict[str, ModelInfo] = {
    "nextvit_small": _nextvit("Next-ViT-S", params_m=31.76, gmacs=5.79),
    "nextvit_base": _nextvit("Next-ViT-B", params_m=44.82, gmacs=8.27),
    "nextvit_large": _nextvit("Next-ViT-L", params_m=57.87, gmacs=10.75),
    "nextvit_micro": replace(
        _nextvit("Its blocks for 32x32", params_m=0.337, gmacs=0.018),
        options=TEN_CLASSES,
        resolution=32,
        minimum_resolution=8,
    ),
    "nextvit_stem": ModelInfo(
        "Next-ViT",
        "Next-ViT's stem alone",
        NEXTVIT_PAPER,
        {"in_chans": NETWORK["in_chans"]},
        224,
        32,
        params_m=0.08,
        gmacs=0.6,
    ),
    "nextvit_head": ModelInfo(
        "Next-ViT",
        "Next-ViT's last normalization, pooling and classifier alone; it has 1024 channels in the networks",
        NEXTVIT_PAPER,
        NETWORK,
        7,
        params_m=0.004,
        gmacs=0.0,
    ),
    "peak/gemm": ModelInfo(
        "Roofline",
        "Matrix products, one after the other: what a case's rate is compared with",
        ROOFLINE_PAPER,
        ANY_CHANNELS,
        28,
        params_m=0.0,
        gmacs=0.0,
    ),
    "peak/copy": ModelInfo(
        "Roofline",
        "A copy through memory: the most a machine moves",
        ROOFLINE_PAPER,
        ANY_CHANNELS,
        1024,
        params_m=0.0,
        gmacs=0.0,
    ),
    **COMPARED,
    **BLOCK_NETWORKS,
    **HYBRID_NETWORKS,
    **BLOCKS,
}


def check(spec: ModelSpec) -> None:
    """Refuse early what could not be built as asked: name, options, resolution, weights.

    Raises UnknownModelError or ModelError, naming the model, the option, the value and what is valid. What a
    timm model or an extension takes is known only when it is built; here their names are checked.
    """
    if spec.is_file:
        check_file(spec)
        return
    check_name(spec.name)
    check_weights(spec.name, spec.weights)
    check_resolution(spec.name, spec.resolution)
    if spec.option("pretrained") is not None:
        raise ModelError(
            f"{spec.name}: pretrained: weights are named by the spec: random:SEED or a checkpoint"
        )
    check_options(spec.name, spec.build_options())


def check_file(spec: ModelSpec) -> None:
    """Raises ModelError for an ONNX file that is not named by its sha256; all else its conversion finds."""
    check_weights(spec.name, spec.weights)
    if not spec.weights.startswith("sha256:"):
        raise ModelError(f"{spec.name}: weights={spec.weights}: an ONNX file is named by its sha256")
    if not re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8}){0,5}", str(spec.option("input_shape", 1))):
        raise ModelError(f"{spec.name}: input_shape={spec.option('input_shape')}: sides like 3x384x640")


def check_name(name: str) -> None:
    """Raises UnknownModelError with near names for what is neither ours, an extension's, nor timm's."""
    if name in models.MODELS or (name.startswith("timm/") and is_timm_name(name.removeprefix("timm/"))):
        return
    ours = names(models.MODELS, "models")
    if name in ours:
        return
    known = [*ours, *(f"timm/{timm_name}" for timm_name in timm_names())]
    raise UnknownModelError(f"unknown model '{name}': {suggest(name, known)}")


def check_weights(name: str, weights: str) -> None:
    """Raises ModelError unless `weights` is `random:SEED` or `sha256:` and 64 hex digits."""
    if not re.fullmatch(r"random:\d{1,18}|sha256:[0-9a-f]{64}", weights):
        raise ModelError(
            f"{name}: weights={weights!r}: must be random:SEED or sha256: and 64 hexadecimal digits"
        )


def check_resolution(name: str, resolution: object) -> None:
    """Raises ModelError for what is no positive integer, SideError for a side that a network cannot take."""
    minimum = INFO[name].minimum_resolution if name in INFO else 1
    rule = OptionRule(int, None, minimum, "side of the input")
    if not rule.accepts(resolution):
        kind = SideError if isinstance(resolution, int) and resolution > 0 else ModelError
        raise kind(f"{name}: resolution={resolution!r}: must be {rule.valid}")
    if name in INFO and not name.startswith("block/"):
        assert isinstance(resolution, int)
        _check_side(name, INFO[name], resolution)


def _check_side(name: str, info: ModelInfo, resolution: int) -> None:
    """Raises SideError for a side of the image that a network of ours cannot take."""
    if info.fixed_resolution and resolution != info.resolution:
        raise SideError(
            f"{name}: resolution={resolution}: must be {info.resolution}: "
            "its positions are learned for that side"
        )
    assert isinstance(info.multiple_of, int)
    _check_multiple(name, "resolution", resolution, info.multiple_of, info.minimum_resolution)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises ModelError for an option of ours that is unknown, missing, of another type or out of range.

    Of another model only `in_chans` is known, as its input is made from it.
    """
    info = INFO.get(name)
    if info is None:
        info = ModelInfo("", "", "", NETWORK)
        options = {option: value for option, value in options.items() if option == "in_chans"}
    for option, value in options.items():
        _check_option(name, info, option, value)
    if "in_channels" in info.options:
        _check_block(name, info, options)


def _check_option(name: str, info: ModelInfo, option: str, value: object) -> None:
    rule = info.options.get(option)
    if rule is None:
        raise ModelError(f"{name}: unknown option '{option}={value!r}': {suggest(option, info.options)}")
    derived = value is None and rule.default is None and option not in REQUIRED
    if not derived and not rule.accepts(value):
        raise ModelError(f"{name}: {option}={value!r}: must be {rule.valid}")


def _check_block(name: str, info: ModelInfo, options: Mapping[str, Any]) -> None:
    missing = [option for option in REQUIRED if option not in options]
    if missing:
        raise ModelError(f"{name}: {' and '.join(missing)} must be given: {info.options[missing[0]].valid}")
    values = {option: rule.default for option, rule in info.options.items()} | dict(options)
    channels, stride = values["in_channels"], values["stride"]
    out_channels = values["out_channels"] or channels
    if stride not in (1, 2):
        raise ModelError(f"{name}: stride={stride}: must be 1 or 2")
    if info.reshape and (stride != 1 or out_channels != channels):
        raise ModelError(
            f"{name}: stride={stride}, in_channels={channels}, out_channels={out_channels}: "
            f"the block keeps its shape ({info.reshape}); use stride 1 and equal channels"
        )
    _check_multiple(name, "out_channels", out_channels, _number(info.divisor, values), info.minimum_channels)
    _check_multiple(name, "resolution", values["resolution"], _number(info.multiple_of, values), 1)
    _check_reduction(name, values.get("reduction"), math.ceil(values["resolution"] / stride))


def _number(value: int | str, options: Mapping[str, Any]) -> int:
    return int(options[value]) if isinstance(value, str) else value


def _check_multiple(name: str, option: str, value: int, divisor: int, minimum: int) -> None:
    if value % divisor == 0 and value >= minimum:
        return
    minimum = max(minimum, divisor)
    low, high = value // divisor * divisor, (value // divisor + 1) * divisor
    near = " or ".join(str(number) for number in (low, high) if number >= minimum) or str(minimum)
    rule = f"a multiple of {divisor}" if divisor > 1 else "an integer"
    kind = SideError if option == "resolution" else ModelError
    raise kind(f"{name}: {option}={value}: must be {rule} of at least {minimum}, such as {near}")


def _check_reduction(name: str, reduction: int | None, side: int) -> None:
    if reduction is not None and reduction > side:
        raise SideError(
            f"{name}: reduction={reduction}: must be at most {side}, the side of the map that attention sees"
        )
