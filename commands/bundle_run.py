"""One invocation's work on a bundle: measure in interleaved rounds, store each, write the records at the end.

It is commands/execution.py without conversion, configuration and report, and without their packages.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from commands import INTERRUPTED, SOME_FAILED, artifacts
from commands.bundle_contents import Bundle
from commands.only_one import only_one
from commands.recording import Recording
from commands.resuming import exit_code, taken
from commands.untimed import not_here, unchanged
from converters.artifact import Artifact, ConversionFailure
from models.spec import Case, digest
from reports import records_file
from reports.formatting import count, duration, harmless, span
from reports.records import CaseResult, RunInfo, StoredRun
from reports.store import Store, StoreError
from runners import environment
from runners.measurement import Job
from runners.sources import runner_sources
from runners.suite_events import CaseFailed, CaseFinished, Event, RoundStarted


@dataclass
class BundleRun:
    """One invocation's work on one stored run of a bundle."""

    bundle: Bundle
    store: Store
    folder: Path
    args: argparse.Namespace
    began_ns: int
    started_at_ns: int = field(default_factory=time.time_ns)

    def go(self, output: Path) -> int:
        """The exit code. Raises OutputError for records that cannot be written, and what `measure` raises."""
        info = self._begin()
        interrupted = False
        with only_one(self.store.path, info.run_id):
            outcomes = self.bundle.outcomes.items()
            files = {case_id: found for case_id, found in outcomes if isinstance(found, Artifact)}
            recording = Recording(self.store, info, files)
            try:
                self._measure(recording)
            except KeyboardInterrupt:
                interrupted = True
            except StoreError as error:
                print(f"error: {error}; what was stored before is kept", file=sys.stderr)
                return SOME_FAILED
            recording.end_session(began_ns=self.began_ns, started_at_ns=self.started_at_ns)
            return self._write(recording, output, interrupted=interrupted)

    def _begin(self) -> RunInfo:
        """The newest run of this bundle on this machine, unless a fresh one is asked for."""
        machine = environment.describe_machine()
        timing = asdict(self.bundle.timing)
        parts = [machine["fingerprint"], machine["packages"], machine["gpus"], runner_sources()]
        plan_digest = digest(["bundle", self.bundle.sha256, timing, *parts])
        found = None if self.args.fresh else self.store.find_run(plan_digest)
        if found is not None:
            if found.finished_at_ns is None:
                print(f"resuming run {found.run_id}", file=sys.stderr)
            return found
        origin = {"sha256": self.bundle.sha256, "project": dict(self.bundle.project)}
        return self.store.begin_run(
            suite=self.bundle.suite,
            plan_digest=plan_digest,
            seed=self.bundle.timing.seed,
            command=self.args.command_line,
            config={"timing": timing, "focus": self.bundle.focus, "bundle": origin},
            environment=machine,
            cases=self.bundle.cases,
        )

    def _measure(self, recording: Recording) -> None:
        jobs = self._jobs(recording)
        if jobs:
            cases = self.bundle.cases
            recording.measure(jobs, self.bundle.timing, observe=_Observer(cases), cases=cases)

    def _jobs(self, recording: Recording) -> dict[str, Job]:
        """A job for every open case that has a file and a device here; the others are recorded as failed."""
        timing = self.bundle.timing
        cases = _open(recording.stored)
        simulated = artifacts.simulated_jobs(cases, timing, self.folder)
        jobs = {}
        for case in cases:
            outcome = self.bundle.outcomes.get(case.id)
            if isinstance(outcome, ConversionFailure):
                recording.note(case.id, artifacts.as_failure(outcome))
            elif missing := not_here(case, "Run this bundle where the device is."):
                recording.note(case.id, missing)
            elif outcome is None:
                jobs[case.id] = simulated[case.id]
            else:
                jobs[case.id] = artifacts.job(case, outcome, timing)
        return jobs

    def _write(self, recording: Recording, output: Path, *, interrupted: bool) -> int:
        """The records of what there is, complete or not."""
        run_id = recording.info.run_id
        stored = self.store.load_run(run_id)
        least = self.bundle.timing.min_rounds
        short = [r for r in stored.results if not r.failure and taken(r) < least]
        if not short and not interrupted and recording.is_open:
            self.store.finish_run(run_id)
            stored = self.store.load_run(run_id)
        sha256 = records_file.write(stored, output)
        code = INTERRUPTED if interrupted else exit_code(stored, short=bool(short))
        if self.args.json:
            rounds = {r.case.id: len(r.rounds) for r in stored.results}
            value = {"schema": 1, "file": str(output), "sha256": sha256, "rounds": rounds, "exit_code": code}
            print(json.dumps(value))
            return code
        for result in stored.results:
            print(harmless(f"{result.case.label}: {_state(result)}"))
        if short or interrupted:
            why = "interrupted" if interrupted else "the budget ended"
            print(f"{why} before {count(len(short), 'case')} had enough rounds: the same command goes on")
        print(f"records written to {output}; where the plan was made: python bench.py import {output.name}")
        return code


def _open(stored: StoredRun) -> list[Case]:
    """All cases of an unfinished run, of a finished one those that failed; without what cannot change."""
    unfinished = stored.info.finished_at_ns is None
    return [
        result.case
        for result in stored.results
        if (unfinished or result.failure or not result.rounds) and not unchanged(result)
    ]


def _state(result: CaseResult) -> str:
    """The median, or why there is none, in a few words; intervals and comparisons are the report's."""
    failure = result.failure
    if failure is not None and failure.built:
        return f"built, not timed: {failure.message}"
    if failure is not None:
        return f"failed: {failure.message}"
    if result.measurement is None:
        return "not measured yet"
    import numpy as np

    medians = [float(np.median(values)) for values in result.measurement.per_inference_ns]
    return f"{duration(float(np.median(medians)))} (median of {count(len(medians), 'round')})"


class _Observer:
    """One line on stderr where a round begins and where a case ends; called between processes only."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._labels: Mapping[str, str] = {case.id: case.label for case in cases}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RoundStarted):
            left = f", about {span(event.eta_ns)} left" if event.eta_ns is not None else ""
            again = ", again, as it was disturbed" if event.attempt else ""
            self._say(f"round {event.round_index + 1}: {self._labels[event.case_id]}{again}{left}")
        elif isinstance(event, CaseFailed):
            self._say(f"{self._labels[event.case_id]}: {event.failure.message}")
        elif isinstance(event, CaseFinished):
            self._say(f"{self._labels[event.case_id]}: {event.reason} after {count(event.rounds, 'round')}")

    def _say(self, text: str) -> None:
        print(harmless(text), file=sys.stderr, flush=True)
