"""Files of trtexec, written here by hand in the three forms that its sources tell."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.trtexec import Settings, TrtexecError, read_profile, read_times, settings_of

NAMES = st.sampled_from(
    ["count", "name", "averageMs", "computeMs", "h2dMs", "endToEndMs", "startEnqMs", "endEnqMs"]
)


def later(start: float, compute: float, *, h2d: float = 0.05, d2h: float = 0.01) -> dict[str, float]:
    return {
        "startEnqMs": start - 0.5, "endEnqMs": start - 0.25,
        "startH2dMs": start - h2d, "endH2dMs": start,
        "startComputeMs": start, "endComputeMs": start + compute,
        "startD2hMs": start + compute, "endD2hMs": start + compute + d2h,
        "h2dMs": h2d, "computeMs": compute, "d2hMs": d2h, "latencyMs": h2d + compute + d2h,
    }  # fmt: skip


def version_8(start: float, compute: float) -> dict[str, float]:
    return {**later(start, compute), "endToEndMs": compute + 0.3}


def version_7(start: float, compute: float) -> dict[str, float]:
    return {
        "startInMs": start - 0.05, "endInMs": start, "startComputeMs": start, "endComputeMs": start + compute,
        "startOutMs": start + compute, "endOutMs": start + compute + 0.01,
        "inMs": 0.05, "computeMs": compute, "outMs": 0.01, "latencyMs": compute + 0.06, "endToEndMs": 3.5,
    }  # fmt: skip


def saved(folder: Path, value: object, name: str = "times.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_later_file_holds_timed_queries_only(tmp_path):
    times = read_times(saved(tmp_path, [later(1.0, 3.125), later(5.0, 3.25)]))
    assert times.samples_ns.tolist() == [3_125_000, 3_250_000]
    assert times.warmup_ns.size == 0
    assert {name: values.tolist() for name, values in times.parts.items()} == {
        "h2d": [50_000] * 2,
        "d2h": [10_000] * 2,
        "latency": [3_185_000, 3_310_000],
        "enqueue": [250_000] * 2,
    }
    assert times.transfers == "both"


@pytest.mark.parametrize("query", [version_7, version_8])
def test_an_older_file_begins_with_the_warm_up(tmp_path, query):
    path = saved(tmp_path, [query(10.0, 9.0), query(199.9, 4.0), query(200.0, 3.0), query(204.0, 3.5)])
    times = read_times(path)
    assert times.warmup_ns.tolist() == [9_000_000, 4_000_000]
    assert times.samples_ns.tolist() == [3_000_000, 3_500_000]
    assert all(values.size == 2 for values in times.parts.values())
    assert {"h2d", "d2h", "latency", "end_to_end"} <= times.parts.keys()
    assert ("enqueue" in times.parts) == (query is version_8)
    assert read_times(path, warmup_ms=0).samples_ns.size == 4
    assert read_times(path, warmup_ms=50).samples_ns.size == 3


def test_without_transfers_there_are_no_parts_of_them(tmp_path):
    times = read_times(saved(tmp_path, [later(1.0, 3.0, h2d=0, d2h=0)]))
    assert times.transfers == "none"
    assert not {"h2d", "d2h"} & times.parts.keys()


def test_only_compute_times_are_needed(tmp_path):
    times = read_times(saved(tmp_path, [{"computeMs": 2}, {"computeMs": 2.5}]))
    assert times.samples_ns.tolist() == [2_000_000, 2_500_000]
    assert times.parts == {}
    assert times.transfers == "unknown"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "cut short"),
        ('[{"computeMs" : 3', "cut short"),
        ('[{"computeMs" : nan}]', "cut short"),
        ('[{"computeMs" : NaN}]', "NaN is no time"),
        ('[{"computeMs" : 1e999}]', "no time in milliseconds"),
        ("[" * 50_000, "cut short"),
        ({}, "holds no list"),
        ([], "holds no query"),
        ([3], "entry 0 has no computeMs"),
        ([{"count": 4}, {"name": "conv", "averageMs": 1}], "--exportTimes"),
        ([{"computeMs": 0}], "no time above 0"),
        ([{"computeMs": -1.0}], "computeMs = -1.0"),
        ([{"computeMs": "3"}], "computeMs = 3"),
        ([{"computeMs": True}], "computeMs = True"),
        ([{"computeMs": 1e12}], "longer than any run"),
        ([later(1.0, 3.0), {"computeMs": 3}], "entry 1 differs from the first"),
        ([{**later(1.0, 3.0), "endEnqMs": 0.1}], "enqueue of query 0 ends before it starts"),
        ([version_8(10.0, 3.0)], "within the 200 ms of warm-up"),
    ],
)
def test_what_trtexec_cannot_have_written_is_refused(tmp_path, value, says):
    with pytest.raises(TrtexecError) as refused:
        read_times(saved(tmp_path, value))
    assert says in str(refused.value)
    assert "times.json" in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(st.dictionaries(NAMES, st.floats(0, 1e3) | JSON, max_size=6), max_size=4) | JSON)
def test_any_json_is_read_or_refused_and_never_breaks(tmp_path, entries):
    path = saved(tmp_path, entries)
    for reader in (read_times, read_profile):
        with contextlib.suppress(TrtexecError):
            assert reader(path)


PROFILE = [
    {"count": 100},
    {"name": "conv + relu", "timeMs": 120.0, "averageMs": 1.2, "medianMs": 1.19, "percentage": 60.0},
    {"name": "gemm", "timeMs": 80.0, "averageMs": 0.8, "percentage": 40.0},
    {"name": "gemm", "timeMs": 0.0, "averageMs": 0.0, "percentage": 0.0},
]


def test_a_profile_gives_the_average_of_every_layer(tmp_path):
    layers = read_profile(saved(tmp_path, PROFILE))
    assert layers == {"conv + relu": 1_200_000, "gemm": 800_000, "gemm (2)": 0}
    assert list(layers) == ["conv + relu", "gemm", "gemm (2)"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([later(1.0, 3.0)], "does not begin with a count"),
        ([{"count": 3}], "holds no layer"),
        ([{"count": 3}, {"averageMs": 1}], "entry 1 has no layer name"),
        ([{"count": 3}, {"name": "conv"}], "averageMs = None"),
        ([{"count": 3}, {"name": "conv", "averageMs": -1}], "averageMs = -1"),
    ],
)
def test_another_profile_is_refused(tmp_path, value, says):
    with pytest.raises(TrtexecError) as refused:
        read_profile(saved(tmp_path, value, "profile.json"))
    assert says in str(refused.value)


def test_a_command_line_tells_the_protocol():
    assert settings_of("") == Settings()
    told = settings_of("trtexec --onnx=m.onnx --useCudaGraph --useSpinWait --infStreams=2 --warmUp=500")
    assert told == Settings(cuda_graph=True, sync="spin", streams=2, warmup_ms=500.0)
    assert settings_of("trtexec --onnx=m.onnx --streams=4").streams == 4
    assert settings_of("trtexec --useCudaGraph=1").cuda_graph is True


@pytest.mark.parametrize("command", ["", "trtexec --loadEngine=m.engine", "trtexec --onnx=--useCudaGraph"])
def test_what_a_command_line_does_not_name_is_unknown_and_no_default(command):
    """Newer releases use CUDA graphs and spin-wait unless told otherwise, older ones do not."""
    assert settings_of(command) == Settings(cuda_graph=None, sync="unknown", streams=None, warmup_ms=None)
