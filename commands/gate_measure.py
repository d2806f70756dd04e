"""Two files of every case, measured side by side: neighbours in every round, until their ratio is precise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from commands import artifacts
from commands.only_one import only_one
from commands.recording import Recording
from converters.artifact import Artifact
from models.spec import Case
from reports.intervals import half_width
from reports.progress import Progress
from reports.records import RunInfo
from reports.store import Store
from reports.verdicts import compare
from runners.measurement import Failure, Measurement, Round, Timing
from runners.suite import measure
from runners.suite_events import CaseFailed, Event, RoundStarted


@dataclass(frozen=True)
class FilePair:
    """A case as the present code builds it, and the case that stands for BASE's file, each with its file."""

    now: Case
    base: Case
    now_file: Artifact
    base_file: Artifact


@dataclass
class PairedRun:
    """The measuring of one run whose cases come in pairs.

    A pair is done when the 95 % interval of its ratio is within the timing's target, so both its cases take
    the same rounds, but for one that the other may have begun.
    """

    info: RunInfo
    store: Store
    timing: Timing
    pairs: Sequence[FilePair]
    progress: Progress
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    last: str = ""

    def __post_init__(self) -> None:
        both = [(pair.now.id, pair.base.id) for pair in self.pairs]
        self.partners = {**dict(both), **{base: now for now, base in both}}
        self.files = {
            case.id: file
            for pair in self.pairs
            for case, file in ((pair.now, pair.now_file), (pair.base, pair.base_file))
        }
        self.labels = {case.id: case.label for pair in self.pairs for case in (pair.now, pair.base)}

    def go(self, *, conversion_ns: int, began_ns: int, started_at_ns: int) -> None:
        """Measure all pairs and mark the run as finished. Raises what `measure` raises, and RunBusyError."""
        jobs = {}
        for pair in self.pairs:  # BASE's file is timed as the present one is: by the case without its mark
            jobs[pair.now.id] = artifacts.job(pair.now, pair.now_file, self.timing)
            beside = artifacts.job(pair.now, pair.base_file, self.timing)
            jobs[pair.base.id] = replace(beside, case_id=pair.base.id)
        with only_one(self.store.path, self.info.run_id):
            recording = Recording(self.store, self.info, self.files)

            def commit(case_id: str, outcome: Round | Failure) -> None:
                recording.commit(case_id, outcome)
                self.last = case_id
                if isinstance(outcome, Round):
                    self.rounds.setdefault(case_id, []).append(outcome)

            with recording.time_spent("here"):
                measure(
                    jobs,
                    self.timing,
                    converged=lambda _: self._precise(),
                    commit=commit,
                    observe=self._observe,
                    groups={case_id: min(case_id, partner) for case_id, partner in self.partners.items()},
                )
        recording.end_session(began_ns=began_ns, started_at_ns=started_at_ns, conversion_ns=conversion_ns)
        self.store.finish_run(self.info.run_id)

    def _precise(self) -> bool:
        """The pair whose round was committed last."""
        both = [self.rounds.get(case_id, []) for case_id in (self.last, self.partners[self.last])]
        if not all(both):
            return False
        one, other = (Measurement(rounds[-1].protocol, tuple(rounds)) for rounds in both)
        found = compare(one, other, paired=True, force=True)
        return found is not None and half_width(found.ratio.value, found.ratio.high) <= self.timing.target

    def _observe(self, event: Event) -> None:
        if isinstance(event, CaseFailed):
            self.progress.note(f"{self.labels[event.case_id]}: {event.failure.message}")
        elif isinstance(event, RoundStarted):
            taken = sum(map(len, self.rounds.values()))
            planned = max(taken + 1, len(self.labels) * self.timing.min_rounds)
            self.progress.round(taken, planned, self.labels[event.case_id], event.round_index, event.eta_ns)
