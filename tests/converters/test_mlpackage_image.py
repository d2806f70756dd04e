"""Pixels in place of normalized tensors: the same function, folded exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.artifact import ConversionError
from converters.mlpackage_image import MEAN, STD, Normalization, fold_std, normalization_of


class TwoReaders(nn.Module):
    """Two convolutions that read the image, one of them padded and strided."""

    def __init__(self, *, groups: int = 1, skip: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, 2, 1, groups=groups)
        self.second = nn.Conv2d(3, 6, 2, 2, bias=False)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x) + self.second(x)
        return out + x.mean() if self.skip else out


def test_every_convolution_that_reads_the_image_is_divided() -> None:
    net = TwoReaders().double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    folded = fold_std(net, x, STD)
    with torch.no_grad():
        expected = net(x / torch.tensor(STD, dtype=torch.float64)[:, None, None])
        torch.testing.assert_close(folded(x), expected, rtol=1e-12, atol=1e-12)
    assert not torch.equal(folded.first.weight, net.first.weight)


@pytest.mark.parametrize(
    ("net", "message"),
    [(TwoReaders(groups=3), "conv2d reads the image"), (TwoReaders(skip=True), "mean reads the image")],
)
def test_what_cannot_be_folded_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        fold_std(net.eval(), torch.randn(1, 3, 8, 8), STD)
    assert caught.value.failure.kind == "unsupported"


def test_pixels_are_the_nearest_images() -> None:
    normalization = Normalization()
    inputs = [np.random.default_rng(0).standard_normal((1, 3, 5, 5), dtype=np.float32) * 0.5]
    pixels = normalization.pixels(inputs)
    assert pixels[0].dtype == np.float32
    assert (pixels[0] == np.clip(np.round(pixels[0]), 0, 255)).all()
    half = 0.5 / 255 / min(STD)
    np.testing.assert_allclose(normalization.normalized(pixels)[0], inputs[0], atol=half * 1.001)


def test_scale_and_bias_are_what_core_ml_computes() -> None:
    normalization, pixels = Normalization(), [np.full((1, 3, 1, 1), 128, np.float32)]
    shifted = normalization.shifted(pixels)[0].reshape(3)
    np.testing.assert_allclose(shifted, 128 / 255 - np.array(MEAN), rtol=1e-6)
    np.testing.assert_allclose(normalization.normalized(pixels)[0].reshape(3), shifted / STD, rtol=1e-6)


def test_a_network_of_timm_names_its_own() -> None:
    net = nn.Identity()
    assert normalization_of(net) == Normalization(MEAN, STD)
    net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}
    assert normalization_of(net) == Normalization((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
