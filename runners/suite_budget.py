"""What a suite may still spend of its time, what it surely needs, and when it will be over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runners.measurement import Timing
from runners.runner import Clock
from runners.suite_cases import SuiteCase


@dataclass
class SuiteBudget:
    """Of `timing.max_seconds`, from when it is made; a round costs what the case's last one did."""

    cases: Mapping[str, SuiteCase]
    timing: Timing
    clock: Clock
    begun_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.begun_ns = self.clock()

    @property
    def elapsed_ns(self) -> int:
        return self.clock() - self.begun_ns

    def eta_ns(self) -> int | None:
        """Rounds that are surely still to come at the last known cost of each case, within the budget."""
        if not any(case.last_ns for case in self.cases.values()):
            return None
        return max(0, min(self._needed_ns(1), self._left_ns))

    def holds(self, cases: Sequence[SuiteCase]) -> bool:
        """Is there time for another round of each?"""
        return _last_ns(cases) <= self._left_ns

    def is_spent(self, cases: Sequence[SuiteCase], *, anything_done: bool) -> bool:
        """The first process of an invocation always runs: a budget below its cost would block for ever."""
        return not self.holds(cases) if anything_done else self._left_ns <= 0

    def holds_repeat(self, cases: Sequence[SuiteCase]) -> bool:
        """Does it hold one besides all least rounds? A case without those would be a failed one."""
        return self._needed_ns(0) + _last_ns(cases) <= self._left_ns

    @property
    def _left_ns(self) -> int:
        return round(self.timing.max_seconds * 1e9) - self.elapsed_ns

    def _needed_ns(self, at_least: int) -> int:
        """What the active cases lack of their least rounds, and `at_least` so many rounds of each."""
        known = [case.last_ns for case in self.cases.values() if case.last_ns]
        usual_ns = sum(known) // len(known) if known else 0
        return sum(
            max(at_least, self.timing.min_rounds - case.taken) * (case.last_ns or usual_ns)
            for case in self.cases.values()
            if case.active
        )


def _last_ns(cases: Sequence[SuiteCase]) -> int:
    return sum(case.last_ns for case in cases)
