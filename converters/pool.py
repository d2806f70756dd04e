"""Many conversions in worker processes: one that crashes, hangs or is killed costs its own request only."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import converters
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache, CacheError
from converters.endings import died, too_slow
from converters.keys import cache_key
from converters.stages import Agenda, Outcome, source_request

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

    What several requests are built from is made once, before them; it is yielded where it was asked for
    itself, and its failure is the failure of all that need it. `workers` 0 means one per core, never more
    than there is to convert. A request that takes longer than `deadline_seconds` is killed. Closing the
    iterator, or an exception in its consumer (Ctrl-C), ends the workers; on Linux so does the end of the
    thread that consumes it. Raises CacheError where the cache folder cannot be used.
    """
    tell: OnEvent = on_event or (lambda event: None)
    asked = list(dict.fromkeys(requests))
    missing: list[ConversionRequest] = []
    for request, outcome in _looked_up(asked, cache_root, tell):
        if outcome is None:
            missing.append(request)
        else:
            yield request, outcome
    if missing:
        agenda = Agenda(missing, _missing_sources(missing, cache_root, tell))
        count = min(workers or cores(), agenda.count)
        yield from _Pool(agenda, cache_root, count, deadline_seconds, tell).run()


def _missing_sources(
    missing: Sequence[ConversionRequest], root: Path, tell: OnEvent
) -> list[ConversionRequest]:
    """What has to be made although nobody asked for it, each once."""
    wanted = dict.fromkeys(filter(None, map(source_request, missing)))
    others = [source for source in wanted if source not in missing]

    def tell_notices(event: ConversionEvent) -> None:
        if event.kind == "notice":
            tell(event)

    return [source for source, outcome in _looked_up(others, root, tell_notices) if outcome is None]


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
        agenda: Agenda,
        root: Path,
        count: int,
        deadline_seconds: float,
        tell: OnEvent,
    ) -> None:
        self._agenda = agenda
        self._root = root.absolute()
        self._count = count
        self._deadline_seconds = deadline_seconds
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def run(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        try:
            self._start_workers()
            while self._workers:
                for worker in self._ready():
                    yield from self._advance(worker)
                yield from self._overdue()
        finally:
            for worker in list(self._workers):
                self._end(worker)
            self._selector.close()

    def _start_workers(self) -> None:
        """As many as may run and have something to do."""
        while self._agenda and len(self._workers) < self._count:
            self._start_worker()

    def _start_worker(self) -> None:
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
        worker.request = self._agenda.take()
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
            yield from self._lost(worker, died(worker.process.wait(), worker.step, worker.printed_tail()))
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
            settled = self._settle(request, _outcome(message))
            self._assign(worker)
            self._start_workers()
            yield from settled

    def _settle(
        self, request: ConversionRequest, outcome: Outcome
    ) -> list[tuple[ConversionRequest, Outcome]]:
        """Tell what an outcome settles, and give what of it was asked for."""
        settled = self._agenda.settle(request, outcome)
        for each, how, _ in settled:
            self._tell(_finished(each, how))
        return [(each, how) for each, how, asked in settled if asked]

    def _overdue(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            yield from self._lost(worker, too_slow(worker.step, self._deadline_seconds))

    def _lost(
        self, worker: _Worker, failure: ConversionFailure
    ) -> Iterator[tuple[ConversionRequest, Outcome]]:
        """Give up a worker and its request, with all that needs it; another worker takes over what waits."""
        request = worker.request
        assert request is not None
        self._end(worker)
        settled = self._settle(request, failure)
        self._start_workers()
        yield from settled

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
