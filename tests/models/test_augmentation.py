"""The augmentation of training images: what it is made of, and that it takes every strength."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.augmentation import train_transform
from models.image_data import Preprocessing, open_data
from models.image_loading import seeded
from models.recipe import recipe


def test_augmentation_is_timms_and_draws_from_the_seed():
    data = open_data(None, "train")
    chosen = recipe("nextvit", model="nextvit_small", changes={})
    steps = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 1.0, "center")
    transform = train_transform(steps, chosen)
    for name in ("RandomResizedCrop", "RandomHorizontalFlip", "RandAugment", "RandomErasing"):
        assert name in repr(transform)
    outs = []
    for seed in (1, 1, 2):
        with seeded(seed):
            outs.append(transform(data.load(0)))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


@pytest.mark.parametrize(("magnitude", "bits"), [(0.0, 4), (5.0, 2), (9.0, 1), (9.9, 1), (10.0, 0)])
def test_posterize_keeps_from_four_bits_to_none(magnitude, bits):
    """Of RandAugment with `inc1`; where it keeps none the image is black, and no error."""
    chosen = recipe("nextvit", model="nextvit_small", changes={})
    steps = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 1.0, "center")
    (augment,) = [each for each in train_transform(steps, chosen).transforms if hasattr(each, "ops")]
    (posterize,) = [each for each in augment.ops if each.name.startswith("Posterize")]
    posterize.prob, posterize.magnitude, posterize.magnitude_std = 1.0, magnitude, 0
    image = open_data(None, "train").load(0)
    pixels = np.asarray(image)
    assert pixels.max() == 255
    kept = pixels & (256 - 2 ** (8 - bits))
    assert np.array_equal(np.asarray(posterize(image)), kept)
