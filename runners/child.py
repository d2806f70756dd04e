"""The measuring process: one Job in, one Round or Failure out, then gone.

It imports little, because it is started for every round: no argparse, no logging, no asyncio.
"""

from __future__ import annotations

import time

FIRST_LINE_NS = time.perf_counter_ns()
STARTED_AT_NS = time.time_ns()

import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from typing import NoReturn  # noqa: E402

from runners import (  # noqa: E402
    affinity,
    device_facts,
    disturbance,
    gpu_readings,
    layer_profile,
    lifeline,
    readings,
    timing,
    windows,
    wire,
    work,
)
from runners.loading import Loaded, load  # noqa: E402
from runners.marks import Marks  # noqa: E402
from runners.measurement import Failure, Job, Protocol, Round  # noqa: E402
from runners.runner import RunnerError  # noqa: E402
from runners.turn import ALONE, Turn  # noqa: E402

# What a Job's options may hold: the runner's own under `runtime`, where and how long to wait for the device,
# which attempt this is, a busy wait added to every inference, with which the instrument is tested, which
# package built an engine (`tensorrt_rtx 1.7.1`): two packages write files that look alike, and whether a
# profile by layer is taken when all else is done.
JOB_OPTIONS = ("runtime", "lock_dir", "lock_seconds", "attempt", "busy_wait_ns", "builder", "profile")
RECORDED_VARIABLES = (
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "VECLIB_",
    "CUDA_VISIBLE",
    "CUDA_DEVICE_ORDER",
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
    told = _read_job(control)
    go = lifeline.tie_to(parent, control)
    wire.send(results, _answer(told, results, go))
    os._exit(0)  # a runtime's teardown takes time, and a crash in it would cost a finished round


@dataclass(frozen=True, slots=True)
class Told:
    """What the parent's one message says; `place` and `company` are those of a Turn."""

    job: Job
    place: str
    spawned_ns: int
    company: int = 0


def _read_job(control: int) -> Told:
    decoder = wire.Decoder()
    while data := os.read(control, 1 << 16):
        for message in decoder.feed(data):
            header = message.header
            job, company = Job.from_dict(header["job"]), int(header.get("company", 0))
            return Told(job, str(header["place"]), int(header["spawned_ns"]), company)
    os._exit(lifeline.ORPHANED)


def _answer(told: Told, results: int, go: Callable[[], None]) -> bytes:
    """The frame that ends this process: a round, or the failure that a Python error amounts to."""
    marks = Marks(lambda phase: wire.send(results, wire.encode({"phase": phase})), began_ns=FIRST_LINE_NS)
    marks.durations["start"] = FIRST_LINE_NS - told.spawned_ns
    try:
        done = measure(told.job, marks, Turn(told.place, go, told.company))
        return wire.encode_round(done)
    except RunnerError as error:
        failure = error.failure()
    except MemoryError as error:
        failure = Failure("out_of_memory", f"out of memory: {error}", ADVICE["out_of_memory"])
    except Exception as error:
        failure = _unexpected(error, marks.phase)
    return wire.encode({"failure": {**failure.to_dict(), "detail": {"phase": marks.phase, **failure.detail}}})


def measure(job: Job, marks: Marks, turn: Turn = ALONE) -> Round:
    """One round: load, check the outputs, wait for the turn, warm up, time, check again."""
    _check_options(job)
    cores = _pin(job)
    loaded = load(job, marks)
    marks.enter("verify")
    error = loaded.check.run(loaded.runner, range(len(loaded.check.references)))
    started_at_ns = _wait(turn, marks)
    marks.enter("warmup")
    busy_wait_ns = int(job.options.get("busy_wait_ns", 0))
    step, clock = work.of(loaded.runner, loaded.description, busy_wait_ns), loaded.runner.clock
    warm = timing.warm_up(step, max(1, loaded.inputs), job.timing, clock=clock)
    gpu = device_facts.gpu_of(loaded.device_side, job.device)
    read = device_facts.reader(gpu)
    marks.enter("timed")
    if turn.takes_turns:
        pause = partial(_pause, turn, marks)
        timed = windows.in_turns(step, warm, job.timing, clock=clock, read=read, pause=pause)
    else:
        timed = windows.in_one_piece(step, warm, job.timing, clock=clock, read=read)
    before, after = timed.before, timed.after
    marks.enter("verify")
    # Another input in each round: a runtime may begin to hand out a stored output once it is warm.
    again = [(job.round_index + 1) % loaded.inputs] if loaded.inputs else []
    error = max(error, loaded.check.run(loaded.runner, again))
    device = device_facts.read(loaded.device_side, len(timed.samples_ns), gpu)
    peak_rss_bytes = readings.peak_rss_bytes()
    layers, told = layer_profile.take(job, loaded.runner)
    marks.enter("end")
    slowdowns = gpu_readings.slowdowns(before, after, marks.durations["timed"])
    disturbances = _disturbances(loaded, timed)
    return Round(
        round_index=job.round_index,
        position=job.position,
        attempt=int(job.options.get("attempt", 0)),
        protocol=_protocol(loaded, cores, turn),
        loop_count=warm.loop_count,
        samples_ns=timed.samples_ns,
        warmup_ns=warm.samples_ns,
        steady=warm.steady,
        output_error=error,
        phases=marks.phases(),
        started_at_ns=started_at_ns,
        environment={
            "before": before,
            "after": after,
            "variables": _variables(),
            "place": turn.place,
            **({"turns": {"company": turn.company, "windows": timed.windows}} if timed.windows else {}),
            **({"slowdowns": slowdowns} if slowdowns else {}),
            **({"disturbances": disturbances} if disturbances else {}),
            **device.environment,
            **told,
        },
        flags=tuple(
            name
            for name, holds in (
                ("not_steady", not warm.steady),
                ("throttled", slowdowns),
                ("disturbed", disturbances),
            )
            if holds
        ),
        peak_rss_bytes=peak_rss_bytes,
        peak_device_bytes=device.peak_bytes,
        parts=device.parts,
        layers=device.layers or layers,
        top1=loaded.check.top1,
    )


def _wait(turn: Turn, marks: Marks) -> int:
    """Sleeps until the process may work, and returns when the time of its own began, in ns since 1970 (UTC).

    What passed beside a process that leads took no time of its own.
    """
    if turn.waits:
        marks.enter("ready")
        turn.go()
    if not turn.was_beside:
        return STARTED_AT_NS
    marks.forget()
    return time.time_ns()


def _pause(turn: Turn, marks: Marks) -> None:
    """Sleeps between two windows; the time is that of the others."""
    marks.enter("ready")
    turn.go()
    marks.enter("timed")


def _check_options(job: Job) -> None:
    unknown = sorted(set(job.options) - set(JOB_OPTIONS))
    if unknown:
        raise RunnerError("load", f"unknown job option '{unknown[0]}'", f"Known: {', '.join(JOB_OPTIONS)}.")


def _pin(job: Job) -> tuple[int, ...]:
    """Before the runtime is imported: a thread has the cores of the one that starts it."""
    try:
        return affinity.pin_process(job.timing.pin, job.threads)
    except (affinity.PinError, OSError) as error:
        raise RunnerError("load", f"pin: {error}", "Name cores that this machine has, or 'off'.") from None


def _disturbances(loaded: Loaded, timed: windows.Timed) -> list[str]:
    """Other work only of samples on the host's clock: a virtual one does not feel it, a GPU's hardly."""
    still = disturbance.standstill(timed.samples_ns)
    if loaded.description.clock != "host":
        return still
    cores = os.cpu_count() or 1
    work = disturbance.reasons(timed.before, timed.after, cores=cores, threads=loaded.job.threads)
    return [*work, *still]


def _protocol(loaded: Loaded, cores: tuple[int, ...], turn: Turn) -> Protocol:
    job, description, policy = loaded.job, loaded.description, loaded.job.timing
    added = {
        "busy_wait_ns": job.options.get("busy_wait_ns", 0),
        "pinned_cores": ",".join(map(str, cores)),
        "turns": f"{policy.turn_seconds:g} s" if turn.takes_turns else "",
    }
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
        queue_depth=description.queue_depth,
        cuda_graph=description.cuda_graph,
        transfers=description.transfers,
        compute_unit=job.compute_unit,
        options={**description.options, **{name: str(value) for name, value in added.items() if value}},
    )


def _variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(RECORDED_VARIABLES)}


def _unexpected(error: Exception, phase: str) -> Failure:
    import traceback

    kind = KINDS.get(phase, "infer")
    trace = "".join(traceback.format_exception(error))[-4000:]
    return Failure(kind, f"{type(error).__name__}: {error}"[:2000], ADVICE[kind], detail={"traceback": trace})
