"""The artifact of every case: from the cache, or made now by workers; failures become records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.artifact_limit import ArtifactLimit
from commands.gpu_lock import GpuLock
from converters.artifact import Artifact, ConversionFailure, ConversionRequest
from converters.cache import CacheError
from converters.cache_trim import bytes_of
from converters.cache_use import keys_of
from converters.parity import TOLERANCES
from converters.pool import DEADLINE_SECONDS, ConversionEvent, convert_all, cores
from models.spec import Case
from runners.measurement import Failure, Job, Timing

if TYPE_CHECKING:
    from reports.progress import Progress

TOLERANCE = 1e-3  # of a runtime's output, where the artifact has no parity of its own
CONVERSION_ADVICE = "Read the step and the module named above; the other cases are not affected."


def collect(
    requests: Mapping[str, ConversionRequest],
    root: Path,
    progress: Progress,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    max_bytes: int | None = None,
    stop_bytes: int | None = None,
) -> dict[ConversionRequest, Artifact | ConversionFailure]:
    """Every distinct request's artifact or failure. Raises converters.cache.CacheError.

    Engines that are built on the GPU here are built one after another, and not while it is measured on. As
    files are made, the cache is held to `max_bytes`; that these ones stay is up to the caller's lease. Where
    the files take `stop_bytes` or more, those that are not made by then are left out.
    """
    limit = ArtifactLimit(root, max_bytes, progress.note)
    limit.hold()
    total = len(set(requests.values()))
    outcomes: dict[ConversionRequest, Artifact | ConversionFailure] = {}
    fresh: set[ConversionRequest] = set()
    show = _shower(progress, outcomes, total, fresh)
    made = convert_all(
        requests.values(),
        root,
        workers=_workers(),
        on_event=show,
        deadline_seconds=deadline_seconds,
        reservations=GpuLock(progress.note),
    )
    for request, outcome in made:
        outcomes[request] = outcome
        if request in fresh:
            limit.hold()
        if stop_bytes is not None and bytes_of(root, keys_of(outcomes)) >= stop_bytes:
            made.close()
            break
    return outcomes


def _workers() -> int:
    """As many as there are cores, and as memory holds: exporting a large network takes up to 3 GiB."""
    import psutil

    return max(1, min(cores(), psutil.virtual_memory().available // (3 * 2**30)))


def _shower(
    progress: Progress,
    outcomes: Mapping[ConversionRequest, object],
    total: int,
    fresh: set[ConversionRequest],
) -> Callable[[ConversionEvent], None]:
    """Shows what happens, and enters in `fresh` what was made now."""

    def show(event: ConversionEvent) -> None:
        what = f"{event.request.model.name} {event.request.model.shape_label}"
        if event.kind == "step":
            progress.conversion(len(outcomes), total, what, event.detail)
        elif event.kind == "done":
            fresh.add(event.request)
        elif event.kind in ("notice", "failed"):
            progress.note(f"{what}: {event.detail}")

    return show


def as_failure(outcome: ConversionFailure) -> Failure:
    """The record of a case whose conversion gave no file."""
    message = f"{outcome.step}: {outcome.message}" if outcome.step else outcome.message
    return Failure("conversion", message, outcome.advice or CONVERSION_ADVICE, detail=outcome.to_dict())


def as_refusal(reason: str) -> Failure:
    """The record of a case that no file can be built for."""
    return Failure(
        "conversion", reason, "Name another backend, precision or resolution; the other cases go on."
    )


def job(case: Case, artifact: Artifact, timing: Timing) -> Job:
    """What a measuring process is told about a case: its file, its tolerance, its runtime's options.

    An engine loads in the package that built it, so that one is named too.
    """
    parity = artifact.parity
    told = _job(case, timing, artifact.path, sha256=artifact.sha256, tensors=artifact.tensors)
    tolerance = max(TOLERANCE, parity.tolerance) if parity else TOLERANCE
    if case.precision != artifact.precision:  # the runtime lowers it, and rounds as that precision does
        tolerance = max(tolerance, TOLERANCES[case.precision])
    if artifact.facts.get("tf32"):  # its operands have fp16's mantissa
        tolerance = max(tolerance, TOLERANCES["fp16"])
    chosen: dict[str, Any] = {"runtime": dict(case.runtime)} if case.runtime else {}
    if "builder" in artifact.facts:
        chosen["builder"] = artifact.facts["builder"]
    return replace(
        told, tensors_sha256=artifact.tensors_sha256, tolerance=tolerance, options={**told.options, **chosen}
    )


def simulated_jobs(cases: Iterable[Case], timing: Timing, root: Path) -> dict[str, Job]:
    """Jobs of the cases on the simulated backend: a latency made up from the case's id; no network runs."""
    from runners.simulated import Simulation, write

    jobs = {}
    for case in cases:
        if case.backend == "simulated":
            number = int(case.id, 16)
            described = Simulation(median_ns=1e6 + number % 9_000_000, sigma=0.01, seed=number % 2**32)
            try:
                files = write(root / "simulated", described, name=case.id)
            except OSError as error:
                raise CacheError(
                    f"artifact cache {root}: cannot write simulated/{case.id}: {error.strerror or error}. "
                    "Give another folder, free space on its disk, or make it writable."
                ) from error
            jobs[case.id] = _job(case, timing, files.path, sha256=files.sha256, tensors=files.tensors)
    return jobs


def _job(case: Case, timing: Timing, path: Path, *, sha256: str, tensors: Path) -> Job:
    return Job(
        case_id=case.id,
        backend=case.backend,
        device=case.device,
        threads=case.threads,
        compute_unit=case.compute_unit,
        precision=case.precision,
        artifact=path,
        artifact_sha256=sha256,
        tensors=tensors,
        tolerance=TOLERANCE,
        timing=timing,
        round_index=0,
        position=0,
    )
