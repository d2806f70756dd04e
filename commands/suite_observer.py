"""A suite's events as lines of progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from commands.plan import Plan
from reports.progress import Progress
from runners.measurement import Round
from runners.suite_events import CaseFailed, CaseFinished, Event, RoundFinished, RoundStarted


class SuiteObserver:
    """Turns the events of a suite into progress; called between processes only."""

    def __init__(self, plan: Plan, progress: Progress, done: Mapping[str, Sequence[Round]]) -> None:
        self._progress = progress
        self._labels = {case.id: case.label for case in plan.cases}
        self._least = plan.timing.min_rounds
        self._taken = {case_id: len({r.round_index for r in rounds}) for case_id, rounds in done.items()}
        self._open = set(done)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RoundFinished):
            self._taken[event.case_id] += event.round.attempt == 0
        elif isinstance(event, CaseFinished):
            self._open.discard(event.case_id)
        elif isinstance(event, CaseFailed):
            self._progress.note(f"{self._labels[event.case_id]}: {event.failure.message}")
        elif isinstance(event, RoundStarted):
            self._progress.round(
                sum(self._taken.values()),
                self._planned(),
                self._labels[event.case_id] + (" again, as it was disturbed" if event.attempt else ""),
                event.round_index,
                event.eta_ns,
            )

    def _planned(self) -> int:
        """Rounds that are surely wanted: an open case needs one more at least."""
        return sum(
            max(taken + 1, self._least) if case_id in self._open else taken
            for case_id, taken in self._taken.items()
        )
