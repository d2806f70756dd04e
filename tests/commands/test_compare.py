"""`compare`: the verdicts follow the stored numbers, and what cannot be compared is told and not written."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def two_runs(stored, tmp_path_factory) -> Path:
    """Run 1, and run 2 an hour later in which ncb takes 5 % longer."""
    path = tmp_path_factory.mktemp("two") / "bench.db"
    stored.add_run(path, {stored.NCB: 2e6, stored.BOTTLENECK: 1e6}, seed=1)
    later = {stored.NCB: 2.1e6, stored.BOTTLENECK: 1e6}
    stored.add_run(path, later, seed=2, at=1, commit="fedcba98" + 32 * "7")
    return path


@pytest.fixture
def two(project, two_runs):
    (project.folder / "results").mkdir()
    shutil.copy(two_runs, project.folder / "results/bench.db")
    return project


def states(answer) -> dict[str, str]:
    assert answer.code == 0, answer.err
    return {row["label"].split()[0]: row["state"] for row in json.loads(answer.out)["cases"]}


def test_two_runs(two):
    answer = two.bench("compare", "latest", "latest~1", "--json")
    assert states(answer) == {"block/ncb": "slower", "block/bottleneck": "equivalent"}
    value = json.loads(answer.out)
    assert value["paired"] is False
    assert "1 h 00 min apart: unpaired" in value["notes"][0]
    ratio = value["cases"][0]["comparison"]["ratio"]
    assert ratio["low"] < 1.05 < ratio["high"]
    assert states(two.bench("compare", "1", "2", "--json"))["block/ncb"] == "faster"
    assert states(two.bench("compare", "2", "1", "--delta", "10%", "--json"))["block/ncb"] == "equivalent"


@pytest.mark.parametrize("name", ["2", "fedcba98", "01cafe2", "latest", "{folder}/results/bench.db"])
def test_the_names_of_a_run(two, name):
    answer = two.bench("compare", name.format(folder=two.folder), "1", "--json")
    assert json.loads(answer.out)["a"]["run_id"] == 2


def test_a_records_file_is_a_run(two, tmp_path):
    path = tmp_path / "one.json"
    assert two.bench("export", "--format", "records", "--run", "1", "-o", str(path)).code == 0
    assert states(two.bench("compare", "latest", str(path), "--json"))["block/ncb"] == "slower"


def test_two_cases_of_one_run_are_paired(two):
    value = json.loads(two.bench("compare", "latest:ncb", "latest:bottleneck", "--json").out)
    assert value["paired"] is True
    (row,) = value["cases"]
    assert row["label"] == "ncb / bottleneck 14x14x384 fp32 onnxruntime"
    assert row["comparison"]["ratio"]["value"] == pytest.approx(2.1, rel=0.01)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_every_line_fits_the_window(two, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    answer = two.bench("compare", "latest", "latest~1")
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= width
    assert "slower" in answer.out
    assert "A machine drifts" in " ".join(answer.out.split())


def test_markdown_is_a_table_that_no_name_breaks(two, stored):
    evil = stored.case("block/a|b`<script>")
    path = two.folder / "results/bench.db"
    stored.add_run(path, {evil: 2e6}, at=2)
    stored.add_run(path, {evil: 2e6}, at=3, seed=5)
    answer = two.bench("compare", "latest", "latest~1", "--markdown")
    rows = [line for line in answer.out.splitlines() if line.startswith("| block")]
    assert len(rows) == 1
    assert rows[0].count("|") - rows[0].count("\\|") == 6
    assert "<script>" not in answer.out


def test_the_report_has_a_section_with_a_figure(two):
    page = two.folder / "out.html"
    answer = two.bench("compare", "latest", "latest~1", "--report", str(page))
    assert answer.code == 0, answer.err
    text = page.read_text()
    assert '<section id="comparison">' in text
    assert 'id="figure-comparison-0"' in text
    assert "Measured 1 h 00 min apart: unpaired" in text


def test_other_protocols_only_when_forced(two, stored):
    path = two.folder / "results/bench.db"
    stored.add_run(path, {stored.NCB: 2e6}, at=2, threads=2)
    refused = two.bench("compare", "latest", "1")
    assert refused.code == 2
    assert "threads (2 and 1)" in refused.err
    assert "--force" in refused.err
    forced = two.bench("compare", "latest", "1", "--force")
    assert forced.code == 0
    assert "Forced: 1 case of different protocols" in forced.out


def test_other_batch_sizes_only_when_forced(two, stored):
    """An inference of eight images is another quantity than one of one, in two runs and in one."""
    eight = {stored.case(batch_size=8): 8e6, stored.BOTTLENECK: 1e6}
    stored.add_run(two.folder / "results/bench.db", eight, at=2)
    for other in ("1:ncb", "3:bottleneck"):
        refused = two.bench("compare", "3:batch 8", other)
        assert refused.code == 2
        assert "batch size (8 and 1)" in refused.err
        assert "--force" in refused.err
        assert refused.out == ""
    forced = two.bench("compare", "3:batch 8", "1:ncb", "--force", "--json")
    assert states(forced) == {"block/ncb": "slower"}
    value = json.loads(forced.out)
    assert value["cases"][0]["other_protocols"] == "batch size (8 and 1)"
    assert "different quantities: batch size (8 and 1)." in value["notes"][-1]


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"affinity": [0, 1, 2, 3]}, {"affinity": [0, 1, 4]}, "their machine, cores (0-3 and 0-1, 4): this"),
        (
            {"affinity": [0, 1], "quota_cores": 1.5}, {"affinity": [0, 1]},
            "their machine, CPU quota in cores (1.5 and none told): this",
        ),
        (
            {"affinity": [0], "quota_cores": 1.0}, {"affinity": [*range(0, 40, 2)], "quota_cores": 2.0},
            "cores (0 and 0, 2, 4, 6, 8, 10 … (20 cores)) and CPU quota in cores (1 and 2): this",
        ),
        ({"affinity": [0, 1], "quota_cores": 2.0}, {"affinity": [1, 0], "quota_cores": 2}, ""),
        ({"affinity": [0, 1]}, {}, ""),
        ({"affinity": {"0": 1}}, {"affinity": [0, "1", None]}, ""),
        (None, [], ""),
    ],
)  # fmt: skip
def test_other_cores_or_quotas_of_one_machine_are_told(two, stored, one, other, says):
    path = two.folder / "results/bench.db"
    for at, cpu in ((2, other), (3, one)):
        stored.add_run(path, {stored.NCB: 2e6}, at=at, environment={"cpu": cpu})
    notes = json.loads(two.bench("compare", "4", "3", "--json").out)["notes"]
    assert [says in note for note in notes[1:]] == ([True] if says else [])


def test_what_runs_of_two_machines_may_use_is_no_note_of_its_own(two, stored):
    path = two.folder / "results/bench.db"
    for at, machine, cores in ((2, "one", [0, 1]), (3, "other", [0])):
        told = {"cpu": {"affinity": cores}}
        stored.add_run(path, {stored.NCB: 2e6}, at=at, machine=machine, environment=told)
    notes = json.loads(two.bench("compare", "4", "3", "--json").out)["notes"]
    assert len(notes) == 2
    assert "of different machines" in notes[1]


def test_cases_of_one_side_are_named(two, stored):
    stored.add_run(two.folder / "results/bench.db", {stored.NCB: 2e6, stored.case(resolution=7): 1e6}, at=2)
    value = json.loads(two.bench("compare", "latest", "1", "--json").out)
    assert value["left_out"] == {
        "only_a": ["block/ncb 7x7x384 fp32 onnxruntime"],
        "only_b": ["block/bottleneck 14x14x384 fp32 onnxruntime"],
    }


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["latest", "latest"], "compared with itself"),
        (["latest", "7"], "names no run"),
        (["latest", "latest~2"], "holds 2 runs"),
        (["latest", "no-such-branch"], "names no run"),
        (["latest", "1:nbc"], "did you mean ncb"),
        (["latest:ncb 7x7x384", "1"], "has no case"),
        (["latest", "1", "--delta=-1%"], "--delta: '-1%'"),
        (["latest", "1", "--delta", "nan"], "--delta: 'nan'"),
        (["latest", "1", "--json", "--markdown"], "stdout is one of them"),
        (["latest"], "required: B"),
        (["latest", "1", "--suite", "other"], "holds no run of suite 'other'"),
    ],
)
def test_bad_input_is_told_and_nothing_written(two, stored, argv, says):
    before = stored.digest_of(two.folder)
    answer = two.bench("compare", *argv)
    assert answer.code == 2
    assert says in answer.err
    assert answer.out == ""
    assert stored.digest_of(two.folder) == before


def test_runs_without_a_case_in_common(two, stored):
    stored.add_run(two.folder / "results/bench.db", {stored.case(resolution=7): 1e6}, at=2)
    answer = two.bench("compare", "latest", "1")
    assert answer.code == 2
    assert "no case in common" in answer.err


def on_a_device(stored, unit: str, name: str):
    where = {"backend": "coreml", "precision": "fp16", "device": "simulated", "compute_unit": unit}
    return dataclasses.replace(stored.case(name), **where)


def test_runs_that_differ_by_compute_unit_are_told_so_and_paired_by_name(two, stored):
    """Several cases on each side: each with its own, though the unit keeps them apart."""
    path = two.folder / "results/bench.db"
    for at, unit, ns in ((2, "all", 1e6), (3, "cpuOnly", 2e6)):
        medians = {on_a_device(stored, unit, f"block/{name}"): ns for name in ("ncb", "ntb")}
        stored.add_run(path, medians, at=at, compute_unit=unit)
    answer = two.bench("compare", "4", "3")
    assert answer.code == 2
    assert "run 4 and run 3 have no case in common" in answer.err
    assert "differ in compute unit (cpuOnly and all)" in answer.err
    assert "write ':cpuOnly' behind run 4 and ':all' behind run 3 and add --force" in answer.err
    assert "--force" in two.bench("compare", "4:cpuOnly", "3:all").err
    value = json.loads(two.bench("compare", "4:cpuOnly", "3:all", "--force", "--json").out)
    assert [row["label"].split()[:4] for row in value["cases"]] == [
        [f"block/{name}", "14x14x384", "fp16", "coreml"] for name in ("ncb", "ntb")
    ]
    assert all(row["comparison"]["ratio"]["value"] == pytest.approx(2, rel=0.01) for row in value["cases"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device": "cuda"}, "differ in device (cuda and cpu). Where that is what is to be compared, write"
         " ':cuda' behind run 3 and add --force"),
        ({"precision": "fp16"}, "differ in precision (fp16 and fp32). Where that is what is to be compared,"
         " write ':fp16' behind run 3 and ':fp32' behind run 1."),
        ({"batch_size": 8}, "differ in batch (batch 8 and batch 1). Run the same suite twice, or name one"
         " case of either by words of its label and add --force"),
    ],
)  # fmt: skip
def test_what_keeps_two_runs_apart_is_said(two, stored, changes, says):
    stored.add_run(two.folder / "results/bench.db", {stored.case(**changes): 1e6}, at=2)
    answer = two.bench("compare", "3", "1")
    assert answer.code == 2
    assert says in answer.err


def test_a_name_that_is_several_things(two, monkeypatch):
    (two.folder / "2").write_text("{}")
    monkeypatch.chdir(two.folder)
    answer = two.bench("compare", "2", "1")
    assert answer.code == 2
    assert "'2' is several things: the file 2, run 2" in answer.err


def test_a_store_of_a_newer_schema(two):
    with sqlite3.connect(two.folder / "results/bench.db") as db:
        db.execute("PRAGMA user_version = 99")
    for argv in (["compare", "1", "2"], ["gate", "1"], ["history", "ncb"]):
        answer = two.bench(*argv)
        assert answer.code == 2
        assert "newer than" in answer.err
        assert "update the program" in answer.err


def test_without_a_store(project, stored):
    for argv in (["compare", "1", "2"], ["gate", "1"], ["gate", "1", "--stored"], ["history", "ncb"]):
        answer = project.bench(*argv)
        assert answer.code == 2
        assert "no result store" in answer.err
    assert not (project.folder / "results").exists()
