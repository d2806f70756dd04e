"""A runner with its file loaded, and the check of what it computes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from runners import RUNNERS, backend_info, verify
from runners.marks import Marks
from runners.measurement import Job
from runners.runner import Array, Description, DeviceSide, Runner, RunnerError


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runner with its file loaded, and the check of its outputs; the null backend has none.

    `inputs` is how many are timed in rotation: the first of those that the check knows.
    """

    job: Job
    runner: Runner
    description: Description
    check: verify.OutputCheck
    inputs: int

    @property
    def device_side(self) -> DeviceSide | None:
        found: DeviceSide | None = getattr(self.runner, "device_side", None)
        return found


def load(job: Job, marks: Marks) -> Loaded:
    """Imports the runtime and loads the artifact, both checked by hash. Raises RunnerError."""
    marks.enter("import")
    runner = _runner(job.backend)
    marks.enter("load")
    inputs, references = _tensors(job)
    more, expected = verify.read_judged(job.tensors) if inputs and job.round_index == 0 else ([], [])
    runner.load(job, [*inputs, *more])
    check = verify.OutputCheck([*references, *expected], job.tolerance)
    return Loaded(job, runner, runner.describe(), check, len(inputs))


def _runner(backend: str) -> Runner:
    """A new runner; this project's are found without the entry points' machinery, slow to search."""
    if backend in RUNNERS:
        module, _, name = RUNNERS[backend].partition(":")
        made: Runner = getattr(importlib.import_module(module), name)()
        return made
    from models import tables

    try:
        made = tables.lookup(RUNNERS, "runners", backend)()
    except tables.UnknownNameError as error:
        raise RunnerError("unavailable", str(error), "Name a backend that `list backends` shows.") from None
    return made


def _tensors(job: Job) -> tuple[list[Array], list[Array]]:
    if backend_info(job.backend).artifact_kind == "none":
        return [], []
    verify.check_sha256(job.artifact, job.artifact_sha256)
    if job.tensors_sha256:
        verify.check_sha256(job.tensors, job.tensors_sha256)
    return verify.read_tensors(job.tensors)
