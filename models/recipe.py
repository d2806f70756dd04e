"""How a network is trained: everything that decides the numbers, checked, and published recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from models.errors import ModelError
from models.info import INFO
from models.spec import Option
from models.tables import suggest

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
Strength = Annotated[float, Field(ge=0, le=100)]


# Such as rand-m9-mstd0.5-inc1: magnitude 9, its deviation, stronger with magnitude.
RAND_AUGMENT = r"^(rand-m\d+(-(n|mstd|mmax|inc|p)\d+(\.\d+)?)*)?$"


def _off(value: object) -> object:
    return "" if value == 0 else value


class RecipeError(ModelError):
    """A recipe that does not exist, or a value that it cannot take."""


class Recipe(BaseModel):
    """One training. A batch is what one step of the optimizer sees, over all processes; 0 turns a thing off.

    `min_lr` equal to `lr` is a constant rate. `rand_augment` is in timm's notation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    resolution: Annotated[int, Field(ge=1, le=8192)] = 224
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 300
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    lr: Rate = 1e-3
    min_lr: Annotated[float, Field(ge=0, le=10)] = 1e-5
    warmup_lr: Annotated[float, Field(ge=0, le=10)] = 1e-6
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    weight_decay: Strength = 0.05
    clip_norm: Strength = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0

    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixup: Strength = 0.0
    cutmix: Strength = 0.0
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.08
    flip: Share = 0.5
    color_jitter: Share = 0.4
    rand_augment: Annotated[str, BeforeValidator(_off), Field(pattern=RAND_AUGMENT)] = ""
    erasing: Share = 0.0

    distill_weight: Share = 0.5
    distill_temperature: Rate = 1.0

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, and labels become soft."""
        return self.mixup > 0 or self.cutmix > 0


# arXiv 2207.05501, section 4.1: optimizer, batch, rate, decay, epochs. Smoothing, mixing, augmentation,
# erasing, clipping, lowest and first rate are the defaults of the official code (classification/main.py).
NEXTVIT: dict[str, Option] = {
    "resolution": 224,
    "epochs": 300,
    "batch_size": 2048,
    "lr": 2e-3,
    "min_lr": 1e-5,
    "warmup_lr": 1e-6,
    "warmup_epochs": 20,
    "weight_decay": 0.1,
    "clip_norm": 5.0,
    "stochastic_depth": 0.1,
    "label_smoothing": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "color_jitter": 0.4,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "erasing": 0.25,
}

# The official README's command: 8 processes of 128 images and a rate of 5e-6 per 512, which never decays.
NEXTVIT_384: dict[str, Option] = {
    **NEXTVIT,
    "resolution": 384,
    "epochs": 30,
    "batch_size": 1024,
    "lr": 1e-5,
    "min_lr": 1e-5,
    "warmup_epochs": 0,
    "weight_decay": 1e-8,
}

# Ours: nextvit_micro on 1433 digits in under three minutes on two cores. Digits are not mirrored.
DIGITS: dict[str, Option] = {
    "resolution": 32,
    "epochs": 20,
    "batch_size": 64,
    "lr": 2e-3,
    "min_lr": 1e-5,
    "warmup_epochs": 3,
    "weight_decay": 0.05,
    "clip_norm": 5.0,
    "ema_decay": 0.98,
    "stochastic_depth": 0.05,
    "label_smoothing": 0.1,
    "mixup": 0.1,
    "min_scale": 0.7,
    "flip": 0.0,
    "color_jitter": 0.0,
    "erasing": 0.1,
}

RECIPES: dict[str, dict[str, Option]] = {
    "nextvit": NEXTVIT,
    "nextvit-384": NEXTVIT_384,
    "digits": DIGITS,
}

STOCHASTIC_DEPTH = {"nextvit_small": 0.1, "nextvit_base": 0.2, "nextvit_large": 0.2}  # section 4.1


def recipe(name: str, *, model: str, changes: Mapping[str, Option]) -> Recipe:
    """The named recipe for `model` with single values changed. Raises RecipeError.

    Stochastic depth is 0, unless `changes` say otherwise, for a network of ours that has no branches for it.
    """
    if name not in RECIPES:
        raise RecipeError(f"unknown preset '{name}': {suggest(name, RECIPES)}")
    values: dict[str, Any] = dict(RECIPES[name])
    if name != "digits" and model in STOCHASTIC_DEPTH:
        values["stochastic_depth"] = STOCHASTIC_DEPTH[model]
    if model in INFO and not INFO[model].stochastic_depth:
        values["stochastic_depth"] = 0.0
    for option in changes:
        if option not in Recipe.model_fields:
            raise RecipeError(f"unknown setting '{option}': {suggest(option, Recipe.model_fields)}")
    try:
        found = Recipe.model_validate(values | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from None
    _check(found)
    return found


def _check(recipe: Recipe) -> None:
    if recipe.warmup_epochs >= recipe.epochs and recipe.warmup_epochs:
        raise RecipeError(
            f"warmup_epochs={recipe.warmup_epochs}: must be below epochs={recipe.epochs}, or 0 for none"
        )
    if recipe.min_lr > recipe.lr:
        raise RecipeError(f"min_lr={recipe.min_lr:g}: is above lr={recipe.lr:g}: the rate falls to it")
    if recipe.mixes and recipe.batch_size % 2:
        raise RecipeError(f"batch_size={recipe.batch_size}: must be even where images are mixed in pairs")
