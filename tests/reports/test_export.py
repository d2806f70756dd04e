from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.export import FORMATS, ExportError, document, export
from reports.files import OutputError
from reports.records import CaseResult
from runners.measurement import Failure


@pytest.fixture(scope="module")
def files(tmp_path_factory, blocks_run) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("export")
    return {name: export(blocks_run, name, folder / f"run.{name}") for name in FORMATS}


def test_an_unknown_format_lists_the_known(blocks_run, tmp_path):
    with pytest.raises(
        ExportError, match="unknown export format 'xlsx'; known: csv, samples-csv, json, parquet"
    ):
        export(blocks_run, "xlsx", tmp_path / "run.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_path_that_cannot_be_written_is_named(sample, tmp_path, fmt):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*run\.out"):
        export(sample.run_of([]), fmt, tmp_path / "file" / "run.out")


def test_csv_has_one_row_per_planned_case_in_plan_order(files, blocks_run):
    with files["csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case_id"] for row in rows] == list(blocks_run.info.case_ids)
    first = rows[0]
    assert first["model"] == "block/ncb"
    assert float(first["low_ns"]) < float(first["median_ns"]) < float(first["high_ns"])
    assert first["samples"] == "300"
    assert (first["rank_first"], first["rank_last"]) == ("1", "3")
    failed = next(row for row in rows if row["failure"])
    assert failed["failure"] == "out_of_memory"
    assert failed["median_ns"] == failed["samples"] == ""
    noisy = next(row for row in rows if "noisy" in row["flags"])
    assert noisy["flags"] == "noisy not_converged"


def test_samples_hold_every_nanosecond(files, blocks_run):
    frame = pd.read_csv(files["samples-csv"])
    same = pd.read_parquet(files["parquet"])
    assert len(frame) == len(same)
    expected = sum(r.samples_ns.size + r.warmup_ns.size for case in blocks_run.results for r in case.rounds)
    assert len(same) == expected
    result = blocks_run.results[3]
    taken = same[(same.case_id == result.case.id) & (same["round"] == 2) & ~same.warmup]
    assert np.array_equal(taken.elapsed_ns, result.rounds[2].samples_ns)
    assert np.allclose(taken.ns, result.rounds[2].samples_ns / result.rounds[2].loop_count)
    assert taken["sample"].tolist() == list(range(60))
    assert same.counted.sum() == expected - same.warmup.sum()
    assert same.dtypes.elapsed_ns == np.int64


def test_a_repeated_round_is_exported_and_marked(sample, tmp_path):
    case = sample.block_case("block/ncb", 14, 384)
    rounds = (sample.make_round(2e6, flags=("disturbed",)), sample.make_round(2e6, attempt=1))
    run = sample.run_of([CaseResult(case, None, rounds, None, 2)])
    frame = pd.read_parquet(export(run, "parquet", tmp_path / "run.parquet"))
    timed = frame[~frame.warmup]
    assert timed.groupby("attempt").counted.all().to_dict() == {0: False, 1: True}


def test_samples_of_several_inferences_have_no_tail(sample, tmp_path):
    case = sample.block_case("block/ncb", 14, 384)
    rows = {}
    for loops in (1, 3):
        rounds = tuple(sample.make_round(2e6, index=i, count=400, loop_count=loops) for i in range(5))
        run = sample.run_of([CaseResult(case, None, rounds, None, 5)])
        (found,) = document(run, samples=False)["cases"]
        path = export(run, "csv", tmp_path / f"{loops}.csv")
        rows[loops] = (found["summary"], pd.read_csv(path).iloc[0])
    for name in ("p90", "p99"):
        assert rows[1][0][name]["value_ns"] == rows[1][1][f"{name}_ns"] > 2e6
        assert rows[3][0][name] is None
        assert pd.isna([rows[3][1][f"{name}_{bound}ns"] for bound in ("", "low_", "high_")]).all()
    assert rows[3][0]["median_ns"] > 0


def test_json_holds_everything(files, blocks_run):
    found = json.loads(files["json"].read_text(), parse_constant=pytest.fail)
    assert found["schema"] == 1
    assert found["run"]["command"] == blocks_run.info.command
    assert found["sessions"][0]["ledger"] == dict(blocks_run.sessions[0].ledger)
    case, result = found["cases"][0], blocks_run.results[0]
    assert case["case"] == result.case.to_dict()
    assert case["rounds"][1]["samples_ns"] == result.rounds[1].samples_ns.tolist()
    assert case["artifact"]["steps"][0]["parity"]["max_relative"] == 3.0e-7
    assert case["summary"]["median_ns"] > 0
    failed = next(c for c in found["cases"] if c["failure"])
    assert failed["failure"]["kind"] == "out_of_memory"
    assert failed["summary"] is None


def test_the_document_without_samples_is_short(blocks_run):
    short = document(blocks_run, samples=False)
    assert "rounds" not in short["cases"][0]
    assert short["cases"][0]["summary"]["rounds"] == 5
    assert len(json.dumps(short)) < 200_000


def test_what_json_lacks_becomes_null(sample):
    case = sample.block_case("block/ncb", 14, 384)
    taken = sample.make_round(2e6, output_error=math.nan)
    found = document(sample.run_of([CaseResult(case, None, (taken,), None, 1)]))
    assert found["cases"][0]["rounds"][0]["output_error"] is None
    assert found["cases"][0]["summary"]["half_width"] is None
    json.dumps(found, allow_nan=False)


def compare(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    return done.stdout


def test_pytest_benchmark_reads_and_compares_it(tmp_path, blocks_run, sample):
    first = export(blocks_run, "pytest-benchmark", tmp_path / "0001_first.json")
    slower = [
        dataclasses.replace(
            r, rounds=tuple(dataclasses.replace(t, samples_ns=t.samples_ns * 2) for t in r.rounds)
        )
        for r in blocks_run.results
    ]
    second = export(sample.run_of(slower), "pytest-benchmark", tmp_path / "0002_second.json")
    columns = "--columns=min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations"
    text = compare(str(first), str(second), columns, "--group-by=fullname", cwd=tmp_path)
    assert text.count("2 tests") == 54
    assert "block/ncb 14x14x384 fp32 onnxruntime" in text
    assert text.count("(2.00)") > 54


def test_pytest_benchmark_s_own_statistics_agree(files):
    from pytest_benchmark.stats import Stats

    found = json.loads(files["pytest-benchmark"].read_text(), parse_constant=pytest.fail)
    assert len(found["benchmarks"]) == 54
    assert len({b["fullname"] for b in found["benchmarks"]}) == 54
    for benchmark in found["benchmarks"][::9]:
        stats = Stats()
        for value in benchmark["stats"]["data"]:
            stats.update(value)
        for name in ("min", "max", "mean", "stddev", "median", "rounds", "ops", "total"):
            assert benchmark["stats"][name] == pytest.approx(getattr(stats, name)), name
        assert set(Stats.fields) <= set(benchmark["stats"])


@pytest.mark.parametrize("fmt", FORMATS)
def test_nothing_measured_exports_too(sample, tmp_path, fmt):
    case = sample.block_case("block/ncb", 14, 384)
    failed = CaseResult(case, None, (), Failure("load", 'a,"b"\nc'), 1)
    for run in (sample.run_of([failed]), sample.run_of([])):
        path = export(run, fmt, tmp_path / "run.out")
        assert path.stat().st_size > 0
    if fmt == "csv":
        export(sample.run_of([failed]), fmt, path)
        assert pd.read_csv(path).failure_message.tolist() == ['a,"b"\nc']
