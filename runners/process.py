"""The parent's side of a round: start a fresh process, sleep until it is done, say what became of it.

Rounds come in pairs: while the first process of a pair gets ready (start, import, load, check), so does the
second beside it, and while one is timed the other sleeps, or is gone. So half of that time is saved.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from runners import endings, locks, memory, wire
from runners.measurement import Failure, Job, Round
from runners.runner import RunnerError

ROOT = Path(__file__).resolve().parent.parent
# Collecting garbage while a runtime is imported costs 5 ms a round, so it is off from the first line.
COMMAND = (sys.executable, "-P", "-c", "import gc; gc.disable(); from runners.child import main; main()")
KEPT_OUTPUT = 16_384  # bytes of what the process printed, from its end
LAST_READS = 64  # of 64 KiB: more than a pipe can hold
MAX_JOB = 60_000  # bytes; what surely fits into a pipe that nobody reads yet
GRACE_SECONDS = 2.0  # from the result to the end of the process

# Nothing else of the parent's environment reaches a measuring process.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME", "VIRTUAL_ENV"),
    "DEPLOYBENCH_LOCKS",
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CC", "CXX", "TORCHINDUCTOR_CACHE_DIR"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES"),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_job(job: Job, *, command: Sequence[str] = COMMAND) -> Round | Failure:
    """One round in a process of its own, which is gone when this returns or raises.

    Waits for the device, then blocks without polling until the result is there, the process has ended, or
    `job.timing.deadline_seconds` have passed.
    """
    with Processes(command=command) as processes:
        return processes.run(job)


class Processes:
    """Runs jobs one after the other, each in a fresh process, and gets the next one ready where it may.

    Used as a context manager: on leaving, no process is left. Nothing is started before this process holds
    the device's lock. The measuring processes inherit it, so it is free when all of them are gone.
    """

    def __init__(self, *, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._next: _Child | None = None
        self._lock: int | None = None
        self._was_paired = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._drop()

    def run(self, job: Job, following: Job | None = None) -> Round | Failure:
        """The round of `job`. A process for `following`, the job of the next call, is made ready on the way.

        Not where `job`'s own process was made ready so, as only two share what precedes the timing, and
        not on a device other than a CPU, whose memory the second process would take. A deadline counts
        from the start of the process until it is ready, and again from its turn. A process of a pair that
        runs out of memory is tried again alone.
        """
        outcome = self._run(job, following)
        if isinstance(outcome, Failure) and outcome.kind == "out_of_memory" and self._was_paired:
            self._drop()
            outcome = self._run(job, None)
        if self._next is None:
            self._drop()
        return outcome

    def _run(self, job: Job, following: Job | None) -> Round | Failure:
        child = self._take(job, pair=following is not None)
        if isinstance(child, Failure):
            return child
        try:
            if child.place == "first" and following is not None:
                self._prepare_beside(child, following)
            self._was_paired = child.place == "second" or self._next is not None
            child.take_turn()
        finally:
            child.end()
        return child.outcome()

    def _take(self, job: Job, *, pair: bool) -> _Child | Failure:
        found, self._next = self._next, None
        if found is not None and found.job == job:
            return found
        if found is not None:
            found.end()
        self._drop()
        try:
            self._lock = locks.acquire_for(job)
            return _Child.spawn(job, "first" if pair else "alone", self._command, self._lock)
        except RunnerError as error:
            built = error.kind == "unavailable" and job.artifact.is_file()
            return replace(error.failure(), round_index=job.round_index, built=built)
        except OSError as error:  # no memory, process or descriptor left: this case's loss, not the suite's
            advice = "Free memory or end other processes, then run the same command again."
            message = f"the measuring process could not be started: {error.strerror}"
            return Failure("crashed", message, advice, round_index=job.round_index)

    def _prepare_beside(self, first: _Child, following: Job) -> None:
        """Start the second process and wait until both are ready; one that is not is gone then.

        What is wrong with it is said at its turn.
        """
        if {first.job.device, following.device} != {"cpu"}:
            return
        if locks.place_of(following) != locks.place_of(first.job):
            return
        with suppress(OSError):  # it is started at its turn then, and says what is wrong
            self._next = _Child.spawn(following, "second", self._command, self._lock)
        first.wait(until=_is_ready)
        if self._next is not None:
            self._next.wait(until=_is_ready)
            if self._next.over:
                self._next.begun_ns = time.perf_counter_ns()  # its time was the first one's, that waited
                self._next.end()

    def _drop(self) -> None:
        """No process left, and the device free."""
        if self._next is not None:
            self._next.end()
            self._next = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_ready(phase: str) -> bool:
    return phase == "ready"


def child_environment(threads: int) -> dict[str, str]:
    """The constructed environment of a measuring process."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {
        **passed,
        **{name: str(threads) for name in THREAD_VARIABLES},
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # more would start worker processes beside the timing
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": _python_path(),
        "LANG": "C.UTF-8",
    }


def _python_path() -> str:
    """This project's folder first, where it is not installed; site-packages may not precede the library."""
    own = [] if ROOT.name in ("site-packages", "dist-packages") else [str(ROOT)]
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])


@dataclass
class _Child:
    """A running process, its three pipes, and what came out of them so far.

    `place` is `alone`, or `first` or `second` of a pair; `begun_ns` when it began to take time of its own.
    """

    job: Job
    place: str
    process: subprocess.Popen[bytes]
    control: int
    results: int
    output: int
    begun_ns: int
    kills_before: int
    expires: float  # on the monotonic clock, in seconds
    decoder: wire.Decoder = field(default_factory=wire.Decoder)
    phase: str = "start"
    answer: wire.Message | None = None
    malformed: str = ""
    printed: bytes = b""
    late: bool = False
    ended: bool = False
    gone: bool = False
    lifetime_ns: int = 0

    @staticmethod
    def spawn(job: Job, place: str, command: Sequence[str], lock: int | None) -> _Child:
        spawned_ns = time.perf_counter_ns()
        frame = _job_frame(job, place, spawned_ns)
        kills = memory.oom_kills()
        (control_read, control), (results, results_write), (output, output_write) = (
            os.pipe() for _ in range(3)
        )
        try:
            process = subprocess.Popen(
                [*command, str(control_read), str(results_write), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(control_read, results_write, *(() if lock is None else (lock,))),
                env=child_environment(job.threads),
                start_new_session=True,
            )
        except OSError:
            _close(control, results, output)
            raise
        finally:
            _close(control_read, results_write, output_write)
        with suppress(BrokenPipeError):  # it is gone already, and its status will tell
            wire.send(control, frame)
        expires = time.monotonic() + job.timing.deadline_seconds
        return _Child(job, place, process, control, results, output, spawned_ns, kills, expires)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for: it answered, ended, sent nonsense or was late."""
        return self.answer is not None or self.ended or self.late or bool(self.malformed)

    def take_turn(self) -> None:
        """Has the process do its work to the end; it is ready, gets ready, or needs no word to go."""
        if self.place == "second" and not self.gone:
            self.begun_ns = time.perf_counter_ns()
        if self.place != "alone":
            self.wait(until=_is_ready)
        if self.phase == "ready" and not self.over:
            self.expires = time.monotonic() + self.seconds
            with suppress(BrokenPipeError):  # it is gone already, and its status will tell
                os.write(self.control, b"\n")
        self.wait()

    @property
    def seconds(self) -> float:
        return self.job.timing.deadline_seconds

    def wait(self, until: Callable[[str], bool] = lambda phase: False) -> None:
        """Returns when the process has ended, or answered and had time to end, or its time is over.

        Or when it has entered a phase that `until` says yes to.
        """
        if self.gone or self.ended or self.late or self.malformed or until(self.phase):
            return
        with selectors.DefaultSelector() as selector, _exit_descriptor(self.process.pid) as exited:
            for descriptor in (self.results, self.output):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            if exited >= 0:
                selector.register(exited, selectors.EVENT_READ)
            while self._listen(selector, exited, until):
                pass

    def _listen(self, selector: selectors.BaseSelector, exited: int, until: Callable[[str], bool]) -> bool:
        """Sleeps until something happens; false when there is nothing more to wait for."""
        ready = {key.fd for key, _ in selector.select(max(0.0, self.expires - time.monotonic()))}
        for descriptor in ready - {exited}:
            if not self._drain(descriptor):
                selector.unregister(descriptor)
        if exited in ready:
            self._drain(self.results, reads=LAST_READS)
            self._drain(self.output, reads=LAST_READS)
            self.ended = True
            return False
        if until(self.phase):
            return False
        if time.monotonic() >= self.expires:
            self.late = self.answer is None
            return False
        if exited < 0 and self.results not in selector.get_map():
            self.ended = True  # there is no descriptor for the exit (not Linux): the pipe's end stands for it
        return not self.malformed and not self.ended

    def _drain(self, descriptor: int, *, reads: int = 1) -> bool:
        """Takes what a pipe holds; false at its end. Few reads: endless printing must not keep us here."""
        for _ in range(reads):
            try:
                data = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            if descriptor == self.output:
                self.printed = (self.printed + data)[-KEPT_OUTPUT:]
            else:
                self._decode(data)
        return True

    def _decode(self, data: bytes) -> None:
        try:
            for message in self.decoder.feed(data):
                self._understand(message)
        except wire.ProtocolError as error:
            self.malformed = str(error)

    def _understand(self, message: wire.Message) -> None:
        if "phase" not in message.header:
            self.answer = message
            self.expires = time.monotonic() + GRACE_SECONDS
            return
        self.phase = str(message.header["phase"])

    def end(self) -> None:
        """Kills what is left of the process group and reaps the process.

        One that has ended is still a zombie then, so the group's number cannot have passed to anyone else.
        Does nothing the second time.
        """
        if self.gone:
            return
        if sys.platform != "linux" and not self.late:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_SECONDS)
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.gone = True
        self.lifetime_ns = time.perf_counter_ns() - self.begun_ns
        _close(self.control, self.results, self.output)

    def outcome(self) -> Round | Failure:
        """What became of the job, once the process is gone."""
        found = self._answered()
        if isinstance(found, Round):
            return replace(found, phases=replace(found.phases, process_ns=self.lifetime_ns))
        detail = {"process_ns": self.lifetime_ns, **found.detail}
        built = found.kind == "unavailable" and self.job.artifact.is_file()
        return replace(found, round_index=self.job.round_index, built=built, detail=detail)

    def _answered(self) -> Round | Failure:
        malformed = self.malformed
        try:
            if self.answer is not None and not malformed:
                return _decoded(self.answer)
        except (KeyError, TypeError, ValueError) as error:
            malformed = f"{type(error).__name__}: {error}"
        return endings.failure(
            endings.Ending(
                returncode=self.process.returncode,
                phase=self.phase,
                printed=self.printed.decode(errors="replace"),
                late_after_seconds=self.seconds if self.late else None,
                malformed=malformed,
                incomplete_bytes=self.decoder.incomplete_bytes,
                oom_kills=memory.oom_kills() - self.kills_before,
            )
        )


def _decoded(message: wire.Message) -> Round | Failure:
    if "failure" in message.header:
        return Failure.from_dict(message.header["failure"])
    return wire.decode_round(message)


def _job_frame(job: Job, place: str, spawned_ns: int) -> bytes:
    absolute = replace(job, artifact=job.artifact.absolute(), tensors=job.tensors.absolute())
    frame = wire.encode({"job": absolute.to_dict(), "place": place, "spawned_ns": spawned_ns})
    if len(frame) > MAX_JOB:
        raise ValueError(f"the job of case {job.case_id} takes {len(frame)} bytes as JSON, at most {MAX_JOB}")
    return frame


@contextmanager
def _exit_descriptor(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends, on Linux; -1 elsewhere."""
    descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    try:
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
