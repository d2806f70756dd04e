"""Do our medians agree with a loop that has no harness around it, on the same file and in the same run?

Two processes are alive at once, ours and the bare one, and take turns of a tenth of a second, each asleep in
a read while the other works. A shared machine's speed wanders by several per cent within seconds: turns so
short cancel it, which rounds of their own do not. What is left differs from process to process (where its
memory lies), so several pairs of processes are taken.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runners import locks, parse_device
from runners.measurement import Failure, Job
from runners.measuring_process import child_environment
from runners.overhead import OverheadError
from runners.process import run_job

# (backend, kind of device) -> the script that runs the same file with nothing around it
BARE_LOOPS = {("onnxruntime", "cpu"): "bare_loop.py", ("trt", "cuda"): "bare_engine_loop.py"}
OURS = "import gc; gc.disable(); from runners.turns import main; main()"
WINDOW_SECONDS = 0.06
WINDOWS = 24


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes that took turns: medians of their windows in order, in nanoseconds per inference."""

    ours_ns: tuple[float, ...]
    bare_ns: tuple[float, ...]

    @property
    def log_ratio(self) -> float:
        """The median over the windows: one disturbed window does not move it."""
        logs = [math.log(ours / bare) for ours, bare in zip(self.ours_ns, self.bare_ns, strict=True)]
        return statistics.median(logs)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What several pairs of processes say of one file."""

    pairs: tuple[Pair, ...]

    @property
    def ratio(self) -> float:
        """Geometric mean over the pairs of ours over bare."""
        return math.exp(statistics.mean(pair.log_ratio for pair in self.pairs))

    @property
    def standard_error(self) -> float:
        """Of the ratio, relative; infinite with one pair."""
        logs = [pair.log_ratio for pair in self.pairs]
        return statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf


def against_bare_loop(
    job: Job, *, pairs: int = 5, windows: int = WINDOWS, precision: float = math.inf, max_pairs: int = 0
) -> Agreement:
    """Our loop and a bare one on the same file: pairs of processes with `windows` turns each.

    At least `pairs` of them, then more until the ratio's standard error is within `precision`, or there are
    `max_pairs`: how many a machine needs depends on how quiet it is. The ratio itself has no say in it.
    Raises OverheadError where one of them fails, ValueError where there is no bare loop for the backend.
    """
    if (job.backend, parse_device(job.device)[0]) not in BARE_LOOPS:
        known = ", ".join(f"{backend} on {kind}" for backend, kind in BARE_LOOPS)
        raise ValueError(f"there is no bare loop for '{job.backend}' on '{job.device}', only for: {known}")
    first = run_job(job)
    if isinstance(first, Failure):
        raise OverheadError(f"{job.case_id}: {first.message}. {first.advice}")
    lock = locks.acquire_for(job)
    try:
        agreement = Agreement(())
        while len(agreement.pairs) < pairs or (
            len(agreement.pairs) < max_pairs and agreement.standard_error > precision
        ):
            swapped = bool(len(agreement.pairs) % 2)
            agreement = Agreement((*agreement.pairs, _pair(job, first.loop_count, windows, swapped=swapped)))
    finally:
        if lock is not None:
            os.close(lock)
    return agreement


def _pair(job: Job, loops: int, windows: int, *, swapped: bool) -> Pair:
    """The sides start, and begin each turn, in alternating order."""
    commands = [_ours(job, loops), _bare(job, loops)]
    with _alive(commands[swapped], job) as one, _alive(commands[not swapped], job) as other:
        ours, bare = (other, one) if swapped else (one, other)
        taken: dict[_Side, list[float]] = {ours: [], bare: []}
        for window in range(windows):
            for side in (ours, bare) if window % 2 else (bare, ours):
                taken[side].append(side.median_ns(WINDOW_SECONDS))
    return Pair(tuple(taken[ours]), tuple(taken[bare]))


def _ours(job: Job, loops: int) -> list[str]:
    return [sys.executable, "-P", "-c", OURS, json.dumps(job.to_dict()), str(loops)]


def _bare(job: Job, loops: int) -> list[str]:
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
    }
    return [sys.executable, "-P", str(script), json.dumps(asked)]


class _Side:
    """One of the two processes, asleep until it is asked for a window."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process, self._errors = process, errors
        self._read()  # ready

    def median_ns(self, seconds: float) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            raise OverheadError(
                f"a side of the cross-check ended with {status}: {self._errors.read()[-500:]}"
            )
        return line


@contextmanager
def _alive(command: Sequence[str], job: Job) -> Iterator[_Side]:
    """A process that is gone afterwards, and that is killed where it outlives the job's deadline."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=child_environment(job.threads),
        )
        deadline = threading.Timer(job.timing.deadline_seconds, process.kill)
        deadline.start()
        try:
            yield _Side(process, errors)
        finally:
            deadline.cancel()
            process.kill()
            process.communicate()
