"""Parameters and multiply-accumulates of an artifact are those of the network that is deployed."""

from __future__ import annotations

import dataclasses

import pytest

from converters.artifact import ConversionRequest
from converters.ledger import Ledger, fuse, ignore_step
from converters.source import build_source
from models.spec import ModelSpec

MOBILEONE = ConversionRequest(ModelSpec.of("timm/mobileone_s0", resolution=224), "onnx")


def test_branches_that_are_merged_count_once():
    """MobileOne-S0 (arXiv 2206.04040) prints 2.1 M and 0.275 G of the merged form; for training it has four
    branches of most convolutions."""
    ledger = Ledger(build_source(MOBILEONE), ignore_step)
    assert ledger.counts.gmacs == pytest.approx(1.05, abs=0.01)
    assert ledger.counts.params_m == pytest.approx(5.29, abs=0.01)
    fuse(ledger)
    for counts in (ledger.counts, ledger.fork().counts):
        assert counts.gmacs == pytest.approx(0.275, rel=0.01)
        assert counts.params_m == pytest.approx(2.1, abs=0.05)


def test_counts_are_of_one_image():
    request = ConversionRequest(ModelSpec.of("block/ncb", resolution=14, in_channels=96), "onnx")
    two = Ledger(build_source(dataclasses.replace(request, batch_size=2)), ignore_step)
    one = Ledger(build_source(request), ignore_step)
    for ledger in (one, two):
        fuse(ledger)
    assert one.counts == two.counts
    assert one.counts.gmacs > 0
