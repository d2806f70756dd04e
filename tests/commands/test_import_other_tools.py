"""pytest-benchmark and onnxruntime_perf_test in the store: shown, kept apart from ours, refused if wrong."""

from __future__ import annotations

import json

import pytest

PERF = ["--as", "onnxruntime_perf_test", "--model", "nextvit_small", "--precision", "fp32"]
PERF += ["--device-name", "Example CPU"]


def benchmarks(folder, *, seconds=0.002, name="benchmarks.json", **stats):
    data = [seconds * (1 + 0.001 * (i % 5)) for i in range(20)]
    entries = [
        {
            "name": n,
            "fullname": f"t.py::{n}",
            "group": None,
            "stats": {"data": data, "iterations": 1, **stats},
        }
        for n in ("test_fast", "test_slow")
    ]
    value = {
        "machine_info": {"cpu": {"brand_raw": "Example CPU"}, "node": "secret-host"},
        "commit_info": {"id": 5 * "01234567", "dirty": True},
        "benchmarks": entries,
        "datetime": "2025-11-21T01:02:03+00:00",
        "version": "5.1.0",
    }  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def results(folder, *lines):
    path = folder / "result.csv"
    path.write_text("\n".join(lines or [f"m,0.00{5 + i % 3},1000,50,{i}" for i in range(30)]) + "\n")
    return path


def test_benchmarks_are_cases_of_their_own(project, tmp_path):
    path = benchmarks(tmp_path)
    first = project.bench("import", str(path))
    assert first.code == 0, first.err
    assert "suite pytest-benchmark, 2 cases, 2 rounds" in first.out
    assert "nothing added" in project.bench("import", str(path)).out
    shown = project.bench("report")
    assert shown.code == 0, shown.err
    assert "test_fast" in shown.out
    assert "Another tool" in " ".join(shown.out.split())
    assert b"secret-host" not in (project.folder / "results/bench.db").read_bytes()


def test_a_file_of_benchmarks_can_be_compared_as_it_is(project, tmp_path):
    a, b = benchmarks(tmp_path, seconds=0.003, name="a.json"), benchmarks(tmp_path)
    answer = project.bench("compare", str(a), str(b), "--json")
    assert answer.code == 0, answer.err
    row = json.loads(answer.out)["cases"][0]
    assert row["comparison"]["ratio"]["value"] == pytest.approx(1.5)
    assert row["comparison"]["ratio"]["low"] is None
    assert row["state"] == "inconclusive"
    assert row["advice"] == "one round gives no interval"
    assert not (project.folder / "results").exists()


def test_perf_test_processes_are_rounds(project, tmp_path):
    lines = [f"m,0.00{5 + i % 3},1000,50,{i}" for i in range(30)]
    path = results(tmp_path, *lines, "", "Min Latency: 0.005 s", *lines, *lines)
    answer = project.bench(
        "import", str(path), *PERF, "--tool-command", "onnxruntime_perf_test -e cpu -x 2 m r"
    )
    assert answer.code == 0, answer.err
    assert "1 case, 3 rounds" in answer.out
    exported = tmp_path / "run.json"
    assert project.bench("export", "--format", "json", "-o", str(exported)).code == 0
    case = json.loads(exported.read_text())["cases"][0]
    assert case["case"]["threads"] == 2
    assert case["summary"]["median_ns"] == pytest.approx(6e6)
    assert case["rounds"][0]["samples_ns"][:2] == [5_000_000, 6_000_000]


@pytest.mark.parametrize("bad", ["nan", "-0.005", "0", "1e30"])
def test_a_sample_that_cannot_be_writes_nothing(project, tmp_path, bad):
    answer = project.bench("import", str(results(tmp_path, "m,0.005,1,1,0", f"m,{bad},1,1,1")), *PERF)
    assert answer.code == 2
    assert "line 2" in answer.err
    assert "nothing was imported" in answer.err
    answer = project.bench("import", str(benchmarks(tmp_path, data=[0.001, float(bad)])))
    assert answer.code == 2
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (PERF[:-2], "--device-name is missing"),
        ([*PERF, "--warmup-ms", "3"], "--warmup-ms is for --as trtexec"),
        (["--as", "perf"], "known: "),
        (["--tool-version", "1.22"], "add --as trtexec or onnxruntime_perf_test"),
    ],
)
def test_what_is_missing_or_wrong_is_told(project, tmp_path, argv, says):
    answer = project.bench("import", str(results(tmp_path)), *argv)
    assert answer.code == 2
    assert says in answer.err
    assert not (project.folder / "results").exists()
