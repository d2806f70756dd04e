"""Rounds that share their time: processes alive at once, of which one works while the others sleep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from runners import readings, timing, windows
from runners.measurement import Failure, Job, Round, Timing
from runners.measuring_process import Child, child_environment
from runners.overhead import null_job
from runners.process import Processes
from runners.side_by_side import there_and_back

MakeJob = Callable[..., Job]
TURNS = Timing(
    round_seconds=0.12,
    warmup_seconds=0.02,
    max_warmup_seconds=0.2,
    min_samples=3,
    deadline_seconds=20,
    turn_seconds=0.02,
)
SLEEP_NS = 2_000_000


def together(jobs: Sequence[Job]) -> list[Round | Failure]:
    with Processes() as processes:
        return processes.run_together(jobs)


def rounds(outcomes: Sequence[Round | Failure]) -> list[Round]:
    assert all(isinstance(outcome, Round) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Round)]


def children() -> set[int]:
    """Of this process; a browser of other tests may be among them."""
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture
def sleepers(tmp_path: Path) -> list[Job]:
    return [
        replace(null_job(TURNS, sleep_ns=SLEEP_NS, lock_dir=str(tmp_path)), case_id=name, position=place)
        for place, name in enumerate("abc")
    ]


def test_every_process_has_its_windows_and_says_with_whom(sleepers):
    found = rounds(together(sleepers))
    assert [taken.position for taken in found] == [0, 1, 2]
    assert [taken.environment["place"] for taken in found] == ["first in turns", "in turns", "in turns"]
    (company,) = {taken.environment["turns"]["company"] for taken in found}
    assert company > 0
    for taken in found:
        counts = taken.environment["turns"]["windows"]
        assert len(counts) == 6
        assert sum(counts) == len(taken.samples_ns)
        assert taken.protocol.options["turns"] == "0.02 s"


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_nobody_works_twice_in_a_row_more_often_than_others(count):
    """The second of two windows in a row finds its data in the caches."""
    names = list(range(count))
    windows_of_all = [name for first in range(count) for name in there_and_back(names, first)]
    assert Counter(windows_of_all) == dict.fromkeys(names, 2 * count)
    twice = Counter(one for one, other in pairwise(windows_of_all) if one == other)
    assert count == 1 or twice == dict.fromkeys(names, 1)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_a_way_there_and_back_cancels_what_drifts(count):
    found = there_and_back(list(range(count)), 4)
    places = {name: [place for place, each in enumerate(found) if each == name] for name in found}
    assert {sum(both) for both in places.values()} == {2 * count - 1}


def test_the_windows_of_a_round_are_not_those_of_another_company(sleepers):
    one, other = (rounds(together(sleepers[:2])) for _ in range(2))
    assert one[0].environment["turns"]["company"] == one[1].environment["turns"]["company"]
    assert one[0].environment["turns"]["company"] != other[0].environment["turns"]["company"]


def test_only_one_works_at_a_time_and_their_times_add_up_to_the_wall(sleepers):
    """Three that sleep 2 ms each would overlap if they could: then the sums would exceed the wall."""
    begun = time.perf_counter_ns()
    found = rounds(together(sleepers))
    wall = time.perf_counter_ns() - begun
    assert sum(int(taken.samples_ns.sum() + taken.warmup_ns.sum()) for taken in found) < wall
    assert sum(taken.phases.process_ns for taken in found) <= wall
    assert [taken.phases.start_ns > 0 for taken in found] == [True, False, False]


def test_a_plain_round_is_of_another_protocol(sleepers):
    (turns,) = rounds(together(sleepers[:1]))
    with Processes() as processes:
        plain = processes.run(sleepers[0])
    assert isinstance(plain, Round)
    assert "turns" not in plain.environment
    assert plain.protocol.id != turns.protocol.id


@pytest.mark.parametrize(
    ("fault", "phase", "kind"),
    [("segfault", "load", "crashed"), ("segfault", "infer", "crashed"), ("raise", "infer", "infer")],
)
def test_one_that_fails_costs_its_own_round_only(simulate: MakeJob, fault, phase, kind):
    good = simulate(median_ns=2e6, timing=TURNS)
    bad = simulate(median_ns=2e6, timing=TURNS, fault=fault, fault_phase=phase)
    first, failed, last = together([good, bad, replace(good, position=2)])
    assert isinstance(failed, Failure)
    assert failed.kind == kind
    assert len(rounds([first, last])) == 2


def test_one_that_hangs_is_gone_before_the_next_one_works(simulate: MakeJob):
    quick = replace(TURNS, deadline_seconds=2.0)
    good = simulate(median_ns=2e6, timing=quick)
    hangs = simulate(median_ns=2e6, timing=quick, fault="hang", fault_phase="infer", fault_after=50)
    before = children()
    failed, other = together([hangs, good])
    assert isinstance(failed, Failure)
    assert failed.kind == "deadline"
    assert isinstance(other, Round)
    assert children() == before


def test_one_without_memory_beside_others_is_tried_again_alone(sleepers, monkeypatch):
    """The first time it says so, as a runtime would whose neighbours hold the memory."""
    outcome, told = Child.outcome, []

    def poor(child: Child) -> Round | Failure:
        found = outcome(child)
        told.append(child.job.case_id)
        if child.job.case_id == "b" and told.count("b") == 1:
            return Failure("out_of_memory", "no memory left")
        return found

    monkeypatch.setattr(Child, "outcome", poor)
    found = rounds(together(sleepers))
    assert told == ["a", "b", "c", "b"]
    assert [taken.position for taken in found] == [0, 1, 2]
    companies = [taken.environment["turns"]["company"] for taken in found]
    assert companies[0] == companies[2] != companies[1]


def test_no_process_is_left_after_an_interrupt(sleepers, monkeypatch):
    def interrupted(child: Child) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Child, "go_on", interrupted)
    before = children()
    with pytest.raises(KeyboardInterrupt):
        together(sleepers)
    assert children() == before


def test_none_of_a_company_outlives_a_killed_parent(sleepers):
    """One works and two sleep when it happens."""
    script = (
        "import sys, json\nfrom runners.measurement import Job\nfrom runners.process import Processes\n"
        "jobs = [Job.from_dict(value) for value in json.loads(sys.argv[1])]\n"
        "with Processes() as processes:\n    processes.run_together(jobs)\n"
    )
    endless = replace(TURNS, round_seconds=60.0, deadline_seconds=100.0)
    told = json.dumps([replace(job, timing=endless).to_dict() for job in sleepers])
    parent = subprocess.Popen([sys.executable, "-c", script, told], env=child_environment(1))
    company = _company_of(parent.pid, len(sleepers))
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(company, timeout=10)
    assert not alive


def _company_of(parent: int, size: int) -> list[psutil.Process]:
    for _ in range(400):
        found = psutil.Process(parent).children()
        if len(found) == size:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{size} processes never were alive at once")


def test_a_busy_device_is_said_of_every_case(sleepers, tmp_path):
    from runners import locks

    held = locks.acquire(tmp_path, "cpu", wait_seconds=1, purpose="a test")
    try:
        waiting = [replace(job, options={**job.options, "lock_seconds": 0.1}) for job in sleepers]
        outcomes = together(waiting)
    finally:
        os.close(held)
    assert all(isinstance(outcome, Failure) and "holder_pid" in outcome.detail for outcome in outcomes)


class Machine:
    """A clock of its own, on which an inference takes what it is told to."""

    def __init__(self, step_ns: int) -> None:
        self.now, self.step_ns = 0, step_ns
        self.indices: list[int] = []
        self.pauses = 0

    def clock(self) -> int:
        return self.now

    def step(self, index: int) -> None:
        self.indices.append(index)
        self.now += self.step_ns

    def pause(self) -> None:
        """Others work for a second."""
        self.pauses += 1
        self.now += 1_000_000_000

    def read(self) -> dict[str, Any]:
        return {"read_at_ns": self.now, "user_cpu_ns": self.now, "load_1min": float(self.pauses)}

    def timed(self, policy: Timing, *, inputs: int = 4, loops: int = 1) -> windows.Timed:
        plan = timing.rotation(inputs, loops)
        warm = timing.WarmUp(loops, plan, np.full(4, self.step_ns * loops, np.int64), 4, True)
        return windows.in_turns(self.step, warm, policy, clock=self.clock, read=self.read, pause=self.pause)


def test_windows_make_up_the_round_and_hold_no_time_of_others():
    machine = Machine(1_000_000)
    timed = machine.timed(Timing(round_seconds=0.6, turn_seconds=0.06))
    assert timed.windows == (60,) * 10
    assert set(timed.samples_ns.tolist()) == {1_000_000}
    assert machine.pauses == 12  # two untimed windows come first
    assert timed.after["read_at_ns"] - timed.before["read_at_ns"] == 610_000_000  # an untimed one each
    assert timed.after["load_1min"] == 12.0


@pytest.mark.parametrize(
    ("step_ms", "expected"), [(1, (60,) * 10), (30, (4,) * 6), (100, (4, 4)), (5000, (4, 4))]
)
def test_slow_inferences_have_fewer_and_longer_windows(step_ms, expected):
    machine = Machine(step_ms * 1_000_000)
    assert machine.timed(Timing(round_seconds=0.6, turn_seconds=0.06)).windows == expected


def test_inputs_go_on_from_window_to_window():
    """Three inputs, four samples a window: were each window to start anew, one input would lead."""
    machine = Machine(30_000_000)
    seen: list[int] = []
    original = timing.take

    def watched(step: Any, warm: timing.WarmUp, policy: Timing, *, clock: Any) -> Any:
        taken = original(step, warm, policy, clock=clock)
        if policy.round_seconds > 0.1:  # not what wakes the caches
            seen.extend(machine.indices[-len(taken) :])
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "take", watched)
        machine.timed(Timing(round_seconds=0.6, turn_seconds=0.06), inputs=3)
    assert seen[4:] == [i % 3 for i in range(24)]  # the first window is untimed


def test_joined_readings_leave_out_what_passed_between():
    first = (
        {"read_at_ns": 0, "switches": 5, "load_1min": 1},
        {"read_at_ns": 10, "switches": 6, "load_1min": 2},
    )
    second = (
        {"read_at_ns": 100, "switches": 90, "load_1min": 3},
        {"read_at_ns": 110, "switches": 92, "load_1min": 4},
    )
    spans: list[tuple[readings.Readings, readings.Readings]] = [first, second]
    before, after = readings.joined(spans)
    assert before == first[0]
    assert after == {"read_at_ns": 20, "switches": 8, "load_1min": 4}
