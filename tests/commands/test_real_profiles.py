"""Profiles of a real network on the CPU runtimes, folded onto the blocks that its paper names."""

from __future__ import annotations

import pytest

from reports import layers
from reports.layer_names import OTHER
from reports.store import Store
from reports.tables import build

REAL = """
schema = 1

[timing]
min_rounds = 2
max_rounds = 2
round_seconds = 0.05
warmup_seconds = 0.01
target = 0.5
max_seconds = 300

[suites.real]
description = "Next-ViT-S with its profile by layer"
profile = true

[[suites.real.matrix]]
models = ["nextvit_small"]
resolutions = [224]
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_layers_of_next_vit_belong_to_its_blocks(project, backend):
    """A runtime that names its layers otherwise than today would put them all into `other`."""
    pytest.importorskip(backend, reason=f"the package {backend} is not installed")
    project.config.write_text(REAL)
    answer = project.bench("--suite", "real", "--backend", backend)
    assert answer.code == 0, answer.err
    with Store(project.folder / "results/bench.db") as store:
        ((_, found),) = layers.profiles(build(store.load_run(1)))
    shares = {one.name: one.share for one in found.kinds}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["NCB"] > 0.3
    assert shares["NTB"] > 0.1
    assert shares["NCB"] + shares["NTB"] > 0.7
    assert shares.get(OTHER, 0.0) < 0.1
