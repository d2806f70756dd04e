"""Many conversions in worker processes: one that crashes, hangs or is killed costs its own request only."""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import converters
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache, CacheError
from converters.endings import died, too_slow
from converters.keys import cache_key
from converters.reservations import Reservations, Unshared
from converters.stages import Agenda, Outcome, source_request
from converters.worker_process import WorkerProcess

DEADLINE_SECONDS = 900.0
POLL_SECONDS = 0.5  # between two looks whether what a request waits for is free


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
    deadline_seconds: float = DEADLINE_SECONDS,
    reservations: Reservations | None = None,
) -> Generator[tuple[ConversionRequest, Outcome], None, None]:
    """Every distinct request with its artifact or failure: cached ones first, the others as they finish.

    What several requests are built from is made once, before them; it is yielded where it was asked for
    itself, and its failure is the failure of all that need it. `workers` 0 means one per core, never more
    than there is to convert. A request that takes longer than `deadline_seconds` is killed; the time in which
    it waits for what `reservations` hold for others does not count. Closing the iterator, or an exception in
    its consumer (Ctrl-C), ends the workers; on Linux so does the end of the thread that consumes it. Raises
    CacheError where the cache folder cannot be used, and what `reservations` raise.
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
        held = reservations or Unshared()
        yield from _Pool(agenda, cache_root, count, deadline_seconds, tell, held).run()


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


class _Pool:
    def __init__(
        self,
        agenda: Agenda,
        root: Path,
        count: int,
        deadline_seconds: float,
        tell: OnEvent,
        reservations: Reservations,
    ) -> None:
        self._agenda = agenda
        self._root = root.absolute()
        self._count = count
        self._deadline_seconds = deadline_seconds
        self._tell = tell
        self._reservations = reservations
        self._selector = selectors.DefaultSelector()
        self._workers: list[WorkerProcess] = []

    def run(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        try:
            self._start_workers()
            while self._workers or self._agenda:
                for worker in self._ready():
                    yield from self._advance(worker)
                yield from self._overdue()
                self._start_workers()
        finally:
            for worker in list(self._workers):
                self._end(worker)
                if worker.request is not None:
                    self._reservations.release(worker.request)
            self._selector.close()

    def _start_workers(self) -> None:
        """As many as may run and have something to do."""
        while len(self._workers) < self._count and (request := self._take()):
            self._start_worker(request)

    def _take(self) -> ConversionRequest | None:
        return self._agenda.take(self._reservations.take)

    def _start_worker(self, request: ConversionRequest) -> None:
        worker = WorkerProcess.start(self._root, self._count)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        self._assign(worker, request)

    def _assign(self, worker: WorkerProcess, request: ConversionRequest | None) -> None:
        """Give a worker its next request; without one it ends."""
        worker.request = request
        if request is None:
            self._end(worker)
            return
        worker.deadline = time.monotonic() + self._deadline_seconds
        worker.step = ""
        self._tell(ConversionEvent(request, "started"))
        worker.send(request)

    def _ready(self) -> list[WorkerProcess]:
        """Workers that wrote or ended; none where a deadline passes, or it is time to look again."""
        now = time.monotonic()
        waits = [worker.deadline - now for worker in self._workers]
        if self._agenda and len(self._workers) < self._count:
            waits.append(POLL_SECONDS)
        return [key.data for key, _ in self._selector.select(max(0.0, min(waits)))]

    def _advance(self, worker: WorkerProcess) -> Iterator[tuple[ConversionRequest, Outcome]]:
        """Take what a worker wrote; a closed pipe means that it died."""
        data: bytes | None = worker.stdout.read()  # None: nothing to read yet
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
        self, worker: WorkerProcess, message: Mapping[str, Any]
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
            self._assign(worker, self._take())
            self._start_workers()
            yield from settled

    def _settle(
        self, request: ConversionRequest, outcome: Outcome
    ) -> list[tuple[ConversionRequest, Outcome]]:
        """Tell what an outcome settles, and give what of it was asked for."""
        self._reservations.release(request)
        settled = self._agenda.settle(request, outcome)
        for each, how, _ in settled:
            self._tell(_finished(each, how))
        return [(each, how) for each, how, asked in settled if asked]

    def _overdue(self) -> Iterator[tuple[ConversionRequest, Outcome]]:
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            yield from self._lost(worker, too_slow(worker.step, self._deadline_seconds))

    def _lost(
        self, worker: WorkerProcess, failure: ConversionFailure
    ) -> Iterator[tuple[ConversionRequest, Outcome]]:
        """Give up a worker and its request, with all that needs it; another worker takes over what waits."""
        request = worker.request
        assert request is not None
        self._end(worker)
        settled = self._settle(request, failure)
        self._start_workers()
        yield from settled

    def _end(self, worker: WorkerProcess) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.stdout)
        worker.end()


def _outcome(message: Mapping[str, Any]) -> Outcome:
    if "artifact" in message:
        return Artifact.from_dict(message["artifact"])
    return ConversionFailure.from_dict(message["failure"])


def _finished(request: ConversionRequest, outcome: Outcome) -> ConversionEvent:
    if isinstance(outcome, Artifact):
        return ConversionEvent(request, "done")
    return ConversionEvent(request, "failed", outcome.message)
