"""What a suite tells while it measures, and at its end: why each case stopped, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runners.measurement import Failure, Phases, Round


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A process is about to start; `eta_ns` is how long the suite will still take, None if unknown.

    `attempt` is 1 where a disturbed round is taken again.
    """

    case_id: str
    round_index: int
    position: int
    elapsed_ns: int
    eta_ns: int | None
    attempt: int = 0


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
