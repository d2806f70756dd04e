"""The work of `match`: a search for each network, one run with all that were found, and their trainings.

The run is stored as soon as the search has ended, with what it found, and is finished when every training is
done. Until then the same command goes on with it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from commands import artifacts
from commands.latency_beside import NoRatioError
from commands.match_files import MatchFiles
from commands.match_request import MatchRequest
from commands.match_search import MatchSearch
from commands.match_training import Training, Trainings, surroundings, training_digest
from commands.only_one import only_one
from commands.plan import request_of
from commands.recording import Recording
from commands.resuming import goes_on, same_files, taken
from converters.artifact import Artifact, ConversionFailure
from converters.keys import cache_key
from models.spec import Case, digest
from reports import formatting as fmt
from reports.match_found import MATCH, FoundNetwork, MatchFound, found_of
from reports.matched import Matched
from reports.matched_run import failures_of, matched_of, title, title_of
from reports.progress import Progress
from reports.records import RunInfo, StoredRun
from reports.store import Store
from runners import environment
from runners.sources import runner_sources
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
    """One invocation's work on one stored run; `fresh` takes nothing over that is stored.

    `command` is its command line, `began_ns` when it began by `time.perf_counter_ns`.
    """

    request: MatchRequest
    store: Store
    files: MatchFiles
    progress: Progress
    command: str
    began_ns: int
    fresh: bool = False
    recording: Recording | None = None
    spent_ns: dict[str, int] = field(default_factory=dict)
    started_at_ns: int = field(default_factory=time.time_ns)

    def go(self) -> Outcome:
        """Raises CacheError, StoreError, DeviceBusyError and RunBusyError."""
        machine = environment.describe_machine()
        around = surroundings() if self.request.recipes else {}
        plan = plan_digest(self.request, machine, around)
        known = None if self.fresh else self.store.find_run(plan)
        if known is None:
            with self._timed("search_ns"):
                found, cases = self._searched(around)
            if not found.networks[1:]:
                return self._without_a_run(found)
            info = self._begin(plan, machine, found, cases)
        else:
            info = self._going_on(plan, machine, known)
        with only_one(self.store.path, info.run_id):
            failures = self._work(info)
        run = self.store.load_run(info.run_id)
        failures = {**self._short(run), **failures_of(run), **failures}
        return Outcome(matched_of(run), failures, run, title_of(run))

    def _searched(self, around: Mapping[str, Any]) -> tuple[MatchFound, list[Case]]:
        """What the search found, and the cases of it: the reference's, and those of every other network."""
        request, search = self.request, MatchSearch(self.request, self.files, self.progress)
        cases, networks = [request.reference], []
        networks.append(self._network(request.reference, request.reference_setting, around))
        failures: dict[str, str] = {}
        for model in request.models:
            try:
                setting, finding = search.setting_of(model)
            except NoRatioError as error:
                failures[model] = str(error)
                continue
            case = request.case(model, setting)
            network = self._network(case, setting.value, around)
            cases.append(case)
            networks.append(replace(network, finding=finding, fine=setting.fine))
        seeds, epochs = len(request.recipes), request.recipes[0].epochs if request.recipes else 0
        found = MatchFound(request.knob, request.tolerance, tuple(networks), seeds, epochs, failures)
        return found, cases

    def _network(self, case: Case, setting: int, around: Mapping[str, Any]) -> FoundNetwork:
        learned = tuple(training_digest(case.model, recipe, around) for recipe in self.request.recipes)
        return FoundNetwork(case.id, setting, trainings=learned)

    def _without_a_run(self, found: MatchFound) -> Outcome:
        """Where no network could be searched there is nothing to compare."""
        request, reference = self.request, self.request.reference
        only = Matched(
            reference.model.name, request.knob, request.reference_setting, "", None, is_reference=True
        )
        told = title(request.suite, request.tolerance, reference.label)
        return Outcome((only,), dict(found.failures), None, told)

    def _begin(self, plan: str, machine: Mapping[str, Any], found: MatchFound, cases: list[Case]) -> RunInfo:
        timing = self.request.last_timing
        return self.store.begin_run(
            suite=self.request.suite,
            plan_digest=plan,
            seed=timing.seed,
            command=self.command,
            config={"timing": asdict(timing), "focus": "", MATCH: found.to_dict()},
            environment=machine,
            cases=cases,
        )

    def _going_on(self, plan: str, machine: Mapping[str, Any], info: RunInfo) -> RunInfo:
        """The stored run; or a new one with what its search found, where a case failed or its file changed.

        What is measured later than the others has no neighbours to be compared with.
        """
        stored = self.store.load_run(info.run_id)
        if info.finished_at_ns is None:
            self.progress.note(f"resuming run {info.run_id}")
        if self._is_measured(stored):
            return info
        cases = [result.case for result in stored.results]
        failed = any(result.failure for result in stored.results)
        if not failed and same_files(stored, {case.id: self.files.of(case) for case in cases}):
            return info
        found = found_of(info)
        assert found is not None
        why = "a network failed in it" if failed else "its files are other ones now"
        self.progress.note(f"run {info.run_id}: {why}: what it found is measured again")
        return self._begin(plan, machine, found, cases)

    def _is_measured(self, stored: StoredRun) -> bool:
        """Have all cases their rounds?"""
        return all(not r.failure and taken(r) >= self.request.rounds for r in stored.results)

    def _work(self, info: RunInfo) -> dict[str, str]:
        """What the run lacks: rounds, then trainings. Why trainings failed, by network."""
        stored = self.store.load_run(info.run_id)
        measured = self._is_measured(stored)
        if measured and info.finished_at_ns is not None:
            self._tell_finished(stored)
            return {}
        made = {} if measured else {r.case.id: self.files.of(r.case) for r in stored.results}
        files = {case_id: outcome for case_id, outcome in made.items() if isinstance(outcome, Artifact)}
        self.recording = Recording(self.store, info, files)
        if not measured:
            self._measure(self.recording, made)
        with self._timed("training_ns"):
            failures = self._train(self.recording)
        self._end_session()
        if self._is_done(self.store.load_run(info.run_id)):
            self.store.finish_run(info.run_id)
        return failures

    def _measure(self, recording: Recording, made: Mapping[str, Artifact | ConversionFailure]) -> None:
        """All in turns with each other, so that every ratio is of neighbours."""
        cases = [result.case for result in recording.stored.results]
        jobs = {}
        for case in cases:
            outcome = made[case.id]
            if isinstance(outcome, ConversionFailure):
                recording.note(case.id, artifacts.as_failure(outcome))
            else:
                jobs[case.id] = artifacts.job(case, outcome, self.request.last_timing)
        labels = {case.id: case.label for case in cases}
        begun = sum(taken(result) for result in recording.stored.results)

        def observe(event: Event) -> None:
            nonlocal begun
            if isinstance(event, RoundStarted):
                begun += 1
                planned = max(begun, self.request.rounds * len(cases))  # disturbed rounds are taken again
                label = labels[event.case_id]
                self.progress.round(begun - 1, planned, label, event.round_index, event.eta_ns)

        recording.measure(jobs, self.request.last_timing, observe=observe, cases=tuple(cases))

    def _train(self, recording: Recording) -> dict[str, str]:
        """With a seed after the other, so that a run that is ended early has as many of every network."""
        found, stored = found_of(recording.info), recording.stored
        assert found is not None
        models = {result.case.id: result.case.model for result in stored.results}
        wanted = [
            Training(models[network.case_id], recipe, network.trainings[index])
            for index, recipe in enumerate(self.request.recipes)
            for network in found.networks
        ]
        known = {} if self.fresh else {one.file.training: one for one in stored.trainings}
        seconds = self.files.deadline_seconds
        return Trainings(self.store, self.progress, self.command, seconds).learn(wanted, known)

    def _is_done(self, stored: StoredRun) -> bool:
        """Has every case its rounds, or a failure, and is every training there?"""
        least = self.request.rounds
        return all(r.failure or taken(r) >= least for r in stored.results) and not any(
            len(each.top1) < each.trainings for each in matched_of(stored)
        )

    def _short(self, run: StoredRun) -> dict[str, str]:
        """The networks that the budget left without all their rounds."""
        least, budget = self.request.rounds, self.request.timing.max_seconds
        return {
            r.case.model.name: f"{taken(r)} of {least} rounds: the budget of {budget:g} s ended before;"
            " the same command adds them"
            for r in run.results
            if not r.failure and taken(r) < least
        }

    def _tell_finished(self, stored: StoredRun) -> None:
        when = fmt.moment(stored.info.started_at_ns)
        trainings = sum(each.trainings for each in matched_of(stored))
        print(
            f"run {stored.info.run_id} of {when} holds {fmt.count(len(stored.results), 'network')} and"
            f" {fmt.count(trainings, 'training')}: shown from the store; --fresh makes all of it again",
            file=sys.stderr,
        )

    def interrupted(self) -> str:
        """What to tell after an interrupt: what is stored."""
        if self.recording is None:
            return "interrupted while searching: a search begins anew, with the files that are converted"
        self._end_session()
        stored = self.store.load_run(self.recording.info.run_id)
        rounds = sum(len(result.rounds) for result in stored.results)
        learned = sum(len(each.top1) for each in matched_of(stored))
        stored_now = f"{fmt.count(rounds, 'round')} and {fmt.count(learned, 'training')} are stored"
        return f"interrupted: {stored_now}; {goes_on(self.fresh)}"

    def _end_session(self) -> None:
        assert self.recording is not None
        self.recording.end_session(
            began_ns=self.began_ns, started_at_ns=self.started_at_ns, spent_ns=self.spent_ns
        )

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begun_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self.spent_ns[part] = time.perf_counter_ns() - begun_ns


def plan_digest(request: MatchRequest, machine: Mapping[str, Any], around: Mapping[str, Any]) -> str:
    """What a stored run must share to be gone on with: what is asked, on this machine, with these tools.

    `around` are the surroundings of trainings. The files' keys hold the toolchain and what converts; those of
    the ends of the search stand for all between.
    """
    asked = {
        "suite": request.suite,
        "reference": request.reference.id,
        "models": list(request.models),
        "settings": [request.knob, [request.settings[0], request.settings[-1]]],
        "fine": asdict(request.fine) | {"settings": [*request.fine.settings]} if request.fine else {},
        "tolerance": request.tolerance,
        "timing": asdict(request.last_timing),
        "recipes": [recipe.model_dump() for recipe in request.recipes],
    }
    keys = {case.id: cache_key(request_of(case)) for case in request.ends()}
    versions = [machine["packages"], machine["gpus"], runner_sources()]
    return digest(["match", asked, keys, machine["fingerprint"], versions, dict(around)])
