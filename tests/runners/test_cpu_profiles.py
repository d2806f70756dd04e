"""Profiles by layer of the CPU runtimes: of real sessions, after the timed part, once for every case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners import layer_profile, suite
from runners.layer_profile import Pass, placed, repeat, take, typical
from runners.measurement import BETWEEN_LAYERS, Job, Phases, Protocol, Round, Timing
from runners.process import run_job
from runners.runner import RunnerError

MakeJob = Callable[..., Job]
PROFILE = {"profile": True}


def layers_of(job: Job) -> dict[str, int]:
    taken = run_job(job)
    assert isinstance(taken, Round), taken
    assert "layers_error" not in taken.environment
    return dict(taken.layers)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_real_session_tells_its_layers_where_it_is_asked(
    make_job: MakeJob, conv_files: Any, backend: str
) -> None:
    pytest.importorskip(backend)
    found = layers_of(make_job(backend, conv_files, options=PROFILE))
    *layers, last = found
    assert last == BETWEEN_LAYERS
    assert sum(name.startswith(("Conv: ", "Convolution: ")) for name in layers) == 2
    assert all(ns >= 0 for ns in found.values())
    assert sum(found[name] for name in layers) > 0
    assert layers_of(make_job(backend, conv_files)) == {}


def test_a_runner_without_a_profile_takes_none(simulate: MakeJob) -> None:
    assert layers_of(simulate(options=PROFILE)) == {}


def test_a_profile_that_fails_costs_no_round(make_job: MakeJob, conv_files: Any) -> None:
    class Failing:
        def profile(self) -> Mapping[str, int]:
            raise RunnerError("infer", "no profile here")

    runner: Any = Failing()
    assert take(make_job("onnxruntime", conv_files, options=PROFILE), runner) == (
        {},
        {"layers_error": "no profile here"},
    )


def test_the_middle_half_counts_and_adds_up() -> None:
    slow = Pass(90_000, {"a": 70_000, "b": 10_000})
    usual = [Pass(10_000 + 2 * n, {"a": 6_000 + 2 * n, "b": 3_000}) for n in (5, 3, 1, 0, 2, 6, 4)]
    found = typical([slow, *usual])  # in order 0..6 and the slow one: 2, 3, 4 and 5 count
    assert list(found.items()) == [("a", 6_007), ("b", 3_000), (BETWEEN_LAYERS, 1_000)]


def test_layers_that_take_longer_than_their_inference_leave_nothing_between() -> None:
    assert typical([Pass(5, {"a": 7})] * 4)[BETWEEN_LAYERS] == 0


def test_a_nameless_layer_is_put_into_the_module_that_its_neighbours_share() -> None:
    names = [
        "Reshape: Reshape_0",  # nothing comes before it
        "Conv: /stem/conv/Conv + /stem/act/Relu",
        "Reorder: Reorder_1",  # between the stem and a block
        "Add: /layers/layers.0/blocks.0/norm/Add",
        "Gemm: Gemm_6",
        "Reshape: Reshape_7",
        "Gelu: /layers/layers.0/blocks.0/mlp/act/Gelu + /layers/layers.0/blocks.1/Add",
        "Slice: Slice_8",  # between two blocks of a stage
        "Add: /layers/layers.0/blocks.2/Add",
    ]
    changed = {old: new for old, new in zip(names, placed(names), strict=True) if old != new}
    assert changed == {
        "Gemm: Gemm_6": "Gemm (by neighbours): /layers/layers.0/blocks.0/Gemm_6",
        "Reshape: Reshape_7": "Reshape (by neighbours): /layers/layers.0/blocks.0/Reshape_7",
        "Slice: Slice_8": "Slice (by neighbours): /layers/layers.0/Slice_8",
    }
    found = typical([Pass(10 * len(names), dict.fromkeys(names, 1))])
    assert list(found) == [*placed(names), BETWEEN_LAYERS]


@pytest.mark.parametrize("passes", [[], [Pass(2, {"a": 1}), Pass(2, {"b": 1})]])
def test_a_profile_that_says_nothing_is_refused(passes: list[Pass]) -> None:
    with pytest.raises(RunnerError):
        typical(passes)


@pytest.mark.parametrize(("seconds", "counted"), [(0.001, layer_profile.MOST), (10.0, layer_profile.LEAST)])
def test_inferences_are_few_and_fewer_where_they_are_slow(seconds: float, counted: int) -> None:
    now, ran = [0], []

    def infer(index: int) -> None:
        ran.append(index)
        now[0] += round(seconds * 1e9)

    repeat(infer, 3, clock=lambda: now[0])
    assert len(ran) == layer_profile.WARM_UP + counted
    assert set(ran) == {0, 1, 2}


@pytest.mark.parametrize(
    ("operator", "node", "name"),
    [
        ("Conv", "/stem/stem.0/act/Relu_output_0_nchwc", "Conv: /stem/stem.0/act/Relu"),
        ("FusedMatMul", "/a/MatMul/MatmulTransposeFusion//MatMulScaleFusion/", "FusedMatMul: /a/MatMul"),
        ("Split", "/a/Slice_1/GatherSliceToSplitFusion", "Split: /a/Slice_1"),
        ("QLinearConv", "/stem/stem.0/conv/Conv_token_13", "QLinearConv: /stem/stem.0/conv/Conv"),
        ("ReorderInput", "ReorderInput_token_70", "ReorderInput: ReorderInput_token_70"),
    ],
)
def test_a_node_is_called_by_its_operator_and_its_place(operator: str, node: str, name: str) -> None:
    pytest.importorskip("onnxruntime")
    from runners.ort_profile import layer_name

    assert layer_name(operator, node) == name
    assert layer_name(operator, node, [name]) == f"{operator}: {node}"


def test_events_are_told_apart_by_inference() -> None:
    pytest.importorskip("onnxruntime")
    from runners.ort_profile import passes

    def node(name: str, micros: int) -> dict[str, Any]:
        return {
            "cat": "Node",
            "name": f"{name}_kernel_time",
            "dur": micros,
            "args": {"op_name": "Add"},
        }

    run = {"cat": "Session", "name": "model_run", "dur": 9}
    events = [{"cat": "Session", "name": "session_initialization", "dur": 99}, node("/a/Add", 3), run]
    found = passes([*events, node("/a/Add", 4), node("/b/Add", 1), run, node("/a/Add", 4)])
    assert found == [
        Pass(9_000, {"Add: /a/Add": 3_000}),
        Pass(9_000, {"Add: /a/Add": 4_000, "Add: /b/Add": 1_000}),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/a/Conv/WithoutBiases,Multiply_4,/a/Conv,/a/act/Relu", "/a/Conv + /a/act/Relu"),
        ("output", "output"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_layer_is_called_by_the_files_layers(text: str, names: str) -> None:
    pytest.importorskip("openvino")
    from runners.openvino_profile import original_names

    assert original_names(text) == names


@dataclass
class Told:
    """Runs nothing: notes which jobs are asked for a profile; the first round of `a` is disturbed."""

    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def run(self, job: Job, following: Job | None) -> Round:
        attempt = int(job.options.get("attempt", 0))
        if job.options.get("profile"):
            self.asked.append((job.case_id, job.round_index, attempt))
        disturbed = (job.case_id, job.round_index, attempt) == ("a", 0, 0)
        samples = np.array([1000], dtype=np.int64)
        protocol = Protocol("simulated", "r", "cpu", 1, "virtual", "", "", "", "", 0)
        taken = Round(
            job.round_index, job.position, attempt, protocol, 1, samples, samples, True, 0.0, Phases(), 0
        )
        return replace(taken, flags=("disturbed",)) if disturbed else taken


def test_a_case_is_profiled_once_and_again_where_that_round_is_repeated() -> None:
    told = Told()
    jobs = {
        name: Job(
            name, "simulated", "cpu", 1, "", "fp32", Path("a"), "", Path("t"), 0.1, Timing(), 0, 0,
            options=PROFILE,
        )
        for name in "ab"
    }  # fmt: skip
    timing = Timing(min_rounds=4, max_rounds=4, max_seconds=1e6)
    suite.measure(
        jobs, timing, converged=lambda rounds: False, commit=lambda name, taken: None, run=told.run,
        first_rounds={"b": 7},
    )  # fmt: skip
    assert sorted(told.asked) == [("a", 0, 0), ("a", 0, 1), ("b", 7, 0)]
