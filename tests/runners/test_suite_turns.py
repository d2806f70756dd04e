"""Which cases of a suite take turns with each other, and what a round of several means for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from runners import suite
from runners.measurement import Failure, Job, Phases, Protocol, Round, Timing
from runners.overhead import null_job
from runners.suite_events import RoundStarted

SECOND = 1_000_000_000
PROTOCOL = Protocol("null", "null", "cpu", 1, "host", "call", "infer", "none", "none", 1)
THREE = Timing(min_rounds=2, max_rounds=3, max_seconds=1000, turn_seconds=0.06)
Ran = tuple[str, int, int]


def job(name: str, device: str = "cpu") -> Job:
    return replace(null_job(THREE, sleep_ns=0), case_id=name, device=device)


def told(asked: Job) -> Ran:
    return asked.case_id, asked.round_index, int(asked.options.get("attempt", 0))


@dataclass
class Bench:
    """A second for every job, on a clock of its own; `companies` are the jobs that ran together."""

    flagged: Sequence[Ran] = ()
    failing: Sequence[Ran] = ()
    now: int = 0
    companies: list[list[Ran]] = field(default_factory=list)
    alone: list[Ran] = field(default_factory=list)
    committed: dict[str, list[Round | Failure]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    def outcome(self, asked: Job) -> Round | Failure:
        self.now += SECOND
        ran = told(asked)
        if ran in self.failing:
            return Failure("crashed", "gone")
        samples = np.array([1000], dtype=np.int64)
        place = (asked.round_index, asked.position, ran[2])
        flags = ("disturbed",) if ran in self.flagged else ()
        return Round(*place, PROTOCOL, 1, samples, samples, True, 0.0, Phases(), 0, flags=flags)

    def run(self, asked: Job, following: Job | None) -> Round | Failure:
        self.alone.append(told(asked))
        return self.outcome(asked)

    def run_together(self, jobs: Sequence[Job]) -> list[Round | Failure]:
        self.companies.append([told(asked) for asked in jobs])
        return [self.outcome(asked) for asked in jobs]

    def measure(
        self,
        jobs: Sequence[Job],
        timing: Timing = THREE,
        *,
        groups: Mapping[str, str] | None = None,
        converged: Callable[[Sequence[Round]], bool] = lambda rounds: False,
    ) -> suite.SuiteResult:
        def observe(event: suite.Event) -> None:
            if isinstance(event, RoundStarted):
                self.started.append(event.case_id)

        return suite.measure(
            {one.case_id: one for one in jobs},
            timing,
            converged=converged,
            commit=lambda case_id, outcome: self.committed.setdefault(case_id, []).append(outcome),
            observe=observe,
            clock=lambda: self.now,
            run=self.run,
            groups=groups,
            run_together=self.run_together,
        )

    def names(self) -> list[str]:
        return ["".join(sorted(name for name, _, _ in company)) for company in self.companies]


def test_the_cases_of_a_comparison_take_turns_and_others_do_not():
    bench = Bench()
    groups = {"a": "one", "b": "one", "c": "other", "d": "other", "e": "third"}
    result = bench.measure([job(name) for name in "abcde"], groups=groups)
    assert sorted(bench.names()) == sorted(["ab", "cd", "e"] * 3)
    assert not bench.alone
    assert set(result.reasons.values()) == {"max_rounds"}
    assert sorted(bench.started) == sorted("abcde" * 3)


def test_without_turns_every_case_has_its_round_alone():
    bench = Bench()
    bench.measure([job("a"), job("b")], replace(THREE, turn_seconds=0.0))
    assert len(bench.alone) == 6
    assert not bench.companies


def test_a_gpu_takes_no_turns():
    bench = Bench()
    bench.measure([job("a", "cuda"), job("b", "cuda"), job("c"), job("d")])
    assert {name for name, _, _ in bench.alone} == {"a", "b"}
    assert {name for company in bench.companies for name, _, _ in company} == {"c", "d"}


def test_no_more_are_in_memory_at_once_than_is_said():
    bench = Bench()
    names = [f"case{number:02}" for number in range(2 * suite.MOST_TOGETHER + 1)]
    bench.measure([job(name) for name in names])
    sizes = [len(company) for company in bench.companies]
    assert max(sizes) == suite.MOST_TOGETHER
    assert sum(sizes) == 3 * len(names)


def test_a_disturbed_company_is_taken_again_as_a_whole():
    """What is compared are windows next to each other: one alone, later, would have none beside it."""
    bench = Bench(flagged=[("a", 1, 0)])
    bench.measure([job("a"), job("b")])
    assert [sorted(company) for company in bench.companies] == [
        [("a", 0, 0), ("b", 0, 0)],
        [("a", 1, 0), ("b", 1, 0)],
        [("a", 1, 1), ("b", 1, 1)],
        [("a", 2, 0), ("b", 2, 0)],
    ]


def test_a_repeat_that_does_not_fit_into_the_budget_is_left_out():
    bench = Bench(flagged=[("a", 0, 0)])
    result = bench.measure([job("a"), job("b")], replace(THREE, max_seconds=5.0))
    assert [len(company) for company in bench.companies] == [2, 2]
    assert set(result.reasons.values()) == {"budget"}


def test_a_case_that_fails_leaves_the_others_their_rounds():
    bench = Bench(failing=[("b", 1, 0)])
    result = bench.measure([job(name) for name in "abc"])
    assert bench.names() == ["abc", "abc", "ac"]
    assert result.reasons == {"a": "max_rounds", "b": "failed", "c": "max_rounds"}
    assert [type(outcome) for outcome in bench.committed["b"]] == [Round, Failure]


def test_all_rounds_of_a_company_are_recorded_before_any_case_is_done():
    """A comparison is judged when both sides of its last round are there."""
    bench, seen = Bench(), []

    def converged(rounds: Sequence[Round]) -> bool:
        seen.append({name: len(found) for name, found in bench.committed.items()})
        return True

    bench.measure([job("a"), job("b")], converged=converged)
    assert seen == [{"a": 2, "b": 2}] * 2
    assert len(bench.companies) == 2


def test_turns_end_with_the_budget():
    bench = Bench()
    result = bench.measure([job("a"), job("b")], replace(THREE, max_rounds=100, max_seconds=7.0))
    assert [len(company) for company in bench.companies] == [2, 2, 2]
    assert set(result.reasons.values()) == {"budget"}


def test_a_busy_device_is_no_failure_of_a_case():
    bench = Bench()

    def busy(jobs: Sequence[Job]) -> list[Round | Failure]:
        return [Failure("unavailable", "held", detail={"holder_pid": 1}) for _ in jobs]

    bench.run_together = busy  # type: ignore[method-assign]
    with pytest.raises(suite.DeviceBusyError):
        bench.measure([job("a"), job("b")])
    assert not bench.committed
