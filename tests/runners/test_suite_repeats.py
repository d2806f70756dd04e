"""A disturbed round is taken once more at the end of its pass, within the budget, and never twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.rounds import counted_rounds
from runners import suite
from runners.measurement import Failure, Job, Phases, Protocol, Round, Timing
from runners.schedule import Order

SECOND = 1_000_000_000
PROTOCOL = Protocol("simulated", "r", "cpu", 1, "virtual", "", "", "", "", 0)
THREE = Timing(min_rounds=3, max_rounds=3, max_seconds=1e6)
Ran = tuple[str, int, int]  # case, round, attempt


def job(case_id: str) -> Job:
    return Job(case_id, "simulated", "cpu", 1, "", "fp32", Path("a"), "", Path("t"), 0.1, THREE, 0, 0)


@dataclass
class Bench:
    """Runs jobs of a second each on a clock of its own; `flags` tell which (case, round, attempt) get one."""

    flags: Callable[[Ran], str] = lambda ran: ""
    failures: Mapping[Ran, Failure] = field(default_factory=dict)
    now: int = 0
    ran: list[Ran] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    announced: list[Ran | None] = field(default_factory=list)
    committed: list[tuple[str, Round | Failure]] = field(default_factory=list)

    def run(self, job: Job, following: Job | None) -> Round | Failure:
        self.now += SECOND
        ran = _told(job)
        self.ran.append(ran)
        self.positions.append(job.position)
        self.announced.append(_told(following) if following else None)
        if ran in self.failures:
            return self.failures[ran]
        samples = np.array([1000], dtype=np.int64)
        flag, spent = self.flags(ran), Phases(process_ns=SECOND)
        return Round(
            *(job.round_index, job.position, ran[2], PROTOCOL, 1, samples, samples, True, 0.0, spent, 0),
            flags=(flag,) if flag else (),
        )

    def measure(
        self,
        names: Sequence[str],
        timing: Timing = THREE,
        *,
        converged: Callable[[Sequence[Round]], bool] = lambda rounds: False,
        done: Mapping[str, Sequence[Round]] | None = None,
        first_rounds: Mapping[str, int] | None = None,
    ) -> suite.SuiteResult:
        return suite.measure(
            {name: job(name) for name in names},
            timing,
            converged=converged,
            commit=lambda case_id, outcome: self.committed.append((case_id, outcome)),
            done=done,
            clock=lambda: self.now,
            run=self.run,
            first_rounds=first_rounds,
        )

    def rounds_of(self, name: str) -> list[tuple[int, int]]:
        return [(index, attempt) for case_id, index, attempt in self.ran if case_id == name]


def _told(job: Job) -> Ran:
    return job.case_id, job.round_index, int(job.options.get("attempt", 0))


def only(*disturbed: Ran) -> Callable[[Ran], str]:
    return lambda ran: "disturbed" if ran in disturbed else ""


def test_a_disturbed_round_is_taken_again_at_the_end_of_its_pass() -> None:
    bench = Bench(only(("b", 1, 0)))
    result = bench.measure("abc")
    assert bench.ran.count(("b", 1, 1)) == 1
    assert bench.ran[6] == ("b", 1, 1)
    assert [index for _, index, _ in bench.ran] == [0] * 3 + [1] * 4 + [2] * 3
    assert bench.positions[6] == 3 + Order(tuple("abc"), 0).of(1).index("b")
    stored = [o for name, o in bench.committed if name == "b" and isinstance(o, Round)]
    assert [(r.round_index, r.attempt, r.flags) for r in stored] == [
        (0, 0, ()), (1, 0, ("disturbed",)), (1, 1, ()), (2, 0, ()),
    ]  # fmt: skip
    assert [(r.round_index, r.attempt) for r in counted_rounds(stored)] == [(0, 0), (1, 1), (2, 0)]
    assert set(result.reasons.values()) == {"max_rounds"}


def test_a_throttled_round_is_taken_again_and_a_noisy_one_is_not() -> None:
    bench = Bench(lambda ran: {0: "throttled", 1: "not_steady"}.get(ran[1], "") if not ran[2] else "")
    bench.measure("a")
    assert bench.rounds_of("a") == [(0, 0), (0, 1), (1, 0), (2, 0)]


def test_a_machine_that_is_always_disturbed_gets_every_round_twice_and_ends() -> None:
    bench = Bench(lambda ran: "disturbed")
    result = bench.measure("ab")
    assert len(bench.ran) == len(set(bench.ran)) == 2 * 3 * 2
    assert set(result.reasons.values()) == {"max_rounds"}


def test_a_case_is_not_done_before_its_last_round_was_taken_again() -> None:
    seen = []

    def converged(rounds: Sequence[Round]) -> bool:
        seen.append([(r.round_index, r.attempt) for r in rounds])
        return True

    bench = Bench(only(("a", 2, 0)))
    assert bench.measure("a", converged=converged).reasons == {"a": "converged"}
    assert seen == [[(0, 0), (1, 0), (2, 0), (2, 1)]]


def test_repeats_never_take_the_time_that_first_rounds_need() -> None:
    """Six rounds are wanted; the budget holds seven, so one repeat at the end of all."""
    bench = Bench(lambda ran: "" if ran[2] else "disturbed")
    bench.measure("ab", replace(THREE, max_seconds=7.0))
    assert [len({index for index, _ in bench.rounds_of(name)}) for name in "ab"] == [3, 3]
    assert sum(attempt for _, _, attempt in bench.ran) == 1
    assert bench.now <= 7 * SECOND


@given(st.integers(4, 30), st.integers(0, 2**20), st.integers(1, 4))
@settings(deadline=None)
def test_the_budget_bounds_everything_and_first_rounds_come_first(
    seconds: int, seed: int, cases: int
) -> None:
    random = np.random.default_rng(seed)
    bench = Bench(lambda ran: "disturbed" if random.random() < 0.5 else "")
    names = "abcd"[:cases]
    bench.measure(names, replace(THREE, max_seconds=float(seconds), seed=seed))
    assert bench.now <= seconds * SECOND
    assert len(bench.ran) == len(set(bench.ran))
    assert len({ran[:2] for ran in bench.ran}) == min(seconds, 3 * cases)
    assert all((name, index, 0) in bench.ran for name, index, _ in bench.ran)


def test_going_on_takes_what_is_missing_and_repeats_nothing_twice() -> None:
    def flags(ran: Ran) -> str:
        return "disturbed" if (ran[0], ran[1]) in {("a", 0), ("b", 1), ("c", 1), ("a", 2)} else ""

    whole = Bench(flags)
    whole.measure("abc")
    for cut in range(len(whole.ran) + 1):
        done: dict[str, list[Round]] = {}
        for name, outcome in whole.committed[:cut]:
            assert isinstance(outcome, Round)
            done.setdefault(name, []).append(outcome)
        rest = Bench(flags)
        rest.measure("abc", done=done)
        assert rest.ran == whole.ran[cut:]


def test_rounds_of_earlier_passes_are_not_repeated_later() -> None:
    """Their neighbours are gone: a repeat would be compared with rounds of another day."""
    bench = Bench(only(("a", 0, 0), ("b", 0, 0)))
    bench.measure("ab", replace(THREE, max_rounds=2, min_rounds=2, max_seconds=4.0))
    done: dict[str, list[Round]] = {}
    for name, outcome in bench.committed:
        assert isinstance(outcome, Round)
        done.setdefault(name, []).append(outcome)
    assert sum(r.attempt for rounds in done.values() for r in rounds) == 0
    rest = Bench()
    rest.measure("ab", done=done)
    assert sorted(rest.ran) == [("a", 2, 0), ("b", 2, 0)]


def test_a_repeat_that_fails_ends_its_case_alone() -> None:
    broken = Failure("crashed", "SIGSEGV")
    bench = Bench(only(("a", 0, 0)), failures={("a", 0, 1): broken})
    assert bench.measure("ab").reasons == {"a": "failed", "b": "max_rounds"}
    assert bench.rounds_of("a") == [(0, 0), (0, 1)]


def test_the_estimate_counts_no_repeat_as_a_round() -> None:
    bench, etas = Bench(only(("a", 0, 0))), []
    suite.measure(
        {"a": job("a")},
        THREE,
        converged=lambda rounds: False,
        commit=lambda case_id, outcome: None,
        observe=lambda event: etas.append(getattr(event, "eta_ns", None)),
        clock=lambda: bench.now,
        run=bench.run,
    )
    assert [eta for eta in etas if eta is not None] == [2 * SECOND] * 4 + [SECOND] * 3


def test_a_case_that_is_tried_again_goes_on_after_all_rounds_of_others() -> None:
    """Cases that failed with rounds, and without any, are not paired with rounds of another day."""
    whole = Bench()
    whole.measure("abc")
    done: dict[str, list[Round]] = {"b": [], "c": []}
    for name, outcome in whole.committed:
        assert isinstance(outcome, Round)
        if name == "b" and outcome.round_index < 2:
            done["b"].append(outcome)
    again = Bench()
    again.measure("bc", done=done, first_rounds={"b": 3, "c": 3})
    assert again.rounds_of("b") == [(3, 0)]
    assert again.rounds_of("c") == [(3, 0), (4, 0), (5, 0)]


def test_a_case_that_is_tried_again_does_not_repeat_an_old_round() -> None:
    """Its repeat failed on another day: the round that it would have replaced has no company any more."""
    broken = Failure("crashed", "SIGSEGV")
    first = Bench(only(("a", 0, 0)), failures={("a", 0, 1): broken})
    first.measure("a")
    done = {"a": [outcome for _, outcome in first.committed if isinstance(outcome, Round)]}
    again = Bench()
    again.measure("a", done=done, first_rounds={"a": 1})
    assert again.rounds_of("a") == [(1, 0), (2, 0)]


def test_an_announced_job_is_the_next_one_unless_a_repeat_comes_between() -> None:
    bench = Bench(only(("a", 0, 0), ("c", 1, 0)))
    bench.measure("abc")
    told = zip(bench.announced, bench.ran[1:], strict=False)
    surprises = [(announced, ran) for announced, ran in told if announced not in (None, ran)]
    assert all(ran[2] == 1 for _, ran in surprises)
