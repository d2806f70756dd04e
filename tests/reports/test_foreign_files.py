"""Files of other tools: read to the nanosecond, and refused where they hold what cannot be."""

from __future__ import annotations

import contextlib
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import perf_test, pytest_benchmark_file
from reports.foreign import ForeignFileError

RESULT = """squeezenet,0.00612,71303168,48,0
squeezenet,0.00598,71303168,48,1
squeezenet,0.00604,71303168,48,2

Min Latency: 0.00598 s
P50 Latency: 0.00604 s
P999 Latency: 0.00612 s
squeezenet,0.0071,81303168,50,0
squeezenet,0.0072,81303168,50,1
"""
BAD = ["nan", "NaN", "inf", "-0.006", "0", "0.0", "1e-11", "1e99", "1e400", "six", ""]


def benchmarks(**stats) -> dict:
    value = {"data": [0.001, 0.0011], "iterations": 2, **stats}
    return {
        "machine_info": {"cpu": {"brand_raw": "Example CPU"}, "python_version": "3.11.9"},
        "commit_info": {"id": "0" * 40, "dirty": False},
        "benchmarks": [{"name": "test_a", "fullname": "t.py::test_a", "group": None, "stats": value}],
        "datetime": "2025-11-21T01:02:03+00:00",
        "version": "5.1.0",
    }


def written(folder, text):
    path = folder / "file"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_a_result_file_holds_a_process_per_first_inference(tmp_path):
    first, second = perf_test.read(written(tmp_path, RESULT))
    assert first.samples_ns.tolist() == [6_120_000, 5_980_000, 6_040_000]
    assert second.samples_ns.tolist() == [7_100_000, 7_200_000]
    assert (first.model, first.peak_rss_bytes) == ("squeezenet", 71303168)


def test_printed_iterations_are_read_too(tmp_path):
    text = (
        "Setting intra_op_num_threads to 1\niteration:1,time_cost:0.0061\niteration:2,time_cost:0.006\nTotal"
    )
    (process,) = perf_test.read(written(tmp_path, text))
    assert process.samples_ns.tolist() == [6_100_000, 6_000_000]


@pytest.mark.parametrize("bad", BAD)
def test_a_result_that_is_no_time(tmp_path, bad):
    with pytest.raises(ForeignFileError, match="line 2"):
        perf_test.read(written(tmp_path, RESULT.replace("0.00598,", f"{bad},", 1)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no inference"),
        ("Average inference time cost: 3.4 ms\n", "is no line of"),
        (RESULT.replace("squeezenet,0.00598,71303168,48,1\n", ""), "inference 2 follows 0"),
        (RESULT.removeprefix("squeezenet,0.00612,71303168,48,0\n"), "the beginning of the file is missing"),
        (RESULT + "resnet,0.1,1,1,0\n", "several models"),
        ("a,0.1,many,1,0\n", "is no line of"),
    ],
)
def test_a_result_file_that_is_not_whole(tmp_path, text, says):
    with pytest.raises(ForeignFileError, match=says):
        perf_test.read(written(tmp_path, text))


def test_a_model_name_may_hold_commas(tmp_path):
    (process,) = perf_test.read(written(tmp_path, "a,b,0.1,1,1,0\n"))
    assert process.model == "a,b"


def test_benchmarks_are_read_as_calls_in_a_row(tmp_path):
    path = written(tmp_path, benchmarks())
    assert pytest_benchmark_file.is_one(path)
    found = pytest_benchmark_file.read(path)
    assert found.benchmarks[0].samples_ns.tolist() == [2_000_000, 2_200_000]
    assert found.benchmarks[0].iterations == 2
    assert found.started_at_ns == 1_763_686_923_000_000_000


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -0.001, 0, 1e-12, 1e99, "0.001", None, True, [1]]
)
def test_a_benchmark_that_is_no_time(tmp_path, bad):
    with pytest.raises(ForeignFileError, match=r"data\[1\]|is no time"):
        pytest_benchmark_file.read(written(tmp_path, benchmarks(data=[0.001, bad])))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"benchmarks": []}, "holds no benchmark"),
        ({"benchmarks": 3}, "no list of benchmarks"),
        ({"benchmarks": [3]}, "has no stats"),
        (benchmarks(data=[]), "--benchmark-save-data"),
        (benchmarks(iterations=0), "is no number of calls"),
        (benchmarks(iterations=True), "is no number of calls"),
        ({**benchmarks(), "benchmarks": benchmarks()["benchmarks"] * 2}, "is there twice"),
        ("[", "cut short"),
        ("[" * 100_000, "cut short"),
    ],
)
def test_a_file_of_benchmarks_that_is_none(tmp_path, value, says):
    with pytest.raises(ForeignFileError, match=says):
        pytest_benchmark_file.read(written(tmp_path, value))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.printable, max_size=200), st.integers(0, len(RESULT)))
def test_whatever_is_put_in_is_read_or_refused(tmp_path_factory, text, place):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_text(RESULT[:place] + text + RESULT[place:])
    for read in (perf_test.read, pytest_benchmark_file.read):
        with contextlib.suppress(ForeignFileError):
            assert read(path)
