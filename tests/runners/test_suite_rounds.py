"""Interleaving, stopping, budget, failures and resuming of a suite, on synthetic and on real processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from runners import schedule, suite
from runners.measurement import Failure, Job, Phases, Protocol, Round, Timing

MakeJob = Callable[..., Job]
SECOND = 1_000_000_000
PROTOCOL = Protocol("simulated", "r", "cpu", 1, "virtual", "", "", "", "", 0)


def job(case_id: str) -> Job:
    return Job(case_id, "simulated", "cpu", 1, "", "fp32", Path("a"), "", Path("t"), 0.1, Timing(), 0, 0)


def taken(round_index: int, position: int = 0, seconds: float = 1.0) -> Round:
    samples = np.array([1000], dtype=np.int64)
    spent = Phases(warmup_ns=SECOND // 10, timed_ns=SECOND // 2, process_ns=round(seconds * SECOND))
    return Round(round_index, position, 0, PROTOCOL, 1, samples, samples, True, 0.0, spent, 0)


@dataclass
class Bench:
    """Runs jobs on a clock of its own; `seconds` and `failures` say what each case does."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[tuple[str, int], Failure] = field(default_factory=dict)
    now: int = 0
    ran: list[tuple[str, int, int]] = field(default_factory=list)
    committed: list[tuple[str, Round | Failure]] = field(default_factory=list)
    events: list[suite.Event] = field(default_factory=list)
    announced: list[str | None] = field(default_factory=list)

    def run(self, job: Job, following: Job | None) -> Round | Failure:
        self.announced.append(following.case_id if following else None)
        seconds = self.seconds.get(job.case_id, 1.0)
        self.now += round(seconds * SECOND)
        self.ran.append((job.case_id, job.round_index, job.position))
        failure = self.failures.get((job.case_id, job.round_index))
        return failure or taken(job.round_index, job.position, seconds)

    def measure(
        self,
        names: Sequence[str],
        timing: Timing,
        *,
        converged: Callable[[Sequence[Round]], bool] = lambda rounds: True,
        done: Mapping[str, Sequence[Round]] | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> suite.SuiteResult:
        return suite.measure(
            {name: job(name) for name in names},
            timing,
            converged=converged,
            commit=lambda case_id, outcome: self.committed.append((case_id, outcome)),
            done=done,
            observe=self.events.append,
            clock=lambda: self.now,
            run=self.run,
            groups=groups,
        )

    def rounds_of(self, name: str) -> list[int]:
        return [index for case_id, index, _ in self.ran if case_id == name]


LONG = Timing(min_rounds=3, max_rounds=6, max_seconds=1e6)


def test_rounds_are_interleaved_in_the_scheduled_order() -> None:
    bench = Bench()
    bench.measure("abcd", replace(LONG, seed=5))
    expected = [
        (case_id, index, position)
        for index in range(3)
        for position, case_id in enumerate(schedule.Order(tuple("abcd"), 5).of(index))
    ]
    assert bench.ran == expected
    assert [case_id for case_id, _ in bench.committed] == [case_id for case_id, _, _ in expected]


def test_only_cases_that_are_not_precise_go_on() -> None:
    """Convergence is asked about only after min_rounds."""
    bench, asked = Bench(), []

    def converged(rounds: Sequence[Round]) -> bool:
        asked.append(len(rounds))
        return len(rounds) >= 5 or bench.ran[-1][0] == "a"

    result = bench.measure("abc", LONG, converged=converged)
    assert bench.rounds_of("a") == [0, 1, 2]
    assert bench.rounds_of("b") == bench.rounds_of("c") == [0, 1, 2, 3, 4]
    assert min(asked) == 3
    assert set(result.reasons.values()) == {"converged"}
    assert result.not_converged == ()


def test_case_that_never_converges_stops_at_max_rounds() -> None:
    bench = Bench()
    result = bench.measure("ab", LONG, converged=lambda rounds: False)
    assert bench.rounds_of("a") == list(range(6))
    assert result.reasons == {"a": "max_rounds", "b": "max_rounds"}
    assert result.not_converged == ("a", "b")


def test_budget_ends_all_with_what_they_have() -> None:
    bench = Bench()
    result = bench.measure(
        "abc", replace(LONG, max_rounds=100, max_seconds=10.0), converged=lambda rounds: False
    )
    assert bench.now <= 10 * SECOND
    assert len(bench.ran) == 10
    assert set(result.reasons.values()) == {"budget"}
    assert all(len(bench.rounds_of(name)) >= 3 for name in "abc")


def test_budget_smaller_than_min_rounds_gives_first_rounds_to_all_first() -> None:
    bench = Bench()
    result = bench.measure("abcd", replace(LONG, max_seconds=6.0))
    assert [len(bench.rounds_of(name)) for name in "abcd"].count(0) == 0
    assert len(bench.ran) == 6
    assert set(result.not_converged) == set("abcd")


def test_slow_case_that_no_longer_fits_leaves_the_rest_to_the_quick_ones() -> None:
    bench = Bench(seconds={"slow": 8.0, "quick": 0.5})
    result = bench.measure(
        ["slow", "quick"], replace(LONG, max_rounds=5, max_seconds=12.0), converged=lambda r: False
    )
    assert bench.rounds_of("slow") == [0]
    assert bench.rounds_of("quick") == [0, 1, 2, 3, 4]
    assert result.reasons == {"slow": "budget", "quick": "max_rounds"}


def test_no_budget_at_all_measures_nothing_and_says_so() -> None:
    bench = Bench()
    bench.now = 1
    result = bench.measure("ab", replace(LONG, max_seconds=-1.0))
    assert bench.ran == []
    assert result.reasons == {"a": "budget", "b": "budget"}


def test_failure_costs_its_own_case_only() -> None:
    broken = Failure("crashed", "SIGSEGV", signal=11, detail={"process_ns": SECOND})
    bench = Bench(failures={("b", 1): broken})
    result = bench.measure("abc", LONG)
    assert bench.rounds_of("b") == [0, 1]
    assert bench.rounds_of("a") == bench.rounds_of("c") == [0, 1, 2]
    assert result.reasons == {"a": "converged", "b": "failed", "c": "converged"}
    assert [o for c, o in bench.committed if c == "b"][-1] is broken
    assert [e.failure for e in bench.events if isinstance(e, suite.CaseFailed)] == [broken]


def test_all_cases_may_fail() -> None:
    broken = Failure("load", "no")
    bench = Bench(failures={(name, 0): broken for name in "abc"})
    assert set(bench.measure("abc", LONG).reasons.values()) == {"failed"}
    assert len(bench.ran) == 3


def test_no_cases_is_no_work() -> None:
    assert Bench().measure([], LONG).reasons == {}


def test_resuming_takes_only_what_is_missing_in_the_same_order() -> None:
    whole = Bench()
    whole.measure("abc", LONG)
    for cut in range(len(whole.ran) + 1):
        done: dict[str, list[Round]] = {}
        for case_id, outcome in whole.committed[:cut]:
            assert isinstance(outcome, Round)
            done.setdefault(case_id, []).append(outcome)
        rest = Bench()
        result = rest.measure("abc", LONG, done=done)
        assert rest.ran == whole.ran[cut:]
        assert result.reasons == dict.fromkeys("abc", "converged")


def test_resuming_counts_earlier_rounds_for_precision() -> None:
    bench, seen = Bench(), []

    def converged(rounds: Sequence[Round]) -> bool:
        seen.append([r.round_index for r in rounds])
        return len(rounds) >= 5

    bench.measure("a", LONG, done={"a": [taken(0), taken(1), taken(2)]}, converged=converged)
    assert bench.rounds_of("a") == [3, 4]
    assert seen == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_done_rounds_are_not_changed_in_place() -> None:
    done = {"a": [taken(0)]}
    Bench().measure("a", LONG, done=done)
    assert len(done["a"]) == 1


def test_events_come_in_order_with_a_falling_estimate() -> None:
    bench = Bench()
    bench.measure("ab", LONG)
    names = [type(event).__name__ for event in bench.events]
    assert names[:4] == ["RoundStarted", "RoundFinished", "RoundStarted", "RoundFinished"]
    assert names.count("CaseFinished") == 2
    etas = [e.eta_ns for e in bench.events if isinstance(e, suite.RoundFinished)]
    assert bench.events[0].eta_ns is None  # type: ignore[union-attr]
    assert etas == [5 * SECOND, 4 * SECOND, 3 * SECOND, 2 * SECOND, 2 * SECOND, SECOND]


def test_estimate_never_exceeds_what_is_left_of_the_budget() -> None:
    bench = Bench()
    timing = replace(LONG, min_rounds=50, max_rounds=50, max_seconds=9.0)
    bench.measure("ab", timing)
    for event in bench.events:
        if isinstance(event, suite.RoundFinished):
            assert event.eta_ns is not None
            assert 0 <= event.eta_ns <= 9 * SECOND - event.elapsed_ns


def test_ledger_adds_up() -> None:
    broken = Failure("crashed", "x", detail={"process_ns": SECOND})
    bench = Bench(failures={("a", 0): broken})
    ledger = bench.measure("ab", LONG).ledger
    assert ledger.processes == 4
    assert ledger.wall_ns == 4 * SECOND
    assert ledger.phases.process_ns == 4 * SECOND
    assert ledger.parent_ns == 0
    assert ledger.harness_ns == 4 * SECOND - 3 * (SECOND // 10 + SECOND // 2)
    assert abs(ledger.harness_share - 0.55) < 1e-9


def test_interrupt_leaves_only_whole_commits() -> None:
    bench = Bench()

    def run(job: Job, following: Job | None) -> Round | Failure:
        if len(bench.ran) == 4:
            raise KeyboardInterrupt
        return bench.run(job, following)

    with pytest.raises(KeyboardInterrupt):
        suite.measure(
            {name: job(name) for name in "abc"},
            LONG,
            converged=lambda rounds: True,
            commit=lambda case_id, outcome: bench.committed.append((case_id, outcome)),
            clock=lambda: bench.now,
            run=run,
        )
    assert len(bench.committed) == 4


def test_commit_that_fails_stops_the_suite() -> None:
    def commit(case_id: str, outcome: Round | Failure) -> None:
        raise OSError("disk full")

    bench = Bench()
    with pytest.raises(OSError, match="disk full"):
        suite.measure(
            {"a": job("a"), "b": job("b")}, LONG, converged=lambda r: True, commit=commit, run=bench.run
        )
    assert len(bench.ran) == 1


def test_timing_of_the_suite_reaches_the_job() -> None:
    seen: list[Timing] = []
    timing = Timing(min_rounds=1, max_rounds=1, round_seconds=0.123)

    def run(job: Job, following: Job | None) -> Round:
        seen.append(job.timing)
        return taken(0)

    suite.measure({"a": job("a")}, timing, converged=lambda r: True, commit=lambda c, o: None, run=run)
    assert seen == [timing]


def test_every_job_is_announced_before_its_turn_unless_it_may_not_come() -> None:
    bench = Bench()
    bench.measure("abc", replace(LONG, max_rounds=3))
    ran = [case_id for case_id, _, _ in bench.ran]
    pairs = list(zip(bench.announced, [*ran[1:], None], strict=True))
    assert all(told == actual for told, actual in pairs if told is not None)
    # Two rounds of one case in a row: whether the second is wanted hangs on the first.
    unknown = [i for i, (told, _) in enumerate(pairs) if told is None]
    assert unknown == [i for i, name in enumerate(ran) if i + 1 == len(ran) or ran[i + 1] == name]


def test_nothing_is_announced_that_the_budget_will_not_pay() -> None:
    bench = Bench(seconds={"a": 4.0, "b": 4.0})
    bench.measure("ab", replace(LONG, max_seconds=13.0), converged=lambda rounds: False)
    assert [name for name, _, _ in bench.ran] == ["a", "b", "a"]
    assert bench.announced == ["b", "a", None]


def test_cases_of_a_group_run_next_to_each_other() -> None:
    bench = Bench()
    bench.measure("abcdef", LONG, groups=dict(zip("abcdef", "112233", strict=True)))
    groups = [dict(zip("abcdef", "112233", strict=True))[name] for name, _, _ in bench.ran]
    assert all(groups[i] == groups[i + 1] for i in range(0, len(groups), 2))


def test_real_processes_one_of_which_crashes(simulate: MakeJob) -> None:
    timing = replace(simulate().timing, min_rounds=2, max_rounds=2)
    jobs = {
        "steady": simulate(median_ns=2e6),
        "broken": simulate(fault="segfault", fault_round=1),
        "slow": simulate(median_ns=4e6),
    }
    jobs = {case_id: replace(value, case_id=case_id) for case_id, value in jobs.items()}
    committed: list[tuple[str, Round | Failure]] = []
    result = suite.measure(
        jobs, timing, converged=lambda rounds: False, commit=lambda case_id, o: committed.append((case_id, o))
    )
    assert result.reasons == {"steady": "max_rounds", "broken": "failed", "slow": "max_rounds"}
    kinds = [type(outcome).__name__ for case_id, outcome in committed if case_id == "broken"]
    assert kinds == ["Round", "Failure"]
    assert result.ledger.processes == 6
    assert 0 < result.ledger.phases.process_ns < result.ledger.wall_ns
