"""The job that the tests of this folder run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agents.job import DeviceJob, DeviceTiming, InputFile, ModelFile, Tensor

SHAPE = (1, 3, 4, 4)
QUICK = DeviceTiming(
    rounds=3,
    warmup_ns=20_000_000,
    max_warmup_ns=200_000_000,
    round_ns=30_000_000,
    min_sample_ns=1_000_000,
    min_samples=5,
)


def make_job(folder: Path, **changes: object) -> tuple[DeviceJob, dict[str, Path]]:
    """A job over two real-valued inputs and a model file that is no model: the phone runs none."""
    folder.mkdir(parents=True, exist_ok=True)
    model, inputs = folder / "the-model", folder / "the-inputs"
    model.write_bytes(b"a model" * 100)
    values = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype("<f4")
    inputs.write_bytes(values.tobytes())
    job = DeviceJob(
        "0123456789abcdef",
        ModelFile("model.zip", "mlpackage-zip", sha256(model), model.stat().st_size, "16.0"),
        InputFile("inputs.bin", sha256(inputs), inputs.stat().st_size, 2, (Tensor("x", "float32", SHAPE),)),
        timing=QUICK,
    )
    return replace(job, **changes), {"model.zip": model, "inputs.bin": inputs}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
