"""What devices with an agent do, as lines of progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agents.interleaved import Launch
from device_agents.journal import Entry
from reports.progress import Progress


@dataclass
class DeviceProgress:
    """Told of every launch before it happens, and of the entries that it brought once it is over.

    The time left is that of the launches so far, in which the first of a case also compiles.
    """

    progress: Progress
    clock_ns: Callable[[], int] = time.monotonic_ns
    _first: Launch | None = None
    _began_ns: int = 0
    _label: str = ""

    def launched(self, launch: Launch) -> None:
        if self._first is None:
            self._first, self._began_ns = launch, self.clock_ns()
        self._label = launch.waiting.case.label
        self.progress.launch(
            launch.done,
            launch.planned,
            self._label,
            round_index=launch.round_index,
            rounds=launch.waiting.job.timing.rounds,
            eta_ns=self._left_ns(self._first, launch),
        )

    def observed(self, entry: Entry) -> None:
        """Of an app that the system ended, which the next launch tells and makes good."""
        if entry.kind == "interrupted":
            stage = entry.body["stage"]
            self.progress.note(f"{self._label}: the agent was ended during {stage}, and went on from there")

    def _left_ns(self, first: Launch, launch: Launch) -> int | None:
        taken = launch.done - first.done
        if taken <= 0:
            return None
        return (self.clock_ns() - self._began_ns) * (launch.planned - launch.done) // taken
