"""Pinning a measuring process to cores: what may be asked for, and that it is done."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import affinity
from runners.measurement import Failure, Round, Timing
from runners.overhead import null_job
from runners.process import run_job

QUICK = Timing(round_seconds=0.02, warmup_seconds=0.01, max_warmup_seconds=0.1)
LINUX = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin")


@pytest.mark.parametrize(
    ("pin", "cores"),
    [("off", ()), ("3", (3,)), ("2,0", (2, 0)), ("4-7", (4, 5, 6, 7)), ("0, 2-3", (0, 2, 3))],
)
def test_lists_of_cores(pin: str, cores: tuple[int, ...]) -> None:
    assert affinity.parse(pin) == cores


@pytest.mark.parametrize("pin", ["", "on", "-1", "1.5", "1,", "3-2", "1,1", "0-2,1", "1;2", "123456"])
def test_what_is_no_list_of_cores(pin: str) -> None:
    with pytest.raises(affinity.PinError) as raised:
        affinity.parse(pin)
    assert pin in str(raised.value)


@given(st.text(max_size=12))
@settings(deadline=None)
def test_any_text_is_a_list_or_a_pin_error(text: str) -> None:
    try:
        cores = affinity.parse(text)
    except affinity.PinError:
        return
    assert len(set(cores)) == len(cores)
    assert text == "off" or cores


@LINUX
def test_as_many_cores_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 5})
    assert affinity.cores_for("5,1", 1) == (5,)
    assert affinity.cores_for("5,1", 2) == (5, 1)
    with pytest.raises(affinity.PinError, match=r"core 3 of '1-3' is not there.*it has 1, 2, 5"):
        affinity.cores_for("1-3", 1)
    with pytest.raises(affinity.PinError, match="is too short for a case of 3 threads"):
        affinity.cores_for("5,1", 3)


def test_a_system_that_cannot_pin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert affinity.cores_for("off", 4) == ()
    with pytest.raises(affinity.PinError, match="does not pin"):
        affinity.cores_for("0", 1)


@LINUX
def test_threads_that_start_later_are_pinned_too() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, threading; from runners import affinity;"
        f"affinity.pin_process('{core}', 1);"
        "thread = threading.Thread(target=lambda: print(os.sched_getaffinity(0)));"
        "thread.start(); thread.join()"
    )
    root = Path(affinity.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{{{core}}}"


@LINUX
def test_the_cores_are_part_of_the_protocol(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    job = null_job(QUICK, sleep_ns=1_000_000, lock_dir=str(tmp_path))
    free, pinned = run_job(job), run_job(replace(job, timing=replace(QUICK, pin=str(core))))
    assert isinstance(free, Round), free
    assert isinstance(pinned, Round), pinned
    assert pinned.protocol.options["pinned_cores"] == str(core)
    assert "pinned_cores" not in free.protocol.options
    assert pinned.protocol.id != free.protocol.id


def test_a_core_that_is_gone_when_the_process_starts_is_a_failure(tmp_path: Path) -> None:
    job = null_job(replace(QUICK, pin="99999"), sleep_ns=1_000_000, lock_dir=str(tmp_path))
    outcome = run_job(job)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "load"
    assert "99999" in outcome.message
