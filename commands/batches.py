"""Hundreds of networks in one run: a batch is converted, measured in interleaved rounds, and let go.

So memory and the artifact cache stay small however many there are. Rounds are interleaved within a batch;
its round numbers are its own, so cases of different batches are never paired. What is stored is not done
again: the run goes on after any end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from commands.artifact_limit import ArtifactLimit, hold_own
from commands.recording import Recording
from commands.resuming import taken
from commands.untimed import unchanged
from converters.artifact import Artifact
from converters.cache_use import keys_of, leased
from models.spec import Case
from reports.formatting import count, span
from reports.progress import Progress
from reports.records import CaseResult, StoredRun
from runners.measurement import Failure

if TYPE_CHECKING:
    from commands.execution import Execution

NETWORKS = 16  # of a batch, at most
SHARE = 0.7  # of the cache's limit that one batch may fill: what is being made comes on top
OTHER_FILE = Failure(
    "conversion",
    "its file was removed from the cache and built again, and is another one: rounds of both are not mixed",
    "Measure it again in a run of its own, or all with --fresh.",
)


@dataclass
class BatchedRun:
    """The cases of an execution's plan, batch by batch; `recording` is that of its run."""

    execution: Execution
    recording: Recording
    progress: Progress
    begun_ns: int = field(default_factory=time.perf_counter_ns)
    measured_ns: int = 0

    def go(self) -> None:
        """Until every case has its rounds or its failure, or the budget ends. Raises what measuring does."""
        pending = self._open(self.recording.stored)
        total = len(pending)
        while pending and self._left_seconds() > 0:
            batch = self._taken(pending)
            pending = [case for case in pending if case.id not in batch]
            self._tell(total - len(pending), total)

    def _open(self, stored: StoredRun) -> list[Case]:
        """Cases without rounds and failure; of a finished run those that failed, to be tried again."""
        if stored.info.finished_at_ns is not None:
            return self.execution.open_cases(stored)
        least = self.execution.plan.timing.min_rounds
        done = {r.case.id for r in stored.results if r.failure or unchanged(r) or taken(r) >= least}
        return [case for case in self.execution.plan.cases if case.id not in done]

    def _left_seconds(self) -> float:
        return self.execution.plan.timing.max_seconds - self.measured_ns / 1e9

    def _taken(self, pending: Sequence[Case]) -> set[str]:
        """Convert and measure as many as a batch holds; their ids."""
        execution = self.execution
        root, most = execution.cache_root, self._most_bytes()
        wanted = _first_networks(pending, NETWORKS)
        requests = execution.plan.requests_of(wanted)
        with leased(root, keys_of(requests.values())):
            execution.convert(
                self.progress, requests, stop_bytes=None if most is None else round(SHARE * most)
            )
            batch = [case for case in wanted if case.id not in requests or case.id in execution.outcomes]
            self.recording.go_on_with(execution.files())
            self._measure(self._of_one_file(batch), self._left_seconds() * len(batch) / len(pending))
        self._let_go(root)
        return {case.id for case in batch}

    def _most_bytes(self) -> int | None:
        limits = (self.execution.plan.max_artifact_bytes, self.execution.plan.max_own_bytes)
        return min((limit for limit in limits if limit is not None), default=None)

    @cached_property
    def _keys(self) -> set[str]:
        return keys_of(self.execution.plan.requests().values())

    def _let_go(self, root: Path) -> None:
        """Of what this run made, in this invocation or an earlier one, then of all that is in the cache."""
        plan = self.execution.plan
        if plan.max_own_bytes is not None:
            since_ns = self.recording.info.started_at_ns
            hold_own(root, self._keys, since_ns=since_ns, max_bytes=plan.max_own_bytes)
        ArtifactLimit(root, plan.max_artifact_bytes, self.progress.note).hold()

    def _measure(self, batch: Sequence[Case], seconds: float) -> None:
        begun_ns = time.perf_counter_ns()
        timing = replace(self.execution.plan.timing, max_seconds=max(1.0, seconds))
        self.execution.measure(self.recording, self.progress, batch, timing)
        self.measured_ns += time.perf_counter_ns() - begun_ns

    def _of_one_file(self, batch: Sequence[Case]) -> list[Case]:
        """Without those whose first rounds an earlier invocation took from a file that is no more."""
        results = {result.case.id: result for result in self.recording.stored.results}
        other = [c for c in batch if _differs(results[c.id], self.execution.outcomes.get(c.id))]
        for case in other:
            self.recording.note(case.id, OTHER_FILE)
        return [case for case in batch if case not in other]

    def _tell(self, done: int, total: int) -> None:
        elapsed_ns = time.perf_counter_ns() - self.begun_ns
        left = f"; about {span(elapsed_ns / done * (total - done))} left" if done < total else ""
        self.progress.note(f"{done} of {count(total, 'case')} done in {span(elapsed_ns)}{left}")


def _first_networks(pending: Sequence[Case], number: int) -> list[Case]:
    """All cases of the first networks."""
    names = set(list(dict.fromkeys(case.model for case in pending))[:number])
    return [case for case in pending if case.model in names]


def _differs(result: CaseResult, outcome: object) -> bool:
    before = result.artifact
    is_file = isinstance(outcome, Artifact)
    return bool(result.rounds and before and is_file and before.sha256 != getattr(outcome, "sha256", ""))
