"""Storing and printing load no plotting or table library: measuring pays for them at its end only."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "pandas", "pyarrow", "matplotlib", "plotly", "jinja2", "scipy.stats", "onnxruntime")


@pytest.mark.parametrize(
    "modules",
    ["reports", "reports.store", "reports.statistics, reports.flags, reports.tables", "reports.terminal",
     "reports.html, reports.export"],
)  # fmt: skip
def test_importing_is_light(modules):
    code = f"import sys, {modules}; print([n for n in {HEAVY!r} + ('scipy',) if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stopping_rule_of_a_live_run_loads_no_scipy():
    code = (
        "import sys, numpy as np; from reports.statistics import converged;"
        "from reports.intervals import median_interval; median_interval(np.array([1.0, 1.1]));"
        "print([n for n in"
        f" {HEAVY!r} if n in sys.modules], 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
