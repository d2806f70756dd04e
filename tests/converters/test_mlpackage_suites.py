"""Every network and block of the shipped suites as a Core ML package, as a user gets it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from converters.artifact import ConversionRequest
from converters.mlpackage_from_torch import convert
from models.spec import ModelSpec
from tests.suite_models import label, suite_models

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)


def test_the_suites_are_all_there() -> None:
    assert len(suite_models()) == 11 * 4 + 106


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("model", suite_models(), ids=label)
def test_every_model_of_the_suites(model: ModelSpec, precision: str, folder: Path) -> None:
    """In the layout that a user gets; the tolerance is that of the ledger."""
    artifact = convert(ConversionRequest(model, "mlpackage", precision=precision, input_count=1), folder)
    assert artifact.parity is not None
    assert artifact.parity.passed
    assert artifact.facts["computes"] == precision
    artifact.path.unlink()  # pytest keeps folders, and hundreds of packages are many
