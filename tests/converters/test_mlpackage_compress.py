"""Compressed weights: the palette's algorithm, and the check of every weight."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.mlpackage_compress import COMPRESSIONS, compared_weights, compress, palettized
from converters.quiet import captured

needs_coremltools = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)


def error(values: np.ndarray, table: np.ndarray, index: np.ndarray) -> float:
    restored = table[index].reshape(values.shape).astype(np.float64)
    return float(np.sqrt(np.mean((restored - values) ** 2) / np.mean(values.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    ("count", "least", "most"), [(256, 0.004, 0.012), (64, 0.02, 0.035), (16, 0.08, 0.11)]
)
def test_a_palette_of_normal_values_is_as_good_as_theory_says(count: int, least: float, most: float) -> None:
    """The best quantizer of normal values with 16 levels is 9.8 % off (Max, 1960), with 64 about 2.5 %."""
    values = np.random.default_rng(0).standard_normal((300, 100)).astype(np.float16)
    table, index = palettized(values, count)
    assert table.shape == (count,)
    assert table.dtype == np.float16
    assert index.shape == (values.size,)
    assert index.dtype == np.uint8
    assert (np.diff(table.astype(np.float64)) >= 0).all()
    assert least < error(values, table, index) < most


def test_a_palette_takes_the_nearest_of_its_values() -> None:
    values = np.random.default_rng(1).standard_normal(5000).astype(np.float16)
    table, index = palettized(values, 16)
    distance = np.abs(values[:, None].astype(np.float64) - table[None].astype(np.float64))
    chosen = distance[np.arange(values.size), index]
    assert (chosen <= distance.min(axis=1) + 2e-3).all()  # the table was rounded to fp16 after the choice


def test_weights_that_differ_from_channel_to_channel_keep_their_tails() -> None:
    """As folding leaves them. The best table of 64 values is 3.5 % off here, one from quantiles 5 %."""
    generator = np.random.default_rng(0)
    scale = np.exp(generator.standard_normal((200, 1)))
    values = (generator.standard_normal((200, 100)) * scale).astype(np.float16)
    assert error(values, *palettized(values, 64)) < 0.04


@pytest.mark.parametrize("distinct", [1, 3, 16])
def test_few_distinct_values_are_kept_exactly(distinct: int) -> None:
    values = np.arange(distinct, dtype=np.float16)[np.arange(1000) % distinct].reshape(10, 100)
    table, index = palettized(values, 16)
    assert np.array_equal(table[index].reshape(10, 100), values)
    assert len(table) == 16


def test_an_outlier_does_not_take_the_middles_resolution() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(20000), [60.0, -60.0]).astype(np.float16)
    table, index = palettized(values, 16)
    uniform = np.linspace(-60, 60, 16)
    nearest = np.abs(values[:, None].astype(np.float64) - uniform).argmin(axis=1)
    assert error(values, table, index) < 0.3 * error(values, uniform, nearest)
    assert {float(table[index[-2]]), float(table[index[-1]])} == {60.0, -60.0}


@pytest.fixture(scope="module")
def dense() -> Any:
    """An fp16 MLModel of one convolution, 64 to 64 channels."""
    with captured():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb

        weight = np.random.default_rng(0).standard_normal((64, 64, 1, 1)).astype(np.float32)

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 64, 4, 4))], opset_version=ct.target.iOS16)
        def program(x: Any) -> Any:
            return mb.conv(x=x, weight=mb.const(val=weight, name="kernel"), name="output")

        return ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16,
            skip_model_load=True,
        )


def saved(model: Any, path: Path) -> Path:
    with captured():
        model.save(str(path))
    return path


@needs_coremltools
@pytest.mark.parametrize("precision", COMPRESSIONS)
def test_every_precision_passes_its_own_check(dense: Any, precision: str, tmp_path: Path) -> None:
    with captured():
        smaller = compress(dense, precision)
    before, after = saved(dense, tmp_path / "a.mlpackage"), saved(smaller, tmp_path / "b.mlpackage")
    weights, report = compared_weights(before, after, precision)
    assert weights["kernel_to_fp16"].shape == (64, 64, 1, 1)
    assert report.count == 1
    assert report.worst.startswith("kernel")
    assert (
        report.zeros == pytest.approx(0.5, abs=0.01) if precision == "fp16-sparse50" else report.zeros < 0.1
    )
    assert report.error <= COMPRESSIONS[precision].bar
    assert (report.error > 0.001) == (precision != "fp16-sparse50")


@needs_coremltools
@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ("fp16-pal4", "fp16-pal8", r"kernel\S* is \d+\.\d % off .* fp16-pal8 allows 5 %"),
        ("fp16-pal4", "fp16-sparse50", r"with \d+ % of its values kept; fp16-sparse50 allows 0 % and 50 %"),
        ("fp16-sparse50", "fp16-int8w", "fp16-int8w allows 5 %"),
    ],
)
def test_what_is_compressed_more_than_asked_fails(
    dense: Any, made: str, asked: str, message: str, tmp_path: Path
) -> None:
    with captured():
        smaller = compress(dense, made)
    before, after = saved(dense, tmp_path / "a.mlpackage"), saved(smaller, tmp_path / "b.mlpackage")
    with pytest.raises(ValueError, match=message):
        compared_weights(before, after, asked)
