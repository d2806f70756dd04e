"""Every model of the shipped suites as a Core ML program, evaluated here, against the eager network."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.artifact import ConversionRequest
from converters.mil_divergence import first_from_eager, first_rounded
from converters.mil_interpreter import load, run_program
from converters.parity import TOLERANCES, compare, widened
from converters.source import build_source
from models.spec import ModelSpec
from tests.converters.mil_programs import converted  # skips where coremltools is not installed

BENCH = Path(__file__).parents[2] / "bench.toml"
assert callable(converted)


def specs() -> Iterator[ModelSpec]:
    suites = tomllib.loads(BENCH.read_text())["suites"]
    matrices = [matrix for name in ("blocks", "variants-core") for matrix in suites[name]["matrix"]]
    for matrix in matrices:
        if matrix.get("fused", [True]) == [False]:
            continue
        for name in matrix["models"]:
            for shape in matrix.get("shapes", ()):
                side, _, channels = shape.split("x")
                yield ModelSpec.of(name, resolution=int(side), in_channels=int(channels))
            for side in matrix.get("resolutions", ()):
                yield ModelSpec.of(name, resolution=side)


def test_the_suites_are_there():
    assert len(list(specs())) == 11 * 4 + 18


@pytest.mark.slow
@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: f"{spec.name}-{spec.shape_label}")
def test_a_suites_model_as_a_program(spec, folder):
    """fp32 within 1e-4, or what the network's own rounding allows; fp16 within its tolerance."""
    from converters.mlpackage_from_torch import convert

    for precision in ("fp32", "fp16"):
        place = folder / precision
        place.mkdir()
        request = ConversionRequest(
            spec, "mlpackage", precision=precision, input_count=1, build=(("layout", "plain"),)
        )
        artifact = convert(request, place, on_step=lambda name: None)
        source, program = build_source(request), load(artifact.path)
        for rounding in (True, False):
            found = compare(source.reference, run_program(program, source.inputs, rounding=rounding), 1)
            bar = widened(TOLERANCES[precision], source.rounding(), precision)
            assert found.max_relative <= bar, (precision, rounding)
        x = source.inputs[0]
        if precision == "fp32":
            assert first_rounded(program, x, 1e-6) is None  # nothing is rounded below fp32


@pytest.mark.slow
def test_where_a_wrong_weight_lies_in_a_network(folder):
    """One convolution deep in Next-ViT-S is changed: its operator is found, and its module."""
    import copy

    import torch

    from converters import reparameterize
    from converters.mlpackage_from_torch import convert

    spec = ModelSpec.of("nextvit_small", resolution=64)
    request = ConversionRequest(spec, "mlpackage", precision="fp32", input_count=1)
    artifact = convert(request, folder, on_step=lambda name: None)
    source = build_source(request)
    other = copy.deepcopy(reparameterize(source.net, source.example))
    name = next(n for n, _ in other.named_modules() if n.startswith("stages.2") and n.endswith("mlp.conv1"))
    with torch.no_grad():
        other.get_submodule(name).weight.mul_(1.1)
    found = first_from_eager(load(artifact.path), source.inputs[0], other, 1e-4)
    assert found is not None
    assert (found.operator, found.scope) == ("conv", name)
