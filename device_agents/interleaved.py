"""Jobs on one device in turn: one round of each, then the next of each, so that drift hits them alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from device_agents import outbox as outboxes
from device_agents.bodies import Failed, body_of
from device_agents.host import Host, Outbox, Taken
from device_agents.outbox import Waiting
from device_agents.problems import DeviceProblem
from device_agents.rounds import Compared, check_outputs, rounds_of
from runners.measurement import Failure, Round
from runners.schedule import Order

MAX_FORGOTTEN = 1000  # what an order may list

Commit = Callable[[Waiting, Round | Failure], None]


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that is about to begin: of which job, for its round `round_index`.

    `done` of the `planned` rounds of all jobs are here; a job that has failed gives no more.
    """

    waiting: Waiting
    round_index: int
    done: int
    planned: int


@dataclass
class Turns:
    """Runs jobs on the device of `driver`, and hands on every round as soon as it is here.

    `connect` gives the host, or raises DeviceProblem where no device can be used; it is not asked where
    nothing is left to measure. `commit` is told every round and failure that the outbox holds, those of
    earlier commands first: what it knows already it leaves out. Jobs of one group of `groups` (by the case's
    id) take turns; the groups follow each other. `stop` is asked before every launch, `observe` told of it.
    """

    driver: str
    connect: Callable[[], Host]
    commit: Commit
    seed: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    observe: Callable[[Launch], None] = lambda launch: None
    ended: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Waiting]) -> None:
        """Every problem becomes a failure of the jobs that it keeps from their rounds."""
        running = [_Running(job, self.driver, self.commit) for job in jobs]
        for one in running:
            one.take()
        left = [one for one in running if not one.over]
        if not left:
            return
        self.ended += _whole_jobs(jobs)
        try:
            host = self.connect()
            for group in self._by_group(left):
                self._take_turns(host, group, running)
        except DeviceProblem as problem:
            for one in left:
                one.fail(problem)

    def _by_group(self, running: Sequence[_Running]) -> Iterator[list[_Running]]:
        names = [self.groups.get(one.waiting.case.id, "") for one in running]
        for name in dict.fromkeys(names):
            yield [one for one, other in zip(running, names, strict=True) if other == name]

    def _take_turns(self, host: Host, group: Sequence[_Running], every: Sequence[_Running]) -> None:
        """Raises DeviceProblem where the device is away: no other job can go on then."""
        by_id = {one.waiting.job.job_id: one for one in group}
        order = Order(tuple(by_id), seed=self.seed)
        for turn in itertools.count():
            for one in (by_id[job_id] for job_id in order.of(turn)):
                if not one.over and one.rounds <= turn and not self.stop():
                    done, planned = sum(each.rounds for each in every), sum(each.wanted for each in every)
                    self.observe(Launch(one.waiting, one.rounds, done, planned))
                    self._advance(host, one)
            if self.stop() or all(one.over for one in group):
                return

    def _advance(self, host: Host, one: _Running) -> None:
        waiting = one.waiting
        try:
            host.advance(one.box, waiting.files, forget=self.ended[-MAX_FORGOTTEN:])
        except DeviceProblem as problem:
            one.take()
            if problem.problem.passing and not one.box.journal.ended:
                raise
            one.fail(problem)
            return
        one.take()
        if one.box.journal.ended:
            self.ended.append(waiting.job.job_id)


class _Running:
    """A job, its journal on the host, and how much of it was handed on."""

    def __init__(self, waiting: Waiting, driver: str, commit: Commit) -> None:
        self.waiting, self.driver, self.commit = waiting, driver, commit
        self.box = Outbox(waiting.folder, waiting.job)
        self.rounds = 0
        self.over = False
        self._is_compared = False
        self._outputs = Compared()

    @property
    def wanted(self) -> int:
        """Rounds that it has or will have."""
        return self.rounds if self.over else self.waiting.job.timing.rounds

    def take(self) -> None:
        """Hand on what is new in the journal; rounds after the outputs were compared, where they can be."""
        if self.over or not self.box.journal.entries:
            return
        taken = Taken(self.waiting.job, self.box.journal, self.box.outputs())
        if not self._compared(taken):
            return
        found = rounds_of(taken, driver=self.driver, outputs=self._outputs, modules=self.waiting.modules)
        for one in found[self.rounds :]:
            self.commit(self.waiting, one)
        self.rounds = len(found)
        self._end()

    def fail(self, problem: DeviceProblem) -> None:
        if not self.over:
            self._fail(problem.failure())

    def _end(self) -> None:
        ended = self.box.journal.ended
        body = body_of(ended) if ended else None
        if isinstance(body, Failed):
            self._fail(DeviceProblem(body.problem, body.message, stage=body.stage).failure())
        self.over = ended is not None

    def _compared(self, taken: Taken) -> bool:
        """May rounds be handed on? Their outputs are compared once, as soon as they are here."""
        references = None if self._is_compared else self.waiting.references()
        if references is None:
            return True
        if taken.outputs is None:
            self._end()
            return False
        try:
            self._outputs = check_outputs(taken, references, tolerance=self.waiting.tolerance)
        except DeviceProblem as problem:
            self._outputs = Compared(failure=problem.failure())
        if self._outputs.failure is not None:
            self._fail(self._outputs.failure)
        self._is_compared = self._outputs.failure is None
        return self._is_compared

    def _fail(self, failure: Failure) -> None:
        self.commit(self.waiting, failure)
        self.over = True


def _whole_jobs(jobs: Sequence[Waiting]) -> list[str]:
    """Jobs beside these that have ended and are whole here: the device may delete its copies."""
    found: list[str] = []
    for folder in dict.fromkeys(job.folder.parent for job in jobs):
        for other in outboxes.waiting(folder):
            box = Outbox(other.folder, other.job)
            if box.journal.ended and not box.expects_outputs:
                found.append(other.job.job_id)
    return found
