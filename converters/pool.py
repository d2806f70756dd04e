"""Many conversions in worker processes: one that crashes, hangs or is killed costs its own request only."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import converters
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache, CacheError
from converters.keys import cache_key

Outcome = Artifact | ConversionFailure
PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class ConversionEvent:
    """What happens to a request: `kind` is `cached`, `started`, `step`, `done`, `failed` or `notice`.

    `detail` is the step's name, the failure's message, or the notice.
    """

    request: ConversionRequest
    kind: str
    detail: str = ""


OnEvent = Callable[[ConversionEvent], None]


def convert_all(
    requests: Iterable[ConversionRequest],
    cache_root: Path,
    *,
    workers: int = 0,
    on_event: OnEvent | None = None,
    deadline_seconds: float = 900.0,
) -> Iterator[tuple[ConversionRequest, Outcome]]:
    """Every distinct request with its artifact or failure: cached ones first, the others as they finish.

    `workers` 0 means one per core, never more than there is to convert. A request that takes longer than
    `deadline_seconds` is killed. Closing the iterator, or an exception in its consumer (Ctrl-C), ends the
    workers; on Linux so does the end of the thread that consumes it. Raises CacheError where the cache
    folder cannot be used.
    """
    tell: OnEvent = on_event or (lambda event: None)
    missing: list[ConversionRequest] = []
    for request, outcome in _looked_up(list(dict.fromkeys(requests)), cache_root, tell):
        if outcome is None:
            missing.append(request)
        else:
            yield request, outcome
    if missing:
        count = min(workers or cores(), len(missing))
        yield from _Pool(missing, cache_root, count, deadline_seconds, tell).run()


def _looked_up(
    requests: Sequence[ConversionRequest], root: Path, tell: OnEvent
) -> Iterator[tuple[ConversionRequest, Outcome | None]]:
    def look(request: ConversionRequest) -> Outcome | None:
        try:
            converters.check(request)
        except ConversionError as error:
            return error.failure
        cache = ArtifactCache(root, report=lambda text: tell(ConversionEvent(request, "notice", text)))
        return cache.find(cache_key(request))

    with ThreadPoolExecutor(cores()) as threads:
        for request, outcome in zip(requests, threads.map(look, requests), strict=True):
            if isinstance(outcome, Artifact):
                tell(ConversionEvent(request, "cached"))
            elif outcome is not None:
                tell(ConversionEvent(request, "failed", outcome.message))
            yield request, outcome


def cores() -> int:
    """Logical cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    printed: IO[bytes]
    buffer: bytearray = field(default_factory=bytearray)
    request: ConversionRequest | None = None
    deadline: float = 0.0
    step: str = ""

    def printed_tail(self) -> str:
        """The last lines that the worker's libraries wrote."""
        self.printed.seek(0, os.SEEK_END)
        self.printed.seek(max(0, self.printed.tell() - 2000))
        return self.printed.read().decode(errors="replace").strip()


class _Pool:
    def __init__(
        self,
        requests: Sequence[ConversionRequest],
        root: Path,
        count: int,
        deadline_seconds: float,
        tell: OnEvent,
    ) -> None:
        self._waiting = deque(requests)
        self._root = root.absolute()
        self._count = count
        self._deadline_seconds = deadline_seconds
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def run(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        try:
            for _ in range(self._count):
                self._start_worker()
            while self._workers:
                for worker in self._ready():
                    yield from self._advance(worker)
                yield from self._overdue()
        finally:
            for worker in list(self._workers):
                self._end(worker)
            self._selector.close()

    def _start_worker(self) -> None:
        """A new worker with its first request; none where nothing waits."""
        if not self._waiting:
            return
        printed = tempfile.TemporaryFile()  # noqa: SIM115  closed by _end
        process = subprocess.Popen(
            [sys.executable, "-m", "converters.worker", str(self._root), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env=_environment(self._count),
        )
        worker = _Worker(process, printed)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        self._assign(worker)

    def _assign(self, worker: _Worker) -> None:
        worker.request = self._waiting.popleft() if self._waiting else None
        if worker.request is None:
            self._end(worker)
            return
        worker.deadline = time.monotonic() + self._deadline_seconds
        worker.step = ""
        self._tell(ConversionEvent(worker.request, "started"))
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: reading its stdout says so
            worker.process.stdin.write(json.dumps(_portable(worker.request)).encode() + b"\n")
            worker.process.stdin.flush()

    def _ready(self) -> list[_Worker]:
        soonest = min(worker.deadline for worker in self._workers)
        return [key.data for key, _ in self._selector.select(max(0.0, soonest - time.monotonic()))]

    def _advance(self, worker: _Worker) -> Iterator[tuple[ConversionRequest, Outcome]]:
        """Take what a worker wrote; a closed pipe means that it died."""
        assert worker.process.stdout is not None
        data: bytes | None = worker.process.stdout.read()  # None: nothing to read yet
        if data is None:
            return
        if not data:
            yield from self._lost(worker, _died(worker))
            return
        worker.buffer += data
        *lines, rest = worker.buffer.split(b"\n")
        worker.buffer = bytearray(rest)
        for line in lines:
            yield from self._message(worker, json.loads(line))

    def _message(
        self, worker: _Worker, message: Mapping[str, Any]
    ) -> Iterator[tuple[ConversionRequest, Outcome]]:
        request = worker.request
        assert request is not None
        if "step" in message:
            worker.step = message["step"]
            self._tell(ConversionEvent(request, "step", worker.step))
        elif "notice" in message:
            self._tell(ConversionEvent(request, "notice", message["notice"]))
        elif "cache_error" in message:
            raise CacheError(message["cache_error"])
        else:
            outcome = _outcome(message)
            self._tell(_finished(request, outcome))
            self._assign(worker)
            yield request, outcome

    def _overdue(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            yield from self._lost(worker, self._too_slow(worker))

    def _too_slow(self, worker: _Worker) -> ConversionFailure:
        return ConversionFailure(
            "deadline",
            worker.step,
            f"still converting after {self._deadline_seconds:g} s",
            advice="Allow more time, or convert this model alone.",
        )

    def _lost(
        self, worker: _Worker, failure: ConversionFailure
    ) -> Iterator[tuple[ConversionRequest, Outcome]]:
        """Give up a worker and its request; another worker takes over what waits."""
        request = worker.request
        assert request is not None
        self._end(worker)
        self._tell(ConversionEvent(request, "failed", failure.message))
        self._start_worker()
        yield request, failure

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        assert worker.process.stdout is not None
        assert worker.process.stdin is not None
        self._selector.unregister(worker.process.stdout)
        worker.process.kill()
        worker.process.wait()
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()
        worker.process.stdout.close()
        worker.printed.close()


def _environment(workers: int) -> dict[str, str]:
    """One thread each where several workers share the cores: torch takes its default from OpenMP's."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if workers > 1 else {}
    return {**os.environ, "PYTHONPATH": path, **threads}


def _portable(request: ConversionRequest) -> dict[str, Any]:
    value = request.to_dict()
    return {**value, "checkpoint": str(request.checkpoint.absolute()) if request.checkpoint else None}


def _outcome(message: Mapping[str, Any]) -> Outcome:
    if "artifact" in message:
        return Artifact.from_dict(message["artifact"])
    return ConversionFailure.from_dict(message["failure"])


def _finished(request: ConversionRequest, outcome: Outcome) -> ConversionEvent:
    if isinstance(outcome, Artifact):
        return ConversionEvent(request, "done")
    return ConversionEvent(request, "failed", outcome.message)


def _died(worker: _Worker) -> ConversionFailure:
    """Signal 9 that this process did not send is, on Linux, nearly always the kernel short of memory."""
    code = worker.process.wait()
    printed = worker.printed_tail()
    last = f": {printed.splitlines()[-1]}" if printed else ""
    if code == -signal.SIGKILL:
        return ConversionFailure(
            "out_of_memory",
            worker.step,
            "the converting process was killed (signal 9), as the kernel does when memory runs out",
            advice="Use fewer workers, a smaller batch size or resolution.",
        )
    how = f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit status {code}"
    return ConversionFailure(
        "crashed",
        worker.step,
        f"the converting process ended with {how}{last}",
        advice="Convert this model alone to see whether it crashes again; toolchain versions matter.",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
