"""Core ML's own prediction: refused with the reason where there is none."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from converters import coreml_predict
from converters.mil_load import PackageError


def test_elsewhere_it_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert coreml_predict.why_not() == "Core ML runs on macOS; this is Linux"
    with pytest.raises(PackageError, match="this is Linux"):
        coreml_predict.predict(tmp_path, [np.zeros(1, np.float32)])


def test_on_a_mac_without_coremltools_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(coreml_predict, "find_spec", lambda name: None)
    assert "pip install" in coreml_predict.why_not()


@pytest.mark.coreml_runtime
@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML predicts on macOS only")
@pytest.mark.parametrize("unit", coreml_predict.COMPUTE_UNITS)
def test_core_ml_agrees_with_the_interpreter(tmp_path, unit):
    from torch import nn

    from converters.mil_interpreter import run
    from converters.parity import compare
    from tests.converters.mil_programs import converted, normal

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    path = converted(net, (1, 3, 8, 8), tmp_path / "net.mlpackage")
    x = [normal(1, 3, 8, 8)]
    found = compare(run(path, x, rounding=True), coreml_predict.predict(path, x, compute_unit=unit), 1e-2)
    assert found.passed
