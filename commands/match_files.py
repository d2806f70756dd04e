"""The files of the networks that are searched by latency, each made when it is first asked for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from commands import artifacts
from commands.latency_beside import NoRatioError
from commands.plan import request_of
from converters.artifact import Artifact, ConversionFailure
from converters.cache_use import keys_of, leased
from models.spec import Case
from reports.progress import Progress
from runners.measurement import Job, Timing


@dataclass
class MatchFiles:
    """`leases` keep every file that is needed until they are closed. `made` holds outcomes by case id."""

    cache_root: Path
    progress: Progress
    leases: ExitStack
    timing: Timing
    deadline_seconds: float
    max_artifact_bytes: int | None = None
    made: dict[str, Artifact | ConversionFailure] = field(default_factory=dict)

    def of(self, case: Case) -> Artifact | ConversionFailure:
        """Raises CacheError."""
        if case.id not in self.made:
            requests = {case.id: request_of(case)}
            self.leases.enter_context(leased(self.cache_root, keys_of(requests.values())))
            made = artifacts.collect(
                requests,
                self.cache_root,
                self.progress,
                deadline_seconds=self.deadline_seconds,
                max_bytes=self.max_artifact_bytes,
            )
            (self.made[case.id],) = made.values()
        return self.made[case.id]

    def job(self, case: Case) -> Job:
        """Raises NoRatioError for a case that no file can be made for, and CacheError."""
        outcome = self.of(case)
        if isinstance(outcome, ConversionFailure):
            raise NoRatioError(f"{case.label}: {outcome.message}")
        return artifacts.job(case, outcome, self.timing)
