"""One invocation's work on one run: convert, measure in interleaved rounds, store each, report at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from commands import INTERRUPTED, SOME_FAILED, artifacts, options
from commands.artifact_limit import ArtifactLimit
from commands.devices import driver_of
from commands.only_one import only_one
from commands.plan import Plan
from commands.profiling import with_profile
from commands.published import published_figures, published_points, unread_figures
from commands.recording import Recording
from commands.resuming import exit_code, goes_on, same_files, taken
from commands.suite_observer import SuiteObserver
from commands.untimed import carry, not_here, unchanged
from converters.artifact import Artifact, ConversionFailure, ConversionRequest
from converters.cache_use import keys_of, leased
from models.spec import Case
from reports import formatting as fmt
from reports.console import PlainConsole
from reports.files import OutputError
from reports.progress import Progress
from reports.records import BATCHED
from reports.store import RunInfo, Store, StoredRun, StoreError
from runners import environment
from runners.measurement import Job, Timing


@dataclass
class Execution:
    """One invocation's work on one stored run."""

    plan: Plan
    store: Store
    cache_root: Path
    args: argparse.Namespace
    began_ns: int
    info: RunInfo | None = None
    outcomes: dict[str, Artifact | ConversionFailure] = field(default_factory=dict)
    on_devices: dict[Case, Artifact] = field(default_factory=dict)
    conversion_ns: int = 0
    recording: Recording | None = None
    started_at_ns: int = field(default_factory=time.time_ns)

    def go(self, report: Path) -> int:
        progress = Progress()
        try:
            with progress:
                if self.plan.batched:
                    self._in_batches(progress)
                else:
                    self._at_once(progress)
                ArtifactLimit(self.cache_root, self.plan.max_artifact_bytes, progress.note).hold()
        except KeyboardInterrupt:
            return self._interrupted()
        except StoreError as error:
            if self.info is None:
                raise
            print(f"error: {error}; what was stored before is kept", file=sys.stderr)
            return SOME_FAILED
        assert self.info is not None
        assert self.recording is not None
        self._end_session(self.recording)
        stored = self.store.load_run(self.info.run_id)
        if not self._missing(stored) and self.recording.is_open:
            self.store.finish_run(self.info.run_id)
            stored = self.store.load_run(self.info.run_id)
        return self._report(stored, report)

    def _at_once(self, progress: Progress) -> None:
        """All files, then all rounds interleaved."""
        requests = self.plan.requests()
        with leased(self.cache_root, keys_of(requests.values())):
            self.convert(progress, requests)
            self.info = self._begin(progress)
            with only_one(self.store.path, self.info.run_id):
                self.recording = Recording(self.store, self.info, self.files())
                self.measure(self.recording, progress, self.plan.cases, self.plan.timing)

    def _in_batches(self, progress: Progress) -> None:
        from commands.batches import BatchedRun

        self.info = self._begin(progress)
        with only_one(self.store.path, self.info.run_id):
            self.recording = Recording(self.store, self.info)
            BatchedRun(self, self.recording, progress).go()

    def files(self) -> dict[str, Artifact]:
        return {case_id: found for case_id, found in self.outcomes.items() if isinstance(found, Artifact)}

    def _missing(self, stored: StoredRun) -> list[Case]:
        """Cases that the time budget left without their first rounds: the same command adds them."""
        least = self.plan.timing.min_rounds
        return [r.case for r in stored.results if not r.failure and taken(r) < least]

    def convert(
        self,
        progress: Progress,
        requests: Mapping[str, ConversionRequest],
        *,
        stop_bytes: int | None = None,
    ) -> None:
        """Outcomes by case id; where files take `stop_bytes`, of those that were made by then."""
        begin_ns = time.perf_counter_ns()
        outcomes = artifacts.collect(
            requests,
            self.cache_root,
            progress,
            deadline_seconds=self.plan.conversion_seconds,
            max_bytes=self.plan.max_artifact_bytes,
            stop_bytes=stop_bytes,
        )
        self.outcomes = {
            case_id: outcomes[request] for case_id, request in requests.items() if request in outcomes
        }
        self.conversion_ns += time.perf_counter_ns() - begin_ns

    def _begin(self, progress: Progress) -> RunInfo:
        """The newest run of the same plan and the same files, unless a fresh one is asked for."""
        machine = environment.describe_machine()
        versions = {**machine["packages"], "gpus": machine["gpus"]}
        plan_digest = self.plan.digest(machine["fingerprint"], versions)
        found = None if self.args.fresh else self.store.find_run(plan_digest)
        if found is not None and same_files(self.store.load_run(found.run_id), self.outcomes):
            if found.finished_at_ns is None:
                progress.note(f"resuming run {found.run_id}")
            return found
        return self.store.begin_run(
            suite=self.plan.suite,
            plan_digest=plan_digest,
            seed=self.plan.timing.seed,
            command=self.args.command_line,
            config={
                "timing": asdict(self.plan.timing),
                "focus": self.plan.focus,
                **({"parts": self.plan.parts} if self.plan.parts else {}),
                **({BATCHED: True} if self.plan.batched else {}),
            },
            environment=machine,
            cases=self.plan.cases,
        )

    def measure(
        self, recording: Recording, progress: Progress, cases: Sequence[Case], timing: Timing
    ) -> None:
        """Cases here first, then on devices with an agent of their own."""
        self.on_devices = {}
        jobs = self._jobs(recording, cases)
        if jobs:
            observer = SuiteObserver(self.plan, progress, recording.rounds_of(jobs))
            recording.measure(jobs, timing, observe=observer, cases=self.plan.cases)
        if self.on_devices:
            from commands.device_cases import DeviceCases, outbox_of

            outbox, take_over = outbox_of(self.store.path), recording.take_over
            with recording.time_spent("devices"):
                DeviceCases(
                    self.on_devices,
                    recording.info,
                    self.plan.timing,
                    outbox,
                    self.args,
                    take_over,
                    progress,
                ).run()

    def open_cases(self, stored: StoredRun) -> list[Case]:
        """All of an unfinished run; of a finished one what failed, the rest only with --fresh."""
        untimed = {r.case.id for r in stored.results if unchanged(r)}
        if stored.info.finished_at_ns is None:
            return [case for case in self.plan.cases if case.id not in untimed]
        kept = {r.case.id for r in stored.results if r.rounds and not r.failure}
        if kept or untimed:
            when = fmt.moment(stored.info.started_at_ns)
            built = f", {len(untimed)} built and not timed" if untimed else ""
            print(
                f"run {stored.info.run_id} of {when} holds {len(kept)} of {len(stored.results)} cases{built}:"
                " shown from the store; --fresh measures them again",
                file=sys.stderr,
            )
        return [case for case in self.plan.cases if case.id not in kept | untimed]

    def _jobs(self, recording: Recording, cases: Sequence[Case]) -> dict[str, Job]:
        """A job for every open case that has a file and a device here; the others are recorded as failed."""
        simulated = artifacts.simulated_jobs(cases, self.plan.timing, self.cache_root)
        jobs = {}
        for case in cases if self.plan.batched else self.open_cases(recording.stored):
            outcome = self.outcomes.get(case.id)
            if case.id in self.plan.refused:
                recording.note(case.id, artifacts.as_refusal(self.plan.refused[case.id]))
            elif outcome is None:
                jobs[case.id] = simulated[case.id]
            elif isinstance(outcome, ConversionFailure):
                recording.note(case.id, artifacts.as_failure(outcome))
            elif driver_of(case):
                self.on_devices[case] = outcome
            elif missing := not_here(case, carry(self.args, case)):
                recording.note(case.id, missing)
            else:
                jobs[case.id] = artifacts.job(case, outcome, self.plan.timing)
        return {case_id: with_profile(job) for case_id, job in jobs.items()} if self.plan.profile else jobs

    def _interrupted(self) -> int:
        if self.info is None:
            print("interrupted while converting: what is converted is kept", file=sys.stderr)
            return INTERRUPTED
        if self.recording is not None:
            self._end_session(self.recording)
        stored = sum(len(result.rounds) for result in self.store.load_run(self.info.run_id).results)
        print(f"interrupted: {stored} rounds are stored; {goes_on(self.args.fresh)}", file=sys.stderr)
        return INTERRUPTED

    def _end_session(self, recording: Recording) -> None:
        recording.end_session(
            began_ns=self.began_ns, started_at_ns=self.started_at_ns, conversion_ns=self.conversion_ns
        )

    def _report(self, stored: StoredRun, path: Path) -> int:
        """The numbers first: a report that cannot be written must not hide them."""
        from reports.html import write_report

        published, unread = published_figures(stored), unread_figures(stored)
        missing = self._missing(stored)
        code = SOME_FAILED if unread else exit_code(stored, short=bool(missing))
        if missing:
            rounds, budget = self.plan.timing.min_rounds, self.plan.timing.max_seconds
            print(
                f"the budget of {budget:g} s ended before {len(missing)} of {len(stored.results)} cases had"
                f" {rounds} rounds; {goes_on(self.args.fresh)}",
                file=sys.stderr,
            )
        if not self.args.json:
            from reports.terminal import print_table

            print_table(stored, PlainConsole(), published=published, unread=unread)
        try:
            points = published_points(stored)
            write_report(stored, path, published=published, points=points, unread=unread)
            report = str(path)
        except OutputError as error:
            print(f"error: {error}", file=sys.stderr)
            code, report = SOME_FAILED, None
        if self.args.json:
            from reports.export import document

            told = {"report": report, "unread_published": unread}
            print(json.dumps({**document(stored, samples=False), **told}))
        elif report:
            print(f"\nReport: {options.shown(path)}")
        return code
