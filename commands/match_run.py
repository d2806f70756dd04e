"""The work of `match`: a search for each network, one run with all that were found, and their trainings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from commands import UsageError, artifacts
from commands.latency_beside import BesideReference, NoRatioError
from commands.latency_match import LatencyMatch, match
from commands.match_request import MatchRequest, Setting
from commands.network_stages import stages_of
from commands.only_one import only_one
from commands.plan import request_of
from commands.recording import Recording
from converters.artifact import Artifact, ConversionFailure
from converters.cache_use import keys_of, leased
from models.recipe import Recipe
from models.spec import Case, digest
from models.training_request import Epoch, TrainingStopped, TrainRequest
from reports.matched import Matched
from reports.progress import Progress
from reports.records import CaseResult, StoredRun
from reports.store import Store
from reports.verdicts import compare
from runners import environment
from runners.measurement import Job, Round
from runners.suite_events import Event, RoundStarted


@dataclass(frozen=True)
class Outcome:
    """The reference and the networks in the order of the request, why others failed, and the stored run."""

    matched: tuple[Matched, ...]
    failures: dict[str, str]
    run: StoredRun | None
    title: str


@dataclass
class MatchRun:
    """One search. Rounds of a search only steer it; the last run, of fresh rounds, is what is stored.

    `leases` keep every file that is needed until they are closed.
    """

    request: MatchRequest
    cache_root: Path
    store: Store
    progress: Progress
    leases: ExitStack
    deadline_seconds: float
    max_artifact_bytes: int | None = None
    files: dict[str, Artifact] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def go(self, command: str, *, began_ns: int) -> Outcome:
        """Raises CacheError, StoreError, DeviceBusyError and RunBusyError."""
        request, reference = self.request, self.request.reference
        started_at_ns = time.time_ns()
        name, setting = reference.model.name, request.reference_setting
        found = [Matched(name, request.knob, setting, "", None, is_reference=True)]
        for model in request.models:
            try:
                found.append(self._searched(model))
            except NoRatioError as error:
                self.failures[model] = str(error)
        run = None
        if len(found) > 1:
            run = self._measured([self._case(each) for each in found], command, began_ns, started_at_ns)
            found = [self._compared(each, run) for each in found]
            found = [self._trained(each) for each in found]
        share = f"{100 * request.tolerance:g} %"
        title = f"{request.suite}: within {share} of the time of {reference.label}"
        return Outcome(tuple(found), self.failures, run, title)

    def _searched(self, model: str) -> Matched:
        """By the knob; where no setting of it is near enough, on with the fine one at the nearest."""
        request = self.request
        start = min(max(request.reference_setting, request.settings[0]), request.settings[-1])
        rounds: dict[int, dict[str, list[Round]]] = {}
        found = self._search(
            model, request.settings, lambda value: Setting(request.knob, value), start=start, rounds=rounds
        )
        value = found.nearest.setting
        finding = found.finding(request.knob)
        self._note(model, finding, found)
        if found.matched or request.fine is None:
            return Matched(model, request.knob, value, finding, None)
        fine = request.fine
        finer = self._search(
            model,
            fine.settings,
            lambda share: self._moved(value, share),
            start=fine.usual,
            rounds={fine.usual: rounds[value]},
        )
        finding = f"{request.knob} {value}, {finer.finding(fine.name)}"
        self._note(model, finding, finer)
        moved = self._moved(value, finer.nearest.setting)
        return Matched(model, request.knob, value, finding, None, fine=moved.fine)

    def _moved(self, value: int, share: int) -> Setting:
        """The knob's `value` with the fine knob at `share`, unless that is where it always is."""
        fine = self.request.fine
        moved = None if fine is None or share == fine.usual else (fine.name, share)
        return Setting(self.request.knob, value, moved)

    def _search(
        self,
        model: str,
        settings: range,
        setting_of: Callable[[int], Setting],
        *,
        start: int,
        rounds: dict[int, dict[str, list[Round]]],
    ) -> LatencyMatch:
        """`rounds` are those that are known by setting, and those that are measured now."""
        request = self.request
        beside = BesideReference(
            self._job(request.reference),
            lambda value: self._job(request.case(model, setting_of(value))),
            request.timing,
            rounds,
        )

        def measure(value: int, wanted: int) -> list[float]:
            self.progress.round(0, wanted, f"{model} {setting_of(value).label} beside the reference", 0)
            return beside(value, wanted)

        return match(settings, measure, start=start, tolerance=request.searched_tolerance)

    def _note(self, model: str, finding: str, found: LatencyMatch) -> None:
        self.progress.note(f"{model}: {finding} ({found.pairs} pairs of rounds)")

    def _case(self, each: Matched) -> Case:
        return self.request.reference if each.is_reference else self.request.case(each.model, _setting(each))

    def _job(self, case: Case) -> Job:
        if case.id not in self.files:
            requests = {case.id: request_of(case)}
            self.leases.enter_context(leased(self.cache_root, keys_of(requests.values())))
            made = artifacts.collect(
                requests,
                self.cache_root,
                self.progress,
                deadline_seconds=self.deadline_seconds,
                max_bytes=self.max_artifact_bytes,
            )
            (outcome,) = made.values()
            if isinstance(outcome, ConversionFailure):
                raise NoRatioError(f"{case.label}: {outcome.message}")
            self.files[case.id] = outcome
        return artifacts.job(case, self.files[case.id], self.request.timing)

    def _measured(self, cases: Sequence[Case], command: str, began_ns: int, started_at_ns: int) -> StoredRun:
        """All in turns with each other, so that every ratio is of neighbours."""
        rounds = self.request.rounds
        timing = replace(self.request.timing, min_rounds=rounds, max_rounds=rounds)
        machine = environment.describe_machine()
        info = self.store.begin_run(
            suite=self.request.suite,
            plan_digest=digest(["match", [case.id for case in cases], machine["fingerprint"], started_at_ns]),
            seed=timing.seed,
            command=command,
            config={"timing": asdict(timing), "focus": ""},
            environment=machine,
            cases=cases,
        )
        labels = {case.id: case.label for case in cases}
        taken = 0

        def observe(event: Event) -> None:
            nonlocal taken
            if isinstance(event, RoundStarted):
                taken += 1
                label = labels[event.case_id]
                planned = max(taken, rounds * len(cases))  # disturbed rounds are taken again
                self.progress.round(taken - 1, planned, label, event.round_index, event.eta_ns)

        with only_one(self.store.path, info.run_id):
            recording = Recording(self.store, info, self.files)
            jobs = {case.id: self._job(case) for case in cases}
            recording.measure(jobs, timing, observe=observe, cases=tuple(cases))
        recording.end_session(began_ns=began_ns, started_at_ns=started_at_ns)
        self.store.finish_run(info.run_id)
        return self.store.load_run(info.run_id)

    def _compared(self, each: Matched, run: StoredRun) -> Matched:
        results: dict[str, CaseResult] = {result.case.id: result for result in run.results}
        case = self._case(each)
        one, reference = results[case.id], results[self.request.reference.id]
        each = replace(each, stages=stages_of(self.files[case.id].modules))
        if each.is_reference or one.measurement is None or reference.measurement is None:
            for failed in (one, reference):
                if failed.failure is not None:
                    self.failures[failed.case.model.name] = failed.failure.message
            return each
        found = compare(
            one.measurement, reference.measurement, delta=self.request.tolerance, paired=True, force=True
        )
        return replace(each, comparison=found)

    def _trained(self, each: Matched) -> Matched:
        """Accuracy after the last epoch: the best one would be chosen on the images that it is told of."""
        try:
            top1 = tuple(self._top1(each, recipe) for recipe in self.request.recipes)
            return replace(each, top1=top1, images=self.request.images[1])
        except TrainingStopped as error:
            self.failures[each.model] = str(error)
            return each

    def _top1(self, each: Matched, recipe: Recipe) -> float:
        from models.trainer import train
        from models.training_files import SaveError

        what = f"{each.model} {_setting(each).label}, seed {recipe.seed}"
        with tempfile.TemporaryDirectory(prefix="deploybench-match-") as folder:
            output, options = Path(folder) / "training", _setting(each).options
            asked = TrainRequest(each.model, recipe, output, options=options)
            try:
                last = train(asked, _Display(self.progress, what)).epochs[-1]
            except SaveError as error:
                raise UsageError(str(error)) from None
        self.progress.note(f"{what}: top-1 {100 * last.top1:.2f} % after epoch {last.epoch}")
        return last.top1


def _setting(each: Matched) -> Setting:
    return Setting(each.knob, each.setting, each.fine)


@dataclass
class _Display:
    """The trainer's observer: a bar on a terminal, a line where `what` begins everywhere."""

    progress: Progress
    what: str

    def step(self, done: int, total: int, *, epoch: int, loss: float) -> None:
        where = f"Training {self.what}, epoch {epoch}, loss {loss:.3f}"
        self.progress.training(done, total, where, line=f"training {self.what}")

    def epoch(self, epoch: Epoch, *, epochs: int) -> None:
        """The last one is told when the training ends."""

    def note(self, text: str) -> None:
        self.progress.note(f"{self.what}: {text}")
