"""What the harness itself costs, and whether its medians agree with a loop that has no harness around it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from runners import parse_device
from runners.measurement import Failure, Job, Round, Timing
from runners.process import child_environment, run_job

# (backend, kind of device) -> the script that runs the same file with nothing around it
BARE_LOOPS = {("onnxruntime", "cpu"): "bare_loop.py", ("trt", "cuda"): "bare_engine_loop.py"}
SHORT = Timing(round_seconds=0.2, warmup_seconds=0.1)


class OverheadError(RuntimeError):
    """A measurement of the harness itself failed; the message is the failure's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians of one pair of processes, in nanoseconds per inference."""

    ours_ns: float
    bare_ns: float

    @property
    def ratio(self) -> float:
        return self.ours_ns / self.bare_ns


@dataclass(frozen=True, slots=True)
class Agreement:
    """Alternating pairs on one file."""

    pairs: tuple[Pair, ...]

    @property
    def ratio(self) -> float:
        """Geometric mean of the pairs' ratios without the lowest and the highest tenth.

        The median of few pairs jumps where latencies have two modes, the mean follows one disturbed process.
        """
        ordered = sorted(pair.ratio for pair in self.pairs)
        cut = len(ordered) // 10
        return statistics.geometric_mean(ordered[cut : len(ordered) - cut])


def loop_cost_ns(timing: Timing = SHORT, *, lock_dir: str | None = None) -> float:
    """What one iteration of the timing loop costs around an inference that does nothing."""
    return median_ns(_measured(null_job(timing, sleep_ns=0, lock_dir=lock_dir)))


def sleep_reading_ns(sleep_ns: int, timing: Timing = SHORT, *, lock_dir: str | None = None) -> float:
    """What the loop reads for an inference that sleeps a known time."""
    return median_ns(_measured(null_job(timing, sleep_ns=sleep_ns, lock_dir=lock_dir)))


def round_cost_ns(taken: Round) -> int:
    """The harness's share of a round: start, imports, load, output checks and exit."""
    return taken.phases.process_ns - taken.phases.warmup_ns - taken.phases.timed_ns


def against_bare_loop(job: Job, *, pairs: int = 5) -> Agreement:
    """Our processes and bare loops on the same file in alternation, within one run.

    Each pair reverses the order of the one before, so that drift cancels. Raises OverheadError.
    """
    if (job.backend, parse_device(job.device)[0]) not in BARE_LOOPS:
        known = ", ".join(f"{backend} on {kind}" for backend, kind in BARE_LOOPS)
        raise ValueError(f"there is no bare loop for '{job.backend}' on '{job.device}', only for: {known}")
    first = _measured(job)
    taken = []
    for number in range(pairs):
        numbered = replace(job, round_index=number)
        if number % 2:
            bare_ns = _bare_median_ns(numbered, first.loop_count)
            ours_ns = median_ns(_measured(numbered))
        else:
            ours_ns = median_ns(_measured(numbered))
            bare_ns = _bare_median_ns(numbered, first.loop_count)
        taken.append(Pair(ours_ns, bare_ns))
    return Agreement(tuple(taken))


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


def _bare_median_ns(job: Job, loops: int) -> float:
    kind, index = parse_device(job.device)
    script = Path(__file__).with_name(BARE_LOOPS[job.backend, kind])
    asked = {
        "device": index,
        "package": str(job.options.get("builder", "")).partition(" ")[0] or "tensorrt",
        "artifact": str(job.artifact.absolute()),
        "tensors": str(job.tensors.absolute()),
        "threads": job.threads,
        "loops": loops,
        "warmup_seconds": 2 * job.timing.warmup_seconds,
        "seconds": job.timing.round_seconds,
    }
    done = subprocess.run(
        [sys.executable, "-P", str(script), json.dumps(asked)],
        capture_output=True,
        text=True,
        env=child_environment(job.threads),
        timeout=job.timing.deadline_seconds,
        check=False,
    )
    if done.returncode:
        raise OverheadError(f"the bare loop ended with status {done.returncode}: {done.stderr[-500:]}")
    return float(statistics.median(json.loads(done.stdout)))
