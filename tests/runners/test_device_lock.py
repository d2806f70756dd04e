"""One measurement at a time per device: who waits, who is refused, and what they are told."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runners import locks, suite
from runners.measurement import Failure, Job, Round, Timing
from runners.process import run_job
from runners.runner import RunnerError

MakeJob = Callable[..., Job]


@pytest.fixture
def holder(lock_dir: Path) -> Callable[[], None]:
    """This process holds the lock of `cpu`; call it to let go."""
    descriptor = locks.acquire(lock_dir, "cpu", wait_seconds=0, purpose="a test")
    return lambda: os.close(descriptor)


def test_second_suite_is_refused_and_told_who_holds_the_device(
    simulate: MakeJob, holder: Callable[[], None]
) -> None:
    failure = run_job(simulate(options={"lock_seconds": 0.1}))
    holder()
    assert isinstance(failure, Failure)
    assert failure.kind == "unavailable"
    assert str(os.getpid()) in failure.message
    assert "a test" in failure.message
    assert failure.detail["holder_pid"] == os.getpid()
    assert failure.built


def test_second_suite_waits_and_then_measures(simulate: MakeJob, holder: Callable[[], None]) -> None:
    """The wait is not counted against the deadline."""
    release = threading.Timer(2.5, holder)
    release.start()
    begun = time.monotonic()
    outcome = run_job(
        simulate(options={"lock_seconds": 30}, timing=Timing(round_seconds=0.01, deadline_seconds=2))
    )
    release.join()
    assert isinstance(outcome, Round), outcome
    assert time.monotonic() - begun >= 2.4


def test_suite_raises_instead_of_recording_a_failure(simulate: MakeJob, holder: Callable[[], None]) -> None:
    jobs = {"a": simulate(options={"lock_seconds": 0})}
    committed: list[str] = []
    with pytest.raises(suite.DeviceBusyError, match=str(os.getpid())):
        suite.measure(
            jobs,
            jobs["a"].timing,
            converged=lambda rounds: True,
            commit=lambda case, _: committed.append(case),
        )
    holder()
    assert committed == []


def test_other_device_is_not_waited_for(lock_dir: Path, holder: Callable[[], None]) -> None:
    os.close(locks.acquire(lock_dir, "cuda:1", wait_seconds=0, purpose="x"))
    holder()
    assert sorted(path.name for path in lock_dir.iterdir()) == ["cpu.lock", "cuda-1.lock"]


def test_measuring_process_names_itself_in_the_lock(simulate: MakeJob, lock_dir: Path) -> None:
    run_job(replace(simulate(), case_id="c0ffee", round_index=4))
    note = json.loads((lock_dir / "cpu.lock").read_text())
    assert note["purpose"] == "simulated c0ffee round 4"
    assert note["parent"] == os.getpid()


def test_lock_is_free_after_every_kind_of_end(simulate: MakeJob, lock_dir: Path) -> None:
    for fault in ("", "segfault", "raise"):
        run_job(simulate(fault=fault))
        with (lock_dir / "cpu.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_restores_the_alarm_handler(lock_dir: Path, holder: Callable[[], None]) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(RunnerError, match="being measured"):
        locks.acquire(lock_dir, "cpu", wait_seconds=0.05, purpose="x")
    holder()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("note", ["", "{", "[]", '"text"'])
def test_nonsense_in_the_lock_file_is_no_trouble(
    lock_dir: Path, holder: Callable[[], None], note: str
) -> None:
    (lock_dir / "cpu.lock").write_text(note)
    with pytest.raises(RunnerError, match="unknown"):
        locks.acquire(lock_dir, "cpu", wait_seconds=0, purpose="x")
    holder()


def test_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunnerError, match="cannot open the device lock") as caught:
        locks.acquire(tmp_path / "file" / "locks", "cpu", wait_seconds=0, purpose="x")
    assert caught.value.kind == "unavailable"


def test_link_in_the_lock_s_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / "cpu.lock").symlink_to(target)
    with pytest.raises(RunnerError):
        locks.acquire(tmp_path, "cpu", wait_seconds=0, purpose="x")
    assert target.read_text() == "data"


@pytest.mark.parametrize(
    ("variables", "ends"),
    [
        ({"XDG_RUNTIME_DIR": "{tmp}"}, "{tmp}/deploybench"),
        ({"XDG_RUNTIME_DIR": "/no/such", "XDG_CACHE_HOME": "{tmp}"}, "{tmp}/deploybench/locks"),
        ({"HOME": "{tmp}"}, "{tmp}/.cache/deploybench/locks"),
        ({"TMPDIR": "{tmp}"}, "{tmp}/deploybench-{uid}"),
    ],
)
def test_default_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], ends: str
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert str(locks.default_folder()) == ends.format(tmp=tmp_path, uid=os.getuid())
