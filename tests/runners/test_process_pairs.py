"""Rounds in pairs: the second process gets ready beside the first and sleeps until its turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from runners import locks
from runners.measurement import Failure, Job, Round, Timing
from runners.measuring_process import Child, child_environment
from runners.process import Processes
from runners.runner import RunnerError

MakeJob = Callable[..., Job]
QUICK = Timing(
    round_seconds=0.05, warmup_seconds=0.02, max_warmup_seconds=0.2, min_samples=3, deadline_seconds=20
)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def place(outcome: Round | Failure) -> str:
    assert isinstance(outcome, Round), outcome
    return str(outcome.environment["place"])


@pytest.fixture
def jobs(simulate: MakeJob) -> list[Job]:
    return [replace(simulate(median_ns=2e6, timing=QUICK), round_index=i) for i in range(4)]


def test_the_second_of_a_pair_brings_nothing_but_its_turn(jobs: list[Job]) -> None:
    with Processes() as processes:
        first = processes.run(jobs[0], jobs[1])
        second = processes.run(jobs[1], jobs[2])
        third = processes.run(jobs[2])
    assert [place(taken) for taken in (first, second, third)] == ["first", "second", "alone"]
    assert isinstance(first, Round)
    assert isinstance(second, Round)
    assert min(first.phases.start_ns, first.phases.load_ns) > 0
    assert (second.phases.start_ns, second.phases.import_ns, second.phases.load_ns) == (0, 0, 0)
    assert second.phases.verify_ns > 0
    for taken in (first, second):
        spent = taken.phases
        parts = (
            spent.start_ns
            + spent.import_ns
            + spent.load_ns
            + spent.verify_ns
            + spent.warmup_ns
            + spent.timed_ns
        )
        assert parts <= spent.process_ns


def test_the_second_does_not_work_before_its_turn(jobs: list[Job]) -> None:
    """Processor time tells: between being ready and its turn the second process uses none."""
    with Processes() as processes:
        before = children()
        processes.run(jobs[0], jobs[1])
        (waiting,) = children() - before
        used = _cpu_ticks(waiting)
        time.sleep(0.2)
        assert _cpu_ticks(waiting) - used <= 1
        assert Path(f"/proc/{waiting}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        assert place(processes.run(jobs[1])) == "second"


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_times_of_a_pair_add_up_to_the_wall(jobs: list[Job]) -> None:
    begun = time.perf_counter_ns()
    with Processes() as processes:
        outcomes = [processes.run(jobs[0], jobs[1]), processes.run(jobs[1])]
    wall = time.perf_counter_ns() - begun
    spent = [taken.phases.process_ns for taken in outcomes if isinstance(taken, Round)]
    assert len(spent) == 2
    assert sum(spent) <= wall


def test_no_process_is_left_when_the_second_is_not_wanted(jobs: list[Job]) -> None:
    before = children()
    with Processes() as processes:
        processes.run(jobs[0], jobs[1])
        assert len(children() - before) == 1
    assert children() == before


def test_another_job_than_announced_gets_a_process_of_its_own(jobs: list[Job]) -> None:
    before = children()
    with Processes() as processes:
        processes.run(jobs[0], jobs[1])
        other = processes.run(jobs[3])
        assert place(other) == "alone"
        assert children() == before


def test_interrupt_in_the_first_leaves_nothing(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()

    def interrupted(child: Child) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Child, "take_turn", interrupted)
    with pytest.raises(KeyboardInterrupt), Processes() as processes:
        processes.run(jobs[0], jobs[1])
    assert children() == before


@pytest.mark.parametrize(
    ("fault", "phase", "kind"),
    [
        ("segfault", "load", "crashed"),
        ("raise", "load", "load"),
        ("exit", "load", "crashed"),
        ("segfault", "infer", "crashed"),
    ],
)
def test_a_second_that_fails_costs_its_own_case(
    jobs: list[Job], simulate: MakeJob, fault: str, phase: str, kind: str
) -> None:
    broken = replace(simulate(fault=fault, fault_phase=phase, timing=QUICK), round_index=9)
    with Processes() as processes:
        assert place(processes.run(jobs[0], broken)) == "first"
        failure = processes.run(broken, jobs[1])
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.round_index) == (kind, 9)
        assert place(processes.run(jobs[1])) == "alone"


def test_a_first_that_fails_does_not_cost_the_second(jobs: list[Job], simulate: MakeJob) -> None:
    broken = simulate(fault="segfault", fault_phase="load", timing=QUICK)
    with Processes() as processes:
        assert isinstance(processes.run(broken, jobs[1]), Failure)
        assert isinstance(processes.run(jobs[1]), Round)


def test_a_second_killed_while_it_waits(jobs: list[Job]) -> None:
    with Processes() as processes:
        before = children()
        processes.run(jobs[0], jobs[1])
        (waiting,) = children() - before
        os.kill(waiting, signal.SIGKILL)
        failure = processes.run(jobs[1])
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.signal) == ("killed", signal.SIGKILL)


@pytest.mark.parametrize("fault", ["hang", "sleep"])
def test_a_second_that_never_gets_ready_is_late_not_endless(
    jobs: list[Job], simulate: MakeJob, fault: str
) -> None:
    stuck = simulate(fault=fault, fault_phase="load", timing=replace(QUICK, deadline_seconds=1))
    with Processes() as processes:
        assert isinstance(processes.run(jobs[0], stuck), Round)
        failure = processes.run(stuck)
    assert isinstance(failure, Failure)
    assert failure.kind == "deadline"


def test_a_waiting_second_does_not_outlive_a_killed_parent(jobs: list[Job]) -> None:
    script = (
        "import sys, json, time\nfrom runners.measurement import Job\nfrom runners.process import Processes\n"
        "first, second = (Job.from_dict(value) for value in json.loads(sys.argv[1]))\n"
        "processes = Processes()\nprocesses.run(first, second)\n"
        "print(processes._next.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    told = json.dumps([job.to_dict() for job in jobs[:2]])
    parent = subprocess.Popen(
        [sys.executable, "-c", script, told], env=child_environment(1), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    waiting = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not Path(f"/proc/{waiting}").exists():
            return
        time.sleep(0.05)
    pytest.fail(f"process {waiting} is still there")


def test_nothing_starts_in_another_suite_s_timing(jobs: list[Job], tmp_path: Path) -> None:
    """No process before the device is held; then both of a pair hold it, and nobody gets in between."""
    locked = [replace(job, options={**job.options, "lock_dir": str(tmp_path)}) for job in jobs]
    held = locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="another suite")
    seen: list[int] = []

    def release() -> None:
        time.sleep(0.7)
        seen.append(len(children() - before))
        os.close(held)

    before = children()
    with Processes() as processes:
        releaser = threading.Thread(target=release)
        releaser.start()
        assert place(processes.run(locked[0], locked[1])) == "first"
        releaser.join()
        with pytest.raises(RunnerError, match="in use by process"):
            locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="a third")
        assert place(processes.run(locked[1])) == "second"
        os.close(locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="a third"))
    assert seen == [0]


def test_a_lock_outlives_the_parent_for_as_long_as_a_process_measures(
    jobs: list[Job], tmp_path: Path
) -> None:
    """It is inherited, so closing the parent's descriptor alone frees nothing."""
    job = replace(jobs[0], options={**jobs[0].options, "lock_dir": str(tmp_path)})
    following = replace(job, round_index=1)
    with Processes() as processes:
        processes.run(job, following)
        assert processes._lock is not None
        os.close(processes._lock)
        processes._lock = None
        with pytest.raises(RunnerError, match="in use by process"):
            locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="a third")
    os.close(locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="a third"))


def test_a_second_that_is_late_is_gone_before_the_first_is_timed(
    jobs: list[Job], simulate: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = simulate(fault="hang", fault_phase="load", timing=replace(QUICK, deadline_seconds=1))
    alive: list[int] = []
    take_turn = Child.take_turn

    def watched(child: Child) -> None:
        alive.append(len(children() - before))
        take_turn(child)

    monkeypatch.setattr(Child, "take_turn", watched)
    before = children()
    with Processes() as processes:
        assert isinstance(processes.run(jobs[0], stuck), Round)
    assert alive == [1]


def test_a_first_is_not_late_because_the_second_is(jobs: list[Job], simulate: MakeJob) -> None:
    hasty = [replace(job, timing=replace(QUICK, deadline_seconds=1.5)) for job in jobs]
    stuck = simulate(fault="sleep", fault_phase="load", timing=replace(QUICK, deadline_seconds=3))
    with Processes() as processes:
        assert isinstance(processes.run(hasty[0], stuck), Round)


def test_out_of_memory_beside_another_is_tried_again_alone(
    jobs: list[Job], simulate: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not fit beside its neighbour may fit alone."""
    greedy = simulate(fault="allocate", fault_phase="load", timing=QUICK)
    places: list[str] = []
    spawn = Child.spawn

    def watched(job: Job, place: str, command: Sequence[str], lock: int | None) -> Child:
        places.append(place)
        return spawn(jobs[0] if place == "alone" else job, place, command, lock)

    monkeypatch.setattr(Child, "spawn", staticmethod(watched))
    with Processes() as processes:
        assert isinstance(processes.run(jobs[1], greedy), Round)
        assert isinstance(processes.run(greedy, jobs[2]), Round)
        assert places == ["first", "second", "alone"]


def test_a_gpu_is_never_shared_with_a_waiting_process(jobs: list[Job]) -> None:
    on_gpu = [replace(job, device="cuda") for job in jobs]
    before = children()
    with Processes() as processes:
        processes.run(on_gpu[0], on_gpu[1])
        assert children() == before
