"""A suite's rounds: interleaved, each case until it is precise, and never stopped by one that fails.

A disturbed round is taken once more at the end of its pass, when what disturbed it may be over and the other
rounds that it is compared with are still near. Repeats are paid from what the cases' least rounds leave over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from runners import locks, schedule
from runners.measurement import Failure, Job, Phases, Round, Timing, is_disturbed
from runners.process import Processes
from runners.runner import Clock
from runners.suite_budget import SuiteBudget
from runners.suite_cases import Slot, SuiteCase
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
RunTogether = Callable[[Sequence[Job]], Sequence[Round | Failure]]

MOST_TOGETHER = 9  # processes that take turns: all of them are in memory at once


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
    run_together: RunTogether | None = None,
) -> SuiteResult:
    """Measures every case of `jobs`, round by round, each process in the order of `schedule.order`.

    `groups` names the comparison that a case takes part in: its cases run next to each other. `run` is told
    the job, and the next one where it is known, so that its process can be made ready. With
    `timing.turn_seconds` the cases of a group that run on this CPU take their rounds in turns, by
    `run_together`, at most MOST_TOGETHER at once.

    A case ends when `converged` says so after `min_rounds`, at `max_rounds`, with its first failure, or when
    another of its rounds would not fit into `max_seconds`; first rounds come first by construction. `commit`
    is called once per round or failure and returns when the record is durable. `done` holds the rounds of an
    earlier, interrupted run. A case goes on after its own last round, and not before the index that
    `first_rounds` names. An interrupt kills the running process and leaves every commit whole.
    Raises DeviceBusyError, and whatever `commit` and `observe` raise.
    """
    cases = {
        case_id: SuiteCase(job, list((done or {}).get(case_id, ())), (first_rounds or {}).get(case_id, 0))
        for case_id, job in jobs.items()
    }
    order = schedule.Order(tuple(cases), seed=timing.seed, groups=groups or {})
    with Processes() as processes:
        running = _Suite(
            *(cases, timing, order, converged, commit, observe),
            run or processes.run,
            run_together or processes.run_together,
            SuiteBudget(cases, timing, clock),
        )
        running.finish_what_is_done()
        slot = running.slot_after(None)
        while slot is not None:
            company = running.company(slot)
            running.take(company)
            slot = running.slot_after(company[-1])
        return running.result()


@dataclass
class _Suite:
    cases: Mapping[str, SuiteCase]
    timing: Timing
    order: schedule.Order
    converged: Converged
    commit: Commit
    observe: Callable[[Event], None]
    run: RunJob
    run_together: RunTogether
    budget: SuiteBudget
    processes: int = 0
    phases: Phases = field(default_factory=Phases)

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

    def slot_after(self, last: Slot | None) -> Slot | None:
        """The next one of a case that needs it; None when all have finished."""
        if not any(case.active for case in self.cases.values()):
            return None
        round_index, position = (last.round_index, last.position + 1) if last else (0, 0)
        while True:
            order = self.order.of(round_index)
            for place in range(position, 2 * len(order)):
                attempt, index = divmod(place, len(order))
                if self.cases[order[index]].wants(round_index, attempt):
                    return Slot(order[index], round_index, place, attempt)
            round_index, position = round_index + 1, 0

    def company(self, first: Slot) -> list[Slot]:
        """`first` alone, or with those right behind it in its pass that it takes turns with."""
        found = [first]
        while self._takes_turns(first) and len(found) < MOST_TOGETHER:
            after = self.slot_after(found[-1])
            if after is None or self._side(after) != self._side(first):
                break
            found.append(after)
        return found

    def _takes_turns(self, slot: Slot) -> bool:
        """A GPU's memory may not hold several, and its clock does not wander as a shared machine's does."""
        return self.timing.turn_seconds > 0 and self.cases[slot.case_id].job.device == "cpu"

    def _side(self, slot: Slot) -> tuple[object, ...]:
        """What those that take turns have in common."""
        job, group = self.cases[slot.case_id].job, self.order.groups.get(slot.case_id)
        return slot.round_index, slot.attempt, job.device, group, locks.place_of(job)

    def take(self, company: Sequence[Slot]) -> None:
        """One round of a case, or of several that take turns, recorded before anything else happens."""
        cases = [self.cases[slot.case_id] for slot in company]
        if company[0].attempt:
            for case in cases:
                case.repeat = None
            if not self.budget.holds_repeat(cases):
                self._finish_those_with_enough(company)
                return
        if self.budget.is_spent(cases, anything_done=self.processes > 0):
            for slot in company:
                self._finish(slot.case_id, "budget")
            return
        for slot in company:
            at = (slot.case_id, slot.round_index, slot.position, self.budget.elapsed_ns, self.budget.eta_ns())
            self.observe(RoundStarted(*at, attempt=slot.attempt))
        begun_ns = self.budget.elapsed_ns
        outcomes = self._outcomes(company)
        for case in cases:
            case.last_ns = (self.budget.elapsed_ns - begun_ns) // len(cases)
        self._record(company, outcomes)

    def _outcomes(self, company: Sequence[Slot]) -> Sequence[Round | Failure]:
        if self._takes_turns(company[0]):
            return self.run_together([self._job(slot) for slot in company])
        (slot,) = company
        return [self.run(self._job(slot), self._following(slot))]

    def _record(self, company: Sequence[Slot], outcomes: Sequence[Round | Failure]) -> None:
        """What disturbed one of those that took turns disturbed them all: they are repeated together."""
        for outcome in outcomes:
            self._account(outcome)
        again = not company[0].attempt and any(
            isinstance(taken, Round) and is_disturbed(taken.flags) for taken in outcomes
        )
        for slot, outcome in zip(company, outcomes, strict=True):
            if isinstance(outcome, Failure):
                self._fail(slot.case_id, outcome)
            else:
                self._add(slot, outcome, again=again)
        self._finish_those_with_enough(company)

    def _job(self, slot: Slot) -> Job:
        """A profile is taken in the case's first round, and in its repeat, which may count in its place."""
        case = self.cases[slot.case_id]
        job, options = case.job, dict(case.job.options)
        if slot.attempt:
            options["attempt"] = slot.attempt
        if case.rounds and case.rounds[0].round_index != slot.round_index:
            options.pop("profile", None)
        return replace(
            job, timing=self.timing, round_index=slot.round_index, position=slot.position, options=options
        )

    def _following(self, slot: Slot) -> Job | None:
        """The job of the next turn, unless that hangs on this one's outcome or the budget will be spent."""
        after = self.slot_after(slot)
        if after is None or after.case_id == slot.case_id:
            return None
        both = [self.cases[slot.case_id], self.cases[after.case_id]]
        return self._job(after) if self.budget.holds(both) else None

    def result(self) -> SuiteResult:
        ledger = Ledger(self.budget.elapsed_ns, self.processes, self.phases)
        return SuiteResult({case_id: case.reason for case_id, case in self.cases.items()}, ledger)

    def _add(self, slot: Slot, taken: Round, *, again: bool) -> None:
        case = self.cases[slot.case_id]
        self.commit(slot.case_id, taken)
        case.rounds.append(taken)
        case.repeat = slot.round_index if again else None
        self.observe(RoundFinished(slot.case_id, taken, self.budget.elapsed_ns, self.budget.eta_ns()))

    def _fail(self, case_id: str, failure: Failure) -> None:
        if "holder_pid" in failure.detail:
            raise DeviceBusyError(f"{failure.message}. {failure.advice}")
        self.commit(case_id, failure)
        self.observe(CaseFailed(case_id, failure, self.budget.elapsed_ns))
        self._finish(case_id, "failed")

    def _finish_those_with_enough(self, company: Sequence[Slot]) -> None:
        for slot in company:
            if self.cases[slot.case_id].active:
                self._finish_if_enough(slot.case_id)

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
