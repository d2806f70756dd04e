"""A suite's rounds: interleaved, each case until it is precise, and never stopped by one that fails.

A disturbed round is taken once more at the end of its pass, when what disturbed it may be over and the other
rounds that it is compared with are still near. Repeats are paid from what the cases' least rounds leave over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from runners import schedule
from runners.measurement import Failure, Job, Phases, Round, Timing, is_disturbed
from runners.process import Processes
from runners.runner import Clock
from runners.suite_events import (
    CaseFailed,
    CaseFinished,
    Event,
    Ledger,
    RoundFinished,
    RoundStarted,
    SuiteResult,
)

__all__ = [
    "CaseFailed",
    "CaseFinished",
    "DeviceBusyError",
    "Event",
    "Ledger",
    "RoundFinished",
    "RoundStarted",
    "SuiteResult",
    "measure",
]

Converged = Callable[[Sequence[Round]], bool]
Commit = Callable[[str, Round | Failure], None]
RunJob = Callable[[Job, Job | None], Round | Failure]


class DeviceBusyError(RuntimeError):
    """Another suite holds the device; nothing is wrong with the case, so nothing is recorded."""


def measure(
    jobs: Mapping[str, Job],
    timing: Timing,
    *,
    converged: Converged,
    commit: Commit,
    done: Mapping[str, Sequence[Round]] | None = None,
    observe: Callable[[Event], None] = lambda event: None,
    clock: Clock = time.perf_counter_ns,
    run: RunJob | None = None,
    first_rounds: Mapping[str, int] | None = None,
    groups: Mapping[str, str] | None = None,
) -> SuiteResult:
    """Measures every case of `jobs`, round by round, each process in the order of `schedule.order`.

    `groups` names the comparison that a case takes part in: its cases run next to each other. `run` is told
    the job, and the next one where it is known, so that its process can be made ready.

    A case ends when `converged` says so after `min_rounds`, at `max_rounds`, with its first failure, or when
    another of its rounds would not fit into `max_seconds`; first rounds come first by construction. `commit`
    is called once per round or failure and returns when the record is durable. `done` holds the rounds of an
    earlier, interrupted run. A case goes on after its own last round, and not before the index that
    `first_rounds` names. An interrupt kills the running process and leaves every commit whole.
    Raises DeviceBusyError, and whatever `commit` and `observe` raise.
    """
    cases = {
        case_id: _Case(job, list((done or {}).get(case_id, ())), (first_rounds or {}).get(case_id, 0))
        for case_id, job in jobs.items()
    }
    order = schedule.Order(tuple(cases), seed=timing.seed, groups=groups or {})
    with Processes() as processes:
        running = _Suite(
            cases, timing, order, converged, commit, observe, clock, run or processes.run, begun_ns=clock()
        )
        running.finish_what_is_done()
        turn = running.turn_after(None)
        while turn is not None:
            running.take(turn)
            turn = running.turn_after(turn)
        return running.result()


@dataclass(frozen=True, slots=True)
class _Turn:
    """`position` goes on from a pass into its repeats, whose `attempt` is 1."""

    case_id: str
    round_index: int
    position: int
    attempt: int = 0


@dataclass
class _Case:
    job: Job
    rounds: list[Round]
    first_round: int = 0
    reason: str = ""
    last_ns: int = 0
    repeat: int | None = None  # the round that is to be taken again

    @property
    def active(self) -> bool:
        return not self.reason

    @property
    def next_round(self) -> int:
        return max([self.first_round, *(taken.round_index + 1 for taken in self.rounds)])

    @property
    def taken(self) -> int:
        """Rounds that count: a repeat adds none."""
        return len({taken.round_index for taken in self.rounds})

    def wants(self, round_index: int, attempt: int) -> bool:
        if attempt:
            return self.active and self.repeat == round_index
        return self.active and self.next_round <= round_index


@dataclass
class _Suite:
    cases: Mapping[str, _Case]
    timing: Timing
    order: schedule.Order
    converged: Converged
    commit: Commit
    observe: Callable[[Event], None]
    clock: Clock
    run: RunJob
    begun_ns: int
    processes: int = 0
    phases: Phases = field(default_factory=Phases)

    @property
    def elapsed_ns(self) -> int:
        return self.clock() - self.begun_ns

    def finish_what_is_done(self) -> None:
        """Of disturbed rounds those of the last pass are still repeated: earlier ones have no company."""
        last_pass = max((r.round_index for case in self.cases.values() for r in case.rounds), default=0)
        for case_id, case in self.cases.items():
            if case.rounds:
                last = case.rounds[-1]
                case.last_ns = last.phases.process_ns
                is_here = case.first_round <= last_pass == last.round_index
                if is_here and not last.attempt and is_disturbed(last.flags):
                    case.repeat = last_pass
                self._finish_if_enough(case_id)

    def turn_after(self, last: _Turn | None) -> _Turn | None:
        """The next turn of a case that needs one; None when all have finished."""
        if not any(case.active for case in self.cases.values()):
            return None
        round_index, position = (last.round_index, last.position + 1) if last else (0, 0)
        while True:
            order = self.order.of(round_index)
            for place in range(position, 2 * len(order)):
                attempt, index = divmod(place, len(order))
                if self.cases[order[index]].wants(round_index, attempt):
                    return _Turn(order[index], round_index, place, attempt)
            round_index, position = round_index + 1, 0

    def take(self, turn: _Turn) -> None:
        """One round of one case, recorded before anything else happens."""
        case = self.cases[turn.case_id]
        if turn.attempt:
            case.repeat = None
            if not self._can_repeat(case):
                self._finish_if_enough(turn.case_id)
                return
        if self._over_budget(case):
            self._finish(turn.case_id, "budget")
            return
        self.observe(
            RoundStarted(
                turn.case_id,
                turn.round_index,
                turn.position,
                self.elapsed_ns,
                self.eta_ns(),
                attempt=turn.attempt,
            )
        )
        begun_ns = self.clock()
        outcome = self.run(self._job(turn), self._following(turn))
        case.last_ns = self.clock() - begun_ns
        self._account(outcome)
        if isinstance(outcome, Failure):
            self._fail(turn.case_id, outcome)
        else:
            self._add(turn, outcome)

    def _job(self, turn: _Turn) -> Job:
        """A profile is taken in the case's first round, and in its repeat, which may count in its place."""
        case = self.cases[turn.case_id]
        job, options = case.job, dict(case.job.options)
        if turn.attempt:
            options["attempt"] = turn.attempt
        if case.rounds and case.rounds[0].round_index != turn.round_index:
            options.pop("profile", None)
        return replace(
            job, timing=self.timing, round_index=turn.round_index, position=turn.position, options=options
        )

    def _following(self, turn: _Turn) -> Job | None:
        """The job of the next turn, unless that hangs on this one's outcome or the budget will be spent."""
        after = self.turn_after(turn)
        if after is None or after.case_id == turn.case_id:
            return None
        both_ns = self.cases[turn.case_id].last_ns + self.cases[after.case_id].last_ns
        return None if self.elapsed_ns + both_ns > self._budget_ns else self._job(after)

    def eta_ns(self) -> int | None:
        """Rounds that are surely still to come at the last known cost of each case, within the budget."""
        if not any(case.last_ns for case in self.cases.values()):
            return None
        return max(0, min(self._needed_ns(1), self._budget_ns - self.elapsed_ns))

    def _needed_ns(self, at_least: int) -> int:
        """What the active cases lack of their least rounds, and `at_least` so many rounds of each."""
        known = [case.last_ns for case in self.cases.values() if case.last_ns]
        usual_ns = sum(known) // len(known) if known else 0
        return sum(
            max(at_least, self.timing.min_rounds - case.taken) * (case.last_ns or usual_ns)
            for case in self.cases.values()
            if case.active
        )

    def result(self) -> SuiteResult:
        ledger = Ledger(self.elapsed_ns, self.processes, self.phases)
        return SuiteResult({case_id: case.reason for case_id, case in self.cases.items()}, ledger)

    @property
    def _budget_ns(self) -> int:
        return round(self.timing.max_seconds * 1e9)

    def _over_budget(self, case: _Case) -> bool:
        """The first process of an invocation always runs: a budget below its cost would block for ever."""
        if not self.processes:
            return self.elapsed_ns >= self._budget_ns
        return self.elapsed_ns + case.last_ns > self._budget_ns

    def _can_repeat(self, case: _Case) -> bool:
        """Does the budget hold it besides all least rounds? A case without those would be a failed one."""
        return self._needed_ns(0) + case.last_ns <= self._budget_ns - self.elapsed_ns

    def _add(self, turn: _Turn, taken: Round) -> None:
        case = self.cases[turn.case_id]
        self.commit(turn.case_id, taken)
        case.rounds.append(taken)
        case.repeat = turn.round_index if not turn.attempt and is_disturbed(taken.flags) else None
        self.observe(RoundFinished(turn.case_id, taken, self.elapsed_ns, self.eta_ns()))
        self._finish_if_enough(turn.case_id)

    def _fail(self, case_id: str, failure: Failure) -> None:
        if "holder_pid" in failure.detail:
            raise DeviceBusyError(f"{failure.message}. {failure.advice}")
        self.commit(case_id, failure)
        self.observe(CaseFailed(case_id, failure, self.elapsed_ns))
        self._finish(case_id, "failed")

    def _finish_if_enough(self, case_id: str) -> None:
        """Not while a round is to be taken again: its repeat may change what is asked here."""
        case = self.cases[case_id]
        if case.repeat is not None:
            return
        if case.taken >= self.timing.min_rounds and self.converged(case.rounds):
            self._finish(case_id, "converged")
        elif case.taken >= self.timing.max_rounds:
            self._finish(case_id, "max_rounds")

    def _finish(self, case_id: str, reason: str) -> None:
        self.cases[case_id].reason = reason
        self.observe(CaseFinished(case_id, reason, self.cases[case_id].taken))

    def _account(self, outcome: Round | Failure) -> None:
        self.processes += 1
        if isinstance(outcome, Failure):
            spent = Phases(process_ns=int(outcome.detail.get("process_ns", 0)))
        else:
            spent = outcome.phases
        names = [entry.name for entry in fields(Phases)]
        self.phases = Phases(**{name: getattr(self.phases, name) + getattr(spent, name) for name in names})
