"""timm's augmentation of training images, as the recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.image_data import Preprocessing
from models.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def train_transform(steps: Preprocessing, recipe: Recipe) -> Callable[[Image], Tensor]:
    """Random crop, flip, colours, RandAugment, normalization, erasing: (3, side, side) float32."""
    from timm.data import create_transform

    transform: Any = create_transform(
        input_size=(3, steps.resolution, steps.resolution),
        is_training=True,
        scale=(recipe.min_scale, 1.0),
        hflip=recipe.flip,
        color_jitter=recipe.color_jitter or None,
        auto_augment=recipe.rand_augment or None,
        interpolation=steps.interpolation,
        mean=steps.mean,
        std=steps.std,
        re_prob=recipe.erasing,
        re_mode="pixel",
    )
    _allow_black(transform)
    made: Callable[[Image], Tensor] = transform
    return made


def _allow_black(transform: Any) -> None:
    """At magnitude 10, which rand-m9-mstd0.5 draws now and then, `posterize` keeps no bit of an image.

    Pillow made that a black image up to version 12 and refuses it since.
    """
    from timm.data.auto_augment import RandAugment, posterize

    chosen = [each for each in transform.transforms if isinstance(each, RandAugment)]
    for operation in (operation for each in chosen for operation in each.ops):
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize


def _posterize(image: Image, bits: int, **settings: Any) -> Image:
    from PIL import Image as images
    from timm.data.auto_augment import posterize

    if bits == 0:
        return images.new(image.mode, image.size)
    out: Image = posterize(image, bits, **settings)
    return out
