"""A measuring process as its parent sees it: started, heard without polling, ended, and what became of it."""

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

from runners import endings, memory, wire
from runners.measurement import Failure, Job, Round

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


def is_ready(phase: str) -> bool:
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
class Child:
    """A running process, its three pipes, and what came out of them so far.

    `place` is `alone`, `first` or `second` of a pair, or one of those that take turns; `begun_ns` when it
    began to take time of its own, `active_ns` how much of it where it takes turns.
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
    active_ns: int = 0
    lifetime_ns: int = 0

    @staticmethod
    def spawn(job: Job, place: str, command: Sequence[str], lock: int | None, *, company: int = 0) -> Child:
        spawned_ns = time.perf_counter_ns()
        frame = _job_frame(job, place, spawned_ns, company)
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
        return Child(job, place, process, control, results, output, spawned_ns, kills, expires)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for: it answered, ended, sent nonsense or was late."""
        return self.answer is not None or self.ended or self.late or bool(self.malformed)

    def take_turn(self) -> None:
        """Has the process do its work to the end; it is ready, gets ready, or needs no word to go."""
        if self.place == "second" and not self.gone:
            self.begun_ns = time.perf_counter_ns()
        if self.place != "alone":
            self.wait(until=is_ready)
        if self.phase == "ready" and not self.over:
            self._say_go()
        self.wait()

    def go_on(self) -> None:
        """A stretch of a process that takes turns: until it sleeps again, or is over."""
        begun_ns = time.perf_counter_ns()
        self.phase = "going"
        self._say_go()
        self.wait(until=is_ready)
        self.active_ns += time.perf_counter_ns() - begun_ns

    def _say_go(self) -> None:
        """From here on the deadline counts anew."""
        self.expires = time.monotonic() + self.seconds
        with suppress(BrokenPipeError):  # it is gone already, and its status will tell
            os.write(self.control, b"\n")

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
        self.lifetime_ns = self.active_ns or time.perf_counter_ns() - self.begun_ns
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


def could_not_start(job: Job, error: OSError) -> Failure:
    """No memory, process or descriptor left: this case's loss, not the suite's."""
    advice = "Free memory or end other processes, then run the same command again."
    message = f"the measuring process could not be started: {error.strerror}"
    return Failure("crashed", message, advice, round_index=job.round_index)


def _job_frame(job: Job, place: str, spawned_ns: int, company: int) -> bytes:
    absolute = replace(job, artifact=job.artifact.absolute(), tensors=job.tensors.absolute())
    told = {"place": place, "spawned_ns": spawned_ns, "company": company}
    frame = wire.encode({"job": absolute.to_dict(), **told})
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
