"""Stores with known truth: runs of two blocks whose medians a test chooses. Loaded by the tests beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.spec import Case, ModelSpec
from reports.store import Store
from runners.measurement import Phases, Protocol, Round

START_NS = 1_763_689_800_000_000_000
HOUR_NS = 3_600_000_000_000
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def case(name: str = "block/ncb", *, resolution: int = 14, **changes) -> Case:
    return Case(ModelSpec.of(name, resolution=resolution, in_channels=384), "onnxruntime", **changes)


NCB, BOTTLENECK = case(), case("block/bottleneck")


def protocol(**changes: object) -> Protocol:
    facts: dict = {
        "backend": "onnxruntime", "runtime": "onnxruntime 1.31.0", "device": "cpu", "threads": 1,
        "clock": "host", "sync": "blocking call", "timed": "inference", "inputs": "normal", "warmup": "0.2 s",
        "min_sample_ns": 1_000_000, **changes,
    }  # fmt: skip
    return Protocol(**facts)


def taken(median_ns: float, index: int, *, count: int = 40, seed: int = 0, **changes: object) -> Round:
    random = np.random.default_rng([seed, index])
    samples = (median_ns * np.exp(random.normal(0.0, 0.004, count))).astype(np.int64)
    return Round(
        round_index=index, position=0, attempt=0, protocol=protocol(**changes), loop_count=1,
        samples_ns=samples, warmup_ns=samples[:3], steady=True, output_error=1e-7, phases=Phases(),
        started_at_ns=START_NS + index,
    )  # fmt: skip


def add_run(
    path: Path,
    medians_ns: Mapping[Case, float | Sequence[float]],
    *,
    rounds: int = 8,
    suite: str = "blocks",
    commit: str = COMMIT,
    seed: int = 0,
    at: int = 0,
    machine: str = "5e1f0c7a9b3d2468",
    environment: Mapping[str, object] | None = None,
    **changes: object,
) -> int:
    """A finished run, hour `at`; a median may be one per round. `changes` are of the protocol.

    `environment` is added to what its machine tells.
    """
    revision = {"commit": commit, "dirty": False} if commit else {}
    with Store(path, clock_ns=lambda: START_NS + at * HOUR_NS) as store:
        info = store.begin_run(
            suite=suite, plan_digest=f"{at:02x}cafe{seed}", seed=0,
            command=f"python bench.py --suite {suite}",
            config={"timing": {"target": 0.01}},
            environment={
                "revision": revision, "fingerprint": machine, "cpu": {"model": "Example CPU"},
                **(environment or {}),
            },
            cases=list(medians_ns),
        )  # fmt: skip
        for one, medians in medians_ns.items():
            values = [medians] * rounds if isinstance(medians, int | float) else medians
            for index, median in enumerate(values):
                store.append(info.run_id, one.id, taken(median, index, seed=seed, **changes), artifact=None)
        store.finish_run(info.run_id)
    return info.run_id


def digest_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time: what has to stay the same where nothing may be written."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }
