"""Every network and block of the shipped suites as a Core ML package, as a user gets it."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

from converters.artifact import ConversionRequest
from converters.mlpackage_from_torch import convert
from models.spec import ModelSpec

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)

BENCH = Path(__file__).parents[2] / "bench.toml"


def suite_models() -> list[ModelSpec]:
    """Every network and block of the shipped suites, once."""
    rows = [
        row
        for name in ("blocks", "variants")
        for row in tomllib.loads(BENCH.read_text())["suites"][name]["matrix"]
        if row.get("fused", [True]) == [True]
    ]
    found = []
    for row in rows:
        for model in row["models"]:
            for side in row.get("resolutions", ()):
                found.append(ModelSpec.of(model, resolution=side))
            for shape in row.get("shapes", ()):
                side, _, channels = (int(number) for number in shape.split("x"))
                found.append(ModelSpec.of(model, resolution=side, in_channels=channels))
    return found


def test_the_suites_are_all_there() -> None:
    assert len(suite_models()) == 11 * 4 + 106


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("model", suite_models(), ids=lambda model: f"{model.name} {model.shape_label}")
def test_every_model_of_the_suites(model: ModelSpec, precision: str, folder: Path) -> None:
    """In the layout that a user gets; the tolerance is that of the ledger."""
    artifact = convert(ConversionRequest(model, "mlpackage", precision=precision, input_count=1), folder)
    assert artifact.parity is not None
    assert artifact.parity.passed
    assert artifact.facts["computes"] == precision
    artifact.path.unlink()  # pytest keeps folders, and hundreds of packages are many
