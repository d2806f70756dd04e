"""The measuring process: one Job in, one Round or Failure out, then gone.

It imports little, because it is started for every round: no argparse, no logging, no asyncio.
"""

from __future__ import annotations

import time

FIRST_LINE_NS = time.perf_counter_ns()
STARTED_AT_NS = time.time_ns()

import importlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NoReturn  # noqa: E402

from runners import RUNNERS, backend_info, lifeline, locks, parse_device, readings, timing, verify, wire  # noqa: E402
from runners.measurement import Failure, Job, Phases, Protocol, Round  # noqa: E402
from runners.runner import HOST_CLOCK, Array, Description, Runner, RunnerError  # noqa: E402

# What a Job's options may hold: the runner's own under `runtime`, where and how long to wait for the device,
# which attempt this is, and a busy wait added to every inference, with which the instrument is tested.
JOB_OPTIONS = ("runtime", "lock_dir", "lock_seconds", "attempt", "busy_wait_ns")
RECORDED_VARIABLES = (
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "VECLIB_",
    "CUDA_VISIBLE",
    "PYTHONHASHSEED",
    "TORCHINDUCTOR_",
)

KINDS = {"import": "unavailable", "load": "load"}
ADVICE = {
    "unavailable": "Install the runtime; `doctor` says how.",
    "load": "The runtime rejects the file: see the message, and `verify` the artifact.",
    "infer": "The runtime fails while it runs: see the message and the traceback.",
    "out_of_memory": "Use a smaller batch or resolution, or a machine with more memory.",
}


def main() -> NoReturn:
    """`main()` with the control pipe, the result pipe and the parent's pid as arguments."""
    control, results, parent = (int(word) for word in sys.argv[1:4])
    for descriptor in (control, results):
        os.set_inheritable(descriptor, False)
    spawned_ns, job = _read_job(control)
    lifeline.tie_to(parent, control)
    wire.send(results, _answer(job, results, spawned_ns))
    os._exit(0)  # a runtime's teardown takes time, and a crash in it would cost a finished round


def _read_job(control: int) -> tuple[int, Job]:
    decoder = wire.Decoder()
    while data := os.read(control, 1 << 16):
        for message in decoder.feed(data):
            return int(message.header["spawned_ns"]), Job.from_dict(message.header["job"])
    os._exit(lifeline.ORPHANED)


def _answer(job: Job, results: int, spawned_ns: int) -> bytes:
    """The frame that ends this process: a round, or the failure that a Python error amounts to."""
    marks = Marks(lambda phase: wire.send(results, wire.encode({"phase": phase})))
    marks.durations["start"] = FIRST_LINE_NS - spawned_ns
    try:
        done = measure(job, marks)
        return wire.encode(
            {"round": done.to_dict()}, {"samples_ns": done.samples_ns, "warmup_ns": done.warmup_ns}
        )
    except RunnerError as error:
        failure = error.failure()
    except MemoryError as error:
        failure = Failure("out_of_memory", f"out of memory: {error}", ADVICE["out_of_memory"])
    except Exception as error:
        failure = _unexpected(error, marks.phase)
    return wire.encode({"failure": {**failure.to_dict(), "detail": {"phase": marks.phase, **failure.detail}}})


class Marks:
    """Which phase the process is in, told to the parent as it begins, and how long each one took."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.phase = "import"
        self.durations: dict[str, int] = {}
        self._announce = announce
        self._entered_ns = FIRST_LINE_NS

    def enter(self, phase: str) -> None:
        now = HOST_CLOCK()
        self.durations[self.phase] = self.durations.get(self.phase, 0) + now - self._entered_ns
        self.phase, self._entered_ns = phase, now
        self._announce(phase)

    def phases(self) -> Phases:
        names = ("start", "import", "load", "verify", "warmup", "timed")
        return Phases(**{f"{name}_ns": self.durations.get(name, 0) for name in names})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runner with its file loaded, and the check of its outputs; the null backend has none."""

    job: Job
    runner: Runner
    description: Description
    check: verify.OutputCheck

    @property
    def inputs(self) -> int:
        return len(self.check.references)


def measure(job: Job, marks: Marks) -> Round:
    """One round: lock the device, load, check the outputs, warm up, time, check again."""
    marks.enter("lock")
    _check_options(job)
    _lock(job)
    loaded = _load(job, marks)
    marks.enter("verify")
    error = loaded.check.run(loaded.runner, range(loaded.inputs))
    marks.enter("warmup")
    step, clock = _step(loaded), loaded.runner.clock
    warm = timing.warm_up(step, max(1, loaded.inputs), job.timing, clock=clock)
    marks.enter("timed")
    before = readings.read()
    samples = timing.take(step, warm, job.timing, clock=clock)
    after = readings.read()
    marks.enter("verify")
    # Another input in each round: a runtime may begin to hand out a stored output once it is warm.
    again = [(job.round_index + 1) % loaded.inputs] if loaded.inputs else []
    error = max(error, loaded.check.run(loaded.runner, again))
    marks.enter("end")
    return Round(
        round_index=job.round_index,
        position=job.position,
        attempt=int(job.options.get("attempt", 0)),
        protocol=_protocol(loaded),
        loop_count=warm.loop_count,
        samples_ns=samples,
        warmup_ns=warm.samples_ns,
        steady=warm.steady,
        output_error=error,
        phases=marks.phases(),
        started_at_ns=STARTED_AT_NS,
        environment={"before": before, "after": after, "variables": _variables()},
        flags=() if warm.steady else ("not_steady",),
        peak_rss_bytes=readings.peak_rss_bytes(),
    )


def _check_options(job: Job) -> None:
    unknown = sorted(set(job.options) - set(JOB_OPTIONS))
    if unknown:
        raise RunnerError("load", f"unknown job option '{unknown[0]}'", f"Known: {', '.join(JOB_OPTIONS)}.")


def _lock(job: Job) -> None:
    """A simulation needs no quiet device, so it takes the lock only where a folder for it is named."""
    folder = job.options.get("lock_dir")
    if folder is None and job.backend == "simulated":
        return
    seconds = float(job.options.get("lock_seconds", locks.WAIT_SECONDS))
    purpose = f"{job.backend} {job.case_id} round {job.round_index}"
    kind, index = parse_device(job.device)
    device = kind if kind == "cpu" else f"{kind}-{index}"  # `cuda` and `cuda:0` are one device
    locks.acquire(Path(folder or locks.default_folder()), device, wait_seconds=seconds, purpose=purpose)


def _load(job: Job, marks: Marks) -> Loaded:
    marks.enter("import")
    runner = _runner(job.backend)
    marks.enter("load")
    inputs, references = _tensors(job)
    runner.load(job, inputs)
    return Loaded(job, runner, runner.describe(), verify.OutputCheck(references, job.tolerance))


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


def _step(loaded: Loaded) -> timing.Step:
    """What is timed: the runner's own method where nothing has to be waited for."""
    busy_wait_ns = int(loaded.job.options.get("busy_wait_ns", 0))
    infer, synchronize = loaded.runner.infer, loaded.runner.synchronize
    if not busy_wait_ns:
        return _synchronized(infer, synchronize) if loaded.runner.asynchronous else infer
    if loaded.description.clock != "host":
        raise RunnerError(
            "load",
            f"a busy wait does not pass on the clock '{loaded.description.clock}'",
            "Drop busy_wait_ns.",
        )
    return _delayed(_synchronized(infer, synchronize) if loaded.runner.asynchronous else infer, busy_wait_ns)


def _synchronized(infer: timing.Step, synchronize: Callable[[], None]) -> timing.Step:
    def step(index: int) -> None:
        infer(index)
        synchronize()

    return step


def _delayed(step: timing.Step, wait_ns: int) -> timing.Step:
    clock = HOST_CLOCK

    def delayed(index: int) -> None:
        step(index)
        end = clock() + wait_ns
        while clock() < end:
            pass

    return delayed


def _protocol(loaded: Loaded) -> Protocol:
    job, description, policy = loaded.job, loaded.description, loaded.job.timing
    busy = job.options.get("busy_wait_ns", 0)
    return Protocol(
        backend=job.backend,
        runtime=description.runtime,
        device=job.device,
        threads=job.threads,
        clock=description.clock,
        sync=description.sync,
        timed=description.timed,
        inputs=f"{loaded.inputs} real-valued inputs from a seed, rotated" if loaded.inputs else "none",
        warmup=f"at least {policy.warmup_seconds:g} s, then until two windows agree (medians within 5 %, MAD "
        f"within 10 % of the median), at most {policy.max_warmup_seconds:g} s",
        min_sample_ns=timing.min_sample_ns(policy),
        transfers=description.transfers,
        compute_unit=job.compute_unit,
        options={**description.options, **({"busy_wait_ns": str(busy)} if busy else {})},
    )


def _variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(RECORDED_VARIABLES)}


def _unexpected(error: Exception, phase: str) -> Failure:
    import traceback

    kind = KINDS.get(phase, "infer")
    trace = "".join(traceback.format_exception(error))[-4000:]
    return Failure(kind, f"{type(error).__name__}: {error}"[:2000], ADVICE[kind], detail={"traceback": trace})
