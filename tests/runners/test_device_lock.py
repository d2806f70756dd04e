"""One measurement at a time per device: who waits, who is refused, and what they are told."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
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
ROOT = Path(__file__).resolve().parents[2]


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


def test_suite_names_itself_in_the_lock(simulate: MakeJob, lock_dir: Path) -> None:
    run_job(replace(simulate(), case_id="c0ffee", round_index=4))
    note = json.loads((lock_dir / "cpu.lock").read_text())
    assert note["purpose"] == "simulated c0ffee round 4"
    assert note["pid"] == os.getpid()


def test_lock_is_free_after_every_kind_of_end(simulate: MakeJob, lock_dir: Path) -> None:
    for fault in ("", "segfault", "raise"):
        run_job(simulate(fault=fault))
        with (lock_dir / "cpu.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_restores_the_alarm_handler(lock_dir: Path, holder: Callable[[], None]) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(RunnerError, match="in use by process"):
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


def test_users_of_a_machine_share_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPLOYBENCH_LOCKS", raising=False)
    for name in ("XDG_RUNTIME_DIR", "HOME", "TMPDIR"):
        monkeypatch.setenv(name, "/somewhere/else")
    assert locks.default_folder() == Path(locks.SHARED_FOLDER)
    monkeypatch.setenv("DEPLOYBENCH_LOCKS", "/named")
    assert locks.default_folder() == Path("/named")


def test_what_one_user_makes_another_can_lock(tmp_path: Path) -> None:
    descriptor = locks.acquire(tmp_path / "locks", "cpu", wait_seconds=0, purpose="x")
    os.close(descriptor)
    assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "locks" / "cpu.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
def test_two_users_exclude_each_other() -> None:
    """As another user, whom the kernel forbids to open this one's file with O_CREAT in a sticky folder."""
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        _two_users(Path(open_to_all) / "locks")


def _two_users(folder: Path) -> None:
    held = locks.acquire(folder, "cpu", wait_seconds=0, purpose="root measures")
    code = (
        "import os, sys; from pathlib import Path; from runners import locks\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "locks.acquire(Path(sys.argv[1]), 'cpu', wait_seconds=0, purpose='x')"
    )
    command = [sys.executable, "-c", code, str(folder)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "root measures" in refused.stderr
    os.close(held)
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
