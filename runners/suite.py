"""A suite's rounds: interleaved, each case until it is precise, and never stopped by one that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from runners import schedule
from runners.measurement import Failure, Job, Phases, Round, Timing
from runners.process import Processes
from runners.runner import Clock

Converged = Callable[[Sequence[Round]], bool]
Commit = Callable[[str, Round | Failure], None]
RunJob = Callable[[Job, Job | None], Round | Failure]


class DeviceBusyError(RuntimeError):
    """Another suite holds the device; nothing is wrong with the case, so nothing is recorded."""


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A process is about to start; `eta_ns` is how long the suite will still take, None if unknown."""

    case_id: str
    round_index: int
    position: int
    elapsed_ns: int
    eta_ns: int | None


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round is recorded; `round` is what `commit` got."""

    case_id: str
    round: Round
    elapsed_ns: int
    eta_ns: int | None


@dataclass(frozen=True, slots=True)
class CaseFailed:
    """A failure is recorded and ends its case."""

    case_id: str
    failure: Failure
    elapsed_ns: int


@dataclass(frozen=True, slots=True)
class CaseFinished:
    """No more rounds for this case: `reason` is `converged`, `max_rounds`, `budget` or `failed`."""

    case_id: str
    reason: str
    rounds: int


Event = RoundStarted | RoundFinished | CaseFailed | CaseFinished


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where a suite's wall time went; `phases` sums those of all processes of this run."""

    wall_ns: int = 0
    processes: int = 0
    phases: Phases = field(default_factory=Phases)

    @property
    def parent_ns(self) -> int:
        """Time in which no measuring process was alive: scheduling, committing, observing."""
        return self.wall_ns - self.phases.process_ns

    @property
    def harness_ns(self) -> int:
        """Everything but warm-up and timed work."""
        return self.wall_ns - self.phases.warmup_ns - self.phases.timed_ns

    @property
    def harness_share(self) -> float:
        return self.harness_ns / self.wall_ns if self.wall_ns else 0.0


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Why each case stopped (`converged`, `max_rounds`, `budget`, `failed`), and the time ledger."""

    reasons: Mapping[str, str]
    ledger: Ledger

    @property
    def not_converged(self) -> tuple[str, ...]:
        return tuple(
            case_id for case_id, reason in self.reasons.items() if reason in ("max_rounds", "budget")
        )


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
    first_round: int = 0,
    groups: Mapping[str, str] | None = None,
) -> SuiteResult:
    """Measures every case of `jobs`, round by round, each process in the order of `schedule.order`.

    `groups` names the comparison that a case takes part in: its cases run next to each other. `run` is told
    the job, and the next one where it is known, so that its process can be made ready.

    A case ends when `converged` says so after `min_rounds`, at `max_rounds`, with its first failure, or when
    another of its rounds would not fit into `max_seconds`; first rounds come first by construction. `commit`
    is called once per round or failure and returns when the record is durable. `done` holds the rounds of an
    earlier, interrupted run; a case without any begins at `first_round`. An interrupt
    kills the running process and leaves every commit whole.
    Raises DeviceBusyError, and whatever `commit` and `observe` raise.
    """
    cases = {
        case_id: _Case(job, list((done or {}).get(case_id, ())), first_round) for case_id, job in jobs.items()
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
    case_id: str
    round_index: int
    position: int


@dataclass
class _Case:
    job: Job
    rounds: list[Round]
    first_round: int = 0
    reason: str = ""
    last_ns: int = 0

    @property
    def active(self) -> bool:
        return not self.reason

    @property
    def next_round(self) -> int:
        return max((taken.round_index + 1 for taken in self.rounds), default=self.first_round)


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
        for case_id, case in self.cases.items():
            if case.rounds:
                case.last_ns = case.rounds[-1].phases.process_ns
                self._finish_if_enough(case_id)

    def turn_after(self, last: _Turn | None) -> _Turn | None:
        """The next turn of a case that needs one; None when all have finished."""
        if not any(case.active for case in self.cases.values()):
            return None
        round_index, position = (last.round_index, last.position + 1) if last else (0, 0)
        while True:
            for place, case_id in enumerate(self.order.of(round_index)[position:], start=position):
                if self.cases[case_id].active and self.cases[case_id].next_round <= round_index:
                    return _Turn(case_id, round_index, place)
            round_index, position = round_index + 1, 0

    def take(self, turn: _Turn) -> None:
        """One round of one case, recorded before anything else happens."""
        case = self.cases[turn.case_id]
        if self._over_budget(case):
            self._finish(turn.case_id, "budget")
            return
        self.observe(
            RoundStarted(turn.case_id, turn.round_index, turn.position, self.elapsed_ns, self.eta_ns())
        )
        begun_ns = self.clock()
        outcome = self.run(self._job(turn), self._following(turn))
        case.last_ns = self.clock() - begun_ns
        self._account(outcome)
        if isinstance(outcome, Failure):
            self._fail(turn.case_id, outcome)
        else:
            self._add(turn.case_id, outcome)

    def _job(self, turn: _Turn) -> Job:
        job = self.cases[turn.case_id].job
        return replace(job, timing=self.timing, round_index=turn.round_index, position=turn.position)

    def _following(self, turn: _Turn) -> Job | None:
        """The job of the next turn, unless that hangs on this one's outcome or the budget will be spent."""
        after = self.turn_after(turn)
        if after is None or after.case_id == turn.case_id:
            return None
        both_ns = self.cases[turn.case_id].last_ns + self.cases[after.case_id].last_ns
        return None if self.elapsed_ns + both_ns > self._budget_ns else self._job(after)

    def eta_ns(self) -> int | None:
        """Rounds that are surely still to come at the last known cost of each case, within the budget."""
        known = [case.last_ns for case in self.cases.values() if case.last_ns]
        if not known:
            return None
        usual_ns = sum(known) // len(known)
        active = [case for case in self.cases.values() if case.active]
        needed_ns = sum(
            max(1, self.timing.min_rounds - len(c.rounds)) * (c.last_ns or usual_ns) for c in active
        )
        return max(0, min(needed_ns, self._budget_ns - self.elapsed_ns))

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

    def _add(self, case_id: str, taken: Round) -> None:
        case = self.cases[case_id]
        self.commit(case_id, taken)
        case.rounds.append(taken)
        self.observe(RoundFinished(case_id, taken, self.elapsed_ns, self.eta_ns()))
        self._finish_if_enough(case_id)

    def _fail(self, case_id: str, failure: Failure) -> None:
        if "holder_pid" in failure.detail:
            raise DeviceBusyError(f"{failure.message}. {failure.advice}")
        self.commit(case_id, failure)
        self.observe(CaseFailed(case_id, failure, self.elapsed_ns))
        self._finish(case_id, "failed")

    def _finish_if_enough(self, case_id: str) -> None:
        rounds = self.cases[case_id].rounds
        if len(rounds) >= self.timing.min_rounds and self.converged(rounds):
            self._finish(case_id, "converged")
        elif len(rounds) >= self.timing.max_rounds:
            self._finish(case_id, "max_rounds")

    def _finish(self, case_id: str, reason: str) -> None:
        self.cases[case_id].reason = reason
        self.observe(CaseFinished(case_id, reason, len(self.cases[case_id].rounds)))

    def _account(self, outcome: Round | Failure) -> None:
        self.processes += 1
        if isinstance(outcome, Failure):
            spent = Phases(process_ns=int(outcome.detail.get("process_ns", 0)))
        else:
            spent = outcome.phases
        names = [entry.name for entry in fields(Phases)]
        self.phases = Phases(**{name: getattr(self.phases, name) + getattr(spent, name) for name in names})
