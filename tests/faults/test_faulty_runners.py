"""A runtime that crashes, is killed, hangs or writes nonsense costs its own case, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# fault -> (kind, signal, words of the message)
CRASHES = {
    "segfault": ("crashed", signal.SIGSEGV, "SIGSEGV in phase 'warmup'"),
    "kill": ("killed", signal.SIGKILL, "SIGKILL in phase 'warmup'"),
    "address_space": ("out_of_memory", 0, "out of memory"),
    "nonsense": ("crashed", 0, "malformed result"),
    "half_and_gone": ("crashed", 0, "bytes of an incomplete result"),
    "closed": ("crashed", 0, "no result"),
    "later": ("crashed", signal.SIGABRT, "SIGABRT"),
}
HANGS = {
    "asleep": "holds the interpreter's lock in a sleep",
    "busy": "holds the interpreter's lock and computes",
    "stop": "is stopped by a signal",
    "half_and_asleep": "has sent half a message",
}
SUITE = """
[suites.faults]
description = "Faults beside a healthy case"

[[suites.faults.matrix]]
models = ["block/ncb"]
shapes = ["7x7x64"]
backends = [{backends}]

[[suites.faults.matrix]]
models = ["block/bottleneck"]
shapes = ["7x7x64"]
backends = ["simulated"]
"""


def configure(suites, put_artifacts, faults, *, deadline: float) -> None:
    backends = [f"faulty-{fault}" for fault in faults]
    suites.configure(SUITE.format(backends=", ".join(f'"{b}"' for b in backends)), deadline=deadline)
    put_artifacts("faults", *backends)


def failures(answer) -> dict[str, dict]:
    """By fault; the healthy case must have both of its rounds."""
    found = {}
    for case in answer.json["cases"]:
        backend = case["case"]["backend"]
        if backend == "simulated":
            assert case["failure"] is None
            assert case["summary"]["rounds"] == 2
        else:
            found[backend.removeprefix("faulty-")] = case["failure"]
    return found


def test_every_crash_is_a_record_and_the_suite_goes_on(suites, put_artifacts):
    configure(suites, put_artifacts, CRASHES, deadline=60)
    answer = suites.bench("--suite", "faults", "--json")
    assert answer.code == 1
    found = failures(answer)
    assert set(found) == set(CRASHES)
    for fault, (kind, number, words) in CRASHES.items():
        failure = found[fault]
        assert (failure["kind"], failure["signal"]) == (kind, number), fault
        assert words in failure["message"], fault
        assert failure["advice"], fault
    # a round that other work on the machine disturbed is taken again, as another attempt
    by_kind = [kind for _, kind, _ in {row[1:4] for row in suites.records()}]
    assert by_kind.count("failure") == len(CRASHES)
    assert by_kind.count("round") == 2 + 1  # the healthy case, and the one that failed later
    suites.assert_nothing_left()


def hang(suites, put_artifacts, faults, *, deadline: float) -> None:
    configure(suites, put_artifacts, faults, deadline=deadline)
    begun = time.monotonic()
    answer = suites.bench("--suite", "faults", "--json")
    assert time.monotonic() - begun >= deadline * len(faults)
    assert answer.code == 1
    found = failures(answer)
    assert set(found) == set(faults)
    for fault, failure in found.items():
        assert (failure["kind"], failure["signal"]) == ("deadline", signal.SIGKILL), fault
        assert f"no result after {deadline:g} s, in phase 'warmup'" in failure["message"], fault
    suites.assert_nothing_left()


@pytest.mark.slow
def test_a_hang_that_holds_the_interpreter_s_lock_ends_at_the_deadline(suites, put_artifacts):
    hang(suites, put_artifacts, ["asleep"], deadline=4)


@pytest.mark.slow
def test_every_hang_ends_at_the_deadline(suites, put_artifacts):
    hang(suites, put_artifacts, HANGS, deadline=15)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with 500 MiB, of either version."""
    parents = (
        (Path("/sys/fs/cgroup"), "memory.max"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    )
    for parent, name in parents:
        group = parent / f"faults-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / name).exists():
            (group / name).write_text(str(500 << 20))
            yield group
            _removed(group)
            return
        group.rmdir()
    pytest.skip("this machine lets us make no control group with a memory limit")


def _removed(group: Path) -> None:
    end = time.monotonic() + 30
    while group.exists():
        try:
            group.rmdir()
        except OSError:  # a process of it is still being taken down
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_memory_limit_of_the_machine_strikes_one_case(suites, put_artifacts, memory_group):
    """The kernel kills the process that ate the memory; the suite in the same group lives on."""
    configure(suites, put_artifacts, ["memory"], deadline=60)

    def enter() -> None:
        (memory_group / "cgroup.procs").write_text(str(os.getpid()))

    answer = suites.bench("--suite", "faults", "--json", preexec_fn=enter)
    assert answer.code == 1
    failure = failures(answer)["memory"]
    assert (failure["kind"], failure["signal"]) == ("out_of_memory", signal.SIGKILL)
    assert "the kernel was out of memory" in failure["message"]
    suites.assert_nothing_left()


def test_every_fault_is_here(suites):
    import faulty_runner

    assert set(faulty_runner.FAULTS) == {*CRASHES, *HANGS, "memory"}
