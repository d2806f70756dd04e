"""The instrument tried on this machine: equal cases, and others slowed down by a known share, in one suite.

A trial is a run of the real scheduler, with real processes and a real store; only the slow-down, a busy wait
after each inference, is artificial. `selftest` makes one trial, `make validate` many.

A wait leaves caches and memory to themselves, and the inference after it takes another time than one that
follows at once, by 0.1 to 0.3 % either way (docs/decisions/0006-known-slow-downs.md). So all cases wait, and
the slower ones longer: then nothing but the length differs.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError, artifacts
from converters.artifact import Artifact, ConversionFailure
from converters.cache_use import keys_of
from converters.pool import DEADLINE_SECONDS
from models.spec import Case, ModelSpec, sorted_options
from reports.rounds import paired_logs, round_logs
from reports.store import Store
from reports.verdicts import Comparison, compare
from runners import availability, backend_info, suite
from runners.measurement import Failure, Job, Measurement, Round, Timing
from runners.overhead import median_ns, null_job
from runners.process import run_job
from runners.suite_events import Event

if TYPE_CHECKING:
    from reports.progress import Progress

BLOCK = ModelSpec.of("block/ncb", resolution=14, in_channels=384)
NULL_SLEEP_NS = 2_000_000
POWER = 0.8
PILOTS = 3
WAIT_OF_ALL = 0.05  # of an inference's time


class TrialError(RuntimeError):
    """A case of a trial failed, so there is nothing to compare; the message is the failure's."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a case, its file and its job; `typical_ns` is an inference's time in a pilot."""

    case: Case
    artifact: Artifact | None
    job: Job
    typical_ns: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A case of a trial: a copy of the subject that waits longer than others, by `slowdown` of its time."""

    name: str
    slowdown: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial stored, by the variants' names; each waits by `waits_ns` longer than the equal ones, which
    wait for `least_ns`."""

    measurements: Mapping[str, Measurement]
    waits_ns: Mapping[str, int]
    least_ns: int = 0

    @property
    def copies(self) -> list[str]:
        """The names of those that are equal."""
        return [name for name in self.measurements if not self.waits_ns[name]]

    @property
    def slowed(self) -> list[str]:
        return [name for name in self.measurements if self.waits_ns[name]]

    @property
    def typical_ns(self) -> float:
        """Time of one inference of the equal ones, without their wait."""
        logs = [log for name in self.copies for log in round_logs(self.measurements[name]).values()]
        return math.exp(statistics.fmean(logs)) - self.least_ns

    def true_ratio(self, name: str) -> float:
        """How much longer a slowed one takes than the equal ones, by construction."""
        return 1.0 + self.waits_ns[name] / (self.typical_ns + self.least_ns)

    def equal_pairs(self, *, delta: float) -> list[Comparison]:
        """Every pair of equal ones, compared; a pair without a common round is left out."""
        pairs = itertools.combinations(self.copies, 2)
        found = [self.compared(one, other, delta=delta) for one, other in pairs]
        return [comparison for comparison in found if comparison is not None]

    def compared(self, name: str, against: str, *, delta: float) -> Comparison | None:
        """Time of one over that of another; a busy wait is in the protocol, hence the force."""
        left, right = self.measurements[name], self.measurements[against]
        return compare(left, right, delta=delta, paired=True, force=True)


def needed_keys(backend: str) -> set[str]:
    """The artifacts that a trial on this backend needs. Raises UsageError as `subject` does."""
    from commands.plan import request_of

    _check_backend(backend)
    return keys_of([request_of(_case(backend))]) if backend != "null" else set()


def _case(backend: str) -> Case:
    return Case(BLOCK, backend, precision=backend_info(backend).precisions[0])


def subject(
    backend: str,
    cache_root: Path,
    timing: Timing,
    progress: Progress,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Subject:
    """The subject of a trial: the focus block of the suites, or for `null` a sleep of 2 ms.

    Raises UsageError for a backend whose time does not pass on the host's clock, TrialError where its file
    cannot be made or does not run.
    """
    _check_backend(backend)
    case = _case(backend)
    if backend == "null":
        job = replace(null_job(timing, sleep_ns=NULL_SLEEP_NS), case_id=case.id)
        return Subject(case, None, job, _pilot(job))
    from commands.plan import request_of

    requests = {case.id: request_of(case)}
    (outcome,) = artifacts.collect(requests, cache_root, progress, deadline_seconds=deadline_seconds).values()
    if isinstance(outcome, ConversionFailure):
        raise TrialError(f"{case.label}: {outcome.message}")
    job = artifacts.job(case, outcome, timing)
    return Subject(case, outcome, job, _pilot(job))


def take(
    subject: Subject,
    variants: Sequence[Variant],
    timing: Timing,
    store: Store,
    *,
    converged: suite.Converged,
    observe: Callable[[Event, str], None] = lambda event, name: None,
) -> Trial:
    """Measures the variants as cases of one suite; `observe` is told the variant's name with every event.

    Raises TrialError where one fails or has no round when the budget ends, DeviceBusyError as a suite does.
    """
    least_ns = round(WAIT_OF_ALL * subject.typical_ns)
    waits_ns = {v.name: round(v.slowdown * subject.typical_ns) for v in variants}
    cases = {
        v.name: replace(
            subject.case, runtime=sorted_options({"copy": place, "busy_wait_ns": least_ns + waits_ns[v.name]})
        )
        for place, v in enumerate(variants)
    }
    names = {case.id: name for name, case in cases.items()}
    info = store.begin_run(
        suite="selftest",
        plan_digest="",
        seed=timing.seed,
        command="selftest",
        config={"timing": asdict(timing)},
        environment={},
        cases=list(cases.values()),
    )

    def commit(case_id: str, outcome: Round | Failure) -> None:
        if isinstance(outcome, Failure):
            raise TrialError(f"{names[case_id]}: {outcome.message}. {outcome.advice}")
        store.append(info.run_id, case_id, outcome, artifact=subject.artifact)

    suite.measure(
        {case.id: _job(subject.job, case, least_ns + waits_ns[name]) for name, case in cases.items()},
        timing,
        converged=converged,
        commit=commit,
        observe=lambda event: observe(event, names[event.case_id]),
        groups=dict.fromkeys(names, "trial"),
    )
    results = store.load_run(info.run_id).results
    measured = {names[r.case.id]: r.measurement for r in results if r.measurement is not None}
    if len(measured) < len(variants):
        raise TrialError(f"{timing.max_seconds:g} s ended before every case had a round: give it more time")
    return Trial(measured, waits_ns, least_ns)


def paired_spread(trial: Trial) -> float | None:
    """Standard deviation of the log ratio of two cases in one pass, from all pairs of the trial.

    What a case is slower than the other by does not count. It is that of inferences alone: the wait that all
    have has no noise, and so less of it is in their times. None where no pair has two common passes.
    """
    pairs = itertools.combinations(trial.measurements.values(), 2)
    logs = [found for one, other in pairs if len(found := paired_logs(one, other)) > 1]
    if not logs:
        return None
    share = 1.0 + trial.least_ns / trial.typical_ns
    return share * math.sqrt(statistics.fmean(statistics.variance(found) for found in logs))


def noise_floor(spread: float | None, rounds: int) -> float | None:
    """The smallest difference that so many pairs of rounds find in 80 of 100 tries, as a share.

    At that difference the 95 % interval of the ratio excludes 1 with that chance. None where the spread is
    not known.
    """
    if rounds < 2 or spread is None:
        return None
    from scipy.special import stdtrit

    degrees = rounds - 1
    reach = float(stdtrit(degrees, 0.975)) + float(stdtrit(degrees, POWER))
    return math.expm1(reach * spread / math.sqrt(rounds))


def rounds_until_converged(measurement: Measurement, timing: Timing, converged: suite.Converged) -> int:
    """After how many of these rounds a suite would have stopped; at most `max_rounds`, reached or not."""
    indices = sorted({taken.round_index for taken in measurement.rounds})
    for count in range(timing.min_rounds, min(len(indices), timing.max_rounds) + 1):
        kept = set(indices[:count])
        if converged([taken for taken in measurement.rounds if taken.round_index in kept]):
            return count
    return timing.max_rounds


def _check_backend(backend: str) -> None:
    from models.tables import UnknownNameError

    try:
        info = backend_info(backend)
    except UnknownNameError as error:
        raise UsageError(f"--backend: {error}") from None
    if "cpu" not in info.devices or backend == "simulated":
        raise UsageError(f"--backend {backend}: its time does not pass on this machine's clock; name another")
    reason = availability(backend, "cpu") if info.real else None
    if reason:
        raise UsageError(f"--backend {backend}: {reason}")


def _pilot(job: Job) -> float:
    """Of a few short rounds, as a single one may be off by some percent."""
    found = []
    for index in range(PILOTS):
        outcome = run_job(replace(job, round_index=index))
        if isinstance(outcome, Failure):
            raise TrialError(f"{outcome.message}. {outcome.advice}")
        found.append(median_ns(outcome))
    return statistics.median(found)


def _job(job: Job, case: Case, wait_ns: int) -> Job:
    return replace(job, case_id=case.id, options={**job.options, "busy_wait_ns": wait_ns})
