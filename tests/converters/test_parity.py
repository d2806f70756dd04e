"""Parity: what it measures, and that it fails where it must."""

from __future__ import annotations

import numpy as np
import pytest

from converters.parity import TOLERANCES, compare, is_close, make_inputs, widened
from models.spec import ModelSpec

SPEC = ModelSpec.of("block/ncb", resolution=7, in_channels=96)


def test_inputs_are_seeded_real_valued_and_different() -> None:
    inputs = make_inputs(SPEC, 2, seed=3, count=4)
    (last,) = make_inputs(SPEC, 2, seed=3, count=1, first=3)
    assert np.array_equal(inputs[3], last)
    again = make_inputs(SPEC, 2, seed=3, count=2)
    assert [value.shape for value in inputs] == [(2, 96, 7, 7)] * 4
    assert all(value.dtype == np.float32 for value in inputs)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, again, strict=False))
    assert not np.array_equal(inputs[0], inputs[1])
    assert not np.array_equal(inputs[0], make_inputs(SPEC, 2, seed=4, count=1)[0])
    assert abs(float(np.mean(inputs[0]))) < 0.05
    assert 0.95 < float(np.std(inputs[0])) < 1.05


def test_equal_outputs() -> None:
    outputs = make_inputs(SPEC, 1, seed=0, count=2)
    parity = compare(outputs, outputs, 1e-4)
    assert (parity.max_absolute, parity.max_relative, parity.top1_agreement) == (0, 0, 1)
    assert parity.cosine == pytest.approx(1)
    assert parity.passed


def test_the_worst_input_counts() -> None:
    reference = [np.array([[1.0, -4.0]], np.float32), np.array([[10.0, 2.0]], np.float32)]
    outputs = [np.array([[1.0, -3.0]], np.float32), np.array([[10.0, 2.5]], np.float32)]
    parity = compare(reference, outputs, 0.3)
    assert parity.max_absolute == 1.0
    assert parity.max_relative == pytest.approx(0.25)  # 1 of 4, not 0.5 of 10
    assert parity.passed
    assert not compare(reference, outputs, 0.2).passed


def test_top1_is_per_position_of_a_map_and_per_row_of_logits() -> None:
    reference = np.zeros((1, 3, 2, 2), np.float32)
    reference[:, 1] = 1
    other = reference.copy()
    other[0, 2, 0, 0] = 2
    assert compare([reference], [other], 1).top1_agreement == 0.75
    logits = np.eye(4, dtype=np.float32)
    assert compare([logits], [logits[::-1].copy()], 2).top1_agreement == 0


def test_agreement_tells_of_how_many_positions() -> None:
    reference = [np.eye(4, dtype=np.float32)[:, :3], np.eye(3, dtype=np.float32)]
    other = [reference[0], reference[1][::-1].copy()]
    parity = compare(reference, other, 2)
    assert (parity.top1_agreeing, parity.top1_positions) == (5, 7)
    assert compare(reference[:1], other[:1], 2).top1_positions == 4
    maps = [np.zeros((2, 5, 3, 3), np.float32)]
    assert compare(maps, maps, 1).top1_positions == 18


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_fails(bad: float) -> None:
    reference = np.ones((1, 3), np.float32)
    output = reference.copy()
    output[0, 1] = bad
    assert not compare([reference], [output], 1e9).passed
    assert not compare([reference, reference], [reference, output], 1e9).passed
    assert not is_close(reference, output, 1e9)


def test_all_zero_reference() -> None:
    zeros = np.zeros((1, 3), np.float32)
    assert compare([zeros], [zeros], 1e-4).passed
    assert not compare([zeros], [zeros + 1e-30], 1e-4).passed


def test_other_shape_or_count_is_an_error() -> None:
    value = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match=r"shape \(1, 4\) against reference of shape \(1, 3\)"):
        compare([value], [np.ones((1, 4), np.float32)], 1)
    with pytest.raises(ValueError, match="1 outputs against 2"):
        compare([value, value], [value], 1)
    with pytest.raises(ValueError, match="0 outputs against 0"):
        compare([], [], 1)


def test_every_precision_that_can_be_made_has_a_tolerance() -> None:
    import converters

    assert {p for made in converters.PRECISIONS.values() for p in made} <= TOLERANCES.keys()


@pytest.mark.parametrize(
    ("tolerance", "rounding", "precision", "wanted"),
    [
        (1e-4, 1e-6, "fp32", 1e-4),
        (1e-4, 1e-4, "fp32", 8e-4),
        (1e-4, 1.0, "fp32", 1e-2),
        (0.1, 1e-6, "fp16", 0.1),
        (0.1, 2e-6, "fp16", 8 * 2e-6 * 2**13),
        (0.1, 1e-3, "fp16", 0.25),
    ],
)
def test_a_network_that_amplifies_rounding_has_a_wider_tolerance(tolerance, rounding, precision, wanted):
    assert widened(tolerance, rounding, precision) == pytest.approx(wanted)
