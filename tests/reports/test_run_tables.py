from __future__ import annotations

import dataclasses

import pytest

from models.spec import Case, ModelSpec
from reports.tables import build, fused_facets, settings


def test_groups_hold_only_what_may_be_ranked(blocks_run, networks_run):
    for run in (blocks_run, networks_run):
        for facet in build(run).facets:
            assert len({tuple(settings(row.case).values()) for row in facet.rows}) == 1
            assert {row.measurement.protocol.id for row in facet.rows} == {facet.protocol.id}


def test_titles_say_what_varies(blocks_run, networks_run):
    assert [f.title for f in build(blocks_run).facets] == [
        "56x56x96", "28x28x192", "14x14x384", "7x7x768", "14x14x384, unfused",
    ]  # fmt: skip
    assert [f.title for f in build(networks_run).facets] == ["224x224, onnxruntime", "224x224, openvino"]


def test_every_case_is_a_row_or_a_failure(blocks_run):
    table = build(blocks_run)
    assert len(table.rows) == 54
    assert [r.case.model.name for r in table.failures] == ["block/transformer"]
    assert table.pending == ()
    assert table.planned == 55


def test_rows_are_fastest_first_with_ratios_to_the_fastest(blocks_run):
    for facet in build(blocks_run).facets:
        medians = [row.summary.median_ns for row in facet.rows]
        assert medians == sorted(medians)
        assert facet.rows[0].versus_best is None
        for row in facet.rows[1:]:
            if row.summary.rounds == facet.rows[0].summary.rounds:
                assert row.versus_best.value == pytest.approx(row.summary.median_ns / medians[0])


def test_ties_share_their_rank(blocks_run):
    facet = next(f for f in build(blocks_run).facets if f.title == "28x28x192")
    assert [row.label for row in facet.leaders] == ["bottleneck", "mobileone", "ncb"]
    assert [str(row.rank) for row in facet.rows[:4]] == ["1–3", "1–3", "1–3", "4"]


def test_being_tied_is_not_transitive(blocks_run):
    facet = next(f for f in build(blocks_run).facets if f.title == "14x14x384")
    bottleneck, _, ncb, repvgg = facet.rows[:4]
    assert [str(row.rank) for row in facet.rows[:4]] == ["1–3", "1–3", "1–4", "3–4"]
    assert [facet.sign(*pair) for pair in ((ncb, bottleneck), (repvgg, ncb), (repvgg, bottleneck))] == [
        0,
        0,
        1,
    ]


def test_a_doubtful_number_is_shown_and_takes_no_rank(networks_run):
    facet = build(networks_run).facets[0]
    doubtful = next(row for row in facet.rows if row.label == "efficientformer_l1")
    assert doubtful.serious
    assert doubtful.rank is None
    assert doubtful.versus_best.value > 1
    assert [str(row.rank) for row in facet.ranked] == ["1", "2", "3", "4", "5–6", "5–6", "7"]


def test_a_doubtful_fastest_is_no_reference(sample):
    cases = [sample.block_case(name, 14, 384) for name in ("block/ncb", "block/ntb")]
    results = [
        sample.measured(cases[0], 0.2, 1.0, 200.0, seed=1),
        sample.measured(cases[1], 0.2, 1.0, 100.0, seed=2),
    ]
    broken = sample.make_artifact(cases[0], 0.2, 1.0, passed=False)
    results[0] = dataclasses.replace(results[0], artifact=broken)
    (facet,) = build(sample.run_of(results)).facets
    assert [row.label for row in facet.leaders] == ["ntb"]
    assert facet.rows[0].versus_best.value == pytest.approx(0.5, rel=0.02)
    assert facet.rows[1].versus_best is None


def test_what_was_not_reached_is_pending(sample, blocks_run):
    waiting = dataclasses.replace(blocks_run.results[0], rounds=(), artifact=None, attempts=0)
    table = build(sample.run_of([waiting, *blocks_run.results[1:3]]))
    assert [r.case for r in table.pending] == [waiting.case]


def test_equal_names_are_told_apart(sample):
    specs = [
        ModelSpec.of("block/ncb", resolution=14, in_channels=384, mlp_ratio=ratio) for ratio in (2, 3)
    ] + [ModelSpec.of("block/ntb", resolution=14, in_channels=384)]
    results = [
        sample.measured(Case(s, "onnxruntime"), 0.2, 1.0, 90.0 + i, seed=i) for i, s in enumerate(specs)
    ]
    (facet,) = build(sample.run_of(results)).facets
    assert {row.label for row in facet.rows} == {"ncb mlp_ratio=2", "ncb mlp_ratio=3", "ntb"}


def test_stride_and_output_channels_are_another_task(sample):
    specs = [
        ModelSpec.of("block/ncb", resolution=14, in_channels=384),
        ModelSpec.of("block/ncb", resolution=14, in_channels=384, stride=2, out_channels=768),
    ]
    results = [sample.measured(Case(s, "onnxruntime"), 0.2, 1.0, 90.0, seed=i) for i, s in enumerate(specs)]
    titles = [f.title for f in build(sample.run_of(results)).facets]
    assert titles == ["14x14x384", "14x14x384 stride 2 to 768 channels"]


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"precision": "int8"},
        {"threads": 4},
        {"device": "cuda"},
        {"compute_unit": "cpuAndNE"},
    ],
)
def test_every_setting_separates(sample, change):
    base = sample.block_case("block/ncb", 14, 384)
    results = [
        sample.measured(c, 0.2, 1.0, 90.0, seed=1) for c in (base, dataclasses.replace(base, **change))
    ]
    table = build(sample.run_of(results))
    assert len(table.facets) == 2
    assert len({f.title for f in table.facets}) == 2


@pytest.mark.parametrize(
    ("change", "titles"),
    [
        ({"runtime": "ort 9"}, ["runtime onnxruntime 1.31.0 graph_optimization=all", "runtime ort 9"]),
        ({"options": {"executed": "f32"}}, ["executed unset", "executed f32"]),
        (
            {"sync": "spin", "queue_depth": 2},
            ["sync blocking call, queue_depth 1", "sync spin, queue_depth 2"],
        ),
    ],
)
def test_groups_that_only_the_protocol_separates_are_named_by_what_differs(sample, change, titles):
    found = titles_of_two(sample, dataclasses.replace(sample.protocol(), **change))
    assert found == [f"14x14x384, {title}" for title in titles]


def test_protocols_that_differ_in_much_are_named_by_the_runtime_and_their_id(sample):
    newer = dataclasses.replace(sample.protocol(), clock="device", sync="block", queue_depth=2)
    assert titles_of_two(sample, newer)[1] == f"14x14x384, {newer.runtime} ({newer.id})"


def titles_of_two(sample, newer) -> list[str]:
    base = sample.measured(sample.block_case("block/ncb", 14, 384), 0.2, 1.0, 90.0, seed=1)
    other = sample.measured(sample.block_case("block/ntb", 14, 384), 0.2, 1.0, 90.0, seed=2)
    other = dataclasses.replace(
        other,
        rounds=tuple(dataclasses.replace(r, protocol=newer) for r in other.rounds),
        last_protocol_id=newer.id,
    )
    facets = build(sample.run_of([base, other])).facets
    assert [str(facet.rows[0].rank) for facet in facets] == ["1", "1"]
    return [facet.title for facet in facets]


def test_unfused_groups_answer_only_where_nothing_is_fused(sample, blocks_run):
    assert all(f.settings["fusion"] == "fused" for f in fused_facets(build(blocks_run)))
    unfused = [r for r in blocks_run.results if not r.case.fused]
    assert [f.title for f in fused_facets(build(sample.run_of(unfused)))] == ["14x14x384"]


def test_work_counts_the_batch(sample):
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384), batch_size=8)
    (row,) = build(sample.run_of([sample.measured(case, 0.2, 1.0, 100.0, seed=1)])).rows
    assert row.gmacs == pytest.approx(1.6)
    assert row.gmacs_per_s == pytest.approx(1.6 / (row.summary.median_ns * 1e-9))


@pytest.mark.parametrize(("rate", "unit"), [(100.0, "ms"), (1e4, "µs"), (0.01, "s")])
def test_one_time_unit_for_the_whole_table(sample, rate, unit):
    results = [sample.measured(sample.block_case("block/ncb", 14, 384), 0.2, 1.0, rate, seed=1)]
    assert build(sample.run_of(results)).unit[1] == unit
