"""Which rounds count as disturbed: made-up readings one by one, and real processes beside real work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import readings
from runners.disturbance import STILL_NS, TICK_NS, load, reasons, standstill
from runners.measurement import DISTURBANCES, Job, Round, Timing
from runners.overhead import null_job
from runners.process import run_job
from runners.readings import Readings
from tests.busy_cores import busy_cores

MakeJob = Callable[..., Job]
MS = 1_000_000
SPAN_NS = 600_000_000
BEFORE: Readings = {
    "read_at_ns": 5_000,
    "user_cpu_ns": 0,
    "system_cpu_ns": 0,
    "involuntary_switches": 3,
    "cpu_pressure_us": 1_000,
    "machine_busy_ns": 10**12,
    "machine_steal_ns": 10**9,
    "quota_wait_ns": 0,
    "cpu_khz_max": 3_000_000,
    "cpu_throttle_count": 2,
}


def after(**grown: float) -> Readings:
    """A quiet round of one thread: SPAN_NS of its own CPU time, all of the machine's work its own."""
    quiet = {"read_at_ns": SPAN_NS, "user_cpu_ns": SPAN_NS, "machine_busy_ns": SPAN_NS}
    return {name: value + {**quiet, **grown}.get(name, 0) for name, value in BEFORE.items()}


def told(cores: int = 2, threads: int = 1, **grown: float) -> list[str]:
    return reasons(BEFORE, after(**grown), cores=cores, threads=threads)


def test_a_quiet_round_is_not_disturbed() -> None:
    assert told() == []
    assert told(machine_busy_ns=SPAN_NS + 3 * TICK_NS, involuntary_switches=20, cpu_pressure_us=6_000) == []
    assert told(cpu_khz_max=-100_000, machine_steal_ns=TICK_NS) == []


@pytest.mark.parametrize(
    ("grown", "reason"),
    [
        ({"machine_busy_ns": 2 * SPAN_NS}, "other work used 100% of the CPU time that was left"),
        ({"machine_busy_ns": 1.25 * SPAN_NS}, "other work used 25% of the CPU time that was left"),
        ({"machine_steal_ns": 0.2 * SPAN_NS}, "the hypervisor took 10% of the cores' time"),
        ({"involuntary_switches": 90}, "the process lost its core 150 times a second"),
        ({"cpu_pressure_us": 300_000}, "tasks waited for a CPU in 50% of the time"),
        ({"quota_wait_ns": 60_000_000}, "CPU limits of its control groups held work up for 10% of the time"),
        ({"cpu_khz_max": -600_000}, "the clock fell by 20%"),
        ({"cpu_throttle_count": 4}, "the processor slowed itself down for heat"),
    ],
)
def test_each_disturbance_is_named(grown: dict[str, float], reason: str) -> None:
    assert told(**grown) == [reason]


def test_a_count_that_fell_is_no_event() -> None:
    assert told(cpu_throttle_count=-4) == []


def read_on(core: int, root: Path, throttles: dict[int, int]) -> Readings:
    """What is read on that core of a machine whose cores have slowed themselves down so often."""
    stat = root / "proc/thread-self/stat"
    stat.parent.mkdir(parents=True, exist_ok=True)
    stat.write_text(f"7 (name) R {'1 ' * 35}{core} 0 0\n")
    for cpu, count in throttles.items():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    return readings.read(root / "proc", root / "sys")


@pytest.mark.parametrize(("begin", "end"), [(0, 11), (11, 0), (3, 9)])
@pytest.mark.parametrize("grown", [{}, {10: 1}, {0: 2}, {7: 1, 8: 1}])
def test_a_thread_that_moves_is_no_event_and_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: int, end: int, grown: dict[int, int]
) -> None:
    """The counts differ by core: those of the same cores are compared, wherever the thread runs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    counts = {cpu: 100 * cpu for cpu in range(12)}
    first = read_on(begin, tmp_path, counts)
    last = read_on(end, tmp_path, {cpu: count + grown.get(cpu, 0) for cpu, count in counts.items()})
    assert load(first, last, cores=12).throttles == sum(grown.values())
    assert any("for heat" in reason for reason in reasons(first, last, cores=12)) == bool(grown)


def test_other_work_is_weighed_against_what_this_process_left() -> None:
    """One busy process takes half of two cores, but little of what one thread leaves of 64."""
    busy = {"machine_busy_ns": 2 * SPAN_NS}
    assert told(cores=2, **busy)
    assert told(cores=64, **busy) == []
    assert told(cores=64, machine_busy_ns=20 * SPAN_NS)


def test_a_process_on_all_cores_leaves_nothing_and_still_sees_others() -> None:
    own = {"user_cpu_ns": 1.5 * SPAN_NS, "machine_busy_ns": 2 * SPAN_NS}
    assert load(BEFORE, after(**own), cores=2).other_cpu == pytest.approx(0.5)
    assert told(cores=2, threads=2, **own)


def test_losing_a_core_counts_for_each_thread() -> None:
    switches = {"involuntary_switches": 90}
    assert told(threads=1, **switches)
    assert told(threads=2, **switches) == []


def test_a_short_round_is_not_disturbed_by_the_unit_of_the_kernels_clock() -> None:
    short = {"read_at_ns": 20_000_000, "user_cpu_ns": 20_000_000}
    assert told(machine_busy_ns=20_000_000 + 3 * TICK_NS, machine_steal_ns=TICK_NS, **short) == []
    assert told(machine_busy_ns=20_000_000, involuntary_switches=9, **short) == []
    assert told(machine_busy_ns=20_000_000, involuntary_switches=11, **short)


def test_what_the_platform_does_not_tell_disturbs_nothing() -> None:
    few = {
        name: BEFORE[name] for name in ("read_at_ns", "user_cpu_ns", "system_cpu_ns", "involuntary_switches")
    }
    found = load(few, {**few, "read_at_ns": SPAN_NS}, cores=2)
    assert (found.other_cpu, found.steal, found.pressure) == (None, None, None)
    assert (found.quota_wait, found.clock_drop, found.throttles) == (None, None, None)
    assert reasons(few, {**few, "read_at_ns": SPAN_NS}, cores=2) == []


def test_readings_in_the_wrong_order_are_an_error() -> None:
    with pytest.raises(ValueError, match="not after"):
        load(after(), BEFORE, cores=2)


@given(st.floats(0, 4), st.floats(0, 4), st.integers(1, 128))
@settings(deadline=None)
def test_more_other_work_never_disturbs_less(less: float, more: float, cores: int) -> None:
    low, high = sorted((less, more))
    seen = [told(cores=cores, machine_busy_ns=SPAN_NS * (1 + share)) for share in (low, high)]
    assert len(seen[0]) <= len(seen[1])


@pytest.mark.parametrize(
    "samples_ms",
    [
        [2] * 300,
        [2] * 280 + [30],
        [2] * 300 + [55],
        [20] * 165 + [240] * 135,
        [1000] * 4 + [8000],
        [0.05] * 100 + [12],
        [700],
    ],
    ids=["quiet", "off its core", "small in the round", "two modes", "slow inferences", "short round", "one"],
)
def test_a_slow_sample_is_no_standstill(samples_ms: list[float]) -> None:
    assert standstill(np.array(samples_ms) * MS) == []


def test_a_sample_that_holds_a_stop_is_a_standstill() -> None:
    """Wherever it lies, and of a round that ended early for it."""
    reason = "one sample lasted 502 ms, 251 times the median: a standstill"
    for place in (0, 20, 49):
        samples = np.full(50, 2 * MS)
        samples[place] += 500 * MS
        assert standstill(samples) == [reason]
    assert standstill(np.array([2, 2, 2, 2, 502]) * MS) == [reason]
    assert standstill(np.array([60, 61, 62, 660, 60]) * MS)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), st.integers(2, 50))
def test_a_standstill_is_told_of_slow_rounds_as_of_fast_ones(samples: list[int], slower: int) -> None:
    """Above the least length, so that the choice between two attempts favours neither."""
    above = np.array([*samples, max(STILL_NS, *samples) + 1], dtype=np.int64)
    assert bool(standstill(above)) == bool(standstill(slower * above))


@pytest.fixture
def loaded() -> Iterator[None]:
    with busy_cores():
        yield


def null_round(tmp_path: Path) -> Round:
    timing = Timing(round_seconds=0.4, warmup_seconds=0.02, max_warmup_seconds=0.2)
    job = null_job(timing, sleep_ns=2_000_000, lock_dir=str(tmp_path))
    outcome = run_job(job)
    assert isinstance(outcome, Round), outcome
    return outcome


@pytest.mark.skipif(sys.platform != "linux", reason="the machine's CPU time is read from /proc")
def test_a_round_beside_real_work_says_so(loaded: None, tmp_path: Path) -> None:
    outcome = null_round(tmp_path)
    assert "disturbed" in outcome.flags
    assert any("other work" in reason for reason in outcome.environment["disturbances"])


def test_flag_and_reasons_go_together(tmp_path: Path) -> None:
    outcome = null_round(tmp_path)
    assert ("disturbed" in outcome.flags) == bool(outcome.environment.get("disturbances"))
    assert outcome.environment["after"]["read_at_ns"] > outcome.environment["before"]["read_at_ns"]


def test_a_virtual_clock_feels_no_other_work(loaded: None, simulate: MakeJob) -> None:
    outcome = run_job(simulate(median_ns=2e6))
    assert isinstance(outcome, Round), outcome
    assert "disturbed" not in outcome.flags


def test_the_flags_of_a_repeated_round_are_known_to_the_reports() -> None:
    from reports.flags import FLAGS

    assert set(FLAGS) >= DISTURBANCES
