"""`gate`: its exit code follows the truth, from stored numbers and from files measured side by side."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from commands.plan import request_of
from converters.cache import ArtifactCache
from converters.keys import cache_key
from reports.store import Store
from runners import locks
from tests.commands.stacked_convolutions import SIDE, put


@pytest.fixture
def base(project, stored):
    """A run whose two cases take 2 ms and 1 ms."""
    stored.add_run(project.folder / "results/bench.db", {stored.NCB: 2e6, stored.BOTTLENECK: 1e6}, seed=1)
    return project


def later(base, stored, ncb_ns: float, **changes) -> None:
    medians = {stored.NCB: ncb_ns, stored.BOTTLENECK: 1e6}
    stored.add_run(base.folder / "results/bench.db", medians, at=1, seed=2, **changes)


@pytest.mark.parametrize(
    ("ncb_ns", "bound", "code", "word"),
    [
        (2.0e6, "1%", 0, "PASSED"),
        (2.1e6, "1%", 1, "REGRESSED"),
        (2.1e6, "10%", 0, "PASSED"),
        (1.8e6, "0.5%", 0, "PASSED"),
        (2.021e6, "1%", 4, "UNDECIDED"),
    ],
)
def test_stored_numbers(base, stored, ncb_ns, bound, code, word):
    later(base, stored, ncb_ns)
    answer = base.bench("gate", "1", "--stored", "--max-regression", bound, "--json")
    value = json.loads(answer.out)
    assert answer.code == value["exit_code"] == code
    assert value["verdict"].startswith(word)
    assert value["paired"] is False
    open_cases = [row for row in value["cases"] if row["state"] == "undecided"]
    assert all(row["comparison"]["rounds_needed"] > 8 for row in open_cases)
    assert bool(open_cases) == (code == 4)


def test_the_terminal_says_how_many_rounds_would_settle_it(base, stored):
    later(base, stored, 2.021e6)
    answer = base.bench("gate", "1", "--stored")
    assert answer.code == 4
    assert "rounds would settle" in answer.out
    assert "a regression is beyond 1.01×" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "BASE is missing"),
        (["7"], "names no run"),
        (["1", "2"], "is for --stored"),
        (["1", "--force"], "is for --stored"),
        (["1", "--max-regression", "120%"], "--max-regression: '120%'"),
        (["1", "--stored"], "is the run to judge as well"),
        (["1"], "recorded no files"),
        (["1", "--rounds", "1"], "--rounds"),
        (["1", "--suite", "nope"], "unknown suite 'nope'"),
    ],
)
def test_bad_input_is_told_and_nothing_written(base, stored, argv, says):
    before = stored.digest_of(base.folder)
    answer = base.bench("gate", *argv)
    assert answer.code == 2
    assert says in answer.err
    assert answer.out == ""
    assert stored.digest_of(base.folder) == before


def test_different_protocols(base, stored):
    later(base, stored, 2e6, threads=2)
    refused = base.bench("gate", "1", "--stored")
    assert refused.code == 2
    assert "different protocols" in refused.err
    assert base.bench("gate", "1", "--stored", "--force").code == 0


def test_different_batch_sizes(base, stored):
    stored.add_run(base.folder / "results/bench.db", {stored.case(batch_size=8): 2e6}, at=1, seed=2)
    refused = base.bench("gate", "1:ncb", "2:ncb", "--stored")
    assert refused.code == 2
    assert "batch size (8 and 1)" in refused.err
    assert base.bench("gate", "1:ncb", "2:ncb", "--stored", "--force").code == 0


def with_files(project, stored, *, base_layers: int, now_layers: int, off: float = 0.0) -> str:
    """A stored BASE measured from one file, and another file where the present code's artifact lies."""
    case = stored.case(resolution=SIDE)
    cache = ArtifactCache(project.folder / "artifacts")
    put(cache, cache_key(request_of(case)), case, now_layers, off=off)
    artifact = put(cache, 32 * "b", case, base_layers)
    path = project.folder / "results/bench.db"
    run_id = stored.add_run(path, {case: 2e6}, suite="own")
    with Store(path) as store:
        store.set_artifact(run_id, case.id, artifact)
    return str(run_id)


@pytest.mark.parametrize(
    ("base_layers", "now_layers", "code"), [(2, 60, 1), pytest.param(60, 2, 0, marks=pytest.mark.slow)]
)
def test_files_side_by_side(project, stored, base_layers, now_layers, code):
    """Thirty times the work is a regression, a thirtieth none, whatever the machine does meanwhile."""
    run_id = with_files(project, stored, base_layers=base_layers, now_layers=now_layers)
    page = project.folder / "gate.html"
    answer = project.bench("gate", run_id, "--rounds", "3", "--json", "--report", str(page))
    value = json.loads(answer.out)
    assert answer.code == code, answer.err
    assert value["paired"] is True
    (row,) = value["cases"]
    assert row["comparison"]["ratio"]["pairs"] == 3
    assert (row["comparison"]["ratio"]["value"] > 1) == (code == 1)
    assert '<section id="comparison">' in page.read_text()

    with Store(project.folder / "results/bench.db", read_only=True) as store:
        kept = store.load_run(value["run_id"])
    assert kept.info.finished_at_ns is not None
    assert [len({taken.round_index for taken in result.rounds}) for result in kept.results] == [3, 3]
    shown = json.loads(project.bench("history", "ncb", "--json").out)
    labels = {series["label"] for series in shown["series"]}
    assert labels == {"block/ncb 8x8x384 fp32 onnxruntime"}  # BASE's file is no point of the case's history


def test_a_case_that_fails_is_undecided_and_no_regression(project, stored):
    """The present code's file gives other outputs than its reference."""
    run_id = with_files(project, stored, base_layers=2, now_layers=60, off=1.0)
    answer = project.bench("gate", run_id, "--rounds", "2", "--json")
    value = json.loads(answer.out)
    assert answer.code == value["exit_code"] == 4, answer.err
    assert value["verdict"].startswith("FAILED: 1 case could not be measured")
    assert list(value["left_out"]) == ["failed"]


def test_a_device_that_another_process_holds_is_no_regression(project, stored, monkeypatch):
    run_id = with_files(project, stored, base_layers=2, now_layers=60)
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.1)
    held = locks.acquire(locks.default_folder(), "cpu", wait_seconds=0, purpose="something else")
    try:
        answer = project.bench("gate", run_id, "--rounds", "2")
    finally:
        os.close(held)
    assert answer.code == 4
    assert "something else" in answer.err


def test_the_same_file_cannot_have_regressed(project, stored):
    """Only the key that it is stamped with differs: nothing is measured, and it is said."""
    run_id = with_files(project, stored, base_layers=4, now_layers=4)
    before = stored.digest_of(project.folder / "results")
    answer = project.bench("gate", run_id)
    assert answer.code == 0, answer.err
    assert "The very same file (1)" in answer.out
    assert "1 of the very same file" in " ".join(answer.out.split())
    assert "verdict" not in answer.out  # no head of a table without lines
    assert stored.digest_of(project.folder / "results") == before


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_a_file_of_base_that_is_gone_or_changed(project, stored, damage):
    run_id = with_files(project, stored, base_layers=4, now_layers=16)
    folder = project.folder / "artifacts" / (32 * "b")
    if damage == "removed":
        shutil.rmtree(folder)
    else:
        (folder / "model.onnx").write_bytes(b"other")
    answer = project.bench("gate", run_id)
    assert answer.code == 2
    assert "none of the files" in answer.err
    assert "--stored" in answer.err


def test_base_has_no_case_of_the_suite(project, stored):
    run_id = with_files(project, stored, base_layers=4, now_layers=16)
    answer = project.bench("gate", run_id, "--suite", "nets")
    assert answer.code == 2
    assert "no case in common" in answer.err
