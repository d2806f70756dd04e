"""A run of a thousand cases: real names, three backends, three resolutions, two precisions, made-up times."""

from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np

from models import MODELS
from models.paper_names import PAPER_NAMES
from models.spec import Case, ModelSpec
from reports.records import StoredRun


def large_run(sample: ModuleType, cases: int, *, rounds: int = 10) -> StoredRun:
    """`sample` is sample_run.py; the groups have some hundred networks each."""
    random = np.random.default_rng(0)
    matrix = itertools.product(
        ("onnxruntime", "openvino", "torch"), (224, 256, 384), ("fp32", "int8"), PAPER_NAMES
    )
    results = []
    for place, (backend, side, precision, name) in enumerate(itertools.islice(matrix, cases)):
        model = ModelSpec.of(name if name in MODELS else f"timm/{name}", resolution=side)
        gmacs = float(random.uniform(0.3, 12.0))
        results.append(
            sample.measured(
                Case(model, backend, precision=precision), gmacs, 5.0 * gmacs,
                float(random.uniform(40.0, 130.0)), seed=place, count=rounds,
            )
        )  # fmt: skip
    return sample.run_of(results, suite="large")
