"""Every network of variants-core becomes a real engine, through the plan and the workers of a suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.config import load
from commands.plan import Overrides, make
from converters.artifact import Artifact, ConversionFailure, ConversionRequest
from converters.pool import convert_all

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("tensorrt_rtx", reason="engines are built by tensorrt_rtx, which is not installed")

Outcomes = dict[ConversionRequest, Artifact | ConversionFailure]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


def converted(cache: Path, overrides: Overrides, events: list[str] | None = None) -> Outcomes:
    plan = make(load(ROOT / "bench.toml"), "variants-core", overrides, {})
    told = events if events is not None else []
    requests = plan.requests().values()
    return dict(convert_all(requests, cache, on_event=lambda event: told.append(event.kind)))


def test_every_network_of_variants_core_builds(cache: Path) -> None:
    outcomes = converted(cache, Overrides(backends=("trt",), targets=("sm89",)))
    assert len(outcomes) == 18
    for request, artifact in outcomes.items():
        assert isinstance(artifact, Artifact), (request.model.name, artifact)
        assert artifact.facts["macs_fp32_percent"] == 100.0
        assert artifact.size_bytes > 3.9e6 * artifact.params_m  # its fp32 weights are in the file
        assert artifact.parity is not None
        assert artifact.parity.passed
        assert artifact.steps[-1].parity is None  # nothing ran the engine here


def test_nothing_is_built_twice(cache: Path) -> None:
    """After the test above every file is there; only looking them up is left."""
    converted(cache, Overrides(backends=("trt",), targets=("sm89",), models=("nextvit_small",)))
    events: list[str] = []
    converted(cache, Overrides(backends=("trt",), targets=("sm89",), models=("nextvit_small",)), events)
    assert set(events) == {"cached"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_next_vit_in_lower_precisions(cache: Path, precision: str) -> None:
    overrides = Overrides(
        backends=("trt",), targets=("sm89",), models=("nextvit_small",), precisions=(precision,)
    )
    (artifact,) = converted(cache, overrides).values()
    assert isinstance(artifact, Artifact), artifact
    assert artifact.precision == precision
    share = artifact.facts[f"macs_{precision}_percent"]
    assert isinstance(share, float)
    assert share > 90
    fp32_bytes = 4e6 * artifact.params_m
    assert artifact.size_bytes < {"fp16": 0.6, "int8": 0.5}[precision] * fp32_bytes
