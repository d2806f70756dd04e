"""Figures of another tool in the store: told apart from ours, once, and refused where they cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports.records import CaseResult
from reports.store import Store
from reports.tables import build

ROOT = Path(__file__).parents[2]
TOLD = ["--as", "trtexec", "--model", "nextvit_small", "--precision", "fp16", "--device-name", "Tesla T4"]


def times(folder: Path, *, start_ms: float = 200.0, name: str = "times.json") -> Path:
    queries = [
        {"startComputeMs": start_ms + 4 * i, "computeMs": 3.0 + 0.01 * (i % 7), "h2dMs": 0.05, "d2hMs": 0.01}
        for i in range(100)
    ]
    path = folder / name
    path.write_text(json.dumps(queries))
    return path


def stored(project) -> list[dict]:
    listed = project.bench("report", "--list", "--json")
    return json.loads(listed.out)["runs"] if listed.code == 0 else []


def test_trtexec_becomes_a_run_of_its_own(project, tmp_path):
    path = times(tmp_path)
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps([{"count": 9}, {"name": "conv", "timeMs": 9.0, "averageMs": 1.0}]))
    first = project.bench(
        "import", str(path), *TOLD, "--profile", str(profile), "--trtexec-version", "10.3",
        "--trtexec-command", "trtexec --onnx=m.onnx --useCudaGraph",
    )  # fmt: skip
    assert first.code == 0, first.err
    assert "run 1, suite trtexec, 1 case, 1 round" in first.out

    shown = project.bench("report")
    assert shown.code == 0
    assert "3.03" in shown.out
    assert "±?" in shown.out  # one process has no interval
    assert "Another tool took this: outputs were not compared" in shown.out
    assert "unknown time" in shown.out
    page = (project.folder / "results/trtexec.html").read_text()
    assert "trtexec 10.3" in page
    assert "Tesla T4" in page

    path_json = tmp_path / "run.json"
    assert project.bench("export", "--format", "json", "-o", str(path_json)).code == 0
    case = json.loads(path_json.read_text())["cases"][0]
    assert case["case"]["backend"] == "trtexec"
    assert case["summary"]["low_ns"] is None
    taken = case["rounds"][0]
    assert taken["samples_ns"][:2] == [3_000_000, 3_010_000]
    assert taken["layers"] == {"conv": 1_000_000}
    assert taken["protocol"]["cuda_graph"] is True
    assert taken["protocol"]["options"]["streams"] == "unknown"
    assert "cuda_graph" not in taken["protocol"]["options"]
    assert taken["protocol"]["sync"] == "unknown"
    assert case["summary"]["throughput_per_s"] is None
    assert "Images/s" not in page
    assert taken["protocol"]["device"] == "cuda, Tesla T4"
    assert taken["output_error"] is None


def test_the_same_file_adds_nothing_wherever_it_lies(project, tmp_path):
    path = times(tmp_path)
    copy = times(tmp_path, name="copy.json")
    assert project.bench("import", str(path), *TOLD).code == 0
    again = project.bench("import", str(copy), *TOLD)
    assert again.code == 0
    assert "nothing added" in again.out
    other = project.bench("import", str(copy), *TOLD[:-1], "Tesla P4")
    assert "run 2" in other.out
    assert [run["suite"] for run in stored(project)] == ["trtexec", "trtexec"]


def test_two_imports_at_once_add_one_run(project, tmp_path):
    command = [sys.executable, str(ROOT / "bench.py"), "import", str(times(tmp_path)), *TOLD]
    command += ["--config", str(project.config), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate()[0])["imported"][0] for process in both]
    assert sorted(entry["added"] for entry in said) == [False, True]
    assert {entry["run_id"] for entry in said} == {1}


def test_ours_and_trtexecs_never_share_a_ranking(project, tmp_path):
    """The same network, precision and device, measured by both: two groups, each ranked by itself."""
    assert project.bench("import", str(times(tmp_path)), *TOLD).code == 0
    with Store(project.folder / "results/bench.db", read_only=True) as store:
        run = store.load_run(1)
    theirs = run.results[0]
    taken = theirs.rounds[0]
    assert {name: values[0] for name, values in taken.parts.items()} == {"h2d": 50_000, "d2h": 10_000}
    protocol = replace(taken.protocol, backend="trt", runtime="tensorrt 10.3")
    ours = CaseResult(
        replace(theirs.case, backend="trt"), rounds=(replace(taken, protocol=protocol, flags=()),)
    )
    table = build(replace(run, results=(theirs, ours)))
    assert sorted(facet.settings["backend"] for facet in table.facets) == ["trt", "trtexec"]
    assert all(len(facet.rows) == 1 for facet in table.facets)


def test_without_a_command_the_protocol_claims_no_default(project, tmp_path):
    assert project.bench("import", str(times(tmp_path)), *TOLD).code == 0
    with Store(project.folder / "results/bench.db", read_only=True) as store:
        protocol = store.load_run(1).results[0].rounds[0].protocol
    assert protocol.options == {"cuda_graph": "unknown", "streams": "unknown"}
    assert protocol.sync == "unknown"


@pytest.mark.parametrize("suite", ["../escaped/page", "{folder}/escaped", "..", "red\x1b[31m"])
def test_a_stored_suite_of_another_form_stays_in_the_folder_and_off_the_terminal(project, suite):
    """A store that came from elsewhere may hold any name."""
    name = suite.format(folder=project.folder)
    with Store(project.folder / "deep/results/other.db") as store:
        store.begin_run(suite=name, plan_digest="p", seed=0, command="", config={}, environment={}, cases=())
    told = ["--store", str(project.folder / "deep/results/other.db")]
    shown = project.bench("report", *told)
    assert shown.code == 0, shown.err
    written = [path.relative_to(project.folder).parent for path in project.folder.rglob("*.html")]
    assert written == [Path("results")]
    listed = project.bench("report", "--list", *told)
    assert "\x1b" not in shown.out + listed.out
    assert not suite.startswith("red") or r"red\x1b[31m" in listed.out


def test_a_file_that_is_bad_keeps_the_good_ones_out(project, tmp_path):
    assert project.bench("--suite", "tiny", "--store", str(tmp_path / "one.db")).code == 0
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    told = ["export", "--format", "records", "--store", str(tmp_path / "one.db"), "-o", str(good)]
    assert project.bench(*told).code == 0
    bad.write_text(good.read_text()[:-100])
    refused = project.bench("import", str(good), str(bad))
    assert refused.code == 2
    assert "bad.json" in refused.err
    assert not (project.folder / "results/bench.db").exists()
    taken = project.bench("import", str(good), str(good), "--json")
    assert taken.code == 0
    assert [entry["run_id"] for entry in json.loads(taken.out)["imported"]] == [1, 1]
    assert len(stored(project)) == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model", "nextvit_small"], "add --as trtexec"),
        (["--as", "trtexc"], "did you mean trtexec"),
        ([*TOLD[:2], *TOLD[4:]], "--model is missing"),
        ([*TOLD[:4], *TOLD[6:]], "--precision is missing"),
        (TOLD[:-2], "--device-name is missing"),
        ([*TOLD, "--precision", "fp17"], "unknown precision 'fp17'"),
        ([*TOLD, "--model", "nextvit_smal"], "did you mean nextvit_small"),
        ([*TOLD, "--resolution", "big"], "--resolution: 'big'"),
        ([*TOLD, "--resolution", "17"], "resolution=17"),
        ([*TOLD, "--batch-size", "0"], "--batch-size: '0'"),
        ([*TOLD, "--warmup-ms", "-5"], "--warmup-ms: '-5'"),
        ([*TOLD, "--warmup-ms", "9999999"], "--warmup-ms: '9999999'"),
        ([*TOLD, "--warmup-ms", "5000"], "within the 5000 ms of warm-up"),
        ([*TOLD, "--profile", "missing.json"], "missing.json cannot be read"),
        (["more.json", *TOLD], "one file at a time"),
        ([], "is no file of records"),
    ],
)
def test_what_is_missing_or_wrong_is_told_and_nothing_written(project, tmp_path, argv, says):
    answer = project.bench("import", str(times(tmp_path)), *argv)
    assert answer.code == 2
    assert says in answer.err
    assert not (project.folder / "results/bench.db").exists()
