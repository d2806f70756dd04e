"""Jobs by Apple's own route: packages through coremltools' remote device, one round per job.

It needs a Mac with Xcode, a phone and a signing team; coremltools builds and installs an app of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from device_agents import coremltools_remote as remote
from device_agents.archive import package_files, unpack
from device_agents.job import read_sets
from device_agents.mailbox import INPUTS, MODEL
from device_agents.outbox import Waiting
from device_agents.problems import DeviceProblem
from runners.measurement import Failure, Round

PREDICTIONS = 100
UNITS = {ours: theirs for theirs, ours in remote.UNITS.items()}

Commit = Callable[[Waiting, Round | Failure], None]


def run(jobs: Sequence[Waiting], *, team: str, commit: Commit) -> None:
    """Every job on the only phone; a problem is a failure of the jobs that it keeps from a round."""
    asyncio.run(_run(list(jobs), team, commit))


async def _run(jobs: list[Waiting], team: str, commit: Commit) -> None:
    left = list(jobs)
    try:
        device = await remote.prepared(_only_phone(), team=team)
        for job in jobs:
            try:
                commit(job, await _round(job, device))
            except DeviceProblem as problem:
                if problem.problem.passing:
                    raise
                commit(job, problem.failure())
            left.remove(job)
    except DeviceProblem as problem:
        for job in left:
            commit(job, problem.failure())


def _only_phone() -> Any:
    phones = remote.connected_phones()
    if len(phones) != 1:
        told = f"{len(phones)} phones are connected; unplug all but one"
        raise DeviceProblem("unplugged", told if phones else "no phone is connected")
    return phones[0]


async def _round(job: Waiting, device: Any) -> Round:
    """The first set of inputs alone: the client sends it with every prediction."""
    import coremltools

    sets = job.job.inputs.sets
    first = read_sets((job.folder / INPUTS).read_bytes(), job.job.inputs.tensors, sets)[0]
    inputs = {tensor.name: value for tensor, value in zip(job.job.inputs.tensors, first, strict=True)}
    unit = UNITS[job.job.compute_unit]
    with tempfile.TemporaryDirectory(prefix="coremltools-") as folder:
        package = Path(folder) / "model.mlpackage"
        unpack(package_files(job.folder / MODEL), package)
        model = coremltools.models.MLModel(
            str(package), compute_units=getattr(coremltools.ComputeUnit, unit), skip_model_load=True
        )
        samples = await remote.benchmark(
            model, device, inputs, loads=1 + job.job.warm_loads, predictions=PREDICTIONS
        )
    return remote.round_of(samples, device, unit, version=version("coremltools"))
