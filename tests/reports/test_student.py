"""Student's t without SciPy agrees with SciPy."""

from __future__ import annotations

import math

import pytest
from scipy.special import stdtrit

from reports.student import two_sided_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 19, 50, 199, 999])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99, 0.999])
def test_agrees_with_scipy(degrees, confidence):
    expected = float(stdtrit(degrees, 0.5 + confidence / 2))
    assert two_sided_quantile(confidence, degrees) == pytest.approx(expected, rel=1e-10)


def test_known_values():
    assert two_sided_quantile(0.5, 1) == pytest.approx(1.0)  # Cauchy
    assert two_sided_quantile(0.95, 10_000) == pytest.approx(1.959964, rel=2e-4)
    assert math.isclose(two_sided_quantile(0.95, 4), 2.7764451051977987, rel_tol=1e-12)


@pytest.mark.parametrize(("confidence", "degrees"), [(0.95, 0), (0.0, 3), (1.0, 3)])
def test_out_of_range(confidence, degrees):
    with pytest.raises(ValueError, match="no quantile"):
        two_sided_quantile(confidence, degrees)
