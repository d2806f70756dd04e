"""What `models.info` tells of a model, as types: which options it takes, and its sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

USUAL_SIDE = 224  # of an image, for a network that tells none


@dataclass(frozen=True, slots=True)
class OptionRule:
    """What a keyword of a builder takes: a type, a lower bound, a default (None: derived, see `meaning`)."""

    kind: type
    default: int | float | bool | None
    minimum: float
    meaning: str

    @property
    def valid(self) -> str:
        """`an integer of at least 1`, for messages."""
        if self.kind is bool:
            return "true or false"
        noun = "an integer" if self.kind is int else "a number"
        return f"{noun} of at least {self.minimum:g}"

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or self.kind is bool:
            return isinstance(value, bool) and self.kind is bool
        allowed = (int, float) if self.kind is float else int
        return isinstance(value, allowed) and math.isfinite(value) and value >= self.minimum


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of `list`, and what may be asked of the model.

    `resolution` is the default side of the square input. `params_m` and `gmacs` are at the defaults (networks
    only: a block has no default width). `multiple_of` and `divisor` are a number, or the name of the option
    that holds it: of the resolution, and of a block's output channels. `fixed_resolution`: positions are
    learned for the default resolution, and there is no other. `reshape` is empty where stride 2 and new
    channels are possible, else it says what does that in the paper. `stochastic_depth`: a network whose
    branches can be left out in training (`models.stochastic_depth`).
    """

    family: str
    description: str
    paper: str
    options: Mapping[str, OptionRule] = field(default_factory=dict)
    resolution: int = 14
    minimum_resolution: int = 1
    multiple_of: int | str = 1
    fixed_resolution: bool = False
    divisor: int | str = 1
    minimum_channels: int = 1
    reshape: str = ""
    params_m: float | None = None
    gmacs: float | None = None
    stochastic_depth: bool = False


NETWORK = {
    "num_classes": OptionRule(int, 1000, 1, "outputs of the classifier"),
    "in_chans": OptionRule(int, 3, 1, "channels of the image"),
}
TEN_CLASSES = {**NETWORK, "num_classes": OptionRule(int, 10, 1, "outputs of the classifier")}
