"""Rounds in fresh processes, one after the other: start, sleep until it is done, say what became of it.

Rounds come in pairs: while the first process of a pair gets ready (start, import, load, check), so does the
second beside it, and while one is timed the other sleeps, or is gone. So half of that time is saved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from runners import locks, side_by_side
from runners.measurement import Failure, Job, Round
from runners.measuring_process import COMMAND, Child, could_not_start, is_ready
from runners.runner import RunnerError


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
        self._next: Child | None = None
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

    def run_together(self, jobs: Sequence[Job]) -> list[Round | Failure]:
        """A round of every job, all for one device, in processes that take turns."""
        self._drop()
        try:
            self._lock = locks.acquire_for(jobs[0])
            return side_by_side.run(jobs, command=self._command, lock=self._lock)
        except RunnerError as error:
            return [_not_available(job, error) for job in jobs]
        finally:
            self._drop()

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

    def _take(self, job: Job, *, pair: bool) -> Child | Failure:
        found, self._next = self._next, None
        if found is not None and found.job == job:
            return found
        if found is not None:
            found.end()
        self._drop()
        try:
            self._lock = locks.acquire_for(job)
            return Child.spawn(job, "first" if pair else "alone", self._command, self._lock)
        except RunnerError as error:
            return _not_available(job, error)
        except OSError as error:
            return could_not_start(job, error)

    def _prepare_beside(self, first: Child, following: Job) -> None:
        """Start the second process and wait until both are ready; one that is not is gone then.

        What is wrong with it is said at its turn.
        """
        if {first.job.device, following.device} != {"cpu"}:
            return
        if locks.place_of(following) != locks.place_of(first.job):
            return
        with suppress(OSError):  # it is started at its turn then, and says what is wrong
            self._next = Child.spawn(following, "second", self._command, self._lock)
        first.wait(until=is_ready)
        if self._next is not None:
            self._next.wait(until=is_ready)
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


def _not_available(job: Job, error: RunnerError) -> Failure:
    built = error.kind == "unavailable" and job.artifact.is_file()
    return replace(error.failure(), round_index=job.round_index, built=built)
