"""A whole suite on the simulated backend: measured, stored, resumed, reported, exported."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def records(project) -> list[tuple[str, str, int]]:
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT case_id, kind, round_index FROM records ORDER BY record_id").fetchall()


def test_a_suite_is_measured_reported_and_not_measured_twice(project):
    first = project.bench("--suite", "tiny")
    assert first.code == 0, first.err
    assert "ncb" in first.out
    assert "bottleneck" in first.out
    assert "Report: " in first.out
    taken = records(project)
    assert len(taken) == 4 * 3
    assert len(set(taken)) == 12

    again = project.bench("--suite", "tiny")
    assert again.code == 0
    assert "shown from the store" in again.err
    assert records(project) == taken

    fresh = project.bench("--suite", "tiny", "--fresh")
    assert fresh.code == 0
    assert len(records(project)) == 24


def test_simulated_results_never_pass_for_real_ones(project):
    answer = project.bench("--suite", "tiny")
    html = (project.folder / "results/tiny.html").read_text()
    assert "simulated" in answer.out.lower()
    assert "simulated" in html.lower()


def test_json_is_one_document_and_nothing_else(project):
    answer = project.bench("--suite", "tiny", "--json")
    value = json.loads(answer.out)
    assert value["schema"] >= 1
    assert Path(value["report"]).is_file()


def test_a_dry_run_runs_nothing(project):
    answer = project.bench("--suite", "tiny", "--dry-run", "--json")
    value = json.loads(answer.out)
    assert next(case["label"] for case in value["cases"]) == "block/ncb 14x14x384 fp32 simulated"
    assert not (project.folder / "results").exists()


def test_rounds_are_interleaved_and_mirrored(project):
    project.bench("--suite", "tiny")
    order = [case_id for case_id, _, _ in records(project)]
    first, again, mirrored = order[:4], order[4:8], order[8:12]
    assert again == first
    assert mirrored == first[::-1]


def test_a_killed_suite_goes_on_where_it_stopped(project):
    """SIGKILL in the middle: what was stored stays, once, and the same command completes the rest."""
    command = [sys.executable, str(ROOT / "bench.py"), "--suite", "tiny", "--config", str(project.config)]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=project.folder
    )
    database = project.folder / "results/bench.db"
    _wait_for(lambda: _count(database) >= 4)
    running.kill()
    running.wait()
    before = records(project)
    assert 4 <= len(before) < 12

    answer = project.bench("--suite", "tiny")
    assert answer.code == 0, answer.err
    assert "resuming run 1" in answer.err
    after = records(project)
    assert after[: len(before)] == before
    assert len(after) == 12
    assert len(set(after)) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_says_what_is_stored_and_exits_130(project, number):
    command = [sys.executable, str(ROOT / "bench.py"), "--suite", "tiny", "--config", str(project.config)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: _count(project.folder / "results/bench.db") >= 3)
    running.send_signal(number)
    _, printed = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "rounds are stored" in printed
    assert "Traceback" not in printed
    assert len(records(project)) >= 3


def test_two_at_once_do_not_take_the_same_rounds(project):
    """The second is told who is measuring; the first is not disturbed and completes."""
    command = [sys.executable, str(ROOT / "bench.py"), "--suite", "tiny", "--config", str(project.config)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(lambda: _count(project.folder / "results/bench.db") >= 1)
    second = project.bench("--suite", "tiny")
    assert second.code == 1
    assert f"process {running.pid} is measuring run 1" in second.err
    assert running.wait() == 0
    assert len(records(project)) == 12


def test_a_spent_budget_is_no_success_and_the_next_call_goes_on(project):
    codes = [project.bench("--suite", "tiny", "--max-seconds", "0.6").code]
    while codes[-1] == 1:
        before = len(records(project))
        codes.append(project.bench("--suite", "tiny", "--max-seconds", "0.6").code)
        assert len(records(project)) > before
    assert codes[0] == 1
    assert codes[-1] == 0
    assert len(set(records(project))) == len(records(project)) == 12


def test_a_reader_that_has_seen_enough_is_no_error(project):
    command = f"{sys.executable} {ROOT / 'bench.py'} list models --timm | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["models", "0"]
    assert done.stderr == ""


def test_a_killed_suite_leaves_no_process(project):
    command = [sys.executable, str(ROOT / "bench.py"), "--suite", "tiny", "--config", str(project.config)]
    environment = {**os.environ, "DEPLOYBENCH_TEST": str(project.folder)}
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _wait_for(lambda: _count(project.folder / "results/bench.db") >= 1)
    running.kill()
    running.wait()
    _wait_for(lambda: not _children_of(running.pid))


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "pytest-benchmark"])
def test_a_run_is_exported(project, form):
    project.bench("--suite", "tiny")
    path = project.folder / f"out.{form}"
    answer = project.bench("export", "--format", form, "-o", str(path))
    assert answer.code == 0, answer.err
    assert path.stat().st_size > 100
    if form == "csv":
        with path.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 4


def test_an_unknown_format_is_named(project):
    project.bench("--suite", "tiny")
    answer = project.bench("export", "--format", "xslx", "-o", str(project.folder / "x"))
    assert answer.code == 2
    assert "csv" in answer.err


def test_reports_are_written_again_and_runs_listed(project):
    project.bench("--suite", "tiny")
    path = project.folder / "again.html"
    assert project.bench("report", "-o", str(path)).code == 0
    assert path.read_bytes() == (project.folder / "results/tiny.html").read_bytes()
    listed = json.loads(project.bench("report", "--list", "--json").out)
    assert [run["suite"] for run in listed["runs"]] == ["tiny"]
    assert project.bench("report", "--run", "9").code == 2
    assert "did you mean tiny?" in project.bench("report", "--suite", "tinny").err


def _count(database: Path) -> int:
    if not database.exists():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        try:
            return int(db.execute("SELECT count(*) FROM records").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # the schema is not there yet


def _wait_for(condition, seconds: float = 60.0) -> None:
    """Polls, since nothing announces it; a slow machine only waits longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _children_of(pid: int) -> list[int]:
    """Processes whose command line names the killed parent's number, as every measuring process's does."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if (
                any(b"from runners.child import main" in word for word in words)
                and str(pid).encode() in words
            ):
                found.append(int(folder.name))
    return found
