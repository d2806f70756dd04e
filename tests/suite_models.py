"""What the shipped suites measure, for tests that convert all of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from models.spec import ModelSpec

BENCH = Path(__file__).parents[1] / "bench.toml"


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


def label(model: ModelSpec) -> str:
    """Of a test."""
    return f"{model.name} {model.shape_label}"
