"""Which cases make a sweep, which do not share an axis, and that every ratio is that of the samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spec import Case, ModelSpec
from reports.sweep import Setting, step_words
from reports.sweep_groups import grouped, splits, sweeps
from reports.sweep_planes import heat_maps
from reports.tables import build
from tests.reports import sample_run
from tests.reports import sweeps as made


def table_of(results):
    return build(sample_run.run_of(results, suite="sweep"))


def found_in(results):
    table = table_of(results)
    return sweeps(table, grouped(table))


def grid(name="nextvit_small", *, batches=(1, 2, 4), threads=(1, 2), sides=(224,), precisions=("fp32",)):
    return [
        made.case_of(name, batch=b, threads=t, side=s, precision=p)
        for b in batches
        for t in threads
        for s in sides
        for p in precisions
    ]


def measured(cases):
    return [made.result(sample_run, case) for case in cases]


def test_cases_that_differ_in_swept_settings_alone_are_one_sweep():
    (sweep,) = found_in(measured(grid()))
    assert sweep.label == "nextvit_small"
    assert sweep.varied == ("batch", "threads")
    assert sweep.values("batch") == [1, 2, 4]
    assert len(sweep.rows) == 6
    assert Setting(4, 224, 2, "fp32") in sweep.rows


def test_one_value_along_every_axis_is_no_sweep(networks_run, blocks_run):
    assert found_in(measured(grid(batches=(2,), threads=(2,)))) == []
    for table in (build(networks_run), build(blocks_run)):
        assert sweeps(table, grouped(table)) == []


def test_two_cases_that_differ_in_two_settings_have_no_axis():
    cases = [made.case_of(), made.case_of(batch=2, threads=2)]
    assert found_in(measured(cases)) == []


def test_a_block_is_swept_where_its_channels_stay(sample):
    cases = [sample.block_case("block/ncb", side, 384) for side in (28, 14, 7)]
    other = sample.block_case("block/ncb", 56, 96)
    (sweep,) = found_in([sample.measured(case, 0.2, 1.0, 90.0, seed=1) for case in (*cases, other)])
    assert sweep.values("resolution") == [7, 14, 28]
    assert [curve.values for curve in sweep.curves("resolution")] == [[7, 14, 28]]


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "openvino"},
        {"device": "cuda"},
        {"compute_unit": "cpuOnly"},
        {"fused": False},
        {"target": "sm89"},
        {"build": (("dynamic_batch", True),)},
        {"runtime": (("allow_spinning", False),)},
        {"model": ModelSpec.of("nextvit_small", num_classes=10)},
        {"model": ModelSpec.of("nextvit_small", weights="random:1")},
    ],
)
def test_any_other_difference_keeps_cases_apart(change):
    one, other = made.case_of(), replace(made.case_of(batch=2), **change)
    assert len(found_in(measured([one, made.case_of(batch=2)]))) == 1
    assert found_in(measured([one, other])) == []


def test_what_threads_and_precision_say_in_the_protocol_keeps_nothing_apart():
    (sweep,) = found_in(measured(grid(batches=(1,), precisions=("fp32", "int8"))))
    ids = {row.measurement.protocol.id for row in sweep.rows.values()}
    assert len(ids) == 4
    assert sweep.varied == ("threads", "precision")


def test_another_protocol_is_another_sweep_and_named():
    cases = grid(batches=(1, 2), threads=(1, 2))
    results = [
        made.result(sample_run, case, options={"graph": "basic"} if case.batch_size == 2 else None)
        for case in cases
    ]
    found = found_in(results)
    assert [sweep.varied for sweep in found] == [("threads",), ("threads",)]
    assert [sweep.label for sweep in found] == ["nextvit_small (1)", "nextvit_small (2)"]
    assert splits(grouped(table_of(results))) == [
        "nextvit_small is in 2 parts that share no axis: their protocols differ in graph."
    ]
    assert found[0].frame != found[1].frame
    assert splits(grouped(table_of(measured(cases)))) == []


def test_one_number_of_threads_does_not_stand_for_two_ways_of_running():
    results = [
        made.result(sample_run, made.case_of(batch=b), options={"intra_op_num_threads": str(n)})
        for b, n in ((1, 1), (2, 1), (4, 8))
    ]
    (sweep,) = found_in(results)
    assert sweep.values("batch") == [1, 2]
    assert "intra_op_num_threads" in splits(grouped(table_of(results)))[0]


def test_the_machines_peaks_are_none_of_it(sample):
    cases = [
        Case(ModelSpec.of("peak/gemm", resolution=28), "onnxruntime", precision=p) for p in ("fp32", "int8")
    ]
    assert found_in([sample.measured(case, 0.4, 1.0, 90.0, seed=1) for case in cases]) == []


def test_holes_are_kept_with_their_reason():
    cases = grid()
    results = [
        made.failed(case) if case.batch_size == 4 and case.threads == 2
        else made.pending(case) if case.batch_size == 2 and case.threads == 2
        else made.result(sample_run, case)
        for case in cases
    ]  # fmt: skip
    (sweep,) = found_in(results)
    assert sweep.gaps == {
        Setting(4, 224, 2, "fp32"): "out of memory",
        Setting(2, 224, 2, "fp32"): "not measured",
    }
    assert [curve.values for curve in sweep.curves("batch")] == [[1, 2, 4]]
    assert len(sweep.curves("threads")) == 1


def test_all_but_one_failed_is_no_sweep():
    first, *others = grid(threads=(1,))
    assert found_in([made.result(sample_run, first), *map(made.failed, others)]) == []


def test_the_suites_matrix_makes_two_maps_of_each_model():
    found = found_in(measured(made.suite_cases()))
    assert [sweep.label for sweep in found] == ["nextvit_small", "resnet50", "mobilenetv2_100"]
    for sweep in found:
        assert [(each.columns, each.rows) for each in heat_maps(sweep)] == [
            ("batch", "threads"),
            ("resolution", "precision"),
        ]
        assert all(len(each.planes) == 1 for each in heat_maps(sweep))
    assert len({sweep.frame for sweep in found}) == 1


def test_three_axes_take_the_pair_with_fewest_maps():
    (sweep,) = found_in(measured(grid(batches=(1, 2, 4, 8), sides=(160, 224, 288))))
    (one,) = heat_maps(sweep)
    assert (one.columns, one.rows) == ("batch", "resolution")
    assert [dict(plane)["threads"] for plane in one.planes] == [1, 2]
    assert one.settings == set(sweep.rows)


def test_a_cross_of_two_lines_is_no_map():
    cross = [*grid(threads=(1,)), *grid(batches=(1,), threads=(1, 2, 4))]
    (sweep,) = found_in(measured(dict.fromkeys(cross)))
    assert sweep.varied == ("batch", "threads")
    assert heat_maps(sweep) == []


def test_the_longer_axis_goes_across():
    (sweep,) = found_in(measured(grid(batches=(1, 2), threads=(1, 2, 3, 4))))
    (one,) = heat_maps(sweep)
    assert (one.columns, one.rows) == ("threads", "batch")


def test_steps_are_named_and_say_what_they_come_to():
    (sweep,) = found_in(measured(grid(precisions=("fp32", "int8"), sides=(160, 224, 288))))
    words = {
        axis: [step_words(step) for step in sweep.curves(axis)[0].steps(batched=False)]
        for axis in sweep.varied
    }
    assert words == {
        "batch": ["batch 2 over 1", "batch 4 over 1"],
        "resolution": ["224x224 over 160x160", "288x288 over 224x224"],
        "threads": ["2 threads over 1"],
        "precision": ["int8 over fp32"],
    }
    (step,) = sweep.curves("threads")[0].steps(batched=False)
    assert step.efficiency == pytest.approx(1 / 2 / (0.08 + 0.46), rel=0.02)
    first, _ = sweep.curves("resolution")[0].steps(batched=False)
    assert first.exponent.value == pytest.approx(1.10, abs=0.05)
    assert first.gmacs == pytest.approx((224 / 160) ** 2)
    eight = sweep.curves("batch")[0].steps(batched=False)[-1]
    assert eight.images.value == pytest.approx(1 / 0.85, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.2, 5.0), min_size=2, max_size=4),
    st.sampled_from(["batch", "threads", "side"]),
    st.floats(0.0, 0.05),
    st.integers(2, 7),
)
def test_ratios_are_those_of_the_samples(times, axis, between, rounds):
    """The geometric mean over rounds of the medians' ratio, whatever the axis; the interval holds it."""
    values = (1, 2, 4, 8) if axis != "side" else (160, 192, 224, 256)
    results = [
        made.result(sample_run, made.case_of(**{axis: value}), ms=ms, between=between, count=rounds)
        for value, ms in zip(values, times, strict=False)
    ]
    logs = [made.log_medians(result) for result in results]
    (sweep,) = found_in(results)
    (curve,) = sweep.curves("resolution" if axis == "side" else axis)
    for place, step in enumerate(curve.steps(batched=False), start=1):
        base = place - 1 if axis == "side" else 0
        direct = math.exp(float(np.mean(logs[place] - logs[base])))
        assert step.time.value == pytest.approx(direct, rel=1e-12)
        assert step.time.low <= direct <= step.time.high
        assert step.time.pairs == rounds
        grown = results[place].case.batch_size / results[base].case.batch_size
        assert step.images.value == pytest.approx(grown / direct, rel=1e-12)
        assert step.images.low <= step.images.value <= step.images.high


def test_cases_without_a_common_round_have_no_ratio_but_in_batches():
    results = measured(grid(threads=(1,), batches=(1, 2)))
    later = tuple(replace(r, round_index=r.round_index + 50) for r in results[1].rounds)
    (sweep,) = found_in([results[0], replace(results[1], rounds=later)])
    (curve,) = sweep.curves("batch")
    assert curve.steps(batched=False) == []
    (step,) = curve.steps(batched=True)
    assert step.time.value == pytest.approx(1.8, rel=0.02)
