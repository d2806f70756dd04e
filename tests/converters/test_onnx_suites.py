"""Every network and block of the shipped suites as an ONNX file, as a user gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.artifact import ConversionRequest
from converters.onnx_from_torch import convert
from models.spec import ModelSpec
from tests.suite_models import label, suite_models

# A few seconds each, with something to fold, and in no other test that converts: the rest takes an hour.
QUICK = {"timm/shvit_s1", "timm/efficientformerv2_s0"}


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, id=label(m), marks=() if m.name in QUICK else pytest.mark.slow) for m in suite_models()],
)
def test_every_model_of_the_suites(model: ModelSpec, folder: Path) -> None:
    """Nothing is left to fold, and each step is within the tolerance of the ledger."""
    artifact = convert(ConversionRequest(model, "onnx", input_count=1), folder)
    assert all(step.parity is None or step.parity.passed for step in artifact.steps)
    assert artifact.parity is not None
    assert artifact.batchnorms_left == 0
    artifact.path.unlink()  # pytest keeps folders, and a hundred networks are many
