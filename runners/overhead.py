"""What the harness itself costs; whether its medians agree with a bare loop: runners/cross_check.py."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

from runners.measurement import Failure, Job, Round, Timing
from runners.process import run_job

SHORT = Timing(round_seconds=0.2, warmup_seconds=0.1)


class OverheadError(RuntimeError):
    """A measurement of the harness itself failed; the message is the failure's."""


def iteration_cost_ns(timing: Timing = SHORT, *, lock_dir: str | None = None) -> float:
    """What one iteration inside a sample costs around an inference that does nothing.

    A sample holds so many of them that its own cost is in none: sample_cost_ns.
    """
    return median_ns(_measured(null_job(timing, sleep_ns=0, lock_dir=lock_dir)))


def sample_cost_ns(timing: Timing = SHORT, *, lock_dir: str | None = None) -> float:
    """What a sample of one inference that does nothing costs, with clock reads, plan and recording.

    It is the wall time of the timed part over its samples, so what is read of the machine before and after
    them is in it too: the cost is rather less.
    """
    taken = _measured(null_job(replace(timing, min_sample_ms=0.0), sleep_ns=0, lock_dir=lock_dir))
    return taken.phases.timed_ns / len(taken.samples_ns)


def sleep_reading_ns(sleep_ns: int, timing: Timing = SHORT, *, lock_dir: str | None = None) -> float:
    """What the loop reads for an inference that sleeps a known time."""
    return median_ns(_measured(null_job(timing, sleep_ns=sleep_ns, lock_dir=lock_dir)))


def round_cost_ns(taken: Round) -> int:
    """The harness's share of a round: start, imports, load, output checks and exit."""
    return taken.phases.process_ns - taken.phases.warmup_ns - taken.phases.timed_ns


def median_ns(taken: Round) -> float:
    """Median nanoseconds per inference of one round."""
    return float(statistics.median(taken.samples_ns.tolist())) / taken.loop_count


def null_job(timing: Timing, *, sleep_ns: int, lock_dir: str | None = None) -> Job:
    """A job for the null backend, which loads no file."""
    options = {"runtime": {"sleep_ns": sleep_ns}, **({"lock_dir": lock_dir} if lock_dir else {})}
    return Job(
        case_id=f"null-{sleep_ns}",
        backend="null",
        device="cpu",
        threads=1,
        compute_unit="",
        precision="fp32",
        artifact=Path(),
        artifact_sha256="",
        tensors=Path(),
        tolerance=0.0,
        timing=timing,
        round_index=0,
        position=0,
        options=options,
    )


def _measured(job: Job) -> Round:
    outcome = run_job(job)
    if isinstance(outcome, Failure):
        raise OverheadError(f"{job.case_id}: {outcome.message}. {outcome.advice}")
    return outcome
