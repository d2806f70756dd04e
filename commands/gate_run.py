"""A gate that measures: BASE's files from the cache, the present code's beside them, in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from commands import UsageError, artifacts
from commands.artifact_limit import limit_of
from commands.config import Config
from commands.gate_files import given_checkpoints, listed_checkpoints, missing_text, without_file
from commands.gate_measure import FilePair, PairedRun
from commands.gate_result import GateResult, judged
from commands.plan import check_case, make, request_of
from commands.references import Reference
from commands.run import overrides, timing_overrides
from commands.timing import check_timing, in_turns
from commands.untimed import not_here
from converters.artifact import Artifact, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache
from converters.cache_use import keys_of
from models.spec import Case, digest
from reports import formatting as fmt
from reports.baseline import baseline_of, is_baseline
from reports.compared import Compared, LeftOut, Side, compare_sides
from reports.pairing import CompareError, case_name
from reports.progress import Progress
from reports.records import CaseResult, RunInfo, StoredRun
from reports.store import Store
from runners import backend_info, environment
from runners.measurement import Timing

NOW = "the present code"
REASONS = {  # why a case has no number, by the key of LeftOut
    "same_file": "The very same file",
    "no_file": "BASE's file is not in the cache any more, or changed",
    "only_base": "Only in BASE",
    "only_now": "Only in the suite",
    "failed": "Failed",
    "untimed": "Built, and the device is not here",
    "unmeasured": "Not measured on both sides",
    "mismatched": "Different protocols, not compared",
}


def same_content(one: Artifact, other: Artifact) -> bool:
    """Are the files equal, byte for byte but for the key of its artifact that each is stamped with?

    An ONNX file names its own key, which changes with every edit of `models/` or `converters/`.
    """
    if one.sha256 == other.sha256:
        return True
    if one.kind != other.kind or one.size_bytes != other.size_bytes or not one.path.is_file():
        return False
    unstamped = [found.path.read_bytes().replace(found.key.encode(), b"") for found in (one, other)]
    return unstamped[0] == unstamped[1]


@dataclass
class GateRun:
    """One gate: which cases it is about, their two files, and the run in which those are measured.

    `left_out` collects, by its key, every case that gets no number and why. `files` are the user's own ONNX
    files and checkpoints by the weights of their models, and `images` where those lie that calibrate, by the
    calibrations of cases, as far as the command line or bench.toml names them.
    """

    base: Reference
    config: Config
    args: argparse.Namespace
    cache_root: Path
    bound: float
    began_ns: int
    timing: Timing = field(default_factory=Timing)
    results: tuple[CaseResult, ...] = ()
    bases: dict[str, Artifact] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    started_at_ns: int = field(default_factory=time.time_ns)

    def choose(self) -> set[str]:
        """Settle timing and cases; the keys of the files that the gate needs. Raises UsageError."""
        self.timing = self._timing()
        self.results = self._chosen()
        for result in self.results:
            check_case(result.case)
        bases = {result.artifact.key for result in self.results if result.artifact}
        if not bases:
            raise UsageError(self._no_files())
        return bases | keys_of(self._requests([result.case for result in self.results]).values())

    def find_files(self) -> None:
        """What can be wrong is said before anything is converted. Raises UsageError, CacheError."""
        cache = ArtifactCache(self.cache_root)
        for result in self.results:
            found = cache.find(result.artifact.key) if result.artifact else None
            if found is not None and result.artifact and found.sha256 == result.artifact.sha256:
                self.bases[result.case.id] = found
            else:
                self._leave_out("no_file", result.case)
        if not self.bases:
            raise UsageError(self._no_files())
        self._find_weights(cache, [result.case for result in self.results if result.case.id in self.bases])

    def _find_weights(self, cache: ArtifactCache, cases: Sequence[Case]) -> None:
        """Files of weights that are needed and were not given, from bench.toml. Raises UsageError."""
        requests = self._requests(cases)
        known = {case: requests[case.id] for case in cases if case.id in requests}
        lacking = without_file(known, lambda key: cache.find(key) is not None)
        if not lacking:
            return
        suite = self.config.suites.get(self.base.run.info.suite)
        listed = listed_checkpoints(suite, {case.model.weights for case in lacking})
        self.files = {**self.files, **listed}
        if still := [case for case in lacking if case.model.weights not in listed]:
            command = fmt.printable(self.base.run.info.command)
            raise UsageError(missing_text(still, base=self.base.name, command=command))

    def go(self, store: Store) -> GateResult:
        """Convert, measure what differs, and judge it."""
        cases = [result.case for result in self.results if result.case.id in self.bases]
        progress = Progress()
        with progress:
            conversion_begun_ns = time.perf_counter_ns()
            pairs = self._pairs(cases, self._converted(cases, progress))
            conversion_ns = time.perf_counter_ns() - conversion_begun_ns
            if not pairs:
                return self._judged([], None)
            info = self._begin(store, pairs)
            PairedRun(info, store, self.timing, pairs, progress).go(
                conversion_ns=conversion_ns, began_ns=self.began_ns, started_at_ns=self.started_at_ns
            )
        run = store.load_run(info.run_id)
        results = {r.case.id: r for r in run.results}
        both = [(case_name(pair.now), results[pair.now.id], results[pair.base.id]) for pair in pairs]
        failed = [label for label, *sides in both if any(side.failure for side in sides)]
        self.left_out.setdefault("failed", []).extend(failed)
        return self._judged([pair for pair in both if pair[0] not in failed], run)

    def _begin(self, store: Store, pairs: Sequence[FilePair]) -> RunInfo:
        """A run in which every case is there twice: with the present code's file, and with BASE's."""
        cases = [case for pair in pairs for case in (pair.now, pair.base)]
        machine = environment.describe_machine()
        files = [sha256 for pair in pairs for sha256 in (pair.now_file.sha256, pair.base_file.sha256)]
        return store.begin_run(
            suite=f"gate-{self.base.run.info.suite}"[:100],
            plan_digest=digest(["gate", files, machine["fingerprint"], self.started_at_ns]),
            seed=self.timing.seed,
            command=self.args.command_line,
            config={
                "timing": asdict(self.timing),
                "focus": "",
                "gate": {"base": self.base.name, "bound": self.bound},
            },
            environment=machine,
            cases=cases,
        )

    def _timing(self) -> Timing:
        """That of the suite, which BASE's run names unless told otherwise; precise enough for the bound."""
        name = self.args.suite or self.base.run.info.suite
        known = self.config.suites.get(name)
        timing = self.config.timing_of(known) if known else self.config.timing.applied_to(Timing())
        timing = check_timing(replace(in_turns(timing), **timing_overrides(self.args)))
        return replace(timing, target=self.bound / 2) if self.bound else timing

    def _chosen(self) -> tuple[CaseResult, ...]:
        """BASE's cases, or those of them that the suite of the command line has."""
        own = tuple(r for r in self.base.results if not is_baseline(r.case))
        if not own:
            raise UsageError(f"{self.base.name} holds no case that is not a gate's: name another BASE")
        asked = overrides(self.args)
        if not self.args.suite and replace(asked, checkpoints=()) == type(asked)():
            self.files = given_checkpoints(asked.checkpoints, [r.case for r in own], base=self.base.name)
            return own
        name = self.args.suite or self.base.run.info.suite
        plan = make(self.config, name, asked, {})
        self.files, self.images = plan.files, plan.calibration_data
        planned = {case.id for case in plan.cases}
        common = tuple(r for r in own if r.case.id in planned)
        if not common:
            raise UsageError(
                f"{self.base.name} and suite '{name}' have no case in common ({self.base.name} was made"
                f" by `{fmt.printable(self.base.run.info.command)}`): give the same options, or leave out"
                " --suite"
            )
        have = {r.case.id for r in common}
        self._leave_out("only_base", *(r.case for r in own if r.case.id not in have))
        self._leave_out("only_now", *(case for case in plan.cases if case.id not in have))
        return common

    def _converted(
        self, cases: Sequence[Case], progress: Progress
    ) -> Mapping[str, Artifact | ConversionFailure]:
        requests = self._requests(cases)
        outcomes = artifacts.collect(
            requests,
            self.cache_root,
            progress,
            deadline_seconds=self.config.conversion.deadline_seconds,
            max_bytes=limit_of(self.config),
        )
        return {case_id: outcomes[request] for case_id, request in requests.items()}

    def _requests(self, cases: Sequence[Case]) -> dict[str, ConversionRequest]:
        here = [case for case in cases if backend_info(case.backend).real]
        return {case.id: request_of(case, self.files, self.images) for case in here}

    def _pairs(
        self, cases: Sequence[Case], now: Mapping[str, Artifact | ConversionFailure]
    ) -> list[FilePair]:
        """The files of every case that differ and can be timed here."""
        pairs = []
        for case in cases:
            outcome, base = now[case.id], self.bases[case.id]
            if isinstance(outcome, ConversionFailure):
                self.left_out.setdefault("failed", []).append(f"{case_name(case)} ({outcome.message})")
            elif same_content(outcome, base) and not self.args.measure_identical:
                self._leave_out("same_file", case)
            elif not_here(case):
                self._leave_out("untimed", case)
            else:
                pairs.append(FilePair(case, baseline_of(case, base.sha256), outcome, base))
        return pairs

    def _judged(
        self, pairs: Sequence[tuple[str, CaseResult, CaseResult]], run: StoredRun | None
    ) -> GateResult:
        base = Side(self.base.name, self.base.run.info, ())
        now = Side(NOW, run.info if run else self._present_info(), ())
        compared = Compared(now, base, (), (1.0, 1.0 + self.bound), "")
        if pairs:
            try:
                compared = compare_sides(now, base, delta=self.bound, same_run=True, pairs=pairs)
            except CompareError:
                self.left_out.setdefault("mismatched", []).extend(label for label, _, _ in pairs)
        reasons = {**{one.key: list(one.labels) for one in compared.left_out}, **self.left_out}
        left_out = tuple(LeftOut(key, REASONS[key], tuple(found)) for key, found in reasons.items() if found)
        noted = replace(compared, left_out=left_out, notes=tuple(self._notes(pairs, run)))
        return judged(noted, self.bound, run or self.base.run, run_id=run.info.run_id if run else None)

    def _present_info(self) -> RunInfo:
        """Where nothing had to be measured: this code, now."""
        here = {"revision": environment.describe_revision(), "fingerprint": environment.fingerprint()}
        return replace(self.base.run.info, environment=here, started_at_ns=self.started_at_ns)

    def _notes(self, pairs: Sequence[tuple[str, CaseResult, CaseResult]], run: StoredRun | None) -> list[str]:
        notes = []
        if run is not None:
            notes.append(
                f"Both files of a case were measured in run {run.info.run_id}, rounds interleaved: the ratios"
                " are of paired rounds, and what the machine does between runs is not in them."
            )
        if self.left_out.get("same_file"):
            notes.append(
                "Where the file is the same, byte for byte but for the key stamped into it, nothing in"
                " it can have regressed: such cases are not measured. --measure-identical does, and shows the"
                " noise."
            )
        if changed := self._runtimes(pairs):
            notes.append(
                f"{self.base.name} was measured with {changed[0]}, both files are now with {changed[1]}: what"
                " the runtime changed is not in these ratios; --stored compares the stored numbers."
            )
        return notes

    def _runtimes(self, pairs: Sequence[tuple[str, CaseResult, CaseResult]]) -> tuple[str, str] | None:
        """The runtimes of BASE's time and of today, where they differ."""
        stored = {r.case.id: r.measurement for r in self.results}
        for _, now, _ in pairs:
            before = stored.get(now.case.id)
            if before and now.measurement and before.protocol.runtime != now.measurement.protocol.runtime:
                return before.protocol.runtime, now.measurement.protocol.runtime
        return None

    def _leave_out(self, key: str, *cases: Case) -> None:
        if cases:
            self.left_out.setdefault(key, []).extend(case_name(case) for case in cases)

    def _no_files(self) -> str:
        if not any(r.artifact for r in self.results):
            return (
                f"{self.base.name} recorded no files to measure again: compare stored numbers with --stored"
            )
        return (
            f"none of the files that {self.base.name} was measured from is in {self.cache_root} any more, as"
            " they were: keep that folder (in CI, in its cache), or compare stored numbers with --stored"
        )
