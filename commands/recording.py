"""What one invocation adds to one stored run: rounds, failures, and where its time went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from commands.resuming import first_rounds, is_known, ledger
from commands.timing import comparisons
from converters.artifact import Artifact
from models.spec import Case
from reports.records import RunInfo, StoredRun
from reports.store import Store
from runners.measurement import Failure, Job, Phases, Round, Timing
from runners.suite import measure
from runners.suite_events import Event

Place = Literal["here", "devices"]


@dataclass
class Recording:
    """One run of a store, written to by one invocation.

    `files` are the cases' files by case id, for those that have one. `stored` is the run as it was when the
    recording began, which decides what is news: make the recording once nobody else may write to the run.
    """

    store: Store
    info: RunInfo
    files: Mapping[str, Artifact] = field(default_factory=dict)
    commits: int = 0
    rounds_added: int = 0

    def __post_init__(self) -> None:
        self.stored: StoredRun = self.store.load_run(self.info.run_id)
        self._done = {(r.case.id, one.round_index) for r in self.stored.results for one in r.rounds}
        self._phases: list[Phases] = []
        self._failed_ns = 0
        self._spent_ns: Counter[Place] = Counter()

    def go_on_with(self, files: Mapping[str, Artifact]) -> None:
        """The next batch of cases: their files, and what is stored by now decides where they begin."""
        self.files = files
        self.stored = self.store.load_run(self.info.run_id)

    @property
    def is_open(self) -> bool:
        """Unfinished, or opened again by what was added."""
        return self.info.finished_at_ns is None or self.commits > 0

    def measure(
        self,
        jobs: Mapping[str, Job],
        timing: Timing,
        *,
        observe: Callable[[Event], None],
        cases: tuple[Case, ...],
    ) -> None:
        """Interleaved rounds here, each stored as it ends. Raises what `runners.suite.measure` raises."""
        from reports.statistics import converged

        with self.time_spent("here"):
            measure(
                jobs,
                timing,
                converged=lambda rounds: converged(rounds, timing.target),
                commit=self.commit,
                done=self.rounds_of(jobs),
                observe=observe,
                first_rounds=first_rounds(self.stored, timing.min_rounds),
                groups=comparisons(cases),
            )

    def rounds_of(self, case_ids: Container[str]) -> dict[str, tuple[Round, ...]]:
        """What was stored of these cases when the recording began."""
        return {r.case.id: r.rounds for r in self.stored.results if r.case.id in case_ids}

    @contextmanager
    def time_spent(self, place: Place) -> Iterator[None]:
        """Time in which processes of this machine measure, or devices do."""
        begun_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self._spent_ns[place] += time.perf_counter_ns() - begun_ns

    def commit(self, case_id: str, outcome: Round | Failure) -> None:
        """What a process of this machine found. Raises StoreError."""
        self._append(case_id, outcome, self.files.get(case_id))
        if isinstance(outcome, Round):
            self._phases.append(outcome.phases)

    def note(self, case_id: str, failure: Failure) -> None:
        """What was found without a process: stored once, however often it is found. Raises StoreError."""
        if not is_known(self.stored, case_id, failure):
            self._append(case_id, failure, self.files.get(case_id))

    def take_over(self, case_id: str, outcome: Round | Failure, artifact: Artifact | None = None) -> None:
        """What a device's agent told: a round that is stored already is told again after every interruption.

        Its phases are of the device's clock and say nothing of this machine's time. Raises StoreError.
        """
        if isinstance(outcome, Failure):
            if is_known(self.stored, case_id, outcome):
                return
        elif (case_id, outcome.round_index) in self._done:
            return
        self._append(case_id, outcome, artifact or self.files.get(case_id))
        if isinstance(outcome, Round):
            self._done.add((case_id, outcome.round_index))
            self.rounds_added += 1

    def _append(self, case_id: str, outcome: Round | Failure, artifact: Artifact | None) -> None:
        if not self.is_open:
            self.store.reopen_run(self.info.run_id)
        self.store.append(self.info.run_id, case_id, outcome, artifact=artifact)
        self.commits += 1
        if isinstance(outcome, Failure):
            self._failed_ns += int(outcome.detail.get("process_ns", 0))

    def end_session(
        self,
        *,
        began_ns: int,
        started_at_ns: int,
        conversion_ns: int | None = None,
        spent_ns: Mapping[str, int] | None = None,
    ) -> None:
        """Where this invocation's wall time went, the report that follows left out; without news, nothing.

        `began_ns` is of the clock of `time.perf_counter_ns`, `started_at_ns` since the epoch. `spent_ns` are
        other parts by name.
        """
        if not self.is_open:
            return
        parts = ledger(self._phases, measuring_ns=self._spent_ns["here"], failed_ns=self._failed_ns)
        if conversion_ns is not None:
            parts["conversion_ns"] = conversion_ns
        if self._spent_ns["devices"]:
            parts["devices_ns"] = self._spent_ns["devices"]
        parts |= spent_ns or {}
        wall_ns = time.perf_counter_ns() - began_ns
        self.store.add_session(self.info.run_id, started_at_ns, wall_ns, parts)
